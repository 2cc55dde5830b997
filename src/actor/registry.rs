//! Which subscription lives where; waking, commanding and restarting actors.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr, MailboxError};
use futures_util::future::{self, Either};
use tokio::sync::{Notify, watch};

use super::{
    Forwarder, Recall, Recalled, RestartError,
    signal::{Down, Signal},
    slots::Slots,
    subscription_actor::{Drain, Execute, Inspect, Seed, SubscriptionActor, Wake},
    system::Threads,
};
use crate::{
    activity::Activity,
    clock::SharedClock,
    delivery::Transport,
    log::{AppendError, EventLog, ExpectedVersion, StreamId, StreamKind, Urgency},
    model::{
        Api, ApiId, ConsumerConfiguration, FailureCause, Policy, Position, SubscriptionId,
        Timestamp, Version, WebhookEntrypoint,
    },
    subscription::{Command, Rejection, SubscriptionState, apply, decide},
};

/// Events looked at before the waker gives its thread to others.
const WAKE_EVENTS: usize = 4_096;
/// Panics in a row after which a subscription is interrupted instead of started again.
const CRASHES_MAX: u32 = 5;

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The subscription's state forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What was decided did not get into the log, or may not have.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// No actor runs for it: it is closed, or there is none.
    #[error("subscription {0} is closed or does not exist")]
    NotRunning(SubscriptionId),
    /// Its actor stopped before it answered; the command may or may not have been carried out.
    #[error("subscription {0} is being started again; look at its state and ask again")]
    Restarting(SubscriptionId),
}

/// What a registry is made of.
pub struct RegistryOptions {
    /// The log its actors read and append to.
    pub log: EventLog,
    /// Their time.
    pub clock: SharedClock,
    /// Their calls.
    pub transport: Arc<dyn Transport>,
    /// Their dead letters' way out.
    pub forwarder: Arc<dyn Forwarder>,
    /// What they were, when they are started again.
    pub recall: Arc<dyn Recall>,
    /// Threads that make calls.
    pub workers: usize,
    /// Most calls under way at a time.
    pub calls_max: usize,
    /// Counts what is under way.
    pub activity: Activity,
}

/// What an actor shows of itself.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Its state, what is not yet durable included.
    pub state: SubscriptionState,
    /// Calls under way.
    pub in_flight: usize,
    /// Messages that have no fate yet.
    pub pending: u64,
    /// Until when the pause stands that the callback asked for; `None` when none does. The wall clock
    /// may have been set since it was asked for, so the state alone does not tell.
    pub held_until: Option<Timestamp>,
}

/// What every actor of a registry shares.
pub(super) struct Shared {
    pub(super) log: EventLog,
    pub(super) clock: SharedClock,
    pub(super) forwarder: Arc<dyn Forwarder>,
    pub(super) activity: Activity,
    pub(super) slots: Slots,
    /// Rung by an actor that is gone.
    pub(super) down: Notify,
    draining: AtomicBool,
    recall: Arc<dyn Recall>,
}

impl Shared {
    /// Whether nothing is to be begun any more.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// What the actors of one API share.
pub(super) struct Group {
    api: RwLock<Arc<Api>>,
    head: AtomicU64,
    /// The event that last changed its callback; zero before one did.
    moved_at: AtomicU64,
    members: Mutex<HashSet<SubscriptionId>>,
}

impl Group {
    /// The API as it is now.
    pub(super) fn api(&self) -> Arc<Api> {
        Arc::clone(&self.api.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The event that last changed the callback of its entrypoint, if one did.
    pub(super) fn moved_at(&self) -> Option<Position> {
        let position = Position::new(self.moved_at.load(Ordering::Acquire));
        Some(position).filter(|position| *position > Position::ZERO)
    }

    fn members(&self) -> Vec<SubscriptionId> {
        let members = self.members.lock();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        members.iter().copied().collect()
    }

    /// The last version of its messages that may be read.
    pub(super) fn head(&self) -> Version {
        Version::new(self.head.load(Ordering::Acquire))
    }
}

struct Entry {
    addr: Addr<SubscriptionActor>,
    signal: Arc<Signal>,
    group: Arc<Group>,
    worker: usize,
}

/// The actors of a runtime. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    threads: Threads,
    groups: RwLock<HashMap<ApiId, Arc<Group>>>,
    entries: Mutex<HashMap<SubscriptionId, Entry>>,
    looked: watch::Sender<Position>,
}

impl Registry {
    /// Starts the threads. No actor runs yet.
    pub fn start(options: RegistryOptions) -> io::Result<Self> {
        let threads = Threads::start(options.workers.max(1), &options.transport)?;
        let shared = Shared {
            log: options.log,
            clock: options.clock,
            forwarder: options.forwarder,
            activity: options.activity,
            slots: Slots::new(options.calls_max),
            down: Notify::new(),
            draining: AtomicBool::new(false),
            recall: options.recall,
        };
        Ok(Self(Arc::new(Inner {
            shared: Arc::new(shared),
            threads,
            groups: RwLock::default(),
            entries: Mutex::default(),
            looked: watch::Sender::new(Position::ZERO),
        })))
    }

    /// Makes an API known, with the last version of its messages and the event that last changed
    /// its callback.
    pub fn add_api(&self, api: Arc<Api>, head: Version, moved_at: Option<Position>) {
        let group = Group {
            head: AtomicU64::new(head.get()),
            moved_at: AtomicU64::new(moved_at.unwrap_or(Position::ZERO).get()),
            members: Mutex::default(),
            api: RwLock::new(Arc::clone(&api)),
        };
        self.groups_mut().insert(api.id, Arc::new(group));
    }

    /// Takes over an API's new definition, which this event gave it; its subscriptions begin their
    /// next call under it.
    pub fn update_api(&self, api: Arc<Api>, at: Position) {
        let Some(group) = self.group(api.id) else {
            return;
        };
        if group.api().entrypoint.callback_url != api.entrypoint.callback_url {
            // First: an actor that starts under the new definition was told of no other.
            group.moved_at.store(at.get(), Ordering::Release);
        }
        *group.api.write().unwrap_or_else(PoisonError::into_inner) = api;
        self.wake_group(&group);
    }

    /// Whether it has an actor: also one that is over may, until nothing of it is left to do.
    pub fn runs(&self, id: SubscriptionId) -> bool {
        self.entries().contains_key(&id)
    }

    /// A subscription of this API whose dead letters are still to be forwarded. Fails while one is
    /// being started again, which cannot be asked.
    pub async fn forwards_of(&self, id: ApiId) -> Result<Option<SubscriptionId>, ExecuteError> {
        let members = self
            .group(id)
            .map_or_else(Vec::new, |group| group.members());
        for member in members {
            match self.inspect(member).await {
                Ok(shown) if !shown.state.forwards.is_empty() => return Ok(Some(member)),
                // It was forgotten meanwhile: it was over.
                Ok(_) | Err(ExecuteError::NotRunning(_)) => {}
                Err(_) if self.has_finished(member) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether it is over, and nothing of it is left to do.
    fn has_finished(&self, id: SubscriptionId) -> bool {
        let entries = self.entries();
        entries
            .get(&id)
            .is_none_or(|entry| entry.signal.is_finished())
    }

    /// Forgets an API. Its subscriptions must have been closed.
    pub fn remove_api(&self, id: ApiId) {
        self.groups_mut().remove(&id);
    }

    /// Starts the actor of a subscription of whose callback something is thought since this event.
    /// Nothing happens when its API is not known, or when it runs already.
    pub fn spawn(
        &self,
        state: SubscriptionState,
        version: Version,
        judged_since: Option<Position>,
    ) {
        let Some(api) = state
            .subscription
            .as_ref()
            .map(|subscription| subscription.api)
        else {
            return;
        };
        let Some(group) = self.group(api) else { return };
        let id = state.id;
        let workers = self.0.threads.workers.len();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        let worker = usize::try_from(hash % workers as u64).expect("below a usize");
        let mut entries = self.entries();
        if entries.contains_key(&id) {
            return;
        }
        let signal = Arc::new(Signal::default());
        // A member first: what is published once the actor has looked must wake it.
        group
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
        let addr = self.start_actor(state, version, judged_since, worker, &group, &signal);
        entries.insert(
            id,
            Entry {
                addr,
                signal,
                group,
                worker,
            },
        );
    }

    fn start_actor(
        &self,
        state: SubscriptionState,
        version: Version,
        judged_since: Option<Position>,
        worker: usize,
        group: &Arc<Group>,
        signal: &Arc<Signal>,
    ) -> Addr<SubscriptionActor> {
        let worker = &self.0.threads.workers[worker];
        let seed = Seed {
            state,
            version,
            judged_since,
            shared: Arc::clone(&self.0.shared),
            group: Arc::clone(group),
            signal: Arc::clone(signal),
            transport: Arc::clone(&worker.transport),
            starting: self.0.shared.activity.begin(),
        };
        SubscriptionActor::start_in_arbiter(&worker.arbiter, move |_| SubscriptionActor::new(seed))
    }

    /// Begins to wake actors by what the log holds after `after`, and to start again those that
    /// went down.
    pub fn begin(&self, after: Position) {
        self.0.looked.send_replace(after);
        let weak = Arc::downgrade(&self.0);
        let log = self.0.shared.log.clone();
        self.0.threads.control.spawn(async move {
            let mut watch = log.watch();
            let mut position = after;
            while let Some(inner) = weak.upgrade() {
                position = Self(inner).look(position);
                if log.head() > position {
                    tokio::task::yield_now().await;
                } else if watch.reach(position.next()).await.is_none() {
                    return;
                }
            }
        });
        let weak = Arc::downgrade(&self.0);
        let shared = Arc::clone(&self.0.shared);
        self.0.threads.control.spawn(async move {
            loop {
                shared.down.notified().await;
                let Some(inner) = weak.upgrade() else { return };
                Self(inner).look_down();
            }
        });
    }

    /// Looks at some of what is new after `position` and wakes those it concerns. Gives the
    /// position it has seen.
    fn look(&self, position: Position) -> Position {
        let log = &self.0.shared.log;
        let head = log.head();
        if head <= position {
            return position;
        }
        let seen = if let Some(events) = log.cached(position, WAKE_EVENTS) {
            let mut heads: HashMap<ApiId, Version> = HashMap::new();
            for recorded in &events {
                if recorded.stream.kind() == StreamKind::Messages
                    && let Some(api) = recorded.stream.as_api()
                {
                    heads.insert(api, recorded.version);
                }
            }
            for (api, head) in heads {
                if let Some(group) = self.group(api) {
                    group.head.fetch_max(head.get(), Ordering::AcqRel);
                    self.wake_group(&group);
                }
            }
            events.last().map_or(position, |recorded| recorded.position)
        } else {
            self.wake_all();
            head
        };
        self.0.looked.send_replace(seen);
        seen
    }

    /// Wakes everybody: more was appended than the log keeps at hand.
    fn wake_all(&self) {
        let groups: Vec<(ApiId, Arc<Group>)> = {
            let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
            groups
                .iter()
                .map(|(id, group)| (*id, Arc::clone(group)))
                .collect()
        };
        for (id, group) in groups {
            let head = self.0.shared.log.stream_version(StreamId::messages(id));
            group.head.fetch_max(head.get(), Ordering::AcqRel);
            self.wake_group(&group);
        }
    }

    fn wake_group(&self, group: &Group) {
        let members = group.members();
        let entries = self.entries();
        for entry in members.iter().filter_map(|id| entries.get(id)) {
            if entry.signal.mark() {
                // A full mailbox has something else to handle, and looks at the mark after it.
                let _ = entry.addr.try_send(Wake(self.0.shared.activity.begin()));
            }
        }
    }

    /// The position up to which actors have been woken.
    pub fn looked(&self) -> watch::Receiver<Position> {
        self.0.looked.subscribe()
    }

    /// Asks a subscription something. When this returns, what was decided is durable; its last
    /// position is given, or the position seen when nothing had to be decided.
    pub async fn execute(
        &self,
        id: SubscriptionId,
        command: Command,
    ) -> Result<Position, ExecuteError> {
        let addr = self.addr(id).ok_or(ExecuteError::NotRunning(id))?;
        let busy = self.0.shared.activity.begin();
        match addr.send(Execute { command, busy }).await {
            Ok(answer) => answer,
            Err(MailboxError::Closed | MailboxError::Timeout) => Err(ExecuteError::Restarting(id)),
        }
    }

    /// What a subscription's actor shows of itself.
    pub async fn inspect(&self, id: SubscriptionId) -> Result<Inspection, ExecuteError> {
        let addr = self.addr(id).ok_or(ExecuteError::NotRunning(id))?;
        addr.send(Inspect)
            .await
            .map_err(|_| ExecuteError::Restarting(id))
    }

    /// Forgets a subscription that is over.
    pub fn remove(&self, id: SubscriptionId) {
        if let Some(entry) = self.entries().remove(&id) {
            entry
                .group
                .members
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
        }
    }

    /// Lets every actor end its calls and begin no more. Returns when all are quiet, or after
    /// `timeout`; gives the number that were not quiet by then.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.0.shared.draining.store(true, Ordering::Release);
        let asked: Vec<_> = {
            let entries = self.entries();
            entries
                .values()
                .map(|entry| entry.addr.send(Drain))
                .collect()
        };
        let left = Arc::new(AtomicU64::new(asked.len() as u64));
        let all = future::join_all(asked.into_iter().map(|quiet| {
            let left = Arc::clone(&left);
            async move {
                // An actor that is gone is quiet.
                let _ = quiet.await;
                left.fetch_sub(1, Ordering::AcqRel);
            }
        }));
        match future::select(Box::pin(all), self.0.shared.clock.sleep(timeout)).await {
            Either::Left(_) | Either::Right(_) => {}
        }
        usize::try_from(left.load(Ordering::Acquire)).unwrap_or(usize::MAX)
    }

    /// Ends the threads, and with them every actor and call. Blocks until they are gone.
    pub fn stop(&self) {
        self.entries().clear();
        self.0.threads.stop();
    }

    /// Sees to the actors that are gone: those that are over are forgotten, the others are started
    /// again, each after its own wait.
    fn look_down(&self) {
        let (mut finished, mut down) = (Vec::new(), Vec::new());
        for (id, entry) in self.entries().iter() {
            if entry.signal.is_finished() {
                finished.push(*id);
            } else if let Some(failed) = entry.signal.take_down() {
                down.push((*id, failed));
            }
        }
        for id in finished {
            self.remove(id);
        }
        if self.0.shared.is_draining() {
            return;
        }
        for (id, failed) in down {
            let weak = Arc::downgrade(&self.0);
            let shared = Arc::clone(&self.0.shared);
            self.0.threads.control.spawn(async move {
                if !failed.pause.is_zero() {
                    shared.clock.sleep(failed.pause).await;
                }
                if let Some(inner) = weak.upgrade() {
                    Self(inner).start_again(id, failed).await;
                }
            });
        }
    }

    async fn start_again(&self, id: SubscriptionId, failed: Down) {
        let crashes = failed.crashes;
        tracing::warn!(subscription = %id, crashes, "the actor is started again from the log");
        if let Err(error) = self.restart(id, crashes).await {
            tracing::error!(subscription = %id, %error, "the actor cannot be started again yet");
            let elapsed = self.0.shared.clock.elapsed();
            if let Some(entry) = self.entries().get(&id) {
                entry.signal.set_down(false, elapsed);
            }
            self.0.shared.down.notify_one();
        }
    }

    async fn restart(&self, id: SubscriptionId, crashes: u32) -> Result<(), RestartError> {
        let _busy = self.0.shared.activity.begin();
        let Recalled {
            mut state,
            mut version,
            judged_since,
            damaged,
        } = self.0.shared.recall.recall(id).await?;
        let cause = if damaged {
            Some(FailureCause::DamagedHistory)
        } else {
            (crashes >= CRASHES_MAX).then_some(FailureCause::Restarts { count: crashes })
        };
        if let Some(cause) = cause.filter(|_| state.is_running()) {
            version = self.interrupt(&mut state, version, cause).await?;
        }
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&id) {
            let (worker, group, signal) = (
                entry.worker,
                Arc::clone(&entry.group),
                Arc::clone(&entry.signal),
            );
            entry.addr = self.start_actor(state, version, judged_since, worker, &group, &signal);
        }
        Ok(())
    }

    /// Puts on record that a subscription without an actor is interrupted. Gives the new version of
    /// its stream.
    pub async fn interrupt(
        &self,
        state: &mut SubscriptionState,
        version: Version,
        cause: FailureCause,
    ) -> Result<Version, AppendError> {
        let policy = Policy::of(
            &WebhookEntrypoint::at("/"),
            &ConsumerConfiguration::default(),
        );
        let moment = self.0.shared.clock.moment();
        let decided = decide(state, Command::Fail { cause }, &policy, &moment);
        // One that is over or interrupted already stays so.
        let events = decided.unwrap_or_default();
        if events.is_empty() {
            return Ok(version);
        }
        let stream = StreamId::subscription(state.id);
        let expected = ExpectedVersion::Exact(version);
        let batch = events.iter().cloned().map(Into::into).collect();
        let log = &self.0.shared.log;
        let appended = log.append(stream, expected, batch, Urgency::Now).await?;
        for event in &events {
            apply(state, event);
        }
        Ok(appended.last_version)
    }

    fn addr(&self, id: SubscriptionId) -> Option<Addr<SubscriptionActor>> {
        self.entries().get(&id).map(|entry| entry.addr.clone())
    }

    fn group(&self, id: ApiId) -> Option<Arc<Group>> {
        self.0
            .groups
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .map(Arc::clone)
    }

    fn groups_mut(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<ApiId, Arc<Group>>> {
        self.0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SubscriptionId, Entry>> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
