//! Reading a data directory without a gateway.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{CliError, output::progress};
use crate::{
    clock::{Clock, SharedClock, SystemClock},
    log::EventLog,
    projection::{Folding, OnBadEvent, Projection, SharedHistory, Storage, View, copy_rows},
    runtime::PROJECTIONS_DIRECTORY,
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
    scratch: OnceCell<Scratch>,
}

impl DataArgs {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.data
    }

    pub(super) fn open(&self) -> Result<Data, CliError> {
        Ok(Data {
            path: self.data.clone(),
            log: EventLog::open_read_only(&self.data)?,
            clock: SystemClock::shared(),
            scratch: OnceCell::new(),
        })
    }
}

impl Data {
    pub(super) fn history(&self) -> SharedHistory {
        Arc::new(self.log.clone())
    }

    /// Where the gateway keeps its rows.
    pub(super) fn rows(&self) -> PathBuf {
        self.path.join(PROJECTIONS_DIRECTORY)
    }

    /// A directory for what this command needs while it runs.
    pub(super) fn scratch(&self) -> Result<&Path, CliError> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(&scratch.0);
        }
        let made = Scratch(temporary_directory("hooklog-rows")?);
        Ok(&self.scratch.get_or_init(|| made).0)
    }

    /// A view as of now. It begins with a copy of the gateway's rows and folds what they lack:
    /// the data directory is not written to, and what is current is not folded again.
    pub(super) fn view<P: Projection>(&self, projection: P) -> Result<View<P>, CliError> {
        let scratch = self.scratch()?.join("as-of-now");
        copy_rows::<P>(&self.rows(), &scratch)?;
        self.fold(projection, self.history(), &scratch)
    }

    /// Folds a projection in a directory below [`scratch`](Self::scratch), as the gateway would.
    pub(super) fn fold<P: Projection>(
        &self,
        projection: P,
        history: SharedHistory,
        directory: &Path,
    ) -> Result<View<P>, CliError> {
        let bar = progress(history.tip().get(), P::NAME);
        let folding = Folding {
            history,
            storage: Storage::Directory(directory.to_owned()),
            policy: OnBadEvent::SkipAndRecord,
            clock: Arc::clone(&self.clock),
            progress: &|position| bar.set_position(position.get()),
        };
        let view = folding.fold(projection);
        bar.finish_and_clear();
        Ok(view?)
    }
}

/// A directory that goes with the command.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary directory stays");
        }
    }
}

/// Makes a directory that nobody else has, under the system's temporary directory.
pub(super) fn temporary_directory(prefix: &str) -> Result<PathBuf, CliError> {
    let name = format!("{prefix}-{}", SystemClock::new().moment().uuid().simple());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path)?;
    Ok(path)
}
