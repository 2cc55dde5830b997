//! How much one may ask for: bytes, numbers, streams, tries. What goes beyond is refused, and told.

use std::time::Duration;

use hooklog::{
    http::TimeLimits,
    model::{Api, ApiId, Role, Subscription},
    testing::TestRuntime,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{
    gateway::{Answer, Served},
    paths::filled,
};

const MIB: usize = 1 << 20;

async fn with_api(data: &std::path::Path) -> (Served, ApiId) {
    let served = Served::start(data).await;
    let api = created(&served).await;
    (served, api)
}

async fn created(served: &Served) -> ApiId {
    let created = served.test.handle().create_api(Api::named("orders")).await;
    created.unwrap().id
}

async fn publish(served: &Served, api: ApiId, body: Vec<u8>) -> Answer {
    let path = format!("/v1/apis/{api}/messages");
    let ask = served.ask("POST", path);
    ask.body("application/octet-stream", body).send().await
}

#[tokio::test]
async fn a_message_of_a_mebibyte_is_taken_and_a_byte_more_is_not() {
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    assert_eq!(publish(&served, api, vec![0; MIB]).await.status, 202);
    let head = served.test.handle().log().head();
    publish(&served, api, vec![0; MIB + 1]).await.problem(413);
    let path = format!("/v1/apis/{api}/messages");
    let raw = served.ask("POST", format!("{path}?raw=true"));
    let raw = raw.body("application/json", vec![b'7'; MIB + 1]);
    raw.send().await.problem(413);
    // In an envelope it is a field that is too large, and not what was sent.
    let text = |bytes: usize| json!({"text": "x".repeat(bytes)});
    for envelope in [text(MIB + 1), json!([text(1), text(MIB + 1)])] {
        let problem = served.post(&path, envelope).await.problem(422);
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.ends_with("/content"), "{pointer}");
    }
    assert_eq!(served.test.handle().log().head(), head);
    assert_eq!(served.post(&path, text(MIB)).await.status, 202);
    served.shutdown().await;
}

/// Most bytes of a body of this content type; of an operation that takes none, what may come anyway.
fn body_bytes_max(operation: &str, content_type: Option<&str>) -> usize {
    match (operation, content_type) {
        (_, None) => 16 << 10,
        ("publish", Some("application/json" | "application/x-ndjson")) => 8 * MIB,
        (_, Some(_)) => MIB,
    }
}

/// The content types of the bodies that an operation takes; `None` alone when it takes none.
fn content_types(operation: &Value) -> Vec<Option<&str>> {
    let taken = operation["requestBody"]["content"].as_object();
    taken.map_or_else(
        || vec![None],
        |taken| taken.keys().map(|name| Some(name.as_str())).collect(),
    )
}

#[tokio::test]
async fn every_operation_reads_a_body_up_to_its_limit_and_a_byte_more_is_too_large() {
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    let handle = served.test.handle();
    let to = Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(api, to).await.unwrap();
    let key = served.token(Role::Consumer, Some(subscription.application));
    let key = key.await;
    let nothing = Uuid::from_u128(7).to_string();
    let things = [
        ("api", api.to_string()),
        ("subscription", subscription.id.to_string()),
        ("application", subscription.application.to_string()),
        ("contextPath", "orders".to_owned()),
        ("projection", "deliveries".to_owned()),
        ("delivery", nothing.clone()),
        ("message", nothing.clone()),
        ("job", nothing.clone()),
        ("token", nothing),
    ];
    let document = hooklog::http::document();
    for (pattern, verbs) in document["paths"].as_object().unwrap() {
        let path = filled(pattern, &things);
        let token = if pattern.starts_with("/{contextPath}") {
            &key
        } else {
            &served.admin
        };
        for (verb, operation) in verbs.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            for content_type in content_types(operation) {
                let send = async |bytes: usize| {
                    let mut body = b"{}".to_vec();
                    body.resize(bytes, b' ');
                    let ask = served.ask(&verb.to_uppercase(), &path).token(Some(token));
                    let ask = ask.body(content_type.unwrap_or("text/plain"), body);
                    ask.send().await
                };
                let bytes_max = body_bytes_max(id, content_type);
                served.test.settle().await;
                let head = handle.log().head();
                send(bytes_max + 1).await.problem(413);
                assert_eq!(handle.log().head(), head, "{id} left a trace");
                if content_type.is_some() {
                    let read = send(bytes_max).await;
                    let status = read.status.as_u16();
                    let is_unread = matches!(status, 400 | 401 | 403 | 413 | 415 | 500..);
                    assert!(!is_unread, "{id} {content_type:?}: {read:?}");
                }
            }
        }
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_batch_holds_a_thousand_messages() {
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    let path = format!("/v1/apis/{api}/messages");
    let batch = |messages: usize| json!(vec![json!({"text": "m"}); messages]);
    assert_eq!(served.post(&path, batch(1_000)).await.status, 202);
    let head = served.test.handle().log().head();
    served.post(&path, batch(1_001)).await.problem(422);
    assert_eq!(served.test.handle().log().head(), head);
    served.shutdown().await;
}

#[tokio::test]
async fn of_a_batch_nothing_is_read_behind_the_first_message_that_is_too_many() {
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    let path = format!("/v1/apis/{api}/messages");
    let head = served.test.handle().log().head();
    let one = r#"{"text":"m"}"#;
    let messages = vec![one; 1_001];
    let lines = messages.join("\n");
    for (content_type, batch) in [
        ("application/json", format!("[{}]", messages.join(","))),
        (
            "application/json",
            format!("[{},no json", messages.join(",")),
        ),
        ("application/x-ndjson", lines.clone()),
        ("application/x-ndjson", format!("\n{lines}\nno json")),
        ("application/x-ndjson", format!("no json\n{lines}")),
    ] {
        for key in [None, Some("k")] {
            let ask = served.ask("POST", &path).body(content_type, batch.clone());
            let ask = match key {
                Some(key) => ask.header("idempotency-key", key),
                None => ask,
            };
            let problem = ask.send().await.problem(422);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("at most 1000 are allowed"), "{detail}");
            assert_eq!(problem["errors"][0]["pointer"], "");
        }
    }
    assert_eq!(served.test.handle().log().head(), head);
    served.shutdown().await;
}

#[tokio::test]
async fn a_page_of_large_events_is_short_and_what_follows_is_on_the_next() {
    const MESSAGES: usize = 12;
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    for _ in 0..MESSAGES {
        assert_eq!(publish(&served, api, vec![0; MIB]).await.status, 202);
    }
    let mut from = 1;
    let mut found = Vec::new();
    loop {
        let path = format!("/v1/events?type=message.published&limit=1000&from={from}");
        let page = served.get(path).await.json();
        let events = page["events"].as_array().unwrap();
        let next = page["next"].as_u64().unwrap();
        if events.is_empty() && next == from {
            break;
        }
        assert!(events.len() <= 8, "{} of a mebibyte", events.len());
        found.extend(
            events
                .iter()
                .map(|event| event["position"].as_u64().unwrap()),
        );
        from = next;
    }
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    assert_eq!(found.len(), MESSAGES);
    served.shutdown().await;
}

#[tokio::test]
async fn a_page_of_the_console_with_large_events_is_short_and_what_follows_is_on_the_next() {
    const MESSAGES: usize = 12;
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    for _ in 0..MESSAGES {
        assert_eq!(publish(&served, api, vec![0; MIB]).await.status, 202);
    }
    let cookie = served.session(Role::Viewer).await;
    let read = async |path: &str| {
        let ask = served.ask("GET", path).token(None);
        let page = ask.header("cookie", &cookie).send().await;
        assert_eq!(page.status, 200);
        let rows = page.text.split(r#"scope="row">"#).skip(1);
        let positions = rows.map(|row| row.split('<').next().unwrap().parse::<u64>().unwrap());
        let mut positions: Vec<_> = positions.collect();
        positions.reverse();
        let later = page.text.split_once(r#"">Later"#).map(|(before, _)| {
            let link = before.rsplit_once("href=\"").unwrap().1;
            link.to_owned()
        });
        (positions, later)
    };
    let head = served.test.handle().log().head().get();
    let (last, _) = read("/console/events").await;
    assert!((1..=12).contains(&last.len()), "{last:?}");
    assert_eq!(last.last(), Some(&head));
    let mut found = Vec::new();
    let mut next = Some("/console/events?from=1".to_owned());
    while let Some(path) = next {
        let (positions, later) = read(&path).await;
        found.extend(positions);
        next = later;
    }
    assert_eq!(found, (1..=head).collect::<Vec<_>>());
    served.shutdown().await;
}

#[tokio::test]
async fn a_page_holds_a_thousand_rows_wherever_there_are_pages() {
    let data = tempfile::tempdir().unwrap();
    let (served, api) = with_api(data.path()).await;
    let document = hooklog::http::document();
    let mut tried = 0;
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let parameters = verbs
            .get("get")
            .and_then(|get| get["parameters"].as_array());
        let has_limit = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "limit"));
        if !has_limit || path.starts_with("/{contextPath}") {
            continue;
        }
        tried += 1;
        let path = path.replace("{api}", &api.to_string());
        let most = served.get(format!("{path}?limit=1000")).await;
        assert_eq!(most.status, 200, "{path}: {most:?}");
        for limit in ["0", "1001", "-1", "many"] {
            let refused = served.get(format!("{path}?limit={limit}")).await;
            refused.problem(422);
        }
    }
    assert!(tried >= 5, "{tried}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_token_has_so_many_streams_open_and_one_more_once_one_is_closed() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        let stream = served.open("/v1/events/stream?from=1", None).await;
        assert_eq!(stream.status(), 200);
        open.push(stream);
    }
    let refused = served.get("/v1/events/stream?from=1").await;
    refused.problem(429);
    assert!(refused.header("retry-after").is_some());
    // Others are not held up by it.
    let other = served.token(Role::Viewer, None).await;
    let of_other = served.ask("GET", "/v1/apis").token(Some(&other)).send();
    assert_eq!(of_other.await.status, 200);
    open.pop();
    loop {
        // The gateway learns of it once it writes.
        served
            .post("/v1/applications", json!({"name": "one more"}))
            .await;
        let stream = served.open("/v1/events/stream?from=1", None).await;
        if stream.status() == 200 {
            break;
        }
        assert_eq!(stream.status(), 429);
    }
    drop(open);
    served.shutdown().await;
}

#[tokio::test]
async fn who_shows_wrong_tokens_too_often_waits_and_a_right_one_is_let_in() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let guess = async || {
        let ask = served.ask("GET", "/v1/apis").token(Some("hl_wrong"));
        ask.send().await
    };
    for _ in 0..60 {
        guess().await.problem(401);
    }
    let refused = guess().await;
    refused.problem(429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(served.get("/v1/apis").await.status, 200);
    served
        .test
        .clock()
        .advance(std::time::Duration::from_secs(61));
    guess().await.problem(401);
    served.shutdown().await;
}

#[tokio::test]
async fn a_body_that_does_not_fit_into_memory_is_refused_and_others_pass() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    // A quarter of it is for one token.
    let served = Served::serve_with_body_bytes_max(test, MIB).await;
    let api = created(&served).await;
    for _ in 0..8 {
        let (fits, refused) = (vec![0; MIB / 4], vec![0; MIB / 4 + 1]);
        assert_eq!(publish(&served, api, fits).await.status, 202);
        publish(&served, api, refused).await.problem(413);
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_request_without_a_body_brings_none_that_is_large() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    for path in ["/livez", "/v1/apis"] {
        let with = async |bytes: usize| {
            let ask = served.ask("GET", path);
            ask.body("text/plain", vec![b' '; bytes]).send().await
        };
        assert_eq!(with(16 << 10).await.status, 200);
        with((16 << 10) + 1).await.problem(413);
    }
    served.shutdown().await;
}

/// Sends this, and then a byte again and again as long as it is asked to go on; gives what is answered
/// until the connection is closed, which must come long before the limits that are the default.
async fn sent_slowly(served: &Served, begin: &str, goes_on: bool) -> String {
    let answered = answered_slowly(served, begin, goes_on);
    let answered = tokio::time::timeout(Duration::from_secs(7), answered).await;
    answered.expect("it is disconnected")
}

async fn answered_slowly(served: &Served, begin: &str, goes_on: bool) -> String {
    let address = served.base.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    write.write_all(begin.as_bytes()).await.unwrap();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if goes_on && write.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answered = Vec::new();
    tokio::select! {
        // One that is disconnected while it sends may be told so by a reset.
        _ = read.read_to_end(&mut answered) => {}
        () = drip => {}
    }
    String::from_utf8(answered).unwrap()
}

#[tokio::test]
async fn a_client_that_takes_too_long_is_disconnected_however_it_does_that() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let limits = TimeLimits {
        head: Duration::from_secs(1),
        body: Duration::from_millis(300),
        idle: Duration::from_secs(1),
    };
    let served = Served::serve_with_time_limits(test, limits).await;
    let head = "POST /v1/apis HTTP/1.1\r\nhost: a\r\nx: ";
    for goes_on in [false, true] {
        let answer = sent_slowly(&served, head, goes_on).await;
        assert!(answer.is_empty() || answer.contains(" 408 "), "{answer}");
    }
    let admin = &served.admin;
    let body = format!(
        "POST /v1/apis HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {admin}\r\n\
         content-type: application/json\r\ncontent-length: 60000\r\n\r\n{{"
    );
    for goes_on in [false, true] {
        let answer = sent_slowly(&served, &body, goes_on).await;
        assert!(
            answer.contains("did not come whole within 0.3 s"),
            "{answer}"
        );
    }
    let idle = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = sent_slowly(&served, idle, false).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(
        served.get("/v1/apis").await.status,
        200,
        "others are served"
    );
    served.shutdown().await;
}
