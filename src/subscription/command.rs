//! What may be asked of a subscription, and why it may be refused.

use std::time::Duration;

use crate::model::{
    AttemptError, AttemptNumber, AttemptReport, FailureCause, FilterReason, LogEntry, MessageRef,
    Subscription, SubscriptionId, SubscriptionStatus, Version,
};

/// What may be asked of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Bring it into being. Its first message is the one after `cursor`.
    Create {
        /// Its definition.
        subscription: Box<Subscription>,
        /// Where it starts.
        cursor: Version,
    },
    /// The publisher accepts it.
    Accept,
    /// The publisher refuses it.
    Reject {
        /// Why, for the consumer.
        reason: String,
    },
    /// Replace its definition.
    Update {
        /// The new one.
        subscription: Box<Subscription>,
    },
    /// Let messages wait.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go on after an interruption; what could not be delivered gets a fresh budget.
    ResumeFailure,
    /// Stop it on the consumer's side: messages wait until it is resumed as after an interruption,
    /// whatever the publisher's side does.
    Stop,
    /// Let one that is pending not begin when it is accepted: it is stopped until it is resumed as
    /// after an interruption.
    Withhold,
    /// Interrupt it for a fault of the gateway.
    Fail {
        /// Which.
        cause: FailureCause,
    },
    /// End it. Deliveries that wait for a retry are discarded; those in flight end by their
    /// outcome, and are tried no more.
    Close {
        /// The messages in flight.
        in_flight: Vec<Version>,
    },
    /// Take a message before it is sent, where it must not be sent twice.
    Take {
        /// The message.
        message: MessageRef,
    },
    /// Record a finished call.
    Record {
        /// The message.
        message: MessageRef,
        /// Which call.
        attempt: AttemptNumber,
        /// Whether it probed an open circuit.
        probe: bool,
        /// Whether another callback has taken the place of the one it went to. Then it decides on
        /// its delivery alone: nothing is thought of the present callback for it.
        former_callback: bool,
        /// How long the pause that the callback asked for stands yet, as
        /// [`Flight::hold_remaining`](super::Flight::hold_remaining) tells: the wall clock may have
        /// been set back since.
        hold_remaining: Duration,
        /// What came of it.
        report: Box<AttemptReport>,
        /// Which calls get a log entry; a call that gets none is recorded without its capture.
        entry: LogEntry,
    },
    /// Give up messages whose deadline passed, tried or not. Those whose deadline has not passed
    /// are left alone.
    Expire {
        /// The messages, ascending.
        messages: Vec<MessageRef>,
    },
    /// Give up a message that cannot be sent and never will: it cannot be read any more.
    Unsendable {
        /// The message.
        message: MessageRef,
        /// Why.
        detail: String,
    },
    /// The callback is another one than before, without an update of its own: the entrypoint's
    /// changed. What was thought of the old one is forgotten. Retries stay planned as they are: to
    /// plan each anew takes an event each, of every subscription of the API. Where a crash came
    /// before this was appended, the next start appends it.
    CallbackMoved,
    /// Give up a message that the filter fails on.
    FilterFailed {
        /// The message.
        message: MessageRef,
        /// Why.
        detail: String,
    },
    /// Pass over a run of messages.
    Filtered {
        /// The first.
        first: Version,
        /// The last.
        last: Version,
        /// Why.
        reason: FilterReason,
    },
    /// Make a past delivery again, whatever its fate was, with a fresh budget.
    Redeliver {
        /// The message.
        message: MessageRef,
        /// What is known of the past delivery; its attempts count on.
        past: PastDelivery,
    },
    /// Drop a dead letter or a delivery that waits.
    Discard {
        /// The message.
        message: MessageRef,
        /// What is known of a dead letter. What the state knows of an open delivery wins.
        past: PastDelivery,
        /// Whether a call is in flight; then it is refused.
        in_flight: bool,
    },
    /// A dead letter reached the place it is forwarded to.
    Forwarded {
        /// The message.
        message: MessageRef,
    },
    /// A dead letter did not reach the place it is forwarded to; it is tried again.
    ForwardFailed {
        /// The message.
        message: MessageRef,
        /// Why.
        reason: String,
    },
    /// After recovery, before the first call: settle deliveries whose call was lost with a crash
    /// and must not be made again.
    RecoverInterrupted,
}

/// What is known, from a view, of a delivery that has its fate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PastDelivery {
    /// Calls made.
    pub attempts: u32,
    /// The last status, 0 when there was no response or no call.
    pub status: u16,
    /// The last error.
    pub error: Option<AttemptError>,
}

/// Why a subscription refuses a command: which state forbids it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It was never created.
    #[error("there is no subscription {0}; create it first")]
    NotCreated(SubscriptionId),
    /// It was created before.
    #[error("subscription {0} exists already; update it, or create one with another id")]
    Exists(SubscriptionId),
    /// The definition is another subscription's.
    #[error("the definition is of subscription {given}, this is {expected}; send its own")]
    Foreign {
        /// The one asked.
        expected: SubscriptionId,
        /// The one in the definition.
        given: SubscriptionId,
    },
    /// A field that never changes would change.
    #[error("{field} of subscription {id} cannot change; create a new subscription")]
    Fixed {
        /// The subscription.
        id: SubscriptionId,
        /// The field, as it is written in JSON.
        field: &'static str,
    },
    /// Its status forbids it.
    #[error("subscription {id} is {}; {advice}", status_name(*status))]
    Status {
        /// The subscription.
        id: SubscriptionId,
        /// Its status.
        status: SubscriptionStatus,
        /// What to do.
        advice: &'static str,
    },
    /// Nothing interrupted it.
    #[error("subscription {0} is not interrupted; there is nothing to resume")]
    NotInterrupted(SubscriptionId),
    /// It is interrupted already.
    #[error("subscription {0} is interrupted already; resume it first")]
    Interrupted(SubscriptionId),
    /// The delivery is being made.
    #[error("the delivery of message {} is pending already; wait for its end", .0.id)]
    Pending(MessageRef),
    /// The message's turn has not come.
    #[error("message {} has not been delivered yet; it will be, in its turn", .0.id)]
    NotYet(MessageRef),
    /// The delivery has its fate.
    #[error("the delivery of message {} has ended; redeliver it to send it again", .0.id)]
    Ended(MessageRef),
    /// A call is in flight.
    #[error("message {} is being sent; wait for the end of the call", .0.id)]
    InFlight(MessageRef),
    /// The call is not the next one of its delivery.
    #[error("attempt {given} of message {} is not its next, which is {expected}", message.id)]
    Attempt {
        /// The message.
        message: MessageRef,
        /// Its next call.
        expected: AttemptNumber,
        /// The one reported.
        given: AttemptNumber,
    },
    /// Some messages of the run were dealt with.
    #[error("messages {first} to {last} hold some that were dealt with; read after the cursor")]
    Overlap {
        /// The first of the run.
        first: Version,
        /// The last of the run.
        last: Version,
    },
    /// No callback URL, so there was no call.
    #[error("subscription {0} has no callback URL; set one on it or on the entrypoint")]
    NoCallback(SubscriptionId),
    /// The dead letter is not on its way.
    #[error("message {} is no dead letter that waits to be forwarded", .0.id)]
    NotForwarding(MessageRef),
}

const fn status_name(status: SubscriptionStatus) -> &'static str {
    match status {
        SubscriptionStatus::Pending => "PENDING",
        SubscriptionStatus::Accepted => "ACCEPTED",
        SubscriptionStatus::Paused => "PAUSED",
        SubscriptionStatus::Closed => "CLOSED",
        SubscriptionStatus::Rejected => "REJECTED",
    }
}
