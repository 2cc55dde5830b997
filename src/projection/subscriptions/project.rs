//! The fold: events to APIs, applications and subscriptions.

use super::{
    ApiRow, ApplicationRow, CircuitRow, HoldRow, SubscriptionHealth, SubscriptionState,
    Subscriptions,
};
use crate::{
    log::RecordedEvent,
    model::{
        ApiEvent, ApiId, ApiState, ApplicationEvent, ApplicationId, AttemptFailed, ConsumerStatus,
        Event, MessageEvent, SubscriptionCreated, SubscriptionEvent, SubscriptionFailed,
        SubscriptionId, SubscriptionStatus, SubscriptionUpdated, Timestamp,
    },
    projection::{
        ProjectError, Projection, ReadRows, Row, RowError, Rows,
        codec::{decode, encode, encode_named, id_key, pair_key, u64_at},
        not_adopted,
    },
};

impl Projection for Subscriptions {
    const NAME: &'static str = "subscriptions";
    const VERSION: u32 = 2;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let (stream, now) = (recorded.stream, recorded.time);
        match &recorded.event {
            Event::Message(MessageEvent::Published(_)) => {
                let count = rows.edit(&id_key(b'm', &stream.uuid()), || vec![0; 8])?;
                let next = u64_at(count, 0)? + 1;
                count.copy_from_slice(&next.to_be_bytes());
            }
            Event::Api(event) => {
                if let Some(id) = stream.as_api() {
                    of_api(rows, now, id, event)?;
                }
            }
            Event::Application(event) => {
                if let Some(id) = stream.as_application() {
                    of_application(rows, now, id, event)?;
                }
            }
            Event::Subscription(event) => {
                if let Some(id) = stream.as_subscription() {
                    of_subscription(rows, now, id, event)?;
                }
            }
            Event::Access(_) | Event::Job(_) | Event::Log(_) | Event::Unknown(_) => {}
        }
        Ok(())
    }

    /// Version 1 kept the pause that a former callback had asked for: until its time was past, or
    /// another was asked for.
    fn adopt(&self, version: u32, row: Row) -> Result<Option<Row>, ProjectError> {
        if version == 1 {
            return Ok(Some(row));
        }
        Err(not_adopted::<Self>(version))
    }
}

fn of_api(
    rows: &mut Rows<'_>,
    now: Timestamp,
    id: ApiId,
    event: &ApiEvent,
) -> Result<(), RowError> {
    let key = id_key(b'a', id.as_uuid());
    match event {
        ApiEvent::Created(created) => {
            let row = ApiRow {
                api: (*created.api).clone(),
                created_at: now,
                updated_at: now,
                messages: 0,
            };
            rows.put(key, encode_named(&row));
            Ok(())
        }
        // An update replaces the definition; state changes by its own events.
        ApiEvent::Updated(updated) => change_api(rows, now, key, |row| {
            let state = row.api.state;
            row.api = (*updated.api).clone();
            row.api.state = state;
        }),
        ApiEvent::Started(_) => change_api(rows, now, key, |row| row.api.state = ApiState::Started),
        ApiEvent::Stopped(_) => change_api(rows, now, key, |row| row.api.state = ApiState::Stopped),
        ApiEvent::Deleted(_) => {
            rows.delete(key);
            Ok(())
        }
    }
}

fn change_api(
    rows: &mut Rows<'_>,
    now: Timestamp,
    key: Vec<u8>,
    change: impl FnOnce(&mut ApiRow),
) -> Result<(), RowError> {
    if let Some(row) = rows.get(&key)? {
        let mut row: ApiRow = decode(&row)?;
        change(&mut row);
        row.updated_at = now;
        rows.put(key, encode_named(&row));
    }
    Ok(())
}

fn of_application(
    rows: &mut Rows<'_>,
    now: Timestamp,
    id: ApplicationId,
    event: &ApplicationEvent,
) -> Result<(), RowError> {
    let key = id_key(b'p', id.as_uuid());
    let (application, created_at) = match event {
        ApplicationEvent::Created(created) => (&created.application, now),
        ApplicationEvent::Updated(updated) => {
            let before: Option<ApplicationRow> =
                rows.get(&key)?.map(|row| decode(&row)).transpose()?;
            let created_at = before.map_or(now, |before| before.created_at);
            (&updated.application, created_at)
        }
        ApplicationEvent::Deleted(_) => {
            rows.delete(key);
            return Ok(());
        }
    };
    let row = ApplicationRow {
        application: application.clone(),
        created_at,
        updated_at: now,
    };
    rows.put(key, encode_named(&row));
    Ok(())
}

fn of_subscription(
    rows: &mut Rows<'_>,
    now: Timestamp,
    id: SubscriptionId,
    event: &SubscriptionEvent,
) -> Result<(), RowError> {
    let mut card = Card { rows, now, id };
    match event {
        SubscriptionEvent::Created(created) => {
            card.created(created);
            Ok(())
        }
        SubscriptionEvent::Updated(updated) => card.updated(updated),
        SubscriptionEvent::Accepted(_) | SubscriptionEvent::Resumed(_) => {
            card.status(SubscriptionStatus::Accepted)
        }
        SubscriptionEvent::Rejected(rejected) => card.state(|state| {
            state.status = SubscriptionStatus::Rejected;
            state.rejected_because = Some(rejected.reason.clone());
        }),
        SubscriptionEvent::Paused(_) => card.status(SubscriptionStatus::Paused),
        SubscriptionEvent::Closed(_) => card.status(SubscriptionStatus::Closed),
        SubscriptionEvent::Failed(failed) => card.failed(failed),
        SubscriptionEvent::Recovered(_) => card.recovered(),
        SubscriptionEvent::Held(held) => card.health(|health| {
            health.hold = Some(HoldRow {
                until: held.until,
                status: held.status,
            });
        }),
        SubscriptionEvent::CircuitOpened(opened) => card.health(|health| {
            let since = health.circuit.map_or(now, |circuit| circuit.opened_at);
            health.circuit = Some(CircuitRow {
                opened_at: since,
                probe_at: opened.probe_at,
                failures: opened.failures,
            });
        }),
        SubscriptionEvent::CircuitClosed(_) => card.health(|health| health.circuit = None),
        SubscriptionEvent::AttemptSucceeded(_) => card.health(|health| {
            health.attempts += 1;
            health.delivered += 1;
            health.last_success_at = Some(now);
        }),
        SubscriptionEvent::AttemptFailed(failed) => card.attempt_failed(failed),
        SubscriptionEvent::DeadLettered(_) => card.health(|health| health.dead_lettered += 1),
        SubscriptionEvent::Discarded(_) => card.health(|health| health.discarded += 1),
        SubscriptionEvent::Taken(_)
        | SubscriptionEvent::Filtered(_)
        | SubscriptionEvent::RetryScheduled(_)
        | SubscriptionEvent::Redelivered(_)
        | SubscriptionEvent::DeadLetterForwarded(_)
        | SubscriptionEvent::DeadLetterForwardFailed(_) => Ok(()),
    }
}

/// The rows of one subscription.
struct Card<'a, 'r> {
    rows: &'a mut Rows<'r>,
    now: Timestamp,
    id: SubscriptionId,
}

impl Card<'_, '_> {
    fn created(&mut self, created: &SubscriptionCreated) {
        let definition = (*created.subscription).clone();
        let id = self.id.as_uuid();
        let (api, application) = (definition.api, definition.application);
        self.rows.put(pair_key(b'x', api.as_uuid(), id), Vec::new());
        self.rows
            .put(pair_key(b'y', application.as_uuid(), id), Vec::new());
        let state = SubscriptionState {
            status: definition.status,
            definition,
            consumer_status: ConsumerStatus::Started,
            failure_cause: None,
            rejected_because: None,
            created_at: self.now,
            updated_at: self.now,
        };
        self.rows.put(id_key(b's', id), encode_named(&state));
        self.rows
            .put(id_key(b'h', id), encode(&SubscriptionHealth::default()));
    }

    /// A pause that one callback asked for is not another's.
    fn updated(&mut self, updated: &SubscriptionUpdated) -> Result<(), RowError> {
        let definition = &updated.subscription;
        let mut is_elsewhere = false;
        self.state(|state| {
            is_elsewhere = definition.calls_elsewhere_than(&state.definition);
            state.definition = (**definition).clone();
        })?;
        if is_elsewhere {
            self.health(|health| health.hold = None)?;
        }
        Ok(())
    }

    fn recovered(&mut self) -> Result<(), RowError> {
        self.state(|state| {
            state.consumer_status = ConsumerStatus::Started;
            state.failure_cause = None;
        })?;
        self.health(|health| health.hold = None)
    }

    fn failed(&mut self, failed: &SubscriptionFailed) -> Result<(), RowError> {
        self.state(|state| {
            state.consumer_status = failed.consumer_status;
            state.failure_cause = Some(failed.cause.clone());
        })
    }

    fn attempt_failed(&mut self, failed: &AttemptFailed) -> Result<(), RowError> {
        let now = self.now;
        self.health(|health| {
            health.attempts += 1;
            health.failures += 1;
            health.last_failure_at = Some(now);
            health.last_failure_status = Some(failed.attempt.status);
            health.last_error.clone_from(&failed.error);
        })
    }

    fn status(&mut self, status: SubscriptionStatus) -> Result<(), RowError> {
        self.state(|state| state.status = status)
    }

    fn state(&mut self, change: impl FnOnce(&mut SubscriptionState)) -> Result<(), RowError> {
        let key = id_key(b's', self.id.as_uuid());
        if let Some(row) = self.rows.get(&key)? {
            let mut state: SubscriptionState = decode(&row)?;
            change(&mut state);
            state.updated_at = self.now;
            self.rows.put(key, encode_named(&state));
        }
        Ok(())
    }

    fn health(&mut self, change: impl FnOnce(&mut SubscriptionHealth)) -> Result<(), RowError> {
        let key = id_key(b'h', self.id.as_uuid());
        if let Some(row) = self.rows.get(&key)? {
            let mut health: SubscriptionHealth = decode(&row)?;
            change(&mut health);
            self.rows.put(key, encode(&health));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_version_1_are_taken_over_and_of_no_other() {
        let row = Row {
            key: vec![b's'],
            value: Vec::new(),
        };
        let taken = Subscriptions.adopt(1, row.clone()).unwrap();
        assert_eq!(taken.as_ref(), Some(&row));
        assert!(Subscriptions.adopt(3, row).is_err());
    }
}
