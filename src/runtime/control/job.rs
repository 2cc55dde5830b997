//! Creating and steering jobs.

use super::{super::recovery::READ_EVENTS, ControlError, Handle};
use crate::{
    log::StreamId,
    model::{
        Invalid, Job, JobCancelled, JobCreated, JobEvent, JobId, JobPaused, JobResumed,
        JobSelection, JobState, JobStatus, Version,
    },
    projection::jobs::JobRow,
};

/// Most events of a job that are read while its view is behind: those of a million deliveries.
const EVENTS_MAX: u64 = 10_000;

impl Handle {
    /// Creates a job, which begins at once. One without an id (all zeros) is given one; where a
    /// job with its id exists, that is given, and nothing is created.
    ///
    /// Its selection is what it holds now: dead letters and messages that come later are not in
    /// it. It is gone through by message, the oldest first. Each delivery that is redelivered is
    /// so once, also over a restart: those that were asked for again since the job was created are
    /// skipped. (The webhook log tells of that. A delivered message that its sample left out may
    /// be sent again after a crash, of those between two records of progress, at most a hundred.)
    pub async fn create_job(&self, job: Job) -> Result<JobState, ControlError> {
        self.whole(|handle| async move { handle.add_job(job).await })
            .await
    }

    async fn add_job(&self, mut job: Job) -> Result<JobState, ControlError> {
        self.log().room_for_events()?;
        let _steering = self.0.jobs.steering.lock().await;
        if job.id.is_nil() {
            job.id = JobId::from_moment(&self.0.clock.moment());
        } else if let Some(state) = self.existing_job(job.id).await? {
            return Ok(state);
        }
        job.as_of = self.log().head();
        job.total = self.count_selection(&job).await?;
        let created = JobCreated {
            job: Box::new(job.clone()),
        };
        let version = self
            .append_known(job.id, Version::ZERO, &created.into(), &mut None)
            .await?;
        let state = JobState::begun(job);
        self.open_job(state.clone(), version);
        self.start_job(state.job.id);
        Ok(state)
    }

    /// How many deliveries a job would deal with, if it were created now.
    pub async fn count_selection(&self, job: &Job) -> Result<u64, ControlError> {
        job.validate()?;
        self.check_selection(&job.selection).await?;
        let now = Job {
            as_of: self.log().head(),
            ..job.clone()
        };
        self.count_selected(&now).await
    }

    /// A job that is running or paused, as it is by now, whatever its view shows; `None` for any
    /// other.
    pub fn open_job_state(&self, id: JobId) -> Option<JobState> {
        self.0.jobs.state(id)
    }

    /// A job as it is by now.
    pub async fn job(&self, id: JobId) -> Result<JobRow, ControlError> {
        let found = self.find_job(id).await?;
        found.ok_or(ControlError::UnknownJob(id))
    }

    /// Lets a job wait. When this returns it is at no delivery any more.
    pub async fn pause_job(&self, id: JobId) -> Result<JobState, ControlError> {
        let advice = "only a running one can be paused";
        self.steer(id, &[JobStatus::Running], advice, JobPaused {})
            .await
    }

    /// Goes on after a pause.
    pub async fn resume_job(&self, id: JobId) -> Result<JobState, ControlError> {
        let advice = "only a paused one can be resumed";
        self.steer(id, &[JobStatus::Paused], advice, JobResumed {})
            .await
    }

    /// Gives a job up. What it did stays done.
    pub async fn cancel_job(&self, id: JobId) -> Result<JobState, ControlError> {
        let advice = "it is over; create another for what is left";
        let from = [JobStatus::Running, JobStatus::Paused];
        self.steer(id, &from, advice, JobCancelled {}).await
    }

    async fn steer<const N: usize>(
        &self,
        id: JobId,
        from: &[JobStatus; N],
        advice: &'static str,
        event: impl Into<JobEvent>,
    ) -> Result<JobState, ControlError> {
        let (from, event) = (*from, event.into());
        self.whole(move |handle| async move {
            // A runner that has no room for what it did is waited for: nobody queues behind that.
            handle.log().room_for_events()?;
            let _steering = handle.0.jobs.steering.lock().await;
            handle.stop_job(id).await;
            let steered = handle.step(id, &from, advice, event).await;
            // Also when the step could not be made: it was at work before.
            handle.start_job(id);
            steered
        })
        .await
    }

    async fn step(
        &self,
        id: JobId,
        from: &[JobStatus],
        advice: &'static str,
        event: JobEvent,
    ) -> Result<JobState, ControlError> {
        let status = match self.open_job_state(id) {
            Some(open) => open.status,
            None => self.job(id).await?.state.status,
        };
        if !from.contains(&status) {
            return Err(ControlError::JobStatus { id, status, advice });
        }
        self.append_job(id, event, &mut None).await
    }

    async fn existing_job(&self, id: JobId) -> Result<Option<JobState>, ControlError> {
        if let Some(open) = self.open_job_state(id) {
            return Ok(Some(open));
        }
        Ok(self.find_job(id).await?.map(|row| row.state))
    }

    async fn find_job(&self, id: JobId) -> Result<Option<JobRow>, ControlError> {
        // One without events does not exist: the view is not waited for to say so.
        if self.log().stream_version(StreamId::job(id)) == Version::ZERO {
            return Ok(None);
        }
        let seen = match self.caught_up(self.jobs()).await {
            Ok(view) => view.job(id),
            Err(behind) => Err(behind),
        };
        match seen {
            Ok(row) => Ok(row),
            Err(error) => match self.job_of_log(id).await {
                Some(row) => Ok(Some(row)),
                None => Err(error.into()),
            },
        }
    }

    /// A job as its events tell, where the log holds all of them and they are not too many.
    async fn job_of_log(&self, id: JobId) -> Option<JobRow> {
        let (stream, mut version) = (StreamId::job(id), Version::ZERO);
        let mut row = None;
        while version.get() < EVENTS_MAX {
            let read = self.log().read_stream_async(stream, version, READ_EVENTS);
            let events = read.await.ok()?;
            let Some(last) = events.last() else {
                return row;
            };
            version = last.version;
            for recorded in &events {
                row = Some(JobRow::after(row, recorded)?);
            }
        }
        None
    }

    /// Refuses a selection of what is not there.
    async fn check_selection(&self, selection: &JobSelection) -> Result<(), ControlError> {
        let api = selection.api();
        self.0.directory.api(api)?;
        match selection {
            JobSelection::DeadLetters { .. } => Ok(()),
            JobSelection::Messages { subscription, .. } => {
                if self.0.directory.owner(*subscription)?.api != api {
                    return Err(ControlError::UnknownSubscription(*subscription));
                }
                Ok(())
            }
            JobSelection::Deliveries { deliveries, .. } => {
                let view = self.caught_up(self.dead_letters()).await?;
                let mut invalid = Invalid::none();
                for (index, id) in deliveries.iter().enumerate() {
                    let is_one = view.letter(*id)?.is_some_and(|letter| letter.api == api);
                    let pointer = format!("/deliveries/{index}");
                    let reason = format!("{id} is no dead letter of API {api}");
                    invalid.check(is_one, &pointer, reason);
                }
                Ok(invalid.into_result()?)
            }
        }
    }
}
