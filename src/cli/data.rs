//! Reading a data directory without a gateway.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::CliError;
use crate::{
    clock::{SharedClock, SystemClock},
    log::EventLog,
    projection::{Projection, SharedHistory, View, fold_all},
};

/// Names a data directory.
#[derive(Debug, Clone, Args)]
pub(super) struct DataArgs {
    /// The data directory. No gateway may run on it.
    #[arg(
        long,
        value_name = "DIR",
        env = "HOOKLOG_DATA",
        default_value = "./data"
    )]
    data: PathBuf,
}

/// A data directory that was opened for reading.
pub(super) struct Data {
    pub(super) path: PathBuf,
    pub(super) log: EventLog,
    pub(super) clock: SharedClock,
}

impl DataArgs {
    pub(super) fn open(&self) -> Result<Data, CliError> {
        Ok(Data {
            path: self.data.clone(),
            log: EventLog::open_read_only(&self.data)?,
            clock: SystemClock::shared(),
        })
    }
}

impl Data {
    pub(super) fn history(&self) -> SharedHistory {
        Arc::new(self.log.clone())
    }

    /// A view as of now, folded from the log in memory: nothing is written.
    pub(super) fn view<P: Projection>(&self, projection: P) -> Result<View<P>, CliError> {
        Ok(fold_all(projection, &self.history(), &self.clock)?)
    }
}
