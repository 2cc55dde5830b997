//! The engine's own rows: how far the rows are, and which events were skipped. They stand in the
//! projection's store and move in its batches (G6).
//!
//! | key | value |
//! |---|---|
//! | `00 'c'` | position (u64), skipped (u64), ready (0 or 1); mended at (u64), where the position is below it; CRC32C of the bytes before |
//! | `00 's'` position (u64) | reason as text |
//! | `00 'b'` | the first position of the log they were begun on (u64); absent: 1 |

use super::{
    RowError,
    codec::{malformed, u64_at},
    rows::ENGINE,
    store::{Changes, Direction, RowStore},
};
use crate::model::Position;

const CHECKPOINT: [u8; 2] = [ENGINE, b'c'];
const SKIPPED: [u8; 2] = [ENGINE, b's'];
const BEGINS: [u8; 2] = [ENGINE, b'b'];

/// How far rows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The last event that is folded or skipped.
    pub(super) position: Position,
    /// How many events were skipped.
    pub(super) skipped: u64,
    /// Whether the rows may be served after a restart.
    pub(super) ready: bool,
    /// How far rows were that were thrown away for damage. These, in their place, know less until
    /// they have come there again.
    pub(super) mended_at: Position,
}

/// The bytes of a checkpoint before its checksum, without and with where its rows are mended.
const BYTES: usize = 17;
const MENDING_BYTES: usize = BYTES + 8;
const CHECKSUM_BYTES: usize = 4;

/// An event that a projection could not fold and that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedEvent {
    /// Which.
    pub position: Position,
    /// Why.
    pub reason: String,
}

impl Checkpoint {
    /// Rows that serve from the start on, in the place of others that were damaged at `mended_at`.
    pub(super) fn serving(mended_at: Position) -> Self {
        Self {
            ready: true,
            mended_at,
            ..Self::default()
        }
    }

    pub(super) fn as_change(self) -> Changes {
        let mut value = Vec::with_capacity(MENDING_BYTES + CHECKSUM_BYTES);
        value.extend_from_slice(&self.position.get().to_be_bytes());
        value.extend_from_slice(&self.skipped.to_be_bytes());
        value.push(u8::from(self.ready));
        if self.position < self.mended_at {
            value.extend_from_slice(&self.mended_at.get().to_be_bytes());
        }
        value.extend_from_slice(&crc32c::crc32c(&value).to_be_bytes());
        Changes::from([(CHECKPOINT.to_vec(), Some(value))])
    }
}

/// The checkpoint of these rows; `None` when they were never begun.
pub(super) fn read(store: &dyn RowStore) -> Result<Option<Checkpoint>, RowError> {
    let Some(value) = store.get(&CHECKPOINT)? else {
        return Ok(None);
    };
    let length = value.len().saturating_sub(CHECKSUM_BYTES);
    let (told, checksum) = value.split_at(length);
    let has_length = length == BYTES || length == MENDING_BYTES;
    if !has_length || checksum != crc32c::crc32c(told).to_be_bytes() {
        return Err(malformed(
            &value,
            "the checkpoint does not fit its checksum",
        ));
    }
    Ok(Some(Checkpoint {
        position: Position::new(u64_at(&value, 0)?),
        skipped: u64_at(&value, 8)?,
        ready: value[16] == 1,
        mended_at: match length {
            MENDING_BYTES => Position::new(u64_at(&value, BYTES)?),
            _ => Position::ZERO,
        },
    }))
}

/// Where the log began that these rows were begun on.
pub(super) fn begins(store: &dyn RowStore) -> Result<Position, RowError> {
    let first = store.get(&BEGINS)?;
    let first = first.map(|first| u64_at(&first, 0)).transpose()?;
    Ok(first.map_or(Position::FIRST, Position::new))
}

/// Writes down where the log began.
pub(super) fn record_begins(changes: &mut Changes, first: Position) {
    let value = first.get().to_be_bytes().to_vec();
    changes.insert(BEGINS.to_vec(), Some(value));
}

/// Writes down that an event was skipped.
pub(super) fn record_skipped(changes: &mut Changes, event: &SkippedEvent) {
    let mut key = SKIPPED.to_vec();
    key.extend_from_slice(&event.position.get().to_be_bytes());
    changes.insert(key, Some(event.reason.clone().into_bytes()));
}

/// The first `limit` skipped events.
pub(super) fn skipped(store: &dyn RowStore, limit: usize) -> Result<Vec<SkippedEvent>, RowError> {
    let end = vec![ENGINE, b's' + 1];
    let rows = store.scan(SKIPPED.to_vec()..end, Direction::Up);
    rows.take(limit)
        .map(|row| {
            let row = row?;
            Ok(SkippedEvent {
                position: Position::new(u64_at(&row.key, 2)?),
                reason: String::from_utf8_lossy(&row.value).into_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::store::MemoryStore;

    fn stored(value: Vec<u8>) -> Result<Option<Checkpoint>, RowError> {
        let mut store = MemoryStore::default();
        store
            .commit(Changes::from([(CHECKPOINT.to_vec(), Some(value))]))
            .unwrap();
        read(&store)
    }

    fn with_checksum(mut value: Vec<u8>) -> Vec<u8> {
        value.extend_from_slice(&crc32c::crc32c(&value).to_be_bytes());
        value
    }

    fn value(checkpoint: Checkpoint) -> Vec<u8> {
        let value = checkpoint.as_change().remove(CHECKPOINT.as_slice());
        value.flatten().unwrap()
    }

    #[test]
    fn a_checkpoint_tells_where_its_rows_are_mended_and_an_older_one_tells_of_none() {
        let whole = Checkpoint {
            position: Position::new(9),
            skipped: 2,
            ready: true,
            mended_at: Position::ZERO,
        };
        let mut older = [9_u64, 2].map(u64::to_be_bytes).concat();
        older.push(1);
        let older = with_checksum(older);
        assert_eq!(stored(older.clone()).unwrap(), Some(whole));
        let mended = |at| Checkpoint {
            mended_at: Position::new(at),
            ..whole
        };
        let mending = value(mended(10));
        assert_eq!(stored(mending.clone()).unwrap(), Some(mended(10)));
        assert_eq!(value(whole), older);
        assert_eq!(value(mended(9)), older, "they are as far again");

        for at in 0..mending.len() {
            let mut flipped = mending.clone();
            flipped[at] ^= 4;
            assert!(stored(flipped).is_err(), "byte {at}");
            assert!(stored(mending[..at].to_vec()).is_err(), "{at} bytes");
        }
    }
}
