//! Metrics, dead letters and subscriptions against the plainest sums.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hooklog::{
    clock::SystemClock,
    log::{RecordedEvent, StreamId},
    model::{
        ApiId, AttemptFailed, AttemptNumber, AttemptRecord, AttemptSucceeded, ConsumerStatus,
        DeadLetterQueue, DeadLetterReason, DeliveryDeadLettered, DeliveryDiscarded, DiscardReason,
        Event, FailureCause, Fault, LogCut, MessageId, MessageRef, Method, Position,
        RetryScheduled, Subscription, SubscriptionClosed, SubscriptionCreated, SubscriptionEvent,
        SubscriptionFailed, SubscriptionId, SubscriptionStatus, SubscriptionUpdated, Timestamp,
        Timings, Version,
    },
    projection::{
        ReplayUntil, Replayed, SharedHistory, View,
        dead_letters::DeadLetterFilter,
        fold_all,
        metrics::{Counter, Metrics, Resolution, Scope, SeriesQuery},
        replay,
        subscriptions::Subscriptions,
    },
    subscription::SubscriptionState,
    testing::{
        history::{HistoryOptions, generate},
        memory_history::MemoryHistory,
    },
};
use uuid::Uuid;

use crate::support::{events::states, seed::seed};

struct World {
    events: Vec<Arc<RecordedEvent>>,
    views: Replayed,
    owner: BTreeMap<SubscriptionId, ApiId>,
}

fn world(count: usize) -> World {
    let options = HistoryOptions {
        events: count,
        ..Default::default()
    };
    world_of(generate(seed(), &options))
}

fn world_of(events: Vec<Arc<RecordedEvent>>) -> World {
    let history: SharedHistory = Arc::new(MemoryHistory::new(events.clone()));
    let views = replay(history, ReplayUntil::Now, &SystemClock::shared()).unwrap();
    let owner = events
        .iter()
        .filter_map(|event| match event.event.as_subscription()? {
            SubscriptionEvent::Created(created) => {
                Some((created.subscription.id, created.subscription.api))
            }
            _ => None,
        })
        .collect();
    World {
        events,
        views,
        owner,
    }
}

impl World {
    fn count(&self, scope: Scope, wanted: impl Fn(&SubscriptionEvent) -> bool) -> u64 {
        let of_scope = |event: &&Arc<RecordedEvent>| match (scope, event.stream.as_subscription()) {
            (_, None) => false,
            (Scope::All, Some(_)) => true,
            (Scope::Api(api), Some(id)) => self.owner[&id] == api,
            (Scope::Subscription(own), Some(id)) => own == id,
        };
        let events = self.events.iter().filter(of_scope);
        let events = events.filter_map(|event| event.event.as_subscription());
        events.filter(|event| wanted(event)).count() as u64
    }

    fn scopes(&self) -> Vec<Scope> {
        let apis: BTreeSet<_> = self.owner.values().copied().collect();
        let subscriptions = self.owner.keys().copied().map(Scope::Subscription);
        let scopes = std::iter::once(Scope::All).chain(apis.into_iter().map(Scope::Api));
        scopes.chain(subscriptions).collect()
    }

    /// What was dead-lettered and neither delivered since nor discarded by an operator.
    fn dead(&self) -> BTreeSet<(SubscriptionId, MessageId)> {
        let mut dead = BTreeSet::new();
        for event in &self.events {
            let Some(id) = event.stream.as_subscription() else {
                continue;
            };
            match event.event.as_subscription() {
                Some(SubscriptionEvent::DeadLettered(letter)) => {
                    dead.insert((id, letter.message.id));
                }
                Some(SubscriptionEvent::AttemptSucceeded(ok)) => {
                    dead.remove(&(id, ok.attempt.message.id));
                }
                Some(SubscriptionEvent::Discarded(gone))
                    if gone.reason == DiscardReason::Operator =>
                {
                    dead.remove(&(id, gone.message.id));
                }
                _ => {}
            }
        }
        dead
    }

    /// Messages that a live subscription has neither ended nor filtered.
    fn waiting(&self) -> BTreeMap<SubscriptionId, BTreeSet<u64>> {
        let mut waiting: BTreeMap<SubscriptionId, BTreeSet<u64>> = BTreeMap::new();
        let mut members: BTreeMap<SubscriptionId, ApiId> = BTreeMap::new();
        for event in &self.events {
            if event.event.as_published().is_some() {
                for (id, api) in &members {
                    if event.stream.as_api() == Some(*api) {
                        waiting.entry(*id).or_default().insert(event.version.get());
                    }
                }
            }
            let Some(id) = event.stream.as_subscription() else {
                continue;
            };
            let of = waiting.entry(id).or_default();
            match event.event.as_subscription() {
                Some(SubscriptionEvent::Created(_)) => drop(members.insert(id, self.owner[&id])),
                Some(SubscriptionEvent::AttemptSucceeded(ok)) => {
                    of.remove(&ok.attempt.message.version.get());
                }
                Some(SubscriptionEvent::DeadLettered(dead)) => {
                    of.remove(&dead.message.version.get());
                }
                Some(SubscriptionEvent::Discarded(gone)) => {
                    of.remove(&gone.message.version.get());
                }
                Some(SubscriptionEvent::Filtered(run)) => {
                    of.retain(|n| !(run.first.get()..=run.last.get()).contains(n));
                }
                Some(SubscriptionEvent::Redelivered(again)) => {
                    of.insert(again.message.version.get());
                }
                Some(SubscriptionEvent::Closed(_)) => {
                    of.clear();
                    members.remove(&id);
                }
                _ => {}
            }
        }
        waiting
    }
}

#[test]
fn counters_equal_plain_sums_in_every_scope() {
    let world = world(8_000);
    for scope in world.scopes() {
        let tally = world.views.metrics.totals(scope).unwrap();
        let is = |counter, wanted: &dyn Fn(&SubscriptionEvent) -> bool| {
            assert_eq!(
                tally.get(counter),
                world.count(scope, wanted),
                "{scope:?} {counter:?}"
            );
        };
        is(Counter::Delivered, &|e| {
            matches!(e, SubscriptionEvent::AttemptSucceeded(_))
        });
        is(Counter::DeadLettered, &|e| {
            matches!(e, SubscriptionEvent::DeadLettered(_))
        });
        is(Counter::Discarded, &|e| {
            matches!(e, SubscriptionEvent::Discarded(_))
        });
        is(Counter::Retries, &|e| {
            matches!(e, SubscriptionEvent::RetryScheduled(_))
        });
        is(Counter::Redelivered, &|e| {
            matches!(e, SubscriptionEvent::Redelivered(_))
        });
        is(
            Counter::FailedNoResponse,
            &|e| matches!(e, SubscriptionEvent::AttemptFailed(failed) if failed.attempt.status == 0),
        );
        is(
            Counter::Failed5xx,
            &|e| matches!(e, SubscriptionEvent::AttemptFailed(failed) if failed.attempt.status >= 500),
        );
        let failed = world.count(scope, |e| matches!(e, SubscriptionEvent::AttemptFailed(_)));
        assert_eq!(tally.failed(), failed);
        assert_eq!(tally.attempt_duration.count(), tally.attempts());
        assert_eq!(tally.e2e.count(), tally.get(Counter::Delivered));
    }
    let messages = world
        .events
        .iter()
        .filter(|e| e.event.as_published().is_some())
        .count();
    let all = world.views.metrics.totals(Scope::All).unwrap();
    assert_eq!(all.get(Counter::MessagesAccepted), messages as u64);
}

#[test]
fn gauges_show_what_stands_now() {
    let world = world(8_000);
    let waiting = world.waiting();
    for (id, waits) in &waiting {
        let gauges = world
            .views
            .metrics
            .gauges(Scope::Subscription(*id))
            .unwrap();
        assert_eq!(gauges.backlog, waits.len() as u64, "{id}");
    }
    let all = world.views.metrics.gauges(Scope::All).unwrap();
    assert_eq!(
        all.backlog,
        waiting
            .values()
            .map(|waits| waits.len() as u64)
            .sum::<u64>()
    );
    assert_eq!(all.dead_letters, world.dead().len() as u64);
    let open = world.owner.keys().filter(|id| {
        let row = world
            .views
            .subscriptions
            .subscription(**id)
            .unwrap()
            .unwrap();
        row.health.circuit.is_some()
            && row.state.status != hooklog::model::SubscriptionStatus::Closed
    });
    assert_eq!(all.circuits_open, open.count() as u64);
}

fn metrics_of(events: &[Arc<RecordedEvent>]) -> View<Metrics> {
    let history: SharedHistory = Arc::new(MemoryHistory::new(events.to_vec()));
    fold_all(Metrics, &history, &SystemClock::shared()).unwrap()
}

fn planned(state: &SubscriptionState) -> u64 {
    let open = state.open.values();
    open.filter(|open| open.retry.is_some()).count() as u64
}

/// Planned retries, open circuits, subscriptions that have not ended, and messages that wait.
fn standing(state: &SubscriptionState, head: Version) -> [u64; 4] {
    if state.is_over() {
        return [planned(state), 0, 0, 0];
    }
    let circuit = u64::from(state.circuit.is_open());
    [planned(state), circuit, 1, state.pending(head)]
}

fn assert_gauges_are_those_of_states(events: &[Arc<RecordedEvent>]) {
    let mut heads: HashMap<ApiId, Version> = HashMap::new();
    for event in events {
        if let (Some(api), Some(_)) = (event.stream.as_api(), event.event.as_published()) {
            heads.insert(api, event.version);
        }
    }
    let mut expected: HashMap<Scope, [u64; 4]> = HashMap::new();
    for (id, state) in states(events) {
        let api = state.subscription.as_ref().unwrap().api;
        let stands = standing(&state, heads.get(&api).copied().unwrap_or_default());
        for scope in [Scope::All, Scope::Api(api), Scope::Subscription(id)] {
            let sums = expected.entry(scope).or_default();
            for (sum, more) in sums.iter_mut().zip(stands) {
                *sum += more;
            }
        }
    }
    let metrics = metrics_of(events);
    for (scope, expected) in expected {
        let gauges = metrics.gauges(scope).unwrap();
        let found = [
            gauges.retries_scheduled,
            gauges.circuits_open,
            gauges.subscriptions,
            gauges.backlog,
        ];
        assert_eq!(found, expected, "{scope:?} after {} events", events.len());
    }
}

#[test]
fn gauges_are_what_the_states_of_subscriptions_say_at_any_moment() {
    let options = HistoryOptions {
        events: 4_000,
        ..Default::default()
    };
    let events = generate(seed(), &options);
    for until in (500..=4_000).step_by(250) {
        assert_gauges_are_those_of_states(&events[..until]);
    }
}

#[test]
fn pauses_and_circuits_that_are_shown_are_those_of_the_states_of_subscriptions() {
    let options = HistoryOptions {
        events: 4_000,
        ..Default::default()
    };
    let events = generate(seed(), &options);
    for until in (500..=4_000).step_by(250) {
        let events = &events[..until];
        let history: SharedHistory = Arc::new(MemoryHistory::new(events.to_vec()));
        let view = fold_all(Subscriptions, &history, &SystemClock::shared()).unwrap();
        for (id, state) in states(events) {
            let health = view.subscription(id).unwrap().unwrap().health;
            let shown = (health.hold.map(|hold| hold.until), health.circuit.is_some());
            let stands = (state.hold.map(|hold| hold.until), state.circuit.is_open());
            assert_eq!(shown, stands, "{id} after {until} events");
        }
    }
}

#[test]
fn a_dead_letter_that_is_discarded_twice_leaves_the_backlog_once() {
    let mut events = world(4_000).events;
    let states = states(&events);
    let dead = events.iter().rev().find_map(|event| {
        let id = event.stream.as_subscription()?;
        match event.event.as_subscription()? {
            SubscriptionEvent::DeadLettered(dead) if !states[&id].is_over() => {
                Some((event.stream, dead.message))
            }
            _ => None,
        }
    });
    let (stream, message) = dead.unwrap();
    let last = RecordedEvent::clone(events.last().unwrap());
    for _ in 0..2 {
        let discarded = DeliveryDiscarded {
            message,
            reason: DiscardReason::Operator,
            attempts: 1,
            status: 503,
            error: None,
        };
        events.push(Arc::new(RecordedEvent {
            position: Position::new(events.len() as u64 + 1),
            stream,
            event: Event::Subscription(discarded.into()),
            ..last.clone()
        }));
    }
    assert_gauges_are_those_of_states(&events);
}

fn calling(url: &str) -> Box<Subscription> {
    let mut definition = Subscription::to(url).unwrap();
    definition.id = SubscriptionId::from_uuid(Uuid::from_u128(1));
    Box::new(definition)
}

const MESSAGE: MessageRef = MessageRef {
    version: Version::FIRST,
    position: Position::FIRST,
    id: MessageId::from_uuid(Uuid::from_u128(2)),
    accepted_at: Timestamp::EPOCH,
};

fn call(number: u32, status: u16) -> AttemptRecord {
    let definition = calling("https://example.com/hook");
    AttemptRecord {
        message: MESSAGE,
        number: AttemptNumber::new(number),
        probe: false,
        former_callback: false,
        started_at: Timestamp::EPOCH,
        timings: Timings::default(),
        method: Method::Post,
        callback_url: definition.configuration.callback_url.unwrap(),
        status,
        captured: None,
    }
}

fn failed_call(attempt: AttemptRecord) -> SubscriptionEvent {
    let error = None;
    AttemptFailed { attempt, error }.into()
}

/// As the log has what happened to one subscription, and to the log.
fn recorded(events: impl IntoIterator<Item = Event>) -> Vec<Arc<RecordedEvent>> {
    let recorded = events.into_iter().zip(1..).map(|(event, number)| {
        let subscription = calling("https://example.com/hook").id;
        Arc::new(RecordedEvent {
            position: Position::new(number),
            stream: if matches!(event, Event::Log(_)) {
                StreamId::log()
            } else {
                StreamId::subscription(subscription)
            },
            version: Version::new(number),
            time: Timestamp::EPOCH,
            event,
        })
    });
    recorded.collect()
}

/// How many retries are planned, by the gauge, once this has happened to the only message of a
/// subscription while its first retry was planned. The state says the same.
fn planned_after(happened: SubscriptionEvent) -> u64 {
    let created = SubscriptionCreated {
        subscription: calling("https://example.com/hook"),
        cursor: Version::ZERO,
    };
    let retry = RetryScheduled {
        message: MESSAGE,
        attempt: AttemptNumber::new(2),
        due_at: Timestamp::from_millis(1_000),
        delay_ms: 1_000,
    };
    let events = [
        created.into(),
        failed_call(call(1, 503)),
        retry.into(),
        happened,
    ];
    let recorded = recorded(events.map(Event::Subscription));
    let gauges = metrics_of(&recorded).gauges(Scope::All).unwrap();
    let of_states: u64 = states(&recorded).values().map(planned).sum();
    assert_eq!(gauges.retries_scheduled, of_states);
    of_states
}

#[test]
fn a_retry_is_counted_for_as_long_as_it_is_planned() {
    let failed = |message| {
        SubscriptionFailed {
            consumer_status: ConsumerStatus::Stopped,
            cause: FailureCause::Gone,
            message,
        }
        .into()
    };
    assert_eq!(planned_after(failed(None)), 1);
    assert_eq!(planned_after(failed(Some(MESSAGE))), 0);

    let updated = |url| {
        let subscription = calling(url);
        SubscriptionUpdated { subscription }.into()
    };
    assert_eq!(planned_after(updated("https://example.com/hook")), 1);
    assert_eq!(planned_after(updated("https://example.com/other")), 0);

    let probe = AttemptRecord {
        probe: true,
        ..call(2, 503)
    };
    assert_eq!(planned_after(failed_call(probe)), 1);
    assert_eq!(planned_after(failed_call(call(2, 503))), 0);

    let attempt = call(2, 200);
    assert_eq!(planned_after(AttemptSucceeded { attempt }.into()), 0);
    let discarded = DeliveryDiscarded {
        message: MESSAGE,
        reason: DiscardReason::SubscriptionClosed,
        attempts: 1,
        status: 503,
        error: None,
    };
    assert_eq!(planned_after(discarded.into()), 0);
}

#[test]
fn a_dead_letter_that_was_cut_off_is_counted_no_more_whatever_is_told_of_it() {
    let message = |number| MessageRef {
        version: Version::new(number),
        position: Position::new(number * 10),
        ..MESSAGE
    };
    let given_up = |number| {
        Event::from(DeliveryDeadLettered {
            message: message(number),
            reason: DeadLetterReason::Refused,
            fault: Fault::Receiver,
            attempts: 1,
            status: 400,
            error: None,
            target: DeadLetterQueue::Embedded,
        })
    };
    let discarded = |number| {
        Event::from(DeliveryDiscarded {
            message: message(number),
            reason: DiscardReason::Operator,
            attempts: 1,
            status: 400,
            error: None,
        })
    };
    let created = Event::from(SubscriptionCreated {
        subscription: calling("https://example.com/hook"),
        cursor: Version::ZERO,
    });
    let cut = Event::from(LogCut {
        first: Position::new(15),
        bytes: 0,
    });
    let told = [
        (created, 0),
        (given_up(1), 1),
        (given_up(2), 2),
        (cut.clone(), 1),
        (discarded(1), 1),
        (given_up(1), 1),
        (cut, 1),
        (discarded(2), 0),
    ];
    let mut events = Vec::new();
    for (event, expected) in told {
        events.push(event);
        let gauges = metrics_of(&recorded(events.clone())).gauges(Scope::All);
        assert_eq!(gauges.unwrap().dead_letters, expected, "{events:?}");
    }
}

/// Ages are at most a tenth of a second too high.
fn assert_about(found: Option<Timestamp>, exact: Option<Timestamp>, what: &dyn std::fmt::Display) {
    assert_eq!(found.is_some(), exact.is_some(), "{what}");
    if let (Some(found), Some(exact)) = (found, exact) {
        let early = exact.as_millis() - found.as_millis();
        assert!((0..100).contains(&early), "{what}: {found}, not {exact}");
    }
}

#[test]
fn the_oldest_that_waits_is_known_whether_it_is_paused_retried_or_redelivered() {
    let world = world(8_000);
    let mut accepted_at = BTreeMap::new();
    for event in &world.events {
        if let (Some(api), Some(_)) = (event.stream.as_api(), event.event.as_published()) {
            accepted_at.insert((api, event.version.get()), event.time);
        }
    }
    let mut of_apis: BTreeMap<ApiId, Timestamp> = BTreeMap::new();
    for (id, waits) in world.waiting() {
        let api = world.owner[&id];
        let oldest = waits.first().map(|version| accepted_at[&(api, *version)]);
        let own = Scope::Subscription(id);
        let gauges = world.views.metrics.gauges(own).unwrap();
        assert_about(gauges.oldest_accepted_at, oldest, &id);
        if let Some(oldest) = oldest {
            let of_api = of_apis.entry(api).or_insert(oldest);
            *of_api = oldest.min(*of_api);
        }
    }
    assert!(!of_apis.is_empty());
    for (api, oldest) in &of_apis {
        let gauges = world.views.metrics.gauges(Scope::Api(*api)).unwrap();
        assert_about(gauges.oldest_accepted_at, Some(*oldest), api);
    }
    let all = world.views.metrics.gauges(Scope::All).unwrap();
    let oldest = of_apis.values().min().copied();
    assert_about(all.oldest_accepted_at, oldest, &"all");
}

#[test]
fn a_series_adds_up_to_the_totals() {
    let world = world(8_000);
    let (first, last) = (world.events[0].time, world.events.last().unwrap().time);
    let total = world.views.metrics.totals(Scope::All).unwrap();
    let just_behind = Duration::from_millis(1);
    for (step, resolution, behind) in [
        (60, Resolution::Minute, just_behind),
        (300, Resolution::Minute, just_behind),
        (3_600, Resolution::Hour, just_behind),
        (3_600, Resolution::Hour, Duration::from_hours(2)),
    ] {
        let step = Duration::from_secs(step);
        let query = SeriesQuery {
            scope: Scope::All,
            from: first,
            to: last.plus(behind),
            step,
        };
        let series = world.views.metrics.series(&query).unwrap();
        assert_eq!(series.resolution, resolution);
        assert!(series.points.is_sorted_by(|a, b| a.at < b.at));
        let mut sum = hooklog::projection::metrics::Tally::default();
        for point in &series.points {
            assert_eq!(
                point.at.as_millis() % i64::try_from(step.as_millis()).unwrap(),
                0
            );
            sum.add(&point.tally);
        }
        assert_eq!(sum, total);
    }
}

#[test]
fn seconds_are_pruned_by_the_time_of_events() {
    let world = world(30_000);
    let last = world.events.last().unwrap().time;
    let query = SeriesQuery {
        scope: Scope::All,
        from: last.minus(Duration::from_mins(150)),
        to: last,
        step: Duration::from_secs(1),
    };
    let points = world.views.metrics.series(&query).unwrap().points;
    let oldest = points.first().unwrap().at;
    assert!(
        last.since(world.events[0].time) > Duration::from_mins(150),
        "too short a history"
    );
    assert!(last.since(oldest) < Duration::from_mins(62), "{oldest}");
}

#[test]
fn a_step_that_no_series_has_is_refused() {
    let world = world(200);
    let ask = |step, to| {
        world.views.metrics.series(&SeriesQuery {
            scope: Scope::All,
            from: Timestamp::EPOCH,
            to: Timestamp::from_millis(to),
            step,
        })
    };
    assert!(ask(Duration::from_millis(1_500), 10_000).is_err());
    assert!(ask(Duration::ZERO, 10_000).is_err());
    assert!(ask(Duration::from_secs(1), 100_000_000).is_err());
    assert!(ask(Duration::from_secs(1), 10_000).is_ok());
}

#[test]
fn dead_letters_are_those_that_are_kept() {
    let world = world(8_000);
    let expected = world.dead();
    assert!(!expected.is_empty());
    let mut found = BTreeSet::new();
    for api in world.owner.values().copied().collect::<BTreeSet<_>>() {
        let mut cursor = None;
        let mut listed = 0;
        loop {
            let view = &world.views.dead_letters;
            let page = view
                .list(api, &DeadLetterFilter::default(), cursor.as_ref(), 7)
                .unwrap();
            listed += page.dead_letters.len() as u64;
            for letter in page.dead_letters {
                assert!(
                    found.insert((letter.subscription, letter.message.id)),
                    "each once"
                );
            }
            let Some(next) = page.next else { break };
            cursor = Some(next);
        }
        assert_eq!(listed, world.views.dead_letters.count(api).unwrap());
    }
    assert_eq!(found, expected);
}

#[test]
fn dead_letter_filters_equal_a_plain_scan() {
    let world = world(8_000);
    let api = *world.owner.values().next().unwrap();
    let view = &world.views.dead_letters;
    let list =
        |filter: &DeadLetterFilter| view.list(api, filter, None, 1_000).unwrap().dead_letters;
    let all = list(&DeadLetterFilter::default());
    for letter in all.iter().step_by(5) {
        let filters = [
            DeadLetterFilter {
                reason: Some(letter.reason),
                ..Default::default()
            },
            DeadLetterFilter {
                fault: Some(letter.fault),
                from: Some(letter.at),
                ..Default::default()
            },
            DeadLetterFilter {
                subscription: Some(letter.subscription),
                to: Some(letter.at),
                ..Default::default()
            },
            DeadLetterFilter {
                application: Some(letter.application),
                subscription: Some(letter.subscription),
                ..Default::default()
            },
        ];
        for filter in filters {
            let plain: Vec<_> = all
                .iter()
                .filter(|l| l.is_among(&filter))
                .cloned()
                .collect();
            assert!(list(&filter) == plain, "{filter:?}");
        }
    }
}

#[test]
fn subscriptions_show_their_names_status_and_health() {
    let world = world(8_000);
    let mut listed = 0;
    for api in world.views.subscriptions.apis().unwrap() {
        let id = api.api.id;
        let messages = world.views.metrics.totals(Scope::Api(id)).unwrap();
        assert_eq!(api.messages, messages.get(Counter::MessagesAccepted));
        let mut after = None;
        loop {
            let page = world.views.subscriptions.of_api(id, after, 2).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.state.definition.id);
            for row in page {
                listed += 1;
                assert_eq!(row.api_name.as_deref(), Some(api.api.name.as_str()));
                assert!(row.application_name.is_some());
                let own = Scope::Subscription(row.state.definition.id);
                let tally = world.views.metrics.totals(own).unwrap();
                assert_eq!(row.health.attempts, tally.attempts());
                assert_eq!(row.health.delivered, tally.get(Counter::Delivered));
                let interrupted = row.state.consumer_status == ConsumerStatus::Failure;
                assert_eq!(row.state.failure_cause.is_some(), interrupted);
                serde_json::to_string(&row).unwrap();
            }
        }
    }
    assert_eq!(listed, world.owner.len());
}

#[test]
fn a_subscription_has_no_seconds_and_no_series_once_it_has_ended() {
    let mut events = world(8_000).events;
    let last = events
        .iter()
        .rfind(|e| e.stream.as_subscription().is_some());
    let last = last.unwrap();
    let closed = last.stream.as_subscription().unwrap();
    events.push(Arc::new(RecordedEvent {
        position: Position::new(events.len() as u64 + 1),
        version: last.version.next(),
        event: SubscriptionClosed {}.into(),
        ..RecordedEvent::clone(last)
    }));
    let world = world_of(events);
    let metrics = &world.views.metrics;
    let last = world.events.last().unwrap().time;
    let series = |id, step| {
        metrics.series(&SeriesQuery {
            scope: Scope::Subscription(id),
            from: last.minus(Duration::from_hours(30)),
            to: last.plus(Duration::from_hours(1)),
            step,
        })
    };
    for id in world.owner.keys().copied() {
        let row = world.views.subscriptions.subscription(id).unwrap().unwrap();
        let refused = series(id, Duration::from_secs(30)).unwrap_err();
        assert!(refused.to_string().contains("minutes"), "{refused}");
        let points = series(id, Duration::from_mins(1)).unwrap().points;
        let tally = metrics.totals(Scope::Subscription(id)).unwrap();
        let has_ended = row.state.status == SubscriptionStatus::Closed;
        assert_eq!(
            points.is_empty(),
            has_ended || tally.attempts() == 0,
            "{id}"
        );
    }
    assert!(
        series(closed, Duration::from_mins(1))
            .unwrap()
            .points
            .is_empty()
    );
}
