//! What is around every page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    ROOT,
    answer::{Answer, Trouble},
    assets,
    visit::Visit,
};
use crate::model::{Api, ApiState, Permission};

/// Where in the console a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Apis,
    Applications,
    Events,
    Projections,
    Jobs,
    Settings,
    Nowhere,
}

const PLACES: [(Place, &str, &str); 6] = [
    (Place::Apis, "APIs", "/apis"),
    (Place::Applications, "Applications", "/applications"),
    (Place::Events, "Events", "/events"),
    (Place::Jobs, "Jobs", "/jobs"),
    (Place::Projections, "Projections", "/projections"),
    (Place::Settings, "Settings", "/settings"),
];

/// Which page of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Overview,
    Configuration,
    Source,
    Subscriptions,
    Logs,
    DeadLetters,
}

const SIDES: [(Side, &str, &str); 6] = [
    (Side::Overview, "Overview", ""),
    (Side::Configuration, "Configuration", "/configuration"),
    (Side::Source, "Source", "/source"),
    (Side::Subscriptions, "Subscriptions", "/subscriptions"),
    (Side::Logs, "Logs", "/logs"),
    (Side::DeadLetters, "Dead letters", "/dead-letters"),
];

/// A page in its place.
pub(super) fn page(visit: &Visit, place: Place, title: &str, content: &Markup) -> Markup {
    document(
        title,
        visit.token().is_some(),
        &html! {
            (header(visit, place))
            main id="main" tabindex="-1" {
                (notices(visit))
                (content)
            }
        },
    )
}

/// A page of an API, beside the way to its others.
pub(super) fn of_api(
    visit: &Visit,
    api: &Api,
    side: Side,
    title: &str,
    content: &Markup,
) -> Markup {
    let root = format!("{ROOT}/apis/{}", api.id);
    let whole = format!("{title} – {}", api.name);
    document(
        &whole,
        true,
        &html! {
            (header(visit, Place::Apis))
            div.with-side {
                aside {
                    p.side-name {
                        a href=(root) { (api.name) }
                        @if api.state == ApiState::Stopped { " " span."badge quiet" { "stopped" } }
                    }
                    nav.side aria-label=(format!("API {}", api.name)) {
                        ul {
                            @for (one, name, path) in SIDES {
                                li { a href=(format!("{root}{path}")) aria-current=[(one == side).then_some("page")] { (name) } }
                            }
                        }
                    }
                }
                main id="main" tabindex="-1" {
                    (notices(visit))
                    (content)
                }
            }
        },
    )
}

fn document(title: &str, is_signed_in: bool, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · hooklog" }
                link rel="icon" type="image/svg+xml" href=(*assets::ICON_PATH);
                link rel="stylesheet" href=(*assets::STYLE_PATH);
                script src=(*assets::SCRIPT_PATH) defer {}
            }
            body class=[(!is_signed_in).then_some("outside")] {
                a.skip href="#main" { "Skip to content" }
                (body)
                dialog id="dialog" aria-label="Please confirm" {}
                p.visually-hidden role="status" id="told" {}
            }
        }
    }
}

fn header(visit: &Visit, place: Place) -> Markup {
    html! {
        header.top {
            a.brand href=(format!("{ROOT}/apis")) { (mark()) "hooklog" }
            @if let Some(token) = visit.token() {
                nav.main aria-label="Main" {
                    ul {
                        @for (one, name, path) in PLACES {
                            li { a href=(format!("{ROOT}{path}")) aria-current=[(one == place).then_some("page")] { (name) } }
                        }
                    }
                }
                div.who {
                    span title=(format!("token {}", token.id)) { (token.name) " " span."badge quiet" { (token.role) } }
                    form.inline method="post" action=(format!("{ROOT}/logout")) {
                        (visit.form_key_field())
                        button.plain type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}

/// The mark of hooklog.
pub(super) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 32 32" aria-hidden="true" {
            path d="M10 7v12.5a6 6 0 0 0 12 0V18" {}
            path d="m18.2 20.6 3.8-4.2 3.8 4.2" {}
            circle cx="10" cy="7" r="2.2" {}
        }
    }
}

fn notices(visit: &Visit) -> Markup {
    html! {
        @for notice in visit.take_notices() {
            @if notice.is_fault {
                div.notice.fault role="alert" { p { (notice.text) } }
            } @else {
                div.notice role="status" { p { (notice.text) } }
            }
        }
    }
}

/// The head of a page: its title, and what can be done with what it shows.
pub(super) fn head(title: &str, note: &Markup, actions: &Markup) -> Markup {
    html! {
        div.head {
            div { h1 { (title) } @if !note.0.is_empty() { p.note { (note) } } }
            div.actions { (actions) }
        }
    }
}

/// No markup.
pub(super) const fn nothing() -> Markup {
    PreEscaped(String::new())
}

/// Why something cannot be shown or done.
pub(super) fn trouble(visit: &Visit, trouble: &Trouble) -> Answer {
    let (title, text) = match trouble {
        Trouble::Missing(text) => ("There is no such thing", text.clone()),
        Trouble::Forbidden(what) => ("This is not yours to do", forbidden(visit, what)),
        Trouble::Foreign(text) => ("This form is not valid here", (*text).to_owned()),
        Trouble::Refused(text) => ("That cannot be done", text.clone()),
        Trouble::Later(text) => ("Not now", text.clone()),
        Trouble::Unread { text, .. } => ("This was not read", text.clone()),
        Trouble::Failed(text) => ("Something failed", text.clone()),
    };
    let content = html! {
        div.trouble {
            h1 { (title) }
            p { (capitalised(&text)) }
            p { a.button href=(format!("{ROOT}/apis")) { "To the APIs" } }
        }
    };
    Answer::with_status(
        trouble.status(),
        page(visit, Place::Nowhere, title, &content),
    )
}

fn forbidden(visit: &Visit, what: &str) -> String {
    let role = visit.token().map_or("none", |token| token.role.as_str());
    let able = crate::model::Role::ALL.into_iter().filter(|role| {
        role.may(Permission::Read)
            && Permission::ALL
                .into_iter()
                .any(|permission| permission.as_str() == what && role.may(permission))
    });
    let able: Vec<_> = able.map(crate::model::Role::as_str).collect();
    format!(
        "Your token has the role {role}, which may not {what}. Sign in with a token of the role {}.",
        able.join(" or ")
    )
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// There is no page under this path.
pub(super) fn missing(visit: &Visit) -> Answer {
    let text = format!("there is no page {}.", visit.path());
    trouble(visit, &Trouble::Missing(text))
}
