//! What a finished call means for its delivery and for the callback.

use crate::model::{AttemptError, AttemptResult, DeadLetterReason, ErrorClass, Retry, RetryAfter};

/// What a call means for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx.
    Delivered,
    /// It may succeed another time.
    Retry,
    /// Trying again would not help.
    GiveUp(DeadLetterReason),
    /// 410: the callback is gone, and the subscription stops.
    Gone,
}

/// What a call says of the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered, below 500.
    Up,
    /// It did not answer, or with 500 and above.
    Down,
    /// It was not called.
    Unknown,
}

/// What this result means for its delivery.
///
/// 2xx is delivered. 408, 425, 429, 5xx and what `retryOnStatus` names are retried; any other
/// status below 500, a redirect among them, is refused. A status outside 200 to 599 is no answer
/// that HTTP knows, and is retried. No response is retried, except for a blocked destination.
pub fn verdict(result: &AttemptResult, retry: &Retry) -> Verdict {
    match result {
        AttemptResult::Failed(error) if error.class == ErrorClass::Blocked => {
            Verdict::GiveUp(DeadLetterReason::Blocked)
        }
        AttemptResult::Failed(_) => Verdict::Retry,
        AttemptResult::Responded { status, .. } => match status {
            200..=299 => Verdict::Delivered,
            410 => Verdict::Gone,
            408 | 425 | 429 => Verdict::Retry,
            status if retry.retry_on_status.contains(status) => Verdict::Retry,
            300..=499 => Verdict::GiveUp(DeadLetterReason::Refused),
            _ => Verdict::Retry,
        },
    }
}

/// The pause that this result asks for: `Retry-After` on 429 and 503.
pub const fn hold(result: &AttemptResult) -> Option<RetryAfter> {
    match result {
        AttemptResult::Responded {
            status: 429 | 503,
            retry_after,
        } => *retry_after,
        _ => None,
    }
}

/// What a failed call says of the callback, from what its event keeps.
///
/// A 503 counts as down with `Retry-After` too; a 429 shows a callback that is up. Failures of
/// the callback's authentication and of the gateway count as down: sending more would empty the
/// backlog into the dead letter queue for a fault that has nothing to do with its messages.
pub fn health(status: u16, error: Option<&AttemptError>) -> Health {
    match (error.map(|error| error.class), status) {
        (Some(ErrorClass::Blocked), _) => Health::Unknown,
        (Some(_), _) => Health::Down,
        (None, 200..=499) => Health::Up,
        (None, _) => Health::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responded(status: u16) -> AttemptResult {
        AttemptResult::Responded {
            status,
            retry_after: Some(RetryAfter { seconds: 5 }),
        }
    }

    #[test]
    fn each_status_has_its_verdict() {
        let retry = Retry {
            retry_on_status: vec![302, 404],
            ..Retry::default()
        };
        let refused = Verdict::GiveUp(DeadLetterReason::Refused);
        for (status, expected) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (299, Verdict::Delivered),
            (301, refused),
            (302, Verdict::Retry),
            (400, refused),
            (404, Verdict::Retry),
            (408, Verdict::Retry),
            (410, Verdict::Gone),
            (425, Verdict::Retry),
            (429, Verdict::Retry),
            (499, refused),
            (500, Verdict::Retry),
            (599, Verdict::Retry),
            (999, Verdict::Retry),
        ] {
            assert_eq!(verdict(&responded(status), &retry), expected, "{status}");
        }
    }

    #[test]
    fn every_error_is_retried_but_a_blocked_destination() {
        for class in ErrorClass::ALL {
            let result = AttemptResult::Failed(AttemptError::new(class, ""));
            let expected = match class {
                ErrorClass::Blocked => Verdict::GiveUp(DeadLetterReason::Blocked),
                _ => Verdict::Retry,
            };
            assert_eq!(verdict(&result, &Retry::default()), expected, "{class}");
        }
    }

    #[test]
    fn only_429_and_503_hold() {
        let held: Vec<_> = (100..1_000)
            .filter(|s| hold(&responded(*s)).is_some())
            .collect();
        assert_eq!(held, [429, 503]);
    }
}
