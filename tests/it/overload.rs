//! More comes in than goes out: memory does not grow with what waits, and nothing taken is lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};
use serde_json::json;

use crate::serve::{Client, Process};

/// Messages, and how many one request brings.
const MESSAGES: usize = 12_000;
const BATCH: usize = 100;
/// Bytes of one.
const MESSAGE_BYTES: usize = 8 << 10;
/// What of them waits at least: they would be seen if they were in memory.
const WAITING_BYTES_MIN: u64 = (MESSAGES * MESSAGE_BYTES) as u64 * 9 / 10;
/// How much more memory they may take: less than a third of what waits. The newest events are kept.
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
    for _ in 0..MESSAGES / BATCH / 10 {
        accepted.extend(publish().await);
    }
    let before = gateway.memory_kib("VmHWM");
    while accepted.len() < MESSAGES {
        accepted.extend(publish().await);
    }
    let growth_kib = gateway.memory_kib("VmHWM") - before;
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
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gateway.kill();
}
