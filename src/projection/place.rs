//! Where the rows of one projection are kept: in memory, or in a directory per name and version
//! with one generation of rows in it. A rebuild fills the next generation; whichever generation
//! carries the mark of being ready with the highest number is the live one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    RowError, StartError,
    checkpoint::{self, Checkpoint},
    gathered::Gathered,
    sled_store::SledStore,
    store::{MemoryStore, RowStore},
};
use crate::{
    log::{StorageError, sync_directory},
    model::Position,
};

/// The place of one projection's rows.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Memory,
    Disk {
        /// `<data>/projections`.
        root: PathBuf,
        name: &'static str,
        version: u32,
    },
}

/// Rows that were opened, and how far they are.
pub(super) struct Opened {
    pub(super) store: Box<dyn RowStore>,
    pub(super) checkpoint: Checkpoint,
    pub(super) generation: u64,
}

impl Opened {
    pub(super) fn empty_in_memory() -> Self {
        Self {
            store: Box::new(MemoryStore::default()),
            checkpoint: Checkpoint::default(),
            generation: 0,
        }
    }
}

impl Place {
    /// These rows as those of a log that ends here: an empty generation where they are another's.
    pub(super) fn within(&self, mut opened: Opened, tip: Position) -> Result<Opened, StartError> {
        if opened.checkpoint.position <= tip {
            // No rows of this log were further, whatever became of them.
            opened.checkpoint.mended_at = opened.checkpoint.mended_at.min(tip);
            return Ok(opened);
        }
        // Rows ahead of the log are rows of another log.
        let foreign = opened.generation;
        drop(opened);
        let opened = self.fresh(foreign + 1, Checkpoint::serving(Position::ZERO))?;
        self.remove(foreign);
        Ok(opened)
    }

    /// Opens the live generation and changes nothing; `None` when there is none.
    pub(super) fn look(&self) -> Result<Option<Opened>, StartError> {
        let Some(directory) = self.directory() else {
            return Ok(None);
        };
        let generations = generations(&directory).map_err(|source| StartError::Directory {
            path: directory.clone(),
            source,
        })?;
        for generation in generations.into_iter().rev() {
            let path = directory.join(generation.to_string());
            let opened = self.reopen(generation);
            let opened = opened.map_err(|source| StartError::Rows { path, source })?;
            if opened.checkpoint.ready {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// Opens the live generation, or an empty one when there is none or it is damaged; such a one
    /// answers nothing before [`Self::within`] has told it of the log. Every other generation is
    /// deleted.
    pub(super) fn open(&self) -> Result<Opened, StartError> {
        let Some(directory) = self.directory() else {
            return Ok(Opened::empty_in_memory());
        };
        let failed = |source| StartError::Directory {
            path: directory.clone(),
            source,
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        let mut generations = generations(&directory).map_err(failed)?;
        let highest = generations.last().copied().unwrap_or(0);
        let mut live = None;
        while let Some(generation) = generations.pop() {
            let path = directory.join(generation.to_string());
            if live.is_none() {
                live = open_ready(&path, generation)?;
            }
            if live
                .as_ref()
                .is_none_or(|opened| opened.generation != generation)
            {
                remove(&path).map_err(failed)?;
            }
        }
        if let Some(opened) = live {
            return Ok(opened);
        }
        // There were others, and how far they were nobody knows any more.
        let is_lost = highest > 0;
        let mended_at = if is_lost {
            Position::MAX
        } else {
            Position::ZERO
        };
        self.fresh(highest + 1, Checkpoint::serving(mended_at))
    }

    /// An empty generation that begins with this checkpoint; one that is not `ready` is forgotten
    /// by a restart. What stands in its place is deleted first: folded over, those rows would count
    /// every event twice.
    pub(super) fn fresh(
        &self,
        generation: u64,
        checkpoint: Checkpoint,
    ) -> Result<Opened, StartError> {
        let Some(directory) = self.directory() else {
            return Ok(Opened {
                checkpoint,
                generation,
                ..Opened::empty_in_memory()
            });
        };
        let path = directory.join(generation.to_string());
        remove(&path).map_err(|source| StartError::Directory {
            path: path.clone(),
            source,
        })?;
        let mut store = SledStore::open(&path).map_err(|source| StartError::Rows {
            path: path.clone(),
            source,
        })?;
        store
            .commit(checkpoint.as_change())
            .and_then(|()| store.flush())
            .map_err(|source| StartError::Rows { path, source })?;
        Ok(Opened {
            store: Box::new(Gathered::over(store)),
            checkpoint,
            generation,
        })
    }

    /// Opens a generation again whose store is closed.
    pub(super) fn reopen(&self, generation: u64) -> Result<Opened, RowError> {
        let Some(directory) = self.directory() else {
            return Ok(Opened::empty_in_memory());
        };
        let store = SledStore::open(&directory.join(generation.to_string()))?;
        let checkpoint = checkpoint::read(&store)?;
        Ok(Opened {
            checkpoint: checkpoint.ok_or_else(|| RowError::Damaged("no checkpoint".to_owned()))?,
            store: Box::new(Gathered::over(store)),
            generation,
        })
    }

    /// Deletes a generation whose store is closed. What cannot be deleted now goes at the next
    /// start.
    pub(super) fn remove(&self, generation: u64) {
        if let Some(directory) = self.directory() {
            let path = directory.join(generation.to_string());
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "old rows could not be deleted");
            }
        }
    }

    /// Deletes the rows of every other version of this projection.
    pub(super) fn remove_other_versions(&self) {
        let Self::Disk {
            root,
            name,
            version,
        } = self
        else {
            return;
        };
        let Ok(entries) = fs::read_dir(root) else {
            return;
        };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let other = file_name
                .to_str()
                .and_then(|text| text.rsplit_once('-'))
                .is_some_and(|(other, number)| {
                    other == *name && number.parse::<u32>().is_ok_and(|n| n != *version)
                });
            if other && let Err(error) = remove(&entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "old rows could not be deleted");
            }
        }
    }

    fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Memory => None,
            Self::Disk {
                root,
                name,
                version,
            } => Some(root.join(format!("{name}-{version}"))),
        }
    }
}

/// Removes every generation of rows below this directory, of whatever projection, that has folded an
/// event at `first` or later, or cannot tell. Durable when this returns.
pub(crate) fn forget_from(root: &Path, first: Position) -> Result<(), StorageError> {
    let failed = |error| StorageError::io(root, error);
    let projections = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for projection in projections {
        let projection = projection.map_err(failed)?.path();
        for generation in generations(&projection).map_err(failed)? {
            let path = projection.join(generation.to_string());
            let checkpoint = SledStore::open(&path).and_then(|store| checkpoint::read(&store));
            let is_before = matches!(checkpoint, Ok(Some(told)) if told.position < first);
            if !is_before {
                remove(&path).map_err(failed)?;
            }
        }
        sync_directory(&projection)?;
    }
    Ok(())
}

/// Opens a generation that is whole and ready; `None` for any other.
fn open_ready(path: &Path, generation: u64) -> Result<Option<Opened>, StartError> {
    let opened = SledStore::open(path).and_then(|store| {
        let checkpoint = checkpoint::read(&store)?;
        Ok((store, checkpoint))
    });
    match opened {
        Ok((store, Some(checkpoint))) if checkpoint.ready => Ok(Some(Opened {
            store: Box::new(Gathered::over(store)),
            checkpoint,
            generation,
        })),
        Ok(_) => Ok(None),
        Err(error) if error.is_damage() => {
            tracing::warn!(path = %path.display(), %error, "damaged rows are built again");
            Ok(None)
        }
        Err(source) => Err(StartError::Rows {
            path: path.to_owned(),
            source,
        }),
    }
}

fn generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|text| text.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_may_know_of_what_is_given_up_are_removed_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let rows = |name: &str, position: u64| {
            let path = root.join(name).join("1");
            let mut store = SledStore::open(&path).unwrap();
            let checkpoint = Checkpoint {
                position: Position::new(position),
                ready: true,
                ..Checkpoint::default()
            };
            store.commit(checkpoint.as_change()).unwrap();
            store.flush().unwrap();
            path
        };
        let (before, at) = (rows("before-1", 9), rows("at-1", 10));
        let unknown = root.join("unknown-2").join("4");
        drop(SledStore::open(&unknown).unwrap());
        forget_from(root, Position::new(10)).unwrap();
        assert!(before.exists());
        assert!(!at.exists());
        assert!(!unknown.exists());
        forget_from(&root.join("missing"), Position::FIRST).unwrap();
    }
}
