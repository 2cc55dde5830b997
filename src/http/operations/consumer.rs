//! What an application's key reaches: under the context path of an API, its own subscriptions.
//!
//! A subscription of another application or on another API is answered as one that is not there.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    super::{
        call::Call,
        operation::{Operation, Precondition, Verb, json, schema},
        problem::{Kind, Problem},
        reply::Reply,
    },
    limit,
    logs::ListQuery,
    subscriptions::{
        Change, IF_MATCH, NewSecret, Page, RotateQuery, Shown, after, close_one, create_one,
        of_both, page, replace_one, rotate, shown, tagged,
    },
};
use crate::{
    model::{
        Api, ApplicationId, CallbackUrl, ConsumerConfiguration, DeadLetterQueue, DeliveryId,
        DeliveryMode, ErrorClass, FilterExpression, MessageId, Permission, StartFrom, Subscription,
        SubscriptionId, Timestamp,
    },
    projection::deliveries::{Cursor, DeliveryDetail, DeliveryOutcome, DeliveryPage, DlqEntry},
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listOwnSubscriptions",
        "/{contextPath}/subscriptions",
        "The subscriptions of one's application on this API, oldest first, closed ones included.",
        schema::<Page>,
        |call| async move { list(&call).await }.boxed(),
    )
    .needs(Permission::Consume)
    .query(schema::<PageQuery>),
    Operation::change(
        "subscribe",
        Verb::Post,
        "/{contextPath}/subscriptions",
        "Subscribe one's application. It begins at once, or waits to be accepted, as the entrypoint's subscriptionValidation says.",
        |call| async move { subscribe(&call).await }.boxed(),
    )
    .needs(Permission::Consume)
    .preconditions(&[Precondition::IdempotencyKey])
    .body(json(schema::<Wanted>))
    .answers(201, json(schema::<Shown>)),
    Operation::get(
        "getOwnSubscription",
        "/{contextPath}/subscriptions/{subscription}",
        "A subscription of one's own, and how it does.",
        schema::<Shown>,
        |call| async move { own(&call).await.and_then(|shown| tagged(200, shown)) }.boxed(),
    )
    .needs(Permission::Consume),
    Operation::change(
        "updateOwnSubscription",
        Verb::Put,
        "/{contextPath}/subscriptions/{subscription}",
        "Replace what may change of a subscription. Its next call is made under it.",
        |call| async move { replace_one(&call, own_id(&call).await?).await }.boxed(),
    )
    .needs(Permission::Consume)
    .preconditions(IF_MATCH)
    .body(json(schema::<Change>))
    .answers(200, json(schema::<Shown>)),
    Operation::change(
        "closeOwnSubscription",
        Verb::Delete,
        "/{contextPath}/subscriptions/{subscription}",
        "End a subscription. What waits for a retry is discarded, on record.",
        |call| async move { close_one(&call, own_id(&call).await?).await }.boxed(),
    )
    .needs(Permission::Consume)
    .preconditions(IF_MATCH),
    step(
        "pauseOwnSubscription",
        "/{contextPath}/subscriptions/{subscription}/_pause",
        "Stop a subscription on the consumer's side (consumerStatus STOPPED): its messages wait.",
        |call| {
            async move {
                let id = own_id(&call).await?;
                after(&call, call.handle().stop_by_consumer(id).await).await
            }
            .boxed()
        },
    ),
    step(
        "resumeOwnSubscription",
        "/{contextPath}/subscriptions/{subscription}/_resume",
        "Go on after a stop. What the publisher's side paused stays so.",
        |call| {
            async move {
                let id = own_id(&call).await?;
                after(&call, call.handle().resume_failure(id).await).await
            }
            .boxed()
        },
    ),
    step(
        "resumeOwnFailedSubscription",
        "/{contextPath}/subscriptions/{subscription}/_resumeFailure",
        "Go on after an interruption; what could not be delivered gets a fresh budget.",
        |call| {
            async move {
                let id = own_id(&call).await?;
                after(&call, call.handle().resume_failure(id).await).await
            }
            .boxed()
        },
    ),
    step(
        "rotateOwnSecret",
        "/{contextPath}/subscriptions/{subscription}/_rotateSecret",
        "Give a subscription a new signing key, shown this once. Those it had sign beside it for a while.",
        |call| async move { rotate(&call, own_id(&call).await?).await }.boxed(),
    )
    .query(schema::<RotateQuery>)
    .answers(200, json(schema::<NewSecret>)),
    Operation::get(
        "listOwnDeliveries",
        "/{contextPath}/subscriptions/{subscription}/logs",
        "The deliveries of a subscription that have a log entry, newest first. Filters may be combined.",
        schema::<DeliveryPage>,
        |call| async move { deliveries(&call).await }.boxed(),
    )
    .needs(Permission::Consume)
    .query(schema::<LogQuery>),
    Operation::get(
        "getOwnDelivery",
        "/{contextPath}/subscriptions/{subscription}/logs/{delivery}",
        "Everything about one delivery: its attempts, whether it was given up, what was logged of it.",
        schema::<DeliveryDetail>,
        |call| async move { delivery(&call).await }.boxed(),
    )
    .needs(Permission::Consume),
];

/// Most subscriptions that an application may have open on one API to make another for itself.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// A step in the life of a subscription of one's own.
const fn step(
    name: &'static str,
    path: &'static str,
    about: &'static str,
    run: fn(Call) -> futures_util::future::BoxFuture<'static, Result<Reply, Problem>>,
) -> Operation {
    Operation::change(name, Verb::Post, path, about, run)
        .needs(Permission::Consume)
        .answers(200, json(schema::<Shown>))
}

/// Which page.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "OwnPageQuery")]
struct PageQuery {
    /// Where the page begins: the `next` of the page before.
    cursor: Option<SubscriptionId>,
    /// Most subscriptions on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// A subscription as a consumer asks for it. API and application are those of the path and the key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "WantedSubscription")]
struct Wanted {
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
    /// Its first message.
    #[serde(default)]
    start_from: StartFrom,
    /// In which order.
    #[serde(default)]
    delivery_mode: DeliveryMode,
}

impl Wanted {
    /// What it comes to when this application asks for it on this API.
    fn of(self, application: ApplicationId, api: &Api) -> Subscription {
        Subscription {
            id: SubscriptionId::nil(),
            api: api.id,
            application,
            channel: self.channel,
            filter: self.filter,
            configuration: self.configuration,
            status: api.entrypoint.subscription_validation.first_status(),
            starting_at: self.starting_at,
            ending_at: self.ending_at,
            start_from: self.start_from,
            delivery_mode: self.delivery_mode,
        }
    }
}

/// Which deliveries of a subscription; each field that is set narrows the answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "OwnLogQuery")]
struct LogQuery {
    /// Last statuses (`503`), classes (`5xx`) and `0` for no response, with commas between them.
    status: Option<String>,
    /// The last call went to this URL.
    callback_url: Option<CallbackUrl>,
    /// The first call began at or after this time.
    from: Option<Timestamp>,
    /// The first call began before this time.
    to: Option<Timestamp>,
    /// Whether it was given up and kept.
    dlq: Option<bool>,
    /// How it stands.
    outcome: Option<DeliveryOutcome>,
    /// Why the last call got no response.
    error_class: Option<ErrorClass>,
    /// The last call took at least this long, in milliseconds.
    min_duration_ms: Option<u64>,
    /// Of this message.
    message: Option<MessageId>,
    /// Where the page begins: the `next` of the page before.
    cursor: Option<Cursor>,
    /// Most deliveries on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

impl LogQuery {
    /// The same question to the log of the API.
    fn of(self, subscription: SubscriptionId) -> ListQuery {
        ListQuery {
            status: self.status,
            callback_url: self.callback_url,
            application: None,
            subscription: Some(subscription),
            from: self.from,
            to: self.to,
            dlq: self.dlq,
            outcome: self.outcome,
            error_class: self.error_class,
            min_duration_ms: self.min_duration_ms,
            message: self.message,
            cursor: self.cursor,
            limit: self.limit,
        }
    }
}

/// The API that the path is about.
fn api(call: &Call) -> Result<std::sync::Arc<Api>, Problem> {
    let context = call.parameters.get("contextPath");
    let context = context.map_or("", String::as_str);
    let found = call.handle().api_at(context);
    found.ok_or_else(|| Problem::not_found(format!("path {}", call.path)))
}

/// The application whose key was shown.
fn application(call: &Call) -> Result<ApplicationId, Problem> {
    let no_key = || Problem::new(Kind::Forbidden, "this token is no key of an application");
    call.bearer()?.application.ok_or_else(no_key)
}

/// The subscription of the path, if it is the application's and on this API.
async fn own(call: &Call) -> Result<Shown, Problem> {
    let (api, application) = (api(call)?, application(call)?);
    let id = call.parameter("subscription")?;
    let shown = shown(call, id).await?;
    if shown.is_of(api.id, application) {
        Ok(shown)
    } else {
        Err(Problem::not_found(format!("subscription {id}")))
    }
}

async fn own_id(call: &Call) -> Result<SubscriptionId, Problem> {
    Ok(own(call).await?.id())
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let (api, application) = (api(call)?, application(call)?);
    let query: PageQuery = call.query()?;
    let limit = limit(query.limit)?;
    let view = call.handle().subscriptions();
    call.fresh(&view).await;
    let rows = of_both(&view, api.id, application, query.cursor, limit + 1)?;
    page(rows, limit)
}

async fn subscribe(call: &Call) -> Result<Reply, Problem> {
    let (api, application) = (api(call)?, application(call)?);
    let subscription = call.json::<Wanted>()?.of(application, &api);
    if call.handle().open_subscriptions(api.id, application) >= SUBSCRIPTIONS_MAX {
        let detail =
            format!("this application has {SUBSCRIPTIONS_MAX} subscriptions here; end one");
        return Err(Problem::new(Kind::Conflict, detail));
    }
    create_one(call, subscription, &call.path).await
}

async fn deliveries(call: &Call) -> Result<Reply, Problem> {
    let own = own(call).await?;
    let query = call.query::<LogQuery>()?.of(own.id());
    let view = call.handle().deliveries();
    call.fresh(&view).await;
    let mut page = view.list(&query.into_query(own.api())?)?;
    for row in &mut page.deliveries {
        hide_target(row.dlq.as_mut());
    }
    Reply::json(200, &page)
}

async fn delivery(call: &Call) -> Result<Reply, Problem> {
    let own = own(call).await?.id();
    let id: DeliveryId = call.parameter("delivery")?;
    let view = call.handle().deliveries();
    call.fresh(&view).await;
    let detail = view.detail(id)?;
    let detail = detail.filter(|detail| detail.delivery.subscription == own);
    let missing = || Problem::not_found(format!("delivery {id} of subscription {own}"));
    let mut detail = detail.ok_or_else(missing)?;
    hide_target(detail.dlq.as_mut());
    hide_target(detail.delivery.dlq.as_mut());
    Reply::json(200, &detail)
}

/// Shows a dead letter as kept, which all are: where else it goes is the publisher's own matter.
fn hide_target(dlq: Option<&mut DlqEntry>) {
    if let Some(dlq) = dlq {
        dlq.target = DeadLetterQueue::Embedded;
        dlq.forwarded_at = None;
        dlq.forward_error = None;
    }
}
