//! What the demo shows: a live line per callback, and a table at the end.

use std::{path::Path, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::callbacks::Temper;
use crate::{
    cli::{
        CliError, Output,
        output::{Rows, draw_target, duration},
    },
    model::SubscriptionId,
    projection::metrics::{Counter, Scope, Tally},
    runtime::Handle,
};

/// What came of the messages at one callback.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallbackFigures {
    callback: &'static str,
    published: u64,
    attempts: u64,
    delivered: u64,
    retried: u64,
    dead_lettered: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
}

/// What came of the messages.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) published: u64,
    pub(super) callbacks: Vec<CallbackFigures>,
    pub(super) deliveries_per_second: f64,
    pub(super) messages_per_second: f64,
    pub(super) elapsed_ms: u64,
}

impl Figures {
    /// Reads them from the views.
    pub(super) fn read(
        handle: &Handle,
        published: u64,
        elapsed: Duration,
        subscriptions: &[(Temper, SubscriptionId)],
    ) -> Result<Self, CliError> {
        let mut callbacks = Vec::new();
        for (temper, id) in subscriptions {
            let tally = handle.metrics().totals(Scope::Subscription(*id))?;
            callbacks.push(CallbackFigures::new(*temper, published, &tally));
        }
        let ended: u64 = callbacks
            .iter()
            .map(|c| c.delivered + c.dead_lettered)
            .sum();
        let seconds = elapsed.as_secs_f64().max(0.001);
        Ok(Self {
            published,
            callbacks,
            deliveries_per_second: ended as f64 / seconds,
            messages_per_second: published as f64 / seconds,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Whether every message met the fate that its callback stands for.
    pub(super) fn check(&self) -> Result<(), CliError> {
        for callback in &self.callbacks {
            let ended = callback.delivered + callback.dead_lettered;
            if ended != self.published {
                return Err(CliError::failure(format!(
                    "{} of {} messages to the {} callback have no fate",
                    self.published.saturating_sub(ended),
                    self.published,
                    callback.callback
                )));
            }
        }
        Ok(())
    }

    /// The table at the end, or one line of JSON.
    pub(super) fn show(&self, data: &Path, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() {
            let mut value = serde_json::to_value(self)?;
            value["data"] = data.display().to_string().into();
            output.json(&value)?;
            return Ok(output.flush()?);
        }
        let head = [
            "Callback",
            "Published",
            "Attempts",
            "Delivered",
            "Retried",
            "Dead-lettered",
            "p50",
            "p99",
        ];
        let mut table = Rows::new(head).numbers(1..8);
        for callback in &self.callbacks {
            let time = |us: Option<u64>| us.map(Duration::from_micros).map_or("-".into(), duration);
            table.push([
                callback.callback.to_owned(),
                callback.published.to_string(),
                callback.attempts.to_string(),
                callback.delivered.to_string(),
                callback.retried.to_string(),
                callback.dead_lettered.to_string(),
                time(callback.p50_us),
                time(callback.p99_us),
            ]);
        }
        output.table(&table, "")?;
        output.line(format!(
            "{} messages in {}: {:.0} messages/s, {:.0} deliveries/s, each durable before it counted",
            self.published,
            duration(Duration::from_millis(self.elapsed_ms)),
            self.messages_per_second,
            self.deliveries_per_second
        ))?;
        output.line(format!(
            "Look around:  hooklog logs --data {}",
            data.display()
        ))?;
        Ok(output.flush()?)
    }
}

impl CallbackFigures {
    fn new(temper: Temper, published: u64, tally: &Tally) -> Self {
        let quantile = |share| {
            let us = tally.attempt_duration.quantile(share)?.as_micros();
            u64::try_from(us).ok()
        };
        Self {
            callback: temper.as_str(),
            published,
            attempts: tally.attempts(),
            delivered: tally.get(Counter::Delivered),
            retried: tally.get(Counter::Retries),
            dead_lettered: tally.get(Counter::DeadLettered),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        }
    }
}

/// The live summary on standard error; nothing where that is no terminal.
pub(super) struct Live {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Live {
    pub(super) fn new(
        messages: Option<u64>,
        data: &Path,
        base: &str,
        sign_in: Option<&str>,
    ) -> Self {
        eprintln!("data       {}", data.display());
        if let Some(link) = sign_in {
            eprintln!("console    {link}");
        }
        eprintln!("callbacks  {base}/healthy  {base}/flaky  {base}/broken");
        if messages.is_none() {
            eprintln!("Ctrl-C ends the demo; what is in flight ends first.");
        }
        let bars = MultiProgress::with_draw_target(draw_target());
        let template = if messages.is_some() {
            "{prefix:>9} {bar:30} {human_pos:>9}/{human_len} {msg}"
        } else {
            "{prefix:>9} {spinner} {human_pos:>9} {msg}"
        };
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let lines = ["published", "healthy", "flaky", "broken"].map(|name| {
            let bar = messages.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bars.add(bar.with_style(style.clone()).with_prefix(name))
        });
        Self {
            bars,
            lines: lines.into(),
        }
    }

    pub(super) fn draw(&self, figures: &Figures) {
        self.lines[0].set_position(figures.published);
        self.lines[0].set_message(format!("{:.0} messages/s", figures.messages_per_second));
        for (line, callback) in self.lines[1..].iter().zip(&figures.callbacks) {
            line.set_position(callback.delivered + callback.dead_lettered);
            line.set_message(format!(
                "{} delivered, {} retried, {} dead-lettered",
                callback.delivered, callback.retried, callback.dead_lettered
            ));
        }
    }

    pub(super) fn end(&self) {
        for line in &self.lines {
            line.abandon();
        }
        // The bars are drawn for the eye alone.
        let _ = self.bars.clear();
    }
}
