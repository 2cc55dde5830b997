//! What a gateway says of itself when its disk is full, or fails.

use std::{sync::Arc, time::Duration};

use hooklog::{
    log::{Durability, LogOptions},
    model::{Api, ApiId},
    testing::{MemoryStorage, TestRuntime},
};
use serde_json::json;

use crate::support::gateway::{Answer, Served};

const WATERMARK_BYTES: u64 = 1_000;
/// The longest that room goes unseen.
const ROOM_UNSEEN_MAX: Duration = Duration::from_secs(5);

/// A gateway whose log is in this storage, with an API.
async fn served(data: &tempfile::TempDir, storage: &MemoryStorage) -> (Served, ApiId) {
    let kept = storage.clone();
    let test = TestRuntime::start_with(data.path(), 1, move |builder| {
        let options = LogOptions {
            min_free_bytes: WATERMARK_BYTES,
            ..LogOptions::with_durability(Durability::Synced)
        };
        let storage = Arc::new(kept.clone());
        builder.log_options(options).storage(storage)
    });
    let served = Served::serve(test.await.unwrap()).await;
    let api = served.test.handle().create_api(Api::named("orders")).await;
    (served, api.unwrap().id)
}

async fn publish(served: &Served, api: ApiId) -> Answer {
    let path = format!("/v1/apis/{api}/messages");
    served.post(path, json!({ "content": "hello" })).await
}

async fn ready(served: &Served) -> Answer {
    served.ask("GET", "/readyz").token(None).send().await
}

fn says(answer: &Answer, what: &str) {
    let problem = answer.problem(503);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(what), "{detail}");
}

#[tokio::test]
async fn below_the_watermark_messages_are_refused_and_the_gateway_is_not_ready() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let (served, api) = served(&data, &storage).await;
    assert_eq!(publish(&served, api).await.status, 202);
    storage.set_bytes_free(Some(WATERMARK_BYTES - 1));
    let refused = publish(&served, api).await;
    says(&refused, "999 bytes are free");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    says(&ready(&served).await, "999 bytes are free");
    storage.set_bytes_free(Some(WATERMARK_BYTES));
    assert_eq!(ready(&served).await.status, 200);
    assert_eq!(publish(&served, api).await.status, 202);
    served.shutdown().await;
}

#[tokio::test]
async fn a_full_disk_that_has_room_again_makes_the_gateway_ready_without_a_request() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let (served, api) = served(&data, &storage).await;
    storage.set_full(true);
    let refused = publish(&served, api).await;
    refused.problem(503);
    says(&ready(&served).await, "no room");
    storage.set_full(false);
    // Nobody publishes: a gateway that is not ready is sent nothing.
    let becomes_ready = async {
        while ready(&served).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(ROOM_UNSEEN_MAX, becomes_ready).await;
    seen.expect("room is seen in time");
    assert_eq!(publish(&served, api).await.status, 202);
    served.shutdown().await;
}

#[tokio::test]
async fn g10_after_a_failed_sync_the_gateway_accepts_nothing_and_says_why() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let (served, api) = served(&data, &storage).await;
    assert_eq!(publish(&served, api).await.status, 202);
    let acknowledged = served.test.handle().log().head();
    storage.fail_syncs(1);
    publish(&served, api).await.problem(503);
    says(&ready(&served).await, "start the gateway again");
    publish(&served, api).await.problem(503);
    let test = served.stop().await;
    storage.crash();
    let test = test.crash_and_reopen().await.unwrap();
    assert_eq!(test.handle().log().head(), acknowledged);
    let served = Served::serve(test).await;
    assert_eq!(ready(&served).await.status, 200);
    assert_eq!(publish(&served, api).await.status, 202);
    served.shutdown().await;
}
