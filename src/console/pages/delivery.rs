//! Everything about one delivery.

use std::{fmt::Write as _, time::Duration};

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        format,
        layout::{self, Side},
        parts::{self, Tone},
        timeline,
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
    subscriptions::address,
};
use crate::{
    model::{
        Api, CapturedBody, CapturedHeader, CapturedPart, DeadLetterQueue, DeliveryId, Permission,
    },
    projection::deliveries::{AttemptDetail, DeliveryDetail, DeliveryOutcome},
    runtime::Explanation,
};

pub(super) const PAGES: &[Page] = &[
    shows("/apis/{api}/logs/{delivery}", run!(show)),
    does(
        Permission::Operate,
        "/apis/{api}/logs/{delivery}/redeliver",
        run!(redeliver),
    ),
    shows_to(
        Permission::Operate,
        "/apis/{api}/logs/{delivery}/discard",
        run!(ask_discard),
    ),
    does(
        Permission::Operate,
        "/apis/{api}/logs/{delivery}/discard",
        run!(discard),
    ),
];

async fn detail(visit: &Visit) -> Result<(std::sync::Arc<Api>, DeliveryDetail), Trouble> {
    let api = visit.api()?;
    let id: DeliveryId = visit.parameter("delivery")?;
    let view = visit.fresh(visit.handle().deliveries()).await;
    let detail = view
        .detail(id)?
        .filter(|detail| detail.delivery.api == api.id);
    let missing = || {
        Trouble::Missing(format!(
            "there is no delivery {id} in the webhook log of {}.",
            api.name
        ))
    };
    Ok((std::sync::Arc::clone(&api), detail.ok_or_else(missing)?))
}

async fn show(visit: &Visit) -> Result<Answer, Trouble> {
    let (api, detail) = detail(visit).await?;
    let row = &detail.delivery;
    let explained = visit
        .handle()
        .explain(row.message.id, row.subscription)
        .await
        .ok();
    let application = visit
        .handle()
        .application(row.application)
        .map(|one| one.name);
    let logs = format!("{ROOT}/apis/{}/logs", api.id);
    let note = html! { (parts::time(row.started_at)) " UTC · " (parts::outcome(row.outcome)) };
    let content = html! {
        p.back { a href=(logs) { "← Webhook logs" } }
        (layout::head("Delivery", &note, &actions(visit, &detail)))
        div id="delivery" data-live=[(row.outcome == DeliveryOutcome::Retrying).then_some("deliveries")] {
            @if row.status == 0 && row.attempts > 0 {
                div.notice.fault role="status" { p { strong { "There was no response." } " Status 0 stands for that: the connection failed, or nothing came back in time." } }
            }
            div.sections {
                (request(&detail, application.as_deref().unwrap_or("–")))
                (response(&detail))
                (error(&detail))
                (retries(visit, &detail))
                (dlq(&detail))
                (logged(&detail))
                @if let Some(explained) = &explained { (story(explained, &detail)) }
            }
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Logs,
        "Delivery",
        &content,
    )))
}

fn actions(visit: &Visit, detail: &DeliveryDetail) -> Markup {
    let row = &detail.delivery;
    let root = format!("{ROOT}/apis/{}/logs/{}", row.api, row.id);
    let is_kept = matches!(
        row.outcome,
        DeliveryOutcome::DeadLettered | DeliveryOutcome::Retrying
    );
    html! {
        @if parts::can_redeliver(visit, row) { (parts::step(visit, &format!("{root}/redeliver"), "Redeliver", "primary")) }
        @if let Some(curl) = curl(detail) { button type="button" data-copy=(curl) hidden { "Copy as curl" } }
        @if visit.may(Permission::Operate) && is_kept { (parts::asking(&format!("{root}/discard"), "Discard", "button quiet-danger")) }
    }
}

/// The call as a line for a terminal; what is redacted stays so.
fn curl(detail: &DeliveryDetail) -> Option<String> {
    let request = detail.request.as_ref()?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut line = format!(
        "curl -X {} {}",
        request.method.as_str(),
        quoted(request.callback_url.as_str())
    );
    for header in request.logged.headers.iter().flatten() {
        if !["host", "content-length"].contains(&header.name.as_str()) {
            // Writing to a string cannot fail.
            let _ = write!(
                line,
                " -H {}",
                quoted(&format!("{}: {}", header.name, header.value))
            );
        }
    }
    if let Some(text) = request.logged.body.as_ref().and_then(CapturedBody::text) {
        let _ = write!(line, " --data-raw {}", quoted(text));
    }
    Some(line)
}

fn pair(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn request(detail: &DeliveryDetail, application: &str) -> Markup {
    let row = &detail.delivery;
    html! {
        section.card aria-labelledby="request" {
            h2 id="request" { "Request" }
            dl.pairs {
                @if let Some(request) = &detail.request {
                    (pair("Date", &html! { (parts::time(request.date)) }))
                    (pair("Method", &html! { (request.method.as_str()) }))
                    (pair("Callback URL", &html! { span.url { (request.callback_url) } }))
                } @else {
                    (pair("Date", &html! { (parts::time(row.started_at)) }))
                    (pair("Call", &html! { "none is in the log" }))
                }
                (pair("Application", &html! { (application) }))
                (pair("Subscription", &html! { a href=(address(row.subscription)) { (parts::id(&row.subscription)) } }))
                (pair("Message", &parts::copyable(&row.message.id.to_string())))
                (pair("Accepted", &parts::time(row.message.accepted_at)))
            }
        }
    }
}

fn response(detail: &DeliveryDetail) -> Markup {
    html! {
        section.card aria-labelledby="response" {
            h2 id="response" { "Response" }
            @match &detail.response {
                Some(response) => {
                    dl.pairs {
                        (pair("Status", &parts::status(response.status)))
                        (pair("Duration", &html! { (format::duration(Duration::from_micros(response.duration_us.into()))) }))
                        (pair("Attempts", &html! { (detail.delivery.attempts) }))
                        @if detail.delivery.attempts > 1 { (pair("From first call to last", &html! { (format::duration(Duration::from_millis(detail.delivery.whole_duration_ms))) })) }
                    }
                }
                None => p.muted { "No call was made." },
            }
        }
    }
}

fn error(detail: &DeliveryDetail) -> Markup {
    html! {
        section.card aria-labelledby="error" {
            h2 id="error" { "Error" }
            @match &detail.error {
                Some(error) => { p { (parts::badge(Tone::Bad, error.class.as_str())) " " (error.detail) } }
                None => {
                    @match detail.delivery.status {
                        0 => p.muted { "None." },
                        200..=299 => p.muted { "None: the callback took the message." },
                        status => p { "The callback answered " (status) "." },
                    }
                }
            }
            @if let Some(given_up) = &detail.delivery.discarded {
                p { "Discarded " (parts::time(given_up.at)) ": " (super::configuration::text_of(&given_up.reason).replace('_', " ")) "." }
            }
        }
    }
}

fn retries(visit: &Visit, detail: &DeliveryDetail) -> Markup {
    html! {
        section.card.wide aria-labelledby="retry" {
            h2 id="retry" { "Retry" }
            @if detail.attempts.is_empty() { p.muted { "No attempt is in the log." } } @else {
                (timeline::picture(&detail.delivery, &detail.attempts, visit.now()))
                (attempts(&detail.attempts))
            }
        }
    }
}

fn attempts(attempts: &[AttemptDetail]) -> Markup {
    html! {
        div.table-wrap tabindex="0" {
            table {
                thead { tr { th.number scope="col" { "Attempt" } th scope="col" { "Status" } th scope="col" { "Date (UTC)" } th.number scope="col" { "Waited" } th.number scope="col" { "Duration" } th scope="col" { "Parts" } th scope="col" { "Reason" } } }
                tbody {
                    @for attempt in attempts {
                        tr {
                            th.number scope="row" { (attempt.number) @if attempt.probe { small { "probe" } } }
                            td { (parts::status(attempt.status)) }
                            td { (parts::time(attempt.started_at)) }
                            td.number { @match attempt.waited_ms { Some(ms) => (format::duration(Duration::from_millis(ms))), None => "–" } }
                            td.number { (format::duration(Duration::from_micros(attempt.timings.total_us.into()))) }
                            td { small { (timeline::parts_told(&attempt.timings)) } }
                            td { (timeline::result(attempt)) }
                        }
                    }
                }
            }
        }
    }
}

fn dlq(detail: &DeliveryDetail) -> Markup {
    html! {
        section.card aria-labelledby="dlq" {
            h2 id="dlq" { "DLQ" }
            @match &detail.dlq {
                None => p.muted { "Not sent to the dead letter queue." },
                Some(entry) => {
                    dl.pairs {
                        (pair("Sent", &parts::time(entry.at)))
                        (pair("Where", &html! { (queue(&entry.target)) }))
                        (pair("Why", &html! { (entry.reason.as_str().replace('_', " ")) }))
                        (pair("Whose fault", &html! { (super::configuration::text_of(&entry.fault)) }))
                        @if let Some(at) = entry.forwarded_at { (pair("Forwarded", &parts::time(at))) }
                        @if let Some(reason) = &entry.forward_error { (pair("Forwarding failed", &html! { (reason) })) }
                    }
                }
            }
        }
    }
}

fn queue(target: &DeadLetterQueue) -> String {
    match target {
        DeadLetterQueue::Embedded => "kept here".to_owned(),
        DeadLetterQueue::Api { api } => format!("API {api}"),
        DeadLetterQueue::Http { url } => url.redacted().to_string(),
        DeadLetterQueue::None => "nowhere".to_owned(),
    }
}

fn logged(detail: &DeliveryDetail) -> Markup {
    let nothing = CapturedPart::default();
    let request = detail
        .request
        .as_ref()
        .map_or(&nothing, |request| &request.logged);
    let response = detail
        .response
        .as_ref()
        .map_or(&nothing, |response| &response.logged);
    html! {
        section.card.wide aria-labelledby="logged" {
            h2 id="logged" { "Logged data" }
            p.hint { "Of the last call. Switch it on or off under Configuration, per API." }
            div.halves {
                div { h3 { "Request headers" } (headers(request.headers.as_deref(), "request")) h3 { "Request body" } (body(request.body.as_ref(), "request")) }
                div { h3 { "Response headers" } (headers(response.headers.as_deref(), "response")) h3 { "Response body" } (body(response.body.as_ref(), "response")) }
            }
        }
    }
}

fn headers(headers: Option<&[CapturedHeader]>, side: &str) -> Markup {
    html! {
        @match headers {
            None => p.muted { "No " (side) " headers captured." },
            Some([]) => p.muted { "There were none." },
            Some(headers) => {
                dl.headers { @for header in headers { div { dt { (header.name) } dd { (header.value) } } } }
            }
        }
    }
}

fn body(body: Option<&CapturedBody>, side: &str) -> Markup {
    html! {
        @match body {
            None => p.muted { "No " (side) " body captured." },
            Some(body) if body.size == 0 => p.muted { "It was empty." },
            Some(body) => {
                @match body.text() {
                    Some(text) => pre.body tabindex="0" { (pretty(text)) },
                    None => p.muted { "Binary, " (format::bytes(body.size)) "." },
                }
                p.hint { (format::bytes(body.size)) @if body.truncated { "; cut to the first " (format::bytes(body.bytes.len() as u64)) } }
            }
        }
    }
}

/// JSON with its structure shown; anything else as it is.
fn pretty(text: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    value
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| text.to_owned())
}

/// What happened, event by event.
fn story(explained: &Explanation, detail: &DeliveryDetail) -> Markup {
    html! {
        section.card.wide aria-labelledby="explained" {
            h2 id="explained" { "Explained" }
            p { (explained.because) }
            ol.story {
                @for step in &explained.steps {
                    li {
                        (parts::time(step.at))
                        span { (step.text) }
                        a.muted href=(format!("{ROOT}/events?from={}", step.position)) { (step.event_type) " @" (step.position) }
                    }
                }
            }
            @if detail.events_missing > 0 { p.hint { (detail.events_missing) " events behind it are no longer in the log, or were too many to keep track of." } }
        }
    }
}

async fn redeliver(visit: &Visit) -> Result<Answer, Trouble> {
    let (_, detail) = detail(visit).await?;
    let told = "It is delivered again, with the original bytes and webhook-id.";
    let step = visit.handle().redeliver(detail.delivery.id);
    visit.step(told, step, place(&detail)).await
}

fn place(detail: &DeliveryDetail) -> String {
    super::logs::address(&detail.delivery)
}

async fn ask_discard(visit: &Visit) -> Result<Answer, Trouble> {
    let (api, detail) = detail(visit).await?;
    let root = format!("{ROOT}/apis/{}/logs/{}", api.id, detail.delivery.id);
    let text = html! { p { "The message will not be delivered to this subscription. It stays in the event log, and can be redelivered while it does." } };
    let content = parts::question(
        visit,
        "Discard this delivery?",
        &text,
        &format!("{root}/discard"),
        "Discard",
        &root,
    );
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Logs,
        "Discard",
        &content,
    )))
}

async fn discard(visit: &Visit) -> Result<Answer, Trouble> {
    let (_, detail) = detail(visit).await?;
    let step = visit.handle().discard(detail.delivery.id);
    visit
        .step("Discarded, on record.", step, place(&detail))
        .await
}
