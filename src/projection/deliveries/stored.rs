//! A row as it is kept: without what its key says, and read without making more of it than is
//! asked for.

use serde::{Deserialize, Serialize};

use super::{DeliveryOutcome, DeliveryRow, DlqEntry, GivenUp, LoggedPositions};
use crate::{
    model::{
        ApiId, ApplicationId, AttemptError, CallbackUrl, DeliveryId, MessageRef, Method,
        SubscriptionId, Timestamp,
    },
    projection::{
        RowError,
        codec::{encode, malformed},
    },
};

/// A row that is written. Its fields are those of [`Stored`], in its order.
#[derive(Serialize)]
struct Storing<'a> {
    application: ApplicationId,
    subscription: SubscriptionId,
    message: &'a MessageRef,
    callback_url: Option<&'a str>,
    method: Method,
    started_at: Timestamp,
    status: u16,
    error: Option<&'a AttemptError>,
    attempts: u32,
    last_duration_us: u32,
    whole_duration_ms: u64,
    outcome: DeliveryOutcome,
    next_attempt_at: Option<Timestamp>,
    dlq: Option<&'a DlqEntry>,
    discarded: Option<GivenUp>,
    events: &'a LoggedPositions,
}

/// A row that was read.
#[derive(Deserialize)]
pub(super) struct Stored<'a> {
    pub(super) application: ApplicationId,
    pub(super) subscription: SubscriptionId,
    message: MessageRef,
    #[serde(borrow)]
    pub(super) callback_url: Option<&'a str>,
    method: Method,
    pub(super) started_at: Timestamp,
    pub(super) status: u16,
    pub(super) error: Option<AttemptError>,
    attempts: u32,
    pub(super) last_duration_us: u32,
    whole_duration_ms: u64,
    pub(super) outcome: DeliveryOutcome,
    next_attempt_at: Option<Timestamp>,
    pub(super) dlq: Option<DlqEntry>,
    discarded: Option<GivenUp>,
    events: LoggedPositions,
}

/// A row as it is kept.
pub(super) fn to_bytes(row: &DeliveryRow) -> Vec<u8> {
    encode(&Storing {
        application: row.application,
        subscription: row.subscription,
        message: &row.message,
        callback_url: row.callback_url.as_ref().map(CallbackUrl::as_str),
        method: row.method,
        started_at: row.started_at,
        status: row.status,
        error: row.error.as_ref(),
        attempts: row.attempts,
        last_duration_us: row.last_duration_us,
        whole_duration_ms: row.whole_duration_ms,
        outcome: row.outcome,
        next_attempt_at: row.next_attempt_at,
        dlq: row.dlq.as_ref(),
        discarded: row.discarded,
        events: &row.events,
    })
}

/// The row with this ordinal, from what is kept of it.
pub(super) fn from_bytes(api: ApiId, ordinal: u64, bytes: &[u8]) -> Result<DeliveryRow, RowError> {
    let stored = Stored::read(bytes)?;
    let callback_url = stored.callback_url.map(str::parse).transpose();
    Ok(DeliveryRow {
        id: DeliveryId::of(stored.message.id, stored.subscription),
        ordinal,
        api,
        application: stored.application,
        subscription: stored.subscription,
        message: stored.message,
        callback_url: callback_url.map_err(|_| malformed(bytes, "not a callback URL"))?,
        method: stored.method,
        started_at: stored.started_at,
        status: stored.status,
        error: stored.error,
        attempts: stored.attempts,
        last_duration_us: stored.last_duration_us,
        whole_duration_ms: stored.whole_duration_ms,
        outcome: stored.outcome,
        next_attempt_at: stored.next_attempt_at,
        dlq: stored.dlq,
        discarded: stored.discarded,
        events: stored.events,
    })
}

impl<'a> Stored<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, RowError> {
        rmp_serde::from_slice(bytes).map_err(|error| malformed(bytes, error.to_string()))
    }
}
