//! How others tell an actor that there is something to see, and how an actor that is gone tells
//! what is to be done about it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Failures are forgotten when an outcome is recorded after so long without another. A shorter
/// time would forgive a message that fails each time while its siblings succeed.
const FORGIVE_AFTER: Duration = Duration::from_mins(1);
/// Wait before an actor is started again: before the second start in a row, doubled before each
/// further one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest such wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Shared by a subscription's actor and whoever wakes it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    dirty: AtomicBool,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    down: bool,
    finished: bool,
    failures: u32,
    crashes: u32,
    last_failure: Duration,
}

/// An actor that is gone and wants to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down {
    /// Panics without a long enough time of peace between them.
    pub(super) crashes: u32,
    /// How long to wait.
    pub(super) pause: Duration,
}

impl Signal {
    /// Marks that there is something to see. True when it was not marked yet: then the actor has
    /// to be woken.
    pub(super) fn mark(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Takes the mark away, before looking. True when there was one.
    pub(super) fn take(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    /// Marks that the actor is gone, at this monotonic time, and wants to be started again.
    pub(super) fn set_down(&self, crashed: bool, elapsed: Duration) {
        let mut end = self.end();
        end.down = true;
        end.failures = end.failures.saturating_add(1);
        end.crashes = end.crashes.saturating_add(u32::from(crashed));
        end.last_failure = elapsed;
    }

    /// Takes that mark away.
    pub(super) fn take_down(&self) -> Option<Down> {
        let mut end = self.end();
        if !std::mem::take(&mut end.down) {
            return None;
        }
        // The first panic costs no wait; where an append failed, a little time helps.
        let repeated = end.failures - u32::from(end.crashes > 0 && end.failures == end.crashes);
        let doubled = repeated
            .checked_sub(1)
            .map(|n| PAUSE_FIRST.saturating_mul(1 << n.min(16)));
        Some(Down {
            crashes: end.crashes,
            pause: doubled.unwrap_or_default().min(PAUSE_MAX),
        })
    }

    /// Marks that the subscription is over and its actor has nothing left to do.
    pub(super) fn set_finished(&self) {
        self.end().finished = true;
    }

    /// Whether it is over.
    pub(super) fn is_finished(&self) -> bool {
        self.end().finished
    }

    /// An outcome was recorded at this monotonic time.
    pub(super) fn forgive(&self, elapsed: Duration) {
        let mut end = self.end();
        if end.failures > 0 && elapsed.saturating_sub(end.last_failure) >= FORGIVE_AFTER {
            end.failures = 0;
            end.crashes = 0;
        }
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_costs_no_wait_and_the_next_ones_ever_more() {
        let signal = Signal::default();
        let pauses = [0, 500, 1_000, 2_000].map(|expected| {
            signal.set_down(true, Duration::ZERO);
            let down = signal.take_down().unwrap();
            assert_eq!(signal.take_down(), None);
            (down.pause.as_millis(), expected)
        });
        assert!(pauses.iter().all(|(pause, expected)| pause == expected));
    }

    #[test]
    fn an_append_that_failed_costs_a_wait_at_once() {
        let signal = Signal::default();
        signal.set_down(false, Duration::ZERO);
        assert_eq!(signal.take_down().unwrap().pause, PAUSE_FIRST);
    }

    #[test]
    fn failures_are_forgotten_after_a_time_of_peace_alone() {
        let signal = Signal::default();
        let second = Duration::from_secs(1);
        for at in [0, 1, 2] {
            signal.set_down(true, second * at);
            signal.forgive(second * at);
            signal.take_down();
        }
        signal.set_down(true, second * 3);
        assert_eq!(signal.take_down().unwrap().crashes, 4);
        signal.forgive(second * 63);
        signal.set_down(true, second * 64);
        assert_eq!(signal.take_down().unwrap().crashes, 1);
    }
}
