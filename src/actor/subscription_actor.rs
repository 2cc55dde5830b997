//! The actix shell around one subscription's driver: it does the jobs that the driver gives and
//! tells it what came of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    ResponseFuture, SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;

use super::{
    DeadLetter, ForwardError,
    registry::{ExecuteError, Group, Inspection, Shared},
    signal::Signal,
    slots::{Calls, Expected},
    time::ClockTime,
};
use crate::{
    activity::Busy,
    delivery::{AttemptRequest, Transport},
    filter::{Filter, FilterCache},
    kill_point::KillPoint,
    log::{AppendError, ExpectedVersion, Health, ReadError, RecordedEvent, StreamId, Urgency},
    model::{
        AttemptReport, DeadLetterQueue, DeliveryId, Event, MessageRef, Position, SubscriptionEvent,
        SubscriptionId, Version,
    },
    subscription::{
        Call, Command, Driver, Effect, Job, MessageMeta, READ_AHEAD, SubscriptionState,
    },
};

/// Wake-ups and commands that may wait. A wake-up that finds it full is not lost: its mark is
/// looked at after each message handled.
const MAILBOX_MESSAGES: usize = 16;
/// Most bytes of messages that were read ahead, but for one message.
const BODIES_BYTES_MAX: usize = 64 * 1024;
/// Wait before the log is asked again for what it could not do just now.
const PAUSE: Duration = Duration::from_secs(1);

/// Who waits for a decision to be durable.
type Reply = oneshot::Sender<Result<Position, ExecuteError>>;

/// What an actor is started from.
pub(super) struct Seed {
    pub(super) state: SubscriptionState,
    pub(super) version: Version,
    /// The event since which something is thought of its callback.
    pub(super) judged_since: Option<Position>,
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<Group>,
    pub(super) signal: Arc<Signal>,
    pub(super) transport: Arc<dyn Transport>,
    /// Work under way until it has planned for the first time.
    pub(super) starting: Busy,
}

impl Seed {
    /// Whether what is thought of the callback was thought of the one before: the entrypoint's
    /// changed since, and nobody was there to be told.
    fn judges_former_callback(&self) -> bool {
        let subscription = self.state.subscription.as_ref();
        let inherits = subscription.is_some_and(|s| s.configuration.callback_url.is_none());
        let moved = self.group.moved_at();
        inherits
            && self.state.judges_callback()
            && moved.is_some_and(|at| self.judged_since.is_none_or(|since| since < at))
    }
}

/// One subscription, live.
pub(super) struct SubscriptionActor {
    id: SubscriptionId,
    /// Beside the actor: there are many, and together they would fill a size of the allocator badly.
    driver: Box<Driver<Reply>>,
    shared: Arc<Shared>,
    group: Arc<Group>,
    signal: Arc<Signal>,
    transport: Arc<dyn Transport>,
    /// Messages read and not yet called with.
    bodies: BTreeMap<Version, Arc<RecordedEvent>>,
    /// What their contents take.
    bodies_bytes: usize,
    /// What a message took in the last read.
    typical_bytes: usize,
    filter: FilterCache,
    timer: Option<Timer>,
    draining: Vec<oneshot::Sender<()>>,
    calls: Calls,
    /// How long the last call took.
    last_took: Duration,
    /// Why the log takes nothing more. Then nothing is begun, for nothing could be recorded.
    stuck: Option<Box<AppendError>>,
    stopped_in_order: bool,
    starting: Option<Busy>,
}

/// The wake-up that is set.
struct Timer {
    /// When, monotonic.
    fires: Duration,
    handle: SpawnHandle,
}

/// There may be something to see.
pub(super) struct Wake(#[expect(dead_code, reason = "ends with the message")] pub(super) Busy);

impl Message for Wake {
    type Result = ();
}

/// A command from outside.
pub(super) struct Execute {
    pub(super) command: Command,
    pub(super) busy: Busy,
}

impl Message for Execute {
    type Result = Result<Position, ExecuteError>;
}

/// Show yourself.
pub(super) struct Inspect;

impl Message for Inspect {
    type Result = Inspection;
}

/// Begin nothing more; answer when nothing is under way.
pub(super) struct Drain;

impl Message for Drain {
    type Result = ();
}

/// What a call came to.
enum Ended {
    /// It was made.
    Made {
        report: Box<AttemptReport>,
        sampled: bool,
    },
    /// Its message cannot be read, and never will be.
    Unsendable(String),
    /// Its deadline passed while it waited for a slot or for the disk.
    Late,
    /// The log was closed meanwhile; nothing matters any more.
    Closed,
}

impl SubscriptionActor {
    pub(super) fn new(seed: Seed) -> Self {
        let time = ClockTime(seed.shared.clock.as_ref());
        let stuck = refusal(seed.shared.log.health()).map(Box::new);
        let id = seed.state.id;
        // Before it is asked whether it moved: what is newer is told as any change is.
        let api = seed.group.api();
        let moved = seed.judges_former_callback();
        let mut driver = Box::new(Driver::new(seed.state, seed.version, api, &time));
        if moved {
            driver.callback_moved(&time);
        }
        Self {
            id,
            driver,
            shared: seed.shared,
            group: seed.group,
            signal: seed.signal,
            transport: seed.transport,
            bodies: BTreeMap::new(),
            bodies_bytes: 0,
            typical_bytes: 0,
            filter: FilterCache::default(),
            timer: None,
            draining: Vec::new(),
            calls: Calls::default(),
            last_took: Duration::ZERO,
            stuck,
            stopped_in_order: false,
            starting: Some(seed.starting),
        }
    }

    /// Does everything that can be done now.
    fn plan(&mut self, ctx: &mut Context<Self>) {
        self.signal.take();
        if self.stuck.is_some() {
            return;
        }
        self.refresh();
        let shared = Arc::clone(&self.shared);
        let time = ClockTime(shared.clock.as_ref());
        let mut wake;
        loop {
            wake = None;
            let mut again = false;
            for job in self.driver.plan(&time, self.group.head()) {
                match job {
                    Job::Wake { after } => wake = Some(after),
                    Job::Read { after, limit } => again |= self.read(after, limit, ctx),
                    job => self.begin(job, ctx),
                }
            }
            if !again {
                break;
            }
        }
        self.wake_after(wake, ctx);
        self.forget_bodies();
        self.answer_drain();
        if self.driver.is_finished() {
            self.stopped_in_order = true;
            self.signal.set_finished();
            self.shared.down.notify_one();
            ctx.stop();
        }
    }

    /// Takes over what changed outside.
    fn refresh(&mut self) {
        let api = self.group.api();
        if !Arc::ptr_eq(&api, self.driver.api()) {
            let shared = Arc::clone(&self.shared);
            self.driver.set_api(api, &ClockTime(shared.clock.as_ref()));
        }
        if self.shared.is_draining() {
            self.driver.drain();
        }
    }

    fn begin(&mut self, job: Job<Reply>, ctx: &mut Context<Self>) {
        match job {
            Job::Send(call) => self.send(call, ctx),
            Job::Forward { message, target } => self.forward(message, target, ctx),
            Job::Append {
                expected,
                events,
                urgent,
            } => self.append(expected, events, urgent, ctx),
            // What holds as of now needed no event.
            Job::Answer(reply) => answer(reply, Ok(self.shared.log.head())),
            Job::Read { .. } | Job::Wake { .. } => {}
        }
    }

    /// Sets the one timer, in place of the one before. One that fires earlier stays: it finds
    /// nothing to do and sets the next, which is cheaper than to set a new one after every plan.
    fn wake_after(&mut self, after: Option<Duration>, ctx: &mut Context<Self>) {
        let fires = after.map(|after| self.shared.clock.elapsed() + after);
        let goes = |timer: &mut Timer| fires.is_none_or(|fires| fires < timer.fires);
        match self.timer.take_if(goes) {
            Some(timer) => drop(ctx.cancel_future(timer.handle)),
            None if self.timer.is_some() => return,
            None => {}
        }
        let (Some(after), Some(fires)) = (after, fires) else {
            return;
        };
        let mut sleep = self.shared.clock.sleep(after);
        let activity = self.shared.activity.clone();
        let sleep = async move {
            (&mut sleep).await;
            activity.begin()
        };
        let wake = sleep.into_actor(self).map(|busy, actor, ctx| {
            actor.timer = None;
            actor.plan(ctx);
            drop(busy);
        });
        let handle = ctx.spawn(wake);
        self.timer = Some(Timer { fires, handle });
    }

    /// Reads messages. True when they were at hand and are offered already.
    fn read(&mut self, after: Version, limit: usize, ctx: &mut Context<Self>) -> bool {
        let stream = StreamId::messages(self.driver.api().id);
        // Large ones are read as they are sent, not ahead.
        let ahead = BODIES_BYTES_MAX / self.typical_bytes.max(1);
        let limit = limit.min(limit.saturating_sub(READ_AHEAD).max(ahead).max(1));
        let cached = self.shared.log.cached_stream(stream, after, limit);
        let definition = self.driver.state().subscription.as_ref();
        let filter = self.filter.of(definition.and_then(|s| s.filter.as_ref()));
        let cached = match (cached, &filter) {
            (Some(events), None) => {
                let metas = events.iter().filter_map(|e| meta_of(e)).collect();
                self.offer(events, metas);
                return true;
            }
            (cached, _) => cached,
        };
        // Begun here: a future does nothing before it is polled.
        let busy = self.shared.activity.begin();
        let shared = Arc::clone(&self.shared);
        let read = async move {
            let (events, busy) = match cached {
                Some(events) => (events, busy),
                None => read_messages(shared, stream, after, limit, busy).await?,
            };
            let metas = judge(filter.as_ref(), &events).await;
            Some((events, metas, busy))
        };
        ctx.spawn(read.into_actor(self).map(move |read, actor, ctx| {
            if let Some((events, metas, _busy)) = read {
                actor.offer(events, metas);
                actor.plan(ctx);
            }
        }));
        false
    }

    fn offer(&mut self, events: Vec<Arc<RecordedEvent>>, metas: Vec<MessageMeta>) {
        let read: usize = events.iter().map(|recorded| bytes_of(recorded)).sum();
        self.typical_bytes = read.checked_div(events.len()).unwrap_or(self.typical_bytes);
        self.driver.offer(metas);
        for recorded in events {
            if !self.driver.is_ahead(recorded.version) {
                continue;
            }
            self.bodies_bytes += bytes_of(&recorded);
            if let Some(before) = self.bodies.insert(recorded.version, recorded) {
                self.bodies_bytes -= bytes_of(&before);
            }
        }
    }

    /// Keeps the messages that are sent next, as long as any is sent and within a number of bytes;
    /// the others are read again.
    fn forget_bodies(&mut self) {
        let is_held_up = !self.bodies.is_empty() && !self.driver.has_calls();
        if is_held_up {
            self.bodies.clear();
            self.bodies_bytes = 0;
        }
        if self.bodies.len() > self.driver.ahead() {
            let driver = &self.driver;
            self.bodies.retain(|version, _| driver.is_ahead(*version));
            self.bodies_bytes = self.bodies.values().map(|body| bytes_of(body)).sum();
        }
        while self.bodies_bytes > BODIES_BYTES_MAX && self.bodies.len() > 1 {
            if let Some((_, last)) = self.bodies.pop_last() {
                self.bodies_bytes -= bytes_of(&last);
            }
        }
    }

    /// Makes a call.
    fn send(&mut self, call: Call, ctx: &mut Context<Self>) {
        let busy = self.shared.activity.begin();
        let body = self.bodies.remove(&call.message.version);
        self.bodies_bytes -= body.as_ref().map_or(0, |body| bytes_of(body));
        let shared = Arc::clone(&self.shared);
        let transport = Arc::clone(&self.transport);
        let (api, subscription) = (self.driver.api().id, self.id);
        let identifies = self.driver.api().entrypoint.gravitee_client_identifier;
        let made = call.clone();
        let circuit = &self.driver.state().circuit;
        let expected = Expected::of(circuit, self.last_took, self.calls.begin());
        let send = async move {
            let _slot = shared.slots.take(expected).await;
            let (recorded, busy) = match body {
                Some(recorded) => (Ok(recorded), busy),
                None => read_message(&shared, made.message.position, busy).await,
            };
            let published = match &recorded {
                Ok(recorded) => recorded.event.as_published(),
                Err(Unread::Closed) => return (Ended::Closed, busy),
                Err(Unread::Never(detail)) => return (Ended::Unsendable(detail.clone()), busy),
            };
            let Some(published) = published else {
                let detail = format!("position {} holds no message", made.message.position);
                return (Ended::Unsendable(detail), busy);
            };
            if made
                .deadline
                .is_some_and(|deadline| deadline <= shared.clock.now())
            {
                return (Ended::Late, busy);
            }
            let sampled = published.sampled;
            let request = AttemptRequest {
                delivery: DeliveryId::of(made.message.id, subscription),
                api,
                subscription,
                attempt: made.attempt,
                probe: made.probe,
                message: Arc::clone(published),
                accepted_at: made.message.accepted_at,
                policy: made.policy,
                gravitee_client_identifier: identifies,
            };
            KillPoint::Send.pass();
            let report = Box::new(transport.send(request).await);
            KillPoint::Outcome.pass();
            (Ended::Made { report, sampled }, busy)
        };
        ctx.spawn(send.into_actor(self).map(move |(ended, busy), actor, ctx| {
            actor.ended(&call, ended, ctx);
            drop(busy);
        }));
    }

    fn ended(&mut self, call: &Call, ended: Ended, ctx: &mut Context<Self>) {
        self.calls.end();
        let time = ClockTime(self.shared.clock.as_ref());
        let recorded = match ended {
            Ended::Made { report, sampled } => {
                self.last_took = Duration::from_micros(report.timings.total_us.into());
                self.driver.ended(call, report, sampled, &time)
            }
            Ended::Unsendable(detail) => {
                tracing::error!(subscription = %self.id, message = %call.message.id, %detail, "a message cannot be sent");
                self.driver.unsendable(call, detail, &time)
            }
            Ended::Late => self.driver.not_made(call, &time),
            Ended::Closed => return,
        };
        if let Err(rejection) = recorded {
            tracing::debug!(subscription = %self.id, %rejection, "an outcome is not recorded");
        }
        self.plan(ctx);
    }

    fn forward(&mut self, message: MessageRef, target: DeadLetterQueue, ctx: &mut Context<Self>) {
        let busy = self.shared.activity.begin();
        let letter = DeadLetter {
            api: self.driver.api().id,
            subscription: self.id,
            message,
            target,
        };
        let forward = self.shared.forwarder.forward(letter);
        ctx.spawn(forward.into_actor(self).map(move |forwarded, actor, ctx| {
            let time = ClockTime(actor.shared.clock.as_ref());
            let driver = &mut actor.driver;
            let ended = match forwarded {
                Ok(()) => driver.forward_ended(message, Ok(()), &time),
                Err(ForwardError::Failed(reason)) => {
                    driver.forward_ended(message, Err(reason), &time)
                }
                Err(ForwardError::NoRoom) => {
                    driver.forward_put_off(&time);
                    Ok(())
                }
            };
            if let Err(rejection) = ended {
                tracing::debug!(subscription = %actor.id, %rejection, "a forward is not recorded");
            }
            actor.plan(ctx);
            drop(busy);
        }));
    }

    fn append(
        &mut self,
        expected: Version,
        events: Vec<SubscriptionEvent>,
        urgent: bool,
        ctx: &mut Context<Self>,
    ) {
        let busy = self.shared.activity.begin();
        let shared = Arc::clone(&self.shared);
        let stream = StreamId::subscription(self.id);
        let urgency = if urgent {
            Urgency::Now
        } else {
            Urgency::Linger
        };
        let append =
            async move { append_surely(&shared, stream, expected, events, urgency, busy).await };
        ctx.spawn(append.into_actor(self).map(|(answer, busy), actor, ctx| {
            actor.appended(answer, ctx);
            drop(busy);
        }));
    }

    fn appended(
        &mut self,
        appended: Result<(Position, Version), AppendError>,
        ctx: &mut Context<Self>,
    ) {
        match appended {
            Ok((position, version)) => {
                let durable = self.driver.appended(version);
                for reply in durable.replies {
                    answer(reply, Ok(position));
                }
                if durable.outcomes > 0 {
                    self.signal.forgive(self.shared.clock.elapsed());
                }
                durable
                    .effects
                    .into_iter()
                    .for_each(|effect| self.tell(&effect));
                self.plan(ctx);
            }
            Err(error) => self.append_failed(&error, ctx),
        }
    }

    /// What was applied is not in the log, or may not be: only the log knows. Where it takes
    /// nothing any more, starting again would send the same messages again and again.
    fn append_failed(&mut self, error: &AppendError, ctx: &mut Context<Self>) {
        tracing::error!(subscription = %self.id, %error, "outcomes are not on record");
        for reply in self.driver.append_failed() {
            answer(reply, Err(error.clone().into()));
        }
        self.stuck = refusal(self.shared.log.health()).map(Box::new);
        if self.stuck.is_some() {
            self.wake_after(None, ctx);
            self.draining.clear();
        } else {
            ctx.stop();
        }
    }

    fn tell(&self, effect: &Effect) {
        match effect {
            Effect::Stopped => tracing::info!(subscription = %self.id, "over"),
            Effect::Interrupted { cause } => {
                tracing::warn!(subscription = %self.id, %cause, "interrupted");
            }
        }
    }

    fn answer_drain(&mut self) {
        if !self.draining.is_empty() && self.driver.is_quiet() {
            for quiet in self.draining.drain(..) {
                // Who asked may have stopped waiting.
                let _ = quiet.send(());
            }
        }
    }
}

fn answer(reply: Reply, answer: Result<Position, ExecuteError>) {
    // Who asked may have stopped waiting.
    let _ = reply.send(answer);
}

/// Why a log of this health refuses every append until it is opened again; `None` when it does
/// not.
fn refusal(health: Health) -> Option<AppendError> {
    match health {
        Health::Poisoned => Some(AppendError::Poisoned),
        Health::TailDamaged { from, to, reason } => {
            Some(AppendError::TailDamaged { from, to, reason })
        }
        Health::Closed => Some(AppendError::Closed),
        _ => None,
    }
}

/// Appends what this actor alone appends to this stream, until the log takes it or takes nothing
/// more: whoever gave up and started again would make the calls behind it again. Gives a position by
/// which it is on record, and the version that the stream is at.
async fn append_surely(
    shared: &Shared,
    stream: StreamId,
    before: Version,
    events: Vec<SubscriptionEvent>,
    urgency: Urgency,
    mut busy: Busy,
) -> (Result<(Position, Version), AppendError>, Busy) {
    let expected = ExpectedVersion::Exact(before);
    let last = before.plus(events.len() as u64);
    let mut may_be_written = false;
    loop {
        let batch = events.iter().cloned().map(Event::from).collect();
        match shared.log.append(stream, expected, batch, urgency).await {
            Ok(appended) => return (Ok((appended.last, appended.last_version)), busy),
            Err(AppendError::Conflict { actual, .. }) if may_be_written && actual == last => {
                return (Ok((shared.log.head(), last)), busy);
            }
            Err(AppendError::Full { .. } | AppendError::Refused(_)) => {}
            // A full disk. The append behind it finds out: the log is opened again for it.
            Err(AppendError::Unknown(_)) if refusal(shared.log.health()).is_none() => {
                may_be_written = true;
            }
            Err(error) => return (Err(error), busy),
        }
        busy = paused(shared, busy).await;
    }
}

/// Reads messages after `after`, those that retention has cut apart. `None` when the log was
/// closed. What fails for the moment is tried until it does not; that wait counts as no work.
async fn read_messages(
    shared: Arc<Shared>,
    stream: StreamId,
    mut after: Version,
    limit: usize,
    mut busy: Busy,
) -> Option<(Vec<Arc<RecordedEvent>>, Busy)> {
    loop {
        match shared.log.read_stream_async(stream, after, limit).await {
            Ok(events) => return Some((events, busy)),
            Err(ReadError::Closed) => return None,
            Err(error) => {
                // The core sees the gap.
                if let Some(resume) = error.stream_goes_on_after() {
                    after = resume;
                } else {
                    tracing::error!(%stream, %error, "messages cannot be read yet");
                    busy = paused(&shared, busy).await;
                }
            }
        }
    }
}

/// Why a message was not read.
enum Unread {
    /// It is gone or damaged, for this reason.
    Never(String),
    /// The log was closed.
    Closed,
}

async fn read_message(
    shared: &Shared,
    position: Position,
    mut busy: Busy,
) -> (Result<Arc<RecordedEvent>, Unread>, Busy) {
    loop {
        let read = match shared.log.get_async(position).await {
            Ok(Some(recorded)) => Ok(recorded),
            Ok(None) => Err(Unread::Never(format!("position {position} holds nothing"))),
            Err(ReadError::Closed) => Err(Unread::Closed),
            Err(ReadError::Storage(error)) => {
                tracing::error!(%position, %error, "a message cannot be read yet");
                busy = paused(shared, busy).await;
                continue;
            }
            Err(error) => Err(Unread::Never(error.to_string())),
        };
        return (read, busy);
    }
}

async fn paused(shared: &Shared, busy: Busy) -> Busy {
    let mut sleep = shared.clock.sleep(PAUSE);
    drop(busy);
    (&mut sleep).await;
    shared.activity.begin()
}

/// Lets the filter judge messages, and others of this thread have their turn after each: a filter
/// is bounded, and a read may bring many messages.
async fn judge(filter: Option<&Filter>, events: &[Arc<RecordedEvent>]) -> Vec<MessageMeta> {
    let mut metas = Vec::with_capacity(events.len());
    for recorded in events {
        let Some(mut meta) = meta_of(recorded) else {
            continue;
        };
        if let (Some(filter), Some(published)) = (filter, recorded.event.as_published()) {
            meta.verdict = filter.verdict(published, recorded.time);
            tokio::task::yield_now().await;
        }
        metas.push(meta);
    }
    metas
}

/// What a message takes in memory, about.
fn bytes_of(recorded: &RecordedEvent) -> usize {
    const BESIDE_CONTENT: usize = 512;
    let published = recorded.event.as_published();
    BESIDE_CONTENT + published.map_or(0, |published| published.content.len())
}

fn meta_of(recorded: &RecordedEvent) -> Option<MessageMeta> {
    let published = recorded.event.as_published()?;
    let RecordedEvent {
        version,
        position,
        time,
        ..
    } = *recorded;
    Some(MessageMeta::of(published, version, position, time))
}

impl Actor for SubscriptionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.plan(ctx);
        self.starting = None;
    }
}

impl Drop for SubscriptionActor {
    fn drop(&mut self) {
        if !self.stopped_in_order {
            let crashed = std::thread::panicking();
            self.signal.set_down(crashed, self.shared.clock.elapsed());
            self.shared.down.notify_one();
        }
    }
}

impl Handler<Wake> for SubscriptionActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.plan(ctx);
    }
}

impl Handler<Execute> for SubscriptionActor {
    type Result = ResponseFuture<Result<Position, ExecuteError>>;

    fn handle(&mut self, execute: Execute, ctx: &mut Self::Context) -> Self::Result {
        let (id, busy) = (self.id, execute.busy);
        let (reply, answered) = oneshot::channel();
        if let Some(error) = &self.stuck {
            answer(reply, Err(AppendError::clone(error).into()));
        } else {
            let time = ClockTime(self.shared.clock.as_ref());
            if let Err((reply, rejection)) = self.driver.execute(execute.command, reply, &time) {
                answer(reply, Err(rejection.into()));
            }
        }
        self.plan(ctx);
        Box::pin(async move {
            let answer = answered.await.unwrap_or(Err(ExecuteError::Restarting(id)));
            drop(busy);
            answer
        })
    }
}

impl Handler<Inspect> for SubscriptionActor {
    type Result = MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, ctx: &mut Self::Context) -> Self::Result {
        if self.signal.take() {
            self.plan(ctx);
        }
        let time = ClockTime(self.shared.clock.as_ref());
        let held_until = self.driver.held_until(&time);
        let state = self.driver.state();
        MessageResult(Inspection {
            held_until,
            pending: state.pending(self.group.head()),
            state: state.clone(),
            in_flight: self.driver.in_flight().len(),
        })
    }
}

impl Handler<Drain> for SubscriptionActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (reply, quiet) = oneshot::channel();
        if self.stuck.is_none() {
            self.draining.push(reply);
        }
        self.plan(ctx);
        Box::pin(async move {
            // An actor that goes away is quiet.
            let _ = quiet.await;
        })
    }
}
