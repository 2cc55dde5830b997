//! The webhook log of an API: the list with its filters, and what is captured.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        format,
        layout::{self, Side},
        parts::{self, Fields, Tone},
        visit::{Page, Visit},
    },
    configuration::{choice, logging_fields, logging_read, logging_shown, logging_told, without},
    does, run, shows, shows_to,
};
use crate::{
    model::{Analytics, Api, ErrorClass, Invalid, KeepFailures, Permission, Sampling, Timestamp},
    projection::deliveries::{
        DeliveryFilter, DeliveryOutcome, DeliveryPage, DeliveryQuery, DeliveryRow, StatusFilter,
    },
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/apis/{api}/logs", run!(list)),
    shows("/apis/{api}/logs/export.csv", run!(csv)),
    shows("/apis/{api}/logs/export.ndjson", run!(ndjson)),
    shows_to(
        Permission::Manage,
        "/apis/{api}/logs/configuration",
        run!(async |visit| configuration(visit)),
    ),
    does(
        Permission::Manage,
        "/apis/{api}/logs/configuration",
        run!(save),
    ),
];

/// Deliveries on a page.
const PAGE: usize = 50;
/// Most deliveries in a file.
const EXPORT_MAX: usize = 10_000;

/// Periods that can be chosen, by their name in the address.
const PERIODS: [(&str, &str, u64); 9] = [
    ("5m", "last 5 minutes", 300),
    ("30m", "last 30 minutes", 1_800),
    ("1h", "last hour", 3_600),
    ("3h", "last 3 hours", 10_800),
    ("6h", "last 6 hours", 21_600),
    ("12h", "last 12 hours", 43_200),
    ("1d", "last day", 86_400),
    ("3d", "last 3 days", 259_200),
    ("7d", "last 7 days", 604_800),
];

/// Names of filters in the address, with what people call them.
const FILTERS: [(&str, &str); 13] = [
    ("status", "Status"),
    ("callback", "Callback URL"),
    ("application", "Application"),
    ("period", "Period"),
    ("from", "From"),
    ("to", "To"),
    ("subscription", "Subscription"),
    ("dlq", "Sent to DLQ"),
    ("outcome", "Outcome"),
    ("error", "Error"),
    ("min_ms", "At least, in ms"),
    ("message", "Message"),
    ("live", "Live"),
];

/// What the address asks for; what cannot be read of it is told.
fn asked(form: &Form, now: Timestamp) -> (DeliveryFilter, Invalid) {
    let mut invalid = Invalid::none();
    let statuses = form.read("status", &mut invalid, |text| {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let parsed = parts.map(|part| {
            part.parse::<StatusFilter>()
                .map_err(|error| error.to_string())
        });
        parsed.collect::<Result<Vec<_>, _>>()
    });
    let period = form.read("period", &mut invalid, |name| {
        let found = PERIODS.iter().find(|(known, ..)| *known == name);
        found.ok_or_else(|| format!("{name:?} is no period that is offered"))
    });
    let since = period.map(|(.., seconds)| now.minus(Duration::from_secs(*seconds)));
    let filter = DeliveryFilter {
        status: statuses.unwrap_or_default(),
        callback_url: form.parsed("callback", &mut invalid),
        application: form.parsed("application", &mut invalid),
        subscription: form.parsed("subscription", &mut invalid),
        from: form.parsed("from", &mut invalid).or(since),
        to: form.parsed("to", &mut invalid),
        sent_to_dlq: form.read("dlq", &mut invalid, |text| match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("is yes or no".to_owned()),
        }),
        outcome: choice(form, "outcome", &mut invalid),
        error_class: choice::<ErrorClass>(form, "error", &mut invalid),
        min_duration: form
            .number::<u64>("min_ms", &mut invalid)
            .map(Duration::from_millis),
        message: form.parsed("message", &mut invalid),
    };
    (filter, invalid)
}

async fn page(visit: &Visit, api: &Api, limit: usize) -> Result<(DeliveryPage, Invalid), Trouble> {
    let (filter, mut invalid) = asked(&visit.query, visit.now());
    let cursor = visit.query.parsed("cursor", &mut invalid);
    let view = visit.fresh(visit.handle().deliveries()).await;
    if !invalid.problems.is_empty() {
        // Showing what was not asked for would mislead.
        let nothing = DeliveryPage {
            deliveries: Vec::new(),
            next: None,
        };
        return Ok((nothing, invalid));
    }
    let query = DeliveryQuery {
        api: api.id,
        filter,
        cursor,
        limit,
    };
    Ok((view.list(&query)?, invalid))
}

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let (page, invalid) = page(visit, &api, PAGE).await?;
    let is_asked = invalid.problems.is_empty();
    let is_filtered = FILTERS
        .iter()
        .any(|(name, _)| *name != "live" && visit.query.get(name).is_some());
    let is_live = visit.query.is_on("live") && visit.query.get("cursor").is_none();
    let configure = html! {
        @if visit.may(Permission::Manage) {
            a.button href=(format!("{ROOT}/apis/{}/logs/configuration", api.id)) data-dialog { (gear()) "Configuration" }
        }
    };
    let content = html! {
        (layout::head("Logs", &layout::nothing(), &configure))
        nav.tabs aria-label="Logs" { a href=(visit.path()) aria-current="page" { "Webhook logs" } }
        (summary(visit, &api))
        (filters(visit, &callbacks(visit, &api)?, &invalid))
        div id="log" data-live=[is_live.then_some("deliveries")] {
            @if !is_asked {
                (parts::empty("Nothing is shown", &html! { p { "A filter cannot be read; look at what is marked." } }))
            } @else if page.deliveries.is_empty() { (nothing(visit, &api, is_filtered, page.next.is_some())) } @else { (table(visit, &page.deliveries)) }
        }
        (parts::pager(visit, page.next.map(|next| next.to_string()).as_deref(), "deliveries"))
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Logs,
        "Webhook logs",
        &content,
    )))
}

fn gear() -> Markup {
    html! {
        svg.icon viewBox="0 0 20 20" aria-hidden="true" {
            path d="M3 6h8M15 6h2M3 14h2M9 14h8" {}
            circle cx="13" cy="6" r="2" {}
            circle cx="7" cy="14" r="2" {}
        }
    }
}

/// What gets an entry and what is captured, in a line.
fn summary(visit: &Visit, api: &Api) -> Markup {
    let query = visit.query.changed(&["cursor", "live"], &[]);
    let live = if visit.query.is_on("live") {
        query.clone()
    } else {
        visit.query.changed(&["cursor"], &[("live", "1")])
    };
    let root = visit.path();
    html! {
        div.log-bar {
            p {
                span { "Entries: " (sampling_told(&api.analytics)) }
                span { "Headers and bodies: " (logging_told(api.entrypoint.logging)) }
            }
            p.log-actions {
                a class=(if visit.query.is_on("live") { "button small on" } else { "button small" }) href=(format!("{root}{live}")) {
                    @if visit.query.is_on("live") { "Stop live tail" } @else { "Live tail" }
                }
                a."button small" href=(format!("{root}/export.csv{query}")) { "CSV" }
                a."button small" href=(format!("{root}/export.ndjson{query}")) { "NDJSON" }
            }
        }
    }
}

fn sampling_told(analytics: &Analytics) -> String {
    let sample = match &analytics.sampling {
        Sampling::All => return "of every message".to_owned(),
        Sampling::Count(1) => return "of every message".to_owned(),
        Sampling::Count(n) => format!("of one message in {n}"),
        Sampling::Probability(p) => format!("of {} % of the messages", p * 100.0),
        Sampling::Temporal(window) => format!("of one message each {window}"),
        Sampling::WindowedCount(text) => format!("of {text} messages"),
    };
    if analytics.keep_failures.0 {
        format!("{sample}, and of every failure")
    } else {
        sample
    }
}

fn filters(visit: &Visit, callbacks: &[String], invalid: &Invalid) -> Markup {
    let query = &visit.query;
    let fields = Fields {
        form: query,
        invalid,
    };
    let applications = parts::applications(visit);
    let periods = PERIODS.iter().map(|(name, label, _)| (*name, *label));
    let outcomes = DeliveryOutcome::ALL.into_iter();
    let outcomes = outcomes.map(|one| (one.as_str(), one.as_str().replace('_', "-")));
    let errors = ErrorClass::ALL.into_iter();
    let errors = errors.map(|class| (class.as_str(), class.as_str()));
    let more = [
        "from",
        "to",
        "subscription",
        "dlq",
        "outcome",
        "error",
        "min_ms",
        "message",
    ];
    let is_open = more.iter().any(|name| query.get(name).is_some());
    html! {
        form.filters method="get" action=(visit.path()) role="search" aria-label="Webhook logs" {
            div.filter-row {
                (fields.filter("status", "Status", "503, 5xx or 0"))
                (fields.filter("callback", "Callback URL", "https://…"))
                datalist id="callback-known" { @for url in callbacks { option value=(url) {} } }
                (fields.choice("application", "Application", "", &parts::any_or(applications.clone())))
                (fields.choice("period", "Period", "", &parts::any_or(periods)))
                div.field.submit { button type="submit" { "Filter" } }
            }
            details open[is_open] {
                summary { "More filters" }
                div.filter-row {
                    (fields.choice("outcome", "Outcome", "", &parts::any_or(outcomes)))
                    (fields.choice("dlq", "Sent to DLQ", "", &[("", "any"), ("yes", "yes"), ("no", "no")]))
                    (fields.choice("error", "Error", "", &parts::any_or(errors)))
                    (fields.filter("min_ms", "At least, in ms", "250"))
                    (fields.filter("from", "From (UTC)", "2026-03-04T05:06:07Z"))
                    (fields.filter("to", "To (UTC)", "2026-03-04T06:00:00Z"))
                    (fields.filter("subscription", "Subscription id", "0192f0c1-…"))
                    (fields.filter("message", "Message id", "0192f0c1-…"))
                }
            }
            @if query.is_on("live") { input type="hidden" name="live" value="1"; }
        }
        (chips(visit, &applications))
    }
}

/// The callback URLs that the subscriptions of an API name, as the log shows them.
fn callbacks(visit: &Visit, api: &Api) -> Result<Vec<String>, Trouble> {
    /// Most subscriptions that are looked at.
    const LOOKED_AT_MAX: usize = 200;
    let view = visit.handle().subscriptions();
    let rows = view.of_api(api.id, None, LOOKED_AT_MAX)?;
    let own = rows
        .into_iter()
        .map(|row| row.state.definition.configuration.callback_url);
    let mut urls: Vec<_> = own
        .chain([api.entrypoint.callback_url.clone()])
        .flatten()
        .map(|url| url.redacted().to_string())
        .collect();
    urls.sort_unstable();
    urls.dedup();
    Ok(urls)
}

/// The filters that hold, each with a way to take it off.
fn chips(visit: &Visit, applications: &[(String, String)]) -> Markup {
    let held = FILTERS.iter().filter(|(name, _)| *name != "live");
    let held = held.filter_map(|(name, label)| Some((*name, *label, visit.query.get(name)?)));
    let held: Vec<_> = held.collect();
    let shown = |name: &str, value: &str| match name {
        "application" => applications
            .iter()
            .find(|(id, _)| id == value)
            .map_or_else(|| value.to_owned(), |(_, name)| name.clone()),
        "period" => PERIODS
            .iter()
            .find(|(known, ..)| *known == value)
            .map_or(value, |(_, label, _)| label)
            .to_owned(),
        _ => value.to_owned(),
    };
    html! {
        @if !held.is_empty() {
            ul.chips aria-label="Filters that hold" {
                @for (name, label, value) in &held {
                    li { a href=(format!("{}{}", visit.path(), visit.query.changed(&["cursor", name], &[]))) title="Take this filter off" {
                        span.muted { (label) ": " } (shown(name, value)) span aria-hidden="true" { " ×" }
                    } }
                }
                @if held.len() > 1 { li { a href=(visit.path()) { "Take all off" } } }
            }
        }
    }
}

fn nothing(visit: &Visit, api: &Api, is_filtered: bool, has_more: bool) -> Markup {
    html! {
        @if has_more {
            (parts::empty("Nothing here so far", &html! { p { "Many deliveries were looked at. Go on to older ones." } }))
        } @else if is_filtered {
            (parts::empty("No delivery matches", &html! { p { a.button href=(visit.path()) { "Take all filters off" } } }))
        } @else {
            (parts::empty("No delivery yet", &html! {
                p { "Each message that is pushed to a callback appears here, with its attempts." }
                p { a.button href=(format!("{ROOT}/apis/{}/subscriptions", api.id)) { "Subscriptions" } " "
                    a.button href=(format!("{ROOT}/apis/{}/source", api.id)) { "Publish a message" } }
            }))
        }
    }
}

fn table(visit: &Visit, rows: &[DeliveryRow]) -> Markup {
    let applications = visit.handle().applications();
    let name = |row: &DeliveryRow| {
        let found = applications.iter().find(|one| one.id == row.application);
        found.map_or_else(|| format::brief(&row.application), |one| one.name.clone())
    };
    html! {
        div.table-wrap tabindex="0" {
            table.list.log {
                caption.visually-hidden { "Deliveries, newest first" }
                thead { tr {
                    th scope="col" { "Timestamp (UTC)" } th scope="col" { "Status" } th scope="col" { "Callback URL" }
                    th scope="col" { "Application" } th.number scope="col" { "Attempts" } th.number scope="col" { "Duration" } th scope="col" { "Sent to DLQ" }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { a href=(address(row)) { (parts::time(row.started_at)) } }
                            td { (parts::status(row.status)) @if row.outcome == DeliveryOutcome::Retrying { " " (parts::outcome(row.outcome)) } }
                            td.url { @match &row.callback_url { Some(url) => (url), None => "–" } }
                            td { (name(row)) }
                            td.number { (row.attempts) }
                            td.number { (format::duration(row.last_duration())) }
                            td { @if row.is_sent_to_dlq() { (parts::badge(Tone::Bad, "yes")) } @else { span.muted { "no" } } }
                        }
                    }
                }
            }
        }
    }
}

/// Where a delivery's page is.
pub(super) fn address(row: &DeliveryRow) -> String {
    format!("{ROOT}/apis/{}/logs/{}", row.api, row.id)
}

/// Everything that matches, as far as one file goes, and whether there is more.
async fn all(visit: &Visit) -> Result<(std::sync::Arc<Api>, Vec<DeliveryRow>, bool), Trouble> {
    let api = visit.api()?;
    let (filter, invalid) = asked(&visit.query, visit.now());
    invalid.into_result()?;
    let view = visit.fresh(visit.handle().deliveries()).await;
    let mut rows = Vec::new();
    let mut cursor = None;
    while rows.len() < EXPORT_MAX {
        let query = DeliveryQuery {
            api: api.id,
            filter: filter.clone(),
            cursor,
            limit: 1_000,
        };
        let page = view.list(&query)?;
        rows.extend(page.deliveries);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        tokio::task::yield_now().await;
    }
    rows.truncate(EXPORT_MAX);
    Ok((api, rows, cursor.is_some()))
}

async fn csv(visit: &Visit) -> Result<Answer, Trouble> {
    let (api, rows, is_cut) = all(visit).await?;
    let mut text = "timestamp,status,callback_url,application,attempts,duration_ms,sent_to_dlq,outcome,delivery,message\r\n".to_owned();
    for row in &rows {
        let url = row
            .callback_url
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        let cells = [
            row.started_at.to_string(),
            row.status.to_string(),
            url,
            row.application.to_string(),
            row.attempts.to_string(),
            format!("{:.3}", f64::from(row.last_duration_us) / 1_000.0),
            row.is_sent_to_dlq().to_string(),
            row.outcome.as_str().to_owned(),
            row.id.to_string(),
            row.message.id.to_string(),
        ];
        text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
        text.push_str("\r\n");
    }
    Ok(Answer::Download {
        name: file_name(&api, is_cut, "csv"),
        content_type: "text/csv; charset=utf-8",
        bytes: text.into(),
    })
}

/// Says what is in the file, and whether it is all.
fn file_name(api: &Api, is_cut: bool, ending: &str) -> String {
    let newest = if is_cut {
        format!("-newest-{EXPORT_MAX}")
    } else {
        String::new()
    };
    format!("webhook-logs-{}{newest}.{ending}", format::brief(&api.id))
}

/// A cell that no spreadsheet takes for a formula.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

async fn ndjson(visit: &Visit) -> Result<Answer, Trouble> {
    let (api, rows, is_cut) = all(visit).await?;
    let mut text = Vec::new();
    for row in &rows {
        serde_json::to_writer(&mut text, row)
            .map_err(|error| Trouble::Failed(error.to_string()))?;
        text.push(b'\n');
    }
    Ok(Answer::Download {
        name: file_name(&api, is_cut, "ndjson"),
        content_type: "application/x-ndjson",
        bytes: text.into(),
    })
}

fn configuration(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let (kind, value) = match &api.analytics.sampling {
        Sampling::All => ("ALL", String::new()),
        Sampling::Count(n) => ("COUNT", n.to_string()),
        Sampling::Probability(p) => ("PROBABILITY", p.to_string()),
        Sampling::Temporal(text) => ("TEMPORAL", text.clone()),
        Sampling::WindowedCount(text) => ("WINDOWED_COUNT", text.clone()),
    };
    let form = logging_shown(Form::default(), api.entrypoint.logging)
        .with("/sampling/type", kind)
        .with("/sampling/value", value)
        .tick("/keepFailures", api.analytics.keep_failures.0);
    Ok(configuration_form(visit, &api, &form, &Invalid::none()))
}

fn configuration_form(visit: &Visit, api: &Api, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let back = format!("{ROOT}/apis/{}/logs", api.id);
    let content = html! {
        div.question data-dialog-content {
            h1 { "Webhook logs configuration" }
            (fields.summary())
            form.stack method="post" action=(format!("{back}/configuration")) {
                (visit.form_key_field())
                (Visit::made_of(&(&api.analytics, api.entrypoint.logging)))
                (logging_fields(&fields))
                fieldset.card {
                    legend { "Sampling" }
                    p.hint { "Which messages get an entry: now " (sampling_told(&api.analytics)) ". Counters count every message whatever this says." }
                    div.columns {
                        (fields.choice("/sampling/type", "Entries", "", &[
                            ("ALL", "of every message"), ("COUNT", "of every n-th message"), ("PROBABILITY", "of a share, 0 to 1"),
                            ("TEMPORAL", "of one message a duration, such as PT10S"), ("WINDOWED_COUNT", "of n messages a duration, such as 5/PT10S"),
                        ]))
                        (fields.line("/sampling/value", "Value", "", "text"))
                    }
                    div.switches { (fields.switch("/keepFailures", "Keep failures", "Deliveries that fail get an entry whatever the sample says.")) }
                }
                (parts::saving(&back))
            }
        }
    };
    Answer::form(
        invalid,
        layout::of_api(
            visit,
            api,
            Side::Logs,
            "Webhook logs configuration",
            &content,
        ),
    )
}

fn sampling(form: &Form, invalid: &mut Invalid) -> Sampling {
    let text = || {
        form.get("/sampling/value")
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let missing = |what: &str| format!("say {what}");
    match form.get("/sampling/type") {
        Some("COUNT") => {
            let n = form.number("/sampling/value", invalid);
            invalid.check(
                n.is_some(),
                "/sampling/value",
                missing("every which message"),
            );
            Sampling::Count(n.unwrap_or(1))
        }
        Some("PROBABILITY") => {
            let p = form.parsed::<f64>("/sampling/value", invalid);
            invalid.check(
                p.is_some(),
                "/sampling/value",
                missing("which share, 0 to 1"),
            );
            Sampling::Probability(p.unwrap_or(1.0))
        }
        Some("TEMPORAL") => Sampling::Temporal(text()),
        Some("WINDOWED_COUNT") => Sampling::WindowedCount(text()),
        _ => Sampling::All,
    }
}

async fn save(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let form = &visit.form;
    let mut invalid = Invalid::none();
    if let Some(stale) = visit.stale(&(&api.analytics, api.entrypoint.logging)) {
        return Ok(configuration_form(visit, &api, form, &stale));
    }
    let analytics = Analytics {
        sampling: sampling(form, &mut invalid),
        keep_failures: KeepFailures(form.is_on("/keepFailures")),
    };
    let changed = match invalid.into_result() {
        Ok(()) => {
            let mut changed = Api {
                analytics,
                ..Api::clone(&api)
            };
            changed.entrypoint.logging = logging_read(form, api.entrypoint.logging);
            visit.handle().update_api_from(&api, changed).await
        }
        Err(invalid) => Err(ControlError::Invalid(invalid)),
    };
    match changed {
        Ok(_) => {
            visit.say("Saved. It holds for every call from now on.");
            Ok(Answer::see(format!("{ROOT}/apis/{}/logs", api.id)))
        }
        Err(ControlError::Invalid(invalid)) => Ok(configuration_form(
            visit,
            &api,
            form,
            &without("/analytics", invalid),
        )),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::configuration::text_of, *};

    #[test]
    fn no_cell_is_a_formula() {
        for start in ['=', '+', '-', '@', '\t', '\r'] {
            let cell = format!("{start}1+1");
            assert_eq!(quoted(&cell), format!("\"'{cell}\""));
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("a,b\r\n=c"), "\"a,b\r\n=c\"");
    }

    #[test]
    fn an_address_asks_for_any_mix_of_filters() {
        let form = Form::parse(b"status=5xx,0&callback=https://example.com/h&dlq=yes&outcome=dead_lettered&error=timeout&min_ms=20&period=1h&from=");
        let now = Timestamp::from_millis(10_000_000);
        let (filter, invalid) = asked(&form, now);
        assert!(invalid.problems.is_empty(), "{invalid}");
        assert_eq!(
            filter.status,
            [StatusFilter::Class(5), StatusFilter::Exact(0)]
        );
        assert_eq!(filter.sent_to_dlq, Some(true));
        assert_eq!(filter.outcome, Some(DeliveryOutcome::DeadLettered));
        assert_eq!(filter.error_class, Some(ErrorClass::Timeout));
        assert_eq!(filter.from, Some(Timestamp::from_millis(6_400_000)));
        assert_eq!(text_of(&DeliveryOutcome::DeadLettered), "dead_lettered");
        let (_, invalid) = asked(&Form::parse(b"status=fast"), now);
        assert_eq!(invalid.problems[0].pointer, "status");
    }
}
