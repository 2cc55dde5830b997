//! Which message has waited longest, for whatever reason: paused, held, retried or not sent yet.
//!
//! Each subscription knows the lowest message it has not settled, and has a bit for each one above
//! it that it has; a message that was settled and waits again is a row of its own. Times are kept
//! of one message a tenth of a second: an age is at most so much too high. An API keeps its
//! subscriptions in the order of these times, so the longest wait of many is found in few steps.

use super::{
    Scope,
    backlog::{self, ApiBacklog},
};
use crate::{
    model::{ApiId, MessageRef, SubscriptionId, Timestamp, Version},
    projection::{
        ReadRows, Row, RowError, Rows, after_prefix,
        codec::{id_key, key_of, u64_at, uuid_at},
    },
};

const TIME: u8 = b'a';
const SETTLED: u8 = b'b';
const ORDER: u8 = b'l';
const REOPENED: u8 = b'o';
const REOPENED_IN_ORDER: u8 = b'x';
const OF_SUBSCRIPTION: u8 = b'w';
const RUN_ASIDE: u8 = b'q';

/// Messages whose bits are kept in one row.
const CHUNK: u64 = 2_048;
/// Least time between two messages whose times are kept.
const TIME_STEP_MS: i64 = 100;
/// Most rows that one event deletes; what is left over goes with the next.
const FORGOTTEN_MAX: usize = 64;
/// Most subscriptions of an API that are looked at. Those that are caught up may stand before one
/// that is not until they get their next message.
const EXAMINED_MAX: usize = 256;

/// Where a subscription stands among its API's messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    api: ApiId,
    subscription: SubscriptionId,
    /// The lowest message it has not settled; it may not have been published yet.
    lowest: u64,
    /// The message at or below it whose time was kept when it was last looked for; 0 for none.
    timed: u64,
    /// The next one after that, where it was there already: until then nothing is looked for.
    next_timed: u64,
}

impl Place {
    /// A new subscription, whose first message is the one after `cursor`.
    pub(super) fn begin(
        rows: &mut Rows<'_>,
        api: ApiId,
        subscription: SubscriptionId,
        cursor: Version,
    ) -> Result<(), RowError> {
        let lowest = cursor.get() + 1;
        let place = Self {
            api,
            subscription,
            lowest,
            timed: timed_at(rows, api, lowest)?.map_or(0, |(version, _)| version),
            next_timed: 0,
        };
        rows.put(place.order_key(), Vec::new());
        place.write(rows);
        Ok(())
    }

    /// Where a subscription stands; `None` when it has ended.
    pub(super) fn read(
        rows: &dyn ReadRows,
        subscription: SubscriptionId,
    ) -> Result<Option<Self>, RowError> {
        let row = rows.look(&id_key(OF_SUBSCRIPTION, subscription.as_uuid()))?;
        row.map(|row| {
            Ok(Self {
                api: ApiId::from_uuid(uuid_at(&row, 0)?),
                subscription,
                lowest: u64_at(&row, 16)?,
                timed: u64_at(&row, 24)?,
                next_timed: u64_at(&row, 32)?,
            })
        })
        .transpose()
    }

    fn write(self, rows: &mut Rows<'_>) {
        let mut row = Vec::with_capacity(40);
        row.extend_from_slice(self.api.as_uuid().as_bytes());
        row.extend_from_slice(&self.lowest.to_be_bytes());
        row.extend_from_slice(&self.timed.to_be_bytes());
        row.extend_from_slice(&self.next_timed.to_be_bytes());
        rows.put(id_key(OF_SUBSCRIPTION, self.subscription.as_uuid()), row);
    }

    fn order_key(self) -> Vec<u8> {
        let mut key = key_of(ORDER, self.api.as_uuid(), self.timed);
        key.extend_from_slice(self.subscription.as_uuid().as_bytes());
        key
    }

    /// A run of messages came to an end for this subscription.
    pub(super) fn settle(
        self,
        rows: &mut Rows<'_>,
        first: Version,
        last: Version,
    ) -> Result<(), RowError> {
        let (first, last) = (first.get(), last.get());
        if first < self.lowest {
            self.close_again(rows, first, last.min(self.lowest - 1))?;
        }
        if last < self.lowest {
            return Ok(());
        }
        if first > self.lowest {
            return self.mark(rows, first, last);
        }
        self.advance(rows, last + 1)
    }

    /// Whether a message has come to an end, and does not wait again.
    pub(super) fn is_settled(
        self,
        rows: &dyn ReadRows,
        message: Version,
    ) -> Result<bool, RowError> {
        let version = message.get();
        if version < self.lowest {
            return Ok(rows.look(&self.reopened_key(version))?.is_none());
        }
        let bits = rows.look(&self.bits_key(version / CHUNK))?;
        Ok(bits.is_some_and(|bits| is_set(&bits, version)))
    }

    /// Sets the bits of messages above the lowest.
    fn mark(self, rows: &mut Rows<'_>, first: u64, last: u64) -> Result<(), RowError> {
        let mut version = first;
        while version <= last {
            let chunk = version / CHUNK;
            let end = last.min((chunk + 1) * CHUNK - 1);
            let bits = rows.edit(&self.bits_key(chunk), empty_bits)?;
            for version in version..=end {
                let (byte, bit) = place_of(version);
                bits[byte] |= bit;
            }
            version = end + 1;
        }
        Ok(())
    }

    /// Moves the lowest to a version, and on past those above it that are settled.
    fn advance(mut self, rows: &mut Rows<'_>, to: u64) -> Result<(), RowError> {
        let mut chunk = self.lowest / CHUNK;
        self.lowest = to;
        loop {
            while chunk < self.lowest / CHUNK {
                let key = self.bits_key(chunk);
                if rows.look(&key)?.is_some() {
                    rows.delete(key);
                }
                chunk += 1;
            }
            let end = (chunk + 1) * CHUNK;
            let Some(bits) = rows.look(&self.bits_key(chunk))? else {
                break;
            };
            while self.lowest < end && is_set(&bits, self.lowest) {
                self.lowest += 1;
            }
            if self.lowest < end {
                break;
            }
        }
        self.moved(rows)
    }

    /// Notes where it stands now, and in which order among the others where that changed.
    fn moved(mut self, rows: &mut Rows<'_>) -> Result<(), RowError> {
        let latest = ApiBacklog::read(rows, self.api)?.timed;
        if self.timed != latest && self.lowest >= self.next_timed {
            let (timed, next) = if self.lowest >= latest {
                (latest, 0)
            } else {
                let timed = timed_at(rows, self.api, self.lowest)?;
                let timed = timed.map_or(0, |(version, _)| version);
                (timed, self.next_timed_after(rows, timed)?)
            };
            self.next_timed = next;
            if timed != self.timed {
                rows.delete(self.order_key());
                self.timed = timed;
                rows.put(self.order_key(), Vec::new());
            }
        }
        self.write(rows);
        Ok(())
    }

    fn next_timed_after(self, rows: &dyn ReadRows, version: u64) -> Result<u64, RowError> {
        let end = after_prefix(&id_key(TIME, self.api.as_uuid()));
        let range = key_of(TIME, self.api.as_uuid(), version + 1)..end;
        let next = rows.range(range).next().transpose()?;
        next.map_or(Ok(0), |row| u64_at(&row.key, 17))
    }

    /// A message that was settled waits again.
    pub(super) fn reopen(self, rows: &mut Rows<'_>, message: &MessageRef) -> Result<(), RowError> {
        let version = message.version.get();
        if version < self.lowest {
            let at = message.accepted_at.as_millis().to_be_bytes();
            rows.put(self.reopened_key(version), at);
            rows.put(self.in_order_key(version, &at), Vec::new());
            return Ok(());
        }
        let key = self.bits_key(version / CHUNK);
        if rows.look(&key)?.is_some() {
            let (byte, bit) = place_of(version);
            rows.edit(&key, empty_bits)?[byte] &= !bit;
        }
        Ok(())
    }

    /// Messages that waited again came to an end once more.
    fn close_again(self, rows: &mut Rows<'_>, first: u64, last: u64) -> Result<(), RowError> {
        let range = self.reopened_key(first)..self.reopened_key(last + 1);
        self.delete_reopened(rows, range)
    }

    fn delete_reopened(
        self,
        rows: &mut Rows<'_>,
        range: std::ops::Range<Vec<u8>>,
    ) -> Result<(), RowError> {
        let reopened: Result<Vec<_>, RowError> = rows.range(range).collect();
        for row in reopened? {
            rows.delete(self.in_order_key(u64_at(&row.key, 17)?, &row.value));
            rows.delete(row.key);
        }
        Ok(())
    }

    /// Nothing waits for it any more.
    pub(super) fn end(self, rows: &mut Rows<'_>) -> Result<(), RowError> {
        rows.delete(self.order_key());
        rows.delete(id_key(OF_SUBSCRIPTION, self.subscription.as_uuid()));
        let prefix = id_key(SETTLED, self.subscription.as_uuid());
        let bits: Result<Vec<_>, RowError> = rows.prefix(&prefix).collect();
        for row in bits? {
            rows.delete(row.key);
        }
        let reopened = id_key(REOPENED, self.subscription.as_uuid());
        self.delete_reopened(rows, reopened.clone()..after_prefix(&reopened))?;
        forget(rows, self.api)
    }

    fn bits_key(self, chunk: u64) -> Vec<u8> {
        key_of(SETTLED, self.subscription.as_uuid(), chunk)
    }

    fn reopened_key(self, version: u64) -> Vec<u8> {
        key_of(REOPENED, self.subscription.as_uuid(), version)
    }

    fn in_order_key(self, version: u64, at: &[u8]) -> Vec<u8> {
        let mut key = id_key(REOPENED_IN_ORDER, self.api.as_uuid());
        key.extend_from_slice(at);
        key.extend_from_slice(self.subscription.as_uuid().as_bytes());
        key.extend_from_slice(&version.to_be_bytes());
        key
    }

    /// When its lowest message was accepted, if it was. Where no time is known from so far back,
    /// the first that is.
    fn waits_since(self, rows: &dyn ReadRows, latest: u64) -> Result<Option<Timestamp>, RowError> {
        if self.lowest > latest {
            return Ok(None);
        }
        if let Some((_, at)) = timed_at(rows, self.api, self.lowest)? {
            return Ok(Some(at));
        }
        let prefix = id_key(TIME, self.api.as_uuid());
        let first = rows.prefix(&prefix).next();
        first.map(|row| time_in(&row?.value)).transpose()
    }
}

/// A row of version 3, which kept no bits but runs of settled messages, and an order by the lowest
/// message. Runs are put aside until every row is there.
pub(super) fn adopt(mut row: Row) -> Option<Row> {
    match row.key.first() {
        Some(&OF_SUBSCRIPTION) => row.value.resize(40, 0),
        Some(&ORDER) => row.key.get_mut(17..25)?.fill(0),
        Some(&REOPENED) => row.key[0] = RUN_ASIDE,
        _ => {}
    }
    Some(row)
}

/// Turns runs that were put aside into bits.
pub(super) fn begin(rows: &mut Rows<'_>) -> Result<(), RowError> {
    let runs: Result<Vec<_>, RowError> = rows.prefix(&[RUN_ASIDE]).collect();
    for Row { key, value } in runs? {
        let subscription = SubscriptionId::from_uuid(uuid_at(&key, 1)?);
        if let Some(place) = Place::read(rows, subscription)? {
            place.mark(rows, u64_at(&key, 17)?, u64_at(&value, 0)?)?;
        }
        rows.delete(key);
    }
    Ok(())
}

fn empty_bits() -> Vec<u8> {
    vec![0; usize::try_from(CHUNK / 8).expect("256")]
}

fn place_of(version: u64) -> (usize, u8) {
    let place = usize::try_from(version % CHUNK).expect("below 2,048");
    (place / 8, 1 << (place % 8))
}

fn is_set(bits: &[u8], version: u64) -> bool {
    let (byte, bit) = place_of(version);
    bits.get(byte).is_some_and(|bits| bits & bit != 0)
}

/// An API accepted a message. Where nobody is subscribed nobody waits.
pub(super) fn accepted(
    rows: &mut Rows<'_>,
    api: ApiId,
    backlog: &mut ApiBacklog,
    at: Timestamp,
) -> Result<(), RowError> {
    let since = at.as_millis().saturating_sub(backlog.timed_at.as_millis());
    let is_soon = backlog.timed > 0 && (0..TIME_STEP_MS).contains(&since);
    if backlog.subscriptions == 0 || is_soon {
        return Ok(());
    }
    backlog.timed = backlog.latest;
    backlog.timed_at = at;
    let key = key_of(TIME, api.as_uuid(), backlog.latest);
    rows.put(key, at.as_millis().to_be_bytes());
    // Not each time: it looks at all that went since the rows were last handed on.
    if backlog.latest.is_multiple_of(FORGOTTEN_MAX as u64) {
        forget(rows, api)?;
    }
    Ok(())
}

/// When the message was accepted that has waited longest in a scope. A subscription that begins
/// with messages older than it counts from the first whose time is still known.
pub(super) fn oldest(rows: &dyn ReadRows, scope: Scope) -> Result<Option<Timestamp>, RowError> {
    match scope {
        Scope::All => {
            let mut oldest: Option<Timestamp> = None;
            for api in backlog::apis(rows)? {
                let of_api = self::oldest(rows, Scope::Api(api))?;
                oldest = [oldest, of_api].into_iter().flatten().min();
            }
            Ok(oldest)
        }
        Scope::Api(api) => oldest_of_api(rows, api),
        Scope::Subscription(subscription) => {
            let Some(place) = Place::read(rows, subscription)? else {
                return Ok(None);
            };
            let latest = ApiBacklog::read(rows, place.api)?.latest;
            let waits = place.waits_since(rows, latest)?;
            let prefix = id_key(REOPENED, subscription.as_uuid());
            let reopened = rows.prefix(&prefix).next().transpose()?;
            let reopened = reopened.map(|row| time_in(&row.value)).transpose()?;
            Ok([waits, reopened].into_iter().flatten().min())
        }
    }
}

fn oldest_of_api(rows: &dyn ReadRows, api: ApiId) -> Result<Option<Timestamp>, RowError> {
    let backlog = ApiBacklog::read(rows, api)?;
    let mut reopened = rows.prefix(&id_key(REOPENED_IN_ORDER, api.as_uuid()));
    let reopened = reopened.next().transpose()?;
    let reopened = reopened.map(|row| u64_at(&row.key, 17)).transpose()?;
    let mut oldest = reopened.map(|millis| Timestamp::from_millis(millis.cast_signed()));
    if backlog.waiting() == 0 {
        return Ok(oldest);
    }
    // Who stands at the latest time waits for it at most; so the others alone are looked at. Of
    // those, none further on in the order than the oldest so far is older.
    let mut until = backlog.timed;
    let in_order = rows.prefix(&id_key(ORDER, api.as_uuid()));
    for row in in_order.take(EXAMINED_MAX) {
        let key = row?.key;
        let timed = u64_at(&key, 17)?;
        if timed >= until {
            break;
        }
        let Some(place) = Place::read(rows, SubscriptionId::from_uuid(uuid_at(&key, 25)?))? else {
            continue;
        };
        if let Some(at) = place.waits_since(rows, backlog.latest)? {
            oldest = Some(oldest.map_or(at, |before| before.min(at)));
            let found = timed_at(rows, api, place.lowest)?;
            until = until.min(found.map_or(0, |(version, _)| version));
        }
    }
    let latest = (backlog.timed > 0).then_some(backlog.timed_at);
    Ok(oldest.or(latest))
}

/// The last message at or below a version whose time is kept, and that time.
fn timed_at(
    rows: &dyn ReadRows,
    api: ApiId,
    version: u64,
) -> Result<Option<(u64, Timestamp)>, RowError> {
    let range = id_key(TIME, api.as_uuid())..key_of(TIME, api.as_uuid(), version.saturating_add(1));
    let row = rows.range_rev(range).next().transpose()?;
    row.map(|row| Ok((u64_at(&row.key, 17)?, time_in(&row.value)?)))
        .transpose()
}

fn time_in(value: &[u8]) -> Result<Timestamp, RowError> {
    Ok(Timestamp::from_millis(u64_at(value, 0)?.cast_signed()))
}

/// Deletes times that nobody waits for: those before the first subscription in order, all when
/// there is none.
fn forget(rows: &mut Rows<'_>, api: ApiId) -> Result<(), RowError> {
    let first = rows.prefix(&id_key(ORDER, api.as_uuid())).next();
    let prefix = id_key(TIME, api.as_uuid());
    let end = match first.transpose()? {
        Some(row) => key_of(TIME, api.as_uuid(), u64_at(&row.key, 17)?),
        None => after_prefix(&prefix),
    };
    let old: Result<Vec<_>, RowError> = rows.range(prefix..end).take(FORGOTTEN_MAX).collect();
    for row in old? {
        rows.delete(row.key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::store::MemoryStore;

    fn key(tag: u8, id: u128, number: u64) -> Vec<u8> {
        key_of(tag, &uuid::Uuid::from_u128(id), number)
    }

    /// Rows as version 3 had them: 5 is the lowest, 7 to 9 are settled above it.
    fn of_version_3(api: u128, subscription: u128) -> Vec<Row> {
        let (api_id, id) = (
            uuid::Uuid::from_u128(api),
            uuid::Uuid::from_u128(subscription),
        );
        let mut place = api_id.as_bytes().to_vec();
        place.extend_from_slice(&5_u64.to_be_bytes());
        let mut order = key(ORDER, api, 5);
        order.extend_from_slice(id.as_bytes());
        [
            (id_key(OF_SUBSCRIPTION, &id), place),
            (order, Vec::new()),
            (key(b'o', subscription, 7), 9_u64.to_be_bytes().to_vec()),
            (key(TIME, api, 5), 1_000_u64.to_be_bytes().to_vec()),
        ]
        .map(|(key, value)| Row { key, value })
        .into()
    }

    #[test]
    fn what_version_3_carried_over_a_cut_is_taken_over() {
        let store = MemoryStore::default();
        let mut rows = Rows::over(&store);
        for row in of_version_3(1, 2).into_iter().filter_map(adopt) {
            rows.put(row.key, row.value);
        }
        begin(&mut rows).unwrap();
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(2));
        let place = |rows: &Rows<'_>| Place::read(rows, id).unwrap().unwrap();
        assert_eq!(place(&rows).lowest, 5);
        for version in [5, 6] {
            let version = Version::new(version);
            place(&rows).settle(&mut rows, version, version).unwrap();
        }
        assert_eq!(place(&rows).lowest, 10);
    }

    #[test]
    fn settled_messages_are_passed_over_whatever_their_order() {
        let store = MemoryStore::default();
        let mut rows = Rows::over(&store);
        let ids = [1_u128, 2].map(uuid::Uuid::from_u128);
        let (api, id) = (ApiId::from_uuid(ids[0]), SubscriptionId::from_uuid(ids[1]));
        Place::begin(&mut rows, api, id, Version::new(0)).unwrap();
        let place = |rows: &Rows<'_>| Place::read(rows, id).unwrap().unwrap();
        // Over the end of a row of bits, from the back, the lowest last.
        for version in (1..=CHUNK * 2 + 3).rev() {
            assert_eq!(place(&rows).lowest, 1);
            let version = Version::new(version);
            place(&rows).settle(&mut rows, version, version).unwrap();
        }
        assert_eq!(place(&rows).lowest, CHUNK * 2 + 4);
    }
}
