//! Charts as SVG: paths that stretch with the page, labels that do not.
//!
//! Colours and widths come from the style sheet, so a chart follows the light or dark of the page;
//! the figures stand in a table behind it.

use std::{fmt::Write as _, time::Duration};

use maud::{Markup, html};

use super::format;
use crate::model::Timestamp;

/// Inner size of a chart, in its own units: it is stretched to where it stands.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 100.0;

/// One line of a chart: a value for each step, none where there is nothing to tell.
pub(super) struct Line {
    /// Its name.
    pub(super) name: &'static str,
    /// Its colour, as the style sheet names it.
    pub(super) class: &'static str,
    /// Its values.
    pub(super) values: Vec<Option<f64>>,
}

/// Lines over the same steps of time.
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: &'static str,
    /// What stands large beside the title.
    pub(super) now: String,
    /// Where the first step begins.
    pub(super) from: Timestamp,
    /// How long a step is.
    pub(super) step: Duration,
    /// How a value is written.
    pub(super) written: fn(f64) -> String,
    /// The top of the scale where that is fixed.
    pub(super) top: Option<f64>,
    /// Whether everything there is to show lies in the step that is not over.
    pub(super) is_early: bool,
    /// The lines.
    pub(super) lines: Vec<Line>,
}

impl Chart {
    fn steps(&self) -> usize {
        self.lines
            .iter()
            .map(|line| line.values.len())
            .max()
            .unwrap_or(0)
    }

    fn time(&self, step: usize) -> Timestamp {
        let steps = u32::try_from(step).unwrap_or(u32::MAX);
        self.from.plus(self.step * steps)
    }

    /// The top of the scale: round, and above every value.
    fn top(&self) -> f64 {
        let values = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().flatten());
        let highest = values.fold(0.0_f64, |top, value| top.max(*value));
        self.top.unwrap_or_else(|| rounded_up(highest))
    }

    /// The chart with its table.
    pub(super) fn markup(&self) -> Markup {
        let top = self.top();
        let is_empty = self
            .lines
            .iter()
            .all(|line| line.values.iter().flatten().all(|value| *value == 0.0));
        html! {
            figure.chart {
                figcaption {
                    span.chart-title { (self.title) }
                    span.chart-now { (self.now) }
                    @if self.lines.len() > 1 {
                        span.legend { @for line in &self.lines { span { i class=(line.class) {} (line.name) } } }
                    }
                }
                div.plot {
                    div.scale aria-hidden="true" { span { ((self.written)(top)) } span { ((self.written)(top / 2.0)) } span { "0" } }
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(self.told()) {
                        path.grid d=(format!("M0 0H{WIDTH}M0 {0}H{WIDTH}M0 {HEIGHT}H{WIDTH}", HEIGHT / 2.0)) {}
                        @for line in &self.lines {
                            @if self.lines.len() == 1 { path class=(format!("area {}", line.class)) d=(area(&line.values, top)) {} }
                            (drawn(line.class, &line.values, top))
                        }
                        (self.hits())
                    }
                    @if is_empty { p.plot-empty { (self.why_empty()) } }
                    div.times aria-hidden="true" { @for at in self.marks() { span { (at) } } }
                }
                (self.table())
            }
        }
    }

    fn why_empty(&self) -> String {
        if self.is_early {
            let step = format::duration(self.step);
            format!("A point stands for {step}; the first is not over")
        } else {
            "Nothing in this time".to_owned()
        }
    }

    /// What it shows, in words.
    fn told(&self) -> String {
        let mut told = self.title.to_owned();
        for line in &self.lines {
            let values: Vec<_> = line.values.iter().flatten().copied().collect();
            let (low, high) = values.iter().fold((f64::MAX, 0.0_f64), |(low, high), v| {
                (low.min(*v), high.max(*v))
            });
            if let Some(last) = values.last() {
                // Writing to a string cannot fail.
                let _ = write!(
                    told,
                    ". {}: last {}, from {} to {}",
                    line.name,
                    (self.written)(*last),
                    (self.written)(low),
                    (self.written)(high)
                );
            }
        }
        told
    }

    /// What the pointer finds at each step.
    fn hits(&self) -> Markup {
        let steps = self.steps();
        let width = WIDTH / steps.max(1) as f64;
        html! {
            g.hits {
                @for step in 0..steps {
                    rect x=(format!("{:.2}", step as f64 * width)) y="0" width=(format!("{width:.2}")) height=(HEIGHT) {
                        title {
                            (format::clock(self.time(step)).split('.').next().unwrap_or_default())
                            @for line in &self.lines {
                                @if let Some(Some(value)) = line.values.get(step) { "\n" (line.name) ": " ((self.written)(*value)) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Times along the axis: day and time where it spans more than a day.
    fn marks(&self) -> Vec<String> {
        const MARKS: usize = 4;
        let steps = self.steps();
        let is_long =
            self.step * u32::try_from(steps).unwrap_or(u32::MAX) > Duration::from_hours(24);
        let mark = |at: Timestamp| {
            let text = format::time(at);
            if is_long {
                text[5..16].to_owned()
            } else {
                text[11..16].to_owned()
            }
        };
        (0..=MARKS)
            .map(|n| mark(self.time(n * steps / MARKS)))
            .collect()
    }

    fn table(&self) -> Markup {
        html! {
            details.behind {
                summary { "As a table" }
                div.table-wrap tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "Time (UTC)" } @for line in &self.lines { th.number scope="col" { (line.name) } } } }
                        tbody {
                            @for step in (0..self.steps()).rev() {
                                tr {
                                    td { (super::parts::time(self.time(step))) }
                                    @for line in &self.lines {
                                        td.number { @match line.values.get(step) { Some(Some(value)) => ((self.written)(*value)), _ => "–" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A line without anything around it.
pub(super) fn sparkline(values: &[Option<f64>], top: f64, told: &str) -> Markup {
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(told) {
            title { (told) }
            (drawn("good", values, top))
        }
    }
}

fn point(step: usize, steps: usize, value: f64, top: f64) -> (f64, f64) {
    let x = if steps < 2 {
        0.0
    } else {
        step as f64 / (steps - 1) as f64 * WIDTH
    };
    let share = if top > 0.0 {
        (value / top).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (x, HEIGHT - share * HEIGHT)
}

/// The line, and a dot for each value that has none beside it.
fn drawn(class: &str, values: &[Option<f64>], top: f64) -> Markup {
    let alone = alone(values, top);
    html! {
        path class=(format!("line {class}")) d=(path(values, top)) {}
        @if !alone.is_empty() { path class=(format!("line point {class}")) d=(alone) {} }
    }
}

/// The places of values between gaps.
fn alone(values: &[Option<f64>], top: f64) -> String {
    let is_there = |step: Option<usize>| {
        step.and_then(|step| values.get(step))
            .is_some_and(Option::is_some)
    };
    let mut path = String::new();
    for (step, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        if is_there(step.checked_sub(1)) || is_there(Some(step + 1)) {
            continue;
        }
        let (x, y) = point(step, values.len(), *value, top);
        // Writing to a string cannot fail.
        let _ = write!(path, "M{x:.1} {y:.1}h.01");
    }
    path
}

/// The line, with gaps where there is no value.
fn path(values: &[Option<f64>], top: f64) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    for (step, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_drawing = false;
            continue;
        };
        let (x, y) = point(step, values.len(), *value, top);
        // Writing to a string cannot fail.
        let _ = write!(path, "{}{x:.1} {y:.1}", if is_drawing { "L" } else { "M" });
        is_drawing = true;
    }
    path
}

/// Ends a part of an area at its last value.
fn closed(path: &mut String, last: Option<f64>) -> Option<f64> {
    if let Some(x) = last {
        // Writing to a string cannot fail.
        let _ = write!(path, "L{x:.1} {HEIGHT}Z");
    }
    None
}

/// What lies below the line, with gaps where there is no value.
fn area(values: &[Option<f64>], top: f64) -> String {
    let mut path = String::new();
    let mut last = None;
    for (step, value) in values.iter().enumerate() {
        let Some(value) = value else {
            last = closed(&mut path, last);
            continue;
        };
        let (x, y) = point(step, values.len(), *value, top);
        if last.is_none() {
            let _ = write!(path, "M{x:.1} {HEIGHT}");
        }
        let _ = write!(path, "L{x:.1} {y:.1}");
        last = Some(x);
    }
    closed(&mut path, last);
    path
}

/// The next of 1, 2 and 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = steps.into_iter().find(|step| step * power >= value);
    fits.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_value() {
        for (value, expected) in [
            (0.0, 1.0),
            (0.7, 1.0),
            (3.0, 5.0),
            (10.0, 10.0),
            (110.0, 200.0),
        ] {
            assert!((rounded_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let values = [Some(0.0), Some(2.0), None, Some(1.0)];
        assert_eq!(path(&values, 2.0), "M0.0 100.0L333.3 0.0M1000.0 50.0");
        assert_eq!(alone(&values, 2.0), "M1000.0 50.0h.01");
    }
}
