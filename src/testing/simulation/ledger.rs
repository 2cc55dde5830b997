//! What the outside saw: what was acknowledged to publishers, and what reached callbacks.

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;
use crate::model::{AttemptNumber, MessageId, Position, SubscriptionId};

/// One try of one delivery.
pub(super) type Try = (SubscriptionId, MessageId, AttemptNumber);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Messages that were acknowledged, with their positions.
    acknowledged: BTreeMap<Position, MessageId>,
    /// How often each try reached its callback.
    received: BTreeMap<Try, u64>,
    /// The last call with each message that was begun.
    begun: BTreeMap<(SubscriptionId, MessageId), AttemptNumber>,
    /// Calls that have begun and whose outcome is not durable.
    open: BTreeSet<Try>,
    /// Calls that a crash cut off: so many may be made again.
    cut_off: u64,
    pub(super) calls: u64,
    pub(super) crashes: u64,
}

impl Ledger {
    pub(super) fn acknowledged(&mut self, position: Position, id: MessageId) -> Result<(), Broken> {
        match self.acknowledged.insert(position, id) {
            Some(other) => Err(format!(
                "G1: position {position} was given to {other} and to {id}"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = (Position, MessageId)> {
        self.acknowledged
            .iter()
            .map(|(position, id)| (*position, *id))
    }

    pub(super) fn begun(&mut self, call: Try, received: bool) {
        self.open.insert(call);
        let last = self.begun.entry((call.0, call.1)).or_insert(call.2);
        *last = (*last).max(call.2);
        if received {
            self.calls += 1;
            *self.received.entry(call).or_default() += 1;
        }
    }

    /// The outcome of a call is durable.
    pub(super) fn recorded(&mut self, call: &Try) {
        self.open.remove(call);
    }

    /// A driver is gone with what it had under way.
    pub(super) fn cut_off(
        &mut self,
        subscription: SubscriptionId,
        at_most: usize,
    ) -> Result<(), Broken> {
        let before = self.open.len();
        self.open.retain(|(of, _, _)| *of != subscription);
        let cut = before - self.open.len();
        self.cut_off += cut as u64;
        if cut > at_most {
            return Err(format!(
                "G9: {cut} calls of {subscription} had no durable outcome, at most {at_most} may"
            ));
        }
        Ok(())
    }

    /// Calls that reached their callback more than once, each as often as that.
    pub(super) fn repeated(&self) -> u64 {
        self.received.values().map(|times| times - 1).sum()
    }

    /// The number of the last call with this message that was begun.
    pub(super) fn attempts(&self, subscription: SubscriptionId, message: MessageId) -> u32 {
        let tries = self.begun.get(&(subscription, message));
        tries.map_or(0, |last| last.get())
    }

    pub(super) fn check(&self, at_most_once: bool) -> Result<(), Broken> {
        let repeated = self.repeated();
        let allowed = if at_most_once { 0 } else { self.cut_off };
        if repeated > allowed {
            return Err(format!(
                "G9: {repeated} calls were made twice, at most {allowed} may be"
            ));
        }
        Ok(())
    }
}
