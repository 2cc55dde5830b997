//! Where rows are kept: one contract, and the store in memory.

use std::{collections::BTreeMap, ops::Range};

use super::{Row, RowError};

/// What changes in a store in one step; `None` deletes.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows one after the other.
pub(super) type Scan<'a> = Box<dyn Iterator<Item = Result<Row, RowError>> + 'a>;

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the lowest key.
    Up,
    /// From the highest key.
    Down,
}

/// An ordered store of rows.
///
/// `commit` is all-or-nothing, also over a crash: after one, some prefix of the commits stands.
/// Nothing is promised to be on disk before `settle`, and then `flush`, return.
pub(super) trait RowStore: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError>;
    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> Scan<'_>;
    fn commit(&mut self, changes: Changes) -> Result<(), RowError>;
    /// The same with changes that are needed again where it fails.
    fn apply(&mut self, changes: &Changes) -> Result<(), RowError> {
        self.commit(changes.clone())
    }
    /// Hands on what was committed and waits in memory.
    fn settle(&mut self) -> Result<(), RowError> {
        Ok(())
    }
    fn flush(&self) -> Result<(), RowError>;
    /// How many bytes of rows it would read through, were it opened again now.
    fn replayed_bytes(&self) -> u64 {
        0
    }
    /// What it takes on disk, as far as it knows.
    fn bytes_on_disk(&self) -> u64 {
        0
    }
}

/// Rows that cannot be reached for now: every question is answered with an error, none with
/// emptiness.
pub(super) struct AbsentStore;

impl AbsentStore {
    fn refusal() -> RowError {
        RowError::Io("it is being opened again".to_owned())
    }
}

impl RowStore for AbsentStore {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        Err(Self::refusal())
    }

    fn scan(&self, _: Range<Vec<u8>>, _: Direction) -> Scan<'_> {
        Box::new(std::iter::once(Err(Self::refusal())))
    }

    fn commit(&mut self, _: Changes) -> Result<(), RowError> {
        Err(Self::refusal())
    }

    fn flush(&self) -> Result<(), RowError> {
        Err(Self::refusal())
    }
}

/// Rows in memory, gone with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl RowStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> Scan<'_> {
        if range.start >= range.end {
            return Box::new(std::iter::empty());
        }
        let rows = self.rows.range(range);
        let rows = rows.map(|(key, value)| Ok(Row::new(key.clone(), value.clone())));
        match direction {
            Direction::Up => Box::new(rows),
            Direction::Down => Box::new(rows.rev()),
        }
    }

    fn commit(&mut self, changes: Changes) -> Result<(), RowError> {
        for (key, value) in changes {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), RowError> {
        Ok(())
    }
}
