//! Which message has waited longest, for whatever reason: paused, held, retried or not sent yet.
//!
//! Each subscription knows the lowest message it has not settled, and the runs above it that it
//! has. An API keeps these lowest messages in order, and the times of its messages from the first
//! of them on, so an answer is one step whatever the number of subscriptions.

use super::Scope;
use crate::{
    model::{ApiId, MessageRef, SubscriptionId, Timestamp, Version},
    projection::{
        ReadRows, RowError, Rows, after_prefix,
        codec::{id_key, key_of, u64_at, uuid_at},
    },
};

const TIME: u8 = b'a';
const LOWEST: u8 = b'l';
const RUN: u8 = b'o';
const OF_SUBSCRIPTION: u8 = b'w';

/// Most times of messages that one event deletes; a backlog that goes at once goes in parts.
const FORGOTTEN_MAX: usize = 64;

/// Where a subscription stands among its API's messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    api: ApiId,
    subscription: SubscriptionId,
    /// The lowest message it has not settled; it may not have been published yet.
    lowest: u64,
}

impl Place {
    /// A new subscription, whose first message is the one after `cursor`.
    pub(super) fn begin(
        rows: &mut Rows<'_>,
        api: ApiId,
        subscription: SubscriptionId,
        cursor: Version,
    ) {
        let place = Self {
            api,
            subscription,
            lowest: cursor.get() + 1,
        };
        place.write(rows);
    }

    /// Where a subscription stands; `None` when it has ended.
    pub(super) fn read(
        rows: &dyn ReadRows,
        subscription: SubscriptionId,
    ) -> Result<Option<Self>, RowError> {
        let Some(row) = rows.get(&id_key(OF_SUBSCRIPTION, subscription.as_uuid()))? else {
            return Ok(None);
        };
        Ok(Some(Self {
            api: ApiId::from_uuid(uuid_at(&row, 0)?),
            subscription,
            lowest: u64_at(&row, 16)?,
        }))
    }

    fn write(self, rows: &mut Rows<'_>) {
        let mut row = self.api.as_uuid().as_bytes().to_vec();
        row.extend_from_slice(&self.lowest.to_be_bytes());
        rows.put(id_key(OF_SUBSCRIPTION, self.subscription.as_uuid()), row);
        rows.put(self.order_key(), Vec::new());
    }

    fn order_key(self) -> Vec<u8> {
        let mut key = key_of(LOWEST, self.api.as_uuid(), self.lowest);
        key.extend_from_slice(self.subscription.as_uuid().as_bytes());
        key
    }

    fn move_to(mut self, rows: &mut Rows<'_>, lowest: u64) -> Result<(), RowError> {
        let before = lowest_of(rows, self.api)?;
        rows.delete(self.order_key());
        self.lowest = lowest;
        self.write(rows);
        let after = lowest_of(rows, self.api)?;
        if before < after {
            forget(rows, self.api, after)?;
        }
        Ok(())
    }

    /// A run of messages came to an end for this subscription.
    pub(super) fn settle(
        self,
        rows: &mut Rows<'_>,
        first: Version,
        last: Version,
    ) -> Result<(), RowError> {
        let (mut first, mut last) = (first.get().max(self.lowest), last.get());
        if last < first {
            return Ok(());
        }
        // Runs that touch become one, so they stay as few as there are gaps.
        if let Some((start, end)) = self.run_at(rows, first)?
            && end + 1 >= first
        {
            rows.delete(self.run_key(start));
            (first, last) = (start, last.max(end));
        }
        while let Some((start, end)) = self.run_from(rows, first)?
            && start <= last + 1
        {
            rows.delete(self.run_key(start));
            last = last.max(end);
        }
        if first > self.lowest {
            rows.put(self.run_key(first), last.to_be_bytes());
            return Ok(());
        }
        self.move_to(rows, last + 1)
    }

    /// A message that was settled waits again.
    pub(super) fn reopen(self, rows: &mut Rows<'_>, message: &MessageRef) -> Result<(), RowError> {
        let version = message.version.get();
        put_time(rows, self.api, message.version, message.accepted_at);
        if version < self.lowest {
            self.put_run(rows, version + 1, self.lowest - 1);
            return self.move_to(rows, version);
        }
        if let Some((start, end)) = self.run_at(rows, version)?
            && end >= version
        {
            rows.delete(self.run_key(start));
            self.put_run(rows, start, version - 1);
            self.put_run(rows, version + 1, end);
        }
        Ok(())
    }

    /// Nothing waits for it any more.
    pub(super) fn end(self, rows: &mut Rows<'_>) -> Result<(), RowError> {
        rows.delete(self.order_key());
        rows.delete(id_key(OF_SUBSCRIPTION, self.subscription.as_uuid()));
        let prefix = id_key(RUN, self.subscription.as_uuid());
        let runs: Result<Vec<_>, RowError> = rows.prefix(&prefix).collect();
        for run in runs? {
            rows.delete(run.key);
        }
        let lowest = lowest_of(rows, self.api)?;
        forget(rows, self.api, lowest)
    }

    fn put_run(self, rows: &mut Rows<'_>, first: u64, last: u64) {
        if first <= last {
            rows.put(self.run_key(first), last.to_be_bytes());
        }
    }

    fn run_key(self, first: u64) -> Vec<u8> {
        key_of(RUN, self.subscription.as_uuid(), first)
    }

    /// The last run that begins at or before a version.
    fn run_at(self, rows: &dyn ReadRows, version: u64) -> Result<Option<(u64, u64)>, RowError> {
        let range = self.run_key(0)..self.run_key(version.saturating_add(1));
        run_of(rows.range_rev(range).next())
    }

    /// The first run that begins at or after a version.
    fn run_from(self, rows: &dyn ReadRows, version: u64) -> Result<Option<(u64, u64)>, RowError> {
        let range = self.run_key(version)..self.run_key(u64::MAX);
        run_of(rows.range(range).next())
    }
}

fn run_of(
    row: Option<Result<crate::projection::Row, RowError>>,
) -> Result<Option<(u64, u64)>, RowError> {
    row.map(|row| {
        let row = row?;
        Ok((u64_at(&row.key, 17)?, u64_at(&row.value, 0)?))
    })
    .transpose()
}

/// An API accepted a message. Where nobody is subscribed nobody waits.
pub(super) fn accepted(
    rows: &mut Rows<'_>,
    api: ApiId,
    version: Version,
    at: Timestamp,
) -> Result<(), RowError> {
    if lowest_of(rows, api)?.is_some() {
        put_time(rows, api, version, at);
    }
    Ok(())
}

/// When the message was accepted that has waited longest in a scope. A subscription that begins
/// with messages older than it counts from the first whose time is still known.
pub(super) fn oldest(rows: &dyn ReadRows, scope: Scope) -> Result<Option<Timestamp>, RowError> {
    match scope {
        Scope::All => {
            let mut oldest: Option<Timestamp> = None;
            for api in super::backlog::apis(rows)? {
                let of_api = self::oldest(rows, Scope::Api(api))?;
                oldest = [oldest, of_api].into_iter().flatten().min();
            }
            Ok(oldest)
        }
        Scope::Api(api) => match lowest_of(rows, api)? {
            Some(lowest) => time_from(rows, api, lowest),
            None => Ok(None),
        },
        Scope::Subscription(subscription) => match Place::read(rows, subscription)? {
            Some(place) => time_from(rows, place.api, place.lowest),
            None => Ok(None),
        },
    }
}

/// The lowest message that any subscription of an API has not settled.
fn lowest_of(rows: &dyn ReadRows, api: ApiId) -> Result<Option<u64>, RowError> {
    let mut lowest = rows.prefix(&id_key(LOWEST, api.as_uuid()));
    lowest.next().map(|row| u64_at(&row?.key, 17)).transpose()
}

fn put_time(rows: &mut Rows<'_>, api: ApiId, version: Version, at: Timestamp) {
    let key = key_of(TIME, api.as_uuid(), version.get());
    rows.put(key, at.as_millis().to_be_bytes());
}

/// The time of the first message from a version on whose time is known.
fn time_from(rows: &dyn ReadRows, api: ApiId, version: u64) -> Result<Option<Timestamp>, RowError> {
    let end = after_prefix(&id_key(TIME, api.as_uuid()));
    let mut times = rows.range(key_of(TIME, api.as_uuid(), version)..end);
    let time = times.next().map(|row| u64_at(&row?.value, 0)).transpose()?;
    Ok(time.map(|millis| Timestamp::from_millis(millis.cast_signed())))
}

/// Deletes times that nobody waits for: those below `lowest`, all when there is none.
fn forget(rows: &mut Rows<'_>, api: ApiId, lowest: Option<u64>) -> Result<(), RowError> {
    let prefix = id_key(TIME, api.as_uuid());
    let end = match lowest {
        Some(lowest) => key_of(TIME, api.as_uuid(), lowest),
        None => after_prefix(&prefix),
    };
    let old: Result<Vec<_>, RowError> = rows.range(prefix..end).take(FORGOTTEN_MAX).collect();
    for row in old? {
        rows.delete(row.key);
    }
    Ok(())
}
