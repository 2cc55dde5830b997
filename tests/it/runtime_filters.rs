//! A subscription with a filter gets what the filter is for, over the whole runtime.

use hooklog::{
    model::{
        Api, ApiId, ConsumerStatus, DeadLetterQueue, DeadLetterReason, Fault, Message,
        Subscription, SubscriptionId,
    },
    projection::{
        dead_letters::{DeadLetter, DeadLetterFilter},
        deliveries::{DeliveryOutcome, DeliveryQuery},
        metrics::{Counter, Scope},
    },
    runtime::ControlError,
    testing::TestRuntime,
};

const LARGE_PAID_ORDERS: &str = "type == 'order.paid' && body.amount > 100";

async fn runtime(data: &tempfile::TempDir, api: Api) -> (TestRuntime, ApiId) {
    let test = TestRuntime::start(data.path(), 5).await.unwrap();
    let api = test.handle().create_api(api).await.unwrap();
    (test, api.id)
}

fn to_hook() -> Subscription {
    Subscription::to("https://example.com/hook").unwrap()
}

fn order(event_type: &str, body: &serde_json::Value) -> Message {
    Message::json(body).unwrap().with_type(event_type)
}

/// Three for the filter, three not, and two that it fails on: no amount, and no JSON.
async fn publish_orders(test: &TestRuntime, api: ApiId) {
    let paid = |amount: i64| order("order.paid", &serde_json::json!({ "amount": amount }));
    let messages = vec![
        paid(101),
        paid(100),
        order("order.paid", &serde_json::json!({ "total": 7 })),
        order("order.open", &serde_json::json!({ "total": 7 })),
        paid(200),
        Message::text("plain").with_type("order.paid"),
        Message::text("plain"),
        paid(300),
    ];
    test.handle().publish_batch(api, messages).await.unwrap();
    test.settle().await;
}

fn delivered(test: &TestRuntime, api: ApiId, by: SubscriptionId) -> usize {
    let query = DeliveryQuery::newest(api, 100);
    let rows = test.handle().deliveries().list(&query).unwrap().deliveries;
    let rows = rows.iter().filter(|row| row.subscription == by);
    rows.filter(|row| row.outcome == DeliveryOutcome::Delivered)
        .count()
}

fn dead_letters(test: &TestRuntime, api: ApiId) -> Vec<DeadLetter> {
    let view = test.handle().dead_letters();
    let page = view.list(api, &DeadLetterFilter::default(), None, 100);
    page.unwrap().dead_letters
}

#[tokio::test]
async fn what_matches_is_delivered_what_fails_is_dead_lettered_and_a_restart_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data, Api::named("orders")).await;
    let handle = test.handle();
    let all = handle.subscribe(api, to_hook()).await.unwrap().id;
    let filtered = to_hook().filtered(LARGE_PAID_ORDERS);
    let some = handle.subscribe(api, filtered).await.unwrap().id;
    publish_orders(&test, api).await;
    let check = |test: &TestRuntime| {
        assert_eq!(delivered(test, api, all), 8);
        assert_eq!(delivered(test, api, some), 3);
        assert_eq!(test.transport().calls_to(some).len(), 3);
        let letters = dead_letters(test, api);
        assert_eq!(letters.len(), 2);
        for letter in &letters {
            let given_up = (letter.subscription, letter.reason, letter.fault);
            let expected = (some, DeadLetterReason::FilterFailed, Fault::Receiver);
            assert_eq!((given_up, letter.attempts), (expected, 0));
        }
        let mut why: Vec<_> = letters.iter().map(|l| l.error.clone().unwrap()).collect();
        why.sort_by(|a, b| a.detail.cmp(&b.detail));
        let why: Vec<_> = why.iter().map(ToString::to_string).collect();
        assert_eq!(
            why,
            [
                "filter: the filter, column 30: a field cannot work on null",
                "filter: the filter, column 30: there is no field \"amount\"; ask has() before it",
            ]
        );
        let totals = test.handle().metrics().totals(Scope::Subscription(some));
        assert_eq!(totals.unwrap().get(Counter::Filtered), 3);
        let row = test.handle().subscriptions().subscription(some).unwrap();
        let filter = row.unwrap().state.definition.filter.unwrap();
        assert_eq!(filter.as_str(), LARGE_PAID_ORDERS);
    };
    check(&test);
    drop(handle);
    let test = test.crash_and_reopen().await.unwrap();
    test.settle().await;
    check(&test);
    test.shutdown().await;
}

#[tokio::test]
async fn a_filter_that_is_changed_holds_for_what_comes_after_it() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data, Api::named("orders")).await;
    let handle = test.handle();
    let none = to_hook().filtered("false");
    let subscription = handle.subscribe(api, none).await.unwrap();
    publish_orders(&test, api).await;
    assert_eq!(test.transport().calls_to(subscription.id).len(), 0);
    let id = subscription.id;
    let open = subscription.filtered("type == 'order.open'");
    let open = handle.update_subscription(open).await.unwrap();
    publish_orders(&test, api).await;
    assert_eq!(test.transport().calls_to(id).len(), 1);
    let all = Subscription {
        filter: None,
        ..open
    };
    handle.update_subscription(all).await.unwrap();
    publish_orders(&test, api).await;
    assert_eq!(test.transport().calls_to(id).len(), 9);
    test.shutdown().await;
}

#[tokio::test]
async fn a_dead_letter_of_a_filter_is_delivered_when_somebody_asks_for_it() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data, Api::named("orders")).await;
    let handle = test.handle();
    let subscription = to_hook().filtered("body.amount > 100");
    let id = handle.subscribe(api, subscription).await.unwrap().id;
    handle.publish(api, Message::text("plain")).await.unwrap();
    test.settle().await;
    let letter = dead_letters(&test, api).pop().unwrap();
    handle.redeliver(letter.delivery).await.unwrap();
    test.settle().await;
    assert_eq!(delivered(&test, api, id), 1);
    assert!(dead_letters(&test, api).is_empty());
    test.shutdown().await;
}

#[tokio::test]
async fn without_a_dead_letter_queue_a_failing_filter_interrupts_until_it_is_changed() {
    let data = tempfile::tempdir().unwrap();
    let mut orders = Api::named("orders");
    orders.entrypoint.dlq = DeadLetterQueue::None;
    let (test, api) = runtime(&data, orders).await;
    let handle = test.handle();
    let subscription = to_hook().filtered(LARGE_PAID_ORDERS);
    let subscription = handle.subscribe(api, subscription).await.unwrap();
    publish_orders(&test, api).await;
    let id = subscription.id;
    let status = handle.inspect(id).await.unwrap().state.consumer_status;
    assert_eq!(status, ConsumerStatus::Failure);
    drop(handle);
    let test = test.crash_and_reopen().await.unwrap();
    let handle = test.handle();
    let guarded = "type == 'order.paid' && body != null && has(body.amount) && body.amount > 100";
    let guarded = subscription.filtered(guarded);
    handle.update_subscription(guarded).await.unwrap();
    handle.resume_failure(id).await.unwrap();
    test.settle().await;
    assert_eq!(delivered(&test, api, id), 3);
    let inspected = handle.inspect(id).await.unwrap();
    assert_eq!(
        (inspected.pending, inspected.state.counters.filtered),
        (0, 5)
    );
    test.shutdown().await;
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused_when_it_is_set() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data, Api::named("orders")).await;
    let handle = test.handle();
    let refused = |error: ControlError| match error {
        ControlError::Invalid(invalid) => {
            let problem = invalid.problems.into_iter().next().unwrap();
            (problem.pointer, problem.reason)
        }
        other => panic!("{other}"),
    };
    let unknown = handle
        .subscribe(api, to_hook().filtered("kind == 'a'"))
        .await;
    let (pointer, reason) = refused(unknown.unwrap_err());
    assert_eq!(pointer, "/filter");
    assert!(
        reason.starts_with("column 1: there is no \"kind\""),
        "{reason}"
    );
    let subscription = handle.subscribe(api, to_hook()).await.unwrap();
    for filter in ["type = 'a'", "", "type"] {
        let update = handle.update_subscription(subscription.clone().filtered(filter));
        let (pointer, _) = refused(update.await.unwrap_err());
        assert_eq!(pointer, "/filter", "{filter}");
    }
    test.shutdown().await;
}
