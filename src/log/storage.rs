//! The seam between the log and what stores it: a row of segments, each an ordered map of bytes.
//!
//! The log above it is the same code over sled and over the memory of a test. What any storage
//! must do stands in the traits' docs and is tried by `testing::log_conformance`.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::model::Position;

use super::StorageError;

/// A key and the value to store under it; `None` removes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

impl Row {
    /// A row that stores this value.
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            key,
            value: Some(value),
        }
    }

    /// A row that removes this key.
    pub fn remove(key: Vec<u8>) -> Self {
        Self { key, value: None }
    }
}

/// Looks at a key and its value, and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// One segment: an ordered map of bytes.
///
/// Any thread may read while one writes. A row is visible to reads as soon as it is applied; what
/// is durable is another matter, and the log hides what is not.
pub trait SegmentStore: Send + Sync {
    /// Applies all rows or none of them, over a crash too. Not yet durable. After an error,
    /// whether they were applied is not known.
    fn apply(&self, rows: Vec<Row>) -> Result<(), StorageError>;

    /// What was applied before survives a killed process.
    fn flush(&self) -> Result<(), StorageError>;

    /// What was applied before survives power loss.
    ///
    /// [`StorageError::Full`] means that a write was refused and nothing else was lost. Any other
    /// error means that what was applied may never be durable, even when a later call succeeds.
    fn sync(&self) -> Result<(), StorageError>;

    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The row with the largest key that is not above `key`.
    fn last_at_or_before(&self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StorageError>;

    /// Shows the rows from `from` to below `until` in order, until `visit` breaks.
    fn scan(&self, from: &[u8], until: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError>;
}

/// The segments of one log. Each is named by the position of its first event.
pub trait Storage: Send + Sync + 'static {
    /// The segments there are, in order, without opening one.
    fn segments(&self) -> Result<Vec<Position>, StorageError>;

    /// Makes an empty segment. Its existence is durable when this returns.
    fn create(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError>;

    /// Opens a segment. Damage that makes the store panic is an error here.
    fn open(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError>;

    /// Drops a segment at once, open or not; nothing happens when it is not there.
    fn remove(&self, first: Position) -> Result<(), StorageError>;

    /// Bytes a segment takes on disk; zero when it is not there.
    fn bytes_on_disk(&self, first: Position) -> Result<u64, StorageError>;

    /// The `HEAD` file: what the log knew to be durable, beside the segments. Empty when there is
    /// none.
    fn read_head(&self) -> Result<Vec<u8>, StorageError>;

    /// Replaces bytes of the `HEAD` file from `at` on, and makes it when there is none. They may
    /// reach the disk at any time after this, or never.
    fn write_head(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// The `HEAD` file survives power loss.
    fn sync_head(&self) -> Result<(), StorageError>;

    /// Sets a copy of a segment aside before it is opened, because opening may alter a damaged one.
    fn set_aside(&self, _first: Position) -> Result<(), StorageError> {
        Ok(())
    }

    /// Drops what was set aside of a segment, or keeps it as evidence of damage and tells where.
    fn settle(&self, _first: Position, _is_damaged: bool) -> Result<Option<PathBuf>, StorageError> {
        Ok(None)
    }

    /// Takes a segment that a repair has given up out of the log, and keeps what it holds where that
    /// can be. Durable when this returns; nothing happens when it is not there.
    fn give_up(&self, first: Position) -> Result<(), StorageError> {
        self.remove(first)
    }

    /// Bytes that may still be written; `None` when that is not known.
    fn bytes_free(&self) -> Option<u64>;

    /// Lets go of the lock that keeps others out. No call comes after it.
    fn release(&self) {}
}
