//! Storage in memory that loses what a crash would lose, and fails when told.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    log::{Row, SegmentStore, Storage, StorageError, Visit},
    model::Position,
};

type Map = BTreeMap<Vec<u8>, Bytes>;

/// Segments in memory. Clones are one storage, so a test keeps one and gives the log another.
///
/// ```
/// use std::sync::Arc;
/// use hooklog::{log::{EventLog, LogOptions}, testing::MemoryStorage};
/// let storage = MemoryStorage::new();
/// let log = EventLog::open_with(Arc::new(storage.clone()), LogOptions::default())?;
/// log.close();
/// storage.crash();
/// let log = EventLog::open_with(Arc::new(storage), LogOptions::default())?;
/// # Ok::<(), hooklog::log::OpenError>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    /// Told when syncs are not held any more.
    released: Arc<Condvar>,
}

/// Called with the segment that is about to be opened.
type OnOpen = Arc<dyn Fn(Position) + Send + Sync>;

#[derive(Default)]
struct Disk {
    segments: BTreeMap<Position, Segment>,
    /// Stores that were handed out before the last crash write to nothing.
    age: u64,
    fail_syncs: u32,
    fill_at_syncs: u32,
    /// Syncs that succeed before those.
    syncs_before_full: u32,
    fail_applies: u32,
    fail_creates: u32,
    fail_removes: u32,
    full: bool,
    syncs_held: bool,
    syncs_waiting: u32,
    bytes_free: Option<u64>,
    syncs: u64,
    broken: Vec<Position>,
    /// Survives every crash: what was written to it may have reached the disk at any time.
    head: Vec<u8>,
    on_open: Option<OnOpen>,
}

impl Disk {
    const fn is_filled_by_sync(&mut self) -> bool {
        self.fill_at_syncs > 0
            && !count_down(&mut self.syncs_before_full)
            && count_down(&mut self.fill_at_syncs)
    }
}

#[derive(Default)]
struct Segment {
    live: Map,
    synced: Map,
    /// Applied since the last sync, in order; the first `flushed` of them were flushed.
    unsynced: Vec<Vec<Row>>,
    flushed: usize,
}

fn put(map: &mut Map, rows: &[Row]) {
    for row in rows {
        match &row.value {
            Some(value) => map.insert(row.key.clone(), Bytes::copy_from_slice(value)),
            None => map.remove(&row.key),
        };
    }
}

fn path() -> PathBuf {
    PathBuf::from("(memory)")
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power is lost: what was not synced is gone. Stores that are still held are cut off.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Power is lost, but of each segment the first `batches` that were applied since its last
    /// sync happen to have reached the disk.
    pub fn crash_keeping(&self, batches: usize) {
        self.end_process(|_| batches);
    }

    /// The process is killed: what was neither flushed nor synced is gone.
    pub fn kill(&self) {
        self.end_process(|segment| segment.flushed);
    }

    fn end_process(&self, kept: impl Fn(&Segment) -> usize) {
        let mut disk = self.disk();
        disk.age += 1;
        for segment in disk.segments.values_mut() {
            let kept = kept(segment);
            for rows in segment.unsynced.drain(..).take(kept) {
                put(&mut segment.synced, &rows);
            }
            segment.flushed = 0;
            segment.live = segment.synced.clone();
        }
    }

    /// The next `count` syncs fail, and what they should have synced never will be, as a disk that
    /// dropped its dirty pages. Syncs after them say that they succeed.
    pub fn fail_syncs(&self, count: u32) {
        self.disk().fail_syncs = count;
    }

    /// Syncs wait from now on, as at a disk that is far behind.
    pub fn hold_syncs(&self) {
        self.disk().syncs_held = true;
    }

    /// Syncs that wait go on.
    pub fn release_syncs(&self) {
        self.disk().syncs_held = false;
        self.released.notify_all();
    }

    /// How many syncs wait now: what asked for them is written and not answered.
    pub fn syncs_waiting(&self) -> u32 {
        self.disk().syncs_waiting
    }

    fn wait_while_syncs_are_held(&self) {
        let mut disk = self.disk();
        disk.syncs_waiting += 1;
        let waited = self.released.wait_while(disk, |disk| disk.syncs_held);
        waited.unwrap_or_else(PoisonError::into_inner).syncs_waiting -= 1;
    }

    /// The next `count` syncs find the disk full, once what they sync is written.
    pub fn fill_at_syncs(&self, count: u32) {
        let mut disk = self.disk();
        (disk.fill_at_syncs, disk.syncs_before_full) = (count, 0);
    }

    /// After so many syncs one finds the disk full, once what it syncs is written.
    pub fn fill_after_syncs(&self, syncs: u32) {
        let mut disk = self.disk();
        (disk.fill_at_syncs, disk.syncs_before_full) = (1, syncs);
    }

    /// The next `count` batches are refused with an input/output error.
    pub fn fail_applies(&self, count: u32) {
        self.disk().fail_applies = count;
    }

    /// Lets the next `count` removals of a segment fail.
    pub fn fail_removes(&self, count: u32) {
        self.disk().fail_removes = count;
    }

    /// The next `count` segments are made and cannot be opened, as with too many open files.
    pub fn fail_creates(&self, count: u32) {
        self.disk().fail_creates = count;
    }

    /// Whether every write finds the disk full.
    pub fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    /// What it says of its free bytes.
    pub fn set_bytes_free(&self, bytes: Option<u64>) {
        self.disk().bytes_free = bytes;
    }

    /// How many syncs have succeeded.
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Calls this whenever a segment is about to be opened, on the thread that opens it.
    pub fn on_open(&self, hook: impl Fn(Position) + Send + Sync + 'static) {
        self.disk().on_open = Some(Arc::new(hook));
    }

    /// Replaces the whole `HEAD` file behind the log's back; empty removes it.
    pub fn overwrite_head(&self, bytes: Vec<u8>) {
        self.disk().head = bytes;
    }

    /// A segment that cannot be opened from now on, like a sled store with a damaged head.
    pub fn break_segment(&self, first: Position) {
        self.disk().broken.push(first);
    }

    /// Every row of a segment.
    pub fn rows(&self, first: Position) -> Vec<(Vec<u8>, Vec<u8>)> {
        let disk = self.disk();
        let rows = disk.segments.get(&first).into_iter();
        rows.flat_map(|segment| &segment.live)
            .map(|(key, value)| (key.clone(), value.to_vec()))
            .collect()
    }

    /// Puts a value under a key behind the log's back, or removes it, durably.
    pub fn overwrite(&self, first: Position, key: &[u8], value: Option<Vec<u8>>) {
        let row = Row {
            key: key.to_vec(),
            value,
        };
        if let Some(segment) = self.disk().segments.get_mut(&first) {
            put(&mut segment.live, std::slice::from_ref(&row));
            put(&mut segment.synced, &[row]);
        }
    }
}

impl std::fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStorage").finish_non_exhaustive()
    }
}

impl Storage for MemoryStorage {
    fn segments(&self) -> Result<Vec<Position>, StorageError> {
        Ok(self.disk().segments.keys().copied().collect())
    }

    fn create(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError> {
        let mut disk = self.disk();
        if disk.full {
            return Err(StorageError::Full { path: path() });
        }
        if disk.segments.contains_key(&first) {
            let exists = io::ErrorKind::AlreadyExists.into();
            return Err(StorageError::io(path(), exists));
        }
        disk.segments.insert(first, Segment::default());
        if count_down(&mut disk.fail_creates) {
            let error = io::Error::other("failed as the test asked");
            return Err(StorageError::io(path(), error));
        }
        drop(disk);
        self.open(first)
    }

    fn open(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError> {
        let hook = self.disk().on_open.clone();
        if let Some(hook) = hook {
            hook(first);
        }
        let disk = self.disk();
        if disk.broken.contains(&first) {
            return Err(StorageError::corrupt(
                format!("segment {first}"),
                "it was broken by the test",
            ));
        }
        if !disk.segments.contains_key(&first) {
            return Err(StorageError::io(path(), io::ErrorKind::NotFound.into()));
        }
        Ok(Arc::new(MemorySegment {
            storage: self.clone(),
            first,
            age: disk.age,
        }))
    }

    fn remove(&self, first: Position) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if count_down(&mut disk.fail_removes) {
            let error = io::Error::other("failed as the test asked");
            return Err(StorageError::io(path(), error));
        }
        disk.segments.remove(&first);
        Ok(())
    }

    fn bytes_on_disk(&self, first: Position) -> Result<u64, StorageError> {
        let rows = self.rows(first);
        let bytes = rows.iter().map(|(key, value)| key.len() + value.len());
        Ok(bytes.sum::<usize>() as u64)
    }

    fn read_head(&self) -> Result<Vec<u8>, StorageError> {
        Ok(self.disk().head.clone())
    }

    fn write_head(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.disk();
        let at = usize::try_from(at).expect("the file is small");
        let end = (at + bytes.len()).max(disk.head.len());
        disk.head.resize(end, 0);
        disk.head[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_head(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn bytes_free(&self) -> Option<u64> {
        self.disk().bytes_free
    }
}

struct MemorySegment {
    storage: MemoryStorage,
    first: Position,
    age: u64,
}

impl MemorySegment {
    fn run<T>(
        &self,
        work: impl FnOnce(&mut Segment) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut disk = self.storage.disk();
        if disk.age != self.age {
            return Err(StorageError::Poisoned);
        }
        match disk.segments.get_mut(&self.first) {
            Some(segment) => work(segment),
            None => Err(StorageError::io(path(), io::ErrorKind::NotFound.into())),
        }
    }

    fn refuse_write(&self, fails: impl FnOnce(&mut Disk) -> bool) -> Result<(), StorageError> {
        let mut disk = self.storage.disk();
        if fails(&mut disk) {
            return Err(StorageError::io(
                path(),
                io::Error::other("failed as the test asked"),
            ));
        }
        if disk.full {
            return Err(StorageError::Full { path: path() });
        }
        Ok(())
    }
}

impl SegmentStore for MemorySegment {
    fn apply(&self, rows: Vec<Row>) -> Result<(), StorageError> {
        self.refuse_write(|disk| count_down(&mut disk.fail_applies))?;
        self.run(|segment| {
            put(&mut segment.live, &rows);
            segment.unsynced.push(rows);
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.run(|segment| {
            segment.flushed = segment.unsynced.len();
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.storage.wait_while_syncs_are_held();
        if self.storage.disk().is_filled_by_sync() {
            return Err(StorageError::Full { path: path() });
        }
        let refused = self.refuse_write(|disk| count_down(&mut disk.fail_syncs));
        if matches!(refused, Err(StorageError::Full { .. })) {
            return refused;
        }
        self.run(|segment| {
            let rows = std::mem::take(&mut segment.unsynced);
            segment.flushed = 0;
            if refused.is_ok() {
                for batch in &rows {
                    put(&mut segment.synced, batch);
                }
            }
            Ok(())
        })?;
        refused?;
        self.storage.disk().syncs += 1;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.run(|segment| Ok(segment.live.get(key).cloned()))
    }

    fn last_at_or_before(&self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StorageError> {
        self.run(|segment| {
            let range = (Bound::Unbounded, Bound::Included(key));
            let found = segment.live.range::<[u8], _>(range).next_back();
            Ok(found.map(|(key, value)| (Bytes::copy_from_slice(key), value.clone())))
        })
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let range = (Bound::Included(from), Bound::Excluded(until));
        let rows: Vec<_> = self.run(|segment| {
            let rows = segment.live.range::<[u8], _>(range);
            Ok(rows.map(|(k, v)| (k.clone(), v.clone())).collect())
        })?;
        for (key, value) in rows {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

const fn count_down(count: &mut u32) -> bool {
    let left = *count > 0;
    *count = count.saturating_sub(1);
    left
}
