//! A real browser without a screen, driven over `WebDriver`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// Longest wait for something to appear on a page.
const WAIT: Duration = Duration::from_secs(20);

/// One browser with one window.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

/// How a browser is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) has_script: bool,
    pub(crate) width: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            has_script: true,
            width: 1_280,
        }
    }
}

/// What the browser wrote to its console since it was last asked.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({"type": "browser"}).to_string();
        (http::Method::POST, Some(body))
    }
}

impl Browser {
    pub(crate) async fn start(setup: Setup) -> Self {
        let (driver, port) = driver();
        let profile = tempfile::tempdir().unwrap();
        let capabilities = capabilities(setup, profile.path().to_str().unwrap());
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await;
        Self {
            client: client.expect("chromium is missing or does not start"),
            driver,
            _profile: profile,
        }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// The first element of this CSS selector, as soon as there is one.
    pub(crate) async fn find(&self, css: &str) -> Element {
        self.wait_for(Locator::Css(css), css).await
    }

    /// The first element of this kind with this text, as soon as there is one.
    pub(crate) async fn with_text(&self, tag: &str, text: &str) -> Element {
        let path = format!("//{tag}[normalize-space(.)={text:?}]");
        self.wait_for(Locator::XPath(&path), &path).await
    }

    async fn wait_for(&self, locator: Locator<'_>, what: &str) -> Element {
        let found = self.client.wait().at_most(WAIT).for_element(locator).await;
        match found {
            Ok(found) => found,
            Err(error) => panic!(
                "no {what} at {}: {error}\n{}",
                self.client.current_url().await.unwrap(),
                self.text().await
            ),
        }
    }

    /// Clicks what has this text: a link or a button.
    pub(crate) async fn click(&self, text: &str) {
        let path = format!("//*[self::a or self::button][normalize-space(.)={text:?}]");
        let found = self.wait_for(Locator::XPath(&path), &path).await;
        found.click().await.unwrap();
    }

    /// Types into a field by its label, in place of what stands there.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let field = self.labelled(label).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Chooses an option of a field by its label.
    pub(crate) async fn choose(&self, label: &str, option: &str) {
        let field = self.labelled(label).await;
        field.select_by_label(option).await.unwrap();
    }

    /// The field of a label.
    pub(crate) async fn labelled(&self, label: &str) -> Element {
        let path = format!(
            "//*[@id=//label[normalize-space(.)={label:?} or normalize-space(span)={label:?}]/@for]"
        );
        self.wait_for(Locator::XPath(&path), &path).await
    }

    /// Everything that can be read on the page.
    pub(crate) async fn text(&self) -> String {
        let body = self.client.find(Locator::Css("body")).await.unwrap();
        body.text().await.unwrap()
    }

    /// Waits until the page says this.
    pub(crate) async fn says(&self, text: &str) {
        let path = format!("//body[contains(normalize-space(.), {text:?})]");
        self.wait_for(Locator::XPath(&path), &path).await;
    }

    /// Runs a piece of script on the page, and gives what it returns.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap()
    }

    /// Checks that nothing was refused or failed since the last check, and that no rule of
    /// accessibility that matters is broken on this page.
    pub(crate) async fn check(&self) {
        let url = self.client.current_url().await.unwrap();
        let logged = self.client.issue_cmd(ConsoleLog).await.unwrap();
        let is_fault = |entry: &&Value| {
            // That a form was refused is an answer, not a fault.
            let is_answer = entry["source"] == "network";
            !is_answer && (entry["level"] == "SEVERE" || entry["level"] == "WARNING")
        };
        let logged: Vec<_> = logged.as_array().unwrap().iter().filter(is_fault).collect();
        assert!(logged.is_empty(), "{url}: {logged:?}");
        let broken = self.broken_rules().await;
        assert!(broken.is_empty(), "{url}: {broken:#?}");
    }

    /// Serious faults that axe finds on the page.
    async fn broken_rules(&self) -> Vec<String> {
        let axe = axe();
        // By the driver, which the page's policy does not bind.
        self.client.execute(&axe, Vec::new()).await.unwrap();
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations
                .filter((one) => ['serious', 'critical'].includes(one.impact))
                .map((one) => one.id + ': ' + one.nodes.map((node) => node.html).slice(0, 3).join(' | '))));";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        serde_json::from_value(found).unwrap()
    }

    pub(crate) async fn close(mut self) {
        let _ = self.client.clone().close().await;
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// axe-core, as `tests/run` installed it.
fn axe() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/tools/axe/node_modules/axe-core/axe.min.js"
    );
    std::fs::read_to_string(path).expect("axe-core is missing: tests/run installs it")
}

/// A driver and its port. The port that it finds for itself may be taken in the meantime: then it
/// ends, and another finds another.
fn driver() -> (Child, u16) {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn();
        let mut driver = driver.expect("chromedriver is missing: tests/run installs it");
        if let Some(port) = port(&mut driver) {
            return (driver, port);
        }
        let _ = driver.kill();
        driver.wait().unwrap();
    }
    panic!("chromedriver found no port {TRIES} times");
}

/// The port that the driver chose; what it says further is dropped.
fn port(driver: &mut Child) -> Option<u16> {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let found = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        let (_, rest) = line.split_once("started successfully on port ")?;
        rest.trim_end_matches('.').parse().ok()
    });
    std::thread::spawn(move || lines.for_each(drop));
    found
}

fn capabilities(setup: Setup, profile: &str) -> Capabilities {
    let args = [
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--no-first-run".to_owned(),
        format!("--window-size={},900", setup.width),
        format!("--user-data-dir={profile}"),
    ];
    let script = if setup.has_script { 1 } else { 2 };
    let all = json!({
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {
            "args": args,
            "prefs": {"profile.managed_default_content_settings.javascript": script},
        },
    });
    all.as_object().unwrap().clone()
}
