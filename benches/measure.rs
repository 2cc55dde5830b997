//! What benchmarks measure with.

use std::{fs, path::Path, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process so far.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap();
    Duration::new(u64::try_from(time.tv_sec).unwrap(), nanos)
}

/// Bytes of the files of a directory and of those below it.
pub(super) fn directory_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => directory_bytes(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

/// Median, least and most of a figure over the rounds.
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Self {
            median,
            min: figures[0],
            max: figures[figures.len() - 1],
        }
    }

    pub(super) fn cell(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    }
}
