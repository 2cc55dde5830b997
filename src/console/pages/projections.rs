//! The projections: how far each is, and building one again.

use maud::html;

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        format,
        layout::{self, Place},
        parts::{self, Tone},
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
};
use crate::{
    model::Permission,
    projection::{Phase, ProjectionStatus},
};

pub(super) const PAGES: &[Page] = &[
    shows("/projections", run!(async |visit| list(visit))),
    shows_to(
        Permission::Operate,
        "/projections/{projection}/rebuild",
        run!(async |visit| ask(visit)),
    ),
    does(
        Permission::Operate,
        "/projections/{projection}/rebuild",
        run!(async |visit| rebuild(visit)),
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let statuses = visit.handle().projections();
    let note = html! { "Every list and chart is a projection of the event log, and can be built again from it." };
    let content = html! {
        (layout::head("Projections", &note, &layout::nothing()))
        div id="projections" data-live="deliveries" {
            div.table-wrap tabindex="0" { table.list {
                thead { tr { th scope="col" { "Name" } th.number scope="col" { "Version" } th.number scope="col" { "Position" } th.number scope="col" { "Lag, in events" } th.number scope="col" { "Skipped" } th scope="col" { "State" } th {} } }
                tbody { @for status in &statuses { tr {
                    th scope="row" { (status.name) }
                    td.number { (status.version) }
                    td.number { (format::count(status.position.get())) }
                    td.number { (format::count(status.lag.0)) }
                    td.number { (status.skipped) }
                    td { (phase(status)) }
                    td { @if visit.may(Permission::Operate) { (parts::asking(&format!("{ROOT}/projections/{}/rebuild", status.name), "Rebuild", "button small")) } }
                } } }
            } }
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Projections,
        "Projections",
        &content,
    )))
}

fn phase(status: &ProjectionStatus) -> maud::Markup {
    html! {
        @match &status.phase {
            Phase::Running if !status.answers => { (parts::badge(Tone::Waiting, "mending")) small { (ProjectionStatus::MENDING) } }
            Phase::Running => (parts::badge(Tone::Good, "running")),
            Phase::Waiting { reason } => { (parts::badge(Tone::Waiting, "waiting")) small { (reason) } }
            Phase::Halted(halt) => { (parts::badge(Tone::Bad, "halted")) small { "at position " (halt.position) ": " (halt.reason) } }
            Phase::Stopped => (parts::badge(Tone::Quiet, "stopped")),
        }
    }
}

fn named(visit: &Visit) -> Result<&'static str, Trouble> {
    let name: String = visit.parameter("projection")?;
    let statuses = visit.handle().projections();
    let found = statuses.into_iter().find(|status| status.name == name);
    found
        .map(|status| status.name)
        .ok_or_else(|| Trouble::Missing(format!("there is no projection {name:?}.")))
}

fn ask(visit: &Visit) -> Result<Answer, Trouble> {
    let name = named(visit)?;
    let back = format!("{ROOT}/projections");
    let text = html! { p { "The rows of " strong { (name) } " are built again from the whole log, beside the ones that are shown meanwhile. Of a long log that takes a while." } };
    let content = parts::question(
        visit,
        "Rebuild this projection?",
        &text,
        &format!("{back}/{name}/rebuild"),
        "Rebuild",
        &back,
    );
    Ok(Answer::page(layout::page(
        visit,
        Place::Projections,
        "Rebuild",
        &content,
    )))
}

fn rebuild(visit: &Visit) -> Result<Answer, Trouble> {
    let name = named(visit)?;
    let handle = visit.handle().clone();
    tokio::spawn(async move {
        if let Some(Err(error)) = handle.rebuild(name).await {
            tracing::error!(projection = name, %error, "a rebuild failed");
        }
    });
    visit.say(format!(
        "{name} is being built again; its lag tells how far it is."
    ));
    Ok(Answer::see(format!("{ROOT}/projections")))
}
