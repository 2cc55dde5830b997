//! A log whose end is damaged, from the refusal to the next delivery.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::support::{
    files::{contents, copy_directory},
    process::{Process, free_port, until},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The file of the segment that is written to.
fn newest_segment(data: &Path) -> PathBuf {
    let segments = fs::read_dir(data.join("log")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    segments.max().unwrap().join("db")
}

/// Cuts the file off in the middle.
fn damage_the_end(data: &Path) {
    let path = newest_segment(data);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(path, bytes).unwrap();
}

/// What it answers to a GET, once it does.
fn ask(port: u16, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_damaged_end_is_shown_then_given_up_and_messages_flow_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut gateway = Process::start_local(directory.path());
    gateway.json(&["api", "create", "orders"]);
    let url = format!("http://127.0.0.1:{}/hook", free_port());
    gateway.json(&["subscribe", "orders", &url, "--no-retry"]);
    for number in 0..6 {
        gateway.json(&["publish", "orders", &number.to_string()]);
    }
    gateway.wait_for(&["dead-letters"], |rows| rows.len() == 6);
    let refused = gateway.run(&["repair"]);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    gateway.terminate();

    let sound = gateway.json(&["repair"]);
    assert!(sound[0]["repair"].is_null(), "{sound:?}");
    damage_the_end(&data);

    // It serves what can be read, and says what to do.
    gateway.kill_and_restart();
    let ready = until(|| ask(gateway.port, "/readyz"));
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("hooklog repair"), "{ready}");
    let refused = gateway.run(&["publish", "orders", "refused"]);
    assert!(!refused.status.success(), "{refused:?}");
    gateway.terminate();

    let before = contents(&data);
    let shown = gateway.run(&["repair"]);
    assert!(shown.status.success(), "{shown:?}");
    let shown = text(&shown.stdout);
    let (plan_shown, _) = shown.split_once("Nothing is changed.").unwrap();
    assert!(
        plan_shown.contains("A repair gives up, for good:"),
        "{shown}"
    );
    assert!(contents(&data) == before, "showing changed something");

    // What cannot be told is not given up, and that is told: to a full disk, to nobody any more.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (gone, deaf) = std::io::pipe().unwrap();
    drop(gone);
    for (nobody, form) in [
        (Stdio::from(full), "table"),
        (deaf.try_clone().unwrap().into(), "table"),
        (deaf.into(), "json"),
    ] {
        let mut repair = gateway.command(&["repair", "--apply", "--output", form]);
        let refused = repair.stdout(nobody).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = text(&refused.stderr);
        assert!(said.contains("could not be shown, so nothing is"), "{said}");
        assert!(
            contents(&data) == before,
            "it was given up before it was told"
        );
    }

    let plan = &gateway.json(&["repair"])[0]["repair"];
    copy_directory(&data, &directory.path().join("other"));
    let lines = gateway.json(&["repair", "--apply", "--data", "other"]);
    let applied: Vec<_> = lines.iter().map(|line| &line["applied"]).collect();
    assert_eq!(applied, [false, true], "told before it is done, and then");
    assert!(
        lines.iter().all(|line| line["repair"] == *plan),
        "{lines:?}"
    );
    let done = gateway.run(&["repair", "--apply"]);
    assert!(done.status.success(), "{done:?}");
    let done = text(&done.stdout);
    let (told_before, done) = done.split_once("Done: ").unwrap();
    assert_eq!(told_before, plan_shown);
    let resume = format!("the log goes on at position {}.\n", plan["resume"]);
    assert_eq!(done, resume);
    let again = gateway.json(&["repair", "--apply"]);
    assert_eq!(again[0]["applied"], false);

    gateway.kill_and_restart();
    let published = gateway.json(&["publish", "orders", "after"]);
    gateway.wait_for(&["dead-letters"], |rows| {
        rows.iter()
            .any(|row| row["message"]["id"] == published[0]["id"])
    });
    gateway.terminate();
    let verified = &gateway.json(&["verify"])[0];
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
    assert_eq!(verified["givenUp"][0]["from"], plan["from"], "{verified}");
    assert_eq!(verified["views"], 7, "{verified}");
    let events = gateway.json(&["events", "--data", "data"]);
    gateway.json(&["events", "export", "all", "--data", "data"]);
    gateway.json(&["events", "import", "all", "--data", "copy"]);
    assert_eq!(gateway.json(&["events", "--data", "copy"]), events);
    let told = events.iter().find(|event| event["type"] == "log.repaired");
    assert_eq!(told.unwrap()["position"], plan["resume"]);
}
