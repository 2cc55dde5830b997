//! Every projection of a runtime.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    Lag, OnBadEvent, Phase, Projection, Rhythm, SharedHistory, StartError, View, ViewError,
    ahead::RowsAhead,
    carry::CarryOrder,
    engine::{Engine, unpoisoned},
    place::Place,
    shared::{Progress, Shared},
};
use crate::{clock::SharedClock, log::OriginDraft, model::Position};

/// How one projection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// The version of its rows.
    pub version: u32,
    /// The last event it has folded.
    pub position: Position,
    /// How far it is behind the log.
    pub lag: Lag,
    /// How many events it skipped.
    pub skipped: u64,
    /// What it is doing.
    pub phase: Phase,
    /// Whether its views answer: not while rows that were damaged are built again.
    pub answers: bool,
}

#[cfg(feature = "server")]
impl ProjectionStatus {
    /// Why its views do not answer though it runs.
    pub(crate) const MENDING: &str = "its rows were damaged and are built again from the log";
}

/// Where the rows of projections are kept.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In memory: folded anew at each start.
    Memory,
    /// Under this directory, one directory per name and version.
    Directory(PathBuf),
}

impl Storage {
    pub(super) fn place<P: Projection>(&self) -> Place {
        match self {
            Self::Memory => Place::Memory,
            Self::Directory(root) => Place::Disk {
                root: root.clone(),
                name: P::NAME,
                version: P::VERSION,
            },
        }
    }
}

/// The projections of a runtime, each with a thread of its own.
pub struct Projections {
    rows: RowsAhead,
    history: SharedHistory,
    clock: SharedClock,
    rhythm: Rhythm,
    running: HashMap<TypeId, Running>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Running {
    shared: Arc<Shared>,
    version: u32,
    forgets: bool,
    view: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projections")
            .field("rows", &self.rows)
            .field("running", &self.statuses())
            .finish_non_exhaustive()
    }
}

impl Projections {
    /// No projections yet.
    pub fn new(storage: Storage, history: SharedHistory, clock: SharedClock) -> Self {
        Self::over(RowsAhead::new(storage), history, clock)
    }

    /// The same over rows of which some are being opened.
    pub fn over(rows: RowsAhead, history: SharedHistory, clock: SharedClock) -> Self {
        Self {
            rows,
            history,
            clock,
            rhythm: Rhythm::default(),
            running: HashMap::new(),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// With another rhythm, for those that are started from now on.
    #[must_use]
    pub const fn with_rhythm(mut self, rhythm: Rhythm) -> Self {
        self.rhythm = rhythm;
        self
    }

    /// Opens the rows of a projection and starts its thread. Damaged rows, and rows ahead of the
    /// log, are thrown away and built again.
    pub fn start<P: Projection>(
        &mut self,
        projection: P,
        policy: OnBadEvent,
    ) -> Result<View<P>, StartError> {
        check_name(P::NAME)?;
        if self
            .running
            .values()
            .any(|other| other.shared.name == P::NAME)
        {
            return Err(StartError::DuplicateName(P::NAME));
        }
        let place = self.rows.storage().place::<P>();
        let opened = self.rows.take(P::NAME, &place)?;
        let opened = place.within(opened, self.history.tip())?;
        let history = Arc::clone(&self.history);
        let clock = Arc::clone(&self.clock);
        let mut engine = Engine::new(Box::new(projection), place, opened, policy, history, clock);
        engine.rhythm = self.rhythm;
        let shared = Arc::clone(&engine.shared);
        let view = View::<P>::new(Arc::clone(&shared), Arc::clone(&self.clock));
        unpoisoned(self.threads.lock()).push(engine.spawn()?);
        let running = Running {
            shared,
            version: P::VERSION,
            forgets: P::FORGETS,
            view: Box::new(view.clone()),
        };
        self.running.insert(TypeId::of::<P>(), running);
        Ok(view)
    }

    /// The view of a projection that was started.
    pub fn view<P: Projection>(&self) -> Option<View<P>> {
        let running = self.running.get(&TypeId::of::<P>())?;
        running.view.downcast_ref::<View<P>>().cloned()
    }

    /// How each does, by name.
    pub fn statuses(&self) -> Vec<ProjectionStatus> {
        let tip = self.history.tip();
        let status = |running: &Running| {
            let progress = running.shared.progress.borrow();
            ProjectionStatus {
                name: running.shared.name,
                version: running.version,
                position: progress.position,
                lag: Lag(tip.distance_from(progress.position)),
                skipped: progress.skipped,
                phase: progress.phase.clone(),
                answers: progress.answers(),
            }
        };
        let mut statuses: Vec<_> = self.running.values().map(status).collect();
        statuses.sort_by_key(|status| status.name);
        statuses
    }

    /// Waits until the projection with this name has moved past `after`, and tells how far it is;
    /// `None` when there is none, or it was stopped. Cancel-safe.
    pub async fn changed(&self, name: &str, after: Position) -> Option<Position> {
        let mut running = self.running.values();
        let shared = &running.find(|running| running.shared.name == name)?.shared;
        let mut progress = shared.progress.subscribe();
        let moved = progress.wait_for(|now| now.position > after || now.phase == Phase::Stopped);
        let position = moved.await.ok()?.position;
        (position > after).then_some(position)
    }

    /// Builds the rows of the projection with this name again, as [`View::rebuild`]; `None` when
    /// there is none.
    pub async fn rebuild(&self, name: &str) -> Option<Result<Position, ViewError>> {
        let mut running = self.running.values();
        let shared = &running.find(|running| running.shared.name == name)?.shared;
        let answer = shared.orders.rebuild().await;
        Some(answer.unwrap_or(Err(ViewError::Stopped {
            projection: shared.name,
        })))
    }

    /// Has every projection write what it carries over the cut that this draft is for.
    pub async fn carry(&self, draft: &Arc<OriginDraft>) -> Result<(), ViewError> {
        let asked = self.running.values().map(|running| {
            let (answer, receiver) = oneshot::channel();
            let draft = Arc::clone(draft);
            let stopped = ViewError::Stopped {
                projection: running.shared.name,
            };
            running.shared.orders.carry(CarryOrder { draft, answer });
            async move { receiver.await.unwrap_or(Err(stopped)) }
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Tells every projection that the log was cut, and waits until those that forget have built
    /// their rows again, or cannot.
    pub async fn forget(&self, first: Position) {
        for running in self.running.values() {
            running.shared.orders.look();
        }
        let running = self.running.values();
        let forgetting = running.filter(|running| running.forgets).map(|running| {
            let mut progress = running.shared.progress.subscribe();
            async move {
                let done =
                    |now: &Progress| now.begins.max(now.kept_past) >= first || !now.phase.goes_on();
                // A projection whose thread is gone forgets nothing more.
                let _ = progress.wait_for(done).await;
            }
        });
        join_all(forgetting.collect::<Vec<_>>()).await;
    }

    /// Stops every thread after its current batch, flushes, closes the stores, and waits for it.
    /// Views answer [`ViewError::Stopped`] from then on. Stopping twice does nothing.
    pub fn stop(&self) {
        for running in self.running.values() {
            running.shared.orders.stop();
        }
        for thread in unpoisoned(self.threads.lock()).drain(..) {
            if thread.join().is_err() {
                tracing::error!("the thread of a projection panicked");
            }
        }
    }
}

impl Drop for Projections {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) fn check_name(name: &'static str) -> Result<(), StartError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(StartError::BadName(name))
    }
}
