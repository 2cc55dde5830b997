//! No more than so many steps a second.

use std::time::Duration;

/// Steps that may be made at once, as a share of a second: a timer for each step of a high rate
/// would cost more than the step.
const AT_ONCE_SHARE: u32 = 10;

/// Spreads steps over time. In any second no more are made than the rate and a tenth of it.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u32>,
    left: u32,
    free_at: Duration,
}

impl Pace {
    /// A pace of so many steps a second; as fast as it goes without one.
    pub(super) const fn of(rate: Option<u32>) -> Self {
        Self {
            rate,
            left: 0,
            free_at: Duration::ZERO,
        }
    }

    /// Takes a step, or tells how long to wait before asking again.
    pub(super) fn step(&mut self, elapsed: Duration) -> Result<(), Duration> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        if self.left == 0 {
            if elapsed < self.free_at {
                return Err(self.free_at.saturating_sub(elapsed));
            }
            self.left = (rate / AT_ONCE_SHARE).max(1);
            self.free_at = elapsed + Duration::from_secs(1) * self.left / rate.max(1);
        }
        self.left -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps_in_ten_seconds(rate: u32) -> u32 {
        let mut pace = Pace::of(Some(rate));
        let mut steps = 0;
        for millis in 0..10_000 {
            while pace.step(Duration::from_millis(millis)).is_ok() {
                steps += 1;
            }
        }
        steps
    }

    #[test]
    fn the_rate_is_kept_and_not_overshot() {
        for rate in [1, 3, 10, 250] {
            let steps = steps_in_ten_seconds(rate);
            assert!(steps <= rate * 10 + (rate / 10).max(1), "{rate}: {steps}");
            assert!(steps >= rate * 10 * 95 / 100, "{rate}: {steps}");
        }
    }

    #[test]
    fn a_wait_ends_when_the_next_step_is_free() {
        let mut pace = Pace::of(Some(2));
        pace.step(Duration::ZERO).unwrap();
        let wait = pace.step(Duration::from_millis(100)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(400));
        pace.step(Duration::from_millis(500)).unwrap();
        assert!(Pace::of(None).step(Duration::ZERO).is_ok());
    }
}
