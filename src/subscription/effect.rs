//! What follows an event outside the core, once, while it is live.

use super::SubscriptionState;
use crate::model::{FailureCause, SubscriptionEvent};

/// What follows an event outside the core.
///
/// Calls, retries and forwarded dead letters are none: they must come back after a crash, so
/// [`Flight`](super::Flight) plans them from the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It is over: nothing will be sent any more, once calls in flight have ended.
    Stopped,
    /// It was interrupted and waits for a person.
    Interrupted {
        /// Why.
        cause: FailureCause,
    },
}

/// What follows this event, on the state it was applied to. Never run on replay (G7).
pub fn effects(state: &SubscriptionState, event: &SubscriptionEvent) -> Vec<Effect> {
    match event {
        SubscriptionEvent::Closed(_) | SubscriptionEvent::Rejected(_) if state.is_over() => {
            vec![Effect::Stopped]
        }
        SubscriptionEvent::Failed(failed) => vec![Effect::Interrupted {
            cause: failed.cause.clone(),
        }],
        _ => Vec::new(),
    }
}
