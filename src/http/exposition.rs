//! The gateway's figures in the Prometheus text format.
//!
//! Figures that the metrics projection counts survive restarts and are there, at 0, from the start.
//! `hooklog_log_append_seconds` counts from the start of the process.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    log::AppendTimes,
    model::Timestamp,
    projection::metrics::{BUCKET_BOUNDS_MS, Counter, Gauges, Histogram, Tally},
};

/// The content type of what [`Figures::written`] gives.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Everything that is exposed, as it stands at one moment.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) now: Timestamp,
    pub(super) totals: Tally,
    pub(super) gauges: Gauges,
    pub(super) appends: Option<AppendTimes>,
    pub(super) log_bytes: u64,
    /// Each projection's name, and how many events it is behind.
    pub(super) lags: Vec<(&'static str, u64)>,
}

impl Figures {
    /// The same as text.
    pub(super) fn written(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.deliveries(&mut page)?;
        self.standing(&mut page)?;
        self.log(&mut page)
    }
}

impl Figures {
    /// What was delivered.
    fn deliveries(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        let accepted = totals.get(Counter::MessagesAccepted);
        page.counters(
            "hooklog_messages_accepted",
            "Messages that were accepted",
            &[([], accepted)],
        )?;
        let succeeded = totals.get(Counter::AttemptsSucceeded);
        let label = |outcome, class| [("outcome", outcome), ("status_class", class)];
        let mut attempts = vec![(label("succeeded", "2xx"), succeeded)];
        let failed = Counter::FAILED.iter();
        attempts.extend(failed.map(|(counter, class)| {
            let label = label("failed", class.as_str());
            (label, totals.get(*counter))
        }));
        page.counters("hooklog_attempts", "Calls of callbacks", &attempts)?;
        let ended = [
            ("delivered", Counter::Delivered),
            ("dead_lettered", Counter::DeadLettered),
            ("discarded", Counter::Discarded),
        ];
        page.counters(
            "hooklog_deliveries",
            "Deliveries that came to an end",
            &ended.map(|(outcome, counter)| ([("outcome", outcome)], totals.get(counter))),
        )?;
        page.histogram(
            "hooklog_attempt_duration_seconds",
            "How long calls of callbacks took",
            &distribution(&totals.attempt_duration),
        )?;
        page.histogram(
            "hooklog_delivery_e2e_seconds",
            "From the acceptance of a message to its delivery",
            &distribution(&totals.e2e),
        )
    }

    /// What stands at this moment.
    fn standing(&self, page: &mut Page<'_>) -> fmt::Result {
        let gauges = &self.gauges;
        let accepted_at = gauges.oldest_accepted_at;
        let oldest = accepted_at.map_or(Duration::ZERO, |accepted_at| self.now.since(accepted_at));
        page.gauge(
            "hooklog_backlog_messages",
            "Messages times subscriptions that wait, paused and held ones included",
            gauges.backlog as f64,
        )?;
        page.gauge(
            "hooklog_backlog_oldest_seconds",
            "How long the oldest of them has waited",
            oldest.as_secs_f64(),
        )?;
        page.gauge(
            "hooklog_retries_scheduled",
            "Deliveries that wait for a planned retry",
            gauges.retries_scheduled as f64,
        )?;
        page.gauge(
            "hooklog_dead_letters",
            "Dead letters that are kept, neither redelivered nor discarded",
            gauges.dead_letters as f64,
        )?;
        let open = gauges.circuits_open;
        let closed = gauges.subscriptions.saturating_sub(open);
        page.gauges(
            "hooklog_circuit",
            "Subscriptions by the state of their circuit; open: the callback is taken as down",
            "state",
            &[("open", open), ("closed", closed)],
        )
    }

    /// The log and what is folded from it.
    fn log(&self, page: &mut Page<'_>) -> fmt::Result {
        if let Some(appends) = &self.appends {
            page.histogram(
                "hooklog_log_append_seconds",
                "From asking for an append to its being durable, since the process started",
                &Distribution {
                    sum: appends.sum.as_secs_f64(),
                    count: appends.count(),
                    buckets: appends.buckets.iter().map(bucket).collect(),
                },
            )?;
        }
        page.gauge(
            "hooklog_log_bytes",
            "Bytes of the event log on disk",
            self.log_bytes as f64,
        )?;
        page.gauges(
            "hooklog_projection_lag_events",
            "Events that a projection has not seen",
            "projection",
            &self.lags,
        )
    }
}

/// A histogram as it is written: seconds, and how many fell into each bucket.
struct Distribution {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

fn bucket((bound, count): &(Option<Duration>, u64)) -> (f64, u64) {
    (
        bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64()),
        *count,
    )
}

fn distribution(histogram: &Histogram) -> Distribution {
    let bounds = BUCKET_BOUNDS_MS.map(|ms| Some(Duration::from_millis(ms)));
    let bounds = bounds.into_iter().chain([None]);
    Distribution {
        sum: Duration::from_micros(histogram.sum_us).as_secs_f64(),
        count: histogram.count(),
        buckets: bounds
            .zip(histogram.buckets)
            .map(|pair| bucket(&pair))
            .collect(),
    }
}

/// The text that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: &[([(&'static str, &'static str); LABELS], u64)],
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let mut metric = family.encode_family(labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        metric.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (of, value) in values {
            let labels = [(label, *of)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_gauge(&(*value as f64))?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Distribution) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        metric.encode_histogram::<NoLabelSet>(values.sum, values.count, &values.buckets, None)
    }
}
