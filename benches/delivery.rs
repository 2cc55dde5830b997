//! What does a durable delivery cost beside a bare HTTP call? The gateway from publish to the
//! outcome in every view, beside a loop of calls by the same HTTP client: same bodies, same number
//! in flight, same callback. The callback is a process of its own, and so is each run.
//!
//! `cargo bench --bench delivery`, optionally followed by `-- [rounds] [--json]`.
//! The data goes to `TMPDIR`, which must be on the disk that is asked about. A round after which
//! the callback has not got every message exactly once is void and ends the program with 3.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

mod measure;
mod sink;

use std::{env, process::ExitCode, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hooklog::{
    clock::{Clock, SystemClock},
    delivery::Egress,
    log::Durability,
    model::{Api, ApiId, ConsumerConfiguration, Message, Subscription},
    projection::metrics::{Counter, Scope},
    runtime::{Handle, PROJECTIONS_DIRECTORY, Runtime},
};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use measure::{Spread, apart, cpu, directory_bytes};
use sink::Sink;

/// Calls or deliveries of one run. More than the log keeps decoded, so some are read from disk.
const MESSAGES: usize = 20_000;
/// Bytes of each body.
const BODY_BYTES: usize = 1_024;
/// Calls in flight at a time, on either side.
const IN_FLIGHT: u16 = 32;
/// Messages of a batch.
const BATCH_MESSAGES: usize = 100;
/// Publishers of one message at a time.
const PUBLISHERS: usize = 64;
const ROUNDS: usize = 7;
/// Says that a round was void.
const VOID: u8 = 3;
const JSON: &str = "application/json";
/// Makes the binary do one run: the place of a side in its list, and the callback's URL.
const RUN: &str = "--run";

/// How messages are published.
#[derive(Clone, Copy)]
enum Publishing {
    /// One batch after another.
    Batches,
    /// One at a time, by many publishers.
    Singles,
}

/// What is measured, in the order of the first round.
#[derive(Clone, Copy)]
enum Side {
    Bare,
    Gateway(Durability, Publishing),
}

impl Side {
    const ALL: [Self; 5] = [
        Self::Bare,
        Self::Gateway(Durability::Synced, Publishing::Batches),
        Self::Gateway(Durability::Synced, Publishing::Singles),
        Self::Gateway(Durability::Flushed, Publishing::Batches),
        Self::Gateway(Durability::Flushed, Publishing::Singles),
    ];

    fn name(self) -> String {
        match self {
            Self::Bare => "bare calls".to_owned(),
            Self::Gateway(durability, Publishing::Batches) => {
                format!("{durability:?}, batches of {BATCH_MESSAGES}")
            }
            Self::Gateway(durability, Publishing::Singles) => {
                format!("{durability:?}, {PUBLISHERS} publishers")
            }
        }
    }

    async fn run(self, url: &Url, bodies: &[Bytes]) -> Cost {
        match self {
            Self::Bare => bare(url, bodies).await,
            Self::Gateway(durability, publishing) => {
                gateway(durability, publishing, url, bodies).await
            }
        }
    }
}

/// What one run took.
#[derive(Serialize, Deserialize)]
struct Cost {
    cpu: Duration,
    wall: Duration,
    log_bytes: u64,
    projection_bytes: u64,
}

impl Cost {
    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / MESSAGES as f64
    }

    fn rate(&self) -> f64 {
        MESSAGES as f64 / self.wall.as_secs_f64()
    }
}

/// The body of a message: its number, then letters of which some 60 % are the same in each.
fn body(number: usize) -> Bytes {
    let mut random = [0; BODY_BYTES * 2 / 5];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut random);
    let random: String = random.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let head = format!(r#"{{"number":"{number:08}","order":"{random}","note":""#);
    let note = "paid in euros and on its way, ".repeat(BODY_BYTES / 30);
    let note = &note[..BODY_BYTES - head.len() - 2];
    format!(r#"{head}{note}"}}"#).into()
}

fn bodies() -> Vec<Bytes> {
    (0..MESSAGES).map(body).collect()
}

/// Measures from now to the end of `run`, without what it leaves on disk.
async fn measure(run: impl Future<Output = ()>) -> Cost {
    let clock = SystemClock::new();
    let cpu_before = cpu();
    run.await;
    Cost {
        cpu: cpu().saturating_sub(cpu_before),
        wall: clock.elapsed(),
        log_bytes: 0,
        projection_bytes: 0,
    }
}

async fn bare(url: &Url, bodies: &[Bytes]) -> Cost {
    let client = Client::builder()
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .build()
        .unwrap();
    let call = |body: Bytes| {
        let request = client.post(url.clone()).header(CONTENT_TYPE, JSON);
        async {
            let response = request.body(body).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            response.bytes().await.unwrap();
        }
    };
    let bodies = stream::iter(bodies.iter().cloned());
    measure(bodies.for_each_concurrent(usize::from(IN_FLIGHT), call)).await
}

async fn gateway(
    durability: Durability,
    publishing: Publishing,
    url: &Url,
    bodies: &[Bytes],
) -> Cost {
    let data = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder(data.path())
        .egress(Egress::loopback())
        .durability(durability)
        .start()
        .await
        .unwrap();
    let handle = runtime.handle();
    let api = handle.create_api(Api::named("bench")).await.unwrap().id;
    let subscription = Subscription::with(ConsumerConfiguration {
        callback_url: Some(url.as_str().parse().unwrap()),
        max_in_flight: Some(IN_FLIGHT),
        ..ConsumerConfiguration::default()
    });
    handle.subscribe(api, subscription).await.unwrap();
    handle.settle().await;
    let mut cost = measure(async {
        match publishing {
            Publishing::Batches => publish_batches(&handle, api, bodies).await,
            Publishing::Singles => publish_singles(&handle, api, bodies).await,
        }
        delivered(&handle).await;
    })
    .await;
    runtime.shutdown(Duration::from_secs(8)).await;
    cost.log_bytes = directory_bytes(&data.path().join("log"));
    cost.projection_bytes = directory_bytes(&data.path().join(PROJECTIONS_DIRECTORY));
    cost
}

fn message(body: &Bytes) -> Message {
    Message::new(body.clone(), JSON)
}

async fn publish_batches(handle: &Handle, api: ApiId, bodies: &[Bytes]) {
    for batch in bodies.chunks(BATCH_MESSAGES) {
        let messages = batch.iter().map(message).collect();
        handle.publish_batch(api, messages).await.unwrap();
    }
}

async fn publish_singles(handle: &Handle, api: ApiId, bodies: &[Bytes]) {
    let publish = |body| async move {
        handle.publish(api, message(body)).await.unwrap();
    };
    let bodies = stream::iter(bodies);
    bodies.for_each_concurrent(PUBLISHERS, publish).await;
}

/// Waits until every message is delivered and every view shows it. The metrics tell once a batch
/// of events; to wait for the runtime to settle from the start would cost a look at each of its
/// pieces of work.
async fn delivered(handle: &Handle) {
    let metrics = handle.metrics();
    let mut position = metrics.position();
    loop {
        let tally = metrics.totals(Scope::All).unwrap();
        if tally.get(Counter::Delivered) >= MESSAGES as u64 {
            break;
        }
        position = metrics.changed(position).await.unwrap();
    }
    handle.settle().await;
}

/// The figures of one side over the rounds. A ratio is taken within its round.
struct Figures {
    side: String,
    rate: Spread,
    cpu_micros: Spread,
    rate_ratio: Spread,
    cpu_ratio: Spread,
    log_bytes: Spread,
    projection_bytes: Spread,
}

impl Figures {
    fn of(side: Side, costs: &[Cost], bare: &[Cost]) -> Self {
        let each = |figure: fn(&Cost) -> f64| Spread::of(costs.iter().map(figure));
        let ratio = |figure: fn(&Cost) -> f64| {
            let pairs = costs.iter().zip(bare);
            Spread::of(pairs.map(|(cost, bare)| figure(cost) / figure(bare)))
        };
        Self {
            side: side.name(),
            rate: each(Cost::rate),
            cpu_micros: each(Cost::cpu_micros),
            rate_ratio: ratio(Cost::rate),
            cpu_ratio: ratio(Cost::cpu_micros),
            log_bytes: each(|cost| cost.log_bytes as f64 / MESSAGES as f64),
            projection_bytes: each(|cost| cost.projection_bytes as f64 / MESSAGES as f64),
        }
    }

    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} |",
            self.side,
            self.rate.cell(0),
            self.cpu_micros.cell(1),
            self.rate_ratio.cell(2),
            self.cpu_ratio.cell(2),
            self.log_bytes.median,
            self.projection_bytes.median,
        )
    }

    fn json(&self) -> Value {
        json!({
            "side": self.side,
            "perSecond": spread_json(&self.rate),
            "cpuMicros": spread_json(&self.cpu_micros),
            "perSecondToBare": spread_json(&self.rate_ratio),
            "cpuToBare": spread_json(&self.cpu_ratio),
            "logBytes": spread_json(&self.log_bytes),
            "projectionBytes": spread_json(&self.projection_bytes),
        })
    }
}

fn spread_json(spread: &Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

fn print(figures: &[Figures], rounds: usize, as_json: bool) {
    println!("{MESSAGES} messages of {BODY_BYTES} B, {IN_FLIGHT} in flight, {rounds} rounds\n");
    println!(
        "| side | per second | CPU µs each | per second / bare | CPU / bare | log B each \
         | projections B each |"
    );
    println!("|---|---|---|---|---|---|---|");
    for figures in figures {
        println!("{}", figures.row());
    }
    if as_json {
        let sides: Vec<Value> = figures.iter().map(Figures::json).collect();
        let line = json!({
            "messages": MESSAGES,
            "bodyBytes": BODY_BYTES,
            "inFlight": IN_FLIGHT,
            "rounds": rounds,
            "sides": sides,
        });
        println!("{line}");
    }
}

/// Runs every side in each round. A callback that did not get what it should have is an error.
fn measure_all(rounds: usize) -> Result<Vec<Figures>, String> {
    let mut sink = Sink::start();
    let mut costs = [const { Vec::new() }; Side::ALL.len()];
    for round in 0..rounds {
        for turn in 0..Side::ALL.len() {
            // Whoever runs second finds a warmer machine; so they take turns.
            let at = (round + turn) % Side::ALL.len();
            costs[at].push(apart(&[RUN, &at.to_string(), sink.url()]));
            let got = sink.check(MESSAGES);
            got.map_err(|got| format!("round {round}, {}: {got}", Side::ALL[at].name()))?;
        }
    }
    let sides = Side::ALL.iter().zip(&costs);
    Ok(sides
        .map(|(side, own)| Figures::of(*side, own, &costs[0]))
        .collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [sink::ARGUMENT] => sink::serve(bodies()).await,
        [RUN, side, url] => {
            rustls::crypto::ring::default_provider()
                .install_default()
                .unwrap();
            let side = Side::ALL[side.parse::<usize>().unwrap()];
            let cost = side.run(&url.parse().unwrap(), &bodies()).await;
            println!("{}", serde_json::to_string(&cost).unwrap());
        }
        // Cargo passes `--bench`.
        _ => {
            let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
            let rounds = rounds.unwrap_or(ROUNDS).max(1);
            match measure_all(rounds) {
                Ok(figures) => print(&figures, rounds, arguments.contains(&"--json")),
                Err(void) => {
                    eprintln!("{void}");
                    return ExitCode::from(VOID);
                }
            }
        }
    }
    ExitCode::SUCCESS
}
