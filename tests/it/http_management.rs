//! The management API, from creating an API to redelivering a dead letter.

use std::sync::{Arc, Mutex};

use hooklog::testing::{FakeAnswer, Still};
use serde_json::{Value, json};

use crate::support::gateway::{Ask, Served};

/// An API named orders and a subscription to it; their ids.
async fn with_orders(served: &Served) -> (String, String) {
    let api = served
        .post(
            "/v1/apis",
            json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}}),
        )
        .await;
    assert_eq!(api.status, 201, "{api:?}");
    let api = text(&api.json()["id"]);
    let body = json!({"configuration": {"callbackUrl": "https://example.com/hook",
        "retry": {"retryOption": "No Retry"}}});
    let subscription = served
        .post(format!("/v1/apis/{api}/subscriptions"), body)
        .await;
    assert_eq!(subscription.status, 201, "{subscription:?}");
    let id = text(&subscription.json()["id"]);
    (api, id)
}

/// Publishes under a key.
fn keyed<'a>(served: &'a Served, api: &str, token: &str, body: &Value) -> Ask<'a> {
    let ask = served.ask("POST", format!("/v1/apis/{api}/messages"));
    let ask = ask.json(body).header("idempotency-key", "k-1");
    ask.token(Some(token))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_published_dead_lettered_seen_and_redelivered() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, subscription) = with_orders(&served).await;
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let published = served
        .post(
            format!("/v1/apis/{api}/messages"),
            json!({"content": {"order": 7}}),
        )
        .await;
    assert_eq!(published.status, 202, "{published:?}");
    served.test.settle().await;

    let letters = served
        .get(format!("/v1/apis/{api}/dead-letters"))
        .await
        .json();
    let letter = &letters["deadLetters"][0];
    assert_eq!(letter["message"]["id"], published.json()["id"]);
    assert_eq!(letter["status"], 400);
    let delivery = text(&letter["delivery"]);

    served.test.transport().answer(|_| FakeAnswer::Status(204));
    let again = served
        .ask("POST", format!("/v1/apis/{api}/logs/{delivery}/_redeliver"))
        .send()
        .await;
    assert_eq!(again.status, 202, "{again:?}");
    served.test.settle().await;
    let detail = served
        .get(format!("/v1/apis/{api}/logs/{delivery}"))
        .await
        .json();
    assert_eq!(detail["delivery"]["outcome"], "delivered");
    assert_eq!(detail["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(detail["delivery"]["subscription"], subscription);
    let list = served
        .get(format!("/v1/apis/{api}/logs?status=2xx&dlq=true"))
        .await
        .json();
    assert_eq!(list["deliveries"].as_array().unwrap().len(), 1, "{list}");
    let none = served
        .get(format!("/v1/apis/{api}/logs?status=0,5xx"))
        .await
        .json();
    assert_eq!(none["deliveries"], json!([]));
    let shown = served
        .get(format!("/v1/subscriptions/{subscription}"))
        .await
        .json();
    assert_eq!(shown["health"]["delivered"], 1, "{shown}");
    served.shutdown().await;
}

#[tokio::test]
async fn messages_come_in_envelopes_in_batches_in_lines_and_raw() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let path = format!("/v1/apis/{api}/messages");
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    served.test.transport().answer(move |request| {
        let content = String::from_utf8_lossy(&request.message.content).into_owned();
        log.lock().unwrap().push(content);
        FakeAnswer::Status(200)
    });
    let batch = json!([{"text": "a", "type": "t"}, {"base64": "AAH/"}]);
    let batch = served.post(&path, batch).await;
    assert_eq!(
        batch.json()["messages"].as_array().unwrap().len(),
        2,
        "{batch:?}"
    );
    let lines = "{\"content\": { \"b\":1,  \"a\":2}}\n\n{\"text\":\"x\"}\n";
    let lines = served
        .ask("POST", &path)
        .body("application/x-ndjson", lines)
        .send()
        .await;
    assert_eq!(lines.status, 202, "{lines:?}");
    let raw = served
        .ask("POST", format!("{path}?raw=true&key=k"))
        .body("application/json", "[1]")
        .send()
        .await;
    assert_eq!(raw.status, 202, "{raw:?}");
    let xml = served
        .ask("POST", &path)
        .body("application/xml", "<a/>")
        .send()
        .await;
    assert_eq!(xml.status, 202, "{xml:?}");
    served.test.settle().await;
    let mut contents = sent.lock().unwrap().clone();
    contents.sort();
    // JSON goes out byte for byte as it came.
    let expected = [
        "\0\u{1}\u{fffd}",
        "<a/>",
        "[1]",
        "a",
        "x",
        "{ \"b\":1,  \"a\":2}",
    ];
    assert_eq!(contents, expected);
    served.shutdown().await;
}

#[tokio::test]
async fn a_batch_with_one_bad_message_is_refused_whole() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let path = format!("/v1/apis/{api}/messages");
    let head = served.test.handle().log().head();
    let bad = served
        .post(&path, json!([{"text": "a"}, {"text": "b", "type": ""}]))
        .await;
    assert_eq!(bad.problem(422)["errors"][0]["pointer"], "/1/type");
    let both = served
        .post(&path, json!({"text": "a", "base64": "AA=="}))
        .await;
    both.problem(422);
    let line = served
        .ask("POST", &path)
        .body("application/x-ndjson", "{\"text\":1}")
        .send()
        .await;
    let detail = text(&line.problem(422)["detail"]);
    assert!(detail.starts_with("line 1"), "{detail}");
    assert_eq!(served.test.handle().log().head(), head);
    served.shutdown().await;
}

#[tokio::test]
async fn a_key_publishes_once_also_across_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let body = json!([{"text": "a"}, {"text": "b"}]);
    let token = served.admin.clone();
    let first = keyed(&served, &api, &token, &body).send().await;
    assert_eq!(first.status, 202, "{first:?}");
    let many = (0..8).map(|_| keyed(&served, &api, &token, &body).send());
    for again in futures_util::future::join_all(many).await {
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    let other = keyed(
        &served,
        &api,
        &token,
        &json!([{"text": "a"}, {"text": "c"}]),
    )
    .send()
    .await;
    assert!(text(&other.problem(422)["detail"]).contains("new key"));
    let test = served.stop().await.crash_and_reopen().await.unwrap();
    let served = Served::serve(test).await;
    let again = keyed(&served, &api, &token, &body).send().await;
    assert_eq!(again.json(), first.json());
    let messages = served.get("/v1/events?type=message.published").await.json();
    assert_eq!(messages["events"].as_array().unwrap().len(), 2);
    served.shutdown().await;
}

#[tokio::test]
async fn a_key_publishes_once_whatever_traces_its_requests_belong_to() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let token = served.admin.clone();
    let came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = json!({"text": "a", "headers": [{"name": "x-tenant", "value": "a"}]});
    let first = keyed(&served, &api, &token, &body).header("traceparent", came);
    let first = first.send().await;
    assert_eq!(first.status, 202, "{first:?}");
    for trace in [Some(came), Some(other), None] {
        let mut again = keyed(&served, &api, &token, &body);
        if let Some(trace) = trace {
            again = again.header("traceparent", trace);
        }
        let again = again.send().await;
        assert_eq!(again.status, 202, "{trace:?} {again:?}");
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    // Its other headers are a part of what it is.
    let changed = json!({"text": "a", "headers": [{"name": "x-tenant", "value": "b"}]});
    let changed = keyed(&served, &api, &token, &changed).header("traceparent", came);
    changed.send().await.problem(422);
    let messages = served.get("/v1/events?type=message.published").await.json();
    let messages = messages["events"].as_array().unwrap();
    assert_eq!(messages.len(), 1);
    let headers = &messages[0]["data"]["headers"];
    assert_eq!(headers[1]["name"], "traceparent", "{headers}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_key_creates_once() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let create = |path: &str, body: Value| {
        served
            .ask("POST", path)
            .json(&body)
            .header("idempotency-key", "k")
    };
    let (api, application) = (
        json!({"name": "a", "entrypoint": {"contextPath": "/a"}}),
        json!({"name": "shop"}),
    );
    for (path, body) in [("/v1/apis", api), ("/v1/applications", application)] {
        // What was refused used up no key.
        create(path, json!({"name": 7})).send().await.problem(422);
        let first = create(path, body.clone()).send().await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = create(path, body.clone()).send().await;
        assert_eq!((again.status.as_u16(), again.json()), (201, first.json()));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let mut other = body.clone();
        other["description"] = json!("another");
        let refused = create(path, other).send().await;
        assert!(text(&refused.problem(422)["detail"]).contains("another body"));
        let again = create(path, body).send().await;
        assert_eq!((again.status.as_u16(), again.json()), (201, first.json()));
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_change_on_what_changed_meanwhile_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, subscription) = with_orders(&served).await;
    let change = json!({"configuration": {"callbackUrl": "https://example.com/other"}});
    let logging = json!({"enabled": true, "request": {"headers": true}});
    let named = json!({"name": "renamed", "entrypoint": {"contextPath": "/orders"}});
    for (path, body) in [
        (format!("/v1/apis/{api}/entrypoint/logging"), logging),
        (format!("/v1/apis/{api}"), named),
        (format!("/v1/subscriptions/{subscription}"), change),
    ] {
        let read = served.get(&path).await;
        let tag = read.header("etag").unwrap().to_owned();
        let put = |tag: &str| served.ask("PUT", &path).json(&body).header("if-match", tag);
        let changed = put(&tag).send().await;
        assert_eq!(changed.status, 200, "{path} {changed:?}");
        put(&tag).send().await.problem(412);
        let now = changed.header("etag").unwrap();
        assert_eq!(put(now).send().await.status, 200);
        assert_eq!(served.get(&path).await.header("etag"), Some(now));
    }
    served.shutdown().await;
}

#[tokio::test]
async fn what_was_changed_is_answered_as_changed_while_the_view_is_behind() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, subscription) = with_orders(&served).await;
    served.test.settle().await;
    let still = Still::of(served.test.handle().subscriptions()).await;

    let path = format!("/v1/apis/{api}/subscriptions");
    let body = json!({"configuration": {"callbackUrl": "https://example.com/new"}});
    let create = || {
        let ask = served.ask("POST", &path).json(&body);
        ask.header("idempotency-key", "k")
    };
    let made = create().send_without_view().await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json().get("health"), None, "{made:?}");
    let again = create().send_without_view().await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json(), made.json());
    let path = format!("/v1/subscriptions/{subscription}");
    let change =
        json!({"channel": "eu", "configuration": {"callbackUrl": "https://example.com/hook"}});
    let put = served.ask("PUT", &path).json(&change);
    let changed = put.send_without_view().await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.json()["channel"], "eu");

    still.release().await;
    served.test.settle().await;
    let read = served.get(&path).await;
    assert_eq!(read.header("etag"), changed.header("etag"));
    assert!(read.json()["health"].is_object(), "{read:?}");
    let path = format!("/v1/apis/{api}/subscriptions");
    let list = served.get(&path).await.json();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 2);
    served.shutdown().await;
}

#[tokio::test]
async fn a_stored_secret_of_another_cannot_be_named() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let path = format!("/v1/apis/{api}/subscriptions");
    let with = |auth: Value| {
        let configuration = json!({"callbackUrl": "https://example.com/hook", "auth": auth});
        json!({"configuration": configuration})
    };
    let own = served
        .post(&path, with(json!({"type": "token", "value": "canary"})))
        .await;
    assert!(!own.text.contains("canary"), "{own:?}");
    let stored = own.json()["configuration"]["auth"].clone();
    served.post(&path, with(stored.clone())).await.problem(422);
    // Its own it may keep.
    let own = format!("/v1/subscriptions/{}", text(&own.json()["id"]));
    let kept = served.ask("PUT", &own).json(&with(stored)).send().await;
    assert_eq!(kept.status, 200, "{kept:?}");
    served.shutdown().await;
}

#[tokio::test]
async fn changes_are_on_record_with_the_token_that_asked() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    with_orders(&served).await;
    let record = served.get("/v1/events?type=request.accepted").await.json();
    let operations: Vec<_> = record["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (text(&event["data"]["operation"]), text(&event["stream"])))
        .collect();
    assert_eq!(operations[0].0, "createApi");
    assert_eq!(operations[1].0, "createSubscription");
    let tokens = served.get("/v1/tokens").await.json();
    let admin = text(&tokens["tokens"][0]["id"]);
    assert!(
        operations
            .iter()
            .all(|(_, stream)| *stream == format!("token/{admin}"))
    );
    served.shutdown().await;
}

#[tokio::test]
async fn a_follower_that_is_cut_off_and_resumes_sees_the_same_events() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    for number in 0..50 {
        let message = json!({"content": number});
        served
            .post(format!("/v1/apis/{api}/messages"), message)
            .await;
    }
    served.test.settle().await;
    let head = served.test.handle().log().head().get();
    let (mut seen, mut last, mut cut) = (Vec::new(), String::from("0"), 1);
    while last.parse::<u64>().unwrap() < head {
        let mut response = served.open("/v1/events/stream", Some(&last)).await;
        let mut buffer = String::new();
        let mut events = 0;
        // Cut off in the middle of whatever came.
        while events < cut && last.parse::<u64>().unwrap() < head {
            let chunk = response.chunk().await.unwrap().unwrap();
            buffer.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((block, rest)) = buffer.split_once("\n\n") {
                let id = block.lines().find_map(|line| line.strip_prefix("id: "));
                if let (Some(id), true) = (id, events < cut) {
                    last = id.to_owned();
                    seen.push(block.to_owned());
                    events += 1;
                }
                buffer = rest.to_owned();
            }
        }
        cut = cut % 7 + 1;
    }
    let positions: Vec<u64> = seen
        .iter()
        .map(|block| {
            block.lines().next().unwrap()["id: ".len()..]
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(positions, (1..=head).collect::<Vec<_>>());
    let mut whole = served.open("/v1/events/stream?from=1", None).await;
    let mut text = String::new();
    while text.matches("\n\n").count() < seen.len() {
        let chunk = whole.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(text, seen.join("\n\n") + "\n\n");
    served.shutdown().await;
}

#[tokio::test]
async fn a_stream_from_now_tells_at_once_after_what_it_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    served.test.settle().await;
    let head = served.test.handle().log().head();
    let mut stream = served.open("/v1/events/stream", None).await;
    let first = stream.chunk().await.unwrap().unwrap();
    assert_eq!(first, format!("id: {head}\n\n"));
    // Cut off, and something happened before it is back.
    drop(stream);
    let path = format!("/v1/apis/{api}/messages");
    assert_eq!(
        served.post(path, json!({"text": "missed"})).await.status,
        202
    );
    let head = head.to_string();
    let mut stream = served.open("/v1/events/stream", Some(&head)).await;
    let missed = stream.chunk().await.unwrap().unwrap();
    let missed = String::from_utf8_lossy(&missed).into_owned();
    assert!(missed.contains("event: message.published"), "{missed}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_projection_tells_when_it_has_seen_more() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let mut stream = served.open("/v1/projections/deliveries/stream", None).await;
    with_orders(&served).await;
    let chunk = stream.chunk().await.unwrap().unwrap();
    assert!(chunk.starts_with(b"id: "), "{chunk:?}");
    let status = served.get("/v1/projections/deliveries").await.json();
    assert_eq!(status["phase"], "running");
    let rebuilt = served
        .ask("POST", "/v1/projections/deliveries/_rebuild")
        .send()
        .await;
    assert_eq!(rebuilt.status, 202, "{rebuilt:?}");
    served.get("/v1/projections/nothing").await.problem(404);
    served.shutdown().await;
}

#[tokio::test]
async fn the_gateway_says_whether_it_is_ready() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    for path in ["/livez", "/readyz", "/openapi.json"] {
        let answer = served.ask("GET", path).token(None).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_nobody_up() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let (api, _) = with_orders(&served).await;
    let mut unread = Vec::new();
    for path in ["/v1/events/stream?from=1", "/v1/projections/metrics/stream"] {
        unread.push(served.open(path, None).await);
        unread.push(served.open(path, None).await);
    }
    // Far more than the system keeps for who does not read.
    let path = format!("/v1/apis/{api}/messages");
    let batch = json!(vec![json!({"text": "x".repeat(10_000)}); 100]);
    for _ in 0..20 {
        assert_eq!(served.post(&path, batch.clone()).await.status, 202);
    }
    let head = served.test.handle().log().head();
    let mut read = served.open("/v1/events/stream?from=1", None).await;
    let mut seen = String::new();
    while !seen.contains(&format!("id: {head}\n")) {
        let chunk = read.chunk().await.unwrap().unwrap();
        seen = seen.split_off(seen.len().saturating_sub(40));
        seen += &String::from_utf8_lossy(&chunk);
    }
    drop((unread, read));
    served.shutdown().await;
}
