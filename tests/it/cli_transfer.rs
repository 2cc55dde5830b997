//! Events on their way from one data directory to another.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::process::{Process, free_port, shell};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A gateway that has delivered, given up, paused and more.
fn lived(directory: &Path) -> Process {
    let gateway = Process::start_local(directory);
    gateway.json(&["api", "create", "orders"]);
    let url = format!("http://127.0.0.1:{}/hook", free_port());
    let made = gateway.json(&["subscribe", "orders", &url, "--no-retry"]);
    for content in ["{\"a\":  1.50}", "größer \u{202e}", "\u{1}"] {
        gateway.json(&["publish", "orders", content]);
    }
    fs::write(directory.join("bytes"), b"\xff\x00").unwrap();
    gateway.json(&["publish", "orders", "--file", "bytes"]);
    gateway.wait_for(&["dead-letters"], |rows| rows.len() == 4);
    gateway.json(&["subscription", "pause", made[0]["id"].as_str().unwrap()]);
    gateway.json(&["dead-letters", "discard", "--all"]);
    gateway
}

#[test]
fn an_export_makes_a_directory_with_the_same_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = lived(directory.path());
    let told = gateway.json(&["events", "export", "served"]);
    let events = gateway.json(&["events"]);
    assert_eq!(told[0]["events"], events.len());
    gateway.stop();
    gateway.json(&["events", "export", "stopped", "--data", "data"]);
    let exported = fs::read_to_string(directory.path().join("stopped")).unwrap();
    let served = fs::read_to_string(directory.path().join("served")).unwrap();
    assert_eq!(served, exported);
    let shown = gateway.run(&["events", "export", "-", "--data", "data"]);
    assert_eq!(text(&shown.stdout).lines().count(), events.len());

    gateway.json(&["events", "import", "stopped", "--data", "copy"]);
    assert_eq!(gateway.json(&["events", "--data", "copy"]), events);
    let verified = gateway.json(&["verify", "--data", "copy"]);
    assert_eq!(verified[0]["problems"], serde_json::json!([]));
    assert_eq!(verified[0]["events"], events.len());
    for question in [&["logs", "--all"][..], &["token", "list"]] {
        let asked = |data| gateway.json(&[question, &["--data", data]].concat());
        assert_eq!(asked("copy"), asked("data"), "{question:?}");
    }
}

#[test]
fn a_directory_that_holds_something_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = lived(directory.path());
    gateway.stop();
    gateway.json(&["events", "export", "all", "--data", "data"]);
    let said = gateway.run(&["events", "import", "all", "--data", "data"]);
    assert_eq!(said.status.code(), Some(78), "{said:?}");
    assert!(text(&said.stderr).contains("data is not empty"), "{said:?}");
}

#[test]
fn the_first_bad_line_is_named_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = lived(directory.path());
    gateway.stop();
    gateway.json(&["events", "export", "all", "--data", "data"]);
    let exported = fs::read_to_string(directory.path().join("all")).unwrap();
    let lines: Vec<&str> = exported.lines().collect();
    let without_third = [&lines[..2], &lines[3..]].concat().join("\n");
    let cut = [&lines[..4], &["{\"position\":"]].concat().join("\n");
    for (bad, expected) in [
        (
            without_third,
            "line 3: position 4 stands where 3 must follow",
        ),
        (cut, "line 5: "),
        (String::new(), "there is no event in bad"),
    ] {
        fs::write(directory.path().join("bad"), bad).unwrap();
        let said = gateway.run(&["events", "import", "bad", "--data", "copy"]);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        assert!(text(&said.stderr).contains(expected), "{said:?}");
        assert!(!directory.path().join("copy").exists());
    }
}

/// What retention has cut begins later, and goes on from there.
#[test]
fn an_export_without_its_beginning_keeps_its_positions() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = lived(directory.path());
    gateway.stop();
    gateway.json(&["events", "export", "all", "--data", "data"]);
    let exported = fs::read_to_string(directory.path().join("all")).unwrap();
    let rest: Vec<&str> = exported.lines().skip(6).collect();
    fs::write(directory.path().join("rest"), rest.join("\n")).unwrap();
    gateway.json(&["events", "import", "rest", "--data", "copy"]);
    let events = gateway.json(&["events", "--data", "copy"]);
    assert_eq!(events.len(), rest.len());
    assert_eq!(events[0]["position"], 7);
    let verified = gateway.json(&["verify", "--data", "copy"]);
    assert_eq!(verified[0]["problems"], serde_json::json!([]));
}

/// Serves in a shell that lets everybody read what it makes.
const OPEN: &str = "sh -c 'umask 022 && exec hooklog serve' 2>told";
const WARNED: &str = "the data directory is open to other users";

#[test]
fn what_holds_messages_is_made_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    Process::start(directory.path(), OPEN).terminate();
    let path = |name: &str| directory.path().join(name);
    // A killed export has left this.
    fs::write(path("all.partial"), "half").unwrap();
    fs::set_permissions(path("all.partial"), fs::Permissions::from_mode(0o644)).unwrap();
    let carry = "umask 022 && hooklog events export all --data data \
                 && hooklog events import all --data copy";
    let carried = shell(directory.path()).args(["-c", carry]).output();
    assert!(carried.as_ref().unwrap().status.success(), "{carried:?}");
    for (name, expected) in [("data", 0o700), ("all", 0o600), ("copy", 0o700)] {
        let mode = fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name}: {mode:o}");
    }
    let told = fs::read_to_string(path("told")).unwrap();
    assert!(!told.contains(WARNED), "{told}");
}

#[test]
fn a_data_directory_that_others_can_look_into_is_warned_of_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    Process::start(directory.path(), OPEN).terminate();
    let told = fs::read_to_string(directory.path().join("told")).unwrap();
    assert!(
        told.contains(WARNED) && told.contains("chmod 700"),
        "{told}"
    );
}

#[test]
fn what_a_running_gateway_cannot_be_asked_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = Process::start_local(directory.path());
    for (args, status) in [
        (&["verify", "--server", "http://127.0.0.1:1"][..], 2),
        (&["replay", "--server", "http://127.0.0.1:1"], 2),
        (&["verify", "--data", "data"], 78),
    ] {
        let said = gateway.run(args);
        assert_eq!(said.status.code(), Some(status), "{said:?}");
        assert!(text(&said.stderr).contains("events export"), "{said:?}");
    }
}
