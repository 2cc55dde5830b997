//! When a failed call is tried again: pure functions over the retry policy.

use std::time::Duration;

use crate::model::{Draws, Retry, RetryOption, RetryStrategy, Timestamp};

/// Retries that the policy allows after the first try.
pub fn retries_allowed(retry: &Retry) -> u32 {
    match retry.retry_option {
        RetryOption::NoRetry => 0,
        RetryOption::RetryOnFail if retry.schedule.is_empty() => retry.max_attempts,
        RetryOption::RetryOnFail => u32::try_from(retry.schedule.len()).unwrap_or(u32::MAX),
    }
}

/// The wait before retry `number` (from 1; 0 is taken as 1), jitter apart. Beyond an explicit
/// schedule its last delay stands.
pub fn base_delay(retry: &Retry, number: u32) -> Duration {
    let number = number.max(1);
    if let Some(last) = retry.schedule.last() {
        let planned = usize::try_from(number - 1).ok();
        let delay = planned.and_then(|index| retry.schedule.get(index));
        return Duration::from_secs(*delay.unwrap_or(last));
    }
    let factor = match retry.retry_strategy {
        RetryStrategy::Linear => u64::from(number),
        RetryStrategy::Exponential => 1_u64.checked_shl(number - 1).unwrap_or(u64::MAX),
    };
    let grown = retry.initial_delay_seconds.saturating_mul(factor);
    Duration::from_secs(grown.min(retry.max_delay_seconds))
}

/// The delay made longer or shorter by up to `percent` of itself, at most 100, never below zero.
pub fn jittered(delay: Duration, percent: u8, draws: &mut Draws) -> Duration {
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let span = millis.saturating_mul(u64::from(percent.min(100))) / 100;
    let offset_ms = draws.below(span.saturating_mul(2).saturating_add(1));
    Duration::from_millis((millis - span).saturating_add(offset_ms))
}

/// The wait before retry `number`, jitter and all.
pub fn delay(retry: &Retry, number: u32, draws: &mut Draws) -> Duration {
    jittered(base_delay(retry, number), retry.jitter_percent, draws)
}

/// When a message accepted at this time is given up whatever attempts are left.
pub fn deadline(retry: &Retry, accepted_at: Timestamp) -> Option<Timestamp> {
    let seconds = retry.deadline_seconds?;
    Some(accepted_at.plus(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Moment;

    fn policies() -> impl Strategy<Value = Retry> {
        let delays = (1_u64..1_000, 0_u64..100_000);
        let schedule = proptest::collection::vec(1_u64..100_000, 0..5);
        (delays, 0_u8..=100, any::<bool>(), schedule, 0_u32..1_000).prop_map(
            |((initial, more), jitter_percent, linear, schedule, max_attempts)| Retry {
                retry_strategy: if linear {
                    RetryStrategy::Linear
                } else {
                    RetryStrategy::Exponential
                },
                initial_delay_seconds: initial,
                max_delay_seconds: initial + more,
                jitter_percent,
                schedule,
                max_attempts,
                ..Retry::default()
            },
        )
    }

    proptest! {
        #[test]
        fn delays_grow_and_stay_below_the_maximum(retry in policies(), n in 1_u32..2_000) {
            let retry = Retry { schedule: Vec::new(), ..retry };
            prop_assert!(base_delay(&retry, n) <= base_delay(&retry, n + 1));
            prop_assert!(base_delay(&retry, n) <= Duration::from_secs(retry.max_delay_seconds));
            prop_assert!(base_delay(&retry, n) >= Duration::from_secs(retry.initial_delay_seconds));
        }

        #[test]
        fn jitter_stays_within_its_share(retry in policies(), n in 1_u32..50, entropy: u128) {
            let mut draws = Moment::new(Timestamp::EPOCH, entropy).draws();
            let base = base_delay(&retry, n);
            let span = base * u32::from(retry.jitter_percent) / 100;
            let offset_ms = delay(&retry, n, &mut draws);
            prop_assert!(offset_ms + span >= base && offset_ms <= base + span);
        }

        #[test]
        fn the_sum_of_all_delays_is_bounded(retry in policies(), entropy: u128) {
            let mut draws = Moment::new(Timestamp::EPOCH, entropy).draws();
            let longest = retry.schedule.iter().max().copied().unwrap_or(retry.max_delay_seconds);
            let retries = retries_allowed(&retry);
            let sum: Duration = (1..=retries).map(|n| delay(&retry, n, &mut draws)).sum();
            prop_assert!(sum <= Duration::from_secs(2 * longest) * retries);
        }
    }

    #[test]
    fn linear_delays_grow_by_the_initial_delay_and_exponential_ones_double() {
        let linear = Retry {
            retry_strategy: RetryStrategy::Linear,
            ..Retry::default()
        };
        let exponential = Retry {
            max_delay_seconds: 300,
            ..Retry::default()
        };
        let seconds = |retry: &Retry| [1, 2, 3, 4].map(|n| base_delay(retry, n).as_secs());
        assert_eq!(seconds(&linear), [10, 20, 30, 30]);
        assert_eq!(seconds(&exponential), [10, 20, 40, 80]);
        assert_eq!(seconds(&Retry::schedule([5, 300])), [5, 300, 300, 300]);
    }

    #[test]
    fn an_explicit_schedule_replaces_the_number_of_attempts() {
        assert_eq!(retries_allowed(&Retry::schedule([1, 2, 3, 4, 5])), 5);
        assert_eq!(retries_allowed(&Retry::none()), 0);
        assert_eq!(retries_allowed(&Retry::default()), 3);
    }
}
