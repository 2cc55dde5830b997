//! The shell around one subscription's core: it does what the core plans and tells it what came
//! of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    ResponseFuture, SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;

use super::{
    DeadLetter,
    outbox::{Decision, Outbox, Reply},
    registry::{ExecuteError, Group, Inspection, Shared},
    signal::Signal,
};
use crate::{
    activity::Busy,
    delivery::{AttemptRequest, Transport},
    log::{AppendError, Appended, ExpectedVersion, ReadError, RecordedEvent, StreamId, Urgency},
    model::{
        Api, AttemptNumber, AttemptReport, DeadLetterQueue, DeliveryId, Event, MessagePublished,
        MessageRef, Policy, Position, SubscriptionEvent, SubscriptionId, Version,
    },
    subscription::{
        Action, Command, Effect, Flight, MessageMeta, Now, SubscriptionState, apply, decide,
        effects,
    },
};

/// Wake-ups and commands that may wait. A wake-up that finds it full is not lost: its mark is
/// looked at after each message handled.
const MAILBOX_MESSAGES: usize = 16;
/// Wait before an append is tried again that the log had no room for.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Wait before messages are read again that could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// What an actor is started from.
pub(super) struct Seed {
    pub(super) state: SubscriptionState,
    pub(super) version: Version,
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<Group>,
    pub(super) signal: Arc<Signal>,
    pub(super) transport: Arc<dyn Transport>,
    /// Work under way until it has planned for the first time.
    pub(super) starting: Busy,
}

/// One subscription, live.
pub(super) struct SubscriptionActor {
    id: SubscriptionId,
    state: SubscriptionState,
    flight: Flight,
    /// The last version of its stream that is durable.
    version: Version,
    outbox: Outbox,
    shared: Arc<Shared>,
    group: Arc<Group>,
    signal: Arc<Signal>,
    transport: Arc<dyn Transport>,
    api: Arc<Api>,
    policy: Arc<Policy>,
    /// Messages read and not yet called with.
    bodies: HashMap<Version, Arc<RecordedEvent>>,
    /// Takes that are decided and not yet durable.
    taking: Vec<MessageRef>,
    timer: Option<SpawnHandle>,
    draining: Vec<oneshot::Sender<()>>,
    stopped_in_order: bool,
    starting: Option<Busy>,
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

impl SubscriptionActor {
    pub(super) fn new(seed: Seed) -> Self {
        let api = seed.group.api();
        let policy = policy_of(&api, &seed.state);
        Self {
            id: seed.state.id,
            state: seed.state,
            flight: Flight::new(),
            version: seed.version,
            outbox: Outbox::default(),
            shared: seed.shared,
            group: seed.group,
            signal: seed.signal,
            transport: seed.transport,
            api,
            policy,
            bodies: HashMap::new(),
            taking: Vec::new(),
            timer: None,
            draining: Vec::new(),
            stopped_in_order: false,
            starting: Some(seed.starting),
        }
    }

    /// Does everything that can be done now.
    fn plan(&mut self, ctx: &mut Context<Self>) {
        self.signal.take();
        if !self.draining.is_empty() {
            self.answer_drain();
            return;
        }
        self.refresh_policy();
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        loop {
            let now = Now {
                wall: self.shared.clock.now(),
                elapsed: self.shared.clock.elapsed(),
            };
            let actions = self
                .flight
                .next(&self.state, &self.policy, now, self.group.head());
            let mut again = false;
            for action in actions {
                again |= self.act(action, ctx);
            }
            if !again {
                break;
            }
        }
        self.forget_bodies();
    }

    /// Does one thing. True when that may have made room for another.
    fn act(&mut self, action: Action, ctx: &mut Context<Self>) -> bool {
        match action {
            Action::Read { after, limit } => self.read(after, limit, ctx),
            Action::Send {
                message,
                attempt,
                probe,
            } => {
                self.send(message, attempt, probe, ctx);
                false
            }
            Action::Record(command) => {
                if let Command::Take { message } = &command {
                    self.taking.push(*message);
                }
                self.record(command, Urgency::Linger, None, ctx);
                true
            }
            Action::Forward { message, target } => {
                self.forward(message, target, ctx);
                false
            }
            Action::Wake { after } => {
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
                self.timer = Some(ctx.spawn(wake));
                false
            }
        }
    }

    /// Takes over what the entrypoint or the subscription changed.
    fn refresh_policy(&mut self) {
        let api = self.group.api();
        if !Arc::ptr_eq(&api, &self.api) {
            self.policy = policy_of(&api, &self.state);
            self.api = api;
        }
    }

    /// Reads messages. True when they were at hand and are offered already.
    fn read(&mut self, after: Version, limit: usize, ctx: &mut Context<Self>) -> bool {
        let log = self.shared.log.clone();
        let stream = StreamId::messages(self.api.id);
        if let Some(events) = log.cached_stream(stream, after, limit) {
            self.offer(events);
            return true;
        }
        let busy = self.shared.activity.begin();
        let read = async move { log.read_stream_async(stream, after, limit).await };
        ctx.spawn(read.into_actor(self).map(move |read, actor, ctx| {
            actor.have_read(after, limit, read, ctx);
            drop(busy);
        }));
        false
    }

    fn have_read(
        &mut self,
        after: Version,
        limit: usize,
        read: Result<Vec<Arc<RecordedEvent>>, ReadError>,
        ctx: &mut Context<Self>,
    ) {
        match read {
            Ok(events) => {
                self.offer(events);
                self.plan(ctx);
            }
            // What retention cut is gone: the read goes on where the log begins, and the core
            // sees the gap.
            Err(ReadError::StreamGone { first, .. }) => {
                if self.read(first.previous(), limit, ctx) {
                    self.plan(ctx);
                }
            }
            Err(error) => {
                tracing::error!(subscription = %self.id, %error, "messages cannot be read yet");
                let pause = self.shared.clock.sleep(READ_PAUSE);
                ctx.spawn(pause.into_actor(self).map(move |(), actor, ctx| {
                    if actor.read(after, limit, ctx) {
                        actor.plan(ctx);
                    }
                }));
            }
        }
    }

    fn offer(&mut self, events: Vec<Arc<RecordedEvent>>) {
        let metas = events
            .iter()
            .filter_map(|recorded| meta_of(recorded))
            .collect();
        for recorded in events {
            self.bodies.insert(recorded.version, recorded);
        }
        self.flight.offer(metas);
    }

    /// Keeps the bodies of messages that are read ahead or about to be called with, no others.
    fn forget_bodies(&mut self) {
        if self.bodies.len() > usize::from(self.policy.max_in_flight) * 2 {
            let state = &self.state;
            let flight = &self.flight;
            self.bodies
                .retain(|version, _| !state.is_seen(*version) || flight.is_in_flight(*version));
        }
    }

    /// Makes a call.
    fn send(
        &mut self,
        message: MessageRef,
        attempt: AttemptNumber,
        probe: bool,
        ctx: &mut Context<Self>,
    ) {
        let busy = self.shared.activity.begin();
        let body = self.bodies.remove(&message.version);
        let log = self.shared.log.clone();
        let transport = Arc::clone(&self.transport);
        let policy = Arc::clone(&self.policy);
        let (api, subscription) = (self.api.id, self.id);
        let call = async move {
            let recorded = match body {
                Some(recorded) => Some(recorded),
                None => log.get_async(message.position).await?,
            };
            let Some(published) = recorded.as_ref().and_then(|r| r.event.as_published()) else {
                return Err(ReadError::Corrupt {
                    from: message.position,
                    to: message.position,
                    reason: "there is no message where one was read before".to_owned(),
                });
            };
            let sampled = published.sampled;
            let request = AttemptRequest {
                delivery: DeliveryId::of(message.id, subscription),
                api,
                subscription,
                attempt,
                probe,
                message: Arc::new(MessagePublished::clone(published)),
                policy: Arc::clone(&policy),
                gravitee_client_identifier: false,
            };
            Ok((transport.send(request).await, sampled, policy))
        };
        ctx.spawn(call.into_actor(self).map(move |ended, actor, ctx| {
            actor.ended(message, attempt, probe, ended, ctx);
            drop(busy);
        }));
    }

    fn ended(
        &mut self,
        message: MessageRef,
        attempt: AttemptNumber,
        probe: bool,
        ended: Result<(AttemptReport, bool, Arc<Policy>), ReadError>,
        ctx: &mut Context<Self>,
    ) {
        let (report, sampled, policy) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(subscription = %self.id, message = %message.id, %error, "a message cannot be read; it is tried again");
                self.flight.released(message.version);
                let pause = self.shared.clock.sleep(READ_PAUSE);
                ctx.spawn(pause.into_actor(self).map(|(), actor, ctx| actor.plan(ctx)));
                return;
            }
        };
        let report = Box::new(report);
        let command = Command::Record {
            message,
            attempt,
            probe,
            report,
            sampled,
        };
        let moment = self.shared.clock.moment();
        // A call ends under the policy it began with.
        match decide(&self.state, command, &policy, &moment) {
            Ok(events) => {
                self.take_over(events, 1, Urgency::Linger, None, ctx);
                self.flight.ended(message.version);
            }
            Err(rejection) => {
                tracing::debug!(subscription = %self.id, %rejection, "an outcome is not recorded");
                self.flight.ended(message.version);
                self.flight.durable(1);
            }
        }
        self.plan(ctx);
    }

    fn forward(&mut self, message: MessageRef, target: DeadLetterQueue, ctx: &mut Context<Self>) {
        let busy = self.shared.activity.begin();
        let letter = DeadLetter {
            subscription: self.id,
            message,
            target,
        };
        let forward = self.shared.forwarder.forward(letter);
        ctx.spawn(forward.into_actor(self).map(move |forwarded, actor, ctx| {
            let command = match forwarded {
                Ok(()) => Command::Forwarded { message },
                Err(reason) => Command::ForwardFailed { message, reason },
            };
            actor.record(command, Urgency::Linger, None, ctx);
            actor.flight.forward_ended();
            actor.plan(ctx);
            drop(busy);
        }));
    }

    /// Decides a command under the present policy and takes over what follows.
    fn record(
        &mut self,
        command: Command,
        urgency: Urgency,
        reply: Option<Reply>,
        ctx: &mut Context<Self>,
    ) {
        let moment = self.shared.clock.moment();
        match decide(&self.state, command, &self.policy, &moment) {
            Ok(events) => self.take_over(events, 0, urgency, reply, ctx),
            Err(rejection) => match reply {
                // Who asked may have stopped waiting.
                Some(reply) => drop(reply.send(Err(rejection.into()))),
                None => {
                    tracing::debug!(subscription = %self.id, %rejection, "a plan is out of date");
                }
            },
        }
    }

    /// Applies what was decided at once and sends it to the log. A call may begin before it is
    /// durable: after a crash the message is sent again, and [`Flight`] bounds how many can be.
    fn take_over(
        &mut self,
        events: Vec<SubscriptionEvent>,
        outcomes: usize,
        urgency: Urgency,
        reply: Option<Reply>,
        ctx: &mut Context<Self>,
    ) {
        let mut policy_changed = false;
        for event in &events {
            apply(&mut self.state, event);
            policy_changed |= matches!(
                event,
                SubscriptionEvent::Created(_) | SubscriptionEvent::Updated(_)
            );
        }
        if policy_changed {
            self.policy = policy_of(&self.api, &self.state);
        }
        let busy = self.shared.activity.begin();
        self.outbox.push(Decision {
            events,
            outcomes,
            urgency,
            reply,
            busy,
        });
        self.append(ctx);
    }

    /// Appends what waits, if no append is under way.
    fn append(&mut self, ctx: &mut Context<Self>) {
        let Some((events, urgency)) = self.outbox.begin() else {
            return;
        };
        if events.is_empty() {
            // Nothing had to be decided, so what the log holds is the answer.
            self.outbox.durable(self.shared.log.head());
            self.append(ctx);
            return;
        }
        let taken = std::mem::take(&mut self.taking);
        let shared = Arc::clone(&self.shared);
        let stream = StreamId::subscription(self.id);
        let expected = ExpectedVersion::Exact(self.version);
        let append = async move {
            loop {
                let batch = events.iter().cloned().map(Event::from).collect();
                match shared.log.append(stream, expected, batch, urgency).await {
                    Err(AppendError::Full { .. }) => shared.clock.sleep(FULL_PAUSE).await,
                    answer => return (answer, events),
                }
            }
        };
        ctx.spawn(
            append
                .into_actor(self)
                .map(move |(answer, events), actor, ctx| {
                    actor.appended(answer, &events, taken, ctx);
                }),
        );
    }

    fn appended(
        &mut self,
        answer: Result<Appended, AppendError>,
        events: &[SubscriptionEvent],
        taken: Vec<MessageRef>,
        ctx: &mut Context<Self>,
    ) {
        let appended = match answer {
            Ok(appended) => appended,
            Err(error) => {
                // What was applied is not in the log, or may not be: only the log knows.
                tracing::error!(subscription = %self.id, %error, "outcomes are not on record");
                self.outbox.fail(&error.into());
                ctx.stop();
                return;
            }
        };
        self.version = appended.last_version;
        let (outcomes, _) = self.outbox.durable(appended.last);
        if outcomes > 0 {
            self.signal.forgive();
        }
        self.flight.durable(outcomes);
        for message in taken {
            self.flight.taken(message.version);
        }
        for effect in events.iter().flat_map(|event| effects(&self.state, event)) {
            match effect {
                Effect::Stopped => tracing::info!(subscription = %self.id, "over"),
                Effect::Interrupted { cause } => {
                    tracing::warn!(subscription = %self.id, %cause, "interrupted");
                }
            }
        }
        self.append(ctx);
        self.plan(ctx);
    }

    fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.flight.in_flight().is_empty()
    }

    fn answer_drain(&mut self) {
        if self.is_quiet() {
            for quiet in self.draining.split_off(0) {
                // Who asked may have stopped waiting.
                let _ = quiet.send(());
            }
            // Stay drained: nothing begins any more.
            self.draining.push(oneshot::channel().0);
        }
    }

    /// Fills in what only the live side knows.
    fn complete(&self, command: Command) -> Command {
        match command {
            Command::Close { .. } => Command::Close {
                in_flight: self.flight.in_flight(),
            },
            Command::Discard { message, past, .. } => {
                let in_flight = self.flight.is_in_flight(message.version);
                Command::Discard {
                    message,
                    past,
                    in_flight,
                }
            }
            other => other,
        }
    }
}

fn policy_of(api: &Api, state: &SubscriptionState) -> Arc<Policy> {
    let configuration = state.subscription.as_ref().map(|s| s.configuration.clone());
    Arc::new(Policy::of(
        &api.entrypoint,
        &configuration.unwrap_or_default(),
    ))
}

fn meta_of(recorded: &RecordedEvent) -> Option<MessageMeta> {
    let published = recorded.event.as_published()?;
    Some(MessageMeta {
        message: MessageRef {
            version: recorded.version,
            position: recorded.position,
            id: published.id,
            accepted_at: recorded.time,
        },
        key: published.key.clone(),
        channel: published.channel.clone(),
        matches: true,
    })
}

impl Actor for SubscriptionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        self.record(Command::RecoverInterrupted, Urgency::Linger, None, ctx);
        self.plan(ctx);
        self.starting = None;
    }
}

impl Drop for SubscriptionActor {
    fn drop(&mut self) {
        if !self.stopped_in_order {
            self.signal.set_down(std::thread::panicking());
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
        let (reply, answer) = oneshot::channel();
        let command = self.complete(execute.command);
        self.record(command, Urgency::Now, Some(reply), ctx);
        self.plan(ctx);
        let (id, busy) = (self.id, execute.busy);
        Box::pin(async move {
            let answer = answer.await.unwrap_or(Err(ExecuteError::Restarting(id)));
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
        MessageResult(Inspection {
            state: self.state.clone(),
            in_flight: self.flight.in_flight().len(),
            pending: self.state.pending(self.group.head()),
        })
    }
}

impl Handler<Drain> for SubscriptionActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (reply, quiet) = oneshot::channel();
        self.draining.push(reply);
        self.plan(ctx);
        Box::pin(async move {
            // An actor that goes away is quiet.
            let _ = quiet.await;
        })
    }
}
