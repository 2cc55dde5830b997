//! How a projection goes about many small steps.

use std::time::Duration;

/// How a projection goes about many small steps. Longer times cost less, and show events later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// Least time between two looks at the log that found little. The first event after a quiet
    /// time is folded at once. Default 5 ms.
    pub pause: Duration,
    /// How long rows may be in memory alone: what a crash takes is folded again. Default 5 s.
    pub flush_every: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(5),
            flush_every: Duration::from_secs(5),
        }
    }
}

impl Rhythm {
    /// Every event is folded as soon as it is there, for clocks that stand still.
    pub const IMMEDIATE: Self = Self {
        pause: Duration::ZERO,
        flush_every: Duration::from_secs(1),
    };
}
