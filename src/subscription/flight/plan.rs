//! One round of planning.

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use super::{
    Action, Call, DATE_LOOK_MAX, FILTERED_RUN_MAX, Flight, GIVE_UP_STEP, KEYED_LOOK_AHEAD,
    MessageMeta, Now, OPEN_DELIVERIES_MAX, OUTCOMES_NOT_DURABLE_MAX, Purpose, READ_AHEAD, Reading,
    Stage,
};
use crate::{
    model::{
        AttemptNumber, DeadLetterQueue, DeliveryMode, FilterReason, FilterVerdict, Policy,
        Timestamp, Version,
    },
    subscription::{
        Command, OpenDelivery, SubscriptionState,
        decide::{FORWARD_JITTER_PERCENT, forward_pause},
        schedule,
        timers::Timer,
    },
};

/// Where to look for the next message, ascending.
#[derive(Debug, Clone, Copy)]
enum Queue {
    /// Among open deliveries.
    Open,
    /// Among messages read ahead.
    Ahead,
    /// Among both by version, where order counts.
    Both,
}

/// One round of planning.
pub(super) struct Plan<'a> {
    flight: &'a mut Flight,
    state: &'a SubscriptionState,
    policy: &'a Policy,
    now: Now,
    head: Version,
    actions: Vec<Action>,
    wake: Option<Duration>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        flight: &'a mut Flight,
        state: &'a SubscriptionState,
        policy: &'a Policy,
        now: Now,
        head: Version,
    ) -> Self {
        Self {
            flight,
            state,
            policy,
            now,
            head,
            actions: Vec::new(),
            wake: None,
        }
    }

    /// What to do, and how long to wait where only time helps.
    pub(super) fn made(mut self) -> (Vec<Action>, Option<Duration>) {
        self.forward();
        if self.delivers() {
            self.deliver();
        } else {
            self.send_taken();
        }
        (self.actions, self.wake)
    }

    /// The calls that have begun already, and how long to wait for the next of them.
    pub(super) fn begun(mut self) -> (Vec<Action>, Option<Duration>) {
        self.send_taken();
        (self.actions, self.wake)
    }

    fn deliver(&mut self) {
        self.keep_little_behind_a_circuit();
        self.skip();
        self.give_up_unjudged();
        self.expire();
        if !self.actions.iter().any(|a| matches!(a, Action::Record(_))) {
            self.send();
        }
        self.read();
    }

    /// Behind an open circuit one message at a time is sent, and thousands of subscriptions may be
    /// there at once. What was read beyond it is read again. Deadlines need to know what waits.
    fn keep_little_behind_a_circuit(&mut self) {
        if !self.probes_only() {
            return;
        }
        let flight = &mut *self.flight;
        let Some(second) = flight.ahead.keys().nth(1).copied() else {
            return;
        };
        flight.ahead.split_off(&second);
        flight.read_to = Some(second.previous());
        if let Some(reading) = &mut flight.reading
            && reading.purpose == Purpose::Ahead
        {
            reading.purpose = Purpose::Stale;
        }
    }

    const fn probes_only(&self) -> bool {
        self.state.circuit.is_open() && self.policy.retry.deadline_seconds.is_none()
    }

    /// Waits for a date by the wall clock, which may be set forward meanwhile.
    fn wake_at(&mut self, date: Timestamp) {
        self.wake_after(date.since(self.now.wall).min(DATE_LOOK_MAX));
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
            self.wake_at(start);
            return false;
        }
        if let Some(end) = subscription.ending_at {
            self.wake_at(end);
            return end > self.now.wall;
        }
        true
    }

    /// One dead letter at a time goes to the place it is forwarded to.
    fn forward(&mut self) {
        if self.flight.forwarding.is_some() {
            return;
        }
        let room = self.flight.timers.left(Timer::Room, self.now);
        for (version, forward) in &self.state.forwards {
            let mut wait = forward.due_at.map_or(Duration::ZERO, |due_at| {
                let timer = Timer::Forward(*version);
                let planned = forward_pause(forward.attempts.saturating_sub(1));
                let longest = planned * (100 + u32::from(FORWARD_JITTER_PERCENT)) / 100;
                self.flight
                    .timers
                    .remaining(timer, due_at, longest, self.now)
            });
            if matches!(forward.target, DeadLetterQueue::Api { .. }) {
                wait = wait.max(room);
            }
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
        let runs = [
            (&self.flight.skipped, FilterReason::NotForIt),
            (&self.flight.lost, FilterReason::Unreadable),
        ];
        for (runs, reason) in runs {
            for (first, last) in runs.iter() {
                let long = last.distance_from(first) + 1 >= FILTERED_RUN_MAX;
                if last < read_to || last >= self.head || long {
                    let filtered = Command::Filtered {
                        first,
                        last,
                        reason,
                    };
                    self.actions.push(Action::Record(filtered));
                }
            }
        }
    }

    /// Gives up what the filter fails on. Nothing waits for its turn here: no call is made.
    fn give_up_unjudged(&mut self) {
        for (message, why) in self.flight.failed.values() {
            self.actions.push(Action::Record(Command::FilterFailed {
                message: *message,
                detail: why.clone(),
            }));
        }
    }

    /// Gives up what waits beyond its deadline, also behind an open circuit or a hold. While
    /// nothing can be sent anyway, what comes within [`GIVE_UP_STEP`] is given up together: each
    /// time has its price, and a broken callback may have hundreds of messages a second.
    fn expire(&mut self) {
        if self.policy.retry.deadline_seconds.is_none() {
            return;
        }
        let now = self.now.wall;
        let open = self
            .state
            .open
            .values()
            .filter(|open| !open.renewed && !open.taken);
        let waiting = self.flight.ahead.values().map(|meta| meta.message);
        let mut passed = Vec::new();
        let mut first: Option<Timestamp> = None;
        for message in open.map(|open| open.message).chain(waiting) {
            let deadline = schedule::deadline(&self.policy.retry, message.accepted_at);
            let Some(deadline) = deadline else { continue };
            if self.flight.calls.contains_key(&message.version) {
                continue;
            }
            first = Some(first.map_or(deadline, |first| first.min(deadline)));
            if deadline <= now {
                passed.push(message);
            }
        }
        let Some(first) = first else { return };
        let step = if self.may_send() {
            Duration::ZERO
        } else {
            GIVE_UP_STEP
        };
        let due = first.plus(step);
        if due > now {
            self.wake_at(due);
            return;
        }
        passed.sort_unstable();
        let expire = Command::Expire { messages: passed };
        self.actions.push(Action::Record(expire));
    }

    /// Whether a call could begin now if a message were due.
    fn may_send(&mut self) -> bool {
        let rate = self.policy.rate_limit_per_second;
        self.gate_wait().is_none()
            && !self.is_probing()
            && self.has_room()
            && self.flight.pace.wait(rate, self.now.elapsed).is_zero()
    }

    fn is_probing(&self) -> bool {
        self.state.circuit.is_open() && self.flight.calls.values().any(|call| call.probe)
    }

    fn send(&mut self) {
        self.send_taken();
        if let Some(wait) = self.gate_wait() {
            self.wake_after(wait);
            return;
        }
        if self.is_probing() || self.keys_missing() {
            return;
        }
        let probe = self.state.circuit.is_open();
        let mut busy = self.busy_keys();
        let queues: &[Queue] = match self.state.mode() {
            DeliveryMode::Concurrent => &[Queue::Open, Queue::Ahead],
            DeliveryMode::Ordered | DeliveryMode::Keyed => &[Queue::Both],
        };
        for queue in queues {
            let mut from = Version::FIRST;
            while let Some(version) = self.following(*queue, from).filter(|_| self.has_room()) {
                if self.start(version, probe, &mut busy).is_break() {
                    return;
                }
                from = version.next();
            }
        }
    }

    /// Starts the calls whose take has become durable.
    fn send_taken(&mut self) {
        if self.flight.unsent == 0 {
            return;
        }
        let rate = self.policy.rate_limit_per_second;
        let mut wait = Duration::ZERO;
        for (version, call) in &mut self.flight.calls {
            if call.stage == Stage::Taken {
                let pace = &mut self.flight.pace_taken;
                wait = pace.wait(rate, self.now.elapsed);
                if !wait.is_zero() {
                    break;
                }
                pace.start(rate, self.now.elapsed);
                call.stage = Stage::Sent;
                self.flight.unsent -= 1;
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
        self.wake_after(wait);
    }

    /// How long the callback's pause or the circuit's stands yet; `None` when neither does.
    fn gate_wait(&mut self) -> Option<Duration> {
        let hold = self.flight.hold_remaining(self.state, self.now);
        let probe = self.flight.probe_remaining(self.state, self.now);
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
        if flight.reading.is_none() {
            let (after, limit) = (first.previous(), run + 1);
            flight.reading = Some(Reading {
                after,
                limit,
                purpose: Purpose::Keys,
            });
            self.actions.push(Action::Read { after, limit });
        }
        true
    }

    /// Keys that are in flight, in keyed mode.
    fn busy_keys(&self) -> BTreeSet<String> {
        if self.state.mode() != DeliveryMode::Keyed {
            return BTreeSet::new();
        }
        let calls = self.flight.calls.values();
        calls.filter_map(|call| call.meta.key.clone()).collect()
    }

    fn following(&self, queue: Queue, from: Version) -> Option<Version> {
        let open = self.state.open.range(from..).next().map(|(v, _)| *v);
        let ahead = self.flight.ahead.range(from..).next().map(|(v, _)| *v);
        match queue {
            Queue::Open => open,
            Queue::Ahead => ahead,
            Queue::Both => [open, ahead].into_iter().flatten().min(),
        }
    }

    /// Begins the call of this message if nothing forbids it. Breaks when no later one may begin
    /// either. `busy` gathers the keys that are taken.
    fn start(
        &mut self,
        version: Version,
        probe: bool,
        busy: &mut BTreeSet<String>,
    ) -> ControlFlow<()> {
        let mode = self.state.mode();
        if self.flight.calls.contains_key(&version) {
            return ControlFlow::Continue(());
        }
        // One that was opened before a lower one had its outcome must not overtake it.
        let known_to = self
            .flight
            .read_to
            .unwrap_or_default()
            .max(self.state.cursor);
        if mode != DeliveryMode::Concurrent && known_to < version.previous() {
            return ControlFlow::Break(());
        }
        let Some(meta) = self.meta(version) else {
            return ControlFlow::Continue(());
        };
        let free = match &meta.key {
            Some(key) if mode == DeliveryMode::Keyed => busy.insert(key.clone()),
            _ => true,
        };
        if !free || !self.is_due(version, probe) {
            return match mode {
                DeliveryMode::Ordered => ControlFlow::Break(()),
                DeliveryMode::Keyed | DeliveryMode::Concurrent => ControlFlow::Continue(()),
            };
        }
        let rate = self.policy.rate_limit_per_second;
        let wait = self.flight.pace.wait(rate, self.now.elapsed);
        if !wait.is_zero() {
            self.wake_after(wait);
            return ControlFlow::Break(());
        }
        if self.taken_wait() {
            return ControlFlow::Break(());
        }
        self.begin(meta, probe);
        if probe {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// An open delivery from the state and its learned key, a new one as it was read.
    fn meta(&self, version: Version) -> Option<MessageMeta> {
        let Some(open) = self.state.open.get(&version) else {
            return self.flight.ahead.get(&version).cloned();
        };
        Some(MessageMeta {
            message: open.message,
            key: self.flight.keys.get(&version).cloned().flatten(),
            channel: None,
            verdict: FilterVerdict::Passes,
        })
    }

    /// Whether a call of this message may start, the callback and its rate apart. A probe does
    /// not wait for its retry.
    fn is_due(&mut self, version: Version, probe: bool) -> bool {
        let Some(open) = self.state.open.get(&version) else {
            return self.takes_new();
        };
        let Some(retry) = open.retry else {
            return !open.taken;
        };
        let planned = Duration::from_millis(retry.delay_ms);
        let timers = &mut self.flight.timers;
        let wait = timers.remaining(Timer::Retry(version), retry.due_at, planned, self.now);
        if !probe {
            self.wake_after(wait);
        }
        !open.taken && (probe || wait.is_zero())
    }

    /// Whether a message may be taken that was never tried.
    fn takes_new(&self) -> bool {
        let (calls, open) = (&self.flight.calls, &self.state.open);
        let open_and_forwards = open.len() + self.state.forwards.len();
        if open_and_forwards + calls.len() < OPEN_DELIVERIES_MAX {
            return true;
        }
        let new = calls.keys().filter(|version| !open.contains_key(version));
        open_and_forwards + new.count() < OPEN_DELIVERIES_MAX
    }

    /// Whether any take is durable and its call waits for the rate. What is taken and not sent is lost
    /// in a crash, so no more is taken then.
    fn taken_wait(&self) -> bool {
        let mut calls = self.flight.calls.values();
        self.flight.unsent > 0 && calls.any(|call| call.stage == Stage::Taken)
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
            self.flight.unsent += 1;
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
        let probes_only = self.probes_only();
        let state = self.state;
        let flight = &mut *self.flight;
        let mut after = flight.read_to.unwrap_or(state.cursor).max(state.cursor);
        if let Some((_, last)) = state.beyond.run_of(after.next()) {
            after = last;
        }
        flight.read_to = Some(after);
        let dry = flight.dry_at.is_some_and(|head| head >= self.head);
        let has_probe = probes_only && !flight.ahead.is_empty();
        if flight.reading.is_some() || dry || after >= self.head || has_probe {
            return;
        }
        let room = match state.mode() {
            DeliveryMode::Keyed => KEYED_LOOK_AHEAD.saturating_sub(flight.ahead.len()),
            DeliveryMode::Ordered | DeliveryMode::Concurrent => {
                let ahead = flight.ahead.len();
                // A read has its price, so it is for several messages.
                if ahead > READ_AHEAD / 2 {
                    return;
                }
                let begun_and_ahead = flight.calls.len() + ahead;
                (self.max_in_flight() + READ_AHEAD).saturating_sub(begun_and_ahead)
            }
        };
        if room > 0 {
            self.flight.reading = Some(Reading {
                after,
                limit: room,
                purpose: Purpose::Ahead,
            });
            self.actions.push(Action::Read { after, limit: room });
        }
    }
}
