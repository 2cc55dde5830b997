//! The fold: events to delivery rows.

use super::{
    Deliveries, DeliveryOutcome, DeliveryRow, DlqEntry, GivenUp, LoggedPositions, blocks, index,
    plans::{self, Plans},
};
use crate::{
    log::RecordedEvent,
    model::{
        Api, ApiEvent, ApiId, ApplicationId, AttemptError, AttemptRecord, DeliveryDeadLettered,
        DeliveryDiscarded, DeliveryId, Event, MessageEvent, MessageRef, Method, Position,
        SubscriptionEvent, SubscriptionId, Timestamp,
    },
    projection::{
        ProjectError, Projection, ReadRows, Row, RowError, Rows,
        codec::{id_key, pair_key, u64_at, uuid_at},
        forgotten::{self, is_forgotten},
        not_adopted,
    },
};

/// Messages whose sample is kept in one row.
const SAMPLE_CHUNK: u64 = 4_096;

impl Projection for Deliveries {
    const NAME: &'static str = "deliveries";
    const VERSION: u32 = 4;
    const FORGETS: bool = true;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        match &recorded.event {
            Event::Message(MessageEvent::Published(message)) if !message.sampled => {
                leave_out(rows, recorded.position)?;
            }
            Event::Api(ApiEvent::Created(created)) => set_api(rows, recorded, &created.api)?,
            Event::Api(ApiEvent::Updated(updated)) => set_api(rows, recorded, &updated.api)?,
            Event::Subscription(event) => {
                if let Some(subscription) = recorded.stream.as_subscription() {
                    project_subscription(rows, recorded, subscription, event)?;
                }
            }
            Event::Message(_)
            | Event::Api(_)
            | Event::Application(_)
            | Event::Access(_)
            | Event::Job(_)
            | Event::Log(_)
            | Event::Unknown(_) => {}
        }
        Ok(())
    }

    /// Whose a subscription is and what holds for its calls, and what an API's log keeps. Ordinals
    /// begin anew; cursors do not rely on them.
    fn carry(&self, mut row: Row) -> Option<Row> {
        match row.key.first() {
            Some(b's' | b'c') => Some(row),
            Some(b'a') => {
                row.value.get_mut(..8)?.fill(0);
                Some(row)
            }
            _ => None,
        }
    }

    /// What versions 2 and 3 carried is the same, but for what holds for the calls of subscriptions.
    fn adopt(&self, version: u32, row: Row) -> Result<Option<Row>, ProjectError> {
        if matches!(version, 2 | 3) {
            return Ok(Some(row));
        }
        Err(not_adopted::<Self>(version))
    }

    fn begin(&self, rows: &mut Rows<'_>, first: Position) -> Result<(), ProjectError> {
        forgotten::below(rows, first);
        Ok(())
    }
}

fn project_subscription(
    rows: &mut Rows<'_>,
    recorded: &RecordedEvent,
    subscription: SubscriptionId,
    event: &SubscriptionEvent,
) -> Result<(), RowError> {
    let mut log = Log {
        rows,
        recorded,
        subscription,
    };
    match event {
        SubscriptionEvent::Created(created) => {
            let definition = &created.subscription;
            let owners = pair_bytes(definition.api, definition.application);
            log.rows.put(id_key(b's', subscription.as_uuid()), owners);
            Plans::begin(log.rows, subscription, definition);
            Ok(())
        }
        SubscriptionEvent::Updated(updated) => {
            log.plans(|plans| plans.updated(&updated.subscription, recorded.position))
        }
        SubscriptionEvent::AttemptSucceeded(ok) => log.called(&ok.attempt, None, Success(true)),
        SubscriptionEvent::AttemptFailed(failed) => {
            log.called(&failed.attempt, failed.error.as_ref(), Success(false))?;
            log.plans(|plans| plans.failed(&failed.attempt))
        }
        SubscriptionEvent::RetryScheduled(retry) => log.change(&retry.message, |row| {
            row.next_attempt_at = Some(retry.due_at);
        }),
        SubscriptionEvent::DeadLettered(dead) => log.dead_lettered(dead),
        SubscriptionEvent::Discarded(discarded) => log.discarded(discarded),
        SubscriptionEvent::Redelivered(again) => {
            log.change(&again.message, |row| {
                row.outcome = DeliveryOutcome::Retrying;
                row.discarded = None;
            })?;
            log.plans(|plans| plans.opened(again.message.version))
        }
        SubscriptionEvent::DeadLetterForwarded(sent) => {
            let now = recorded.time;
            log.change(&sent.message, |row| {
                if let Some(dlq) = &mut row.dlq {
                    dlq.forwarded_at = Some(now);
                    dlq.forward_error = None;
                }
            })
        }
        SubscriptionEvent::DeadLetterForwardFailed(failed) => log.change(&failed.message, |row| {
            if let Some(dlq) = &mut row.dlq {
                dlq.forward_error = Some(failed.reason.clone());
            }
        }),
        SubscriptionEvent::Failed(failed) => {
            if let Some(message) = &failed.message {
                log.change(message, |row| row.next_attempt_at = None)?;
            }
            log.plans(Plans::interrupted)
        }
        SubscriptionEvent::CircuitOpened(opened) => {
            log.plans(|plans| plans.circuit_opened(opened.probe_at))
        }
        SubscriptionEvent::CircuitClosed(_) => log.plans(Plans::circuit_closed),
        SubscriptionEvent::Held(held) => log.plans(|plans| plans.held(held.until)),
        SubscriptionEvent::Recovered(_) => log.plans(Plans::recovered),
        SubscriptionEvent::Accepted(_)
        | SubscriptionEvent::Rejected(_)
        | SubscriptionEvent::Paused(_)
        | SubscriptionEvent::Resumed(_)
        | SubscriptionEvent::Closed(_)
        | SubscriptionEvent::Taken(_)
        | SubscriptionEvent::Filtered(_) => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Success(bool);

/// The webhook log as one subscription event writes to it.
struct Log<'a, 'r> {
    rows: &'a mut Rows<'r>,
    recorded: &'a RecordedEvent,
    subscription: SubscriptionId,
}

impl Log<'_, '_> {
    fn plans(&mut self, change: impl FnOnce(&mut Plans)) -> Result<(), RowError> {
        Plans::change(self.rows, self.subscription, change)
    }

    fn called(
        &mut self,
        attempt: &AttemptRecord,
        error: Option<&AttemptError>,
        success: Success,
    ) -> Result<(), RowError> {
        let position = self.recorded.position;
        self.outcome(&attempt.message, success, |row| {
            // It never changes afterwards: the index of sealed chunks relies on it.
            if row.events.iter().eq([position]) {
                row.started_at = attempt.started_at;
            }
            row.attempts += 1;
            row.callback_url = Some(attempt.callback_url.clone());
            row.method = attempt.method;
            row.status = attempt.status;
            row.error = error.cloned();
            row.last_duration_us = attempt.timings.total_us;
            row.whole_duration_ms = whole_duration_ms(row.started_at, attempt);
            // A probe that failed leaves the plan as it was.
            if success.0 || !attempt.probe {
                row.next_attempt_at = None;
            }
            row.outcome = match success {
                Success(true) => DeliveryOutcome::Delivered,
                Success(false) => DeliveryOutcome::Retrying,
            };
        })
    }

    fn dead_lettered(&mut self, dead: &DeliveryDeadLettered) -> Result<(), RowError> {
        let at = self.recorded.time;
        self.outcome(&dead.message, Success(false), |row| {
            row.outcome = DeliveryOutcome::DeadLettered;
            row.status = dead.status;
            row.error.clone_from(&dead.error);
            row.next_attempt_at = None;
            row.dlq = Some(DlqEntry {
                at,
                target: dead.target.clone(),
                reason: dead.reason,
                fault: dead.fault,
                forwarded_at: None,
                forward_error: None,
            });
        })
    }

    fn discarded(&mut self, discarded: &DeliveryDiscarded) -> Result<(), RowError> {
        let at = self.recorded.time;
        self.outcome(&discarded.message, Success(false), |row| {
            row.outcome = DeliveryOutcome::Discarded;
            row.next_attempt_at = None;
            row.discarded = Some(GivenUp {
                at,
                reason: discarded.reason,
            });
        })
    }

    /// Changes the row of a delivery; a delivery without one is not in the log.
    fn change(
        &mut self,
        message: &MessageRef,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Result<(), RowError> {
        let Some(before) = self.find(message)? else {
            return Ok(());
        };
        let mut row = before.clone();
        row.events.push(self.recorded.position);
        change(&mut row);
        index::update(self.rows, &before, &row)?;
        note_url(self.rows, &row, before.callback_url.as_ref())?;
        blocks::put(self.rows, &row)
    }

    /// Changes the row of a delivery; one without a row gets it now, if it belongs in the log.
    fn outcome(
        &mut self,
        message: &MessageRef,
        success: Success,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Result<(), RowError> {
        if blocks::ordinal_of(self.rows, self.subscription, message)?.is_some() {
            return self.change(message, change);
        }
        if is_forgotten(self.rows, message)? {
            return Ok(());
        }
        let Some((api, application)) = self.owners()? else {
            return Ok(());
        };
        let mut settings = ApiSettings::read(self.rows, api)?;
        let kept =
            is_sampled(self.rows, message.position)? || (!success.0 && settings.keep_failures);
        if !kept {
            return Ok(());
        }
        let ordinal = settings.deliveries;
        settings.deliveries += 1;
        settings.write(self.rows, api);
        let mut row = self.fresh(ordinal, api, application, message);
        change(&mut row);
        self.insert(&row)
    }

    fn find(&self, message: &MessageRef) -> Result<Option<DeliveryRow>, RowError> {
        let ordinal = blocks::ordinal_of(self.rows, self.subscription, message)?;
        let (Some(ordinal), Some((api, _))) = (ordinal, self.owners()?) else {
            return Ok(None);
        };
        let row = blocks::row_at(self.rows, api, ordinal)?;
        row.map(|row| plans::to_change(self.rows, row)).transpose()
    }

    fn owners(&self) -> Result<Option<(ApiId, ApplicationId)>, RowError> {
        let Some(owners) = self.rows.look(&id_key(b's', self.subscription.as_uuid()))? else {
            return Ok(None);
        };
        Ok(Some((
            ApiId::from_uuid(uuid_at(&owners, 0)?),
            ApplicationId::from_uuid(uuid_at(&owners, 16)?),
        )))
    }

    fn fresh(
        &self,
        ordinal: u64,
        api: ApiId,
        application: ApplicationId,
        message: &MessageRef,
    ) -> DeliveryRow {
        let mut events = LoggedPositions::default();
        events.push(self.recorded.position);
        DeliveryRow {
            id: DeliveryId::of(message.id, self.subscription),
            ordinal,
            api,
            application,
            subscription: self.subscription,
            message: *message,
            callback_url: None,
            method: Method::Post,
            started_at: self.recorded.time,
            status: 0,
            error: None,
            attempts: 0,
            last_duration_us: 0,
            whole_duration_ms: 0,
            outcome: DeliveryOutcome::Retrying,
            next_attempt_at: None,
            dlq: None,
            discarded: None,
            events,
        }
    }

    fn insert(&mut self, row: &DeliveryRow) -> Result<(), RowError> {
        blocks::put(self.rows, row)?;
        blocks::note(self.rows, row)?;
        let mut by_application = pair_key(b'v', row.api.as_uuid(), row.application.as_uuid());
        by_application.insert(17, b'p');
        count(self.rows, &by_application)?;
        note_url(self.rows, row, None)?;
        index::created(self.rows, row)
    }
}

/// From the first call's beginning to this one's end.
fn whole_duration_ms(started_at: Timestamp, attempt: &AttemptRecord) -> u64 {
    let before = attempt.started_at.since(started_at);
    let whole = before + std::time::Duration::from_micros(attempt.timings.total_us.into());
    u64::try_from(whole.as_millis()).unwrap_or(u64::MAX)
}

/// Counts the URL of a row whose URL was another before.
fn note_url(
    rows: &mut Rows<'_>,
    row: &DeliveryRow,
    before: Option<&crate::model::CallbackUrl>,
) -> Result<(), RowError> {
    match &row.callback_url {
        Some(url) if before != Some(url) => {
            let mut key = id_key(b'v', row.api.as_uuid());
            key.push(b'u');
            key.extend_from_slice(url.as_str().as_bytes());
            count(rows, &key)
        }
        _ => Ok(()),
    }
}

fn count(rows: &mut Rows<'_>, key: &[u8]) -> Result<(), RowError> {
    let value = rows.edit(key, || vec![0; 8])?;
    let next = u64_at(value, 0)? + 1;
    value.copy_from_slice(&next.to_be_bytes());
    Ok(())
}

/// What the log needs to know of an API.
pub(super) struct ApiSettings {
    /// Ordinals given so far.
    pub(super) deliveries: u64,
    keep_failures: bool,
}

impl ApiSettings {
    pub(super) fn read(rows: &dyn ReadRows, api: ApiId) -> Result<Self, RowError> {
        let Some(row) = rows.look(&id_key(b'a', api.as_uuid()))? else {
            return Ok(Self {
                deliveries: 0,
                keep_failures: true,
            });
        };
        Ok(Self {
            deliveries: u64_at(&row, 0)?,
            keep_failures: row.get(8) == Some(&1),
        })
    }

    fn write(&self, rows: &mut Rows<'_>, api: ApiId) {
        let mut row = self.deliveries.to_be_bytes().to_vec();
        row.push(u8::from(self.keep_failures));
        rows.put(id_key(b'a', api.as_uuid()), row);
    }
}

fn set_api(rows: &mut Rows<'_>, recorded: &RecordedEvent, api: &Api) -> Result<(), RowError> {
    let Some(id) = recorded.stream.as_api() else {
        return Ok(());
    };
    let mut settings = ApiSettings::read(rows, id)?;
    settings.keep_failures = api.analytics.keep_failures.0;
    settings.write(rows, id);
    Ok(())
}

fn sample_place(position: Position) -> (Vec<u8>, usize, u8) {
    let mut key = vec![b'u'];
    key.extend_from_slice(&(position.get() / SAMPLE_CHUNK).to_be_bytes());
    let place = usize::try_from(position.get() % SAMPLE_CHUNK).expect("below 4,096");
    (key, place / 8, 1 << (place % 8))
}

fn leave_out(rows: &mut Rows<'_>, position: Position) -> Result<(), RowError> {
    let (key, byte, bit) = sample_place(position);
    let bits = usize::try_from(SAMPLE_CHUNK / 8).expect("512");
    rows.edit(&key, || vec![0; bits])?[byte] |= bit;
    Ok(())
}

fn is_sampled(rows: &dyn ReadRows, position: Position) -> Result<bool, RowError> {
    let (key, byte, bit) = sample_place(position);
    let left_out = rows.look(&key)?;
    Ok(left_out.is_none_or(|bits| bits.get(byte).is_none_or(|bits| bits & bit == 0)))
}

fn pair_bytes(api: ApiId, application: ApplicationId) -> Vec<u8> {
    [
        api.as_uuid().as_bytes().as_slice(),
        application.as_uuid().as_bytes(),
    ]
    .concat()
}
