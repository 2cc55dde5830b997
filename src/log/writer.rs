//! The writer's queue, and its thread: takes what waits, writes it as one commit, answers all.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock::SharedClock;
use crate::kill_point::KillPoint;

use super::{
    AppendError, AppendRequest, AppendTimes, LogOptions, StorageError,
    append_times::AppendClock,
    core::{AppendAnswer, LogCore},
};

/// How long acknowledged events may stay in the process's memory under `Buffered`.
const BUFFERED_FOR: Duration = Duration::from_millis(500);

/// How often it is looked whether a full disk has room again while nothing comes that would find out.
const FULL_LOOK: Duration = Duration::from_secs(1);

/// A commit with so many appends is one of a crowd: more are on their way.
const CROWD_APPENDS: usize = 8;
/// Time between two commits of a crowd. A commit has its price whatever its size, and those who
/// wait for it in a crowd wait for the one before it anyway.
const CROWD_PAUSE: Duration = Duration::from_micros(1_500);

/// Whether somebody waits for an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It may wait a moment for company, up to [`LogOptions::linger`].
    Linger,
    /// It is written at once.
    Now,
}

struct Waiting {
    request: AppendRequest,
    urgency: Urgency,
    answer: Answer,
    place: Place,
}

/// Its place in the queue, given back when the writer takes it.
struct Place {
    _slot: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

enum Work {
    Append(Waiting),
    Close,
}

/// Owes the caller an answer, and gives one even when the writer dies.
struct Answer {
    sender: Option<oneshot::Sender<AppendAnswer>>,
    begun: bool,
    enqueued: Duration,
}

impl Answer {
    fn give(mut self, answer: AppendAnswer) {
        if let Some(sender) = self.sender.take() {
            // A caller that went away has no need of it.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let error = if self.begun {
                AppendError::Unknown(StorageError::Poisoned)
            } else {
                AppendError::Closed
            };
            let _ = sender.send(Err(error));
        }
    }
}

/// An append in the writer's queue. Resolves when it is as durable as configured.
///
/// Dropping it does not undo it. Appends of one caller are written in the order they were enqueued.
#[derive(Debug)]
#[must_use = "the append is made all the same, but only this tells how it went"]
pub struct PendingAppend(oneshot::Receiver<AppendAnswer>);

impl PendingAppend {
    /// Waits on this thread. Must not be called from an async task.
    pub fn wait(self) -> AppendAnswer {
        self.0.blocking_recv().unwrap_or(Err(AppendError::Closed))
    }
}

impl Future for PendingAppend {
    type Output = AppendAnswer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<AppendAnswer> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

/// The way into the writer's queue.
pub(crate) struct WriterQueue {
    work: Sender<Work>,
    slots: Arc<Semaphore>,
    slots_max: usize,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    clock: SharedClock,
    times: Arc<AppendClock>,
}

impl WriterQueue {
    /// How long appends took from the queue to their answer.
    pub(crate) fn times(&self) -> AppendTimes {
        self.times.read()
    }

    pub(crate) fn try_push(
        &self,
        request: AppendRequest,
        urgency: Urgency,
    ) -> Result<PendingAppend, AppendError> {
        let busy = |_| AppendError::Busy {
            max: self.slots_max,
        };
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(busy)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.bytes_of(&request));
        let place = Place {
            _slot: slot,
            _bytes: bytes.map_err(busy)?,
        };
        self.push(request, urgency, place)
    }

    pub(crate) async fn push_when_room(
        &self,
        request: AppendRequest,
        urgency: Urgency,
    ) -> Result<PendingAppend, AppendError> {
        let closed = |_| AppendError::Closed;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.bytes_of(&request));
        let place = Place {
            _slot: slot.map_err(closed)?,
            _bytes: bytes.await.map_err(closed)?,
        };
        self.push(request, urgency, place)
    }

    /// An append that is larger than the whole queue takes all of it.
    fn bytes_of(&self, request: &AppendRequest) -> u32 {
        u32::try_from(request.bytes.min(self.bytes_max)).expect("the option is held below 4 GiB")
    }

    fn push(
        &self,
        request: AppendRequest,
        urgency: Urgency,
        place: Place,
    ) -> Result<PendingAppend, AppendError> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            request,
            urgency,
            answer: Answer {
                sender: Some(sender),
                begun: false,
                enqueued: self.clock.elapsed(),
            },
            place,
        };
        let sent = self.work.send(Work::Append(waiting));
        sent.map_err(|_| AppendError::Closed)?;
        Ok(PendingAppend(receiver))
    }

    /// Lets the writer finish what waits, and end.
    pub(crate) fn close(&self) {
        let _ = self.work.send(Work::Close);
    }
}

/// The other end of the queue, with the core. A thread runs it; a simulation steps it.
pub struct LogWriter {
    core: LogCore,
    work: Receiver<Work>,
    clock: SharedClock,
    linger: Duration,
    events_max: usize,
    bytes_max: usize,
    closing: bool,
    /// When the last commit of a crowd ended; `None` when the last was of few.
    crowd: Option<Duration>,
    /// Since when something that was acknowledged is not flushed.
    unflushed_since: Option<Duration>,
    times: Arc<AppendClock>,
}

impl LogWriter {
    pub(crate) fn new(core: LogCore, options: &LogOptions) -> (Self, WriterQueue) {
        let (sender, work) = mpsc::channel();
        let times = Arc::<AppendClock>::default();
        let queue = WriterQueue {
            work: sender,
            slots: Arc::new(Semaphore::new(options.queue_appends_max)),
            slots_max: options.queue_appends_max,
            bytes: Arc::new(Semaphore::new(options.queue_bytes_max)),
            bytes_max: options.queue_bytes_max,
            clock: Arc::clone(&options.clock),
            times: Arc::clone(&times),
        };
        let writer = Self {
            core,
            work,
            clock: Arc::clone(&options.clock),
            linger: options.linger,
            events_max: options.commit_events_max,
            bytes_max: options.commit_bytes_max,
            closing: false,
            crowd: None,
            unflushed_since: None,
            times,
        };
        (writer, queue)
    }

    /// What commits.
    pub(crate) const fn core(&mut self) -> &mut LogCore {
        &mut self.core
    }

    /// Until the queue is closed: commits whatever waits.
    pub(crate) fn run(mut self) {
        while !self.closing {
            self.flush_what_is_due();
            if let Some(first) = self.next() {
                let batch = self.gather(first);
                self.commit(batch);
            }
        }
        self.drain();
    }

    /// Commits what waits now, once, and answers it; says whether there was anything.
    pub fn step(&mut self) -> bool {
        let Ok(Work::Append(first)) = self.work.try_recv() else {
            return false;
        };
        let mut batch = Batch::new(first);
        self.take_waiting(&mut batch);
        self.commit(batch);
        true
    }

    fn next(&mut self) -> Option<Waiting> {
        let work = if self.core.is_full() {
            match self.work.recv_timeout(FULL_LOOK) {
                Err(RecvTimeoutError::Timeout) => {
                    self.core.look_for_room();
                    return None;
                }
                other => other.ok(),
            }
        } else if let Some(left) = self.flush_within() {
            match self.work.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    return None;
                }
                other => other.ok(),
            }
        } else {
            self.work.recv().ok()
        };
        match work {
            Some(Work::Append(waiting)) => Some(waiting),
            Some(Work::Close) | None => {
                self.closing = true;
                None
            }
        }
    }

    /// How long what is not flushed may stay so; `None` where everything is.
    fn flush_within(&self) -> Option<Duration> {
        let since = self.unflushed_since?;
        Some((since + BUFFERED_FOR).saturating_sub(self.clock.elapsed()))
    }

    /// A writer that never rests flushes as often as one that does.
    fn flush_what_is_due(&mut self) {
        if self.flush_within().is_some_and(|left| left.is_zero()) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unflushed_since = None;
        self.core.flush();
    }

    /// Everything that waits, and while nobody waits for an answer, what comes within the linger.
    fn gather(&mut self, first: Waiting) -> Batch {
        let mut batch = Batch::new(first);
        self.take_waiting(&mut batch);
        if let Some(ended) = self.crowd
            && self.has_room(&batch)
            && !self.closing
        {
            let next = ended + CROWD_PAUSE;
            // Not woken by each that comes.
            std::thread::park_timeout(next.saturating_sub(self.clock.elapsed()));
        }
        if self.closing {
            return batch;
        }
        let deadline = self.clock.elapsed() + self.linger;
        while self.has_room(&batch) {
            let work = match self.work.try_recv() {
                Ok(work) => work,
                Err(_) if batch.urgency == Urgency::Now => break,
                Err(_) => {
                    let left = deadline.saturating_sub(self.clock.elapsed());
                    match self.work.recv_timeout(left) {
                        Ok(work) => work,
                        Err(_) => break,
                    }
                }
            };
            match work {
                Work::Append(waiting) => batch.push(waiting),
                Work::Close => {
                    self.closing = true;
                    break;
                }
            }
        }
        batch
    }

    /// What waits already.
    fn take_waiting(&mut self, batch: &mut Batch) {
        while self.has_room(batch) {
            match self.work.try_recv() {
                Ok(Work::Append(waiting)) => batch.push(waiting),
                Ok(Work::Close) => {
                    self.closing = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    const fn has_room(&self, batch: &Batch) -> bool {
        batch.events < self.events_max && batch.bytes < self.bytes_max
    }

    fn commit(&mut self, batch: Batch) {
        let answers = self.core.commit(batch.requests);
        KillPoint::Reply.pass();
        let now = self.clock.elapsed();
        self.crowd = (batch.answers.len() >= CROWD_APPENDS).then_some(now);
        if self.core.is_unflushed() {
            self.unflushed_since.get_or_insert(now);
        }
        for (waiting, answer) in batch.answers.into_iter().zip(answers) {
            if answer.is_ok() {
                self.times.observe(now.saturating_sub(waiting.enqueued));
            }
            waiting.give(answer);
        }
    }

    /// What was enqueued before the log was closed is written; then nothing more.
    pub(crate) fn drain(&mut self) {
        while self.step() {}
        self.core.close();
    }
}

/// The appends of one commit.
struct Batch {
    requests: Vec<AppendRequest>,
    answers: Vec<Answer>,
    urgency: Urgency,
    events: usize,
    bytes: usize,
}

impl Batch {
    fn new(first: Waiting) -> Self {
        let mut batch = Self {
            requests: Vec::new(),
            answers: Vec::new(),
            urgency: first.urgency,
            events: 0,
            bytes: 0,
        };
        batch.push(first);
        batch
    }

    fn push(&mut self, waiting: Waiting) {
        let Waiting {
            request,
            urgency,
            mut answer,
            place,
        } = waiting;
        drop(place);
        answer.begun = true;
        self.urgency = self.urgency.max(urgency);
        self.events += request.events;
        self.bytes += request.bytes;
        self.requests.push(request);
        self.answers.push(answer);
    }
}
