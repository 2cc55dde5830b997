//! What memory a gateway takes when nothing can be delivered: many subscriptions whose callbacks
//! are down, each of them with every message still to come. Settings are those that hold where
//! nothing is set: after ten failures in a row a circuit opens, and while it is open messages wait,
//! none is given up, and one at a time probes the callback.
//!
//! `--subscriptions` and `--messages` are its sizes.

use std::time::Duration;

use hooklog::subscription::circuit::FAILURES_TO_OPEN;
use serde_json::json;

use super::{
    arguments::Arguments,
    body::{batch, body},
    gateway::{Gateway, until},
    load::BATCH_MESSAGES,
    measure::{Spread, directory_bytes, monotonic},
    mib, refusing,
    sink::{Manner, Sink},
};

const SUBSCRIPTIONS: usize = 10_000;
const MESSAGES: usize = 100;
const ROUNDS: usize = 3;
/// Between two looks at figures. Each costs the gateway a request.
const LOOK: Duration = Duration::from_millis(250);

/// How callbacks are down.
#[derive(Clone, Copy)]
enum Down {
    /// Nobody listens.
    Refused,
    /// Whoever listens answers 503.
    Unavailable,
}

const SCENES: [(&str, Down); 2] = [
    ("backlog, refused", Down::Refused),
    ("backlog, 503", Down::Unavailable),
];

#[derive(Clone, Copy)]
struct Sizes {
    subscriptions: usize,
    messages: usize,
}

/// What one round came to. Memory is in MiB.
struct Backlog {
    pending: f64,
    /// When the subscriptions were there, and no message.
    subscribed: f64,
    /// The most until every circuit was open.
    peak: f64,
    /// When every circuit was open and every projection had folded that.
    settled: f64,
    /// When there were as many calls more as there are subscriptions.
    probed: f64,
    /// From the start of the binary on what the one before left until it says that it serves.
    serving_seconds: f64,
    /// As before, after that start.
    peak_again: f64,
    probed_again: f64,
    data: f64,
}

impl Sizes {
    async fn run(self, to: impl Fn(usize) -> String) -> Result<Backlog, String> {
        let directory = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(directory.path().join("data"), "", None);
        let api = gateway.plain_api().await;
        gateway
            .subscribe(&api, self.subscriptions, &json!({}), to)
            .await;
        gateway.projected().await;
        let (_, subscribed) = memory(&gateway);
        self.publish(&gateway, &api).await;
        self.settle(&gateway).await;
        let (peak, settled) = memory(&gateway);
        self.probe(&gateway).await;
        let (_, probed) = memory(&gateway);
        self.check(&gateway).await?;

        let token = gateway.token().to_owned();
        let data = gateway.stop();
        let began = monotonic();
        let gateway = Gateway::start(data.clone(), "", Some(token));
        let serving_seconds = (monotonic() - began) as f64 / 1e9;
        self.probe(&gateway).await;
        let (peak_again, probed_again) = memory(&gateway);
        Ok(Backlog {
            pending: self.check(&gateway).await?,
            subscribed,
            peak,
            settled,
            probed,
            serving_seconds,
            peak_again,
            probed_again,
            data: mib(directory_bytes(&data) as f64),
        })
    }

    async fn publish(self, gateway: &Gateway, api: &str) {
        let bodies: Vec<_> = (0..self.messages).map(body).collect();
        for bodies in bodies.chunks(BATCH_MESSAGES) {
            gateway.publish(api, batch(bodies)).await;
        }
    }

    /// Waits until every circuit is open, and every projection has folded that.
    async fn settle(self, gateway: &Gateway) {
        let are_open = async || {
            let open = gateway.figure("hooklog_circuit{state=\"open\"}").await;
            open >= self.subscriptions as f64
        };
        until(LOOK, are_open).await;
        gateway.projected().await;
    }

    /// Waits until there were as many calls more as there are subscriptions.
    async fn probe(self, gateway: &Gateway) {
        let calls = gateway.figure("hooklog_attempts_total").await;
        let wanted = calls + self.subscriptions as f64;
        let are_probed = async || gateway.figure("hooklog_attempts_total").await >= wanted;
        until(LOOK, are_probed).await;
        gateway.projected().await;
    }

    /// How many deliveries are pending, as the gateway says. All of them must be.
    async fn check(self, gateway: &Gateway) -> Result<f64, String> {
        let pending = gateway.figure("hooklog_backlog_messages").await;
        let ended = gateway.figure("hooklog_deliveries_total").await;
        let wanted = self.subscriptions * self.messages;
        if pending < wanted as f64 || ended > 0.0 {
            return Err(format!(
                "{pending} of {wanted} deliveries are pending, and {ended} came to an end"
            ));
        }
        Ok(pending)
    }
}

/// The most so far, and what is taken now.
fn memory(gateway: &Gateway) -> (f64, f64) {
    (
        mib(gateway.peak_resident_bytes()),
        mib(gateway.resident_bytes()),
    )
}

fn row(name: &str, sizes: Sizes, rounds: &[Backlog]) -> String {
    let cell = |figure: fn(&Backlog) -> f64, decimals| {
        Spread::of(rounds.iter().map(figure)).cell(decimals)
    };
    format!(
        "| {name} | {} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} |",
        sizes.subscriptions,
        rounds[0].pending,
        cell(|round| round.subscribed, 0),
        cell(|round| round.peak, 0),
        cell(|round| round.settled, 0),
        cell(|round| round.probed, 0),
        cell(|round| round.serving_seconds, 2),
        cell(|round| round.peak_again, 0),
        cell(|round| round.probed_again, 0),
        cell(|round| round.data, 0),
    )
}

pub(super) async fn measure(arguments: &Arguments) -> Result<(), String> {
    let is_asked = |(name, _): &(&str, Down)| arguments.ask_for(name);
    let scenes: Vec<_> = SCENES.into_iter().filter(is_asked).collect();
    if scenes.is_empty() {
        return Ok(());
    }
    let sizes = Sizes {
        subscriptions: arguments.number("--subscriptions", SUBSCRIPTIONS),
        messages: arguments.number("--messages", MESSAGES),
    };
    assert!(
        sizes.messages >= FAILURES_TO_OPEN as usize,
        "fewer messages open no circuit before retries do"
    );
    let (_refusing, refused) = refusing();
    let sink = Sink::start(0);
    let to = |down, number| match down {
        Down::Refused => format!("{refused}{number}"),
        Down::Unavailable => sink.url(Manner::Down, number),
    };
    println!(
        "\n| scene | subscriptions | pending | subscribed MiB | peak MiB | settled MiB | probed MiB \
         | serving again s | peak MiB | probed MiB | data MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, down) in scenes {
        let mut rounds = Vec::new();
        for round in 0..arguments.rounds(ROUNDS) {
            let done = sizes.run(|number| to(down, number)).await;
            rounds.push(done.map_err(|void| format!("round {round}, {name}: {void}"))?);
        }
        println!("{}", row(name, sizes, &rounds));
    }
    Ok(())
}
