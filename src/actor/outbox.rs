//! What an actor has decided and not yet seen durable, in order.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::registry::ExecuteError;
use crate::{
    activity::Busy,
    log::Urgency,
    model::{Position, SubscriptionEvent},
};

/// Who waits for a decision to be durable.
pub(super) type Reply = oneshot::Sender<Result<Position, ExecuteError>>;

/// One decision.
pub(super) struct Decision {
    /// What was decided.
    pub(super) events: Vec<SubscriptionEvent>,
    /// How many of them are outcomes of calls.
    pub(super) outcomes: usize,
    /// Whether somebody waits.
    pub(super) urgency: Urgency,
    /// Who.
    pub(super) reply: Option<Reply>,
    /// Work under way until it is durable.
    #[expect(dead_code, reason = "it ends with the decision")]
    pub(super) busy: Busy,
}

/// Decisions on their way to the log: at most one append is under way, and everything decided
/// meanwhile goes into the next. So an append's price is shared by itself when there is much.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Decision>,
    under_way: Vec<Decision>,
}

impl Outbox {
    /// Adds a decision behind the others.
    pub(super) fn push(&mut self, decision: Decision) {
        self.waiting.push_back(decision);
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// The events of the next append; `None` while one is under way or nothing waits. They stay
    /// here until [`durable`](Self::durable) or [`fail`](Self::fail).
    pub(super) fn begin(&mut self) -> Option<(Vec<SubscriptionEvent>, Urgency)> {
        if !self.under_way.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.under_way = self.waiting.drain(..).collect();
        let urgent = self
            .under_way
            .iter()
            .any(|decision| decision.urgency == Urgency::Now);
        let events = self
            .under_way
            .iter()
            .flat_map(|decision| decision.events.iter().cloned())
            .collect();
        Some((
            events,
            if urgent {
                Urgency::Now
            } else {
                Urgency::Linger
            },
        ))
    }

    /// The append under way is durable up to `last`: answers who waited. Gives the number of
    /// outcomes that became durable, and of events.
    pub(super) fn durable(&mut self, last: Position) -> (usize, usize) {
        let (mut outcomes, mut events) = (0, 0);
        for decision in self.under_way.drain(..) {
            outcomes += decision.outcomes;
            events += decision.events.len();
            if let Some(reply) = decision.reply {
                // Who asked may have stopped waiting.
                let _ = reply.send(Ok(last));
            }
        }
        (outcomes, events)
    }

    /// The append under way failed: everybody learns why, also those behind it.
    pub(super) fn fail(&mut self, error: &ExecuteError) {
        for decision in self.under_way.drain(..).chain(self.waiting.drain(..)) {
            if let Some(reply) = decision.reply {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
