//! A callback that has its moods.

use std::time::Duration;

use super::scenario::{chance, one_of};
use crate::model::{
    AttemptError, AttemptReport, AttemptResult, Draws, ErrorClass, RetryAfter, Timestamp, Timings,
};

/// No longer is a callback left alone for asking so, whatever it asks for.
const PAUSE_SECONDS_MAX: u64 = 24 * 3_600;

/// Failures that hardly any call ends with. The callback gets the request only where it answers what
/// is no HTTP.
const ODD_ERRORS: [ErrorClass; 5] = [
    ErrorClass::Protocol,
    ErrorClass::Tls,
    ErrorClass::Auth,
    ErrorClass::Internal,
    ErrorClass::Blocked,
];

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
    /// Now and then answers, or cannot be called, as hardly any does.
    Odd,
}

impl Mood {
    /// Those that a step draws from: another one among them would change each life that broke once.
    pub(super) const OF_STEPS: [Self; 4] = [Self::Healthy, Self::Flaky, Self::Down, Self::Refusing];
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
            Mood::Odd if chance(draws, 40) => answered(200),
            Mood::Odd if chance(draws, 40) => answered(one_of(draws, &[425, 199, 600, 999])),
            Mood::Odd => {
                let class = one_of(draws, &ODD_ERRORS);
                Self {
                    after: quick,
                    received: class == ErrorClass::Protocol,
                    result: Outcome::Error(class),
                }
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Moment;

    #[test]
    fn a_callback_answers_and_fails_in_every_way() {
        let mut draws = Moment::new(Timestamp::EPOCH, 7).draws();
        let mut errors = BTreeSet::new();
        let mut statuses = BTreeSet::new();
        for mood in Mood::OF_STEPS.into_iter().chain([Mood::Odd]) {
            for _ in 0..1_000 {
                let answer = Answer::draw(mood, &mut draws);
                match answer.report(Timestamp::EPOCH).result {
                    AttemptResult::Failed(error) => errors.insert(error.class),
                    AttemptResult::Responded { status, .. } => statuses.insert(status),
                };
            }
        }
        // On a message that the filter fails on nobody is called.
        let mut every = BTreeSet::from(ErrorClass::ALL);
        every.remove(&ErrorClass::Filter);
        assert_eq!(errors, every);
        let every = [
            199, 200, 204, 302, 400, 404, 408, 410, 422, 425, 429, 500, 503, 600, 999,
        ];
        assert_eq!(statuses, BTreeSet::from(every));
    }

    #[test]
    fn a_pause_is_asked_for_with_429_and_503_and_is_a_day_at_most() {
        let asked = |status, seconds| {
            let answer = Answer {
                after: Duration::ZERO,
                received: true,
                result: Outcome::RetryAfter(status, seconds),
            };
            answer.pause().map(|pause| pause.as_secs())
        };
        assert_eq!(asked(429, 30), Some(30));
        assert_eq!(asked(503, 1_000_000), Some(86_400));
        assert_eq!(asked(500, 30), None);
    }
}
