//! Snapshots: a cache of recovered state beside the log. Losing one costs time and nothing else, so
//! whatever looks wrong is thrown away.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::Position;

use super::{
    SegmentStore, StorageError,
    codec::Cursor,
    segment::{sealed, unsealed},
    sled_storage::SledSegment,
    storage::Row,
};

const SNAPSHOT_FORMAT: u8 = 1;
const SNAPSHOT_DIRECTORY: &str = "snapshots";
/// A few rows at a time are touched; no cache is needed to speak of.
const CACHE_BYTES: u64 = 4 << 20;

const SUMMARY_KEY: &[u8] = b"m";
const ROWS: u8 = b'r';

/// Keys and values of a snapshot.
pub type SnapshotRows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows of recovered state, all as of one position.
///
/// Rows and position change in one step and are believed only together: a checksum for each row,
/// and one over all of them. The caller has to compare the position with the head of the log, and
/// to [`discard`](Self::discard) what it does not believe before it saves again.
#[derive(Clone)]
pub struct SnapshotStore {
    store: Arc<dyn SegmentStore>,
    saving: Arc<Mutex<()>>,
}

/// What a snapshot says of all its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Summary {
    position: Position,
    count: u64,
    /// The sum of the rows' hashes: it changes with each row, whatever their order.
    digest: u128,
}

impl SnapshotStore {
    /// Opens the snapshots of a data directory that is held by an open log. A damaged store is
    /// removed and begun anew. Blocks.
    pub fn open(data: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = data.as_ref().join(SNAPSHOT_DIRECTORY);
        let store = match SledSegment::open(&path, CACHE_BYTES) {
            Err(StorageError::Corrupt { what, reason }) => {
                tracing::warn!(%what, %reason, "damaged snapshots are removed");
                fs::remove_dir_all(&path).map_err(|error| StorageError::io(&path, error))?;
                SledSegment::open(&path, CACHE_BYTES)?
            }
            other => other?,
        };
        Ok(Self::open_with(Arc::new(store)))
    }

    /// Snapshots in this store.
    pub fn open_with(store: Arc<dyn SegmentStore>) -> Self {
        Self {
            store,
            saving: Arc::default(),
        }
    }

    /// Saves the rows that changed since the last save, as of `position`, in one step. An empty
    /// value removes its row. Durable when this returns. Blocks.
    ///
    /// When what is there is damaged all of it is discarded and this fails: the changed rows alone
    /// make no snapshot.
    pub fn save(&self, position: Position, changed: SnapshotRows) -> Result<(), StorageError> {
        let _saving = self.lock();
        let saved = self.change(position, changed);
        if matches!(saved, Err(StorageError::Corrupt { .. })) {
            self.clear()?;
        }
        saved
    }

    /// The rows and their position; `None` when there is no snapshot, or none to be believed, in
    /// which case it is discarded. Blocks.
    pub fn load(&self) -> Result<Option<(Position, SnapshotRows)>, StorageError> {
        let _saving = self.lock();
        match self.read() {
            Ok(snapshot) => Ok(snapshot),
            Err(StorageError::Corrupt { what, reason }) => {
                tracing::warn!(%what, %reason, "a damaged snapshot is discarded");
                self.clear()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// One row, and the position that the snapshot is of; `None` when there is no such row, or it
    /// is damaged. Blocks.
    pub fn row(&self, key: &[u8]) -> Result<Option<(Position, Vec<u8>)>, StorageError> {
        let _saving = self.lock();
        let Some(summary) = self.summary()? else {
            return Ok(None);
        };
        let row = self.store.get(&[&[ROWS], key].concat())?;
        let row = row.as_deref().and_then(unsealed);
        Ok(row.map(|row| (summary.position, row.to_vec())))
    }

    /// Removes every row. Blocks.
    pub fn discard(&self) -> Result<(), StorageError> {
        let _saving = self.lock();
        self.clear()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, position: Position, changed: SnapshotRows) -> Result<(), StorageError> {
        let mut summary = self.summary()?.unwrap_or_default();
        summary.position = position;
        // The last value of a key that comes twice.
        let changed: BTreeMap<_, _> = changed.into_iter().collect();
        let mut rows = Vec::with_capacity(changed.len() + 1);
        for (key, value) in changed {
            let row_key = [&[ROWS], key.as_slice()].concat();
            if let Some(old) = self.store.get(&row_key)? {
                let old = unsealed(&old).ok_or_else(damaged_row)?;
                summary.remove(&key, old);
            }
            if value.is_empty() {
                rows.push(Row::remove(row_key));
            } else {
                summary.add(&key, &value);
                rows.push(Row::put(row_key, sealed(value)));
            }
        }
        rows.push(Row::put(SUMMARY_KEY.to_vec(), summary.to_row()));
        self.store.apply(rows)?;
        self.store.sync()
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        let Some(value) = self.store.get(SUMMARY_KEY)? else {
            return Ok(None);
        };
        let summary = unsealed(&value).and_then(Summary::from_row);
        let damaged = || StorageError::corrupt("the summary of a snapshot", "it makes no sense");
        summary.map(Some).ok_or_else(damaged)
    }

    fn read(&self) -> Result<Option<(Position, SnapshotRows)>, StorageError> {
        let Some(summary) = self.summary()? else {
            return Ok(None);
        };
        let mut found = Summary {
            position: summary.position,
            ..Summary::default()
        };
        let mut rows = Vec::new();
        let mut damaged = false;
        self.store.scan(&[ROWS], &[ROWS + 1], &mut |key, value| {
            let Some(value) = unsealed(value) else {
                damaged = true;
                return ControlFlow::Break(());
            };
            found.add(&key[1..], value);
            rows.push((key[1..].to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        if damaged {
            return Err(damaged_row());
        }
        if found != summary {
            return Err(StorageError::corrupt(
                "a snapshot",
                "its rows are not those that were saved",
            ));
        }
        Ok(Some((summary.position, rows)))
    }

    fn clear(&self) -> Result<(), StorageError> {
        let mut rows = vec![Row::remove(SUMMARY_KEY.to_vec())];
        self.store.scan(&[ROWS], &[ROWS + 1], &mut |key, _| {
            rows.push(Row::remove(key.to_vec()));
            ControlFlow::Continue(())
        })?;
        self.store.apply(rows)?;
        self.store.sync()
    }
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore").finish_non_exhaustive()
    }
}

fn damaged_row() -> StorageError {
    StorageError::corrupt("a row of a snapshot", "its checksum does not hold")
}

impl Summary {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(digest(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(digest(key, value));
    }

    fn to_row(self) -> Vec<u8> {
        let mut value = vec![SNAPSHOT_FORMAT];
        value.extend_from_slice(&self.position.get().to_be_bytes());
        value.extend_from_slice(&self.count.to_be_bytes());
        value.extend_from_slice(&self.digest.to_be_bytes());
        sealed(value)
    }

    fn from_row(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(value.strip_prefix(&[SNAPSHOT_FORMAT])?);
        let summary = Self {
            position: Position::new(cursor.u64()?),
            count: cursor.u64()?,
            digest: u128::from_be_bytes(cursor.array()?),
        };
        cursor.0.is_empty().then_some(summary)
    }
}

fn digest(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(half)
}
