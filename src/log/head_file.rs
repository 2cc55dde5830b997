//! The `HEAD` file: what the log knows to be durable, kept outside the store that holds it.
//!
//! A store takes damage at its end for a write that a crash cut off, and forgets what follows.
//! This file tells the two apart: what it names was acknowledged and was there.

use std::sync::Arc;

use crate::model::Position;

use super::{
    Storage, StorageError,
    codec::Cursor,
    page::{NO_PAGE, PageHash},
    segment::{sealed, unsealed},
};

const HEAD_FORMAT: u8 = 1;
/// The two records lie in blocks of their own, so that a torn write takes one of them at most.
const SLOT_BYTES: usize = 4_096;
const RECORD_BYTES: usize = 69;

/// What a log was, the last time that it was known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadRecord {
    /// The first position that retention has left.
    pub(crate) first: Position,
    /// The segment with the highest name that was begun.
    pub(crate) newest: Position,
    /// The last position known to be durable.
    pub(crate) head: Position,
    /// The hash of the page that ends there.
    pub(crate) hash: PageHash,
}

impl HeadRecord {
    fn to_bytes(self, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![HEAD_FORMAT];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        for position in [self.first, self.newest, self.head] {
            bytes.extend_from_slice(&position.get().to_be_bytes());
        }
        bytes.extend_from_slice(&self.hash);
        sealed(bytes)
    }

    fn read(slot: &[u8]) -> Option<(u64, Self)> {
        let mut cursor = Cursor(unsealed(slot.get(..RECORD_BYTES)?)?);
        if cursor.u8()? != HEAD_FORMAT {
            return None;
        }
        let sequence = cursor.u64()?;
        let record = Self {
            first: Position::new(cursor.u64()?),
            newest: Position::new(cursor.u64()?),
            head: Position::new(cursor.u64()?),
            hash: cursor.array()?,
        };
        Some((sequence, record))
    }
}

/// Reads and replaces the record.
pub(crate) struct HeadFile {
    storage: Arc<dyn Storage>,
    sequence: u64,
    record: Option<HeadRecord>,
    is_damaged: bool,
}

impl HeadFile {
    /// Nothing is read yet.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            sequence: 0,
            record: None,
            is_damaged: false,
        }
    }

    /// Reads the newer record of the two; a log of before this file has none.
    pub(crate) fn read(&mut self) -> Result<Option<HeadRecord>, StorageError> {
        let bytes = self.storage.read_head()?;
        let slots = || bytes.chunks(SLOT_BYTES);
        let found = slots().filter_map(HeadRecord::read);
        let newest = found.max_by_key(|(sequence, _)| *sequence);
        // The first record goes into the second slot: while the other is blank there was no more
        // than that one, and a crash may have cut it off.
        let was_replaced = bytes.iter().take(SLOT_BYTES).any(|byte| *byte != 0);
        self.is_damaged |= newest.is_none() && was_replaced;
        if let Some((sequence, record)) = newest {
            self.sequence = sequence;
            self.record = Some(record);
        }
        Ok(self.record)
    }

    /// What it holds.
    pub(crate) const fn record(&self) -> Option<HeadRecord> {
        self.record
    }

    /// Whether a record was there when the log was opened, and none that held.
    pub(crate) const fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Replaces the record; not yet durable. What it names must be.
    pub(crate) fn write(&mut self, record: HeadRecord) -> Result<(), StorageError> {
        if self.record == Some(record) {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let bytes = record.to_bytes(sequence);
        // The older of the two gives way.
        let at = if sequence.is_multiple_of(2) {
            0
        } else {
            SLOT_BYTES
        };
        self.storage.write_head(at as u64, &bytes)?;
        (self.sequence, self.record) = (sequence, Some(record));
        Ok(())
    }

    /// Moves the first position and makes that durable, before what lies below is removed. A log
    /// whose file holds nothing yet has nothing to move.
    pub(crate) fn retire_below(&mut self, first: Position) -> Result<(), StorageError> {
        let Some(record) = self.record else {
            return Ok(());
        };
        self.write(HeadRecord { first, ..record })?;
        self.storage.sync_head()
    }

    /// Makes the record durable.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        if self.record.is_none() {
            return Ok(());
        }
        self.storage.sync_head()
    }
}

impl Default for HeadRecord {
    fn default() -> Self {
        Self {
            first: Position::FIRST,
            newest: Position::FIRST,
            head: Position::ZERO,
            hash: NO_PAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryStorage;

    fn record(head: u64) -> HeadRecord {
        HeadRecord {
            head: Position::new(head),
            hash: [7; 32],
            ..HeadRecord::default()
        }
    }

    fn read(storage: &MemoryStorage) -> HeadFile {
        let mut file = HeadFile::new(Arc::new(storage.clone()));
        file.read().unwrap();
        file
    }

    #[test]
    fn any_damage_to_one_record_leaves_the_one_before() {
        let storage = MemoryStorage::new();
        let mut file = read(&storage);
        for head in 1..=5 {
            file.write(record(head)).unwrap();
        }
        let whole = storage.read_head().unwrap();
        assert_eq!(read(&storage).record(), Some(record(5)));
        for byte in (0..RECORD_BYTES).chain(SLOT_BYTES..whole.len()) {
            let mut bytes = whole.clone();
            bytes[byte] ^= 4;
            storage.write_head(0, &bytes).unwrap();
            let found = read(&storage);
            let newer_is_hit = byte >= SLOT_BYTES;
            let left = if newer_is_hit { 4 } else { 5 };
            assert_eq!(found.record(), Some(record(left)), "byte {byte}");
            assert!(!found.is_damaged());
        }
        let mut bytes = whole;
        bytes[5] ^= 1;
        bytes[SLOT_BYTES + 5] ^= 1;
        storage.write_head(0, &bytes).unwrap();
        assert!(read(&storage).is_damaged());
    }

    #[test]
    fn a_first_record_that_a_crash_cut_off_is_no_damage() {
        for bytes in 0..RECORD_BYTES {
            let storage = MemoryStorage::new();
            read(&storage).write(record(1)).unwrap();
            let whole = storage.read_head().unwrap();
            storage.overwrite_head(whole[..SLOT_BYTES + bytes].to_vec());
            let found = read(&storage);
            assert_eq!(found.record(), None);
            assert!(!found.is_damaged(), "{bytes} bytes");
        }
    }
}
