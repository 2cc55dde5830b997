//! What can be done with a runtime: publish, read, follow.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{
    ControlError, directory::Directory, jobs::OpenJobs, lanes::Lanes, retention::Retention,
    sources::Sources,
};
use crate::{
    activity::Activity,
    actor::{Inspection, Registry},
    clock::SharedClock,
    delivery::{Egress, Transport},
    log::{EventLog, SnapshotStore},
    model::{Api, ApiState, Moment, Position, SubscriptionId, Timestamp},
    projection::{
        Projection, ProjectionStatus, Projections, View, ViewError, dead_letters::DeadLetters,
        deliveries::Deliveries, idempotency_keys::IdempotencyKeys, jobs::Jobs, metrics::Metrics,
        subscriptions::Subscriptions,
    },
    vault::Vault,
};

/// Longest wait for a view to show everything that is in the log, where an answer depends on it.
const VIEW_WAIT: Duration = Duration::from_secs(10);

/// What a runtime is made of.
pub(super) struct Inner {
    pub(super) directory: Directory,
    pub(super) sources: Sources,
    pub(super) jobs: OpenJobs,
    pub(super) log: EventLog,
    pub(super) clock: SharedClock,
    pub(super) registry: Registry,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) vault: Arc<Vault>,
    pub(super) egress: Egress,
    pub(super) projections: Projections,
    pub(super) activity: Activity,
    pub(super) snapshots: SnapshotStore,
    pub(super) retention: Retention,
    pub(super) lanes: Lanes,
    /// Whether the runtime ends, and takes nothing in any more.
    pub(super) ending: AtomicBool,
    pub(super) held: bool,
}

impl Inner {
    /// The definition that sources and subscriptions follow: stopped while the runtime is held.
    pub(super) fn as_run(&self, api: &Arc<Api>) -> Arc<Api> {
        if !self.held {
            return Arc::clone(api);
        }
        Arc::new(Api {
            state: ApiState::Stopped,
            ..Api::clone(api)
        })
    }
}

/// A running gateway. Cheap to clone, and `Send + Sync`: give one to whoever needs it.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("head", &self.0.log.head())
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// The time now, as the runtime sees it.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A moment: the time, and randomness that nothing else was given.
    pub fn moment(&self) -> Moment {
        self.0.clock.moment()
    }

    /// Time since some fixed start. It never runs backwards.
    pub fn elapsed(&self) -> Duration {
        self.0.clock.elapsed()
    }

    /// The event log: read it, follow it, verify it.
    pub fn log(&self) -> &EventLog {
        &self.0.log
    }

    /// The webhook log.
    pub fn deliveries(&self) -> View<Deliveries> {
        self.built_in()
    }

    /// Counters, histograms and series.
    pub fn metrics(&self) -> View<Metrics> {
        self.built_in()
    }

    /// Deliveries that were given up and kept.
    pub fn dead_letters(&self) -> View<DeadLetters> {
        self.built_in()
    }

    /// APIs, applications and subscriptions, as their events tell.
    pub fn subscriptions(&self) -> View<Subscriptions> {
        self.built_in()
    }

    /// Jobs, as their events tell.
    pub fn jobs(&self) -> View<Jobs> {
        self.built_in()
    }

    /// A projection that was given to the builder; `None` when it was not.
    pub fn projection<P: Projection>(&self) -> Option<View<P>> {
        self.0.projections.view()
    }

    /// How each projection does.
    pub fn projections(&self) -> Vec<ProjectionStatus> {
        self.0.projections.statuses()
    }

    /// Waits until a projection has seen more than `after`, and tells how far it is; `None` when
    /// there is none of this name, or it was stopped.
    pub async fn projection_changed(&self, projection: &str, after: Position) -> Option<Position> {
        self.0.projections.changed(projection, after).await
    }

    /// Builds the rows of a projection again from the log; `None` when there is none of this name.
    pub async fn rebuild(&self, projection: &str) -> Option<Result<(), ViewError>> {
        Some(self.0.projections.rebuild(projection).await?.map(drop))
    }

    /// A subscription as its actor sees it, what is not yet durable included.
    pub async fn inspect(&self, subscription: SubscriptionId) -> Result<Inspection, ControlError> {
        Ok(self.0.registry.inspect(subscription).await?)
    }

    /// Waits until nothing is under way: every message that can be sent now has been, its outcome
    /// is durable, and every projection has seen it. Retries and probes that wait for their time
    /// are not under way.
    pub async fn settle(&self) {
        self.settle_when(|under_way| under_way == 0).await;
    }

    /// As [`settle`](Self::settle), where `calm` says how much may be under way.
    pub(crate) async fn settle_when(&self, calm: impl Fn(usize) -> bool) {
        let mut looked = self.0.registry.looked();
        loop {
            self.0.activity.until(&calm).await;
            let head = self.0.log.head();
            let seen = *looked.borrow_and_update();
            if seen < head {
                // The registry is gone only when the runtime is: then nothing is under way.
                if looked.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.projected(head).await;
            if calm(self.0.activity.count()) && self.0.log.head() == head {
                return;
            }
        }
    }

    /// Lets who waits for the runtime to settle look again.
    #[cfg(feature = "testing")]
    pub(crate) fn nudge(&self) {
        self.0.activity.nudge();
    }

    async fn projected(&self, position: crate::model::Position) {
        const LONG: Duration = Duration::from_hours(1);
        // One that halted or stopped will not get there, and says so elsewhere.
        let _ = self.deliveries().at(position, LONG).await;
        let _ = self.metrics().at(position, LONG).await;
        let _ = self.dead_letters().at(position, LONG).await;
        let _ = self.subscriptions().at(position, LONG).await;
        let _ = self.access().at(position, LONG).await;
        let _ = self.built_in::<IdempotencyKeys>().at(position, LONG).await;
        let _ = self.jobs().at(position, LONG).await;
    }

    /// A view once it has seen everything that is in the log by now.
    pub(super) async fn caught_up<P: Projection>(
        &self,
        view: View<P>,
    ) -> Result<View<P>, ViewError> {
        view.at(self.0.log.head(), VIEW_WAIT).await?;
        Ok(view)
    }

    pub(super) fn built_in<P: Projection>(&self) -> View<P> {
        self.projection()
            .expect("the builder starts every built-in projection")
    }
}
