//! Whether others wait longer when callbacks never answer. Of the subscriptions of one API none,
//! one and a tenth hang: their callbacks take each call, read it and leave it at that until the
//! gateway gives it up. Messages come at their times whatever became of those before, at a rate
//! that leaves the machine mostly idle; how late they are at the callbacks that answer is measured.
//! Settings are those that hold where nothing is set.
//!
//! `--subscriptions`, `--rate` (messages a second) and `--seconds` are its sizes. `--idle`
//! subscriptions of another API get nothing: with them it is one of thousands that hangs, at the same
//! load.

use serde_json::json;

use super::{
    arguments::Arguments,
    gateway::Gateway,
    load::{Load, Publishing},
    measure::Spread,
    sink::{Latency, Manner, Schedule, Sink},
};

const NAME: &str = "hanging";
const SUBSCRIPTIONS: usize = 100;
const RATE: usize = 20;
/// Longer than it takes until ten calls, five at a time, are given up, and circuits open.
const SECONDS: usize = 30;
const IDLE: usize = 0;
/// Whose messages are not in the figures: connections are still being made.
const WARM_UP_SECONDS: usize = 2;
const CONNECTIONS: usize = 64;
/// Calls that each hanging callback must have been given up by.
const HANGING_CALLS_MIN: usize = 5;
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
struct Sizes {
    subscriptions: usize,
    rate: usize,
    seconds: usize,
    idle: usize,
}

impl Sizes {
    /// How late messages were at those that answer, where so many do not.
    async fn run(self, sink: &mut Sink, hanging: usize) -> Result<Latency, String> {
        sink.clear();
        let directory = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(directory.path().join("data"), "", None);
        let answering = self.subscriptions - hanging;
        let to = |number| match number {
            number if number < answering => sink.url(Manner::Well, number),
            number => sink.url(Manner::Hanging, number),
        };
        let api = gateway.plain_api().await;
        let other = gateway.api(json!({"contextPath": "/idle"})).await;
        let nowhere = |number| sink.url(Manner::Well, number);
        gateway
            .subscribe(&other, self.idle, &json!({}), nowhere)
            .await;
        gateway
            .subscribe(&api, self.subscriptions, &json!({}), to)
            .await;
        let interval = 1_000_000_000 / self.rate as u64;
        let load = Load {
            url: format!("{}/v1/apis/{api}/messages", gateway.url()),
            token: gateway.token().to_owned(),
            publishing: Publishing::Timed(interval),
            connections: CONNECTIONS,
        };
        let made = load.made(0..self.messages());
        sink.expect(self.messages(), answering)?;
        let failed = gateway
            .figure("hooklog_attempts_total{outcome=\"failed\"")
            .await;
        if failed < (hanging * HANGING_CALLS_MIN) as f64 {
            return Err(format!("only {failed} calls hung"));
        }
        Ok(sink.latency(Schedule {
            first: made.began,
            interval,
            left_out: WARM_UP_SECONDS.min(self.seconds / 2) * self.rate,
        }))
    }

    const fn messages(self) -> usize {
        self.rate * self.seconds
    }
}

fn row(hanging: usize, own: &[Latency], base: &[Latency]) -> String {
    let ms =
        |figure: fn(&Latency) -> f64| Spread::of(own.iter().map(|late| figure(late) / 1e3)).cell(2);
    let ratio = |figure: fn(&Latency) -> f64| {
        let pairs = own.iter().zip(base);
        Spread::of(pairs.map(|(own, base)| figure(own) / figure(base))).cell(2)
    };
    format!(
        "| {hanging} | {} | {} | {} | {} |",
        ms(|late| late.p50),
        ms(|late| late.p99),
        ratio(|late| late.p50),
        ratio(|late| late.p99),
    )
}

pub(super) async fn measure(arguments: &Arguments) -> Result<(), String> {
    if !arguments.ask_for(NAME) {
        return Ok(());
    }
    let sizes = Sizes {
        subscriptions: arguments.number("--subscriptions", SUBSCRIPTIONS),
        rate: arguments.number("--rate", RATE),
        seconds: arguments.number("--seconds", SECONDS),
        idle: arguments.number("--idle", IDLE),
    };
    let cases = [0, 1, sizes.subscriptions / 10];
    let mut sink = Sink::start(sizes.messages());
    let mut latencies = cases.map(|_| Vec::new());
    let rounds = arguments.rounds(ROUNDS);
    for round in 0..rounds {
        for turn in 0..cases.len() {
            // Whoever runs second finds a warmer machine; so they take turns.
            let at = (round + turn) % cases.len();
            let late = sizes.run(&mut sink, cases[at]).await;
            let late =
                late.map_err(|got| format!("round {round}, {} hanging: {got}", cases[at]))?;
            latencies[at].push(late);
        }
        eprintln!("round {} of {rounds} done", round + 1);
    }
    println!(
        "\n{} subscriptions beside {} idle ones, {} messages a second for {} s, {rounds} rounds\n",
        sizes.subscriptions, sizes.idle, sizes.rate, sizes.seconds
    );
    println!("| hanging | p50 ms | p99 ms | p50 / none | p99 / none |");
    println!("|---|---|---|---|---|");
    for (hanging, own) in cases.into_iter().zip(&latencies) {
        println!("{}", row(hanging, own, &latencies[0]));
    }
    Ok(())
}
