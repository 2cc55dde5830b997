//! What can be done with a runtime: publish, read, follow.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{ControlError, directory::Directory, sources::Sources};
use crate::{
    activity::Activity,
    actor::{Inspection, Registry},
    clock::SharedClock,
    delivery::{Egress, Transport},
    log::EventLog,
    model::{ApiId, Message, SubscriptionId},
    projection::{
        Projection, ProjectionStatus, Projections, View, ViewError, dead_letters::DeadLetters,
        deliveries::Deliveries, metrics::Metrics, subscriptions::Subscriptions,
    },
    source::{PublishError, Receipt},
    vault::Vault,
};

/// What a runtime is made of.
pub(super) struct Inner {
    pub(super) directory: Directory,
    pub(super) sources: Sources,
    pub(super) log: EventLog,
    pub(super) clock: SharedClock,
    pub(super) registry: Registry,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) vault: Arc<Vault>,
    pub(super) egress: Egress,
    pub(super) projections: Projections,
    pub(super) activity: Activity,
    /// Whether the runtime ends, and takes nothing in any more.
    pub(super) ending: AtomicBool,
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
    /// Accepts a message for every subscription of an API. When this returns it is as durable as
    /// the runtime was told to make it, and will be delivered or dead-lettered.
    pub async fn publish(&self, api: ApiId, message: Message) -> Result<Receipt, PublishError> {
        self.intake(api)?.publish(message).await
    }

    /// Accepts all of these messages, or none. At most 1,000.
    pub async fn publish_batch(
        &self,
        api: ApiId,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        self.intake(api)?.publish_batch(messages).await
    }

    fn intake(&self, api: ApiId) -> Result<crate::source::Intake, PublishError> {
        if self.0.ending.load(Ordering::Acquire) {
            return Err(PublishError::ShuttingDown);
        }
        let things = self.0.directory.read();
        let entry = things
            .apis
            .get(&api)
            .ok_or(PublishError::UnknownApi { api })?;
        Ok(entry.intake.clone())
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

    /// A projection that was given to the builder; `None` when it was not.
    pub fn projection<P: Projection>(&self) -> Option<View<P>> {
        self.0.projections.view()
    }

    /// How each projection does.
    pub fn projections(&self) -> Vec<ProjectionStatus> {
        self.0.projections.statuses()
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
    }

    pub(super) fn built_in<P: Projection>(&self) -> View<P> {
        self.projection()
            .expect("the builder starts every built-in projection")
    }
}
