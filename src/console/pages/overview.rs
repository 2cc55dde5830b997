//! How an API does, over time.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        chart::{Chart, Line},
        format,
        layout::{self, Side},
        parts,
        visit::{Page, Visit},
    },
    run, shows,
};
use crate::{
    model::{Api, ApiState, Permission, Timestamp},
    projection::metrics::{Counter, Gauges, Scope, SeriesPoint, SeriesQuery, Tally},
};

pub(super) const PAGES: &[Page] = &[shows("/apis/{api}", run!(overview))];

/// A time that can be chosen: its name in the address, for people, its length, and its step.
struct Range {
    name: &'static str,
    label: &'static str,
    length: Duration,
    step: Duration,
}

const RANGES: [Range; 5] = [
    Range {
        name: "5m",
        label: "5 min",
        length: Duration::from_mins(5),
        step: Duration::from_secs(5),
    },
    Range {
        name: "1h",
        label: "1 hour",
        length: Duration::from_hours(1),
        step: Duration::from_mins(1),
    },
    Range {
        name: "6h",
        label: "6 hours",
        length: Duration::from_hours(6),
        step: Duration::from_mins(5),
    },
    Range {
        name: "24h",
        label: "1 day",
        length: Duration::from_hours(24),
        step: Duration::from_mins(20),
    },
    Range {
        name: "7d",
        label: "7 days",
        length: Duration::from_hours(168),
        step: Duration::from_hours(2),
    },
];

fn range(visit: &Visit) -> &'static Range {
    let asked = visit.query.get("range").unwrap_or("1h");
    RANGES
        .iter()
        .find(|range| range.name == asked)
        .unwrap_or(&RANGES[1])
}

/// A value for each whole step, those included in which nothing happened. The step that is not over
/// yet has no place: its figures would look like a fall.
pub(super) fn steps(
    from: Timestamp,
    step: Duration,
    length: Duration,
    points: &[SeriesPoint],
    value: impl Fn(&Tally) -> Option<f64>,
) -> Vec<Option<f64>> {
    let width = i64::try_from(step.as_secs()).unwrap_or(1).max(1);
    let first = from.as_seconds().div_euclid(width);
    let count = usize::try_from(length.as_secs() / step.as_secs().max(1)).unwrap_or(0);
    let nothing = Tally::default();
    let mut values = vec![value(&nothing); count];
    for point in points {
        let index = usize::try_from(point.at.as_seconds().div_euclid(width) - first);
        if let Some(slot) = index.ok().and_then(|index| values.get_mut(index)) {
            *slot = value(&point.tally);
        }
    }
    values
}

async fn overview(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let metrics = visit.fresh(visit.handle().metrics()).await;
    let range = range(visit);
    let now = visit.now();
    let scope = Scope::Api(api.id);
    let from = now.minus(range.length);
    let series = metrics.series(&SeriesQuery {
        scope,
        from,
        to: now.plus(range.step),
        step: range.step,
    })?;
    let gauges = metrics.gauges(scope)?;
    let mut total = Tally::default();
    series
        .points
        .iter()
        .for_each(|point| total.add(&point.tally));
    let content = html! {
        (layout::head(&api.name, &html! { (api.description) }, &actions(visit, &api)))
        @if total.get(Counter::MessagesAccepted) == 0 && gauges.subscriptions == 0 { (first_steps(&api)) }
        div id="overview" data-live="metrics" {
            (figures(&total, &gauges, range, now))
            div.charts { @for chart in charts(from, range, &series.points, &total) { (chart.markup()) } }
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Overview,
        "Overview",
        &content,
    )))
}

fn actions(visit: &Visit, api: &Api) -> Markup {
    let root = format!("{ROOT}/apis/{}", api.id);
    let chosen = range(visit).name;
    html! {
        nav.ranges aria-label="Time" {
            @for range in &RANGES {
                a href=(format!("{root}?range={}", range.name)) aria-current=[(range.name == chosen).then_some("true")] { (range.label) }
            }
        }
        @if visit.may(Permission::Operate) {
            @match api.state {
                ApiState::Started => (parts::step(visit, &format!("{root}/stop"), "Stop", "")),
                ApiState::Stopped => (parts::step(visit, &format!("{root}/start"), "Start", "primary")),
            }
        }
        @if visit.may(Permission::Manage) {
            (parts::asking(&format!("{root}/delete"), "Delete", "button quiet-danger"))
        }
    }
}

fn figures(total: &Tally, gauges: &Gauges, range: &Range, now: Timestamp) -> Markup {
    let quantile = |share| {
        let found = total.attempt_duration.quantile(share);
        found.map_or_else(|| "–".to_owned(), format::duration)
    };
    let oldest = gauges.oldest_accepted_at.map_or_else(String::new, |at| {
        format!("oldest {}", format::duration(now.since(at)))
    });
    let accepted = total.get(Counter::MessagesAccepted);
    html! {
        dl.figures {
            (parts::figure("Messages accepted", &format::count(accepted), &format!("last {}", range.label)))
            (parts::figure("Calls that succeeded", &format::percent(total.get(Counter::AttemptsSucceeded), total.attempts()),
                &format!("of {}", format::count(total.attempts()))))
            (parts::figure("Call duration, p50", &quantile(0.5), &format!("p99 {}", quantile(0.99))))
            (parts::figure("Backlog now", &format::count(gauges.backlog), &oldest))
            (parts::figure("Retries waiting", &format::count(gauges.retries_scheduled), &circuits(gauges)))
            (parts::figure("Dead letters now", &format::count(gauges.dead_letters), ""))
        }
    }
}

fn circuits(gauges: &Gauges) -> String {
    match gauges.circuits_open {
        0 => String::new(),
        1 => "1 callback is down".to_owned(),
        open => format!("{open} callbacks are down"),
    }
}

fn per_second(value: f64) -> String {
    format!("{}/s", format::short(value))
}

fn share(value: f64) -> String {
    format!("{:.0} %", value * 100.0)
}

fn milliseconds(value: f64) -> String {
    format::duration(Duration::from_secs_f64(value / 1_000.0))
}

fn charts(from: Timestamp, range: &Range, points: &[SeriesPoint], total: &Tally) -> Vec<Chart> {
    let seconds = range.step.as_secs_f64();
    let rate = |counter: Counter| {
        steps(from, range.step, range.length, points, |tally| {
            Some(tally.get(counter) as f64 / seconds)
        })
    };
    let of = |value: &dyn Fn(&Tally) -> Option<f64>| {
        steps(from, range.step, range.length, points, value)
    };
    let quantile = |share: f64| {
        of(&|tally| {
            tally
                .attempt_duration
                .quantile(share)
                .map(|d| d.as_secs_f64() * 1_000.0)
        })
    };
    let length = range.length.as_secs_f64();
    let is_over = |value: &Option<f64>| value.is_some_and(|value| value > 0.0);
    let is_early = total.get(Counter::MessagesAccepted) > 0
        && !rate(Counter::MessagesAccepted).iter().any(is_over);
    let chart = |title, now, written, top, lines| Chart {
        title,
        now,
        from,
        step: range.step,
        written,
        top,
        is_early,
        lines,
    };
    let line = |name, class, values| Line {
        name,
        class,
        values,
    };
    vec![
        chart(
            "Throughput",
            per_second(total.get(Counter::Delivered) as f64 / length),
            per_second,
            None,
            vec![
                line("accepted", "accent", rate(Counter::MessagesAccepted)),
                line("delivered", "good", rate(Counter::Delivered)),
            ],
        ),
        chart(
            "Success rate of calls",
            format::percent(total.get(Counter::AttemptsSucceeded), total.attempts()),
            share,
            Some(1.0),
            vec![line(
                "succeeded",
                "good",
                of(&|tally| {
                    let attempts = tally.attempts();
                    (attempts > 0)
                        .then(|| tally.get(Counter::AttemptsSucceeded) as f64 / attempts as f64)
                }),
            )],
        ),
        chart(
            "Call duration",
            String::new(),
            milliseconds,
            None,
            vec![
                line("p50", "accent", quantile(0.5)),
                line("p90", "waiting", quantile(0.9)),
                line("p99", "bad", quantile(0.99)),
            ],
        ),
        chart(
            "Retries planned",
            format::count(total.get(Counter::Retries)),
            per_second,
            None,
            vec![line("retries", "waiting", rate(Counter::Retries))],
        ),
        chart(
            "Failed calls",
            format::count(total.failed()),
            per_second,
            None,
            vec![line(
                "failed",
                "bad",
                of(&|tally| Some(tally.failed() as f64 / seconds)),
            )],
        ),
        chart(
            "Dead letters",
            format::count(total.get(Counter::DeadLettered)),
            per_second,
            None,
            vec![line("dead-lettered", "bad", rate(Counter::DeadLettered))],
        ),
    ]
}

/// What to do with an API that nothing came to yet.
fn first_steps(api: &Api) -> Markup {
    let root = format!("{ROOT}/apis/{}", api.id);
    html! {
        section.card.steps {
            h2 { "Nothing came here yet" }
            ol {
                li { "Say how its webhooks are called: " a href=(format!("{root}/configuration")) { "Configuration" } "." }
                li { "Add the first callback: " a href=(format!("{root}/subscriptions/new")) { "Subscriptions" } "." }
                li { "Publish a message: " code { "hooklog publish " (api.id) " --text hello" }
                    ", or let the gateway make some: " a href=(format!("{root}/source")) { "Source" } "." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_place() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let point = SeriesPoint {
            at: at(120),
            tally: Tally::default(),
        };
        let values = steps(
            at(61),
            Duration::from_secs(60),
            Duration::from_secs(180),
            &[point],
            |_| Some(1.0),
        );
        assert_eq!(values, [Some(1.0); 3]);
    }
}
