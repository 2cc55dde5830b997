//! Which messages get a log entry.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, Moment, Timestamp};

/// Which messages of an API get a log entry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Sampling {
    /// Every one.
    #[default]
    All,
    /// Every n-th, n at least 1.
    Count(u64),
    /// Each with this probability, 0 to 1.
    Probability(f64),
    /// One per ISO 8601 duration, such as `PT10S`.
    Temporal(String),
    /// So many per ISO 8601 duration, as `n/duration`, such as `5/PT10S`.
    WindowedCount(String),
}

impl Sampling {
    /// Checks that the sample can be taken.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        match self {
            Self::All => {}
            Self::Count(n) => invalid.check(*n >= 1, "/value", "must be at least 1"),
            Self::Probability(p) => {
                invalid.check((0.0..=1.0).contains(p), "/value", "must be 0 to 1");
            }
            Self::Temporal(text) => invalid.check(
                window(text).is_some(),
                "/value",
                format!("{text:?} is not an ISO 8601 duration above zero, such as PT10S"),
            ),
            Self::WindowedCount(text) => invalid.check(
                windowed_count(text).is_some(),
                "/value",
                format!("{text:?} is not a count and an ISO 8601 duration, such as 5/PT10S"),
            ),
        }
        invalid.into_result()
    }
}

fn window(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(span)
        .ok()
        .filter(|window| !window.is_zero())
}

fn windowed_count(text: &str) -> Option<(u64, Duration)> {
    let (count, duration) = text.split_once('/')?;
    let count: u64 = count.trim().parse().ok().filter(|count| *count >= 1)?;
    Some((count, window(duration.trim())?))
}

/// Takes the sample of one API, message by message.
#[derive(Debug, Clone)]
pub struct Sampler {
    rule: Rule,
    seen: u64,
    window_start: Option<Timestamp>,
    taken_in_window: u64,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    All,
    Every(u64),
    Probability(f64),
    PerWindow { count: u64, window: Duration },
}

impl Sampler {
    /// A sampler that follows `sampling`; one that is not valid takes every message.
    pub fn new(sampling: &Sampling) -> Self {
        let rule = match sampling {
            Sampling::All => Rule::All,
            Sampling::Count(n) => Rule::Every((*n).max(1)),
            Sampling::Probability(p) => Rule::Probability(*p),
            Sampling::Temporal(text) => {
                window(text).map_or(Rule::All, |window| Rule::PerWindow { count: 1, window })
            }
            Sampling::WindowedCount(text) => {
                windowed_count(text).map_or(Rule::All, |(count, window)| Rule::PerWindow {
                    count,
                    window,
                })
            }
        };
        Self {
            rule,
            seen: 0,
            window_start: None,
            taken_in_window: 0,
        }
    }

    /// Whether the next message, accepted at this moment, gets a log entry.
    pub fn take(&mut self, moment: &Moment) -> bool {
        self.seen += 1;
        match self.rule {
            Rule::All => true,
            Rule::Every(n) => (self.seen - 1).is_multiple_of(n),
            Rule::Probability(p) => moment.draws().fraction() < p,
            Rule::PerWindow { count, window } => self.take_in_window(count, window, moment.now),
        }
    }

    fn take_in_window(&mut self, count: u64, window: Duration, now: Timestamp) -> bool {
        // A clock that went backwards opens a new window, so a jump cannot silence the log.
        let open = self
            .window_start
            .is_some_and(|start| now >= start && now.since(start) < window);
        if !open {
            self.window_start = Some(now);
            self.taken_in_window = 0;
        }
        self.taken_in_window += 1;
        self.taken_in_window <= count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sampling: &Sampling, times_ms: impl IntoIterator<Item = i64>) -> Vec<bool> {
        let mut sampler = Sampler::new(sampling);
        times_ms
            .into_iter()
            .enumerate()
            .map(|(i, ms)| {
                sampler.take(&Moment::new(
                    Timestamp::from_millis(ms),
                    i as u128 * 0x1_0001,
                ))
            })
            .collect()
    }

    #[test]
    fn count_takes_the_first_and_then_every_nth() {
        assert_eq!(
            taken(&Sampling::Count(3), 0..7),
            [true, false, false, true, false, false, true]
        );
    }

    #[test]
    fn probability_takes_about_its_share() {
        let kept = taken(&Sampling::Probability(0.25), 0..4_000)
            .iter()
            .filter(|t| **t)
            .count();
        assert!((850..1_150).contains(&kept), "{kept}");
        assert!(taken(&Sampling::Probability(0.0), 0..50).iter().all(|t| !t));
        assert!(taken(&Sampling::Probability(1.0), 0..50).iter().all(|t| *t));
    }

    #[test]
    fn temporal_takes_one_a_window_and_outlives_a_clock_set_back() {
        let sampling = Sampling::Temporal("PT10S".into());
        assert_eq!(
            taken(&sampling, [0, 9_999, 10_000, 500]),
            [true, false, true, true]
        );
    }

    #[test]
    fn windowed_count_takes_so_many_a_window() {
        let sampling = Sampling::WindowedCount("2/PT1S".into());
        assert_eq!(
            taken(&sampling, [0, 1, 2, 1_000]),
            [true, true, false, true]
        );
    }

    #[test]
    fn impossible_samples_are_refused() {
        for sampling in [
            Sampling::Count(0),
            Sampling::Probability(1.5),
            Sampling::Probability(f64::NAN),
            Sampling::Temporal("ten".into()),
            Sampling::Temporal("PT0S".into()),
            Sampling::WindowedCount("PT1S".into()),
            Sampling::WindowedCount("0/PT1S".into()),
        ] {
            assert!(sampling.validate().is_err(), "{sampling:?}");
        }
    }
}
