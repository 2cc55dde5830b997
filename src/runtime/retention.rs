//! Retention: the log is cut at its old end, once nobody needs what goes.
//!
//! ```text
//! plan ─▶ who needs it? ─▶ origin: what stood at the cut ─▶ publish ─▶ log.cut ─▶ drop ─▶ forget
//! ```
//! Publishing the origin is the cut, in one step. A crash before it leaves a draft, and the log as
//! it was; a crash behind it leaves a cut that the next run tells of, segments that it drops, and
//! views that forget when they are opened. See the question in `DESIGN.md` for why state is not
//! restated in streams.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::{AbortHandle, spawn_blocking};

use super::{
    ControlError, Handle,
    control::joined,
    recovery::{ORIGIN_SECTION, Recovered},
    snapshotter::Saver,
};
use crate::{
    activity::Busy,
    kill_point::KillPoint,
    log::{
        EventLog, ExpectedVersion, OriginDraft, OriginStore, ReadError, RetentionError,
        RetentionPlan, RetentionPolicy, StreamId,
    },
    model::{
        ApiId, Event, JobId, LogCut, LogEvent, MessageRef, Position, SubscriptionId, Timestamp,
        Version,
    },
    projection::Phase,
    subscription::SubscriptionState,
};

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// After a cut the views of single messages are built again from what is left. So a limit may be
/// passed by one in so many before that is done by itself.
const PASSED_BY_ONE_IN: u32 = 10;

/// What retention keeps in mind.
pub(super) struct Retention {
    policy: RetentionPolicy,
    origins: Arc<OriginStore>,
    saver: Arc<Saver>,
    /// Messages below it are not delivered again: they are being cut, or were.
    forgotten_below: AtomicU64,
    /// Held by the one that cuts.
    cutting: tokio::sync::Mutex<()>,
    task: Mutex<Option<AbortHandle>>,
}

impl Retention {
    pub(super) fn new(
        policy: RetentionPolicy,
        origins: Arc<OriginStore>,
        saver: Arc<Saver>,
    ) -> Self {
        let retention = Self {
            policy,
            origins,
            saver,
            forgotten_below: AtomicU64::default(),
            cutting: tokio::sync::Mutex::default(),
            task: Mutex::default(),
        };
        retention.forget_below(retention.first());
        retention
    }

    /// Whether a message is cut off, or about to be.
    pub(super) fn is_forgotten(&self, message: &MessageRef) -> bool {
        message.position.get() < self.forgotten_below.load(Ordering::SeqCst)
    }

    fn forget_below(&self, first: Position) {
        self.forgotten_below.store(first.get(), Ordering::SeqCst);
    }

    /// Where the log begins.
    fn first(&self) -> Position {
        let origin = self.origins.current();
        origin.map_or(Position::FIRST, |origin| origin.first())
    }

    /// Ends the task that looks, and lets no cut be made any more. What was begun is done anew, or
    /// to its end, by the next runtime. Blocks.
    pub(super) fn close(&self) {
        self.origins.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.as_ref() {
            task.abort();
        }
    }
}

/// Who needs a part of the log that retention would drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who, and why.
    pub kind: HolderKind,
    /// The first position that is needed.
    pub from: Position,
}

/// Who holds the log back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum HolderKind {
    /// A message has not had its turn yet: the subscription is behind, paused, interrupted or
    /// not accepted.
    Backlog {
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// A delivery has begun and has not ended: it is tried again, or waits for its subscription.
    OpenDelivery {
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// A dead letter has not reached the place it is forwarded to.
    Forwarding {
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// What the subscription was is not known for sure: part of its history is damaged, or of a
    /// type that this program does not know.
    UncertainHistory {
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// An event is of a type that this program does not know; a newer one may need it.
    UnknownEvent {
        /// Where it stands; the first of them.
        position: Position,
    },
    /// A job is not over; what it may still ask for is not known.
    Job {
        /// The job.
        job: JobId,
    },
    /// A projection halted before it had seen this part.
    Projection {
        /// The projection.
        projection: &'static str,
    },
}

impl fmt::Display for HolderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backlog { subscription } => {
                write!(
                    f,
                    "subscription {subscription} has not dealt with a message"
                )
            }
            Self::OpenDelivery { subscription } => {
                write!(f, "a delivery of subscription {subscription} has not ended")
            }
            Self::Forwarding { subscription } => write!(
                f,
                "a dead letter of subscription {subscription} has not been forwarded"
            ),
            Self::UncertainHistory { subscription } => write!(
                f,
                "part of the history of subscription {subscription} is damaged or unknown"
            ),
            Self::UnknownEvent { position } => write!(
                f,
                "the event at position {position} is of a type that this program does not know"
            ),
            Self::Job { job } => write!(f, "job {job} is not over"),
            Self::Projection { projection } => write!(f, "projection {projection:?} halted"),
        }
    }
}

/// How retention stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionStatus {
    /// What may be dropped.
    pub policy: RetentionPolicy,
    /// Where the log begins.
    pub first: Position,
    /// Its last event.
    pub head: Position,
    /// What could be dropped now, and what is held back.
    pub plan: RetentionPlan,
    /// Who holds it back, whoever needs the oldest part first.
    pub held_by: Vec<Holder>,
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionReport {
    /// Where the log begins.
    pub first: Position,
    /// What was dropped, and what was held back.
    pub plan: RetentionPlan,
    /// Who holds it back, whoever needs the oldest part first.
    pub held_by: Vec<Holder>,
}

/// Which plans are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Each that drops something.
    Any,
    /// Those for which views are built again by themselves.
    TheEffort,
}

impl Handle {
    /// What retention would do now, and who keeps it from doing more.
    pub async fn retention(&self) -> Result<RetentionStatus, ControlError> {
        let due = self.plan_before(self.0.log.head().next()).await?;
        let held_by = match due.last() {
            Some(last) => self.holders(last).await?,
            None => Vec::new(),
        };
        Ok(RetentionStatus {
            policy: self.0.retention.policy,
            first: self.0.retention.first(),
            head: self.0.log.head(),
            plan: self.plan_beside(due, &held_by).await?,
            held_by,
        })
    }

    /// Drops what the policy says and nobody needs. Views of single messages have forgotten them
    /// when this returns; everything else stands as it was.
    ///
    /// It is carried out to its end also when its caller goes away.
    pub async fn apply_retention(&self) -> Result<RetentionReport, ControlError> {
        self.whole(|handle| async move { handle.retain(Worth::Any).await })
            .await
    }

    /// Starts to look now and then whether something is due.
    pub(super) fn start_retention(&self) {
        let retention = &self.0.retention;
        let is_cut = retention.origins.current().is_some();
        if self.0.held || (retention.policy == RetentionPolicy::default() && !is_cut) {
            return;
        }
        // What is left of a cut is under way from the start on.
        let busy = self.0.activity.begin();
        let task = self.0.sources.tasks().spawn(self.clone().look_again(busy));
        let mut place = retention
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(task.abort_handle());
    }

    async fn look_again(self, mut busy: Busy) {
        loop {
            if let Err(error) = self.retain(Worth::TheEffort).await {
                tracing::error!(%error, "retention failed; it is tried again");
            }
            drop(busy);
            let mut waiting = self.0.clock.sleep(LOOK_EVERY);
            (&mut waiting).await;
            // The wait is let go of once what follows it counts as under way.
            busy = self.0.activity.begin();
        }
    }

    async fn retain(&self, worth: Worth) -> Result<RetentionReport, ControlError> {
        let retention = &self.0.retention;
        let _cutting = retention.cutting.lock().await;
        let _busy = self.0.activity.begin();
        self.finish_cut().await?;
        let due = self.plan_before(self.0.log.head().next()).await?;
        let Some(last) = due.last().filter(|_| self.is_worth(worth, &due)) else {
            return Ok(self.report(RetentionPlan::default(), Vec::new()));
        };
        // From here on no message that may go is asked for again.
        retention.forget_below(last.next());
        let done = self.retain_up_to(due, last).await;
        retention.forget_below(retention.first());
        done
    }

    async fn retain_up_to(
        &self,
        due: RetentionPlan,
        last: Position,
    ) -> Result<RetentionReport, ControlError> {
        let held_by = self.holders(last).await?;
        for holder in &held_by {
            tracing::warn!(from = %holder.from, "retention is held back: {}", holder.kind);
        }
        let plan = self.plan_beside(due, &held_by).await?;
        if let Some(last) = plan.last() {
            self.cut(last.next()).await?;
            self.finish_cut().await?;
        }
        Ok(self.report(plan, held_by))
    }

    fn report(&self, plan: RetentionPlan, held_by: Vec<Holder>) -> RetentionReport {
        RetentionReport {
            first: self.0.retention.first(),
            plan,
            held_by,
        }
    }

    fn is_worth(&self, worth: Worth, due: &RetentionPlan) -> bool {
        let bytes_on_disk = self.0.log.bytes_on_disk().unwrap_or(u64::MAX);
        worth == Worth::Any
            || due.bytes().saturating_mul(PASSED_BY_ONE_IN.into()) >= bytes_on_disk
            || is_late(self.0.retention.policy, due, self.0.clock.now())
    }

    /// What the policy says of segments that hold nothing at this position or above it.
    async fn plan_before(&self, keep_from: Position) -> Result<RetentionPlan, ControlError> {
        let (log, policy) = (self.0.log.clone(), self.0.retention.policy);
        let now = self.0.clock.now();
        joined(spawn_blocking(move || log.retain(policy, now, keep_from)).await)
    }

    /// What is left of a plan beside those who hold it back.
    async fn plan_beside(
        &self,
        due: RetentionPlan,
        held_by: &[Holder],
    ) -> Result<RetentionPlan, ControlError> {
        match held_by.iter().map(|holder| holder.from).min() {
            Some(keep_from) => self.plan_before(keep_from).await,
            None => Ok(due),
        }
    }

    /// Who needs something up to this position.
    async fn holders(&self, last: Position) -> Result<Vec<Holder>, ControlError> {
        let (log, saver) = (self.0.log.clone(), Arc::clone(&self.0.retention.saver));
        // What is durable counts: an outcome that is not yet may be lost, and made again.
        let found = spawn_blocking(move || holders(&log, &saver.recovered()?, last));
        let mut holders = joined::<_, ReadError>(found.await)?;
        holders.extend(self.halted(last));
        holders.sort_by_key(|holder| holder.from);
        Ok(holders)
    }

    /// Projections that will not see what goes. Others get there: what they fold for the origin
    /// is read before anything is dropped.
    fn halted(&self, last: Position) -> impl Iterator<Item = Holder> {
        let statuses = self.0.projections.statuses().into_iter();
        let halted = statuses.filter(move |status| {
            matches!(status.phase, Phase::Halted(_)) && status.position < last
        });
        halted.map(|status| Holder {
            kind: HolderKind::Projection {
                projection: status.name,
            },
            from: status.position.next(),
        })
    }

    /// Cuts the log: from here on it begins at `first`.
    async fn cut(&self, first: Position) -> Result<(), ControlError> {
        let origins = Arc::clone(&self.0.retention.origins);
        let log = self.0.log.clone();
        let drafted = spawn_blocking(move || draft(&log, &origins, first));
        let draft = joined::<_, RetentionError>(drafted.await)?;
        self.0.projections.carry(&draft).await?;
        let origins = Arc::clone(&self.0.retention.origins);
        let published = spawn_blocking(move || origins.publish(&draft)).await;
        joined::<_, RetentionError>(published.map(|done| done.map_err(Into::into)))?;
        KillPoint::Origin.pass();
        Ok(())
    }

    /// Does what is left to do of the last cut: nothing of it can be lost any more.
    async fn finish_cut(&self) -> Result<(), ControlError> {
        let origins = Arc::clone(&self.0.retention.origins);
        if let Some(origin) = origins.current() {
            let (log, now, first) = (self.0.log.clone(), self.0.clock.now(), origin.first());
            let cut = Arc::clone(&origins);
            let looked = spawn_blocking(move || {
                // Where that failed as it was published, a loss of power would take it back.
                cut.sync()?;
                below(&log, first, now)
            });
            let plan = joined::<_, RetentionError>(looked.await)?;
            // A full disk may refuse it, and gets room from what follows: it is told at the next look,
            // or the next cut is in its place.
            if let Err(error) = self.tell_cut(first, plan.bytes()).await {
                tracing::warn!(%first, %error, "the log was cut, and that is not on record yet");
            }
            let log = self.0.log.clone();
            let dropped = spawn_blocking(move || log.apply_retention(&plan)).await;
            joined(dropped)?;
            self.0.projections.forget(first).await;
        }
        let tidied = spawn_blocking(move || origins.tidy()).await;
        joined::<_, RetentionError>(tidied.map(|done| done.map_err(Into::into)))
    }

    /// Puts the last cut on record, where it is not. Told before it was made, it would be believed
    /// where a crash or the disk puts it off, for as long as that lasts.
    async fn tell_cut(&self, first: Position, bytes: u64) -> Result<(), ControlError> {
        let log = self.0.log.clone();
        let looked = spawn_blocking(move || is_told(&log, first)).await;
        if joined(looked)? {
            return Ok(());
        }
        let told = LogCut { first, bytes };
        self.append(StreamId::log(), ExpectedVersion::Any, told)
            .await?;
        KillPoint::Cut.pass();
        tracing::info!(%first, bytes, "the log was cut");
        Ok(())
    }
}

/// Whether the oldest segment is past its age by more than is let pass.
fn is_late(policy: RetentionPolicy, due: &RetentionPlan, now: Timestamp) -> bool {
    let until = due.segments.first().and_then(|oldest| oldest.until);
    policy
        .max_age
        .zip(until)
        .is_some_and(|(max, until)| now.since(until) > max + max / PASSED_BY_ONE_IN)
}

/// Begins an origin with what recovery needs.
fn draft(
    log: &EventLog,
    origins: &OriginStore,
    first: Position,
) -> Result<Arc<OriginDraft>, RetentionError> {
    let origin = origins.current();
    let recovered = Recovered::before(log, origin.as_deref(), first)?;
    let draft = origins.draft(first)?;
    recovered.write(draft.section(ORIGIN_SECTION)?)?;
    Ok(draft)
}

/// Everything that stands below a position, in whole segments.
fn below(log: &EventLog, first: Position, now: Timestamp) -> Result<RetentionPlan, RetentionError> {
    let all = RetentionPolicy {
        max_bytes: Some(0),
        ..RetentionPolicy::default()
    };
    log.retain(all, now, first)
}

/// Whether the last cut that the log tells of is the one at this position.
fn is_told(log: &EventLog, first: Position) -> Result<bool, ReadError> {
    let stream = StreamId::log();
    let mut version = log.stream_version(stream);
    while version > Version::ZERO {
        version = version.previous();
        let read = match log.read_stream(stream, version, 1) {
            Ok(read) => read,
            // It told of an earlier cut, or is damaged: told twice does no harm.
            Err(error) if error.stream_goes_on_after().is_some() => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some(Event::Log(LogEvent::Cut(cut))) = read.first().map(|told| &told.event) {
            return Ok(cut.first == first);
        }
    }
    Ok(false)
}

/// Which subscriptions and jobs need something up to this position.
fn holders(
    log: &EventLog,
    recovered: &Recovered,
    last: Position,
) -> Result<Vec<Holder>, ReadError> {
    let mut next = NextMessages {
        log,
        known: HashMap::new(),
    };
    let mut found = Vec::new();
    for (id, subscription) in &recovered.subscriptions {
        // What was left of one whose API is deleted comes to no end any more: nothing runs it.
        let state = &subscription.state;
        let api = state.subscription.as_ref().map(|definition| definition.api);
        let is_orphan = api.is_some_and(|api| !recovered.apis.contains_key(&api));
        if state.is_over() && is_orphan {
            continue;
        }
        let is_damaged = recovered.damaged.contains(id) && !state.has_ended();
        if recovered.unknown.contains(id) || is_damaged {
            found.push(Holder {
                kind: HolderKind::UncertainHistory { subscription: *id },
                from: Position::FIRST,
            });
        } else {
            found.extend(needed(&subscription.state, recovered, &mut next)?);
        }
    }
    found.extend(recovered.unknown_from.map(|position| Holder {
        kind: HolderKind::UnknownEvent { position },
        from: Position::FIRST,
    }));
    found.extend(recovered.jobs.keys().map(|id| Holder {
        kind: HolderKind::Job { job: *id },
        from: Position::FIRST,
    }));
    found.retain(|holder| holder.from <= last);
    Ok(found)
}

/// The oldest message that a subscription needs.
fn needed(
    state: &SubscriptionState,
    recovered: &Recovered,
    next: &mut NextMessages<'_>,
) -> Result<Option<Holder>, ReadError> {
    let subscription = state.id;
    let open = state.open.values().map(|open| open.message.position);
    let open = open.map(|from| (from, HolderKind::OpenDelivery { subscription }));
    let forwards = state.forwards.values();
    let forwards = forwards.map(|forward| forward.message.position);
    let forwards = forwards.map(|from| (from, HolderKind::Forwarding { subscription }));
    let backlog = match &state.subscription {
        Some(definition) if !state.is_over() => {
            let head = recovered.apis.get(&definition.api).map(|api| api.head);
            match head {
                Some(head) if state.cursor < head => next.after(definition.api, state.cursor)?,
                _ => None,
            }
        }
        _ => None,
    };
    let backlog = backlog.map(|from| (from, HolderKind::Backlog { subscription }));
    let oldest = open
        .chain(forwards)
        .chain(backlog)
        .min_by_key(|(from, _)| *from);
    Ok(oldest.map(|(from, kind)| Holder { kind, from }))
}

/// Where the message after a cursor stands. Many subscriptions stand at the same.
struct NextMessages<'a> {
    log: &'a EventLog,
    known: HashMap<(ApiId, Version), Option<Position>>,
}

impl NextMessages<'_> {
    fn after(&mut self, api: ApiId, cursor: Version) -> Result<Option<Position>, ReadError> {
        if let Some(known) = self.known.get(&(api, cursor)) {
            return Ok(*known);
        }
        let stream = StreamId::messages(api);
        let mut after = cursor;
        // What is gone or damaged nobody gets any more; delivery goes on behind it.
        let position = loop {
            match self.log.read_stream(stream, after, 1) {
                Ok(events) => break events.first().map(|event| event.position),
                Err(error) => after = error.stream_goes_on_after().ok_or(error)?,
            }
        };
        self.known.insert((api, cursor), position);
        Ok(position)
    }
}
