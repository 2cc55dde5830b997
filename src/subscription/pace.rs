//! How many calls a second: a token bucket over monotonic time.

use std::time::Duration;

/// Unused time that is made up for, so that a timer which fires late does not cost rate. Within
/// any window of length `w` at most `rate × (w + 10 ms) + 1` calls start.
const SLACK: Duration = Duration::from_millis(10);

/// When the next call may start.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    free_at: Duration,
}

impl Pace {
    /// How long the next call must wait; zero when it may start.
    pub(super) fn wait(&self, rate_per_second: Option<u32>, elapsed: Duration) -> Duration {
        match rate_per_second {
            Some(_) => self.free_at.saturating_sub(elapsed),
            None => Duration::ZERO,
        }
    }

    /// A call starts now.
    pub(super) fn start(&mut self, rate_per_second: Option<u32>, elapsed: Duration) {
        if let Some(rate) = rate_per_second {
            let from = self.free_at.max(elapsed.saturating_sub(SLACK));
            self.free_at = from + Duration::from_secs(1) / rate.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_not_overshot() {
        let mut pace = Pace::default();
        let mut starts = 0;
        for millis in 0..10_000 {
            let elapsed = Duration::from_millis(millis);
            while pace.wait(Some(300), elapsed).is_zero() {
                pace.start(Some(300), elapsed);
                starts += 1;
            }
        }
        assert!((2_990..=3_004).contains(&starts), "{starts}");
    }
}
