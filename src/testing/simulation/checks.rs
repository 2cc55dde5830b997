//! What must hold of a log at the end of a life, worked out from its events alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Broken, ledger::Ledger};
use crate::{
    log::{EventLog, RecordedEvent, StreamId, StreamKind},
    model::{
        AttemptRecord, DeliveryId, Event, MessageId, MessageRef, Position, SubscriptionEvent,
        SubscriptionId, Timestamp, Version,
    },
    projection::{
        View,
        deliveries::{Deliveries, DeliveryOutcome},
        metrics::{Counter, Metrics, Scope},
    },
};

/// How a delivery stands, by its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Delivered,
    DeadLettered,
    Discarded,
    PassedOver,
}

impl Fate {
    const fn outcome(self) -> Option<DeliveryOutcome> {
        match self {
            Self::Open => Some(DeliveryOutcome::Retrying),
            Self::Delivered => Some(DeliveryOutcome::Delivered),
            Self::DeadLettered => Some(DeliveryOutcome::DeadLettered),
            Self::Discarded => Some(DeliveryOutcome::Discarded),
            Self::PassedOver => None,
        }
    }
}

/// Every event of a log.
pub(super) fn events(log: &EventLog) -> Result<Vec<Arc<RecordedEvent>>, Broken> {
    let mut events: Vec<Arc<RecordedEvent>> = Vec::new();
    loop {
        let after = events.last().map_or(Position::ZERO, |last| last.position);
        let more = log.read(after, 4_096).map_err(|error| error.to_string())?;
        if more.is_empty() {
            return Ok(events);
        }
        events.extend(more);
    }
}

/// G1: positions and versions are gapless, and time never runs back.
pub(super) fn gapless(events: &[Arc<RecordedEvent>]) -> Result<(), Broken> {
    let mut versions: BTreeMap<StreamId, Version> = BTreeMap::new();
    let mut position = Position::ZERO;
    let mut time = Timestamp::from_millis(i64::MIN);
    for event in events {
        let version = versions.entry(event.stream).or_default();
        if event.position != position.next() || event.version != version.next() || event.time < time
        {
            return Err(format!(
                "G1: position {} is version {} of {} at {}, after position {position}, version {version}, {time}",
                event.position, event.version, event.stream, event.time
            ));
        }
        (position, *version, time) = (event.position, event.version, event.time);
    }
    Ok(())
}

/// G2: what was acknowledged is where it was said to be.
pub(super) fn acknowledged(events: &[Arc<RecordedEvent>], ledger: &Ledger) -> Result<(), Broken> {
    for (position, id) in ledger.messages() {
        let index = usize::try_from(position.get() - 1).unwrap_or(usize::MAX);
        let held = events.get(index).and_then(|e| e.event.as_published());
        if held.is_none_or(|message| message.id != id) {
            return Err(format!(
                "G2: message {id} was acknowledged at {position} and is not there"
            ));
        }
    }
    Ok(())
}

/// The fates of the messages of one subscription.
#[derive(Debug, Default)]
pub(super) struct Fates {
    after: Version,
    over: bool,
    of: BTreeMap<Version, (Fate, Option<MessageRef>)>,
    succeeded: u64,
}

/// G8, on the way: a delivery has one fate at a time, and a new one only when it was asked for.
pub(super) fn fates(
    events: &[Arc<RecordedEvent>],
) -> Result<BTreeMap<SubscriptionId, Fates>, Broken> {
    let mut fates: BTreeMap<SubscriptionId, Fates> = BTreeMap::new();
    for recorded in events {
        if let (Some(id), Event::Subscription(event)) =
            (recorded.stream.as_subscription(), &recorded.event)
        {
            let of = fates.entry(id).or_default();
            of.follow(event)
                .map_err(|what| format!("G8: position {} of {id}: {what}", recorded.position))?;
        }
    }
    Ok(fates)
}

impl Fates {
    fn follow(&mut self, event: &SubscriptionEvent) -> Result<(), Broken> {
        use SubscriptionEvent as E;
        match event {
            E::Created(event) => self.after = event.cursor,
            E::Closed(_) | E::Rejected(_) => self.over = true,
            E::AttemptSucceeded(event) => {
                self.succeeded += 1;
                self.ends(event.attempt.message, Fate::Delivered)?;
            }
            E::AttemptFailed(event) => self.opens(event.attempt.message)?,
            E::Taken(event) => self.opens(event.message)?,
            E::DeadLettered(event) => self.ends(event.message, Fate::DeadLettered)?,
            E::Discarded(event) => {
                if self.fate(event.message.version) == Some(Fate::DeadLettered) {
                    self.of.remove(&event.message.version);
                }
                self.ends(event.message, Fate::Discarded)?;
            }
            E::Failed(event) => {
                if let Some(message) = event.message {
                    self.opens(message)?;
                }
            }
            E::Redelivered(event) => {
                let version = event.message.version;
                if self.fate(version).is_none_or(|fate| fate == Fate::Open) {
                    return Err(format!(
                        "version {version} is sent again before it had a fate"
                    ));
                }
                self.of.insert(version, (Fate::Open, Some(event.message)));
            }
            E::Filtered(event) => {
                for version in event.first.get()..=event.last.get() {
                    let version = Version::new(version);
                    if let Some(fate) = self.fate(version) {
                        return Err(format!("version {version} is {fate:?} and passed over"));
                    }
                    self.of.insert(version, (Fate::PassedOver, None));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fate(&self, version: Version) -> Option<Fate> {
        self.of.get(&version).map(|(fate, _)| *fate)
    }

    fn opens(&mut self, message: MessageRef) -> Result<(), Broken> {
        match self.fate(message.version) {
            None | Some(Fate::Open) => {
                self.of.insert(message.version, (Fate::Open, Some(message)));
                Ok(())
            }
            Some(fate) => Err(format!(
                "version {} is {fate:?} and opened",
                message.version
            )),
        }
    }

    fn ends(&mut self, message: MessageRef, fate: Fate) -> Result<(), Broken> {
        self.opens(message)?;
        self.of.insert(message.version, (fate, Some(message)));
        Ok(())
    }

    /// A message with a fate that may be asked for again or discarded.
    pub(super) fn ended(&self, wanted: &[Fate]) -> Vec<MessageRef> {
        let ended = self.of.values().filter(|(fate, _)| wanted.contains(fate));
        ended.filter_map(|(_, message)| *message).collect()
    }

    /// G8, at the end: once everything is healed every message has its fate.
    fn settled(&self, id: SubscriptionId, head: Version) -> Result<(), Broken> {
        let open = self.of.iter().find(|(_, (fate, _))| *fate == Fate::Open);
        if let Some((version, _)) = open {
            return Err(format!("G8: version {version} of {id} never got its fate"));
        }
        let expected = head.distance_from(self.after);
        if !self.over && self.of.len() as u64 != expected {
            return Err(format!(
                "G8: {id} has fates for {} of {expected} messages",
                self.of.len()
            ));
        }
        Ok(())
    }
}

/// A retry stands behind the call that failed, and is due its delay after that call ended: by the
/// wall clock, which must not jump meanwhile. When both were written says nothing: an append may wait
/// for room on the disk, past the time at which the retry is due.
fn retries(events: &[Arc<RecordedEvent>], wall_jumps: bool) -> Result<(), Broken> {
    let mut failed: BTreeMap<SubscriptionId, &AttemptRecord> = BTreeMap::new();
    for recorded in events {
        let of = recorded.stream.as_subscription();
        let (Some(id), Some(event)) = (of, recorded.event.as_subscription()) else {
            continue;
        };
        match event {
            SubscriptionEvent::AttemptFailed(event) => {
                failed.insert(id, &event.attempt);
            }
            SubscriptionEvent::RetryScheduled(retry) => {
                let call = failed.get(&id).filter(|call| {
                    (call.message, call.number.next()) == (retry.message, retry.attempt)
                });
                let due_at = call.map(|call| {
                    let took = Duration::from_micros(call.timings.total_us.into());
                    let delay = Duration::from_millis(retry.delay_ms);
                    call.started_at.plus(took).plus(delay)
                });
                if due_at.is_none_or(|due_at| !wall_jumps && due_at != retry.due_at) {
                    return Err(format!(
                        "position {}: a retry of {id} is due at {}, by its call at {due_at:?}",
                        recorded.position, retry.due_at
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Everything that must hold of a log once all is healed.
pub(super) fn log(
    log: &EventLog,
    events: &[Arc<RecordedEvent>],
    ledger: &Ledger,
    wall_jumps: bool,
) -> Result<(), Broken> {
    gapless(events)?;
    acknowledged(events, ledger)?;
    retries(events, wall_jumps)?;
    let last = events.iter().rev();
    let mut messages = last.filter(|event| event.stream.kind() == StreamKind::Messages);
    let head = messages.next().map_or(Version::ZERO, |last| last.version);
    for (id, fates) in fates(events)? {
        fates.settled(id, head)?;
    }
    let report = log.verify(|_| {}).map_err(|error| error.to_string())?;
    match report.problems.first() {
        Some(problem) => Err(format!("G11: the log does not verify: {problem:?}")),
        None => Ok(()),
    }
}

/// The webhook log tells what the events tell.
pub(super) fn views(
    events: &[Arc<RecordedEvent>],
    deliveries: &View<Deliveries>,
    metrics: &View<Metrics>,
) -> Result<(), Broken> {
    for (id, fates) in fates(events)? {
        for (fate, message) in fates.of.values() {
            let (Some(message), Some(outcome)) = (message, fate.outcome()) else {
                continue;
            };
            let delivery = DeliveryId::of(MessageId::clone(&message.id), id);
            let row = deliveries.delivery(delivery).map_err(|e| e.to_string())?;
            if row.as_ref().map(|row| row.outcome) != Some(outcome) {
                let shown = row.map(|row| row.outcome);
                return Err(format!("{delivery} is {fate:?} and shown as {shown:?}"));
            }
        }
        let totals = metrics
            .totals(Scope::Subscription(id))
            .map_err(|e| e.to_string())?;
        let delivered = totals.get(Counter::Delivered);
        if delivered != fates.succeeded {
            let succeeded = fates.succeeded;
            return Err(format!(
                "{id} delivered {succeeded} times and {delivered} are counted"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::handmade::{
        breaks, created, dead_lettered, failed, message, message_id, of_subscription, recorded,
        succeeded,
    };
    use super::*;
    use crate::{
        clock::SharedClock,
        model::{ApiId, AttemptNumber, RetryScheduled, SubscriptionPaused, SubscriptionResumed},
        projection::{SharedHistory, fold_all},
        testing::{ManualClock, log_conformance, memory_history::MemoryHistory},
    };

    fn paused_and_resumed() -> Vec<Arc<RecordedEvent>> {
        of_subscription([SubscriptionPaused {}.into(), SubscriptionResumed {}.into()])
    }

    #[test]
    fn a_hole_in_positions_or_versions_and_time_that_runs_back_break_g1() {
        gapless(&paused_and_resumed()).unwrap();
        let broken = |change: fn(&mut RecordedEvent)| {
            let mut events = paused_and_resumed();
            change(Arc::make_mut(&mut events[1]));
            gapless(&events)
        };
        let hole = broken(|event| event.position = Position::new(3));
        breaks(hole, "G1: position 3 is version 2 of");
        let hole = broken(|event| event.version = Version::new(3));
        breaks(hole, "G1: position 2 is version 3 of");
        let back = broken(|event| event.time = Timestamp::EPOCH);
        breaks(back, "G1: position 2 is version 2 of");
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_breaks_g2() {
        let stream = StreamId::messages(ApiId::nil());
        let events = recorded([(stream, log_conformance::message(1, 0))]);
        let told = |position, number| {
            let mut ledger = Ledger::default();
            let id = message_id(number);
            ledger.acknowledged(Position::new(position), id).unwrap();
            ledger
        };
        acknowledged(&events, &told(1, 1)).unwrap();
        breaks(acknowledged(&events, &told(1, 2)), "G2: message");
        breaks(acknowledged(&events, &told(2, 1)), "G2: message");
    }

    #[test]
    fn a_second_fate_breaks_g8() {
        let id = SubscriptionId::nil();
        let twice = of_subscription([created(), succeeded(1), dead_lettered(1)]);
        let told = format!("G8: position 3 of {id}: version 1 is Delivered");
        breaks(fates(&twice), &told);
    }

    #[test]
    fn a_message_without_a_fate_at_the_end_breaks_g8() {
        let id = SubscriptionId::nil();
        let settled = |events: &[Arc<RecordedEvent>], head| {
            let fates = fates(events).unwrap();
            fates[&id].settled(id, Version::new(head))
        };
        let open = of_subscription([created(), failed(1)]);
        breaks(settled(&open, 1), "G8: version 1 of");
        let done = of_subscription([created(), failed(1), dead_lettered(1)]);
        settled(&done, 1).unwrap();
        let told = format!("G8: {id} has fates for 1 of 2 messages");
        breaks(settled(&done, 2), &told);
    }

    /// The second call with the first message, due so many seconds after the beginning of 1970.
    fn retry_due_at(seconds: u64) -> SubscriptionEvent {
        RetryScheduled {
            message: message(1),
            attempt: AttemptNumber::new(2),
            due_at: Timestamp::EPOCH.plus(Duration::from_secs(seconds)),
            delay_ms: 10_000,
        }
        .into()
    }

    #[test]
    fn a_retry_that_is_not_due_its_delay_after_the_call_that_failed_is_told() {
        let planned = of_subscription([created(), failed(1), retry_due_at(11)]);
        retries(&planned, false).unwrap();
        let early = of_subscription([created(), failed(1), retry_due_at(10)]);
        breaks(retries(&early, false), "position 3: a retry of");
        retries(&early, true).unwrap();
        let of_another = of_subscription([created(), failed(2), retry_due_at(11)]);
        breaks(retries(&of_another, true), "position 3: a retry of");
    }

    /// A message, and these events of the subscription.
    fn after_a_message<const N: usize>(events: [SubscriptionEvent; N]) -> Vec<Arc<RecordedEvent>> {
        let message = (
            StreamId::messages(ApiId::nil()),
            log_conformance::message(1, 0),
        );
        let stream = StreamId::subscription(SubscriptionId::nil());
        let events = events.map(|event| (stream, event.into()));
        recorded([message].into_iter().chain(events))
    }

    fn views_of(events: &[Arc<RecordedEvent>]) -> (View<Deliveries>, View<Metrics>) {
        let history: SharedHistory = Arc::new(MemoryHistory::new(events.to_vec()));
        let clock: SharedClock = Arc::new(ManualClock::at(Timestamp::EPOCH, 0));
        let deliveries = fold_all(Deliveries, &history, &clock).unwrap();
        (deliveries, fold_all(Metrics, &history, &clock).unwrap())
    }

    #[test]
    fn a_view_that_shows_another_outcome_or_another_count_is_told() {
        let delivered = after_a_message([created(), succeeded(1)]);
        let (deliveries, metrics) = views_of(&delivered);
        views(&delivered, &deliveries, &metrics).unwrap();

        let given_up = after_a_message([created(), failed(1), dead_lettered(1)]);
        let delivery = DeliveryId::of(message_id(1), SubscriptionId::nil());
        let told = format!("{delivery} is DeadLettered and shown as Some(Delivered)");
        breaks(views(&given_up, &deliveries, &metrics), &told);

        let (_, metrics) = views_of(&given_up);
        let told = format!("{} delivered 1 times and 0", SubscriptionId::nil());
        breaks(views(&delivered, &deliveries, &metrics), &told);
    }
}
