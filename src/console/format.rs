//! Times, durations and counts as people read them.

use std::time::Duration;

use crate::model::Timestamp;

/// A time to the millisecond, in UTC: `2026-03-04 05:06:07.089`.
pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
        .replace('T', " ")
        .trim_end_matches('Z')
        .to_owned()
}

/// The time of day alone.
pub(super) fn clock(at: Timestamp) -> String {
    let text = time(at);
    text.split(' ').nth(1).unwrap_or(&text).to_owned()
}

/// A duration in the unit that reads best: `840 µs`, `12.4 ms`, `3.2 s`, `4 min 5 s`, `2 h 3 min`.
pub(super) fn duration(duration: Duration) -> String {
    let us = duration.as_micros();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => long(duration.as_secs()),
    }
}

fn long(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3_600);
    let (minutes, rest) = (seconds % 3_600 / 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, _) => joined(minutes, "min", rest, "s"),
        (0, ..) => joined(hours, "h", minutes, "min"),
        _ => joined(days, "d", hours, "h"),
    }
}

fn joined(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {unit}")
    } else {
        format!("{large} {unit} {small} {small_unit}")
    }
}

/// How long ago, or until when: `3 s ago`, `in 4 min`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let whole = |duration: Duration| {
        let seconds = duration.as_secs();
        if seconds < 60 {
            format!("{seconds} s")
        } else {
            long(seconds)
                .split_inclusive(' ')
                .take(2)
                .collect::<String>()
                .trim_end()
                .to_owned()
        }
    };
    if at > now {
        format!("in {}", whole(at.since(now)))
    } else {
        format!("{} ago", whole(now.since(at)))
    }
}

/// A count with thin spaces between thousands: `1 234 567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A count that fits on an axis: `950`, `1.2k`, `3M`.
pub(super) fn short(n: f64) -> String {
    let (n, unit) = match n {
        n if n >= 1e9 => (n / 1e9, "G"),
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e3 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let digits = if n >= 10.0 || n.fract() == 0.0 {
        0
    } else if n >= 1.0 {
        1
    } else {
        2
    };
    format!("{n:.digits$}{unit}")
}

/// A share as a percentage that never rounds a failure away: `99.98 %`, `100 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    if part == whole {
        return "100 %".to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    let shown = if share >= 99.995 { 99.99 } else { share };
    format!("{shown:.2} %")
}

/// A size in bytes: `512 B`, `3.4 KiB`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{:.1} KiB", n as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

/// The first part of an id, by which people tell them apart in a list.
pub(super) fn brief(id: &impl ToString) -> String {
    let text = id.to_string();
    // The end of an id is random; its beginning is a time that neighbours share.
    text.rsplit('-').next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_in_their_best_unit() {
        for (us, expected) in [
            (840, "840 µs"),
            (1_240, "1.2 ms"),
            (124_000, "124 ms"),
            (3_200_000, "3.2 s"),
            (245_000_000, "4 min 5 s"),
            (7_380_000_000, "2 h 3 min"),
            (172_800_000_000, "2 d"),
        ] {
            assert_eq!(duration(Duration::from_micros(us)), expected);
        }
    }

    #[test]
    fn times_lie_before_or_behind() {
        let at = Timestamp::from_millis;
        assert_eq!(ago(at(0), at(3_400)), "3 s ago");
        assert_eq!(ago(at(245_000), at(0)), "in 4 min");
    }

    #[test]
    fn a_single_failure_shows() {
        assert_eq!(percent(999_999, 1_000_000), "99.99 %");
        assert_eq!(percent(5, 5), "100 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
