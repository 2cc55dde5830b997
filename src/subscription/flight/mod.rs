//! What is in flight and what was read ahead: the whole planning of a subscription's actor.

mod plan;

use std::{collections::BTreeMap, time::Duration};

use self::plan::Plan;
use super::{
    SubscriptionState,
    circuit::Circuit,
    command::Command,
    pace::Pace,
    runs::Runs,
    timers::{Timer, Timers},
};
use crate::model::{
    AttemptNumber, DeadLetterQueue, FilterExpression, FilterVerdict, MessagePublished, MessageRef,
    Policy, Position, SubscriptionEvent, Timestamp, Version,
};

/// Most outcomes that may wait to be durable; above it no call starts. It bounds how many
/// messages are sent twice after a crash.
pub const OUTCOMES_NOT_DURABLE_MAX: usize = 256;
/// Most open deliveries and dead letters to forward; above it no new message is taken.
pub const OPEN_DELIVERIES_MAX: usize = 1_000;
/// Messages that are read beyond those in flight.
pub const READ_AHEAD: usize = 32;
/// Most messages read ahead in keyed mode, where a waiting key must not hide the others.
pub const KEYED_LOOK_AHEAD: usize = 1_000;
/// Longest wait for a date. Waits count monotonic time, and the wall clock may be set forward
/// past the date meanwhile.
const DATE_LOOK_MAX: Duration = Duration::from_secs(60);
/// How long a message past its deadline waits for others before they are given up, while nothing
/// can be sent. None is sent meanwhile.
pub const GIVE_UP_STEP: Duration = Duration::from_millis(100);
/// How long dead letters for another API wait before the log is asked again that had no room for one.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Longest run of messages passed over before it is recorded.
const FILTERED_RUN_MAX: u64 = 1_000;

/// What planning needs to know of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageMeta {
    /// The message.
    pub message: MessageRef,
    /// Its ordering key.
    pub key: Option<String>,
    /// Its channel.
    pub channel: Option<String>,
    /// What the subscription's filter makes of it; without a filter it passes.
    pub verdict: FilterVerdict,
}

impl MessageMeta {
    /// What is known of a message of its API's stream, where it stands there and when it came. It
    /// passes until a filter says otherwise.
    pub fn of(
        published: &MessagePublished,
        version: Version,
        position: Position,
        time: Timestamp,
    ) -> Self {
        Self {
            message: MessageRef {
                version,
                position,
                id: published.id,
                accepted_at: time,
            },
            key: published.key.clone(),
            channel: published.channel.clone(),
            verdict: FilterVerdict::Passes,
        }
    }
}

/// Both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time: dates and deadlines count by it. It may jump.
    pub wall: Timestamp,
    /// Monotonic time since some fixed start: waits and rates count by it.
    pub elapsed: Duration,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read up to `limit` messages after `after` and [`offer`](Flight::offer) them, even if there
    /// are none. One read is asked for at a time.
    Read {
        /// The version before the first.
        after: Version,
        /// Most messages.
        limit: usize,
    },
    /// Call now. The flight counts it as begun.
    Send {
        /// The message.
        message: MessageRef,
        /// The number of the call.
        attempt: AttemptNumber,
        /// Whether it probes an open circuit.
        probe: bool,
    },
    /// Decide and apply this command, then ask again. After a [`Command::Take`] has become
    /// durable, call [`Flight::taken`].
    Record(Command),
    /// Forward this dead letter, record [`Command::Forwarded`] or [`Command::ForwardFailed`],
    /// then call [`Flight::forward_ended`]; where the log had no room for it, record nothing, and
    /// call [`Flight::forward_put_off`].
    Forward {
        /// The message.
        message: MessageRef,
        /// Where it goes.
        target: DeadLetterQueue,
    },
    /// Ask again after this much monotonic time, unless something happens before.
    Wake {
        /// The wait, above zero.
        after: Duration,
    },
}

/// A call in flight, or taken and about to be.
#[derive(Debug, Clone)]
struct Call {
    meta: MessageMeta,
    probe: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The take is asked for and not durable.
    Taking,
    /// The take is durable; the call may start.
    Taken,
    /// The call has begun.
    Sent,
}

/// A read that was asked for.
#[derive(Debug, Clone, Copy)]
struct Reading {
    after: Version,
    limit: usize,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The next messages.
    Ahead,
    /// The keys of open deliveries.
    Keys,
    /// None any more: the definition changed meanwhile.
    Stale,
}

/// What is in flight and what was read ahead. It lives as long as its actor and is in no
/// snapshot: after a crash a new one reads again what has no outcome.
#[derive(Debug, Clone, Default)]
pub struct Flight {
    calls: BTreeMap<Version, Call>,
    /// How many of them are taken or about to be, and not sent.
    unsent: usize,
    /// Messages read and not begun.
    ahead: BTreeMap<Version, MessageMeta>,
    /// Messages read that are not for this subscription.
    skipped: Runs,
    /// Messages that the filter fails on, and why.
    failed: BTreeMap<Version, (MessageRef, String)>,
    /// Messages that cannot be read: retention has dropped them, or they are damaged.
    lost: Runs,
    read_to: Option<Version>,
    reading: Option<Reading>,
    /// The head at which a read came back empty.
    dry_at: Option<Version>,
    /// Keys of open deliveries, in keyed mode.
    keys: BTreeMap<Version, Option<String>>,
    /// `None` while it is for every message, as most are: there are many of these, and small ones.
    narrowed: Option<Box<Narrowed>>,
    not_durable: usize,
    forwarding: Option<Version>,
    pace: Pace,
    /// Of what is taken before it is sent: takes may become durable together.
    pace_taken: Pace,
    timers: Timers,
}

/// Which messages a subscription is for; what was read under another is read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Narrowed {
    channel: Option<String>,
    filter: Option<FilterExpression>,
}

impl Narrowed {
    fn of(state: &SubscriptionState) -> Option<Box<Self>> {
        let subscription = state.subscription.as_ref()?;
        let narrowed = Self {
            channel: subscription.channel.clone(),
            filter: subscription.filter.clone(),
        };
        (narrowed != Self::default()).then(|| Box::new(narrowed))
    }

    fn is_of(narrowed: Option<&Self>, state: &SubscriptionState) -> bool {
        let subscription = state.subscription.as_ref();
        narrowed.and_then(|own| own.channel.as_ref())
            == subscription.and_then(|s| s.channel.as_ref())
            && narrowed.and_then(|own| own.filter.as_ref())
                == subscription.and_then(|s| s.filter.as_ref())
    }

    /// Whether a message of this channel is for it, filter apart.
    fn takes(narrowed: Option<&Self>, channel: Option<&String>) -> bool {
        let own = narrowed.and_then(|narrowed| narrowed.channel.as_ref());
        own.is_none() || own == channel
    }
}

impl Flight {
    /// Nothing in flight, nothing read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the messages that a read gave, in version order: all of them, so that an answer
    /// that begins later than it was asked for shows what retention has cut.
    pub fn offer(&mut self, messages: Vec<MessageMeta>) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        match reading.purpose {
            Purpose::Ahead => self.read_ahead(reading.after, messages),
            Purpose::Keys => self.learn_keys(reading, messages),
            Purpose::Stale => {}
        }
    }

    fn read_ahead(&mut self, after: Version, messages: Vec<MessageMeta>) {
        let last = messages.last().map(|meta| meta.message.version);
        let Some(last) = last else {
            self.dry_at = Some(Version::MAX);
            return;
        };
        let mut expected = after.next();
        for meta in messages {
            let version = meta.message.version;
            self.lost.insert(expected, version.previous());
            expected = version.next();
            // Its call has begun, whatever the definition says now.
            if self.calls.contains_key(&version) {
                continue;
            }
            if !Narrowed::takes(self.narrowed.as_deref(), meta.channel.as_ref()) {
                self.skipped.insert(version, version);
                continue;
            }
            match &meta.verdict {
                FilterVerdict::Passes => drop(self.ahead.insert(version, meta)),
                FilterVerdict::Filtered => self.skipped.insert(version, version),
                FilterVerdict::Failed(why) => {
                    self.failed.insert(version, (meta.message, why.clone()));
                }
            }
        }
        self.read_to = Some(last);
    }

    /// The take of this message is durable: it may be sent.
    pub fn taken(&mut self, version: Version) {
        if let Some(call) = self.calls.get_mut(&version)
            && call.stage == Stage::Taking
        {
            call.stage = Stage::Taken;
        }
    }

    /// The call of this message has ended and its outcome is applied to the state, not yet
    /// durable.
    pub fn ended(&mut self, version: Version) {
        if let Some(call) = self.calls.remove(&version) {
            self.unsent -= usize::from(call.stage != Stage::Sent);
            self.not_durable += 1;
        }
    }

    /// The call of this message was not made; it waits as before.
    pub fn not_made(&mut self, version: Version) {
        if let Some(call) = self.calls.remove(&version) {
            self.unsent -= usize::from(call.stage != Stage::Sent);
            self.ahead.insert(version, call.meta);
        }
    }

    /// This event is applied to the state. A wait that it plans is counted from when it is next
    /// asked for.
    pub fn applied(&mut self, event: &SubscriptionEvent) {
        let planned = match event {
            SubscriptionEvent::RetryScheduled(event) => Timer::Retry(event.message.version),
            SubscriptionEvent::DeadLetterForwardFailed(event) => {
                Timer::Forward(event.message.version)
            }
            SubscriptionEvent::Held(_) => Timer::Hold,
            SubscriptionEvent::CircuitOpened(_) => Timer::Probe,
            _ => return,
        };
        self.timers.forget(planned);
    }

    /// How long the pause that the callback asked for stands yet; zero when none does.
    pub fn hold_remaining(&mut self, state: &SubscriptionState, now: Now) -> Duration {
        state.hold.map_or(Duration::ZERO, |hold| {
            let planned = hold.retry_after.duration();
            self.timers.remaining(Timer::Hold, hold.until, planned, now)
        })
    }

    /// How long the pause of the circuit stands yet; zero while it is closed.
    pub fn probe_remaining(&mut self, state: &SubscriptionState, now: Now) -> Duration {
        match state.circuit {
            Circuit::Open {
                probe_at, pause_ms, ..
            } => {
                let pause = Duration::from_millis(pause_ms);
                self.timers.remaining(Timer::Probe, probe_at, pause, now)
            }
            Circuit::Closed { .. } => Duration::ZERO,
        }
    }

    /// Counts the pauses of the callback and of its circuit from now on, if they stand: also while
    /// nothing asks for them. One that is not told so counts from when it is first asked for.
    pub fn arm_pauses(&mut self, state: &SubscriptionState, now: Now) {
        self.hold_remaining(state, now);
        self.probe_remaining(state, now);
    }

    /// Counts the wait for the retry of this message from now on, as pauses are.
    pub fn arm_retry(&mut self, state: &SubscriptionState, version: Version, now: Now) {
        let Some(retry) = state.open.get(&version).and_then(|open| open.retry) else {
            return;
        };
        let planned = Duration::from_millis(retry.delay_ms);
        let timer = Timer::Retry(version);
        self.timers.remaining(timer, retry.due_at, planned, now);
    }

    /// So many outcomes have become durable.
    pub fn durable(&mut self, outcomes: usize) {
        self.not_durable = self.not_durable.saturating_sub(outcomes);
    }

    /// The dead letter on its way has arrived or failed, and the state knows.
    pub fn forward_ended(&mut self) {
        self.forwarding = None;
    }

    /// The log had no room for the dead letter on its way to another API. Those for one wait a
    /// second; the others have their turn.
    pub fn forward_put_off(&mut self, now: Now) {
        self.forwarding = None;
        self.timers.begin(Timer::Room, ROOM_PAUSE, now);
    }

    /// Messages whose call has begun. One that is only taken is not among them.
    pub fn in_flight(&self) -> Vec<Version> {
        let sent = self
            .calls
            .iter()
            .filter(|(_, call)| call.stage == Stage::Sent);
        sent.map(|(version, _)| *version).collect()
    }

    /// Whether no call has begun or is about to, and no dead letter is on its way. A take that is
    /// on record and not followed by its call would be taken for an interrupted one.
    pub fn is_quiet(&self) -> bool {
        self.forwarding.is_none() && self.calls.is_empty()
    }

    /// Whether any message is being called with, or is about to be.
    pub fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether this message was read ahead and not begun.
    pub fn is_ahead(&self, version: Version) -> bool {
        self.ahead.contains_key(&version)
    }

    /// How many messages were read ahead and not begun.
    pub fn ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Whether a call of this message has begun.
    pub fn is_in_flight(&self, version: Version) -> bool {
        let call = self.calls.get(&version);
        call.is_some_and(|call| call.stage == Stage::Sent)
    }

    /// What to do now. Sends count as begun and a read as asked for, so asking twice does not
    /// give them twice; records are given until the state shows them. When nothing can be done
    /// it gives one wake-up or nothing: then only an outcome, a command or a new message changes
    /// anything.
    pub fn next(
        &mut self,
        state: &SubscriptionState,
        policy: &Policy,
        now: Now,
        api_head: Version,
    ) -> Vec<Action> {
        debug_assert_eq!(
            self.unsent,
            self.calls
                .values()
                .filter(|call| call.stage != Stage::Sent)
                .count()
        );
        self.forget(state, api_head);
        let (mut actions, wake) = Plan::new(self, state, policy, now, api_head).made();
        if !actions.iter().any(|a| matches!(a, Action::Record(_))) {
            actions.extend(wake.map(|after| Action::Wake { after }));
        }
        actions
    }

    /// As [`next`](Self::next), of one that begins nothing more: a call whose take is on record has
    /// begun, and is made.
    pub fn next_of_begun(
        &mut self,
        state: &SubscriptionState,
        policy: &Policy,
        now: Now,
    ) -> Vec<Action> {
        self.drop_refused_takes(state);
        let (mut actions, wake) = Plan::new(self, state, policy, now, Version::ZERO).begun();
        actions.extend(wake.map(|after| Action::Wake { after }));
        actions
    }

    /// Drops what the state has moved past.
    fn forget(&mut self, state: &SubscriptionState, head: Version) {
        if !Narrowed::is_of(self.narrowed.as_deref(), state) {
            self.narrowed = Narrowed::of(state);
            self.ahead.clear();
            self.failed.clear();
            self.skipped = Runs::default();
            self.lost = Runs::default();
            self.read_to = None;
            if let Some(reading) = &mut self.reading {
                reading.purpose = Purpose::Stale;
            }
        }
        if self.dry_at == Some(Version::MAX) {
            self.dry_at = Some(head);
        }
        self.drop_refused_takes(state);
        // The state has moved past what was read ahead only where a command has.
        let first = self.ahead.first_key_value().map(|(version, _)| *version);
        let ends = state.beyond.iter().next_back();
        let ends = ends.map_or(state.cursor, |(_, last)| last.max(state.cursor));
        if first.is_some_and(|first| first <= ends) {
            self.ahead.retain(|version, _| !state.is_seen(*version));
        }
        self.failed.retain(|version, _| !state.is_seen(*version));
        for runs in [&mut self.skipped, &mut self.lost] {
            runs.remove_through(state.cursor);
            if !runs.is_empty() {
                for (first, last) in state.beyond.iter() {
                    runs.remove(first, last);
                }
            }
        }
        self.keys
            .retain(|version, _| state.open.contains_key(version));
        self.timers.keep(|timer| match timer {
            Timer::Retry(version) => state.open.contains_key(&version),
            Timer::Forward(version) => state.forwards.contains_key(&version),
            Timer::Hold => state.hold.is_some(),
            Timer::Probe => state.circuit.is_open(),
            Timer::Room => !state.forwards.is_empty(),
        });
    }

    /// A take that was refused, or whose delivery was ended before its call began, is undone.
    fn drop_refused_takes(&mut self, state: &SubscriptionState) {
        if self.unsent == 0 {
            return;
        }
        let refused = |version: &Version, call: &Call| {
            call.stage != Stage::Sent && !state.open.get(version).is_some_and(|open| open.taken)
        };
        let refused: Vec<_> = self
            .calls
            .extract_if(.., |v, call| refused(v, call))
            .collect();
        self.unsent -= refused.len();
        for (version, call) in refused {
            self.ahead.insert(version, call.meta);
        }
    }

    /// A message that retention has cut is held by no key. What lies behind the last that came was
    /// not read, and is asked for again.
    fn learn_keys(&mut self, reading: Reading, messages: Vec<MessageMeta>) {
        let end = reading.after.plus(reading.limit as u64);
        let last = messages.last().map_or(end, |meta| meta.message.version);
        for place in 1..=last.min(end).distance_from(reading.after) {
            self.keys.insert(reading.after.plus(place), None);
        }
        for meta in messages {
            self.keys.insert(meta.message.version, meta.key);
        }
    }
}
