//! What becomes of calls whose outcomes the disk has no room for, and of sources, jobs and dead letters
//! while there is none.

use std::{pin::pin, sync::Arc, time::Duration};

use hooklog::{
    log::{Durability, Health, LogOptions, StreamId},
    model::{
        Api, ApiId, DeadLetterFilter, DeadLetterQueue, Job, JobCounts, JobId, JobKind,
        JobSelection, JobStatus, Message, MockSource, Source, Subscription, SubscriptionId,
        Version,
    },
    projection::deliveries::{DeliveryOutcome, DeliveryQuery},
    testing::{FakeAnswer, MemoryStorage, TestRuntime},
};

/// The time, by the gateway's clock, in which it goes on by itself once there is room.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);

/// A gateway whose log is in this storage.
async fn started(data: &tempfile::TempDir, storage: &MemoryStorage) -> TestRuntime {
    started_keeping(data, storage, 0).await
}

/// The same with so many bytes that messages leave free.
async fn started_keeping(
    data: &tempfile::TempDir,
    storage: &MemoryStorage,
    min_free_bytes: u64,
) -> TestRuntime {
    let kept = storage.clone();
    let test = TestRuntime::start_with(data.path(), 7, move |builder| {
        let options = LogOptions {
            min_free_bytes,
            ..LogOptions::with_durability(Durability::Synced)
        };
        builder.log_options(options).storage(Arc::new(kept.clone()))
    });
    test.await.unwrap()
}

/// A call is made, and the disk is full when the outcome is written; there is room again after it.
/// The message is sent once, and told as delivered.
async fn is_sent_once(full: impl FnOnce(&MemoryStorage), room: impl FnOnce(&MemoryStorage)) {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let test = started(&data, &storage).await;
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap();
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(api.id, subscription).await.unwrap();
    test.transport().hold();
    handle
        .publish(api.id, Message::text("hello"))
        .await
        .unwrap();
    test.settle().await;
    assert_eq!(test.transport().held(), 1);
    full(&storage);
    test.transport().release();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 1);
    room(&storage);
    test.run_until_idle(GOES_ON_WITHIN).await;
    assert_eq!(test.transport().calls_to(subscription.id).len(), 1);
    let query = DeliveryQuery::newest(api.id, 10);
    let page = handle.deliveries().list(&query).unwrap();
    let outcomes: Vec<_> = page.deliveries.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [DeliveryOutcome::Delivered]);
    // Nothing stands twice in the log, and what comes next finds its place.
    handle.publish(api.id, Message::text("next")).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 2);
    let test = test.crash_and_reopen().await.unwrap();
    test.run_until_idle(Duration::from_mins(2)).await;
    assert_eq!(test.transport().calls().len(), 2);
    test.shutdown().await;
}

#[tokio::test]
async fn a_call_whose_outcome_finds_the_disk_full_is_not_made_again() {
    is_sent_once(|disk| disk.set_full(true), |disk| disk.set_full(false)).await;
}

#[tokio::test]
async fn a_call_whose_outcome_is_written_to_a_disk_that_is_then_full_is_not_made_again() {
    is_sent_once(|disk| disk.fill_at_syncs(1), |_| {}).await;
}

#[tokio::test]
async fn a_source_that_found_the_disk_full_for_long_goes_on_within_five_seconds_of_room() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let test = started(&data, &storage).await;
    let mut ticks = Api::named("ticks");
    ticks.source = Source::Mock(MockSource {
        message_interval_ms: 1_000,
        ..MockSource::default()
    });
    let api = test.handle().create_api(ticks).await.unwrap().id;
    let stream = StreamId::messages(api);
    let messages = || test.handle().log().stream_version(stream);
    test.run_until_idle(Duration::from_secs(3)).await;
    storage.set_full(true);
    test.run_until_idle(Duration::from_secs(570)).await;
    let before = messages();
    storage.set_full(false);
    test.run_until_idle(GOES_ON_WITHIN).await;
    assert!(messages() > before, "{before} messages, and none since");
    test.shutdown().await;
}

/// Lets time pass until this is done.
async fn while_time_passes<T>(test: &TestRuntime, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::task::yield_now() => {}
        }
        test.run_until_idle(Duration::from_secs(1)).await;
    }
}

/// So many dead letters of a subscription that is closed: a job that redelivers them tells of each
/// that it cannot be, and appends to its own stream alone.
async fn with_letters_of_a_closed_subscription(test: &TestRuntime, count: u64) -> ApiId {
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(api, subscription).await.unwrap();
    test.transport().answer(|_| FakeAnswer::Status(400));
    for number in 0..count {
        let message = Message::text(number.to_string());
        handle.publish(api, message).await.unwrap();
        test.settle().await;
    }
    handle.close(subscription.id).await.unwrap();
    test.settle().await;
    assert_eq!(handle.dead_letters().count(api).unwrap(), count);
    api
}

fn redelivery(api: ApiId, rate_per_second: Option<u32>) -> Job {
    let filter = DeadLetterFilter::default();
    let selection = JobSelection::DeadLetters { api, filter };
    Job {
        rate_per_second,
        ..Job::new(JobKind::Redeliver, selection)
    }
}

/// A job has told of so many dead letters, once each, that they cannot be redelivered.
async fn has_told_of(test: &TestRuntime, id: JobId, failed: u64) {
    let ended = test.handle().job(id).await.unwrap().state;
    let counts = JobCounts {
        failed,
        ..JobCounts::default()
    };
    assert_eq!((ended.status, ended.counts), (JobStatus::Finished, counts));
    assert_eq!(ended.failures.len() as u64, failed);
}

#[tokio::test]
async fn a_job_whose_event_is_written_to_a_disk_that_is_then_full_goes_on_by_itself() {
    // The job is created, comes to its end, and is told as finished.
    for syncs in 0..3 {
        let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
        let test = started(&data, &storage).await;
        let api = with_letters_of_a_closed_subscription(&test, 2).await;
        let handle = test.handle();
        storage.fill_after_syncs(syncs);
        let create = handle.create_job(redelivery(api, None));
        let created = while_time_passes(&test, create).await.unwrap();
        test.run_until_idle(GOES_ON_WITHIN).await;
        has_told_of(&test, created.job.id, 2).await;
        let events = handle.log().stream_version(StreamId::job(created.job.id));
        assert_eq!(events, Version::new(3), "full after {syncs} syncs");
        test.shutdown().await;
    }
}

#[tokio::test]
async fn a_job_is_paused_and_goes_on_where_what_that_wrote_filled_the_disk() {
    // What was done until then is put on record, and then that it is paused.
    for syncs in 0..2 {
        let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
        let test = started(&data, &storage).await;
        let api = with_letters_of_a_closed_subscription(&test, 9).await;
        let handle = test.handle();
        let id = handle.create_job(redelivery(api, Some(1))).await;
        let id = id.unwrap().job.id;
        test.settle().await;
        storage.fill_after_syncs(syncs);
        let paused = while_time_passes(&test, handle.pause_job(id)).await;
        assert_eq!(paused.unwrap().status, JobStatus::Paused);
        storage.fill_after_syncs(0);
        let resumed = while_time_passes(&test, handle.resume_job(id)).await;
        assert_eq!(resumed.unwrap().status, JobStatus::Running);
        test.run_until_idle(Duration::from_mins(1)).await;
        has_told_of(&test, id, 9).await;
        test.shutdown().await;
    }
}

#[tokio::test]
async fn a_job_that_found_the_disk_full_for_long_goes_on_within_five_seconds_of_room() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let test = started(&data, &storage).await;
    let api = with_letters_of_a_closed_subscription(&test, 3).await;
    let handle = test.handle();
    let id = handle.create_job(redelivery(api, Some(1))).await;
    let id = id.unwrap().job.id;
    test.settle().await;
    storage.set_full(true);
    test.run_until_idle(Duration::from_secs(570)).await;
    let waits = handle.open_job_state(id).unwrap();
    assert_eq!((waits.status, waits.counts.all()), (JobStatus::Running, 0));
    storage.set_full(false);
    test.run_until_idle(GOES_ON_WITHIN).await;
    has_told_of(&test, id, 3).await;
    test.shutdown().await;
}

/// The API that dead letters go to, and a subscription whose message is about to become one.
async fn with_a_letter_to_come(test: &TestRuntime) -> (ApiId, SubscriptionId) {
    let handle = test.handle();
    let letters = handle.create_api(Api::named("letters")).await.unwrap().id;
    let mut orders = Api::named("orders");
    orders.entrypoint.dlq = DeadLetterQueue::Api { api: letters };
    let orders = handle.create_api(orders).await.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(orders, subscription).await.unwrap();
    test.transport().answer(|_| FakeAnswer::Status(400));
    test.transport().hold();
    handle
        .publish(orders, Message::text("hello"))
        .await
        .unwrap();
    test.settle().await;
    assert_eq!(test.transport().held(), 1);
    (letters, subscription.id)
}

/// The dead letter is at its place, once, and no try of it is left.
async fn has_arrived(test: &TestRuntime, letters: ApiId, subscription: SubscriptionId) {
    let handle = test.handle();
    let messages = handle.log().stream_version(StreamId::messages(letters));
    assert_eq!(messages, Version::FIRST);
    let shown = handle.inspect(subscription).await.unwrap();
    assert!(shown.state.forwards.is_empty(), "{:?}", shown.state);
}

#[tokio::test]
async fn a_dead_letter_goes_to_another_api_within_five_seconds_of_room_for_messages() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let test = started_keeping(&data, &storage, 4_000).await;
    let (letters, subscription) = with_a_letter_to_come(&test).await;
    // Outcomes are taken, and messages are not.
    storage.set_bytes_free(Some(2_000));
    test.transport().release();
    test.settle().await;
    let handle = test.handle();
    let events = || {
        handle
            .log()
            .stream_version(StreamId::subscription(subscription))
    };
    let dead_lettered = events();
    test.run_until_idle(Duration::from_secs(570)).await;
    assert_eq!(events(), dead_lettered, "no try of it is on record");
    storage.set_bytes_free(None);
    test.run_until_idle(GOES_ON_WITHIN).await;
    has_arrived(&test, letters, subscription).await;
    test.shutdown().await;
}

/// Waits until the log has been opened again, if it was full.
async fn has_room(test: &TestRuntime) {
    let mut health = test.handle().log().watch_health();
    while health.health() == Health::Full {
        health.changed().await.unwrap();
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_written_to_a_disk_that_is_then_full_goes_to_another_api_once() {
    // With the outcome before it, alone, or with what tells of it: however they come together.
    for syncs in 0..3 {
        let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
        let test = started(&data, &storage).await;
        let (letters, subscription) = with_a_letter_to_come(&test).await;
        storage.fill_after_syncs(syncs);
        test.transport().release();
        test.settle().await;
        has_room(&test).await;
        test.run_until_idle(Duration::from_mins(1)).await;
        has_arrived(&test, letters, subscription).await;
        test.shutdown().await;
    }
}
