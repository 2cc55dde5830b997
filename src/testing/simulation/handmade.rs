//! Events made by hand, for the tests of what is checked.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use uuid::Uuid;

use super::Broken;
use crate::{
    log::{RecordedEvent, StreamId},
    model::{
        AttemptFailed, AttemptNumber, AttemptRecord, AttemptSucceeded, DeadLetterQueue,
        DeadLetterReason, DeliveryDeadLettered, Event, Fault, MessageId, MessageRef, Method,
        Position, Subscription, SubscriptionCreated, SubscriptionEvent, SubscriptionId, Timestamp,
        Timings, Version,
    },
};

/// These events in this order, gapless, each a second after the one before.
pub(super) fn recorded(
    events: impl IntoIterator<Item = (StreamId, Event)>,
) -> Vec<Arc<RecordedEvent>> {
    let mut versions: BTreeMap<StreamId, Version> = BTreeMap::new();
    let mut recorded: Vec<Arc<RecordedEvent>> = Vec::new();
    for (stream, event) in events {
        let last = recorded.last();
        let position = last.map_or(Position::FIRST, |last| last.position.next());
        let time = last.map_or(Timestamp::EPOCH, |last| last.time);
        let version = versions.entry(stream).or_default();
        *version = version.next();
        recorded.push(Arc::new(RecordedEvent {
            position,
            stream,
            version: *version,
            time: time.plus(Duration::from_secs(1)),
            event,
        }));
    }
    recorded
}

/// These events of the one subscription there is.
pub(super) fn of_subscription(
    events: impl IntoIterator<Item = SubscriptionEvent>,
) -> Vec<Arc<RecordedEvent>> {
    let stream = StreamId::subscription(SubscriptionId::nil());
    recorded(events.into_iter().map(|event| (stream, event.into())))
}

/// The subscription begins, before the first message.
pub(super) fn created() -> SubscriptionEvent {
    let subscription = Subscription::to("https://example.com/0").expect("it is a URL");
    SubscriptionCreated {
        subscription: Box::new(subscription),
        cursor: Version::ZERO,
    }
    .into()
}

/// The message with this number.
pub(super) const fn message(number: u64) -> MessageRef {
    MessageRef {
        version: Version::new(number),
        position: Position::new(number),
        id: message_id(number),
        accepted_at: Timestamp::EPOCH,
    }
}

pub(super) const fn message_id(number: u64) -> MessageId {
    MessageId::from_uuid(Uuid::from_u64_pair(0, number))
}

/// The first call with a message: it began at the beginning of 1970, and took a second.
pub(super) fn first_call(number: u64, status: u16) -> AttemptRecord {
    AttemptRecord {
        message: message(number),
        number: AttemptNumber::FIRST,
        probe: false,
        former_callback: false,
        started_at: Timestamp::EPOCH,
        timings: Timings {
            total_us: 1_000_000,
            ..Timings::default()
        },
        method: Method::Post,
        callback_url: "https://example.com/0".parse().expect("it is a URL"),
        status,
        captured: None,
    }
}

pub(super) fn succeeded(number: u64) -> SubscriptionEvent {
    let attempt = first_call(number, 200);
    AttemptSucceeded { attempt }.into()
}

pub(super) fn failed(number: u64) -> SubscriptionEvent {
    let attempt = first_call(number, 500);
    let error = None;
    AttemptFailed { attempt, error }.into()
}

pub(super) fn dead_lettered(number: u64) -> SubscriptionEvent {
    DeliveryDeadLettered {
        message: message(number),
        reason: DeadLetterReason::AttemptsSpent,
        fault: Fault::Receiver,
        attempts: 1,
        status: 500,
        error: None,
        target: DeadLetterQueue::Embedded,
    }
    .into()
}

/// That this does not hold, in words that begin with these.
#[track_caller]
pub(super) fn breaks<T: fmt::Debug>(checked: Result<T, Broken>, begins: &str) {
    let told = checked.expect_err("it should not hold");
    assert!(told.starts_with(begins), "{told}");
}
