//! The table of everything that can be asked for, one file per kind of thing.

mod apis;
mod applications;
mod consumer;
mod dead_letters;
mod events;
mod health;
mod jobs;
mod logs;
mod messages;
mod metrics;
mod projections;
mod retention;
mod subscriptions;
mod test_calls;
mod tokens;

use schemars::JsonSchema;
use serde::Serialize;

use super::{operation::Operation, problem::Problem};
use crate::model::Position;

/// Most things on one page.
const PAGE_MAX: usize = 1_000;
/// Things on a page where nothing else is asked for.
const PAGE_DEFAULT: usize = 100;

/// Every operation.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    [
        messages::OPERATIONS,
        apis::OPERATIONS,
        applications::OPERATIONS,
        subscriptions::OPERATIONS,
        logs::OPERATIONS,
        dead_letters::OPERATIONS,
        jobs::OPERATIONS,
        test_calls::OPERATIONS,
        events::OPERATIONS,
        projections::OPERATIONS,
        retention::OPERATIONS,
        tokens::OPERATIONS,
        metrics::OPERATIONS,
        health::OPERATIONS,
        consumer::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

/// It is on record.
#[derive(Serialize, JsonSchema)]
struct Done {
    /// The last event of it.
    position: Position,
}

/// What the path names, where the body names the same or leaves it out.
fn same_as_path<T: Copy + Default + PartialEq>(
    pointer: &str,
    sent: T,
    of_path: T,
) -> Result<T, Problem> {
    if sent == T::default() || sent == of_path {
        return Ok(of_path);
    }
    let reason = "is another than that of the path; leave it out";
    Err(Problem::field(pointer, reason))
}

/// How many things a page holds.
fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("is {limit}, must be 1 to {PAGE_MAX}");
    Err(Problem::field("?limit", detail))
}
