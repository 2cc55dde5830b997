//! What another retry policy would have made of a recorded window.
//!
//! The calls that were made show how a callback was at their time. A call that another policy would
//! have made is answered as the recorded call of the same subscription that is nearest in time,
//! one of the same message before one of another: a message that is refused stays refused, and an
//! outage lasts as long as it did. First calls are those that were made. A call to a former callback
//! answers for no other, and its 410 stops nothing: as it happened, the present callback is called
//! with the message next. What would have been is worked out without jitter, `Retry-After`, the
//! circuit and limits of calls in flight.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::Serialize;

use crate::{
    log::{EventLog, FeedItem, FeedStart, Filter, ReadError, StreamKind},
    model::{
        AttemptError, AttemptRecord, AttemptResult, ErrorClass, Event, Retry, SubscriptionEvent,
        SubscriptionId, Timestamp, Version,
    },
    subscription::{
        outcome::{Verdict, verdict},
        schedule,
    },
};

/// Which calls are looked at, and under which policy they are made again.
#[derive(Debug, Clone)]
pub struct WhatIf {
    /// The policy.
    pub retry: Retry,
    /// Deliveries whose first call began at or after this time.
    pub from: Timestamp,
    /// Deliveries whose first call began before this time.
    pub to: Timestamp,
    /// Of this subscription alone.
    pub subscription: Option<SubscriptionId>,
}

/// What a policy made, or would have made, of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
    /// Deliveries that had no fate by the end of the log. Under another policy those alone that
    /// only a former callback was called with, where no call tells how the present one is.
    pub open: u64,
    /// Calls.
    pub calls: u64,
    /// Deliveries that failed at first and succeeded later.
    pub recovered: u64,
    /// The time from the first failure to the success, of half of those, in milliseconds.
    pub recovery_p50_ms: u64,
    /// The same of 95 in 100.
    pub recovery_p95_ms: u64,
}

/// Both, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What happened.
    pub recorded: Outcome,
    /// What would have happened.
    pub what_if: Outcome,
    /// Deliveries that were looked at.
    pub deliveries: u64,
}

/// A recorded call.
#[derive(Debug, Clone)]
struct Call {
    at: Timestamp,
    took: Duration,
    version: Version,
    accepted_at: Timestamp,
    status: u16,
    error: Option<ErrorClass>,
    former_callback: bool,
}

impl Call {
    fn of(attempt: &AttemptRecord, error: Option<&AttemptError>) -> Self {
        Self {
            at: attempt.started_at,
            took: Duration::from_micros(attempt.timings.total_us.into()),
            version: attempt.message.version,
            accepted_at: attempt.message.accepted_at,
            status: attempt.status,
            error: error.map(|error| error.class),
            former_callback: attempt.former_callback,
        }
    }

    fn verdict(&self, retry: &Retry) -> Verdict {
        let result = match self.error {
            Some(class) => AttemptResult::Failed(AttemptError::new(class, "recorded")),
            None => AttemptResult::Responded {
                status: self.status,
                retry_after: None,
            },
        };
        verdict(&result, retry)
    }
}

/// What is recorded of a subscription.
#[derive(Debug, Default)]
struct Recorded {
    /// Every call, in the order of their ends.
    calls: Vec<Call>,
    /// Messages that were given up.
    given_up: BTreeSet<Version>,
}

/// Compares what happened with what another policy would have made of it. Reads the log once.
/// Blocks.
pub fn what_if(log: &EventLog, question: &WhatIf) -> Result<Comparison, ReadError> {
    let mut subscriptions: HashMap<SubscriptionId, Recorded> = HashMap::new();
    let filter = Filter::all().kinds([StreamKind::Subscription]);
    let mut feed = log.follow(FeedStart::Beginning, filter);
    while let Some(item) = feed.next_now()? {
        let FeedItem::Event(event) = item else {
            continue;
        };
        let (Event::Subscription(told), Some(id)) = (&event.event, event.stream.as_subscription())
        else {
            continue;
        };
        if question.subscription.is_none_or(|wanted| wanted == id) {
            subscriptions.entry(id).or_default().learn(told);
        }
    }
    let mut comparison = Comparison::default();
    let (mut then, mut now) = (Vec::new(), Vec::new());
    for recorded in subscriptions.values() {
        recorded.compare(question, &mut comparison, &mut then, &mut now);
    }
    comparison.recorded.recoveries(then);
    comparison.what_if.recoveries(now);
    Ok(comparison)
}

impl Outcome {
    fn recoveries(&mut self, mut waits: Vec<Duration>) {
        waits.sort_unstable();
        let at = |percent: usize| {
            let index = (waits.len() * percent).div_ceil(100).max(1) - 1;
            let wait = waits.get(index).copied().unwrap_or_default();
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
        };
        (self.recovery_p50_ms, self.recovery_p95_ms) = (at(50), at(95));
        self.recovered = waits.len() as u64;
    }
}

impl Recorded {
    fn learn(&mut self, event: &SubscriptionEvent) {
        match event {
            SubscriptionEvent::AttemptSucceeded(e) => self.calls.push(Call::of(&e.attempt, None)),
            SubscriptionEvent::AttemptFailed(e) => {
                self.calls.push(Call::of(&e.attempt, e.error.as_ref()));
            }
            SubscriptionEvent::DeadLettered(e) => {
                self.given_up.insert(e.message.version);
            }
            SubscriptionEvent::Discarded(e) => {
                self.given_up.insert(e.message.version);
            }
            _ => {}
        }
    }

    fn compare(
        &self,
        question: &WhatIf,
        comparison: &mut Comparison,
        then: &mut Vec<Duration>,
        now: &mut Vec<Duration>,
    ) {
        let mut by_time: Vec<&Call> = self.calls.iter().collect();
        by_time.sort_by_key(|call| call.at);
        let mut deliveries: BTreeMap<Version, Vec<&Call>> = BTreeMap::new();
        for &call in &by_time {
            deliveries.entry(call.version).or_default().push(call);
        }
        by_time.retain(|call| !call.former_callback);
        for (version, own) in deliveries {
            let first = own[0];
            if first.at < question.from || first.at >= question.to {
                continue;
            }
            comparison.deliveries += 1;
            self.happened(version, &own, &mut comparison.recorded, then);
            would_happen(question, &own, &by_time, &mut comparison.what_if, now);
        }
    }

    fn happened(
        &self,
        version: Version,
        own: &[&Call],
        outcome: &mut Outcome,
        waits: &mut Vec<Duration>,
    ) {
        outcome.calls += own.len() as u64;
        let success = own.iter().find(|call| (200..300).contains(&call.status));
        if let Some(success) = success {
            outcome.delivered += 1;
            if success.at > own[0].at {
                waits.push(success.at.since(own[0].at));
            }
        } else if self.given_up.contains(&version) {
            outcome.given_up += 1;
        } else {
            outcome.open += 1;
        }
    }
}

/// Makes a delivery under the policy, answered by the calls that were no former callback's.
fn would_happen(
    question: &WhatIf,
    own: &[&Call],
    present: &[&Call],
    outcome: &mut Outcome,
    waits: &mut Vec<Duration>,
) {
    let retry = &question.retry;
    let first = own[0];
    let own_present: Vec<&Call> = own
        .iter()
        .copied()
        .filter(|call| !call.former_callback)
        .collect();
    let deadline = schedule::deadline(retry, first.accepted_at);
    let (mut at, mut call) = (first.at, first);
    for number in 0.. {
        outcome.calls += 1;
        let wait = match call.verdict(retry) {
            Verdict::Delivered => {
                outcome.delivered += 1;
                if number > 0 {
                    waits.push(at.since(first.at));
                }
                return;
            }
            Verdict::Retry if number < schedule::retries_allowed(retry) => {
                schedule::base_delay(retry, number + 1)
            }
            // Only a first call is one: the present callback is called as soon as it has ended.
            Verdict::Gone if call.former_callback => call.took,
            Verdict::Retry | Verdict::GiveUp(_) | Verdict::Gone => break,
        };
        at = at.plus(wait);
        if deadline.is_some_and(|deadline| at >= deadline) {
            break;
        }
        let Some(next) = nearest(&own_present, present, at) else {
            outcome.open += 1;
            return;
        };
        call = next;
    }
    outcome.given_up += 1;
}

/// The recorded call that is nearest to a time; one of the same message where two are as near.
fn nearest<'a>(own: &[&'a Call], by_time: &[&'a Call], at: Timestamp) -> Option<&'a Call> {
    match (near(own, at), near(by_time, at)) {
        (Some(of_own), Some(of_all)) if distance(of_all, at) < distance(of_own, at) => Some(of_all),
        (of_own, of_all) => of_own.or(of_all),
    }
}

/// The nearest of calls in the order of their times.
fn near<'a>(calls: &[&'a Call], at: Timestamp) -> Option<&'a Call> {
    let behind = calls.partition_point(|call| call.at <= at);
    let before = calls.get(behind.wrapping_sub(1)).copied();
    let after = calls.get(behind).copied();
    match (before, after) {
        (Some(before), Some(after)) if distance(after, at) < distance(before, at) => Some(after),
        (before, after) => before.or(after),
    }
}

fn distance(call: &Call, at: Timestamp) -> Duration {
    call.at.since(at).max(at.since(call.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(message: u64, at_s: i64, status: u16) -> Call {
        Call {
            at: Timestamp::from_millis(at_s * 1_000),
            took: Duration::ZERO,
            version: Version::new(message),
            accepted_at: Timestamp::from_millis(0),
            status,
            error: None,
            former_callback: false,
        }
    }

    /// One that took twenty seconds, by the end of which the subscription had another callback.
    fn call_to_former(message: u64, at_s: i64, status: u16) -> Call {
        Call {
            took: Duration::from_secs(20),
            former_callback: true,
            ..call(message, at_s, status)
        }
    }

    fn compared(calls: Vec<Call>, given_up: &[u64], retry: Retry) -> Comparison {
        let recorded = Recorded {
            calls,
            given_up: given_up.iter().map(|v| Version::new(*v)).collect(),
        };
        let question = WhatIf {
            retry,
            from: Timestamp::from_millis(0),
            to: Timestamp::from_millis(i64::MAX),
            subscription: None,
        };
        let mut comparison = Comparison::default();
        let (mut then, mut now) = (Vec::new(), Vec::new());
        recorded.compare(&question, &mut comparison, &mut then, &mut now);
        comparison.recorded.recoveries(then);
        comparison.what_if.recoveries(now);
        comparison
    }

    #[test]
    fn a_longer_policy_outlives_an_outage() {
        // Down until 100 s; message 1 was given up after two calls, message 2 shows it up again.
        let calls = vec![call(1, 1, 503), call(1, 11, 503), call(2, 100, 204)];
        let told = compared(calls, &[1], Retry::schedule([10, 60, 60]));
        assert_eq!((told.recorded.delivered, told.recorded.given_up), (1, 1));
        assert_eq!((told.what_if.delivered, told.what_if.given_up), (2, 0));
        assert_eq!((told.recorded.calls, told.what_if.calls), (3, 4));
        assert_eq!(told.what_if.recovered, 1);
        assert_eq!(told.what_if.recovery_p50_ms, 70_000);
    }

    #[test]
    fn a_refused_message_stays_refused_among_others_that_succeed() {
        let calls = vec![call(1, 1, 400), call(2, 1, 204), call(2, 60, 204)];
        let told = compared(calls, &[1], Retry::schedule([10; 9]));
        assert_eq!(told.what_if.given_up, 1);
        assert_eq!(told.what_if.calls, 2);
    }

    #[test]
    fn a_former_callback_that_is_gone_gives_up_nothing_and_answers_for_no_other() {
        // The former one is nearest to the second call of message 2.
        let calls = vec![
            call_to_former(1, 1, 410),
            call(1, 30, 204),
            call(2, 0, 503),
            call(2, 40, 204),
        ];
        let told = compared(calls, &[], Retry::schedule([1, 60]));
        assert_eq!((told.recorded.delivered, told.recorded.given_up), (2, 0));
        assert_eq!((told.what_if.delivered, told.what_if.given_up), (2, 0));
        assert_eq!((told.recorded.calls, told.what_if.calls), (4, 5));
    }

    #[test]
    fn what_only_a_former_callback_was_called_with_stays_open() {
        for status in [410, 503] {
            let calls = vec![call_to_former(1, 1, status)];
            let told = compared(calls, &[], Retry::schedule([10]));
            assert_eq!((told.recorded.open, told.what_if.open), (1, 1));
            assert_eq!(told.what_if.given_up, 0, "{status}");
        }
    }

    #[test]
    fn no_retry_gives_up_what_was_recovered() {
        let calls = vec![call(1, 1, 503), call(1, 11, 204)];
        let told = compared(calls, &[], Retry::none());
        assert_eq!(
            (told.recorded.recovered, told.recorded.recovery_p95_ms),
            (1, 10_000)
        );
        assert_eq!((told.what_if.delivered, told.what_if.given_up), (0, 1));
    }

    #[test]
    fn the_same_policy_makes_the_same_of_what_happened() {
        let calls = vec![
            call(1, 1, 503),
            call(1, 11, 503),
            call(1, 31, 204),
            call(2, 5, 200),
        ];
        let told = compared(calls, &[], Retry::schedule([10, 20]));
        assert_eq!(told.recorded, told.what_if);
    }
}
