//! A callback in a process of its own, so that its CPU time is nobody else's. It answers 204 and
//! keeps an exact ledger, which it tells and begins anew whenever it is asked.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use hooklog::{
    clock::SystemClock,
    testing::callback::{Answer, CallbackServer},
};

/// Makes the benchmark's binary be the callback.
pub(super) const ARGUMENT: &str = "--sink";

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

    /// Where it answers.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it got each of so many bodies exactly once since it was asked last, and nothing
    /// else; otherwise what it got.
    pub(super) fn check(&mut self, bodies: usize) -> Result<(), String> {
        writeln!(self.questions.as_mut().unwrap()).unwrap();
        let told = self.line();
        if told == Ledger::exact(bodies) {
            return Ok(());
        }
        Err(format!("the callback got {told} of {bodies}"))
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

/// What was got since it was asked for last.
struct Ledger {
    bodies: Vec<Bytes>,
    got: Vec<bool>,
    requests: usize,
    /// Bodies that were got before, or that are none of the expected ones.
    wrong: usize,
}

impl Ledger {
    fn new(bodies: Vec<Bytes>) -> Self {
        Self {
            got: vec![false; bodies.len()],
            bodies,
            requests: 0,
            wrong: 0,
        }
    }

    fn enter(&mut self, body: &Bytes) {
        self.requests += 1;
        match number(body).filter(|number| self.bodies.get(*number) == Some(body)) {
            Some(number) if !self.got[number] => self.got[number] = true,
            _ => self.wrong += 1,
        }
    }

    /// What it says, after which it begins anew.
    fn tell(&mut self) -> String {
        let distinct = self.got.iter().filter(|got| **got).count();
        let told = Self::told(self.requests, distinct, self.wrong);
        self.got.fill(false);
        (self.requests, self.wrong) = (0, 0);
        told
    }

    /// What it says when it got each of so many bodies once, and nothing else.
    fn exact(bodies: usize) -> String {
        Self::told(bodies, bodies, 0)
    }

    fn told(requests: usize, distinct: usize, wrong: usize) -> String {
        format!("{requests} requests, {distinct} distinct bodies, {wrong} wrong or repeated")
    }
}

/// The number that a body begins with.
fn number(body: &[u8]) -> Option<usize> {
    let digits = body.strip_prefix(br#"{"number":""#)?.get(..8)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Is the callback until its standard input ends.
pub(super) async fn serve(bodies: Vec<Bytes>) {
    let ledger = Arc::new(Mutex::new(Ledger::new(bodies)));
    let entering = Arc::clone(&ledger);
    let server = CallbackServer::start_without_ledger(SystemClock::shared(), move |call| {
        entering.lock().unwrap().enter(&call.body);
        Answer::ok()
    });
    let server = server.await.unwrap();
    println!("{}", server.url("/hook"));
    let asked = tokio::task::spawn_blocking(move || {
        for question in io::stdin().lines() {
            question.unwrap();
            println!("{}", ledger.lock().unwrap().tell());
        }
    });
    asked.await.unwrap();
}
