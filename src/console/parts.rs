//! The parts that pages are made of.

use maud::{Markup, html};

use super::{form::Form, format, visit::Visit};
use crate::{
    model::{Invalid, Permission, Timestamp},
    projection::deliveries::{DeliveryOutcome, DeliveryRow},
};

/// How something stands, as its colour tells beside its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Waiting,
    Bad,
    Quiet,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "badge good",
            Self::Waiting => "badge waiting",
            Self::Bad => "badge bad",
            Self::Quiet => "badge quiet",
        }
    }
}

/// A word that tells how something stands.
pub(super) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class=(tone.class()) { (text) } }
}

/// The last status of a delivery, `0` where there was no response.
pub(super) fn status(status: u16) -> Markup {
    let tone = match status {
        200..=299 => Tone::Good,
        _ => Tone::Bad,
    };
    html! { span class=(tone.class()) title=[(status == 0).then_some("no response")] { (status) } }
}

/// How a delivery stands.
pub(super) fn outcome(outcome: DeliveryOutcome) -> Markup {
    match outcome {
        DeliveryOutcome::Delivered => badge(Tone::Good, "delivered"),
        DeliveryOutcome::Retrying => badge(Tone::Waiting, "retrying"),
        DeliveryOutcome::DeadLettered => badge(Tone::Bad, "dead-lettered"),
        DeliveryOutcome::Discarded => badge(Tone::Quiet, "discarded"),
    }
}

/// A time.
pub(super) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (format::time(at)) } }
}

/// A time as its distance from now.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(format!("{} UTC", format::time(at))) { (format::ago(at, now)) } }
}

/// An id, its end shown, the whole in its title and to copy.
pub(super) fn id(id: &impl ToString) -> Markup {
    let text = id.to_string();
    html! { code.id title=(text) { (format::brief(&text)) } }
}

/// A whole value with a button that copies it.
pub(super) fn copyable(text: &str) -> Markup {
    html! {
        span.copyable {
            code { (text) }
            button.copy type="button" data-copy=(text) hidden { "Copy" }
        }
    }
}

/// Nothing is there yet, and what to do about it.
pub(super) fn empty(title: &str, next: &Markup) -> Markup {
    html! {
        div.empty {
            svg.empty-mark viewBox="0 0 48 48" aria-hidden="true" {
                path d="M16 8v20a9 9 0 0 0 18 0v-2" {}
                path d="m28 31 6-6 6 6" {}
            }
            h2 { (title) }
            div.empty-next { (next) }
        }
    }
}

/// A form that does something at once, as a button.
pub(super) fn step(visit: &Visit, action: &str, label: &str, class: &str) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            (visit.form_key_field())
            button class=(class) type="submit" { (label) }
        }
    }
}

/// A link to a page that asks before something is done; the script shows it as a dialog.
pub(super) fn asking(to: &str, label: &str, class: &str) -> Markup {
    html! { a class=(class) href=(to) data-dialog { (label) } }
}

/// A page that asks before something is done.
pub(super) fn question(
    visit: &Visit,
    title: &str,
    text: &Markup,
    action: &str,
    label: &str,
    back: &str,
) -> Markup {
    html! {
        div.question data-dialog-content {
            h1 { (title) }
            div.question-text { (text) }
            form method="post" action=(action) {
                (visit.form_key_field())
                div.buttons {
                    button.danger type="submit" { (label) }
                    a.button href=(back) data-dialog-close { "Cancel" }
                }
            }
        }
    }
}

/// A form with its values as they were typed, and what is wrong with them.
pub(super) struct Fields<'a> {
    pub(super) form: &'a Form,
    pub(super) invalid: &'a Invalid,
}

impl Fields<'_> {
    fn value(&self, name: &str) -> &str {
        self.form.text(name).unwrap_or_default()
    }

    fn faults(&self, name: &str) -> Vec<&str> {
        let own = self.invalid.problems.iter().filter(|problem| {
            problem.pointer == name
                || problem
                    .pointer
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        own.map(|problem| problem.reason.as_str()).collect()
    }

    /// Everything that is wrong, at the top; each with the name of its field.
    pub(super) fn summary(&self) -> Markup {
        html! {
            @if !self.invalid.problems.is_empty() {
                div.notice.fault role="alert" {
                    p { strong { "Not saved." } " Please look at what is marked:" }
                    ul {
                        @for problem in &self.invalid.problems {
                            li { @if !problem.pointer.is_empty() { code { (problem.pointer) } " " } (problem.reason) }
                        }
                    }
                }
            }
        }
    }

    fn around(&self, name: &str, label: &str, hint: &str, input: &Markup) -> Markup {
        let faults = self.faults(name);
        html! {
            div class=(if faults.is_empty() { "field" } else { "field at-fault" }) {
                label for=(name) { (label) }
                (input)
                @if !hint.is_empty() { p.hint id=(format!("{name}-hint")) { (hint) } }
                @for fault in faults { p.fault-text { (fault) } }
            }
        }
    }

    /// A line of text.
    pub(super) fn line(&self, name: &str, label: &str, hint: &str, kind: &str) -> Markup {
        let described = (!hint.is_empty()).then(|| format!("{name}-hint"));
        let wrong = (!self.faults(name).is_empty()).then_some("true");
        // What was typed as a secret is not sent back.
        let shown = (kind != "password").then(|| self.value(name));
        let input = html! {
            input id=(name) name=(name) type=(kind) value=[shown]
                autocomplete="off" aria-describedby=[described] aria-invalid=[wrong];
        };
        self.around(name, label, hint, &input)
    }

    /// A line of text in a row of filters, an example in its place while it is empty.
    pub(super) fn filter(&self, name: &str, label: &str, example: &str) -> Markup {
        let wrong = (!self.faults(name).is_empty()).then_some("true");
        let input = html! {
            input id=(name) name=(name) type="text" value=(self.value(name)) placeholder=(example)
                autocomplete="off" list=(format!("{name}-known")) aria-invalid=[wrong];
        };
        self.around(name, label, "", &input)
    }

    /// Several lines.
    pub(super) fn lines(&self, name: &str, label: &str, hint: &str, rows: u8) -> Markup {
        let described = (!hint.is_empty()).then(|| format!("{name}-hint"));
        let input = html! {
            textarea id=(name) name=(name) rows=(rows) spellcheck="false" aria-describedby=[described] {
                // The first line end in it is dropped by browsers.
                "\n" (self.value(name))
            }
        };
        self.around(name, label, hint, &input)
    }

    /// One of several.
    pub(super) fn choice(
        &self,
        name: &str,
        label: &str,
        hint: &str,
        options: &[(impl AsRef<str>, impl AsRef<str>)],
    ) -> Markup {
        let chosen = self.value(name);
        let described = (!hint.is_empty()).then(|| format!("{name}-hint"));
        let input = html! {
            select id=(name) name=(name) aria-describedby=[described] {
                @for (value, text) in options {
                    option value=(value.as_ref()) selected[value.as_ref() == chosen] { (text.as_ref()) }
                }
            }
        };
        self.around(name, label, hint, &input)
    }

    /// A switch.
    pub(super) fn switch(&self, name: &str, label: &str, hint: &str) -> Markup {
        html! {
            div.switch {
                input id=(name) name=(name) type="checkbox" role="switch" value="on" checked[self.form.is_on(name)];
                label for=(name) {
                    span { (label) }
                    @if !hint.is_empty() { small { (hint) } }
                }
            }
        }
    }
}

/// Every application, by id and name, as a choice offers them.
pub(super) fn applications(visit: &Visit) -> Vec<(String, String)> {
    let known = visit.handle().applications().into_iter();
    known.map(|one| (one.id.to_string(), one.name)).collect()
}

/// The same choice with "any" before it.
pub(super) fn any_or<V: Into<String>, L: Into<String>>(
    options: impl IntoIterator<Item = (V, L)>,
) -> Vec<(String, String)> {
    let options = options
        .into_iter()
        .map(|(value, label)| (value.into(), label.into()));
    std::iter::once((String::new(), "any".to_owned()))
        .chain(options)
        .collect()
}

/// Save and cancel.
pub(super) fn saving(back: &str) -> Markup {
    html! {
        div.buttons.saving {
            button.primary type="submit" { "Save" }
            a.button href=(back) { "Cancel" }
        }
    }
}

/// Ways to the pages beside this one.
pub(super) fn pager(visit: &Visit, next: Option<&str>, unit: &str) -> Markup {
    let is_first = visit.query.get("cursor").is_none();
    html! {
        @if next.is_some() || !is_first {
            nav.pager aria-label="Pages" {
                @if !is_first {
                    a.button href=(format!("{}{}", visit.path(), visit.query.changed(&["cursor"], &[]))) { "Newest" }
                }
                @if let Some(next) = next {
                    a.button rel="next" href=(format!("{}{}", visit.path(), visit.query.changed(&[], &[("cursor", next)]))) {
                        "Older " (unit)
                    }
                }
            }
        }
    }
}

/// Whether a delivery can be made again by who looks at it.
pub(super) fn can_redeliver(visit: &Visit, row: &DeliveryRow) -> bool {
    visit.may(Permission::Operate) && row.outcome != DeliveryOutcome::Retrying
}

/// A figure with its name.
pub(super) fn figure(label: &str, value: &str, note: &str) -> Markup {
    html! {
        div.figure {
            dt { (label) }
            dd { (value) @if !note.is_empty() { small { (note) } } }
        }
    }
}
