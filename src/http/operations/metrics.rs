//! Figures: for Prometheus, and as series for charts.

use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{
    call::Call,
    exposition::{self, Figures},
    operation::{Content, Gate, Operation, schema},
    problem::{Problem, as_query},
    reply::Reply,
};
use crate::{
    model::{ApiId, Permission, SubscriptionId, Timestamp},
    projection::metrics::{Counter, Histogram, Scope, SeriesPoint, SeriesQuery, Tally},
};

const PROMETHEUS_TEXT: Content = Content {
    types: &[exposition::CONTENT_TYPE],
    schema: None,
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "getMetrics",
        "/metrics",
        "The gateway's figures in the Prometheus text format. Open to anybody where metrics.open is configured.",
        schema::<Series>,
        |call| async move { scrape(&call).await }.boxed(),
    )
    .gate(Gate::Scrape(Permission::Read))
    .answers(200, PROMETHEUS_TEXT),
    Operation::get(
        "getSeries",
        "/v1/metrics/series",
        "Figures over time, for charts: of an API, of a subscription, or of everything.",
        schema::<Series>,
        |call| async move { series(&call).await }.boxed(),
    )
    .query(schema::<SeriesParameters>),
];

/// What a chart is about.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SeriesParameters {
    /// Of this API.
    api: Option<ApiId>,
    /// Of this subscription.
    subscription: Option<SubscriptionId>,
    /// The first time that is shown. Default an hour before `to`.
    from: Option<Timestamp>,
    /// The first time that is not. Default now.
    to: Option<Timestamp>,
    /// Seconds from one point to the next; whole minutes of a subscription. Seconds are kept for an
    /// hour, minutes for seven days (of a subscription for one), hours for longer: a step whose figures
    /// are no longer kept back to `from` is refused. Default: the shortest round one that is kept and
    /// gives at most 200 points.
    #[schemars(range(min = 1))]
    step: Option<u64>,
}

/// Figures over time.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Series {
    /// The first time that is shown.
    from: Timestamp,
    /// The first time that is not.
    to: Timestamp,
    /// From one point to the next.
    step_seconds: u64,
    /// How finely the figures are kept that the points are added up from.
    resolution_seconds: u64,
    /// The points, oldest first, at multiples of the step; one in which nothing happened is left
    /// out.
    points: Vec<Point>,
}

/// What happened in one step.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Point {
    /// When the step begins.
    at: Timestamp,
    /// Messages that were accepted.
    messages_accepted: u64,
    /// Calls that succeeded.
    attempts_succeeded: u64,
    /// Calls that failed, by the class of their status.
    attempts_failed: FailedAttempts,
    /// Deliveries that succeeded.
    delivered: u64,
    /// Deliveries given up and kept.
    dead_lettered: u64,
    /// Deliveries given up and not kept.
    discarded: u64,
    /// Messages that were not for a subscription.
    filtered: u64,
    /// Retries that were planned.
    retries: u64,
    /// Past deliveries that were made again.
    redelivered: u64,
    /// How long calls took.
    attempt_duration: Latency,
    /// From acceptance to delivery.
    delivery_e2e: Latency,
}

/// Calls that failed, by the class of their status.
#[derive(Serialize, JsonSchema)]
struct FailedAttempts {
    /// There was no response.
    none: u64,
    #[serde(rename = "1xx")]
    informational: u64,
    #[serde(rename = "2xx")]
    successful: u64,
    #[serde(rename = "3xx")]
    redirecting: u64,
    #[serde(rename = "4xx")]
    refusing: u64,
    #[serde(rename = "5xx")]
    failing: u64,
    other: u64,
}

/// How durations spread; each is absent where there was none.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Latency {
    /// How many there were.
    count: u64,
    /// All together.
    sum_seconds: f64,
    /// Half took at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_seconds: Option<f64>,
    /// 95 of 100 took at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_seconds: Option<f64>,
    /// 99 of 100 took at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_seconds: Option<f64>,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let quantile = |share| Some(histogram.quantile(share)?.as_secs_f64());
        Self {
            count: histogram.count(),
            sum_seconds: Duration::from_micros(histogram.sum_us).as_secs_f64(),
            p50_seconds: quantile(0.5),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
        }
    }
}

impl From<&Tally> for FailedAttempts {
    fn from(tally: &Tally) -> Self {
        Self {
            none: tally.get(Counter::FailedNoResponse),
            informational: tally.get(Counter::Failed1xx),
            successful: tally.get(Counter::Failed2xx),
            redirecting: tally.get(Counter::Failed3xx),
            refusing: tally.get(Counter::Failed4xx),
            failing: tally.get(Counter::Failed5xx),
            other: tally.get(Counter::FailedOther),
        }
    }
}

impl From<&SeriesPoint> for Point {
    fn from(point: &SeriesPoint) -> Self {
        let tally = &point.tally;
        Self {
            at: point.at,
            messages_accepted: tally.get(Counter::MessagesAccepted),
            attempts_succeeded: tally.get(Counter::AttemptsSucceeded),
            attempts_failed: tally.into(),
            delivered: tally.get(Counter::Delivered),
            dead_lettered: tally.get(Counter::DeadLettered),
            discarded: tally.get(Counter::Discarded),
            filtered: tally.get(Counter::Filtered),
            retries: tally.get(Counter::Retries),
            redelivered: tally.get(Counter::Redelivered),
            attempt_duration: (&tally.attempt_duration).into(),
            delivery_e2e: (&tally.e2e).into(),
        }
    }
}

async fn scrape(call: &Call) -> Result<Reply, Problem> {
    let handle = call.handle();
    let view = handle.metrics();
    let projections = handle.projections().into_iter();
    let figures = Figures {
        now: handle.now(),
        totals: view.totals(Scope::All)?,
        gauges: view.gauges(Scope::All)?,
        appends: handle.log().append_times(),
        log_bytes: log_bytes(call).await?,
        lags: projections.map(|p| (p.name, p.lag.0)).collect(),
    };
    let text = figures.written().map_err(|e| Problem::internal(&e))?;
    Ok(Reply::bytes(200, exposition::CONTENT_TYPE, text))
}

async fn log_bytes(call: &Call) -> Result<u64, Problem> {
    let log = call.handle().log().clone();
    let counted = tokio::task::spawn_blocking(move || log.bytes_on_disk());
    let counted = counted.await.map_err(|error| Problem::internal(&error))?;
    counted.map_err(|error| Problem::internal(&error))
}

async fn series(call: &Call) -> Result<Reply, Problem> {
    let parameters: SeriesParameters = call.query()?;
    let scope = scope(call, &parameters).await?;
    let now = call.handle().now();
    let to = parameters.to.unwrap_or(now);
    let hour_before = || to.minus(Duration::from_hours(1));
    let from = parameters.from.unwrap_or_else(hour_before);
    if from >= to {
        let detail = format!("is not before the end, {to}");
        return Err(Problem::field("?from", detail));
    }
    let step = parameters
        .step
        .unwrap_or_else(|| default_step(scope, from, to, now));
    let query = SeriesQuery {
        scope,
        from,
        to,
        step: Duration::from_secs(step),
    };
    query.check_kept(now).map_err(as_query)?;
    let view = call.handle().metrics();
    call.fresh(&view).await;
    let series = view.series(&query)?;
    let answer = Series {
        from,
        to,
        step_seconds: step,
        resolution_seconds: series.resolution.width().as_secs(),
        points: series.points.iter().map(Point::from).collect(),
    };
    Reply::json(200, &answer)
}

async fn scope(call: &Call, parameters: &SeriesParameters) -> Result<Scope, Problem> {
    if let Some(api) = parameters.api {
        call.handle().api(api)?;
    }
    let Some(id) = parameters.subscription else {
        return Ok(parameters.api.map_or(Scope::All, Scope::Api));
    };
    let view = call.handle().subscriptions();
    call.fresh(&view).await;
    let row = view.subscription(id)?;
    let on_api = |of: ApiId| parameters.api.is_none_or(|api| api == of);
    let found = row.filter(|row| on_api(row.state.definition.api));
    found
        .map(|_| Scope::Subscription(id))
        .ok_or_else(|| Problem::not_found(format!("subscription {id}")))
}

/// The shortest round step that gives at most 200 points, of figures that are kept of the scope as
/// far back as the range begins.
fn default_step(scope: Scope, from: Timestamp, to: Timestamp, now: Timestamp) -> u64 {
    const POINTS: u64 = 200;
    const STEPS: [u64; 9] = [1, 5, 20, 60, 300, 1_800, 3_600, 21_600, 86_400];
    let is_kept = |step: u64| {
        let step = Duration::from_secs(step);
        let query = SeriesQuery {
            scope,
            from,
            to,
            step,
        };
        query.check_kept(now).is_ok()
    };
    let mut fitting = STEPS
        .into_iter()
        .filter(|step| to.since(from).as_secs() <= step * POINTS && is_kept(*step));
    fitting.next().unwrap_or(86_400)
}
