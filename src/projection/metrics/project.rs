//! The fold: events to tallies, gauges and series.

use std::{ops::Range, time::Duration};

use super::{
    Counter, Metrics, Resolution, Scope, TOTALS, Tally,
    backlog::{self, Settled},
    dead_letters::{self, DEAD_LETTER},
    gauges::{Gauge, is_any_up, is_up, shift_all},
    oldest::{self, Place},
    tally::{self, Step},
};
use crate::{
    log::RecordedEvent,
    model::{
        ApiEvent, ApiId, AttemptRecord, DiscardReason, Event, LogEvent, MessageEvent, MessageRef,
        Position, Subscription, SubscriptionEvent, SubscriptionId, Timestamp, Version,
    },
    projection::{
        ProjectError, Projection, ReadRows, Row, RowError, Rows, after_prefix,
        codec::{callback_of, id_key, key_of},
        forgotten::is_forgotten,
        not_adopted,
    },
};

/// Of the marks of planned retries.
const RETRY: u8 = b'r';
/// Of the marks of open circuits.
const CIRCUIT: u8 = b'c';
/// Of the rows that tell which callback a subscription has.
const CALLBACK: u8 = b'u';

impl Projection for Metrics {
    const NAME: &'static str = "metrics";
    const VERSION: u32 = 7;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        match &recorded.event {
            Event::Message(MessageEvent::Published(_)) => {
                if let Some(api) = recorded.stream.as_api() {
                    accepted(rows, api, recorded)?;
                }
            }
            Event::Subscription(event) => {
                if let Some(subscription) = recorded.stream.as_subscription() {
                    of_subscription(rows, recorded, subscription, event)?;
                }
            }
            Event::Log(LogEvent::Cut(cut)) => dead_letters::forget_below(rows, cut.first)?,
            Event::Api(ApiEvent::Deleted(_)) => {
                if let Some(api) = recorded.stream.as_api() {
                    dead_letters::forget_api(rows, api)?;
                }
            }
            Event::Api(_)
            | Event::Application(_)
            | Event::Access(_)
            | Event::Job(_)
            | Event::Log(LogEvent::Repaired(_))
            | Event::Unknown(_) => {}
        }
        Ok(())
    }

    fn begin(&self, rows: &mut Rows<'_>, _: Position) -> Result<(), ProjectError> {
        Ok(oldest::begin(rows)?)
    }

    /// Up to version 6 nothing was kept of deleted APIs, which have nothing that is carried. Up to
    /// version 5 less was kept of dead letters, and nothing of callbacks. Up to version 4 tallies had
    /// another form. Version 3 also kept less of when messages were accepted.
    fn adopt(&self, version: u32, mut row: Row) -> Result<Option<Row>, ProjectError> {
        if !matches!(version, 3..=6) {
            return Err(not_adopted::<Self>(version));
        }
        if version == 6 {
            return Ok(Some(row));
        }
        if row.key.first() == Some(&DEAD_LETTER) {
            // Its message stands below the cut, so the `log.cut` that follows ends it.
            row.value = dead_letters::row(Position::ZERO);
        }
        if version == 5 {
            return Ok(Some(row));
        }
        row = tally::adopt(row)?;
        if version == 4 {
            return Ok(Some(row));
        }
        if row.key.first() == Some(&backlog::API) {
            row.value.resize(backlog::API_BYTES, 0);
        }
        Ok(oldest::adopt(row))
    }
}

fn accepted(rows: &mut Rows<'_>, api: ApiId, recorded: &RecordedEvent) -> Result<(), RowError> {
    backlog::accepted(rows, api, recorded.version, recorded.time)?;
    for scope in [Scope::All, Scope::Api(api)] {
        let step = Step::Count(Counter::MessagesAccepted, 1);
        take_steps(rows, scope, recorded.time, &[step])?;
    }
    dead_letters::sweep(rows)
}

fn of_subscription(
    rows: &mut Rows<'_>,
    recorded: &RecordedEvent,
    id: SubscriptionId,
    event: &SubscriptionEvent,
) -> Result<(), RowError> {
    if let SubscriptionEvent::Created(created) = event {
        let api = created.subscription.api;
        rows.put(callback_key(id), callback_of(&created.subscription));
        Place::begin(rows, api, id, created.cursor)?;
        return Settled::begin(rows, id, api, created.cursor);
    }
    let Some(settled) = Settled::read(rows, id)? else {
        return Ok(());
    };
    let mut meter = Meter {
        settled,
        rows,
        id,
        now: recorded.time,
    };
    match event {
        SubscriptionEvent::AttemptSucceeded(ok) => meter.succeeded(&ok.attempt),
        SubscriptionEvent::AttemptFailed(failed) => meter.failed(&failed.attempt),
        SubscriptionEvent::RetryScheduled(retry) => meter.retry_planned(&retry.message),
        SubscriptionEvent::DeadLettered(dead) => meter.dead_lettered(&dead.message),
        SubscriptionEvent::Discarded(discarded) => {
            meter.discarded(&discarded.message, discarded.reason)
        }
        SubscriptionEvent::Redelivered(again) => meter.redelivered(&again.message),
        SubscriptionEvent::Filtered(run) => {
            let count = run.last.distance_from(run.first) + 1;
            meter.count(Counter::Filtered, count)?;
            meter.settle(run.first, run.last)
        }
        SubscriptionEvent::CircuitOpened(_) => {
            meter.mark(CIRCUIT, None, Gauge::Circuits, Vec::new())
        }
        SubscriptionEvent::CircuitClosed(_) => meter.unmark(CIRCUIT, None, Gauge::Circuits),
        SubscriptionEvent::Updated(updated) => meter.updated(&updated.subscription),
        SubscriptionEvent::Failed(failed) => match &failed.message {
            Some(message) => meter.unmark(RETRY, Some(message), Gauge::Retries),
            None => Ok(()),
        },
        SubscriptionEvent::Closed(_) | SubscriptionEvent::Rejected(_) => meter.ended(),
        SubscriptionEvent::Created(_)
        | SubscriptionEvent::Accepted(_)
        | SubscriptionEvent::Paused(_)
        | SubscriptionEvent::Resumed(_)
        | SubscriptionEvent::Held(_)
        | SubscriptionEvent::Recovered(_)
        | SubscriptionEvent::Taken(_)
        | SubscriptionEvent::DeadLetterForwarded(_)
        | SubscriptionEvent::DeadLetterForwardFailed(_) => Ok(()),
    }
}

/// The figures of one subscription, its API and everything.
struct Meter<'a, 'r> {
    rows: &'a mut Rows<'r>,
    settled: Settled,
    id: SubscriptionId,
    now: Timestamp,
}

impl Meter<'_, '_> {
    fn succeeded(&mut self, attempt: &AttemptRecord) -> Result<(), RowError> {
        // Mostly there are no marks at all.
        if is_any_up(self.rows, Scope::Subscription(self.id))? {
            self.unmark(RETRY, Some(&attempt.message), Gauge::Retries)?;
            self.end_dead_letter(&attempt.message)?;
        }
        self.settle_one(&attempt.message)?;
        self.steps(&[
            Step::Count(Counter::AttemptsSucceeded, 1),
            Step::Count(Counter::Delivered, 1),
            Step::AttemptTook(took(attempt)),
            Step::DeliveredAfter(self.now.since(attempt.message.accepted_at)),
        ])
    }

    /// A probe leaves the plan as it was.
    fn failed(&mut self, attempt: &AttemptRecord) -> Result<(), RowError> {
        if !attempt.probe {
            self.unmark(RETRY, Some(&attempt.message), Gauge::Retries)?;
        }
        self.steps(&[
            Step::Count(Counter::failed_with(attempt.status), 1),
            Step::AttemptTook(took(attempt)),
        ])
    }

    fn retry_planned(&mut self, message: &MessageRef) -> Result<(), RowError> {
        self.mark(RETRY, Some(message), Gauge::Retries, Vec::new())?;
        self.count(Counter::Retries, 1)
    }

    fn dead_lettered(&mut self, message: &MessageRef) -> Result<(), RowError> {
        self.unmark(RETRY, Some(message), Gauge::Retries)?;
        let is_counted = !is_forgotten(self.rows, message)?
            && !dead_letters::is_deleted(self.rows, self.settled.api)?;
        if is_counted {
            let mark = dead_letters::row(message.position);
            self.mark(DEAD_LETTER, Some(message), Gauge::DeadLetters, mark)?;
        }
        self.settle_one(message)?;
        self.count(Counter::DeadLettered, 1)
    }

    /// An operator's discard of a dead letter ends what had already left the backlog, unless it
    /// was being made again; it may be told twice. Any other discard leaves the dead letter where it
    /// is.
    fn discarded(&mut self, message: &MessageRef, reason: DiscardReason) -> Result<(), RowError> {
        self.unmark(RETRY, Some(message), Gauge::Retries)?;
        if reason == DiscardReason::Operator {
            self.end_dead_letter(message)?;
        }
        let had_left = match Place::read(self.rows, self.id)? {
            Some(place) => place.is_settled(self.rows, message.version)?,
            None => true,
        };
        if !had_left {
            self.settle_one(message)?;
        }
        self.count(Counter::Discarded, 1)
    }

    /// One that was cut off is counted no more.
    fn end_dead_letter(&mut self, message: &MessageRef) -> Result<(), RowError> {
        if is_forgotten(self.rows, message)? {
            return Ok(());
        }
        self.unmark(DEAD_LETTER, Some(message), Gauge::DeadLetters)
    }

    fn redelivered(&mut self, message: &MessageRef) -> Result<(), RowError> {
        self.settled.shift(self.rows, self.id, -1)?;
        if let Some(place) = Place::read(self.rows, self.id)? {
            place.reopen(self.rows, message)?;
        }
        self.count(Counter::Redelivered, 1)
    }

    /// What was planned for one callback does not hold for another. Which one a subscription had that
    /// began before a cut is not known of rows of version 5; what was planned is called at once then,
    /// and counted no more.
    fn updated(&mut self, subscription: &Subscription) -> Result<(), RowError> {
        let (key, callback) = (callback_key(self.id), callback_of(subscription));
        let before = self.rows.get(&key)?;
        if before.as_ref() == Some(&callback) {
            return Ok(());
        }
        self.rows.put(key, callback);
        if before.is_none() {
            return Ok(());
        }
        let planned = id_key(RETRY, self.id.as_uuid());
        let planned: Result<Vec<_>, RowError> = self.rows.prefix(&planned).collect();
        for row in planned? {
            self.rows.delete(row.key);
            self.shift(Gauge::Retries, -1)?;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<(), RowError> {
        self.unmark(CIRCUIT, None, Gauge::Circuits)?;
        self.rows.delete(callback_key(self.id));
        if let Some(place) = Place::read(self.rows, self.id)? {
            place.end(self.rows)?;
        }
        // No chart is drawn of what has ended; its totals stay.
        let series = Resolution::prefix(Scope::Subscription(self.id));
        drop_range(self.rows, series.clone()..after_prefix(&series))?;
        self.settled.end(self.rows, self.id)
    }

    fn settle_one(&mut self, message: &MessageRef) -> Result<(), RowError> {
        self.settle(message.version, message.version)
    }

    fn settle(&mut self, first: Version, last: Version) -> Result<(), RowError> {
        let count = last.distance_from(first) + 1;
        let by = i64::try_from(count).unwrap_or(i64::MAX);
        self.settled.shift(self.rows, self.id, by)?;
        match Place::read(self.rows, self.id)? {
            Some(place) => place.settle(self.rows, first, last),
            None => Ok(()),
        }
    }

    fn count(&mut self, counter: Counter, n: u64) -> Result<(), RowError> {
        self.steps(&[Step::Count(counter, n)])
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), RowError> {
        let own = Scope::Subscription(self.id);
        for scope in [Scope::All, Scope::Api(self.settled.api)] {
            take_steps(self.rows, scope, self.now, steps)?;
        }
        if self.settled.ended {
            // A call that ended after the subscription did.
            return total(self.rows, own, steps);
        }
        take_steps(self.rows, own, self.now, steps)
    }

    fn shift(&mut self, gauge: Gauge, by: i64) -> Result<(), RowError> {
        shift_all(self.rows, self.settled.api, self.id, gauge, by)
    }

    fn mark(
        &mut self,
        tag: u8,
        message: Option<&MessageRef>,
        gauge: Gauge,
        mark: Vec<u8>,
    ) -> Result<(), RowError> {
        let key = self.mark_key(tag, message);
        let is_new = self.rows.look(&key)?.is_none();
        self.rows.put(key, mark);
        self.shift(gauge, i64::from(is_new))
    }

    fn unmark(
        &mut self,
        tag: u8,
        message: Option<&MessageRef>,
        gauge: Gauge,
    ) -> Result<(), RowError> {
        // Mostly there are no marks of its kind at all.
        if !is_up(self.rows, Scope::Subscription(self.id), gauge)? {
            return Ok(());
        }
        let key = self.mark_key(tag, message);
        if self.rows.look(&key)?.is_none() {
            return Ok(());
        }
        self.rows.delete(key);
        self.shift(gauge, -1)
    }

    fn mark_key(&self, tag: u8, message: Option<&MessageRef>) -> Vec<u8> {
        let version = message.map_or(0, |message| message.version.get());
        key_of(tag, self.id.as_uuid(), version)
    }
}

fn callback_key(subscription: SubscriptionId) -> Vec<u8> {
    id_key(CALLBACK, subscription.as_uuid())
}

fn took(attempt: &AttemptRecord) -> Duration {
    Duration::from_micros(attempt.timings.total_us.into())
}

fn take_steps(
    rows: &mut Rows<'_>,
    scope: Scope,
    now: Timestamp,
    steps: &[Step],
) -> Result<(), RowError> {
    total(rows, scope, steps)?;
    let mut key = Resolution::prefix(scope);
    let prefix = key.len();
    // Of the next wider series.
    let mut begins = true;
    for resolution in Resolution::ALL.into_iter().rev() {
        let Some(kept) = resolution.kept(scope) else {
            continue;
        };
        key.truncate(prefix);
        resolution.extend_to_bucket(&mut key, now);
        let mut is_new = false;
        let fresh = || {
            is_new = true;
            Tally::default()
        };
        rows.hold(&key, fresh)?.take(steps);
        if is_new && begins {
            prune(rows, scope, resolution, now.minus(kept))?;
        }
        begins = is_new;
    }
    Ok(())
}

/// Steps that are counted for good, and drawn nowhere.
fn total(rows: &mut Rows<'_>, scope: Scope, steps: &[Step]) -> Result<(), RowError> {
    rows.hold(&scope.key(TOTALS), Tally::default)?.take(steps);
    Ok(())
}

/// Drops the buckets that are too old. Not with each new one, for a look into the store has its
/// price, but when one of the next wider series begins: by the time of events, so a rebuild drops
/// the same.
fn prune(
    rows: &mut Rows<'_>,
    scope: Scope,
    resolution: Resolution,
    oldest: Timestamp,
) -> Result<(), RowError> {
    let range = resolution.first_key(scope)..resolution.key(scope, oldest);
    drop_range(rows, range)
}

fn drop_range(rows: &mut Rows<'_>, range: Range<Vec<u8>>) -> Result<(), RowError> {
    let old: Result<Vec<_>, RowError> = rows.range(range).collect();
    for row in old? {
        rows.delete(row.key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::{rows::Held as _, store::MemoryStore};

    #[test]
    fn rows_of_versions_3_to_5_are_taken_over_and_of_no_other() {
        let mut fixed = vec![0; 59 * 8];
        // Of 59 numbers (u64) the tenth: deliveries.
        fixed[9 * 8 + 7] = 5;
        let total = Row {
            key: Scope::All.key(TOTALS),
            value: fixed,
        };
        for version in [3, 4] {
            let row = Metrics.adopt(version, total.clone()).unwrap().unwrap();
            let tally = Tally::from_row(&row.value).unwrap();
            assert_eq!(tally.get(Counter::Delivered), 5);
        }
        assert!(Metrics.adopt(2, total.clone()).is_err());
        assert_eq!(
            Metrics.adopt(6, total.clone()).unwrap(),
            Some(total.clone())
        );
        assert!(Metrics.adopt(7, total).is_err());
        // In version 3 rows of this kind were something else.
        let reopened = Row {
            key: vec![b'o'; 25],
            value: vec![0; 8],
        };
        let of_4 = Metrics.adopt(4, reopened.clone()).unwrap();
        assert_eq!(of_4.as_ref(), Some(&reopened));
        assert_ne!(Metrics.adopt(3, reopened).unwrap(), of_4);
        // Up to version 5 a dead letter did not know where its message stands.
        for (version, value) in [(3, vec![]), (4, vec![1]), (5, vec![])] {
            let row = Row {
                key: vec![DEAD_LETTER; 25],
                value,
            };
            let adopted = Metrics.adopt(version, row).unwrap().unwrap();
            assert_eq!(adopted.value, dead_letters::row(Position::ZERO));
        }
    }

    #[test]
    fn a_bucket_that_a_batch_drops_begins_again() {
        let store = MemoryStore::default();
        let mut rows = Rows::over(&store);
        let second = |rows: &Rows<'_>, at| {
            let row = rows.get(&Resolution::Second.key(Scope::All, at)).unwrap();
            row.map(|row| Tally::from_row(&row).unwrap().get(Counter::Retries))
        };
        let early = Timestamp::from_millis(1_772_600_000_000);
        let late = early.plus(Duration::from_hours(2));
        let step = [Step::Count(Counter::Retries, 1)];
        for (at, expected) in [(early, 1), (early, 2), (late, 1), (early, 1)] {
            take_steps(&mut rows, Scope::All, at, &step).unwrap();
            assert_eq!(second(&rows, at), Some(expected));
        }
        let totals = rows.get(&Scope::All.key(TOTALS)).unwrap().unwrap();
        assert_eq!(Tally::from_row(&totals).unwrap().get(Counter::Retries), 4);
    }
}
