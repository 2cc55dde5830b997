//! A transport that calls nobody: answers come from a rule, and can be held back.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    clock::SharedClock,
    delivery::{AttemptRequest, Transport},
    model::{
        AttemptError, AttemptNumber, AttemptReport, AttemptResult, Captured, CapturedBody,
        CapturedHeader, CapturedPart, ErrorClass, MessageId, RetryAfter, SubscriptionId, Timings,
    },
};

/// What a fake callback answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FakeAnswer {
    /// This status.
    Status(u16),
    /// This status, with a `Retry-After` of so many seconds.
    RetryAfter(u16, u32),
    /// No response, for this reason.
    Error(ErrorClass),
    /// No response, for this reason, in these words.
    Failed(ErrorClass, String),
    /// This status; all that was captured of both sides holds this text, whatever logging says.
    Captured(u16, String),
    /// The caller's thread panics: a fault of the gateway itself.
    Panic,
}

/// One call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FakeCall {
    /// To whom.
    pub subscription: SubscriptionId,
    /// With what.
    pub message: MessageId,
    /// The how-manyth.
    pub attempt: AttemptNumber,
    /// Whether it probed an open circuit.
    pub probe: bool,
}

type Rule = Box<dyn FnMut(&AttemptRequest) -> FakeAnswer + Send>;

/// A transport that calls nobody. Clones are one transport, and so are those of its workers.
#[derive(Clone)]
pub struct FakeTransport(Arc<Inner>);

struct Inner {
    clock: SharedClock,
    rule: Mutex<Rule>,
    calls: Mutex<Vec<FakeCall>>,
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeTransport")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl FakeTransport {
    /// Answers 200 to everything.
    pub fn new(clock: SharedClock) -> Self {
        Self(Arc::new(Inner {
            clock,
            rule: Mutex::new(Box::new(|_| FakeAnswer::Status(200))),
            calls: Mutex::default(),
            open: watch::Sender::new(true),
            waiting: watch::Sender::new(0),
        }))
    }

    /// Answers by this rule from now on.
    pub fn answer(&self, rule: impl FnMut(&AttemptRequest) -> FakeAnswer + Send + 'static) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// Answers these in turn, and the last one for ever after.
    ///
    /// # Panics
    /// Without any answer.
    pub fn script(&self, answers: impl IntoIterator<Item = FakeAnswer>) {
        let mut answers = answers
            .into_iter()
            .collect::<Vec<_>>()
            .into_iter()
            .peekable();
        let mut last = answers.peek().cloned().expect("a script has an answer");
        self.answer(move |_| {
            last = answers.next().unwrap_or_else(|| last.clone());
            last.clone()
        });
    }

    /// Calls wait from now on, those that have begun apart.
    pub fn hold(&self) {
        self.0.open.send_replace(false);
    }

    /// Calls that wait go on.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }

    /// Calls that wait now. Those that were released do not, though they have yet to go on.
    pub fn held(&self) -> usize {
        if *self.0.open.borrow() {
            0
        } else {
            *self.0.waiting.borrow()
        }
    }

    /// How many wait, as it changes.
    pub(crate) fn watch_held(&self) -> watch::Receiver<usize> {
        self.0.waiting.subscribe()
    }

    /// Every call that was begun, in order.
    pub fn calls(&self) -> Vec<FakeCall> {
        self.calls_mut().clone()
    }

    /// The calls for one subscription.
    pub fn calls_to(&self, subscription: SubscriptionId) -> Vec<FakeCall> {
        let calls = self.calls_mut();
        calls
            .iter()
            .filter(|call| call.subscription == subscription)
            .copied()
            .collect()
    }

    fn calls_mut(&self) -> MutexGuard<'_, Vec<FakeCall>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call as waiting while it lives.
struct Waiting(Arc<Inner>);

impl Waiting {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.waiting.send_modify(|waiting| *waiting += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// Headers and bodies that hold this text.
fn everywhere(text: &str) -> Captured {
    let part = CapturedPart {
        headers: Some(vec![CapturedHeader {
            name: text.to_owned(),
            value: text.to_owned(),
        }]),
        body: Some(CapturedBody {
            bytes: text.as_bytes().to_vec(),
            size: text.len() as u64,
            truncated: false,
        }),
    };
    Captured {
        request: part.clone(),
        response: part,
    }
}

impl Transport for FakeTransport {
    fn send(&self, request: AttemptRequest) -> BoxFuture<'static, AttemptReport> {
        let inner = Arc::clone(&self.0);
        self.calls_mut().push(FakeCall {
            subscription: request.subscription,
            message: request.message.id,
            attempt: request.attempt,
            probe: request.probe,
        });
        Box::pin(async move {
            let started_at = inner.clock.now();
            let mut open = inner.open.subscribe();
            if !*open.borrow_and_update() {
                let waiting = Waiting::new(&inner);
                // The sender lives in `inner`, so it cannot be gone.
                let _ = open.wait_for(|open| *open).await;
                drop(waiting);
            }
            let answer = {
                let mut rule = inner.rule.lock().unwrap_or_else(PoisonError::into_inner);
                rule(&request)
            };
            let mut captured = None;
            let result = match answer {
                FakeAnswer::Captured(status, text) => {
                    captured = Some(Box::new(everywhere(&text)));
                    AttemptResult::Responded {
                        status,
                        retry_after: None,
                    }
                }
                FakeAnswer::Failed(class, detail) => {
                    AttemptResult::Failed(AttemptError::new(class, detail))
                }
                FakeAnswer::Status(status) => AttemptResult::Responded {
                    status,
                    retry_after: None,
                },
                FakeAnswer::RetryAfter(status, seconds) => AttemptResult::Responded {
                    status,
                    retry_after: Some(RetryAfter::from_seconds(u64::from(seconds))),
                },
                FakeAnswer::Error(class) => {
                    AttemptResult::Failed(AttemptError::new(class, "as the test asked"))
                }
                FakeAnswer::Panic => panic!("as the test asked"),
            };
            let timings = Timings {
                total_us: 1_000,
                ..Timings::default()
            };
            AttemptReport {
                started_at,
                timings,
                result,
                captured,
            }
        })
    }

    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
        self
    }
}
