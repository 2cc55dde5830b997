//! Rows whose latest changes wait in memory: a store takes many changes at once for little more
//! than one, and a row that changes a hundred times in a second is written once.
//!
//! Nothing is weaker for it. What waits is gone with the process, as are commits that were not
//! flushed; the checkpoint waits with its rows, so they are folded again from the log.

use std::{borrow::Cow, iter::Peekable, ops::Range};

use crate::kill_point::KillPoint;

use super::{
    Row, RowError,
    store::{Changes, Direction, RowStore, Scan},
};

/// What waits goes to the store below at this size. It is held while views wait, so it is small.
const BYTES_MAX: usize = 1 << 20;
/// What a change takes beside its key and value.
const ENTRY_BYTES: usize = 64;

/// A store with changes laid over it.
pub(super) struct Gathered<S> {
    store: S,
    changes: Changes,
    bytes: usize,
    /// What the store below was given since it was opened.
    handed_on_bytes: u64,
}

impl<S: RowStore> Gathered<S> {
    pub(super) const fn over(store: S) -> Self {
        Self {
            store,
            changes: Changes::new(),
            bytes: 0,
            handed_on_bytes: 0,
        }
    }
}

impl<S: RowStore> RowStore for Gathered<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(key),
        }
    }

    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> Scan<'_> {
        if range.start >= range.end {
            return Box::new(std::iter::empty());
        }
        let changes = self.changes.range(range.clone());
        let changes = changes.map(|(key, value)| (key, value.as_deref().map(Cow::Borrowed)));
        laid_over(self.store.scan(range, direction), changes, direction)
    }

    fn commit(&mut self, changes: Changes) -> Result<(), RowError> {
        for (key, value) in changes {
            let (key_bytes, value_bytes) = (key.len(), value.as_ref().map_or(0, Vec::len));
            self.bytes += value_bytes;
            match self.changes.insert(key, value) {
                Some(before) => self.bytes -= before.map_or(0, |before| before.len()),
                None => self.bytes += ENTRY_BYTES + key_bytes,
            }
        }
        if self.bytes >= BYTES_MAX {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), RowError> {
        if !self.changes.is_empty() {
            // Where it is refused they stay: what was read once is read again.
            self.store.apply(&self.changes)?;
            KillPoint::Project.pass();
            self.changes.clear();
            self.handed_on_bytes += self.bytes as u64;
            self.bytes = 0;
        }
        self.store.settle()
    }

    fn flush(&self) -> Result<(), RowError> {
        self.store.flush()
    }

    fn replayed_bytes(&self) -> u64 {
        self.handed_on_bytes
    }

    fn bytes_on_disk(&self) -> u64 {
        self.store.bytes_on_disk()
    }
}

/// A change that is laid over a row: its key and its value, `None` where it is deleted.
type Change<'a> = (&'a Vec<u8>, Option<Cow<'a, [u8]>>);

/// Rows of a store with changes laid over them.
pub(super) fn laid_over<'a>(
    stored: Scan<'a>,
    changes: impl DoubleEndedIterator<Item = Change<'a>> + 'a,
    direction: Direction,
) -> Scan<'a> {
    match direction {
        Direction::Up => Box::new(Merged::new(stored, changes, direction)),
        Direction::Down => Box::new(Merged::new(stored, changes.rev(), direction)),
    }
}

struct Merged<'a, C: Iterator> {
    stored: Peekable<Scan<'a>>,
    changed: Peekable<C>,
    direction: Direction,
}

impl<'a, C: Iterator<Item = Change<'a>>> Merged<'a, C> {
    fn new(stored: Scan<'a>, changed: C, direction: Direction) -> Self {
        Self {
            stored: stored.peekable(),
            changed: changed.peekable(),
            direction,
        }
    }

    /// Whether the next stored row comes before the next changed one, and whether both are one.
    fn order(&mut self) -> Option<std::cmp::Ordering> {
        use std::cmp::Ordering;
        match (self.stored.peek(), self.changed.peek()) {
            (None, None) => None,
            (Some(_), None) | (Some(Err(_)), _) => Some(Ordering::Less),
            (None, Some(_)) => Some(Ordering::Greater),
            (Some(Ok(row)), Some((key, _))) => Some(match self.direction {
                Direction::Up => row.key.cmp(key),
                Direction::Down => row.key.cmp(key).reverse(),
            }),
        }
    }
}

impl<'a, C: Iterator<Item = Change<'a>>> Iterator for Merged<'a, C> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = self.order()?;
            if order.is_lt() {
                return self.stored.next();
            }
            if order.is_eq() {
                self.stored.next();
            }
            let (key, value) = self.changed.next()?;
            if let Some(value) = value {
                return Some(Ok(Row::new(key.clone(), value.into_owned())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::store::MemoryStore;

    fn changes(pairs: &[(u8, Option<u8>)]) -> Changes {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| (vec![*key], value.map(|value| vec![value])))
            .collect()
    }

    fn rows(scan: Scan<'_>) -> Vec<(u8, u8)> {
        scan.map(|row| row.map(|row| (row.key[0], row.value[0])).unwrap())
            .collect()
    }

    #[test]
    fn what_waits_is_read_as_if_it_were_written() {
        let mut store = Gathered::over(MemoryStore::default());
        store
            .commit(changes(&[(1, Some(1)), (2, Some(2)), (3, Some(3))]))
            .unwrap();
        store.settle().unwrap();
        store
            .commit(changes(&[(2, None), (3, Some(33)), (4, Some(4))]))
            .unwrap();
        let all = || vec![0]..vec![9];
        let expected = [(1, 1), (3, 33), (4, 4)];
        for _ in 0..2 {
            assert_eq!(rows(store.scan(all(), Direction::Up)), expected);
            let down: Vec<_> = expected.into_iter().rev().collect();
            assert_eq!(rows(store.scan(all(), Direction::Down)), down);
            assert_eq!(store.get(&[2]).unwrap(), None);
            assert_eq!(store.get(&[3]).unwrap(), Some(vec![33]));
            store.settle().unwrap();
        }
        assert_eq!(store.store.get(&[2]).unwrap(), None);
        assert_eq!(store.store.get(&[4]).unwrap(), Some(vec![4]));
    }

    /// A store on a disk without room.
    struct Full;

    impl RowStore for Full {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
            Ok(None)
        }

        fn scan(&self, _: Range<Vec<u8>>, _: Direction) -> Scan<'_> {
            Box::new(std::iter::empty())
        }

        fn commit(&mut self, _: Changes) -> Result<(), RowError> {
            Err(RowError::Io("no space left".to_owned()))
        }

        fn flush(&self) -> Result<(), RowError> {
            Ok(())
        }
    }

    #[test]
    fn what_the_store_refuses_is_still_read() {
        let mut store = Gathered::over(Full);
        store.commit(changes(&[(1, Some(1))])).unwrap();
        assert!(store.settle().is_err());
        assert_eq!(store.get(&[1]).unwrap(), Some(vec![1]));
        assert!(store.settle().is_err());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut store = Gathered::over(MemoryStore::default());
        let value = vec![0; BYTES_MAX / 2];
        for key in [1, 2, 3] {
            let large = Changes::from([(vec![key], Some(value.clone()))]);
            store.commit(large).unwrap();
            assert!(store.bytes < BYTES_MAX);
        }
        assert!(store.store.get(&[1]).unwrap().is_some());
        assert_eq!(store.changes.len(), 1);
        // A row that is written over is held once.
        let before = store.bytes;
        for _ in 0..10 {
            let again = Changes::from([(vec![3], Some(value.clone()))]);
            store.commit(again).unwrap();
        }
        assert_eq!(store.bytes, before);
    }
}
