//! APIs and their entrypoints.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        call::Call,
        etag::tagged,
        operation::{Operation, Precondition, Verb, json, schema},
        problem::{Kind, Problem},
        reply::Reply,
    },
    same_as_path,
};
use crate::model::{Api, ApiId, Logging, Permission, WebhookEntrypoint};

const IF_MATCH: &[Precondition] = &[Precondition::IfMatch];

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listApis",
        "/v1/apis",
        "Every API, oldest first.",
        schema::<Apis>,
        |call| async move { list(&call) }.boxed(),
    ),
    Operation::change(
        "createApi",
        Verb::Post,
        "/v1/apis",
        "Create an API.",
        |call| create(call).boxed(),
    )
    .preconditions(&[Precondition::IdempotencyKey])
    .body(json(schema::<Api>))
    .answers(201, json(schema::<Api>)),
    Operation::get(
        "getApi",
        "/v1/apis/{api}",
        "An API.",
        schema::<Api>,
        |call| async move { read(&call) }.boxed(),
    ),
    Operation::change(
        "updateApi",
        Verb::Put,
        "/v1/apis/{api}",
        "Replace the definition of an API, its state apart.",
        |call| async move { replace(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH)
    .body(json(schema::<Api>))
    .answers(200, json(schema::<Api>)),
    Operation::change(
        "deleteApi",
        Verb::Delete,
        "/v1/apis/{api}",
        "Delete an API that no subscription uses.",
        |call| async move { delete(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH),
    Operation::change(
        "startApi",
        Verb::Post,
        "/v1/apis/{api}/_start",
        "Start an API: messages are taken in and delivered.",
        |call| async move { set_state(&call, true).await }.boxed(),
    )
    .needs(Permission::Operate)
    .answers(200, json(schema::<Api>)),
    Operation::change(
        "stopApi",
        Verb::Post,
        "/v1/apis/{api}/_stop",
        "Stop an API: messages are refused, and what was accepted waits.",
        |call| async move { set_state(&call, false).await }.boxed(),
    )
    .needs(Permission::Operate)
    .answers(200, json(schema::<Api>)),
    Operation::get(
        "getEntrypoint",
        "/v1/apis/{api}/entrypoint",
        "The webhook entrypoint of an API.",
        schema::<WebhookEntrypoint>,
        |call| async move { part(&call, |api| &api.entrypoint) }.boxed(),
    ),
    Operation::change(
        "updateEntrypoint",
        Verb::Put,
        "/v1/apis/{api}/entrypoint",
        "Replace the webhook entrypoint of an API.",
        |call| {
            async move {
                replace_part(
                    &call,
                    |api| &api.entrypoint,
                    |api, new| api.entrypoint = new,
                )
                .await
            }
            .boxed()
        },
    )
    .preconditions(IF_MATCH)
    .body(json(schema::<WebhookEntrypoint>))
    .answers(200, json(schema::<WebhookEntrypoint>)),
    Operation::get(
        "getLogging",
        "/v1/apis/{api}/entrypoint/logging",
        "What is captured of each call.",
        schema::<Logging>,
        |call| async move { part(&call, |api| &api.entrypoint.logging) }.boxed(),
    ),
    Operation::change(
        "updateLogging",
        Verb::Put,
        "/v1/apis/{api}/entrypoint/logging",
        "Say what is captured of each call from now on.",
        |call| {
            async move {
                let set = |api: &mut Api, new| api.entrypoint.logging = new;
                replace_part(&call, |api| &api.entrypoint.logging, set).await
            }
            .boxed()
        },
    )
    .preconditions(IF_MATCH)
    .body(json(schema::<Logging>))
    .answers(200, json(schema::<Logging>)),
];

/// Every API.
#[derive(Serialize, JsonSchema)]
struct Apis {
    /// The APIs, oldest first.
    apis: Vec<Api>,
}

fn list(call: &Call) -> Result<Reply, Problem> {
    let apis = call
        .handle()
        .apis()
        .iter()
        .map(|api| Api::clone(api))
        .collect();
    Reply::json(200, &Apis { apis })
}

fn read(call: &Call) -> Result<Reply, Problem> {
    let api = call.handle().api(call.parameter("api")?)?;
    tagged(200, &*api)
}

async fn create(call: Call) -> Result<Reply, Problem> {
    let mut api: Api = call.json()?;
    if let Some(id) = call.created_id(api.id.is_nil()).await? {
        api.id = ApiId::from_uuid(id);
        if let Ok(known) = call.handle().api(api.id) {
            return Ok(tagged(201, &*known)?.replayed());
        }
    }
    let api = call.handle().create_api(api).await?;
    Ok(tagged(201, &api)?.header("location", format!("/v1/apis/{}", api.id)))
}

async fn replace(call: &Call) -> Result<Reply, Problem> {
    let before = call.handle().api(call.parameter("api")?)?;
    call.if_match(&*before)?;
    let mut api: Api = call.json()?;
    api.id = same_as_path("/id", api.id, before.id)?;
    let api = call.handle().update_api_from(&before, api).await?;
    tagged(200, &api)
}

async fn delete(call: &Call) -> Result<Reply, Problem> {
    let api = call.handle().api(call.parameter("api")?)?;
    call.if_match(&*api)?;
    if call.is_conditional() {
        call.handle().delete_api_from(&api).await?;
    } else {
        call.handle().delete_api(api.id).await?;
    }
    Ok(Reply::done())
}

async fn set_state(call: &Call, started: bool) -> Result<Reply, Problem> {
    let id: ApiId = call.parameter("api")?;
    if started {
        call.handle().start_api(id).await?;
    } else {
        call.handle().stop_api(id).await?;
    }
    read(call)
}

fn part<T: Serialize>(call: &Call, part: impl Fn(&Api) -> &T) -> Result<Reply, Problem> {
    let api = call.handle().api(call.parameter("api")?)?;
    tagged(200, part(&api))
}

/// Replaces a part of a definition. Somebody who changed another part meanwhile is no reason to
/// refuse: it is tried again on what they made of it.
async fn replace_part<T: Serialize + serde::de::DeserializeOwned>(
    call: &Call,
    part: impl Fn(&Api) -> &T,
    set: impl Fn(&mut Api, T),
) -> Result<Reply, Problem> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let before = call.handle().api(call.parameter("api")?)?;
        call.if_match(part(&before))?;
        let mut api = Api::clone(&before);
        set(&mut api, call.json()?);
        match call
            .handle()
            .update_api_from(&before, api)
            .await
            .map_err(Problem::from)
        {
            Ok(api) => return tagged(200, part(&api)),
            Err(problem) if problem.kind() == Kind::Changed => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::new(
        Kind::Changed,
        "others change it all the time; try again",
    ))
}
