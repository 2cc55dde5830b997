//! What a served gateway tells of its work: lines, traces, and spans that a collector gets.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hooklog::{
    clock::SystemClock,
    model::TraceContext,
    testing::callback::{Answer, CallbackServer, ReceivedCall},
};
use serde_json::{Value, json};

use crate::{
    delivery_tls::{self, Identity},
    support::{
        process::{Process, client, until},
        secrets::{IN_BASE64, canary, entrypoint, proxy, settings},
    },
};

const CAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A gateway that may call this machine, with these flags, whose lines go to the file `lines`.
fn serve(directory: &Path, flags: &str) -> Process {
    let config = "[egress]\nallow_http = true\nallow_private_cidrs = [\"127.0.0.1/32\"]\n";
    fs::write(directory.join("hooklog.toml"), config).unwrap();
    let command = format!("hooklog serve --config hooklog.toml {flags} 2> lines");
    Process::start(directory, &command)
}

async fn callback() -> CallbackServer {
    let started = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    started.await.unwrap()
}

/// Publishes to the API over HTTP, with this `traceparent`. Gives the id that the request got.
async fn publish(gateway: &Process, traceparent: Option<&str>) -> String {
    // The client wants one; it calls plain HTTP alone. It may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let api = gateway.json(&["api", "show", "orders"])[0]["id"].clone();
    let path = format!(
        "v1/apis/{}/messages?key=canary-query",
        api.as_str().unwrap()
    );
    let url = format!("http://127.0.0.1:{}/{path}", gateway.port);
    let mut request = reqwest::Client::new()
        .post(url)
        .bearer_auth(&gateway.token)
        .header("content-type", "text/plain");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let response = request.body("canary-content").send().await.unwrap();
    assert_eq!(response.status(), 202);
    let id = &response.headers()["x-request-id"];
    id.to_str().unwrap().to_owned()
}

/// The lines that were written, each an object.
fn lines(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("lines")).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    whole.lines().map(parse).collect()
}

/// The span of the first line with this message that fits.
fn span(directory: &Path, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
    until(|| {
        let mut told = lines(directory).into_iter();
        let line = told.find(|line| line["fields"]["message"] == message && fits(&line["span"]))?;
        Some(line["span"].clone())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_and_the_call_that_follows_are_told_in_the_trace_that_came() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let callback = callback().await;
    let gateway = serve(directory, "--log-format json --log-level info");
    gateway.json(&["api", "create", "orders"]);
    let url = callback.url("/hook").to_string();
    let made = gateway.json(&["subscribe", "orders", &url]);
    let request_id = publish(&gateway, Some(CAME)).await;

    let request = span(directory, "served", |span| {
        span["request_id"] == *request_id
    });
    assert_eq!(request["name"], "request");
    assert_eq!(request["method"], "POST");
    assert_eq!(request["route"], "/v1/apis/{api}/messages");
    assert_eq!(request["status"], 202);
    assert_eq!(request["trace_id"], CAME[3..35]);
    assert_eq!(request["parent_id"], CAME[36..52]);

    let call = callback.wait_for(1).await.remove(0);
    let attempt = span(directory, "attempted", |_| true);
    assert_eq!(attempt["name"], "attempt");
    assert_eq!(attempt["subscription"], made[0]["id"]);
    assert_eq!(attempt["message"], call.header("webhook-id").unwrap());
    assert_eq!(attempt["attempt"], 1);
    assert_eq!(attempt["status"], 204);
    assert_eq!(attempt["trace_id"], request["trace_id"]);
    assert_eq!(attempt["parent_id"], request["span_id"]);
    let sent: TraceContext = call.header("traceparent").unwrap().parse().unwrap();
    assert_eq!(attempt["trace_id"], sent.trace.to_string());
    assert_eq!(attempt["span_id"], sent.span.to_string());
    assert!(attempt["delivery"].is_string() && attempt["api"].is_string());
}

/// Answers as a token endpoint, as a callback that refuses what it gets, and as all others are.
async fn any_callback() -> CallbackServer {
    let started = CallbackServer::start(SystemClock::shared(), |call| {
        match call.target.split('?').next() {
            Some("/token") => {
                let issued = json!({"access_token": "canary-issued", "token_type": "Bearer"});
                Answer::status(200).with_body(issued.to_string())
            }
            Some("/refused") => Answer::status(400),
            _ => Answer::ok(),
        }
    });
    started.await.unwrap()
}

/// Makes an API with this entrypoint.
fn create_api(gateway: &Process, directory: &Path, name: &str, entrypoint: &Value) {
    let api = json!({"name": name, "entrypoint": entrypoint});
    fs::write(directory.join("api"), api.to_string()).unwrap();
    gateway.json(&["api", "create", "--file", "api"]);
}

/// Subscribes with these settings, and gives the id of the subscription.
fn subscribe(gateway: &Process, directory: &Path, api: &str, configuration: &Value) -> Value {
    let subscription = json!({"configuration": configuration});
    fs::write(directory.join("subscription"), subscription.to_string()).unwrap();
    gateway.json(&["subscribe", api, "--file", "subscription"])[0]["id"].clone()
}

/// Checks that each secret of [`settings`], [`entrypoint`] and [`proxy`] is in these calls, as far
/// as it is ever sent: two sign.
fn hold_every_secret(calls: &[ReceivedCall]) {
    let sent = format!("{calls:?}");
    for number in [2, 3, 8, 9, 10, 11, 12, 13, 14, 15] {
        assert!(sent.contains(&canary(number)), "{number}: {sent}");
    }
    for number in [1, 6] {
        let pair = STANDARD.encode(format!("u:{}", canary(number)));
        assert!(pair.contains(IN_BASE64[2]), "{pair}");
        assert!(sent.contains(&format!("Basic {pair}")), "{number}: {sent}");
    }
    for signed in ["&assertion=", "webhook-signature", "Bearer canary-issued"] {
        assert!(sent.contains(signed), "{signed}: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_talkative_lines_are_json_and_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let callback = any_callback().await;
    let authority = delivery_tls::authority();
    let over_tls = Identity::issued(&authority, "127.0.0.1", false);
    let over_tls = delivery_tls::serve(&over_tls, Some(authority.der().clone())).await;
    let store = Identity::issued(&authority, "client", false).pem();
    let mut gateway = serve(directory, "--log-format json --log-level trace");
    let base = format!("http://{}", callback.address());
    create_api(&gateway, directory, "orders", &entrypoint(&base));
    let proxy = proxy("127.0.0.1", callback.address().port());
    let proxied = json!({"contextPath": "/proxied", "proxy": proxy});
    create_api(&gateway, directory, "proxied", &proxied);

    let mut taken = settings(&base);
    taken.push(
        json!({"callbackUrl": format!("https://{}/", over_tls.address()),
        "ssl": {"keyStore": store, "trustStore": authority.pem()}}),
    );
    let subscribe = |api: &str, settings: &Value| subscribe(&gateway, directory, api, settings);
    let mut expected: Vec<(Value, u16)> = Vec::new();
    expected.extend(taken.iter().map(|one| (subscribe("orders", one), 204)));
    expected.push((subscribe("orders", &json!({})), 400));
    let proxied = json!({"callbackUrl": format!("{base}/proxied")});
    expected.push((subscribe("proxied", &proxied), 204));
    publish(&gateway, None).await;
    gateway.json(&["publish", "proxied", "canary-content"]);
    for (subscription, status) in expected {
        let attempt = span(directory, "attempted", |span| {
            span["subscription"] == subscription
        });
        assert_eq!(attempt["status"], status, "{attempt}");
    }
    until(|| {
        let mut calls = callback.received().into_iter();
        calls.find(|call| call.target.starts_with("/dlq?"))
    });
    let wrong = gateway
        .command(&["api", "list"])
        .env("HOOKLOG_TOKEN", "hl_canary")
        .output();
    assert!(!wrong.unwrap().status.success());
    span(directory, "served", |span| span["status"] == 401);
    gateway.terminate();

    hold_every_secret(&callback.received());
    let mut key = store.lines().skip_while(|line| !line.contains("PRIVATE"));
    let secrets = ["canary", key.nth(1).unwrap(), &gateway.token];
    let told = fs::read_to_string(directory.join("lines")).unwrap();
    for secret in secrets.into_iter().chain(IN_BASE64) {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
}

#[test]
fn by_default_nothing_is_told_while_all_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = serve(directory.path(), "");
    gateway.json(&["api", "create", "orders"]);
    gateway.terminate();
    let told = fs::read_to_string(directory.path().join("lines")).unwrap();
    // That `http:` may be called is worth a warning.
    assert!(told.lines().all(|line| line.contains("WARN")), "{told}");
    assert!(!told.contains('\u{1b}'), "no colour in a file: {told}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[tracing]\nformat = \"json\"\nlevel = \"debug\"\n";
    fs::write(directory.path().join("hooklog.toml"), file).unwrap();
    let check = |flags: &[&str], level: Option<&str>| {
        let mut command = client(directory.path());
        command.args([
            "config",
            "check",
            "--config",
            "hooklog.toml",
            "--output",
            "json",
        ]);
        command
            .args(flags)
            .envs(level.map(|level| ("HOOKLOG_LOG", level)));
        command.output().unwrap()
    };
    let tracing = |flags: &[&str], level| -> Value {
        let config: Value = serde_json::from_slice(&check(flags, level).stdout).unwrap();
        config["tracing"].clone()
    };
    assert_eq!(tracing(&[], None)["level"], "debug");
    assert_eq!(tracing(&[], None)["format"], "json");
    assert_eq!(tracing(&[], Some("error"))["level"], "error");
    let flags = ["--log-level", "info", "--log-format", "text"];
    let said = tracing(&flags, Some("error"));
    assert_eq!(
        (&said["level"], &said["format"]),
        (&"info".into(), &"text".into())
    );
    let refused = check(&["--log-level", "hooklog=loud"], None);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert_eq!(check(&["--log-format", "xml"], None).status.code(), Some(2));
}

#[cfg(feature = "otlp")]
mod otlp {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::any_value::Value::StringValue,
        trace::v1::{Span, span::SpanKind, status::StatusCode},
    };
    use prost::Message as _;

    use super::*;

    /// The spans that a collector got, which must be ours.
    fn collected(collector: &CallbackServer) -> Vec<Span> {
        let mut spans = Vec::new();
        for call in collector.received() {
            assert_eq!(call.target, "/v1/traces");
            assert_eq!(call.header("content-type"), Some("application/x-protobuf"));
            let batch = ExportTraceServiceRequest::decode(call.body).unwrap();
            for of_resource in batch.resource_spans {
                let resource = of_resource.resource.unwrap();
                let mut attributes = resource.attributes.into_iter();
                let name = attributes.find(|a| a.key == "service.name").unwrap();
                let name = name.value.unwrap().value;
                assert_eq!(name, Some(StringValue("hooklog".to_owned())));
                let scoped = of_resource.scope_spans.into_iter();
                spans.extend(scoped.flat_map(|scope| scope.spans));
            }
        }
        spans
    }

    fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
        let mut found = spans.iter().filter(|span| span.name == name);
        found
            .next()
            .unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_gets_a_request_and_its_call_in_one_trace() {
        let directory = tempfile::tempdir().unwrap();
        let (callback, collector) = (callback().await, callback().await);
        let endpoint = collector.url("/").to_string();
        let flags = format!("--otlp-endpoint {}", endpoint.trim_end_matches('/'));
        let mut gateway = serve(directory.path(), &flags);
        gateway.json(&["api", "create", "orders"]);
        let url = callback.url("/hook").to_string();
        gateway.json(&["subscribe", "orders", &url]);
        // No trace came: it begins here, and goes along with the message.
        publish(&gateway, None).await;
        let call = callback.wait_for(1).await.remove(0);
        // What was not sent yet is sent at the end.
        gateway.terminate();
        let spans = collected(&collector);
        let request = named(&spans, "POST /v1/apis/{api}/messages");
        let attempt = named(&spans, "attempt");
        assert_eq!(attempt.trace_id, request.trace_id);
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert_eq!(request.parent_span_id, [0; 0]);
        assert_eq!(request.kind, SpanKind::Server as i32);
        assert_eq!(attempt.kind, SpanKind::Client as i32);
        assert!(attempt.start_time_unix_nano < attempt.end_time_unix_nano);
        let status = attempt.status.as_ref().map_or(0, |status| status.code);
        assert_eq!(status, StatusCode::Unset as i32);
        let sent: TraceContext = call.header("traceparent").unwrap().parse().unwrap();
        assert_eq!(attempt.trace_id, sent.trace.get().to_be_bytes());
        assert_eq!(attempt.span_id, sent.span.get().to_be_bytes());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_trace_that_its_beginner_does_not_keep_is_not_sent() {
        let directory = tempfile::tempdir().unwrap();
        let (callback, collector) = (callback().await, callback().await);
        let flags = format!("--otlp-endpoint {}", collector.url("/v1/traces"));
        let mut gateway = serve(directory.path(), &flags);
        gateway.json(&["api", "create", "orders"]);
        gateway.json(&["subscribe", "orders", &callback.url("/hook").to_string()]);
        publish(&gateway, Some(&CAME.replace("-01", "-00"))).await;
        let call = callback.wait_for(1).await.remove(0);
        gateway.terminate();
        assert!(call.header("traceparent").unwrap().ends_with("-00"));
        let spans = collected(&collector);
        assert!(
            spans.iter().all(|span| span.name != "attempt"),
            "{spans:#?}"
        );
        named(&spans, "POST /v1/apis");
    }

    #[test]
    fn a_collector_that_is_not_there_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let mut gateway = serve(directory.path(), "--otlp-endpoint http://127.0.0.1:1");
        gateway.json(&["api", "create", "orders"]);
        gateway.terminate();
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn spans_are_exported_by_builds_that_can_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = client(directory.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--otlp-endpoint", "http://127.0.0.1:4318"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}
