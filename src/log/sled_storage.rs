//! The storage over sled: one store a segment, in `log/<first position>/` of the data directory.
//!
//! Nothing else of the log imports sled, and its traps are met here: its flush does not reach the
//! disk, its background flusher hides errors, its default cache is 1 GiB, and opening or reading a
//! damaged store may panic.

use std::{
    collections::HashSet,
    ffi::{CString, OsStr},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileExt, PermissionsExt},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;

use crate::kill_point::KillPoint;
use crate::model::Position;

use super::{
    OpenError, SegmentStore, Storage, StorageError, sled_flush,
    storage::{Row, Visit},
};

/// The format of the data directory that this program writes.
const DIRECTORY_FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_MAGIC: &str = "hooklog data directory, format ";
const LOCK_FILE: &str = "LOCK";
const LOG_DIRECTORY: &str = "log";
const HEAD_FILE: &str = "HEAD";
/// A copy that is being made, that was made before its segment was opened, and that is kept because
/// opening found damage.
const COPYING: &str = "copying";
const FOUND: &str = "found";
const DAMAGED: &str = "damaged";
/// A file in the directory of a segment that is being made: as long as it is there, nothing was
/// written to the segment.
const BEGINNING: &str = "beginning";
/// A segment that could not be read and was given up.
const GIVEN_UP: &str = "given-up";
/// A segment whose removal is under way.
const REMOVED: &str = "removed";

/// Digits of a segment's name: enough for every position.
const NAME_DIGITS: usize = 20;
/// A closed sled store lets go of its file from another thread, a little later. Our own lock says
/// that nobody else has it, so it is waited for: 5 s in all.
const REOPEN_WAITS: u32 = 1_000;
const REOPEN_WAIT: Duration = Duration::from_millis(5);
/// A process that begins another shares its locks with it until that one is a program of its own.
/// So the lock of one that was killed may be held a moment longer: 100 ms in all.
const LOCK_WAITS: u32 = 20;

/// The segments of a data directory. It is locked until this is released or dropped.
pub struct DirectoryStorage {
    data: PathBuf,
    log: PathBuf,
    cache_bytes: u64,
    /// `None` once it is let go of, and for readers of a directory that was never locked.
    lock: Mutex<Option<Held>>,
    head: Mutex<Option<File>>,
    /// Whether segments are opened in copies, so that nothing of the directory is altered.
    in_copies: bool,
}

impl DirectoryStorage {
    /// Takes a data directory; makes it when its parent exists, for its owner alone. Segments may use
    /// `cache_bytes` of memory each.
    pub fn open(data: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        // What is below it is as safe as it is: the store makes files that all may read.
        match fs::DirBuilder::new().mode(0o700).create(data) {
            Ok(()) => sync_parent(data),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                warn_when_open_to_others(data);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = data.parent().unwrap_or(data).to_owned();
                return Err(OpenError::Missing { path });
            }
            Err(error) => return Err(StorageError::io(data, error).into()),
        }
        let is_new = !check_format(data)?;
        if is_new {
            check_empty(data)?;
        }
        let lock = lock(data)?;
        if is_new {
            write_format(data)?;
        }
        let log = data.join(LOG_DIRECTORY);
        if !log.is_dir() {
            fs::create_dir(&log).map_err(|error| StorageError::io(&log, error))?;
            sync_directory(data)?;
        }
        remove_leftovers(&log).map_err(|error| StorageError::io(&log, error))?;
        Ok(Self::new(data, log, cache_bytes, Some(lock)))
    }

    /// Takes a data directory that must be there, to read it: segments are copied to a temporary
    /// directory and opened there, because opening one may write to it.
    pub fn open_existing(data: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        if !data.exists() {
            return Err(OpenError::Missing {
                path: data.to_owned(),
            });
        }
        if !check_format(data)? {
            return Err(foreign(data, "it has no FORMAT file"));
        }
        let log = data.join(LOG_DIRECTORY);
        Ok(Self {
            in_copies: true,
            ..Self::new(data, log, cache_bytes, lock_existing(data)?)
        })
    }

    fn new(data: &Path, log: PathBuf, cache_bytes: u64, lock: Option<Held>) -> Self {
        Self {
            data: data.to_owned(),
            log,
            cache_bytes,
            lock: Mutex::new(lock),
            head: Mutex::new(None),
            in_copies: false,
        }
    }

    fn with_head<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> Result<T, StorageError> {
        let path = self.data.join(HEAD_FILE);
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match head.take() {
            Some(file) => Ok(file),
            None => OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path),
        };
        let worked = file.and_then(|file| work(head.insert(file)));
        worked.map_err(|error| StorageError::io(path, error))
    }

    fn directory(&self, first: Position) -> PathBuf {
        self.log.join(format!("{:0NAME_DIGITS$}", first.get()))
    }

    fn cache_bytes(&self, first: Position) -> Result<u64, StorageError> {
        let newest = self.segments()?.last().is_none_or(|last| *last <= first);
        Ok(if newest {
            self.cache_bytes
        } else {
            self.cache_bytes / 4
        })
    }
}

fn foreign(data: &Path, reason: impl Into<String>) -> OpenError {
    OpenError::Foreign {
        path: data.to_owned(),
        reason: reason.into(),
    }
}

/// Whether the directory says that it is one of ours, in a format that is known.
fn check_format(data: &Path) -> Result<bool, OpenError> {
    if !data.is_dir() {
        return Err(foreign(data, "it is not a directory"));
    }
    let path = data.join(FORMAT_FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StorageError::io(path, error).into()),
    };
    let found = text
        .strip_prefix(FORMAT_MAGIC)
        .and_then(|number| number.trim_end().parse::<u32>().ok())
        .ok_or_else(|| foreign(data, "its FORMAT file is not one of hooklog"))?;
    if found > DIRECTORY_FORMAT {
        return Err(OpenError::Storage(StorageError::FormatTooNew {
            path,
            found,
            newest: DIRECTORY_FORMAT,
        }));
    }
    Ok(true)
}

/// Refuses a directory that holds something of others.
fn check_empty(data: &Path) -> Result<(), OpenError> {
    let entries = fs::read_dir(data).map_err(|error| StorageError::io(data, error))?;
    for entry in entries {
        let name = entry
            .map_err(|error| StorageError::io(data, error))?
            .file_name();
        // What an interrupted first opening leaves.
        if name != LOCK_FILE && name != "FORMAT.new" {
            return Err(foreign(
                data,
                format!("it has no FORMAT file and holds {}", name.display()),
            ));
        }
    }
    Ok(())
}

fn write_format(data: &Path) -> Result<(), StorageError> {
    let (path, new) = (data.join(FORMAT_FILE), data.join("FORMAT.new"));
    let write = || {
        fs::write(&new, format!("{FORMAT_MAGIC}{DIRECTORY_FORMAT}\n"))?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|error| StorageError::io(&path, error))?;
    sync_directory(data)
}

/// A lock, which ends with this. Closing the file is not enough: a process that this one has just
/// begun, and that is not a program of its own yet, has it open too.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be let go of goes with the last who has the file open.
        let _ = self.0.unlock();
    }
}

fn lock(data: &Path) -> Result<Held, StorageError> {
    let path = data.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    hold(data, file.map_err(|error| StorageError::io(&path, error))?)
}

/// Keeps writers out without making a file; where there is none, no log was ever open here.
fn lock_existing(data: &Path) -> Result<Option<Held>, StorageError> {
    let path = data.join(LOCK_FILE);
    match File::open(&path) {
        Ok(file) => hold(data, file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(path, error)),
    }
}

fn hold(data: &Path, file: File) -> Result<Held, StorageError> {
    for _ in 0..LOCK_WAITS {
        match file.try_lock() {
            Ok(()) => return Ok(Held(file)),
            Err(TryLockError::WouldBlock) => thread::park_timeout(REOPEN_WAIT),
            Err(TryLockError::Error(error)) => {
                return Err(StorageError::io(data.join(LOCK_FILE), error));
            }
        }
    }
    Err(StorageError::Locked {
        path: data.to_owned(),
    })
}

fn warn_when_open_to_others(data: &Path) {
    let metadata = fs::metadata(data);
    if metadata.is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o077 != 0) {
        tracing::warn!(
            path = %data.display(),
            "the data directory is open to other users, who can read messages there; close it with \
             `chmod 700`"
        );
    }
}

/// Makes a directory that was made durable under its name. Where the directory above cannot be
/// opened, which is no reason not to begin, the file system does so in its own time.
fn sync_parent(path: &Path) {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Err(error) = sync_directory(above.unwrap_or(Path::new("."))) {
        tracing::warn!(%error, "the new data directory may not survive a loss of power yet");
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let directory = File::open(path).map_err(|error| StorageError::io(path, error))?;
    let synced = directory.sync_all();
    synced.map_err(|error| sync_failed(path, error))
}

impl Storage for DirectoryStorage {
    fn segments(&self) -> Result<Vec<Position>, StorageError> {
        let entries = match fs::read_dir(&self.log) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError::io(&self.log, error)),
        };
        let mut firsts = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| StorageError::io(&self.log, error))?;
            let name = entry.file_name();
            let digits = name.to_str().filter(|name| name.len() == NAME_DIGITS);
            if let Some(Ok(first)) = digits.map(str::parse::<u64>)
                && !entry.path().join(BEGINNING).exists()
            {
                firsts.push(Position::new(first));
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    fn create(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError> {
        let directory = self.directory(first);
        let mark = directory.join(BEGINNING);
        if mark.exists() {
            // It was begun before, and neither made nor removed.
            remove_at_once(&directory).map_err(|error| StorageError::io(&directory, error))?;
        }
        // The store makes its files one by one. A crash in between leaves what cannot be opened,
        // and is no damage. So the directory never stands under its name without its mark.
        let marked = || {
            let making = directory.with_extension(COPYING);
            remove_directory(&making)?;
            fs::create_dir(&making)?;
            File::create(making.join(BEGINNING))?;
            File::open(&making)?.sync_all()?;
            if directory.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(&making, &directory)
        };
        marked().map_err(|error| StorageError::io(&directory, error))?;
        sync_directory(&self.log)?;
        let segment = SledSegment::open(&directory, self.cache_bytes)?;
        KillPoint::Segment.pass();
        segment.sync()?;
        // The store itself never syncs it, and without it the segment cannot be opened.
        let configuration = directory.join("conf");
        let synced = File::open(&configuration).and_then(|file| file.sync_all());
        synced.map_err(|error| sync_failed(&configuration, error))?;
        sync_directory(&directory)?;
        fs::remove_file(&mark).map_err(|error| StorageError::io(&mark, error))?;
        sync_directory(&directory)?;
        Ok(Arc::new(segment))
    }

    fn open(&self, first: Position) -> Result<Arc<dyn SegmentStore>, StorageError> {
        let directory = self.directory(first);
        // sled would make a new, empty store there.
        if !directory.join("db").is_file() {
            let files = directory.read_dir();
            let files = files.map_err(|error| StorageError::io(&directory, error))?;
            if files.count() > 0 {
                return Err(StorageError::corrupt(
                    directory.display().to_string(),
                    "its db file is missing",
                ));
            }
        }
        let cache_bytes = self.cache_bytes(first)?;
        if self.in_copies {
            let copy = ScratchDirectory::new()?;
            copy_directory(&directory, &copy.0)
                .map_err(|error| StorageError::io(&directory, error))?;
            let mut segment = SledSegment::open(&copy.0, cache_bytes)?;
            segment.copy = Some(copy);
            return Ok(Arc::new(segment));
        }
        let segment = SledSegment::open(&directory, cache_bytes)?;
        Ok(Arc::new(segment))
    }

    fn remove(&self, first: Position) -> Result<(), StorageError> {
        let directory = self.directory(first);
        let evidence = directory.with_extension(DAMAGED);
        remove_directory(&evidence).map_err(|error| StorageError::io(&evidence, error))?;
        if !directory.exists() {
            return Ok(());
        }
        remove_at_once(&directory).map_err(|error| StorageError::io(&directory, error))
    }

    fn bytes_on_disk(&self, first: Position) -> Result<u64, StorageError> {
        let directory = self.directory(first);
        match directory_bytes(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            other => other.map_err(|error| StorageError::io(&directory, error)),
        }
    }

    fn read_head(&self) -> Result<Vec<u8>, StorageError> {
        let path = self.data.join(HEAD_FILE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|error| StorageError::io(path, error)),
        }
    }

    fn write_head(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.with_head(|file| file.write_all_at(bytes, at))
    }

    fn sync_head(&self) -> Result<(), StorageError> {
        self.with_head(File::sync_data)?;
        sync_directory(&self.data)
    }

    fn set_aside(&self, first: Position) -> Result<(), StorageError> {
        let directory = self.directory(first);
        let found = directory.with_extension(FOUND);
        if found.exists() || directory.with_extension(DAMAGED).exists() {
            // An opening before this one found it so and came to no end, or found damage.
            return Ok(());
        }
        let copying = directory.with_extension(COPYING);
        let copied = remove_directory(&copying)
            .and_then(|()| fs::create_dir(&copying))
            .and_then(|()| copy_directory(&directory, &copying))
            .and_then(|()| fs::rename(&copying, &found));
        copied.map_err(|error| {
            // It takes room, which may be what was missing.
            let _ = remove_directory(&copying);
            StorageError::io(found, error)
        })
    }

    fn settle(&self, first: Position, is_damaged: bool) -> Result<Option<PathBuf>, StorageError> {
        let directory = self.directory(first);
        let found = directory.with_extension(FOUND);
        let kept = directory.with_extension(DAMAGED);
        let settled = if is_damaged && found.exists() && !kept.exists() {
            fs::rename(&found, &kept)
        } else {
            remove_directory(&found)
        };
        settled.map_err(|error| StorageError::io(&found, error))?;
        Ok((is_damaged && kept.exists()).then_some(kept))
    }

    fn give_up(&self, first: Position) -> Result<(), StorageError> {
        let directory = self.directory(first);
        match fs::rename(&directory, directory.with_extension(GIVEN_UP)) {
            Ok(()) => sync_directory(&self.log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io(&directory, error)),
        }
    }

    fn bytes_free(&self) -> Option<u64> {
        let system = rustix::fs::statvfs(&self.data).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn release(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Removes what a crash has left of removals and of copies, and segments that it kept from being
/// made.
fn remove_leftovers(log: &Path) -> io::Result<()> {
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let extension = path.extension();
        let is_left =
            extension.is_some_and(|extension| extension == REMOVED || extension == COPYING);
        if is_left {
            remove_directory(&path)?;
        } else if path.join(BEGINNING).exists() {
            remove_at_once(&path)?;
        }
    }
    Ok(())
}

/// Removes the directory of a segment so that a crash half-way leaves no half of it under its name.
fn remove_at_once(path: &Path) -> io::Result<()> {
    let doomed = path.with_extension(REMOVED);
    remove_directory(&doomed)?;
    fs::rename(path, &doomed)?;
    if let Some(log) = path.parent() {
        File::open(log)?.sync_all()?;
    }
    fs::remove_dir_all(&doomed)
}

/// Removes a directory with all in it; one that is not there is fine.
fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies files and directories into a directory that is there. Costs no room where the file system
/// shares blocks.
fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            fs::create_dir(&target)?;
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A directory for a copy, readable by this user alone; removed when it is dropped.
struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    fn new() -> Result<Self, StorageError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!(
                "hooklog-{}-{}",
                std::process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            );
            let path = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // A process of this number was killed before it could remove it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StorageError::io(path, error)),
            }
        }
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a copy of a segment is left behind");
        }
    }
}

fn directory_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            directory_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// The directory of the files that sled moves large nodes into, which it never syncs.
///
/// Parts of pages are small enough that there are none; a segment that was begun with larger ones
/// may get some. They are made durable before `db`, which names them: where one is missing or cut
/// off, sled takes all that follows for torn.
struct Blobs {
    path: PathBuf,
    /// Held open, so that a commit needs no file handle that may not be there.
    directory: rustix::fs::Dir,
    synced: HashSet<CString>,
}

impl Blobs {
    fn watch(store: &Path) -> Result<Self, StorageError> {
        let path = store.join("blobs");
        let directory = File::open(&path).and_then(|file| Ok(rustix::fs::Dir::new(file)?));
        Ok(Self {
            directory: directory.map_err(|error| StorageError::io(&path, error))?,
            path,
            synced: HashSet::new(),
        })
    }

    /// Syncs those that have come since the last time.
    fn sync(&mut self) -> io::Result<()> {
        let mut found = HashSet::new();
        self.directory.rewind();
        for entry in &mut self.directory {
            found.insert(entry?.file_name().to_owned());
        }
        let mut is_any_new = false;
        for name in found.difference(&self.synced) {
            let name = OsStr::from_bytes(name.to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match File::open(self.path.join(name)) {
                Ok(blob) => blob.sync_all()?,
                // sled removes what it has replaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            is_any_new = true;
        }
        if is_any_new {
            rustix::fs::fsync(self.directory.fd()?)?;
        }
        self.synced = found;
        Ok(())
    }
}

/// One sled store.
pub(crate) struct SledSegment {
    path: PathBuf,
    /// Present until it is dropped.
    db: Option<sled::Db>,
    /// For `fdatasync`: sled's flush is `sync_file_range`, which a power cut undoes.
    file: File,
    blobs: Mutex<Blobs>,
    /// Where its files are, when they are a copy for a reader.
    copy: Option<ScratchDirectory>,
}

impl SledSegment {
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StorageError> {
        let mut waits = 0;
        let db = loop {
            let config = sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes)
                .flush_every_ms(None);
            match guard(path, || config.open()) {
                Err(StorageError::Io { source, .. })
                    if waits < REOPEN_WAITS && is_locked(&source) =>
                {
                    waits += 1;
                    thread::park_timeout(REOPEN_WAIT);
                }
                Err(StorageError::Io { source, .. }) if is_locked(&source) => {
                    return Err(StorageError::Locked {
                        path: path.to_owned(),
                    });
                }
                // It was killed while it wrote a snapshot of itself.
                Err(StorageError::Corrupt { .. }) if remove_unfinished(path) => {}
                other => break other?,
            }
        };
        let file = path.join("db");
        let opened = OpenOptions::new().read(true).write(true).open(&file);
        Ok(Self {
            path: path.to_owned(),
            db: Some(db),
            file: opened.map_err(|error| StorageError::io(file, error))?,
            blobs: Mutex::new(Blobs::watch(path)?),
            copy: None,
        })
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StorageError> {
        let db = self.db.as_ref().expect("it is there until drop");
        guard(&self.path, || work(db))
    }
}

/// A failed sync is never [`StorageError::Full`], whatever the system says: with room again a later
/// sync succeeds, and what this one has dropped is lost all the same (G10).
fn sync_failed(path: &Path, error: io::Error) -> StorageError {
    StorageError::Io {
        path: path.to_owned(),
        source: Arc::new(error),
    }
}

/// Removes what a crash has left of a snapshot that sled was writing; says whether there was any.
/// Opening takes the newest file that begins like a snapshot, a half one too, and calls the store
/// corrupt. Only a store that could not be opened for that may lose one: another handle on its way
/// out may be writing it.
pub(crate) fn remove_unfinished(store: &Path) -> bool {
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    let mut removed = false;
    for path in entries.map(|entry| entry.path()) {
        let stem = path.file_stem().unwrap_or_default().as_bytes();
        if stem.starts_with(b"snap.") && path.extension() == Some(OsStr::new("generating")) {
            removed |= fs::remove_file(path).is_ok();
        }
    }
    removed
}

/// sled tells of a held lock in words alone.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Turns errors and panics of sled into ours: on damaged files it panics.
fn guard<T>(path: &Path, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StorageError> {
    let what = || path.display().to_string();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(match error.kind() {
            // Reads of cut-off or overwritten files end in these.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                StorageError::corrupt(what(), error.to_string())
            }
            // A file that the store names is missing; of one that was removed all are.
            io::ErrorKind::NotFound if path.join("db").is_file() => {
                StorageError::corrupt(what(), format!("a file is missing: {error}"))
            }
            _ => StorageError::io(path, error),
        }),
        Ok(Err(error)) => Err(StorageError::corrupt(what(), error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("no reason given");
            Err(StorageError::corrupt(
                what(),
                format!("the store panicked: {text}"),
            ))
        }
    }
}

impl Drop for SledSegment {
    fn drop(&mut self) {
        // A damaged store may panic once more as it goes; there is nobody left to tell.
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

impl SegmentStore for SledSegment {
    fn apply(&self, rows: Vec<Row>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for row in rows {
            match row.value {
                Some(value) => batch.insert(row.key, value),
                None => batch.remove(row.key),
            }
        }
        self.run(|db| db.apply_batch(batch))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.run(sled_flush::flush)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let flushed = self.flush();
        // Even when sled could not write all: only this handle tells whether the disk has dropped
        // something that was written before.
        let blobs = self
            .blobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sync();
        let synced = blobs.and_then(|()| self.file.sync_data());
        synced.map_err(|error| sync_failed(&self.path, error))?;
        flushed
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.run(|db| db.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn last_at_or_before(&self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StorageError> {
        let found = self.run(|db| db.range(..=key).next_back().transpose())?;
        Ok(
            found
                .map(|(key, value)| (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))),
        )
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.run(|db| {
            for row in db.range(from..until) {
                let (key, value) = row?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_in_the_files_that_the_store_makes_for_large_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let segment = SledSegment::open(directory.path(), 4 << 20).unwrap();
        // As large as the parts of older segments.
        for number in 0..20_u8 {
            let value = (0..96 << 10).map(|at: u32| at.to_le_bytes()[usize::from(number % 2)]);
            let row = Row::put(vec![b'p', number], value.collect());
            segment.apply(vec![row]).unwrap();
            segment.sync().unwrap();
            let blobs = segment.blobs.lock().unwrap();
            for file in fs::read_dir(directory.path().join("blobs")).unwrap() {
                let name = CString::new(file.unwrap().file_name().as_bytes()).unwrap();
                assert!(blobs.synced.contains(&name), "{name:?}");
            }
        }
        assert!(
            segment.blobs.lock().unwrap().synced.len() > 2,
            "there are some"
        );
    }

    #[test]
    fn a_segment_that_was_removed_is_not_made_anew_by_who_still_opens_it() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DirectoryStorage::open(&directory.path().join("data"), 4 << 20).unwrap();
        drop(storage.create(Position::FIRST).unwrap());
        drop(storage.open(Position::FIRST).unwrap());
        storage.remove(Position::FIRST).unwrap();
        let opened = storage.open(Position::FIRST).map(drop);
        assert!(matches!(opened, Err(StorageError::Io { .. })), "{opened:?}");
        assert_eq!(storage.segments().unwrap(), []);
    }

    #[test]
    fn a_segment_that_is_given_up_is_kept_and_is_none_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DirectoryStorage::open(&directory.path().join("data"), 4 << 20).unwrap();
        drop(storage.create(Position::FIRST).unwrap());
        let made = storage.directory(Position::FIRST);
        storage.give_up(Position::FIRST).unwrap();
        assert_eq!(storage.segments().unwrap(), []);
        assert!(made.with_extension(GIVEN_UP).join("db").exists());
    }

    #[test]
    fn a_snapshot_that_the_store_was_writing_when_it_was_killed_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let row = || Row::put(b"k".to_vec(), b"v".to_vec());
        for content in [&b""[..], b"half", &[7; 100]] {
            let segment = SledSegment::open(directory.path(), 4 << 20).unwrap();
            segment.apply(vec![row()]).unwrap();
            segment.sync().unwrap();
            drop(segment);
            let unfinished = directory.path().join("snap.00000000000FFFFF.generating");
            fs::write(&unfinished, content).unwrap();
            let segment = SledSegment::open(directory.path(), 4 << 20).unwrap();
            assert_eq!(segment.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
            assert!(!unfinished.exists());
        }
    }

    #[test]
    fn g10_a_failed_sync_is_never_taken_for_want_of_room() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let path = Path::new("segment");
            let failed = sync_failed(path, kind.into());
            assert!(matches!(failed, StorageError::Io { .. }), "{failed}");
            let refused = StorageError::io(path, kind.into());
            assert!(matches!(refused, StorageError::Full { .. }), "{refused}");
        }
    }

    #[test]
    fn a_file_that_a_store_misses_is_damage_and_a_refusal_names_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let met = |kind: io::ErrorKind| guard(path, || Err::<(), _>(sled::Error::Io(kind.into())));
        let removed = met(io::ErrorKind::NotFound).unwrap_err();
        assert!(matches!(removed, StorageError::Io { .. }), "{removed}");
        fs::write(path.join("db"), "").unwrap();
        let missed = met(io::ErrorKind::NotFound).unwrap_err();
        assert!(matches!(missed, StorageError::Corrupt { .. }), "{missed}");
        let refused = met(io::ErrorKind::PermissionDenied).unwrap_err();
        assert!(matches!(refused, StorageError::Io { .. }), "{refused}");
        assert!(refused.to_string().contains(&path.display().to_string()));
    }
}
