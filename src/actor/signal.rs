//! How others tell an actor that there is something to see, without telling it what.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shared by a subscription's actor and whoever wakes it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    dirty: AtomicBool,
    down: AtomicBool,
    crashes: AtomicU32,
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

    /// Marks that the actor is gone and wants to be started again.
    pub(super) fn set_down(&self, crashed: bool) {
        if crashed {
            self.crashes.fetch_add(1, Ordering::AcqRel);
        }
        self.down.store(true, Ordering::Release);
    }

    /// Takes that mark away. True when there was one.
    pub(super) fn take_down(&self) -> bool {
        self.down.swap(false, Ordering::AcqRel)
    }

    /// Panics in a row.
    pub(super) fn crashes(&self) -> u32 {
        self.crashes.load(Ordering::Acquire)
    }

    /// Forgets the panics: an outcome was recorded since.
    pub(super) fn forgive(&self) {
        self.crashes.store(0, Ordering::Release);
    }
}
