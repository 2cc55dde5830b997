//! Waits that a jumping wall clock can neither shorten nor lengthen.

use std::{collections::BTreeMap, time::Duration};

use super::flight::Now;
use crate::model::{Timestamp, Version};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Hold,
    Probe,
    Retry(Version),
    Forward(Version),
    /// Until the log is asked again for room for dead letters.
    Room,
}

/// Waits in monotonic time. Each is armed when it is first seen, with what remains of it by the
/// wall clock but never more than the wait that was planned; after that the wall clock does not
/// matter. One that is planned anew is [forgotten](Self::forget) first: after the wall clock was
/// set back it may be due at the same time as the one before, which is over.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers(BTreeMap<Timer, (Timestamp, Duration)>);

impl Timers {
    /// How long this wait lasts yet; zero when it is over.
    pub(super) fn remaining(
        &mut self,
        timer: Timer,
        due_at: Timestamp,
        planned: Duration,
        now: Now,
    ) -> Duration {
        let armed = self.0.get(&timer).filter(|(due, _)| *due == due_at);
        let fires = if let Some((_, fires)) = armed {
            *fires
        } else {
            let fires = now.elapsed + due_at.since(now.wall).min(planned);
            self.0.insert(timer, (due_at, fires));
            fires
        };
        fires.saturating_sub(now.elapsed)
    }

    /// Begins a wait that no event tells of.
    pub(super) fn begin(&mut self, timer: Timer, length: Duration, now: Now) {
        self.0.insert(timer, (now.wall, now.elapsed + length));
    }

    /// How long a wait that was begun lasts yet; zero when it is over or never was.
    pub(super) fn left(&self, timer: Timer, now: Now) -> Duration {
        let begun = self.0.get(&timer);
        begun.map_or(Duration::ZERO, |(_, fires)| {
            fires.saturating_sub(now.elapsed)
        })
    }

    /// This wait is planned anew: it is armed when it is next seen.
    pub(super) fn forget(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Forgets the waits that this refuses.
    pub(super) fn keep(&mut self, mut wanted: impl FnMut(Timer) -> bool) {
        self.0.retain(|timer, _| wanted(*timer));
    }
}
