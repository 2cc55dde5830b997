//! The gateway as people run it: the real binary in a process of its own, and what it takes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Client, Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Between two looks at how far the projections are. Each costs the gateway a request.
const LOOK: Duration = Duration::from_millis(20);

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

    /// An API, and so many subscriptions of it, each to the callback that `to` names.
    pub(super) async fn subscribe(
        &self,
        subscriptions: usize,
        configuration: &Value,
        to: impl Fn(usize) -> String,
    ) -> String {
        let api = json!({"name": "bench", "entrypoint": {"contextPath": "/bench"}});
        let api = self.ask(Method::POST, "/v1/apis", Some(api)).await;
        let api = api["id"].as_str().unwrap().to_owned();
        let application = json!({"name": "bench"});
        let application = self
            .ask(Method::POST, "/v1/applications", Some(application))
            .await;
        for number in 0..subscriptions {
            let mut configuration = configuration.clone();
            configuration["callbackUrl"] = json!(to(number));
            let subscription =
                json!({"application": application["id"], "configuration": configuration});
            let path = format!("/v1/apis/{api}/subscriptions");
            self.ask(Method::POST, &path, Some(subscription)).await;
        }
        api
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert!(status.is_success(), "{path}: {status} {answer}");
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
        loop {
            let all = self.ask(Method::GET, "/v1/projections", None).await;
            let mut projections = all["projections"].as_array().unwrap().iter();
            if projections.all(|one| one["lagEvents"] == 0) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1_024.0
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

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
