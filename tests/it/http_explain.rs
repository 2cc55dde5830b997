//! `explain`: why a message stands where it stands.

use std::time::Duration;

use hooklog::{
    clock::Clock,
    model::{Api, Message, MessageId, Subscription, SubscriptionId},
    runtime::{ControlError, Standing},
    testing::{FakeAnswer, TestRuntime},
};
use serde_json::json;

use crate::support::gateway::Served;

async fn subscribed(
    test: &TestRuntime,
    change: impl Fn(Subscription) -> Subscription,
) -> (hooklog::model::ApiId, SubscriptionId) {
    let api = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap();
    let to = change(Subscription::to("https://example.com/hook").unwrap());
    let subscription = test.handle().subscribe(api.id, to).await.unwrap();
    (api.id, subscription.id)
}

#[tokio::test]
async fn every_step_of_a_delivery_is_told_with_its_event() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let (api, subscription) = subscribed(&test, |to| to).await;
    let mut answers = vec![204, 503, 503].into_iter();
    let mut answers = std::iter::from_fn(move || answers.next_back());
    test.transport()
        .answer(move |_| FakeAnswer::Status(answers.next().unwrap_or(204)));
    let handle = test.handle();
    let receipt = handle.publish(api, Message::text("a")).await.unwrap();
    test.settle().await;
    let told = handle.explain(receipt.id(), subscription).await.unwrap();
    assert_eq!(told.standing, Standing::Pending);
    assert!(told.because.contains("due at"), "{}", told.because);
    test.run_until_idle(Duration::from_secs(3_600)).await;
    let told = handle.explain(receipt.id(), subscription).await.unwrap();
    assert_eq!(told.standing, Standing::Delivered);
    let types: Vec<_> = told
        .steps
        .iter()
        .map(|step| step.event_type.to_string())
        .collect();
    let expected = [
        "message.published",
        "attempt.failed",
        "retry.scheduled",
        "attempt.failed",
        "retry.scheduled",
        "attempt.succeeded",
    ];
    assert_eq!(types, expected);
    let positions: Vec<_> = told.steps.iter().map(|step| step.position).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    let unknown = MessageId::from_uuid(uuid::Uuid::from_u128(7));
    let refused = handle.explain(unknown, subscription).await.unwrap_err();
    assert!(
        matches!(refused, ControlError::UnknownMessage(_)),
        "{refused}"
    );
    drop(handle);
    test.shutdown().await;
}

#[tokio::test]
async fn a_message_is_found_behind_more_large_ones_than_are_read_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let handle = test.handle();
    let (api, subscription) = subscribed(&test, |to| to.filtered("type == 'b'")).await;
    let large = "a".repeat(1 << 20);
    for _ in 0..12 {
        handle.publish(api, Message::text(&*large)).await.unwrap();
    }
    let last = handle.publish(api, Message::text("a")).await.unwrap();
    test.settle().await;
    let told = handle.explain(last.id(), subscription).await.unwrap();
    assert_eq!(told.standing, Standing::Filtered);
    assert_eq!(told.message.position, last.position());
    drop(handle);
    test.shutdown().await;
}

#[tokio::test]
async fn a_pause_is_told_for_as_long_as_it_stands_whatever_the_wall_clock_is_set_to() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let (api, subscription) = subscribed(&test, |to| to).await;
    let mut answers = std::iter::once(FakeAnswer::RetryAfter(429, 60));
    test.transport()
        .answer(move |_| answers.next().unwrap_or(FakeAnswer::Status(503)));
    let handle = test.handle();
    let receipt = handle.publish(api, Message::text("a")).await.unwrap();
    test.settle().await;
    let clock = test.clock();
    for hours in [0, 1, 2] {
        clock.set_wall(clock.now().minus(Duration::from_hours(hours)));
        let told = handle.explain(receipt.id(), subscription).await.unwrap();
        let until = clock.now().plus(Duration::from_secs(60));
        let pause = format!("asked for a pause until {until}");
        assert!(told.because.contains(&pause), "{}", told.because);
    }
    // It is called again, and fails.
    clock.advance(Duration::from_secs(61));
    test.settle().await;
    let told = handle.explain(receipt.id(), subscription).await.unwrap();
    assert!(told.because.contains("due at"), "{}", told.because);
    drop(handle);
    test.shutdown().await;
}

#[tokio::test]
async fn what_is_not_delivered_says_why() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let handle = test.handle();
    let (api, subscription) = subscribed(&test, |to| to.filtered("type == 'b'")).await;
    let filtered = Message::text("a").with_type("a");
    let filtered = handle.publish(api, filtered).await.unwrap();
    test.settle().await;
    let told = handle.explain(filtered.id(), subscription).await.unwrap();
    assert_eq!(told.standing, Standing::Filtered);
    assert!(told.because.contains("filter"), "{}", told.because);

    handle.pause(subscription).await.unwrap();
    let waiting = Message::text("b").with_type("b");
    let waiting = handle.publish(api, waiting).await.unwrap();
    test.settle().await;
    let told = handle.explain(waiting.id(), subscription).await.unwrap();
    assert_eq!(told.standing, Standing::Pending);
    assert!(told.because.contains("paused"), "{}", told.because);

    let late = Subscription::to("https://example.com/late").unwrap();
    let late = handle.subscribe(api, late).await.unwrap();
    let told = handle.explain(filtered.id(), late.id).await.unwrap();
    assert_eq!(told.standing, Standing::Filtered);
    assert!(
        told.because.contains("before the subscription"),
        "{}",
        told.because
    );
    drop(handle);
    test.shutdown().await;
}

#[tokio::test]
async fn a_dead_letter_is_explained_over_http() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, subscription) = subscribed(&served.test, |to| to).await;
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let path = format!("/v1/apis/{api}/messages");
    let message = served.post(path, json!({"text": "a"})).await.json();
    served.test.settle().await;
    let row = &served.get(format!("/v1/apis/{api}/logs")).await.json()["deliveries"][0];
    let by_delivery = format!(
        "/v1/apis/{api}/logs/{}/explain",
        row["id"].as_str().unwrap()
    );
    let message = message["id"].as_str().unwrap();
    let by_message = format!("/v1/subscriptions/{subscription}/messages/{message}/explain");
    let told = served.get(by_delivery).await.json();
    assert_eq!(told["standing"], "dead_lettered", "{told}");
    assert_eq!(told["steps"][2]["type"], "delivery.dead_lettered", "{told}");
    assert_eq!(served.get(by_message).await.json(), told);
    served.shutdown().await;
}
