//! The command line against a gateway that runs.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Output, Stdio},
};

use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    paths::filled,
    process::{Process, client, first_lines, free_port, is_every_command},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command that must fail with this status says.
fn refused(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(text(&output.stdout), "", "nothing was done");
    text(&output.stderr)
}

fn gateway() -> (TempDir, Process) {
    let directory = tempfile::tempdir().unwrap();
    let gateway = Process::start_local(directory.path());
    (directory, gateway)
}

/// A subscription whose callback nobody listens at, and its id.
fn subscribed(gateway: &Process) -> String {
    gateway.json(&["api", "create", "orders"]);
    let url = format!("http://127.0.0.1:{}/hook", free_port());
    let made = gateway.json(&["subscribe", "orders", &url, "--no-retry"]);
    made[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_gateway_that_is_not_there_is_told_with_what_starts_one() {
    let directory = tempfile::tempdir().unwrap();
    let server = format!("http://127.0.0.1:{}", free_port());
    for args in [
        &["api", "list"][..],
        &["events", "follow"],
        &["publish", "orders", "x"],
    ] {
        let mut command = client(directory.path());
        let output = command.args(args).args(["--server", &server]).output();
        let said = refused(&output.unwrap(), 1);
        assert!(said.contains("nothing listens there"), "{said}");
        assert!(
            said.contains("hooklog serve") && said.contains(&server),
            "{said}"
        );
    }
}

#[test]
fn a_wrong_token_is_told_and_never_shown() {
    let (directory, gateway) = gateway();
    let without = gateway
        .command(&["api", "list"])
        .env_remove("HOOKLOG_TOKEN")
        .output();
    let said = refused(&without.unwrap(), 1);
    assert!(said.contains("HOOKLOG_TOKEN"), "{said}");
    let wrong = gateway
        .command(&["api", "list"])
        .env("HOOKLOG_TOKEN", "hl_wrong")
        .output();
    let said = refused(&wrong.unwrap(), 1);
    assert!(said.contains("hooklog token create"), "{said}");
    assert!(!said.contains("hl_wrong"), "{said}");

    let file = directory.path().join("token");
    fs::write(&file, format!("{}\n", gateway.token)).unwrap();
    let mut command = gateway.command(&["api", "list", "--token-file"]);
    let output = command.arg(&file).env("HOOKLOG_TOKEN", "hl_wrong").output();
    assert!(output.unwrap().status.success(), "the flag wins");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    let (_directory, gateway) = gateway();
    gateway.json(&["api", "create", "orders"]);
    gateway.json(&["application", "create", "shop"]);
    let said = refused(&gateway.run(&["publish", "ordres", "x"]), 1);
    assert!(said.contains("did you mean \"orders\"?"), "{said}");
    let url = "http://127.0.0.1:9/hook";
    let output = gateway.run(&["subscribe", "orders", url, "--application", "shpo"]);
    let said = refused(&output, 1);
    assert!(said.contains("did you mean \"shop\"?"), "{said}");
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    let said = refused(&gateway.run(&["api", "show", nobody]), 1);
    assert!(said.contains(nobody), "{said}");
}

#[test]
fn what_the_gateway_refuses_names_the_field() {
    let (_directory, gateway) = gateway();
    gateway.json(&["api", "create", "orders"]);
    let said = refused(&gateway.run(&["api", "create", "orders"]), 1);
    assert!(said.contains("/name"), "{said}");
    let url = "http://127.0.0.1:9/hook";
    let output = gateway.run(&["subscribe", "orders", url, "--filter", "type =="]);
    let said = refused(&output, 1);
    assert!(said.contains("/filter"), "{said}");
    let output = gateway.run(&["subscribe", "orders", "http://10.0.0.1/hook"]);
    let said = refused(&output, 1);
    assert!(said.contains("/configuration/callbackUrl"), "{said}");
    // What can be seen without a gateway is a wrong command line.
    for args in [
        &["subscribe", "orders", "ftp://example.com"][..],
        &["subscribe", "orders", url, "--retry-schedule", "soon"],
        &["logs", "--server", "http://127.0.0.1:1", "--data", "data"],
        &["dead-letters", "--reason", "tired"],
        &["api", "list", "--server", "127.0.0.1:1"],
    ] {
        refused(&gateway.run(args), 2);
    }
}

#[test]
fn a_thing_is_made_shown_steered_and_deleted_by_its_name() {
    let (_directory, gateway) = gateway();
    let made = gateway.json(&["api", "create", "orders", "--description", "of the shop"]);
    assert_eq!(gateway.json(&["api", "show", "orders"]), made);
    assert_eq!(
        gateway.json(&["api", "stop", "orders"])[0]["state"],
        "STOPPED"
    );
    let said = refused(&gateway.run(&["publish", "orders", "x"]), 1);
    assert!(said.contains("stopped"), "{said}");
    assert_eq!(
        gateway.json(&["api", "start", "orders"])[0]["state"],
        "STARTED"
    );
    gateway.json(&["api", "delete", "orders"]);
    assert_eq!(gateway.json(&["api", "list"]), [] as [Value; 0]);

    let again = ["application", "create", "shop", "--idempotency-key", "1"];
    assert_eq!(gateway.json(&again), gateway.json(&again));
    let key = &gateway.json(&["application", "key", "shop"])[0];
    assert_eq!(key["role"], "consumer");
    assert!(key["secret"].as_str().unwrap().starts_with("hl_"));
}

#[test]
fn a_subscription_is_paused_resumed_and_closed() {
    let (_directory, gateway) = gateway();
    let id = subscribed(&gateway);
    let status = |step: &str| gateway.json(&["subscription", step, &id])[0]["status"].clone();
    assert_eq!(status("pause"), "PAUSED");
    assert_eq!(status("resume"), "ACCEPTED");
    assert_eq!(status("show"), "ACCEPTED");
    gateway.json(&["subscription", "close", &id]);
    assert_eq!(
        gateway.json(&["subscription", "list", "orders"])[0]["status"],
        "CLOSED"
    );
}

#[test]
fn messages_are_published_as_text_files_and_lines() {
    let (directory, gateway) = gateway();
    gateway.json(&["api", "create", "orders"]);
    gateway.json(&[
        "publish",
        "orders",
        "{\"a\":  1}",
        "--type",
        "t",
        "--key",
        "k",
    ]);
    fs::write(directory.path().join("bytes"), b"\xff\x00").unwrap();
    gateway.json(&["publish", "orders", "--file", "bytes"]);
    let lines = "{\"text\": \"x\"}\n".repeat(1_500);
    fs::write(directory.path().join("lines"), lines).unwrap();
    let many = [
        "publish",
        "orders",
        "--ndjson",
        "lines",
        "--idempotency-key",
        "k",
    ];
    let accepted = gateway.json(&many);
    assert_eq!(accepted.len(), 1_500);
    assert_eq!(gateway.json(&many), accepted, "published once");
    let events = gateway.json(&["events", "--type", "message.published"]);
    assert_eq!(events.len(), 1_502);
    let message = &events[0]["data"];
    assert_eq!(message["content"], "{\"a\":  1}", "{message}");
    assert_eq!(message["contentType"], "application/json", "{message}");
    assert_eq!(events[1]["data"]["content"]["base64"], "/wA=");

    fs::write(
        directory.path().join("lines"),
        "{\"text\": \"x\"}\nnonsense\n",
    )
    .unwrap();
    let said = refused(&gateway.run(&["publish", "orders", "--ndjson", "lines"]), 1);
    assert!(said.contains("line 2"), "{said}");
}

#[test]
fn a_directory_shows_what_its_gateway_showed() {
    let (_directory, mut gateway) = gateway();
    subscribed(&gateway);
    for number in 0..5 {
        gateway.json(&["publish", "orders", &number.to_string()]);
    }
    gateway.wait_for(&["logs", "--outcome", "dead_lettered"], |rows| {
        rows.len() == 5
    });
    let id = gateway.json(&["logs", "--limit", "1"])[0]["id"].clone();
    let questions = [
        &["logs", "--all"][..],
        &[
            "logs",
            "--status",
            "0",
            "--error-class",
            "connect",
            "--limit",
            "2",
        ],
        &["logs", "--application", "default", "--last", "1h"],
        &["logs", "show", id.as_str().unwrap()],
        &["events"],
        &[
            "events",
            "--type",
            "attempt.failed",
            "--from",
            "4",
            "--limit",
            "2",
        ],
        &["token", "list"],
    ];
    let asked = questions.map(|question| {
        let person = gateway.run(question);
        assert!(person.status.success(), "{person:?}");
        (gateway.json(question), person.stdout)
    });
    gateway.stop();
    for (question, (values, person)) in questions.iter().zip(asked) {
        let on_disk = [question, &["--data", "data"][..]].concat();
        assert_eq!(gateway.json(&on_disk), values, "{question:?}");
        assert_eq!(gateway.run(&on_disk).stdout, person, "{question:?}");
        // The environment names a directory as well.
        let mut command = gateway.command(question);
        let output = command.env("HOOKLOG_DATA", "data").output().unwrap();
        assert_eq!(output.stdout, person, "{question:?}");
    }
}

#[test]
fn a_dead_letter_is_discarded() {
    let (_directory, gateway) = gateway();
    subscribed(&gateway);
    gateway.json(&["publish", "orders", "x"]);
    let dead = gateway.wait_for(&["dead-letters"], |rows| !rows.is_empty());
    assert_eq!(dead[0]["reason"], "attempts_spent");
    let id = dead[0]["delivery"].as_str().unwrap();
    gateway.json(&["dead-letters", "discard", id, "--api", "orders"]);
    assert_eq!(gateway.json(&["dead-letters"]), [] as [Value; 0]);
    assert_eq!(gateway.json(&["logs"])[0]["outcome"], "discarded");
    let said = refused(&gateway.run(&["dead-letters", "discard", id]), 1);
    assert!(!said.is_empty());
}

/// Whether a terminal shows it as it stands: no escape, nothing that reorders or hides.
fn is_plain(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    c == '\n' || !(c.is_control() || is_hidden)
}

/// What would steer a terminal, and what may be a name for all that: it holds no control character.
const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{202e}\u{9b}31m\u{8}y";
const SLY: &str = "x\u{202e}\u{200b}\u{2066}y";

/// Makes things that are named so; those that no name may be are refused.
fn make_hostile(gateway: &Process, url: &str) {
    gateway.json(&["api", "create", "orders", "--log-calls"]);
    for made in [
        &["api", "create", HOSTILE][..],
        &["application", "create", HOSTILE],
        &["token", "create", HOSTILE, "--role", "viewer"],
        &[
            "subscribe",
            HOSTILE,
            url,
            "--no-retry",
            "--application",
            HOSTILE,
        ],
        &[
            "subscribe",
            "orders",
            url,
            "--no-retry",
            "--application",
            HOSTILE,
            "--channel",
            HOSTILE,
        ],
        &["publish", HOSTILE, HOSTILE],
        &[
            "publish",
            "orders",
            HOSTILE,
            "--channel",
            HOSTILE,
            "--key",
            HOSTILE,
        ],
    ] {
        gateway.run(made);
    }
    for made in [
        &["api", "create", SLY][..],
        &["application", "create", SLY],
        &["token", "create", SLY, "--role", "viewer"],
        &[
            "subscribe",
            "orders",
            url,
            "--no-retry",
            "--application",
            SLY,
        ],
    ] {
        gateway.json(made);
    }
}

/// What is told of a gateway, and what is refused, with text from outside wherever there may be any.
const TOLD: &[&str] = &[
    "api list",
    "api show {hostile}",
    "api show {sly}",
    "api create {hostile}",
    "api start {sly}",
    "api stop {hostile}",
    "api delete {hostile}",
    "application list",
    "application show {hostile}",
    "application show {sly}",
    "application create {hostile}",
    "application delete {hostile}",
    "application key {hostile}",
    "config check --config hostile.toml",
    "dead-letters list --api orders",
    "events export -",
    "events import hostile.json --data imported",
    "events read",
    "explain {delivery} --api orders",
    "import gravitee hostile.json --check",
    "import gravitee sly.json --check",
    "jobs list",
    "jobs show {job}",
    "jobs pause {job}",
    "jobs resume {job}",
    "jobs cancel {job}",
    "logs list --api orders",
    "logs list --api {hostile}",
    "logs show {delivery} --api orders",
    "publish {hostile} x",
    "publish orders {hostile} --channel {hostile} --key {hostile} --type {hostile}",
    "rebuild deliveries",
    "retention show",
    "retention apply",
    "subscribe orders http://127.0.0.1:1/ --filter {hostile}==",
    "subscription list {hostile}",
    "subscription list {sly}",
    "subscription list orders",
    "subscription show {subscription}",
    "subscription test {subscription} {hostile}",
    "subscription accept {subscription}",
    "subscription pause {subscription}",
    "subscription resume {subscription}",
    "subscription resume-failure {subscription}",
    "subscription redeliver {subscription} --since 1h --dry-run",
    "token list",
    "token create {hostile} --role viewer",
    "token revoke {subscription}",
    "dead-letters discard {delivery} --api orders --detach",
    "dead-letters redeliver {delivery} --api orders --detach",
    "subscription close {subscription}",
];
/// The same without an end.
const FOLLOWED: &[&str] = &["events follow --from 1", "logs tail --api orders"];
/// What is told of the directory of a gateway that has stopped.
const TOLD_AT_REST: &[&str] = &[
    "events read --data data",
    "logs list --api orders --data data",
    "logs show {delivery} --api orders --data data",
    "repair --data data",
    "replay --data data",
    "token list --data data",
    "verify --data data",
    "what-if --data data",
];
/// What tells nothing that comes from outside, or, as a receiver does, words without such characters.
const OWN_WORDS: &[&str] = &[
    "completions",
    "demo",
    "openapi",
    "receiver",
    "schema",
    "serve",
];

#[test]
fn every_command_is_tried_with_what_would_steer_a_terminal_or_tells_nothing_from_outside() {
    is_every_command([TOLD, FOLLOWED, TOLD_AT_REST].concat(), OWN_WORDS);
}

/// Files that name things so.
fn write_hostile(directory: &Path) {
    for (file, name) in [("hostile.json", HOSTILE), ("sly.json", SLY)] {
        let webhook = json!({"type": "webhook", "configuration": {name: name}});
        let definition = json!({
            "name": name, "definitionVersion": "V4", "type": "MESSAGE", name: name,
            "listeners": [{"type": "SUBSCRIPTION", "entrypoints": [webhook]}],
            "endpointGroups": [{"name": name, "type": "mock",
                "endpoints": [{"name": name, "configuration": {name: name}}]}],
        });
        fs::write(directory.join(file), definition.to_string()).unwrap();
    }
    let config = "[egress]\n\"x\\u001b[31m\\u202e\" = 1\n";
    fs::write(directory.join("hostile.toml"), config).unwrap();
}

/// Checks that a command says something to people, and that nothing it says to them or to programs
/// steers a terminal.
fn says_plainly(gateway: &Process, line: &str) {
    for format in ["table", "json"] {
        let args: Vec<_> = line.split(' ').chain(["--output", format]).collect();
        let said = gateway.run(&args);
        assert_ne!(said.status.code(), Some(2), "{line:?}: {said:?}");
        let said = text(&said.stdout) + &text(&said.stderr);
        assert!(format == "json" || !said.is_empty(), "{line:?}");
        assert!(said.chars().all(is_plain), "{line:?}: {said:?}");
    }
}

#[test]
fn nothing_that_comes_from_outside_steers_a_terminal() {
    let (directory, mut gateway) = gateway();
    let url = format!("http://127.0.0.1:{}/hook", free_port());
    make_hostile(&gateway, &url);
    write_hostile(directory.path());
    let made = gateway.json(&["subscribe", "orders", &url, "--no-retry"]);
    gateway.json(&["publish", "orders", HOSTILE]);
    let of = ["--api", "orders"];
    let dead = gateway.wait_for(&["dead-letters", of[0], of[1]], |rows| !rows.is_empty());
    let delivery = dead[0]["delivery"].as_str().unwrap();
    gateway.json(&[
        "dead-letters",
        "redeliver",
        delivery,
        of[0],
        of[1],
        "--detach",
    ]);
    let job = &gateway.json(&["jobs"])[0]["id"];
    let things = [
        ("hostile", HOSTILE.to_owned()),
        ("sly", SLY.to_owned()),
        ("subscription", made[0]["id"].as_str().unwrap().to_owned()),
        ("delivery", delivery.to_owned()),
        ("job", job.as_str().unwrap().to_owned()),
    ];
    for line in TOLD {
        says_plainly(&gateway, &filled(line, &things));
    }
    let events = gateway.json(&["events"]).len();
    for (line, count) in FOLLOWED.iter().zip([events, 1]) {
        for format in ["table", "json"] {
            let args: Vec<_> = line.split(' ').chain(["--output", format]).collect();
            let said = first_lines(&mut gateway.command(&args), count);
            assert!(said.chars().all(is_plain), "{line}: {said:?}");
        }
    }
    gateway.stop();
    for line in TOLD_AT_REST {
        says_plainly(&gateway, &filled(line, &things));
    }
}

/// G5 over the command: a cut neither loses nor repeats an event.
#[test]
fn following_events_goes_on_where_it_was_when_the_gateway_is_back() {
    let (_directory, mut gateway) = gateway();
    gateway.json(&["api", "create", "orders"]);
    let mut following = gateway
        .command(&["events", "follow", "--from", "1", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut seen = Vec::new();
    for round in 0..3 {
        gateway.json(&["publish", "orders", &round.to_string()]);
        let head = gateway.json(&["events"]).len();
        while seen.len() < head {
            seen.push(next());
        }
        gateway.kill_and_restart();
    }
    following.kill().unwrap();
    following.wait().unwrap();
    assert_eq!(seen, gateway.json(&["events"]));
}

#[test]
fn the_tail_of_the_webhook_log_shows_each_delivery_once() {
    // Fewer calls than open the circuit: the callback is not there.
    let (_directory, gateway) = gateway();
    subscribed(&gateway);
    gateway.json(&["publish", "orders", "before"]);
    gateway.wait_for(&["logs"], |rows| rows.len() == 1);
    let mut tail = gateway
        .command(&["logs", "tail", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut ordinals = vec![next()["ordinal"].as_u64().unwrap()];
    for number in 0..8 {
        gateway.json(&["publish", "orders", &number.to_string()]);
    }
    while ordinals.len() < 9 {
        ordinals.push(next()["ordinal"].as_u64().unwrap());
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(ordinals, (0..9).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_the_webhook_log_goes_on_over_a_cut_of_the_log_and_a_restart() {
    const MESSAGES: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    // A segment holds little, and each but the newest may go.
    let config = "[log]\nsegment_bytes_max = 1000\n[retention]\nbytes_max = 0\n";
    let mut gateway = Process::start_local_with(directory.path(), config);
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    gateway.json(&["api", "create", "orders"]);
    gateway.json(&["subscribe", "orders", callback.url("/hook").as_str()]);
    let mut tail = gateway
        .command(&["logs", "tail", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
    let (mut published, mut shown) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for number in 0..MESSAGES {
            let text = format!("message {number} of round {round}");
            published.push(id(&gateway.json(&["publish", "orders", &text])[0]));
        }
        while shown.len() < published.len() {
            shown.push(id(&next()["message"]));
        }
        match round {
            0 => {
                let cut = &gateway.json(&["retention", "apply"])[0];
                assert!(cut["first"].as_u64().unwrap() > 1, "{cut}");
                let kept = gateway.json(&["logs", "--all"]);
                assert!(kept.len() < MESSAGES, "{kept:?}");
            }
            1 => gateway.kill_and_restart(),
            _ => {}
        }
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    // Two that are under way at a time may end in another order than they began.
    shown.sort();
    published.sort();
    assert_eq!(shown, published);
}

#[test]
fn a_token_made_on_a_stopped_directory_is_let_in_until_it_is_revoked() {
    let (directory, mut gateway) = gateway();
    gateway.stop();
    let made = gateway.json(&[
        "token", "create", "ci", "--role", "viewer", "--data", "data",
    ]);
    gateway.kill_and_restart();
    let secret = made[0]["secret"].as_str().unwrap();
    let asked = |args: &[&str]| gateway.command(args).env("HOOKLOG_TOKEN", secret).output();
    assert!(asked(&["api", "list"]).unwrap().status.success());
    let said = refused(&asked(&["api", "create", "orders"]).unwrap(), 1);
    assert!(said.contains("may not"), "{said}");
    gateway.json(&["token", "revoke", made[0]["id"].as_str().unwrap()]);
    refused(&asked(&["api", "list"]).unwrap(), 1);
    let said = gateway.run(&["token", "list", "--data", "nowhere"]);
    let said = refused(&said, 78);
    assert!(said.contains("nowhere"), "{said}");
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn a_view_is_built_again_on_a_gateway_and_on_a_stopped_directory() {
    let (_directory, mut gateway) = gateway();
    subscribed(&gateway);
    gateway.json(&["publish", "orders", "x"]);
    let rows = gateway.wait_for(&["logs"], |rows| rows.len() == 1);
    gateway.json(&["rebuild", "deliveries"]);
    assert_eq!(gateway.json(&["logs"]), rows);
    gateway.stop();
    gateway.json(&["rebuild", "deliveries", "--data", "data"]);
    assert_eq!(gateway.json(&["logs", "--data", "data"]), rows);
    let said = refused(&gateway.run(&["rebuild", "delivreies"]), 2);
    assert!(said.contains("'deliveries'"), "{said}");
}

#[test]
fn the_openapi_document_and_completions_are_printed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = client(directory).arg("openapi").output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for shell in ["bash", "zsh", "fish"] {
        let output = client(directory).args(["completions", shell]).output();
        let script = text(&output.unwrap().stdout);
        assert!(script.contains("dead-letters"), "{shell}");
    }
}

#[test]
fn retention_is_shown_and_applied() {
    let (_directory, gateway) = gateway();
    let shown = gateway.json(&["retention", "show"]);
    assert_eq!(shown[0]["policy"], serde_json::json!({}));
    assert_eq!(shown[0]["first"], 1);
    let applied = gateway.json(&["retention", "apply"]);
    assert_eq!(applied[0]["dropped"], serde_json::json!([]));
    let said = gateway.command(&["retention", "show"]).output().unwrap();
    let said = text(&said.stdout);
    assert!(said.contains("Everything is kept."), "{said}");
}
