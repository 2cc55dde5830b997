//! A callback in a process of its own, so that its CPU time is nobody else's. It answers 204 and
//! keeps an exact ledger of bodies by path, and of when each came first.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};
use serde::{Deserialize, Serialize};

use super::load::monotonic;

/// Makes the benchmark's binary be the callback.
pub(super) const ARGUMENT: &str = "--sink";

/// Longest wait for what is expected.
const WAIT: Duration = Duration::from_mins(5);

/// What the callback is asked.
#[derive(Serialize, Deserialize)]
enum Question {
    /// Begin anew.
    Clear,
    /// Answer once each of so many bodies came to so many paths, with what came.
    Expect { bodies: usize, paths: usize },
    /// How long after its time each body came, where the first was due at one time and the others
    /// at equal distances; in nanoseconds of the monotonic clock.
    Latency { first: u64, interval: u64 },
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
    /// Starts this binary again, as the callback.
    pub(super) fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .arg(ARGUMENT)
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

    /// Where it answers: this and a number is a path with a ledger of its own.
    pub(super) fn url(&self, path: usize) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn clear(&mut self) {
        self.ask(&Question::Clear);
    }

    /// Waits until each of so many bodies came to each of so many paths. An error where one came
    /// twice, or none of them, or where they do not come at all.
    pub(super) fn expect(&mut self, bodies: usize, paths: usize) -> Result<(), String> {
        let told = self.ask(&Question::Expect { bodies, paths });
        if told == Ledger::told(bodies * paths, 0) {
            return Ok(());
        }
        Err(format!("the callback got {told} of {bodies} to {paths}"))
    }

    pub(super) fn latency(&mut self, first: u64, interval: u64) -> Latency {
        let told = self.ask(&Question::Latency { first, interval });
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
    bodies: Vec<Bytes>,
    /// Of each body, the paths it came to, and when it came first.
    got: Vec<(u64, u64)>,
    /// Bodies at paths they had not come to.
    distinct: usize,
    /// Bodies that had come there before, or that are none of the expected ones.
    wrong: usize,
}

impl Ledger {
    fn new(bodies: Vec<Bytes>) -> Self {
        Self {
            got: vec![(0, 0); bodies.len()],
            bodies,
            distinct: 0,
            wrong: 0,
        }
    }

    fn clear(&mut self) {
        self.got.fill((0, 0));
        (self.distinct, self.wrong) = (0, 0);
    }

    fn enter(&mut self, path: &str, body: &Bytes) {
        let bit = path
            .trim_start_matches('/')
            .parse()
            .map_or(0, |n: u32| 1 << n);
        match number(body).filter(|number| self.bodies.get(*number) == Some(body)) {
            Some(number) if self.got[number].0 & bit == 0 => {
                let (paths, came) = &mut self.got[number];
                if *paths == 0 {
                    *came = monotonic();
                }
                *paths |= bit;
                self.distinct += 1;
            }
            _ => self.wrong += 1,
        }
    }

    fn told(distinct: usize, wrong: usize) -> String {
        format!("{distinct} distinct bodies, {wrong} wrong or repeated")
    }

    fn latency(&self, first: u64, interval: u64) -> Latency {
        let came = self
            .got
            .iter()
            .zip(0_u64..)
            .filter(|((paths, _), _)| *paths != 0);
        let late = came.map(|((_, came), number)| came.saturating_sub(first + number * interval));
        let mut late: Vec<u64> = late.collect();
        late.sort_unstable();
        let at = |percent: usize| late[(late.len() - 1) * percent / 100] as f64 / 1e3;
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// The number that a body begins with.
fn number(body: &[u8]) -> Option<usize> {
    let digits = body.strip_prefix(br#"{"number":""#)?.get(..8)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Is the callback until its standard input ends.
pub(super) async fn serve(bodies: Vec<Bytes>) {
    let ledger = Arc::new((Mutex::new(Ledger::new(bodies)), Condvar::new()));
    let entering = Arc::clone(&ledger);
    let server = CallbackServer::start_without_ledger(SystemClock::shared(), move |call| {
        entering.0.lock().unwrap().enter(&call.target, &call.body);
        entering.1.notify_one();
        Answer::ok()
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
        Question::Latency { first, interval } => {
            serde_json::to_string(&ledger.latency(first, interval)).unwrap()
        }
    }
}
