//! Reading a data directory without a gateway.

use std::{
    cell::OnceCell,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::{CliError, output::progress};
use crate::{
    clock::{Clock, SharedClock, SystemClock},
    log::{EventLog, OpenError, OriginStore, StorageError},
    projection::{
        CutLog, Folding, OnBadEvent, Projection, SharedHistory, Storage, View, copy_rows,
    },
    runtime::{Handle, PROJECTIONS_DIRECTORY, Runtime},
};

/// How long a runtime that is held may take to end; it has no call to wait for.
const ENDING: Duration = Duration::from_secs(8);
/// Longest wait for the tokens of a large log to be known, when their rows are built again.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

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

/// Names a data directory, for what a gateway that runs cannot be asked.
#[derive(Debug, Clone, Args)]
pub(super) struct AtRestArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Taken to say what to do instead: other commands have it.
    #[arg(long, hide = true)]
    server: Option<String>,
}

impl AtRestArgs {
    /// Opens it.
    pub(super) fn open(&self) -> Result<Data, CliError> {
        let advice = "stop the gateway and name its directory with --data, or look at a copy of its \
                      log: `hooklog events export FILE`, then `hooklog events import FILE --data NEW`";
        if self.server.is_some() {
            return Err(CliError::usage(format!(
                "a gateway that runs cannot be asked for this; {advice}"
            )));
        }
        match EventLog::open_read_only(&self.data.data) {
            Err(OpenError::Storage(error @ StorageError::Locked { .. })) => {
                Err(CliError::config(format!("{error}; {advice}")))
            }
            opened => self.data.reading(opened?),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.data.path()
    }
}

/// A data directory that was opened for reading.
pub(super) struct Data {
    pub(super) path: PathBuf,
    pub(super) log: EventLog,
    pub(super) origins: Arc<OriginStore>,
    pub(super) clock: SharedClock,
    scratch: OnceCell<Scratch>,
}

impl DataArgs {
    /// The one at this path.
    pub(super) const fn at(data: PathBuf) -> Self {
        Self { data }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.data
    }

    /// Does something with a runtime on it that delivers nothing. It must be there already: what
    /// is mistyped is not made.
    pub(super) fn held<T>(
        &self,
        work: impl AsyncFnOnce(&Handle) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        if !self.data.is_dir() {
            let path = self.data.display();
            return Err(CliError::config(format!(
                "there is no data directory {path}; `hooklog serve` makes one"
            )));
        }
        let tasks = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        tasks.block_on(async {
            let runtime = Runtime::builder(&self.data).workers(1).held();
            let runtime = runtime.start().await?;
            let handle = runtime.handle();
            let access = handle.access();
            let done = match access.at(handle.log().head(), RECOVERY_MAX).await {
                Ok(_) => work(&handle).await,
                Err(error) => Err(error.into()),
            };
            runtime.shutdown(ENDING).await;
            done
        })
    }

    pub(super) fn open(&self) -> Result<Data, CliError> {
        self.reading(EventLog::open_read_only(&self.data)?)
    }

    fn reading(&self, log: EventLog) -> Result<Data, CliError> {
        Ok(Data {
            path: self.data.clone(),
            log,
            origins: Arc::new(OriginStore::open(&self.data)?),
            clock: SystemClock::shared(),
            scratch: OnceCell::new(),
        })
    }
}

impl Data {
    pub(super) fn history(&self) -> SharedHistory {
        Arc::new(CutLog::new(self.log.clone(), Arc::clone(&self.origins)))
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
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary directory stays");
        }
    }
}

/// Makes a directory that nobody else has or can look into, under the system's temporary directory.
pub(super) fn temporary_directory(prefix: &str) -> Result<PathBuf, CliError> {
    let name = format!("{prefix}-{}", SystemClock::new().moment().uuid().simple());
    let path = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_temporary_directory_is_for_its_owner_alone() {
        let path = temporary_directory("hooklog-test").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        fs::remove_dir(&path).unwrap();
        assert_eq!(mode & 0o777, 0o700);
    }
}
