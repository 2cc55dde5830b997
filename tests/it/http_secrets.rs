//! No secret that was given to the gateway is found anywhere outside of its vault.

use std::{collections::BTreeSet, path::Path, process::Command};

use hooklog::{http::document, model::Role, testing::FakeAnswer};
use serde_json::{Value, json};

use crate::support::{
    files::files,
    gateway::{Ask, Served},
    paths::{Thing, filled, pages},
    process::{client, first_lines, is_every_command},
    secrets::{IN_BASE64, canary, entrypoint, proxy, settings},
};

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Each path once to which these sets of things lead.
fn paths(pattern: &str, worlds: &[Vec<Thing>]) -> BTreeSet<String> {
    let filled = worlds.iter().map(|things| filled(pattern, things));
    filled.collect()
}

/// What is answered, which must be an answer; of a stream, from its beginning up to this.
async fn answered(ask: Ask<'_>, up_to: &str) -> String {
    let mut response = ask.header("last-event-id", "0").open().await;
    let status = response.status().as_u16();
    assert!(matches!(status, 200 | 303), "{response:?}");
    let content_type = response.headers().get("content-type");
    if content_type.is_none_or(|name| name != "text/event-stream") {
        return response.text().await.unwrap();
    }
    let mut told = String::new();
    while !told.contains(up_to) {
        let chunk = response.chunk().await.unwrap();
        let chunk = chunk.expect("the stream goes on");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    told
}

/// Every answer of every operation that only asks, with as many rows as there may be.
async fn of_operations(served: &Served, key: &str, worlds: &[Vec<Thing>]) -> Vec<String> {
    let head = format!("id: {}\n", served.test.handle().log().head());
    let mut answers = Vec::new();
    for (pattern, verbs) in document()["paths"].as_object().unwrap() {
        let Some(question) = verbs.get("get") else {
            continue;
        };
        let is_own = pattern.starts_with("/{contextPath}");
        let token = if is_own { key } else { served.admin.as_str() };
        let up_to = match pattern.as_str() {
            "/v1/events/stream" => head.as_str(),
            _ => "id: ",
        };
        let parameters = question["parameters"].as_array().unwrap();
        let has_limit = parameters.iter().any(|one| one["name"] == "limit");
        let query = if has_limit { "?limit=1000" } else { "" };
        for path in paths(pattern, worlds) {
            let ask = served.ask("GET", path + query).token(Some(token));
            answers.push(answered(ask, up_to).await);
        }
    }
    answers
}

/// Every page of the console.
async fn of_console(served: &Served, worlds: &[Vec<Thing>]) -> Vec<String> {
    let cookie = served.session(Role::Admin).await;
    let mut answers = Vec::new();
    for (_, pattern) in pages().filter(|(method, _)| *method == "GET") {
        for path in paths(&pattern, worlds) {
            let ask = served.ask("GET", path).token(None);
            answers.push(answered(ask.header("cookie", &cookie), "id: ").await);
        }
    }
    answers
}

/// What shows something that a gateway holds, and with which arguments.
const SHOWN: &[&str] = &[
    "api list",
    "api show {api}",
    "application list",
    "application show {application}",
    "dead-letters list",
    "events export -",
    "events read",
    "explain {delivery}",
    "jobs list",
    "jobs show {job}",
    "logs list --all",
    "logs show {delivery}",
    "retention show",
    "subscription list",
    "subscription show {subscription}",
    "subscription test {subscription}",
    "token list",
];
/// The same, and never ends.
const FOLLOWED: &[&str] = &["events follow --from 1", "logs tail"];
/// What shows something that the directory of a stopped gateway holds.
const SHOWN_AT_REST: &[&str] = &[
    "events export -",
    "events read",
    "logs list --all",
    "logs show {delivery}",
    "repair",
    "replay",
    "token list",
    "verify",
    "what-if",
];
/// What shows nothing, or no more than what was just done, as the commands above show it. The keys
/// that some make are shown by them, once; what `import` shows is tried where imports are.
const NOT_SHOWN: &[&str] = &[
    "api create",
    "api delete",
    "api start",
    "api stop",
    "application create",
    "application delete",
    "application key",
    "completions",
    "config check",
    "dead-letters discard",
    "dead-letters redeliver",
    "demo",
    "events import",
    "import gravitee",
    "jobs cancel",
    "jobs pause",
    "jobs resume",
    "openapi",
    "publish",
    "rebuild",
    "receiver",
    "retention apply",
    "schema",
    "serve",
    "subscribe",
    "subscription accept",
    "subscription close",
    "subscription pause",
    "subscription redeliver",
    "subscription resume",
    "subscription resume-failure",
    "token create",
    "token revoke",
];

#[test]
fn every_command_is_looked_into_or_shows_nothing_that_is_kept() {
    let lines = [SHOWN, FOLLOWED, SHOWN_AT_REST].concat();
    is_every_command(lines, NOT_SHOWN);
}

/// Everything that these commands say, for people and for programs.
fn said(lines: &[&str], worlds: &[Vec<Thing>], start: impl Fn() -> Command) -> Vec<String> {
    let mut said = Vec::new();
    for line in lines.iter().flat_map(|line| paths(line, worlds)) {
        for format in ["table", "json"] {
            let mut command = start();
            command.args(line.split(' ')).args(["--output", format]);
            let output = command.output().unwrap();
            // A callback that refuses a test message makes it fail.
            let is_told = output.status.success() || line.starts_with("subscription test");
            assert!(is_told, "{line}: {output:?}");
            said.extend(
                [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()),
            );
        }
    }
    said
}

/// Everything that commands say of a gateway.
async fn of_commands(served: &Served, worlds: &[Vec<Thing>]) -> Vec<String> {
    let (base, token) = (served.base.clone(), served.admin.clone());
    let events = usize::try_from(served.test.handle().log().head().get()).unwrap();
    let worlds = worlds.to_vec();
    let asking = tokio::task::spawn_blocking(move || {
        let start = || {
            let mut command = client(Path::new(env!("CARGO_MANIFEST_DIR")));
            command.env("HOOKLOG_SERVER", &base);
            command.env("HOOKLOG_TOKEN", &token);
            command
        };
        let mut all = said(SHOWN, &worlds, start);
        for (line, count) in FOLLOWED.iter().zip([events, worlds.len()]) {
            for format in ["table", "json"] {
                let mut command = start();
                command.args(line.split(' ')).args(["--output", format]);
                all.push(first_lines(&mut command, count));
            }
        }
        all
    });
    asking.await.unwrap()
}

/// A subscription with these settings, and all that was answered about it.
async fn subscribed(served: &Served, api: &str, configuration: Value) -> (Value, [String; 3]) {
    let body = json!({"configuration": configuration});
    let path = format!("/v1/apis/{api}/subscriptions");
    let made = served.post(path, body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let subscription = made.json();
    let path = format!("/v1/subscriptions/{}", text(&subscription["id"]));
    let put = served.ask("PUT", &path).json(&body).send().await;
    let tested = served.ask("POST", format!("{path}/_test")).send().await;
    assert_eq!(tested.status, 200, "{tested:?}");
    (subscription, [made.text, put.text, tested.text])
}

/// What is shown once: a key of the application of this subscription, and a new key that signs.
async fn keys(served: &Served, subscription: &Value) -> (String, String) {
    let application = text(&subscription["application"]).parse().unwrap();
    let key = served.token(Role::Consumer, Some(application)).await;
    let path = format!("/v1/subscriptions/{}", text(&subscription["id"]));
    let rotated = served.ask("POST", format!("{path}/_rotateSecret"));
    let rotated = text(&rotated.send().await.json()["secret"]);
    (key, rotated.strip_prefix("whsec_").unwrap().to_owned())
}

/// A message to each subscription and a job with what became of it: each delivery, with everything
/// that belongs to it.
async fn worlds(served: &Served, api: &str) -> Vec<Vec<Thing>> {
    let of_api = |rest: &str| format!("/v1/apis/{api}/{rest}");
    let message = json!({"text": "a"});
    let published = served.post(of_api("messages"), message).await;
    assert_eq!(published.status, 202, "{published:?}");
    served.test.settle().await;
    let every = json!({"filter": {}});
    let job = served.post(of_api("dead-letters/_redeliver"), every).await;
    assert_eq!(job.status, 202, "{job:?}");
    served.test.settle().await;
    let tokens = served.get("/v1/tokens").await.json();
    let logs = served.get(of_api("logs?limit=1000")).await.json();
    let world = |row: &Value| {
        vec![
            ("api", api.to_owned()),
            ("contextPath", "orders".to_owned()),
            ("application", text(&row["application"])),
            ("subscription", text(&row["subscription"])),
            ("delivery", text(&row["id"])),
            ("message", text(&row["message"]["id"])),
            ("job", text(&job.json()["id"])),
            ("token", text(&tokens["tokens"][0]["id"])),
            ("projection", "deliveries".to_owned()),
        ]
    };
    let rows = logs["deliveries"].as_array().unwrap();
    rows.iter().map(world).collect()
}

#[tokio::test]
async fn no_secret_is_on_disk_or_in_any_answer() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let base = "https://example.com";
    let mut entrypoint = entrypoint(base);
    entrypoint["proxy"] = proxy("proxy.example.com", 3128);
    let api = json!({"name": "orders", "entrypoint": entrypoint});
    let api = served.post("/v1/apis", api).await;
    assert_eq!(api.status, 201, "{api:?}");
    let id = api.json()["id"].as_str().unwrap().to_owned();
    let mut answers = vec![api.text];
    let certified = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let private = certified.signing_key.serialize_pem();
    let private = private.lines().nth(1).unwrap();
    let store = format!(
        "{}{}",
        certified.cert.pem(),
        certified.signing_key.serialize_pem()
    );
    let with_store = json!({"callbackUrl": "https://example.com/hook", "ssl": {"keyStore": store}});
    let mut subscriptions = Vec::new();
    for configuration in settings(base).into_iter().chain([with_store]) {
        let (subscription, said) = subscribed(&served, &id, configuration).await;
        subscriptions.push(subscription);
        answers.extend(said);
    }
    let (key, rotated) = keys(&served, &subscriptions[0]).await;
    let worlds = worlds(&served, &id).await;
    assert_eq!(worlds.len(), subscriptions.len());
    let projections = served.test.handle().projections();
    let others = projections.iter().map(|status| {
        let mut things = worlds[0].clone();
        things.retain(|(name, _)| *name != "projection");
        things.push(("projection", status.name.to_owned()));
        things
    });
    let with_others: Vec<_> = worlds.iter().cloned().chain(others).collect();
    answers.extend(of_operations(&served, &key, &with_others).await);
    answers.extend(of_console(&served, &worlds).await);
    answers.extend(of_commands(&served, &worlds).await);
    // What is refused is not repeated either.
    let wrong = json!({"configuration": {"callbackUrl": "https://example.com/hook",
        "signing": {"keys": [{"secret": canary(7)}]}}});
    let refused = served
        .post(format!("/v1/apis/{id}/subscriptions"), wrong)
        .await;
    refused.problem(422);
    answers.push(refused.text);
    let admin = served.admin.clone();
    served.shutdown().await;
    let directory = data.path();
    let at_rest = || {
        let mut command = client(Path::new(env!("CARGO_MANIFEST_DIR")));
        command.env("HOOKLOG_DATA", directory);
        command
    };
    answers.extend(said(SHOWN_AT_REST, &worlds, at_rest));
    // As it was given, and as keys of signatures and passwords are written.
    let secrets = ["canary-", private, &admin, &key, &rotated];
    let secrets = [&secrets[..], &IN_BASE64].concat();
    for answer in &answers {
        for secret in &secrets {
            assert!(!answer.contains(secret), "{secret}: {answer}");
        }
    }
    for path in files(data.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for secret in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

#[tokio::test]
async fn a_stored_secret_cannot_be_named_in_another_place() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders",
        "headers": [{"name": "x-api-key", "value": canary(1)}]}});
    let api = served.post("/v1/apis", api).await.json();
    let stored = &api["entrypoint"]["headers"][0]["value"];
    assert!(stored["secret"].is_string(), "{api}");
    let path = format!("/v1/apis/{}/subscriptions", api["id"].as_str().unwrap());
    let id = stored["secret"].as_str().unwrap();
    for configuration in [
        json!({"callbackUrl": "https://example.com/", "headers": [{"name": "x-loot", "value": stored}]}),
        json!({"callbackUrl": "https://example.com/", "headers": [{"name": "x-api-key", "value": stored}]}),
        json!({"callbackUrl": format!("https://example.com/?token=sealed-{id}")}),
        json!({"callbackUrl": "https://example.com/", "auth": {"type": "token", "value": stored}}),
    ] {
        let refused = served
            .post(&path, json!({"configuration": configuration}))
            .await;
        refused.problem(422);
    }
    served.shutdown().await;
}
