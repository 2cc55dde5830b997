//! Retention: what of the log's old end goes, and who keeps it.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::{
    call::Call,
    operation::{Operation, Verb, json, schema},
    problem::Problem,
    reply::Reply,
};
use crate::{
    log::{RetentionPlan, RetentionPolicy, RetiredSegment},
    model::{Position, Timestamp},
    runtime::{Holder, HolderKind, RetentionReport, RetentionStatus},
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "getRetention",
        "/v1/retention",
        "What retention would drop now, and who holds something back.",
        schema::<Retention>,
        |call| async move { show(&call).await }.boxed(),
    ),
    Operation::change(
        "applyRetention",
        Verb::Post,
        "/v1/retention/_apply",
        "Drop now what the policy says and nobody needs. It is answered when that is done; settings, subscriptions, tokens, jobs and totals outlive it.",
        |call| async move { apply(&call).await }.boxed(),
    )
    .answers(200, json(schema::<AppliedRetention>)),
];

/// How retention stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Retention {
    /// What may be dropped; nothing where no limit is set.
    policy: RetentionLimits,
    /// The position where the log begins.
    first: Position,
    /// Its last position.
    last: Position,
    /// What could be dropped now, the oldest first.
    due: Vec<LogSegment>,
    #[serde(flatten)]
    held: Held,
}

/// What came of retention.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AppliedRetention {
    /// The position where the log begins now.
    first: Position,
    /// What was dropped, the oldest first.
    dropped: Vec<LogSegment>,
    #[serde(flatten)]
    held: Held,
}

/// What may be dropped.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RetentionLimits {
    /// Segments whose newest event is older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds_max: Option<u64>,
    /// The oldest segments, while all together take more on disk than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<u64>,
}

/// What somebody needs.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Held {
    /// What the policy says as well, and somebody needs, the oldest first.
    held: Vec<LogSegment>,
    /// Who needs it, whoever needs the oldest first.
    held_by: Vec<RetentionHolder>,
}

/// A part of the log that is dropped whole.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LogSegment {
    /// Its first position.
    first: Position,
    /// Its last position.
    last: Position,
    /// No event of it is newer than this; absent when damage hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Bytes it takes on disk.
    bytes: u64,
}

/// Who needs a part of the log, and why.
#[derive(Serialize, JsonSchema)]
struct RetentionHolder {
    #[serde(flatten)]
    kind: HolderKind,
    /// The first position that is needed.
    from: Position,
    /// The same for people.
    reason: String,
}

impl From<RetentionPolicy> for RetentionLimits {
    fn from(policy: RetentionPolicy) -> Self {
        Self {
            age_seconds_max: policy.max_age.map(|age| age.as_secs()),
            bytes_max: policy.max_bytes,
        }
    }
}

impl From<&RetiredSegment> for LogSegment {
    fn from(segment: &RetiredSegment) -> Self {
        Self {
            first: segment.first,
            last: segment.last,
            until: segment.until,
            bytes: segment.bytes,
        }
    }
}

impl From<&Holder> for RetentionHolder {
    fn from(holder: &Holder) -> Self {
        Self {
            kind: holder.kind.clone(),
            from: holder.from,
            reason: holder.kind.to_string(),
        }
    }
}

impl Held {
    fn of(plan: &RetentionPlan, held_by: &[Holder]) -> Self {
        Self {
            held: segments(&plan.held),
            held_by: held_by.iter().map(RetentionHolder::from).collect(),
        }
    }
}

fn segments(segments: &[RetiredSegment]) -> Vec<LogSegment> {
    segments.iter().map(LogSegment::from).collect()
}

async fn show(call: &Call) -> Result<Reply, Problem> {
    let status: RetentionStatus = call.handle().retention().await?;
    Reply::json(
        200,
        &Retention {
            policy: status.policy.into(),
            first: status.first,
            last: status.head,
            due: segments(&status.plan.segments),
            held: Held::of(&status.plan, &status.held_by),
        },
    )
}

async fn apply(call: &Call) -> Result<Reply, Problem> {
    let report: RetentionReport = call.handle().apply_retention().await?;
    Reply::json(
        200,
        &AppliedRetention {
            first: report.first,
            dropped: segments(&report.plan.segments),
            held: Held::of(&report.plan, &report.held_by),
        },
    )
}
