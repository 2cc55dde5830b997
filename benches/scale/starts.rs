//! How long a gateway takes to start, what memory it takes then, and how fast its events are read
//! and folded. The directory is made once by an embedded runtime, whose calls end in this program,
//! and then opened by the real binary in each round.
//!
//! `--subscriptions` and `--messages` (to each) are its sizes; `--kept <directory>` makes it there, or
//! takes what an earlier run made there.

use std::{
    collections::HashMap,
    fs,
    future::ready,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use hooklog::{
    clock::{SharedClock, SystemClock},
    delivery::{AttemptRequest, Egress, Transport},
    log::{Durability, EventLog, LogOptions},
    model::{
        Api, ApiId, AttemptReport, AttemptResult, ConsumerConfiguration, Message, Position, Role,
        Subscription, SubscriptionEvent, Timings, Token,
    },
    runtime::{Handle, Runtime},
    subscription::{SubscriptionState, apply},
    testing::callback::{Answer, CallbackServer},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

use super::{
    arguments::Arguments,
    gateway::Gateway,
    measure::{Spread, cpu, directory_bytes, monotonic},
    mib,
};

/// Subscriptions that get nothing.
const IDLE: usize = 100_000;
/// Subscriptions of the long log, and messages to each.
const LONG: usize = 10_000;
const MESSAGES: usize = 500;
/// Subscriptions that are made at a time.
const AT_A_TIME: usize = 256;
const ROUNDS: usize = 5;
const READ_EVENTS: usize = 1_024;
/// Any port of this machine that is free.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every call succeeds, at once and nowhere.
struct Nowhere(SharedClock);

impl Transport for Nowhere {
    fn send(&self, _: AttemptRequest) -> BoxFuture<'static, AttemptReport> {
        Box::pin(ready(AttemptReport {
            started_at: self.0.now(),
            timings: Timings::default(),
            result: AttemptResult::Responded {
                status: 204,
                retry_after: None,
            },
            captured: None,
        }))
    }

    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
        self
    }
}

/// What is measured of one data directory.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    subscriptions: usize,
    messages: usize,
}

const SCENES: [Scene; 2] = [
    Scene {
        name: "idle",
        subscriptions: IDLE,
        messages: 0,
    },
    Scene {
        name: "long",
        subscriptions: LONG,
        messages: MESSAGES,
    },
];

/// What a directory that was made is used with.
#[derive(Serialize, Deserialize)]
struct Made {
    /// The API of the subscription whose callback is ours.
    api: String,
    token: String,
    callback: SocketAddr,
    /// How long it took.
    seconds: f64,
}

/// One start of the binary.
struct Start {
    serving_seconds: f64,
    first_delivery_seconds: f64,
    resident_mib: f64,
}

impl Scene {
    /// Makes the directory, with one subscription more whose callback is ours.
    async fn fill(self, data: &Path, callback: SocketAddr) -> Made {
        let began = monotonic();
        let transport = Arc::new(Nowhere(SystemClock::shared()));
        let builder = Runtime::builder(data)
            .durability(Durability::Flushed)
            .egress(Egress::loopback());
        let runtime = builder.transport(transport).start().await.unwrap();
        let handle = runtime.handle();
        let token = Token::named("bench", Role::Admin);
        let (_, secret) = handle.create_token(token).await.unwrap();
        let api = handle.create_api(Api::named("many")).await.unwrap().id;
        let to = |url: &str| {
            Subscription::with(ConsumerConfiguration {
                callback_url: Some(url.parse().unwrap()),
                ..ConsumerConfiguration::default()
            })
        };
        stream::iter(0..self.subscriptions)
            .for_each_concurrent(AT_A_TIME, |number| {
                let subscription = to(&format!("https://consumer.example.com/{number}"));
                async {
                    handle.subscribe(api, subscription).await.unwrap();
                }
            })
            .await;
        self.publish(&handle, api).await;
        let own = handle.create_api(Api::named("own")).await.unwrap().id;
        let url = format!("http://{callback}/");
        handle.subscribe(own, to(&url)).await.unwrap();
        handle.settle().await;
        let token = secret.reveal().to_owned();
        runtime.shutdown(Duration::from_mins(1)).await;
        Made {
            api: own.to_string(),
            token,
            callback,
            seconds: (monotonic() - began) as f64 / 1e9,
        }
    }

    /// Message by message, so that the log holds them as a busy gateway writes them.
    async fn publish(self, handle: &Handle, api: ApiId) {
        for number in 0..self.messages {
            let message = Message::text(format!("message {number}"));
            handle.publish(api, message).await.unwrap();
            handle.settle().await;
            if number % 100 == 99 {
                eprintln!("{} of {} messages delivered", number + 1, self.messages);
            }
        }
    }
}

async fn start(data: &Path, own: &str, token: &str, called: &Notify) -> Start {
    let began = monotonic();
    let since = || (monotonic() - began) as f64 / 1e9;
    let gateway = Gateway::start(data.to_owned(), "", Some(token.to_owned()));
    let serving_seconds = since();
    let path = format!("/v1/apis/{own}/messages");
    let message = json!({"text": "the first"});
    gateway.ask(Method::POST, &path, Some(message)).await;
    called.notified().await;
    let first_delivery_seconds = since();
    gateway.projected().await;
    let resident_mib = mib(gateway.resident_bytes());
    gateway.stop();
    Start {
        serving_seconds,
        first_delivery_seconds,
        resident_mib,
    }
}

/// What reading a log from disk and folding it into the states of subscriptions came to.
struct Replay {
    events_per_cpu_second: f64,
    /// Events of calls that succeeded, of all.
    delivered_share: f64,
}

impl Replay {
    fn of(data: &Path) -> Self {
        // As a gateway does: who only reads a directory copies its segments first.
        let log = EventLog::open(data, LogOptions::default()).unwrap();
        let before = cpu();
        let mut states: HashMap<_, SubscriptionState> = HashMap::new();
        let (mut after, mut count, mut delivered) = (Position::ZERO, 0.0, 0.0);
        loop {
            let events = log.read(after, READ_EVENTS).unwrap();
            let Some(last) = events.last() else { break };
            after = last.position;
            count += events.len() as f64;
            for recorded in &events {
                let id = recorded.stream.as_subscription();
                if let (Some(id), Some(event)) = (id, recorded.event.as_subscription()) {
                    delivered += f64::from(matches!(event, SubscriptionEvent::AttemptSucceeded(_)));
                    let state = states.entry(id);
                    apply(state.or_insert_with(|| SubscriptionState::new(id)), event);
                }
            }
        }
        Self {
            events_per_cpu_second: count / cpu().saturating_sub(before).as_secs_f64(),
            delivered_share: delivered / count,
        }
    }
}

impl Scene {
    /// Measures a directory so often. Gives a row of the table.
    async fn run(self, rounds: usize, made: &Made, data: &Path, called: &Notify) -> String {
        let events = EventLog::open_read_only(data).unwrap().head();
        let mut starts = Vec::new();
        for _ in 0..rounds {
            starts.push(start(data, &made.api, &made.token, called).await);
        }
        let replays: Vec<_> = (0..rounds).map(|_| Replay::of(data)).collect();
        let of = |figure: fn(&Start) -> f64| Spread::of(starts.iter().map(figure));
        let rate = Spread::of(replays.iter().map(|replay| replay.events_per_cpu_second));
        format!(
            "| {} | {} | {events} | {:.1} | {:.0} | {} | {} | {} | {:.0} | {} |",
            self.name,
            self.subscriptions,
            replays[0].delivered_share * 100.0,
            made.seconds,
            of(|start| start.serving_seconds).cell(2),
            of(|start| start.first_delivery_seconds).cell(2),
            of(|start| start.resident_mib).cell(0),
            mib(directory_bytes(data) as f64),
            rate.cell(0),
        )
    }
}

pub(super) async fn measure(arguments: &Arguments) {
    let is_asked = |scene: &Scene| arguments.ask_for(scene.name);
    let scenes: Vec<_> = SCENES.into_iter().filter(is_asked).collect();
    if scenes.is_empty() {
        return;
    }
    println!(
        "| scene | subscriptions | events | delivered % | made in s | serving s \
         | first delivery s | resident MiB | data MiB | events/s a core |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for scene in scenes {
        let scene = Scene {
            subscriptions: arguments.number("--subscriptions", scene.subscriptions),
            messages: arguments.number("--messages", scene.messages),
            ..scene
        };
        let directory = tempfile::tempdir().unwrap();
        let kept = arguments.after("--kept").map(PathBuf::from);
        let directory = kept.unwrap_or_else(|| directory.path().to_owned());
        let (data, told) = (directory.join("data"), directory.join("made.json"));
        let earlier: Option<Made> = fs::read(&told)
            .ok()
            .map(|told| serde_json::from_slice(&told).unwrap());
        let address = earlier.as_ref().map_or(ANY_PORT, |made| made.callback);
        let called = Arc::new(Notify::new());
        let calling = Arc::clone(&called);
        let server = CallbackServer::start_at(address, SystemClock::shared(), move |_| {
            calling.notify_one();
            Answer::ok()
        });
        let server = server.await.unwrap();
        let made = if let Some(made) = earlier {
            made
        } else {
            fs::create_dir_all(&data).unwrap();
            let made = scene.fill(&data, server.address()).await;
            fs::write(&told, serde_json::to_vec(&made).unwrap()).unwrap();
            made
        };
        let rounds = arguments.rounds(ROUNDS);
        println!("{}", scene.run(rounds, &made, &data, &called).await);
    }
}
