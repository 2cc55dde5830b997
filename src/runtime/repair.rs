//! Going on behind a damaged log: a view or a snapshot that may know of what is given up goes too, and
//! is built again; what a snapshot or an origin knows of versions is held on to.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{PROJECTIONS_DIRECTORY, recovery::Recovered};
use crate::{
    log::{
        Appended, DirectoryStorage, LogOptions, OpenError, OriginStore, Repair, RepairError,
        RepairPlan, SnapshotStore, StorageError, StreamId,
    },
    model::Version,
    projection,
};

/// Gives up what this plan names of the log in a data directory that is not in use, and whatever was
/// derived from it. Blocks. See [`EventLog::repair_plan`](crate::log::EventLog::repair_plan).
pub fn repair(data: impl AsRef<Path>, plan: &RepairPlan) -> Result<Appended, RepairError> {
    let data = data.as_ref();
    let options = LogOptions::default();
    let storage = DirectoryStorage::open(data, options.cache_capacity)?;
    let repair = Repair::open(Arc::new(storage), options, plan)?;
    let snapshots = forget(data, plan).map_err(OpenError::from)?;
    let known = known_versions(data, &repair, &snapshots);
    snapshots.close();
    repair.apply(&known?)
}

/// Removes what knows of positions that are given up.
fn forget(data: &Path, plan: &RepairPlan) -> Result<SnapshotStore, StorageError> {
    projection::forget_from(&data.join(PROJECTIONS_DIRECTORY), plan.from)?;
    let snapshots = SnapshotStore::open(data)?;
    snapshots.discard_from(plan.from)?;
    Ok(snapshots)
}

/// How far streams had come, as snapshot, origin and what can be read tell.
fn known_versions(
    data: &Path,
    repair: &Repair,
    snapshots: &SnapshotStore,
) -> Result<HashMap<StreamId, Version>, RepairError> {
    let origins = OriginStore::open(data).map_err(OpenError::from)?;
    let origin = origins.current();
    let recovered = Recovered::read_after(repair.log(), snapshots, origin.as_deref())?;
    Ok(recovered.versions().collect())
}
