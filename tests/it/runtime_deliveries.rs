//! From publish to outcome, over the whole runtime.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hooklog::{
    clock::Clock as _,
    delivery::Egress,
    log::{EventLog, ExpectedVersion, LogOptions, StreamId, Urgency},
    model::{
        Api, ApiId, ApiUpdated, ConsumerStatus, Coordinate, DeadLetterQueue, DeliveryMode,
        ErrorClass, Message, MockSource, Qos, Source, Subscription, SubscriptionId,
    },
    projection::{
        deliveries::{DeliveryOutcome, DeliveryQuery, DeliveryRow},
        metrics::{Counter, Scope},
    },
    runtime::{ControlError, Runtime},
    testing::{FakeAnswer, TestRuntime},
};

const DAY: Duration = Duration::from_hours(24);

async fn started(data: &tempfile::TempDir) -> (TestRuntime, ApiId, SubscriptionId) {
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let (api, subscription) = subscribed(&test, Api::named("orders")).await;
    (test, api, subscription)
}

async fn subscribed(test: &TestRuntime, api: Api) -> (ApiId, SubscriptionId) {
    let api = test.handle().create_api(api).await.unwrap();
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscription = test.handle().subscribe(api.id, subscription).await.unwrap();
    (api.id, subscription.id)
}

async fn publish(test: &TestRuntime, api: ApiId, count: usize) {
    let messages = (0..count)
        .map(|i| Message::text(format!("message {i}")))
        .collect();
    test.handle().publish_batch(api, messages).await.unwrap();
}

fn rows(test: &TestRuntime, api: ApiId) -> Vec<DeliveryRow> {
    test.handle()
        .deliveries()
        .list(&DeliveryQuery::newest(api, 1_000))
        .unwrap()
        .deliveries
}

fn outcomes(test: &TestRuntime, api: ApiId) -> Vec<DeliveryOutcome> {
    rows(test, api).iter().map(|row| row.outcome).collect()
}

#[tokio::test]
async fn calls_of_an_imported_api_name_their_subscription_and_others_do_not() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let mut imported = Api::named("imported");
    imported.entrypoint.gravitee_client_identifier = true;
    let (imported, of_imported) = subscribed(&test, imported).await;
    let (other, of_other) = subscribed(&test, Api::named("other")).await;
    test.transport().answer(move |call| {
        let expected = call.subscription == of_imported;
        let as_expected = call.gravitee_client_identifier == expected;
        FakeAnswer::Status(if as_expected { 200 } else { 400 })
    });
    publish(&test, imported, 1).await;
    publish(&test, other, 1).await;
    test.settle().await;
    for (api, subscription) in [(imported, of_imported), (other, of_other)] {
        assert_eq!(test.transport().calls_to(subscription).len(), 1);
        assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered]);
    }
    test.shutdown().await;
}

#[tokio::test]
async fn a_held_runtime_calls_nobody_and_takes_changes_that_the_next_one_follows() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let (api, subscription) = subscribed(&test, Api::named("orders")).await;
    test.handle().stop_api(api).await.unwrap();
    test.shutdown().await;

    let held = Runtime::builder(data.path())
        .egress(Egress::loopback())
        .held();
    let held = held.start().await.unwrap();
    let handle = held.handle();
    handle.start_api(api).await.unwrap();
    let mut ticking = Api::named("ticking");
    ticking.source = Source::Mock(MockSource {
        message_interval_ms: 1,
        message_count: Some(3),
        ..MockSource::default()
    });
    let ticking = handle.create_api(ticking).await.unwrap().id;
    let url = "http://127.0.0.1:1/";
    let second = Subscription::to(url).unwrap();
    let second = handle.subscribe(ticking, second).await.unwrap().id;
    handle.pause(second).await.unwrap();
    handle.resume_subscription(second).await.unwrap();
    handle.publish(api, Message::text("waits")).await.unwrap();
    handle.settle().await;
    assert_eq!(handle.deliveries().count(api).unwrap(), 0);
    let made_up = handle.subscriptions().api(ticking).unwrap().unwrap();
    assert_eq!(made_up.messages, 0);
    drop(handle);
    held.shutdown(Duration::from_secs(8)).await;

    let test = TestRuntime::start(data.path(), 8).await.unwrap();
    test.run_until_idle(DAY).await;
    assert_eq!(test.transport().calls_to(subscription).len(), 1);
    assert_eq!(test.transport().calls_to(second).len(), 3);
    test.shutdown().await;
}

#[tokio::test]
async fn a_published_message_is_delivered_once() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    publish(&test, api, 20).await;
    test.settle().await;
    assert_eq!(test.transport().calls_to(subscription).len(), 20);
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered; 20]);
    test.shutdown().await;
}

#[tokio::test]
async fn a_failing_call_is_retried_until_it_succeeds() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, _) = started(&data).await;
    test.transport().script([
        FakeAnswer::Status(500),
        FakeAnswer::Error(ErrorClass::Timeout),
        FakeAnswer::Status(200),
    ]);
    publish(&test, api, 1).await;
    test.settle().await;
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Retrying]);
    test.run_until_idle(DAY).await;
    let rows = rows(&test, api);
    assert_eq!(
        (rows[0].outcome, rows[0].attempts),
        (DeliveryOutcome::Delivered, 3)
    );
    test.shutdown().await;
}

#[tokio::test]
async fn a_refused_message_goes_to_the_dead_letters_and_is_redelivered() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, _) = started(&data).await;
    test.transport().answer(|_| FakeAnswer::Status(400));
    publish(&test, api, 3).await;
    test.settle().await;
    assert_eq!(test.handle().dead_letters().count(api).unwrap(), 3);
    test.transport().answer(|_| FakeAnswer::Status(200));
    let id = rows(&test, api)[0].id;
    test.handle().redeliver(id).await.unwrap();
    test.settle().await;
    let row = test.handle().deliveries().delivery(id).unwrap().unwrap();
    assert_eq!((row.outcome, row.attempts), (DeliveryOutcome::Delivered, 2));
    assert_eq!(test.handle().dead_letters().count(api).unwrap(), 2);
    test.shutdown().await;
}

#[tokio::test]
async fn g9_what_was_in_flight_at_a_crash_is_sent_again_with_the_same_id() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    test.transport().hold();
    publish(&test, api, 12).await;
    test.settle().await;
    assert_eq!(test.transport().held(), 5);
    let test = test.crash_and_reopen().await.unwrap();
    test.transport().release();
    test.settle().await;
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered; 12]);
    let calls = test.transport().calls_to(subscription);
    let mut ids: Vec<_> = calls.iter().map(|call| call.message).collect();
    assert_eq!(ids.len(), 17);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    test.shutdown().await;
}

#[tokio::test]
async fn under_at_most_once_what_was_in_flight_at_a_crash_is_not_sent_again() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    let (api, subscription) = subscribed(&test, api).await;
    test.transport().hold();
    publish(&test, api, 8).await;
    test.settle().await;
    let test = test.crash_and_reopen().await.unwrap();
    test.transport().release();
    test.settle().await;
    let outcomes = outcomes(&test, api);
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    assert_eq!(count(DeliveryOutcome::Discarded), 5);
    assert_eq!(count(DeliveryOutcome::Delivered), 3);
    assert_eq!(test.transport().calls_to(subscription).len(), 8);
    test.shutdown().await;
}

#[tokio::test]
async fn retries_come_back_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, _) = started(&data).await;
    test.transport().answer(|_| FakeAnswer::Status(503));
    publish(&test, api, 2).await;
    test.settle().await;
    let test = test.crash_and_reopen().await.unwrap();
    test.transport().answer(|_| FakeAnswer::Status(204));
    test.run_until_idle(DAY).await;
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered; 2]);
    assert!(rows(&test, api).iter().all(|row| row.attempts == 2));
    test.shutdown().await;
}

#[tokio::test]
async fn a_paused_subscription_keeps_its_messages() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    test.handle().pause(subscription).await.unwrap();
    publish(&test, api, 4).await;
    test.settle().await;
    assert!(test.transport().calls().is_empty());
    let inspection = test.handle().inspect(subscription).await.unwrap();
    assert_eq!(inspection.pending, 4);
    test.handle()
        .resume_subscription(subscription)
        .await
        .unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 4);
    test.shutdown().await;
}

#[tokio::test]
async fn g12_a_dead_callback_costs_its_own_subscription_alone() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, dead) = started(&data).await;
    let (other_api, healthy) = subscribed(&test, Api::named("invoices")).await;
    test.transport().answer(move |request| {
        let down = request.subscription == dead;
        FakeAnswer::Status(if down { 500 } else { 200 })
    });
    publish(&test, api, 30).await;
    publish(&test, other_api, 30).await;
    test.settle().await;
    assert_eq!(outcomes(&test, other_api), [DeliveryOutcome::Delivered; 30]);
    assert_eq!(test.transport().calls_to(healthy).len(), 30);
    assert!(
        test.handle()
            .inspect(dead)
            .await
            .unwrap()
            .state
            .circuit
            .is_open()
    );
    assert!(test.transport().calls_to(dead).len() < 20);
    test.shutdown().await;
}

#[tokio::test]
async fn an_actor_that_panics_is_started_again_and_its_siblings_feel_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    let (other_api, _) = subscribed(&test, Api::named("invoices")).await;
    let mut panics = 1;
    test.transport().answer(move |request| {
        if request.subscription == subscription && panics > 0 {
            panics -= 1;
            return FakeAnswer::Panic;
        }
        FakeAnswer::Status(200)
    });
    publish(&test, api, 3).await;
    publish(&test, other_api, 3).await;
    let deliveries = test.handle().deliveries();
    while deliveries.count(api).unwrap() < 3 || deliveries.count(other_api).unwrap() < 3 {
        deliveries.changed(deliveries.position()).await.unwrap();
    }
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered; 3]);
    assert_eq!(outcomes(&test, other_api), [DeliveryOutcome::Delivered; 3]);
    test.shutdown().await;
}

#[tokio::test]
async fn a_mock_source_goes_on_where_it_stopped() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 5).await.unwrap();
    let mut api = Api::named("ticks");
    api.source = Source::Mock(MockSource {
        message_interval_ms: 1_000,
        message_count: Some(10),
        ..MockSource::default()
    });
    let (api, _) = subscribed(&test, api).await;
    test.run_until_idle(Duration::from_secs(4)).await;
    let test = test.crash_and_reopen().await.unwrap();
    test.run_until_idle(DAY).await;
    let stream = hooklog::log::StreamId::messages(api);
    assert_eq!(test.handle().log().stream_version(stream).get(), 10);
    test.shutdown().await;
}

#[tokio::test]
async fn impossible_settings_are_refused_with_the_field_and_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, _) = started(&data).await;
    let taken = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap_err();
    assert!(
        taken.to_string().contains("/entrypoint/contextPath"),
        "{taken}"
    );
    let mut late = Api::named("late");
    late.entrypoint.retry.initial_delay_seconds = 90;
    late.entrypoint.http.read_timeout_ms = 0;
    let refused = test
        .handle()
        .create_api(late)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("/entrypoint/retry/initialDelaySeconds"),
        "{refused}"
    );
    assert!(
        refused.contains("/entrypoint/http/readTimeoutMs"),
        "{refused}"
    );
    let inner = Subscription::to("http://10.0.0.1/").unwrap();
    let denied = test.handle().subscribe(api, inner).await.unwrap_err();
    assert!(matches!(denied, ControlError::Invalid(_)), "{denied}");
    assert!(
        denied.to_string().contains("/configuration/callbackUrl"),
        "{denied}"
    );
    let large = Message::new(vec![0; 1024 * 1024 + 1], "text/plain");
    let refused = test.handle().publish(api, large).await.unwrap_err();
    assert!(refused.to_string().contains("1 MiB"), "{refused}");
    test.shutdown().await;
}

#[tokio::test]
async fn a_publish_whose_caller_went_away_is_known_to_the_next() {
    use hooklog::source::{Intake, IntakeOptions, Receipt};
    let data = tempfile::tempdir().unwrap();
    let log =
        hooklog::log::EventLog::open(data.path(), hooklog::log::LogOptions::default()).unwrap();
    let mut api = Api::named("ticks");
    api.id = hooklog::model::ApiId::from_uuid(uuid::Uuid::from_u128(1));
    let intake = Intake::new(IntakeOptions {
        log: log.clone(),
        clock: hooklog::clock::SystemClock::shared(),
        api: std::sync::Arc::new(api),
        activity: hooklog::activity::Activity::default(),
        offsets: std::collections::HashMap::new(),
    });
    let message = |offset| {
        let mut message = Message::text("tick");
        message.coordinate = Some(Coordinate {
            partition: "p".to_owned(),
            offset,
        });
        message
    };
    for offset in 0..50 {
        let mut abandoned = Box::pin(intake.publish(message(offset)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = abandoned.as_mut().poll(&mut context);
        drop(abandoned);
        let again = intake.publish(message(offset)).await.unwrap();
        assert!(again.is_duplicate());
    }
    let twice = intake
        .publish_batch(vec![message(50), message(50)])
        .await
        .unwrap();
    assert_eq!(
        twice.iter().map(Receipt::is_duplicate).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(log.head().get(), 51);
    assert_eq!(intake.publish_batch(Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn a_message_that_always_fails_the_gateway_interrupts_its_subscription_at_last() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    test.transport().answer(|request| {
        if request.message.content.as_ref() == b"poison" {
            FakeAnswer::Panic
        } else {
            FakeAnswer::Status(200)
        }
    });
    let poison = Message::text("poison");
    test.handle().publish(api, poison).await.unwrap();
    let subscriptions = test.handle().subscriptions();
    loop {
        // Its view may be behind.
        let row = subscriptions.subscription(subscription).unwrap();
        if let Some(row) = row
            && row.state.consumer_status == ConsumerStatus::Failure
        {
            let cause = row.state.failure_cause.unwrap().to_string();
            assert!(cause.contains("restarted 5 times"), "{cause}");
            break;
        }
        publish(&test, api, 1).await;
        if let Some(wait) = test.clock().next_wake() {
            test.clock().advance(wait);
        }
        tokio::task::yield_now().await;
    }
    test.shutdown().await;
}

#[tokio::test]
async fn a_closed_subscription_is_in_nobodys_way_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    publish(&test, api, 2).await;
    test.settle().await;
    test.handle().close(subscription).await.unwrap();
    let test = test.crash_and_reopen().await.unwrap();
    test.settle().await;
    test.handle().delete_api(api).await.unwrap();
    test.shutdown().await;
}

/// A dead letter that its queue does not take.
async fn with_a_dead_letter(test: &TestRuntime) -> (ApiId, DeliveryRow) {
    let mut api = Api::named("orders");
    let url = "https://dlq.example.com/".parse().unwrap();
    api.entrypoint.dlq = DeadLetterQueue::Http { url };
    let (api, _) = subscribed(test, api).await;
    test.transport().answer(|_| FakeAnswer::Status(400));
    publish(test, api, 1).await;
    test.settle().await;
    (api, rows(test, api)[0].clone())
}

/// A subscription that is closed, with a dead letter that its queue does not take.
async fn closed_with_a_dead_letter(test: &TestRuntime) -> (ApiId, DeliveryRow) {
    let (api, letter) = with_a_dead_letter(test).await;
    test.handle().close(letter.subscription).await.unwrap();
    test.settle().await;
    (api, letter)
}

#[tokio::test]
async fn a_dead_letter_that_is_redelivered_with_success_waits_for_its_queue_no_more() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let (api, letter) = with_a_dead_letter(&test).await;
    test.transport().answer(|call| {
        let url = call.policy.callback_url.as_ref();
        let is_up = url.is_some_and(|url| url.as_str() == "https://example.com/hook");
        FakeAnswer::Status(if is_up { 200 } else { 400 })
    });
    test.handle().redeliver(letter.id).await.unwrap();
    test.settle().await;
    assert_eq!(outcomes(&test, api), [DeliveryOutcome::Delivered]);
    test.handle().close(letter.subscription).await.unwrap();
    let test = test.crash_and_reopen().await.unwrap();
    test.settle().await;
    test.handle().delete_api(api).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn a_dead_letter_of_a_closed_subscription_can_be_discarded_and_its_api_deleted_then() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let (api, letter) = closed_with_a_dead_letter(&test).await;
    let test = test.crash_and_reopen().await.unwrap();
    let refused = test.handle().delete_api(api).await.unwrap_err();
    assert!(
        refused.to_string().contains("wait to be forwarded"),
        "{refused}"
    );
    test.handle().discard(letter.id).await.unwrap();
    test.settle().await;
    test.handle().delete_api(api).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn a_pause_is_shown_no_more_once_another_callback_was_set_or_the_subscription_resumed() {
    for moves in [true, false] {
        let data = tempfile::tempdir().unwrap();
        let (test, api, subscription) = started(&data).await;
        let handle = test.handle();
        let hold = || {
            let row = handle.subscriptions().subscription(subscription).unwrap();
            row.unwrap().health.hold
        };
        test.transport()
            .answer(|_| FakeAnswer::RetryAfter(503, 3_600));
        publish(&test, api, 1).await;
        test.settle().await;
        assert!(hold().is_some());
        test.transport().answer(|_| FakeAnswer::Status(204));
        if moves {
            let mut changed = handle.subscription(subscription).await.unwrap();
            let url = "https://example.com/other".parse().unwrap();
            changed.configuration.callback_url = Some(url);
            handle.update_subscription(changed).await.unwrap();
        } else {
            handle.stop_by_consumer(subscription).await.unwrap();
            handle.resume_failure(subscription).await.unwrap();
        }
        test.settle().await;
        let inspection = handle.inspect(subscription).await.unwrap();
        assert_eq!(inspection.state.hold, None);
        assert_eq!(hold(), None, "another callback: {moves}");
        drop(handle);
        test.shutdown().await;
    }
}

#[tokio::test]
async fn of_a_stopped_api_what_was_accepted_waits() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, subscription) = started(&data).await;
    test.handle().pause(subscription).await.unwrap();
    publish(&test, api, 3).await;
    test.handle().stop_api(api).await.unwrap();
    test.handle()
        .resume_subscription(subscription)
        .await
        .unwrap();
    test.settle().await;
    assert!(test.transport().calls().is_empty());
    test.handle().start_api(api).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 3);
    test.shutdown().await;
}

#[tokio::test]
async fn a_delivered_message_cannot_be_discarded_and_dead_letters_cannot_go_round() {
    let data = tempfile::tempdir().unwrap();
    let (test, api, _) = started(&data).await;
    publish(&test, api, 1).await;
    test.settle().await;
    let delivered = rows(&test, api)[0].id;
    let refused = test.handle().discard(delivered).await.unwrap_err();
    assert!(refused.to_string().contains("has ended"), "{refused}");

    let mut second = Api::named("second");
    second.entrypoint.dlq = DeadLetterQueue::Api { api };
    let second = test.handle().create_api(second).await.unwrap();
    let view = test.handle().subscriptions();
    let mut first = view.apis().unwrap().into_iter().map(|row| row.api);
    let mut first = first.find(|found| found.id == api).unwrap();
    first.entrypoint.dlq = DeadLetterQueue::Api { api: second.id };
    let round = test.handle().update_api(first).await.unwrap_err();
    assert!(round.to_string().contains("leads back"), "{round}");
    test.shutdown().await;
}

/// Dead letters go to another API, and from there to a third, whatever headers their messages have.
#[tokio::test]
async fn dead_letters_with_as_many_headers_as_may_be_reach_other_apis() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let (third, last) = subscribed(&test, Api::named("third")).await;
    let mut second = Api::named("second");
    second.entrypoint.dlq = DeadLetterQueue::Api { api: third };
    let (second, between) = subscribed(&test, second).await;
    let mut first = Api::named("first");
    first.entrypoint.dlq = DeadLetterQueue::Api { api: second };
    let (first, _) = subscribed(&test, first).await;
    let seen: Arc<Mutex<Vec<(SubscriptionId, usize)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    test.transport().answer(move |call| {
        let letters = call.message.headers.iter();
        let letters = letters.filter(|header| header.name.starts_with("x-dead-letter-"));
        let headers = call.message.headers.len();
        assert_eq!(headers, 32 + letters.count());
        noted.lock().unwrap().push((call.subscription, headers));
        FakeAnswer::Status(if call.subscription == last { 200 } else { 400 })
    });
    let message = (0..32).fold(Message::text("a"), |message, n| {
        message.with_header(format!("x-{n}"), "y".repeat(500))
    });
    test.handle().publish(first, message).await.unwrap();
    test.settle().await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[1..], [(between, 34), (last, 34)]);
    assert_eq!(outcomes(&test, third), [DeliveryOutcome::Delivered]);
    test.shutdown().await;
}

/// As when a data centre goes down and comes back.
#[tokio::test]
async fn callbacks_that_go_down_together_are_probed_apart_and_get_everything_when_they_are_back() {
    const SUBSCRIPTIONS: usize = 300;
    const MESSAGES: usize = 12;
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let api = test.handle().create_api(Api::named("orders")).await;
    let api = api.unwrap().id;
    for _ in 0..SUBSCRIPTIONS {
        let subscription = Subscription::to("https://example.com/hook").unwrap();
        test.handle().subscribe(api, subscription).await.unwrap();
    }
    let (clock, probes) = (test.clock().clone(), Arc::<Mutex<Vec<u64>>>::default());
    let seen = Arc::clone(&probes);
    test.transport().answer(move |request| {
        if request.probe {
            seen.lock().unwrap().push(clock.elapsed().as_secs());
        }
        FakeAnswer::Status(503)
    });
    publish(&test, api, MESSAGES).await;
    let outage = Duration::from_hours(1);
    let passed = test.run_until_idle(outage).await;
    let end = test.clock().elapsed().as_secs();
    let probes = std::mem::take(&mut *probes.lock().unwrap());
    let of_last_minutes = probes.iter().filter(|at| **at + 600 > end);
    let mut by_second = std::collections::BTreeMap::<u64, usize>::new();
    of_last_minutes.for_each(|at| *by_second.entry(*at).or_default() += 1);
    let (all, most) = (by_second.values().sum::<usize>(), by_second.values().max());
    assert!(all >= SUBSCRIPTIONS / 2, "{all} after {passed:?}");
    assert!(*most.unwrap() <= SUBSCRIPTIONS / 10, "{by_second:?}");

    test.transport().answer(|_| FakeAnswer::Status(200));
    test.run_until_idle(Duration::from_hours(1)).await;
    let delivered = test.handle().metrics().totals(Scope::All).unwrap();
    let delivered = delivered.get(Counter::Delivered);
    assert_eq!(delivered, (SUBSCRIPTIONS * MESSAGES) as u64);
    test.shutdown().await;
}

/// Puts a definition on record as a gateway does that is killed before it tells a subscription.
async fn change_untold(data: &tempfile::TempDir, api: &Api) {
    let log = EventLog::open(data.path(), LogOptions::default()).unwrap();
    let updated = ApiUpdated {
        api: Box::new(api.clone()),
    };
    let (stream, events) = (StreamId::api(api.id), vec![updated.into()]);
    let append = log.append(stream, ExpectedVersion::Any, events, Urgency::Now);
    append.await.unwrap();
    log.close();
}

#[tokio::test]
async fn what_is_thought_of_a_callback_ends_though_a_crash_came_before_the_move_was_told() {
    let data = tempfile::tempdir().unwrap();
    let paused = |_: &_| FakeAnswer::RetryAfter(503, 86_400);
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let mut api = Api::named("orders");
    api.entrypoint.callback_url = Some("https://example.com/hook".parse().unwrap());
    let mut api = test.handle().create_api(api).await.unwrap();
    let mut heir = Subscription::to("https://example.com/hook").unwrap();
    heir.configuration.callback_url = None;
    heir.delivery_mode = DeliveryMode::Concurrent;
    let id = test.handle().subscribe(api.id, heir).await.unwrap().id;
    test.transport().answer(paused);
    let message = Message::text("before");
    test.handle().publish(api.id, message).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls_to(id).len(), 1);
    test.shutdown().await;

    api.entrypoint.callback_url = Some("https://example.org/".parse().unwrap());
    change_untold(&data, &api).await;
    let test = TestRuntime::start(data.path(), 8).await.unwrap();
    test.settle().await;
    let state = test.handle().inspect(id).await.unwrap().state;
    assert!(!state.judges_callback(), "{state:?}");
    test.transport().answer(paused);
    let message = Message::text("after");
    test.handle().publish(api.id, message).await.unwrap();
    test.settle().await;
    let calls = test.transport().calls_to(id).len();
    assert_eq!(calls, 1, "this one had asked for no pause");
    test.shutdown().await;

    let test = TestRuntime::start(data.path(), 9).await.unwrap();
    let message = Message::text("later");
    test.handle().publish(api.id, message).await.unwrap();
    test.settle().await;
    let calls = test.transport().calls_to(id).len();
    assert_eq!(calls, 0, "its own pause stands");
    test.shutdown().await;
}
