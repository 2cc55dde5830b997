//! The subscriptions of an API: the list, and a new one.

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
    configuration::{
        choice, headers_read, headers_shown, retry_fields, retry_read, retry_shown, text_of,
        without,
    },
    does, run, shows, shows_to,
};
use crate::{
    model::{
        Api, ApplicationId, Auth, ConsumerConfiguration, ConsumerStatus, DeliveryMode,
        FilterExpression, Invalid, OAuth2, Permission, Retry, Secret, StartFrom, Subscription,
        SubscriptionId, SubscriptionStatus,
    },
    projection::{metrics::Scope, subscriptions::SubscriptionRow},
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/apis/{api}/subscriptions", run!(list)),
    shows_to(
        Permission::Manage,
        "/apis/{api}/subscriptions/new",
        run!(async |visit| new(visit)),
    ),
    does(
        Permission::Manage,
        "/apis/{api}/subscriptions/new",
        run!(create),
    ),
];

/// Subscriptions on a page.
const PAGE: usize = 100;

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let view = visit.fresh(visit.handle().subscriptions()).await;
    let after = visit
        .query
        .get("cursor")
        .and_then(|cursor| cursor.parse().ok());
    let mut rows = view.of_api(api.id, after, PAGE + 1)?;
    let next = (rows.len() > PAGE).then(|| rows[PAGE - 1].state.definition.id.to_string());
    rows.truncate(PAGE);
    let new = format!("{ROOT}/apis/{}/subscriptions/new", api.id);
    let add = html! { @if visit.may(Permission::Manage) { a."button primary" href=(new) { "+ Add subscription" } } };
    let content = html! {
        (layout::head("Subscriptions", &layout::nothing(), &add))
        @if rows.is_empty() && after.is_none() {
            (parts::empty("No subscription yet", &html! {
                p { "A subscription names a callback URL; every message of this API is pushed to it." }
                @if visit.may(Permission::Manage) { p { a."button primary" href=(new) { "Add the first subscription" } } }
                p.note { "Consumers can subscribe by themselves: " code { "POST " (api.entrypoint.context_path) "/subscriptions" } " with the key of an application." }
            }))
        } @else {
            div id="subscriptions" data-live="subscriptions" { (table(visit, &rows)?) }
            (parts::pager(visit, next.as_deref(), "subscriptions"))
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Subscriptions,
        "Subscriptions",
        &content,
    )))
}

fn table(visit: &Visit, rows: &[SubscriptionRow]) -> Result<Markup, Trouble> {
    let metrics = visit.handle().metrics();
    let backlogs: Vec<_> = rows
        .iter()
        .map(|row| {
            Ok(metrics
                .gauges(Scope::Subscription(row.state.definition.id))?
                .backlog)
        })
        .collect::<Result<_, Trouble>>()?;
    let now = visit.now();
    Ok(html! {
        div.table-wrap tabindex="0" {
            table.list {
                thead { tr { th scope="col" { "Callback" } th scope="col" { "Application" } th scope="col" { "Status" } th scope="col" { "Circuit" }
                    th.number scope="col" { "Backlog" } th scope="col" { "Success" } th scope="col" { "Last error" } } }
                tbody {
                    @for (row, backlog) in rows.iter().zip(backlogs) {
                        tr {
                            th scope="row" { a href=(address(row.state.definition.id)) { (callback(row)) } }
                            td { (row.application_name.as_deref().unwrap_or("–")) }
                            td { (standing(row)) }
                            td { (circuit(row)) }
                            td.number { (format::count(backlog)) }
                            td { (format::percent(row.health.delivered, row.health.delivered + row.health.dead_lettered + row.health.discarded)) }
                            td { @if let Some((what, at)) = last_error(row) { span.fault-text { (what) } " " (parts::ago(at, now)) } @else { "–" } }
                        }
                    }
                }
            }
        }
    })
}

/// Where a subscription's page is.
pub(super) fn address(id: SubscriptionId) -> String {
    format!("{ROOT}/subscriptions/{id}")
}

/// Where a subscription is called.
pub(super) fn callback(row: &SubscriptionRow) -> String {
    let own = &row.state.definition.configuration.callback_url;
    own.as_ref().map_or_else(
        || "the entrypoint's callback".to_owned(),
        |url| url.redacted().to_string(),
    )
}

/// Where a subscription stands.
pub(super) fn standing(row: &SubscriptionRow) -> Markup {
    match (row.state.status, row.state.consumer_status) {
        (SubscriptionStatus::Pending, _) => parts::badge(Tone::Waiting, "pending"),
        (SubscriptionStatus::Paused, _) => parts::badge(Tone::Quiet, "paused"),
        (SubscriptionStatus::Closed, _) => parts::badge(Tone::Quiet, "closed"),
        (SubscriptionStatus::Rejected, _) => parts::badge(Tone::Quiet, "rejected"),
        (SubscriptionStatus::Accepted, ConsumerStatus::Failure) => {
            parts::badge(Tone::Bad, "failure")
        }
        (SubscriptionStatus::Accepted, ConsumerStatus::Stopped) => {
            parts::badge(Tone::Quiet, "stopped")
        }
        (SubscriptionStatus::Accepted, ConsumerStatus::Started) => {
            parts::badge(Tone::Good, "delivering")
        }
    }
}

/// How its circuit stands.
pub(super) fn circuit(row: &SubscriptionRow) -> Markup {
    match row.health.circuit {
        Some(_) => parts::badge(Tone::Bad, "open"),
        None => parts::badge(Tone::Quiet, "closed"),
    }
}

/// What failed last, and when.
pub(super) fn last_error(row: &SubscriptionRow) -> Option<(String, crate::model::Timestamp)> {
    let at = row.health.last_failure_at?;
    let what = match (&row.health.last_error, row.health.last_failure_status) {
        (Some(error), _) => error.class.to_string(),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "failed".to_owned(),
    };
    Some((what, at))
}

fn new(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let form = Form::default()
        .with("/deliveryMode", "concurrent")
        .with("startFrom", "now");
    let form = retry_shown(form, &api.entrypoint.retry);
    Ok(new_form(visit, &api, &form, &Invalid::none()))
}

fn new_form(visit: &Visit, api: &Api, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let back = format!("{ROOT}/apis/{}/subscriptions", api.id);
    let content = html! {
        (layout::head("New subscription", &html! { "On " (api.name) "." }, &layout::nothing()))
        (fields.summary())
        form.stack method="post" action=(format!("{back}/new")) {
            (visit.form_key_field())
            fieldset.card {
                legend { "Whose" }
                div.columns {
                    (application_field(visit, &fields))
                    (fields.choice("startFrom", "Its first message", "", &[("now", "the next that is accepted"), ("beginning", "the first that is kept")]))
                }
            }
            (setting_fields(&fields))
            (parts::saving(&back))
        }
    };
    Answer::form(
        invalid,
        layout::of_api(
            visit,
            api,
            Side::Subscriptions,
            "New subscription",
            &content,
        ),
    )
}

fn application_field(visit: &Visit, fields: &Fields<'_>) -> Markup {
    // Who names none is given the one of this name.
    let known = parts::applications(visit).into_iter();
    let others = known.filter(|(_, name)| name != "default");
    let options: Vec<_> = std::iter::once((String::new(), "default".to_owned()))
        .chain(others)
        .collect();
    fields.choice("/application", "Application", "", &options)
}

/// What a subscription may say.
pub(super) fn setting_fields(fields: &Fields<'_>) -> Markup {
    html! {
        fieldset.card {
            legend { "Callback" }
            div.columns {
                (fields.line("/configuration/callbackUrl", "Callback URL", "Empty: the entrypoint's.", "url"))
                (fields.choice("/configuration/method", "Method", "", &[("", "the entrypoint's"), ("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH")]))
            }
            (fields.lines("/configuration/headers", "Headers", "One a line, such as x-team: payments. Secret values are shown as [stored] once they are saved.", 3))
        }
        fieldset.card {
            legend { "Authentication" }
            div.columns {
                (fields.choice("/configuration/auth/type", "Credentials", "", &[
                    ("", "as they are"), ("none", "none"), ("basic", "user name and password"), ("token", "bearer token"), ("oauth2", "OAuth2 client credentials"),
                ]))
                (fields.line("/configuration/auth/username", "User name or client id", "", "text"))
                (fields.line("/configuration/auth/secret", "Password, token or client secret", "Never shown again.", "password"))
                (fields.line("/configuration/auth/endpoint", "Token endpoint", "For OAuth2.", "url"))
                (fields.line("/configuration/auth/scopes", "Scopes", "With spaces between them.", "text"))
            }
        }
        fieldset.card {
            legend { "Which messages, in which order" }
            div.columns {
                (fields.line("/channel", "Channel", "Empty: all.", "text"))
                (fields.choice("/deliveryMode", "Order", "", &[
                    ("concurrent", "as they come: a retry holds no other"), ("keyed", "in order for each key"), ("ordered", "in order: one at a time"),
                ]))
                (fields.line("/configuration/maxInFlight", "In flight at most", "", "number"))
                (fields.line("/configuration/rateLimitPerSecond", "Calls a second at most", "", "number"))
            }
            (fields.lines("/filter", "Filter", "Only messages this CEL expression holds for, such as type == \"order.created\" && body.total > 100.", 2))
        }
        fieldset.card {
            legend { "Retry" }
            (fields.switch("ownRetry", "A retry policy of its own", "Else the entrypoint's holds."))
            (retry_fields(fields))
        }
    }
}

/// The settings of a subscription as the form shows them.
pub(super) fn shown(subscription: &Subscription, inherited: &Retry) -> Form {
    let own = &subscription.configuration;
    let form = Form::default()
        .with(
            "/configuration/callbackUrl",
            own.callback_url.as_ref().map_or("", |url| url.as_str()),
        )
        .with(
            "/configuration/method",
            own.method.map_or("", |method| method.as_str()),
        )
        .with("/configuration/headers", headers_shown(&own.headers))
        .with("/channel", subscription.channel.clone().unwrap_or_default())
        .with(
            "/filter",
            subscription
                .filter
                .as_ref()
                .map_or("", FilterExpression::as_str),
        )
        .with("/deliveryMode", text_of(&subscription.delivery_mode))
        .with(
            "/configuration/maxInFlight",
            own.max_in_flight
                .map_or_else(String::new, |n| n.to_string()),
        )
        .with(
            "/configuration/rateLimitPerSecond",
            own.rate_limit_per_second
                .map_or_else(String::new, |n| n.to_string()),
        )
        .tick("ownRetry", own.retry.is_some());
    retry_shown(form, own.retry.as_ref().unwrap_or(inherited))
}

/// Reads the settings of a form over what they were.
pub(super) fn read(form: &Form, before: Subscription) -> Result<Subscription, Invalid> {
    let mut invalid = Invalid::none();
    let headers = form.text("/configuration/headers").unwrap_or_default();
    let old = before.configuration;
    let retry = retry_read(form, &mut invalid);
    let headers = headers_read(headers, &old.headers, &mut invalid);
    let configuration = ConsumerConfiguration {
        callback_url: form.parsed("/configuration/callbackUrl", &mut invalid),
        method: choice(form, "/configuration/method", &mut invalid),
        headers,
        retry: form.is_on("ownRetry").then_some(retry),
        auth: auth(form, old.auth, &mut invalid),
        max_in_flight: form.number("/configuration/maxInFlight", &mut invalid),
        rate_limit_per_second: form.number("/configuration/rateLimitPerSecond", &mut invalid),
        ssl: old.ssl,
        signing: old.signing,
        cloud_events: old.cloud_events,
    };
    let subscription = Subscription {
        channel: form.get("/channel").map(|text| text.trim().to_owned()),
        filter: form
            .get("/filter")
            .map(|text| FilterExpression::new(text.trim())),
        delivery_mode: choice(form, "/deliveryMode", &mut invalid)
            .unwrap_or(DeliveryMode::Concurrent),
        configuration,
        ..before
    };
    invalid.into_result().map(|()| subscription)
}

fn auth(form: &Form, before: Auth, invalid: &mut Invalid) -> Auth {
    let text = |name: &str| form.get(name).unwrap_or_default().trim().to_owned();
    let secret = || Secret::new(form.get("/configuration/auth/secret").unwrap_or_default());
    let username = text("/configuration/auth/username");
    match form.get("/configuration/auth/type") {
        Some("none") => Auth::None,
        Some("basic") => Auth::Basic {
            username,
            password: secret(),
        },
        Some("token") => Auth::Token { value: secret() },
        Some("oauth2") => {
            let endpoint = form.parsed("/configuration/auth/endpoint", invalid);
            let is_named = form.get("/configuration/auth/endpoint").is_some();
            invalid.check(
                is_named,
                "/configuration/auth/endpoint",
                "say where tokens are got",
            );
            let scopes = text("/configuration/auth/scopes");
            endpoint.map_or(Auth::None, |endpoint| {
                Auth::Oauth2(OAuth2 {
                    endpoint,
                    client_id: username,
                    client_secret: secret(),
                    scopes: scopes.split_whitespace().map(str::to_owned).collect(),
                })
            })
        }
        _ => match form.get("/configuration/auth/secret") {
            None => before,
            Some(new) => renewed(before, Secret::new(new), invalid),
        },
    }
}

/// The credentials as they are, with another secret.
fn renewed(before: Auth, new: Secret, invalid: &mut Invalid) -> Auth {
    match before {
        Auth::None => {
            let reason = "say what kind of credentials it belongs to";
            invalid.check(false, "/configuration/auth/type", reason);
            Auth::None
        }
        Auth::Basic { username, .. } => Auth::Basic {
            username,
            password: new,
        },
        Auth::Token { .. } => Auth::Token { value: new },
        Auth::Oauth2(oauth2) => Auth::Oauth2(OAuth2 {
            client_secret: new,
            ..oauth2
        }),
        Auth::JwtProfileOauth2(mut profile) => {
            profile.key_content = new;
            Auth::JwtProfileOauth2(profile)
        }
    }
}

async fn create(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let form = &visit.form;
    let mut invalid = Invalid::none();
    let mut blank = Subscription::with(ConsumerConfiguration::default());
    if form.get("startFrom") == Some("beginning") {
        blank.start_from = StartFrom::Beginning;
    }
    let application: Option<ApplicationId> = form.parsed("/application", &mut invalid);
    blank.application = application.unwrap_or(ApplicationId::nil());
    let read = invalid.into_result().and_then(|()| read(form, blank));
    let made = match read {
        Ok(subscription) => visit.handle().subscribe(api.id, subscription).await,
        Err(invalid) => Err(ControlError::Invalid(invalid)),
    };
    match made {
        Ok(made) => {
            visit.say("The subscription was added. It gets every message from now on.");
            Ok(Answer::see(address(made.id)))
        }
        Err(ControlError::Invalid(invalid)) => Ok(new_form(visit, &api, form, &named(invalid))),
        Err(error) => Err(error.into()),
    }
}

/// The same problems under the names of this form: a retry policy's stand under `/retry`.
pub(super) fn named(invalid: Invalid) -> Invalid {
    let mut invalid = without("/subscription", invalid);
    for problem in &mut invalid.problems {
        if let Some(rest) = problem.pointer.strip_prefix("/configuration/retry") {
            problem.pointer = format!("/retry{rest}");
        }
    }
    invalid
}
