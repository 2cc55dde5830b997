//! What benchmarks measure with.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Runs this binary again with these arguments and reads the line of JSON that it prints. What is
/// measured has a process of its own: whatever the one before it left to its threads, its
/// allocator and the store's deferred clean-up ends with its process.
pub(super) fn apart<T: DeserializeOwned>(arguments: &[&str]) -> T {
    let mut command = Command::new(env::current_exe().unwrap());
    let done = command
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", done.status);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// CPU time of all threads of this process so far.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap();
    Duration::new(u64::try_from(time.tv_sec).unwrap(), nanos)
}

/// The monotonic clock, the same in every process of this machine, in nanoseconds.
pub(super) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// What a piece of work took.
#[derive(Serialize, Deserialize)]
pub(super) struct Made {
    /// When it began, on the monotonic clock, in nanoseconds.
    pub(super) began: u64,
    /// How long it took, in seconds.
    pub(super) wall_seconds: f64,
    /// CPU time of its process meanwhile, in seconds.
    pub(super) cpu_seconds: f64,
}

impl Made {
    /// Does the work, which is told when it began.
    pub(super) async fn of(work: impl AsyncFnOnce(u64)) -> Self {
        let (cpu_before, began) = (cpu(), monotonic());
        work(began).await;
        Self {
            began,
            wall_seconds: (monotonic() - began) as f64 / 1e9,
            cpu_seconds: cpu().saturating_sub(cpu_before).as_secs_f64(),
        }
    }
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
