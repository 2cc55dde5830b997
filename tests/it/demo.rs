//! The demo as people run it: the binary, its data directory, and `kill -9`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use hooklog::{
    clock::{Clock, SystemClock},
    model::{Draws, Moment, Timestamp},
};
use serde_json::Value;

fn hooklog() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hooklog"))
}

fn demo(data: &Path, messages: u64) -> Command {
    let mut command = hooklog();
    command.args(["demo", "--output", "json", "--interval-ms", "1"]);
    command
        .arg("--messages")
        .arg(messages.to_string())
        .arg("--data")
        .arg(data);
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {error}",
        output.status
    );
    output
}

fn lines(command: &mut Command) -> Vec<Value> {
    let output = run(command);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn read(command: &str, data: &Path, args: &[&str]) -> Vec<Value> {
    let mut read = hooklog();
    lines(
        read.arg(command)
            .args(args)
            .args(["--output", "json", "--data"])
            .arg(data),
    )
}

/// How many deliveries of each callback stand how: `("healthy", "delivered")`.
fn fates(data: &Path) -> BTreeMap<(String, String), u64> {
    let mut fates = BTreeMap::new();
    for row in read("logs", data, &["--all", "--limit", "1000"]) {
        let url = row["callbackUrl"].as_str().unwrap();
        let callback = url.rsplit('/').next().unwrap().to_owned();
        let outcome = row["outcome"].as_str().unwrap().to_owned();
        *fates.entry((callback, outcome)).or_default() += 1;
    }
    fates
}

fn expected(messages: u64) -> BTreeMap<(String, String), u64> {
    [
        ("healthy", "delivered"),
        ("flaky", "delivered"),
        ("broken", "dead_lettered"),
    ]
    .map(|(callback, outcome)| ((callback.to_owned(), outcome.to_owned()), messages))
    .into()
}

#[test]
fn the_demo_ends_by_itself_and_its_counts_agree_with_the_directory() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let figures = &lines(&mut demo(&data, 60))[0];
    assert_eq!(figures["published"], 60);
    let callbacks = figures["callbacks"].as_array().unwrap();
    let count = |callback: usize, what: &str| callbacks[callback][what].as_u64().unwrap();
    assert_eq!((count(0, "delivered"), count(0, "retried")), (60, 0));
    assert_eq!(count(1, "delivered"), 60);
    assert!(count(1, "retried") > 0);
    assert_eq!((count(2, "delivered"), count(2, "deadLettered")), (0, 60));

    let events = |kind: &str| read("events", &data, &["--type", kind]).len() as u64;
    assert_eq!(events("message.published"), 60);
    assert_eq!(
        events("attempt.succeeded"),
        count(0, "delivered") + count(1, "delivered")
    );
    assert_eq!(events("retry.scheduled"), count(1, "retried"));
    assert_eq!(events("delivery.dead_lettered"), count(2, "deadLettered"));
    assert_eq!(fates(&data), expected(60));

    let report = &read("verify", &data, &[])[0];
    assert_eq!(report["problems"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["views"], 7);

    let replay = |format: &str| {
        let mut replay = hooklog();
        replay
            .args(["replay", "--until", "150", "--output", format, "--data"])
            .arg(&data);
        run(&mut replay).stdout
    };
    for format in ["json", "table"] {
        assert_eq!(replay(format), replay(format));
    }
    let delivery = &read("logs", &data, &["--limit", "1"])[0]["id"];
    let detail = &read("logs", &data, &["show", delivery.as_str().unwrap()])[0];
    assert_eq!(
        detail["request"]["logged"]["body"]["bytes"],
        r#"{"hello":"from the demo"}"#
    );
}

/// The callbacks in a process of their own, and everything they got.
struct Receiving {
    process: Child,
    base: String,
    calls: Receiver<String>,
}

impl Receiving {
    fn start() -> Self {
        let mut process = hooklog()
            .arg("receiver")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = lines.next().unwrap().unwrap();
        let (send, calls) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            base,
            calls,
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn g8_g9_killed_twenty_times_the_demo_leaves_no_message_without_its_fate() {
    let seed = SystemClock::new().entropy();
    println!("seed {seed}");
    let mut draws = Moment::new(Timestamp::EPOCH, seed).draws();
    for _ in 0..4 {
        kill_and_account(&mut draws);
    }
}

/// Kills the demo five times at chance moments, lets it end, and compares what the gateway says
/// with what the callbacks got.
fn kill_and_account(draws: &mut Draws) {
    const MESSAGES: u64 = 150;
    const KILLS: usize = 5;
    /// In flight, and outcomes not yet durable, for each of three subscriptions.
    const TWICE_PER_KILL_MAX: usize = 3 * (5 + 256);
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let receiving = Receiving::start();
    let command = |messages| {
        let mut command = demo(&data, messages);
        command.args(["--callbacks", &receiving.base]);
        command
    };
    let mut got: Vec<String> = Vec::new();
    for _ in 0..KILLS {
        let mut killed = command(MESSAGES)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let calls = 1 + draws.below(80);
        for _ in 0..calls {
            // It may end first, having nothing left to send.
            if killed.try_wait().unwrap().is_some() {
                break;
            }
            if let Ok(line) = receiving
                .calls
                .recv_timeout(std::time::Duration::from_secs(2))
            {
                got.push(line);
            }
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    run(&mut command(MESSAGES));
    got.extend(receiving.calls.try_iter());

    assert_eq!(fates(&data), expected(MESSAGES));
    let published: BTreeSet<String> = read("events", &data, &["--type", "message.published"])
        .iter()
        .map(|event| event["data"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(published.len() as u64, MESSAGES);
    for path in ["/healthy", "/flaky", "/broken"] {
        let to_it = got
            .iter()
            .filter_map(|line| line.strip_prefix(path)?.split(' ').nth(1));
        let messages: BTreeSet<String> = to_it.map(str::to_owned).collect();
        assert_eq!(messages, published, "{path}");
    }
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for line in &got {
        *times.entry(line).or_default() += 1;
    }
    let twice: usize = times.values().map(|times| times - 1).sum();
    assert!(
        twice <= KILLS * TWICE_PER_KILL_MAX,
        "{twice} calls were made twice"
    );
}

#[test]
fn the_demo_calls_loopback_addresses_alone_and_says_what_it_loosens() {
    let temp = tempfile::tempdir().unwrap();
    let play = |name: &str, base: &str| {
        let mut command = demo(&temp.path().join(name), 1);
        let output = command.args(["--callbacks", base]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), told)
    };
    for (name, base) in [
        ("private", "http://10.0.0.1:9"),
        ("metadata", "http://169.254.169.254"),
    ] {
        let (is_played, told) = play(name, base);
        assert!(!is_played, "{base}: {told}");
        assert!(
            told.contains("/configuration/callbackUrl: blocked destination"),
            "{base}: {told}"
        );
    }
    let receiving = Receiving::start();
    assert!(receiving.base.starts_with("http://127.0.0.1:"));
    let (is_played, told) = play("loopback", &receiving.base);
    assert!(is_played, "{told}");
    for warning in [
        "egress.allow_http is on",
        "egress.allow_private_cidrs holds 127.0.0.0/8",
        "egress.allow_private_cidrs holds ::1/128",
    ] {
        assert!(told.contains(warning), "{warning}: {told}");
    }
    assert_eq!(told.matches("egress.allow_").count(), 3, "{told}");
}

#[test]
fn a_foreign_directory_and_a_wrong_command_line_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("missing");
    let output = hooklog()
        .args(["events", "--data"])
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"));
    std::fs::write(temp.path().join("note.txt"), "mine").unwrap();
    let output = hooklog()
        .args(["logs", "--data"])
        .arg(temp.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let output = hooklog()
        .args(["replay", "--until", "yesterday"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
