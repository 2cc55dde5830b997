//! How many calls may be under way at a time, over all subscriptions: each takes a connection, and
//! with it memory and a file.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::subscription::circuit::Circuit;

/// Most calls under way at a time, unless it is set.
pub const CALLS_MAX: usize = 2_048;
/// A callback that has failed so often in a row may be down or hang: its calls have slots of their
/// own, so that they keep nobody from theirs.
const DOUBTFUL_FAILURES: u32 = 3;
/// The share of all slots that such calls have.
const DOUBTFUL_SHARE: usize = 8;
/// A callback that took so long for its last call, whatever it answered, may take as long again:
/// however many there are, half of the other slots are not for them.
const SLOW: Duration = Duration::from_secs(1);

/// What is to be expected of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It answers soon.
    Quick,
    /// It answers, and takes its time; or it has more calls than it has yet shown to answer.
    Slow,
    /// It may well not answer.
    Doubtful,
}

impl Expected {
    /// Of a callback with this circuit whose last call took so long, for one of these calls.
    pub(super) fn of(circuit: &Circuit, last_took: Duration, reach: Reach) -> Self {
        if circuit.is_open() || circuit.failures() >= DOUBTFUL_FAILURES {
            Self::Doubtful
        } else if last_took >= SLOW || reach == Reach::Beyond {
            Self::Slow
        } else {
            Self::Quick
        }
    }
}

/// Whether a callback has shown to answer while it has as many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has, or this is its only one.
    Within,
    /// It has not. Should it hang from now on, it would hold a slot more than it ever did.
    Beyond,
}

/// The calls of one subscription that are under way, or wait for their slots, and how many there
/// were when one was last over. A callback that begins to hang answers no more, so what it may hold
/// of the slots of quick ones is what it held before.
#[derive(Debug, Default)]
pub(super) struct Calls {
    under_way: usize,
    shown: usize,
}

impl Calls {
    /// One more begins.
    pub(super) fn begin(&mut self) -> Reach {
        let is_within = self.under_way < self.shown.max(1);
        self.under_way += 1;
        if is_within {
            Reach::Within
        } else {
            Reach::Beyond
        }
    }

    /// One of them is over.
    pub(super) const fn end(&mut self) {
        self.shown = self.under_way;
        self.under_way = self.under_way.saturating_sub(1);
    }
}

/// Slots for calls, given in the order in which they were asked for.
pub(super) struct Slots {
    sound: Semaphore,
    /// Which of the sound ones slow calls may have; quick ones have one too, as long as there are
    /// any. A quick call may turn out to be slow, and is counted by then.
    slow: Semaphore,
    doubtful: Semaphore,
}

/// A slot, until it is dropped.
pub(super) struct Slot<'a> {
    _of_slow: Option<SemaphorePermit<'a>>,
    _slot: SemaphorePermit<'a>,
}

impl Slots {
    pub(super) fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.min(Semaphore::MAX_PERMITS);
        let doubtful = (calls_max / DOUBTFUL_SHARE).max(1);
        let sound = calls_max.saturating_sub(doubtful).max(1);
        Self {
            sound: Semaphore::new(sound),
            slow: Semaphore::new((sound / 2).max(1)),
            doubtful: Semaphore::new(doubtful),
        }
    }

    /// Waits for a slot to call a callback of which this is expected.
    pub(super) async fn take(&self, expected: Expected) -> Option<Slot<'_>> {
        // They are never closed.
        let (of_slow, slot) = match expected {
            Expected::Quick => {
                let slot = self.sound.acquire().await.ok()?;
                (self.slow.try_acquire().ok(), slot)
            }
            Expected::Slow => {
                let of_slow = self.slow.acquire().await.ok()?;
                (Some(of_slow), self.sound.acquire().await.ok()?)
            }
            Expected::Doubtful => (None, self.doubtful.acquire().await.ok()?),
        };
        Some(Slot {
            _of_slow: of_slow,
            _slot: slot,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// All the slots that there are now for such calls.
    fn all(slots: &Slots, expected: Expected) -> Vec<Option<Slot<'_>>> {
        std::iter::from_fn(|| slots.take(expected).now_or_never()).collect()
    }

    #[test]
    fn doubtful_calls_take_no_slot_of_the_others() {
        let slots = Slots::new(16);
        let doubtful = all(&slots, Expected::Doubtful);
        assert_eq!(doubtful.len(), 2);
        let quick = all(&slots, Expected::Quick);
        assert_eq!(quick.len(), 14);
        drop(doubtful);
        assert!(slots.take(Expected::Doubtful).now_or_never().is_some());
        assert!(slots.take(Expected::Quick).now_or_never().is_none());
    }

    #[test]
    fn g12_slow_calls_leave_half_of_the_slots_to_quick_ones() {
        let slots = Slots::new(16);
        let slow = all(&slots, Expected::Slow);
        assert_eq!(slow.len(), 7);
        assert_eq!(all(&slots, Expected::Quick).len(), 7);
        drop(slow);
        assert_eq!(all(&slots, Expected::Quick).len(), 14);
        assert_eq!(all(&slots, Expected::Slow).len(), 7);
    }

    #[test]
    fn one_slot_of_each_kind_is_the_least_and_no_number_is_too_large() {
        for calls_max in [0, usize::MAX] {
            for expected in [Expected::Quick, Expected::Slow, Expected::Doubtful] {
                let slots = Slots::new(calls_max);
                assert!(slots.take(expected).now_or_never().is_some());
            }
        }
    }

    #[test]
    fn three_failures_in_a_row_are_doubtful_and_a_long_call_is_slow() {
        let of = |failures, last_ms| {
            let circuit = Circuit::Closed { failures };
            Expected::of(&circuit, Duration::from_millis(last_ms), Reach::Within)
        };
        assert_eq!(of(2, 999), Expected::Quick);
        assert_eq!(of(2, 1_000), Expected::Slow);
        assert_eq!(of(3, 1), Expected::Doubtful);
    }
}
