//! What follows a finished call.

use std::time::Duration;

use super::{
    SubscriptionState,
    command::{PastDelivery, Rejection},
    decide::{Decision, Tally},
    outcome::{self, Health, Verdict},
    schedule,
};
use crate::model::{
    AttemptFailed, AttemptNumber, AttemptRecord, AttemptReport, AttemptResult, AttemptSucceeded,
    CircuitClosed, ConsumerStatus, DeadLetterReason, DiscardReason, Draws, FailureCause, LogEntry,
    MessageRef, Moment, Policy, RetryAfter, RetryOption, RetryScheduled, SubscriptionEvent,
    SubscriptionFailed, SubscriptionHeld, SubscriptionStatus,
};

/// Which call ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) message: MessageRef,
    pub(super) number: AttemptNumber,
    pub(super) probe: bool,
    pub(super) former_callback: bool,
    pub(super) hold_remaining: Duration,
    pub(super) entry: LogEntry,
}

/// The events of a finished call, in this order: the attempt; what the callback asked for; the
/// circuit; what becomes of the delivery.
pub(super) fn record(
    state: &SubscriptionState,
    call: Call,
    report: AttemptReport,
    policy: &Policy,
    moment: &Moment,
) -> Decision {
    is_next(state, &call)?;
    let Some(mut attempt) = attempt(&call, &report, policy) else {
        return Err(Rejection::NoCallback(state.id));
    };
    let verdict = outcome::verdict(&report.result, &policy.retry);
    if !has_entry(call.entry, verdict) {
        attempt.captured = None;
    }
    if verdict == Verdict::Delivered {
        return Ok(delivered(state, attempt));
    }
    let error = match &report.result {
        AttemptResult::Failed(error) => Some(error.clone()),
        AttemptResult::Responded { .. } => None,
    };
    let failure = Failure {
        state,
        policy,
        call,
        moment,
        health: outcome::health(attempt.status, error.as_ref()),
        hold: outcome::hold(&report.result).filter(|_| !call.former_callback),
        past: PastDelivery {
            attempts: call.number.get(),
            status: attempt.status,
            error: error.clone(),
        },
    };
    let mut events = vec![AttemptFailed { attempt, error }.into()];
    failure.follow(verdict, &mut events);
    Ok(events)
}

/// Refuses an outcome of a delivery that ended, and one that is not of its next call.
fn is_next(state: &SubscriptionState, call: &Call) -> Result<(), Rejection> {
    let message = call.message;
    let expected = match state.open.get(&message.version) {
        Some(open) => open.next_attempt(),
        None if state.is_seen(message.version) => return Err(Rejection::Ended(message)),
        None => AttemptNumber::FIRST,
    };
    if call.number == expected {
        return Ok(());
    }
    Err(Rejection::Attempt {
        message,
        expected,
        given: call.number,
    })
}

fn attempt(call: &Call, report: &AttemptReport, policy: &Policy) -> Option<AttemptRecord> {
    Some(AttemptRecord {
        message: call.message,
        number: call.number,
        probe: call.probe,
        former_callback: call.former_callback,
        started_at: report.started_at,
        timings: report.timings,
        method: policy.method,
        callback_url: policy.callback_url.as_ref()?.redacted(),
        status: report.result.status(),
        captured: report.captured.clone(),
    })
}

fn has_entry(entry: LogEntry, verdict: Verdict) -> bool {
    match entry {
        LogEntry::Every => true,
        LogEntry::Failures => verdict != Verdict::Delivered,
        LogEntry::None => false,
    }
}

fn delivered(state: &SubscriptionState, attempt: AttemptRecord) -> Vec<SubscriptionEvent> {
    let closes = state.circuit.is_open() && !attempt.former_callback;
    let mut events = vec![AttemptSucceeded { attempt }.into()];
    if closes {
        events.push(CircuitClosed {}.into());
    }
    events
}

/// A call that failed, and what its consequences are drawn from.
struct Failure<'a> {
    state: &'a SubscriptionState,
    policy: &'a Policy,
    call: Call,
    moment: &'a Moment,
    health: Health,
    hold: Option<RetryAfter>,
    past: PastDelivery,
}

impl Failure<'_> {
    fn follow(self, verdict: Verdict, events: &mut Vec<SubscriptionEvent>) {
        let mut draws = self.moment.draws();
        let over = self.state.is_over();
        let mut down = !over && self.state.circuit.is_open();
        if !over && !self.call.former_callback {
            events.extend(self.held());
            events.extend(self.circuit(&mut draws));
            down = match events.last() {
                Some(SubscriptionEvent::CircuitOpened(_)) => true,
                Some(SubscriptionEvent::CircuitClosed(_)) => false,
                _ => down,
            };
        }
        match verdict {
            Verdict::Delivered => {}
            Verdict::Retry if over => {
                events.push(self.tally().discarded(DiscardReason::SubscriptionClosed));
            }
            Verdict::Retry => events.extend(self.retry(down, &mut draws)),
            Verdict::GiveUp(reason) => events.extend(self.give_up(reason)),
            Verdict::Gone => events.extend(self.gone()),
        }
    }

    fn held(&self) -> Option<SubscriptionEvent> {
        let retry_after = self.hold?;
        Some(
            SubscriptionHeld {
                until: self.moment.now.plus(retry_after.duration()),
                retry_after,
                status: self.past.status,
            }
            .into(),
        )
    }

    fn circuit(&self, draws: &mut Draws) -> Option<SubscriptionEvent> {
        let circuit = &self.state.circuit;
        if circuit.is_open() && self.health == Health::Up {
            return Some(CircuitClosed {}.into());
        }
        let opened = circuit.opens(self.health, self.call.probe, self.moment.now, draws)?;
        Some(opened.into())
    }

    /// Another call is planned, or the delivery is given up. While the callback is taken as down
    /// nothing is given up but by its deadline, and a probe leaves the plan as it was. So does one
    /// of a former callback: its circuit, which kept the message, is no more.
    fn retry(&self, down: bool, draws: &mut Draws) -> Option<SubscriptionEvent> {
        let retry = &self.policy.retry;
        if self.call.probe && (down || self.call.former_callback) {
            return None;
        }
        let counted = self.counted();
        let final_failure = retry.retry_option == RetryOption::NoRetry;
        if (final_failure || counted > schedule::retries_allowed(retry)) && !down {
            return self.give_up(DeadLetterReason::AttemptsSpent);
        }
        let delay = self.wait_at_least(schedule::delay(retry, counted, draws));
        let due_at = self.moment.now.plus(delay);
        if self.deadline_passed_by(due_at) {
            return self.give_up(DeadLetterReason::DeadlinePassed);
        }
        Some(
            RetryScheduled {
                message: self.call.message,
                attempt: self.call.number.next(),
                due_at,
                delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            }
            .into(),
        )
    }

    /// Calls counted against the budget, this one included.
    fn counted(&self) -> u32 {
        let open = self.state.open.get(&self.call.message.version);
        open.map_or(0, |open| open.counted) + u32::from(!self.call.probe)
    }

    /// No retry is due before the pause that the callback asked for ends.
    fn wait_at_least(&self, delay: Duration) -> Duration {
        let asked = self.hold.map(RetryAfter::duration);
        delay.max(asked.unwrap_or(self.call.hold_remaining))
    }

    fn deadline_passed_by(&self, due_at: crate::model::Timestamp) -> bool {
        let open = self.state.open.get(&self.call.message.version);
        let renewed = open.is_some_and(|open| open.renewed);
        let deadline = schedule::deadline(&self.policy.retry, self.call.message.accepted_at);
        !renewed && deadline.is_some_and(|deadline| due_at > deadline)
    }

    /// A subscription that is interrupted already is not interrupted again: the delivery waits
    /// with the one that interrupted it. One that is over cannot wait.
    fn give_up(&self, reason: DeadLetterReason) -> Option<SubscriptionEvent> {
        let event = self.tally().given_up(reason, self.policy);
        if !matches!(event, SubscriptionEvent::Failed(_)) {
            return Some(event);
        }
        if self.state.status == SubscriptionStatus::Closed {
            return Some(self.tally().discarded(DiscardReason::SubscriptionClosed));
        }
        (self.state.consumer_status == ConsumerStatus::Started).then_some(event)
    }

    /// A former callback that is gone stops nothing: the present one is called with the message.
    fn gone(&self) -> Option<SubscriptionEvent> {
        if self.state.is_over() {
            return Some(self.tally().discarded(DiscardReason::SubscriptionClosed));
        }
        let is_stopped = self.state.consumer_status == ConsumerStatus::Stopped;
        (!self.call.former_callback && !is_stopped).then(|| {
            SubscriptionFailed {
                consumer_status: ConsumerStatus::Stopped,
                cause: FailureCause::Gone,
                message: Some(self.call.message),
            }
            .into()
        })
    }

    fn tally(&self) -> Tally {
        Tally {
            message: self.call.message,
            past: self.past.clone(),
        }
    }
}
