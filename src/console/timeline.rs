//! The attempts of a delivery as a picture in time: above, when each began and what was waited
//! between them; below, what each call spent its time on.

use maud::{Markup, html};

use super::format;
use crate::{
    model::{Timestamp, Timings},
    projection::deliveries::{AttemptDetail, DeliveryRow},
};

/// Inner width of the picture, in its own units.
const WIDTH: f64 = 1_000.0;
/// Most attempts that are drawn: a picture of more cannot be read. The table has them all.
const DRAWN_MAX: usize = 24;

/// A part of a call.
struct Part {
    name: &'static str,
    class: &'static str,
    us: u32,
}

/// The parts of a call, in their order.
fn parts(timings: &Timings) -> Vec<Part> {
    let before = [timings.dns_us, timings.connect_us, timings.tls_us];
    let wait = timings.first_byte_us;
    let told: u32 = before.into_iter().flatten().chain(wait).sum();
    let rest = timings.total_us.saturating_sub(told);
    let rest_name = if wait.is_some() { "read" } else { "no answer" };
    let all = [
        ("DNS", "dns", timings.dns_us),
        ("connect", "connect", timings.connect_us),
        ("TLS", "tls", timings.tls_us),
        ("first byte", "wait", wait),
        (rest_name, "read", Some(rest)),
    ];
    let known = all.into_iter().filter_map(|(name, class, us)| {
        let us = us.filter(|us| *us > 0)?;
        Some(Part { name, class, us })
    });
    known.collect()
}

fn micros(us: u32) -> String {
    format::duration(std::time::Duration::from_micros(us.into()))
}

/// The picture; nothing where no call was made.
pub(super) fn picture(row: &DeliveryRow, attempts: &[AttemptDetail], now: Timestamp) -> Markup {
    let left_out = attempts.len().saturating_sub(DRAWN_MAX);
    let drawn = &attempts[left_out..];
    let Some(first) = drawn.first() else {
        return html! {};
    };
    let last = drawn.last().unwrap_or(first);
    let ended = last.started_at.plus(std::time::Duration::from_micros(
        last.timings.total_us.into(),
    ));
    let end = row
        .next_attempt_at
        .filter(|due| *due > ended)
        .unwrap_or(ended);
    let span = end.since(first.started_at).as_secs_f64().max(1e-6);
    let x = |at: Timestamp| at.since(first.started_at).as_secs_f64() / span;
    let longest = drawn
        .iter()
        .map(|attempt| attempt.timings.total_us)
        .max()
        .unwrap_or(1)
        .max(1);
    html! {
        figure.attempts {
            figcaption.visually-hidden { "Attempts in time. The table below has every figure." }
            @if drawn.len() > 1 || row.next_attempt_at.is_some() { div.track {
                svg viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label=(told(drawn)) {
                    path.grid d="M12 20H988" {}
                    @for attempt in drawn {
                        @let at = 12.0 + x(attempt.started_at) * 976.0;
                        path class=(if is_good(attempt) { "dot good" } else { "dot bad" }) d=(format!("M{at:.1} 20h.01")) {
                            title { "attempt " (attempt.number) " at " (format::clock(attempt.started_at)) ": " (result(attempt)) }
                        }
                    }
                    @if let Some(due) = row.next_attempt_at {
                        path.dot.waiting d=(format!("M{:.1} 20h.01", 12.0 + x(due).min(1.0) * 976.0)) {
                            title { "next attempt " (format::ago(due, now)) }
                        }
                    }
                }
                div.times { span { (format::clock(first.started_at)) } span { "after " (format::duration(end.since(first.started_at))) } }
            } }
            ol.calls {
                @if left_out > 0 { li.gap { (left_out) " earlier attempts are in the table" } }
                @for attempt in drawn {
                    @if let Some(waited) = attempt.waited_ms.filter(|_| attempt.number != first.number) {
                        li.gap { "waited " (format::duration(std::time::Duration::from_millis(waited))) }
                    }
                    li.call {
                        span.call-number { (attempt.number) @if attempt.probe { " probe" } }
                        svg viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" { (bars(attempt, longest)) }
                        span.call-result { (super::parts::status(attempt.status)) " " (micros(attempt.timings.total_us)) }
                    }
                }
                @if let Some(due) = row.next_attempt_at { li.gap { "next attempt " (format::ago(due, now)) } }
            }
            p.legend {
                @for (name, class) in [("DNS", "dns"), ("connect", "connect"), ("TLS", "tls"), ("first byte", "wait"), ("rest", "read")] {
                    span { i class=(class) {} (name) }
                }
            }
        }
    }
}

fn bars(attempt: &AttemptDetail, longest: u32) -> Markup {
    let scale = WIDTH / f64::from(longest);
    let mut x = 0.0;
    let bars = parts(&attempt.timings).into_iter().map(|part| {
        // What took a part of a pixel is shown all the same.
        let width = (f64::from(part.us) * scale).max(3.0);
        let bar = html! {
            rect class=(part.class) x=(format!("{x:.1}")) y="0" width=(format!("{width:.1}")) height="12" {
                title { (part.name) " " (micros(part.us)) }
            }
        };
        x += width;
        bar
    });
    html! { @for bar in bars { (bar) } }
}

fn is_good(attempt: &AttemptDetail) -> bool {
    (200..300).contains(&attempt.status) && attempt.error.is_none()
}

/// How an attempt ended, in words.
pub(super) fn result(attempt: &AttemptDetail) -> String {
    match &attempt.error {
        Some(error) => error.to_string(),
        None => format!("status {}", attempt.status),
    }
}

fn told(attempts: &[AttemptDetail]) -> String {
    let each = attempts.iter().map(|attempt| {
        let waited = attempt.waited_ms.map_or_else(String::new, |ms| {
            format!(
                "after {}, ",
                format::duration(std::time::Duration::from_millis(ms))
            )
        });
        format!("{waited}attempt {}: {}", attempt.number, result(attempt))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// The parts of a call, in words.
pub(super) fn parts_told(timings: &Timings) -> String {
    let told = parts(timings)
        .into_iter()
        .map(|part| format!("{} {}", part.name, micros(part.us)));
    told.collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_call_make_up_the_whole() {
        let timings = Timings {
            dns_us: Some(100),
            connect_us: Some(200),
            tls_us: Some(300),
            first_byte_us: Some(1_000),
            total_us: 1_700,
        };
        let found = parts(&timings);
        let names: Vec<_> = found.iter().map(|part| part.name).collect();
        assert_eq!(names, ["DNS", "connect", "TLS", "first byte", "read"]);
        assert_eq!(found.iter().map(|part| part.us).sum::<u32>(), 1_700);
        let refused = Timings {
            total_us: 40,
            ..Timings::default()
        };
        assert_eq!(parts_told(&refused), "no answer 40 µs");
    }
}
