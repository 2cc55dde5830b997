//! What a `Retry-After` header asks for.

use std::time::UNIX_EPOCH;

use crate::model::{RetryAfter, Timestamp};

/// The wait that this header value asks for, counted from `now`: seconds, or an HTTP date. A date
/// gone by asks for no wait. `None` for anything else.
///
/// The response's own `Date` is not looked at: a callback with a wrong clock would hold its
/// subscription for as long as it is wrong, a hostile one for as long as it likes.
pub(super) fn parse(value: &[u8], now: Timestamp) -> Option<RetryAfter> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds are still a number of seconds: a very long wait.
        return Some(RetryAfter::from_seconds(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    let wait = Timestamp::EPOCH.plus(since).since(now);
    // A wait that is cut off early is asked for in vain: round up.
    Some(RetryAfter::from_seconds(
        wait.as_millis()
            .div_ceil(1_000)
            .try_into()
            .unwrap_or(u64::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(value: &str) -> Option<u32> {
        let now = "1994-11-06T08:49:30.500Z".parse().unwrap();
        parse(value.as_bytes(), now).map(|wait| wait.seconds)
    }

    #[test]
    fn seconds_and_dates_are_waits_from_now() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(7));
    }

    #[test]
    fn a_date_gone_by_asks_for_no_wait() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
    }

    #[test]
    fn long_waits_are_held_to_a_day() {
        for value in [
            "86401",
            "315360000",
            "99999999999999999999999",
            "Sat, 06 Nov 2004 08:49:37 GMT",
        ] {
            assert_eq!(seconds(value), Some(RetryAfter::SECONDS_MAX), "{value}");
        }
    }

    #[test]
    fn anything_else_is_ignored() {
        for value in [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "soon",
            "1e3",
            "0x10",
            "12 s",
            "Sun, 99 Nov 1994",
        ] {
            assert_eq!(seconds(value), None, "{value:?}");
        }
        assert!(parse(b"\xff\xfe", Timestamp::EPOCH).is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_callback_says_is_a_bounded_wait_or_none(
            value in proptest::collection::vec(any::<u8>(), 0..40),
            digits in "[0-9]{0,40}",
            date in "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
            now in any::<i64>(),
        ) {
            for value in [value.as_slice(), digits.as_bytes(), date.as_bytes()] {
                let wait = parse(value, Timestamp::from_millis(now));
                prop_assert!(wait.is_none_or(|wait| wait.seconds <= RetryAfter::SECONDS_MAX));
            }
        }
    }
}
