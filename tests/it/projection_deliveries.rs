//! The webhook log: what it lists, filters and pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hooklog::{
    clock::SystemClock,
    log::{RecordedEvent, StreamId},
    model::{
        ApiId, AttemptFailed, AttemptNumber, AttemptRecord, CircuitClosed, CircuitOpened,
        ConsumerStatus, DeadLetterQueue, DeadLetterReason, DeliveryDeadLettered, DeliveryId,
        DeliveryRedelivered, Draws, ErrorClass, Event, FailureCause, Fault, MessageId, MessageRef,
        Method, Moment, Position, RetryAfter, RetryScheduled, Sampling, Subscription,
        SubscriptionCreated, SubscriptionEvent, SubscriptionFailed, SubscriptionHeld,
        SubscriptionId, SubscriptionRecovered, SubscriptionUpdated, Timestamp, Timings, Version,
    },
    projection::{
        SharedHistory, View, ViewError,
        dead_letters::{DeadLetterFilter, DeadLetters},
        deliveries::{
            Deliveries, DeliveryFilter, DeliveryOutcome, DeliveryQuery, DeliveryRow, StatusFilter,
        },
        fold_all,
    },
    subscription::circuit::Circuit,
    testing::{
        history::{Generator, HistoryOptions, generate},
        memory_history::MemoryHistory,
    },
};

use uuid::Uuid;

use crate::support::{events::states, seed::seed};

fn view_of(events: Vec<Arc<RecordedEvent>>) -> View<Deliveries> {
    let history: SharedHistory = Arc::new(MemoryHistory::new(events));
    fold_all(Deliveries, &history, &SystemClock::shared()).unwrap()
}

fn apis(events: &[Arc<RecordedEvent>]) -> BTreeSet<ApiId> {
    events
        .iter()
        .filter_map(|event| event.stream.as_api())
        .collect()
}

/// Every page after the other.
fn all(view: &View<Deliveries>, mut query: DeliveryQuery) -> Vec<DeliveryRow> {
    let mut found = Vec::new();
    loop {
        let page = view.list(&query).unwrap();
        assert!(page.deliveries.len() <= query.limit);
        found.extend(page.deliveries);
        match page.next {
            Some(next) => query.cursor = Some(next.to_string().parse().unwrap()),
            None => return found,
        }
    }
}

fn query(api: ApiId, filter: DeliveryFilter, limit: usize) -> DeliveryQuery {
    DeliveryQuery {
        filter,
        ..DeliveryQuery::newest(api, limit)
    }
}

/// Deliveries of all APIs, added up in the plainest way.
#[derive(Default)]
struct Plain {
    attempts: u32,
    status: u16,
    outcome: Option<DeliveryOutcome>,
    dlq: bool,
}

fn plain(events: &[Arc<RecordedEvent>]) -> BTreeMap<DeliveryId, Plain> {
    let mut all: BTreeMap<DeliveryId, Plain> = BTreeMap::new();
    for event in events {
        let (Some(id), Some(happened)) = (
            event.stream.as_subscription(),
            event.event.as_subscription(),
        ) else {
            continue;
        };
        let mut of = |message: &MessageRef, change: &dyn Fn(&mut Plain)| {
            change(all.entry(DeliveryId::of(message.id, id)).or_default());
        };
        match happened {
            SubscriptionEvent::AttemptSucceeded(ok) => of(&ok.attempt.message, &|row| {
                row.attempts += 1;
                row.status = ok.attempt.status;
                row.outcome = Some(DeliveryOutcome::Delivered);
            }),
            SubscriptionEvent::AttemptFailed(failed) => of(&failed.attempt.message, &|row| {
                row.attempts += 1;
                row.status = failed.attempt.status;
                row.outcome = Some(DeliveryOutcome::Retrying);
            }),
            SubscriptionEvent::DeadLettered(dead) => of(&dead.message, &|row| {
                row.outcome = Some(DeliveryOutcome::DeadLettered);
                row.status = dead.status;
                row.dlq = true;
            }),
            SubscriptionEvent::Discarded(gone) => of(&gone.message, &|row| {
                row.outcome = Some(DeliveryOutcome::Discarded);
            }),
            SubscriptionEvent::Redelivered(again) => of(&again.message, &|row| {
                row.outcome = Some(DeliveryOutcome::Retrying);
            }),
            _ => {}
        }
    }
    all
}

#[test]
fn every_delivery_with_an_outcome_has_one_row_that_says_what_happened() {
    let events = generate(
        seed(),
        &HistoryOptions {
            events: 6_000,
            ..Default::default()
        },
    );
    let (view, mut expected) = (view_of(events.clone()), plain(&events));
    for api in apis(&events) {
        for row in all(&view, DeliveryQuery::newest(api, 333)) {
            let plain = expected.remove(&row.id).expect("each once");
            assert_eq!(row.attempts, plain.attempts, "{row:?}");
            assert_eq!(row.status, plain.status, "{row:?}");
            assert_eq!(Some(row.outcome), plain.outcome, "{row:?}");
            assert_eq!(row.is_sent_to_dlq(), plain.dlq, "{row:?}");
        }
    }
    assert!(expected.is_empty(), "{} are not listed", expected.len());
}

/// A filter whose fields are each set with a chance, to values that occur.
fn random_filter(draws: &mut Draws, rows: &[DeliveryRow]) -> DeliveryFilter {
    let mut filter = DeliveryFilter::default();
    let row = |draws: &mut Draws| {
        let index = usize::try_from(draws.below(rows.len() as u64)).unwrap();
        &rows[index]
    };
    let set = |draws: &mut Draws| draws.below(5) == 0;
    if set(draws) {
        filter.status.push(StatusFilter::Exact(row(draws).status));
    }
    if set(draws) {
        filter
            .status
            .push(StatusFilter::Class(row(draws).status / 100));
    }
    if set(draws) {
        filter.callback_url.clone_from(&row(draws).callback_url);
    }
    if set(draws) {
        filter.application = Some(row(draws).application);
    }
    if set(draws) {
        filter.subscription = Some(row(draws).subscription);
    }
    if set(draws) {
        filter.from = Some(row(draws).started_at);
    }
    if set(draws) {
        filter.to = Some(row(draws).started_at);
    }
    if set(draws) {
        filter.sent_to_dlq = Some(draws.below(2) == 0);
    }
    if set(draws) {
        filter.outcome = Some(row(draws).outcome);
    }
    if set(draws) {
        filter.error_class = row(draws).error_class();
    }
    if set(draws) {
        filter.min_duration = Some(row(draws).last_duration());
    }
    if draws.below(20) == 0 {
        filter.message = Some(row(draws).message.id);
    }
    filter
}

#[test]
fn every_combination_of_filters_finds_what_a_plain_scan_finds() {
    let seed = seed();
    let options = HistoryOptions {
        apis: 1,
        events: 42_000,
        ..Default::default()
    };
    let events = generate(seed, &options);
    let view = view_of(events.clone());
    let api = *apis(&events).first().unwrap();
    let rows = all(&view, DeliveryQuery::newest(api, 1_000));
    assert!(
        rows.len() > 9_000,
        "{} rows do not seal two chunks",
        rows.len()
    );
    assert!(
        rows.is_sorted_by(|a, b| a.ordinal == b.ordinal + 1),
        "dense, newest first"
    );

    let mut draws = Moment::new(Timestamp::EPOCH, seed.into()).draws();
    for _ in 0..120 {
        let filter = random_filter(&mut draws, &rows);
        let limit = usize::try_from(200 + draws.below(800)).unwrap();
        let found = all(&view, query(api, filter.clone(), limit));
        let expected: Vec<_> = rows
            .iter()
            .filter(|row| filter.holds(row))
            .cloned()
            .collect();
        assert_eq!(found.len(), expected.len(), "{filter:?}");
        assert!(found == expected, "{filter:?}");
    }
}

#[test]
fn paging_gives_each_row_once_while_new_rows_arrive() {
    let options = HistoryOptions {
        apis: 1,
        events: 3_000,
        ..Default::default()
    };
    let mut generator = Generator::new(seed(), &options);
    while generator.events().len() < 3_000 {
        generator.step();
    }
    let events = generator.events().to_vec();
    let api = *apis(&events).first().unwrap();
    let before: Vec<_> = all(&view_of(events), DeliveryQuery::newest(api, 1_000))
        .into_iter()
        .map(|row| row.id)
        .collect();

    let mut query = DeliveryQuery::newest(api, 97);
    let mut found = Vec::new();
    loop {
        let page = view_of(generator.events().to_vec()).list(&query).unwrap();
        found.extend(page.deliveries.into_iter().map(|row| row.id));
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
        for _ in 0..200 {
            generator.step();
        }
    }
    assert!(found.ends_with(&before) || found == before);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
}

#[test]
fn a_cursor_or_limit_that_cannot_be_used_is_refused() {
    let events = generate(3, &HistoryOptions::default());
    let view = view_of(events.clone());
    let apis: Vec<_> = apis(&events).into_iter().collect();
    let next = view.list(&DeliveryQuery::newest(apis[0], 1)).unwrap().next;
    let mut other = DeliveryQuery::newest(apis[1], 1);
    other.cursor = next;
    let error = view.list(&other).unwrap_err();
    assert!(matches!(&error, ViewError::Query(_)), "{error}");
    assert!(error.to_string().contains("another list"), "{error}");
    for limit in [0, 1_001] {
        assert!(view.list(&DeliveryQuery::newest(apis[0], limit)).is_err());
    }
}

#[test]
fn a_message_the_sample_did_not_take_has_rows_for_failures_alone() {
    let options = HistoryOptions {
        events: 6_000,
        sampling: Sampling::Count(5),
        ..Default::default()
    };
    let events = generate(seed(), &options);
    let view = view_of(events.clone());
    let mut sampled = BTreeMap::new();
    let mut keeps = BTreeMap::new();
    let mut owner: BTreeMap<SubscriptionId, ApiId> = BTreeMap::new();
    let mut expected = BTreeSet::new();
    for event in &events {
        if let Some(message) = event.event.as_published() {
            sampled.insert(message.id, message.sampled);
        }
        if let Event::Api(hooklog::model::ApiEvent::Created(created)) = &event.event {
            keeps.insert(created.api.id, created.api.analytics.keep_failures.0);
        }
        let (Some(id), Some(happened)) = (
            event.stream.as_subscription(),
            event.event.as_subscription(),
        ) else {
            continue;
        };
        let (message, failure) = match happened {
            SubscriptionEvent::Created(created) => {
                owner.insert(id, created.subscription.api);
                continue;
            }
            SubscriptionEvent::AttemptSucceeded(ok) => (ok.attempt.message.id, false),
            SubscriptionEvent::AttemptFailed(failed) => (failed.attempt.message.id, true),
            SubscriptionEvent::DeadLettered(dead) => (dead.message.id, true),
            SubscriptionEvent::Discarded(gone) => (gone.message.id, true),
            _ => continue,
        };
        if sampled[&message] || (failure && keeps[&owner[&id]]) {
            expected.insert(DeliveryId::of(message, id));
        }
    }
    let listed: BTreeSet<_> = apis(&events)
        .into_iter()
        .flat_map(|api| all(&view, DeliveryQuery::newest(api, 1_000)))
        .map(|row| row.id)
        .collect();
    assert!(sampled.values().any(|sampled| !sampled));
    assert_eq!(listed, expected);
}

#[test]
fn the_detail_shows_every_attempt_and_the_waits_between() {
    let events = generate(
        seed(),
        &HistoryOptions {
            events: 3_000,
            ..Default::default()
        },
    );
    let view = view_of(events.clone());
    let mut with_retries = 0;
    for api in apis(&events) {
        for row in all(&view, DeliveryQuery::newest(api, 1_000)) {
            let detail = view.detail(row.id).unwrap().unwrap();
            assert_eq!(detail.attempts.len(), row.attempts as usize);
            assert_eq!(detail.events[0], row.message.position);
            assert_eq!(detail.events_missing, 0);
            assert_eq!(detail.request.is_some(), row.attempts > 0);
            let later = detail.attempts.iter().skip(1);
            assert!(later.clone().all(|attempt| attempt.waited_ms.is_some()));
            with_retries += later.count();
            serde_json::to_string(&detail).unwrap();
        }
    }
    assert!(with_retries > 0);
}

#[test]
fn pickers_offer_what_occurs() {
    let events = generate(
        5,
        &HistoryOptions {
            events: 3_000,
            ..Default::default()
        },
    );
    let view = view_of(events.clone());
    for api in apis(&events) {
        let rows = all(&view, DeliveryQuery::newest(api, 1_000));
        let values = view.picker_values(api, 100).unwrap();
        let applications: BTreeSet<_> = rows.iter().map(|row| row.application).collect();
        let urls: BTreeSet<_> = rows
            .iter()
            .filter_map(|row| row.callback_url.clone())
            .collect();
        assert_eq!(BTreeSet::from_iter(values.applications), applications);
        assert_eq!(BTreeSet::from_iter(values.callback_urls), urls);
    }
}

#[test]
fn error_class_and_duration_narrow_the_list() {
    let events = generate(
        11,
        &HistoryOptions {
            events: 3_000,
            ..Default::default()
        },
    );
    let view = view_of(events.clone());
    let api = *apis(&events).first().unwrap();
    let filter = DeliveryFilter {
        error_class: Some(ErrorClass::Timeout),
        min_duration: Some(Duration::from_micros(60)),
        ..Default::default()
    };
    let found = all(&view, query(api, filter, 10));
    assert!(
        found
            .iter()
            .all(|row| row.error_class() == Some(ErrorClass::Timeout))
    );
}

/// A subscription of the same identity each time, with this callback.
fn calling(url: &str) -> Box<Subscription> {
    let mut definition = Subscription::to(url).unwrap();
    definition.id = SubscriptionId::from_uuid(Uuid::from_u128(1));
    definition.api = ApiId::from_uuid(Uuid::from_u128(2));
    Box::new(definition)
}

const CALLBACK: &str = "https://example.com/slow";

fn created() -> SubscriptionEvent {
    let created = SubscriptionCreated {
        subscription: calling(CALLBACK),
        cursor: Version::ZERO,
    };
    created.into()
}

fn message(number: u64) -> MessageRef {
    MessageRef {
        version: Version::new(number),
        position: Position::new(number),
        id: MessageId::from_uuid(Uuid::from_u128(100 + u128::from(number))),
        accepted_at: Timestamp::EPOCH,
    }
}

fn call(number: u64, status: u16) -> AttemptRecord {
    AttemptRecord {
        message: message(number),
        number: AttemptNumber::FIRST,
        probe: false,
        former_callback: false,
        started_at: Timestamp::EPOCH,
        timings: Timings {
            total_us: 1_000_000,
            ..Timings::default()
        },
        method: Method::Post,
        callback_url: CALLBACK.parse().unwrap(),
        status,
        captured: None,
    }
}

fn failed(attempt: AttemptRecord) -> SubscriptionEvent {
    let error = None;
    AttemptFailed { attempt, error }.into()
}

fn recorded(happened: Vec<SubscriptionEvent>) -> Vec<Arc<RecordedEvent>> {
    let recorded = happened.into_iter().zip(1..).map(|(event, number)| {
        Arc::new(RecordedEvent {
            position: Position::new(number),
            stream: StreamId::subscription(calling(CALLBACK).id),
            version: Version::new(number),
            time: Timestamp::EPOCH,
            event: Event::Subscription(event),
        })
    });
    recorded.collect()
}

/// So many deliveries of one API, each of one call that took a second, was refused and put among
/// the dead letters.
fn refused_after_a_second(count: u64) -> (ApiId, Vec<Arc<RecordedEvent>>) {
    let mut happened = vec![created()];
    for number in 1..=count {
        happened.push(failed(call(number, 400)));
        let dead = DeliveryDeadLettered {
            message: message(number),
            reason: DeadLetterReason::Refused,
            fault: Fault::Receiver,
            attempts: 1,
            status: 400,
            error: None,
            target: DeadLetterQueue::Embedded,
        };
        happened.push(dead.into());
    }
    (calling(CALLBACK).api, recorded(happened))
}

#[test]
fn a_filter_that_the_index_can_hardly_narrow_gives_short_pages_and_a_cursor() {
    let (api, events) = refused_after_a_second(11_000);
    let view = view_of(events.clone());
    let slower_than = |ms| DeliveryFilter {
        min_duration: Some(Duration::from_millis(ms)),
        ..Default::default()
    };
    // One part of the index holds both durations, so every row must be looked at.
    let mut asked = query(api, slower_than(1_010), 10);
    let page = view.list(&asked).unwrap();
    assert!(page.deliveries.is_empty() && page.next.is_some());
    asked.cursor = page.next;
    let page = view.list(&asked).unwrap();
    assert!(page.deliveries.is_empty() && page.next.is_none());
    assert_eq!(
        all(&view, query(api, slower_than(990), 1_000)).len(),
        11_000
    );
    // Another part of the same power: the index rules every sealed row out.
    let page = view.list(&query(api, slower_than(1_040), 10)).unwrap();
    assert!(page.deliveries.is_empty() && page.next.is_none());

    let history: SharedHistory = Arc::new(MemoryHistory::new(events));
    let letters = fold_all(DeadLetters, &history, &SystemClock::shared()).unwrap();
    let filter = DeadLetterFilter {
        fault: Some(Fault::System),
        ..Default::default()
    };
    let page = letters.list(api, &filter, None, 10).unwrap();
    assert!(page.dead_letters.is_empty() && page.next.is_some());
    let page = letters.list(api, &filter, page.next.as_ref(), 10).unwrap();
    assert!(page.dead_letters.is_empty() && page.next.is_none());
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn planned(number: u64, due_at: Timestamp) -> SubscriptionEvent {
    let retry = RetryScheduled {
        message: message(number),
        attempt: AttemptNumber::new(2),
        due_at,
        delay_ms: 1_000,
    };
    retry.into()
}

fn updated(url: &str) -> SubscriptionEvent {
    let subscription = calling(url);
    SubscriptionUpdated { subscription }.into()
}

fn opened(probe_at: Timestamp) -> SubscriptionEvent {
    let opened = CircuitOpened {
        failures: 10,
        probe_at,
        pause_ms: 30_000,
    };
    opened.into()
}

fn probe(number: u64) -> AttemptRecord {
    AttemptRecord {
        probe: true,
        ..call(number, 503)
    }
}

/// When the next calls of two messages come, by their rows, once this has happened after retries of
/// both were planned, for 1 s and 2 s.
fn next_attempts_after(
    happened: impl IntoIterator<Item = SubscriptionEvent>,
) -> [Option<Timestamp>; 2] {
    let mut events = vec![created()];
    for number in [1, 2] {
        events.push(failed(call(number, 503)));
        events.push(planned(number, at(number.cast_signed())));
    }
    events.extend(happened);
    let view = view_of(recorded(events));
    let definition = calling(CALLBACK);
    let listed = all(&view, DeliveryQuery::newest(definition.api, 10));
    [1, 2].map(|number| {
        let id = DeliveryId::of(message(number).id, definition.id);
        let row = view.delivery(id).unwrap().unwrap();
        assert!(listed.contains(&row), "{row:?} is not among {listed:?}");
        row.next_attempt_at
    })
}

const AS_PLANNED: [Option<Timestamp>; 2] = [
    Some(Timestamp::from_millis(1_000)),
    Some(Timestamp::from_millis(2_000)),
];

#[test]
fn what_was_planned_for_another_callback_is_no_time_of_a_next_attempt() {
    let moved = || updated("https://example.com/other");
    assert_eq!(next_attempts_after([]), AS_PLANNED);
    assert_eq!(next_attempts_after([updated(CALLBACK)]), AS_PLANNED);
    assert_eq!(next_attempts_after([moved()]), [None, None]);
    // Of a call that had begun another follows, at the present callback.
    let former = |attempt| AttemptRecord {
        former_callback: true,
        ..attempt
    };
    let again = [
        moved(),
        failed(former(call(1, 503))),
        planned(1, at(5)),
        updated("https://example.com/other"),
    ];
    assert_eq!(next_attempts_after(again), [Some(at(5)), None]);
    // A probe plans nothing, nor does it bring back what was planned before.
    let probed = [
        opened(at(30)),
        moved(),
        CircuitClosed {}.into(),
        failed(former(probe(1))),
    ];
    assert_eq!(next_attempts_after(probed), [None, None]);
}

#[test]
fn behind_an_open_circuit_the_next_attempt_is_the_next_probe() {
    let after = |more: Vec<SubscriptionEvent>| {
        let so_far = [opened(at(30)), failed(probe(2)), opened(at(60))];
        next_attempts_after(so_far.into_iter().chain(more))
    };
    assert_eq!(next_attempts_after([opened(at(30))]), [None, None]);
    assert_eq!(after(vec![]), [None, Some(at(60))]);
    let other = vec![failed(probe(1)), opened(at(120))];
    assert_eq!(after(other), [Some(at(120)), None]);
    // One that is lower comes first.
    assert_eq!(after(vec![failed(call(1, 503))]), [Some(at(60)), None]);
    let again = DeliveryRedelivered {
        message: message(1),
        attempt: AttemptNumber::new(2),
    };
    assert_eq!(after(vec![again.into()]), [Some(at(60)), None]);
    // A probe that failed leaves the plan as it was.
    assert_eq!(after(vec![CircuitClosed {}.into()]), AS_PLANNED);
    let interrupted = SubscriptionFailed {
        consumer_status: ConsumerStatus::Stopped,
        cause: FailureCause::Gone,
        message: Some(message(2)),
    };
    assert_eq!(after(vec![interrupted.into()]), [None, None]);
}

#[test]
fn no_next_attempt_is_before_the_end_of_a_pause_that_the_callback_asked_for() {
    let held = |until: Timestamp| -> SubscriptionEvent {
        let held = SubscriptionHeld {
            until,
            retry_after: RetryAfter::from_seconds(9),
            status: 503,
        };
        held.into()
    };
    let probed = || [opened(at(30)), failed(probe(2))];
    assert_eq!(next_attempts_after([held(at(9))]), [Some(at(9)); 2]);
    assert_eq!(next_attempts_after([held(at(0))]), AS_PLANNED);
    let then = |event| next_attempts_after(probed().into_iter().chain([held(at(90)), event]));
    assert_eq!(then(opened(at(60))), [None, Some(at(90))]);
    assert_eq!(then(opened(at(120))), [None, Some(at(120))]);
    assert_eq!(then(SubscriptionRecovered {}.into()), AS_PLANNED);
}

#[test]
fn the_next_attempt_of_a_row_is_what_its_subscription_plans_at_any_moment() {
    let options = HistoryOptions {
        events: 4_000,
        ..Default::default()
    };
    let events = generate(seed(), &options);
    for until in (500..=4_000).step_by(250) {
        let events = &events[..until];
        let (view, states) = (view_of(events.to_vec()), states(events));
        let apis = apis(events).into_iter();
        for row in apis.flat_map(|api| all(&view, DeliveryQuery::newest(api, 1_000))) {
            let state = &states[&row.subscription];
            let open = state.open.get(&row.message.version);
            match state.circuit {
                Circuit::Closed { .. } => {
                    let retry = open.and_then(|open| open.retry);
                    let held_until = state.hold.map(|hold| hold.until);
                    let due_at = retry.map(|retry| held_until.max(Some(retry.due_at)));
                    assert_eq!(row.next_attempt_at, due_at.flatten());
                }
                Circuit::Open { probe_at, .. } => {
                    let held_until = state.hold.map(|hold| hold.until);
                    let probe_at = open.and_then(|_| held_until.max(Some(probe_at)));
                    assert!(row.next_attempt_at.is_none() || row.next_attempt_at == probe_at);
                }
            }
        }
    }
}
