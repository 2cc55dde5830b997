//! Subscriptions, as the publisher's side sees them.

use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        call::Call,
        etag,
        operation::{Operation, Precondition, Verb, json, schema},
        problem::Problem,
        reply::Reply,
    },
    PAGE_MAX, limit, same_as_path,
};
use crate::{
    actor::Inspection,
    log::StreamId,
    model::{
        ApiId, ApplicationId, ConsumerConfiguration, ConsumerStatus, DeliveryMode, FailureCause,
        FilterExpression, Permission, Subscription, SubscriptionId, SubscriptionStatus, Timestamp,
        Version,
    },
    projection::{
        View, ViewError,
        subscriptions::{SubscriptionHealth, SubscriptionRow, Subscriptions},
    },
};

pub(super) const IF_MATCH: &[Precondition] = &[Precondition::IfMatch];

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listSubscriptions",
        "/v1/apis/{api}/subscriptions",
        "The subscriptions of an API, oldest first, closed ones included.",
        schema::<Page>,
        |call| async move { list(&call).await }.boxed(),
    )
    .query(schema::<PageQuery>),
    Operation::change(
        "createSubscription",
        Verb::Post,
        "/v1/apis/{api}/subscriptions",
        "Subscribe an application to an API.",
        |call| async move { create(&call).await }.boxed(),
    )
    .preconditions(&[Precondition::IdempotencyKey])
    .body(json(schema::<Subscription>))
    .answers(201, json(schema::<Shown>)),
    Operation::get(
        "getSubscription",
        "/v1/subscriptions/{subscription}",
        "A subscription, and how it does.",
        schema::<Shown>,
        |call| async move { read(&call).await }.boxed(),
    ),
    Operation::change(
        "updateSubscription",
        Verb::Put,
        "/v1/subscriptions/{subscription}",
        "Replace what may change of a subscription. Its next call is made under it.",
        |call| async move { replace(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH)
    .body(json(schema::<Change>))
    .answers(200, json(schema::<Shown>)),
    Operation::change(
        "closeSubscription",
        Verb::Delete,
        "/v1/subscriptions/{subscription}",
        "End a subscription. What waits for a retry is discarded, on record.",
        |call| async move { close(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH),
    step(
        "acceptSubscription",
        "/v1/subscriptions/{subscription}/_accept",
        "Accept a pending subscription.",
        |call| async move { after(&call, call.handle().accept(id(&call)?).await).await }.boxed(),
    )
    .needs(Permission::Manage),
    step(
        "rejectSubscription",
        "/v1/subscriptions/{subscription}/_reject",
        "Refuse a pending subscription.",
        |call| async move { reject(&call).await }.boxed(),
    )
    .needs(Permission::Manage)
    .body(json(schema::<Rejection>)),
    step(
        "pauseSubscription",
        "/v1/subscriptions/{subscription}/_pause",
        "Let a subscription's messages wait.",
        |call| async move { after(&call, call.handle().pause(id(&call)?).await).await }.boxed(),
    ),
    step(
        "resumeSubscription",
        "/v1/subscriptions/{subscription}/_resume",
        "Go on after a pause.",
        |call| {
            async move { after(&call, call.handle().resume_subscription(id(&call)?).await).await }
                .boxed()
        },
    ),
    step(
        "resumeFailedSubscription",
        "/v1/subscriptions/{subscription}/_resumeFailure",
        "Go on after an interruption; what could not be delivered gets a fresh budget.",
        |call| {
            async move { after(&call, call.handle().resume_failure(id(&call)?).await).await }
                .boxed()
        },
    ),
    step(
        "rotateSecret",
        "/v1/subscriptions/{subscription}/_rotateSecret",
        "Give a subscription a new signing key, shown this once. Those it had sign beside it for a while.",
        |call| async move { rotate(&call, id(&call)?).await }.boxed(),
    )
    .needs(Permission::Manage)
    .query(schema::<RotateQuery>)
    .answers(200, json(schema::<NewSecret>)),
];

/// A step in the life of a subscription.
const fn step(
    name: &'static str,
    path: &'static str,
    about: &'static str,
    run: fn(Call) -> futures_util::future::BoxFuture<'static, Result<Reply, Problem>>,
) -> Operation {
    Operation::change(name, Verb::Post, path, about, run)
        .needs(Permission::Operate)
        .answers(200, json(schema::<Shown>))
}

/// Which page.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PageQuery {
    /// Only those of this application.
    application: Option<ApplicationId>,
    /// Where the page begins: the `next` of the page before.
    cursor: Option<SubscriptionId>,
    /// Most subscriptions on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// A page of subscriptions.
#[derive(Serialize, JsonSchema)]
pub(super) struct Page {
    /// The subscriptions, oldest first.
    subscriptions: Vec<Shown>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<SubscriptionId>,
}

/// What may change of a subscription.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Change {
    /// Only messages of this channel; all when absent.
    #[serde(default)]
    channel: Option<String>,
    /// Only messages for which this expression (CEL) holds; all when absent.
    #[serde(default)]
    filter: Option<FilterExpression>,
    /// The consumer's settings.
    configuration: ConsumerConfiguration,
    /// No delivery before this time.
    #[serde(default)]
    starting_at: Option<Timestamp>,
    /// No delivery from this time on.
    #[serde(default)]
    ending_at: Option<Timestamp>,
    /// In which order.
    #[serde(default)]
    delivery_mode: DeliveryMode,
}

/// Why a subscription is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rejection {
    /// For the consumer to read.
    reason: String,
}

/// How a key is replaced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RotateQuery {
    /// How long the keys it had sign beside the new one, in seconds. Default a day; 0 when one of
    /// them is known to somebody else.
    #[schemars(range(min = 0, max = 604_800))]
    overlap_seconds: Option<u64>,
}

/// A key that was just made.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSecret {
    /// The key (`whsec_…`). Give it to whoever checks signatures: it is never shown again.
    secret: String,
    /// Until when the keys that were there before sign beside it, those apart that end sooner.
    others_until: Timestamp,
    /// The subscription with its new key.
    subscription: Shown,
}

/// A subscription, and how it does.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(flatten)]
    definition: Subscription,
    /// Where it stands with its callback.
    consumer_status: ConsumerStatus,
    /// Why it was interrupted, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_cause: Option<FailureCause>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_because: Option<String>,
    /// When it was created. Absent while the view of subscriptions is not up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    /// When it last changed. Absent while the view of subscriptions is not up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    /// How it does. Absent while the view of subscriptions is not up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<SubscriptionHealth>,
}

impl Shown {
    /// Its identity.
    pub(super) const fn id(&self) -> SubscriptionId {
        self.definition.id
    }

    /// The API it is on.
    pub(super) const fn api(&self) -> ApiId {
        self.definition.api
    }

    /// Whether it is this application's on this API.
    pub(super) fn is_of(&self, api: ApiId, application: ApplicationId) -> bool {
        self.definition.api == api && self.definition.application == application
    }

    /// One as its actor tells of it: what the view alone knows is absent.
    fn told(inspection: Inspection) -> Option<Self> {
        let state = inspection.state;
        let definition = *state.subscription?;
        Some(Self {
            definition: Subscription {
                status: state.status,
                ..definition
            },
            consumer_status: state.consumer_status,
            failure_cause: state.failure_cause.map(|cause| *cause),
            rejected_because: None,
            created_at: None,
            updated_at: None,
            health: None,
        })
    }
}

impl From<SubscriptionRow> for Shown {
    fn from(row: SubscriptionRow) -> Self {
        let state = row.state;
        Self {
            definition: Subscription {
                status: state.status,
                ..state.definition
            },
            consumer_status: state.consumer_status,
            failure_cause: state.failure_cause,
            rejected_because: state.rejected_because,
            created_at: Some(state.created_at),
            updated_at: Some(state.updated_at),
            health: Some(row.health),
        }
    }
}

fn id(call: &Call) -> Result<SubscriptionId, Problem> {
    call.parameter("subscription")
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let query: PageQuery = call.query()?;
    let limit = limit(query.limit)?;
    let view = call.handle().subscriptions();
    call.fresh(&view).await;
    let rows = match query.application {
        None => view.of_api(api, query.cursor, limit + 1)?,
        Some(application) => of_both(&view, api, application, query.cursor, limit + 1)?,
    };
    page(rows, limit)
}

/// The subscriptions of an application on an API after `after`, oldest first, at most `limit`.
pub(super) fn of_both(
    view: &View<Subscriptions>,
    api: ApiId,
    application: ApplicationId,
    mut after: Option<SubscriptionId>,
    limit: usize,
) -> Result<Vec<SubscriptionRow>, ViewError> {
    let mut found = Vec::new();
    loop {
        let rows = view.of_application(application, after, PAGE_MAX)?;
        let is_last = rows.len() < PAGE_MAX;
        after = rows.last().map(|row| row.state.definition.id);
        let on_api = rows.into_iter();
        found.extend(on_api.filter(|row| row.state.definition.api == api));
        if is_last || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

/// The page that these rows make: one more than its limit says that another follows.
pub(super) fn page(rows: Vec<SubscriptionRow>, limit: usize) -> Result<Reply, Problem> {
    let mut subscriptions: Vec<Shown> = rows.into_iter().map(Shown::from).collect();
    let is_last = subscriptions.len() <= limit;
    subscriptions.truncate(limit);
    let last = subscriptions.last().map(|shown| shown.definition.id);
    let next = last.filter(|_| !is_last);
    Reply::json(
        200,
        &Page {
            subscriptions,
            next,
        },
    )
}

async fn create(call: &Call) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let mut subscription: Subscription = call.json()?;
    subscription.api = same_as_path("/api", subscription.api, api)?;
    create_one(call, subscription, "/v1/subscriptions").await
}

/// Creates a subscription, which is found below `place` from then on; once only under an idempotency
/// key.
pub(super) async fn create_one(
    call: &Call,
    mut subscription: Subscription,
    place: &str,
) -> Result<Reply, Problem> {
    if let Some(id) = call.created_id(subscription.id.is_nil()).await? {
        subscription.id = SubscriptionId::from_uuid(id);
        let stream = StreamId::subscription(subscription.id);
        if call.handle().log().stream_version(stream) > Version::ZERO {
            let shown = shown(call, subscription.id).await?;
            return Ok(tagged(201, shown)?.replayed());
        }
    }
    let created = call
        .handle()
        .subscribe(subscription.api, subscription)
        .await?;
    let location = format!("{place}/{}", created.id);
    let shown = shown(call, created.id).await?;
    Ok(tagged(201, shown)?.header("location", location))
}

async fn read(call: &Call) -> Result<Reply, Problem> {
    tagged(200, shown(call, id(call)?).await?)
}

async fn replace(call: &Call) -> Result<Reply, Problem> {
    replace_one(call, id(call)?).await
}

pub(super) async fn replace_one(call: &Call, id: SubscriptionId) -> Result<Reply, Problem> {
    let before = call.handle().subscription(id).await?;
    call.if_match(&changeable(&before))?;
    let change: Change = call.json()?;
    let subscription = Subscription {
        channel: change.channel,
        filter: change.filter,
        configuration: change.configuration,
        starting_at: change.starting_at,
        ending_at: change.ending_at,
        delivery_mode: change.delivery_mode,
        ..before.clone()
    };
    let changed = call
        .handle()
        .update_subscription_from(&before, subscription);
    changed.await?;
    read(call).await
}

async fn close(call: &Call) -> Result<Reply, Problem> {
    close_one(call, id(call)?).await
}

pub(super) async fn close_one(call: &Call, id: SubscriptionId) -> Result<Reply, Problem> {
    let before = call.handle().subscription(id).await?;
    call.if_match(&changeable(&before))?;
    if call.is_conditional() {
        call.handle().close_from(&before).await?;
    } else {
        call.handle().close(before.id).await?;
    }
    Ok(Reply::done())
}

async fn reject(call: &Call) -> Result<Reply, Problem> {
    call.handle().subscription(id(call)?).await?;
    let rejection: Rejection = call.json()?;
    let rejected = call.handle().reject(id(call)?, rejection.reason).await;
    after(call, rejected).await
}

/// Longest time that keys sign beside the one that replaces them.
const OVERLAP_SECONDS_MAX: u64 = 7 * 86_400;
/// How long they do where nothing else is asked for.
const OVERLAP_SECONDS_DEFAULT: u64 = 86_400;

pub(super) async fn rotate(call: &Call, id: SubscriptionId) -> Result<Reply, Problem> {
    let query: RotateQuery = call.query()?;
    let seconds = query.overlap_seconds.unwrap_or(OVERLAP_SECONDS_DEFAULT);
    if seconds > OVERLAP_SECONDS_MAX {
        let detail = format!("is {seconds}, must be at most {OVERLAP_SECONDS_MAX}, a week");
        return Err(Problem::field("?overlapSeconds", detail));
    }
    let overlap = Duration::from_secs(seconds);
    let (secret, others_until) = call.handle().rotate_secret(id, overlap).await?;
    let subscription = shown(call, id).await?;
    let tag = etag::of(&changeable(&subscription.definition))?;
    let new = NewSecret {
        secret: secret.reveal().to_owned(),
        others_until,
        subscription,
    };
    Ok(Reply::json(200, &new)?.header("etag", tag))
}

/// The subscription after a step, if the step was made.
pub(super) async fn after<T>(
    call: &Call,
    step: Result<T, crate::runtime::ControlError>,
) -> Result<Reply, Problem> {
    step?;
    read(call).await
}

/// A subscription as the view shows it once it has seen everything that is in the log by now. While
/// the view does not, it is asked itself if it is not over: who changed it is not told that it does
/// not exist, or that it is as before.
pub(super) async fn shown(call: &Call, id: SubscriptionId) -> Result<Shown, Problem> {
    let view = call.handle().subscriptions();
    if call.fresh(&view).await
        && let Ok(Some(row)) = view.subscription(id)
    {
        return Ok(row.into());
    }
    if let Ok(inspection) = call.handle().inspect(id).await
        && let Some(shown) = Shown::told(inspection)
    {
        return Ok(shown);
    }
    let row = view.subscription(id)?;
    row.map(Shown::from)
        .ok_or_else(|| Problem::not_found(format!("subscription {id}")))
}

pub(super) fn tagged(status: u16, shown: Shown) -> Result<Reply, Problem> {
    let tag = etag::of(&changeable(&shown.definition))?;
    Ok(Reply::json(status, &shown)?.header("etag", tag))
}

/// What a change replaces, and so what a tag stands for.
fn changeable(subscription: &Subscription) -> impl Serialize + use<> {
    (
        subscription.id,
        subscription.channel.clone(),
        subscription.filter.clone(),
        subscription.configuration.clone(),
        subscription.starting_at,
        subscription.ending_at,
        subscription.delivery_mode,
        subscription.status == SubscriptionStatus::Closed,
    )
}
