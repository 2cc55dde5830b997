//! Durations counted in fixed buckets.

use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the buckets, in milliseconds; one more bucket takes what is longer.
pub const BUCKET_BOUNDS_MS: [u64; 20] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000, 300_000,
    1_800_000, 7_200_000, 43_200_000, 86_400_000,
];

/// How many buckets.
const BUCKETS: usize = BUCKET_BOUNDS_MS.len() + 1;
/// How many numbers: the buckets and the sum.
pub(super) const NUMBERS: usize = BUCKETS + 1;

/// The bucket that a duration falls into.
fn bucket_of(duration: Duration) -> usize {
    let us = duration.as_micros();
    BUCKET_BOUNDS_MS.partition_point(|bound| u128::from(*bound) * 1_000 < us)
}

/// Durations counted in fixed buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Histogram {
    /// How many fell into each bucket of [`BUCKET_BOUNDS_MS`], and above the last.
    pub buckets: [u64; BUCKETS],
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.sum_us += other.sum_us;
    }

    pub(super) fn observe(&mut self, duration: Duration) {
        let count = &mut self.buckets[bucket_of(duration)];
        *count = count.saturating_add(1);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Its numbers in the order in which they are stored.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().copied().chain([self.sum_us])
    }

    /// The number in this place of that order.
    pub(super) fn number_mut(&mut self, place: usize) -> Option<&mut u64> {
        if place == BUCKETS {
            return Some(&mut self.sum_us);
        }
        self.buckets.get_mut(place)
    }

    /// The duration that this share (0 to 1) of all stays below, taken as evenly spread within its
    /// bucket; `None` when there is none. What is above the last bound counts as that bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKET_BOUNDS_MS) {
            let (inside, upper) = (*bucket as f64, bound as f64);
            if inside > 0.0 && below + inside >= rank {
                let ms = lower + (upper - lower) * ((rank - below) / inside).max(0.0);
                return Some(Duration::from_secs_f64(ms / 1_000.0));
            }
            below += inside;
            lower = upper;
        }
        Some(Duration::from_millis(BUCKET_BOUNDS_MS[BUCKETS - 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::from_millis(1)), 0);
        assert_eq!(bucket_of(Duration::from_micros(1_001)), 1);
        assert_eq!(bucket_of(Duration::from_secs(100_000)), BUCKETS - 1);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.buckets[3] = 100;
        let median = histogram.quantile(0.5).unwrap();
        assert_eq!(median, Duration::from_micros(7_500));
        histogram.buckets[BUCKETS - 1] = 1_000;
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_hours(24)));
    }
}
