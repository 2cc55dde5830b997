//! How long appends took, as their callers saw it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets, in microseconds; one more bucket takes what is longer.
const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Appends counted by how long they took, since the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendTimes {
    /// Each bucket's upper bound, and how many appends fell into it; the last has no bound.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// All of them together.
    pub sum: Duration,
}

impl AppendTimes {
    /// How many appends were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct AppendClock {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl AppendClock {
    /// One append more took this long.
    pub(super) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> AppendTimes {
        let bounds = BOUNDS_US.map(Duration::from_micros).map(Some);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        AppendTimes {
            buckets: bounds.into_iter().chain([None]).zip(counts).collect(),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let clock = AppendClock::default();
        for us in [100, 101, 9_000_000] {
            clock.observe(Duration::from_micros(us));
        }
        let times = clock.read();
        let counts: Vec<_> = times.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((counts[0], counts[1], counts[14]), (1, 1, 1));
        assert_eq!(times.count(), 3);
        assert_eq!(times.sum, Duration::from_micros(9_000_201));
    }
}
