//! Going on behind a damaged log: views and snapshots may know of what is given up, so they go too
//! and are built again.

use std::{fs, io, path::Path, sync::Arc};

use super::PROJECTIONS_DIRECTORY;
use crate::log::{
    self, Appended, DirectoryStorage, LogOptions, OpenError, RepairError, RepairPlan,
    SnapshotStore, StorageError,
};

/// Gives up what this plan names of the log in a data directory that is not in use, and whatever was
/// derived from it. Blocks. See [`EventLog::repair_plan`](crate::log::EventLog::repair_plan).
pub fn repair(data: impl AsRef<Path>, plan: &RepairPlan) -> Result<Appended, RepairError> {
    let data = data.as_ref();
    let options = LogOptions::default();
    let storage = DirectoryStorage::open(data, options.cache_capacity)?;
    // First, because it costs nothing but time where the rest fails.
    forget(data).map_err(OpenError::from)?;
    log::repair_with(Arc::new(storage), options, plan)
}

fn forget(data: &Path) -> Result<(), StorageError> {
    let rows = data.join(PROJECTIONS_DIRECTORY);
    match fs::remove_dir_all(&rows) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StorageError::io(rows, error));
        }
        _ => {}
    }
    let snapshots = SnapshotStore::open(data)?;
    snapshots.discard()?;
    snapshots.close();
    Ok(())
}
