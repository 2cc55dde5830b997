//! Applications: the consumers, their keys and their subscriptions.

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        layout::{self, Place},
        parts::{self, Fields, Tone},
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
    subscriptions::{address, callback, standing},
};
use crate::{
    model::{Application, ApplicationId, Invalid, Permission, Role, Token},
    projection::access::TokenRow,
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/applications", run!(list)),
    shows_to(
        Permission::Manage,
        "/applications/new",
        run!(async |visit| new(visit)),
    ),
    does(Permission::Manage, "/applications/new", run!(create)),
    shows("/applications/{application}", run!(show)),
    does(
        Permission::Manage,
        "/applications/{application}",
        run!(save),
    ),
    does(
        Permission::Manage,
        "/applications/{application}/keys",
        run!(create_key),
    ),
    shows_to(
        Permission::Manage,
        "/applications/{application}/delete",
        run!(async |visit| ask_delete(visit)),
    ),
    does(
        Permission::Manage,
        "/applications/{application}/delete",
        run!(delete),
    ),
];

/// Subscriptions that are shown of one application.
const SHOWN_MAX: usize = 200;

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let view = visit.fresh(visit.handle().subscriptions()).await;
    let applications = view.applications()?;
    let add = html! { @if visit.may(Permission::Manage) { a."button primary" href=(format!("{ROOT}/applications/new")) { "+ Add application" } } };
    let content = html! {
        (layout::head("Applications", &layout::nothing(), &add))
        @if applications.is_empty() {
            (parts::empty("No application yet", &html! {
                p { "An application is a consumer: its subscriptions are seen together, and its key lets it subscribe by itself." }
                @if visit.may(Permission::Manage) { p { a."button primary" href=(format!("{ROOT}/applications/new")) { "Add the first application" } } }
            }))
        } @else {
            div.table-wrap tabindex="0" { table.list {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Description" } th scope="col" { "Created (UTC)" } } }
                tbody { @for row in &applications { tr {
                    th scope="row" { a href=(place(row.application.id)) { (row.application.name) } }
                    td { (row.application.description) }
                    td { (parts::time(row.created_at)) }
                } } }
            } }
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Applications,
        "Applications",
        &content,
    )))
}

fn place(id: ApplicationId) -> String {
    format!("{ROOT}/applications/{id}")
}

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn new(visit: &Visit) -> Result<Answer, Trouble> {
    Ok(new_form(visit, &Form::default(), &Invalid::none()))
}

fn fields_of(fields: &Fields<'_>) -> Markup {
    html! {
        (fields.line("/name", "Name", "", "text"))
        (fields.lines("/description", "Description", "", 3))
    }
}

fn new_form(visit: &Visit, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let content = html! {
        (layout::head("New application", &layout::nothing(), &layout::nothing()))
        (fields.summary())
        form.card method="post" action=(format!("{ROOT}/applications/new")) {
            (visit.form_key_field())
            (fields_of(&fields))
            (parts::saving(&format!("{ROOT}/applications")))
        }
    };
    Answer::form(
        invalid,
        layout::page(visit, Place::Applications, "New application", &content),
    )
}

fn shown(application: &Application) -> Form {
    Form::default()
        .with("/name", &*application.name)
        .with("/description", &*application.description)
}

fn read(form: &Form, mut application: Application) -> Application {
    form.get("/name")
        .unwrap_or_default()
        .trim()
        .clone_into(&mut application.name);
    form.get("/description")
        .unwrap_or_default()
        .trim()
        .clone_into(&mut application.description);
    application
}

async fn create(visit: &Visit) -> Result<Answer, Trouble> {
    let wanted = read(&visit.form, Application::named(""));
    match visit.handle().create_application(wanted).await {
        Ok(application) => {
            visit.say(format!("Application {} was added.", application.name));
            Ok(Answer::see(place(application.id)))
        }
        Err(ControlError::Invalid(invalid)) => Ok(new_form(visit, &visit.form, &invalid)),
        Err(error) => Err(error.into()),
    }
}

async fn show(visit: &Visit) -> Result<Answer, Trouble> {
    let application = visit
        .handle()
        .application(visit.parameter("application")?)?;
    let form = shown(&application);
    page(visit, &application, &form, &Invalid::none(), None).await
}

async fn page(
    visit: &Visit,
    application: &Application,
    form: &Form,
    invalid: &Invalid,
    key: Option<&str>,
) -> Result<Answer, Trouble> {
    let view = visit.fresh(visit.handle().subscriptions()).await;
    let subscriptions = view.of_application(application.id, None, SHOWN_MAX)?;
    let tokens = visit.handle().access().tokens()?;
    let keys: Vec<_> = tokens
        .into_iter()
        .filter(|row| row.token.application == Some(application.id))
        .collect();
    let fields = Fields { form, invalid };
    let root = place(application.id);
    let may = visit.may(Permission::Manage);
    let actions = html! { @if may { (parts::asking(&format!("{root}/delete"), "Delete", "button quiet-danger")) } };
    let content = html! {
        p.back { a href=(format!("{ROOT}/applications")) { "← Applications" } }
        (layout::head(&application.name, &html! { (application.description) }, &actions))
        (fields.summary())
        @if let Some(key) = key {
            div.notice role="status" { p { strong { "The new key:" } " give it to the consumer now, it is never shown again." } p { (parts::copyable(key)) } }
        }
        section.card {
            h2 { "Subscriptions" }
            @if subscriptions.is_empty() { p.muted { "None." } } @else {
                div.table-wrap tabindex="0" { table {
                    thead { tr { th scope="col" { "Callback" } th scope="col" { "API" } th scope="col" { "Status" } } }
                    tbody { @for row in &subscriptions { tr {
                        th scope="row" { a href=(address(row.state.definition.id)) { (callback(row)) } }
                        td { (row.api_name.as_deref().unwrap_or("–")) }
                        td { (standing(row)) }
                    } } }
                } }
            }
        }
        section.card {
            h2 { "Keys" }
            p.hint { "With a key the application subscribes under context paths and sees its own subscriptions and their logs, and nothing else." }
            @if !keys.is_empty() { (key_table(visit, &keys)) }
            @if may {
                form.row method="post" action=(format!("{root}/keys")) {
                    (visit.form_key_field())
                    (fields.line("keyName", "What it is for", "", "text"))
                    button type="submit" { "Make a key" }
                }
            }
        }
        @if may {
            form.card method="post" action=(root) {
                h2 { "Settings" }
                (visit.form_key_field())
                (Visit::made_of(application))
                (fields_of(&fields))
                p.field { "Id " (parts::copyable(&application.id.to_string())) }
                div.buttons { button.primary type="submit" { "Save" } }
            }
        }
    };
    Ok(Answer::form(
        invalid,
        layout::page(visit, Place::Applications, &application.name, &content),
    ))
}

fn key_table(visit: &Visit, keys: &[TokenRow]) -> Markup {
    let now = visit.now();
    html! {
        div.table-wrap tabindex="0" { table {
            thead { tr { th scope="col" { "Name" } th scope="col" { "Created (UTC)" } th scope="col" { "State" } th {} } }
            tbody { @for row in keys { tr {
                th scope="row" { (row.token.name) }
                td { (parts::time(row.created_at)) }
                td { @if row.is_valid(now) { (parts::badge(Tone::Good, "in force")) } @else { (parts::badge(Tone::Quiet, "revoked")) } }
                td { @if row.is_valid(now) && visit.may(Permission::Manage) { (parts::asking(&format!("{ROOT}/settings/tokens/{}/revoke", row.token.id), "Revoke", "button small quiet-danger")) } }
            } } }
        } }
    }
}

async fn save(visit: &Visit) -> Result<Answer, Trouble> {
    let before = visit
        .handle()
        .application(visit.parameter("application")?)?;
    if let Some(stale) = visit.stale(&before) {
        return page(visit, &before, &visit.form, &stale, None).await;
    }
    let after = read(&visit.form, before.clone());
    match visit.handle().update_application_from(&before, after).await {
        Ok(()) => {
            visit.say("Saved.");
            Ok(Answer::see(place(before.id)))
        }
        Err(ControlError::Invalid(invalid)) => {
            page(visit, &before, &visit.form, &invalid, None).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn create_key(visit: &Visit) -> Result<Answer, Trouble> {
    let application = visit
        .handle()
        .application(visit.parameter("application")?)?;
    let form = shown(&application);
    let name = visit.form.get("keyName").map_or_else(
        || format!("key of {}", application.name),
        |name| name.trim().to_owned(),
    );
    let token = Token::named(name, Role::Consumer).of(application.id);
    match visit.handle().create_token(token).await {
        Ok((_, secret)) => {
            page(
                visit,
                &application,
                &form,
                &Invalid::none(),
                Some(secret.reveal()),
            )
            .await
        }
        Err(ControlError::Invalid(mut invalid)) => {
            invalid
                .problems
                .iter_mut()
                .for_each(|problem| "keyName".clone_into(&mut problem.pointer));
            page(visit, &application, &form, &invalid, None).await
        }
        Err(error) => Err(error.into()),
    }
}

fn ask_delete(visit: &Visit) -> Result<Answer, Trouble> {
    let application = visit
        .handle()
        .application(visit.parameter("application")?)?;
    let root = place(application.id);
    let text = html! { p { "Application " strong { (application.name) } " will be gone. One that still has open subscriptions is not deleted; close them first." } };
    let content = parts::question(
        visit,
        "Delete this application?",
        &text,
        &format!("{root}/delete"),
        "Delete",
        &root,
    );
    Ok(Answer::page(layout::page(
        visit,
        Place::Applications,
        "Delete",
        &content,
    )))
}

async fn delete(visit: &Visit) -> Result<Answer, Trouble> {
    let application = visit
        .handle()
        .application(visit.parameter("application")?)?;
    visit.handle().delete_application(application.id).await?;
    visit.say(format!("Application {} was deleted.", application.name));
    Ok(Answer::see(format!("{ROOT}/applications")))
}
