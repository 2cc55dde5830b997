//! The webhook log of an API.

use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    super::{
        call::Call,
        operation::{Operation, Verb, json, schema},
        problem::Problem,
        reply::Reply,
    },
    Done, limit,
};
use crate::{
    model::{
        ApiId, ApplicationId, CallbackUrl, DeliveryId, ErrorClass, MessageId, Permission,
        SubscriptionId, Timestamp,
    },
    projection::deliveries::{
        Cursor, DeliveryDetail, DeliveryFilter, DeliveryOutcome, DeliveryPage, DeliveryQuery,
        DeliveryRow,
    },
    runtime::Explanation,
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listDeliveries",
        "/v1/apis/{api}/logs",
        "The deliveries of an API that have a log entry, newest first. Filters may be combined.",
        schema::<DeliveryPage>,
        |call| async move { list(&call).await }.boxed(),
    )
    .query(schema::<ListQuery>),
    Operation::get(
        "getDelivery",
        "/v1/apis/{api}/logs/{delivery}",
        "Everything about one delivery: its attempts, its dead letter, what was logged of it.",
        schema::<DeliveryDetail>,
        |call| async move { detail(&call).await }.boxed(),
    ),
    Operation::get(
        "explainDelivery",
        "/v1/apis/{api}/logs/{delivery}/explain",
        "Why a delivery stands where it stands: the events behind it, and what it waits for.",
        schema::<Explanation>,
        |call| async move { explain(&call).await }.boxed(),
    ),
    Operation::get(
        "explain",
        "/v1/subscriptions/{subscription}/messages/{message}/explain",
        "Why a message stands where it stands with a subscription, also where it has no log entry.",
        schema::<Explanation>,
        |call| async move { explain_message(&call).await }.boxed(),
    ),
    Operation::change(
        "redeliver",
        Verb::Post,
        "/v1/apis/{api}/logs/{delivery}/_redeliver",
        "Make a delivery again, with the original bytes and webhook-id and a fresh budget.",
        |call| async move { redeliver(&call).await }.boxed(),
    )
    .needs(Permission::Operate)
    .answers(202, json(schema::<Done>)),
];

/// Which deliveries; each field that is set narrows the answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ListQuery {
    /// Last statuses (`503`), classes (`5xx`) and `0` for no response, with commas between them.
    pub(super) status: Option<String>,
    /// The last call went to this URL.
    pub(super) callback_url: Option<CallbackUrl>,
    /// Of this application.
    pub(super) application: Option<ApplicationId>,
    /// Of this subscription.
    pub(super) subscription: Option<SubscriptionId>,
    /// The first call began at or after this time.
    pub(super) from: Option<Timestamp>,
    /// The first call began before this time.
    pub(super) to: Option<Timestamp>,
    /// Whether it went to the dead letter queue.
    pub(super) dlq: Option<bool>,
    /// How it stands.
    pub(super) outcome: Option<DeliveryOutcome>,
    /// Why the last call got no response.
    pub(super) error_class: Option<ErrorClass>,
    /// The last call took at least this long, in milliseconds.
    pub(super) min_duration_ms: Option<u64>,
    /// Of this message.
    pub(super) message: Option<MessageId>,
    /// Where the page begins: the `next` of the page before.
    pub(super) cursor: Option<Cursor>,
    /// Most deliveries on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) limit: Option<usize>,
}

impl ListQuery {
    pub(super) fn into_query(self, api: ApiId) -> Result<DeliveryQuery, Problem> {
        let statuses = self.status.as_deref().unwrap_or_default();
        let statuses = statuses.split(',').filter(|status| !status.is_empty());
        let parsed = statuses.map(|status| {
            let invalid = status.trim().parse();
            invalid
                .map_err(|invalid: crate::model::Invalid| Problem::from(invalid.under("?status")))
        });
        Ok(DeliveryQuery {
            api,
            filter: DeliveryFilter {
                status: parsed.collect::<Result<_, _>>()?,
                callback_url: self.callback_url,
                application: self.application,
                subscription: self.subscription,
                from: self.from,
                to: self.to,
                sent_to_dlq: self.dlq,
                outcome: self.outcome,
                error_class: self.error_class,
                min_duration: self.min_duration_ms.map(Duration::from_millis),
                message: self.message,
            },
            cursor: self.cursor,
            limit: limit(self.limit)?,
        })
    }
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let query = call.query::<ListQuery>()?.into_query(api)?;
    let view = call.handle().deliveries();
    call.fresh(&view).await;
    Reply::json(200, &view.list(&query)?)
}

/// The delivery of the path, if it is of the API of the path.
pub(super) async fn row(call: &Call) -> Result<DeliveryRow, Problem> {
    let (api, id): (ApiId, DeliveryId) = (call.parameter("api")?, call.parameter("delivery")?);
    let view = call.handle().deliveries();
    call.fresh(&view).await;
    let row = view.delivery(id)?.filter(|row| row.api == api);
    row.ok_or_else(|| Problem::not_found(format!("delivery {id} of API {api}")))
}

async fn detail(call: &Call) -> Result<Reply, Problem> {
    let id = row(call).await?.id;
    let detail = call.handle().deliveries().detail(id)?;
    let detail = detail.ok_or_else(|| Problem::not_found(format!("delivery {id}")))?;
    Reply::json(200, &detail)
}

async fn explain(call: &Call) -> Result<Reply, Problem> {
    let row = row(call).await?;
    let explained = call.handle().explain(row.message.id, row.subscription);
    Reply::json(200, &explained.await?)
}

async fn explain_message(call: &Call) -> Result<Reply, Problem> {
    let (message, subscription) = (call.parameter("message")?, call.parameter("subscription")?);
    Reply::json(200, &call.handle().explain(message, subscription).await?)
}

async fn redeliver(call: &Call) -> Result<Reply, Problem> {
    let position = call.handle().redeliver(row(call).await?.id).await?;
    Reply::json(202, &Done { position })
}
