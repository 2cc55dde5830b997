//! More comes in than goes out: memory does not grow with what waits, and nothing taken is lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hooklog::{
    clock::SystemClock,
    log::{Durability, LogOptions},
    model::{Api, ApiId, MessageId, Position, Subscription},
    testing::{
        MemoryStorage, TestRuntime,
        callback::{Answer, CallbackServer},
    },
};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    serve::{Client, Process},
    support::gateway::{self, Served},
};

/// Messages, and how many one request brings.
const MESSAGES: usize = 12_000;
const BATCH: usize = 100;
/// Bytes of one.
const MESSAGE_BYTES: usize = 8 << 10;
/// Those that come before memory is looked at: the newest 16 MiB of events are kept, and the store
/// keeps some.
const FIRST: usize = MESSAGES / 3;
/// What the others take at least: they would be seen if they were in memory.
const WAITING_BYTES_MIN: u64 = ((MESSAGES - FIRST) * MESSAGE_BYTES) as u64;
/// How much more memory they may take.
const GROWTH_BYTES_MAX: u64 = WAITING_BYTES_MIN / 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_slow_callback_is_not_in_memory_and_arrives() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let kept = Arc::clone(&seen);
    let callback = CallbackServer::start_without_ledger(SystemClock::shared(), move |call| {
        let id = call.header("webhook-id").unwrap().to_owned();
        kept.lock().unwrap().insert(id);
        Answer::ok()
    });
    let callback = callback.await.unwrap();
    let gateway = Process::try_start(Process::command(&data, "")).unwrap();
    let client = Client::new(gateway.token.as_ref().unwrap());
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let api = client.post(format!("{}/v1/apis", gateway.url), &api).await;
    let api = api.unwrap()["id"].as_str().unwrap().to_owned();
    let path = format!("{}/v1/apis/{api}/subscriptions", gateway.url);
    let url = callback.url("/").to_string();
    let slow = json!({"configuration": {"callbackUrl": url, "rateLimitPerSecond": 1}});
    let subscription = client.post(path, &slow).await.unwrap();

    let messages = format!("{}/v1/apis/{api}/messages", gateway.url);
    let fill = "x".repeat(MESSAGE_BYTES);
    let batch: Vec<_> = (0..BATCH)
        .map(|_| json!({"content": {"fill": fill}}))
        .collect();
    let publish = async || {
        let answer = client.post(messages.clone(), &json!(batch)).await;
        let taken = answer.unwrap()["messages"].as_array().unwrap().clone();
        let ids = taken
            .iter()
            .map(|message| message["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let mut accepted: BTreeSet<String> = BTreeSet::new();
    for _ in 0..FIRST / BATCH {
        accepted.extend(publish().await);
    }
    let before = gateway.memory_kib("VmHWM");
    while accepted.len() < MESSAGES {
        accepted.extend(publish().await);
    }
    // The kernel adds up what its cores have counted, and may tell a little less than before.
    let growth_kib = gateway.memory_kib("VmHWM").saturating_sub(before);
    println!(
        "{} MiB more for {} MiB",
        growth_kib >> 10,
        WAITING_BYTES_MIN >> 20
    );
    assert!(growth_kib < GROWTH_BYTES_MAX >> 10, "{growth_kib} KiB more");

    gateway.kill();
    let gateway = Process::try_start(Process::command(&data, "")).unwrap();
    let id = subscription["id"].as_str().unwrap();
    let quick = json!({"configuration": {"callbackUrl": url}});
    let change = reqwest::Client::new()
        .put(format!("{}/v1/subscriptions/{id}", gateway.url))
        .bearer_auth(client.token())
        .header("content-type", "application/json")
        .body(quick.to_string());
    let changed = change.send().await.unwrap();
    assert!(changed.status().is_success(), "{:?}", changed.text().await);
    while !accepted.is_subset(&seen.lock().unwrap()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.kill();
}

/// Publishers at once whose messages take room, and how many of them have it.
const LARGE: u128 = 24;
const LARGE_FITTING: usize = 4;
/// Bytes of such a message: room is counted from 16 KiB on.
const LARGE_BYTES: usize = 17 << 10;
/// Room for what all send, of which one token has a quarter: four of them and not five.
const BODY_BYTES_MAX: usize = 280 << 10;
/// Publishers at once whose messages take none: more than the queue of the log takes.
const SMALL: u128 = 64;
const QUEUE_APPENDS_MAX: usize = 4;

fn id_of(number: u128) -> MessageId {
    MessageId::from_uuid(Uuid::from_u128(number + 1))
}

async fn publish(served: &Served, api: ApiId, number: u128) -> (MessageId, gateway::Answer) {
    let id = id_of(number);
    let bytes = if number < LARGE { LARGE_BYTES } else { 10 };
    let message = json!({"id": id, "text": "x".repeat(bytes)});
    let path = format!("/v1/apis/{api}/messages");
    (id, served.post(path, message).await)
}

/// The messages in the log.
fn kept(test: &TestRuntime) -> BTreeSet<MessageId> {
    let events = test.handle().log().read(Position::ZERO, 10_000).unwrap();
    let messages = events.iter().filter_map(|event| event.event.as_published());
    messages.map(|message| message.id).collect()
}

#[tokio::test]
async fn what_comes_faster_than_the_disk_takes_it_waits_or_is_refused_and_what_is_taken_stays() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let disk = storage.clone();
    let test = TestRuntime::start_with(data.path(), 1, move |builder| {
        let options = LogOptions {
            queue_appends_max: QUEUE_APPENDS_MAX,
            ..LogOptions::with_durability(Durability::Synced)
        };
        builder.log_options(options).storage(Arc::new(disk.clone()))
    });
    let served = Served::serve_with_body_bytes_max(test.await.unwrap(), BODY_BYTES_MAX).await;
    let api = served.test.handle().create_api(Api::named("orders")).await;
    let api = api.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscribed = served.test.handle().subscribe(api, subscription).await;
    subscribed.unwrap();

    storage.hold_syncs();
    let mut publishing: FuturesUnordered<_> = (0..LARGE + SMALL)
        .map(|number| publish(&served, api, number))
        .collect();
    let crowded_out = usize::try_from(LARGE).unwrap() - LARGE_FITTING;
    let early = publishing.by_ref().take(crowded_out).collect::<Vec<_>>();
    let early = timeout(Duration::from_secs(60), early).await;
    // Whatever came of it: a writer that waits for ever would let no test end.
    storage.release_syncs();
    let early = early.expect("what does not fit is refused at once");
    let late: Vec<_> = publishing.collect().await;

    for (id, answer) in &early {
        assert_eq!(answer.status, 503, "nothing is durable yet: {id}");
    }
    let mut accepted = BTreeSet::new();
    for (id, answer) in early.into_iter().chain(late) {
        if answer.status == 202 {
            accepted.insert(id);
        } else {
            answer.problem(503);
            assert_eq!(answer.header("retry-after"), Some("5"));
        }
    }
    let mut small = (LARGE..LARGE + SMALL).map(id_of);
    assert!(small.all(|id| accepted.contains(&id)), "they wait");
    assert!(accepted.len() > usize::try_from(SMALL).unwrap());

    served.test.settle().await;
    let calls = served.test.transport().calls();
    let called: BTreeSet<_> = calls.iter().map(|call| call.message).collect();
    assert_eq!(called, accepted, "what was refused is not delivered");
    assert_eq!(calls.len(), accepted.len());
    let test = served.stop().await;
    storage.crash();
    let test = test.crash_and_reopen().await.unwrap();
    assert_eq!(kept(&test), accepted);
    test.shutdown().await;
}
