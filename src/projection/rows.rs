//! The rows of one projection, as it reads and writes them while it folds.

use std::{
    any::Any,
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

/// A row that a batch holds decoded, see [`Rows::hold`].
pub(super) trait Held: Any + Send {
    /// Decodes what [`to_row`](Self::to_row) wrote.
    fn from_row(row: &[u8]) -> Result<Self, RowError>
    where
        Self: Sized;

    /// The row as it is stored. Equal values have equal rows.
    fn to_row(&self) -> Vec<u8>;
}

/// What a batch has made of a row so far.
enum Change {
    Deleted,
    Written(Vec<u8>),
    /// It is held, in this place.
    Held(usize),
}

impl Change {
    const fn as_written(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Written(value) => Some(value),
            Self::Deleted | Self::Held(_) => None,
        }
    }
}

/// The rows of a projection with what the events of this batch have changed so far: a projection
/// reads its own writes, so its results do not depend on where batches end.
pub struct Rows<'a> {
    store: &'a dyn RowStore,
    changed: BTreeMap<Vec<u8>, Change>,
    /// What is held, and what was until it was written or deleted.
    held: Vec<Box<dyn Held>>,
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
            held: Vec::new(),
            seen: RefCell::default(),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changed
            .insert(key.into(), Change::Written(value.into()));
    }

    /// Deletes a row; nothing happens when there is none.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changed.insert(key.into(), Change::Deleted);
    }

    /// Changes a row in place; one that is absent begins as `fresh()`.
    pub fn edit(
        &mut self,
        key: &[u8],
        fresh: impl FnOnce() -> Vec<u8>,
    ) -> Result<&mut Vec<u8>, RowError> {
        // Mostly it was changed before, and then its key is there.
        if !matches!(self.changed.get(key), Some(Change::Written(_))) {
            let value = self.get(key)?.unwrap_or_else(fresh);
            self.put(key, value);
        }
        let change = self.changed.get_mut(key);
        let value = change.and_then(Change::as_written);
        Ok(value.expect("it was put there"))
    }

    /// Changes a row decoded: it is decoded when the batch first asks for it, and written when the
    /// batch ends, however many events change it. One that is absent begins as `fresh()`.
    pub(super) fn hold<T: Held>(
        &mut self,
        key: &[u8],
        fresh: impl FnOnce() -> T,
    ) -> Result<&mut T, RowError> {
        let place = match self.changed.get(key) {
            Some(Change::Held(place)) if is_a::<T>(self.held[*place].as_ref()) => *place,
            _ => self.take_hold(key, fresh)?,
        };
        let held: &mut dyn Any = self.held[place].as_mut();
        Ok(held.downcast_mut().expect("it is what was asked for"))
    }

    /// The place of a row that is held from now on.
    fn take_hold<T: Held>(
        &mut self,
        key: &[u8],
        fresh: impl FnOnce() -> T,
    ) -> Result<usize, RowError> {
        let held = match self.get(key)? {
            Some(row) => T::from_row(&row)?,
            None => fresh(),
        };
        let place = self.held.len();
        self.held.push(Box::new(held));
        self.changed.insert(key.to_vec(), Change::Held(place));
        Ok(place)
    }

    fn value<'b>(&'b self, change: &'b Change) -> Option<Cow<'b, [u8]>> {
        match change {
            Change::Deleted => None,
            Change::Written(value) => Some(Cow::Borrowed(value)),
            Change::Held(place) => Some(Cow::Owned(self.held[*place].to_row())),
        }
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
        let value = |change| match change {
            Change::Deleted => None,
            Change::Written(value) => Some(value),
            Change::Held(place) => Some(self.held[place].to_row()),
        };
        let changed = self.changed.into_iter();
        changed
            .map(|(key, change)| (own(&key), value(change)))
            .collect()
    }

    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> RowIter<'_> {
        if range.start >= range.end {
            return RowIter(Box::new(std::iter::empty()));
        }
        let stored = stored(self.store, &range, direction);
        let changed = self.changed.range(range);
        let changed = changed.map(|(key, change)| (key, self.value(change)));
        RowIter(laid_over(stored, changed, direction))
    }
}

impl ReadRows for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        match self.changed.get(key) {
            Some(change) => Ok(self.value(change).map(Cow::into_owned)),
            None => self.store.get(&own(key)),
        }
    }

    fn look(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, RowError> {
        match self.changed.get(key) {
            Some(change) => Ok(self.value(change)),
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

fn is_a<T: Held>(held: &dyn Held) -> bool {
    let held: &dyn Any = held;
    held.is::<T>()
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

    /// How often something happened.
    struct Count(u8);

    impl Held for Count {
        fn from_row(row: &[u8]) -> Result<Self, RowError> {
            let damaged = || RowError::Damaged("no count".to_owned());
            row.first().map(|count| Self(*count)).ok_or_else(damaged)
        }

        fn to_row(&self) -> Vec<u8> {
            vec![self.0]
        }
    }

    fn count(rows: &mut Rows<'_>, key: u8) {
        rows.hold(&[key], || Count(0)).unwrap().0 += 1;
    }

    #[test]
    fn what_is_held_is_read_as_if_it_were_written() {
        let mut store = MemoryStore::default();
        let stored = Changes::from([(own(&[1]), Some(vec![10])), (own(&[5]), Some(Vec::new()))]);
        store.commit(stored).unwrap();
        let mut rows = Rows::over(&store);
        for key in [1, 2, 1, 3, 4] {
            count(&mut rows, key);
        }
        assert_eq!(rows.get(&[1]).unwrap(), Some(vec![12]));
        assert_eq!(rows.look(&[2]).unwrap().as_deref(), Some(&[1][..]));
        assert_eq!(keys(rows.range(vec![0]..vec![5])), [1, 2, 3, 4]);
        let values = rows.range_rev(vec![0]..vec![3]);
        let values: Vec<_> = values.map(|row| row.unwrap().value).collect();
        assert_eq!(values, [[1], [12]]);
        // What is deleted begins again, what is written is counted on from.
        rows.delete([1]);
        assert_eq!(rows.get(&[1]).unwrap(), None);
        count(&mut rows, 1);
        rows.put([2], [7]);
        count(&mut rows, 2);
        rows.edit(&[3], Vec::new).unwrap()[0] += 1;
        count(&mut rows, 3);
        rows.delete([4]);
        assert!(rows.hold(&[5], || Count(0)).is_err());
        let changes = rows.into_changes();
        store.commit(changes).unwrap();
        let rows = StoredRows(&store);
        let values = [1, 2, 3, 4].map(|key| rows.get(&[key]).unwrap());
        assert_eq!(values, [Some(vec![1]), Some(vec![8]), Some(vec![3]), None]);
    }
}
