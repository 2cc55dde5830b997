//! What stands at this moment.

use serde::Serialize;

use super::{Scope, backlog, oldest};
use crate::{
    model::{ApiId, SubscriptionId, Timestamp},
    projection::{ReadRows, RowError, Rows, codec::u64_at},
};

/// What stands at this moment in one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gauges {
    /// `hooklog_retries_scheduled`: deliveries that wait for a planned retry.
    pub retries_scheduled: u64,
    /// `hooklog_dead_letters`: kept and neither redelivered nor discarded. Retention lets go of them
    /// with their messages; those of a deleted API are out of reach, and not counted.
    pub dead_letters: u64,
    /// `hooklog_circuit{state="open"}`: subscriptions whose callback is taken as down.
    pub circuits_open: u64,
    /// Subscriptions that have not ended: those without an open circuit are
    /// `hooklog_circuit{state="closed"}`.
    pub subscriptions: u64,
    /// `hooklog_backlog_messages`: messages × subscriptions without an outcome that ends them.
    pub backlog: u64,
    /// `hooklog_backlog_oldest_seconds` counts from here: when the message was accepted that has
    /// waited longest, paused and held ones included; `None` when none waits. At most a tenth of a
    /// second too early.
    pub oldest_accepted_at: Option<Timestamp>,
}

/// Which gauge; the number is its place in the row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gauge {
    Retries = 0,
    DeadLetters = 1,
    Circuits = 2,
}

const BYTES: usize = 3 * 8;

impl Gauges {
    pub(super) fn read(rows: &dyn ReadRows, scope: Scope) -> Result<Self, RowError> {
        let row = rows.get(&scope.key(b'g'))?;
        let row = row.unwrap_or_else(|| vec![0; BYTES]);
        let value = |gauge: Gauge| u64_at(&row, gauge as usize * 8);
        Ok(Self {
            retries_scheduled: value(Gauge::Retries)?,
            dead_letters: value(Gauge::DeadLetters)?,
            circuits_open: value(Gauge::Circuits)?,
            subscriptions: backlog::subscriptions(rows, scope)?,
            backlog: backlog::waiting(rows, scope)?,
            oldest_accepted_at: oldest::oldest(rows, scope)?,
        })
    }
}

/// Whether a gauge stands above 0.
pub(super) fn is_up(rows: &dyn ReadRows, scope: Scope, gauge: Gauge) -> Result<bool, RowError> {
    let row = rows.look(&scope.key(b'g'))?;
    row.map_or(Ok(false), |row| Ok(u64_at(&row, gauge as usize * 8)? > 0))
}

/// Whether any gauge stands above 0.
pub(super) fn is_any_up(rows: &dyn ReadRows, scope: Scope) -> Result<bool, RowError> {
    let row = rows.look(&scope.key(b'g'))?;
    Ok(row.is_some_and(|row| row.iter().any(|byte| *byte > 0)))
}

/// Moves a gauge of a subscription, of its API and of everything. What is counted of everything is
/// what its APIs count: where one of them counts a thing no more, it is not taken off again.
pub(super) fn shift_all(
    rows: &mut Rows<'_>,
    api: ApiId,
    subscription: SubscriptionId,
    gauge: Gauge,
    by: i64,
) -> Result<(), RowError> {
    shift(rows, Scope::Subscription(subscription), gauge, by)?;
    let moved = shift(rows, Scope::Api(api), gauge, by)?;
    shift(rows, Scope::All, gauge, moved)?;
    Ok(())
}

/// Moves a gauge up or down, and says by how much: it never falls below 0.
fn shift(rows: &mut Rows<'_>, scope: Scope, gauge: Gauge, by: i64) -> Result<i64, RowError> {
    let row = rows.edit(&scope.key(b'g'), || vec![0; BYTES])?;
    let at = gauge as usize * 8;
    let before = u64_at(row, at)?;
    let moved = before.saturating_add_signed(by);
    row[at..at + 8].copy_from_slice(&moved.to_be_bytes());
    Ok(moved.wrapping_sub(before).cast_signed())
}
