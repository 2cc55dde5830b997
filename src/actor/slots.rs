//! How many calls may be under way at a time, over all subscriptions: each takes a connection, and
//! with it memory and a file.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::subscription::circuit::Circuit;

/// Most calls under way at a time, unless it is set.
pub const CALLS_MAX: usize = 2_048;
/// A callback that has failed so often in a row may be down or hang: its calls have slots of their
/// own, so that they keep nobody from theirs.
const DOUBTFUL_FAILURES: u32 = 3;
/// The share of all slots that such calls have.
const DOUBTFUL_SHARE: usize = 8;

/// Slots for calls, given in the order in which they were asked for.
pub(super) struct Slots {
    sound: Semaphore,
    doubtful: Semaphore,
}

impl Slots {
    pub(super) fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.min(Semaphore::MAX_PERMITS);
        let doubtful = (calls_max / DOUBTFUL_SHARE).max(1);
        Self {
            sound: Semaphore::new(calls_max.saturating_sub(doubtful).max(1)),
            doubtful: Semaphore::new(doubtful),
        }
    }

    /// Waits for a slot to call what is thought of like this.
    pub(super) async fn take(&self, doubtful: bool) -> Option<SemaphorePermit<'_>> {
        let slots = if doubtful {
            &self.doubtful
        } else {
            &self.sound
        };
        // They are never closed.
        slots.acquire().await.ok()
    }
}

/// Whether a callback with this circuit may well not answer.
pub(super) const fn is_doubtful(circuit: &Circuit) -> bool {
    circuit.is_open() || circuit.failures() >= DOUBTFUL_FAILURES
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn doubtful_calls_take_no_slot_of_the_others() {
        let slots = Slots::new(16);
        let doubtful: Vec<_> = std::iter::from_fn(|| slots.take(true).now_or_never()).collect();
        assert_eq!(doubtful.len(), 2);
        let sound: Vec<_> = std::iter::from_fn(|| slots.take(false).now_or_never()).collect();
        assert_eq!(sound.len(), 14);
        drop(doubtful);
        assert!(slots.take(true).now_or_never().is_some());
        assert!(slots.take(false).now_or_never().is_none());
    }

    #[test]
    fn one_slot_of_each_kind_is_the_least_and_no_number_is_too_large() {
        for calls_max in [0, usize::MAX] {
            let slots = Slots::new(calls_max);
            assert!(slots.take(true).now_or_never().is_some());
            assert!(slots.take(false).now_or_never().is_some());
        }
    }

    #[test]
    fn three_failures_in_a_row_are_doubtful() {
        assert!(!is_doubtful(&Circuit::Closed { failures: 2 }));
        assert!(is_doubtful(&Circuit::Closed { failures: 3 }));
    }
}
