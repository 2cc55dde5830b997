//! Settings of the gateway: tokens, and how the log is kept.

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        format,
        layout::{self, Place},
        parts::{self, Fields, Tone},
        visit::{Page, Visit},
    },
    configuration::choice,
    does, run, shows, shows_to,
};
use crate::{
    model::{Invalid, Permission, Role, Token, TokenId},
    projection::access::TokenRow,
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/settings", run!(show)),
    does(Permission::Manage, "/settings/tokens", run!(create)),
    shows_to(
        Permission::Manage,
        "/settings/tokens/{token}/revoke",
        run!(async |visit| ask_revoke(visit)),
    ),
    does(
        Permission::Manage,
        "/settings/tokens/{token}/revoke",
        run!(revoke),
    ),
];

async fn show(visit: &Visit) -> Result<Answer, Trouble> {
    page(
        visit,
        &Form::default().with("/role", "viewer"),
        &Invalid::none(),
        None,
    )
    .await
}

async fn page(
    visit: &Visit,
    form: &Form,
    invalid: &Invalid,
    secret: Option<&str>,
) -> Result<Answer, Trouble> {
    let fields = Fields { form, invalid };
    let content = html! {
        (layout::head("Settings", &layout::nothing(), &layout::nothing()))
        (fields.summary())
        @if let Some(secret) = secret {
            div.notice role="status" { p { strong { "The new token:" } " keep it now, it is never shown again." } p { (parts::copyable(secret)) } }
        }
        section.card {
            h2 { "Tokens" }
            @if visit.may(Permission::Manage) {
                (tokens(visit, &visit.handle().access().tokens()?))
                form.row method="post" action=(format!("{ROOT}/settings/tokens")) {
                    (visit.form_key_field())
                    (fields.line("/name", "What it is for", "", "text"))
                    (fields.choice("/role", "Role", "", &[
                        ("viewer", "viewer: reads everything"), ("operator", "operator: reads, pauses, redelivers"),
                        ("publisher", "publisher: publishes"), ("admin", "admin: everything"),
                    ]))
                    (fields.filter("/expiresAt", "Expires (UTC)", "never"))
                    button type="submit" { "Make a token" }
                }
            } @else { p.muted { "Tokens are for admins to see." } }
        }
        (log(visit).await?)
    };
    Ok(Answer::form(
        invalid,
        layout::page(visit, Place::Settings, "Settings", &content),
    ))
}

fn tokens(visit: &Visit, rows: &[TokenRow]) -> Markup {
    let now = visit.now();
    let own = visit.token().map(|token| token.id);
    let of_people = rows.iter().filter(|row| row.token.role != Role::Consumer);
    html! {
        div.table-wrap tabindex="0" { table.list {
            thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Created (UTC)" } th scope="col" { "Expires (UTC)" } th scope="col" { "State" } th {} } }
            tbody { @for row in of_people { tr {
                th scope="row" { (row.token.name) @if Some(row.token.id) == own { small { "this session" } } }
                td { (row.token.role) }
                td { (parts::time(row.created_at)) }
                td { @match row.token.expires_at { Some(at) => (parts::time(at)), None => "never" } }
                td { (state(row, now)) }
                td { @if row.is_valid(now) { (parts::asking(&format!("{ROOT}/settings/tokens/{}/revoke", row.token.id), "Revoke", "button small quiet-danger")) } }
            } } }
        } }
    }
}

fn state(row: &TokenRow, now: crate::model::Timestamp) -> Markup {
    if row.is_valid(now) {
        parts::badge(Tone::Good, "in force")
    } else if row.revoked_at.is_some() {
        parts::badge(Tone::Quiet, "revoked")
    } else {
        parts::badge(Tone::Quiet, "expired")
    }
}

/// How the log stands, and what of it goes when.
async fn log(visit: &Visit) -> Result<Markup, Trouble> {
    let retention = visit.handle().retention().await?;
    let policy = retention.policy;
    let age = policy
        .max_age
        .map_or_else(|| "without limit".to_owned(), format::duration);
    let size = policy
        .max_bytes
        .map_or_else(|| "without limit".to_owned(), format::bytes);
    let pair = |name: &str, value: &str| html! { div { dt { (name) } dd { (value) } } };
    Ok(html! {
        section.card {
            h2 { "Event log and retention" }
            dl.pairs {
                (pair("Positions kept", &format!("{} to {}", format::count(retention.first.get()), format::count(retention.head.get()))))
                (pair("Kept for", &age))
                (pair("Size", &size))
                (pair("Due to be dropped", &format::bytes(retention.plan.bytes())))
            }
            @if !retention.held_by.is_empty() {
                h3 { "Held back" }
                ul.failures { @for holder in &retention.held_by { li { (holder.kind) ", from position " (holder.from) } } }
            }
            p.hint { "Set by the configuration: [retention] age_days_max and bytes_max." }
        }
    })
}

async fn create(visit: &Visit) -> Result<Answer, Trouble> {
    let mut invalid = Invalid::none();
    let form = &visit.form;
    let role = choice::<Role>(form, "/role", &mut invalid).unwrap_or(Role::Viewer);
    let token = Token {
        expires_at: form.parsed("/expiresAt", &mut invalid),
        ..Token::named(form.get("/name").unwrap_or_default().trim(), role)
    };
    let made = match invalid.into_result() {
        Ok(()) => visit.handle().create_token(token).await,
        Err(invalid) => Err(ControlError::Invalid(invalid)),
    };
    match made {
        Ok((_, secret)) => {
            page(
                visit,
                &Form::default().with("/role", "viewer"),
                &Invalid::none(),
                Some(secret.reveal()),
            )
            .await
        }
        Err(ControlError::Invalid(invalid)) => page(visit, form, &invalid, None).await,
        Err(error) => Err(error.into()),
    }
}

fn ask_revoke(visit: &Visit) -> Result<Answer, Trouble> {
    let id: TokenId = visit.parameter("token")?;
    let row = visit.handle().access().token(id)?;
    let missing = || Trouble::Missing(format!("there is no token {id}."));
    let row = row.ok_or_else(missing)?;
    let back = format!("{ROOT}/settings");
    let text = html! {
        p { "Nobody comes in with " strong { (row.token.name) } " any more, from now on and for good." }
        @if visit.token().is_some_and(|own| own.id == id) { p { "It is the token of this session: you will be signed out." } }
    };
    let content = parts::question(
        visit,
        "Revoke this token?",
        &text,
        &format!("{back}/tokens/{id}/revoke"),
        "Revoke",
        &back,
    );
    Ok(Answer::page(layout::page(
        visit,
        Place::Settings,
        "Revoke",
        &content,
    )))
}

async fn revoke(visit: &Visit) -> Result<Answer, Trouble> {
    let id: TokenId = visit.parameter("token")?;
    let row = visit.handle().access().token(id)?;
    visit.handle().revoke_token(id).await?;
    visit.say("The token was revoked.");
    let application = row.and_then(|row| row.token.application);
    Ok(Answer::see(application.map_or_else(
        || format!("{ROOT}/settings"),
        |id| format!("{ROOT}/applications/{id}"),
    )))
}
