//! Drives one subscription without touching anything: it says what is to be done, and is told what
//! came of it. Whoever holds it (an actor, a simulation) makes the calls, the reads and the appends.

mod outbox;

use std::{cell::OnceCell, sync::Arc, time::Duration};

use self::outbox::{Decision, Next, Outbox};
use super::{
    Action, Command, Effect, Flight, MessageMeta, Now, Rejection, SubscriptionState, apply, decide,
    effects, schedule,
};
use crate::model::{
    Api, ApiState, AttemptNumber, AttemptReport, ConsumerConfiguration, DeadLetterQueue,
    MessageRef, Moment, Policy, SubscriptionEvent, Timestamp, Version,
};

/// Where a driver's times and chance come from.
pub trait Time {
    /// Both clocks.
    fn now(&self) -> Now;

    /// The present moment, with fresh entropy.
    fn moment(&self) -> Moment;
}

/// A call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The message to send.
    pub message: MessageRef,
    /// The number of the call.
    pub attempt: AttemptNumber,
    /// Whether it probes an open circuit.
    pub probe: bool,
    /// The settings it is made under, to its end.
    pub policy: Arc<Policy>,
    /// From when on it must not begin any more, wall clock. One that has not begun by then was
    /// [not made](Driver::not_made).
    pub deadline: Option<Timestamp>,
}

/// Something to do.
#[derive(Debug)]
pub enum Job<R> {
    /// Read up to `limit` messages after `after`, then [`offer`](Driver::offer) them, even if
    /// there are none.
    Read {
        /// The version before the first.
        after: Version,
        /// Most messages.
        limit: usize,
    },
    /// Make a call, then tell that it [ended](Driver::ended).
    Send(Call),
    /// Take a dead letter to its place, then tell that it [got there or
    /// not](Driver::forward_ended), or that it was [put off](Driver::forward_put_off).
    Forward {
        /// The message.
        message: MessageRef,
        /// Where it goes.
        target: DeadLetterQueue,
    },
    /// Append these events to the subscription's stream, then tell that they are
    /// [durable](Driver::appended) or [not](Driver::append_failed). One append is asked for at a
    /// time.
    Append {
        /// The version that the stream must stand at.
        expected: Version,
        /// The events, at least one.
        events: Vec<SubscriptionEvent>,
        /// Whether somebody waits.
        urgent: bool,
    },
    /// Whoever asked for something that needed no event has the answer: it holds as of now.
    Answer(R),
    /// Plan again after this much monotonic time, unless something happens before. It replaces
    /// the wake-up of an earlier plan, and so does its absence.
    Wake {
        /// The wait, above zero.
        after: Duration,
    },
}

/// What became durable with an append.
#[derive(Debug)]
pub struct Durable<R> {
    /// Who waited for it.
    pub replies: Vec<R>,
    /// How many calls have their outcome on record by it.
    pub outcomes: usize,
    /// What follows outside.
    pub effects: Vec<Effect>,
}

/// One subscription at work. `R` is how whoever asked for something gets the answer.
///
/// What is decided is applied at once and appended in order, so a call may begin before the event
/// that led to it is durable. After a crash such a call is made again; [`Flight`] bounds how many
/// can be.
///
/// After each thing it is told, ask it to [`plan`](Self::plan).
#[derive(Debug)]
pub struct Driver<R> {
    state: SubscriptionState,
    flight: Flight,
    /// The last version of its stream that is durable.
    version: Version,
    outbox: Outbox<R>,
    api: Arc<Api>,
    /// Made of the API and the definition when it is needed, and forgotten when there is nothing
    /// to do: most subscriptions stand still most of the time.
    policy: OnceCell<Arc<Policy>>,
    draining: bool,
    /// An append came to nothing: what is applied may not be in the log.
    failed: bool,
}

impl<R> Driver<R> {
    /// Takes over a recovered subscription whose stream stands at `version`, on this API. What a
    /// crash left unsettled is settled first.
    pub fn new(
        state: SubscriptionState,
        version: Version,
        api: Arc<Api>,
        time: &impl Time,
    ) -> Self {
        let mut driver = Self {
            state,
            flight: Flight::new(),
            version,
            outbox: Outbox::new(),
            api,
            policy: OnceCell::new(),
            draining: false,
            failed: false,
        };
        // What has nothing to settle is refused nothing.
        let _ = driver.record(Command::RecoverInterrupted, time);
        let now = time.now();
        driver.flight.arm_pauses(&driver.state, now);
        for version in driver.state.open.keys() {
            driver.flight.arm_retry(&driver.state, *version, now);
        }
        driver
    }

    /// The state, what is not yet durable included.
    pub const fn state(&self) -> &SubscriptionState {
        &self.state
    }

    /// The settings that the next call is made under.
    pub fn policy(&self) -> &Arc<Policy> {
        self.policy
            .get_or_init(|| Arc::new(policy_of(&self.api, &self.state)))
    }

    /// The API as it is delivered under.
    pub const fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The messages whose calls have begun and not ended.
    pub fn in_flight(&self) -> Vec<Version> {
        self.flight.in_flight()
    }

    /// Until when, by the wall clock as it is set now, the pause stands that the callback asked for;
    /// `None` when none does.
    pub fn held_until(&mut self, time: &impl Time) -> Option<Timestamp> {
        let now = time.now();
        let remaining = self.flight.hold_remaining(&self.state, now);
        (!remaining.is_zero()).then(|| now.wall.plus(remaining))
    }

    /// Whether any message is being called with, or is about to be.
    pub fn has_calls(&self) -> bool {
        self.flight.has_calls()
    }

    /// Whether this message was read ahead and is still to be sent.
    pub fn is_ahead(&self, version: Version) -> bool {
        self.flight.is_ahead(version)
    }

    /// How many messages were read ahead and are still to be sent.
    pub fn ahead(&self) -> usize {
        self.flight.ahead()
    }

    /// Whether nothing is under way: no call, no dead letter, nothing to append.
    pub fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.flight.is_quiet()
    }

    /// Whether it is over and has nothing left to do.
    pub fn is_finished(&self) -> bool {
        self.state.has_ended() && self.is_quiet()
    }

    /// Begins nothing more. What is under way ends, and is recorded; a call whose take is asked for
    /// is under way.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Takes over the API's new definition: the next call is made under it.
    pub fn set_api(&mut self, api: Arc<Api>, time: &impl Time) {
        let callback_url = self.policy().callback_url.clone();
        self.api = api;
        self.policy.take();
        let moved = self.policy().callback_url != callback_url;
        if moved {
            self.callback_moved(time);
        }
    }

    /// Forgets what is thought of a callback that another one has taken the place of.
    pub fn callback_moved(&mut self, time: &impl Time) {
        // One that does not exist yet has nothing to forget.
        let _ = self.record(Command::CallbackMoved, time);
    }

    /// What to do now. `head` is the last version of the API's messages that may be read.
    pub fn plan(&mut self, time: &impl Time, head: Version) -> Vec<Job<R>> {
        let mut jobs = Vec::new();
        let mut wake = None;
        while self.may_plan() {
            wake = None;
            let mut again = false;
            let policy = Arc::clone(self.policy());
            for action in self.flight.next(&self.state, &policy, time.now(), head) {
                match action {
                    Action::Record(command) => {
                        again |= matches!(self.record(command, time), Ok(events) if events > 0);
                    }
                    Action::Wake { after } => wake = Some(after),
                    other => jobs.extend(self.job(other)),
                }
            }
            if !again {
                break;
            }
        }
        if !self.failed && (self.draining || self.api.state != ApiState::Started) {
            let policy = Arc::clone(self.policy());
            let begun = self.flight.next_of_begun(&self.state, &policy, time.now());
            for action in begun {
                match action {
                    Action::Wake { after } => wake = Some(after),
                    other => jobs.extend(self.job(other)),
                }
            }
        }
        self.append_next(&mut jobs);
        jobs.extend(wake.map(|after| Job::Wake { after }));
        if jobs.is_empty() && self.is_quiet() && self.flight.ahead() == 0 {
            self.policy.take();
        }
        jobs
    }

    fn may_plan(&self) -> bool {
        !self.failed
            && !self.draining
            && self.outbox.has_room()
            && self.api.state == ApiState::Started
    }

    fn job(&self, action: Action) -> Option<Job<R>> {
        match action {
            Action::Read { after, limit } => Some(Job::Read { after, limit }),
            Action::Send {
                message,
                attempt,
                probe,
            } => Some(Job::Send(Call {
                message,
                attempt,
                probe,
                policy: Arc::clone(self.policy()),
                deadline: self.deadline(message),
            })),
            Action::Forward { message, target } => Some(Job::Forward { message, target }),
            Action::Record(_) | Action::Wake { .. } => None,
        }
    }

    /// From when on a call with this message must not begin. One that was taken has begun, and one
    /// that a person asked for has none.
    fn deadline(&self, message: MessageRef) -> Option<Timestamp> {
        let open = self.state.open.get(&message.version);
        if open.is_some_and(|open| open.renewed || open.taken) {
            return None;
        }
        schedule::deadline(&self.policy().retry, message.accepted_at)
    }

    fn append_next(&mut self, jobs: &mut Vec<Job<R>>) {
        loop {
            match self.outbox.next() {
                Next::Nothing => return,
                Next::Answered(replies) => jobs.extend(replies.into_iter().map(Job::Answer)),
                Next::Append(events, urgent) => {
                    jobs.push(Job::Append {
                        expected: self.version,
                        events,
                        urgent,
                    });
                    return;
                }
            }
        }
    }

    /// Takes in the messages that a read gave, see [`Flight::offer`].
    pub fn offer(&mut self, messages: Vec<MessageMeta>) {
        self.flight.offer(messages);
    }

    /// Asks it something. A refusal comes back at once; else the reply is among those of an
    /// [`appended`](Self::appended), or of a [`Job::Answer`].
    pub fn execute(
        &mut self,
        command: Command,
        reply: R,
        time: &impl Time,
    ) -> Result<(), (R, Rejection)> {
        let command = self.complete(command);
        let moment = time.moment();
        match decide(&self.state, command, self.policy(), &moment) {
            Ok(events) => {
                self.take_over(events, 0, true, Some(reply));
                Ok(())
            }
            Err(rejection) => Err((reply, rejection)),
        }
    }

    /// Fills in what only the live side knows.
    fn complete(&self, command: Command) -> Command {
        match command {
            Command::Close { .. } => Command::Close {
                in_flight: self.flight.in_flight(),
            },
            Command::Discard { message, past, .. } => Command::Discard {
                message,
                past,
                in_flight: self.flight.is_in_flight(message.version),
            },
            other => other,
        }
    }

    /// A call has ended. Its outcome is refused when its delivery has a fate already.
    pub fn ended(
        &mut self,
        call: &Call,
        report: Box<AttemptReport>,
        sampled: bool,
        time: &impl Time,
    ) -> Result<(), Rejection> {
        let command = Command::Record {
            message: call.message,
            attempt: call.attempt,
            probe: call.probe,
            former_callback: call.policy.callback_url != self.policy().callback_url,
            hold_remaining: self.flight.hold_remaining(&self.state, time.now()),
            report,
            entry: self.api.analytics.entry(sampled),
        };
        let decided = decide(&self.state, command, &call.policy, &time.moment());
        self.conclude(call, decided, time)
    }

    /// A call was not made before its deadline: its message is given up. Of a subscription that does
    /// not deliver meanwhile it waits with the others.
    pub fn not_made(&mut self, call: &Call, time: &impl Time) -> Result<(), Rejection> {
        self.flight.not_made(call.message.version);
        let messages = vec![call.message];
        self.record(Command::Expire { messages }, time).map(drop)
    }

    /// A call will never be made: the message cannot be read any more.
    pub fn unsendable(
        &mut self,
        call: &Call,
        detail: String,
        time: &impl Time,
    ) -> Result<(), Rejection> {
        let command = Command::Unsendable {
            message: call.message,
            detail,
        };
        let decided = decide(&self.state, command, &call.policy, &time.moment());
        if decided.as_ref().is_ok_and(Vec::is_empty) {
            self.flight.not_made(call.message.version);
            return Ok(());
        }
        self.conclude(call, decided, time)
    }

    /// A call ends, as was decided under the policy it began with.
    fn conclude(
        &mut self,
        call: &Call,
        decided: Result<Vec<SubscriptionEvent>, Rejection>,
        time: &impl Time,
    ) -> Result<(), Rejection> {
        self.flight.ended(call.message.version);
        let events = decided.as_ref().map_or(0, Vec::len);
        if events == 0 {
            self.flight.durable(1);
        }
        self.take_over(decided?, 1, false, None);
        let (version, now) = (call.message.version, time.now());
        self.flight.arm_pauses(&self.state, now);
        self.flight.arm_retry(&self.state, version, now);
        Ok(())
    }

    /// The dead letter on its way has got to its place, or could not be taken there. It is refused,
    /// and the next may go, when the message was delivered or discarded meanwhile.
    pub fn forward_ended(
        &mut self,
        message: MessageRef,
        forwarded: Result<(), String>,
        time: &impl Time,
    ) -> Result<(), Rejection> {
        let command = match forwarded {
            Ok(()) => Command::Forwarded { message },
            Err(reason) => Command::ForwardFailed { message, reason },
        };
        self.flight.forward_ended();
        self.record(command, time).map(drop)
    }

    /// The log had no room for the dead letter on its way to another API, which is no failure of its
    /// place: it is tried again after a second, and nothing is recorded.
    pub fn forward_put_off(&mut self, time: &impl Time) {
        self.flight.forward_put_off(time.now());
    }

    /// The append that was asked for is durable; the stream stands at `version`.
    pub fn appended(&mut self, version: Version) -> Durable<R> {
        self.version = version;
        let mut durable = Durable {
            replies: Vec::new(),
            outcomes: 0,
            effects: Vec::new(),
        };
        for decision in self.outbox.durable() {
            durable.outcomes += decision.outcomes;
            durable.replies.extend(decision.reply);
            for event in &decision.events {
                if let SubscriptionEvent::Taken(taken) = event {
                    self.flight.taken(taken.message.version);
                }
                durable.effects.extend(effects(&self.state, event));
            }
        }
        self.flight.durable(durable.outcomes);
        durable
    }

    /// The append that was asked for is not in the log, or may not be: only the log knows what
    /// this subscription is now, so this driver is of no more use. Gives who waited.
    pub fn append_failed(&mut self) -> Vec<R> {
        self.failed = true;
        self.outbox.fail()
    }

    /// Decides a command under the present policy and takes over what follows. Gives the number
    /// of events.
    fn record(&mut self, command: Command, time: &impl Time) -> Result<usize, Rejection> {
        let events = decide(&self.state, command, self.policy(), &time.moment())?;
        let count = events.len();
        self.take_over(events, 0, false, None);
        Ok(count)
    }

    /// Applies what was decided at once and puts it on its way to the log.
    fn take_over(
        &mut self,
        events: Vec<SubscriptionEvent>,
        outcomes: usize,
        urgent: bool,
        reply: Option<R>,
    ) {
        if events.is_empty() && reply.is_none() {
            return;
        }
        let mut policy_changed = false;
        for event in &events {
            apply(&mut self.state, event);
            self.flight.applied(event);
            policy_changed |= matches!(
                event,
                SubscriptionEvent::Created(_) | SubscriptionEvent::Updated(_)
            );
        }
        if policy_changed {
            self.policy.take();
        }
        self.outbox.push(Decision {
            events,
            outcomes,
            urgent,
            reply,
        });
    }
}

fn policy_of(api: &Api, state: &SubscriptionState) -> Policy {
    match &state.subscription {
        Some(subscription) => Policy::of(&api.entrypoint, &subscription.configuration),
        None => Policy::of(&api.entrypoint, &ConsumerConfiguration::default()),
    }
}
