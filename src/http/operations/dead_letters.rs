//! Dead letters: deliveries that were given up and kept.

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
    Done, limit, logs,
};
use crate::{
    model::{ApiId, ApplicationId, DeadLetterReason, Fault, Permission, SubscriptionId, Timestamp},
    projection::{
        dead_letters::{DeadLetterFilter, DeadLetterPage},
        deliveries::Cursor,
    },
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listDeadLetters",
        "/v1/apis/{api}/dead-letters",
        "The dead letters of an API, newest first. Filters may be combined.",
        schema::<DeadLetterPage>,
        |call| async move { list(&call).await }.boxed(),
    )
    .query(schema::<ListQuery>),
    Operation::change(
        "discardDeadLetter",
        Verb::Delete,
        "/v1/apis/{api}/dead-letters/{delivery}",
        "Discard a dead letter. It stays in the webhook log.",
        |call| async move { discard(&call).await }.boxed(),
    )
    .needs(Permission::Operate)
    .answers(200, json(schema::<Done>)),
];

/// Which dead letters; each field that is set narrows the answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ListQuery {
    /// Given up for this reason.
    reason: Option<DeadLetterReason>,
    /// By the fault of this side.
    fault: Option<Fault>,
    /// Of this subscription.
    subscription: Option<SubscriptionId>,
    /// Of this application.
    application: Option<ApplicationId>,
    /// Given up at or after this time.
    from: Option<Timestamp>,
    /// Given up before this time.
    to: Option<Timestamp>,
    /// Where the page begins: the `next` of the page before.
    cursor: Option<Cursor>,
    /// Most dead letters on the page. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let query: ListQuery = call.query()?;
    let filter = DeadLetterFilter {
        reason: query.reason,
        fault: query.fault,
        subscription: query.subscription,
        application: query.application,
        from: query.from,
        to: query.to,
    };
    let view = call.handle().dead_letters();
    call.fresh(&view).await;
    let page = view.list(api, &filter, query.cursor.as_ref(), limit(query.limit)?)?;
    Reply::json(200, &page)
}

async fn discard(call: &Call) -> Result<Reply, Problem> {
    let position = call.handle().discard(logs::row(call).await?.id).await?;
    Reply::json(200, &Done { position })
}
