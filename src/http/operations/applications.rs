//! Applications: the consumers' identities.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        call::Call,
        etag::tagged,
        operation::{Operation, Precondition, Verb, json, schema},
        problem::Problem,
        reply::Reply,
    },
    same_as_path,
};
use crate::model::{Application, ApplicationId};

const IF_MATCH: &[Precondition] = &[Precondition::IfMatch];

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listApplications",
        "/v1/applications",
        "Every application, oldest first.",
        schema::<Applications>,
        |call| async move { list(&call) }.boxed(),
    ),
    Operation::change(
        "createApplication",
        Verb::Post,
        "/v1/applications",
        "Create an application. Make a key for it with createToken.",
        |call| async move { create(&call).await }.boxed(),
    )
    .preconditions(&[Precondition::IdempotencyKey])
    .body(json(schema::<Application>))
    .answers(201, json(schema::<Application>)),
    Operation::get(
        "getApplication",
        "/v1/applications/{application}",
        "An application.",
        schema::<Application>,
        |call| async move { read(&call) }.boxed(),
    ),
    Operation::change(
        "updateApplication",
        Verb::Put,
        "/v1/applications/{application}",
        "Replace the definition of an application.",
        |call| async move { replace(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH)
    .body(json(schema::<Application>))
    .answers(200, json(schema::<Application>)),
    Operation::change(
        "deleteApplication",
        Verb::Delete,
        "/v1/applications/{application}",
        "Delete an application that has no subscription.",
        |call| async move { delete(&call).await }.boxed(),
    )
    .preconditions(IF_MATCH),
];

/// Every application.
#[derive(Serialize, JsonSchema)]
struct Applications {
    /// The applications, oldest first.
    applications: Vec<Application>,
}

fn list(call: &Call) -> Result<Reply, Problem> {
    let applications = call.handle().applications();
    Reply::json(200, &Applications { applications })
}

fn read(call: &Call) -> Result<Reply, Problem> {
    let application = call.handle().application(call.parameter("application")?)?;
    tagged(200, &application)
}

async fn create(call: &Call) -> Result<Reply, Problem> {
    let mut application: Application = call.json()?;
    if let Some(id) = call.created_id(application.id.is_nil()).await? {
        application.id = ApplicationId::from_uuid(id);
        if let Ok(known) = call.handle().application(application.id) {
            return Ok(tagged(201, &known)?.replayed());
        }
    }
    let application = call.handle().create_application(application).await?;
    let location = format!("/v1/applications/{}", application.id);
    Ok(tagged(201, &application)?.header("location", location))
}

async fn replace(call: &Call) -> Result<Reply, Problem> {
    let before = call.handle().application(call.parameter("application")?)?;
    call.if_match(&before)?;
    let mut application: Application = call.json()?;
    application.id = same_as_path("/id", application.id, before.id)?;
    let changed = call
        .handle()
        .update_application_from(&before, application.clone());
    changed.await?;
    tagged(200, &application)
}

async fn delete(call: &Call) -> Result<Reply, Problem> {
    let application = call.handle().application(call.parameter("application")?)?;
    call.if_match(&application)?;
    if call.is_conditional() {
        call.handle().delete_application_from(&application).await?;
    } else {
        call.handle().delete_application(application.id).await?;
    }
    Ok(Reply::done())
}
