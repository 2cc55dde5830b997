//! What the plan of a subscription does and does not start.

use std::time::Duration;

use hooklog::{
    model::{
        ApiId, AttemptNumber, AttemptResult, DeadLetterQueue, DeliveryMode, FilterVerdict,
        MessageRef, Policy, Retry, RetryAfter, Subscription, SubscriptionCreated, Timestamp,
        Version,
    },
    subscription::{
        Action, Command, Flight, GIVE_UP_STEP, MessageMeta, Now, OPEN_DELIVERIES_MAX,
        OUTCOMES_NOT_DURABLE_MAX, OpenDelivery, READ_AHEAD,
    },
    testing::given::{Given, given},
};
use uuid::Uuid;

use crate::subscription_rules::{message, policy, report, status, subscription};

const HEAD: u64 = 5_000;
const DAY: i64 = 86_400_000;

struct Bench {
    given: Option<Given>,
    flight: Flight,
    now: Now,
    head: u64,
    /// Most messages that a read brings.
    read_max: usize,
    key: fn(u64) -> Option<String>,
    accepted_at: fn(u64) -> Timestamp,
    sent: Vec<(u64, bool)>,
    work: Work,
}

/// What planning came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    actions: usize,
    /// Most messages that each read asked for.
    limits: Vec<usize>,
    /// Most messages that were read ahead at a time.
    ahead_max: usize,
}

impl Work {
    fn note(&mut self, actions: &[Action], ahead: usize) {
        self.actions += actions.len();
        let limits = actions.iter().filter_map(|action| match action {
            Action::Read { limit, .. } => Some(*limit),
            _ => None,
        });
        self.limits.extend(limits);
        self.ahead_max = self.ahead_max.max(ahead);
    }
}

fn bench(subscription: Subscription, policy: Policy) -> Bench {
    let created = SubscriptionCreated {
        subscription: Box::new(subscription),
        cursor: Version::ZERO,
    };
    Bench {
        given: Some(given([created.into()]).under(policy)),
        flight: Flight::new(),
        now: Now {
            wall: Timestamp::from_millis(DAY * 10),
            elapsed: Duration::ZERO,
        },
        head: HEAD,
        read_max: usize::MAX,
        key: |_| None,
        accepted_at: |_| Timestamp::EPOCH,
        sent: Vec::new(),
        work: Work::default(),
    }
}

fn concurrent(policy: Policy) -> Bench {
    bench(subscription(), policy)
}

impl Bench {
    fn given(&self) -> &Given {
        self.given.as_ref().expect("it is put back")
    }

    fn ask(&mut self, command: Command) {
        let mut given = self.given.take().expect("it is put back");
        given.moment.now = self.now.wall;
        let when = given.when(command);
        let events = when.events();
        for event in events {
            self.flight.applied(event);
        }
        let types: Vec<_> = events.iter().map(|e| e.event_type().to_string()).collect();
        let types: Vec<_> = types.iter().map(String::as_str).collect();
        self.given = Some(when.then_types(&types));
    }

    fn next(&mut self) -> Vec<Action> {
        let given = self.given.as_ref().expect("it is put back");
        let head = Version::new(self.head);
        let actions = self
            .flight
            .next(&given.state, &given.policy, self.now, head);
        self.work.note(&actions, self.flight.ahead());
        actions
    }

    /// Reads, records and sends until only time or an outcome helps; gives the wait.
    fn rest(&mut self) -> Option<Duration> {
        loop {
            let mut worked = false;
            for action in self.next() {
                match action {
                    Action::Wake { after } if !worked => return Some(after),
                    Action::Wake { .. } => {}
                    Action::Read { after, limit } => {
                        let limit = limit.min(self.read_max) as u64;
                        let last = self.head.min(after.get() + limit);
                        self.offer(after.get() + 1, last);
                        worked = true;
                    }
                    Action::Send { message, probe, .. } => {
                        self.sent.push((message.version.get(), probe));
                    }
                    Action::Record(command) => {
                        self.ask(command);
                        worked = true;
                    }
                    Action::Forward { .. } => panic!("nothing is forwarded here"),
                }
            }
            if !worked {
                return None;
            }
        }
    }

    fn offer(&mut self, first: u64, last: u64) {
        let metas = (first..=last).map(|version| MessageMeta {
            message: self.message(version),
            key: (self.key)(version),
            channel: None,
            verdict: FilterVerdict::Passes,
        });
        self.flight.offer(metas.collect());
    }

    fn message(&self, version: u64) -> MessageRef {
        MessageRef {
            accepted_at: (self.accepted_at)(version),
            ..message(version)
        }
    }

    fn end(&mut self, version: u64, result: AttemptResult) {
        let version = Version::new(version);
        let open = self.given().state.open.get(&version);
        let attempt = open.map_or(AttemptNumber::FIRST, OpenDelivery::next_attempt);
        let probe = self
            .sent
            .iter()
            .rev()
            .find(|(sent, _)| *sent == version.get());
        let probe = probe.is_some_and(|(_, probe)| *probe);
        let state = &self.given.as_ref().expect("it is put back").state;
        let hold_remaining = self.flight.hold_remaining(state, self.now);
        self.ask(Command::Record {
            message: self.message(version.get()),
            attempt,
            probe,
            former_callback: false,
            hold_remaining,
            report: Box::new(report(result)),
            entry: hooklog::model::LogEntry::Every,
        });
        self.flight.ended(version);
        let state = &self.given.as_ref().expect("it is put back").state;
        self.flight.arm_retry(state, version, self.now);
    }

    /// Answers with 500 what is sent, or lets time pass where nothing is. Gives what was sent, and
    /// whether it was a probe.
    fn fail(&mut self) -> Vec<(u64, bool)> {
        let wait = self.rest();
        let sent = self.sent.clone();
        if sent.is_empty() {
            self.pass(wait.expect("only time helps"));
        }
        for (version, _) in &sent {
            self.end(*version, status(500));
        }
        self.flight.durable(sent.len());
        self.sent.clear();
        sent
    }

    fn pass(&mut self, wait: Duration) {
        self.now.elapsed += wait;
        self.now.wall = self.now.wall.plus(wait);
    }

    fn sent(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.sent)
            .into_iter()
            .map(|(version, _)| version)
            .collect()
    }
}

#[test]
fn no_more_is_sent_than_may_be_in_flight_and_little_more_is_read() {
    let mut bench = concurrent(policy(Retry::default()));
    assert_eq!(
        bench.next(),
        [Action::Read {
            after: Version::ZERO,
            limit: 5 + READ_AHEAD
        }]
    );
    assert_eq!(bench.next(), []);
    bench.offer(1, 5);
    bench.rest();
    assert_eq!(bench.sent(), [1, 2, 3, 4, 5]);
    bench.end(3, status(200));
    bench.rest();
    assert_eq!(bench.sent(), [6]);
    bench.end(1, status(500));
    bench.rest();
    assert_eq!(bench.sent(), [7], "a retry holds no other");
}

#[test]
fn outcomes_that_are_not_durable_stop_new_calls() {
    let mut bench = concurrent(policy(Retry::default()));
    for version in 1..=OUTCOMES_NOT_DURABLE_MAX as u64 {
        bench.rest();
        bench.end(version, status(200));
    }
    bench.sent();
    bench.rest();
    assert!(bench.sent().is_empty());
    bench.flight.durable(1);
    bench.rest();
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn open_retries_are_bounded() {
    let mut bench = concurrent(policy(Retry {
        retry_on_status: vec![404],
        ..Retry::default()
    }));
    let mut begun = 0;
    loop {
        bench.rest();
        bench.flight.durable(usize::MAX);
        let sent = bench.sent();
        if sent.is_empty() {
            break;
        }
        begun += sent.len();
        for version in sent {
            bench.end(version, status(404));
        }
    }
    assert_eq!(begun, OPEN_DELIVERIES_MAX);
    assert!(bench.rest().is_some());
}

#[test]
fn ordered_mode_holds_the_next_until_the_first_has_its_fate() {
    let ordered = Subscription {
        delivery_mode: DeliveryMode::Ordered,
        ..subscription()
    };
    let mut bench = bench(ordered, policy(Retry::default()));
    bench.rest();
    assert_eq!(bench.sent(), [1]);
    bench.end(1, status(500));
    assert_eq!(bench.rest(), Some(Duration::from_secs(10)));
    bench.pass(Duration::from_secs(10));
    bench.rest();
    assert_eq!(bench.sent(), [1]);
    bench.end(1, status(200));
    bench.rest();
    assert_eq!(bench.sent(), [2]);
}

#[test]
fn keyed_mode_sends_one_of_a_key_and_looks_past_it() {
    let keyed = Subscription {
        delivery_mode: DeliveryMode::Keyed,
        ..subscription()
    };
    let mut bench = bench(keyed, policy(Retry::default()));
    bench.key = |version| match version {
        1..=500 => Some("busy".to_owned()),
        501 => Some("other".to_owned()),
        _ => None,
    };
    bench.rest();
    assert_eq!(bench.sent(), [1, 501, 502, 503, 504]);
    bench.end(1, status(500));
    bench.rest();
    assert_eq!(bench.sent(), [505]);
}

#[test]
fn after_a_crash_what_has_no_outcome_is_sent_again_and_keys_still_hold() {
    let keyed = Subscription {
        delivery_mode: DeliveryMode::Keyed,
        ..subscription()
    };
    let mut bench = bench(keyed, policy(Retry::default()));
    bench.key = |version| (version % 2 == 1).then(|| "odd".to_owned());
    bench.rest();
    assert_eq!(bench.sent(), [1, 2, 4, 6, 8]);
    bench.end(1, status(500));
    bench.end(4, status(200));
    bench.flight = Flight::new();
    bench.rest();
    assert_eq!(
        bench.sent(),
        [2, 6, 8, 10, 12],
        "1 waits for its retry, and 3 for 1"
    );
}

#[test]
fn keys_that_a_short_read_did_not_bring_are_asked_for_again() {
    let keyed = Subscription {
        delivery_mode: DeliveryMode::Keyed,
        ..subscription()
    };
    let mut bench = bench(keyed, policy(Retry::default()));
    bench.key = |version| Some((version % 2).to_string());
    bench.rest();
    assert_eq!(bench.sent(), [1, 2]);
    bench.end(1, status(500));
    bench.end(2, status(500));
    bench.flight = Flight::new();
    // Messages are large, and come one at a time.
    bench.read_max = 1;
    bench.rest();
    assert_eq!(
        bench.sent(),
        [0; 0],
        "each is behind one that waits for its retry"
    );
}

#[test]
fn an_open_circuit_sends_a_single_probe_when_its_pause_is_over() {
    let mut bench = concurrent(policy(Retry::default()));
    for version in 1..=10 {
        bench.rest();
        bench.end(version, status(500));
    }
    let wait = bench.rest().expect("the pause ends");
    let begun = bench.sent();
    begun
        .into_iter()
        .filter(|v| *v > 10)
        .for_each(|v| bench.end(v, status(500)));
    assert!(bench.given().state.circuit.is_open());
    assert!((27..=33).contains(&wait.as_secs()), "{wait:?}");
    bench.pass(wait + Duration::from_secs(1));
    bench.rest();
    assert_eq!(std::mem::take(&mut bench.sent), [(1, true)]);
    bench.sent.push((1, true));
    bench.end(1, status(200));
    bench.sent.clear();
    bench.rest();
    assert!(bench.sent().len() > 1);
}

#[test]
fn behind_an_open_circuit_one_message_is_kept_and_none_is_passed_over() {
    let mut bench = concurrent(policy(Retry::default()));
    bench.head = 40;
    for version in 1..=10 {
        bench.rest();
        bench.end(version, status(500));
    }
    let wait = bench.rest().expect("the pause ends");
    for version in bench.sent().into_iter().filter(|version| *version > 10) {
        bench.end(version, status(500));
    }
    bench.rest();
    assert!(bench.given().state.circuit.is_open());
    assert_eq!(bench.flight.ahead(), 1);

    // The probe is answered, and everything is sent after all, each once.
    bench.pass(wait + Duration::from_secs(1));
    bench.rest();
    let probe = std::mem::take(&mut bench.sent);
    bench.end(probe[0].0, status(200));
    let waited = Duration::from_hours(48);
    let mut delivered = vec![probe[0].0];
    for _ in 0..100 {
        bench.pass(waited);
        bench.rest();
        let sent = std::mem::take(&mut bench.sent);
        for (version, _) in sent {
            bench.end(version, status(200));
            delivered.push(version);
        }
    }
    delivered.sort_unstable();
    assert_eq!(delivered, (1..=40).collect::<Vec<_>>());
}

/// What it takes to plan 100 probes of a callback that stays down, in front of so many messages,
/// from a restart on.
fn work_of_probes(mut bench: Bench, head: u64) -> Work {
    bench.head = head;
    while !bench.given().state.circuit.is_open() {
        bench.fail();
    }
    bench.flight = Flight::new();
    bench.work = Work::default();
    let mut probes = 0;
    while probes < 100 {
        let sent = bench.fail();
        assert!(sent.iter().all(|(_, probe)| *probe), "{sent:?}");
        probes += sent.len();
    }
    bench.work
}

#[test]
fn probes_in_front_of_a_million_messages_take_no_more_work_than_in_front_of_a_thousand() {
    let plain = || concurrent(policy(Retry::default()));
    let with_deadline = || {
        let retry = Retry {
            deadline_seconds: Some(5 * 86_400),
            ..Retry::default()
        };
        let mut bench = concurrent(policy(retry));
        // One is given up every ten minutes, about as often as there is a probe.
        bench.accepted_at = |version| {
            let minutes = 10 * i64::try_from(version).expect("it is small");
            Timestamp::from_millis(DAY * 5 + 60_000 * minutes)
        };
        bench
    };
    let of_one_key = || {
        let keyed = Subscription {
            delivery_mode: DeliveryMode::Keyed,
            ..subscription()
        };
        let mut bench = bench(keyed, policy(Retry::default()));
        bench.key = |_| Some("busy".to_owned());
        bench
    };
    let benches: [fn() -> Bench; 3] = [plain, with_deadline, of_one_key];
    for start in benches {
        let work = work_of_probes(start(), 1_000);
        assert!(!work.limits.is_empty(), "{work:?}");
        assert_eq!(work_of_probes(start(), 1_000_000), work);
    }
}

#[test]
fn waiting_messages_expire_while_the_circuit_is_open_or_a_hold_stands() {
    let retry = Retry {
        deadline_seconds: Some(30 * 86_400),
        ..Retry::default()
    };
    let mut bench = concurrent(policy(retry));
    bench.head = 6;
    bench.now.wall = Timestamp::from_millis(DAY * 30 - 60_000);
    bench.rest();
    let result = AttemptResult::Responded {
        status: 503,
        retry_after: Some(RetryAfter::from_seconds(50)),
    };
    bench.end(1, result);
    assert_eq!(bench.rest(), Some(Duration::from_secs(50)));
    (2..=5).for_each(|version| bench.end(version, status(200)));
    bench.pass(Duration::from_secs(60));
    bench.rest();
    assert_eq!(bench.given().state.counters.dead_lettered, 2);
    assert_eq!(bench.given().state.pending(Version::new(6)), 0);
}

/// One that is held for an hour after its first call, of 30 messages whose deadlines pass one
/// after another from 1,060 ms on, 10 ms apart.
fn held_before_deadlines_pass() -> Bench {
    let retry = Retry {
        deadline_seconds: Some(86_400),
        ..Retry::default()
    };
    let mut bench = concurrent(policy(retry));
    bench.head = 30;
    bench.accepted_at = |version| match i64::try_from(version).expect("it is small") {
        version @ 6.. => Timestamp::from_millis(DAY * 9 + 1_000 + 10 * version),
        _ => Timestamp::from_millis(DAY * 10),
    };
    bench.rest();
    let result = AttemptResult::Responded {
        status: 503,
        retry_after: Some(RetryAfter::from_seconds(3_600)),
    };
    bench.end(1, result);
    (2..=5).for_each(|version| bench.end(version, status(200)));
    bench.sent();
    bench
}

#[test]
fn what_passes_its_deadline_while_nothing_can_be_sent_is_given_up_in_steps() {
    let mut bench = held_before_deadlines_pass();
    let first_deadline = Duration::from_millis(1_060);
    assert_eq!(bench.rest(), Some(first_deadline + GIVE_UP_STEP));
    bench.pass(first_deadline + GIVE_UP_STEP);
    let together = (6..=16).map(|version| bench.message(version)).collect();
    let expire = Command::Expire { messages: together };
    assert_eq!(bench.next(), [Action::Record(expire)]);
    let rest = Duration::from_millis(10) + GIVE_UP_STEP;
    assert_eq!(bench.rest(), Some(rest));
    assert_eq!(bench.given().state.counters.dead_lettered, 11);
    assert!(bench.sent().is_empty());
}

#[test]
fn what_waits_for_its_step_is_given_up_before_anything_is_sent() {
    let mut bench = held_before_deadlines_pass();
    bench.rest();
    bench.pass(Duration::from_millis(1_150));
    assert_eq!(bench.rest(), Some(Duration::from_millis(10)));
    assert_eq!(bench.given().state.counters.dead_lettered, 0);

    // The callback is elsewhere from here on, and the hold is over.
    bench.ask(Command::CallbackMoved);
    bench.rest();
    assert_eq!(bench.given().state.counters.dead_lettered, 10);
    assert_eq!(bench.sent(), [16, 17, 18, 19, 20]);
}

#[test]
fn a_hold_stands_for_the_whole_subscription() {
    let mut bench = concurrent(policy(Retry::default()));
    bench.rest();
    let retry_after = Some(RetryAfter::from_seconds(90));
    bench.end(
        1,
        AttemptResult::Responded {
            status: 429,
            retry_after,
        },
    );
    bench.sent();
    assert_eq!(bench.rest(), Some(Duration::from_secs(90)));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_secs(90));
    bench.rest();
    assert_eq!(bench.sent(), [1]);
}

#[test]
fn a_clock_that_jumps_in_a_pause_does_not_touch_the_retries_that_wait_behind_it() {
    for jump in [-DAY, DAY] {
        let mut bench = concurrent(policy(Retry::default()));
        bench.head = 2;
        bench.rest();
        bench.sent();
        let paused = AttemptResult::Responded {
            status: 503,
            retry_after: Some(RetryAfter::from_seconds(5)),
        };
        bench.end(1, paused);
        bench.end(2, status(500));
        bench.rest();
        bench.now.wall = Timestamp::from_millis(bench.now.wall.as_millis() + jump);
        let planned = |version| {
            let open = &bench.given().state.open[&Version::new(version)];
            Duration::from_millis(open.retry.expect("it is planned").delay_ms)
        };
        let delay = planned(1);
        assert_eq!(delay, planned(2), "they ended at the same moment");
        let moment = Duration::from_millis(1);
        bench.pass(delay.saturating_sub(moment));
        bench.rest();
        assert!(bench.sent().is_empty(), "after a jump of {jump}");
        bench.pass(moment);
        bench.rest();
        assert_eq!(bench.sent(), [1, 2], "after a jump of {jump}");
    }
}

#[test]
fn a_clock_that_jumps_a_day_neither_freezes_a_retry_nor_brings_it_forward() {
    for jump in [-DAY, DAY] {
        let mut bench = concurrent(policy(Retry::default()));
        bench.head = 1;
        bench.rest();
        bench.end(1, status(500));
        assert_eq!(bench.rest(), Some(Duration::from_secs(10)));
        bench.sent();
        bench.pass(Duration::from_secs(4));
        bench.now.wall = Timestamp::from_millis(bench.now.wall.as_millis() + jump);
        assert_eq!(bench.rest(), Some(Duration::from_secs(6)));
        assert!(bench.sent().is_empty());
        bench.pass(Duration::from_secs(6));
        bench.rest();
        assert_eq!(bench.sent(), [1]);
    }
}

#[test]
fn a_clock_set_back_across_a_restart_delays_a_retry_by_its_own_wait_at_most() {
    let mut bench = concurrent(policy(Retry::default()));
    bench.head = 1;
    bench.rest();
    bench.end(1, status(500));
    bench.flight = Flight::new();
    bench.now.wall = Timestamp::from_millis(bench.now.wall.as_millis() - DAY);
    assert_eq!(bench.rest(), Some(Duration::from_secs(10)));
}

#[test]
fn calls_keep_to_the_rate() {
    let mut bench = concurrent(Policy {
        rate_limit_per_second: Some(4),
        ..policy(Retry::default())
    });
    for step in 0..40 {
        bench.rest();
        for version in bench.sent() {
            assert_eq!(step % 5, 0, "a call each quarter of a second");
            bench.end(version, status(200));
        }
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(bench.given().state.counters.delivered, 8);
}

#[test]
fn nothing_is_sent_outside_its_dates_or_while_paused() {
    let now = Timestamp::from_millis(DAY * 10);
    let later = now.plus(Duration::from_secs(60));
    let dated = Subscription {
        starting_at: Some(later),
        ending_at: Some(later.plus(Duration::from_secs(60))),
        ..subscription()
    };
    let mut bench = bench(dated, policy(Retry::default()));
    assert_eq!(bench.rest(), Some(Duration::from_secs(60)));
    bench.pass(Duration::from_secs(60));
    bench.rest();
    assert_eq!(bench.sent().len(), 5);
    bench.ask(Command::Pause);
    bench.end(1, status(200));
    assert_eq!(bench.rest(), None);
    bench.ask(Command::Resume);
    bench.rest();
    assert_eq!(bench.sent(), [6]);
    bench.pass(Duration::from_secs(60));
    bench.end(2, status(200));
    assert_eq!(bench.rest(), None);
    assert!(bench.sent().is_empty());
}

#[test]
fn messages_of_other_channels_become_one_run() {
    let channel = Some("a".to_owned());
    let mut bench = bench(
        Subscription {
            channel,
            ..subscription()
        },
        policy(Retry::default()),
    );
    bench.head = 700;
    bench.rest();
    assert_eq!(bench.given().state.cursor, Version::new(700));
    assert_eq!(bench.given().state.counters.filtered, 700);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_read_that_was_asked_for_before_the_channel_changed_is_dropped() {
    let mut bench = concurrent(policy(Retry::default()));
    assert!(matches!(bench.next()[..], [Action::Read { .. }]));
    let other = Subscription {
        channel: Some("a".to_owned()),
        ..subscription()
    };
    bench.ask(Command::Update {
        subscription: Box::new(other),
    });
    assert_eq!(bench.next(), []);
    let meta = |version| MessageMeta {
        message: message(version),
        key: None,
        channel: None,
        verdict: FilterVerdict::Passes,
    };
    bench.flight.offer((1..=5).map(meta).collect());
    assert_eq!(
        bench.next(),
        [Action::Read {
            after: Version::ZERO,
            limit: 5 + READ_AHEAD
        }]
    );
}

/// Messages of which every third passes, the next is filtered, and the one after fails.
fn judged(first: u64, last: u64) -> Vec<MessageMeta> {
    let verdict = |version| match version % 3 {
        0 => FilterVerdict::Passes,
        1 => FilterVerdict::Filtered,
        _ => FilterVerdict::Failed("why".to_owned()),
    };
    let meta = |version| MessageMeta {
        message: message(version),
        key: None,
        channel: None,
        verdict: verdict(version),
    };
    (first..=last).map(meta).collect()
}

#[test]
fn what_the_filter_fails_on_is_given_up_at_once_and_others_flow() {
    let mut bench = concurrent(policy(Retry::default()));
    bench.head = 6;
    assert!(matches!(bench.next()[..], [Action::Read { .. }]));
    bench.flight.offer(judged(1, 6));
    bench.rest();
    assert_eq!(bench.sent(), [3, 6]);
    let counters = bench.given().state.counters;
    assert_eq!((counters.filtered, counters.dead_lettered), (2, 2));
    bench.end(3, status(200));
    bench.end(6, status(200));
    assert_eq!(bench.given().state.cursor, Version::new(6));
}

#[test]
fn what_interrupted_by_its_filter_is_judged_by_the_filter_that_holds_when_it_is_resumed() {
    let mut bench = concurrent(Policy {
        dlq: DeadLetterQueue::None,
        ..policy(Retry::default())
    });
    bench.head = 2;
    assert!(matches!(bench.next()[..], [Action::Read { .. }]));
    bench.flight.offer(judged(2, 2));
    assert_eq!(bench.rest(), None);
    assert!(!bench.given().state.is_running());
    bench.ask(Command::ResumeFailure);
    bench.rest();
    assert!(!bench.given().state.is_running(), "it fails on it again");
    bench.ask(Command::Update {
        subscription: Box::new(subscription().filtered("true")),
    });
    bench.ask(Command::ResumeFailure);
    assert!(matches!(bench.next()[..], [Action::Read { .. }]));
}

#[test]
fn a_take_that_is_not_durable_is_not_sent_and_one_refused_is_undone() {
    let qos = hooklog::model::Qos::AtMostOnce;
    let mut bench = concurrent(Policy {
        qos,
        ..policy(Retry::default())
    });
    bench.head = 1;
    bench.rest();
    assert!(bench.sent().is_empty());
    assert_eq!(bench.flight.in_flight(), []);
    bench.flight.taken(Version::FIRST);
    bench.rest();
    assert_eq!(bench.sent(), [1]);
    assert!(bench.flight.is_in_flight(Version::FIRST));
    // The take of a delivery that was discarded and asked for again becomes durable too.
    bench.flight.taken(Version::FIRST);
    bench.rest();
    assert_eq!(bench.sent(), [0; 0], "its call goes on");
    assert!(bench.flight.is_in_flight(Version::FIRST));
    bench.flight.ended(Version::FIRST);
    bench.rest();
}

#[test]
fn dead_letters_are_forwarded_one_at_a_time_also_after_a_crash() {
    let target = DeadLetterQueue::Api {
        api: ApiId::from_uuid(Uuid::from_u128(7)),
    };
    let mut bench = concurrent(Policy {
        dlq: target.clone(),
        ..policy(Retry::default())
    });
    bench.head = 2;
    bench.rest();
    bench.end(1, status(400));
    bench.end(2, status(400));
    let forward = |version| Action::Forward {
        message: message(version),
        target: target.clone(),
    };
    assert_eq!(bench.next(), [forward(1)]);
    assert_eq!(bench.next(), []);
    bench.flight = Flight::new();
    assert_eq!(bench.next(), [forward(1)]);
    bench.ask(Command::ForwardFailed {
        message: message(1),
        reason: "full".to_owned(),
    });
    bench.flight.forward_ended();
    assert!(bench.next().contains(&forward(2)));
    bench.ask(Command::Forwarded {
        message: message(2),
    });
    bench.flight.forward_ended();
    let wait = match bench.next()[..] {
        [Action::Wake { after }] => after,
        ref other => panic!("{other:?}"),
    };
    bench.pass(wait);
    assert_eq!(bench.next(), [forward(1)]);
}
