//! The circuit: what is thought of the callback, and when it is asked again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{outcome::Health, schedule::jittered};
use crate::model::{CircuitOpened, Draws, Timestamp};

/// Retryable failures in a row that open it.
pub const FAILURES_TO_OPEN: u32 = 10;
/// The first pause before a probe.
pub const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest pause before a probe, jitter apart.
pub const PAUSE_MAX: Duration = Duration::from_mins(10);
/// The share by which a pause is lengthened or shortened, so that callbacks that came down
/// together are not probed together.
pub const PAUSE_JITTER_PERCENT: u8 = 10;

/// What is thought of the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Circuit {
    /// It is up.
    Closed {
        /// Failures in a row so far.
        failures: u32,
    },
    /// It is down; one message at a time probes it.
    Open {
        /// Failures in a row.
        failures: u32,
        /// When it is probed, wall clock.
        probe_at: Timestamp,
        /// The wait when it was planned, the longest that may remain.
        pause_ms: u64,
        /// How often it opened in a row; each failed probe opens it again.
        openings: u32,
    },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Circuit {
    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Failures in a row so far.
    pub const fn failures(&self) -> u32 {
        match self {
            Self::Closed { failures } | Self::Open { failures, .. } => *failures,
        }
    }

    /// The event by which a failed call opens it, or opens it again after a probe that did not
    /// show the callback up.
    pub(super) fn opens(
        &self,
        health: Health,
        probe: bool,
        now: Timestamp,
        draws: &mut Draws,
    ) -> Option<CircuitOpened> {
        let down = u32::from(health == Health::Down);
        let failures = self.failures().saturating_add(down);
        let openings = match self {
            Self::Closed { .. } if down == 1 && failures >= FAILURES_TO_OPEN => 0,
            Self::Open { openings, .. } if probe && health != Health::Up => *openings,
            _ => return None,
        };
        let pause = jittered(pause(openings), PAUSE_JITTER_PERCENT, draws);
        Some(CircuitOpened {
            failures,
            probe_at: now.plus(pause),
            pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// A failed call, as its event is applied.
    pub(super) const fn count(&mut self, health: Health) {
        let (Self::Closed { failures } | Self::Open { failures, .. }) = self;
        match health {
            Health::Up => *failures = 0,
            Health::Down => *failures = failures.saturating_add(1),
            Health::Unknown => {}
        }
    }

    /// It opened, as its event is applied.
    pub(super) const fn opened(&mut self, event: &CircuitOpened) {
        let openings = match self {
            Self::Closed { .. } => 1,
            Self::Open { openings, .. } => openings.saturating_add(1),
        };
        *self = Self::Open {
            failures: event.failures,
            probe_at: event.probe_at,
            pause_ms: event.pause_ms,
            openings,
        };
    }
}

/// The pause after it opened `openings` times before, jitter apart: it doubles each time.
pub fn pause(openings: u32) -> Duration {
    let factor = 1_u32.checked_shl(openings).unwrap_or(u32::MAX);
    PAUSE_FIRST.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_ten_minutes() {
        let pauses = [0, 1, 2, 3, 4, 5, 40].map(|n| pause(n).as_secs());
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    }
}
