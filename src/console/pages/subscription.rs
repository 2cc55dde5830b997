//! One subscription: where it stands, its settings, and what can be done with it.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        format,
        layout::{self, Side},
        parts::{self, Fields},
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
    subscriptions::{
        address, callback, circuit, last_error, named, read, setting_fields, shown, standing,
    },
};
use crate::{
    model::{
        Api, AttemptResult, ConsumerStatus, Invalid, Message, Permission, SubscriptionId,
        SubscriptionStatus, Timestamp,
    },
    projection::{
        metrics::{Gauges, Scope},
        subscriptions::SubscriptionRow,
    },
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/subscriptions/{subscription}", run!(show)),
    shows_to(
        Permission::Manage,
        "/subscriptions/{subscription}/edit",
        run!(edit),
    ),
    does(
        Permission::Manage,
        "/subscriptions/{subscription}/edit",
        run!(save),
    ),
    does(
        Permission::Operate,
        "/subscriptions/{subscription}/pause",
        run!(pause),
    ),
    does(
        Permission::Operate,
        "/subscriptions/{subscription}/resume",
        run!(resume),
    ),
    does(
        Permission::Operate,
        "/subscriptions/{subscription}/recover",
        run!(recover),
    ),
    does(
        Permission::Operate,
        "/subscriptions/{subscription}/test",
        run!(test),
    ),
    does(
        Permission::Manage,
        "/subscriptions/{subscription}/accept",
        run!(accept),
    ),
    does(
        Permission::Manage,
        "/subscriptions/{subscription}/reject",
        run!(reject),
    ),
    shows_to(
        Permission::Manage,
        "/subscriptions/{subscription}/close",
        run!(ask_close),
    ),
    does(
        Permission::Manage,
        "/subscriptions/{subscription}/close",
        run!(close),
    ),
    shows_to(
        Permission::Manage,
        "/subscriptions/{subscription}/rotate",
        run!(ask_rotate),
    ),
    does(
        Permission::Manage,
        "/subscriptions/{subscription}/rotate",
        run!(rotate),
    ),
];

async fn row(visit: &Visit) -> Result<SubscriptionRow, Trouble> {
    let id: SubscriptionId = visit.parameter("subscription")?;
    let view = visit.fresh(visit.handle().subscriptions()).await;
    let missing = || Trouble::Missing(format!("there is no subscription {id}."));
    view.subscription(id)?.ok_or_else(missing)
}

fn api_of(visit: &Visit, row: &SubscriptionRow) -> Result<std::sync::Arc<Api>, Trouble> {
    Ok(visit.handle().api(row.state.definition.api)?)
}

async fn show(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let id = row.state.definition.id;
    let gauges = visit.handle().metrics().gauges(Scope::Subscription(id))?;
    // One that does not run is held by nothing.
    let inspected = visit.handle().inspect(id).await.ok();
    let held_until = inspected.and_then(|inspection| inspection.held_until);
    let content = html! {
        (layout::head("Subscription", &html! { span.url { (callback(&row)) } }, &actions(visit, &row)))
        div id="subscription" data-live="subscriptions" {
            (banner(visit, &row, held_until))
            (figures(visit, &row, &gauges))
        }
        (settings(visit, &row, &api))
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Subscriptions,
        "Subscription",
        &content,
    )))
}

fn actions(visit: &Visit, row: &SubscriptionRow) -> Markup {
    let root = address(row.state.definition.id);
    let to = |step: &str| format!("{root}/{step}");
    let is_open = !matches!(
        row.state.status,
        SubscriptionStatus::Closed | SubscriptionStatus::Rejected
    );
    html! {
        @if visit.may(Permission::Operate) && is_open {
            (parts::step(visit, &to("test"), "Send test message", ""))
            @match row.state.status {
                SubscriptionStatus::Accepted => (parts::step(visit, &to("pause"), "Pause", "")),
                SubscriptionStatus::Paused => (parts::step(visit, &to("resume"), "Resume", "primary")),
                _ => {}
            }
            @if row.state.consumer_status != ConsumerStatus::Started {
                (parts::step(visit, &to("recover"), "Resume deliveries", "primary"))
            }
        }
        @if visit.may(Permission::Manage) && is_open {
            @if row.state.status == SubscriptionStatus::Pending {
                (parts::step(visit, &to("accept"), "Accept", "primary"))
                (parts::step(visit, &to("reject"), "Reject", ""))
            }
            a.button href=(to("edit")) { "Edit" }
            (parts::asking(&to("close"), "Close", "button quiet-danger"))
        }
    }
}

/// What keeps it from delivering.
fn banner(visit: &Visit, row: &SubscriptionRow, held_until: Option<Timestamp>) -> Markup {
    let now = visit.now();
    html! {
        @if let Some(cause) = &row.state.failure_cause {
            div.notice.fault role="status" { p { strong { "It is interrupted: " } (cause) "." }
                p { "Its messages wait. Mend the callback, then resume deliveries." } }
        }
        @if let Some(circuit) = row.health.circuit {
            div.notice.waiting role="status" { p { strong { "The callback is taken as down" } " since " (parts::time(circuit.opened_at)) ", after " (circuit.failures) " failures in a row. "
                "Messages wait and nothing is given up; it is probed " (parts::ago(circuit.probe_at, now)) "." } }
        }
        @if let (Some(hold), Some(until)) = (row.health.hold, held_until) {
            div.notice.waiting role="status" { p { "The callback answered " (hold.status) " and asked for a pause until " (parts::time(until)) "." } }
        }
        @if let Some(reason) = &row.state.rejected_because {
            div.notice role="status" { p { "It was rejected: " (reason) } }
        }
    }
}

fn figures(visit: &Visit, row: &SubscriptionRow, gauges: &Gauges) -> Markup {
    let now = visit.now();
    let health = &row.health;
    let oldest = gauges.oldest_accepted_at.map_or_else(String::new, |at| {
        format!("oldest {}", format::duration(now.since(at)))
    });
    let logs = format!(
        "{ROOT}/apis/{}/logs?subscription={}",
        row.state.definition.api, row.state.definition.id
    );
    html! {
        dl.figures {
            div.figure { dt { "Status" } dd { (standing(row)) } }
            div.figure { dt { "Circuit" } dd { (circuit(row)) } }
            (parts::figure("Backlog", &format::count(gauges.backlog), &oldest))
            (parts::figure("Delivered", &format::count(health.delivered), &health.last_success_at.map_or_else(String::new, |at| format!("last {}", format::ago(at, now)))))
            (parts::figure("Failed calls", &format::count(health.failures), &last_error(row).map_or_else(String::new, |(what, at)| format!("{what}, {}", format::ago(at, now)))))
            (parts::figure("Dead letters, ever", &format::count(health.dead_lettered), ""))
        }
        p { a href=(logs) { "Its webhook logs" } }
    }
}

fn settings(visit: &Visit, row: &SubscriptionRow, api: &Api) -> Markup {
    let definition = &row.state.definition;
    let own = &definition.configuration;
    let root = address(definition.id);
    let row_of = |name: &str, value: &Markup| html! { div { dt { (name) } dd { (value) } } };
    html! {
        section.card {
            h2 { "Settings" }
            dl.pairs {
                (row_of("Id", &parts::copyable(&definition.id.to_string())))
                (row_of("Application", &html! { (row.application_name.as_deref().unwrap_or("–")) }))
                (row_of("Method", &html! { (own.method.unwrap_or(api.entrypoint.method).as_str()) }))
                (row_of("Order", &html! { (super::configuration::text_of(&definition.delivery_mode)) }))
                (row_of("Channel", &html! { (definition.channel.as_deref().unwrap_or("all")) }))
                @if let Some(filter) = &definition.filter { (row_of("Filter", &html! { code { (filter.as_str()) } })) }
                (row_of("Authentication", &html! { (auth_name(own)) }))
                (row_of("Signing", &html! {
                    @match &own.signing { Some(signing) => { (signing.keys.len()) " keys " } None => "off " }
                    @if visit.may(Permission::Manage) { (parts::asking(&format!("{root}/rotate"), "New signing key", "button small")) }
                }))
                @if !own.headers.is_empty() { (row_of("Headers", &html! { pre { (super::configuration::headers_shown(&own.headers)) } })) }
                @if let Some(at) = definition.starting_at { (row_of("Begins", &parts::time(at))) }
                @if let Some(at) = definition.ending_at { (row_of("Ends", &parts::time(at))) }
                (row_of("Created", &parts::time(row.state.created_at)))
            }
        }
        @if visit.may(Permission::Operate) { (everything_since(visit, row)) }
    }
}

fn auth_name(configuration: &crate::model::ConsumerConfiguration) -> &'static str {
    use crate::model::Auth;
    match &configuration.auth {
        Auth::None => "none",
        Auth::Basic { .. } => "user name and password",
        Auth::Token { .. } => "bearer token",
        Auth::Oauth2(_) => "OAuth2 client credentials",
        Auth::JwtProfileOauth2(_) => "OAuth2 with a signed assertion",
    }
}

/// Sends everything again since a time, delivered or not.
fn everything_since(visit: &Visit, row: &SubscriptionRow) -> Markup {
    let definition = &row.state.definition;
    html! {
        form.card method="get" action=(format!("{ROOT}/jobs/new")) {
            h2 { "Redeliver everything since a time" }
            p.hint { "Delivered or not, in order, with the original bytes and " code { "webhook-id" } ". You see the count before anything is sent." }
            input type="hidden" name="api" value=(definition.api);
            input type="hidden" name="subscription" value=(definition.id);
            div.columns {
                div.field { label for="since" { "Since (UTC)" }
                    input id="since" name="since" type="text" value=(visit.now().minus(Duration::from_hours(1))) autocomplete="off"; }
            }
            div.buttons { button type="submit" { "Count" } }
        }
    }
}

async fn edit(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let form = shown(&row.state.definition, &api.entrypoint.retry);
    Ok(edit_form(visit, &api, &row, &form, &Invalid::none()))
}

fn edit_form(
    visit: &Visit,
    api: &Api,
    row: &SubscriptionRow,
    form: &Form,
    invalid: &Invalid,
) -> Answer {
    let fields = Fields { form, invalid };
    let root = address(row.state.definition.id);
    let content = html! {
        (layout::head("Edit subscription", &html! { span.url { (callback(row)) } }, &layout::nothing()))
        (fields.summary())
        form.stack method="post" action=(format!("{root}/edit")) {
            (visit.form_key_field())
            (Visit::made_of(&row.state.definition))
            (setting_fields(&fields))
            (parts::saving(&root))
        }
    };
    Answer::form(
        invalid,
        layout::of_api(
            visit,
            api,
            Side::Subscriptions,
            "Edit subscription",
            &content,
        ),
    )
}

async fn save(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let before = visit.handle().subscription(row.state.definition.id).await?;
    if let Some(stale) = visit.stale(&row.state.definition) {
        return Ok(edit_form(visit, &api, &row, &visit.form, &stale));
    }
    let changed = match read(&visit.form, before.clone()) {
        Ok(subscription) => {
            visit
                .handle()
                .update_subscription_from(&before, subscription)
                .await
        }
        Err(invalid) => Err(ControlError::Invalid(invalid)),
    };
    match changed {
        Ok(_) => {
            visit.say("The subscription was saved. Its next call is made under it.");
            Ok(Answer::see(address(before.id)))
        }
        Err(ControlError::Invalid(invalid)) => {
            Ok(edit_form(visit, &api, &row, &visit.form, &named(invalid)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells what came of a step, and shows the subscription.
async fn stepped<T>(
    visit: &Visit,
    told: &str,
    step: impl Future<Output = Result<T, ControlError>>,
) -> Result<Answer, Trouble> {
    let id: SubscriptionId = visit.parameter("subscription")?;
    visit.step(told, step, address(id)).await
}

async fn pause(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    stepped(
        visit,
        "Paused: messages wait, and none is lost.",
        visit.handle().pause(id),
    )
    .await
}

async fn resume(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    stepped(
        visit,
        "Resumed: what waited is delivered now.",
        visit.handle().resume_subscription(id),
    )
    .await
}

async fn recover(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    let told = "Deliveries go on; what could not be delivered has a fresh budget.";
    stepped(visit, told, visit.handle().resume_failure(id)).await
}

async fn accept(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    stepped(
        visit,
        "Accepted: it is delivered to from now on.",
        visit.handle().accept(id),
    )
    .await
}

async fn reject(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    stepped(
        visit,
        "Rejected.",
        visit.handle().reject(id, "rejected in the console"),
    )
    .await
}

async fn test(visit: &Visit) -> Result<Answer, Trouble> {
    let id: SubscriptionId = visit.parameter("subscription")?;
    let content = serde_json::json!({"test": true, "subscription": id});
    let message = Message::json(&content)?.with_type("hooklog.test");
    match visit.handle().test_callback(id, message).await {
        Ok(tested) => {
            let took =
                format::duration(Duration::from_micros(tested.report.timings.total_us.into()));
            match &tested.report.result {
                AttemptResult::Responded {
                    status: status @ 200..=299,
                    ..
                } => {
                    visit.say(format!(
                        "The callback answered {status} after {took}: it works."
                    ));
                }
                AttemptResult::Responded { status, .. } => {
                    visit.warn(format!("The callback answered {status} after {took}; a message would not count as delivered."));
                }
                AttemptResult::Failed(error) => {
                    visit.warn(format!("There was no response after {took}: {error}."));
                }
            }
        }
        Err(error) => visit.warn(format!("No test message was sent: {error}.")),
    }
    Ok(Answer::see(address(id)))
}

async fn ask_close(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let root = address(row.state.definition.id);
    let text = html! {
        p { "Nothing more is sent to " span.url { (callback(&row)) } ". What waits for a retry is discarded, on record. A closed subscription cannot be opened again." }
    };
    let content = parts::question(
        visit,
        "Close this subscription?",
        &text,
        &format!("{root}/close"),
        "Close",
        &root,
    );
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Subscriptions,
        "Close",
        &content,
    )))
}

async fn close(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("subscription")?;
    stepped(visit, "Closed.", visit.handle().close(id)).await
}

async fn ask_rotate(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let root = address(row.state.definition.id);
    let text = html! {
        p { "Calls are signed with a new key from now on. The keys it had sign beside it for a day, so that the receiver can change over." }
    };
    let content = parts::question(
        visit,
        "Make a new signing key?",
        &text,
        &format!("{root}/rotate"),
        "Make it",
        &root,
    );
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Subscriptions,
        "New signing key",
        &content,
    )))
}

async fn rotate(visit: &Visit) -> Result<Answer, Trouble> {
    let row = row(visit).await?;
    let api = api_of(visit, &row)?;
    let id = row.state.definition.id;
    let (secret, until) = visit
        .handle()
        .rotate_secret(id, Duration::from_hours(24))
        .await?;
    let content = html! {
        (layout::head("New signing key", &layout::nothing(), &layout::nothing()))
        section.card {
            p { "Give it to the receiver now: it is never shown again." }
            p { (parts::copyable(secret.reveal())) }
            p.note { "The keys before it sign until " (parts::time(until)) " UTC." }
            p { a.button href=(address(id)) { "Back to the subscription" } }
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Subscriptions,
        "New signing key",
        &content,
    )))
}
