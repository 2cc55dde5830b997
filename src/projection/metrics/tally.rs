//! Counters and histograms of one scope, in a fixed form that is changed in place.

use std::time::Duration;

use super::histogram::{BUCKETS, Histogram, bucket_of};
use crate::projection::{RowError, codec::u64_at};

/// The class of a status, as metrics label it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// No response.
    None,
    /// 100 to 599 by its first digit, 1 to 5.
    Hundreds(u8),
    /// Any other.
    Other,
}

impl StatusClass {
    /// The class of a status.
    pub fn of(status: u16) -> Self {
        match status / 100 {
            0 => Self::None,
            hundreds @ 1..=5 => Self::Hundreds(u8::try_from(hundreds).expect("1 to 5")),
            _ => Self::Other,
        }
    }

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hundreds(1) => "1xx",
            Self::Hundreds(2) => "2xx",
            Self::Hundreds(3) => "3xx",
            Self::Hundreds(4) => "4xx",
            Self::Hundreds(5) => "5xx",
            Self::Hundreds(_) | Self::Other => "other",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// `hooklog_messages_accepted_total`.
    MessagesAccepted,
    /// `hooklog_attempts_total{outcome="succeeded"}`: always status class 2xx.
    AttemptsSucceeded,
    /// `hooklog_attempts_total{outcome="failed",status_class="none"}`.
    FailedNoResponse,
    /// The same, `1xx`.
    Failed1xx,
    /// The same, `2xx`: an answer whose body or form made it a failure.
    Failed2xx,
    /// The same, `3xx`.
    Failed3xx,
    /// The same, `4xx`.
    Failed4xx,
    /// The same, `5xx`.
    Failed5xx,
    /// The same, `other`.
    FailedOther,
    /// `hooklog_deliveries_total{outcome="delivered"}`.
    Delivered,
    /// `hooklog_deliveries_total{outcome="dead_lettered"}`.
    DeadLettered,
    /// `hooklog_deliveries_total{outcome="discarded"}`.
    Discarded,
    /// Messages that were not for a subscription.
    Filtered,
    /// Retries that were planned.
    Retries,
    /// Past deliveries that were made again.
    Redelivered,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 15] = [
        Self::MessagesAccepted,
        Self::AttemptsSucceeded,
        Self::FailedNoResponse,
        Self::Failed1xx,
        Self::Failed2xx,
        Self::Failed3xx,
        Self::Failed4xx,
        Self::Failed5xx,
        Self::FailedOther,
        Self::Delivered,
        Self::DeadLettered,
        Self::Discarded,
        Self::Filtered,
        Self::Retries,
        Self::Redelivered,
    ];

    /// The counters of failed attempts, each with its status class.
    pub const FAILED: [(Self, StatusClass); 7] = [
        (Self::FailedNoResponse, StatusClass::None),
        (Self::Failed1xx, StatusClass::Hundreds(1)),
        (Self::Failed2xx, StatusClass::Hundreds(2)),
        (Self::Failed3xx, StatusClass::Hundreds(3)),
        (Self::Failed4xx, StatusClass::Hundreds(4)),
        (Self::Failed5xx, StatusClass::Hundreds(5)),
        (Self::FailedOther, StatusClass::Other),
    ];

    /// The counter of attempts that failed with this status.
    pub fn failed_with(status: u16) -> Self {
        let class = StatusClass::of(status);
        let mut classes = Self::FAILED.into_iter();
        classes
            .find(|(_, of)| *of == class)
            .map_or(Self::FailedOther, |(counter, _)| counter)
    }
}

const COUNTERS: usize = Counter::ALL.len();
const ATTEMPT: usize = COUNTERS;
const E2E: usize = ATTEMPT + BUCKETS + 1;
const WORDS: usize = E2E + BUCKETS + 1;

/// The counters and histograms of one scope, over all time or one bucket of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    counters: [u64; COUNTERS],
    /// `hooklog_attempt_duration_seconds`.
    pub attempt_duration: Histogram,
    /// `hooklog_delivery_e2e_seconds`: from acceptance to delivery.
    pub e2e: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counters: [0; COUNTERS],
            attempt_duration: Histogram::default(),
            e2e: Histogram::default(),
        }
    }
}

impl Tally {
    /// The value of a counter.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Failed attempts of every class.
    pub fn failed(&self) -> u64 {
        let failed = Counter::FAILED.iter();
        failed.map(|(counter, _)| self.get(*counter)).sum()
    }

    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.failed() + self.get(Counter::AttemptsSucceeded)
    }

    /// Adds the figures of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counters.iter_mut().zip(other.counters) {
            *count += more;
        }
        self.attempt_duration.add(&other.attempt_duration);
        self.e2e.add(&other.e2e);
    }

    pub(super) fn from_row(row: &[u8]) -> Result<Self, RowError> {
        let mut tally = Self::default();
        let mut words = (0..WORDS).map(|word| u64_at(row, word * 8));
        let mut next = || words.next().expect("as many words as fields");
        for count in &mut tally.counters {
            *count = next()?;
        }
        for histogram in [&mut tally.attempt_duration, &mut tally.e2e] {
            for bucket in &mut histogram.buckets {
                *bucket = next()?;
            }
            histogram.sum_us = next()?;
        }
        Ok(tally)
    }
}

/// One step of a tally.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Count(Counter, u64),
    AttemptTook(Duration),
    DeliveredAfter(Duration),
}

/// An empty tally's row.
pub(super) fn empty_row() -> Vec<u8> {
    vec![0; WORDS * 8]
}

/// Takes a step in a tally's row, in place.
pub(super) fn step(row: &mut [u8], step: Step) -> Result<(), RowError> {
    match step {
        Step::Count(counter, n) => add(row, counter as usize, n),
        Step::AttemptTook(duration) => observe(row, ATTEMPT, duration),
        Step::DeliveredAfter(duration) => observe(row, E2E, duration),
    }
}

fn observe(row: &mut [u8], histogram: usize, duration: Duration) -> Result<(), RowError> {
    add(row, histogram + bucket_of(duration), 1)?;
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    add(row, histogram + BUCKETS, us)
}

fn add(row: &mut [u8], word: usize, n: u64) -> Result<(), RowError> {
    let sum = u64_at(row, word * 8)?.saturating_add(n);
    row[word * 8..word * 8 + 8].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}
