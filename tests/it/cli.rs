//! The command line over the directory of a gateway that has stopped.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use hooklog::{
    model::{Api, Message, Subscription},
    runtime::PROJECTIONS_DIRECTORY,
    testing::{FakeAnswer, TestRuntime},
};
use serde_json::Value;
use tempfile::TempDir;

/// Ten messages to two callbacks, one of which is down.
async fn left_by_a_gateway() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 5).await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap();
    for path in ["up", "down"] {
        let url = format!("https://example.com/{path}");
        let subscription = Subscription::to(&url).unwrap();
        handle.subscribe(api.id, subscription).await.unwrap();
    }
    test.transport().answer(|call| {
        let url = call.policy.callback_url.as_ref().unwrap();
        let down = url.as_str().ends_with("down");
        FakeAnswer::Status(if down { 503 } else { 200 })
    });
    for number in 0..10 {
        let message = Message::text(number.to_string());
        handle.publish(api.id, message).await.unwrap();
    }
    test.run_until_idle(Duration::from_hours(48)).await;
    test.shutdown().await;
    data
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

/// Every file below a directory, with its bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
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
    let data = left.path();
    let rows = data.join(PROJECTIONS_DIRECTORY);
    let sound = files(&rows);
    let report = &json(data, &["verify"])[0];
    assert_eq!(report["views"], 4, "{report}");
    assert!(files(&rows) == sound, "verify wrote to the rows");

    let store = rows_of(data, "deliveries");
    let mut bytes = fs::read(&store).unwrap();
    for byte in bytes.iter_mut().skip(64).step_by(97) {
        *byte ^= 0x55;
    }
    fs::write(&store, &bytes).unwrap();
    let damaged = files(&rows);
    let output = hooklog(data, &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains(r#"view "deliveries""#), "{said}");
    assert!(files(&rows) == damaged, "verify mended what it reports");

    // The webhook log is shown all the same, from the log, and mends nothing either.
    assert_eq!(json(data, &["logs", "--status", "200"]).len(), 10);
    assert!(files(&rows) == damaged, "logs wrote to the rows");
}
