//! What a subscription is: the fold of its events.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{circuit::Circuit, runs::Runs};
use crate::model::{
    AttemptError, AttemptNumber, ConsumerStatus, DeadLetterQueue, DeliveryMode, FailureCause,
    MessageRef, RetryAfter, Subscription, SubscriptionId, SubscriptionStatus, Timestamp, Version,
};

/// A subscription as its events have made it. [`apply`](super::apply) alone changes it; snapshots
/// hold it. Its size follows what is open, never the backlog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionState {
    /// Its identity.
    pub id: SubscriptionId,
    /// Its definition; `None` before it is created.
    pub subscription: Option<Box<Subscription>>,
    /// Where it stands with the publisher.
    pub status: SubscriptionStatus,
    /// Where it stands with its callback.
    pub consumer_status: ConsumerStatus,
    /// Why it is interrupted.
    pub failure_cause: Option<Box<FailureCause>>,
    /// Every message at or below it has a fate or stands in `open`. Never decreases.
    pub cursor: Version,
    /// Messages above `cursor` that have a fate or stand in `open`.
    pub beyond: Runs,
    /// Deliveries that have begun and have no fate yet.
    pub open: BTreeMap<Version, OpenDelivery>,
    /// What is thought of the callback.
    pub circuit: Circuit,
    /// The pause the callback last asked for.
    pub hold: Option<Hold>,
    /// Dead letters that have not reached the place they are forwarded to.
    pub forwards: BTreeMap<Version, Forward>,
    /// How often what happened.
    pub counters: Counters,
    /// The last call that failed.
    pub last_error: Option<Box<LastError>>,
}

/// A delivery without a fate: a call failed, or it was taken, or asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenDelivery {
    /// The message.
    pub message: MessageRef,
    /// Calls made, in all; the next call has the number after it.
    pub attempts: u32,
    /// Calls that count against the present budget: no probes, none before a redelivery or a
    /// resumption.
    pub counted: u32,
    /// The next call. Without one it is due at once.
    pub retry: Option<PlannedRetry>,
    /// The last status, 0 when there was no response or no call.
    pub status: u16,
    /// The last error.
    pub error: Option<AttemptError>,
    /// Taken under at-most-once; its outcome is not known.
    pub taken: bool,
    /// Asked for by a person (redelivery, resumption): its deadline no longer counts, else it
    /// would be given up before its first call.
    pub renewed: bool,
}

impl OpenDelivery {
    /// A delivery of which nothing is known.
    pub(super) const fn new(message: MessageRef) -> Self {
        Self {
            message,
            attempts: 0,
            counted: 0,
            retry: None,
            status: 0,
            error: None,
            taken: false,
            renewed: false,
        }
    }

    /// The number of its next call.
    pub const fn next_attempt(&self) -> AttemptNumber {
        AttemptNumber::new(self.attempts + 1)
    }
}

/// A call that is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRetry {
    /// When, wall clock.
    pub due_at: Timestamp,
    /// The wait when it was planned, the longest that may remain.
    pub delay_ms: u64,
}

/// A pause that the callback asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Its end, wall clock.
    pub until: Timestamp,
    /// What was asked for, the longest that may remain.
    pub retry_after: RetryAfter,
}

impl Hold {
    /// How long it stands yet.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.until.since(now).min(self.retry_after.duration())
    }
}

/// A dead letter on its way to the place it is forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// The message.
    pub message: MessageRef,
    /// Where it goes.
    pub target: DeadLetterQueue,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again; at once when absent.
    pub due_at: Option<Timestamp>,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Messages delivered; a redelivery counts again.
    pub delivered: u64,
    /// Deliveries given up and kept.
    pub dead_lettered: u64,
    /// Deliveries given up and not kept.
    pub discarded: u64,
    /// Messages that were not for this subscription.
    pub filtered: u64,
    /// Calls made.
    pub attempts: u64,
    /// Calls that failed.
    pub failed_attempts: u64,
}

/// The last call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When the call began.
    pub at: Timestamp,
    /// Its status, 0 when there was no response.
    pub status: u16,
    /// Why there was no response.
    pub error: Option<AttemptError>,
}

impl SubscriptionState {
    /// Before it is created.
    pub fn new(id: SubscriptionId) -> Self {
        Self {
            id,
            subscription: None,
            status: SubscriptionStatus::Pending,
            consumer_status: ConsumerStatus::Started,
            failure_cause: None,
            cursor: Version::ZERO,
            beyond: Runs::default(),
            open: BTreeMap::new(),
            circuit: Circuit::default(),
            hold: None,
            forwards: BTreeMap::new(),
            counters: Counters::default(),
            last_error: None,
        }
    }

    /// Whether the message has a fate or stands in `open`. One that is not is still to be read.
    pub fn is_seen(&self, version: Version) -> bool {
        version <= self.cursor || self.beyond.contains(version)
    }

    /// Whether both sides want deliveries. Its dates are not looked at.
    pub fn is_running(&self) -> bool {
        self.subscription.is_some()
            && self.status == SubscriptionStatus::Accepted
            && self.consumer_status == ConsumerStatus::Started
    }

    /// Whether it ended, one way or the other.
    pub const fn is_over(&self) -> bool {
        matches!(
            self.status,
            SubscriptionStatus::Closed | SubscriptionStatus::Rejected
        )
    }

    /// Whether it is over and nothing of it is left to do: no open delivery to settle, no dead
    /// letter to forward.
    pub fn has_ended(&self) -> bool {
        self.is_over() && self.open.is_empty() && self.forwards.is_empty()
    }

    /// Whether something is thought of its callback: calls failed, it is taken as down, or it asked
    /// for a pause, passed ones included.
    pub fn judges_callback(&self) -> bool {
        let paused = self.hold.is_some_and(|hold| hold.retry_after.seconds > 0);
        paused || self.circuit != Circuit::default()
    }

    /// In which order its messages are delivered.
    pub fn mode(&self) -> DeliveryMode {
        let subscription = self.subscription.as_ref();
        subscription.map_or(DeliveryMode::default(), |s| s.delivery_mode)
    }

    /// Messages up to `head` that have no fate yet, open ones included.
    pub fn pending(&self, head: Version) -> u64 {
        let beyond: u64 = self
            .beyond
            .iter()
            .map(|(first, last)| last.distance_from(first) + 1)
            .sum();
        head.distance_from(self.cursor).saturating_sub(beyond) + self.open.len() as u64
    }

    /// Marks `first..=last` as seen and moves the cursor over what is seen without a gap.
    pub(super) fn see(&mut self, first: Version, last: Version) {
        if self.beyond.is_empty() && first == self.cursor.next() && first <= last {
            self.cursor = last;
            return;
        }
        self.beyond.insert(first.max(self.cursor.next()), last);
        if let Some((_, last)) = self.beyond.run_of(self.cursor.next()) {
            self.beyond.remove_through(last);
            self.cursor = last;
        }
    }
}
