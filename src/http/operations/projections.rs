//! Projections: how far they are, and building them again.

use futures_util::{FutureExt, StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::{
    call::Call,
    operation::{Content, Operation, Precondition, Verb, json, schema},
    problem::{Kind, Problem},
    reply::Reply,
};
use crate::{
    model::{Permission, Position},
    projection::{Phase, ProjectionStatus},
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listProjections",
        "/v1/projections",
        "How each projection does.",
        schema::<Statuses>,
        |call| async move { list(&call) }.boxed(),
    ),
    Operation::get(
        "getProjection",
        "/v1/projections/{projection}",
        "How a projection does.",
        schema::<Status>,
        |call| async move { Reply::json(200, &named(&call)?) }.boxed(),
    ),
    Operation::change(
        "rebuildProjection",
        Verb::Post,
        "/v1/projections/{projection}/_rebuild",
        "Build the rows of a projection again from the log, beside the old ones, which serve meanwhile.",
        |call| async move { rebuild(&call) }.boxed(),
    )
    .needs(Permission::Operate)
    .answers(202, json(schema::<Status>)),
    Operation::get(
        "followProjection",
        "/v1/projections/{projection}/stream",
        "Tells, as server-sent events, when a projection has seen more: `id` is its position.",
        schema::<Status>,
        |call| async move { follow(&call) }.boxed(),
    )
    .preconditions(&[Precondition::LastEventId])
    .answers(
        200,
        Content {
            types: &["text/event-stream"],
            schema: None,
        },
    ),
];

/// How each projection does.
#[derive(Serialize, JsonSchema)]
struct Statuses {
    /// The projections, by name.
    projections: Vec<Status>,
}

/// How a projection does.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Its name.
    name: &'static str,
    /// The version of its rows.
    version: u32,
    /// The last event it has seen.
    position: Position,
    /// How many events it is behind.
    lag_events: u64,
    /// How many events it skipped.
    skipped: u64,
    /// `running`, `mending` (rows that were damaged are built again), `waiting`, `halted` or `stopped`.
    phase: &'static str,
    /// Why it mends, waits or halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<ProjectionStatus> for Status {
    fn from(status: ProjectionStatus) -> Self {
        let (phase, reason) = match status.phase {
            Phase::Running if !status.answers => {
                ("mending", Some(ProjectionStatus::MENDING.to_owned()))
            }
            Phase::Running => ("running", None),
            Phase::Waiting { reason } => ("waiting", Some(reason)),
            Phase::Halted(halt) => {
                let reason = format!("at position {}: {}", halt.position, halt.reason);
                ("halted", Some(reason))
            }
            Phase::Stopped => ("stopped", None),
        };
        Self {
            name: status.name,
            version: status.version,
            position: status.position,
            lag_events: status.lag.0,
            skipped: status.skipped,
            phase,
            reason,
        }
    }
}

fn list(call: &Call) -> Result<Reply, Problem> {
    let statuses = call.handle().projections();
    let projections = statuses.into_iter().map(Status::from).collect();
    Reply::json(200, &Statuses { projections })
}

fn named(call: &Call) -> Result<Status, Problem> {
    let name: String = call.parameter("projection")?;
    let statuses = call.handle().projections();
    let found = statuses.into_iter().find(|status| status.name == name);
    found
        .map(Status::from)
        .ok_or_else(|| Problem::not_found(format!("projection {name:?}")))
}

fn rebuild(call: &Call) -> Result<Reply, Problem> {
    let status = named(call)?;
    let (handle, name) = (call.handle().clone(), status.name);
    // It may take long. Whoever asked sees how it goes on by its status.
    tokio::spawn(async move {
        if let Some(Err(error)) = handle.rebuild(name).await {
            tracing::error!(projection = name, %error, "a rebuild failed");
        }
    });
    Reply::json(202, &status)
}

fn follow(call: &Call) -> Result<Reply, Problem> {
    let name = named(call)?.name;
    let after = match &call.headers.last_event_id {
        Some(last) => last.trim().parse().map_err(|_| {
            Problem::new(
                Kind::Malformed,
                format!("Last-Event-ID {last:?} is no position"),
            )
        })?,
        None => Position::ZERO,
    };
    let slot = call.gateway.stream_slot(call.bearer()?.id)?;
    let handle = call.handle().clone();
    let changes = stream::unfold(
        (handle, after, slot),
        move |(handle, after, slot)| async move {
            let position = handle.projection_changed(name, after).await?;
            let chunk =
                format!("id: {position}\nevent: changed\ndata: {{\"position\":{position}}}\n\n");
            // A token that was revoked meanwhile sees nothing more.
            slot.is_in_force()
                .then(|| (chunk.into(), (handle, position, slot)))
        },
    );
    let body = changes.take_until(call.gateway.closed().boxed());
    Ok(Reply::stream("text/event-stream", body.boxed()))
}
