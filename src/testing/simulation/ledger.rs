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
    /// How often each was cut off before its outcome was durable: so often it may be made again.
    cut_off: BTreeMap<Try, u64>,
    pub(super) calls: u64,
    pub(super) crashes: u64,
    pub(super) ends: u64,
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
        let open = self.open.iter().filter(|(of, _, _)| *of == subscription);
        let cut: Vec<Try> = open.copied().collect();
        for call in &cut {
            self.open.remove(call);
            *self.cut_off.entry(*call).or_default() += 1;
        }
        if cut.len() > at_most {
            return Err(format!(
                "G9: {} calls of {subscription} had no durable outcome, at most {at_most} may",
                cut.len()
            ));
        }
        Ok(())
    }

    /// A driver is gone with nothing under way: what it began is not begun again.
    pub(super) fn ended_in_order(&mut self, subscription: SubscriptionId) {
        self.open.retain(|(of, _, _)| *of != subscription);
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
        for (call, received) in &self.received {
            let repeated = received - 1;
            let cut_off = self.cut_off.get(call).copied().unwrap_or_default();
            let allowed = if at_most_once { 0 } else { cut_off };
            if repeated > allowed {
                let (subscription, message, number) = call;
                return Err(format!(
                    "G9: call {number} of {subscription} with message {message} was made {repeated} times again, at most {allowed} may be"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_call(message: u128) -> Try {
        let message = MessageId::from_uuid(uuid::Uuid::from_u128(message));
        (SubscriptionId::nil(), message, AttemptNumber::FIRST)
    }

    #[test]
    fn a_call_that_a_crash_cut_off_excuses_no_other() {
        let mut ledger = Ledger::default();
        ledger.begun(first_call(1), true);
        ledger.begun(first_call(2), true);
        ledger.recorded(&first_call(2));
        ledger.cut_off(SubscriptionId::nil(), 1).unwrap();
        ledger.begun(first_call(1), true);
        ledger.check(false).unwrap();
        ledger.check(true).unwrap_err();
        ledger.begun(first_call(2), true);
        ledger.check(false).unwrap_err();
    }

    #[test]
    fn an_orderly_end_excuses_no_call() {
        let mut ledger = Ledger::default();
        ledger.begun(first_call(1), true);
        ledger.ended_in_order(SubscriptionId::nil());
        ledger.begun(first_call(1), true);
        ledger.check(false).unwrap_err();
    }
}
