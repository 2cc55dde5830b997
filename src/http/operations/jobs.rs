//! Jobs: many deliveries redelivered or discarded.

use futures_util::{FutureExt, future::BoxFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        call::Call,
        operation::{Operation, Precondition, Verb, json, schema},
        problem::Problem,
        reply::Reply,
    },
    limit,
};
use crate::{
    model::{
        ApiId, DeadLetterFilter, DeliveryId, Job, JobCounts, JobFailure, JobId, JobKind,
        JobSelection, JobState, JobStatus, Permission, Position, SubscriptionId, Timestamp,
        TokenId,
    },
    projection::jobs::{JobFilter, JobRow},
    runtime::ControlError,
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    creation(
        "redeliverDeadLetters",
        "/v1/apis/{api}/dead-letters/_redeliver",
        "Redeliver dead letters, in a job. Oldest message first; original bytes and webhook-id.",
        |call| async move { of_dead_letters(&call, JobKind::Redeliver).await }.boxed(),
    )
    .body(json(schema::<OfDeadLetters>)),
    creation(
        "discardDeadLetters",
        "/v1/apis/{api}/dead-letters/_discard",
        "Discard dead letters, in a job. They stay in the webhook log.",
        |call| async move { of_dead_letters(&call, JobKind::Discard).await }.boxed(),
    )
    .body(json(schema::<OfDeadLetters>)),
    creation(
        "redeliverMessages",
        "/v1/subscriptions/{subscription}/_redeliver",
        "Send again, in a job, every message since a time that is for this subscription, delivered or not.",
        |call| async move { of_messages(&call).await }.boxed(),
    )
    .body(json(schema::<OfMessages>)),
    Operation::get(
        "listJobs",
        "/v1/jobs",
        "Jobs, newest first, without the deliveries that they name and those that failed.",
        schema::<Page>,
        |call| async move { list(&call).await }.boxed(),
    )
    .query(schema::<PageQuery>),
    Operation::get(
        "getJob",
        "/v1/jobs/{job}",
        "A job, how far it is, and the first hundred deliveries that failed.",
        schema::<Shown>,
        |call| async move { read(&call).await }.boxed(),
    ),
    step(
        "pauseJob",
        "/v1/jobs/{job}/_pause",
        "Let a job wait.",
        |call| async move { after(&call, call.handle().pause_job(id(&call)?).await).await }.boxed(),
    ),
    step(
        "resumeJob",
        "/v1/jobs/{job}/_resume",
        "Go on after a pause.",
        |call| {
            async move { after(&call, call.handle().resume_job(id(&call)?).await).await }.boxed()
        },
    ),
    step(
        "cancelJob",
        "/v1/jobs/{job}/_cancel",
        "Give a job up. What it did stays done.",
        |call| {
            async move { after(&call, call.handle().cancel_job(id(&call)?).await).await }.boxed()
        },
    ),
];

type Run = fn(Call) -> BoxFuture<'static, Result<Reply, Problem>>;

/// Creates a job, or tells how much it would do.
const fn creation(
    name: &'static str,
    path: &'static str,
    about: &'static str,
    run: Run,
) -> Operation {
    Operation::change(name, Verb::Post, path, about, run)
        .needs(Permission::Operate)
        .preconditions(&[Precondition::IdempotencyKey])
        .answers(202, json(schema::<Shown>))
        .or_answers(200, json(schema::<Counted>))
}

/// A step in the life of a job.
const fn step(name: &'static str, path: &'static str, about: &'static str, run: Run) -> Operation {
    Operation::change(name, Verb::Post, path, about, run)
        .needs(Permission::Operate)
        .answers(200, json(schema::<Shown>))
}

/// Which dead letters, and how: either `filter` or `deliveries`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfDeadLetters {
    /// Those that this holds for; `{}` for all. What comes later is not among them.
    #[serde(default)]
    filter: Option<DeadLetterFilter>,
    /// These.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000))]
    deliveries: Option<Vec<DeliveryId>>,
    /// Most deliveries a second; as fast as it goes when absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000))]
    rate_per_second: Option<u32>,
    /// Tell how many there are, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Which messages, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfMessages {
    /// Accepted at or after this time.
    since: Timestamp,
    /// Accepted before this time. What comes after the request is not among them in any case.
    #[serde(default)]
    until: Option<Timestamp>,
    /// Most deliveries a second; as fast as it goes when absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000))]
    rate_per_second: Option<u32>,
    /// Tell how many there are, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// How many deliveries a job would deal with.
#[derive(Serialize, JsonSchema)]
struct Counted {
    /// So many, as of now.
    count: u64,
}

/// Which page.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PageQuery {
    /// Only those on deliveries of this API.
    api: Option<ApiId>,
    /// Only those that stand so.
    status: Option<JobStatus>,
    /// Where the page begins: the `next` of the page before.
    cursor: Option<Position>,
    /// Most jobs on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// A page of jobs.
#[derive(Serialize, JsonSchema)]
struct Page {
    /// The jobs, newest first. There may be fewer than asked for: only a missing `next` says that
    /// no more match.
    jobs: Vec<Shown>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Position>,
}

/// A job, and how far it is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Its identity.
    id: JobId,
    /// What it does with each delivery.
    kind: JobKind,
    /// Which deliveries.
    selection: JobSelection,
    /// The last position of the log that its selection knows of.
    as_of: Position,
    /// How many deliveries that was.
    total: u64,
    /// Most deliveries a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<u32>,
    /// The token that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<TokenId>,
    /// How it stands.
    status: JobStatus,
    /// What came of its deliveries so far.
    counts: JobCounts,
    /// The first that failed.
    failures: Vec<JobFailure>,
    /// Why it could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it was created. Absent while the view of jobs is not up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    /// When it last changed. Absent while the view of jobs is not up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
}

/// One as it tells of itself: what the view alone knows is absent.
impl From<JobState> for Shown {
    fn from(state: JobState) -> Self {
        let job = state.job;
        Self {
            id: job.id,
            kind: job.kind,
            selection: job.selection,
            as_of: job.as_of,
            total: job.total,
            rate_per_second: job.rate_per_second,
            by: job.by,
            status: state.status,
            counts: state.counts,
            failures: state.failures,
            reason: state.reason,
            created_at: None,
            updated_at: None,
        }
    }
}

impl From<JobRow> for Shown {
    fn from(row: JobRow) -> Self {
        Self {
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
            ..row.state.into()
        }
    }
}

impl Shown {
    /// The same without what makes it long.
    fn brief(mut self) -> Self {
        self.failures.clear();
        if let JobSelection::Deliveries { deliveries, .. } = &mut self.selection {
            deliveries.clear();
        }
        self
    }
}

fn id(call: &Call) -> Result<JobId, Problem> {
    call.parameter("job")
}

async fn of_dead_letters(call: &Call, kind: JobKind) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let asked: OfDeadLetters = call.json()?;
    let selection = match (asked.filter, asked.deliveries) {
        (Some(filter), None) => JobSelection::DeadLetters { api, filter },
        (None, Some(deliveries)) => JobSelection::Deliveries { api, deliveries },
        (None, None) => {
            let detail = "say which dead letters: filter ({} for all) or deliveries";
            return Err(Problem::field("/filter", detail));
        }
        (Some(_), Some(_)) => {
            let detail = "stands beside filter; leave out one of them";
            return Err(Problem::field("/deliveries", detail));
        }
    };
    let job = Job {
        rate_per_second: asked.rate_per_second,
        ..Job::new(kind, selection)
    };
    create(call, job, asked.dry_run).await
}

async fn of_messages(call: &Call) -> Result<Reply, Problem> {
    let subscription: SubscriptionId = call.parameter("subscription")?;
    let api = call.handle().subscription(subscription).await?.api;
    let asked: OfMessages = call.json()?;
    let selection = JobSelection::Messages {
        api,
        subscription,
        since: asked.since,
        until: asked.until,
    };
    let job = Job {
        rate_per_second: asked.rate_per_second,
        ..Job::new(JobKind::Redeliver, selection)
    };
    create(call, job, asked.dry_run).await
}

async fn create(call: &Call, mut job: Job, dry_run: bool) -> Result<Reply, Problem> {
    if dry_run {
        let count = call.handle().count_selection(&job).await?;
        return Reply::json(200, &Counted { count });
    }
    job.by = Some(call.bearer()?.id);
    if let Some(id) = call.created_id(true).await? {
        job.id = JobId::from_uuid(id);
        if let Ok(shown) = shown(call, job.id).await {
            return Ok(accepted(&shown)?.replayed());
        }
    }
    let created = call.handle().create_job(job).await?;
    accepted(&changed(call, created).await)
}

fn accepted(shown: &Shown) -> Result<Reply, Problem> {
    let location = format!("/v1/jobs/{}", shown.id);
    Ok(Reply::json(202, shown)?.header("location", location))
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let view = call.handle().jobs();
    call.fresh(&view).await;
    let filter = JobFilter {
        api: query.api,
        status: query.status,
    };
    let page = view.list(&filter, query.cursor, limit(query.limit)?)?;
    let jobs = page.jobs.into_iter().map(|row| Shown::from(row).brief());
    let jobs = jobs.collect();
    Reply::json(
        200,
        &Page {
            jobs,
            next: page.next,
        },
    )
}

async fn read(call: &Call) -> Result<Reply, Problem> {
    Reply::json(200, &shown(call, id(call)?).await?)
}

/// A job as the view shows it once it has seen everything that is in the log by now. While the view
/// does not, one that is not over tells of itself; one that is, is told from its events.
async fn shown(call: &Call, id: JobId) -> Result<Shown, Problem> {
    if let Some(row) = in_view(call, id).await {
        return Ok(row.into());
    }
    match call.handle().open_job_state(id) {
        Some(state) => Ok(state.into()),
        None => Ok(call.handle().job(id).await?.into()),
    }
}

/// A job that was just changed, as [`shown`], or as the change made it: who made it is not told
/// that it failed.
async fn changed(call: &Call, state: JobState) -> Shown {
    match in_view(call, state.job.id).await {
        Some(row) => row.into(),
        None => state.into(),
    }
}

/// What the view shows of a job, if it is up to date.
async fn in_view(call: &Call, id: JobId) -> Option<JobRow> {
    let view = call.handle().jobs();
    if !call.fresh(&view).await {
        return None;
    }
    view.job(id).ok().flatten()
}

/// The job after a step, if the step was made.
async fn after(call: &Call, step: Result<JobState, ControlError>) -> Result<Reply, Problem> {
    Reply::json(200, &changed(call, step?).await)
}
