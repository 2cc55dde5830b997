//! Callbacks in a process of its own, so that its CPU time is nobody else's. It keeps an exact
//! ledger of bodies by path, and of when each came.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;
use crc32c::crc32c;
use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};
use serde::{Deserialize, Serialize};

use super::{
    body::{body, number},
    measure::monotonic,
};

/// Makes the benchmark's binary be the callbacks: for how many bodies.
pub(super) const ARGUMENT: &str = "--sink";

/// Longest wait for what is expected.
const WAIT: Duration = Duration::from_mins(5);

/// How a callback answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// 204.
    Well,
    /// 503 to a tenth of what comes, 400 to a twentieth, else 204.
    Mixed,
    /// 503. It is not in the ledger.
    Down,
    /// Never. It is not in the ledger.
    Hanging,
}

impl Manner {
    /// The path before the callback's number.
    const fn path(self) -> &'static str {
        match self {
            Self::Well => "",
            Self::Mixed => "mixed/",
            Self::Down => "down/",
            Self::Hanging => "hanging/",
        }
    }

    /// What a path stands for: a manner and a number.
    fn read(path: &str) -> Option<(Self, usize)> {
        let at = path.rfind('/')? + 1;
        let all = [Self::Well, Self::Mixed, Self::Down, Self::Hanging];
        let mut all = all.into_iter();
        let manner = all.find(|manner| path.get(1..at).unwrap_or_default() == manner.path())?;
        Some((manner, path[at..].parse().ok()?))
    }

    fn answer(self, path: usize, body: &Bytes) -> Answer {
        match self {
            Self::Well => Answer::ok(),
            Self::Mixed => match (number(body).unwrap_or_default() + path) % 20 {
                0 => Answer::status(400),
                1 | 2 => Answer::status(503),
                _ => Answer::ok(),
            },
            Self::Down => Answer::status(503),
            Self::Hanging => Answer::ok().held(),
        }
    }

    const fn is_entered(self) -> bool {
        matches!(self, Self::Well | Self::Mixed)
    }
}

/// What the callbacks are asked.
#[derive(Serialize, Deserialize)]
enum Question {
    /// Begin anew.
    Clear,
    /// Answer once each of so many bodies came to so many paths, with what came.
    Expect { bodies: usize, paths: usize },
    /// How long after its time each body came to each path.
    Latency(Schedule),
}

/// When bodies were due, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// When body 0 was.
    pub(super) first: u64,
    /// From one to the next.
    pub(super) interval: u64,
    /// How many are left out of the figures, because the gateway was still warming up.
    pub(super) left_out: usize,
}

/// How late bodies came, in microseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// The running process.
pub(super) struct Sink {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl Sink {
    /// Starts this binary again, as callbacks that know so many bodies.
    pub(super) fn start(bodies: usize) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([ARGUMENT, &bodies.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut sink = Self {
            process,
            questions,
            answers,
            url: String::new(),
        };
        sink.url = sink.line();
        sink
    }

    /// The URL of the callback of this number, which answers so. The ledger goes by numbers.
    pub(super) fn url(&self, manner: Manner, number: usize) -> String {
        format!("{}{}{number}", self.url, manner.path())
    }

    pub(super) fn clear(&mut self) {
        self.ask(&Question::Clear);
    }

    /// Waits until each of so many bodies came to each of so many callbacks. An error where one
    /// came twice, or none of them, or where they do not come at all.
    pub(super) fn expect(&mut self, bodies: usize, paths: usize) -> Result<(), String> {
        let told = self.ask(&Question::Expect { bodies, paths });
        if told == Ledger::told(bodies * paths, 0) {
            return Ok(());
        }
        Err(format!("the callback got {told} of {bodies} to {paths}"))
    }

    pub(super) fn latency(&mut self, schedule: Schedule) -> Latency {
        let told = self.ask(&Question::Latency(schedule));
        serde_json::from_str(&told).unwrap()
    }

    fn ask(&mut self, question: &Question) -> String {
        let question = serde_json::to_string(question).unwrap();
        writeln!(self.questions.as_mut().unwrap(), "{question}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Sink {
    /// It ends when nobody can ask it any more.
    fn drop(&mut self) {
        self.questions = None;
        self.process.wait().unwrap();
    }
}

/// What was got since it was cleared last.
struct Ledger {
    /// The checksum of each body.
    sums: Vec<u32>,
    /// Of each path, when each body came to it; 0 for not yet.
    came: Vec<Vec<u64>>,
    /// Bodies at paths they had not come to.
    distinct: usize,
    /// Bodies that had come there before, or that are none of the expected ones.
    wrong: usize,
}

impl Ledger {
    fn new(bodies: usize) -> Self {
        Self {
            sums: (0..bodies).map(|number| crc32c(&body(number))).collect(),
            came: Vec::new(),
            distinct: 0,
            wrong: 0,
        }
    }

    fn clear(&mut self) {
        self.came.clear();
        (self.distinct, self.wrong) = (0, 0);
    }

    fn enter(&mut self, path: usize, body: &Bytes) {
        while self.came.len() <= path {
            self.came.push(vec![0; self.sums.len()]);
        }
        let is_known = |number: &usize| self.sums.get(*number) == Some(&crc32c(body));
        match number(body).filter(is_known) {
            Some(number) if self.came[path][number] == 0 => {
                self.came[path][number] = monotonic();
                self.distinct += 1;
            }
            _ => self.wrong += 1,
        }
    }

    fn told(distinct: usize, wrong: usize) -> String {
        format!("{distinct} distinct bodies, {wrong} wrong or repeated")
    }

    fn latency(&self, schedule: Schedule) -> Latency {
        let late = self.came.iter().flat_map(|came| {
            let due = (0_u64..).map(|number| schedule.first + number * schedule.interval);
            let pairs = came.iter().zip(due).skip(schedule.left_out);
            let pairs = pairs.filter(|(came, _)| **came != 0);
            pairs.map(|(came, due)| came.saturating_sub(due))
        });
        let mut late: Vec<u64> = late.collect();
        late.sort_unstable();
        let at = |percent: usize| late[(late.len() - 1) * percent / 100] as f64 / 1e3;
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// Is the callbacks until its standard input ends.
pub(super) async fn serve(bodies: &str) {
    let ledger = Ledger::new(bodies.parse().unwrap());
    let ledger = Arc::new((Mutex::new(ledger), Condvar::new()));
    let entering = Arc::clone(&ledger);
    let server = CallbackServer::start_without_ledger(SystemClock::shared(), move |call| {
        let Some((manner, path)) = Manner::read(&call.target) else {
            return Answer::status(404);
        };
        if manner.is_entered() {
            entering.0.lock().unwrap().enter(path, &call.body);
            entering.1.notify_one();
        }
        manner.answer(path, &call.body)
    });
    let server = server.await.unwrap();
    println!("{}", server.url("/"));
    let asked = tokio::task::spawn_blocking(move || {
        for question in io::stdin().lines() {
            println!("{}", answer(&ledger, &question.unwrap()));
        }
    });
    asked.await.unwrap();
}

fn answer((ledger, came): &(Mutex<Ledger>, Condvar), question: &str) -> String {
    let mut ledger = ledger.lock().unwrap();
    match serde_json::from_str(question).unwrap() {
        Question::Clear => {
            ledger.clear();
            String::new()
        }
        Question::Expect { bodies, paths } => {
            let is_missing = |ledger: &mut Ledger| ledger.distinct < bodies * paths;
            ledger = came.wait_timeout_while(ledger, WAIT, is_missing).unwrap().0;
            Ledger::told(ledger.distinct, ledger.wrong)
        }
        Question::Latency(schedule) => serde_json::to_string(&ledger.latency(schedule)).unwrap(),
    }
}
