//! One delivery as the list shows it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    ApiId, ApplicationId, AttemptError, CallbackUrl, DeadLetterQueue, DeadLetterReason, DeliveryId,
    DiscardReason, ErrorClass, Fault, MessageRef, Method, Position, SubscriptionId, Timestamp,
};

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The callback took it.
    Delivered,
    /// The last call failed and another follows, or it waits for its subscription.
    Retrying,
    /// It was given up and kept.
    DeadLettered,
    /// It was given up and not kept.
    Discarded,
}

impl DeliveryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [
        Self::Delivered,
        Self::Retrying,
        Self::DeadLettered,
        Self::Discarded,
    ];

    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::DeadLettered => "dead_lettered",
            Self::Discarded => "discarded",
        }
    }
}

/// That a delivery went to the dead letter queue. It stays on record after a redelivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DlqEntry {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub target: DeadLetterQueue,
    /// Why.
    pub reason: DeadLetterReason,
    /// Whose fault it was.
    pub fault: Fault,
    /// When it reached the place it is forwarded to, where there is one.
    pub forwarded_at: Option<Timestamp>,
    /// Why the last try to forward it failed.
    pub forward_error: Option<String>,
}

/// Why a delivery was given up without being kept, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: DiscardReason,
}

/// Positions of the events behind a delivery, in order: all of them up to a bound, then the first
/// and the last. (A probe uses up no attempt, so an outage of weeks makes events without end.)
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedPositions {
    first: Vec<Position>,
    last: Vec<Position>,
    left_out: u64,
}

impl LoggedPositions {
    const FIRST_MAX: usize = 64;
    const LAST_MAX: usize = 192;

    pub(super) fn push(&mut self, position: Position) {
        if self.first.len() < Self::FIRST_MAX {
            self.first.push(position);
            return;
        }
        if self.last.len() == Self::LAST_MAX {
            self.last.remove(0);
            self.left_out += 1;
        }
        self.last.push(position);
    }

    /// The position of the first of them: that which opened the delivery.
    pub fn first(&self) -> Option<Position> {
        self.first.first().copied()
    }

    /// The position of the last of them.
    pub fn last(&self) -> Option<Position> {
        self.last.last().or(self.first.last()).copied()
    }

    /// The positions that are kept, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.first.iter().chain(&self.last).copied()
    }

    /// Whether any behind this position is not kept.
    pub(crate) fn lacks_after(&self, position: Position) -> bool {
        self.left_out > 0 && self.last.first().is_some_and(|kept| *kept > position)
    }

    /// How many between the first and the last are not kept.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// One delivery as the list shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRow {
    /// Its identity.
    pub id: DeliveryId,
    /// Its place among its API's deliveries, from 0, in the order of their first outcomes. They are
    /// counted anew when the log is cut.
    pub ordinal: u64,
    /// The API.
    pub api: ApiId,
    /// The application.
    pub application: ApplicationId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The message.
    pub message: MessageRef,
    /// Where the last call went, redacted; `None` when none was made.
    pub callback_url: Option<CallbackUrl>,
    /// The method of the last call.
    pub method: Method,
    /// When the first call began; where it was first given up without one, when that was. Never
    /// changes.
    pub started_at: Timestamp,
    /// The last status; 0 when there was no response or no call.
    pub status: u16,
    /// Why the last call got no response.
    pub error: Option<AttemptError>,
    /// How many calls were made, probes included.
    pub attempts: u32,
    /// How long the last call took, in microseconds.
    pub last_duration_us: u32,
    /// From the first call's beginning to the last one's end, in milliseconds.
    pub whole_duration_ms: u64,
    /// How it stands.
    pub outcome: DeliveryOutcome,
    /// When the next call is due, while one is planned. Behind an open circuit only what it is probed
    /// with has one: when it is probed. It is no earlier than the end of a pause that the callback
    /// asked for. What is due at once has none.
    pub next_attempt_at: Option<Timestamp>,
    /// That it went to the dead letter queue.
    pub dlq: Option<DlqEntry>,
    /// Why it was discarded.
    pub discarded: Option<GivenUp>,
    /// The events behind it.
    pub events: LoggedPositions,
}

impl DeliveryRow {
    /// How long the last call took.
    pub const fn last_duration(&self) -> Duration {
        Duration::from_micros(self.last_duration_us as u64)
    }

    /// Why the last call got no response.
    pub fn error_class(&self) -> Option<ErrorClass> {
        self.error.as_ref().map(|error| error.class)
    }

    /// Whether it went to the dead letter queue.
    pub const fn is_sent_to_dlq(&self) -> bool {
        self.dlq.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_without_end_keeps_the_first_and_last_events() {
        let mut positions = LoggedPositions::default();
        (1..=1_000).for_each(|n| positions.push(Position::new(n)));
        let kept: Vec<_> = positions.iter().map(Position::get).collect();
        assert_eq!(kept.len() as u64 + positions.left_out(), 1_000);
        assert_eq!((kept[0], kept[63]), (1, 64));
        assert_eq!(positions.first(), Some(Position::new(1)));
        assert_eq!(positions.last(), Some(Position::new(1_000)));
        assert_eq!((kept[64], kept[255]), (809, 1_000));
    }
}
