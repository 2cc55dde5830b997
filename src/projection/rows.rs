//! The rows of one projection, as it reads and writes them while it folds.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use super::{
    RowError,
    gathered::laid_over,
    store::{Changes, Direction, RowStore, Scan},
};

/// First byte of the engine's own rows in a store.
pub(super) const ENGINE: u8 = 0;
/// First byte of the projection's rows in a store.
const OWN: u8 = 1;

/// Most rows that a batch remembers having looked at.
const SEEN_MAX: usize = 1_024;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key; rows sort by it, byte by byte.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Row {
    pub(super) const fn new(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key, value }
    }
}

/// Rows in key order, or against it.
pub struct RowIter<'a>(Scan<'a>);

impl std::fmt::Debug for RowIter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowIter")
    }
}

impl Iterator for RowIter<'_> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Reads rows: the same for a projection at work and for a view.
pub trait ReadRows {
    /// The row with this key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError>;

    /// The row with this key, without a copy of it where it is in memory.
    fn look(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, RowError> {
        Ok(self.get(key)?.map(Cow::Owned))
    }

    /// The rows with `range.start <= key < range.end`, lowest key first.
    fn range(&self, range: Range<Vec<u8>>) -> RowIter<'_>;

    /// The same rows, highest key first.
    fn range_rev(&self, range: Range<Vec<u8>>) -> RowIter<'_>;

    /// The rows whose key begins with `prefix`, lowest key first.
    fn prefix(&self, prefix: &[u8]) -> RowIter<'_> {
        self.range(prefix.to_vec()..after_prefix(prefix))
    }
}

/// The lowest key above every key that begins with `prefix`.
///
/// ```
/// use hooklog::projection::after_prefix;
/// assert_eq!(after_prefix(b"ab"), b"ac");
/// assert_eq!(after_prefix(&[1, 255]), [2]);
/// ```
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    // No key is above every key; a run of 255s longer than any key stands in for it.
    vec![u8::MAX; 64]
}

/// The rows of a projection with what the events of this batch have changed so far: a projection
/// reads its own writes, so its results do not depend on where batches end.
pub struct Rows<'a> {
    store: &'a dyn RowStore,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What was looked at and is as it was: many events of a batch look at the same few rows.
    seen: RefCell<HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("changed", &self.changed.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Rows<'a> {
    pub(super) fn over(store: &'a dyn RowStore) -> Self {
        Self {
            store,
            changed: BTreeMap::new(),
            seen: RefCell::default(),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changed.insert(key.into(), Some(value.into()));
    }

    /// Deletes a row; nothing happens when there is none.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changed.insert(key.into(), None);
    }

    /// Changes a row in place; one that is absent begins as `fresh()`.
    pub fn edit(
        &mut self,
        key: &[u8],
        fresh: impl FnOnce() -> Vec<u8>,
    ) -> Result<&mut Vec<u8>, RowError> {
        // Mostly it was changed before, and then its key is there.
        if !self.changed.contains_key(key) {
            let value = self.store.get(&own(key))?;
            self.changed.insert(key.to_vec(), value);
        }
        let slot = self.changed.get_mut(key);
        Ok(slot.expect("it was put there").get_or_insert_with(fresh))
    }

    fn seen(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        if let Some(value) = self.seen.borrow().get(key) {
            return Ok(value.clone());
        }
        let value = self.store.get(&own(key))?;
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// What is to be committed, in the keys of the store.
    pub(super) fn into_changes(self) -> Changes {
        let changed = self.changed.into_iter();
        changed.map(|(key, value)| (own(&key), value)).collect()
    }

    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> RowIter<'_> {
        if range.start >= range.end {
            return RowIter(Box::new(std::iter::empty()));
        }
        let stored = stored(self.store, &range, direction);
        RowIter(laid_over(stored, self.changed.range(range), direction))
    }
}

impl ReadRows for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(&own(key)),
        }
    }

    fn look(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, RowError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.as_deref().map(Cow::Borrowed)),
            None => Ok(self.seen(key)?.map(Cow::Owned)),
        }
    }

    fn range(&self, range: Range<Vec<u8>>) -> RowIter<'_> {
        self.scan(range, Direction::Up)
    }

    fn range_rev(&self, range: Range<Vec<u8>>) -> RowIter<'_> {
        self.scan(range, Direction::Down)
    }
}

/// The committed rows of a projection, for a view: all of one moment.
pub struct StoredRows<'a>(pub(super) &'a dyn RowStore);

impl std::fmt::Debug for StoredRows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredRows")
    }
}

impl ReadRows for StoredRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.0.get(&own(key))
    }

    fn range(&self, range: Range<Vec<u8>>) -> RowIter<'_> {
        RowIter(stored(self.0, &range, Direction::Up))
    }

    fn range_rev(&self, range: Range<Vec<u8>>) -> RowIter<'_> {
        RowIter(stored(self.0, &range, Direction::Down))
    }
}

fn own(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(OWN);
    stored.extend_from_slice(key);
    stored
}

fn stored<'a>(store: &'a dyn RowStore, range: &Range<Vec<u8>>, direction: Direction) -> Scan<'a> {
    let rows = store.scan(own(&range.start)..own(&range.end), direction);
    Box::new(rows.map(|row| {
        row.map(|mut row| {
            row.key.remove(0);
            row
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::store::MemoryStore;

    fn keys(rows: RowIter<'_>) -> Vec<u8> {
        rows.map(|row| row.unwrap().key[0]).collect()
    }

    #[test]
    fn a_projection_reads_its_own_writes_in_both_directions() {
        let mut store = MemoryStore::default();
        let mut rows = Rows::over(&store);
        for key in [1, 3, 5] {
            rows.put([key], [key]);
        }
        let changes = rows.into_changes();
        store.commit(changes).unwrap();

        let mut rows = Rows::over(&store);
        rows.put([2], [2]);
        rows.put([3], [33]);
        rows.delete([5]);
        rows.edit(&[1], Vec::new).unwrap().push(11);
        assert_eq!(keys(rows.range(vec![0]..vec![9])), [1, 2, 3]);
        assert_eq!(keys(rows.range_rev(vec![0]..vec![3])), [2, 1]);
        assert_eq!(rows.get(&[3]).unwrap(), Some(vec![33]));
        assert_eq!(rows.get(&[1]).unwrap(), Some(vec![1, 11]));
        assert_eq!(rows.get(&[5]).unwrap(), None);
        assert_eq!(keys(rows.range(vec![4]..vec![2])), [0; 0]);
    }
}
