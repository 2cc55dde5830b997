//! Figures: what Prometheus scrapes, and series for charts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use hooklog::{
    model::{Api, ApiId, Message, Retry, RetryOption, Role, Subscription, SubscriptionId},
    testing::{FakeAnswer, TestRuntime},
};
use serde_json::json;
use uuid::Uuid;

use crate::support::gateway::Served;

/// A scrape: the type of each family, and the value of each sample by its name and labels.
#[derive(Debug, Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the text format 0.0.4, and checks that it keeps its rules.
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty(), "{line}");
                assert!(scrape.helps.insert(name.to_owned()), "{line} comes twice");
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').unwrap();
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} is described twice");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                assert!(scrape.family(name).is_some(), "{line} is of no family");
                let value = value.parse().unwrap();
                let before = scrape.samples.insert(sample.to_owned(), value);
                assert_eq!(before, None, "{sample} is given twice");
            }
        }
        scrape
    }

    fn family(&self, sample: &str) -> Option<&str> {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| sample.strip_suffix(part));
        let of = |name: &str| {
            self.types
                .get_key_value(name)
                .map(|(name, _)| name.as_str())
        };
        of(sample).or_else(|| whole.and_then(of))
    }

    fn value(&self, sample: &str) -> f64 {
        let found = self.samples.get(sample);
        *found.unwrap_or_else(|| panic!("no {sample} in {self:#?}"))
    }

    /// Values as whole numbers.
    fn values<const N: usize>(&self, samples: [&str; N]) -> [u64; N] {
        samples.map(|sample| {
            let value = self.value(sample);
            assert!(value.fract() == 0.0 && value >= 0.0, "{sample} {value}");
            format!("{value:.0}").parse().unwrap()
        })
    }
}

async fn scrape(served: &Served) -> Scrape {
    let answer = served.get("/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = answer.header("content-type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    Scrape::parse(&answer.text)
}

/// An API with one subscription that retries nothing.
async fn subscribed(served: &Served) -> (ApiId, SubscriptionId) {
    let handle = served.test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let mut to = Subscription::to("https://example.com/hook").unwrap();
    to.configuration.retry = Some(Retry {
        retry_option: RetryOption::NoRetry,
        ..Retry::default()
    });
    let subscription = handle.subscribe(api, to).await.unwrap().id;
    (api, subscription)
}

/// Publishes one message for each of these answers.
async fn deliver(served: &Served, api: ApiId, answers: &[u16]) {
    for status in answers.iter().copied() {
        let transport = served.test.transport();
        transport.answer(move |_| FakeAnswer::Status(status));
        let message = Message::text("hello");
        served.test.handle().publish(api, message).await.unwrap();
        served.test.settle().await;
    }
}

async fn start(data: &Path) -> Served {
    Served::serve(TestRuntime::start(data, 1).await.unwrap()).await
}

#[tokio::test]
async fn names_and_labels_are_those_that_are_promised_and_there_from_the_start() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let scrape = scrape(&served).await;
    let expected = [
        ("hooklog_attempt_duration_seconds", "histogram"),
        ("hooklog_attempts_total", "counter"),
        ("hooklog_backlog_messages", "gauge"),
        ("hooklog_backlog_oldest_seconds", "gauge"),
        ("hooklog_circuit", "gauge"),
        ("hooklog_dead_letters", "gauge"),
        ("hooklog_deliveries_total", "counter"),
        ("hooklog_delivery_e2e_seconds", "histogram"),
        ("hooklog_log_append_seconds", "histogram"),
        ("hooklog_log_bytes", "gauge"),
        ("hooklog_messages_accepted_total", "counter"),
        ("hooklog_projection_lag_events", "gauge"),
        ("hooklog_retries_scheduled", "gauge"),
    ];
    let types = scrape.types.iter().map(|(a, b)| (a.as_str(), b.as_str()));
    assert_eq!(types.collect::<Vec<_>>(), expected);
    assert!(scrape.helps.iter().eq(scrape.types.keys()), "{scrape:#?}");
    let without_labels = [
        "hooklog_attempt_duration_seconds_count",
        "hooklog_attempt_duration_seconds_sum",
        "hooklog_backlog_messages",
        "hooklog_backlog_oldest_seconds",
        "hooklog_dead_letters",
        "hooklog_delivery_e2e_seconds_count",
        "hooklog_delivery_e2e_seconds_sum",
        "hooklog_messages_accepted_total",
        "hooklog_retries_scheduled",
    ];
    assert_eq!(scrape.values(without_labels), [0; 9]);
    let with_labels = scrape.samples.keys().filter(|sample| {
        sample.contains('{') && !sample.contains("_bucket{") && !sample.contains("projection")
    });
    let failed = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"].map(|class| {
        format!("hooklog_attempts_total{{outcome=\"failed\",status_class=\"{class}\"}}")
    });
    let mut labelled: BTreeSet<String> = failed.into();
    labelled.extend(
        [
            "hooklog_attempts_total{outcome=\"succeeded\",status_class=\"2xx\"}",
            "hooklog_deliveries_total{outcome=\"delivered\"}",
            "hooklog_deliveries_total{outcome=\"dead_lettered\"}",
            "hooklog_deliveries_total{outcome=\"discarded\"}",
            "hooklog_circuit{state=\"open\"}",
            "hooklog_circuit{state=\"closed\"}",
        ]
        .map(ToOwned::to_owned),
    );
    assert_eq!(with_labels.cloned().collect::<BTreeSet<_>>(), labelled);
    for sample in &labelled {
        assert_eq!(scrape.values([sample]), [0], "{sample}");
    }
    let projections = served.test.handle().projections().into_iter();
    for projection in projections {
        let name = projection.name;
        scrape.value(&format!(
            "hooklog_projection_lag_events{{projection=\"{name}\"}}"
        ));
    }
    served.shutdown().await;
}

#[tokio::test]
async fn figures_agree_with_what_was_delivered_and_survive_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let (api, subscription) = subscribed(&served).await;
    deliver(&served, api, &[200, 204, 400, 200]).await;
    let handle = served.test.handle();
    handle.pause(subscription).await.unwrap();
    deliver(&served, api, &[200, 200]).await;
    served.test.clock().advance(Duration::from_secs(90));
    let counted = [
        "hooklog_messages_accepted_total",
        "hooklog_attempts_total{outcome=\"succeeded\",status_class=\"2xx\"}",
        "hooklog_attempts_total{outcome=\"failed\",status_class=\"4xx\"}",
        "hooklog_deliveries_total{outcome=\"delivered\"}",
        "hooklog_deliveries_total{outcome=\"dead_lettered\"}",
        "hooklog_attempt_duration_seconds_count",
        "hooklog_attempt_duration_seconds_bucket{le=\"+Inf\"}",
        "hooklog_delivery_e2e_seconds_count",
        "hooklog_backlog_messages",
        "hooklog_backlog_oldest_seconds",
        "hooklog_dead_letters",
        "hooklog_circuit{state=\"closed\"}",
    ];
    let expected = [6, 3, 1, 3, 1, 4, 4, 3, 2, 90, 1, 1];
    let before = scrape(&served).await;
    assert_eq!(before.values(counted), expected);
    let [bytes] = before.values(["hooklog_log_bytes"]);
    assert!(bytes > 0);
    let [appends] = before.values(["hooklog_log_append_seconds_count"]);
    assert!(appends >= 6, "{appends}");

    let (admin, test) = (served.admin.clone(), served.stop().await);
    let mut served = Served::serve(test.crash_and_reopen().await.unwrap()).await;
    served.admin = admin;
    served.test.settle().await;
    assert_eq!(scrape(&served).await.values(counted), expected);
    served.shutdown().await;
}

#[tokio::test]
async fn buckets_of_a_histogram_add_up() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let (api, _) = subscribed(&served).await;
    deliver(&served, api, &[200; 5]).await;
    let scrape = scrape(&served).await;
    for family in [
        "hooklog_attempt_duration_seconds",
        "hooklog_log_append_seconds",
    ] {
        let prefix = format!("{family}_bucket{{le=\"");
        let buckets = scrape.samples.iter().filter_map(|(sample, count)| {
            let bound = sample.strip_prefix(&prefix)?.trim_end_matches("\"}");
            Some((bound.parse::<f64>().unwrap(), *count))
        });
        let mut buckets: Vec<_> = buckets.collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() > 10, "{buckets:?}");
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{buckets:?}");
        let (last, count) = buckets[buckets.len() - 1];
        assert!(last.is_infinite());
        let whole = scrape.value(&format!("{family}_count"));
        assert!((whole - count).abs() < 0.5, "{whole} {count}");
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_scrape_needs_a_reader_unless_metrics_are_open() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    served
        .ask("GET", "/metrics")
        .token(None)
        .send()
        .await
        .problem(401);
    let viewer = served.token(Role::Viewer, None).await;
    let ask = served.ask("GET", "/metrics").token(Some(&viewer));
    assert_eq!(ask.send().await.status, 200);
    let publisher = served.token(Role::Publisher, None).await;
    let ask = served.ask("GET", "/metrics").token(Some(&publisher));
    ask.send().await.problem(403);
    let served = Served::serve_with_open_metrics(served.stop().await).await;
    let open = served.ask("GET", "/metrics").token(None).send().await;
    assert_eq!(open.status, 200, "{open:?}");
    served
        .ask("GET", "/v1/metrics/series")
        .token(None)
        .send()
        .await
        .problem(401);
    served.shutdown().await;
}

#[tokio::test]
async fn a_series_shows_what_happened_when() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let (api, subscription) = subscribed(&served).await;
    let begin = served.test.handle().now();
    deliver(&served, api, &[200, 200, 500]).await;
    served.test.clock().advance(Duration::from_secs(600));
    deliver(&served, api, &[200]).await;
    served.test.clock().advance(Duration::from_secs(60));
    let end = served.test.handle().now();
    let span = format!("from={begin}&to={end}&step=60");
    for scope in [
        String::new(),
        format!("&api={api}"),
        format!("&subscription={subscription}"),
        format!("&api={api}&subscription={subscription}"),
    ] {
        let series = served.get(format!("/v1/metrics/series?{span}{scope}"));
        let series = series.await.json();
        assert_eq!(series["stepSeconds"], 60, "{series}");
        assert_eq!(series["resolutionSeconds"], 60);
        let points = series["points"].as_array().unwrap();
        assert_eq!(points.len(), 2, "{scope} {series}");
        assert_eq!(points[0]["at"], json!(begin));
        assert_eq!(points[0]["delivered"], 2);
        assert_eq!(points[0]["attemptsFailed"]["5xx"], 1);
        assert_eq!(points[0]["attemptDuration"]["count"], 3);
        assert_eq!(points[1]["delivered"], 1);
        assert!(points[1]["deliveryE2e"]["p50Seconds"].is_number());
    }
    let usual = served.get("/v1/metrics/series").await.json();
    assert_eq!(usual["stepSeconds"], 20, "{usual}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_step_whose_figures_are_no_longer_kept_is_refused_and_the_usual_one_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let (api, subscription) = subscribed(&served).await;
    let begin = served.test.handle().now();
    let ask = async |query: String| served.get(format!("/v1/metrics/series?{query}")).await;
    deliver(&served, api, &[200]).await;
    served.test.clock().advance(Duration::from_secs(10));
    let seconds = ask(format!("from={begin}&step=1")).await.json();
    assert_eq!(seconds["points"][0]["delivered"], 1, "{seconds}");

    served.test.clock().advance(Duration::from_hours(2));
    let refused = ask(format!("from={begin}&step=1")).await.problem(422);
    let error = &refused["errors"][0];
    assert_eq!(error["pointer"], "?step", "{refused}");
    let reason = error.to_string();
    assert!(reason.contains("seconds are kept for 1 h"), "{reason}");
    assert!(reason.contains("multiple of 60 "), "{reason}");
    let minutes = ask(format!("from={begin}&step=60")).await.json();
    assert_eq!(minutes["points"][0]["delivered"], 1, "{minutes}");
    let to = begin.plus(Duration::from_mins(10));
    let usual = ask(format!("from={begin}&to={to}")).await.json();
    assert_eq!(usual["stepSeconds"], 60, "{usual}");
    assert_eq!(usual["points"][0]["delivered"], 1, "{usual}");

    served.test.clock().advance(Duration::from_hours(24));
    let of = format!("subscription={subscription}&from={begin}");
    let refused = ask(format!("{of}&step=60")).await.problem(422);
    let reason = refused["errors"][0].to_string();
    assert!(reason.contains("multiple of 3600 "), "{reason}");
    let usual = ask(of).await.json();
    assert_eq!(usual["stepSeconds"], 3_600, "{usual}");
    assert_eq!(usual["points"][0]["delivered"], 1, "{usual}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_series_that_cannot_be_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let served = start(data.path()).await;
    let (api, subscription) = subscribed(&served).await;
    let handle = served.test.handle();
    let other = handle.create_api(Api::named("stock")).await.unwrap().id;
    let nothing = Uuid::from_u128(7);
    let ask = async |query: String| served.get(format!("/v1/metrics/series?{query}")).await;
    for (query, pointer) in [
        ("step=0".to_owned(), "?step"),
        (format!("subscription={subscription}&step=30"), "?step"),
        ("from=2020-01-01T00:00:00Z&step=1".to_owned(), "?step"),
        ("from=2100-01-01T00:00:00Z".to_owned(), "?from"),
        ("from=soon".to_owned(), "?from"),
        ("step=-1".to_owned(), "?step"),
    ] {
        let refused = ask(query).await.problem(422);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    ask("stp=1".to_owned()).await.problem(422);
    ask(format!("api={nothing}")).await.problem(404);
    ask(format!("subscription={nothing}")).await.problem(404);
    ask(format!("api={other}&subscription={subscription}"))
        .await
        .problem(404);
    ask(format!("api={api}&subscription={subscription}"))
        .await
        .json();
    served.shutdown().await;
}
