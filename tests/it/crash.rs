//! The real binary killed again and again, at named places and at chance times, under load, while it
//! recovers, and after its disk failed it. What it answered holds (G2), every message has its fate (G8,
//! G9), a message is sent twice only where a crash lies in between, and what is to come in order does.
//!
//! `HOOKLOG_KILLS=10000` makes so many kills, of `HOOKLOG_LANES` gateways at once (2);
//! `HOOKLOG_SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hooklog::{
    clock::SystemClock,
    model::{Draws, HttpOptions, Moment, Timestamp},
    subscription::OUTCOMES_NOT_DURABLE_MAX,
    testing::callback::{Answer, CallbackServer},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    serve::{Client, Process},
    support::{disk, process::assert_sound, seed::seed},
};

/// The places of `src/kill_point.rs` that a life comes by, and before how many passes of one the
/// process may die.
const OFTEN: [(&str, u64); 10] = [
    ("Append", 40),
    ("Sync", 40),
    ("Reply", 40),
    ("Send", 150),
    ("Outcome", 150),
    ("Forward", 8),
    ("Seal", 2),
    ("Segment", 2),
    ("Recover", 1),
    ("Resume", 1),
];
/// Those that it comes by when there is something to cut, or it was long enough.
const SELDOM: [(&str, u64); 4] = [("Snapshot", 2), ("Project", 2), ("Cut", 1), ("Origin", 1)];
/// What survives a process that is killed, each for every second gateway.
const DURABILITIES: [&str; 2] = ["synced", "flushed"];
/// How long a process lives that is not killed at a place.
const LIFE: Duration = Duration::from_millis(700);
/// How long one is given to come by its place, on a slow machine too, and by one that it comes by
/// seldom.
const OFTEN_MAX: Duration = Duration::from_secs(10);
const SELDOM_MAX: Duration = Duration::from_millis(2_500);
/// How many longer lives are given to come by one of these that none has died at.
const SELDOM_AGAIN: u32 = 5;
/// So many kills come by each place.
const KILLS_AT_EACH: u64 = 100;
/// Between two batches of a publisher.
const PAUSE: Duration = Duration::from_millis(5);
/// How many deliveries may be without their end before more is published.
const BEHIND_MAX: usize = 2_000;
/// The same in lives that are to come by what is seldom come by: nothing is cut off the log while it is
/// waited for.
const BEHIND_LITTLE: usize = 100;
/// Publishers at work at once.
const PUBLISHERS: usize = 4;
/// Callbacks, and in which order they get their messages.
const CALLBACKS: [(&str, &str); 4] = [
    ("/a", "concurrent"),
    ("/b", "concurrent"),
    ("/ordered", "ordered"),
    ("/keyed", "keyed"),
];
/// How many keys messages have.
const KEYS: u64 = 7;
/// Where dead letters are forwarded.
const LETTERS: &str = "/letters";

/// Whether callbacks never take the message of this number.
const fn is_refused(number: u64) -> bool {
    number % 10 == 3
}

/// Calls of a subscription that a crash repeats at most: those in flight, and those that ended without a
/// durable outcome. The last that began did so while fewer of these waited than may.
fn repeated_max(mode: &str) -> usize {
    let in_flight = match mode {
        "ordered" => 1,
        _ => usize::from(HttpOptions::default().max_concurrent_connections),
    };
    in_flight + OUTCOMES_NOT_DURABLE_MAX - 1
}

/// How a life is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Before so many passes of a place, where it comes by.
    At(&'static str, u64),
    /// At a chance time.
    Chance,
    /// A sync of the log fails in the middle of it.
    SyncFails,
    /// The disk is full for a while in the middle of it.
    DiskFull,
}

impl Death {
    const fn name(self) -> &'static str {
        match self {
            Self::At(place, _) => place,
            Self::Chance => "",
            Self::SyncFails => "a failed sync",
            Self::DiskFull => "a full disk",
        }
    }

    /// The file that makes a disk fail so.
    const fn fault(self) -> Option<&'static str> {
        match self {
            Self::SyncFails => Some("sync-once"),
            Self::DiskFull => Some("write"),
            Self::At(..) | Self::Chance => None,
        }
    }
}

/// A call that came.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// In which life of the gateway.
    life: u64,
    status: u16,
    /// Its place among all calls.
    at: u64,
}

impl Call {
    /// Whether its message comes no more.
    const fn is_end(self) -> bool {
        self.status != 503
    }
}

/// A message that was accepted.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    number: u64,
    position: u64,
}

/// What callbacks got, by path and message.
#[derive(Default)]
struct Ledger {
    life: AtomicU64,
    calls_made: AtomicU64,
    /// Accepted messages that have not come to their end at a callback, by it and their id.
    waiting: Mutex<BTreeSet<(&'static str, String)>>,
    calls: Mutex<HashMap<(String, String), Vec<Call>>>,
    /// The ids under which each number came to each callback.
    ids: Mutex<HashMap<(String, u64), BTreeSet<String>>>,
}

impl Ledger {
    /// A tenth is never taken, and a hundredth not at once, or a thousandth where it holds others.
    fn answer(&self, path: &str, message: &str, number: u64) -> u16 {
        let mut ids = self.ids.lock().unwrap();
        let ids_of = ids.entry((path.to_owned(), number)).or_default();
        ids_of.insert(message.to_owned());
        drop(ids);
        let mut calls = self.calls.lock().unwrap();
        let key = (path.to_owned(), message.to_owned());
        let calls = calls.entry(key).or_default();
        let slow = if matches!(path, "/ordered" | "/keyed") {
            1_000
        } else {
            100
        };
        let status = match number % slow {
            _ if is_refused(number) && path != LETTERS => 400,
            7 if calls.is_empty() => 503,
            _ => 204,
        };
        let call = Call {
            life: self.life.load(Ordering::SeqCst),
            status,
            at: self.calls_made.fetch_add(1, Ordering::SeqCst),
        };
        calls.push(call);
        if call.is_end()
            && let Some((path, _)) = CALLBACKS.into_iter().find(|(known, _)| *known == path)
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.remove(&(path, message.to_owned()));
        }
        status
    }

    /// Notes that this message is owed to each callback which it has not come to.
    fn owe(&self, message: &str) {
        let calls = self.calls.lock().unwrap();
        let mut waiting = self.waiting.lock().unwrap();
        for (path, _) in CALLBACKS {
            let calls = calls.get(&(path.to_owned(), message.to_owned()));
            if !calls.is_some_and(|calls| calls.iter().any(|call| call.is_end())) {
                waiting.insert((path, message.to_owned()));
            }
        }
    }

    /// None was called with before the one ahead of it had come to its end, as far as is known where
    /// they stand.
    fn check_order(&self, path: &str, accepted: &BTreeMap<String, Accepted>, keys: u64) {
        let calls = self.calls.lock().unwrap();
        let mut lines = BTreeMap::<(u64, u64), &[Call]>::new();
        for (id, Accepted { number, position }) in accepted {
            let calls = calls.get(&(path.to_owned(), id.clone()));
            lines.insert((number % keys, *position), calls.expect("it has come"));
        }
        let mut ahead: Option<((u64, u64), &[Call])> = None;
        for (place, calls) in lines {
            if let Some((before, calls_before)) = ahead
                && before.0 == place.0
            {
                let end = calls_before.iter().find(|call| call.is_end());
                let end = end.expect("it has come to its end").at;
                assert!(end < calls[0].at, "{path}: {place:?} before {before:?}");
            }
            ahead = Some((place, calls));
        }
    }

    /// Whether a message came to an end at this callback.
    fn has_ended(&self, path: &str, message: &str) -> bool {
        let calls = self.calls.lock().unwrap();
        let calls = calls.get(&(path.to_owned(), message.to_owned()));
        calls.is_some_and(|calls| calls.iter().any(|call| call.is_end()))
    }

    /// How many dead letters of a message came to where they are forwarded.
    fn letters_of(&self, number: u64) -> usize {
        let ids = self.ids.lock().unwrap();
        ids.get(&(LETTERS.to_owned(), number))
            .map_or(0, BTreeSet::len)
    }

    /// Each message keeps its id, however often it is sent; a dead letter is a message of its own for
    /// each subscription.
    fn check_ids(&self) {
        for ((path, number), ids) in &*self.ids.lock().unwrap() {
            let own = if path == LETTERS { CALLBACKS.len() } else { 1 };
            assert!(ids.len() <= own, "{path} got {number} as {ids:?}");
        }
    }

    /// How many messages were sent to this callback after it had taken or refused them, at most so
    /// many because of one crash.
    fn repeated(&self, path: &str, max: usize) -> usize {
        let calls = self.calls.lock().unwrap();
        // By the life that did not keep what came of the call.
        let mut lost = HashMap::<u64, usize>::new();
        for ((of, message), calls) in calls.iter().filter(|((of, _), _)| of == path) {
            let ended = calls.iter().filter(|call| call.is_end());
            let lives: Vec<_> = ended.map(|call| call.life).collect();
            let distinct: BTreeSet<_> = lives.iter().collect();
            assert_eq!(
                lives.len(),
                distinct.len(),
                "{of} {message} twice in one life: {calls:?}"
            );
            for life in distinct.into_iter().rev().skip(1) {
                *lost.entry(*life).or_default() += 1;
            }
        }
        for (life, calls) in &lost {
            assert!(
                *calls <= max,
                "{calls} calls to {path} of life {life} came again, {max} at most may"
            );
        }
        lost.into_values().sum()
    }
}

/// How many lives ended at each place, those of all gateways.
type Reached = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Everything that outlives a gateway.
struct Bench {
    data: PathBuf,
    config: String,
    faults: PathBuf,
    callback: CallbackServer,
    ledger: Arc<Ledger>,
    client: Client,
    api: String,
    /// Messages that were accepted, by id.
    accepted: Arc<Mutex<BTreeMap<String, Accepted>>>,
    numbers: Arc<AtomicU64>,
    behind_max: Arc<AtomicUsize>,
    /// What was last answered when the log was to be cut.
    cut: Arc<Mutex<Value>>,
}

impl Bench {
    async fn set_up(data: &Path, durability: &str) -> Self {
        // Small segments, of which the newest few are kept.
        let config = format!(
            "[log]\nsegment_bytes_max = 65536\nfree_bytes_min = 0\ndurability = \"{durability}\"\n\
            [retention]\nbytes_max = 150000\n"
        );
        let ledger = Arc::<Ledger>::default();
        let kept = Arc::clone(&ledger);
        let answers = move |call: &hooklog::testing::callback::ReceivedCall| {
            let id = call.header("webhook-id").unwrap().to_owned();
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            Answer::status(kept.answer(&call.target, &id, body["number"].as_u64().unwrap()))
        };
        let callback = CallbackServer::start_without_ledger(SystemClock::shared(), answers);
        let callback = callback.await.unwrap();
        let gateway = Process::try_start(Process::command(data, &config)).unwrap();
        let client = Client::new(gateway.token.as_ref().unwrap());
        let made = async |path: String, body: Value| {
            let made = client.post(format!("{}{path}", gateway.url), &body).await;
            made.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let subscribed = async |api: &str, path: &str, mode: &str| {
            let to = json!({
                "deliveryMode": mode,
                "configuration": {"callbackUrl": callback.url(path).to_string()},
            });
            made(format!("/v1/apis/{api}/subscriptions"), to).await
        };
        let entrypoint = json!({"contextPath": "/letters"});
        let letters = json!({"name": "letters", "entrypoint": entrypoint});
        let letters = made("/v1/apis".to_owned(), letters).await;
        subscribed(&letters, LETTERS, "concurrent").await;
        let entrypoint = json!({
            "contextPath": "/orders",
            "retry": {"initialDelaySeconds": 1},
            "dlq": {"type": "api", "api": letters},
        });
        let api = json!({"name": "orders", "entrypoint": entrypoint});
        let api = made("/v1/apis".to_owned(), api).await;
        for (path, mode) in CALLBACKS {
            subscribed(&api, path, mode).await;
        }
        gateway.kill();
        let faults = data.with_extension("faults");
        std::fs::create_dir(&faults).unwrap();
        Self {
            data: data.to_owned(),
            config,
            faults,
            callback,
            ledger,
            client,
            api,
            accepted: Arc::default(),
            numbers: Arc::default(),
            behind_max: Arc::new(AtomicUsize::new(BEHIND_MAX)),
            cut: Arc::default(),
        }
    }

    /// One life of a gateway: it starts, takes messages, and dies. Says whether it died where it
    /// was told to.
    async fn live(&self, death: Death, life: Duration) -> bool {
        let died = self.live_until_killed(death, life).await;
        // What the dead process had sent belongs to its life.
        let address = self.callback.url("/").to_url();
        let (host, port) = (address.host_str().unwrap(), address.port().unwrap());
        let mut last = TcpStream::connect((host, port)).await.unwrap();
        last.write_all(b"not HTTP\r\n\r\n").await.unwrap();
        let mut answered = Vec::new();
        // It is refused, or just closed.
        let _ = last.read_to_end(&mut answered).await;
        drop(last);
        self.callback.until_left().await;
        died
    }

    /// As [`live`](Self::live), and notes where it died.
    async fn live_and_note(&self, death: Death, life: Duration, reached: &Reached) {
        if self.live(death, life).await {
            let mut reached = reached.lock().unwrap();
            *reached.entry(death.name()).or_default() += 1;
        }
    }

    /// Lives on until something died at each of the places that a life comes by seldom, or did not
    /// again and again.
    async fn come_by_the_seldom(&self, reached: &Reached) {
        self.behind_max.store(BEHIND_LITTLE, Ordering::SeqCst);
        for (place, _) in SELDOM {
            for _ in 0..SELDOM_AGAIN {
                if reached.lock().unwrap().contains_key(place) {
                    break;
                }
                let death = Death::At(place, 0);
                self.live_and_note(death, 2 * OFTEN_MAX, reached).await;
                if !reached.lock().unwrap().contains_key(place) {
                    println!(
                        "nothing died at {place}; cut last: {}",
                        self.cut.lock().unwrap()
                    );
                }
            }
        }
    }

    async fn live_until_killed(&self, death: Death, life: Duration) -> bool {
        self.ledger.life.fetch_add(1, Ordering::SeqCst);
        let mut command = Process::command(&self.data, &self.config);
        if let Death::At(place, passes) = death {
            command.env("HOOKLOG_TEST_KILL_AT", format!("{place}:{passes}"));
        }
        if death.fault().is_some() {
            disk::put_between(&mut command, &self.data.join("log"), &self.faults);
        }
        let started = tokio::task::spawn_blocking(|| Process::try_start(command));
        let mut gateway = match started.await.unwrap() {
            Ok(gateway) => gateway,
            Err(status) => {
                assert_eq!(status.signal(), Some(9), "{status}");
                return true;
            }
        };
        let over = Arc::new(AtomicBool::new(false));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|_| tokio::spawn(self.publisher(&gateway.url, Arc::clone(&over))))
            .collect();
        let cutter = tokio::spawn(self.cutter(&gateway.url, Arc::clone(&over)));
        let fault = death.fault().map(|fault| self.faults.join(fault));
        if let Some(fault) = &fault {
            tokio::time::sleep(life / 3).await;
            std::fs::write(fault, "").unwrap();
            tokio::time::sleep(life / 3).await;
            // What fails once may have failed already.
            let _ = std::fs::remove_file(fault);
        }
        let life = tokio::time::sleep(if fault.is_some() { life / 3 } else { life });
        tokio::pin!(life);
        let died = loop {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(9), "{status}");
                break true;
            }
            tokio::select! {
                () = &mut life => break false,
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        };
        gateway.kill();
        over.store(true, Ordering::SeqCst);
        for publisher in publishers {
            publisher.await.unwrap();
        }
        cutter.await.unwrap();
        died
    }

    /// Publishes until the life is over, through times in which nothing is taken.
    fn publisher(&self, url: &str, over: Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
        let path = format!("{url}/v1/apis/{}/messages", self.api);
        let (client, numbers) = (self.client.clone(), Arc::clone(&self.numbers));
        let (accepted, ledger) = (Arc::clone(&self.accepted), Arc::clone(&self.ledger));
        let behind_max = Arc::clone(&self.behind_max);
        async move {
            while !over.load(Ordering::SeqCst) {
                let behind = ledger.waiting.lock().unwrap().len();
                if behind > behind_max.load(Ordering::SeqCst) {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                let first = numbers.fetch_add(3, Ordering::SeqCst);
                let batch: Vec<_> = (first..first + 3)
                    .map(|number| {
                        let content = json!({"number": number, "fill": "x".repeat(300)});
                        json!({"key": (number % KEYS).to_string(), "content": content})
                    })
                    .collect();
                let Some(answer) = client.post(path.clone(), &json!(batch)).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let messages = answer["messages"].as_array().unwrap().iter();
                let messages = messages.zip(first..).map(|(message, number)| {
                    let position = message["position"].as_u64().unwrap();
                    let id = message["id"].as_str().unwrap().to_owned();
                    ledger.owe(&id);
                    (id, Accepted { number, position })
                });
                accepted.lock().unwrap().extend(messages);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Cuts the log until the gateway is gone.
    fn cutter(&self, url: &str, over: Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
        let (client, path) = (self.client.clone(), format!("{url}/v1/retention/_apply"));
        let cut = Arc::clone(&self.cut);
        async move {
            while !over.load(Ordering::SeqCst) {
                let Some(answer) = client.post(path.clone(), &Value::Null).await else {
                    return;
                };
                *cut.lock().unwrap() = answer;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// What was accepted and has not come to its end yet.
    fn missing(&self) -> Vec<(String, &'static str)> {
        let accepted = self.accepted.lock().unwrap();
        let each = accepted
            .keys()
            .flat_map(|id| CALLBACKS.map(|(path, _)| (id, path)));
        let open = each.filter(|(id, path)| !self.ledger.has_ended(path, id));
        let mut missing: Vec<_> = open.map(|(id, path)| (id.clone(), path)).collect();
        for (id, message) in accepted
            .iter()
            .filter(|(_, message)| is_refused(message.number))
        {
            if self.ledger.letters_of(message.number) < CALLBACKS.len() {
                missing.push((id.clone(), LETTERS));
            }
        }
        missing
    }

    /// The last life: it delivers what is left, and ends in order.
    async fn account(&self) {
        self.ledger.life.fetch_add(1, Ordering::SeqCst);
        let gateway = Process::try_start(Process::command(&self.data, &self.config)).unwrap();
        let (mut left, mut looks) = (self.missing(), 0);
        // As long as it goes on.
        while !left.is_empty() && looks < 300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.missing();
            looks = if now.len() < left.len() { 0 } else { looks + 1 };
            left = now;
        }
        assert!(left.is_empty(), "accepted and lost: {left:?}");
        let (status, _) = tokio::task::spawn_blocking(|| gateway.terminate())
            .await
            .unwrap();
        assert!(status.success(), "{status}");
        assert_sound(&self.data);
    }
}

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    let asked = std::env::var(name).ok()?;
    Some(
        asked
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// How the lives of a gateway end, in turn: at each place, and what else there is. Those that it comes
/// by seldom take long, and share a turn.
fn death(kill: u64, lane: u64, draws: &mut Draws) -> (Death, Duration) {
    let turns = OFTEN.len() as u64 + 4;
    // Each gateway begins with another, so that few kills of many come by all of them.
    let kill = kill + lane * 7;
    let (round, turn) = (kill / turns, usize::try_from(kill % turns).unwrap());
    if let Some((place, passes)) = OFTEN.get(turn) {
        return (Death::At(place, draws.below(*passes)), OFTEN_MAX);
    }
    match turn - OFTEN.len() {
        0 => {
            let place = usize::try_from(round + lane).unwrap() % SELDOM.len();
            let (place, passes) = SELDOM[place];
            (Death::At(place, draws.below(passes)), SELDOM_MAX)
        }
        1 => (Death::SyncFails, LIFE),
        2 => (Death::DiskFull, LIFE),
        _ => {
            let hundredths = u32::try_from(draws.below(100)).unwrap();
            (Death::Chance, LIFE * hundredths / 100)
        }
    }
}

/// What came of a gateway that was killed so many times.
struct Lane {
    accepted: usize,
    repeated: usize,
}

/// Kills one gateway again and again, and accounts for all that it accepted. The first of them comes by
/// what none came by, where `at_each` place something is to die.
async fn killed(
    kills: u64,
    lane: u64,
    durability: &str,
    seed: u64,
    reached: Reached,
    at_each: bool,
) -> Lane {
    let own = seed.wrapping_add(lane);
    let mut draws = Moment::new(Timestamp::EPOCH, own.into()).draws();
    let temp = tempfile::tempdir().unwrap();
    let bench = Bench::set_up(&temp.path().join("data"), durability).await;
    for kill in 0..kills {
        let (death, life) = death(kill, lane, &mut draws);
        bench.live_and_note(death, life, &reached).await;
        if kill % 100 == 99 {
            println!("{} kills", kill + 1);
        }
    }
    if at_each && lane == 0 {
        bench.come_by_the_seldom(&reached).await;
    }
    bench.account().await;
    bench.ledger.check_ids();
    let accepted = bench.accepted.lock().unwrap().clone();
    bench.ledger.check_order("/ordered", &accepted, 1);
    bench.ledger.check_order("/keyed", &accepted, KEYS);
    let accepted = accepted.len();
    let repeated = CALLBACKS.map(|(path, mode)| bench.ledger.repeated(path, repeated_max(mode)));
    println!("{repeated:?} of {accepted} sent again after {kills} kills");
    Lane {
        accepted,
        repeated: repeated.into_iter().sum(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g8_g9_a_gateway_killed_anywhere_keeps_what_it_answered_and_repeats_only_over_a_crash() {
    let kills = asked("HOOKLOG_KILLS").unwrap_or(100);
    let asked_lanes = asked("HOOKLOG_LANES").unwrap_or(2);
    let seed = seed();
    let lanes = (0..asked_lanes).zip(DURABILITIES.into_iter().cycle());
    let (each, at_each) = (kills.div_ceil(asked_lanes), kills >= KILLS_AT_EACH);
    let reached = Reached::default();
    let lanes = lanes.map(|(lane, durability)| {
        let reached = Arc::clone(&reached);
        tokio::spawn(killed(each, lane, durability, seed, reached, at_each))
    });
    let (mut accepted, mut repeated) = (0, 0);
    for lane in lanes.collect::<Vec<_>>() {
        let lane = lane.await.unwrap();
        accepted += lane.accepted;
        repeated += lane.repeated;
    }
    let reached = reached.lock().unwrap().clone();
    println!("{kills} kills, {accepted} accepted, {repeated} calls repeated, died at: {reached:?}");
    assert!(
        accepted as u64 >= kills,
        "{accepted} messages are too few to tell anything"
    );
    let places = OFTEN.into_iter().chain(SELDOM).map(|(place, _)| place);
    let missed: Vec<_> = places
        .filter(|place| !reached.contains_key(place))
        .collect();
    assert!(
        !at_each || missed.is_empty(),
        "nothing died at {missed:?}, but at {reached:?}"
    );
}
