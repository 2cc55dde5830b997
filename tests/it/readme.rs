//! The quick start of the README, as it stands there.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Process, free_port, shell};

/// The lines of the block of shell that follows this mark.
fn lines(mark: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mark = format!("<!-- quick start: {mark} -->\n```sh\n");
    let (_, block) = readme.split_once(&mark).unwrap_or_else(|| panic!("{mark}"));
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(ToOwned::to_owned).collect()
}

/// The terminals of the quick start: a gateway, a callback, and a shell.
struct QuickStart {
    gateway: Process,
    callback_port: u16,
    callback: Option<Child>,
    shell: Shell,
    directory: TempDir,
}

impl QuickStart {
    fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut block = lines("gateway");
        let serve = block.pop().unwrap();
        assert_eq!(serve, "hooklog serve --config hooklog.toml");
        let configured = shell(directory.path())
            .args(["-c", &block.join("\n")])
            .status();
        assert!(configured.unwrap().success());
        let gateway = Process::start(directory.path(), &serve);
        Self {
            shell: Shell::start(directory.path(), &gateway),
            gateway,
            callback_port: free_port(),
            callback: None,
            directory,
        }
    }

    /// Runs a callback in place of the one that runs.
    fn callback(&mut self, mark: &str) {
        let line = self.local(&lines(mark).concat());
        if let Some(mut before) = self.callback.take() {
            before.kill().unwrap();
            before.wait().unwrap();
        }
        let mut callback = shell(self.directory.path())
            .args(["-c", &format!("exec {line}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(callback.stdout.as_mut().unwrap());
        let mut base = String::new();
        said.read_line(&mut base).unwrap();
        assert!(base.starts_with("http://127.0.0.1:"), "{base}");
        self.callback = Some(callback);
    }

    /// A line, with the ports of this test.
    fn local(&self, line: &str) -> String {
        line.replace(
            "127.0.0.1:9000",
            &format!("127.0.0.1:{}", self.callback_port),
        )
        .replace(
            "127.0.0.1:8080",
            &format!("127.0.0.1:{}", self.gateway.port),
        )
    }

    /// Does a line, and gives what it said.
    fn line(&mut self, line: &str) -> String {
        let line = self.local(line);
        let (said, status) = self.shell.run(&line);
        assert_eq!(status, 0, "{line}: {said}");
        said
    }

    /// Does every line of a block, and waits after those that something follows from.
    fn block(&mut self, mark: &str) -> Vec<String> {
        let mut said = Vec::new();
        for line in lines(mark) {
            said.push(self.line(&line));
            self.settle(&line);
        }
        said
    }

    /// Waits for what follows from a line.
    fn settle(&self, line: &str) {
        let outcome = match line {
            _ if line.contains("/messages") || line.contains("publish") => "dead_lettered",
            _ if line.contains("redeliver") => "delivered",
            _ => return,
        };
        self.gateway.wait_for(&["logs", "--all"], |rows| {
            rows.len() == 1 && rows[0]["outcome"] == outcome
        });
    }

    /// Everything that can be asked for of what was done, events apart.
    fn answers(&self) -> Vec<Vec<Value>> {
        let api = self.gateway.json(&["api", "list"]);
        let mut answers = vec![
            self.gateway.json(&["application", "list"]),
            self.gateway.json(&["token", "list"]),
        ];
        if !api.is_empty() {
            answers.extend([
                self.gateway.json(&["subscription", "list"]),
                self.gateway.json(&["logs", "--all"]),
                self.gateway.json(&["dead-letters", "--all"]),
            ]);
        }
        answers.push(api);
        answers
    }

    fn events(&self) -> Vec<Value> {
        self.gateway.json(&["events"])
    }
}

impl Drop for QuickStart {
    fn drop(&mut self) {
        if let Some(callback) = &mut self.callback {
            // It may have ended already.
            let _ = callback.kill();
            let _ = callback.wait();
        }
    }
}

/// A shell that is told a line at a time, and keeps its variables between them.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn start(directory: &Path, gateway: &Process) -> Self {
        let mut child = shell(directory)
            .env(
                "HOOKLOG_SERVER",
                format!("http://127.0.0.1:{}", gateway.port),
            )
            .env("HOOKLOG_TOKEN", &gateway.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// What a line says, and its exit status.
    fn run(&mut self, line: &str) -> (String, i32) {
        const END: &str = "--end-of-line--";
        // The command must not read the lines that are meant for the shell.
        writeln!(self.stdin, "{{ {line}\n}} </dev/null; echo; echo {END} $?").unwrap();
        let mut said = String::new();
        loop {
            let mut read = String::new();
            assert_ne!(self.stdout.read_line(&mut read).unwrap(), 0, "{said}");
            if let Some(status) = read.strip_prefix(END) {
                return (said.trim().to_owned(), status.trim().parse().unwrap());
            }
            said.push_str(&read);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_quick_start_ends_with_a_redelivered_dead_letter() {
    let mut quick = QuickStart::begin();
    quick.callback("broken callback");
    let said = quick.block("command line");
    let [.., log, dead] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(
        log.contains("400") && log.contains("dead_lettered"),
        "{log}"
    );
    assert!(log.contains("shop"), "{log}");
    assert!(dead.contains("refused"), "{dead}");
    quick.callback("mended callback");
    let said = quick.block("command line, redelivery");
    let [.., shown, dead] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(shown.contains(": delivered"), "{shown}");
    assert!(shown.contains("status 400"), "{shown}");
    assert!(dead.contains("No dead letter"), "{dead}");
}

#[test]
fn the_quick_start_over_http_ends_with_a_redelivered_dead_letter() {
    let mut quick = QuickStart::begin();
    quick.callback("broken callback");
    let said = quick.block("curl");
    let log: Value = serde_json::from_str(&said[said.len() - 2]).unwrap();
    let row = &log["deliveries"][0];
    assert_eq!(
        (&row["status"], &row["outcome"]),
        (&400.into(), &"dead_lettered".into())
    );
    quick.callback("mended callback");
    let said = quick.block("curl, redelivery");
    let detail: Value = serde_json::from_str(said.last().unwrap()).unwrap();
    assert_eq!(detail["delivery"]["outcome"], "delivered", "{detail}");
    assert_eq!(detail["attempts"].as_array().unwrap().len(), 2, "{detail}");
    assert_eq!(quick.gateway.json(&["dead-letters"]), [] as [Value; 0]);
}

/// G2, G8 and G9 over the whole command: what was answered holds, whenever the gateway is killed.
#[test]
fn killing_the_gateway_between_any_two_lines_changes_nothing_that_was_answered() {
    let mut quick = QuickStart::begin();
    quick.callback("broken callback");
    for block in ["command line", "command line, redelivery"] {
        for line in lines(block) {
            let said = quick.line(&line);
            quick.gateway.kill_and_restart();
            quick.settle(&line);
            let events = quick.events();
            if line.contains("publish") {
                let published = events
                    .iter()
                    .find(|event| event["type"] == "message.published");
                let published = published.unwrap();
                let position = format!("Position {}, durable", published["position"]);
                assert!(said.contains(&position), "{said}, {published}");
                let id = published["data"]["id"].as_str();
                assert!(
                    id.is_some_and(|id| said.contains(id)),
                    "{said}, {published}"
                );
            }
            let answers = quick.answers();
            quick.gateway.kill_and_restart();
            assert_eq!(quick.answers(), answers, "after {line}");
            assert_eq!(quick.events(), events, "after {line}");
        }
        quick.callback("mended callback");
    }
    let row = &quick.gateway.json(&["logs"])[0];
    assert_eq!(
        (&row["outcome"], &row["status"]),
        (&"delivered".into(), &204.into())
    );
    assert!(!row["dlq"].is_null(), "{row}");
}
