//! The real binary on a machine that fails it: syncs that fail, no room, which is found again, a
//! resolver that is silent, and no more files.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    num::NonZero,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use hooklog::{
    clock::{Clock as _, SystemClock},
    testing::callback::{Answer, CallbackServer},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    serve::{Client, ENDS_WITHIN, Process, delivered, signal, subscribed},
    support::{disk, process::assert_sound},
};

/// The watermark is the disk's own here: nothing is refused before it refuses.
const CONFIG: &str = "[log]\nfree_bytes_min = 0\n";

/// How many syncs succeed before one fails, each number in turn.
const SYNCS: u32 = 12;
/// How many writes fit before the disk is full, each number in turn.
const WRITES: u32 = 30;
/// How long it may take to go on once there is room, on average: this machine has other things to do.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);
/// How long each time.
const GOES_ON_WITHIN_ANY: Duration = Duration::from_secs(15);
/// More writes than a start makes.
const START_WRITES_MAX: u32 = 500;
const START_WRITES_STEP: usize = 7;
const FIRST_WRITES_STEP: usize = 3;
/// How many files a gateway may open that is to run out of them.
const FILES_MAX: u32 = 150;
const PUBLISHERS: usize = 200;
const MESSAGES_EACH: usize = 15;
const MESSAGE_BYTES: usize = 64 << 10;
/// How much more memory the gateway may have: less than four times what all publishers send at once,
/// and what is kept at hand of the log.
const GROWTH_MAX_KIB: u64 = ((4 * PUBLISHERS * MESSAGE_BYTES) >> 10) as u64 + (112 << 10);

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
        let wait = async {
            loop {
                let (found, said) = self.ready().await;
                if found == status {
                    return said;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{status} of /readyz"), wait).await
    }

    /// Kills it, and starts another in its place.
    async fn start_again(&mut self) {
        self.gateway.child.kill().unwrap();
        self.gateway.child.wait().unwrap();
        self.gateway = start(self.directory.path());
        self.becomes(200).await;
    }

    /// Everything that was taken arrives, and the data directory holds together.
    async fn account(self) {
        let arrive = async {
            let mut seen = 0;
            while !self.accepted.is_subset(&delivered(&self.callback)) {
                seen = self.callback.wait_for(seen + 1).await.len();
            }
        };
        within("what was accepted", arrive).await;
        let gateway = self.gateway;
        let ended = tokio::task::spawn_blocking(|| gateway.terminate());
        assert!(ended.await.unwrap().0.success());
        assert_sound(&self.directory.path().join("data"));
    }
}

/// What is waited for, which has long to come.
async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting);
    waited.await.unwrap_or_else(|_| panic!("no {what}"))
}

fn start(directory: &Path) -> Process {
    Process::try_start(command(directory)).unwrap()
}

/// A start over a disk that fails as files in `faults` say.
fn command(directory: &Path) -> Command {
    let data = directory.join("data");
    let mut command = Process::command(&data, CONFIG);
    disk::put_between(&mut command, &data, &directory.join("faults"));
    command
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
    scene.start_again().await;
    assert!(scene.publish().await);
    scene.account().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_whichever_sync_fails_it_is_told_and_nothing_taken_is_lost() {
    let mut scene = Scene::set_up().await;
    for succeed in 0..SYNCS {
        let fault = scene.fault("sync-once");
        fs::write(&fault, succeed.to_string()).unwrap();
        // Views are synced too, and may find it first.
        let fails = async {
            while scene.publish().await {
                if !fault.exists() {
                    fs::write(&fault, "").unwrap();
                }
            }
        };
        within("failure of a sync", fails).await;
        let _ = fs::remove_file(&fault);
        let (status, said) = scene.ready().await;
        assert_eq!(status, 503, "after {succeed} syncs: {said}");
        assert!(said.contains("start the gateway again"), "{said}");
        scene.start_again().await;
        assert!(scene.publish().await);
    }
    scene.account().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_at_any_write_is_told_and_goes_on_by_itself_when_there_is_room() {
    let mut scene = Scene::set_up().await;
    let (clock, mut took) = (SystemClock::new(), Duration::ZERO);
    let mut slowest = Duration::ZERO;
    for fit in 0..WRITES {
        fs::write(scene.fault("write"), fit.to_string()).unwrap();
        let refused = async { while scene.publish().await {} };
        within("refusal of a message", refused).await;
        let (status, said) = scene.ready().await;
        assert_eq!(status, 503, "after {fit} writes: {said}");
        assert!(said.contains("no room"), "{said}");
        fs::remove_file(scene.fault("write")).unwrap();
        let room = clock.elapsed();
        scene.becomes(200).await;
        assert!(scene.publish().await, "there is room after {fit} writes");
        let this = clock.elapsed().saturating_sub(room);
        assert!(
            this < GOES_ON_WITHIN_ANY,
            "{this:?} after there was room, {fit} writes"
        );
        (took, slowest) = (took + this, slowest.max(this));
    }
    let each = took / WRITES;
    println!("{each:?} after there was room, {slowest:?} at most");
    assert!(each < GOES_ON_WITHIN, "{each:?} after there was room");
    scene.account().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_disk_is_full_at_any_write_says_so_or_serves_and_harms_nothing() {
    let mut scene = Scene::set_up().await;
    let (mut refused, mut served) = (0, 0);
    for fit in (0..START_WRITES_MAX).step_by(START_WRITES_STEP) {
        assert!(scene.publish().await);
        scene.gateway.child.kill().unwrap();
        scene.gateway.child.wait().unwrap();
        fs::write(scene.fault("write"), fit.to_string()).unwrap();
        let mut starting = command(scene.directory.path());
        let mut child = starting.stderr(Stdio::piped()).spawn().unwrap();
        let mut says = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut says).unwrap();
        if says.is_empty() {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(matches!(ended.status.code(), Some(1 | 78)), "{ended:?}");
            assert!(said.contains("error: "), "after {fit} writes: {said}");
            assert!(said.to_lowercase().contains("no space"), "{said}");
            assert!(!said.contains("panicked"), "{said}");
            refused += 1;
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            served += 1;
        }
        fs::remove_file(scene.fault("write")).unwrap();
        scene.gateway = start(scene.directory.path());
        scene.becomes(200).await;
        if served > 0 {
            break;
        }
    }
    println!("{refused} starts refused");
    assert!(served > 0, "not after {START_WRITES_MAX} writes");
    scene.account().await;
}

/// A first start whose disk has room for so many writes, and another once there is room. Whether the
/// first served.
fn first_start(fit: u32) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let faults = directory.path().join("faults");
    fs::create_dir(&faults).unwrap();
    fs::write(faults.join("write"), fit.to_string()).unwrap();
    // What waits for a write waits when it fails.
    fs::write(faults.join("write-slow"), "").unwrap();
    let served = Process::try_start(command(directory.path()));
    let is_served = served.is_ok();
    served.map_or_else(
        |status| assert!(matches!(status.code(), Some(1 | 78)), "{status}"),
        Process::kill,
    );
    fs::remove_dir_all(&faults).unwrap();
    start(directory.path()).kill();
    is_served
}

#[test]
fn a_first_start_whose_disk_is_full_at_any_write_leaves_a_directory_that_can_be_begun_again() {
    let fits = Mutex::new((0..START_WRITES_MAX).step_by(FIRST_WRITES_STEP));
    let is_served = AtomicBool::new(false);
    // Each has a directory of its own, so that they go side by side.
    let work = || {
        while !is_served.load(Ordering::Relaxed) {
            let Some(fit) = fits.lock().unwrap().next() else {
                return;
            };
            if first_start(fit) {
                is_served.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    assert!(
        is_served.into_inner(),
        "not served after {START_WRITES_MAX} writes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_its_disk_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let held = directory.path().join("faults").join("sync-held");
    fs::create_dir(held.parent().unwrap()).unwrap();
    fs::write(&held, "").unwrap();
    let mut starting = Process {
        child: command(directory.path()).spawn().unwrap(),
        url: String::new(),
        token: None,
    };
    let data = directory.path().join("data");
    let begin = async {
        while !data.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("data directory", begin).await;
    signal(&starting.child, Signal::TERM);
    let end = async {
        loop {
            if let Some(ended) = starting.child.try_wait().unwrap() {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = within("end of the start", end).await;
    assert!(ended.success(), "{ended}");
    fs::remove_file(held).unwrap();
    start(directory.path()).kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_on_a_slow_disk_are_answered_or_refused_and_memory_stays() {
    let scene = Scene::set_up().await;
    fs::write(scene.fault("sync-slow"), "").unwrap();
    let before = scene.gateway.memory_kib("VmRSS");
    let path = format!("{}/v1/apis/{}/messages", scene.gateway.url, scene.api);
    let body = json!({"content": "x".repeat(MESSAGE_BYTES)});
    let publishers = (0..PUBLISHERS).map(|_| {
        let (client, path, body) = (scene.client.clone(), path.clone(), body.clone());
        tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..MESSAGES_EACH {
                let answer = client.post(path.clone(), &body).await;
                taken.extend(answer.map(|answer| answer["id"].as_str().unwrap().to_owned()));
            }
            taken
        })
    });
    let mut accepted = BTreeSet::new();
    for publisher in publishers.collect::<Vec<_>>() {
        accepted.extend(within("answers", publisher).await.unwrap());
    }
    let growth = scene.gateway.memory_kib("VmHWM").saturating_sub(before);
    println!(
        "{} of {} taken, {growth} KiB more",
        accepted.len(),
        PUBLISHERS * MESSAGES_EACH
    );
    assert!(growth < GROWTH_MAX_KIB, "{growth} KiB more");
    assert!(!accepted.is_empty());
    fs::remove_file(scene.fault("sync-slow")).unwrap();
    Scene { accepted, ..scene }.account().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_looked_up_in_vain_does_not_hold_up_the_end() {
    let mut scene = Scene::set_up().await;
    let fault = scene.fault("lookup");
    fs::write(&fault, "").unwrap();
    let url = "http://hooks.example.com/";
    let to = json!({"configuration": {"callbackUrl": url}});
    let path = format!("{}/v1/apis/{}/subscriptions", scene.gateway.url, scene.api);
    assert!(scene.client.post(path, &to).await.is_some());
    assert!(scene.publish().await);
    // The call is given up; the lookup is not, for nothing ends it.
    let logs = format!("{}/v1/apis/{}/logs", scene.gateway.url, scene.api);
    let given_up = async {
        loop {
            let page = scene.client.get(format!("{logs}?errorClass=timeout")).await;
            if !page["deliveries"].as_array().unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("call that was given up", given_up).await;
    let gateway = scene.gateway;
    let mut ended = tokio::task::spawn_blocking(|| gateway.terminate());
    let in_time = tokio::time::timeout(ENDS_WITHIN, &mut ended).await;
    // One that waits for it ends now.
    fs::remove_file(fault).unwrap();
    let (status, _) = in_time.expect("it ends in time").unwrap();
    assert!(status.success(), "{status}");
    assert_sound(&scene.directory.path().join("data"));
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

/// A connection that is kept, for one request after the other: nothing opens another behind its back.
struct Kept {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    token: String,
}

impl Kept {
    async fn open(gateway: &Process, client: &Client) -> Self {
        let host = gateway.url.strip_prefix("http://").unwrap().to_owned();
        let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            host,
            token: client.token().to_owned(),
        }
    }

    /// The status of the answer, and what it says.
    async fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::post(path)
            .header("host", &self.host)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&said).unwrap())
    }
}

/// Digits that take about as much room in a page as they have bytes.
fn digits() -> String {
    let clock = SystemClock::new();
    (0..100).map(|_| clock.entropy().to_string()).collect()
}

/// How many calls found no file, as every delivery of an API tells; none may tell of another fault.
async fn calls_without_files(scene: &Scene) -> usize {
    let logs = format!("{}/v1/apis/{}/logs", scene.gateway.url, scene.api);
    let page = scene.client.get(format!("{logs}?limit=1000")).await;
    let mut without_files = 0;
    for row in page["deliveries"].as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        let detail = scene.client.get(format!("{logs}/{id}")).await;
        for attempt in detail["attempts"].as_array().unwrap() {
            if !attempt["error"].is_null() {
                assert_eq!(attempt["error"]["class"], "internal", "{detail}");
                without_files += 1;
            }
        }
    }
    without_files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_out_of_files_takes_or_refuses_blames_no_callback_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    // Each call to it takes a connection of its own.
    let closing = CallbackServer::start(SystemClock::shared(), |_| {
        Answer::ok().with_header("connection", "close")
    });
    let closing = closing.await.unwrap();
    let config = format!("{CONFIG}segment_bytes_max = 4000\n");
    let command = Process::command(&directory.path().join("data"), &config);
    let gateway = Process::try_start(with_files(&command, FILES_MAX)).unwrap();
    let client = Client::new(gateway.token.as_ref().unwrap());
    let retry = json!({"initialDelaySeconds": 3, "maxAttempts": 20});
    let entrypoint = json!({"contextPath": "/orders", "retry": retry});
    let api = json!({"name": "orders", "entrypoint": entrypoint});
    let api = client.post(format!("{}/v1/apis", gateway.url), &api).await;
    let api = api.unwrap()["id"].as_str().unwrap().to_owned();
    for server in [&callback, &closing] {
        let to = json!({"configuration": {"callbackUrl": server.url("/").to_string()}});
        let path = format!("{}/v1/apis/{api}/subscriptions", gateway.url);
        client.post(path, &to).await.unwrap();
    }
    let mut scene = Scene {
        directory,
        callback,
        gateway,
        client,
        api,
        accepted: BTreeSet::new(),
    };
    assert!(scene.publish().await);
    closing.wait_for(1).await;
    let mut kept = Kept::open(&scene.gateway, &scene.client).await;
    let path = format!("/v1/apis/{}/messages", scene.api);
    let batch = || json!([{"content": digits()}, {"content": digits()}, {"content": digits()}]);
    let (status, first) = kept.post(&path, &batch()).await;
    assert_eq!(status, 202, "{first}");

    // More than it has files for; those behind are taken by the system, and wait.
    let address = scene.gateway.url.strip_prefix("http://").unwrap();
    let connect = |_| std::net::TcpStream::connect(address).unwrap();
    let idle: Vec<_> = (0..300).map(connect).collect();
    let open = format!("/proc/{}/fd", scene.gateway.child.id());
    let out_of_files = async {
        while fs::read_dir(&open).unwrap().count() < FILES_MAX as usize {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("want of files", out_of_files).await;
    let mut answers = vec![first];
    for _ in 0..3 {
        let (status, answer) = within("answer", kept.post(&path, &batch())).await;
        match status {
            202 => answers.push(answer),
            503 => assert!(answer["type"].is_string(), "{answer}"),
            other => panic!("{other}: {answer}"),
        }
    }
    drop(idle);
    println!(
        "{} of 3 batches were taken without files",
        answers.len() - 1
    );
    for answer in &answers {
        let messages = answer["messages"].as_array().unwrap().iter();
        let ids = messages.map(|message| message["id"].as_str().unwrap().to_owned());
        scene.accepted.extend(ids);
    }
    scene.becomes(200).await;
    assert!(scene.publish().await);
    for server in [&scene.callback, &closing] {
        let arrive = async {
            let mut seen = 0;
            while !scene.accepted.is_subset(&delivered(server)) {
                seen = server.wait_for(seen + 1).await.len();
            }
        };
        within("what was accepted", arrive).await;
    }
    let without_files = calls_without_files(&scene).await;
    println!("{without_files} calls found no file");
    assert!(without_files > 0 || answers.len() == 1);
    scene.account().await;
}
