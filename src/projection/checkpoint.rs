//! The engine's own rows: how far the rows are, and which events were skipped. They stand in the
//! projection's store and move in its batches (G6).
//!
//! | key | value |
//! |---|---|
//! | `00 'c'` | position (u64), skipped (u64), ready (0 or 1), CRC32C of the 17 bytes before |
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
}

/// An event that a projection could not fold and that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedEvent {
    /// Which.
    pub position: Position,
    /// Why.
    pub reason: String,
}

impl Checkpoint {
    pub(super) fn as_change(self) -> Changes {
        let mut value = Vec::with_capacity(21);
        value.extend_from_slice(&self.position.get().to_be_bytes());
        value.extend_from_slice(&self.skipped.to_be_bytes());
        value.push(u8::from(self.ready));
        value.extend_from_slice(&crc32c::crc32c(&value).to_be_bytes());
        Changes::from([(CHECKPOINT.to_vec(), Some(value))])
    }
}

/// The checkpoint of these rows; `None` when they were never begun.
pub(super) fn read(store: &dyn RowStore) -> Result<Option<Checkpoint>, RowError> {
    let Some(value) = store.get(&CHECKPOINT)? else {
        return Ok(None);
    };
    let whole = value.len() == 21 && value[17..] == crc32c::crc32c(&value[..17]).to_be_bytes();
    if !whole {
        return Err(malformed(
            &value,
            "the checkpoint does not fit its checksum",
        ));
    }
    Ok(Some(Checkpoint {
        position: Position::new(u64_at(&value, 0)?),
        skipped: u64_at(&value, 8)?,
        ready: value[16] == 1,
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
