//! A callback that has its moods.

use std::time::Duration;

use super::scenario::{chance, one_of};
use crate::model::{
    AttemptError, AttemptReport, AttemptResult, Draws, ErrorClass, RetryAfter, Timestamp, Timings,
};

/// No longer is a callback left alone for asking so, whatever it asks for.
const PAUSE_SECONDS_MAX: u64 = 24 * 3_600;

/// How a callback feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Takes everything.
    Healthy,
    /// Fails now and then, in every way.
    Flaky,
    /// Does not answer.
    Down,
    /// Refuses everything.
    Refusing,
}

impl Mood {
    pub(super) const ALL: [Self; 4] = [Self::Healthy, Self::Flaky, Self::Down, Self::Refusing];
}

/// What one call comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// After how long.
    pub(super) after: Duration,
    /// Whether the callback got the request.
    pub(super) received: bool,
    result: Outcome,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Status(u16),
    RetryAfter(u16, u64),
    Error(ErrorClass),
}

impl Answer {
    pub(super) fn draw(mood: Mood, draws: &mut Draws) -> Self {
        let quick = Duration::from_millis(1 + draws.below(200));
        let slow = Duration::from_secs(10);
        let answered = |status| Self {
            after: quick,
            received: true,
            result: Outcome::Status(status),
        };
        match mood {
            Mood::Healthy => answered(one_of(draws, &[200, 204])),
            Mood::Refusing => answered(one_of(draws, &[400, 404, 422])),
            Mood::Down => Self {
                after: one_of(draws, &[quick, slow]),
                received: false,
                result: Outcome::Error(one_of(draws, &[ErrorClass::Connect, ErrorClass::Dns])),
            },
            Mood::Flaky if chance(draws, 40) => answered(200),
            Mood::Flaky => match draws.below(8) {
                0 => Self {
                    after: slow,
                    received: true,
                    result: Outcome::Error(ErrorClass::Timeout),
                },
                1 => Self {
                    after: quick,
                    received: chance(draws, 50),
                    result: Outcome::Error(ErrorClass::Reset),
                },
                2 => Self {
                    after: quick,
                    received: true,
                    result: Outcome::RetryAfter(one_of(draws, &[429, 503]), draws.below(90)),
                },
                3 if chance(draws, 20) => answered(410),
                _ => answered(one_of(draws, &[500, 503, 408, 400, 302])),
            },
        }
    }

    /// How long the callback wants to be left alone from this answer on, a day at most.
    pub(super) fn pause(self) -> Option<Duration> {
        match self.result {
            Outcome::RetryAfter(429 | 503, seconds) => {
                Some(Duration::from_secs(seconds.min(PAUSE_SECONDS_MAX)))
            }
            _ => None,
        }
    }

    /// The report of this call, which began then.
    pub(super) fn report(self, started_at: Timestamp) -> AttemptReport {
        let result = match self.result {
            Outcome::Status(status) => AttemptResult::Responded {
                status,
                retry_after: None,
            },
            Outcome::RetryAfter(status, seconds) => AttemptResult::Responded {
                status,
                retry_after: Some(RetryAfter::from_seconds(seconds)),
            },
            Outcome::Error(class) => {
                AttemptResult::Failed(AttemptError::new(class, "as the seed has it"))
            }
        };
        AttemptReport {
            started_at,
            timings: Timings {
                total_us: u32::try_from(self.after.as_micros()).unwrap_or(u32::MAX),
                ..Timings::default()
            },
            result,
            captured: None,
        }
    }
}
