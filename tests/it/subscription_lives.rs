//! Whole lives of a subscription from one seed: the core alone, with crashes and clock jumps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hooklog::{
    model::{
        AttemptError, AttemptNumber, AttemptResult, DeadLetterQueue, DeliveryMode, Draws,
        ErrorClass, FilterVerdict, MessageRef, Moment, OnFailure, Policy, Qos, Retry, RetryAfter,
        Subscription, SubscriptionEvent, SubscriptionId, Timestamp, Version,
    },
    subscription::{
        Action, Command, Flight, MessageMeta, Now, PastDelivery, SubscriptionState, apply, decide,
    },
};

use crate::{
    subscription_rules::{message, policy, report, status, subscription},
    support::seed::asked_seed,
};

const SEEDS: u64 = 600;
const MESSAGES: u64 = 60;

struct Sent {
    message: MessageRef,
    attempt: AttemptNumber,
    probe: bool,
}

struct Life {
    draws: Draws,
    mode: DeliveryMode,
    policy: Policy,
    state: SubscriptionState,
    flight: Flight,
    events: Vec<SubscriptionEvent>,
    durable: usize,
    /// Outcomes and takes among the events that are not durable.
    outcomes: usize,
    takes: Vec<Version>,
    calls: Vec<Sent>,
    /// The call that each key last began with.
    sent: BTreeMap<Version, u32>,
    wall: i64,
    elapsed: u64,
    head: u64,
    healthy: bool,
}

fn key(version: u64) -> Option<String> {
    (!version.is_multiple_of(4)).then(|| format!("k{}", version % 3))
}

fn channel(version: u64) -> &'static str {
    if version.is_multiple_of(7) { "b" } else { "a" }
}

fn meta(version: u64) -> MessageMeta {
    MessageMeta {
        message: at(version),
        key: key(version),
        channel: Some(channel(version).to_owned()),
        verdict: FilterVerdict::Passes,
    }
}

fn at(version: u64) -> MessageRef {
    MessageRef {
        accepted_at: Timestamp::from_millis(1_000_000_000),
        ..message(version)
    }
}

impl Life {
    fn of(seed: u64) -> Self {
        let mut draws = Moment::new(Timestamp::EPOCH, u128::from(seed)).draws();
        let modes = [
            DeliveryMode::Ordered,
            DeliveryMode::Keyed,
            DeliveryMode::Concurrent,
        ];
        let mode = modes[usize::try_from(draws.below(3)).expect("it is small")];
        let retry = Retry {
            max_attempts: u32::try_from(draws.below(4)).expect("it is small"),
            deadline_seconds: (draws.below(4) == 0).then_some(400),
            ..Retry::default()
        };
        let queues = [
            DeadLetterQueue::Embedded,
            DeadLetterQueue::None,
            DeadLetterQueue::None,
        ];
        let policy = Policy {
            qos: if draws.below(3) == 0 {
                Qos::AtMostOnce
            } else {
                Qos::Auto
            },
            dlq: queues[usize::try_from(draws.below(3)).expect("it is small")].clone(),
            on_failure: if draws.below(2) == 0 {
                OnFailure::Discard
            } else {
                OnFailure::Interrupt
            },
            rate_limit_per_second: (draws.below(4) == 0).then_some(3),
            ..policy(retry)
        };
        let id = SubscriptionId::from_uuid(uuid::Uuid::nil());
        let mut life = Self {
            state: SubscriptionState::new(id),
            flight: Flight::new(),
            events: Vec::new(),
            durable: 0,
            outcomes: 0,
            takes: Vec::new(),
            calls: Vec::new(),
            sent: BTreeMap::new(),
            wall: 1_000_000_000,
            elapsed: 0,
            head: 0,
            healthy: false,
            draws,
            mode,
            policy,
        };
        let channel = (life.draws.below(3) == 0).then(|| "a".to_owned());
        let subscription = Box::new(Subscription {
            delivery_mode: mode,
            channel,
            ..subscription()
        });
        assert!(life.ask(Command::Create {
            subscription,
            cursor: Version::ZERO
        }));
        life.sync();
        life
    }

    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(self.wall),
            elapsed: Duration::from_millis(self.elapsed),
        }
    }

    /// Decides, applies, and checks what holds of every state.
    fn ask(&mut self, command: Command) -> bool {
        let moment = Moment::new(self.now().wall, u128::from(self.draws.next_u64()));
        let Ok(events) = decide(&self.state, command, &self.policy, &moment) else {
            return false;
        };
        for event in events {
            let cursor = self.state.cursor;
            apply(&mut self.state, &event);
            self.flight.applied(&event);
            assert!(self.state.cursor >= cursor, "the cursor went back");
            self.events.push(event);
        }
        assert!(self.state.open.keys().all(|v| self.state.is_seen(*v)));
        assert!(
            self.state
                .beyond
                .iter()
                .all(|(first, _)| first > self.state.cursor.next())
        );
        true
    }

    fn sync(&mut self) {
        self.durable = self.events.len();
        self.flight.durable(self.outcomes);
        self.outcomes = 0;
        for version in std::mem::take(&mut self.takes) {
            self.flight.taken(version);
        }
    }

    /// Everything since the last sync is lost, and so is what was in flight.
    fn crash(&mut self) {
        self.events.truncate(self.durable);
        self.outcomes = 0;
        self.takes.clear();
        self.calls.clear();
        self.flight = Flight::new();
        self.elapsed = 0;
        self.state = self.folded();
        let bytes = rmp_serde::to_vec_named(&self.state).expect("a state can be written");
        let back: SubscriptionState = rmp_serde::from_slice(&bytes).expect("it can be read back");
        assert_eq!(back, self.state, "a snapshot changed the state");
        assert!(self.ask(Command::RecoverInterrupted));
        self.sync();
    }

    fn folded(&self) -> SubscriptionState {
        let mut state = SubscriptionState::new(self.state.id);
        self.events
            .iter()
            .for_each(|event| apply(&mut state, event));
        state
    }

    /// Does what the flight plans until it only waits; gives the wait.
    fn plan(&mut self) -> Option<Duration> {
        for _ in 0..1_000 {
            let head = Version::new(self.head);
            let now = self.now();
            let actions = self.flight.next(&self.state, &self.policy, now, head);
            let mut wake = None;
            let mut worked = false;
            for action in actions {
                match action {
                    Action::Wake { after } => {
                        assert!(!after.is_zero(), "a wake-up without a wait");
                        wake = Some(after);
                    }
                    other => {
                        worked = true;
                        self.act(other);
                    }
                }
            }
            if !worked {
                return wake;
            }
        }
        panic!("planning does not come to rest");
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read { after, limit } => {
                let last = (after.get() + limit as u64).min(self.head);
                self.flight
                    .offer((after.get() + 1..=last).map(meta).collect());
            }
            Action::Send {
                message,
                attempt,
                probe,
            } => self.send(message, attempt, probe),
            Action::Record(command) => {
                if let Command::Take { message } = &command {
                    self.takes.push(message.version);
                }
                assert!(self.ask(command), "the flight asked for what is refused");
            }
            Action::Forward { .. } => panic!("nothing is forwarded here"),
            Action::Wake { .. } => {}
        }
    }

    fn send(&mut self, message: MessageRef, attempt: AttemptNumber, probe: bool) {
        assert!(
            self.calls
                .iter()
                .all(|call| call.message.version != message.version)
        );
        // Between its take and its call, the circuit may change under a taken message.
        if self.policy.qos != Qos::AtMostOnce {
            assert_eq!(probe, self.state.circuit.is_open());
        }
        match self.mode {
            DeliveryMode::Ordered => {
                assert!(self.calls.is_empty(), "two in flight in ordered mode");
                let lower = self.state.open.keys().next();
                assert!(
                    lower.is_none_or(|open| *open >= message.version),
                    "order broken"
                );
                assert!(
                    self.state.cursor.next() >= message.version,
                    "a message was skipped"
                );
            }
            DeliveryMode::Keyed => {
                if let Some(of) = key(message.version.get()) {
                    let same = |v: u64| key(v).as_ref() == Some(&of);
                    assert!(
                        self.calls
                            .iter()
                            .all(|call| !same(call.message.version.get()))
                    );
                    let earlier = (1..message.version.get()).filter(|v| {
                        same(*v)
                            && self.state.subscription.as_ref().is_some_and(|s| {
                                s.channel.as_deref().is_none_or(|of| of == channel(*v))
                            })
                    });
                    for v in earlier.map(Version::new) {
                        let done = self.state.is_seen(v) && !self.state.open.contains_key(&v);
                        assert!(done, "{v} of the key was overtaken by {}", message.version);
                    }
                }
            }
            DeliveryMode::Concurrent => {
                assert!(self.calls.len() < usize::from(self.policy.max_in_flight));
            }
        }
        if self.policy.qos == Qos::AtMostOnce {
            let durable = self.events[..self.durable].iter().any(|event| {
                matches!(event, SubscriptionEvent::Taken(taken)
                    if taken.message == message && taken.attempt == attempt)
            });
            assert!(durable, "sent before its take was durable");
        }
        *self.sent.entry(message.version).or_default() += 1;
        self.calls.push(Sent {
            message,
            attempt,
            probe,
        });
    }

    fn answer(&mut self) -> AttemptResult {
        let chance = if self.healthy {
            100
        } else {
            self.draws.below(100)
        };
        match chance {
            0..=39 => status(500),
            40..=44 => status(404),
            45 => status(410),
            46..=49 => AttemptResult::Responded {
                status: 429,
                retry_after: Some(RetryAfter::from_seconds(self.draws.below(60))),
            },
            50..=59 => AttemptResult::Failed(AttemptError::new(ErrorClass::Timeout, "slow")),
            60 => AttemptResult::Failed(AttemptError::new(ErrorClass::Blocked, "no")),
            _ => status(200),
        }
    }

    fn end_call(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let index =
            usize::try_from(self.draws.below(self.calls.len() as u64)).expect("it is small");
        let Sent {
            message,
            attempt,
            probe,
        } = self.calls.swap_remove(index);
        let report = Box::new(report(self.answer()));
        let hold_remaining = self.flight.hold_remaining(&self.state, self.now());
        let record = Command::Record {
            message,
            attempt,
            probe,
            former_callback: false,
            hold_remaining,
            report,
            entry: hooklog::model::LogEntry::Every,
        };
        assert!(self.ask(record), "an outcome was refused");
        self.flight.ended(message.version);
        self.outcomes += 1;
    }

    fn step(&mut self) {
        let wake = self.plan();
        match self.draws.below(100) {
            0..=24 => self.head = (self.head + self.draws.below(6)).min(MESSAGES),
            25..=59 => self.end_call(),
            60..=74 => self.sync(),
            75..=91 => self.pass(wake),
            92..=93 => self.crash(),
            94 => drop(self.ask(Command::Pause)),
            95..=96 => drop(self.ask(Command::Resume)),
            97 => drop(self.ask(Command::ResumeFailure)),
            98 => self.jump(),
            _ => self.redeliver(),
        }
    }

    fn pass(&mut self, wake: Option<Duration>) {
        let millis = wake.map_or(1_000, |wake| {
            u64::try_from(wake.as_millis()).expect("it is small") + 1
        });
        self.elapsed += millis;
        self.wall += i64::try_from(millis).expect("it is small");
    }

    fn jump(&mut self) {
        if self.policy.retry.deadline_seconds.is_none() {
            self.wall +=
                i64::try_from(self.draws.below(172_800_000)).expect("it is small") - 86_400_000;
        }
    }

    fn redeliver(&mut self) {
        let version = 1 + self.draws.below(MESSAGES);
        if self.mode == DeliveryMode::Concurrent {
            let attempts = self.sent.get(&Version::new(version)).copied().unwrap_or(0);
            let past = PastDelivery {
                attempts,
                ..PastDelivery::default()
            };
            self.ask(Command::Redeliver {
                message: at(version),
                past,
            });
        }
    }

    /// The callback is well and everything is resumed: what is left must end, in bounded time.
    fn finish(&mut self) {
        self.healthy = true;
        self.head = MESSAGES;
        for round in 0..5_000 {
            self.ask(Command::Resume);
            self.ask(Command::ResumeFailure);
            let wake = self.plan();
            if self.calls.is_empty() && self.takes.is_empty() {
                if self.state.pending(Version::new(MESSAGES)) == 0 {
                    return;
                }
                if !self.state.is_running() {
                    continue;
                }
                let wake = wake.or((self.outcomes > 0).then_some(Duration::from_millis(1)));
                assert!(wake.is_some(), "it sleeps for ever: {:?}", self.state);
                self.pass(wake);
            }
            if round % 3 == 0 {
                self.sync();
            }
            while !self.calls.is_empty() {
                self.end_call();
            }
            self.sync();
        }
        panic!("it does not end: {:?}", self.state);
    }

    /// Each message ended in exactly one fate between redeliveries (G8).
    fn check(&self) {
        assert_eq!(
            self.folded(),
            self.state,
            "the fold differs from the live state"
        );
        let mut ended = BTreeSet::new();
        for event in &self.events {
            match event {
                SubscriptionEvent::AttemptSucceeded(e) => {
                    assert!(ended.insert(e.attempt.message.version));
                }
                SubscriptionEvent::DeadLettered(e) => assert!(ended.insert(e.message.version)),
                SubscriptionEvent::Discarded(e) => assert!(ended.insert(e.message.version)),
                SubscriptionEvent::Redelivered(e) => assert!(
                    ended.remove(&e.message.version) || channel(e.message.version.get()) != "a"
                ),
                SubscriptionEvent::Filtered(e) => {
                    let run = e.first.get()..=e.last.get();
                    run.for_each(|v| assert!(ended.insert(Version::new(v))));
                }
                _ => {}
            }
        }
        assert_eq!(ended.len() as u64, MESSAGES);
        assert_eq!(self.state.cursor, Version::new(MESSAGES));
        assert!(self.state.open.is_empty() && self.state.beyond.is_empty());
    }
}

fn live(seed: u64) {
    let mut life = Life::of(seed);
    for _ in 0..400 {
        life.step();
    }
    life.finish();
    life.check();
}

#[test]
fn every_life_keeps_the_guarantees() {
    let base = asked_seed();
    let first: u64 = base.unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let seeds = if base.is_some() { 1 } else { SEEDS };
    for seed in first..first + seeds {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(
            lived.is_ok(),
            "HOOKLOG_SEED={seed} cargo test --all-features --test it subscription_lives"
        );
    }
}
