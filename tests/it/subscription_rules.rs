//! The rules of delivery, each as given, when, then.

use std::time::Duration;

use hooklog::{
    model::{
        ApiId, AttemptError, AttemptNumber, AttemptReport, AttemptResult, CircuitClosed,
        ConsumerConfiguration, ConsumerStatus, DeadLetterQueue, DeadLetterReason, DiscardReason,
        ErrorClass, FailureCause, Fault, FilterReason, MessageId, MessageRef, Moment, OnFailure,
        Policy, Position, Retry, RetryAfter, Subscription, SubscriptionClosed, SubscriptionCreated,
        SubscriptionEvent, SubscriptionRecovered, SubscriptionStatus, Timestamp, Timings, Version,
        WebhookEntrypoint,
    },
    subscription::{Command, PastDelivery, Rejection},
    testing::given::{Given, When, given},
};
use uuid::Uuid;

pub(crate) fn message(version: u64) -> MessageRef {
    MessageRef {
        version: Version::new(version),
        position: Position::new(version),
        id: MessageId::from_uuid(Uuid::from_u128(u128::from(version))),
        accepted_at: Timestamp::EPOCH,
    }
}

pub(crate) fn subscription() -> Subscription {
    Subscription::to("https://example.com/hook").expect("it is a URL")
}

pub(crate) fn policy(retry: Retry) -> Policy {
    let configuration = ConsumerConfiguration {
        retry: Some(Retry {
            jitter_percent: 0,
            ..retry
        }),
        ..subscription().configuration
    };
    Policy::of(&WebhookEntrypoint::at("/a"), &configuration)
}

fn without_queue(on_failure: OnFailure) -> Policy {
    Policy {
        dlq: DeadLetterQueue::None,
        on_failure,
        ..policy(Retry::default())
    }
}

fn created() -> Given {
    of(subscription())
}

fn of(subscription: Subscription) -> Given {
    let cursor = Version::ZERO;
    let created = SubscriptionCreated {
        subscription: Box::new(subscription),
        cursor,
    };
    given([created.into()]).under(policy(Retry::default()))
}

pub(crate) fn report(result: AttemptResult) -> AttemptReport {
    AttemptReport {
        started_at: Timestamp::EPOCH,
        timings: Timings::default(),
        result,
        captured: None,
    }
}

pub(crate) const fn status(status: u16) -> AttemptResult {
    AttemptResult::Responded {
        status,
        retry_after: None,
    }
}

fn wait(code: u16, seconds: u64) -> AttemptResult {
    let retry_after = Some(RetryAfter::from_seconds(seconds));
    AttemptResult::Responded {
        status: code,
        retry_after,
    }
}

fn record(version: u64, attempt: u32, result: AttemptResult) -> Command {
    Command::Record {
        message: message(version),
        attempt: AttemptNumber::new(attempt),
        probe: false,
        former_callback: false,
        hold_remaining: Duration::ZERO,
        report: Box::new(report(result)),
        entry: hooklog::model::LogEntry::Every,
    }
}

fn probe(version: u64, attempt: u32, result: AttemptResult) -> Command {
    match record(version, attempt, result) {
        Command::Record {
            message,
            attempt,
            former_callback,
            hold_remaining,
            report,
            entry,
            ..
        } => Command::Record {
            message,
            attempt,
            probe: true,
            former_callback,
            hold_remaining,
            report,
            entry,
        },
        other => other,
    }
}

/// The same outcome, of a call to a callback that another has taken the place of.
fn former(mut command: Command) -> Command {
    if let Command::Record {
        former_callback, ..
    } = &mut command
    {
        *former_callback = true;
    }
    command
}

fn elsewhere() -> Box<Subscription> {
    let mut subscription = subscription();
    subscription.configuration.callback_url = Some("https://example.org/".parse().unwrap());
    Box::new(subscription)
}

fn failed_times(mut given: Given, count: u32) -> Given {
    for attempt in 1..=count {
        let when = given.when(record(1, attempt, status(500)));
        given = when.then_types(&["attempt.failed", "retry.scheduled"]);
    }
    given
}

fn down() -> Given {
    let mut given = created();
    for version in 1..10 {
        let when = given.when(record(version, 1, status(500)));
        given = when.then_types(&["attempt.failed", "retry.scheduled"]);
    }
    given.when(record(10, 1, status(500))).then_types(&[
        "attempt.failed",
        "circuit.opened",
        "retry.scheduled",
    ])
}

fn delay_ms(when: &When) -> u64 {
    let retry = when.events().iter().find_map(|event| match event {
        SubscriptionEvent::RetryScheduled(retry) => Some(retry.delay_ms),
        _ => None,
    });
    retry.expect("a retry is scheduled")
}

fn dead_letter(when: &When) -> (DeadLetterReason, Fault, u32) {
    let found = when.events().iter().find_map(|event| match event {
        SubscriptionEvent::DeadLettered(e) => Some((e.reason, e.fault, e.attempts)),
        _ => None,
    });
    found.expect("it is dead-lettered")
}

#[test]
fn any_2xx_delivers() {
    for code in [200, 201, 204, 299] {
        let after = created()
            .when(record(1, 1, status(code)))
            .then_types(&["attempt.succeeded"]);
        assert_eq!(after.state.cursor, Version::FIRST);
        assert_eq!(after.state.counters.delivered, 1);
        assert!(after.state.open.is_empty());
    }
}

#[test]
fn a_redirect_or_a_4xx_is_refused_and_kept() {
    for code in [301, 307, 400, 404, 422] {
        let when = created().when(record(1, 1, status(code)));
        assert_eq!(
            dead_letter(&when),
            (DeadLetterReason::Refused, Fault::Receiver, 1)
        );
        when.then_types(&["attempt.failed", "delivery.dead_lettered"]);
    }
}

#[test]
fn what_may_pass_is_retried() {
    let errors = [
        ErrorClass::Timeout,
        ErrorClass::Connect,
        ErrorClass::Tls,
        ErrorClass::Dns,
    ];
    let errors = errors.map(|class| AttemptResult::Failed(AttemptError::new(class, "x")));
    for result in [408, 425, 429, 500, 502, 599]
        .map(status)
        .into_iter()
        .chain(errors)
    {
        let when = created().when(record(1, 1, result));
        when.then_types(&["attempt.failed", "retry.scheduled"]);
    }
}

#[test]
fn a_status_that_the_policy_names_is_retried() {
    let retry = Retry {
        retry_on_status: vec![404],
        ..Retry::default()
    };
    let when = created()
        .under(policy(retry))
        .when(record(1, 1, status(404)));
    when.then_types(&["attempt.failed", "retry.scheduled"]);
}

#[test]
fn a_blocked_destination_is_given_up_at_once_as_our_fault() {
    let result = AttemptResult::Failed(AttemptError::new(ErrorClass::Blocked, "10.0.0.1"));
    let when = created().when(record(1, 1, result));
    assert_eq!(
        dead_letter(&when),
        (DeadLetterReason::Blocked, Fault::System, 1)
    );
}

#[test]
fn delays_follow_the_policy() {
    let given = failed_times(created(), 1);
    assert_eq!(delay_ms(&given.when(record(1, 2, status(500)))), 20_000);
    let given = created().under(policy(Retry::schedule([7, 9])));
    assert_eq!(delay_ms(&given.when(record(1, 1, status(500)))), 7_000);
}

#[test]
fn spent_attempts_give_up() {
    let when = failed_times(created(), 3).when(record(1, 4, status(503)));
    assert_eq!(
        dead_letter(&when),
        (DeadLetterReason::AttemptsSpent, Fault::Receiver, 4)
    );
}

#[test]
fn without_retry_the_first_failure_is_final() {
    let when = created()
        .under(policy(Retry::none()))
        .when(record(1, 1, status(500)));
    assert_eq!(
        dead_letter(&when),
        (DeadLetterReason::AttemptsSpent, Fault::Receiver, 1)
    );
}

#[test]
fn a_retry_that_would_fall_after_the_deadline_gives_up_now() {
    let retry = Retry {
        deadline_seconds: Some(9),
        ..Retry::default()
    };
    let when = created()
        .under(policy(retry))
        .when(record(1, 1, status(500)));
    assert_eq!(dead_letter(&when).0, DeadLetterReason::DeadlinePassed);
}

#[test]
fn a_message_that_was_never_tried_expires_by_its_deadline_alone() {
    let retry = Retry {
        deadline_seconds: Some(9),
        ..Retry::default()
    };
    let at = |seconds| Moment::new(Timestamp::EPOCH.plus(Duration::from_secs(seconds)), 0);
    let expire = || Command::Expire {
        messages: vec![message(1)],
    };
    let given = created().under(policy(retry));
    given.clone().at(at(8)).when(expire()).then([]);
    let when = given.at(at(9)).when(expire());
    assert_eq!(
        dead_letter(&when),
        (DeadLetterReason::DeadlinePassed, Fault::Receiver, 0)
    );
}

fn filter_failed(version: u64) -> Command {
    Command::FilterFailed {
        message: message(version),
        detail: "there is no field \"a\"".to_owned(),
    }
}

#[test]
fn a_message_that_the_filter_fails_on_is_dead_lettered_with_the_reason_and_never_called_with() {
    let when = created().when(filter_failed(2));
    assert_eq!(
        dead_letter(&when),
        (DeadLetterReason::FilterFailed, Fault::Receiver, 0)
    );
    let SubscriptionEvent::DeadLettered(letter) = &when.events()[0] else {
        panic!("{:?}", when.events());
    };
    let error = letter.error.as_ref().unwrap();
    assert_eq!(error.class, ErrorClass::Filter);
    assert_eq!(error.detail, "there is no field \"a\"");
    let after = when.then_types(&["delivery.dead_lettered"]);
    assert_eq!(after.state.counters.dead_lettered, 1);
    let other = after
        .when(record(1, 1, status(200)))
        .then_types(&["attempt.succeeded"]);
    assert_eq!(other.state.cursor, Version::new(2));
    let again = Rejection::Ended(message(2));
    other.when(filter_failed(2)).then_rejected(&again);
}

#[test]
fn without_a_dead_letter_queue_a_failing_filter_interrupts_and_the_message_is_judged_again() {
    let none = Policy {
        dlq: DeadLetterQueue::None,
        ..policy(Retry::default())
    };
    let discard = Policy {
        on_failure: OnFailure::Discard,
        ..none.clone()
    };
    let after = created()
        .under(none)
        .when(filter_failed(1))
        .then_types(&["subscription.failed"]);
    assert!(after.state.open.is_empty() && !after.state.is_seen(Version::FIRST));
    let cause = after.state.failure_cause.as_ref().unwrap().to_string();
    assert!(cause.contains("filter_failed"), "{cause}");
    after.when(filter_failed(1)).then([]);
    created()
        .under(discard)
        .when(filter_failed(1))
        .then_types(&["delivery.discarded"]);
}

#[test]
fn gone_stops_the_subscription_and_the_message_stays_its_next() {
    let after = created()
        .when(record(1, 1, status(410)))
        .then_types(&["attempt.failed", "subscription.failed"]);
    assert_eq!(after.state.consumer_status, ConsumerStatus::Stopped);
    assert_eq!(
        after.state.failure_cause.as_deref(),
        Some(&FailureCause::Gone)
    );
    assert!(after.state.open.contains_key(&Version::FIRST));
}

#[test]
fn retry_after_on_429_and_503_holds_the_whole_subscription_for_a_day_at_most() {
    for code in [429, 503] {
        let when = created().when(record(1, 1, wait(code, 90)));
        assert_eq!(delay_ms(&when), 90_000);
        let after = when.then_types(&["attempt.failed", "subscription.held", "retry.scheduled"]);
        let hold = after.state.hold.unwrap();
        assert_eq!(hold.until, Timestamp::EPOCH.plus(Duration::from_secs(90)));
    }
    let when = created().when(record(1, 1, wait(503, 900_000)));
    assert_eq!(delay_ms(&when), 86_400_000);
    created()
        .when(record(1, 1, wait(500, 90)))
        .then_types(&["attempt.failed", "retry.scheduled"]);
}

#[test]
fn without_a_queue_giving_up_interrupts_and_a_resumed_message_has_a_fresh_budget() {
    let after = created()
        .under(without_queue(OnFailure::Interrupt))
        .when(record(1, 1, status(400)))
        .then_types(&["attempt.failed", "subscription.failed"]);
    assert_eq!(after.state.consumer_status, ConsumerStatus::Failure);
    let resumed = after
        .when(Command::ResumeFailure)
        .then([SubscriptionRecovered {}.into()]);
    assert_eq!(resumed.state.consumer_status, ConsumerStatus::Started);
    assert_eq!(resumed.state.open[&Version::FIRST].counted, 0);
    assert_eq!(
        resumed.state.open[&Version::FIRST].next_attempt(),
        AttemptNumber::new(2)
    );
}

#[test]
fn without_a_queue_giving_up_may_discard_and_go_on() {
    let after = created()
        .under(without_queue(OnFailure::Discard))
        .when(record(1, 1, status(400)))
        .then_types(&["attempt.failed", "delivery.discarded"]);
    assert!(after.state.is_running());
    assert_eq!(after.state.counters.discarded, 1);
}

#[test]
fn ten_failures_in_a_row_open_the_circuit_and_an_answer_below_500_breaks_the_row() {
    assert!(down().state.circuit.is_open());
    let mut given = created();
    for version in 1..=9 {
        given = given
            .when(record(version, 1, status(500)))
            .then_types(&["attempt.failed", "retry.scheduled"]);
    }
    let given = given
        .when(record(10, 1, status(429)))
        .then_types(&["attempt.failed", "retry.scheduled"]);
    let given = given
        .when(record(11, 1, status(500)))
        .then_types(&["attempt.failed", "retry.scheduled"]);
    assert_eq!(given.state.circuit.failures(), 1);
}

#[test]
fn a_failed_probe_uses_up_no_attempt_and_doubles_the_pause() {
    let down = down();
    let counted = down.state.open[&Version::FIRST].counted;
    let after = down
        .when(probe(1, 2, status(500)))
        .then_types(&["attempt.failed", "circuit.opened"]);
    let open = &after.state.open[&Version::FIRST];
    assert_eq!((open.counted, open.attempts), (counted, 2));
    let hooklog::subscription::circuit::Circuit::Open {
        pause_ms, openings, ..
    } = after.state.circuit
    else {
        panic!("it is open");
    };
    assert_eq!(openings, 2);
    assert!((54_000..=66_000).contains(&pause_ms), "{pause_ms}");
}

#[test]
fn a_probe_that_is_answered_closes_the_circuit() {
    let after = down()
        .when(probe(1, 2, status(200)))
        .then_types(&["attempt.succeeded", "circuit.closed"]);
    assert!(!after.state.circuit.is_open());
    down().when(probe(1, 2, status(404))).then_types(&[
        "attempt.failed",
        "circuit.closed",
        "delivery.dead_lettered",
    ]);
}

#[test]
fn while_the_circuit_is_open_spent_attempts_give_nothing_up() {
    let mut given = down();
    for attempt in 2..8 {
        given = given
            .when(record(1, attempt, status(500)))
            .then_types(&["attempt.failed", "retry.scheduled"]);
    }
}

#[test]
fn another_callback_closes_the_circuit_and_ends_the_hold() {
    let held = down().when(record(1, 2, wait(503, 60))).then_types(&[
        "attempt.failed",
        "subscription.held",
        "retry.scheduled",
    ]);
    let after = held
        .when(Command::Update {
            subscription: elsewhere(),
        })
        .then_types(&["subscription.updated", "circuit.closed"]);
    assert_eq!(after.state.hold, None);
}

#[test]
fn failures_of_the_callback_before_do_not_open_the_circuit_of_the_one_that_the_entrypoint_moved_to()
{
    created().when(Command::CallbackMoved).then([]);
    let mut given = created();
    for version in 1..=9 {
        given = given
            .when(record(version, 1, status(500)))
            .then_types(&["attempt.failed", "retry.scheduled"]);
    }
    let moved = given
        .when(Command::CallbackMoved)
        .then([CircuitClosed {}.into()]);
    let retry = moved.state.open[&Version::FIRST].retry;
    assert!(retry.is_some(), "it keeps its time");
    let after = moved
        .when(record(10, 1, status(500)))
        .then_types(&["attempt.failed", "retry.scheduled"]);
    assert_eq!(after.state.circuit.failures(), 1);
}

#[test]
fn a_former_callback_that_is_gone_or_asks_for_a_pause_stops_and_holds_nothing() {
    let after = created()
        .when(former(record(1, 1, status(410))))
        .then_types(&["attempt.failed"]);
    assert!(after.state.is_running());
    let open = &after.state.open[&Version::FIRST];
    assert_eq!((open.attempts, open.retry), (1, None), "it is due at once");
    for code in [429, 503] {
        let when = created().when(former(record(1, 1, wait(code, 86_400))));
        assert!(delay_ms(&when) < 86_400_000);
        let after = when.then_types(&["attempt.failed", "retry.scheduled"]);
        assert_eq!(after.state.hold, None);
    }
}

#[test]
fn calls_to_a_former_callback_neither_open_the_circuit_nor_close_it() {
    let mut given = created();
    for version in 1..=20 {
        given = given
            .when(former(record(version, 1, status(500))))
            .then_types(&["attempt.failed", "retry.scheduled"]);
    }
    assert_eq!(given.state.circuit.failures(), 0);
    let given = given
        .when(record(21, 1, status(500)))
        .then_types(&["attempt.failed", "retry.scheduled"])
        .when(former(record(22, 1, status(200))))
        .then_types(&["attempt.succeeded"]);
    assert_eq!(given.state.circuit.failures(), 1);
    let before = down();
    let circuit = before.state.circuit;
    let after = before
        .when(former(record(11, 1, status(200))))
        .then_types(&["attempt.succeeded"])
        .when(former(record(12, 1, status(404))))
        .then_types(&["attempt.failed", "delivery.dead_lettered"])
        .when(former(probe(1, 2, status(500))))
        .then_types(&["attempt.failed"]);
    assert_eq!(after.state.circuit, circuit);
}

#[test]
fn a_message_that_probed_a_former_callback_is_not_given_up_for_it() {
    let mut given = down();
    for attempt in 2..8 {
        given = given
            .when(record(1, attempt, status(500)))
            .then_types(&["attempt.failed", "retry.scheduled"]);
    }
    let after = given
        .when(Command::Update {
            subscription: elsewhere(),
        })
        .then_types(&["subscription.updated", "circuit.closed"])
        .when(former(probe(1, 8, status(500))))
        .then_types(&["attempt.failed"]);
    assert!(after.state.open.contains_key(&Version::FIRST));
}

#[test]
fn taken_messages_without_outcome_are_not_sent_again_after_a_crash() {
    let taken = created()
        .when(Command::Take {
            message: message(1),
        })
        .then_types(&["delivery.taken"]);
    let after = taken.when(Command::RecoverInterrupted);
    let SubscriptionEvent::Discarded(event) = &after.events()[0] else {
        panic!("it is discarded");
    };
    assert_eq!(event.reason, DiscardReason::Interrupted);
    let after = after.then_types(&["delivery.discarded"]);
    after.when(Command::RecoverInterrupted).then([]);
}

#[test]
fn closing_discards_what_waits_and_what_is_in_flight_ends_by_its_outcome() {
    let given = failed_times(created(), 1);
    let given = given
        .when(record(2, 1, status(500)))
        .then_types(&["attempt.failed", "retry.scheduled"]);
    let closed = given
        .when(Command::Close {
            in_flight: vec![Version::new(2)],
        })
        .then_types(&["delivery.discarded", "subscription.closed"]);
    let late = closed
        .when(record(2, 2, status(500)))
        .then_types(&["attempt.failed", "delivery.discarded"]);
    assert!(late.state.open.is_empty());
    let closed = created().when(Command::Close { in_flight: vec![] });
    closed
        .then([SubscriptionClosed {}.into()])
        .when(Command::Pause)
        .then_rejected(&Rejection::Status {
            id: subscription().id,
            status: SubscriptionStatus::Closed,
            advice: "create a new one",
        });
}

#[test]
fn a_past_delivery_is_made_again_with_a_fresh_budget_and_numbers_that_count_on() {
    let gone = created()
        .when(record(1, 1, status(400)))
        .then_types(&["attempt.failed", "delivery.dead_lettered"]);
    let again = || Command::Redeliver {
        message: message(1),
        past: PastDelivery {
            attempts: 1,
            ..PastDelivery::default()
        },
    };
    let after = gone.when(again()).then_types(&["delivery.redelivered"]);
    let open = &after.state.open[&Version::FIRST];
    assert_eq!(
        (open.counted, open.next_attempt()),
        (0, AttemptNumber::new(2))
    );
    let after = after
        .when(again())
        .then_rejected(&Rejection::Pending(message(1)));
    after
        .when(record(1, 2, status(200)))
        .then_types(&["attempt.succeeded"]);
    let unseen = Command::Redeliver {
        message: message(9),
        past: PastDelivery::default(),
    };
    created()
        .when(unseen)
        .then_rejected(&Rejection::NotYet(message(9)));
}

#[test]
fn a_delivery_has_one_outcome() {
    let done = created()
        .when(record(1, 1, status(200)))
        .then_types(&["attempt.succeeded"]);
    done.when(record(1, 1, status(500)))
        .then_rejected(&Rejection::Ended(message(1)));
    created()
        .when(record(1, 2, status(500)))
        .then_rejected(&Rejection::Attempt {
            message: message(1),
            expected: AttemptNumber::FIRST,
            given: AttemptNumber::new(2),
        });
}

#[test]
fn a_person_may_discard_what_waits_or_is_kept_but_not_what_is_in_flight() {
    let discard = |in_flight| Command::Discard {
        message: message(1),
        past: PastDelivery::default(),
        in_flight,
    };
    let given = failed_times(created(), 1);
    let given = given
        .when(discard(true))
        .then_rejected(&Rejection::InFlight(message(1)));
    let given = given
        .when(discard(false))
        .then_types(&["delivery.discarded"]);
    assert!(given.state.open.is_empty());
}

/// With a dead letter that goes to another API.
fn forwarding() -> Given {
    let api = ApiId::from_uuid(Uuid::from_u128(7));
    let policy = Policy {
        dlq: DeadLetterQueue::Api { api },
        ..policy(Retry::default())
    };
    created()
        .under(policy)
        .when(record(1, 1, status(400)))
        .then_types(&["attempt.failed", "delivery.dead_lettered"])
}

#[test]
fn a_dead_letter_is_forwarded_until_it_arrives() {
    let mut given = forwarding();
    for attempts in 1..=40 {
        let failed = Command::ForwardFailed {
            message: message(1),
            reason: "full".into(),
        };
        given = given
            .when(failed)
            .then_types(&["dead_letter.forward_failed"]);
        let forward = &given.state.forwards[&Version::FIRST];
        assert_eq!(forward.attempts, attempts);
        let pause = forward.due_at.unwrap().since(Timestamp::EPOCH);
        assert!(pause <= Duration::from_secs(3_600) * 12 / 10);
    }
    let done = Command::Forwarded {
        message: message(1),
    };
    let given = given
        .when(done.clone())
        .then_types(&["dead_letter.forwarded"]);
    given
        .when(done)
        .then_rejected(&Rejection::NotForwarding(message(1)));
}

#[test]
fn a_dead_letter_is_not_forwarded_once_it_is_redelivered_with_success() {
    let again = Command::Redeliver {
        message: message(1),
        past: PastDelivery {
            attempts: 1,
            ..PastDelivery::default()
        },
    };
    let asked = forwarding()
        .when(again)
        .then_types(&["delivery.redelivered"]);
    assert!(asked.state.forwards.contains_key(&Version::FIRST));
    let after = asked
        .when(record(1, 2, status(200)))
        .then_types(&["attempt.succeeded"]);
    assert!(after.state.forwards.is_empty());
    let late = Command::Forwarded {
        message: message(1),
    };
    let after = after
        .when(late)
        .then_rejected(&Rejection::NotForwarding(message(1)));
    let close = Command::Close { in_flight: vec![] };
    let closed = after.when(close).then_types(&["subscription.closed"]);
    assert!(closed.state.has_ended());
}

#[test]
fn publisher_and_consumer_move_it_between_its_statuses() {
    let pending = Subscription {
        status: SubscriptionStatus::Pending,
        ..subscription()
    };
    let rejected = Command::Reject {
        reason: "no".into(),
    };
    of(pending.clone())
        .when(rejected)
        .then_types(&["subscription.rejected"]);
    let accepted = of(pending)
        .when(Command::Accept)
        .then_types(&["subscription.accepted"]);
    let paused = accepted
        .when(Command::Pause)
        .then_types(&["subscription.paused"]);
    assert!(!paused.state.is_running());
    let resumed = paused
        .when(Command::Resume)
        .then_types(&["subscription.resumed"]);
    assert!(resumed.state.is_running());
    let id = subscription().id;
    resumed
        .when(Command::ResumeFailure)
        .then_rejected(&Rejection::NotInterrupted(id));
    let restarts = Command::Fail {
        cause: FailureCause::Restarts { count: 5 },
    };
    let failed = created()
        .when(restarts.clone())
        .then_types(&["subscription.failed"]);
    failed
        .when(restarts)
        .then_rejected(&Rejection::Interrupted(id));
}

#[test]
fn what_its_consumer_stopped_its_publisher_cannot_start_and_the_other_way_round() {
    let stopped = created()
        .when(Command::Stop)
        .then_types(&["subscription.failed"]);
    assert_eq!(stopped.state.consumer_status, ConsumerStatus::Stopped);
    let paused = stopped
        .when(Command::Pause)
        .then_types(&["subscription.paused"]);
    let resumed = paused
        .clone()
        .when(Command::Resume)
        .then_types(&["subscription.resumed"]);
    assert!(!resumed.state.is_running(), "its consumer stopped it");
    let started = paused
        .when(Command::ResumeFailure)
        .then_types(&["subscription.recovered"]);
    assert!(!started.state.is_running(), "its publisher paused it");
    let both = started
        .when(Command::Resume)
        .then_types(&["subscription.resumed"]);
    assert!(both.state.is_running());
}

#[test]
fn what_is_withheld_while_it_is_pending_does_not_begin_when_it_is_accepted() {
    let pending = Subscription {
        status: SubscriptionStatus::Pending,
        ..subscription()
    };
    let withheld = of(pending)
        .when(Command::Withhold)
        .then_types(&["subscription.failed"]);
    assert_eq!(withheld.state.status, SubscriptionStatus::Pending);
    let id = subscription().id;
    withheld
        .clone()
        .when(Command::Withhold)
        .then_rejected(&Rejection::Interrupted(id));
    let accepted = withheld
        .when(Command::Accept)
        .then_types(&["subscription.accepted"]);
    assert!(!accepted.state.is_running());
    let advice = "only a PENDING one can be withheld; pause it instead";
    accepted
        .clone()
        .when(Command::Withhold)
        .then_rejected(&Rejection::Status {
            id,
            status: SubscriptionStatus::Accepted,
            advice,
        });
    let resumed = accepted
        .when(Command::ResumeFailure)
        .then_types(&["subscription.recovered"]);
    assert!(resumed.state.is_running());
}

#[test]
fn an_update_changes_neither_identity_nor_api() {
    let foreign = Subscription {
        api: ApiId::from_uuid(Uuid::from_u128(1)),
        ..subscription()
    };
    let id = subscription().id;
    created()
        .when(Command::Update {
            subscription: Box::new(foreign),
        })
        .then_rejected(&Rejection::Fixed { id, field: "api" });
}

#[test]
fn messages_that_are_not_for_it_are_passed_over_once() {
    let run = |first, last| Command::Filtered {
        first: Version::new(first),
        last: Version::new(last),
        reason: FilterReason::NotForIt,
    };
    let after = created().when(run(1, 5)).then_types(&["delivery.filtered"]);
    assert_eq!(after.state.cursor, Version::new(5));
    let (first, last) = (Version::new(5), Version::new(6));
    after
        .when(run(5, 6))
        .then_rejected(&Rejection::Overlap { first, last });
}

#[test]
fn an_event_that_only_closes_the_circuit_leaves_the_rest() {
    let before = down();
    let mut after = before.state.clone();
    hooklog::subscription::apply(&mut after, &CircuitClosed {}.into());
    assert_eq!(after.open, before.state.open);
    assert_eq!(after.circuit.failures(), 0);
}
