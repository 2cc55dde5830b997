//! Carries out a job: one task for each that runs.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use tokio::sync::watch;

use super::{
    super::{ControlError, Handle},
    pace::Pace,
    selection::{Item, Page, Ruling, Walk},
};
use crate::{
    activity::Busy,
    actor::ExecuteError,
    log::{AppendError, Health},
    model::{
        DeliveryId, Job, JobCounts, JobCursor, JobEvent, JobFailed, JobFailure, JobFinished, JobId,
        JobKind, JobProgressed, JobState, SubscriptionId,
    },
    subscription::{Command, OPEN_DELIVERIES_MAX, Rejection},
};

/// Most deliveries between two records of progress; after a crash as many are looked at again.
const PART_MAX: u32 = 100;
/// Seconds of work between two records of progress, where the rate makes them few.
const PART_SECONDS: u32 = 5;
/// Open deliveries of a subscription at which a job waits for it: half of what makes it read no
/// new messages, so that new ones pass beside a job.
const OPEN_MAX: usize = OPEN_DELIVERIES_MAX / 2;
/// How long a job waits before it looks again whether a subscription has room.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// First wait after a fault that is not a delivery's; it doubles.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// Faults in a row after which a job is given up: with the pauses, about four minutes.
const FAULTS_MAX: u32 = 8;

/// What came of one delivery.
enum Outcome {
    Done,
    Skipped,
    Failed(String),
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// A job at work.
pub(super) struct Runner {
    handle: Handle,
    id: JobId,
    stop: watch::Receiver<bool>,
    faults: u32,
    /// Counts it as under way, but while it waits for a time.
    busy: Option<Busy>,
}

impl Runner {
    pub(super) fn new(handle: Handle, id: JobId, stop: watch::Receiver<bool>, busy: Busy) -> Self {
        Self {
            handle,
            id,
            stop,
            faults: 0,
            busy: Some(busy),
        }
    }

    /// Works until the job is over or it is told to stop. What was done is on record then.
    pub(super) async fn run(mut self) {
        loop {
            let Err(error) = self.work().await else {
                return;
            };
            tracing::warn!(job = %self.id, %error, "a job cannot go on for now");
            let mut pause = FAULT_PAUSE;
            // What a full disk causes mends itself with it.
            if self.handle.log().health() != Health::Full {
                pause *= 1 << self.faults;
                self.faults += 1;
            }
            if is_final(&error) || self.faults > FAULTS_MAX {
                return self.give_up(&error).await;
            }
            if self.rest(pause).await == Next::Stop {
                return;
            }
        }
    }

    async fn work(&mut self) -> Result<(), ControlError> {
        let JobState {
            job, mut cursor, ..
        } = self.state()?;
        let walk = Walk::of(&self.handle, &job).await?;
        let mut pace = Pace::of(job.rate_per_second);
        let part = job.rate_per_second.map_or(PART_MAX, |rate| {
            rate.saturating_mul(PART_SECONDS).min(PART_MAX)
        });
        loop {
            if self.is_stopped() {
                return Ok(());
            }
            let batch = walk.next(cursor, part as usize).await?;
            if self.room_for(&job, &batch).await == Next::Stop {
                return Ok(());
            }
            if self.deal_with(&job, &walk, &batch, &mut pace).await? == Next::Stop {
                return Ok(());
            }
            match batch.next {
                Some(next) => cursor = Some(next),
                None => return self.finish(&job).await,
            }
        }
    }

    /// Deals with a page, and puts on record how far it came, also when it was stopped.
    async fn deal_with(
        &mut self,
        job: &Job,
        walk: &Walk,
        batch: &Page,
        pace: &mut Pace,
    ) -> Result<Next, ControlError> {
        let mut part = Part::after(self.state()?.counts);
        let mut ended = Ok(Next::GoOn);
        for item in &batch.items {
            if self.turn(pace).await == Next::Stop {
                ended = Ok(Next::Stop);
                break;
            }
            match self.carry_out(job.kind, walk, item).await {
                Ok(outcome) => part.count(item, outcome),
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        if let Some(progressed) = part.into_event() {
            self.append(progressed).await?;
            self.faults = 0;
        }
        ended
    }

    /// Waits until the next delivery may have its turn.
    async fn turn(&mut self, pace: &mut Pace) -> Next {
        while let Err(wait) = pace.step(self.handle.elapsed()) {
            if self.rest(wait).await == Next::Stop {
                return Next::Stop;
            }
        }
        if self.is_stopped() {
            Next::Stop
        } else {
            Next::GoOn
        }
    }

    /// Does with a delivery what the job is for. An error is a fault that is not the delivery's.
    async fn carry_out(
        &self,
        kind: JobKind,
        walk: &Walk,
        item: &Item,
    ) -> Result<Outcome, ControlError> {
        let past = match walk.ruling(kind, item).await? {
            Ruling::Deal(past) => past,
            Ruling::Skip => return Ok(Outcome::Skipped),
            Ruling::Refuse(why) => return Ok(Outcome::Failed(why)),
        };
        let message = item.message;
        let command = match kind {
            JobKind::Redeliver => Command::Redeliver { message, past },
            JobKind::Discard => Command::Discard {
                message,
                past,
                in_flight: false,
            },
        };
        match self.handle.command(item.subscription, command).await {
            Ok(_) => Ok(Outcome::Done),
            Err(ControlError::Execute(ExecuteError::Rejected(
                Rejection::Pending(_) | Rejection::NotYet(_) | Rejection::Ended(_),
            ))) => Ok(Outcome::Skipped),
            Err(ControlError::Execute(ExecuteError::Rejected(why))) => {
                Ok(Outcome::Failed(why.to_string()))
            }
            Err(
                ControlError::UnknownSubscription(id)
                | ControlError::Execute(ExecuteError::NotRunning(id)),
            ) => Ok(Outcome::Failed(format!("subscription {id} is closed"))),
            Err(error) => Err(error),
        }
    }

    /// Waits until the subscriptions of a page have room for it: what is redelivered stands in
    /// their memory until it has its fate.
    async fn room_for(&mut self, job: &Job, batch: &Page) -> Next {
        if job.kind == JobKind::Discard {
            return Next::GoOn;
        }
        let subscriptions: BTreeSet<_> = batch.items.iter().map(|item| item.subscription).collect();
        for id in subscriptions {
            while self.open_of(id).await >= OPEN_MAX {
                if self.rest(ROOM_PAUSE).await == Next::Stop {
                    return Next::Stop;
                }
            }
        }
        Next::GoOn
    }

    async fn open_of(&self, id: SubscriptionId) -> usize {
        let seen = self.handle.inspect(id).await;
        // One that does not answer refuses what it is asked next, with the reason.
        seen.map_or(0, |seen| seen.state.open.len())
    }

    /// Ends the job. What it did not meet any more was redelivered or discarded since.
    async fn finish(&mut self, job: &Job) -> Result<(), ControlError> {
        let mut counts = self.state()?.counts;
        counts.skipped += job.total.saturating_sub(counts.all());
        self.append(JobFinished { counts }).await
    }

    async fn give_up(&mut self, error: &ControlError) {
        let reason = error.to_string();
        if let Err(error) = self.append(JobFailed { reason }).await {
            tracing::error!(job = %self.id, %error, "a job stands still until the next start");
        }
    }

    /// Puts an event on record. While there is no room for it, it waits, also when it is told to
    /// stop: what was done would be gone through again. At the end of the runtime it waits no more.
    async fn append(&mut self, event: impl Into<JobEvent>) -> Result<(), ControlError> {
        let event = event.into();
        loop {
            let (handle, busy) = (&self.handle, &mut self.busy);
            match handle.append_job(self.id, event.clone(), busy).await {
                Err(ControlError::Append(AppendError::Full { .. } | AppendError::Refused(_)))
                    if !handle.0.ending.load(Ordering::Acquire) =>
                {
                    handle.wait_for_disk(busy).await;
                }
                answer => return answer.map(drop),
            }
        }
    }

    fn state(&self) -> Result<JobState, ControlError> {
        let state = self.handle.0.jobs.state(self.id);
        state.ok_or(ControlError::UnknownJob(self.id))
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, unless it is told to stop. It does not count as under way meanwhile.
    async fn rest(&mut self, pause: Duration) -> Next {
        let mut sleep = self.handle.0.clock.sleep(pause);
        self.busy = None;
        let next = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => Next::Stop,
            () = &mut sleep => Next::GoOn,
        };
        self.busy = Some(self.handle.0.activity.begin());
        // Until here the clock counts the sleeper as woken.
        drop(sleep);
        next
    }
}

/// What is gone does not come back by waiting.
const fn is_final(error: &ControlError) -> bool {
    matches!(
        error,
        ControlError::UnknownSubscription(_)
            | ControlError::UnknownApi(_)
            | ControlError::Invalid(_)
            | ControlError::Execute(ExecuteError::NotRunning(_))
    )
}

/// What was done since the last record of progress.
struct Part {
    cursor: Option<JobCursor>,
    counts: JobCounts,
    failures: Vec<JobFailure>,
}

impl Part {
    const fn after(counts: JobCounts) -> Self {
        Self {
            cursor: None,
            counts,
            failures: Vec::new(),
        }
    }

    fn count(&mut self, item: &Item, outcome: Outcome) {
        self.cursor = Some(item.cursor());
        match outcome {
            Outcome::Done => self.counts.done += 1,
            Outcome::Skipped => self.counts.skipped += 1,
            Outcome::Failed(reason) => {
                self.counts.failed += 1;
                self.failures.push(JobFailure {
                    delivery: DeliveryId::of(item.message.id, item.subscription),
                    reason,
                });
            }
        }
    }

    fn into_event(self) -> Option<JobProgressed> {
        Some(JobProgressed {
            cursor: self.cursor?,
            counts: self.counts,
            failures: self.failures,
        })
    }
}
