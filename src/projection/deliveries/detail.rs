//! Everything about one delivery, read from the events behind it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Deliveries, DeliveryRow, row::DlqEntry};
use crate::{
    log::RecordedEvent,
    model::{
        AttemptError, AttemptNumber, AttemptRecord, CallbackUrl, Captured, CapturedPart,
        DeliveryId, Event, Method, Position, SubscriptionEvent, Timestamp, Timings,
    },
    projection::{View, ViewError},
};

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestDetail {
    /// When the last call began.
    pub date: Timestamp,
    /// Its method.
    pub method: Method,
    /// Where it went, redacted.
    pub callback_url: CallbackUrl,
    /// Headers and body of this call, where they are logged.
    pub logged: CapturedPart,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseDetail {
    /// The status, 0 when there was no response.
    pub status: u16,
    /// How long the call took, in microseconds.
    pub duration_us: u32,
    /// Headers and body of this call, where they are logged.
    pub logged: CapturedPart,
}

/// One call of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptDetail {
    /// Its event.
    pub position: Position,
    /// Its number, from 1.
    pub number: AttemptNumber,
    /// Whether it was a probe of an open circuit.
    pub probe: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// How long after the end of the call before, in milliseconds; absent on the first.
    pub waited_ms: Option<u64>,
    /// How long its parts took.
    pub timings: Timings,
    /// The status, 0 when there was no response.
    pub status: u16,
    /// Why there was no response.
    pub error: Option<AttemptError>,
    /// Headers and bodies of both sides, where they are logged; absent where nothing is.
    pub captured: Option<Captured>,
}

/// Everything about one delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryDetail {
    /// What the list shows of it.
    pub delivery: DeliveryRow,
    /// The last request; absent when no call was made or retention dropped it.
    pub request: Option<RequestDetail>,
    /// The last response.
    pub response: Option<ResponseDetail>,
    /// The last error.
    pub error: Option<AttemptError>,
    /// Every call, first to last, each with what was captured of it.
    pub attempts: Vec<AttemptDetail>,
    /// The dead letter queue, when it went there.
    pub dlq: Option<DlqEntry>,
    /// Positions of the events behind it, the message first.
    pub events: Vec<Position>,
    /// How many of these events are no longer in the log, or were too many to keep track of.
    pub events_missing: u64,
}

impl View<Deliveries> {
    /// Everything about one delivery; `None` when it has no entry in the log. What was captured
    /// is read from the event log.
    pub fn detail(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, ViewError> {
        let Some(row) = self.delivery(id)? else {
            return Ok(None);
        };
        let mut missing = row.events.left_out();
        let mut events = Vec::new();
        for position in row.events.iter() {
            match self.history().event_at(position)? {
                Some(event) => events.push(event),
                None => missing += 1,
            }
        }
        Ok(Some(assemble(row, &events, missing)))
    }
}

fn assemble(row: DeliveryRow, events: &[Arc<RecordedEvent>], missing: u64) -> DeliveryDetail {
    let calls: Vec<_> = events.iter().filter_map(|event| call_of(event)).collect();
    let mut attempts: Vec<AttemptDetail> = Vec::with_capacity(calls.len());
    for (position, attempt, error) in &calls {
        let waited_ms = attempts.last().map(|before| {
            let took = std::time::Duration::from_micros(before.timings.total_us.into());
            let wait = attempt.started_at.since(before.started_at.plus(took));
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
        });
        attempts.push(AttemptDetail {
            position: *position,
            number: attempt.number,
            probe: attempt.probe,
            started_at: attempt.started_at,
            waited_ms,
            timings: attempt.timings,
            status: attempt.status,
            error: error.cloned(),
            captured: attempt.captured.as_deref().cloned(),
        });
    }
    let last = calls.last().map(|(_, attempt, _)| *attempt);
    let captured = |attempt: &AttemptRecord| -> Captured {
        attempt.captured.as_deref().cloned().unwrap_or_default()
    };
    let positions = std::iter::once(row.message.position).chain(row.events.iter());
    DeliveryDetail {
        request: last.map(|attempt| RequestDetail {
            date: attempt.started_at,
            method: attempt.method,
            callback_url: attempt.callback_url.clone(),
            logged: captured(attempt).request,
        }),
        response: last.map(|attempt| ResponseDetail {
            status: attempt.status,
            duration_us: attempt.timings.total_us,
            logged: captured(attempt).response,
        }),
        error: row.error.clone(),
        attempts,
        dlq: row.dlq.clone(),
        events: positions.collect(),
        events_missing: missing,
        delivery: row,
    }
}

fn call_of(event: &RecordedEvent) -> Option<(Position, &AttemptRecord, Option<&AttemptError>)> {
    match &event.event {
        Event::Subscription(SubscriptionEvent::AttemptSucceeded(ok)) => {
            Some((event.position, &ok.attempt, None))
        }
        Event::Subscription(SubscriptionEvent::AttemptFailed(failed)) => {
            Some((event.position, &failed.attempt, failed.error.as_ref()))
        }
        _ => None,
    }
}
