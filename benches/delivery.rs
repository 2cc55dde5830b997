//! What does a durable delivery cost beside a bare HTTP call? The gateway as people run it, from a
//! message published over HTTP to its outcome in every projection, beside a loop of calls by the
//! same HTTP client: same bodies, same callback. Callback, publishers and gateway are processes of
//! their own, and each run has a gateway of its own.
//!
//! `cargo bench --bench delivery`, optionally followed by `-- [rounds] [--json] [--only <part of a
//! name>]`. The data goes to `TMPDIR`, which must be on the disk that is asked about. A round after
//! which the callback has not got every message exactly once is void and ends the program with 3.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

mod gateway;
mod load;
mod measure;
mod sink;

use std::{env, process::ExitCode, time::Duration};

use bytes::Bytes;
use hooklog::runtime::PROJECTIONS_DIRECTORY;
use serde_json::{Value, json};

use gateway::Gateway;
use load::{BATCH_MESSAGES, Load, Made, Publishing};
use measure::{Spread, apart, directory_bytes};
use sink::{Latency, Sink};

/// Calls or deliveries of one run. More than the log keeps decoded, so some are read from disk.
const DELIVERIES: usize = 60_000;
/// Bytes of each body.
const BODY_BYTES: usize = 1_024;
/// Calls in flight at a time, on either side.
const IN_FLIGHT: usize = 32;
/// Connections of publishers of one message at a time.
const CONNECTIONS: usize = 64;
/// Subscriptions of the fan-out.
const FAN_OUT: usize = 10;
const ROUNDS: usize = 7;
/// Says that a round was void.
const VOID: u8 = 3;
/// Makes the binary make a load: what it is, and of how many bodies.
const LOAD: &str = "--load";

/// What is measured, in the order of the first round.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    /// How the gateway gets its messages; the bare loop has none.
    publishing: Option<Publishing>,
    durability: &'static str,
    subscriptions: usize,
    logged: bool,
}

const BARE: Side = Side {
    name: "bare calls",
    publishing: None,
    durability: "",
    subscriptions: 1,
    logged: false,
};

const SINGLES: Side = Side {
    name: "synced, single messages",
    publishing: Some(Publishing::Singles),
    durability: "synced",
    ..BARE
};

const BATCHES: Side = Side {
    name: "synced, batches of 100",
    publishing: Some(Publishing::Batches),
    ..SINGLES
};

const SIDES: [Side; 6] = [
    BARE,
    SINGLES,
    BATCHES,
    Side {
        name: "synced, single messages to 10 subscriptions",
        subscriptions: FAN_OUT,
        ..SINGLES
    },
    Side {
        name: "synced, single messages, all four logged",
        logged: true,
        ..SINGLES
    },
    Side {
        name: "flushed, batches of 100",
        durability: "flushed",
        ..BATCHES
    },
];

/// What one run took.
struct Cost {
    cpu_seconds: f64,
    wall_seconds: f64,
    log_bytes: u64,
    projection_bytes: u64,
    resident_bytes: f64,
}

impl Cost {
    fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / DELIVERIES as f64
    }

    fn rate(&self) -> f64 {
        DELIVERIES as f64 / self.wall_seconds
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

/// Makes a load in a process of its own.
fn made(load: &Load, bodies: usize) -> Made {
    let load = serde_json::to_string(load).unwrap();
    apart(&[LOAD, &load, &bodies.to_string()])
}

impl Side {
    /// Runs it once.
    async fn run(&self, sink: &mut Sink) -> Result<Cost, String> {
        sink.clear();
        let Some(publishing) = self.publishing else {
            return bare(sink);
        };
        let directory = tempfile::tempdir().unwrap();
        let gateway = self.gateway(&directory);
        let load = self.load(&gateway, sink, publishing).await;
        let bodies = DELIVERIES / self.subscriptions;
        let (cpu_before, began) = (gateway.cpu_seconds(), load::monotonic());
        made(&load, bodies);
        sink.expect(bodies, self.subscriptions)?;
        gateway.projected().await;
        let wall_seconds = (load::monotonic() - began) as f64 / 1e9;
        let cpu_seconds = gateway.cpu_seconds() - cpu_before;
        let resident_bytes = gateway.resident_bytes();
        let data = gateway.stop();
        // What came once more meanwhile shows now.
        sink.expect(bodies, self.subscriptions)?;
        Ok(Cost {
            cpu_seconds,
            wall_seconds,
            log_bytes: directory_bytes(&data.join("log")),
            projection_bytes: directory_bytes(&data.join(PROJECTIONS_DIRECTORY)),
            resident_bytes,
        })
    }

    fn gateway(&self, directory: &tempfile::TempDir) -> Gateway {
        let configuration = format!("[log]\ndurability = \"{}\"\n", self.durability);
        Gateway::start(directory.path().join("data"), &configuration, None)
    }

    async fn load(&self, gateway: &Gateway, sink: &Sink, publishing: Publishing) -> Load {
        let configuration = json!({ "maxInFlight": IN_FLIGHT });
        let to = |number| sink.url(number);
        let api = gateway
            .subscribe(self.subscriptions, &configuration, to)
            .await;
        if self.logged {
            let both = json!({"headers": true, "payload": true});
            let logging = json!({"enabled": true, "request": both, "response": both});
            let path = format!("/v1/apis/{api}/entrypoint/logging");
            gateway
                .ask(reqwest::Method::PUT, &path, Some(logging))
                .await;
        }
        Load::Publish {
            url: format!("{}/v1/apis/{api}/messages", gateway.url()),
            token: gateway.token().to_owned(),
            publishing,
            connections: CONNECTIONS,
        }
    }
}

fn bare(sink: &mut Sink) -> Result<Cost, String> {
    let load = Load::Bare {
        url: sink.url(0),
        in_flight: IN_FLIGHT,
    };
    let made = made(&load, DELIVERIES);
    sink.expect(DELIVERIES, 1)?;
    Ok(Cost {
        cpu_seconds: made.cpu_seconds,
        wall_seconds: made.wall_seconds,
        log_bytes: 0,
        projection_bytes: 0,
        resident_bytes: 0.0,
    })
}

/// How late messages arrive that are published at this rate, one at a time, over the gateway.
async fn latency(sink: &mut Sink, rate: f64) -> Result<Latency, String> {
    sink.clear();
    let directory = tempfile::tempdir().unwrap();
    let gateway = SINGLES.gateway(&directory);
    let interval = Duration::from_secs_f64(1.0 / rate).as_nanos();
    let interval = u64::try_from(interval).unwrap();
    let load = SINGLES
        .load(&gateway, sink, Publishing::Timed(interval))
        .await;
    let made = made(&load, DELIVERIES);
    sink.expect(DELIVERIES, 1)?;
    gateway.stop();
    Ok(sink.latency(made.began, interval))
}

/// The figures of one side over the rounds. A ratio is taken within its round.
struct Figures {
    side: &'static str,
    rate: Spread,
    cpu_micros: Spread,
    rate_ratio: Spread,
    cpu_ratio: Spread,
    log_bytes: Spread,
    projection_bytes: Spread,
    resident_mib: Spread,
}

impl Figures {
    fn of(side: Side, costs: &[Cost], bare: &[Cost]) -> Self {
        let each = |figure: fn(&Cost) -> f64| Spread::of(costs.iter().map(figure));
        let ratio = |figure: fn(&Cost) -> f64| {
            let pairs = costs.iter().zip(bare);
            Spread::of(pairs.map(|(cost, bare)| figure(cost) / figure(bare)))
        };
        Self {
            side: side.name,
            rate: each(Cost::rate),
            cpu_micros: each(Cost::cpu_micros),
            rate_ratio: ratio(Cost::rate),
            cpu_ratio: ratio(Cost::cpu_micros),
            log_bytes: each(|cost| cost.log_bytes as f64 / DELIVERIES as f64),
            projection_bytes: each(|cost| cost.projection_bytes as f64 / DELIVERIES as f64),
            resident_mib: each(|cost| cost.resident_bytes / f64::from(1 << 20)),
        }
    }

    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} |",
            self.side,
            self.rate.cell(0),
            self.cpu_micros.cell(1),
            self.rate_ratio.cell(2),
            self.cpu_ratio.cell(2),
            self.log_bytes.median,
            self.projection_bytes.median,
            self.resident_mib.median,
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
            "residentMib": spread_json(&self.resident_mib),
        })
    }
}

fn spread_json(spread: &Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

/// What the rounds came to.
struct Report {
    sides: Vec<Figures>,
    p50_ms: Spread,
    p99_ms: Spread,
    rounds: usize,
}

impl Report {
    fn print(&self, as_json: bool) {
        let rounds = self.rounds;
        println!(
            "{DELIVERIES} deliveries of {BODY_BYTES} B, {IN_FLIGHT} in flight, {rounds} rounds\n"
        );
        println!(
            "| side | per second | CPU µs each | per second / bare | CPU / bare | log B each \
             | projections B each | resident MiB |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for figures in &self.sides {
            println!("{}", figures.row());
        }
        println!(
            "\nEnd to end at half that rate of single messages: p50 {} ms, p99 {} ms",
            self.p50_ms.cell(2),
            self.p99_ms.cell(2)
        );
        if as_json {
            let sides: Vec<Value> = self.sides.iter().map(Figures::json).collect();
            let line = json!({
                "deliveries": DELIVERIES,
                "bodyBytes": BODY_BYTES,
                "inFlight": IN_FLIGHT,
                "batchMessages": BATCH_MESSAGES,
                "rounds": rounds,
                "sides": sides,
                "endToEndP50Ms": spread_json(&self.p50_ms),
                "endToEndP99Ms": spread_json(&self.p99_ms),
            });
            println!("{line}");
        }
    }
}

/// Runs every side in each round. A callback that did not get what it should have is an error.
async fn measure_all(rounds: usize, only: Option<&str>) -> Result<Report, String> {
    let mut sink = Sink::start();
    let is_asked =
        |side: &Side| side.publishing.is_none() || only.is_none_or(|part| side.name.contains(part));
    let sides: Vec<Side> = SIDES.into_iter().filter(is_asked).collect();
    let mut costs: Vec<Vec<Cost>> = sides.iter().map(|_| Vec::new()).collect();
    let mut latencies = Vec::new();
    for round in 0..rounds {
        for turn in 0..sides.len() {
            // Whoever runs second finds a warmer machine; so they take turns.
            let at = (round + turn) % sides.len();
            let cost = sides[at].run(&mut sink).await;
            costs[at]
                .push(cost.map_err(|got| format!("round {round}, {}: {got}", sides[at].name))?);
        }
        let rate = costs[1.min(costs.len() - 1)][round].rate() / 2.0;
        let late = latency(&mut sink, rate).await;
        latencies.push(late.map_err(|got| format!("round {round}, at half the rate: {got}"))?);
        eprintln!("round {} of {rounds} done", round + 1);
    }
    let figures = sides.iter().zip(&costs);
    Ok(Report {
        sides: figures
            .map(|(side, own)| Figures::of(*side, own, &costs[0]))
            .collect(),
        p50_ms: Spread::of(latencies.iter().map(|late| late.p50 / 1e3)),
        p99_ms: Spread::of(latencies.iter().map(|late| late.p99 / 1e3)),
        rounds,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    match *arguments {
        [sink::ARGUMENT] => sink::serve((0..DELIVERIES).map(body).collect()).await,
        [LOAD, load, bodies] => {
            let load: Load = serde_json::from_str(load).unwrap();
            let made = load.make(bodies.parse().unwrap()).await;
            println!("{}", serde_json::to_string(&made).unwrap());
        }
        // Cargo passes `--bench`.
        _ => {
            let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
            let rounds = rounds.unwrap_or(ROUNDS).max(1);
            let only = arguments.iter().position(|argument| *argument == "--only");
            let only = only.and_then(|at| arguments.get(at + 1).copied());
            match measure_all(rounds, only).await {
                Ok(report) => report.print(arguments.contains(&"--json")),
                Err(void) => {
                    eprintln!("{void}");
                    return ExitCode::from(VOID);
                }
            }
        }
    }
    ExitCode::SUCCESS
}
