//! The dead letters of an API: see why, redeliver or discard one, many, all.

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
    configuration::{choice, text_of},
    run, shows,
};
use crate::{
    model::{Api, DeadLetterFilter, DeadLetterReason, Fault, Invalid, Permission},
    projection::{
        dead_letters::{DeadLetter, Forwarding},
        deliveries::Cursor,
    },
};

pub(super) const PAGES: &[Page] = &[shows("/apis/{api}/dead-letters", run!(list))];

/// Dead letters on a page.
const PAGE: usize = 50;

const REASONS: [DeadLetterReason; 6] = [
    DeadLetterReason::Refused,
    DeadLetterReason::AttemptsSpent,
    DeadLetterReason::DeadlinePassed,
    DeadLetterReason::Blocked,
    DeadLetterReason::Unsendable,
    DeadLetterReason::FilterFailed,
];

/// What the address asks for.
pub(super) fn asked(form: &Form, invalid: &mut Invalid) -> DeadLetterFilter {
    DeadLetterFilter {
        reason: choice(form, "reason", invalid),
        fault: choice::<Fault>(form, "fault", invalid),
        subscription: form.parsed("subscription", invalid),
        application: form.parsed("application", invalid),
        from: form.parsed("from", invalid),
        to: form.parsed("to", invalid),
    }
}

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let mut invalid = Invalid::none();
    let filter = asked(&visit.query, &mut invalid);
    let cursor: Option<Cursor> = visit.query.parsed("cursor", &mut invalid);
    let view = visit.fresh(visit.handle().dead_letters()).await;
    let page = view.list(api.id, &filter, cursor.as_ref(), PAGE)?;
    let count = view.count(api.id)?;
    let is_filtered = filter != DeadLetterFilter::default();
    let note = html! { @if count > 0 { (format::count(count)) " given up and kept, neither delivered since nor discarded." } };
    let content = html! {
        (layout::head("Dead letters", &note, &layout::nothing()))
        @if count == 0 && !is_filtered {
            (parts::empty("No dead letters", &html! { p { "What cannot be delivered is kept here, with the reason, until somebody redelivers or discards it." } }))
        } @else {
            (filters(visit, &invalid))
            @if !invalid.problems.is_empty() {
                (parts::empty("Nothing is shown", &html! { p { "A filter cannot be read; look at what is marked." } }))
            } @else if page.dead_letters.is_empty() {
                (parts::empty("No dead letter matches", &html! { p { a.button href=(visit.path()) { "Take all filters off" } } }))
            } @else { (selection(visit, &api, &page.dead_letters, is_filtered)) }
            (parts::pager(visit, page.next.map(|next| next.to_string()).as_deref(), "dead letters"))
        }
    };
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::DeadLetters,
        "Dead letters",
        &content,
    )))
}

fn filters(visit: &Visit, invalid: &Invalid) -> Markup {
    let fields = Fields {
        form: &visit.query,
        invalid,
    };
    let applications = parts::any_or(parts::applications(visit));
    let reasons = REASONS.into_iter();
    let reasons = reasons.map(|reason| (reason.as_str(), reason.as_str().replace('_', " ")));
    html! {
        form.filters method="get" action=(visit.path()) role="search" aria-label="Dead letters" {
            div.filter-row {
                (fields.choice("reason", "Reason", "", &parts::any_or(reasons)))
                (fields.choice("fault", "Whose fault", "", &[("", "any"), ("receiver", "the receiver's"), ("system", "the gateway's")]))
                (fields.choice("application", "Application", "", &applications))
                (fields.filter("subscription", "Subscription id", "0192f0c1-…"))
                (fields.filter("from", "From (UTC)", "2026-03-04T05:06:07Z"))
                (fields.filter("to", "To (UTC)", "2026-03-04T06:00:00Z"))
                div.field.submit { button type="submit" { "Filter" } }
            }
        }
    }
}

/// The list with a box at each, and what can be done with those that are ticked, or with all.
fn selection(visit: &Visit, api: &Api, letters: &[DeadLetter], is_filtered: bool) -> Markup {
    let may = visit.may(Permission::Operate);
    let all = visit
        .query
        .changed(&["cursor"], &[("api", &api.id.to_string()), ("all", "1")]);
    html! {
        form method="get" action=(format!("{ROOT}/jobs/new")) data-selection {
            input type="hidden" name="api" value=(api.id);
            @if may {
                div.log-bar {
                    p.log-actions {
                        button."small" type="submit" name="kind" value="redeliver" { "Redeliver ticked" }
                        button."small quiet-danger" type="submit" name="kind" value="discard" { "Discard ticked" }
                    }
                    p.log-actions {
                        @let which = if is_filtered { "all that match" } else { "all" };
                        a."button small" href=(format!("{ROOT}/jobs/new{all}&kind=redeliver")) { "Redeliver " (which) }
                        a."button small quiet-danger" href=(format!("{ROOT}/jobs/new{all}&kind=discard")) { "Discard " (which) }
                    }
                }
            }
            div.table-wrap tabindex="0" {
                table.list {
                    thead { tr {
                        @if may { th { span.visually-hidden { "Ticked" } input type="checkbox" data-tick-all hidden aria-label="Tick all"; } }
                        th scope="col" { "Given up (UTC)" } th scope="col" { "Reason" } th scope="col" { "Status" } th.number scope="col" { "Attempts" }
                        th scope="col" { "Last error" } th scope="col" { "Subscription" } th scope="col" { "Forwarding" }
                    } }
                    tbody {
                        @for letter in letters {
                            tr {
                                @if may { td { input type="checkbox" name="delivery" value=(letter.delivery) aria-label=(format!("Delivery {}", letter.delivery)); } }
                                th scope="row" { a href=(format!("{ROOT}/apis/{}/logs/{}", letter.api, letter.delivery)) { (parts::time(letter.at)) } }
                                td { (letter.reason.as_str().replace('_', " ")) " " span.muted { "(" (text_of(&letter.fault)) ")" } }
                                td { (parts::status(letter.status)) }
                                td.number { (letter.attempts) }
                                td { @match &letter.error { Some(error) => (error), None => "–" } }
                                td { a href=(super::subscriptions::address(letter.subscription)) { (parts::id(&letter.subscription)) } }
                                td { (forwarding(letter)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn forwarding(letter: &DeadLetter) -> Markup {
    html! {
        @if letter.redelivering { (parts::badge(parts::Tone::Waiting, "redelivering")) } @else {
            @match &letter.forwarding {
                Forwarding::NotAsked => span.muted { "–" },
                Forwarding::Waiting => (parts::badge(parts::Tone::Waiting, "waiting")),
                Forwarding::Done(at) => { (parts::badge(parts::Tone::Good, "done")) " " (parts::time(*at)) }
                Forwarding::Failed { reason, .. } => { (parts::badge(parts::Tone::Bad, "failed")) small { (reason) } }
            }
        }
    }
}
