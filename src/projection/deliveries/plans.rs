//! When the next call of a delivery comes. What changes that for all deliveries of a subscription
//! at once, and there may be very many, stands in one row of the subscription, and is looked at
//! when one of theirs is read.

use serde::{Deserialize, Serialize};

use super::{DeliveryOutcome, DeliveryRow};
use crate::{
    model::{AttemptRecord, Position, Subscription, SubscriptionId, Timestamp, Version},
    projection::{
        ReadRows, RowError, Rows,
        codec::{callback_of, decode, encode, id_key},
    },
};

/// What holds for the next calls of all deliveries of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Plans {
    /// Tells its callback from others; `None` where it began before a cut by a version that did not
    /// keep this.
    callback: Option<Vec<u8>>,
    /// What was planned before this event was planned for another callback, and is called at once.
    dropped_before: Position,
    /// When its open circuit is probed.
    probe_at: Option<Timestamp>,
    /// Until when its callback asked for a pause.
    held_until: Option<Timestamp>,
    /// What it is probed with. It is known from the first probe that failed on.
    probed_with: Option<Version>,
}

impl Plans {
    /// Those of a subscription that begins.
    pub(super) fn begin(rows: &mut Rows<'_>, id: SubscriptionId, definition: &Subscription) {
        let begun = Self {
            callback: Some(callback_of(definition)),
            ..Self::default()
        };
        rows.put(key(id), encode(&begun));
    }

    /// Changes those of a subscription.
    pub(super) fn change(
        rows: &mut Rows<'_>,
        id: SubscriptionId,
        change: impl FnOnce(&mut Self),
    ) -> Result<(), RowError> {
        let before = Self::read(rows, id)?;
        let mut plans = before.clone();
        change(&mut plans);
        if plans != before {
            rows.put(key(id), encode(&plans));
        }
        Ok(())
    }

    fn read(rows: &dyn ReadRows, id: SubscriptionId) -> Result<Self, RowError> {
        let row = rows.look(&key(id))?;
        row.map_or_else(|| Ok(Self::default()), |row| decode(&row))
    }

    /// What was planned for one callback does not hold for another. Nor is it shown where it is not
    /// known whether this is another.
    pub(super) fn updated(&mut self, definition: &Subscription, at: Position) {
        let callback = Some(callback_of(definition));
        if self.callback == callback {
            return;
        }
        *self = Self {
            callback,
            dropped_before: at,
            ..Self::default()
        };
    }

    pub(super) const fn circuit_opened(&mut self, probe_at: Timestamp) {
        self.probe_at = Some(probe_at);
    }

    pub(super) const fn held(&mut self, until: Timestamp) {
        self.held_until = Some(until);
    }

    pub(super) const fn recovered(&mut self) {
        self.circuit_closed();
        self.held_until = None;
    }

    pub(super) const fn circuit_closed(&mut self) {
        (self.probe_at, self.probed_with) = (None, None);
    }

    /// Nothing is called, so nothing is probed with either.
    pub(super) const fn interrupted(&mut self) {
        self.probed_with = None;
    }

    pub(super) fn failed(&mut self, attempt: &AttemptRecord) {
        if attempt.probe && !attempt.former_callback {
            self.probed_with = Some(attempt.message.version);
        } else {
            self.opened(attempt.message.version);
        }
    }

    /// A circuit is probed with the lowest of what waits.
    pub(super) fn opened(&mut self, version: Version) {
        self.probed_with = self.probed_with.map(|probed| probed.min(version));
    }

    /// What a row says was planned, if it was for the present callback. Each change of a row is
    /// among its events.
    fn planned(&self, row: &DeliveryRow) -> Option<Timestamp> {
        let is_dropped = row.events.last() < Some(self.dropped_before);
        row.next_attempt_at.filter(|_| !is_dropped)
    }

    /// Behind an open circuit all but what it is probed with wait for as long as it is open; in a
    /// pause everything does.
    fn next_attempt_at(&self, row: &DeliveryRow) -> Option<Timestamp> {
        let is_probed_with = self.probed_with == Some(row.message.version);
        let planned = match self.probe_at {
            Some(probe_at) => is_probed_with.then_some(probe_at),
            None => self.planned(row),
        };
        // An end of no pause is earlier than any plan.
        planned.map(|planned| self.held_until.map_or(planned, |until| planned.max(until)))
    }
}

/// A row as it is changed: without what was planned for another callback, which would else pass for
/// planned since.
pub(super) fn to_change(
    rows: &dyn ReadRows,
    mut row: DeliveryRow,
) -> Result<DeliveryRow, RowError> {
    if row.next_attempt_at.is_some() {
        row.next_attempt_at = Plans::read(rows, row.subscription)?.planned(&row);
    }
    Ok(row)
}

/// A row as it is shown.
pub(super) fn to_show(rows: &dyn ReadRows, mut row: DeliveryRow) -> Result<DeliveryRow, RowError> {
    if row.outcome == DeliveryOutcome::Retrying {
        row.next_attempt_at = Plans::read(rows, row.subscription)?.next_attempt_at(&row);
    }
    Ok(row)
}

fn key(id: SubscriptionId) -> Vec<u8> {
    id_key(b'c', id.as_uuid())
}
