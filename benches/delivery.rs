//! What does a durable delivery cost beside a bare HTTP call? The gateway as people run it, from a
//! message published over HTTP to its outcome in every projection, beside a loop of calls by
//! reqwest, and by less: same bodies, same callback. Callback, publishers and
//! gateway are processes of their own, and each run has a gateway of its own.
//!
//! `cargo bench --bench delivery`, optionally followed by `-- [rounds] [--json] [--only <part of a
//! name>]`. The data goes to `TMPDIR`, which must be on the disk that is asked about. A round after
//! which the callback has not got every message exactly once is void and ends the program with 3.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod arguments;
mod bare;
mod body;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod gateway;
mod load;
mod measure;
mod sink;

use std::{process::ExitCode, time::Duration};

use hooklog::runtime::PROJECTIONS_DIRECTORY;
use serde_json::{Value, json};

use arguments::Arguments;
use bare::{Bare, Client};
use body::BODY_BYTES;
use gateway::Gateway;
use load::{BATCH_MESSAGES, Load, Publishing};
use measure::{Spread, directory_bytes, monotonic};
use sink::{Latency, Manner, Schedule, Sink};

/// Calls or deliveries of one run. More than the log keeps decoded, so some are read from disk.
const DELIVERIES: usize = 60_000;
/// Calls in flight at a time, on either side.
const IN_FLIGHT: usize = 32;
/// Connections of publishers of one message at a time.
const CONNECTIONS: usize = 64;
/// Subscriptions of the fan-out.
const FAN_OUT: usize = 10;
const ROUNDS: usize = 7;
/// Says that a round was void.
const VOID: u8 = 3;

/// How messages come to the callback.
#[derive(Clone, Copy)]
enum Way {
    /// By calls of this client, without a gateway.
    Bare(Client),
    /// Through the gateway, which gets them so.
    Published(Publishing),
}

/// What is measured, in the order of the first round.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    way: Way,
    durability: &'static str,
    /// Threads that make calls; as many as the gateway chooses when absent.
    workers: Option<usize>,
    subscriptions: usize,
    logged: bool,
}

/// What the others are compared with.
const BARE: Side = Side {
    name: "bare calls",
    way: Way::Bare(Client::Reqwest),
    durability: "",
    workers: None,
    subscriptions: 1,
    logged: false,
};

const SINGLES: Side = Side {
    name: "synced, single messages",
    way: Way::Published(Publishing::Singles),
    durability: "synced",
    ..BARE
};

const BATCHES: Side = Side {
    name: "synced, batches of 100",
    way: Way::Published(Publishing::Batches),
    ..SINGLES
};

const FANNED_OUT: Side = Side {
    name: "synced, single messages to 10 subscriptions",
    subscriptions: FAN_OUT,
    ..SINGLES
};

const SIDES: [Side; 10] = [
    BARE,
    Side {
        name: "bare calls, by hyper",
        way: Way::Bare(Client::Hyper),
        ..BARE
    },
    Side {
        name: "bare calls, by sockets",
        way: Way::Bare(Client::Sockets),
        ..BARE
    },
    SINGLES,
    BATCHES,
    FANNED_OUT,
    // A subscription stays on one worker, so only several show what workers are good for.
    Side {
        name: "synced, single messages to 10 subscriptions, 1 worker",
        workers: Some(1),
        ..FANNED_OUT
    },
    Side {
        name: "synced, single messages to 10 subscriptions, 2 workers",
        workers: Some(2),
        ..FANNED_OUT
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

impl Side {
    /// Runs it once.
    async fn run(&self, sink: &mut Sink) -> Result<Cost, String> {
        sink.clear();
        match self.way {
            Way::Bare(client) => bare(sink, client),
            Way::Published(publishing) => self.published(sink, publishing).await,
        }
    }

    async fn published(&self, sink: &mut Sink, publishing: Publishing) -> Result<Cost, String> {
        let directory = tempfile::tempdir().unwrap();
        let gateway = self.gateway(&directory);
        let load = self.load(&gateway, sink, publishing).await;
        let bodies = DELIVERIES / self.subscriptions;
        let cpu_before = gateway.cpu_seconds();
        let made = load.made(0..bodies);
        sink.expect(bodies, self.subscriptions)?;
        gateway.projected().await;
        let wall_seconds = (monotonic() - made.began) as f64 / 1e9;
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
        let workers = self.workers.map(|workers| format!("workers = {workers}\n"));
        let workers = workers.unwrap_or_default();
        let configuration = format!("{workers}[log]\ndurability = \"{}\"\n", self.durability);
        Gateway::start(directory.path().join("data"), &configuration, None)
    }

    async fn load(&self, gateway: &Gateway, sink: &Sink, publishing: Publishing) -> Load {
        let configuration = json!({ "maxInFlight": IN_FLIGHT });
        let to = |number| sink.url(Manner::Well, number);
        let api = gateway.wide_api().await;
        gateway
            .subscribe(&api, self.subscriptions, &configuration, to)
            .await;
        if self.logged {
            let both = json!({"headers": true, "payload": true});
            let logging = json!({"enabled": true, "request": both, "response": both});
            let path = format!("/v1/apis/{api}/entrypoint/logging");
            gateway
                .ask(reqwest::Method::PUT, &path, Some(logging))
                .await;
        }
        Load {
            url: format!("{}/v1/apis/{api}/messages", gateway.url()),
            token: gateway.token().to_owned(),
            publishing,
            connections: CONNECTIONS,
        }
    }
}

fn bare(sink: &mut Sink, client: Client) -> Result<Cost, String> {
    let bare = Bare {
        client,
        url: sink.url(Manner::Well, 0),
        in_flight: IN_FLIGHT,
    };
    let made = bare.made(DELIVERIES);
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
    let made = load.made(0..DELIVERIES);
    sink.expect(DELIVERIES, 1)?;
    gateway.stop();
    Ok(sink.latency(Schedule {
        first: made.began,
        interval,
        left_out: 0,
    }))
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
    /// Of each round, where single messages were among the sides.
    latencies: Vec<Latency>,
    rounds: usize,
}

impl Report {
    /// Median, least and most of end-to-end times, in milliseconds: half of them and 99 of 100.
    fn end_to_end(&self) -> Option<[Spread; 2]> {
        let of = |figure: fn(&Latency) -> f64| {
            Spread::of(self.latencies.iter().map(|late| figure(late) / 1e3))
        };
        (!self.latencies.is_empty()).then(|| [of(|late| late.p50), of(|late| late.p99)])
    }

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
        if let Some([p50, p99]) = self.end_to_end() {
            println!(
                "\nEnd to end at half that rate of single messages: p50 {} ms, p99 {} ms",
                p50.cell(2),
                p99.cell(2)
            );
        }
        if as_json {
            println!("{}", self.json());
        }
    }

    fn json(&self) -> Value {
        let sides: Vec<Value> = self.sides.iter().map(Figures::json).collect();
        let end_to_end = self.end_to_end();
        let [p50, p99] = [0, 1].map(|at| end_to_end.as_ref().map(|both| spread_json(&both[at])));
        json!({
            "deliveries": DELIVERIES,
            "bodyBytes": BODY_BYTES,
            "inFlight": IN_FLIGHT,
            "batchMessages": BATCH_MESSAGES,
            "rounds": self.rounds,
            "sides": sides,
            "endToEndP50Ms": p50,
            "endToEndP99Ms": p99,
        })
    }
}

/// Runs every side in each round. A callback that did not get what it should have is an error.
async fn measure_all(arguments: &Arguments) -> Result<Report, String> {
    let rounds = arguments.rounds(ROUNDS);
    let mut sink = Sink::start(DELIVERIES);
    let is_asked = |side: &Side| side.name == BARE.name || arguments.ask_for(side.name);
    let sides: Vec<Side> = SIDES.into_iter().filter(is_asked).collect();
    let singles = sides.iter().position(|side| side.name == SINGLES.name);
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
        if let Some(singles) = singles {
            let late = latency(&mut sink, costs[singles][round].rate() / 2.0).await;
            latencies.push(late.map_err(|got| format!("round {round}, at half the rate: {got}"))?);
        }
        eprintln!("round {} of {rounds} done", round + 1);
    }
    let figures = sides.iter().zip(&costs);
    Ok(Report {
        sides: figures
            .map(|(side, own)| Figures::of(*side, own, &costs[0]))
            .collect(),
        latencies,
        rounds,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    match *arguments.all() {
        [sink::ARGUMENT, bodies] => sink::serve(bodies).await,
        [bare::ARGUMENT, bare, calls] => bare::serve(bare, calls).await,
        [load::ARGUMENT, load, first, end] => load::serve(load, first, end).await,
        _ => match measure_all(&arguments).await {
            Ok(report) => report.print(arguments.has("--json")),
            Err(void) => {
                eprintln!("{void}");
                return ExitCode::from(VOID);
            }
        },
    }
    ExitCode::SUCCESS
}
