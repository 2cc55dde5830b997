//! Whether a gateway that runs for long takes more and more. Messages come at a steady rate for an
//! hour; a third of the subscriptions is broken for good (nobody listens, answers 503, never
//! answers), and what is theirs is given up at its deadline and discarded: dead letters would be kept
//! for as long as nobody does something about them. Retention keeps the log short. Files, threads,
//! memory and disk are looked at as it runs.
//!
//! `--minutes`, `--subscriptions` and `--rate` (messages a second) are its sizes.

use hooklog::runtime::PROJECTIONS_DIRECTORY;
use serde_json::json;

use super::{
    arguments::Arguments,
    gateway::Gateway,
    load::{Load, Publishing},
    measure::directory_bytes,
    mib, refusing,
    sink::{Manner, Sink},
};

const NAME: &str = "soak";
const MINUTES: usize = 60;
const SUBSCRIPTIONS: usize = 30;
const RATE: usize = 200;
const CONNECTIONS: usize = 64;
/// When a message to a broken callback is given up.
const DEADLINE_SECONDS: u64 = 60;
/// Rows that the table has at most.
const ROWS_MAX: usize = 12;
const DISCARDED: &str = "hooklog_deliveries_total{outcome=\"discarded\"}";
const RETENTION: &str = "[retention]\nbytes_max = 200_000_000\n";

/// What is taken at one time.
struct Look {
    minutes: usize,
    files: f64,
    threads: f64,
    resident: f64,
    log: f64,
    views: f64,
    backlog: f64,
    discarded: f64,
    cpu_percent: f64,
}

type Figure = fn(&Look) -> f64;

/// What of a look is to stay as it is.
const FLAT: [(&str, Figure); 5] = [
    ("files", |look| look.files),
    ("threads", |look| look.threads),
    ("resident MiB", |look| look.resident),
    ("log MiB", |look| look.log),
    ("views MiB", |look| look.views),
];

impl Look {
    async fn at(gateway: &Gateway, minutes: usize, cpu_percent: f64) -> Self {
        let each = |directory| mib(directory_bytes(&gateway.data().join(directory)) as f64);
        Self {
            minutes,
            files: gateway.open_files() as f64,
            threads: gateway.threads(),
            resident: mib(gateway.resident_bytes()),
            log: each("log"),
            views: each(PROJECTIONS_DIRECTORY),
            backlog: gateway.figure("hooklog_backlog_messages").await,
            discarded: gateway.figure(DISCARDED).await,
            cpu_percent,
        }
    }

    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} |",
            self.minutes,
            self.files,
            self.threads,
            self.resident,
            self.log,
            self.views,
            self.backlog,
            self.discarded,
            self.cpu_percent,
        )
    }
}

/// The most of a figure in the last third of the time beside the most in the third before.
fn growth(looks: &[Look], figure: Figure) -> f64 {
    let third = looks.len() / 3;
    let most = |looks: &[Look]| looks.iter().map(figure).fold(0.0, f64::max);
    let (before, last) = looks[third..].split_at(third);
    most(last) / most(before)
}

pub(super) async fn measure(arguments: &Arguments) -> Result<(), String> {
    if !arguments.ask_for(NAME) {
        return Ok(());
    }
    let minutes = arguments.number("--minutes", MINUTES);
    let subscriptions = arguments.number("--subscriptions", SUBSCRIPTIONS);
    let rate = arguments.number("--rate", RATE);
    let a_minute = rate * 60;
    let broken = subscriptions / 3;
    let answering = subscriptions - broken;

    let (_refusing, refused) = refusing();
    let mut sink = Sink::start(minutes * a_minute);
    let to = |number: usize| match number.checked_sub(answering) {
        None => sink.url(Manner::Well, number),
        Some(broken) => match broken % 3 {
            0 => format!("{refused}{number}"),
            1 => sink.url(Manner::Down, number),
            _ => sink.url(Manner::Hanging, number),
        },
    };
    let directory = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(directory.path().join("data"), RETENTION, None);
    let discards = json!({
        "contextPath": "/bench",
        "dlq": {"type": "none"},
        "onFailure": "discard",
    });
    let api = gateway.api(discards).await;
    let retry = json!({"retry": {"deadlineSeconds": DEADLINE_SECONDS}});
    gateway.subscribe(&api, subscriptions, &retry, to).await;
    let load = Load {
        url: format!("{}/v1/apis/{api}/messages", gateway.url()),
        token: gateway.token().to_owned(),
        publishing: Publishing::Timed(1_000_000_000 / rate as u64),
        connections: CONNECTIONS,
    };
    println!(
        "\n{subscriptions} subscriptions, {broken} of them broken, {rate} messages a second\n\n\
         | minutes | files | threads | resident MiB | log MiB | views MiB | backlog \
         | discarded | CPU % |\n|{}",
        "---|".repeat(9)
    );
    let mut looks = Vec::new();
    for minute in 0..minutes {
        let before = gateway.cpu_seconds();
        let made = load.made(minute * a_minute..(minute + 1) * a_minute);
        sink.expect((minute + 1) * a_minute, answering)
            .map_err(|got| format!("minute {minute}: {got}"))?;
        let cpu_percent = (gateway.cpu_seconds() - before) / made.wall_seconds * 100.0;
        let look = Look::at(&gateway, minute + 1, cpu_percent).await;
        if (minute + 1).is_multiple_of(minutes.div_ceil(ROWS_MAX)) {
            println!("{}", look.row());
        }
        looks.push(look);
    }
    if minutes >= 3 {
        println!("\n| | most in the last third / in the third before |\n|---|---|");
        for (name, figure) in FLAT {
            println!("| {name} | {:.2} |", growth(&looks, figure));
        }
    }
    gateway.stop();
    Ok(())
}
