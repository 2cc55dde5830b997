//! Jobs, tests of callbacks and explanations, from the command line.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Process, free_port};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A gateway with a subscription whose callback nobody listens at, and its id.
fn subscribed() -> (TempDir, Process, String) {
    let directory = tempfile::tempdir().unwrap();
    let gateway = Process::start_local(directory.path());
    gateway.json(&["api", "create", "orders"]);
    let url = format!("http://127.0.0.1:{}/hook", free_port());
    let made = gateway.json(&["subscribe", "orders", &url, "--no-retry"]);
    let id = made[0]["id"].as_str().unwrap().to_owned();
    (directory, gateway, id)
}

/// Publishes, fewer than open the circuit, and waits until all are dead letters.
fn dead_letters(gateway: &Process, count: usize) -> Vec<Value> {
    for number in 0..count {
        gateway.json(&["publish", "orders", &number.to_string()]);
    }
    gateway.wait_for(&["dead-letters"], |rows| rows.len() == count)
}

#[test]
fn dead_letters_that_a_filter_holds_for_are_counted_and_then_discarded() {
    let (_directory, gateway, subscription) = subscribed();
    dead_letters(&gateway, 4);
    let which = [
        "--subscription",
        &subscription,
        "--reason",
        "attempts_spent",
    ];
    let discard = [&["dead-letters", "discard"][..], &which].concat();
    let counted = gateway.json(&[&discard[..], &["--dry-run"]].concat());
    assert_eq!(counted[0]["count"], 4);
    assert_eq!(gateway.json(&["dead-letters"]).len(), 4, "nothing was done");
    assert_eq!(gateway.json(&["jobs"]), [] as [Value; 0]);

    let job = gateway.json(&[&discard[..], &["--rate", "1000"]].concat());
    assert_eq!(job[0]["status"], "finished", "{job:?}");
    assert_eq!(job[0]["counts"]["done"], 4);
    assert_eq!(gateway.json(&["dead-letters"]), [] as [Value; 0]);

    let id = job[0]["id"].as_str().unwrap();
    assert_eq!(gateway.json(&["jobs", "show", id]), job);
    assert_eq!(gateway.json(&["jobs", "--api", "orders"])[0]["id"], id);
    let running = gateway.json(&["jobs", "list", "--status", "running"]);
    assert_eq!(running, [] as [Value; 0]);
    let table = text(&gateway.run(&["jobs"]).stdout);
    assert!(table.contains("finished") && table.contains(id), "{table}");
}

#[test]
fn named_dead_letters_are_redelivered_and_all_of_them_only_when_that_is_said() {
    let (_directory, gateway, _) = subscribed();
    let dead = dead_letters(&gateway, 3);
    let ids: Vec<_> = dead
        .iter()
        .map(|row| row["delivery"].as_str().unwrap())
        .collect();
    let said = gateway.run(&["dead-letters", "redeliver"]);
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("--all"), "{said:?}");
    let job = gateway.json(&["dead-letters", "redeliver", ids[0], ids[1]]);
    assert_eq!(job[0]["counts"]["done"], 2, "{job:?}");
    gateway.wait_for(&["dead-letters"], |rows| {
        rows.len() == 3 && rows.iter().filter(|row| row["attempts"] == 2).count() == 2
    });
    let job = gateway.json(&["dead-letters", "discard", "--all", "--detach"]);
    let id = job[0]["id"].as_str().unwrap();
    let ended = gateway.wait_for(&["jobs", "show", id], |jobs| {
        jobs[0]["status"] == "finished"
    });
    assert_eq!(ended[0]["counts"]["done"], 3);
}

#[test]
fn a_job_is_paused_resumed_and_cancelled() {
    let (_directory, gateway, subscription) = subscribed();
    dead_letters(&gateway, 3);
    // One a second: it is under way when it is paused.
    let redeliver = ["subscription", "redeliver", &subscription, "--since", "1h"];
    let counted = gateway.json(&[&redeliver[..], &["--dry-run"]].concat());
    assert_eq!(counted[0]["count"], 3);
    let job = gateway.json(&[&redeliver[..], &["--rate", "1", "--detach"]].concat());
    let id = job[0]["id"].as_str().unwrap();
    let status = |step: &str| gateway.json(&["jobs", step, id])[0]["status"].clone();
    assert_eq!(status("pause"), "paused");
    assert_eq!(status("resume"), "running");
    assert_eq!(status("cancel"), "cancelled");
    let said = gateway.run(&["jobs", "resume", id]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
}

#[test]
fn everything_since_a_time_is_sent_again() {
    let (_directory, gateway, subscription) = subscribed();
    let dead = dead_letters(&gateway, 2);
    let since = dead[1]["message"]["acceptedAt"].as_str().unwrap();
    let job = gateway.json(&["subscription", "redeliver", &subscription, "--since", since]);
    assert_eq!(job[0]["status"], "finished", "{job:?}");
    assert_eq!(job[0]["total"], 2, "{job:?}");
    gateway.wait_for(&["logs"], |rows| {
        rows.iter().all(|row| row["attempts"] == 2)
    });
    for wrong in ["soon", "0h"] {
        let said = gateway.run(&["subscription", "redeliver", &subscription, "--since", wrong]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
    }
}

#[test]
fn a_message_is_explained_by_its_delivery_and_by_itself() {
    let (_directory, gateway, subscription) = subscribed();
    let dead = dead_letters(&gateway, 1);
    let (delivery, message) = (&dead[0]["delivery"], &dead[0]["message"]["id"]);
    let message = message.as_str().unwrap();
    let explained = gateway.json(&["explain", delivery.as_str().unwrap()]);
    assert_eq!(explained[0]["standing"], "dead_lettered");
    assert_eq!(
        gateway.json(&["explain", message, &subscription]),
        explained
    );
    let said = text(&gateway.run(&["explain", message, &subscription]).stdout);
    assert!(said.contains("is dead-lettered for subscription"), "{said}");
    assert!(said.contains("attempt.failed"), "{said}");
    let said = gateway.run(&["explain", message, &subscription, "--data", "data"]);
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("--server"), "{said:?}");
}

#[test]
fn a_test_message_tells_whether_the_callback_takes_it() {
    let (_directory, gateway, subscription) = subscribed();
    let test = ["subscription", "test", &subscription, "{\"a\": 1}"];
    let output = gateway.run(&[&test[..], &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let tested: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tested["delivered"], false);
    assert_eq!(tested["error"]["class"], "connect");
    let said = text(&gateway.run(&test).stdout);
    assert!(said.contains("status 0"), "{said}");
    assert_eq!(
        gateway.json(&["logs"]),
        [] as [Value; 0],
        "it is no delivery"
    );
}

#[test]
fn lines_without_a_message_are_an_error() {
    let (directory, gateway, _) = subscribed();
    std::fs::write(directory.path().join("lines"), "\n  \n").unwrap();
    let said = gateway.run(&["publish", "orders", "--ndjson", "lines"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(
        text(&said.stderr).contains("no message in lines"),
        "{said:?}"
    );
}
