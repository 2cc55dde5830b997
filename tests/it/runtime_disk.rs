//! What becomes of calls whose outcomes the disk has no room for, and of sources while there is none.

use std::{sync::Arc, time::Duration};

use hooklog::{
    log::{Durability, LogOptions, StreamId},
    model::{Api, Message, MockSource, Source, Subscription},
    projection::deliveries::{DeliveryOutcome, DeliveryQuery},
    testing::{MemoryStorage, TestRuntime},
};

/// The time, by the gateway's clock, in which it goes on by itself once there is room.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);

/// A gateway whose log is in this storage.
async fn started(data: &tempfile::TempDir, storage: &MemoryStorage) -> TestRuntime {
    let kept = storage.clone();
    let test = TestRuntime::start_with(data.path(), 7, move |builder| {
        let options = LogOptions {
            min_free_bytes: 0,
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
