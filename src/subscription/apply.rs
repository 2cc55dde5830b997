//! How an event changes the state.

use super::{
    circuit::Circuit,
    outcome,
    state::{Forward, Hold, LastError, OpenDelivery, PlannedRetry, SubscriptionState},
};
use crate::model::{
    AttemptFailed, ConsumerStatus, DeadLetterQueue, DeliveryDeadLettered, DeliveryRedelivered,
    DeliveryTaken, MessageRef, SubscriptionCreated, SubscriptionEvent, SubscriptionFailed,
    SubscriptionStatus, SubscriptionUpdated, Version,
};

/// Folds one event into the state. It takes every event, in the order of its stream; what
/// [`decide`](super::decide) gave for this state always makes sense on it.
pub fn apply(state: &mut SubscriptionState, event: &SubscriptionEvent) {
    match event {
        SubscriptionEvent::Created(event) => created(state, event),
        SubscriptionEvent::Updated(event) => updated(state, event),
        SubscriptionEvent::Accepted(_) | SubscriptionEvent::Resumed(_) => {
            state.status = SubscriptionStatus::Accepted;
        }
        SubscriptionEvent::Rejected(_) => state.status = SubscriptionStatus::Rejected,
        SubscriptionEvent::Paused(_) => state.status = SubscriptionStatus::Paused,
        SubscriptionEvent::Held(event) => {
            state.hold = Some(Hold {
                until: event.until,
                retry_after: event.retry_after,
            });
        }
        SubscriptionEvent::Failed(event) => failed(state, event),
        SubscriptionEvent::Recovered(_) => recovered(state),
        SubscriptionEvent::Closed(_) => state.status = SubscriptionStatus::Closed,
        SubscriptionEvent::Taken(event) => taken(state, event),
        SubscriptionEvent::Filtered(event) => {
            state.counters.filtered += event.last.distance_from(event.first) + 1;
            state.see(event.first, event.last);
        }
        SubscriptionEvent::AttemptSucceeded(event) => {
            state.counters.attempts += 1;
            state.counters.delivered += 1;
            if !event.attempt.former_callback
                && let Circuit::Closed { failures } = &mut state.circuit
            {
                *failures = 0;
            }
            let version = event.attempt.message.version;
            // A dead letter that was redelivered is none any more.
            state.forwards.remove(&version);
            settle(state, version);
        }
        SubscriptionEvent::AttemptFailed(event) => attempt_failed(state, event),
        SubscriptionEvent::RetryScheduled(event) => {
            open(state, event.message).retry = Some(PlannedRetry {
                due_at: event.due_at,
                delay_ms: event.delay_ms,
            });
        }
        SubscriptionEvent::DeadLettered(event) => dead_lettered(state, event),
        SubscriptionEvent::Discarded(event) => {
            state.counters.discarded += 1;
            state.forwards.remove(&event.message.version);
            settle(state, event.message.version);
        }
        SubscriptionEvent::Redelivered(event) => redelivered(state, event),
        SubscriptionEvent::DeadLetterForwarded(event) => {
            state.forwards.remove(&event.message.version);
        }
        SubscriptionEvent::DeadLetterForwardFailed(event) => {
            if let Some(forward) = state.forwards.get_mut(&event.message.version) {
                forward.attempts = event.attempts;
                forward.due_at = event.due_at;
            }
        }
        SubscriptionEvent::CircuitOpened(event) => state.circuit.opened(event),
        SubscriptionEvent::CircuitClosed(_) => state.circuit = Circuit::default(),
    }
}

fn created(state: &mut SubscriptionState, event: &SubscriptionCreated) {
    state.status = event.subscription.status;
    state.cursor = event.cursor;
    state.subscription = Some(event.subscription.clone());
}

/// What is thought of a callback does not hold for another one.
fn updated(state: &mut SubscriptionState, event: &SubscriptionUpdated) {
    let current = state.subscription.as_ref();
    if current.is_some_and(|current| event.subscription.calls_elsewhere_than(current)) {
        state.hold = None;
        state.circuit = Circuit::default();
        for open in state.open.values_mut() {
            open.retry = None;
        }
    }
    state.subscription = Some(event.subscription.clone());
}

fn failed(state: &mut SubscriptionState, event: &SubscriptionFailed) {
    state.consumer_status = event.consumer_status;
    state.failure_cause = Some(Box::new(event.cause.clone()));
    if let Some(message) = event.message {
        let open = open(state, message);
        open.retry = None;
        open.taken = false;
    }
}

/// What waits without a planned call could not be delivered, or was never tried: it starts anew.
fn recovered(state: &mut SubscriptionState) {
    state.consumer_status = ConsumerStatus::Started;
    state.failure_cause = None;
    state.hold = None;
    state.circuit = Circuit::default();
    let stuck = state.open.values_mut().filter(|open| open.retry.is_none());
    for open in stuck {
        open.counted = 0;
        open.renewed = true;
    }
}

fn taken(state: &mut SubscriptionState, event: &DeliveryTaken) {
    open(state, event.message).taken = true;
}

fn attempt_failed(state: &mut SubscriptionState, event: &AttemptFailed) {
    let attempt = &event.attempt;
    state.counters.attempts += 1;
    state.counters.failed_attempts += 1;
    if !attempt.former_callback {
        let health = outcome::health(attempt.status, event.error.as_ref());
        state.circuit.count(health);
    }
    state.last_error = Some(Box::new(LastError {
        at: attempt.started_at,
        status: attempt.status,
        error: event.error.clone(),
    }));
    let open = open(state, attempt.message);
    open.attempts = attempt.number.get();
    open.status = attempt.status;
    open.error.clone_from(&event.error);
    open.taken = false;
    if !attempt.probe {
        open.counted += 1;
        open.retry = None;
    }
}

fn dead_lettered(state: &mut SubscriptionState, event: &DeliveryDeadLettered) {
    state.counters.dead_lettered += 1;
    settle(state, event.message.version);
    if matches!(
        event.target,
        DeadLetterQueue::Api { .. } | DeadLetterQueue::Http { .. }
    ) {
        let forward = Forward {
            message: event.message,
            target: event.target.clone(),
            attempts: 0,
            due_at: None,
        };
        state.forwards.insert(event.message.version, forward);
    }
}

fn redelivered(state: &mut SubscriptionState, event: &DeliveryRedelivered) {
    let open = open(state, event.message);
    open.attempts = event.attempt.get() - 1;
    open.counted = 0;
    open.renewed = true;
}

/// The open delivery of this message, opened now if it was not.
fn open(state: &mut SubscriptionState, message: MessageRef) -> &mut OpenDelivery {
    state.see(message.version, message.version);
    let entry = state.open.entry(message.version);
    entry.or_insert_with(|| OpenDelivery::new(message))
}

fn settle(state: &mut SubscriptionState, version: Version) {
    state.open.remove(&version);
    state.see(version, version);
}
