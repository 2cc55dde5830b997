//! Snapshots: a cache of recovered state beside the log. Losing one costs time and nothing else, so
//! whatever looks wrong is thrown away.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::kill_point::KillPoint;
use crate::model::Position;

use super::{
    EventLog, SegmentStore, StorageError,
    codec::Cursor,
    page::{NO_PAGE, PageHash},
    segment::{sealed, unsealed},
    sled_storage::SledSegment,
    storage::Row,
};

const SNAPSHOT_FORMAT: u8 = 3;
const SNAPSHOT_DIRECTORY: &str = "snapshots";
/// A few rows at a time are touched; no cache is needed to speak of.
const CACHE_BYTES: u64 = 4 << 20;

const SUMMARY_KEY: &[u8] = b"m";
const ROWS: u8 = b'r';

/// What rows that are read one by one may add up to before the store is opened afresh: it holds in
/// memory what it read, whatever it is told of its cache.
const READ_BYTES_MAX: usize = 8 << 20;

/// Keys and values of a snapshot.
pub type SnapshotRows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows of recovered state, all as of one position.
///
/// Rows and position change in one step and are believed only together: a checksum for each row,
/// one over all of them, and the hash of the page of the log that holds the position, so that the
/// snapshot of another history is not believed.
#[derive(Clone)]
pub struct SnapshotStore {
    /// Locked while it is used: saves and loads are few.
    rows: Arc<Mutex<Rows>>,
}

struct Rows {
    /// `None` after it refused a write, when it could not be opened again, and once it is closed.
    store: Option<Arc<dyn SegmentStore>>,
    /// Where it may be opened again or begun anew; `None` once it is closed.
    path: Option<PathBuf>,
    /// Bytes of rows that were read one by one since it was opened.
    read_bytes: usize,
}

/// What a snapshot says of all its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    position: Position,
    /// The hash of the page that holds it; zeros when that was not known.
    page: PageHash,
    count: u64,
    /// The sum of the rows' hashes: it changes with each row, whatever their order.
    digest: u128,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            position: Position::ZERO,
            page: NO_PAGE,
            count: 0,
            digest: 0,
        }
    }
}

impl SnapshotStore {
    /// Opens the snapshots of a data directory that is held by an open log. A damaged store is
    /// removed and begun anew. Blocks.
    pub fn open(data: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = data.as_ref().join(SNAPSHOT_DIRECTORY);
        let store = match SledSegment::open(&path, CACHE_BYTES) {
            Err(StorageError::Corrupt { what, reason }) => {
                tracing::warn!(%what, %reason, "damaged snapshots are removed");
                begin_anew(&path)?
            }
            other => other?,
        };
        Ok(Self::new(Arc::new(store), Some(path)))
    }

    /// Snapshots in this store.
    pub fn open_with(store: Arc<dyn SegmentStore>) -> Self {
        Self::new(store, None)
    }

    fn new(store: Arc<dyn SegmentStore>, path: Option<PathBuf>) -> Self {
        let store = Some(store);
        Self {
            rows: Arc::new(Mutex::new(Rows {
                store,
                path,
                read_bytes: 0,
            })),
        }
    }

    /// Closes the store: whoever still holds this finds nothing in it, and the directory may be
    /// opened again.
    pub fn close(&self) {
        let mut rows = self.rows();
        (rows.store, rows.path) = (None, None);
    }

    /// Saves the rows that changed since the snapshot as of `base`, as of `position` of this log,
    /// in one step; the base is [`Position::ZERO`] where there is none. An empty value removes its
    /// row. Durable when this returns. Blocks.
    ///
    /// When what is there is damaged or of another position, all of it is discarded and this fails:
    /// the changed rows alone make no snapshot.
    pub fn save(
        &self,
        log: &EventLog,
        base: Position,
        position: Position,
        changed: SnapshotRows,
    ) -> Result<(), StorageError> {
        let page = page_hash(log, position).unwrap_or(NO_PAGE);
        let mut rows = self.rows();
        let opened = rows.open();
        let saved = opened.and_then(|()| rows.change(base, position, page, changed));
        if matches!(saved, Err(StorageError::Corrupt { .. })) {
            rows.clear()?;
        }
        saved
    }

    /// The rows and their position; `None` when there is no snapshot, or none to be believed of
    /// this log, in which case it is discarded. Blocks.
    pub fn load(&self, log: &EventLog) -> Result<Option<(Position, SnapshotRows)>, StorageError> {
        let mut rows = self.rows();
        match rows.read_of(log) {
            Ok(snapshot) => Ok(snapshot),
            Err(StorageError::Corrupt { what, reason }) => {
                tracing::warn!(%what, %reason, "a snapshot is not believed and discarded");
                rows.clear()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The position of the snapshot, when it is of this log, whose rows may be damaged yet. Blocks.
    pub fn position(&self, log: &EventLog) -> Result<Option<Position>, StorageError> {
        let mut rows = self.rows();
        rows.open()?;
        let of_this_log = |summary: &Summary| summary.check(log).is_ok();
        match rows.summary() {
            Ok(summary) => Ok(summary.filter(of_this_log).map(|summary| summary.position)),
            Err(StorageError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One row, of whatever log the snapshot is; `None` when there is no such row. Blocks.
    pub fn saved_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut rows = self.rows();
        rows.open()?;
        let row = rows.get(key)?;
        rows.read_bytes += row.as_ref().map_or(0, Vec::len);
        if rows.read_bytes > READ_BYTES_MAX
            && let Some(summary) = rows.summary()?
        {
            rows.open_afresh(summary)?;
        }
        Ok(row)
    }

    /// One row, when the snapshot is of this log; `None` when there is no such row, or it is
    /// damaged. Blocks.
    pub fn row(&self, log: &EventLog, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut rows = self.rows();
        rows.open()?;
        let summary = rows.summary()?;
        if summary.is_none_or(|summary| summary.check(log).is_err()) {
            return Ok(None);
        }
        match rows.get(key) {
            Err(StorageError::Corrupt { .. }) => Ok(None),
            other => other,
        }
    }

    /// Removes every row where the snapshot is as of `first` or later. Blocks.
    pub fn discard_from(&self, first: Position) -> Result<(), StorageError> {
        let mut rows = self.rows();
        let summary = match rows.open().and_then(|()| rows.summary()) {
            Err(StorageError::Corrupt { .. }) => None,
            summary => summary?,
        };
        if summary.is_some_and(|summary| summary.position < first) {
            return Ok(());
        }
        rows.clear()
    }

    /// Removes every row. Blocks.
    pub fn discard(&self) -> Result<(), StorageError> {
        self.rows().clear()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash of the page that holds a position; `None` when that page cannot be read any more.
fn page_hash(log: &EventLog, position: Position) -> Option<PageHash> {
    if position == Position::ZERO {
        return None;
    }
    log.view().page_hash(position).ok()
}

fn begin_anew(path: &Path) -> Result<SledSegment, StorageError> {
    fs::remove_dir_all(path).map_err(|error| StorageError::io(path, error))?;
    SledSegment::open(path, CACHE_BYTES)
}

impl Rows {
    fn store(&self) -> Result<&dyn SegmentStore, StorageError> {
        self.store.as_deref().ok_or(StorageError::Poisoned)
    }

    /// Opens the store where it was let go of, or could not be opened again before.
    fn open(&mut self) -> Result<(), StorageError> {
        if let (None, Some(path)) = (&self.store, &self.path) {
            self.store = Some(Arc::new(SledSegment::open(path, CACHE_BYTES)?));
        }
        Ok(())
    }

    fn read_of(
        &mut self,
        log: &EventLog,
    ) -> Result<Option<(Position, SnapshotRows)>, StorageError> {
        self.open()?;
        let Some((summary, rows)) = self.read()? else {
            return Ok(None);
        };
        summary.check(log)?;
        self.open_afresh(summary)?;
        Ok(Some((summary.position, rows)))
    }

    /// Opens the store again after all of it was read: it would hold in memory for good what it
    /// read, which is a row of every subscription. What is there must still be what was read, for
    /// the rows that change are laid over it.
    fn open_afresh(&mut self, read: Summary) -> Result<(), StorageError> {
        self.read_bytes = 0;
        if self.path.is_none() {
            return Ok(());
        }
        self.store = None;
        self.open()?;
        if self.summary()? == Some(read) {
            Ok(())
        } else {
            Err(StorageError::corrupt(
                "a snapshot",
                "it is another since it was opened again",
            ))
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let row = self.store()?.get(&[&[ROWS], key].concat())?;
        let Some(row) = row else {
            return Ok(None);
        };
        let row = unsealed(&row).ok_or_else(damaged_row)?;
        Ok(Some(row.to_vec()))
    }

    fn change(
        &mut self,
        base: Position,
        position: Position,
        page: PageHash,
        changed: SnapshotRows,
    ) -> Result<(), StorageError> {
        let mut summary = self.summary()?.unwrap_or_default();
        if summary.position != base {
            return Err(StorageError::corrupt(
                "a snapshot",
                format!("it is of position {}, not {base}", summary.position),
            ));
        }
        (summary.position, summary.page) = (position, page);
        // The last value of a key that comes twice.
        let changed: BTreeMap<_, _> = changed.into_iter().collect();
        let mut rows = Vec::with_capacity(changed.len() + 1);
        for (key, value) in changed {
            if let Some(old) = self.get(&key)? {
                summary.remove(&key, &old);
            }
            let row_key = [&[ROWS], key.as_slice()].concat();
            if value.is_empty() {
                rows.push(Row::remove(row_key));
            } else {
                summary.add(&key, &value);
                rows.push(Row::put(row_key, sealed(value)));
            }
        }
        rows.push(Row::put(SUMMARY_KEY.to_vec(), summary.to_row()));
        let written = self.write(rows);
        if written.is_err() && self.path.is_some() {
            // It holds in memory what never came to the disk, and may refuse whatever comes.
            self.store = None;
        }
        written
    }

    fn write(&self, rows: Vec<Row>) -> Result<(), StorageError> {
        self.store()?.apply(rows)?;
        KillPoint::Snapshot.pass();
        self.store()?.sync()
    }

    fn summary(&self) -> Result<Option<Summary>, StorageError> {
        let Some(value) = self.store()?.get(SUMMARY_KEY)? else {
            return Ok(None);
        };
        let summary = unsealed(&value).and_then(Summary::from_row);
        let damaged = || StorageError::corrupt("the summary of a snapshot", "it makes no sense");
        summary.map(Some).ok_or_else(damaged)
    }

    fn read(&self) -> Result<Option<(Summary, SnapshotRows)>, StorageError> {
        let Some(summary) = self.summary()? else {
            return Ok(None);
        };
        let mut found = Summary {
            count: 0,
            digest: 0,
            ..summary
        };
        let mut rows = Vec::new();
        let mut damaged = false;
        self.store()?
            .scan(&[ROWS], &[ROWS + 1], &mut |key, value| {
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
        Ok(Some((summary, rows)))
    }

    /// Removes every row. A store that is too damaged for that is begun anew.
    fn clear(&mut self) -> Result<(), StorageError> {
        let cleared = self.remove_rows();
        let Some(path) = self.path.as_ref().filter(|_| cleared.is_err()) else {
            return cleared;
        };
        tracing::warn!(path = %path.display(), "damaged snapshots are removed");
        self.store = None;
        self.store = Some(Arc::new(begin_anew(path)?));
        Ok(())
    }

    fn remove_rows(&self) -> Result<(), StorageError> {
        let mut rows = vec![Row::remove(SUMMARY_KEY.to_vec())];
        self.store()?.scan(&[ROWS], &[ROWS + 1], &mut |key, _| {
            rows.push(Row::remove(key.to_vec()));
            ControlFlow::Continue(())
        })?;
        self.store()?.apply(rows)?;
        self.store()?.sync()
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
    /// Whether it is of this log.
    fn check(&self, log: &EventLog) -> Result<(), StorageError> {
        let not_of_it = |reason: &str| Err(StorageError::corrupt("a snapshot", reason));
        if self.position > log.head() {
            return not_of_it("it is ahead of the log");
        }
        let page = page_hash(log, self.position);
        if self.page != NO_PAGE && page.is_some_and(|page| page != self.page) {
            return not_of_it("it is of another log");
        }
        Ok(())
    }

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
        value.extend_from_slice(&self.page);
        value.extend_from_slice(&self.count.to_be_bytes());
        value.extend_from_slice(&self.digest.to_be_bytes());
        sealed(value)
    }

    fn from_row(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(value.strip_prefix(&[SNAPSHOT_FORMAT])?);
        let summary = Self {
            position: Position::new(cursor.u64()?),
            page: cursor.array()?,
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        log::{ExpectedVersion, StreamId, Visit, storage::Row},
        model::{ApiId, ApiStarted},
        testing::{
            MemoryStorage,
            log_conformance::{append, options},
        },
    };

    /// Opens, and fails whatever it is asked for.
    struct Unreadable;

    fn damaged<T>() -> Result<T, StorageError> {
        Err(StorageError::corrupt("a store", "the store panicked"))
    }

    impl SegmentStore for Unreadable {
        fn apply(&self, _: Vec<Row>) -> Result<(), StorageError> {
            damaged()
        }

        fn flush(&self) -> Result<(), StorageError> {
            damaged()
        }

        fn sync(&self) -> Result<(), StorageError> {
            damaged()
        }

        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, StorageError> {
            damaged()
        }

        fn last_at_or_before(&self, _: &[u8]) -> Result<Option<(Bytes, Bytes)>, StorageError> {
            damaged()
        }

        fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<(), StorageError> {
            damaged()
        }
    }

    #[test]
    fn a_store_that_opens_and_can_be_neither_read_nor_cleared_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SNAPSHOT_DIRECTORY);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("conf"), "damaged").unwrap();
        let snapshots = SnapshotStore::new(Arc::new(Unreadable), Some(path));
        let storage = Arc::new(MemoryStorage::new());
        let log = EventLog::open_with(storage, options(1 << 20)).unwrap();
        assert_eq!(snapshots.load(&log).unwrap(), None);
        let rows = vec![(b"a".to_vec(), b"1".to_vec())];
        let nothing = Position::ZERO;
        snapshots
            .save(&log, nothing, nothing, rows.clone())
            .unwrap();
        let loaded = snapshots.load(&log).unwrap();
        assert_eq!(loaded, Some((Position::ZERO, rows)));
    }

    /// A disk that refuses: what it was given so far is read in memory.
    struct Refusing {
        disk: Arc<dyn SegmentStore>,
        taken_rows: usize,
        taken: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    }

    impl Refusing {
        fn refused<T>() -> Result<T, StorageError> {
            let path = PathBuf::from("snapshots");
            Err(StorageError::Full { path })
        }
    }

    impl SegmentStore for Refusing {
        fn apply(&self, rows: Vec<Row>) -> Result<(), StorageError> {
            let is_more = rows.len() > self.taken_rows;
            let rows = rows.into_iter().take(self.taken_rows);
            let mut taken = self.taken.lock().unwrap();
            taken.extend(rows.map(|row| (row.key, row.value)));
            if is_more {
                return Self::refused();
            }
            Ok(())
        }

        fn flush(&self) -> Result<(), StorageError> {
            Self::refused()
        }

        fn sync(&self) -> Result<(), StorageError> {
            Self::refused()
        }

        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
            match self.taken.lock().unwrap().get(key) {
                Some(value) => Ok(value.clone().map(Bytes::from)),
                None => self.disk.get(key),
            }
        }

        fn last_at_or_before(&self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StorageError> {
            self.disk.last_at_or_before(key)
        }

        fn scan(
            &self,
            from: &[u8],
            until: &[u8],
            visit: &mut Visit<'_>,
        ) -> Result<(), StorageError> {
            self.disk.scan(from, until, visit)
        }
    }

    fn log_of_two_events() -> EventLog {
        let log = EventLog::open_with(Arc::new(MemoryStorage::new()), options(1 << 20)).unwrap();
        let stream = StreamId::api(ApiId::from_uuid(uuid::Uuid::from_u128(1)));
        for _ in 0..2 {
            let events = vec![ApiStarted {}.into()];
            append(&log, stream, ExpectedVersion::Any, events).unwrap();
        }
        log
    }

    #[test]
    fn after_a_refused_save_what_is_on_disk_is_believed_and_saved_over() {
        let log = log_of_two_events();
        let [first, second] = [1, 2].map(Position::new);
        let rows = |value: &[u8]| {
            let keys = [b"a", b"b"].into_iter();
            keys.map(|key| (key.to_vec(), value.to_vec())).collect()
        };
        // In the middle of the rows, and once all were taken and none were synced.
        for taken_rows in [1, 3] {
            let data = tempfile::tempdir().unwrap();
            let snapshots = SnapshotStore::open(data.path()).unwrap();
            let save = |base, position, value| snapshots.save(&log, base, position, rows(value));
            save(Position::ZERO, first, b"1").unwrap();
            let refuse = || {
                let mut rows = snapshots.rows();
                let disk = rows.store.take().unwrap();
                rows.store = Some(Arc::new(Refusing {
                    disk,
                    taken_rows,
                    taken: Mutex::default(),
                }));
            };
            let refused = |saved| assert!(matches!(saved, Err(StorageError::Full { .. })));

            refuse();
            refused(save(first, second, b"2"));
            let saved = snapshots.saved_row(b"a").unwrap();
            assert_eq!(saved.as_deref(), Some(&b"1"[..]));
            refuse();
            refused(save(first, second, b"2"));
            assert_eq!(snapshots.position(&log).unwrap(), Some(first));
            refuse();
            refused(save(first, second, b"2"));
            let row = snapshots.row(&log, b"b").unwrap();
            assert_eq!(row.as_deref(), Some(&b"1"[..]));
            refuse();
            refused(save(first, second, b"2"));
            save(first, second, b"3").unwrap();
            assert_eq!(snapshots.load(&log).unwrap(), Some((second, rows(b"3"))));
        }
    }

    #[test]
    fn a_snapshot_whose_large_nodes_are_gone_or_cut_off_is_begun_anew() {
        let log = log_of_two_events();
        let large = |number: u8| {
            let value = (0..96 << 10).map(|at: u32| at.to_le_bytes()[usize::from(number % 2)]);
            (vec![number], value.collect())
        };
        let rows: SnapshotRows = (0..20).map(large).collect();
        let [first, second] = [1, 2].map(Position::new);
        let spoil: [fn(&Path); 2] = [
            |blob| fs::remove_file(blob).unwrap(),
            |blob| fs::write(blob, "").unwrap(),
        ];
        for spoil in spoil {
            let data = tempfile::tempdir().unwrap();
            let snapshots = SnapshotStore::open(data.path()).unwrap();
            let none = Position::ZERO;
            snapshots.save(&log, none, first, rows.clone()).unwrap();
            snapshots.close();
            // From then on it opens without a look into most of them.
            for _ in 0..2 {
                SnapshotStore::open(data.path()).unwrap().close();
            }
            let blobs = data.path().join(SNAPSHOT_DIRECTORY).join("blobs");
            let blobs: Vec<_> = fs::read_dir(blobs).unwrap().collect();
            assert!(!blobs.is_empty());
            for blob in blobs {
                spoil(&blob.unwrap().path());
            }
            let snapshots = SnapshotStore::open(data.path()).unwrap();
            assert_eq!(snapshots.load(&log).unwrap(), None);
            snapshots.save(&log, none, second, rows.clone()).unwrap();
            let loaded = snapshots.load(&log).unwrap();
            assert_eq!(loaded, Some((second, rows.clone())));
        }
    }
}
