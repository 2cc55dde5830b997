//! A runtime whose wall clock is set, while it runs or before it is started again: what it waits for
//! neither comes in a storm nor stays away.

use std::time::Duration;

use hooklog::{
    model::{Api, ApiId, Message, Retry, Subscription, Timestamp},
    projection::deliveries::{DeliveryOutcome, DeliveryQuery},
    testing::{FakeAnswer, ManualClock, TestRuntime},
};

const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);
/// Before each retry.
const WAIT: Duration = Duration::from_secs(60);
/// How much of the first wait is over when the clock is set.
const WAITED: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(1);
/// How far the wall clock jumps.
const JUMPS: [Duration; 2] = [Duration::from_hours(1), Duration::from_hours(24)];

/// A runtime that waits to make a call again.
async fn waiting(data: &tempfile::TempDir) -> (TestRuntime, ApiId) {
    let clock = ManualClock::at(NOON, 7);
    let test = TestRuntime::start_at(data.path(), clock, |builder| builder);
    let test = test.await.unwrap();
    let mut api = Api::named("orders");
    api.entrypoint.retry = Retry {
        jitter_percent: 0,
        ..Retry::schedule([WAIT.as_secs(); 3])
    };
    let api = test.handle().create_api(api).await.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    test.handle().subscribe(api, subscription).await.unwrap();
    test.transport().answer(|_| FakeAnswer::Status(503));
    let before = Message::text("before");
    test.handle().publish(api, before).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 1);
    test.clock().advance(WAITED);
    test.settle().await;
    (test, api)
}

/// Stops a runtime that waits to make a call again, and starts another under this wall clock.
async fn restarted(data: &tempfile::TempDir, wall: Timestamp) -> (TestRuntime, ApiId) {
    let (test, api) = waiting(data).await;
    test.shutdown().await;

    let clock = ManualClock::at(wall, 8);
    let test = TestRuntime::start_at(data.path(), clock, |builder| builder);
    (test.await.unwrap(), api)
}

/// Takes what is published as "after", and nothing else.
fn take_what_is_new(test: &TestRuntime) {
    test.transport().answer(|call| {
        let is_after = call.message.content[..] == *b"after";
        FakeAnswer::Status(if is_after { 200 } else { 503 })
    });
}

/// Lets this much time pass, and counts the calls since the start.
async fn calls_after(test: &TestRuntime, duration: Duration) -> usize {
    test.clock().advance(duration);
    test.settle().await;
    test.transport().calls().len()
}

/// The attempts of the two deliveries, the newer first, which were both made.
async fn attempts(test: &TestRuntime, api: ApiId) -> [u32; 2] {
    test.settle().await;
    let query = DeliveryQuery::newest(api, 10);
    let rows = test.handle().deliveries().list(&query).unwrap().deliveries;
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [DeliveryOutcome::Delivered; 2]);
    let attempts: Vec<_> = rows.iter().map(|row| row.attempts).collect();
    attempts.try_into().unwrap()
}

#[tokio::test]
async fn a_retry_keeps_its_wait_over_a_restart_with_the_wall_clock_set_back() {
    for jump in JUMPS {
        let data = tempfile::tempdir().unwrap();
        let (test, api) = restarted(&data, NOON.plus(WAITED).minus(jump)).await;
        take_what_is_new(&test);
        let after = Message::text("after");
        test.handle().publish(api, after).await.unwrap();
        test.settle().await;
        assert_eq!(test.transport().calls().len(), 1, "what comes now flows");
        for retry in 1..=2 {
            let early = calls_after(&test, WAIT.saturating_sub(MOMENT)).await;
            assert_eq!(early, retry, "{jump:?} back: retry {retry} is early");
            let due = calls_after(&test, MOMENT).await;
            assert_eq!(due, retry + 1, "{jump:?} back: retry {retry} is late");
        }
        test.transport().answer(|_| FakeAnswer::Status(200));
        assert_eq!(calls_after(&test, WAIT).await, 4, "{jump:?} back");
        assert_eq!(attempts(&test, api).await, [1, 4], "{jump:?} back");
        test.shutdown().await;
    }
}

#[tokio::test]
async fn a_retry_is_made_once_after_a_restart_with_the_wall_clock_set_forward() {
    for jump in JUMPS {
        let data = tempfile::tempdir().unwrap();
        let (test, api) = restarted(&data, NOON.plus(WAITED).plus(jump)).await;
        test.settle().await;
        assert_eq!(test.transport().calls().len(), 1, "{jump:?} forward");
        let after = Message::text("after");
        test.handle().publish(api, after).await.unwrap();
        assert_eq!(calls_after(&test, MOMENT).await, 2, "{jump:?} forward");
        assert_eq!(calls_after(&test, WAIT).await, 2, "{jump:?} forward");
        assert_eq!(attempts(&test, api).await, [1, 2], "{jump:?} forward");
        test.shutdown().await;
    }
}

#[tokio::test]
async fn a_retry_keeps_its_wait_while_the_wall_clock_is_set_back_and_forward() {
    let now = NOON.plus(WAITED);
    for wall in JUMPS
        .into_iter()
        .flat_map(|jump| [now.minus(jump), now.plus(jump)])
    {
        let data = tempfile::tempdir().unwrap();
        let (test, api) = waiting(&data).await;
        test.clock().set_wall(wall);
        take_what_is_new(&test);
        let after = Message::text("after");
        test.handle().publish(api, after).await.unwrap();
        test.settle().await;
        assert_eq!(
            test.transport().calls().len(),
            2,
            "at {wall}: what comes now flows"
        );
        let mut wait = WAIT.saturating_sub(WAITED);
        for retry in 1..=2 {
            let early = calls_after(&test, wait.saturating_sub(MOMENT)).await;
            assert_eq!(early, retry + 1, "at {wall}: retry {retry} is early");
            let due = calls_after(&test, MOMENT).await;
            assert_eq!(due, retry + 2, "at {wall}: retry {retry} is late");
            wait = WAIT;
        }
        test.transport().answer(|_| FakeAnswer::Status(200));
        assert_eq!(calls_after(&test, WAIT).await, 5, "at {wall}");
        assert_eq!(calls_after(&test, 10 * WAIT).await, 5, "at {wall}");
        assert_eq!(attempts(&test, api).await, [1, 4], "at {wall}");
        test.shutdown().await;
    }
}

#[tokio::test]
async fn a_retry_is_made_when_it_is_due_after_a_restart_under_the_same_wall_clock() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = restarted(&data, NOON.plus(WAITED)).await;
    let left = WAIT.saturating_sub(WAITED);
    assert_eq!(calls_after(&test, left.saturating_sub(MOMENT)).await, 0);
    assert_eq!(calls_after(&test, MOMENT).await, 1);
    let after = Message::text("after");
    test.handle().publish(api, after).await.unwrap();
    assert_eq!(attempts(&test, api).await, [1, 2]);
    test.shutdown().await;
}
