//! The origin: what stood where retention cut the log. A log that was cut tells, together with its
//! origin, what the whole log told.
//!
//! ```text
//! <data>/origin/<first>/manifest    what the origin holds: see `Manifest`
//! <data>/origin/<first>/<section>   rows: length of key, length of value (u32 each), key, value
//! <data>/origin/draft-<n>/          one that is being written, or never was to its end
//! ```
//!
//! `first` is the position where the log begins for whoever reads it together with the origin;
//! what stands below it may be dropped at any time. An origin is written beside the present one
//! and takes its place in one step, by a rename: that step is the cut. It is no cache. Whatever is
//! damaged in it is never served (G11).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    StorageError,
    segment::{sealed, unsealed},
};
use crate::model::Position;

const ORIGIN_FORMAT: u32 = 1;
const ORIGIN_DIRECTORY: &str = "origin";
const MANIFEST: &str = "manifest";
const DRAFT: &str = "draft-";
/// Tells the drafts of one process apart: one that nobody waits for any more may still be written.
static DRAFTS: AtomicU64 = AtomicU64::new(0);
/// A row longer than this is damage: the longest hold the definition of a subscription.
const PART_BYTES_MAX: u32 = 256 << 20;

/// The origins of a data directory: the present one, and where the next is written.
#[derive(Debug)]
pub struct OriginStore {
    directory: PathBuf,
    current: RwLock<Option<Arc<Origin>>>,
    /// Held while something is changed.
    is_closed: Mutex<bool>,
    /// [`sync_directory`], but where a test has it fail.
    sync_directory: fn(&Path) -> Result<(), StorageError>,
}

/// What stood just before a position.
#[derive(Debug)]
pub struct Origin {
    path: PathBuf,
    manifest: Manifest,
}

/// An origin that is being written.
#[derive(Debug)]
pub struct OriginDraft {
    path: PathBuf,
    first: Position,
    sections: Mutex<BTreeMap<String, Section>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    first: Position,
    sections: BTreeMap<String, Section>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Section {
    rows: u64,
    crc32c: u32,
}

impl OriginStore {
    /// Opens the newest origin of a data directory, if its log was ever cut. Writes nothing.
    /// Blocks.
    pub fn open(data: impl AsRef<Path>) -> Result<Self, StorageError> {
        let directory = data.as_ref().join(ORIGIN_DIRECTORY);
        let newest = whole(&directory)?.pop();
        let current = newest.map(|(_, path)| Origin::open(path)).transpose()?;
        Ok(Self {
            directory,
            current: RwLock::new(current.map(Arc::new)),
            is_closed: Mutex::new(false),
            sync_directory,
        })
    }

    /// The present origin; `None` while the log is whole.
    pub fn current(&self) -> Option<Arc<Origin>> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes nothing any more: whoever is still at a cut is refused, and the directory may be
    /// opened again. Waits for a change that is being made. Blocks.
    pub fn close(&self) {
        let is_closed = self.is_closed.lock();
        *is_closed.unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// The right to change something.
    fn change(&self) -> Result<MutexGuard<'_, bool>, StorageError> {
        let is_closed = self.is_closed.lock();
        let is_closed = is_closed.unwrap_or_else(PoisonError::into_inner);
        if *is_closed {
            let closed = io::Error::other("it is closed");
            return Err(StorageError::io(&self.directory, closed));
        }
        Ok(is_closed)
    }

    /// Begins an origin of a log that will begin here. Blocks.
    pub fn draft(&self, first: Position) -> Result<Arc<OriginDraft>, StorageError> {
        let _change = self.change()?;
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{DRAFT}{number}"));
        remove(&path)?;
        fs::create_dir_all(&path).map_err(|error| StorageError::io(&path, error))?;
        Ok(Arc::new(OriginDraft {
            path,
            first,
            sections: Mutex::default(),
        }))
    }

    /// Makes a draft the present origin. From here on the log begins at its first position,
    /// over a crash too. Blocks.
    ///
    /// It may have become that where this fails, and is then what [`Self::current`] tells; what
    /// stands below it must not be dropped before [`Self::sync`] succeeds.
    pub fn publish(&self, draft: &OriginDraft) -> Result<Arc<Origin>, StorageError> {
        let _change = self.change()?;
        let manifest = draft.write_manifest()?;
        let path = self.directory.join(format!("{:020}", draft.first.get()));
        fs::rename(&draft.path, &path).map_err(|error| StorageError::io(&path, error))?;
        // Whatever fails from here on, this is what a restart finds.
        let origin = Arc::new(Origin { path, manifest });
        let current = self.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&origin));
        self.sync()?;
        Ok(origin)
    }

    /// Makes durable which origin is the present one. Blocks.
    pub fn sync(&self) -> Result<(), StorageError> {
        (self.sync_directory)(&self.directory)?;
        // The directory itself may be as new.
        match self.directory.parent() {
            Some(data) => (self.sync_directory)(data),
            None => Ok(()),
        }
    }

    /// Removes drafts of cuts that were not made, and origins before the present one. Blocks.
    pub fn tidy(&self) -> Result<(), StorageError> {
        let _change = self.change()?;
        let drafts = entries(&self.directory, |name| {
            name.starts_with(DRAFT).then_some(())
        })?;
        for ((), path) in drafts {
            remove(&path)?;
        }
        let Some(current) = self.current() else {
            return Ok(());
        };
        let mut origins = whole(&self.directory)?;
        origins.retain(|(first, _)| *first < current.first().get());
        origins.iter().try_for_each(|(_, path)| remove(path))
    }
}

impl Origin {
    fn open(path: PathBuf) -> Result<Self, StorageError> {
        let file = path.join(MANIFEST);
        let bytes = fs::read(&file).map_err(|error| StorageError::io(&file, error))?;
        let bytes = unsealed(&bytes).ok_or_else(|| damaged(&file, "its checksum does not hold"))?;
        let manifest: Manifest = rmp_serde::from_slice(bytes)
            .map_err(|error| damaged(&file, format!("it cannot be decoded: {error}")))?;
        if manifest.format > ORIGIN_FORMAT {
            return Err(StorageError::FormatTooNew {
                path: file,
                found: manifest.format,
                newest: ORIGIN_FORMAT,
            });
        }
        Ok(Self { path, manifest })
    }

    /// Where the log begins.
    pub const fn first(&self) -> Position {
        self.manifest.first
    }

    /// The last event that is told by the origin alone.
    pub fn last(&self) -> Position {
        self.first().previous()
    }

    /// The names of its sections.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.manifest.sections.keys().map(String::as_str)
    }

    /// The rows of a section in the order in which they were written; `None` when it has no such
    /// section. Damage shows at the row where it is seen, at the latest behind the last one: who
    /// believes rows before must be able to take them back. Blocks.
    pub fn rows(&self, section: &str) -> Result<Option<SectionRows>, StorageError> {
        let Some(info) = self.manifest.sections.get(section) else {
            return Ok(None);
        };
        let path = self.path.join(section);
        let file = File::open(&path).map_err(|error| StorageError::io(&path, error))?;
        Ok(Some(SectionRows {
            file: BufReader::new(file),
            path,
            left: info.rows,
            expected: info.crc32c,
            crc32c: 0,
            is_over: false,
        }))
    }
}

impl OriginDraft {
    /// Where the log will begin.
    pub const fn first(&self) -> Position {
        self.first
    }

    /// Begins a section: a name of lower-case letters, digits, `_` and `-`. Blocks.
    pub fn section(self: &Arc<Self>, name: &str) -> Result<SectionWriter, StorageError> {
        let path = self.path.join(name);
        let file = File::create(&path).map_err(|error| StorageError::io(&path, error))?;
        Ok(SectionWriter {
            draft: Arc::clone(self),
            name: name.to_owned(),
            file: BufWriter::new(file),
            path,
            section: Section { rows: 0, crc32c: 0 },
        })
    }

    fn write_manifest(&self) -> Result<Manifest, StorageError> {
        let sections = self.sections.lock();
        let manifest = Manifest {
            format: ORIGIN_FORMAT,
            first: self.first,
            sections: sections.unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let bytes = rmp_serde::to_vec_named(&manifest).expect("a manifest is plain data");
        let path = self.path.join(MANIFEST);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&sealed(bytes))?;
            file.sync_all()
        });
        written.map_err(|error| StorageError::io(&path, error))?;
        sync_directory(&self.path)?;
        Ok(manifest)
    }
}

/// Writes the rows of one section.
#[derive(Debug)]
pub struct SectionWriter {
    draft: Arc<OriginDraft>,
    name: String,
    file: BufWriter<File>,
    path: PathBuf,
    section: Section,
}

impl SectionWriter {
    /// Writes a row.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.section.rows += 1;
        let (key_bytes, value_bytes) = (length(key), length(value));
        for part in [&key_bytes, &value_bytes, key, value] {
            self.section.crc32c = crc32c::crc32c_append(self.section.crc32c, part);
            let written = self.file.write_all(part);
            written.map_err(|error| StorageError::io(&self.path, error))?;
        }
        Ok(())
    }

    /// Ends the section. It is durable when this returns.
    pub fn finish(mut self) -> Result<(), StorageError> {
        let flushed = self.file.flush();
        let synced = flushed.and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| StorageError::io(&self.path, error))?;
        let sections = self.draft.sections.lock();
        let mut sections = sections.unwrap_or_else(PoisonError::into_inner);
        sections.insert(self.name, self.section);
        Ok(())
    }
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len())
        .expect("a row fits into memory many times")
        .to_be_bytes()
}

/// Key and value of a row.
type KeyAndValue = (Vec<u8>, Vec<u8>);

/// The rows of one section.
#[derive(Debug)]
pub struct SectionRows {
    file: BufReader<File>,
    path: PathBuf,
    left: u64,
    expected: u32,
    crc32c: u32,
    is_over: bool,
}

impl SectionRows {
    fn row(&mut self) -> Result<Option<KeyAndValue>, StorageError> {
        if self.left == 0 {
            let holds = self.crc32c == self.expected;
            return if holds {
                Ok(None)
            } else {
                Err(damaged(&self.path, "its checksum does not hold"))
            };
        }
        self.left -= 1;
        let (key, value) = (self.length()?, self.length()?);
        Ok(Some((self.part(key)?, self.part(value)?)))
    }

    fn length(&mut self) -> Result<u32, StorageError> {
        let bytes = self.part(4)?;
        let length = u32::from_be_bytes(bytes.try_into().expect("four were asked for"));
        if length <= PART_BYTES_MAX {
            return Ok(length);
        }
        Err(damaged(&self.path, "a row is longer than any can be"))
    }

    fn part(&mut self, length: u32) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                damaged(&self.path, "it ends too early")
            } else {
                StorageError::io(&self.path, error)
            }
        })?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        Ok(bytes)
    }
}

impl Iterator for SectionRows {
    type Item = Result<KeyAndValue, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let row = self.row().transpose();
        self.is_over = !matches!(row, Some(Ok(_)));
        row
    }
}

fn damaged(path: &Path, reason: impl Into<String>) -> StorageError {
    StorageError::Corrupt {
        what: path.display().to_string(),
        reason: reason.into(),
    }
}

/// The origins that were published, the oldest first.
fn whole(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let mut origins = entries(directory, |name| name.parse::<u64>().ok())?;
    origins.sort_unstable();
    Ok(origins)
}

/// What stands in a directory under names that mean something, with what they mean.
fn entries<T>(
    directory: &Path,
    meaning: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, PathBuf)>, StorageError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io(directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::io(directory, error))?;
        let name = entry.file_name();
        let meant = name.to_str().and_then(&meaning);
        found.extend(meant.map(|meant| (meant, entry.path())));
    }
    Ok(found)
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StorageError::io(path, error)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StorageError::io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(store: &OriginStore, first: u64, rows: &[(&[u8], &[u8])]) -> Arc<OriginDraft> {
        let draft = store.draft(Position::new(first)).unwrap();
        let mut section = draft.section("things-1").unwrap();
        for (key, value) in rows {
            section.push(key, value).unwrap();
        }
        section.finish().unwrap();
        draft
    }

    fn write(store: &OriginStore, first: u64, rows: &[(&[u8], &[u8])]) -> Arc<Origin> {
        store.publish(&draft(store, first, rows)).unwrap()
    }

    fn read(origin: &Origin) -> Result<Vec<KeyAndValue>, StorageError> {
        origin.rows("things-1").unwrap().unwrap().collect()
    }

    #[test]
    fn the_newest_published_origin_is_the_one_that_counts() {
        let data = tempfile::tempdir().unwrap();
        let store = OriginStore::open(data.path()).unwrap();
        assert!(store.current().is_none());
        write(&store, 5, &[(b"a", b"1")]);
        write(&store, 9, &[(b"a", b"2"), (b"b", b"")]);
        store.draft(Position::new(12)).unwrap();

        let store = OriginStore::open(data.path()).unwrap();
        let origin = store.current().unwrap();
        assert_eq!((origin.first().get(), origin.last().get()), (9, 8));
        let rows = [(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), Vec::new())];
        assert_eq!(read(&origin).unwrap(), rows);
        assert!(origin.rows("others-1").unwrap().is_none());
        store.tidy().unwrap();
        let left = fs::read_dir(data.path().join(ORIGIN_DIRECTORY)).unwrap();
        assert_eq!(left.count(), 1);
    }

    #[test]
    fn an_origin_that_took_its_place_is_the_present_one_though_a_sync_failed() {
        let data = tempfile::tempdir().unwrap();
        let mut store = OriginStore::open(data.path()).unwrap();
        write(&store, 5, &[(b"a", b"1")]);
        store.sync_directory = |path| Err(StorageError::io(path, io::Error::other("told to fail")));
        let next = draft(&store, 9, &[(b"a", b"2")]);
        assert!(store.publish(&next).is_err());
        assert!(store.sync().is_err());
        store.sync_directory = sync_directory;
        store.sync().unwrap();
        store.tidy().unwrap();

        let told = store.current().unwrap();
        assert_eq!(told.first().get(), 9);
        assert_eq!(read(&told).unwrap(), [(b"a".to_vec(), b"2".to_vec())]);
        let found = OriginStore::open(data.path()).unwrap().current().unwrap();
        assert_eq!(found.first(), told.first());
        let left = fs::read_dir(data.path().join(ORIGIN_DIRECTORY)).unwrap();
        assert_eq!(left.count(), 1, "the one before it is gone");
    }

    #[test]
    fn no_flipped_bit_passes_for_a_row() {
        let data = tempfile::tempdir().unwrap();
        let store = OriginStore::open(data.path()).unwrap();
        let origin = write(&store, 5, &[(b"key", b"value"), (b"k", b"v")]);
        for name in [MANIFEST, "things-1"] {
            let path = origin.path.join(name);
            let whole = fs::read(&path).unwrap();
            for byte in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[byte] ^= 4;
                fs::write(&path, &bytes).unwrap();
                let opened = OriginStore::open(data.path());
                let read = opened.and_then(|store| read(&store.current().unwrap()));
                assert!(
                    matches!(read, Err(StorageError::Corrupt { .. })),
                    "{name} {byte}"
                );
            }
            fs::write(&path, &whole).unwrap();
        }
    }
}
