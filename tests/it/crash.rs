//! The real binary killed again and again, at named places and at chance times, under load, while it
//! recovers, and after its disk failed it. What it answered holds (G2), every message has its fate (G8,
//! G9), and a message is sent twice only where a crash lies in between.
//!
//! `HOOKLOG_KILLS=10000` makes so many kills; `HOOKLOG_SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hooklog::{
    clock::{Clock, SystemClock},
    model::{Draws, Moment, Timestamp},
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
    support::disk,
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
/// Small segments, of which the newest few are kept.
const CONFIG: &str = "[log]\nsegment_bytes_max = 65536\nfree_bytes_min = 0\n\
    [retention]\nbytes_max = 150000\n";
/// How long a process lives that does not come by its place.
const LIFE: Duration = Duration::from_millis(700);
const LONG_LIFE: Duration = Duration::from_millis(2_500);
/// Between two batches of a publisher.
const PAUSE: Duration = Duration::from_millis(5);
/// How many messages may be without their end before more are published.
const BEHIND_MAX: u64 = 500;
/// Publishers at work at once.
const PUBLISHERS: usize = 4;
/// Calls that one subscription has in flight at most.
const IN_FLIGHT: usize = 32;
/// Calls of a subscription that a crash repeats at most.
const REPEATED_MAX: usize = IN_FLIGHT + OUTCOMES_NOT_DURABLE_MAX;
const CALLBACKS: [&str; 2] = ["/a", "/b"];
/// Where dead letters are forwarded.
const LETTERS: &str = "/letters";

/// Whether callbacks never take the message of this number.
const fn is_refused(number: u64) -> bool {
    number % 10 == 3
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

/// A call: in which life of the gateway it came, and what was answered.
type Call = (u64, u16);

/// What callbacks got, by path and message.
#[derive(Default)]
struct Ledger {
    life: AtomicU64,
    /// How many messages came to an end, at each callback.
    ended: AtomicU64,
    calls: Mutex<HashMap<(String, String), Vec<Call>>>,
    /// The ids under which each number came to each callback.
    ids: Mutex<HashMap<(String, u64), BTreeSet<String>>>,
}

impl Ledger {
    /// A tenth is never taken, and a hundredth not at once.
    fn answer(&self, path: &str, message: &str, number: u64) -> u16 {
        let mut ids = self.ids.lock().unwrap();
        let ids_of = ids.entry((path.to_owned(), number)).or_default();
        ids_of.insert(message.to_owned());
        drop(ids);
        let mut calls = self.calls.lock().unwrap();
        let key = (path.to_owned(), message.to_owned());
        let calls = calls.entry(key).or_default();
        let status = match number % 100 {
            _ if is_refused(number) && path != LETTERS => 400,
            7 if calls.is_empty() => 503,
            _ => 204,
        };
        let is_first_end = status != 503 && calls.iter().all(|(_, before)| *before == 503);
        if is_first_end && CALLBACKS.contains(&path) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
        calls.push((self.life.load(Ordering::SeqCst), status));
        status
    }

    /// Whether a message came to an end at this callback.
    fn has_ended(&self, path: &str, message: &str) -> bool {
        let calls = self.calls.lock().unwrap();
        let calls = calls.get(&(path.to_owned(), message.to_owned()));
        calls.is_some_and(|calls| calls.iter().any(|(_, status)| *status != 503))
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

    /// How many messages were sent to this callback after it had taken or refused them.
    fn repeated(&self, path: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        // By the life that did not keep what came of the call.
        let mut lost = HashMap::<u64, usize>::new();
        for ((of, message), calls) in calls.iter().filter(|((of, _), _)| of == path) {
            let ended = calls.iter().filter(|(_, status)| *status != 503);
            let lives: Vec<_> = ended.map(|(life, _)| *life).collect();
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
                *calls <= REPEATED_MAX,
                "{calls} calls to {path} of life {life} came again"
            );
        }
        lost.into_values().sum()
    }
}

/// Everything that outlives a gateway.
struct Bench {
    data: PathBuf,
    faults: PathBuf,
    callback: CallbackServer,
    ledger: Arc<Ledger>,
    client: Client,
    api: String,
    /// Messages that were accepted, with their numbers.
    accepted: Arc<Mutex<BTreeMap<String, u64>>>,
    numbers: Arc<AtomicU64>,
}

impl Bench {
    async fn set_up(data: &Path) -> Self {
        let ledger = Arc::<Ledger>::default();
        let kept = Arc::clone(&ledger);
        let answers = move |call: &hooklog::testing::callback::ReceivedCall| {
            let id = call.header("webhook-id").unwrap().to_owned();
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            Answer::status(kept.answer(&call.target, &id, body["number"].as_u64().unwrap()))
        };
        let callback = CallbackServer::start_without_ledger(SystemClock::shared(), answers);
        let callback = callback.await.unwrap();
        let gateway = Process::try_start(Process::command(data, CONFIG)).unwrap();
        let client = Client::new(gateway.token.as_ref().unwrap());
        let made = async |path: String, body: Value| {
            let made = client.post(format!("{}{path}", gateway.url), &body).await;
            made.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let subscribed = async |api: &str, path: &str| {
            let to = json!({"configuration": {"callbackUrl": callback.url(path).to_string()}});
            made(format!("/v1/apis/{api}/subscriptions"), to).await
        };
        let entrypoint = json!({"contextPath": "/letters"});
        let letters = json!({"name": "letters", "entrypoint": entrypoint});
        let letters = made("/v1/apis".to_owned(), letters).await;
        subscribed(&letters, LETTERS).await;
        let entrypoint = json!({
            "contextPath": "/orders",
            "retry": {"initialDelaySeconds": 1},
            "dlq": {"type": "api", "api": letters},
        });
        let api = json!({"name": "orders", "entrypoint": entrypoint});
        let api = made("/v1/apis".to_owned(), api).await;
        for path in CALLBACKS {
            subscribed(&api, path).await;
        }
        gateway.kill();
        let faults = data.with_extension("faults");
        std::fs::create_dir(&faults).unwrap();
        Self {
            data: data.to_owned(),
            faults,
            callback,
            ledger,
            client,
            api,
            accepted: Arc::default(),
            numbers: Arc::default(),
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

    async fn live_until_killed(&self, death: Death, life: Duration) -> bool {
        self.ledger.life.fetch_add(1, Ordering::SeqCst);
        let mut command = Process::command(&self.data, CONFIG);
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
        let known = Arc::clone(&accepted);
        let is_behind = move || {
            let ended = ledger.ended.load(Ordering::SeqCst) / CALLBACKS.len() as u64;
            known.lock().unwrap().len() as u64 > ended + BEHIND_MAX
        };
        async move {
            while !over.load(Ordering::SeqCst) {
                if is_behind() {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                let first = numbers.fetch_add(3, Ordering::SeqCst);
                let batch: Vec<_> = (first..first + 3)
                    .map(|number| json!({"content": {"number": number, "fill": "x".repeat(300)}}))
                    .collect();
                let Some(answer) = client.post(path.clone(), &json!(batch)).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let messages = answer["messages"].as_array().unwrap().iter();
                let ids = messages.map(|message| message["id"].as_str().unwrap().to_owned());
                accepted.lock().unwrap().extend(ids.zip(first..));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Cuts the log until the gateway is gone.
    fn cutter(&self, url: &str, over: Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
        let (client, path) = (self.client.clone(), format!("{url}/v1/retention/_apply"));
        async move {
            while !over.load(Ordering::SeqCst) {
                if client.post(path.clone(), &Value::Null).await.is_none() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// What was accepted and has not come to its end yet.
    fn missing(&self) -> Vec<(String, &'static str)> {
        let accepted = self.accepted.lock().unwrap();
        let each = accepted
            .keys()
            .flat_map(|id| CALLBACKS.map(|path| (id, path)));
        let open = each.filter(|(id, path)| !self.ledger.has_ended(path, id));
        let mut missing: Vec<_> = open.map(|(id, path)| (id.clone(), path)).collect();
        for (id, number) in accepted.iter().filter(|(_, number)| is_refused(**number)) {
            if self.ledger.letters_of(*number) < CALLBACKS.len() {
                missing.push((id.clone(), LETTERS));
            }
        }
        missing
    }

    /// The last life: it delivers what is left, and ends in order.
    async fn account(&self) {
        self.ledger.life.fetch_add(1, Ordering::SeqCst);
        let gateway = Process::try_start(Process::command(&self.data, CONFIG)).unwrap();
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
        let verified = std::process::Command::new(env!("CARGO_BIN_EXE_hooklog"))
            .args(["verify", "--data"])
            .arg(&self.data)
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

fn kills() -> u64 {
    let kills = std::env::var("HOOKLOG_KILLS").ok();
    kills.map_or(100, |kills| {
        kills.parse().expect("HOOKLOG_KILLS is a number")
    })
}

fn draws() -> Draws {
    let seed = std::env::var("HOOKLOG_SEED").ok();
    let seed = seed.map_or_else(
        || SystemClock::new().entropy(),
        |seed| seed.parse().expect("HOOKLOG_SEED is a number"),
    );
    println!("HOOKLOG_SEED={seed}");
    Moment::new(Timestamp::EPOCH, seed).draws()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g8_g9_a_gateway_killed_anywhere_keeps_what_it_answered_and_repeats_only_over_a_crash() {
    let mut draws = draws();
    let temp = tempfile::tempdir().unwrap();
    let bench = Bench::set_up(&temp.path().join("data")).await;
    let mut reached: BTreeMap<&str, u64> = BTreeMap::new();
    let kills = kills();
    let places: Vec<_> = [OFTEN.as_slice(), &SELDOM].concat();
    for kill in 0..kills {
        // Each place in turn, and what else there is.
        let turn = usize::try_from(kill).unwrap() % (places.len() + 3);
        let (death, life) = match places.get(turn) {
            Some(&(place, passes)) => {
                let is_seldom = SELDOM.contains(&(place, passes));
                let life = if is_seldom { LONG_LIFE } else { LIFE };
                (Death::At(place, draws.below(passes)), life)
            }
            None if turn == places.len() => (Death::SyncFails, LIFE),
            None if turn == places.len() + 1 => (Death::DiskFull, LIFE),
            None => {
                let hundredths = u32::try_from(draws.below(100)).unwrap();
                (Death::Chance, LIFE * hundredths / 100)
            }
        };
        if bench.live(death, life).await {
            *reached.entry(death.name()).or_default() += 1;
        }
        if kill % 100 == 99 {
            println!("{} kills", kill + 1);
        }
    }
    bench.account().await;
    let accepted = bench.accepted.lock().unwrap().len();
    for path in CALLBACKS {
        let repeated = bench.ledger.repeated(path);
        println!("{path}: {repeated} of {accepted} sent again after {kills} kills");
    }
    bench.ledger.check_ids();
    println!("died at: {reached:?}");
    assert!(
        accepted as u64 >= kills,
        "{accepted} messages are too few to tell anything"
    );
    if kills < 2 * places.len() as u64 {
        return;
    }
    let died = |place: &str| reached.get(place).copied().unwrap_or(0);
    for (place, _) in OFTEN {
        assert!(died(place) > 0, "nothing died at {place}");
    }
    assert!(
        SELDOM.iter().any(|(place, _)| died(place) > 0),
        "{reached:?}"
    );
}
