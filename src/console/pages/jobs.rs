//! Jobs: many deliveries redelivered or discarded, counted before and watched while they run.

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
    configuration::text_of,
    dead_letters::asked,
    does, run, shows, shows_to,
};
use crate::{
    model::{
        DeliveryId, Invalid, Job, JobId, JobKind, JobSelection, JobStatus, Permission, Position,
    },
    projection::jobs::{JobFilter, JobRow},
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/jobs", run!(list)),
    shows_to(Permission::Operate, "/jobs/new", run!(ask)),
    does(Permission::Operate, "/jobs/new", run!(create)),
    shows("/jobs/{job}", run!(show)),
    does(Permission::Operate, "/jobs/{job}/pause", run!(pause)),
    does(Permission::Operate, "/jobs/{job}/resume", run!(resume)),
    does(Permission::Operate, "/jobs/{job}/cancel", run!(cancel)),
];

/// Jobs on a page.
const PAGE: usize = 50;

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let below = visit
        .query
        .get("cursor")
        .and_then(|cursor| cursor.parse::<Position>().ok());
    let view = visit.fresh(visit.handle().jobs()).await;
    let page = view.list(&JobFilter::default(), below, PAGE)?;
    let note = html! { @if !page.jobs.is_empty() { "Bulk redelivery and discarding. A job survives a restart and never deals with a delivery twice." } };
    let content = html! {
        (layout::head("Jobs", &note, &layout::nothing()))
        @if page.jobs.is_empty() {
            (parts::empty("No job yet", &html! { p { "Redeliver or discard many dead letters at once, from an API's " em { "Dead letters" } ", or everything since a time, from a subscription." } }))
        } @else {
            div id="jobs" data-live="jobs" { (table(visit, &page.jobs)) }
            (parts::pager(visit, page.next.map(|next| next.to_string()).as_deref(), "jobs"))
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Jobs,
        "Jobs",
        &content,
    )))
}

fn table(visit: &Visit, jobs: &[JobRow]) -> Markup {
    html! {
        div.table-wrap tabindex="0" {
            table.list {
                thead { tr { th scope="col" { "Created (UTC)" } th scope="col" { "What" } th scope="col" { "API" } th scope="col" { "Status" } th scope="col" { "Progress" } th.number scope="col" { "Failed" } } }
                tbody {
                    @for row in jobs {
                        tr {
                            th scope="row" { a href=(format!("{ROOT}/jobs/{}", row.state.job.id)) { (parts::time(row.created_at)) } }
                            td { (what(&row.state.job)) }
                            td { (api_name(visit, &row.state.job)) }
                            td { (status(row.state.status)) }
                            td { (progress(row)) }
                            td.number { (format::count(row.state.counts.failed)) }
                        }
                    }
                }
            }
        }
    }
}

fn api_name(visit: &Visit, job: &Job) -> String {
    let api = visit.handle().api(job.selection.api());
    api.map_or_else(|_| "deleted".to_owned(), |api| api.name.clone())
}

fn what(job: &Job) -> String {
    let verb = match job.kind {
        JobKind::Redeliver => "Redeliver",
        JobKind::Discard => "Discard",
    };
    match &job.selection {
        JobSelection::DeadLetters { filter, .. }
            if *filter == crate::model::DeadLetterFilter::default() =>
        {
            format!("{verb} all dead letters")
        }
        JobSelection::DeadLetters { .. } => format!("{verb} dead letters that match"),
        JobSelection::Deliveries { deliveries, .. } => {
            format!("{verb} {} dead letters", deliveries.len())
        }
        JobSelection::Messages { since, .. } => {
            format!("{verb} everything since {}", format::time(*since))
        }
    }
}

fn status(status: JobStatus) -> Markup {
    let tone = match status {
        JobStatus::Running => Tone::Waiting,
        JobStatus::Finished => Tone::Good,
        JobStatus::Failed => Tone::Bad,
        JobStatus::Paused | JobStatus::Cancelled => Tone::Quiet,
    };
    parts::badge(tone, status.as_str())
}

fn progress(row: &JobRow) -> Markup {
    let (done, total) = (row.state.counts.all(), row.state.job.total);
    html! {
        progress max=(total.max(1)) value=(done.min(total.max(1))) aria-label=(format!("{done} of {total}")) {}
        small { (format::count(done)) " of " (format::count(total)) }
    }
}

/// The job that an address or a form asks for.
fn wanted(form: &Form) -> Result<Job, Invalid> {
    let mut invalid = Invalid::none();
    let api = form.parsed("api", &mut invalid);
    invalid.check(form.get("api").is_some(), "api", "say of which API");
    let kind = match form.get("kind") {
        Some("discard") => JobKind::Discard,
        _ => JobKind::Redeliver,
    };
    let Some(api) = api else {
        return Err(invalid);
    };
    let selection = if form.get("since").is_some() {
        let subscription = form.parsed("subscription", &mut invalid);
        let since = form.parsed("since", &mut invalid);
        subscription
            .zip(since)
            .map(|(subscription, since)| JobSelection::Messages {
                api,
                subscription,
                since,
                until: None,
            })
    } else if form.is_on("all") {
        Some(JobSelection::DeadLetters {
            api,
            filter: asked(form, &mut invalid),
        })
    } else {
        let deliveries: Result<Vec<DeliveryId>, _> = form.all("delivery").map(str::parse).collect();
        invalid.check(
            deliveries.as_ref().is_ok_and(|some| !some.is_empty()),
            "",
            "Tick at least one dead letter.",
        );
        deliveries
            .ok()
            .map(|deliveries| JobSelection::Deliveries { api, deliveries })
    };
    let rate_per_second = form.number("rate", &mut invalid);
    invalid.into_result()?;
    let selection = selection.ok_or_else(|| Invalid::one("", "say which deliveries"))?;
    Ok(Job {
        rate_per_second,
        ..Job::new(kind, selection)
    })
}

async fn ask(visit: &Visit) -> Result<Answer, Trouble> {
    let job = wanted(&visit.query)?;
    let count = visit.handle().count_selection(&job).await?;
    Ok(form(visit, &visit.query, &job, count, &Invalid::none()))
}

fn form(visit: &Visit, form: &Form, job: &Job, count: u64, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let back = match &job.selection {
        JobSelection::Messages { subscription, .. } => super::subscriptions::address(*subscription),
        selection => format!("{ROOT}/apis/{}/dead-letters", selection.api()),
    };
    let kept = [
        "api",
        "kind",
        "all",
        "reason",
        "fault",
        "application",
        "subscription",
        "from",
        "to",
        "since",
    ];
    let (verb, class) = match job.kind {
        JobKind::Redeliver => ("Redeliver", "primary"),
        JobKind::Discard => ("Discard", "danger"),
    };
    let content = html! {
        (layout::head(&what(job), &html! { "Of API " (api_name(visit, job)) "." }, &layout::nothing()))
        (fields.summary())
        form.card method="post" action=(format!("{ROOT}/jobs/new")) {
            (visit.form_key_field())
            @for name in kept { @if let Some(value) = form.get(name) { input type="hidden" name=(name) value=(value); } }
            @for delivery in form.all("delivery") { input type="hidden" name="delivery" value=(delivery); }
            p.large { strong { (format::count(count)) } @if count == 1 { " delivery" } @else { " deliveries" } }
            p { @match job.kind {
                JobKind::Redeliver => "Each is made again in order, with the original bytes and webhook-id, and a fresh budget.",
                JobKind::Discard => "They are dropped, on record. What is discarded is not delivered.",
            } }
            (fields.line("rate", "A second at most", "Empty: as fast as it goes.", "number"))
            div.buttons {
                @if count > 0 { button class=(class) type="submit" { (verb) " " (format::count(count)) } }
                a.button href=(back) { "Cancel" }
            }
        }
    };
    Answer::form(
        invalid,
        layout::page(visit, Place::Jobs, &what(job), &content),
    )
}

async fn create(visit: &Visit) -> Result<Answer, Trouble> {
    let mut job = match wanted(&visit.form) {
        Ok(job) => job,
        Err(invalid) => return again(visit, &invalid).await,
    };
    job.by = visit.token().map(|token| token.id);
    match visit.handle().create_job(job).await {
        Ok(state) => {
            visit.say("The job has begun.");
            Ok(Answer::see(format!("{ROOT}/jobs/{}", state.job.id)))
        }
        Err(ControlError::Invalid(invalid)) => again(visit, &invalid).await,
        Err(error) => Err(error.into()),
    }
}

/// The form once more, where its rate is what is wrong; else nothing can be mended in it.
async fn again(visit: &Visit, invalid: &Invalid) -> Result<Answer, Trouble> {
    let job = wanted(&visit.form.without("rate"))?;
    let count = visit.handle().count_selection(&job).await?;
    let mut named = invalid.clone();
    for problem in &mut named.problems {
        if problem.pointer == "/ratePerSecond" {
            "rate".clone_into(&mut problem.pointer);
        }
    }
    Ok(form(visit, &visit.form, &job, count, &named))
}

async fn show(visit: &Visit) -> Result<Answer, Trouble> {
    let id: JobId = visit.parameter("job")?;
    let row = visit.handle().job(id).await?;
    let state = &row.state;
    let root = format!("{ROOT}/jobs/{id}");
    let actions = html! {
        @if visit.may(Permission::Operate) {
            @match state.status {
                JobStatus::Running => (parts::step(visit, &format!("{root}/pause"), "Pause", "")),
                JobStatus::Paused => (parts::step(visit, &format!("{root}/resume"), "Resume", "primary")),
                _ => {}
            }
            @if !state.status.is_over() { (parts::step(visit, &format!("{root}/cancel"), "Cancel", "quiet-danger")) }
        }
    };
    let content = html! {
        p.back { a href=(format!("{ROOT}/jobs")) { "← Jobs" } }
        (layout::head(&what(&state.job), &html! { "Of API " (api_name(visit, &state.job)) ", created " (parts::time(row.created_at)) " UTC." }, &actions))
        div id="job" data-live=[(!state.status.is_over()).then_some("jobs")] {
            section.card {
                p { (status(state.status)) @if let Some(reason) = &state.reason { " " (reason) } }
                p.job-progress { (progress(&row)) }
                dl.figures {
                    (parts::figure("Done", &format::count(state.counts.done), ""))
                    (parts::figure("Skipped", &format::count(state.counts.skipped), "done by others since"))
                    (parts::figure("Failed", &format::count(state.counts.failed), ""))
                    (parts::figure("A second at most", &state.job.rate_per_second.map_or_else(|| "no limit".to_owned(), |rate| rate.to_string()), ""))
                }
            }
            @if !state.failures.is_empty() {
                section.card {
                    h2 { "What failed" }
                    ul.failures { @for failure in &state.failures { li {
                        a href=(format!("{ROOT}/apis/{}/logs/{}", state.job.selection.api(), failure.delivery)) { (parts::id(&failure.delivery)) } " " (failure.reason)
                    } } }
                }
            }
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Jobs,
        &text_of(&state.job.kind),
        &content,
    )))
}

async fn stepped<T>(
    visit: &Visit,
    told: &str,
    step: impl Future<Output = Result<T, ControlError>>,
) -> Result<Answer, Trouble> {
    let id: JobId = visit.parameter("job")?;
    visit.step(told, step, format!("{ROOT}/jobs/{id}")).await
}

async fn pause(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("job")?;
    stepped(visit, "Paused.", visit.handle().pause_job(id)).await
}

async fn resume(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("job")?;
    stepped(visit, "It goes on.", visit.handle().resume_job(id)).await
}

async fn cancel(visit: &Visit) -> Result<Answer, Trouble> {
    let id = visit.parameter("job")?;
    stepped(
        visit,
        "Cancelled. What was done stays done.",
        visit.handle().cancel_job(id),
    )
    .await
}
