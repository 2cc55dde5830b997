//! Whether the gateway lives, is ready, and what can be asked of it.

use std::sync::LazyLock;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::super::{
    call::Call,
    openapi,
    operation::{Content, Gate, Operation, schema},
    problem::{Kind, Problem},
    reply::Reply,
};
use crate::{log::Health, projection::Phase};

/// It is the same for as long as the program runs.
static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

const ANY_JSON: Content = Content {
    types: &["application/json"],
    schema: None,
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "isAlive",
        "/livez",
        "Whether the process answers.",
        schema::<Alive>,
        |_| async { Reply::json(200, &Alive { status: "alive" }) }.boxed(),
    )
    .gate(Gate::Open),
    Operation::get(
        "isReady",
        "/readyz",
        "Whether messages are accepted and delivered; the reason when they are not.",
        schema::<Ready>,
        |call| async move { ready(&call) }.boxed(),
    )
    .gate(Gate::Open),
    Operation::get(
        "getOpenapi",
        "/openapi.json",
        "This description.",
        schema::<Alive>,
        |_| async { Reply::json(200, &*DOCUMENT) }.boxed(),
    )
    .gate(Gate::Open)
    .answers(200, ANY_JSON),
];

/// The process answers.
#[derive(Serialize, JsonSchema)]
struct Alive {
    /// `alive`.
    status: &'static str,
}

/// Messages are accepted and delivered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Ready {
    /// `ready`.
    status: &'static str,
    /// The last position of the log.
    head: u64,
}

fn ready(call: &Call) -> Result<Reply, Problem> {
    let handle = call.handle();
    let not = |why: String| Err(Problem::new(Kind::Unavailable, why));
    if call.gateway.is_closing() {
        return not("the gateway is shutting down".to_owned());
    }
    match handle.log().health() {
        Health::Sound => {
            if let Err(refused) = handle.log().room_for_messages() {
                return not(refused.to_string());
            }
        }
        Health::Full => return not("there is no room on the disk".to_owned()),
        Health::Poisoned => {
            return not("a sync of the log failed; start the gateway again".to_owned());
        }
        Health::TailDamaged { from, reason, .. } => {
            return not(format!(
                "the log is damaged from position {from}: {reason}; `hooklog repair` shows what is \
                 lost, and goes on without it"
            ));
        }
        _ => return not("the log is closed".to_owned()),
    }
    for projection in handle.projections() {
        let name = projection.name;
        if let Phase::Halted(halt) = projection.phase {
            let (position, reason) = (halt.position, halt.reason);
            return not(format!(
                "projection {name:?} halted at position {position}: {reason}; rebuild it"
            ));
        }
        if !projection.answers {
            return not(format!(
                "the rows of projection {name:?} were damaged and are built again from the log"
            ));
        }
    }
    let ready = Ready {
        status: "ready",
        head: handle.log().head().get(),
    };
    Reply::json(200, &ready)
}
