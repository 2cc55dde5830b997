//! The command line over the directory of a gateway that has stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use hooklog::{
    model::{Api, Application, ApplicationId, Message, Subscription, SubscriptionId},
    runtime::PROJECTIONS_DIRECTORY,
    testing::{FakeAnswer, TestRuntime},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::files::contents;

/// What a gateway left behind.
struct Left {
    data: TempDir,
    application: ApplicationId,
    /// One whose callback always answers 200, one whose callback answers 404 for ever.
    subscriptions: [SubscriptionId; 2],
}

/// Ten messages to two callbacks, one of which is gone.
async fn left_by_a_gateway() -> Left {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 5).await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap();
    let application = Application::named("shop");
    let application = handle.create_application(application).await.unwrap().id;
    let mut subscriptions = Vec::new();
    for path in ["up", "down"] {
        let url = format!("https://example.com/{path}");
        let subscription = Subscription::to(&url).unwrap().by(application);
        let made = handle.subscribe(api.id, subscription).await.unwrap();
        subscriptions.push(made.id);
    }
    test.transport().answer(|call| {
        let url = call.policy.callback_url.as_ref().unwrap();
        let down = url.as_str().ends_with("down");
        FakeAnswer::Status(if down { 404 } else { 200 })
    });
    for number in 0..10 {
        let message = Message::text(number.to_string());
        handle.publish(api.id, message).await.unwrap();
    }
    test.run_until_idle(Duration::from_hours(48)).await;
    test.shutdown().await;
    Left {
        data,
        application,
        subscriptions: subscriptions.try_into().unwrap(),
    }
}

fn hooklog(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooklog"));
    command.args(args).arg("--data").arg(data);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(data: &Path, args: &[&str]) -> Vec<Value> {
    let output = hooklog(data, &[args, &["--output", "json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    let lines = text(&output.stdout);
    let values = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    values.collect()
}

/// The store of a projection's rows.
fn rows_of(data: &Path, projection: &str) -> PathBuf {
    let entries = fs::read_dir(data.join(PROJECTIONS_DIRECTORY)).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().path());
    let starts = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.rsplit_once('-').unwrap().0 == projection
    };
    let generation = fs::read_dir(names.find(starts).unwrap()).unwrap();
    let generation = generation.map(|entry| entry.unwrap().path());
    generation.max().unwrap().join("db")
}

#[tokio::test]
async fn verify_reports_damaged_rows_and_changes_nothing() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    let rows = data.join(PROJECTIONS_DIRECTORY);
    let sound = contents(&rows);
    let report = &json(data, &["verify"])[0];
    assert_eq!(report["views"], 7, "{report}");
    assert!(contents(&rows) == sound, "verify wrote to the rows");

    let store = rows_of(data, "deliveries");
    let mut bytes = fs::read(&store).unwrap();
    for byte in bytes.iter_mut().skip(64).step_by(97) {
        *byte ^= 0x55;
    }
    fs::write(&store, &bytes).unwrap();
    let damaged = contents(&rows);
    let output = hooklog(data, &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains(r#"view "deliveries""#), "{said}");
    assert!(contents(&rows) == damaged, "verify mended what it reports");

    // The webhook log is shown all the same, from the log, and mends nothing either.
    assert_eq!(json(data, &["logs", "--status", "200"]).len(), 10);
    assert!(contents(&rows) == damaged, "logs wrote to the rows");
}

#[tokio::test]
async fn logs_can_be_narrowed_by_everything_that_is_listed() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    let count = |args: &[&str]| json(data, &[&["logs", "list"], args].concat()).len();
    assert_eq!(count(&[]), 20);
    let [up, down] = left.subscriptions.map(|id| id.to_string());
    assert_eq!(count(&["--subscription", &up, "--status", "2xx"]), 10);
    assert_eq!(count(&["--subscription", &down, "--status", "2xx"]), 0);
    assert_eq!(count(&["--application", &left.application.to_string()]), 20);
    assert_eq!(count(&["--error-class", "timeout"]), 0);
    assert_eq!(count(&["--min-duration-ms", "60000"]), 0);
    assert_eq!(count(&["--min-duration-ms", "0"]), 20);
    let newest = json(data, &["logs", "--limit", "1"])[0]["startedAt"].clone();
    let newest = newest.as_str().unwrap();
    let until = count(&["--to", newest]);
    assert_eq!(count(&["--from", newest]) + until, 20);
    assert!(until < 20);
    // Whatever the gateway's clock was, everything is within a hundred years of now.
    assert_eq!(count(&["--last", "36500d"]), 20);
}

#[tokio::test]
async fn pages_follow_each_other_by_the_cursor_that_programs_are_given() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut args = vec!["logs", "--limit", "7"];
        args.extend(
            cursor
                .iter()
                .flat_map(|cursor| ["--cursor", cursor.as_str()]),
        );
        let mut page = json(data, &args);
        let next = page.pop_if(|last| last.get("nextCursor").is_some());
        found.extend(page);
        match next {
            Some(next) => cursor = Some(next["nextCursor"].as_str().unwrap().to_owned()),
            None => break,
        }
    }
    assert_eq!(found, json(data, &["logs", "--all"]));
}

#[tokio::test]
async fn a_question_that_cannot_be_asked_is_a_wrong_command_line() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    for args in [
        &["logs", "--limit", "0"][..],
        &["logs", "--limit", "5000"],
        &["logs", "--cursor", "AQAAAAAAAABNAAAAAA"],
        &["logs", "--last", "yesterday"],
        &["logs", "--last", "1h", "--to", "2026-03-04T05:06:07Z"],
        &["logs", "--error-class", "tired"],
    ] {
        let output = hooklog(data, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn an_event_type_that_does_not_exist_is_refused_with_the_nearest_that_does() {
    let data = tempfile::tempdir().unwrap();
    let output = hooklog(data.path(), &["events", "--type", "atempt.failed"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("'attempt.failed'"), "{said}");
}

#[tokio::test]
async fn a_delivery_that_was_refused_says_with_which_status_and_where_it_went() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    let dead = json(
        data,
        &["logs", "--outcome", "dead_lettered", "--limit", "1"],
    );
    let id = dead[0]["id"].as_str().unwrap();
    let output = hooklog(data, &["logs", "show", id]);
    let said = text(&output.stdout);
    assert!(said.contains("\nError    status 404\n"), "{said}");
    assert!(
        said.contains("kept in the log: refused (receiver's fault)"),
        "{said}"
    );
    let attempts = dead[0]["attempts"].as_u64().unwrap();
    let reasons = said.matches("status 404 ").count() as u64;
    assert_eq!(reasons, attempts, "{said}");
}

#[tokio::test]
async fn a_replay_gives_what_there_is_a_line_each_and_ends_where_it_is_told() {
    let left = left_by_a_gateway().await;
    let data = left.data.path();
    let rows = data.join(PROJECTIONS_DIRECTORY);
    let before = contents(&rows);
    let whole = json(data, &["replay"]);
    assert!(contents(&rows) == before, "replay wrote to the rows");
    let of = |lines: &[Value], kind: &str| {
        let values = lines.iter().filter_map(|line| line.get(kind));
        values.cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(&whole, "delivery"), json(data, &["logs", "--all"]));
    let counts = ["api", "application", "subscription", "deadLetter"];
    let counts = counts.map(|kind| of(&whole, kind).len());
    assert_eq!(counts, [1, 1, 2, 10]);

    let events = json(data, &["events"]);
    let middle = &events[events.len() / 2];
    let last = events.iter().rfind(|event| event["time"] == middle["time"]);
    let time = middle["time"].as_str().unwrap();
    let part = json(data, &["replay", "--until", time]);
    assert_eq!(part[0]["position"], last.unwrap()["position"]);
}
