//! What was decided and is not yet durable, in order.

use std::collections::VecDeque;

use crate::model::SubscriptionEvent;

/// Most events of one append; a single decision may have more. A tenth of what the log takes.
const APPEND_EVENTS_MAX: usize = 1_000;
/// Most bytes of one append, counted roughly; a single decision may have more. Far below what the
/// log takes.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// From so many events on nothing new is planned until some are durable.
const WAITING_EVENTS_MAX: usize = 1_000;
/// What an event weighs without captured bodies, roughly.
const EVENT_BYTES: usize = 400;

/// One decision.
#[derive(Debug)]
pub(super) struct Decision<R> {
    /// What was decided; nothing when the log holds the answer already.
    pub(super) events: Vec<SubscriptionEvent>,
    /// How many of them are outcomes of calls.
    pub(super) outcomes: usize,
    /// Whether somebody waits.
    pub(super) urgent: bool,
    /// Who.
    pub(super) reply: Option<R>,
}

/// Decisions on their way to the log: at most one append is under way, and what is decided
/// meanwhile goes into the next. So an append's price is shared by itself when there is much.
#[derive(Debug)]
pub(super) struct Outbox<R> {
    waiting: VecDeque<Decision<R>>,
    under_way: Vec<Decision<R>>,
}

/// What comes of asking for the next append.
pub(super) enum Next<R> {
    /// One is under way, or there is nothing to do.
    Nothing,
    /// Nothing has to be written: whoever waits for it has the answer.
    Answered(Vec<R>),
    /// These events, and whether somebody waits.
    Append(Vec<SubscriptionEvent>, bool),
}

impl<R> Outbox<R> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: Vec::new(),
        }
    }

    /// Adds a decision behind the others.
    pub(super) fn push(&mut self, decision: Decision<R>) {
        self.waiting.push_back(decision);
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Whether something new may be planned.
    pub(super) fn has_room(&self) -> bool {
        let events: usize = self.waiting.iter().map(|d| d.events.len()).sum();
        events < WAITING_EVENTS_MAX
    }

    /// The next append. Its decisions stay here until [`durable`](Self::durable) or
    /// [`fail`](Self::fail).
    pub(super) fn next(&mut self) -> Next<R> {
        if !self.under_way.is_empty() {
            return Next::Nothing;
        }
        let mut answered = Vec::new();
        while let Some(empty) = self.waiting.pop_front_if(|d| d.events.is_empty()) {
            answered.extend(empty.reply);
        }
        if !answered.is_empty() {
            return Next::Answered(answered);
        }
        let (mut count, mut bytes) = (0, 0);
        let fits = |decision: &Decision<R>| {
            let first = count == 0;
            count += decision.events.len();
            bytes += decision.events.iter().map(weight).sum::<usize>();
            first || (count <= APPEND_EVENTS_MAX && bytes <= APPEND_BYTES_MAX)
        };
        let taken = self
            .waiting
            .iter()
            .map(fits)
            .take_while(|fits| *fits)
            .count();
        if taken == 0 {
            return Next::Nothing;
        }
        self.under_way = self.waiting.drain(..taken).collect();
        let urgent = self.under_way.iter().any(|decision| decision.urgent);
        let events = self.under_way.iter().flat_map(|d| d.events.iter().cloned());
        Next::Append(events.collect(), urgent)
    }

    /// The append under way is durable: its decisions.
    pub(super) fn durable(&mut self) -> Vec<Decision<R>> {
        std::mem::take(&mut self.under_way)
    }

    /// The append under way failed, and what waits behind it is not to be written: whoever waits.
    pub(super) fn fail(&mut self) -> Vec<R> {
        let decisions = self.under_way.drain(..).chain(self.waiting.drain(..));
        decisions.filter_map(|decision| decision.reply).collect()
    }
}

fn weight(event: &SubscriptionEvent) -> usize {
    let captured = event
        .attempt()
        .and_then(|attempt| attempt.captured.as_ref());
    EVENT_BYTES + captured.map_or(0, |captured| captured.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SubscriptionPaused, SubscriptionResumed};

    fn decision(events: usize, reply: u32) -> Decision<u32> {
        Decision {
            events: (0..events).map(|_| SubscriptionPaused {}.into()).collect(),
            outcomes: 0,
            urgent: false,
            reply: Some(reply),
        }
    }

    fn appended(outbox: &mut Outbox<u32>) -> usize {
        match outbox.next() {
            Next::Append(events, _) => events.len(),
            Next::Nothing | Next::Answered(_) => 0,
        }
    }

    #[test]
    fn what_waits_is_shared_out_over_appends_in_order() {
        let mut outbox = Outbox::new();
        for reply in 0..5 {
            outbox.push(decision(400, reply));
        }
        assert!(!outbox.has_room());
        assert_eq!(appended(&mut outbox), 800);
        assert_eq!(appended(&mut outbox), 0);
        assert_eq!(outbox.durable().len(), 2);
        assert_eq!(appended(&mut outbox), 800);
        outbox.durable();
        assert_eq!(appended(&mut outbox), 400);
        outbox.durable();
        assert!(outbox.is_empty());
    }

    #[test]
    fn one_decision_is_never_torn() {
        let mut outbox = Outbox::new();
        outbox.push(decision(3_000, 1));
        outbox.push(decision(1, 2));
        assert_eq!(appended(&mut outbox), 3_000);
    }

    #[test]
    fn what_needs_no_event_is_answered_in_its_turn() {
        let mut outbox = Outbox::new();
        outbox.push(Decision {
            events: vec![SubscriptionResumed {}.into()],
            outcomes: 0,
            urgent: true,
            reply: Some(1),
        });
        outbox.push(decision(0, 2));
        assert!(matches!(outbox.next(), Next::Append(_, true)));
        assert!(matches!(outbox.next(), Next::Nothing));
        let replies: Vec<_> = outbox
            .durable()
            .into_iter()
            .filter_map(|d| d.reply)
            .collect();
        // The empty one went with the append it waited behind, or is answered next.
        match outbox.next() {
            Next::Answered(answered) => assert_eq!((replies, answered), (vec![1], vec![2])),
            _ => assert_eq!(replies, [1, 2]),
        }
    }

    #[test]
    fn a_failed_append_tells_everybody() {
        let mut outbox = Outbox::new();
        outbox.push(decision(1, 1));
        assert_eq!(appended(&mut outbox), 1);
        outbox.push(decision(1, 2));
        assert_eq!(outbox.fail(), [1, 2]);
        assert!(outbox.is_empty());
    }
}
