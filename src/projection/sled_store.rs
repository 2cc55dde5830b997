//! The store on disk: one sled database per projection. The only file of this room that sees sled.

use std::{
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use crate::log::{flush, remove_unfinished};

use super::{
    Row, RowError,
    store::{Changes, Direction, RowStore, Scan},
};

/// Memory for pages of one projection, in bytes. sled's default is a GiB.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// A closed database lets go of its file from another thread, a little later: it is waited for, 5 s
/// in all.
const LOCK_WAITS: u32 = 1_000;
const LOCK_WAIT: Duration = Duration::from_millis(5);

/// Rows in a sled database.
pub(super) struct SledStore {
    /// There until it is dropped.
    db: Option<sled::Db>,
}

impl SledStore {
    /// Opens or creates the database in this directory. A damaged one is an error, not a panic.
    pub(super) fn open(directory: &Path) -> Result<Self, RowError> {
        let mut waits = 0;
        loop {
            let opened = isolated(|| {
                // sled's own flusher only logs a failed sync; the engine flushes and looks.
                sled::Config::new()
                    .path(directory)
                    .cache_capacity(CACHE_BYTES)
                    .flush_every_ms(None)
                    .open()
            });
            match opened {
                // The log's lock says that nobody else has it.
                Err(RowError::Io(reason)) if waits < LOCK_WAITS && is_locked(&reason) => {
                    waits += 1;
                    std::thread::park_timeout(LOCK_WAIT);
                }
                // It was killed while it wrote a snapshot of itself.
                Err(RowError::Damaged(_)) if remove_unfinished(directory) => {}
                other => return other.map(|db| Self { db: Some(db) }),
            }
        }
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is taken out by drop alone")
    }
}

impl Drop for SledStore {
    /// sled panics where its last sync fails. What was not flushed is folded again.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = isolated(|| {
            drop(db);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "a row store could not be closed in order");
        }
    }
}

impl RowStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        isolated(|| self.db().get(key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn scan(&self, range: Range<Vec<u8>>, direction: Direction) -> Scan<'_> {
        if range.start >= range.end {
            return Box::new(std::iter::empty());
        }
        let mut rows = self.db().range(range);
        Box::new(std::iter::from_fn(move || {
            let next = isolated(|| {
                let next = match direction {
                    Direction::Up => rows.next(),
                    Direction::Down => rows.next_back(),
                };
                next.transpose()
            });
            next.map(|row| row.map(|(key, value)| Row::new(key.to_vec(), value.to_vec())))
                .transpose()
        }))
    }

    fn commit(&mut self, changes: Changes) -> Result<(), RowError> {
        self.apply(&changes)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), RowError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        isolated(|| self.db().apply_batch(batch))
    }

    fn flush(&self) -> Result<(), RowError> {
        isolated(|| flush(self.db()))
    }

    fn bytes_on_disk(&self) -> u64 {
        isolated(|| self.db().size_on_disk()).unwrap_or_default()
    }
}

/// sled tells of a held lock in words alone.
fn is_locked(reason: &str) -> bool {
    reason.contains("could not acquire lock")
}

/// Runs a call into sled, which panics on damage that it meets in some places.
fn isolated<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, RowError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if !is_of_damage(&error) => {
            Err(RowError::Io(error.to_string()))
        }
        Ok(Err(error)) => Err(RowError::Damaged(error.to_string())),
        Err(panic) => Err(RowError::Damaged(super::panic_text(panic.as_ref()))),
    }
}

/// Reads of files that are cut off, overwritten or missing end in these. sled makes the directory
/// itself, so a missing file is one that it has made and names.
fn is_of_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn large_nodes_that_are_gone_or_cut_off_are_damage() {
        let spoil: [fn(&Path); 2] = [
            |blob| fs::remove_file(blob).unwrap(),
            |blob| fs::write(blob, "").unwrap(),
        ];
        for spoil in spoil {
            let directory = tempfile::tempdir().unwrap();
            let mut store = SledStore::open(directory.path()).unwrap();
            for number in 0..20_u8 {
                let large = Some(vec![number; 96 << 10]);
                store
                    .commit(Changes::from([(vec![number], large)]))
                    .unwrap();
            }
            store.flush().unwrap();
            drop(store);
            // From then on it opens without a look into most of them.
            for _ in 0..2 {
                drop(SledStore::open(directory.path()).unwrap());
            }
            let blobs = fs::read_dir(directory.path().join("blobs")).unwrap();
            let blobs: Vec<_> = blobs.collect();
            assert!(!blobs.is_empty());
            for blob in blobs {
                spoil(&blob.unwrap().path());
            }
            let read = SledStore::open(directory.path()).and_then(|store| {
                let mut rows = store.scan(Vec::new()..vec![u8::MAX], Direction::Up);
                rows.try_for_each(|row| row.map(drop))
            });
            let damage = read.unwrap_err();
            assert!(damage.is_damage(), "{damage}");
        }
    }

    #[test]
    fn what_the_system_refuses_is_no_damage() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::StorageFull] {
            let refused = isolated(|| Err::<(), _>(sled::Error::Io(kind.into())));
            assert!(matches!(refused, Err(RowError::Io(_))), "{refused:?}");
        }
    }
}
