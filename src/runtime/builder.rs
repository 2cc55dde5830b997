//! Starting and ending a runtime.

use std::{
    collections::HashMap,
    fmt,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future;
use tokio::{runtime, task::spawn_blocking};

use super::{
    Handle, StartError,
    directory::Directory,
    forward::Forwards,
    handle::Inner,
    jobs::OpenJobs,
    lanes::Lanes,
    limits,
    recovery::{Recalls, Recovered, RecoveredSubscription},
    retention::Retention,
    snapshotter::{Saver, Snapshotter},
    sources::Sources,
};
use crate::{
    activity::Activity,
    actor::{CALLS_MAX, Forwarder, Registry, RegistryOptions},
    clock::{SharedClock, SystemClock},
    delivery::{CaptureOptions, Egress, HttpTransport, Transport},
    kill_point::KillPoint,
    log::{
        self, DirectoryStorage, Durability, EventLog, LogOptions, OpenError, OriginStore,
        RetentionPolicy, SnapshotStore,
    },
    model::FailureCause,
    projection::{
        self, CutLog, OnBadEvent, Projection, Projections, Rhythm, RowsAhead, access::Access,
        dead_letters::DeadLetters, deliveries::Deliveries, idempotency_keys::IdempotencyKeys,
        jobs::Jobs, metrics::Metrics, subscriptions::Subscriptions,
    },
    source::{Intake, IntakeOptions},
    vault::Vault,
};

/// Directory of the rows of projections, in the data directory.
pub const PROJECTIONS_DIRECTORY: &str = "projections";

/// A projection of any type, to be opened and started.
trait Startable: Send {
    fn open(&self, rows: &mut RowsAhead);

    fn start(self: Box<Self>, projections: &mut Projections) -> Result<(), projection::StartError>;
}

impl<P: Projection> Startable for P {
    fn open(&self, rows: &mut RowsAhead) {
        rows.open::<P>();
    }

    fn start(self: Box<Self>, projections: &mut Projections) -> Result<(), projection::StartError> {
        projections
            .start(*self, OnBadEvent::SkipAndRecord)
            .map(drop)
    }
}

/// Those that a gateway has. The one with the most rows is first.
fn own_projections() -> Vec<Box<dyn Startable>> {
    vec![
        Box::new(Deliveries),
        Box::new(Metrics),
        Box::new(DeadLetters),
        Box::new(Subscriptions),
        Box::new(Access),
        Box::new(IdempotencyKeys),
        Box::new(Jobs),
    ]
}

/// How a runtime is started. Every option has a default.
pub struct Builder {
    data: PathBuf,
    log: LogOptions,
    clock: SharedClock,
    transport: Option<Arc<dyn Transport>>,
    egress: Egress,
    capture: CaptureOptions,
    secret_key: Option<PathBuf>,
    workers: usize,
    calls_max: usize,
    held: bool,
    retention: RetentionPolicy,
    rhythm: Rhythm,
    projections: Vec<Box<dyn Startable>>,
    #[cfg(feature = "testing")]
    storage: Option<Arc<dyn log::Storage>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("data", &self.data)
            .field("log", &self.log)
            .field("egress", &self.egress)
            .field("workers", &self.workers)
            .field("calls_max", &self.calls_max)
            .field("held", &self.held)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

impl Builder {
    fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            log: LogOptions::default(),
            clock: SystemClock::shared(),
            transport: None,
            egress: Egress::default(),
            capture: CaptureOptions::default(),
            secret_key: None,
            workers: thread::available_parallelism().map_or(1, NonZero::get),
            calls_max: CALLS_MAX,
            held: false,
            retention: RetentionPolicy::default(),
            rhythm: Rhythm::default(),
            projections: own_projections(),
            #[cfg(feature = "testing")]
            storage: None,
        }
    }

    /// Where the log's segments are kept, in place of the data directory.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn storage(mut self, storage: Arc<dyn log::Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Where the log is. From here on the data directory is nobody else's.
    fn take_storage(&mut self) -> Result<Arc<dyn log::Storage>, OpenError> {
        #[cfg(feature = "testing")]
        if let Some(storage) = self.storage.take() {
            return Ok(storage);
        }
        let storage = DirectoryStorage::open(&self.data, self.log.cache_capacity)?;
        Ok(Arc::new(storage))
    }

    /// Opens the log, and beside it the rows of every projection.
    fn open_log(&mut self) -> Result<(EventLog, RowsAhead), OpenError> {
        self.log.validate()?;
        let storage = self.take_storage()?;
        // Held until rows are closed, too.
        let _storage = Arc::clone(&storage);
        let directory = self.data.join(PROJECTIONS_DIRECTORY);
        let mut rows = RowsAhead::new(projection::Storage::Directory(directory));
        for projection in &self.projections {
            projection.open(&mut rows);
        }
        let log = EventLog::open_with(storage, std::mem::take(&mut self.log))?;
        Ok((log, rows))
    }

    /// What an acknowledged event survives. Default: power loss.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.log.durability = durability;
        self
    }

    /// How the log is opened, durability included. Its clock is the runtime's.
    #[must_use]
    pub fn log_options(mut self, options: LogOptions) -> Self {
        self.log = options;
        self
    }

    /// Time and randomness. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// What calls go through. Default: HTTP.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Which destinations may be called. Default: https on public addresses alone.
    #[must_use]
    pub fn egress(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// How much of bodies is captured where logging is on, and what is redacted.
    #[must_use]
    pub fn capture(mut self, capture: CaptureOptions) -> Self {
        self.capture = capture;
        self
    }

    /// The file of the key that secrets are sealed with: 32 bytes in base64. Default:
    /// `secret.key` in the data directory, made at the first start.
    #[must_use]
    pub fn secret_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_key = Some(path.into());
        self
    }

    /// Threads that make calls. Default: one a core.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Most calls under way at a time, over all subscriptions; the others wait for their turn. An
    /// eighth of them is for callbacks that failed three times in a row or more, which may hang.
    /// Each takes a connection, some 25 KiB of memory. Default: 2,048.
    #[must_use]
    pub const fn calls_max(mut self, calls: usize) -> Self {
        self.calls_max = calls;
        self
    }

    /// Starts as if every API were stopped: no source runs, no call begins and no dead letter is
    /// forwarded, while everything can be looked at and every setting changed. What the settings
    /// say is done by the next runtime that is started without this.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// What of the log's old end may be dropped; see [`Handle::retention`]. Default: nothing.
    #[must_use]
    pub fn retention(mut self, policy: RetentionPolicy) -> Self {
        self.retention = policy;
        self
    }

    /// How projections go about many small steps.
    #[must_use]
    pub fn projection_rhythm(mut self, rhythm: Rhythm) -> Self {
        self.rhythm = rhythm;
        self
    }

    /// A projection of your own; read it with [`Handle::projection`].
    #[must_use]
    pub fn projection<P: Projection>(mut self, projection: P) -> Self {
        self.projections.push(Box::new(projection));
        self
    }

    /// Opens the data directory, recovers what it holds, and begins to deliver.
    ///
    /// Must be called on a tokio runtime; sources and waits of the handle live there, calls and
    /// the log on threads of their own.
    pub async fn start(self) -> Result<Runtime, StartError> {
        let tasks = runtime::Handle::current();
        let ready = spawn_blocking(move || self.open(tasks)).await;
        ready.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn open(mut self, tasks: runtime::Handle) -> Result<Runtime, StartError> {
        for warning in self.egress.warnings() {
            tracing::warn!("{warning}");
        }
        limits::raise_open_files()?;
        self.log.clock = Arc::clone(&self.clock);
        let (log, rows) = self.open_log()?;
        let snapshots = SnapshotStore::open(&self.data)?;
        let vault = Arc::new(match &self.secret_key {
            Some(key) => Vault::open_with_key(&self.data, key, Arc::clone(&self.clock))?,
            None => Vault::open(&self.data, Arc::clone(&self.clock))?,
        });
        let origins = Arc::new(OriginStore::open(&self.data)?);
        let origin = origins.current();
        let recovered = Recovered::read_after(&log, &snapshots, origin.as_deref())?;

        let history = CutLog::new(log.clone(), Arc::clone(&origins));
        let clock = Arc::clone(&self.clock);
        let mut projections =
            Projections::over(rows, Arc::new(history), clock).with_rhythm(self.rhythm);
        for projection in self.projections {
            projection.start(&mut projections)?;
        }

        let transport = self.transport.unwrap_or_else(|| {
            let http = HttpTransport::builder()
                .clock(Arc::clone(&self.clock))
                .secrets(Arc::clone(&vault) as _)
                .egress(self.egress.clone())
                .capture(self.capture);
            Arc::new(http.build())
        });
        let activity = Activity::default();
        let forwards = Arc::new(Forwards::default());
        let registry = Registry::start(RegistryOptions {
            log: log.clone(),
            clock: Arc::clone(&self.clock),
            transport: Arc::clone(&transport),
            forwarder: Arc::clone(&forwards) as Arc<dyn Forwarder>,
            recall: Arc::new(Recalls {
                log: log.clone(),
                snapshots: snapshots.clone(),
                origins: Arc::clone(&origins),
            }),
            workers: self.workers,
            calls_max: self.calls_max,
            activity: activity.clone(),
        })?;
        let saver = Saver::new(log.clone(), snapshots.clone(), Arc::clone(&origins));
        let saver = Arc::new(saver);
        let inner = Arc::new(Inner {
            directory: Directory::default(),
            jobs: OpenJobs::default(),
            sources: Sources::new(tasks, activity.clone()),
            log,
            clock: self.clock,
            registry,
            transport,
            vault,
            egress: self.egress,
            projections,
            activity,
            snapshots,
            retention: Retention::new(self.retention, origins, Arc::clone(&saver)),
            lanes: Lanes::default(),
            ending: AtomicBool::new(false),
            held: self.held,
        });
        forwards.connect(&inner);
        let handle = Handle(inner);
        KillPoint::Resume.pass();
        handle.resume(recovered);
        let snapshotter = Snapshotter::start(saver)?;
        handle.start_retention();
        Ok(Runtime {
            handle,
            snapshotter: Some(snapshotter),
        })
    }
}

impl Handle {
    /// Brings what was recovered to life: after this, calls are made.
    fn resume(&self, recovered: Recovered) {
        let inner = &self.0;
        let intakes: HashMap<_, _> = recovered
            .apis
            .iter()
            .map(|(id, api)| {
                let intake = Intake::new(IntakeOptions {
                    log: inner.log.clone(),
                    clock: Arc::clone(&inner.clock),
                    api: Arc::clone(&api.api),
                    activity: inner.activity.clone(),
                    offsets: api.offsets.clone(),
                });
                (*id, intake)
            })
            .collect();
        inner.directory.fill(&recovered, intakes);
        for api in recovered.apis.values() {
            let run = inner.as_run(&api.api);
            inner.registry.add_api(run, api.head, api.moved_at);
        }
        let position = recovered.position;
        for (id, subscription) in recovered.subscriptions {
            let RecoveredSubscription {
                mut state,
                mut version,
                judged_since,
                ..
            } = *subscription;
            if recovered.unknown.contains(&id) || state.has_ended() {
                continue;
            }
            if recovered.damaged.contains(&id) {
                let cause = FailureCause::DamagedHistory;
                let interrupt = inner.registry.interrupt(&mut state, version, cause);
                match inner.sources.tasks().block_on(interrupt) {
                    Ok(interrupted) => version = interrupted,
                    // The log is full or its end is damaged too: it is served as far as it goes.
                    Err(error) => {
                        tracing::error!(subscription = %id, %error,
                            "its history is damaged, and that cannot be put on record: it stands still");
                        continue;
                    }
                }
            }
            inner.registry.spawn(state, version, judged_since);
        }
        inner.registry.begin(position);
        let apis: Vec<_> = inner.directory.read().apis.values().cloned().collect();
        for entry in apis {
            let api = inner.as_run(&entry.api);
            inner.sources.update(&api, entry.intake);
        }
        self.resume_jobs(recovered.jobs);
    }
}

/// What a shutdown left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Subscriptions whose calls had not ended in time; their messages are sent again after the
    /// next start, with the same `webhook-id`.
    pub unfinished: usize,
}

/// A running gateway, owned. See [`Handle`] for what can be done with it.
pub struct Runtime {
    handle: Handle,
    snapshotter: Option<Snapshotter>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.handle).finish()
    }
}

impl Runtime {
    /// How to start a runtime on this data directory, which is made when it is missing.
    pub fn builder(data: impl AsRef<Path>) -> Builder {
        Builder::new(data.as_ref())
    }

    /// What can be done with it. Clone it freely; it keeps nothing alive that shutting down ends.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends intake, lets jobs and calls end for at most `timeout` in all, makes their outcomes durable, saves a
    /// snapshot, and closes the data directory, which may be opened again at once.
    pub async fn shutdown(mut self, timeout: Duration) -> ShutdownReport {
        let inner = Arc::clone(&self.handle.0);
        inner.ending.store(true, Ordering::Release);
        inner.sources.stop();
        let ((), unfinished) =
            future::join(self.handle.end_jobs(timeout), inner.registry.drain(timeout)).await;
        let snapshotter = self.snapshotter.take();
        let ended = spawn_blocking(move || inner.close(snapshotter));
        if let Err(panic) = ended.await {
            std::panic::resume_unwind(panic.into_panic());
        }
        ShutdownReport { unfinished }
    }
}

#[cfg(feature = "testing")]
impl Runtime {
    /// Ends at once, as a killed process would as far as one process can: no call ends, no
    /// snapshot is saved. Blocks.
    pub fn crash(mut self) {
        self.handle.0.close(None);
        if let Some(snapshotter) = self.snapshotter.take() {
            snapshotter.abandon();
        }
    }
}

impl Inner {
    fn close(&self, snapshotter: Option<Snapshotter>) {
        self.sources.stop();
        self.jobs.abort();
        self.retention.close();
        self.registry.stop();
        if let Some(snapshotter) = snapshotter {
            snapshotter.stop();
        }
        self.snapshots.close();
        self.projections.stop();
        self.log.close();
    }
}

impl Drop for Runtime {
    /// As a shutdown that waits for no call.
    fn drop(&mut self) {
        if let Some(snapshotter) = self.snapshotter.take() {
            self.handle.0.close(Some(snapshotter));
        }
    }
}
