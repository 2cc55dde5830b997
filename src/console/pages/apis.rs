//! The APIs: the list, a new one, and steps that concern a whole one.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        chart,
        form::Form,
        format,
        layout::{self, Place, Side},
        parts::{self, Fields, Tone},
        visit::{Page, Visit},
    },
    does, run, shows, shows_to,
};
use crate::{
    model::{Api, ApiState, Invalid, Permission},
    projection::metrics::{Counter, Scope, SeriesPoint, SeriesQuery},
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/apis", run!(list)),
    shows_to(
        Permission::Manage,
        "/apis/new",
        run!(async |visit| new(visit)),
    ),
    does(Permission::Manage, "/apis/new", run!(create)),
    does(Permission::Operate, "/apis/{api}/start", run!(start)),
    does(Permission::Operate, "/apis/{api}/stop", run!(stop)),
    shows_to(
        Permission::Manage,
        "/apis/{api}/delete",
        run!(async |visit| ask_delete(visit)),
    ),
    does(Permission::Manage, "/apis/{api}/delete", run!(delete)),
];

/// What the list shows of an API beside its definition.
struct Figures {
    messages_per_second: f64,
    /// Share of calls that succeeded, for each step.
    success: Vec<Option<f64>>,
    succeeded: u64,
    attempts: u64,
    dead_letters: u64,
    backlog: u64,
}

/// How far the figures of the list look back.
const WINDOW: Duration = Duration::from_hours(1);
const STEP: Duration = Duration::from_mins(2);

fn figures(visit: &Visit, api: &Api) -> Result<Figures, Trouble> {
    let metrics = visit.handle().metrics();
    let scope = Scope::Api(api.id);
    let now = visit.now();
    let from = now.minus(WINDOW);
    let series = metrics.series(&SeriesQuery {
        scope,
        from,
        to: now.plus(STEP),
        step: STEP,
    })?;
    let recent = metrics.series(&SeriesQuery {
        scope,
        from: now.minus(Duration::from_mins(1)),
        to: now,
        step: Duration::from_secs(60),
    })?;
    let sum =
        |points: &[SeriesPoint], counter| points.iter().map(|p| p.tally.get(counter)).sum::<u64>();
    let accepted = sum(&recent.points, Counter::MessagesAccepted);
    let success = super::overview::steps(from, STEP, WINDOW, &series.points, |tally| {
        let attempts = tally.attempts();
        (attempts > 0).then(|| tally.get(Counter::AttemptsSucceeded) as f64 / attempts as f64)
    });
    let gauges = metrics.gauges(scope)?;
    Ok(Figures {
        messages_per_second: accepted as f64 / 60.0,
        success,
        succeeded: sum(&series.points, Counter::AttemptsSucceeded),
        attempts: series
            .points
            .iter()
            .map(|point| point.tally.attempts())
            .sum(),
        dead_letters: gauges.dead_letters,
        backlog: gauges.backlog,
    })
}

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    visit.fresh(visit.handle().metrics()).await;
    let apis = visit.handle().apis();
    let rows: Vec<_> = apis
        .iter()
        .map(|api| Ok((api, figures(visit, api)?)))
        .collect::<Result<_, Trouble>>()?;
    let add = html! {
        @if visit.may(Permission::Manage) { a."button primary" href=(format!("{ROOT}/apis/new")) { "+ Add API" } }
    };
    let note = html! { "Figures of the last hour." };
    let content = html! {
        (layout::head("APIs", &if rows.is_empty() { layout::nothing() } else { note }, &add))
        @if rows.is_empty() {
            (parts::empty("No API yet", &html! {
                p { "An API takes messages in and pushes each of them to every application that subscribed." }
                @if visit.may(Permission::Manage) {
                    p { a."button primary" href=(format!("{ROOT}/apis/new")) { "Add the first API" } }
                }
                p.note { "Have a Gravitee definition? " code { "hooklog import gravitee FILE" } " reads it." }
            }))
        } @else {
            div id="apis" data-live="metrics" { (table(&rows)) }
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Apis,
        "APIs",
        &content,
    )))
}

fn table(rows: &[(&std::sync::Arc<Api>, Figures)]) -> Markup {
    html! {
        div.table-wrap tabindex="0" {
            table.list {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "State" }
                    th.number scope="col" { "Messages/s" } th scope="col" { "Success" }
                    th.number scope="col" { "Backlog" } th.number scope="col" { "Dead letters" }
                } }
                tbody {
                    @for (api, figures) in rows {
                        tr {
                            th scope="row" {
                                a href=(format!("{ROOT}/apis/{}", api.id)) { (api.name) }
                                small { (api.entrypoint.context_path) }
                            }
                            td { (state(api.state)) }
                            td.number { (format::short(figures.messages_per_second)) }
                            td.with-spark {
                                @let share = format::percent(figures.succeeded, figures.attempts);
                                (chart::sparkline(&figures.success, 1.0, &format!("Success rate, last hour: {share}")))
                                span { (share) }
                            }
                            td.number { (format::count(figures.backlog)) }
                            td.number {
                                @if figures.dead_letters > 0 {
                                    a href=(format!("{ROOT}/apis/{}/dead-letters", api.id)) { (format::count(figures.dead_letters)) }
                                } @else { "0" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether an API runs.
pub(super) fn state(state: ApiState) -> Markup {
    match state {
        ApiState::Started => parts::badge(Tone::Good, "started"),
        ApiState::Stopped => parts::badge(Tone::Quiet, "stopped"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn new(visit: &Visit) -> Result<Answer, Trouble> {
    Ok(new_form(visit, &Form::default(), &Invalid::none()))
}

fn new_form(visit: &Visit, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let content = html! {
        (layout::head("New API", &layout::nothing(), &layout::nothing()))
        (fields.summary())
        form.card method="post" action=(format!("{ROOT}/apis/new")) {
            (visit.form_key_field())
            (fields.line("/name", "Name", "Unique; what people call it.", "text"))
            (fields.line("/version", "Version", "", "text"))
            (fields.lines("/description", "Description", "", 3))
            (fields.line("/entrypoint/contextPath", "Context path",
                "Applications subscribe under it, such as /orders. Left empty, it is made of the name.", "text"))
            (parts::saving(&format!("{ROOT}/apis")))
        }
    };
    Answer::form(
        invalid,
        layout::page(visit, Place::Apis, "New API", &content),
    )
}

async fn create(visit: &Visit) -> Result<Answer, Trouble> {
    let form = &visit.form;
    let mut api = Api::named(form.get("/name").unwrap_or_default().trim());
    form.get("/version")
        .unwrap_or_default()
        .trim()
        .clone_into(&mut api.version);
    form.get("/description")
        .unwrap_or_default()
        .trim()
        .clone_into(&mut api.description);
    if let Some(path) = form.get("/entrypoint/contextPath") {
        path.trim().clone_into(&mut api.entrypoint.context_path);
    }
    match visit.handle().create_api(api).await {
        Ok(api) => {
            visit.say(format!(
                "API {} was added. Now say how its webhooks are called.",
                api.name
            ));
            Ok(Answer::see(format!("{ROOT}/apis/{}/configuration", api.id)))
        }
        Err(ControlError::Invalid(invalid)) => Ok(new_form(visit, form, &invalid)),
        Err(error) => Err(error.into()),
    }
}

async fn start(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    visit.handle().start_api(api.id).await?;
    visit.say(format!(
        "{} is started: messages are taken in and delivered.",
        api.name
    ));
    Ok(Answer::see(format!("{ROOT}/apis/{}", api.id)))
}

async fn stop(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    visit.handle().stop_api(api.id).await?;
    visit.say(format!(
        "{} is stopped: messages are refused, and what was accepted waits.",
        api.name
    ));
    Ok(Answer::see(format!("{ROOT}/apis/{}", api.id)))
}

fn ask_delete(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let root = format!("{ROOT}/apis/{}", api.id);
    let text = html! {
        p { "API " strong { (api.name) } " and its entrypoint " code { (api.entrypoint.context_path) } " will be gone. "
            "An API that still has open subscriptions is not deleted; close them first." }
    };
    let content = parts::question(
        visit,
        "Delete this API?",
        &text,
        &format!("{root}/delete"),
        "Delete",
        &root,
    );
    Ok(Answer::page(layout::of_api(
        visit,
        &api,
        Side::Overview,
        "Delete",
        &content,
    )))
}

async fn delete(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    visit.handle().delete_api(api.id).await?;
    visit.say(format!("API {} was deleted.", api.name));
    Ok(Answer::see(format!("{ROOT}/apis")))
}
