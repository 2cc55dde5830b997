//! Configuration of an API: its entrypoints, and the one form that changes one.

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        layout::{self, Side},
        parts::{self, Fields, Tone},
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
};
use crate::{
    model::{
        Api, CloudEvents, CustomHeader, DeadLetterQueue, HttpOptions, Invalid, Logging,
        LoggingParts, Method, OnFailure, Permission, Proxy, ProxyKind, Qos, Retry, RetryOption,
        RetryStrategy, Secret, SubscriptionValidation, WebhookEntrypoint,
    },
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows(
        "/apis/{api}/configuration",
        run!(async |visit| entrypoints(visit)),
    ),
    shows_to(
        Permission::Manage,
        "/apis/{api}/configuration/general",
        run!(async |visit| general(visit)),
    ),
    does(
        Permission::Manage,
        "/apis/{api}/configuration/general",
        run!(save_general),
    ),
    shows_to(
        Permission::Manage,
        "/apis/{api}/configuration/entrypoints/add",
        run!(async |visit| add(visit)),
    ),
    shows_to(
        Permission::Manage,
        "/apis/{api}/configuration/entrypoints/webhook",
        run!(async |visit| edit(visit)),
    ),
    does(
        Permission::Manage,
        "/apis/{api}/configuration/entrypoints/webhook",
        run!(save),
    ),
];

fn root(api: &Api) -> String {
    format!("{ROOT}/apis/{}/configuration", api.id)
}

fn tabs(api: &Api, is_general: bool) -> Markup {
    html! {
        nav.tabs aria-label="Configuration" {
            a href=(root(api)) aria-current=[(!is_general).then_some("page")] { "Entrypoints" }
            a href=(format!("{}/general", root(api))) aria-current=[is_general.then_some("page")] { "General" }
        }
    }
}

fn entrypoints(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let point = &api.entrypoint;
    let add = html! {
        @if visit.may(Permission::Manage) {
            a."button primary" href=(format!("{}/entrypoints/add", root(&api))) { "+ Add entrypoint" }
        }
    };
    let content = html! {
        (layout::head("Configuration", &layout::nothing(), &layout::nothing()))
        (tabs(&api, false))
        (layout::head("Entrypoints", &html! { "How consumers get the messages of this API." }, &add))
        div.table-wrap tabindex="0" {
            table.list {
                thead { tr { th scope="col" { "Entrypoint" } th scope="col" { "Context path" } th scope="col" { "Default callback" }
                    th scope="col" { "Retries" } th scope="col" { "Dead letters" } th scope="col" { "Logging" } } }
                tbody { tr {
                    th scope="row" {
                        @if visit.may(Permission::Manage) { a href=(format!("{}/entrypoints/webhook", root(&api))) { "Webhook" } } @else { "Webhook" }
                    }
                    td { code { (point.context_path) } }
                    td { @match &point.callback_url { Some(url) => { span.url { (point.method.as_str()) " " (url.redacted()) } } None => { span.muted { "each subscription names its own" } } } }
                    td { (retry_told(&point.retry)) }
                    td { (queue_told(&point.dlq, point.on_failure)) }
                    td { (logging_told(point.logging)) }
                } }
            }
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Configuration,
        "Entrypoints",
        &content,
    )))
}

fn retry_told(retry: &Retry) -> String {
    if retry.retry_option == RetryOption::NoRetry {
        return "none".to_owned();
    }
    if !retry.schedule.is_empty() {
        return format!("{} by schedule", retry.schedule.len());
    }
    let strategy = match retry.retry_strategy {
        RetryStrategy::Linear => "linear",
        RetryStrategy::Exponential => "exponential",
    };
    format!(
        "{} {strategy}, {} to {} s",
        retry.max_attempts, retry.initial_delay_seconds, retry.max_delay_seconds
    )
}

fn queue_told(queue: &DeadLetterQueue, on_failure: OnFailure) -> &'static str {
    match (queue, on_failure) {
        (DeadLetterQueue::Embedded, _) => "kept here",
        (DeadLetterQueue::Api { .. }, _) => "to another API",
        (DeadLetterQueue::Http { .. }, _) => "to a URL",
        (DeadLetterQueue::None, OnFailure::Interrupt) => "none: interrupts",
        (DeadLetterQueue::None, OnFailure::Discard) => "none: discards",
    }
}

/// What is captured, in a few words.
pub(super) fn logging_told(logging: Logging) -> Markup {
    if !logging.captures() {
        return parts::badge(Tone::Quiet, "off");
    }
    let parts = [
        ("request headers", logging.request.headers),
        ("request body", logging.request.payload),
        ("response headers", logging.response.headers),
        ("response body", logging.response.payload),
    ];
    let on: Vec<_> = parts
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name)
        .collect();
    html! { (parts::badge(Tone::Good, "on")) small { (on.join(", ")) } }
}

/// Which kind of entrypoint: an API has one webhook entrypoint, which is configured from here.
fn add(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let to = format!("{}/entrypoints/webhook", root(&api));
    let content = html! {
        (layout::head("Add entrypoint", &html! { "Choose how consumers get the messages of " (api.name) "." }, &layout::nothing()))
        ul.choices {
            li.choice {
                h2 { "Webhook" }
                p { "Each subscription names a callback URL, and every message is pushed to it over kept-alive connections, with retries and a dead letter queue." }
                p.note { "Every API has one webhook entrypoint. Here it answers under " code { (api.entrypoint.context_path) } "." }
                p { a."button primary" href=(to) { "Configure" } }
            }
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Configuration,
        "Add entrypoint",
        &content,
    )))
}

fn edit(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    Ok(form(visit, &api, &shown(&api.entrypoint), &Invalid::none()))
}

async fn save(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    if let Some(stale) = visit.stale(&api.entrypoint) {
        return Ok(form(visit, &api, &visit.form, &stale));
    }
    let read = read(&visit.form, &api.entrypoint);
    let changed = match read {
        Ok(entrypoint) => {
            let changed = Api {
                entrypoint,
                ..Api::clone(&api)
            };
            visit.handle().update_api_from(&api, changed).await
        }
        Err(invalid) => Err(ControlError::Invalid(invalid.under("/entrypoint"))),
    };
    match changed {
        Ok(_) => {
            visit.say("The entrypoint was saved. Every call from now on is made under it.");
            Ok(Answer::see(root(&api)))
        }
        Err(ControlError::Invalid(invalid)) => Ok(form(
            visit,
            &api,
            &visit.form,
            &without("/entrypoint", invalid),
        )),
        Err(error) => Err(error.into()),
    }
}

/// The same problems under the names of this form.
pub(super) fn without(prefix: &str, mut invalid: Invalid) -> Invalid {
    for problem in &mut invalid.problems {
        if let Some(rest) = problem.pointer.strip_prefix(prefix) {
            problem.pointer = rest.to_owned();
        }
    }
    invalid
}

fn form(visit: &Visit, api: &Api, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let content = html! {
        (layout::head("Webhook entrypoint", &html! { "Of " (api.name) ". Subscriptions inherit what they name none of." }, &layout::nothing()))
        (fields.summary())
        form.stack method="post" action=(format!("{}/entrypoints/webhook", root(api))) {
            (visit.form_key_field())
            (Visit::made_of(&api.entrypoint))
            (entrypoint_fields(&fields))
            (logging_fields(&fields))
            (parts::saving(&root(api)))
        }
    };
    Answer::form(
        invalid,
        layout::of_api(
            visit,
            api,
            Side::Configuration,
            "Webhook entrypoint",
            &content,
        ),
    )
}

/// The four toggles, which the webhook logs page shows too.
pub(super) fn logging_fields(fields: &Fields<'_>) -> Markup {
    html! {
        fieldset.card id="logging" {
            legend { "Logging" }
            p.hint { "Off, headers and bodies of calls are not captured; their figures are. Secrets are redacted before anything is written down." }
            div.switches {
                (fields.switch("/logging/request/headers", "Request headers", ""))
                (fields.switch("/logging/request/payload", "Request body", ""))
                (fields.switch("/logging/response/headers", "Response headers", ""))
                (fields.switch("/logging/response/payload", "Response body", "The first 64 KiB."))
            }
        }
    }
}

/// What a retry policy may say.
pub(super) fn retry_fields(fields: &Fields<'_>) -> Markup {
    html! {
        div.columns {
            (fields.choice("/retry/retryOption", "Retry", "", &[("Retry On Fail", "on failure"), ("No Retry", "never")]))
            (fields.choice("/retry/retryStrategy", "Strategy", "", &[("LINEAR", "linear"), ("EXPONENTIAL", "exponential")]))
            (fields.line("/retry/maxAttempts", "Retries at most", "After the first try.", "number"))
            (fields.line("/retry/initialDelaySeconds", "First delay, in seconds", "", "number"))
            (fields.line("/retry/maxDelaySeconds", "Longest delay, in seconds", "", "number"))
            (fields.line("/retry/jitterPercent", "Jitter, in percent", "", "number"))
            (fields.line("/retry/schedule", "Schedule, in seconds", "Explicit delays with commas between them; they override the strategy.", "text"))
            (fields.line("/retry/deadlineSeconds", "Deadline, in seconds", "From when a message was accepted.", "number"))
            (fields.line("/retry/retryOnStatus", "Retry on these statuses too", "With commas between them.", "text"))
        }
    }
}

fn entrypoint_fields(fields: &Fields<'_>) -> Markup {
    html! {
        fieldset.card {
            legend { "Entrypoint" }
            (fields.line("/contextPath", "Context path", "Applications subscribe with POST to this path and /subscriptions.", "text"))
            div.columns {
                (fields.choice("/subscriptionValidation", "New subscriptions of consumers", "", &[("AUTO", "are accepted at once"), ("MANUAL", "wait to be accepted")]))
                (fields.choice("/qos", "Quality of service", "What a crash may do to a message in flight.", &[
                    ("AUTO", "Auto: sent again"), ("AT_LEAST_ONCE", "At least once"), ("AT_MOST_ONCE", "At most once"), ("NONE", "None"),
                ]))
            }
        }
        fieldset.card {
            legend { "Callback" }
            div.columns {
                (fields.line("/callbackUrl", "Default callback URL", "For subscriptions that name none.", "url"))
                (fields.choice("/method", "Method", "", &[("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH")]))
            }
            (fields.lines("/headers", "Headers", "One a line, such as x-team: payments. Secret values are shown as [stored] once they are saved.", 3))
            (fields.choice("/cloudEvents", "CloudEvents", "", &[("none", "no"), ("binary", "binary mode: ce- headers"), ("structured", "structured mode: one JSON document")]))
        }
        fieldset.card {
            legend { "Retry" }
            (retry_fields(fields))
        }
        fieldset.card {
            legend { "Dead letter queue" }
            div.columns {
                (fields.choice("/dlq/type", "What is given up", "", &[
                    ("embedded", "is kept here"), ("api", "is kept and published to another API"),
                    ("http", "is kept and posted to a URL"), ("none", "is not kept"),
                ]))
                (fields.choice("/onFailure", "Where it is not kept", "", &[("interrupt", "the subscription is interrupted"), ("discard", "the message is discarded")]))
                (fields.line("/dlq/api", "The other API's id", "", "text"))
                (fields.line("/dlq/url", "The URL", "", "url"))
            }
        }
        fieldset.card {
            legend { "HTTP" }
            div.columns {
                (fields.line("/http/connectTimeoutMs", "Connect timeout, in ms", "", "number"))
                (fields.line("/http/readTimeoutMs", "Read timeout, in ms", "", "number"))
                (fields.line("/http/idleTimeoutMs", "Idle timeout, in ms", "How long a connection is kept.", "number"))
                (fields.line("/http/maxConcurrentConnections", "Connections a subscription", "", "number"))
            }
            div.columns {
                (fields.choice("/proxy/type", "Proxy", "", &[("", "none"), ("HTTP", "HTTP"), ("SOCKS5", "SOCKS5")]))
                (fields.line("/proxy/host", "Proxy host", "", "text"))
                (fields.line("/proxy/port", "Proxy port", "", "number"))
                (fields.line("/proxy/username", "User name", "", "text"))
                (fields.line("/proxy/password", "Password", "Empty keeps the stored one.", "password"))
            }
        }
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What stands for a secret that is stored.
const STORED: &str = "[stored]";

/// Headers, one a line.
pub(super) fn headers_shown(headers: &[CustomHeader]) -> String {
    let lines = headers.iter().map(|header| match &header.value {
        Secret::Value(value) => format!("{}: {}", header.name, value.as_str()),
        Secret::Sealed(_) => format!("{}: {STORED}", header.name),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Headers from lines; a stored secret stays what it was before.
pub(super) fn headers_read(
    text: &str,
    before: &[CustomHeader],
    invalid: &mut Invalid,
) -> Vec<CustomHeader> {
    let mut headers = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            invalid.check(
                false,
                "/headers",
                format!("{line:?} has no colon between name and value"),
            );
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if value != STORED {
            headers.push(CustomHeader::new(name, value));
            continue;
        }
        // The second of a name keeps what the second of this name held.
        let of_name = |header: &&CustomHeader| header.name.eq_ignore_ascii_case(name);
        let earlier = headers.iter().filter(of_name).count();
        let known = before.iter().filter(of_name).nth(earlier);
        if let Some(known) = known.filter(|known| matches!(known.value, Secret::Sealed(_))) {
            headers.push(known.clone());
        } else {
            let reason = format!("nothing is stored for {name:?}; type its value");
            invalid.check(false, "/headers", reason);
        }
    }
    headers
}

/// The fields of an entrypoint, as the form shows them.
pub(super) fn shown(point: &WebhookEntrypoint) -> Form {
    let number = |n: u64| n.to_string();
    let form = Form::default()
        .with("/contextPath", &*point.context_path)
        .with(
            "/subscriptionValidation",
            text_of(&point.subscription_validation),
        )
        .with("/qos", text_of(&point.qos))
        .with(
            "/callbackUrl",
            point.callback_url.as_ref().map_or("", |url| url.as_str()),
        )
        .with("/method", point.method.as_str())
        .with("/headers", headers_shown(&point.headers))
        .with("/cloudEvents", text_of(&point.cloud_events))
        .with("/onFailure", text_of(&point.on_failure))
        .with(
            "/http/connectTimeoutMs",
            number(point.http.connect_timeout_ms),
        )
        .with("/http/readTimeoutMs", number(point.http.read_timeout_ms))
        .with("/http/idleTimeoutMs", number(point.http.idle_timeout_ms))
        .with(
            "/http/maxConcurrentConnections",
            point.http.max_concurrent_connections.to_string(),
        );
    let form = logging_shown(form, point.logging);
    let form = retry_shown(form, &point.retry);
    let form = match &point.dlq {
        DeadLetterQueue::Embedded => form.with("/dlq/type", "embedded"),
        DeadLetterQueue::None => form.with("/dlq/type", "none"),
        DeadLetterQueue::Api { api } => form
            .with("/dlq/type", "api")
            .with("/dlq/api", api.to_string()),
        DeadLetterQueue::Http { url } => form
            .with("/dlq/type", "http")
            .with("/dlq/url", url.as_str()),
    };
    match &point.proxy {
        None => form,
        Some(proxy) => form
            .with("/proxy/type", text_of(&proxy.kind))
            .with("/proxy/host", &*proxy.host)
            .with("/proxy/port", proxy.port.to_string())
            .with(
                "/proxy/username",
                proxy.username.clone().unwrap_or_default(),
            ),
    }
}

/// The four toggles.
pub(super) fn logging_shown(form: Form, logging: Logging) -> Form {
    let is_on = |part: bool| logging.enabled && part;
    form.tick("/logging/request/headers", is_on(logging.request.headers))
        .tick("/logging/request/payload", is_on(logging.request.payload))
        .tick("/logging/response/headers", is_on(logging.response.headers))
        .tick("/logging/response/payload", is_on(logging.response.payload))
}

/// The fields of a retry policy.
pub(super) fn retry_shown(form: Form, retry: &Retry) -> Form {
    form.with("/retry/retryOption", text_of(&retry.retry_option))
        .with("/retry/retryStrategy", text_of(&retry.retry_strategy))
        .with("/retry/maxAttempts", retry.max_attempts.to_string())
        .with(
            "/retry/initialDelaySeconds",
            retry.initial_delay_seconds.to_string(),
        )
        .with(
            "/retry/maxDelaySeconds",
            retry.max_delay_seconds.to_string(),
        )
        .with("/retry/jitterPercent", retry.jitter_percent.to_string())
        .with("/retry/schedule", listed(&retry.schedule))
        .with(
            "/retry/deadlineSeconds",
            retry
                .deadline_seconds
                .map_or_else(String::new, |s| s.to_string()),
        )
        .with("/retry/retryOnStatus", listed(&retry.retry_on_status))
}

/// The text form of a choice.
pub(super) fn text_of(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Reads a choice by its text form.
pub(super) fn choice<T: serde::de::DeserializeOwned>(
    form: &Form,
    name: &str,
    invalid: &mut Invalid,
) -> Option<T> {
    form.read(name, invalid, |text| {
        serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
    })
}

fn list<T: std::str::FromStr>(form: &Form, name: &str, invalid: &mut Invalid) -> Vec<T> {
    let read = form.read(name, invalid, |text| {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let numbers = parts.map(|part| {
            part.parse()
                .map_err(|_| format!("{part:?} is not a whole number in range"))
        });
        numbers.collect::<Result<Vec<T>, String>>()
    });
    read.unwrap_or_default()
}

/// Reads a retry policy.
pub(super) fn retry_read(form: &Form, invalid: &mut Invalid) -> Retry {
    let default = Retry::default();
    Retry {
        retry_option: choice(form, "/retry/retryOption", invalid).unwrap_or(default.retry_option),
        retry_strategy: choice(form, "/retry/retryStrategy", invalid)
            .unwrap_or(default.retry_strategy),
        max_attempts: form
            .number("/retry/maxAttempts", invalid)
            .unwrap_or(default.max_attempts),
        initial_delay_seconds: form
            .number("/retry/initialDelaySeconds", invalid)
            .unwrap_or(default.initial_delay_seconds),
        max_delay_seconds: form
            .number("/retry/maxDelaySeconds", invalid)
            .unwrap_or(default.max_delay_seconds),
        jitter_percent: form
            .number("/retry/jitterPercent", invalid)
            .unwrap_or(default.jitter_percent),
        schedule: list(form, "/retry/schedule", invalid),
        deadline_seconds: form.number("/retry/deadlineSeconds", invalid),
        retry_on_status: list(form, "/retry/retryOnStatus", invalid),
    }
}

/// The toggles.
pub(super) fn logging_read(form: &Form, before: Logging) -> Logging {
    let part = |side: &str| LoggingParts {
        headers: form.is_on(&format!("/logging/{side}/headers")),
        payload: form.is_on(&format!("/logging/{side}/payload")),
    };
    let (request, response) = (part("request"), part("response"));
    let is_on = |part: LoggingParts| part.headers || part.payload;
    let enabled = is_on(request) || is_on(response);
    if !enabled && !before.enabled {
        // Off it was and off it stays, with what it would capture.
        return before;
    }
    Logging {
        enabled,
        request,
        response,
    }
}

fn read(form: &Form, before: &WebhookEntrypoint) -> Result<WebhookEntrypoint, Invalid> {
    let mut invalid = Invalid::none();
    let default = HttpOptions::default();
    let headers = form.text("/headers").unwrap_or_default();
    let entrypoint = WebhookEntrypoint {
        context_path: form
            .get("/contextPath")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        callback_url: form.parsed("/callbackUrl", &mut invalid),
        method: choice(form, "/method", &mut invalid).unwrap_or(Method::Post),
        headers: headers_read(headers, &before.headers, &mut invalid),
        retry: retry_read(form, &mut invalid),
        qos: choice(form, "/qos", &mut invalid).unwrap_or(Qos::Auto),
        dlq: queue(form, &mut invalid),
        on_failure: choice(form, "/onFailure", &mut invalid).unwrap_or(OnFailure::Interrupt),
        http: HttpOptions {
            connect_timeout_ms: form
                .number("/http/connectTimeoutMs", &mut invalid)
                .unwrap_or(default.connect_timeout_ms),
            read_timeout_ms: form
                .number("/http/readTimeoutMs", &mut invalid)
                .unwrap_or(default.read_timeout_ms),
            idle_timeout_ms: form
                .number("/http/idleTimeoutMs", &mut invalid)
                .unwrap_or(default.idle_timeout_ms),
            max_concurrent_connections: form
                .number("/http/maxConcurrentConnections", &mut invalid)
                .unwrap_or(default.max_concurrent_connections),
        },
        proxy: proxy(form, before.proxy.as_ref(), &mut invalid),
        logging: logging_read(form, before.logging),
        cloud_events: choice(form, "/cloudEvents", &mut invalid).unwrap_or(CloudEvents::None),
        gravitee_client_identifier: before.gravitee_client_identifier,
        subscription_validation: choice(form, "/subscriptionValidation", &mut invalid)
            .unwrap_or(SubscriptionValidation::Auto),
    };
    invalid.into_result().map(|()| entrypoint)
}

fn queue(form: &Form, invalid: &mut Invalid) -> DeadLetterQueue {
    match form.get("/dlq/type") {
        Some("none") => DeadLetterQueue::None,
        Some("api") => {
            let api = form.parsed("/dlq/api", invalid);
            invalid.check(form.get("/dlq/api").is_some(), "/dlq/api", "say which API");
            api.map_or(DeadLetterQueue::Embedded, |api| DeadLetterQueue::Api {
                api,
            })
        }
        Some("http") => {
            let url = form.parsed("/dlq/url", invalid);
            invalid.check(form.get("/dlq/url").is_some(), "/dlq/url", "say which URL");
            url.map_or(DeadLetterQueue::Embedded, |url| DeadLetterQueue::Http {
                url,
            })
        }
        _ => DeadLetterQueue::Embedded,
    }
}

fn proxy(form: &Form, before: Option<&Proxy>, invalid: &mut Invalid) -> Option<Proxy> {
    let kind: ProxyKind = choice(form, "/proxy/type", invalid)?;
    let stored = before.and_then(|proxy| proxy.password.clone());
    Some(Proxy {
        kind,
        host: form
            .get("/proxy/host")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        port: form.number("/proxy/port", invalid).unwrap_or(0),
        username: form.get("/proxy/username").map(str::to_owned),
        password: form.get("/proxy/password").map(Secret::new).or(stored),
    })
}

fn general(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let form = Form::default()
        .with("/name", &*api.name)
        .with("/version", &*api.version)
        .with("/description", &*api.description);
    Ok(general_form(visit, &api, &form, &Invalid::none()))
}

fn general_form(visit: &Visit, api: &Api, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let content = html! {
        (layout::head("Configuration", &layout::nothing(), &layout::nothing()))
        (tabs(api, true))
        (fields.summary())
        form.card method="post" action=(format!("{}/general", root(api))) {
            (visit.form_key_field())
            (Visit::made_of(api))
            (fields.line("/name", "Name", "", "text"))
            (fields.line("/version", "Version", "", "text"))
            (fields.lines("/description", "Description", "", 3))
            p.field { "Id " (parts::copyable(&api.id.to_string())) }
            (parts::saving(&root(api)))
        }
    };
    Answer::form(
        invalid,
        layout::of_api(visit, api, Side::Configuration, "General", &content),
    )
}

async fn save_general(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    if let Some(stale) = visit.stale(&*api) {
        return Ok(general_form(visit, &api, &visit.form, &stale));
    }
    let text = |name: &str| visit.form.get(name).unwrap_or_default().trim().to_owned();
    let changed = Api {
        name: text("/name"),
        version: text("/version"),
        description: text("/description"),
        ..Api::clone(&api)
    };
    match visit.handle().update_api_from(&api, changed).await {
        Ok(_) => {
            visit.say("Saved.");
            Ok(Answer::see(format!("{}/general", root(&api))))
        }
        Err(ControlError::Invalid(invalid)) => Ok(general_form(visit, &api, &visit.form, &invalid)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_shows_reads_back_as_it_was() {
        let mut point = WebhookEntrypoint::at("/orders");
        point.callback_url = Some("https://example.com/hook".parse().unwrap());
        point.headers = vec![CustomHeader::new("x-team", "a: b")];
        point.retry.schedule = vec![1, 5];
        point.logging.enabled = true;
        point.logging.response.payload = true;
        point.dlq = DeadLetterQueue::Http {
            url: "https://example.com/dlq".parse().unwrap(),
        };
        point.proxy = Some(Proxy {
            kind: ProxyKind::Socks5,
            host: "proxy.example.com".to_owned(),
            port: 1080,
            username: Some("u".to_owned()),
            password: Some(Secret::Sealed(crate::model::SecretId::from_uuid(
                uuid::Uuid::from_u128(3),
            ))),
        });
        assert_eq!(read(&shown(&point), &point), Ok(point));
    }

    #[test]
    fn a_stored_header_stays_and_another_value_replaces_it() {
        let id = crate::model::SecretId::from_uuid(uuid::Uuid::from_u128(3));
        let stored = CustomHeader {
            name: "x-api-key".to_owned(),
            value: Secret::Sealed(id),
        };
        let before = [stored.clone()];
        let mut invalid = Invalid::none();
        let shown = headers_shown(&before);
        assert_eq!(headers_read(&shown, &before, &mut invalid), before);
        let other = headers_read("X-Api-Key: new", &before, &mut invalid);
        assert_eq!(other, [CustomHeader::new("X-Api-Key", "new")]);
        headers_read("no colon", &before, &mut invalid);
        headers_read("x-other-key: [stored]", &before, &mut invalid);
        assert_eq!(invalid.problems.len(), 2);
    }
}
