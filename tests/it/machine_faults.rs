//! The real binary on a machine that fails it: syncs that fail, no room, which is found again, and no
//! more files.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};
use serde_json::json;

use crate::{
    serve::{Client, Process, delivered, subscribed},
    support::disk,
};

/// The watermark is the disk's own here: nothing is refused before it refuses.
const CONFIG: &str = "[log]\nfree_bytes_min = 0\n";

/// A gateway, what it calls, and what it said that it took.
struct Scene {
    directory: tempfile::TempDir,
    callback: CallbackServer,
    gateway: Process,
    client: Client,
    api: String,
    accepted: BTreeSet<String>,
}

impl Scene {
    async fn set_up() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("faults")).unwrap();
        let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
        let callback = callback.await.unwrap();
        let gateway = start(directory.path());
        let client = Client::new(gateway.token.as_ref().unwrap());
        let api = subscribed(&gateway, &client, &callback).await;
        Self {
            directory,
            callback,
            gateway,
            client,
            api,
            accepted: BTreeSet::new(),
        }
    }

    fn fault(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("faults").join(name)
    }

    /// Whether a message was taken.
    async fn publish(&mut self) -> bool {
        let path = format!("{}/v1/apis/{}/messages", self.gateway.url, self.api);
        let answer = self.client.post(path, &json!({"content": "hello"})).await;
        let id = answer.map(|answer| answer["id"].as_str().unwrap().to_owned());
        let is_taken = id.is_some();
        self.accepted.extend(id);
        is_taken
    }

    /// What `/readyz` says, with its status.
    async fn ready(&self) -> (u16, String) {
        let answer = reqwest::get(format!("{}/readyz", self.gateway.url)).await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until `/readyz` answers so.
    async fn becomes(&self, status: u16) -> String {
        loop {
            let (found, said) = self.ready().await;
            if found == status {
                return said;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Everything that was taken arrives, and the data directory holds together.
    async fn account(self) {
        let wanted = self.accepted.clone();
        let mut seen = 0;
        while !wanted.is_subset(&delivered(&self.callback)) {
            seen = self.callback.wait_for(seen + 1).await.len();
        }
        let gateway = self.gateway;
        let ended = tokio::task::spawn_blocking(|| gateway.terminate());
        assert!(ended.await.unwrap().0.success());
        let verified = std::process::Command::new(env!("CARGO_BIN_EXE_hooklog"))
            .args(["verify", "--data"])
            .arg(self.directory.path().join("data"))
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

fn start(directory: &Path) -> Process {
    let data = directory.join("data");
    let mut command = Process::command(&data, CONFIG);
    disk::put_between(&mut command, &data, &directory.join("faults"));
    Process::try_start(command).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_after_a_failed_sync_nothing_is_taken_before_a_restart_and_nothing_taken_is_lost() {
    let mut scene = Scene::set_up().await;
    for _ in 0..20 {
        assert!(scene.publish().await);
    }
    // Views are synced too; whoever comes first finds it.
    while scene.publish().await {
        fs::write(scene.fault("sync-once"), "").unwrap();
    }
    assert!(!scene.fault("sync-once").exists(), "syncs succeed again");
    let said = scene.becomes(503).await;
    assert!(said.contains("start the gateway again"), "{said}");
    assert!(!scene.publish().await, "taken though a sync had failed");
    scene.gateway.child.kill().unwrap();
    scene.gateway.child.wait().unwrap();
    scene.gateway = start(scene.directory.path());
    scene.becomes(200).await;
    assert!(scene.publish().await);
    scene.account().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_refuses_and_goes_on_by_itself_when_there_is_room() {
    let mut scene = Scene::set_up().await;
    for _ in 0..3 {
        for _ in 0..20 {
            assert!(scene.publish().await);
        }
        fs::write(scene.fault("write"), "").unwrap();
        assert!(!scene.publish().await);
        let said = scene.becomes(503).await;
        assert!(said.contains("no room"), "{said}");
        fs::remove_file(scene.fault("write")).unwrap();
        scene.becomes(200).await;
    }
    assert!(scene.publish().await);
    scene.account().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_for_which_there_is_no_room_is_refused_and_leaves_nothing_behind() {
    let mut scene = Scene::set_up().await;
    let secrets = scene.directory.path().join("data").join("secrets");
    let stored = || fs::read_dir(&secrets).map_or(0, Iterator::count);
    let before = stored();
    let body = json!({"configuration": {
        "callbackUrl": scene.callback.url("/").to_string(),
        "auth": {"type": "token", "value": "a-secret"},
    }});
    let path = format!("{}/v1/apis/{}/subscriptions", scene.gateway.url, scene.api);
    let subscribe = async |client: &reqwest::Client, token: &str| {
        let ask = client.post(&path).bearer_auth(token);
        let ask = ask.header("content-type", "application/json");
        let answer = ask.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (client, token) = (reqwest::Client::new(), scene.client.token().to_owned());
    fs::write(scene.fault("write"), "").unwrap();
    let (status, said) = subscribe(&client, &token).await;
    assert_eq!(status, 503, "{said}");
    assert!(!said.contains("a-secret"), "{said}");
    assert_eq!(stored(), before, "half a secret stayed");
    fs::remove_file(scene.fault("write")).unwrap();
    scene.becomes(200).await;
    let (status, said) = subscribe(&client, &token).await;
    assert_eq!(status, 201, "{said}");
    assert!(scene.publish().await);
    scene.account().await;
}

/// The same command with so many files at most.
fn with_files(command: &Command, files_max: u32) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {files_max}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    limited
}

#[test]
fn a_start_without_files_ends_with_an_error_that_says_so_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let command = Process::command(&data, CONFIG);
    for files_max in [40, 127] {
        let ended = with_files(&command, files_max).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(78), "{files_max}: {said}");
        assert!(said.contains("error: "), "{files_max}: {said}");
        assert!(said.contains("ulimit -n"), "{files_max}: {said}");
        assert!(!said.contains("panicked"), "{files_max}: {said}");
    }
    let gateway = Process::try_start(command).unwrap();
    assert!(gateway.token.is_some(), "nothing was begun before");
    gateway.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_out_of_files_goes_on_when_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    let command = with_files(&Process::command(&data, CONFIG), 150);
    let gateway = Process::try_start(command).unwrap();
    let client = Client::new(gateway.token.as_ref().unwrap());
    let api = subscribed(&gateway, &client, &callback).await;
    let address = gateway.url.strip_prefix("http://").unwrap().to_owned();
    // More than it has files for; those behind are taken by the system, and wait.
    let idle: Vec<_> = (0..300)
        .map(|_| std::net::TcpStream::connect(&address).unwrap())
        .collect();
    drop(idle);
    let path = format!("{}/v1/apis/{api}/messages", gateway.url);
    let answer = client.post(path, &json!({"content": "hello"})).await;
    let id = answer.unwrap()["id"].as_str().unwrap().to_owned();
    callback.wait_for(1).await;
    assert!(delivered(&callback).contains(&id));
    let ended = tokio::task::spawn_blocking(|| gateway.terminate());
    assert!(ended.await.unwrap().0.success());
}
