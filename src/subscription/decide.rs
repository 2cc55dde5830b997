//! What follows a command: the rules.

use super::{
    SubscriptionState,
    circuit::Circuit,
    command::{Command, PastDelivery, Rejection},
    record::{Call, record},
    schedule,
};
use crate::model::{
    AttemptError, AttemptNumber, CircuitClosed, ConsumerStatus, DeadLetterForwardFailed,
    DeadLetterForwarded, DeadLetterQueue, DeadLetterReason, DeliveryDeadLettered,
    DeliveryDiscarded, DeliveryFiltered, DeliveryRedelivered, DeliveryTaken, DiscardReason,
    ErrorClass, FailureCause, Fault, FilterReason, MessageRef, Moment, OnFailure, Policy,
    RetryAfter, Subscription, SubscriptionAccepted, SubscriptionClosed, SubscriptionCreated,
    SubscriptionEvent, SubscriptionFailed, SubscriptionHeld, SubscriptionPaused,
    SubscriptionRecovered, SubscriptionRejected, SubscriptionResumed, SubscriptionStatus,
    SubscriptionUpdated, Version,
};
use std::time::Duration;

/// First pause before a dead letter is forwarded again.
pub const FORWARD_PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest pause before a dead letter is forwarded again, jitter apart. It is tried without end.
pub const FORWARD_PAUSE_MAX: Duration = Duration::from_hours(1);
/// The share by which that pause is lengthened or shortened.
pub const FORWARD_JITTER_PERCENT: u8 = 20;

pub(super) type Decision = Result<Vec<SubscriptionEvent>, Rejection>;

/// What follows this command on this state: the events to append, all or none. An empty list
/// means that there is nothing to do.
///
/// `policy` is the one that the call began with for [`Command::Record`], else the present one.
pub fn decide(
    state: &SubscriptionState,
    command: Command,
    policy: &Policy,
    moment: &Moment,
) -> Decision {
    if let Command::Create {
        subscription,
        cursor,
    } = command
    {
        return create(state, subscription, cursor);
    }
    let Some(current) = state.subscription.as_deref() else {
        return Err(Rejection::NotCreated(state.id));
    };
    match command {
        Command::Create { .. } => Err(Rejection::Exists(state.id)),
        Command::Accept => accept(state),
        Command::Reject { reason } => reject(state, reason),
        Command::Update { subscription } => update(state, current, subscription),
        Command::Pause => pause(state),
        Command::Resume => resume(state),
        Command::ResumeFailure => resume_failure(state),
        Command::Stop => stop(state),
        Command::Withhold => withhold(state),
        Command::Fail { cause } => fail(state, cause),
        Command::Close { in_flight } => close(state, &in_flight),
        Command::Take { message } => take(state, message),
        Command::Record {
            message,
            attempt,
            probe,
            former_callback,
            hold_remaining,
            report,
            entry,
        } => {
            let call = Call {
                message,
                number: attempt,
                probe,
                former_callback,
                hold_remaining,
                entry,
            };
            record(state, call, *report, policy, moment)
        }
        Command::Expire { messages } => Ok(expire(state, &messages, policy, moment)),
        Command::Unsendable { message, detail } => unsendable(state, message, detail, policy),
        Command::FilterFailed { message, detail } => filter_failed(state, message, detail, policy),
        Command::CallbackMoved => Ok(callback_moved(state, moment)),
        Command::Filtered {
            first,
            last,
            reason,
        } => filtered(state, first, last, reason),
        Command::Redeliver { message, past } => redeliver(state, message, &past),
        Command::Discard {
            message,
            past,
            in_flight,
        } => discard(state, message, past, in_flight),
        Command::Forwarded { message } => forwarded(state, message),
        Command::ForwardFailed { message, reason } => {
            forward_failed(state, message, reason, moment)
        }
        Command::RecoverInterrupted => Ok(recover_interrupted(state)),
    }
}

fn create(state: &SubscriptionState, subscription: Box<Subscription>, cursor: Version) -> Decision {
    if state.subscription.is_some() {
        return Err(Rejection::Exists(state.id));
    }
    own(state, &subscription)?;
    Ok(vec![
        SubscriptionCreated {
            subscription,
            cursor,
        }
        .into(),
    ])
}

fn own(state: &SubscriptionState, subscription: &Subscription) -> Result<(), Rejection> {
    if subscription.id == state.id {
        return Ok(());
    }
    Err(Rejection::Foreign {
        expected: state.id,
        given: subscription.id,
    })
}

/// That the status is this one; the advice says what to do when it is not.
fn expect_status(
    state: &SubscriptionState,
    wanted: SubscriptionStatus,
    advice: &'static str,
) -> Result<(), Rejection> {
    not_over(state)?;
    if state.status == wanted {
        return Ok(());
    }
    Err(Rejection::Status {
        id: state.id,
        status: state.status,
        advice,
    })
}

const fn not_over(state: &SubscriptionState) -> Result<(), Rejection> {
    if !state.is_over() {
        return Ok(());
    }
    Err(Rejection::Status {
        id: state.id,
        status: state.status,
        advice: "create a new one",
    })
}

fn accept(state: &SubscriptionState) -> Decision {
    let advice = "only a PENDING one can be accepted";
    expect_status(state, SubscriptionStatus::Pending, advice)?;
    Ok(vec![SubscriptionAccepted {}.into()])
}

fn reject(state: &SubscriptionState, reason: String) -> Decision {
    let advice = "only a PENDING one can be rejected; close it instead";
    expect_status(state, SubscriptionStatus::Pending, advice)?;
    Ok(vec![SubscriptionRejected { reason }.into()])
}

fn update(
    state: &SubscriptionState,
    current: &Subscription,
    subscription: Box<Subscription>,
) -> Decision {
    not_over(state)?;
    own(state, &subscription)?;
    let fixed = [
        ("api", subscription.api == current.api),
        (
            "application",
            subscription.application == current.application,
        ),
        ("startFrom", subscription.start_from == current.start_from),
    ];
    if let Some((field, _)) = fixed.into_iter().find(|(_, same)| !same) {
        return Err(Rejection::Fixed {
            id: state.id,
            field,
        });
    }
    let reopens = state.circuit.is_open() && subscription.calls_elsewhere_than(current);
    let mut events = vec![SubscriptionUpdated { subscription }.into()];
    if reopens {
        events.push(CircuitClosed {}.into());
    }
    Ok(events)
}

fn pause(state: &SubscriptionState) -> Decision {
    let advice = "only an ACCEPTED one can be paused";
    expect_status(state, SubscriptionStatus::Accepted, advice)?;
    Ok(vec![SubscriptionPaused {}.into()])
}

fn resume(state: &SubscriptionState) -> Decision {
    let advice = "only a PAUSED one can be resumed";
    expect_status(state, SubscriptionStatus::Paused, advice)?;
    Ok(vec![SubscriptionResumed {}.into()])
}

fn resume_failure(state: &SubscriptionState) -> Decision {
    not_over(state)?;
    if state.consumer_status == ConsumerStatus::Started {
        return Err(Rejection::NotInterrupted(state.id));
    }
    let mut events = vec![SubscriptionRecovered {}.into()];
    if state.circuit.is_open() {
        events.push(CircuitClosed {}.into());
    }
    Ok(events)
}

fn stop(state: &SubscriptionState) -> Decision {
    if state.status == SubscriptionStatus::Pending {
        let advice = "only one that was ACCEPTED can be stopped";
        expect_status(state, SubscriptionStatus::Accepted, advice)?;
    }
    stop_now(state)
}

fn withhold(state: &SubscriptionState) -> Decision {
    let advice = "only a PENDING one can be withheld; pause it instead";
    expect_status(state, SubscriptionStatus::Pending, advice)?;
    stop_now(state)
}

fn stop_now(state: &SubscriptionState) -> Decision {
    interrupt(
        state,
        ConsumerStatus::Stopped,
        FailureCause::StoppedByConsumer,
    )
}

fn fail(state: &SubscriptionState, cause: FailureCause) -> Decision {
    interrupt(state, ConsumerStatus::Failure, cause)
}

fn interrupt(
    state: &SubscriptionState,
    consumer_status: ConsumerStatus,
    cause: FailureCause,
) -> Decision {
    not_over(state)?;
    if state.consumer_status != ConsumerStatus::Started {
        return Err(Rejection::Interrupted(state.id));
    }
    Ok(vec![
        SubscriptionFailed {
            consumer_status,
            cause,
            message: None,
        }
        .into(),
    ])
}

fn close(state: &SubscriptionState, in_flight: &[Version]) -> Decision {
    not_over(state)?;
    let waiting = state.open.iter().filter(|(v, _)| !in_flight.contains(v));
    let mut events: Vec<_> = waiting
        .map(|(_, open)| {
            Tally::of(state, open.message).discarded(DiscardReason::SubscriptionClosed)
        })
        .collect();
    events.push(SubscriptionClosed {}.into());
    Ok(events)
}

fn take(state: &SubscriptionState, message: MessageRef) -> Decision {
    not_over(state)?;
    let attempt = match state.open.get(&message.version) {
        Some(open) if open.taken => return Err(Rejection::Pending(message)),
        Some(open) => open.next_attempt(),
        None if state.is_seen(message.version) => return Err(Rejection::Ended(message)),
        None => AttemptNumber::FIRST,
    };
    Ok(vec![DeliveryTaken { message, attempt }.into()])
}

fn filtered(
    state: &SubscriptionState,
    first: Version,
    last: Version,
    reason: FilterReason,
) -> Decision {
    if last < first || first <= state.cursor || state.beyond.intersects(first, last) {
        return Err(Rejection::Overlap { first, last });
    }
    Ok(vec![
        DeliveryFiltered {
            first,
            last,
            reason,
        }
        .into(),
    ])
}

/// Gives up a message that cannot be sent: trying again would change nothing.
fn unsendable(
    state: &SubscriptionState,
    message: MessageRef,
    detail: String,
    policy: &Policy,
) -> Decision {
    if !state.open.contains_key(&message.version) && state.is_seen(message.version) {
        return Err(Rejection::Ended(message));
    }
    let mut tally = Tally::of(state, message);
    tally.past.error = Some(AttemptError::new(ErrorClass::Internal, detail));
    if state.is_over() {
        return Ok(vec![tally.discarded(DiscardReason::SubscriptionClosed)]);
    }
    let event = tally.given_up(DeadLetterReason::Unsendable, policy);
    let interrupts = matches!(event, SubscriptionEvent::Failed(_));
    // The delivery that interrupted it waits already; this one waits with it.
    if interrupts && state.consumer_status != ConsumerStatus::Started {
        let taken = state.open.get(&message.version);
        if !taken.is_some_and(|open| open.taken) {
            return Ok(Vec::new());
        }
        // One that was taken is not called with again.
        let tally = Tally::of(state, message);
        return Ok(vec![tally.discarded(DiscardReason::Interrupted)]);
    }
    Ok(vec![event])
}

/// Gives up a message that the filter fails on: it would fail again. Where that interrupts, the
/// message is not opened, so that it is judged anew when the subscription is resumed.
fn filter_failed(
    state: &SubscriptionState,
    message: MessageRef,
    detail: String,
    policy: &Policy,
) -> Decision {
    if state.is_seen(message.version) {
        return Err(Rejection::Ended(message));
    }
    if !state.is_running() {
        return Ok(Vec::new());
    }
    let mut tally = Tally::of(state, message);
    tally.past.error = Some(AttemptError::new(ErrorClass::Filter, detail));
    let mut event = tally.given_up(DeadLetterReason::FilterFailed, policy);
    if let SubscriptionEvent::Failed(failed) = &mut event {
        failed.message = None;
    }
    Ok(vec![event])
}

fn callback_moved(state: &SubscriptionState, moment: &Moment) -> Vec<SubscriptionEvent> {
    let mut events = Vec::new();
    // A closed one that counts failures would open early for the other callback.
    if state.circuit != Circuit::default() {
        events.push(CircuitClosed {}.into());
    }
    if state.hold.is_some() {
        let ended = SubscriptionHeld {
            until: moment.now,
            retry_after: RetryAfter::from_seconds(0),
            status: 0,
        };
        events.push(ended.into());
    }
    events
}

fn expire(
    state: &SubscriptionState,
    messages: &[MessageRef],
    policy: &Policy,
    moment: &Moment,
) -> Vec<SubscriptionEvent> {
    if state.is_over() {
        // Those that are left were in flight when it was closed, and then were not made.
        let left = messages
            .iter()
            .filter(|m| state.open.contains_key(&m.version));
        return left
            .map(|message| Tally::of(state, *message).discarded(DiscardReason::SubscriptionClosed))
            .collect();
    }
    let mut events = Vec::new();
    if !state.is_running() {
        return events;
    }
    let passed = messages.iter().filter(|message| {
        let deadline = schedule::deadline(&policy.retry, message.accepted_at);
        let counts = match state.open.get(&message.version) {
            Some(open) => !open.renewed && !open.taken,
            None => !state.is_seen(message.version),
        };
        counts && deadline.is_some_and(|deadline| deadline <= moment.now)
    });
    for message in passed {
        let tally = Tally::of(state, *message);
        let event = tally.given_up(DeadLetterReason::DeadlinePassed, policy);
        let interrupts = matches!(event, SubscriptionEvent::Failed(_));
        events.push(event);
        if interrupts {
            break;
        }
    }
    events
}

fn redeliver(state: &SubscriptionState, message: MessageRef, past: &PastDelivery) -> Decision {
    not_over(state)?;
    if state.open.contains_key(&message.version) {
        return Err(Rejection::Pending(message));
    }
    if !state.is_seen(message.version) {
        return Err(Rejection::NotYet(message));
    }
    let attempt = AttemptNumber::new(past.attempts.saturating_add(1));
    Ok(vec![DeliveryRedelivered { message, attempt }.into()])
}

fn discard(
    state: &SubscriptionState,
    message: MessageRef,
    past: PastDelivery,
    in_flight: bool,
) -> Decision {
    if in_flight {
        return Err(Rejection::InFlight(message));
    }
    if !state.is_seen(message.version) {
        return Err(Rejection::NotYet(message));
    }
    let tally = match state.open.get(&message.version) {
        Some(_) => Tally::of(state, message),
        None => Tally { message, past },
    };
    Ok(vec![tally.discarded(DiscardReason::Operator)])
}

fn forwarded(state: &SubscriptionState, message: MessageRef) -> Decision {
    if !state.forwards.contains_key(&message.version) {
        return Err(Rejection::NotForwarding(message));
    }
    Ok(vec![DeadLetterForwarded { message }.into()])
}

fn forward_failed(
    state: &SubscriptionState,
    message: MessageRef,
    reason: String,
    moment: &Moment,
) -> Decision {
    let Some(forward) = state.forwards.get(&message.version) else {
        return Err(Rejection::NotForwarding(message));
    };
    let pause = forward_pause(forward.attempts);
    let pause = schedule::jittered(pause, FORWARD_JITTER_PERCENT, &mut moment.draws());
    Ok(vec![
        DeadLetterForwardFailed {
            message,
            reason,
            attempts: forward.attempts.saturating_add(1),
            due_at: Some(moment.now.plus(pause)),
        }
        .into(),
    ])
}

/// The pause before a dead letter is forwarded again that was tried so often before, jitter apart.
pub(super) fn forward_pause(attempts_before: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempts_before).unwrap_or(u32::MAX);
    let pause = FORWARD_PAUSE_FIRST.saturating_mul(factor);
    pause.min(FORWARD_PAUSE_MAX)
}

/// Under at-most-once a taken message is not sent again. Of a subscription that is over, nothing
/// is sent again.
fn recover_interrupted(state: &SubscriptionState) -> Vec<SubscriptionEvent> {
    let lost = state
        .open
        .values()
        .filter(|open| open.taken || state.is_over());
    lost.map(|open| {
        let reason = if open.taken {
            DiscardReason::Interrupted
        } else {
            DiscardReason::SubscriptionClosed
        };
        Tally::of(state, open.message).discarded(reason)
    })
    .collect()
}

/// What a delivery has come to, for the event that ends it.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) message: MessageRef,
    pub(super) past: PastDelivery,
}

impl Tally {
    /// What the state knows of this delivery.
    pub(super) fn of(state: &SubscriptionState, message: MessageRef) -> Self {
        let open = state.open.get(&message.version);
        let past = open.map_or_else(PastDelivery::default, |open| PastDelivery {
            attempts: open.attempts,
            status: open.status,
            error: open.error.clone(),
        });
        Self { message, past }
    }

    /// The delivery ends without being kept.
    pub(super) fn discarded(self, reason: DiscardReason) -> SubscriptionEvent {
        DeliveryDiscarded {
            message: self.message,
            reason,
            attempts: self.past.attempts,
            status: self.past.status,
            error: self.past.error,
        }
        .into()
    }

    /// The delivery is given up: kept, interrupting, or discarded, as the policy says.
    pub(super) fn given_up(self, reason: DeadLetterReason, policy: &Policy) -> SubscriptionEvent {
        match (&policy.dlq, policy.on_failure) {
            (DeadLetterQueue::None, OnFailure::Discard) => self.discarded(DiscardReason::OnFailure),
            (DeadLetterQueue::None, OnFailure::Interrupt) => self.interrupts(reason),
            (target, _) => self.dead_lettered(reason, target.clone()),
        }
    }

    fn interrupts(self, reason: DeadLetterReason) -> SubscriptionEvent {
        SubscriptionFailed {
            consumer_status: ConsumerStatus::Failure,
            cause: FailureCause::GivenUp {
                reason,
                attempts: self.past.attempts,
                status: self.past.status,
                error: self.past.error,
            },
            message: Some(self.message),
        }
        .into()
    }

    fn dead_lettered(self, reason: DeadLetterReason, target: DeadLetterQueue) -> SubscriptionEvent {
        DeliveryDeadLettered {
            message: self.message,
            reason,
            fault: self.fault(),
            attempts: self.past.attempts,
            status: self.past.status,
            error: self.past.error,
            target,
        }
        .into()
    }

    fn fault(&self) -> Fault {
        let error = self.past.error.as_ref();
        error.map_or(Fault::Receiver, AttemptError::fault)
    }
}
