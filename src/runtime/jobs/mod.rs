//! Jobs that are not over, each at work in a task of its own.
//!
//! ```text
//! create, resume, start ─▶ Runner: selection ─▶ a part of it, delivery by delivery ─▶ job.progressed
//!                            ▲                                                            │
//!                            └────────────── until nothing is left, or told to stop ◀─────┘
//! ```
//! A job's stream has one writer at a time: its runner, or whoever holds [`OpenJobs::steering`]
//! and has stopped the runner before. So each state follows from the one before, and a pause or a
//! cancellation stands behind the progress that was made until then.

mod pace;
mod runner;
mod selection;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{self, Either};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use self::{runner::Runner, selection::Walk};
use super::{ControlError, Handle, recovery::RecoveredJob};
use crate::{
    activity::Busy,
    log::{AppendError, ExpectedVersion, Health, StreamId, Urgency},
    model::{Job, JobEvent, JobId, JobState, JobStatus, Version},
};

/// How long a job waits before the log is asked again whether it has room.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Jobs that are not over.
#[derive(Default)]
pub(super) struct OpenJobs {
    jobs: Mutex<HashMap<JobId, OpenJob>>,
    /// Held by whoever creates, pauses, resumes or cancels a job.
    pub(super) steering: tokio::sync::Mutex<()>,
}

struct OpenJob {
    state: JobState,
    version: Version,
    task: Option<Task>,
}

/// A runner, from outside.
struct Task {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl OpenJobs {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, OpenJob>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job that is not over.
    pub(super) fn state(&self, id: JobId) -> Option<JobState> {
        self.lock().get(&id).map(|open| open.state.clone())
    }

    /// Ends every runner where it stands.
    pub(super) fn abort(&self) {
        for open in self.lock().values_mut() {
            if let Some(task) = open.task.take() {
                task.task.abort();
            }
        }
    }

    fn tell_all_to_stop(&self) -> Vec<JoinHandle<()>> {
        let mut jobs = self.lock();
        let tasks = jobs.values_mut().filter_map(|open| open.task.take());
        tasks.map(Task::told_to_stop).collect()
    }
}

impl Task {
    fn told_to_stop(self) -> JoinHandle<()> {
        self.stop.send_replace(true);
        self.task
    }
}

impl Handle {
    /// Brings jobs that were recovered to life.
    pub(super) fn resume_jobs(&self, recovered: HashMap<JobId, RecoveredJob>) {
        for (id, job) in recovered {
            self.open_job(job.state, job.version);
            self.start_job(id);
        }
    }

    /// Makes a job known that is not over.
    pub(super) fn open_job(&self, state: JobState, version: Version) {
        let open = OpenJob {
            version,
            task: None,
            state,
        };
        self.0.jobs.lock().insert(open.state.job.id, open);
    }

    /// Starts the runner of a job that should have one.
    pub(super) fn start_job(&self, id: JobId) {
        let mut jobs = self.0.jobs.lock();
        // Looked at under the lock: what is started before the end is told to stop.
        let may_run = !self.0.held && !self.0.ending.load(Ordering::Acquire);
        let Some(open) = jobs.get_mut(&id) else {
            return;
        };
        if !may_run || open.task.is_some() || open.state.status != JobStatus::Running {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let runner = Runner::new(self.clone(), id, stopped, self.0.activity.begin());
        let task = self.0.sources.tasks().spawn(runner.run());
        open.task = Some(Task { stop, task });
    }

    /// Stops the runner of a job, and waits until what it did is on record.
    pub(super) async fn stop_job(&self, id: JobId) {
        let task = self.0.jobs.lock().get_mut(&id).and_then(|o| o.task.take());
        if let Some(task) = task
            && task.told_to_stop().await.is_err()
        {
            tracing::error!(job = %id, "the runner of a job panicked");
        }
    }

    /// Stops every runner, and waits for them, at most `timeout`. None is started any more.
    pub(super) async fn end_jobs(&self, timeout: Duration) {
        let tasks = self.0.jobs.tell_all_to_stop();
        let handles: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let late = self.0.clock.sleep(timeout);
        if let Either::Right(_) = future::select(future::join_all(tasks), late).await {
            tracing::warn!("jobs did not stop in time; they go on at the next start");
            handles.iter().for_each(AbortHandle::abort);
        }
    }

    /// Appends to the stream of a job that is not over, and gives what it is then; `busy` is as in
    /// [`append_known`](Self::append_known).
    pub(super) async fn append_job(
        &self,
        id: JobId,
        event: JobEvent,
        busy: &mut Option<Busy>,
    ) -> Result<JobState, ControlError> {
        let version = self.0.jobs.lock().get(&id).map(|open| open.version);
        let version = version.ok_or(ControlError::UnknownJob(id))?;
        let version = self.append_known(id, version, &event, busy).await?;
        let mut jobs = self.0.jobs.lock();
        let open = jobs.get_mut(&id).ok_or(ControlError::UnknownJob(id))?;
        open.state.apply(&event);
        open.version = version;
        let state = open.state.clone();
        if state.status.is_over() {
            jobs.remove(&id);
        }
        Ok(state)
    }

    /// Appends to the stream of a job that stands at `before`, and gives the version it is at then.
    /// It is refused while there is no room. Where a full disk leaves open whether it was written,
    /// it waits until there is room to find out, and `busy` ends meanwhile: who took it for refused
    /// would find every later append at the wrong version.
    pub(super) async fn append_known(
        &self,
        id: JobId,
        before: Version,
        event: &JobEvent,
        busy: &mut Option<Busy>,
    ) -> Result<Version, ControlError> {
        let (stream, expected) = (StreamId::job(id), ExpectedVersion::Exact(before));
        let mut unknown = None;
        loop {
            let events = vec![event.clone().into()];
            let append = self.log().append(stream, expected, events, Urgency::Now);
            match append.await {
                Ok(appended) => return Ok(appended.last_version),
                Err(AppendError::Conflict { actual, .. })
                    if unknown.is_some() && actual == before.next() =>
                {
                    return Ok(actual);
                }
                Err(error @ AppendError::Unknown(_))
                    if matches!(self.log().health(), Health::Full | Health::Sound) =>
                {
                    unknown = Some(error);
                }
                Err(AppendError::Full { .. } | AppendError::Refused(_)) if unknown.is_some() => {}
                Err(error) => return Err(unknown.unwrap_or(error).into()),
            }
            self.wait_for_disk(busy).await;
        }
    }

    /// Waits a little for room on the disk, which counts as no work.
    async fn wait_for_disk(&self, busy: &mut Option<Busy>) {
        let mut sleep = self.0.clock.sleep(DISK_PAUSE);
        *busy = None;
        (&mut sleep).await;
        *busy = Some(self.0.activity.begin());
    }

    /// How many deliveries the selection of a job holds.
    pub(super) async fn count_selected(&self, job: &Job) -> Result<u64, ControlError> {
        Walk::of(self, job).await?.count().await
    }
}
