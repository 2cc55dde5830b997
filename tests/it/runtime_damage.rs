//! What is served of a log that is damaged.

use std::sync::Arc;

use hooklog::{
    log::{Health, LogOptions, Storage as _},
    model::{Api, Subscription},
    testing::{MemoryStorage, TestRuntime},
};

#[tokio::test]
async fn a_damaged_history_in_a_log_with_a_damaged_end_stands_still_and_others_are_served() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let kept = storage.clone();
    let test = TestRuntime::start_with(data.path(), 7, move |builder| {
        let options = LogOptions {
            // Each commit has a segment of its own.
            segment_bytes_max: 1,
            ..LogOptions::default()
        };
        builder.log_options(options).storage(Arc::new(kept.clone()))
    });
    let test = test.await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap();
    let subscribe = async || {
        let subscription = Subscription::to("https://example.com/hook").unwrap();
        handle.subscribe(api.id, subscription).await.unwrap().id
    };
    let (damaged, sound) = (subscribe().await, subscribe().await);
    let paused = handle.pause(damaged).await.unwrap();
    handle.resume_subscription(damaged).await.unwrap();
    handle.create_api(Api::named("at the end")).await.unwrap();
    test.settle().await;
    let segments = storage.segments().unwrap();
    assert!(segments.contains(&paused), "{segments:?}");
    for lost in [paused, *segments.last().unwrap()] {
        storage.break_segment(lost);
    }

    let test = test.crash_and_reopen().await.unwrap();
    let handle = test.handle();
    let health = handle.log().health();
    assert!(matches!(health, Health::TailDamaged { .. }), "{health:?}");
    assert!(handle.inspect(damaged).await.is_err(), "it stands still");
    let others = handle.inspect(sound).await.unwrap();
    assert!(others.state.is_running());
    test.shutdown().await;
}
