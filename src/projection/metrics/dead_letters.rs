//! Dead letters go with their messages when the log is cut, which may be a million at once. They
//! are counted no more from then on, and their rows go a few at a time, with messages that come.
//! Those of a deleted API are counted no more either.

use std::borrow::Cow;

use super::{
    Scope,
    backlog::Settled,
    gauges::{Gauge, is_up, shift_all},
};
use crate::{
    model::{ApiId, Position, SubscriptionId},
    projection::{
        ReadRows, Row, RowError, Rows, after_prefix,
        codec::{id_key, u64_at, uuid_at},
        forgotten,
    },
};

/// Of the rows of dead letters.
pub(super) const DEAD_LETTER: u8 = b'd';
/// Of the marks of deleted APIs.
const DELETED: u8 = b'e';
/// Where it is gone on to look for rows that may go; absent when all were looked at.
const NEXT: &[u8] = b"k";
/// Most rows that are looked at with one message: a million are through after 15,625 messages, and
/// a batch of messages deletes 65,536 at most.
const LOOKED_AT_MAX: usize = 64;

/// The row of a dead letter whose message stands at this position.
pub(super) fn row(message: Position) -> Vec<u8> {
    message.get().to_be_bytes().to_vec()
}

/// Counts the dead letters no more whose messages stand below a cut. It is folded by rows that stood
/// before the cut as by those that begin with it, so both count the same. Takes memory for each
/// subscription that has any, not for each of them.
pub(super) fn forget_below(rows: &mut Rows<'_>, first: Position) -> Result<(), RowError> {
    let before = forgotten::first(rows)?.unwrap_or(Position::ZERO);
    if first <= before {
        return Ok(());
    }
    forgotten::below(rows, first);
    let gone = count(rows, before, first)?;
    if !gone.is_empty() {
        rows.put(NEXT, [DEAD_LETTER]);
    }
    for (id, count) in gone {
        if let Some(Settled { api, .. }) = Settled::read(rows, id)? {
            shift_all(rows, api, id, Gauge::DeadLetters, -count)?;
        }
    }
    Ok(())
}

/// Counts the dead letters of a deleted API no more, those included that come of calls which are
/// under way: nobody can list them, redeliver or discard them. Their rows go with their messages.
pub(super) fn forget_api(rows: &mut Rows<'_>, api: ApiId) -> Result<(), RowError> {
    rows.put(deleted(api), []);
    if !is_up(rows, Scope::Api(api), Gauge::DeadLetters)? {
        return Ok(());
    }
    let first = forgotten::first(rows)?.unwrap_or(Position::ZERO);
    for (id, count) in count(rows, first, Position::MAX)? {
        let settled = Settled::read(rows, id)?;
        if settled.is_some_and(|settled| settled.api == api) {
            shift_all(rows, api, id, Gauge::DeadLetters, -count)?;
        }
    }
    Ok(())
}

/// Whether an API is deleted.
pub(super) fn is_deleted(rows: &dyn ReadRows, api: ApiId) -> Result<bool, RowError> {
    Ok(rows.look(&deleted(api))?.is_some())
}

fn deleted(api: ApiId) -> Vec<u8> {
    id_key(DELETED, api.as_uuid())
}

/// How many each subscription has whose messages stand in a range.
fn count(
    rows: &dyn ReadRows,
    from: Position,
    to: Position,
) -> Result<Vec<(SubscriptionId, i64)>, RowError> {
    let mut counts: Vec<(SubscriptionId, i64)> = Vec::new();
    for row in rows.prefix(&[DEAD_LETTER]) {
        let Row { key, value } = row?;
        if !(from..to).contains(&position(&value)?) {
            continue;
        }
        let id = SubscriptionId::from_uuid(uuid_at(&key, 1)?);
        match counts.last_mut() {
            Some((last, count)) if *last == id => *count += 1,
            _ => counts.push((id, 1)),
        }
    }
    Ok(counts)
}

/// Deletes a few rows of those that are counted no more, where there are any.
pub(super) fn sweep(rows: &mut Rows<'_>) -> Result<(), RowError> {
    let Some(next) = rows.look(NEXT)?.map(Cow::into_owned) else {
        return Ok(());
    };
    let first = forgotten::first(rows)?.unwrap_or(Position::ZERO);
    let range = next..after_prefix(&[DEAD_LETTER]);
    let found: Result<Vec<_>, RowError> = rows.range(range).take(LOOKED_AT_MAX).collect();
    let found = found?;
    match found.last() {
        Some(last) if found.len() == LOOKED_AT_MAX => {
            let mut next = last.key.clone();
            next.push(0);
            rows.put(NEXT, next);
        }
        _ => rows.delete(NEXT),
    }
    for Row { key, value } in found {
        if position(&value)? < first {
            rows.delete(key);
        }
    }
    Ok(())
}

fn position(row: &[u8]) -> Result<Position, RowError> {
    u64_at(row, 0).map(Position::new)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        model::Version,
        projection::{
            codec::key_of,
            metrics::Gauges,
            store::{MemoryStore, RowStore as _},
        },
    };

    fn subscription(number: u64) -> SubscriptionId {
        SubscriptionId::from_uuid(Uuid::from_u128(number.into()))
    }

    /// A hundred dead letters of each of these subscriptions; a later message stands further on.
    fn with_dead_letters(subscriptions: u64) -> MemoryStore {
        let mut store = MemoryStore::default();
        let mut rows = Rows::over(&store);
        let api = ApiId::from_uuid(Uuid::from_u128(1));
        for id in (1..=subscriptions).map(subscription) {
            Settled::begin(&mut rows, id, api, Version::ZERO).unwrap();
            for message in 1..=100 {
                let key = key_of(DEAD_LETTER, id.as_uuid(), message);
                rows.put(key, row(Position::new(message * 10)));
                shift_all(&mut rows, api, id, Gauge::DeadLetters, 1).unwrap();
            }
        }
        let changes = rows.into_changes();
        store.commit(changes).unwrap();
        store
    }

    #[test]
    fn a_cut_counts_its_dead_letters_no_more_and_deletes_their_rows_a_few_at_a_time() {
        let mut store = with_dead_letters(20);
        let counted = |rows: &Rows<'_>, scope| Gauges::read(rows, scope).unwrap().dead_letters;
        let mut rows = Rows::over(&store);
        forget_below(&mut rows, Position::new(901)).unwrap();
        assert_eq!(counted(&rows, Scope::All), 20 * 10);
        assert_eq!(counted(&rows, Scope::Subscription(subscription(7))), 10);
        let changes = rows.into_changes();
        assert!(changes.len() <= 20 + 4, "{} rows for 1,800", changes.len());
        store.commit(changes).unwrap();

        // Told again, and another cut before all rows are gone.
        for (first, left) in [(901, 10), (951, 5)] {
            let mut rows = Rows::over(&store);
            sweep(&mut rows).unwrap();
            forget_below(&mut rows, Position::new(first)).unwrap();
            assert_eq!(counted(&rows, Scope::All), 20 * left);
            let changes = rows.into_changes();
            store.commit(changes).unwrap();
        }
        loop {
            let mut rows = Rows::over(&store);
            sweep(&mut rows).unwrap();
            let changes = rows.into_changes();
            assert!(changes.len() <= LOOKED_AT_MAX + 1);
            if changes.is_empty() {
                break;
            }
            store.commit(changes).unwrap();
        }
        let rows = Rows::over(&store);
        assert_eq!(rows.prefix(&[DEAD_LETTER]).count(), 20 * 5);
        assert_eq!(counted(&rows, Scope::All), 20 * 5);
    }
}
