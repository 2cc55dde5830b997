//! Whether a delivery costs more, and a question to the webhook log takes longer, as the log grows.
//! One gateway, an API with ten subscriptions of ten applications; a tenth of the calls is answered
//! 503 and a twentieth 400, and none is made again. Messages are published at full speed, so many
//! at a time, and the next when the callbacks have those before, so that the gateway is as far
//! behind at every length.
//!
//! `--up-to` is how many deliveries it grows to, through the powers of ten from 10,000. Each round
//! begins with an empty directory; what the rounds so far came to is told after each.

use std::time::Duration;

use hooklog::{
    clock::{Clock as _, SystemClock},
    model::Timestamp,
    runtime::PROJECTIONS_DIRECTORY,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    arguments::Arguments,
    gateway::Gateway,
    load::{Load, Publishing},
    measure::{Spread, directory_bytes, monotonic},
    mib,
    sink::{Manner, Sink},
};

const NAME: &str = "growth";
const UP_TO: usize = 1_000_000;
const ROUNDS: usize = 1;
/// The first length.
const LEAST: usize = 10_000;
/// The length that others are compared with.
const REFERENCE: usize = 100_000;
const SUBSCRIPTIONS: usize = 10;
const IN_FLIGHT: usize = 32;
/// Most deliveries that are published at a time.
const STEP: usize = 50_000;
/// Steps whose CPU time is measured at each length.
const STEPS: usize = 3;
/// Deliveries on a page.
const PAGE: usize = 50;
/// How often each question is asked at each length.
const QUESTIONS: usize = 21;

/// A gateway that grows.
struct Growing {
    gateway: Gateway,
    data: std::path::PathBuf,
    sink: Sink,
    load: Load,
    api: String,
    applications: Vec<String>,
    subscriptions: Vec<String>,
    began: Timestamp,
    messages: usize,
}

/// What was measured at one length in one round.
struct Length {
    deliveries: usize,
    /// CPU time of a delivery since the length before.
    micros_on_the_way: f64,
    /// CPU time of a delivery from here on, every projection included: of each step.
    micros: Vec<f64>,
    resident: f64,
    peak: f64,
    log_bytes: f64,
    view_bytes: f64,
    answers: Vec<Answers>,
}

/// What came of one question.
struct Answers {
    question: &'static str,
    /// Until as many deliveries as make a page were there, or no more: of each time.
    ms: Vec<f64>,
    page: Whole,
}

/// A page with what its short forerunners held.
#[derive(Clone, Copy, Default)]
struct Whole {
    found: usize,
    requests: usize,
}

impl Growing {
    async fn start(directory: &tempfile::TempDir, up_to: usize) -> Self {
        let data = directory.path().join("data");
        let gateway = Gateway::start(data.clone(), "", None);
        let sink = Sink::start((up_to + (STEPS + 1) * STEP) / SUBSCRIPTIONS);
        let api = gateway.wide_api().await;
        let mut applications = Vec::new();
        for number in 0..SUBSCRIPTIONS {
            let name = format!("application {number}");
            applications.push(gateway.application(&name).await);
        }
        let asked = |number| {
            let configuration = json!({
                "callbackUrl": sink.url(Manner::Mixed, number),
                "maxInFlight": IN_FLIGHT,
                "retry": {"retryOption": "No Retry"},
            });
            json!({"application": applications[number], "configuration": configuration})
        };
        let subscriptions = gateway.subscribe_as(&api, SUBSCRIPTIONS, asked).await;
        let load = Load {
            url: format!("{}/v1/apis/{api}/messages", gateway.url()),
            token: gateway.token().to_owned(),
            publishing: Publishing::Batches,
            connections: 1,
        };
        Self {
            gateway,
            data,
            sink,
            load,
            api,
            applications,
            subscriptions,
            began: SystemClock::new().now(),
            messages: 0,
        }
    }

    /// Publishes what comes to so many deliveries, and waits until the callbacks have them.
    fn grow(&mut self, deliveries: usize) -> Result<(), String> {
        let end = self.messages + deliveries / SUBSCRIPTIONS;
        self.load.made(self.messages..end);
        self.messages = end;
        self.sink.expect(end, SUBSCRIPTIONS)
    }

    const fn deliveries(&self) -> usize {
        self.messages * SUBSCRIPTIONS
    }

    /// Grows to this length and measures there.
    async fn measure(&mut self, length: usize) -> Result<Length, String> {
        let (before, cpu_before) = (self.deliveries(), self.gateway.cpu_seconds());
        assert!(
            length.is_multiple_of(SUBSCRIPTIONS),
            "each message goes to all"
        );
        while self.deliveries() < length {
            self.grow(STEP.min(length - self.deliveries()))?;
        }
        self.gateway.projected().await;
        let grown = (self.deliveries() - before) as f64;
        let micros_on_the_way = (self.gateway.cpu_seconds() - cpu_before) * 1e6 / grown;
        let each = |directory| directory_bytes(&self.data.join(directory)) as f64 / length as f64;
        // In this order: the steps make it longer.
        Ok(Length {
            deliveries: length,
            micros_on_the_way,
            resident: mib(self.gateway.resident_bytes()),
            peak: mib(self.gateway.peak_resident_bytes()),
            log_bytes: each("log"),
            view_bytes: each(PROJECTIONS_DIRECTORY),
            answers: self.ask_all().await,
            micros: self.micros(STEP.min(length)).await?,
        })
    }

    /// CPU time of a delivery, over some steps of this size.
    async fn micros(&mut self, step: usize) -> Result<Vec<f64>, String> {
        let mut micros = Vec::new();
        for _ in 0..STEPS {
            let before = self.gateway.cpu_seconds();
            self.grow(step)?;
            self.gateway.projected().await;
            micros.push((self.gateway.cpu_seconds() - before) * 1e6 / step as f64);
        }
        Ok(micros)
    }

    async fn ask_all(&self) -> Vec<Answers> {
        let mut all = Vec::new();
        for (question, filter) in self.questions().await {
            all.push(self.ask(question, &filter).await);
        }
        all
    }

    /// Each filter alone, and some together.
    async fn questions(&self) -> Vec<(&'static str, String)> {
        let last = SUBSCRIPTIONS - 1;
        let (application, subscription) = (&self.applications[last], &self.subscriptions[last]);
        let callback = self.sink.url(Manner::Mixed, last);
        let grown = SystemClock::new().now().since(self.began);
        let at = |share| self.began.plus(grown.mul_f64(share));
        let (from, to) = (at(0.4), at(0.6));
        let message = self.message(to).await;
        vec![
            ("no filter", String::new()),
            ("status 4xx", "status=4xx".into()),
            ("status 503", "status=503".into()),
            ("one callback", format!("callbackUrl={callback}")),
            ("one application", format!("application={application}")),
            ("one subscription", format!("subscription={subscription}")),
            ("a fifth of the time", format!("from={from}&to={to}")),
            ("in the DLQ", "dlq=true".into()),
            ("dead-lettered", "outcome=dead_lettered".into()),
            ("at least 1 ms", "minDurationMs=1".into()),
            ("at least 20 ms", "minDurationMs=20".into()),
            ("one message", format!("message={message}")),
            (
                "5xx, one application, at least 1 ms",
                format!("status=5xx&application={application}&minDurationMs=1"),
            ),
            ("nothing: status 418", "status=418".into()),
            ("nothing: timed out", "errorClass=timeout".into()),
            ("nothing: at least 1 min", "minDurationMs=60000".into()),
            (
                "nothing: 4xx and not in the DLQ",
                "status=4xx&dlq=false".into(),
            ),
            (
                "nothing: the past year",
                format!("to={}", self.began.minus(Duration::from_secs(1))),
            ),
        ]
    }

    /// A message from before this time.
    async fn message(&self, before: Timestamp) -> String {
        let page = self.page(&format!("to={before}"), None).await;
        let id = page["deliveries"][0]["message"]["id"].as_str();
        id.unwrap().to_owned()
    }

    /// Asks it again and again. A short page goes on where it ended, as the API says.
    async fn ask(&self, question: &'static str, filter: &str) -> Answers {
        let (mut ms, mut page) = (Vec::new(), Whole::default());
        for _ in 0..QUESTIONS {
            let began = monotonic();
            page = self.whole(filter).await;
            ms.push((monotonic() - began) as f64 / 1e6);
        }
        Answers { question, ms, page }
    }

    /// Asks until a page is full or no more match.
    async fn whole(&self, filter: &str) -> Whole {
        let (mut whole, mut cursor) = (Whole::default(), None);
        loop {
            let page = self.page(filter, cursor.as_deref()).await;
            whole.requests += 1;
            whole.found += page["deliveries"].as_array().unwrap().len();
            cursor = page["next"].as_str().map(ToOwned::to_owned);
            if whole.found >= PAGE || cursor.is_none() {
                return whole;
            }
        }
    }

    async fn page(&self, filter: &str, cursor: Option<&str>) -> Value {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}"));
        let cursor = cursor.unwrap_or_default();
        let path = format!("/v1/apis/{}/logs?limit={PAGE}{cursor}&{filter}", self.api);
        let path = path.trim_end_matches('&');
        self.gateway.ask(Method::GET, path, None).await
    }
}

/// The lengths on the way to the last. The steps that are measured at one must end well before the
/// next.
fn lengths(up_to: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(LEAST), |length| Some(length * 10));
    powers
        .take_while(|length| length * (STEPS + 2) <= up_to)
        .chain([up_to])
        .collect()
}

/// The rounds so far; each has the same lengths.
struct Rounds(Vec<Vec<Length>>);

impl Rounds {
    /// What the others are compared with: the first from that length on, else the last.
    fn reference(&self) -> usize {
        let mut lengths = self.0[0].iter();
        let at = lengths.position(|one| one.deliveries >= REFERENCE);
        at.unwrap_or(self.0[0].len() - 1)
    }

    /// Over the rounds, a figure of one length.
    fn over(&self, at: usize, figure: impl Fn(&Length) -> f64) -> Spread {
        Spread::of(self.0.iter().map(|lengths| figure(&lengths[at])))
    }

    /// Over the rounds, a figure of one length beside that of the reference in the same round.
    fn ratio(&self, at: usize, figure: impl Fn(&Length) -> f64) -> Spread {
        let base = self.reference();
        let rounds = self.0.iter();
        Spread::of(rounds.map(|lengths| figure(&lengths[at]) / figure(&lengths[base])))
    }

    /// Over all rounds together, every sample of one length.
    fn samples<'a>(&'a self, at: usize, of: impl Fn(&'a Length) -> &'a [f64]) -> Spread {
        let samples = self.0.iter().flat_map(|lengths| of(&lengths[at]));
        Spread::of(samples.copied())
    }

    fn costs(&self) -> String {
        let base = self.0[0][self.reference()].deliveries;
        let head = format!(
            "\n| deliveries | CPU µs each | / at {base} | CPU µs each since the row above \
             | / at {base} | resident MiB | peak MiB | log B each | views B each |\n|{}",
            "---|".repeat(9)
        );
        let lengths = self.0[0].iter().enumerate();
        let rows = lengths.map(|(at, length)| {
            format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                length.deliveries,
                self.samples(at, |length| &length.micros).cell(1),
                self.ratio(at, |length| median(&length.micros)).cell(2),
                self.over(at, |length| length.micros_on_the_way).cell(1),
                self.ratio(at, |length| length.micros_on_the_way).cell(2),
                self.over(at, |length| length.resident).cell(0),
                self.over(at, |length| length.peak).cell(0),
                self.over(at, |length| length.log_bytes).cell(0),
                self.over(at, |length| length.view_bytes).cell(0),
            )
        });
        table(head, rows)
    }

    fn answers(&self) -> String {
        let lengths = &self.0[0];
        let last = lengths.len() - 1;
        let head = format!(
            "\n| ms at a length of | {} | found | requests | last / at {} |\n|{}",
            cells(lengths.iter().map(|one| one.deliveries.to_string())),
            lengths[self.reference()].deliveries,
            "---|".repeat(lengths.len() + 4)
        );
        let questions = lengths[last].answers.iter().enumerate();
        let rows = questions.map(|(question, answers)| {
            let at = |at| self.samples(at, |length| &length.answers[question].ms);
            let ratio = self.ratio(last, |length| median(&length.answers[question].ms));
            format!(
                "| {} | {} | {} | {} | {} |",
                answers.question,
                cells((0..=last).map(|length| at(length).cell(1))),
                answers.page.found,
                answers.page.requests,
                ratio.cell(2),
            )
        });
        table(head, rows)
    }
}

fn cells(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

fn table(head: String, rows: impl Iterator<Item = String>) -> String {
    let lines: Vec<_> = [head].into_iter().chain(rows).collect();
    lines.join("\n")
}

fn median(figures: &[f64]) -> f64 {
    Spread::of(figures.iter().copied()).median
}

pub(super) async fn measure(arguments: &Arguments) -> Result<(), String> {
    if !arguments.ask_for(NAME) {
        return Ok(());
    }
    let up_to = arguments.number("--up-to", UP_TO);
    let rounds = arguments.rounds(ROUNDS);
    let mut done = Rounds(Vec::new());
    for round in 1..=rounds {
        let directory = tempfile::tempdir().unwrap();
        let mut growing = Growing::start(&directory, up_to).await;
        let mut measured = Vec::new();
        for length in lengths(up_to) {
            measured.push(growing.measure(length).await?);
            eprintln!("{length} deliveries and what they cost measured");
        }
        done.0.push(measured);
        eprintln!(
            "round {round} of {rounds}\n{}\n{}",
            done.costs(),
            done.answers()
        );
    }
    println!("{}\n{}", done.costs(), done.answers());
    Ok(())
}
