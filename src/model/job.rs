//! Jobs: many past deliveries redelivered or discarded, as one thing that can be watched.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiId, ApplicationId, DeadLetterReason, DeliveryId, Fault, Invalid, JobEvent, JobId, Position,
    SubscriptionId, Timestamp, TokenId, Version,
};

/// Most deliveries that a job may name one by one.
pub const JOB_DELIVERIES_MAX: usize = 1_000;
/// The highest rate that may be asked for, a second.
pub const JOB_RATE_MAX: u32 = 10_000;
/// Failures that a job's state keeps, the first ones. Its events hold all.
pub const JOB_FAILURES_KEPT: usize = 100;

/// What a job does with each of its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Makes it again, with the original bytes and `webhook-id`.
    Redeliver,
    /// Discards it.
    Discard,
}

/// Which dead letters; each field that is set narrows the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeadLetterFilter {
    /// Given up for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadLetterReason>,
    /// By the fault of this side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Of this subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// Of this application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// Given up at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Given up before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// Which deliveries a job is about, as of its creation: what comes later is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum JobSelection {
    /// The dead letters of an API that a filter holds for.
    DeadLetters {
        /// The API.
        api: ApiId,
        /// Which of them.
        filter: DeadLetterFilter,
    },
    /// These dead letters of an API.
    Deliveries {
        /// The API.
        api: ApiId,
        /// The deliveries that were given up.
        deliveries: Vec<DeliveryId>,
    },
    /// Messages that are for a subscription, delivered or not.
    Messages {
        /// The API.
        api: ApiId,
        /// The subscription.
        subscription: SubscriptionId,
        /// Accepted at or after this time.
        since: Timestamp,
        /// Accepted before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl JobSelection {
    /// The API whose messages they carry.
    pub const fn api(&self) -> ApiId {
        match self {
            Self::DeadLetters { api, .. }
            | Self::Deliveries { api, .. }
            | Self::Messages { api, .. } => *api,
        }
    }
}

/// What a job does, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// Its identity, given at creation.
    pub id: JobId,
    /// What it does with each delivery.
    pub kind: JobKind,
    /// Which deliveries.
    pub selection: JobSelection,
    /// Most deliveries a second; as fast as it goes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// The token that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<TokenId>,
    /// The last position that its selection knows of, given at creation.
    pub as_of: Position,
    /// How many deliveries that was, given at creation.
    pub total: u64,
}

impl Job {
    /// A job without a rate. It has no identity before it is created.
    pub const fn new(kind: JobKind, selection: JobSelection) -> Self {
        Self {
            id: JobId::nil(),
            kind,
            selection,
            rate_per_second: None,
            by: None,
            as_of: Position::ZERO,
            total: 0,
        }
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        let in_range = |rate| (1..=JOB_RATE_MAX).contains(&rate);
        invalid.check(
            self.rate_per_second.is_none_or(in_range),
            "/ratePerSecond",
            format!("must be 1 to {JOB_RATE_MAX}; leave it out to set no limit"),
        );
        match &self.selection {
            JobSelection::DeadLetters { filter, .. } => {
                let ends = filter.from.zip(filter.to);
                invalid.check(
                    ends.is_none_or(|(from, to)| from < to),
                    "/filter/to",
                    "must be later than from",
                );
            }
            JobSelection::Deliveries { deliveries, .. } => {
                invalid.check(
                    (1..=JOB_DELIVERIES_MAX).contains(&deliveries.len()),
                    "/deliveries",
                    format!(
                        "are {}, must be 1 to {JOB_DELIVERIES_MAX}; select more by a filter",
                        deliveries.len()
                    ),
                );
                let mut seen = BTreeSet::new();
                let twice = deliveries.iter().position(|id| !seen.insert(id));
                invalid.check(
                    twice.is_none(),
                    &format!("/deliveries/{}", twice.unwrap_or_default()),
                    "stands there twice",
                );
            }
            JobSelection::Messages { since, until, .. } => {
                invalid.check(
                    until.is_none_or(|until| *since < until),
                    "/until",
                    "must be later than since",
                );
                invalid.check(
                    self.kind == JobKind::Redeliver,
                    "/kind",
                    "messages can be redelivered; dead letters alone can be discarded",
                );
            }
        }
        invalid.into_result()
    }
}

/// How far a job is. It goes through its deliveries by their messages, the oldest first, so each
/// subscription gets them in the order in which they were published.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct JobCursor {
    /// The message's place among its API's.
    pub message: Version,
    /// The subscription.
    pub subscription: SubscriptionId,
}

/// What came of a job's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCounts {
    /// Redelivered or discarded. What comes of a redelivery is for the webhook log to tell.
    pub done: u64,
    /// Refused, each with a reason.
    pub failed: u64,
    /// There was nothing to do: it is being made already, its turn is still to come, or it was
    /// redelivered or discarded since the job was created.
    pub skipped: u64,
}

impl JobCounts {
    /// All of them.
    pub const fn all(&self) -> u64 {
        self.done + self.failed + self.skipped
    }
}

/// A delivery that a job could not deal with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFailure {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Why.
    pub reason: String,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It is at work.
    Running,
    /// It waits to be resumed.
    Paused,
    /// It was given up by a person.
    Cancelled,
    /// It is done.
    Finished,
    /// It could not go on.
    Failed,
}

impl JobStatus {
    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Cancelled | Self::Finished | Self::Failed)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job as its events have made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobState {
    /// What it does, and with what.
    pub job: Job,
    /// How it stands.
    pub status: JobStatus,
    /// How far it is; absent before its first delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<JobCursor>,
    /// What came of the deliveries up to there.
    pub counts: JobCounts,
    /// The first that failed, at most a hundred.
    pub failures: Vec<JobFailure>,
    /// Why it could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl JobState {
    /// A job that was just created.
    pub const fn begun(job: Job) -> Self {
        Self {
            job,
            status: JobStatus::Running,
            cursor: None,
            counts: JobCounts {
                done: 0,
                failed: 0,
                skipped: 0,
            },
            failures: Vec::new(),
            reason: None,
        }
    }

    /// Folds one event into the state.
    pub fn apply(&mut self, event: &JobEvent) {
        match event {
            JobEvent::Created(created) => *self = Self::begun((*created.job).clone()),
            JobEvent::Progressed(progressed) => {
                self.cursor = Some(progressed.cursor);
                self.counts = progressed.counts;
                let room = JOB_FAILURES_KEPT.saturating_sub(self.failures.len());
                let failures = progressed.failures.iter().take(room).cloned();
                self.failures.extend(failures);
            }
            JobEvent::Paused(_) => self.status = JobStatus::Paused,
            JobEvent::Resumed(_) => self.status = JobStatus::Running,
            JobEvent::Cancelled(_) => self.status = JobStatus::Cancelled,
            JobEvent::Finished(finished) => {
                self.status = JobStatus::Finished;
                self.counts = finished.counts;
            }
            JobEvent::Failed(failed) => {
                self.status = JobStatus::Failed;
                self.reason = Some(failed.reason.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobFinished, JobPaused, JobProgressed, JobResumed};

    fn id(number: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(number)
    }

    fn of(selection: JobSelection) -> Job {
        Job::new(JobKind::Redeliver, selection)
    }

    fn named(deliveries: Vec<DeliveryId>) -> Job {
        of(JobSelection::Deliveries {
            api: ApiId::from_uuid(id(1)),
            deliveries,
        })
    }

    #[test]
    fn a_job_follows_its_events_and_keeps_the_first_failures() {
        let mut state = JobState::begun(named(vec![DeliveryId::from_uuid(id(2))]));
        let failure = JobFailure {
            delivery: DeliveryId::from_uuid(id(2)),
            reason: "closed".to_owned(),
        };
        let counts = JobCounts {
            done: 1,
            failed: 60,
            skipped: 2,
        };
        let cursor = JobCursor {
            message: Version::new(9),
            subscription: SubscriptionId::from_uuid(id(3)),
        };
        let progressed = JobProgressed {
            cursor,
            counts,
            failures: vec![failure; 60],
        };
        for event in [
            progressed.clone().into(),
            progressed.into(),
            JobPaused {}.into(),
        ] {
            state.apply(&event);
        }
        assert_eq!(state.failures.len(), JOB_FAILURES_KEPT);
        assert_eq!(
            (state.status, state.cursor),
            (JobStatus::Paused, Some(cursor))
        );
        state.apply(&JobResumed {}.into());
        assert_eq!(state.status, JobStatus::Running);
        state.apply(&JobFinished { counts }.into());
        assert!(state.status.is_over());
        assert_eq!(state.counts.all(), 63);
    }

    #[test]
    fn what_a_job_cannot_be_is_named_by_its_field() {
        let subscription = SubscriptionId::from_uuid(id(3));
        let at = Timestamp::from_millis;
        let messages = |since, until| JobSelection::Messages {
            api: ApiId::from_uuid(id(1)),
            subscription,
            since: at(since),
            until: Some(at(until)),
        };
        let twice = vec![DeliveryId::from_uuid(id(2)); 2];
        let slow = Job {
            rate_per_second: Some(0),
            ..of(messages(1, 2))
        };
        let cases = [
            (named(Vec::new()), "/deliveries"),
            (named(twice), "/deliveries/1"),
            (of(messages(2, 2)), "/until"),
            (slow, "/ratePerSecond"),
            (Job::new(JobKind::Discard, messages(1, 2)), "/kind"),
        ];
        for (job, pointer) in cases {
            let invalid = job.validate().unwrap_err();
            assert_eq!(invalid.problems[0].pointer, pointer);
        }
        of(messages(1, 2)).validate().unwrap();
    }
}
