//! `hooklog serve` as people run it: the real binary, stopped, killed and started again.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use hooklog::{
    clock::{Clock as _, SystemClock},
    runtime::PROJECTIONS_DIRECTORY,
    testing::callback::{Answer, CallbackServer},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::assert_sound;

/// How long a gateway may take to end: no longer than those wait who then kill it.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// One that has no call under way.
const ENDS_AT_REST_WITHIN: Duration = Duration::from_secs(3);

/// Sends a process a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// A gateway in a process of its own.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

impl Process {
    /// Starts it on this directory, allowed to call this machine.
    fn start(data: &Path) -> Self {
        let command = Self::command(data, "");
        Self::try_start(command).unwrap_or_else(|status| panic!("it ended: {status}"))
    }

    /// What starts it, with more configuration.
    pub(crate) fn command(data: &Path, more: &str) -> Command {
        let config = data.with_extension("toml");
        let text = "[egress]\nallow_http = true\nallow_private_cidrs = [\"127.0.0.0/8\"]\n";
        std::fs::write(&config, format!("{text}{more}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hooklog"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--output", "json"])
            .arg("--data")
            .arg(data)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped());
        command
    }

    /// Starts it, and waits until it serves; fails with how it ended where it did before that.
    pub(crate) fn try_start(mut command: Command) -> Result<Self, ExitStatus> {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = lines.next() else {
            return Err(child.wait().unwrap());
        };
        let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
        Ok(Self {
            child,
            url: said["url"].as_str().unwrap().to_owned(),
            token: said["token"].as_str().map(ToOwned::to_owned),
        })
    }

    /// Asks it to end, and waits for it.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a process of its own takes is told by the machine's clock alone"
    )]
    pub(crate) fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        signal(&self.child, Signal::TERM);
        (self.child.wait().unwrap(), began.elapsed())
    }

    /// A figure of its memory, in KiB, as the system tells it.
    pub(crate) fn memory_kib(&self, figure: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(figure));
        let kib = line.unwrap().trim_start_matches(':').trim();
        kib.trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, but where a test did.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    token: String,
}

impl Client {
    pub(crate) fn new(token: &str) -> Self {
        // The client wants one; it calls plain HTTP alone. It may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: reqwest::Client::new(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Posts this, or nothing when it is null. `None` when the gateway is gone or goes.
    pub(crate) async fn post(&self, url: String, body: &Value) -> Option<Value> {
        let mut request = self.client.post(url).bearer_auth(&self.token);
        if !body.is_null() {
            request = request.header("content-type", "application/json");
            request = request.body(body.to_string());
        }
        let response = request.send().await.ok()?;
        let accepted = response.status().is_success();
        let text = response.text().await.ok()?;
        if !accepted {
            assert!(text.contains("urn:hooklog:problem:"), "{text}");
            return None;
        }
        Some(serde_json::from_str(&text).unwrap())
    }

    /// What is to be read there.
    pub(crate) async fn get(&self, url: String) -> Value {
        let request = self.client.get(url).bearer_auth(&self.token);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }
}

pub(crate) async fn subscribed(
    process: &Process,
    client: &Client,
    callback: &CallbackServer,
) -> String {
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let api = client.post(format!("{}/v1/apis", process.url), &api).await;
    let api = api.unwrap()["id"].as_str().unwrap().to_owned();
    let to = json!({"configuration": {"callbackUrl": callback.url("/hook").to_string()}});
    let path = format!("{}/v1/apis/{api}/subscriptions", process.url);
    client.post(path, &to).await.unwrap();
    api
}

pub(crate) fn delivered(callback: &CallbackServer) -> BTreeSet<String> {
    let received = callback.received();
    let messages = received
        .iter()
        .filter_map(hooklog::testing::callback::ReceivedCall::message);
    messages.map(|message| message.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_signal_under_load_drains_and_a_restart_delivers_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok())
        .await
        .unwrap();
    let process = Process::start(&data);
    let client = Client::new(process.token.as_ref().unwrap());
    let api = subscribed(&process, &client, &callback).await;
    let path = format!("{}/v1/apis/{api}/messages", process.url);
    let load = tokio::spawn(async move {
        let mut accepted = BTreeSet::new();
        let batch = json!([{"text": "a"}, {"text": "b"}, {"text": "c"}]);
        while let Some(answer) = client.post(path.clone(), &batch).await {
            let messages = answer["messages"].as_array().unwrap().iter();
            accepted.extend(messages.map(|m| m["id"].as_str().unwrap().to_owned()));
        }
        accepted
    });
    callback.wait_for(50).await;
    // Some calls hang from here on: they are given up by the drain and made again later.
    callback.hold();
    callback.wait_for(callback.count() + 1).await;
    let (status, took) = tokio::task::spawn_blocking(|| process.terminate())
        .await
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(took < ENDS_WITHIN, "{took:?}");
    let accepted = load.await.unwrap();
    assert!(accepted.len() >= 50);
    callback.release();

    let process = Process::start(&data);
    assert_eq!(process.token, None, "the first token is made once");
    let mut seen = callback.count();
    while !delivered(&callback).is_superset(&accepted) {
        seen += 1;
        callback.wait_for(seen).await;
    }
    let (status, _) = tokio::task::spawn_blocking(|| process.terminate())
        .await
        .unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_keeps_what_it_answered() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok())
        .await
        .unwrap();
    let process = Process::start(&data);
    let client = Client::new(process.token.as_ref().unwrap());
    let api = subscribed(&process, &client, &callback).await;
    process.kill();
    let process = Process::start(&data);
    let path = format!("{}/v1/apis/{api}/messages", process.url);
    let message = client.post(path, &json!({"text": "a"})).await.unwrap();
    process.kill();
    let process = Process::start(&data);
    let id = message["id"].as_str().unwrap().to_owned();
    let mut seen = 0;
    while !delivered(&callback).contains(&id) {
        seen = callback.count().max(seen) + 1;
        callback.wait_for(seen).await;
    }
    process.kill();
}

#[test]
fn a_second_gateway_on_the_directory_is_refused_by_its_path() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let process = Process::start(&data);
    let second = Command::new(env!("CARGO_BIN_EXE_hooklog"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(78));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&*data.to_string_lossy()), "{said}");
    let address = process.url.strip_prefix("http://").unwrap();
    let taken = Command::new(env!("CARGO_BIN_EXE_hooklog"))
        .args(["serve", "--listen", address, "--data"])
        .arg(temp.path().join("other"))
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(78));
    let parent = temp.path().join("missing");
    let without_parent = Command::new(env!("CARGO_BIN_EXE_hooklog"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(parent.join("data"))
        .output()
        .unwrap();
    assert_eq!(without_parent.status.code(), Some(78));
    let said = String::from_utf8(without_parent.stderr).unwrap();
    assert!(said.contains(&*parent.to_string_lossy()), "{said}");
    // The first was not harmed by any of it, and ends in order.
    let client = Client::new(process.token.as_ref().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let created = runtime.block_on(client.post(format!("{}/v1/apis", process.url), &api));
    assert!(created.is_some());
    let (status, took) = process.terminate();
    assert!(status.success(), "{status}");
    assert!(took < ENDS_WITHIN, "{took:?}");
}

#[test]
fn a_key_from_elsewhere_is_used_and_none_other_is_taken_in_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let key = |name: &str| temp.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(key(name), text).unwrap();
    write("right", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    write("wrong", "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    write("short", "AAECAwQFBgcICQoLDA0ODw==\n");
    let with_key = |name: &str| {
        let mut command = Process::command(&data, "");
        command.env("HOOKLOG_SECRET_KEY_FILE", key(name));
        command.stderr(Stdio::piped());
        command
    };
    let (status, _) = Process::try_start(with_key("right")).unwrap().terminate();
    assert!(status.success(), "{status}");
    assert!(
        !data.join("secret.key").exists(),
        "no key beside the secrets"
    );
    for (name, says) in [
        ("wrong", "does not open the secrets"),
        ("short", "is not 32 bytes in base64"),
        ("missing", "No such file"),
    ] {
        let refused = with_key(name).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(78), "{said}");
        assert!(said.contains(says), "{said}");
        let named = if name == "wrong" {
            data.join("secrets")
        } else {
            key(name)
        };
        assert!(said.contains(&*named.to_string_lossy()), "{said}");
        assert!(!said.contains("ECAwQFBgcI"), "a key is shown: {said}");
    }
    let without = Process::command(&data, "").stderr(Stdio::piped()).output();
    let said = String::from_utf8(without.unwrap().stderr).unwrap();
    assert!(said.contains("secret.key is missing"), "{said}");
    assert!(!data.join("secret.key").exists(), "no new one is made");
    Process::try_start(with_key("right")).unwrap().kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_does_not_call_itself() {
    let temp = tempfile::tempdir().unwrap();
    let process = Process::start(&temp.path().join("data"));
    let client = Client::new(process.token.as_ref().unwrap());
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let api = client.post(format!("{}/v1/apis", process.url), &api).await;
    let api = api.unwrap()["id"].as_str().unwrap().to_owned();
    let port = process.url.rsplit_once(':').unwrap().1.to_owned();
    for host in ["127.0.0.1", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"] {
        let to = json!({"configuration": {"callbackUrl": format!("http://{host}:{port}/v1/apis")}});
        let path = format!("{}/v1/apis/{api}/subscriptions", process.url);
        assert!(client.post(path, &to).await.is_none(), "{host}");
    }
    let (status, _) = tokio::task::spawn_blocking(|| process.terminate())
        .await
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn each_loosening_of_what_may_be_called_is_warned_of_at_start_and_the_default_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let told = |mut command: Command| {
        command.stderr(Stdio::piped());
        let mut process = Process::try_start(command).unwrap();
        let told = process.child.stderr.take().unwrap();
        let (status, _) = process.terminate();
        assert!(status.success(), "{status}");
        std::io::read_to_string(told).unwrap()
    };
    let loose = told(Process::command(&temp.path().join("loose"), ""));
    for warning in [
        "egress.allow_http is on",
        "egress.allow_private_cidrs holds 127.0.0.0/8",
    ] {
        let mut warned = loose.lines().filter(|line| line.contains(" WARN "));
        assert!(warned.any(|line| line.contains(warning)), "{loose}");
    }
    let mut default = Command::new(env!("CARGO_BIN_EXE_hooklog"));
    default
        .args(["serve", "--listen", "127.0.0.1:0", "--output", "json"])
        .arg("--data")
        .arg(temp.path().join("default"))
        .stdout(Stdio::piped());
    let said = told(default);
    assert!(!said.contains("egress."), "{said}");
}

/// A gateway that has delivered a message, and has nothing to do.
async fn at_rest(data: &Path, callback: &CallbackServer) -> (Process, Client) {
    let process = Process::start(data);
    let client = Client::new(process.token.as_ref().unwrap());
    let api = subscribed(&process, &client, callback).await;
    let path = format!("{}/v1/apis/{api}/messages", process.url);
    let message = client.post(path, &json!({"content": "hello"})).await;
    let id = message.unwrap()["id"].as_str().unwrap().to_owned();
    callback.wait_for(1).await;
    assert_eq!(delivered(callback), BTreeSet::from([id]));
    (process, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_signal_ends_a_gateway_at_rest_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    let (process, client) = at_rest(&temp.path().join("data"), &callback).await;
    drop(client);
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    let (status, took) = ended.await.unwrap();
    assert!(status.success(), "{status}");
    assert!(took < ENDS_AT_REST_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_events_or_is_connected_without_a_word_does_not_hold_up_the_end() {
    let temp = tempfile::tempdir().unwrap();
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    let (process, client) = at_rest(&temp.path().join("data"), &callback).await;
    let follow = reqwest::Client::new().get(format!("{}/v1/events/stream?from=1", process.url));
    let mut events = follow.bearer_auth(client.token()).send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some(), "it is followed");
    let address = process.url.strip_prefix("http://").unwrap();
    let silent = std::net::TcpStream::connect(address).unwrap();
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    // It ends in order, as a stream does that is gone on with elsewhere.
    while events.chunk().await.unwrap().is_some() {}
    let (status, took) = ended.await.unwrap();
    // The client's own connection is kept alive until here.
    drop((silent, client));
    assert!(status.success(), "{status}");
    assert!(took < ENDS_AT_REST_WITHIN, "{took:?}");
}

#[test]
fn a_term_signal_at_any_time_of_a_start_ends_it_and_a_second_one_does_no_harm() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    Process::start(&data).kill();
    for wait_ms in (0..240).step_by(20) {
        let mut child = Process::command(&data, "").spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(wait_ms));
        for _ in 0..2 {
            signal(&child, Signal::TERM);
        }
        let ended = child.wait().unwrap();
        // Before it has asked to be told of signals, the system ends it.
        let by_system = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(15);
        assert!(ended.success() || by_system, "after {wait_ms} ms: {ended}");
    }
    let (status, _) = Process::start(&data).terminate();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_signals_in_a_drain_change_nothing_and_the_call_that_was_given_up_comes_again() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    let process = Process::start(&data);
    let client = Client::new(process.token.as_ref().unwrap());
    let api = subscribed(&process, &client, &callback).await;
    callback.hold();
    let path = format!("{}/v1/apis/{api}/messages", process.url);
    let message = client.post(path, &json!({"content": "hello"})).await;
    let id = message.unwrap()["id"].as_str().unwrap().to_owned();
    callback.wait_for(1).await;
    let clock = SystemClock::new();
    signal(&process.child, Signal::TERM);
    let asked = clock.elapsed();
    // It is not served any more: what is left to do is the drain.
    while reqwest::get(format!("{}/livez", process.url)).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    signal(&process.child, Signal::INT);
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    callback.until_left().await;
    let given_up = clock.elapsed().saturating_sub(asked);
    let (status, _) = ended.await.unwrap();
    let took = clock.elapsed().saturating_sub(asked);
    assert!(status.success(), "{status}");
    // A call has eight seconds from the first signal on, whatever requests took of them.
    let (least, most) = (Duration::from_secs(7), Duration::from_secs(9));
    assert!(least < given_up && given_up < most, "{given_up:?}");
    assert!(took < ENDS_WITHIN, "{took:?}");
    assert_eq!(callback.count(), 1);
    callback.release();

    let process = Process::start(&data);
    callback.wait_for(2).await;
    assert_eq!(delivered(&callback), BTreeSet::from([id]), "the same again");
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    assert!(ended.await.unwrap().0.success());
}

/// Whether a process has a thread whose name begins so.
fn has_thread(child: &Child, begins: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id()));
    // One that has just ended has no name.
    let names = threads.into_iter().flatten().flatten();
    let mut names = names.filter_map(|at| std::fs::read_to_string(at.path().join("comm")).ok());
    names.any(|name| name.starts_with(begins))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_signal_while_a_long_log_is_read_and_its_views_are_built_ends_the_start() {
    const BATCHES: usize = 20;
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let process = Process::start(&data);
    let client = Client::new(process.token.as_ref().unwrap());
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let api = client.post(format!("{}/v1/apis", process.url), &api).await;
    let api = api.unwrap()["id"].as_str().unwrap().to_owned();
    let batch: Value = (0..1_000).map(|_| json!({"content": "hello"})).collect();
    for _ in 0..BATCHES {
        let path = format!("{}/v1/apis/{api}/messages", process.url);
        client.post(path, &batch).await.unwrap();
    }
    process.kill();
    let (clock, mut early) = (SystemClock::new(), 0);
    let snapshots = data.join("snapshots");
    // They are opened before the log is read, and their thread begins behind it. A start that was
    // quicker than this test is looked at once more.
    for (round, is_read) in [false, true].into_iter().cycle().take(10).enumerate() {
        if round >= 2 && early > 0 {
            break;
        }
        for cache in [&snapshots, &data.join(PROJECTIONS_DIRECTORY)] {
            // It may not be there yet.
            let _ = std::fs::remove_dir_all(cache);
        }
        let child = Process::command(&data, "").spawn().unwrap();
        let is_begun = || snapshots.exists() && (!is_read || has_thread(&child, "hooklog-snap"));
        while !is_begun() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        signal(&child, Signal::TERM);
        let asked = clock.elapsed();
        let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
        let ended = ended.await.unwrap().unwrap();
        let took = clock.elapsed().saturating_sub(asked);
        assert!(ended.status.success(), "read: {is_read}, {}", ended.status);
        assert!(took < ENDS_WITHIN, "read: {is_read}, {took:?}");
        early += usize::from(ended.stdout.is_empty());
    }
    assert!(early > 0, "it served before it was told to end");
    let process = Process::start(&data);
    let ended = tokio::task::spawn_blocking(|| process.terminate());
    assert!(ended.await.unwrap().0.success());
    assert_sound(&data);
}
