//! The gateway as people run it: the real binary in a process of its own, and what it takes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::measure::monotonic;

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Between two looks at how far the projections are. Each costs the gateway a request.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for something that must come about.
const WAIT: Duration = Duration::from_mins(15);
/// Subscriptions that are made at a time.
const AT_A_TIME: usize = 32;
/// Most calls of a subscription that any setting allows at a time.
const CALLS_MAX: usize = 1_000;

pub(super) struct Gateway {
    process: Child,
    url: String,
    token: String,
    client: Client,
    data: PathBuf,
}

impl Gateway {
    /// Starts the binary on a directory, new or not, with these lines of configuration beside
    /// leave to call this machine. One that stood on it before tells its token.
    pub(super) fn start(data: PathBuf, configuration: &str, token: Option<String>) -> Self {
        let config = data.with_extension("toml");
        let egress = "[egress]\nallow_http = true\nallow_private_cidrs = [\"127.0.0.0/8\"]\n";
        fs::write(&config, format!("{configuration}\n{egress}")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_hooklog"))
            .args(["serve", "--listen", "127.0.0.1:0", "--output", "json"])
            .args(["--log-level", "error"])
            .arg("--data")
            .arg(&data)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let text = |name: &str| said[name].as_str().map(ToOwned::to_owned);
        Self {
            process,
            url: text("url").unwrap(),
            token: text("token").or(token).unwrap(),
            client: Client::builder().no_proxy().build().unwrap(),
            data,
        }
    }

    /// So many subscriptions of an API, of one application, each to the callback that `to` names.
    pub(super) async fn subscribe(
        &self,
        api: &str,
        subscriptions: usize,
        configuration: &Value,
        to: impl Fn(usize) -> String,
    ) {
        let application = self.application("bench").await;
        let asked = |number| {
            let mut configuration = configuration.clone();
            configuration["callbackUrl"] = json!(to(number));
            json!({"application": application, "configuration": configuration})
        };
        self.subscribe_as(api, subscriptions, asked).await;
    }

    /// So many subscriptions of an API, each as `asked` says. Gives their ids, in order.
    pub(super) async fn subscribe_as(
        &self,
        api: &str,
        subscriptions: usize,
        asked: impl Fn(usize) -> Value,
    ) -> Vec<String> {
        let path = format!("/v1/apis/{api}/subscriptions");
        let path = path.as_str();
        stream::iter((0..subscriptions).map(asked))
            .map(|subscription| self.create(path, subscription))
            .buffered(AT_A_TIME)
            .collect()
            .await
    }

    /// A new API, whose entrypoint lets a subscription have as many calls in flight as any may ask
    /// for: unless told, it bounds them to five, whatever a subscription says.
    pub(super) async fn wide_api(&self) -> String {
        let http = json!({"maxConcurrentConnections": CALLS_MAX});
        self.api(json!({"contextPath": "/bench", "http": http}))
            .await
    }

    /// A new API with the entrypoint that it has unless told.
    pub(super) async fn plain_api(&self) -> String {
        self.api(json!({"contextPath": "/bench"})).await
    }

    /// A new API with this entrypoint.
    pub(super) async fn api(&self, entrypoint: Value) -> String {
        let api = json!({"name": "bench", "entrypoint": entrypoint});
        self.create("/v1/apis", api).await
    }

    /// A new application of this name.
    pub(super) async fn application(&self, name: &str) -> String {
        self.create("/v1/applications", json!({"name": name})).await
    }

    /// Creates what there is under this path, and gives its id.
    async fn create(&self, path: &str, what: Value) -> String {
        let created = self.ask(Method::POST, path, Some(what)).await;
        created["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|body| body.to_string().into());
        serde_json::from_slice(&self.send(method, path, body).await).unwrap()
    }

    /// Publishes a batch.
    pub(super) async fn publish(&self, api: &str, batch: Bytes) {
        let path = format!("/v1/apis/{api}/messages");
        self.send(Method::POST, &path, Some(batch)).await;
    }

    /// A figure of `/metrics`: the sum of all that begin so, labels included.
    pub(super) async fn figure(&self, name: &str) -> f64 {
        let page = self.send(Method::GET, "/metrics", None).await;
        let page = std::str::from_utf8(&page).unwrap();
        let samples = page.lines().filter_map(|line| line.rsplit_once(' '));
        let samples = samples.filter(|(sample, _)| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', ',']))
        });
        samples
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> Bytes {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer = response.bytes().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {answer:?}");
        answer
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Waits until every projection has folded every event there is now.
    pub(super) async fn projected(&self) {
        let is_folded = async || {
            let all = self.ask(Method::GET, "/v1/projections", None).await;
            let mut projections = all["projections"].as_array().unwrap().iter();
            projections.all(|one| one["lagEvents"] == 0)
        };
        until(LOOK, is_folded).await;
    }

    /// CPU time of all its threads so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name may hold anything; what follows it does not.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: f64 = ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / TICKS_PER_SECOND
    }

    /// What it takes of memory, files that are mapped and shared pages included.
    pub(super) fn resident_bytes(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most it took so far.
    pub(super) fn peak_resident_bytes(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// How many files it has open, sockets included.
    pub(super) fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        files.unwrap().count()
    }

    pub(super) fn threads(&self) -> f64 {
        self.status("Threads:").parse().unwrap()
    }

    fn memory(&self, name: &str) -> f64 {
        let kib = self.status(name);
        kib.trim_end_matches(" kB").parse::<f64>().unwrap() * 1_024.0
    }

    /// What the system tells of it under this name.
    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Ends it in order, and gives its directory.
    pub(super) fn stop(mut self) -> PathBuf {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let ended = self.process.wait().unwrap();
        assert!(ended.success(), "{ended}");
        self.data.clone()
    }
}

/// Waits until this is so; it is looked at so often.
pub(super) async fn until(look: Duration, is_so: impl AsyncFn() -> bool) {
    let began = monotonic();
    while !is_so().await {
        assert!(
            Duration::from_nanos(monotonic() - began) < WAIT,
            "it does not come about"
        );
        tokio::time::sleep(look).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
