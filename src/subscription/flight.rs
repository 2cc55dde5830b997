//! What is in flight and what was read ahead: the whole planning of a subscription's actor.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    SubscriptionState,
    circuit::Circuit,
    command::Command,
    decide::FORWARD_PAUSE_MAX,
    pace::Pace,
    runs::Runs,
    schedule,
    state::OpenDelivery,
    timers::{Timer, Timers},
};
use crate::model::{
    AttemptNumber, DeadLetterQueue, DeliveryMode, MessageRef, Policy, Timestamp, Version,
};

/// Most outcomes that may wait to be durable; above it no call starts. It bounds how many
/// messages are sent twice after a crash.
pub const OUTCOMES_NOT_DURABLE_MAX: usize = 256;
/// Most open deliveries and dead letters to forward; above it no new message is taken.
pub const OPEN_DELIVERIES_MAX: usize = 1_000;
/// Most messages read ahead in keyed mode, where a waiting key must not hide the others.
pub const KEYED_LOOK_AHEAD: usize = 1_000;
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
    /// Whether the subscription's filter lets it through; true without a filter.
    pub matches: bool,
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
    /// then call [`Flight::forward_ended`].
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

/// What is in flight and what was read ahead. It lives as long as its actor and is in no
/// snapshot: after a crash a new one reads again what has no outcome.
#[derive(Debug, Clone, Default)]
pub struct Flight {
    calls: BTreeMap<Version, Call>,
    /// Messages read and not begun.
    ahead: BTreeMap<Version, MessageMeta>,
    /// Messages read that are not for this subscription, or that retention has cut.
    skipped: Runs,
    read_to: Option<Version>,
    reading: Option<(Version, usize)>,
    /// The head at which a read came back empty.
    dry_at: Option<Version>,
    /// Keys of open deliveries, in keyed mode.
    keys: BTreeMap<Version, Option<String>>,
    channel: Option<String>,
    not_durable: usize,
    forwarding: Option<Version>,
    pace: Pace,
    timers: Timers,
}

impl Flight {
    /// Nothing in flight, nothing read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the messages that a read gave, in version order: all of them, so that an answer
    /// that begins later than it was asked for shows what retention has cut.
    pub fn offer(&mut self, messages: Vec<MessageMeta>) {
        let Some((after, limit)) = self.reading.take() else {
            return;
        };
        let last = messages.last().map(|meta| meta.message.version);
        if self.read_to.is_some_and(|read_to| after < read_to) {
            self.learn_keys(after, limit, &messages);
            return;
        }
        let Some(last) = last else {
            self.dry_at = Some(Version::MAX);
            return;
        };
        let mut expected = after.next();
        for meta in messages {
            let version = meta.message.version;
            self.skipped.insert(expected, version.previous());
            expected = version.next();
            let channel_differs = self.channel.is_some() && self.channel != meta.channel;
            if channel_differs || !meta.matches {
                self.skipped.insert(version, version);
            } else {
                self.ahead.insert(version, meta);
            }
        }
        self.read_to = Some(last);
    }

    /// The take of this message is durable: it may be sent.
    pub fn taken(&mut self, version: Version) {
        if let Some(call) = self.calls.get_mut(&version) {
            call.stage = Stage::Taken;
        }
    }

    /// The call of this message has ended and its outcome is applied to the state, not yet
    /// durable.
    pub fn ended(&mut self, version: Version) {
        if self.calls.remove(&version).is_some() {
            self.not_durable += 1;
        }
    }

    /// The call of this message will not be made after all, and there is no outcome.
    pub fn released(&mut self, version: Version) {
        if let Some(call) = self.calls.remove(&version) {
            self.ahead.insert(version, call.meta);
        }
    }

    /// So many outcomes have become durable.
    pub fn durable(&mut self, outcomes: usize) {
        self.not_durable = self.not_durable.saturating_sub(outcomes);
    }

    /// The dead letter on its way has arrived or failed, and the state knows.
    pub fn forward_ended(&mut self) {
        self.forwarding = None;
    }

    /// Messages in flight, taken ones included.
    pub fn in_flight(&self) -> Vec<Version> {
        self.calls.keys().copied().collect()
    }

    /// Whether a call of this message is in flight.
    pub fn is_in_flight(&self, version: Version) -> bool {
        self.calls.contains_key(&version)
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
        self.forget(state, api_head);
        let mut plan = Plan {
            flight: self,
            state,
            policy,
            now,
            head: api_head,
            actions: Vec::new(),
            wake: None,
        };
        plan.make();
        let (mut actions, wake) = (plan.actions, plan.wake);
        if actions.is_empty() || !actions.iter().any(|a| matches!(a, Action::Record(_))) {
            actions.extend(wake.map(|after| Action::Wake { after }));
        }
        actions
    }

    /// Drops what the state has moved past.
    fn forget(&mut self, state: &SubscriptionState, head: Version) {
        let channel = state.subscription.as_ref().and_then(|s| s.channel.clone());
        if self.channel != channel {
            self.channel = channel;
            self.ahead.clear();
            self.skipped = Runs::default();
            self.read_to = None;
            self.reading = None;
        }
        if self.dry_at == Some(Version::MAX) {
            self.dry_at = Some(head);
        }
        self.ahead.retain(|version, _| !state.is_seen(*version));
        self.skipped.remove_through(state.cursor);
        self.keys
            .retain(|version, _| state.open.contains_key(version));
        self.timers.keep(|timer| match timer {
            Timer::Retry(version) => state.open.contains_key(&version),
            Timer::Forward(version) => state.forwards.contains_key(&version),
            Timer::Hold => state.hold.is_some(),
            Timer::Probe => state.circuit.is_open(),
        });
    }

    fn learn_keys(&mut self, after: Version, limit: usize, messages: &[MessageMeta]) {
        for place in 1..=limit as u64 {
            self.keys.insert(after.plus(place), None);
        }
        for meta in messages {
            self.keys.insert(meta.message.version, meta.key.clone());
        }
    }
}

/// One round of planning.
struct Plan<'a> {
    flight: &'a mut Flight,
    state: &'a SubscriptionState,
    policy: &'a Policy,
    now: Now,
    head: Version,
    actions: Vec<Action>,
    wake: Option<Duration>,
}

impl Plan<'_> {
    fn make(&mut self) {
        self.forward();
        if !self.delivers() {
            return;
        }
        self.skip();
        self.expire();
        if !self.actions.iter().any(|a| matches!(a, Action::Record(_))) {
            self.send();
        }
        self.read();
    }

    fn wake_after(&mut self, wait: Duration) {
        if !wait.is_zero() {
            self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
        }
    }

    /// Whether both sides and the dates want deliveries.
    fn delivers(&mut self) -> bool {
        let Some(subscription) = self.state.subscription.as_deref() else {
            return false;
        };
        if !self.state.is_running() || self.policy.callback_url.is_none() {
            return false;
        }
        if let Some(start) = subscription
            .starting_at
            .filter(|start| *start > self.now.wall)
        {
            self.wake_after(start.since(self.now.wall));
            return false;
        }
        if let Some(end) = subscription.ending_at {
            self.wake_after(end.since(self.now.wall));
            return end > self.now.wall;
        }
        true
    }

    /// One dead letter at a time goes to the place it is forwarded to.
    fn forward(&mut self) {
        if self.flight.forwarding.is_some() {
            return;
        }
        for (version, forward) in &self.state.forwards {
            let wait = forward.due_at.map_or(Duration::ZERO, |due_at| {
                let timer = Timer::Forward(*version);
                let longest = FORWARD_PAUSE_MAX * 2;
                self.flight
                    .timers
                    .remaining(timer, due_at, longest, self.now)
            });
            if wait.is_zero() {
                self.flight.forwarding = Some(*version);
                self.actions.push(Action::Forward {
                    message: forward.message,
                    target: forward.target.clone(),
                });
                return;
            }
            self.wake_after(wait);
        }
    }

    /// Records runs that are not for this subscription once they cannot grow, or have grown long.
    fn skip(&mut self) {
        let read_to = self.flight.read_to.unwrap_or(Version::ZERO);
        for (first, last) in self.flight.skipped.iter() {
            let long = last.distance_from(first) + 1 >= FILTERED_RUN_MAX;
            if last < read_to || last >= self.head || long {
                let filtered = Command::Filtered { first, last };
                self.actions.push(Action::Record(filtered));
            }
        }
        for action in &self.actions {
            if let Action::Record(Command::Filtered { last, .. }) = action {
                self.flight.skipped.remove_through(*last);
            }
        }
    }

    /// Gives up what waits beyond its deadline, also behind an open circuit or a hold.
    fn expire(&mut self) {
        let now = self.now.wall;
        let open = self
            .state
            .open
            .values()
            .filter(|open| !open.renewed && !open.taken);
        let waiting = self.flight.ahead.values().map(|meta| meta.message);
        let mut passed = Vec::new();
        let mut next: Option<Timestamp> = None;
        for message in open.map(|open| open.message).chain(waiting) {
            let deadline = schedule::deadline(&self.policy.retry, message.accepted_at);
            match deadline.filter(|_| !self.flight.calls.contains_key(&message.version)) {
                Some(deadline) if deadline <= now => passed.push(message),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        if !passed.is_empty() {
            passed.sort_unstable();
            let expire = Command::Expire { messages: passed };
            self.actions.push(Action::Record(expire));
        }
        if let Some(next) = next {
            self.wake_after(next.since(now));
        }
    }

    fn send(&mut self) {
        self.send_taken();
        if let Some(wait) = self.gate_wait() {
            self.wake_after(wait);
            return;
        }
        let probe = self.state.circuit.is_open();
        if probe && self.flight.calls.values().any(|call| call.probe) {
            return;
        }
        if self.keys_missing() {
            return;
        }
        let mut busy = self.busy_keys();
        while self.has_room() {
            let Some(meta) = self.candidate(probe, &mut busy) else {
                return;
            };
            let wait = self
                .flight
                .pace
                .wait(self.policy.rate_limit_per_second, self.now.elapsed);
            if !wait.is_zero() {
                self.wake_after(wait);
                return;
            }
            self.begin(meta, probe);
            if probe {
                return;
            }
        }
    }

    /// Starts the calls whose take has become durable.
    fn send_taken(&mut self) {
        for (version, call) in &mut self.flight.calls {
            if call.stage == Stage::Taken {
                call.stage = Stage::Sent;
                self.actions.push(Action::Send {
                    message: call.meta.message,
                    attempt: self
                        .state
                        .open
                        .get(version)
                        .map_or(AttemptNumber::FIRST, OpenDelivery::next_attempt),
                    probe: call.probe,
                });
            }
        }
    }

    /// How long the callback's pause or the circuit's stands yet; `None` when neither does.
    fn gate_wait(&mut self) -> Option<Duration> {
        let timers = &mut self.flight.timers;
        let hold = self.state.hold.map_or(Duration::ZERO, |hold| {
            timers.remaining(
                Timer::Hold,
                hold.until,
                hold.retry_after.duration(),
                self.now,
            )
        });
        let probe = match self.state.circuit {
            Circuit::Open {
                probe_at, pause_ms, ..
            } => {
                let pause = Duration::from_millis(pause_ms);
                timers.remaining(Timer::Probe, probe_at, pause, self.now)
            }
            Circuit::Closed { .. } => Duration::ZERO,
        };
        Some(hold.max(probe)).filter(|wait| !wait.is_zero())
    }

    fn max_in_flight(&self) -> usize {
        match self.state.mode() {
            DeliveryMode::Ordered => 1,
            DeliveryMode::Keyed | DeliveryMode::Concurrent => {
                usize::from(self.policy.max_in_flight)
            }
        }
    }

    fn has_room(&self) -> bool {
        self.flight.calls.len() < self.max_in_flight()
            && self.flight.not_durable < OUTCOMES_NOT_DURABLE_MAX
    }

    /// In keyed mode the key of each open delivery must be known before anything is sent: after a
    /// crash they are read again.
    fn keys_missing(&mut self) -> bool {
        if self.state.mode() != DeliveryMode::Keyed {
            return false;
        }
        let flight = &mut *self.flight;
        let mut missing = self.state.open.keys().copied().filter(|version| {
            !flight.keys.contains_key(version) && !flight.calls.contains_key(version)
        });
        let Some(first) = missing.next() else {
            return false;
        };
        let run = missing
            .zip(1..KEYED_LOOK_AHEAD as u64)
            .take_while(|(version, place)| *version == first.plus(*place))
            .count();
        // Before the first read of all, where reading stands is where the state stands.
        let read_to = flight.read_to.get_or_insert(self.state.cursor);
        if first.previous() >= *read_to {
            flight.keys.insert(first, None);
            return self.keys_missing();
        }
        if flight.reading.is_none() {
            let read = (first.previous(), run + 1);
            flight.reading = Some(read);
            self.actions.push(Action::Read {
                after: read.0,
                limit: read.1,
            });
        }
        true
    }

    /// Keys that are in flight.
    fn busy_keys(&self) -> BTreeSet<String> {
        let calls = self.flight.calls.values();
        calls.filter_map(|call| call.meta.key.clone()).collect()
    }

    /// The message to send next: an open delivery that is due, else the first one read ahead.
    /// `busy` gathers the keys that may not be sent.
    fn candidate(&mut self, probe: bool, busy: &mut BTreeSet<String>) -> Option<MessageMeta> {
        let mode = self.state.mode();
        for (version, open) in &self.state.open {
            if self.flight.calls.contains_key(version) {
                continue;
            }
            let key = self.flight.keys.get(version).cloned().flatten();
            let free = mode != DeliveryMode::Keyed
                || key.as_ref().is_none_or(|key| busy.insert(key.clone()));
            let wait = open.retry.map_or(Duration::ZERO, |retry| {
                let planned = Duration::from_millis(retry.delay_ms);
                let timer = Timer::Retry(*version);
                self.flight
                    .timers
                    .remaining(timer, retry.due_at, planned, self.now)
            });
            if free && (probe || wait.is_zero()) && !open.taken {
                return Some(MessageMeta {
                    message: open.message,
                    key,
                    channel: None,
                    matches: true,
                });
            }
            if !wait.is_zero() {
                self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
            }
            if mode == DeliveryMode::Ordered {
                return None;
            }
        }
        self.new_candidate(busy)
    }

    fn new_candidate(&mut self, busy: &mut BTreeSet<String>) -> Option<MessageMeta> {
        let new_calls = self.flight.calls.keys();
        let new_calls = new_calls
            .filter(|v| !self.state.open.contains_key(v))
            .count();
        let waiting = self.state.open.len() + self.state.forwards.len() + new_calls;
        if waiting >= OPEN_DELIVERIES_MAX {
            return None;
        }
        let keyed = self.state.mode() == DeliveryMode::Keyed;
        let mut ahead = self.flight.ahead.iter();
        let (version, _) = ahead.find(|(_, meta)| match &meta.key {
            Some(key) if keyed => busy.insert(key.clone()),
            _ => true,
        })?;
        let version = *version;
        self.flight.ahead.get(&version).cloned()
    }

    fn begin(&mut self, meta: MessageMeta, probe: bool) {
        let message = meta.message;
        let open = self.state.open.get(&message.version);
        let attempt = open.map_or(AttemptNumber::FIRST, OpenDelivery::next_attempt);
        let takes_first = self.policy.qos.takes_first();
        let rate = self.policy.rate_limit_per_second;
        self.flight.pace.start(rate, self.now.elapsed);
        self.flight.ahead.remove(&message.version);
        if self.state.mode() == DeliveryMode::Keyed {
            self.flight.keys.insert(message.version, meta.key.clone());
        }
        let stage = if takes_first {
            self.actions.push(Action::Record(Command::Take { message }));
            Stage::Taking
        } else {
            self.actions.push(Action::Send {
                message,
                attempt,
                probe,
            });
            Stage::Sent
        };
        self.flight
            .calls
            .insert(message.version, Call { meta, probe, stage });
    }

    /// Asks for what there is room for.
    fn read(&mut self) {
        let state = self.state;
        let flight = &mut *self.flight;
        let mut after = flight.read_to.unwrap_or(state.cursor).max(state.cursor);
        if let Some((_, last)) = state.beyond.run_of(after.next()) {
            after = last;
        }
        flight.read_to = Some(after);
        let dry = flight.dry_at.is_some_and(|head| head >= self.head);
        if flight.reading.is_some() || dry || after >= self.head {
            return;
        }
        let room = match state.mode() {
            DeliveryMode::Keyed => KEYED_LOOK_AHEAD.saturating_sub(flight.ahead.len()),
            DeliveryMode::Ordered | DeliveryMode::Concurrent => self
                .max_in_flight()
                .saturating_sub(self.flight.calls.len() + self.flight.ahead.len()),
        };
        if room > 0 {
            self.flight.reading = Some((after, room));
            self.actions.push(Action::Read { after, limit: room });
        }
    }
}
