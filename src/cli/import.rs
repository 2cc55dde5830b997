//! `hooklog import`: what another gateway was told, taken over.

use std::{fs, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    CliError, Output,
    data::DataArgs,
    output::{Rows, Tone},
};
use crate::{
    gravitee::{
        self, Applied, Note, NoteKind, Plan, PlannedApi, PlannedSubscription, ReadError,
        TEXT_BYTES_MAX,
    },
    model::{Auth, DeadLetterQueue, Source, SubscriptionStatus},
    runtime::Runtime,
};

/// How long the runtime may take to end; it has no call to wait for.
const ENDING: Duration = Duration::from_secs(8);

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Import Gravitee v4 API definitions and subscriptions: JSON or YAML, plain, exported, or as
    /// resources of the Kubernetes operator.
    Gravitee(GraviteeArgs),
}

#[derive(Debug, Args)]
struct GraviteeArgs {
    /// Definitions and subscriptions; they may refer to each other.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show what would be imported and what has no equivalent, and change nothing.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    data: DataArgs,
}

pub(super) fn run(args: ImportArgs, output: &mut Output) -> Result<(), CliError> {
    let ImportCommand::Gravitee(args) = args.command;
    let plan = read(&args.files)?;
    show(&plan, output)?;
    if plan.is_empty() {
        return Err(CliError::failure(
            "there is nothing to import in these files",
        ));
    }
    if args.check {
        return Ok(());
    }
    let applied = apply(&plan, &args.data)?;
    show_applied(&applied, output)?;
    match applied.failures().count() {
        0 => Ok(()),
        1 => Err(CliError::failure("one of these could not be imported")),
        failed => Err(CliError::failure(format!(
            "{failed} of these could not be imported"
        ))),
    }
}

fn read(files: &[PathBuf]) -> Result<Plan, CliError> {
    let mut texts = Vec::new();
    let mut failures = Vec::new();
    for file in files {
        let name = file.display().to_string();
        match text_of(file) {
            Ok(text) => texts.push((name, text)),
            Err(reason) => failures.push(format!("{name}: {reason}")),
        }
    }
    let files = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    match Plan::of(files) {
        Ok(plan) if failures.is_empty() => return Ok(plan),
        Ok(_) => {}
        Err(unread) => {
            failures.extend(
                unread
                    .into_iter()
                    .map(|(name, error)| format!("{name}: {error}")),
            );
        }
    }
    Err(CliError::failure(failures.join("\n")))
}

fn text_of(file: &PathBuf) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let metadata = fs::metadata(file).map_err(told)?;
    if !metadata.is_file() && metadata.is_dir() {
        return Err("is a directory; name its files".to_owned());
    }
    // Before it is read: a file may be larger than the memory.
    if let Ok(bytes) = usize::try_from(metadata.len())
        && bytes > TEXT_BYTES_MAX
    {
        return Err(ReadError::TooLong { bytes }.to_string());
    }
    fs::read_to_string(file).map_err(told)
}

fn apply(plan: &Plan, data: &DataArgs) -> Result<Applied, CliError> {
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    tasks.block_on(async {
        let runtime = Runtime::builder(data.path())
            .egress(gravitee::egress())
            .workers(1)
            .held();
        let runtime = runtime.start().await?;
        let applied = gravitee::apply(plan, &runtime.handle()).await;
        runtime.shutdown(ENDING).await;
        Ok(applied)
    })
}

/// One line for programs, under the name of what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Line<'a> {
    Api(&'a PlannedApi),
    Application(&'a gravitee::PlannedApplication),
    Subscription(&'a PlannedSubscription),
    Note(&'a Note),
    Done(&'a gravitee::Done),
}

fn show(plan: &Plan, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        let apis = plan.apis.iter().map(Line::Api);
        let applications = plan.applications.iter().map(Line::Application);
        let subscriptions = plan.subscriptions.iter().map(Line::Subscription);
        let notes = plan.notes.iter().map(Line::Note);
        for line in apis.chain(applications).chain(subscriptions).chain(notes) {
            output.json(&line)?;
        }
        return Ok(output.flush()?);
    }
    output.table(&apis(plan), "No API.")?;
    let mut applications = Rows::new(["Application", "Id", "Description"]);
    for planned in &plan.applications {
        let application = &planned.application;
        applications.push([
            application.name.clone(),
            application.id.to_string(),
            application.description.clone(),
        ]);
    }
    output.table(&applications, "No application.")?;
    output.table(&subscriptions(plan), "No subscription.")?;
    let several = plan
        .notes
        .iter()
        .any(|note| note.file != plan.notes[0].file);
    output.table(
        &notes(plan, several),
        "Everything is imported as it stands.",
    )?;
    for line in informational(plan, several) {
        output.line(line)?;
    }
    Ok(output.flush()?)
}

fn apis(plan: &Plan) -> Rows {
    let head = [
        "API",
        "Id",
        "State",
        "Context path",
        "Source",
        "QoS",
        "Dead letters",
        "Logging",
    ];
    let mut rows = Rows::new(head);
    for PlannedApi { api, .. } in &plan.apis {
        let entrypoint = &api.entrypoint;
        let source = match &api.source {
            Source::Publish => "published".to_owned(),
            Source::Mock(mock) => format!("mock, each {} ms", mock.message_interval_ms),
        };
        let dead_letters = match entrypoint.dlq {
            DeadLetterQueue::None => "none: interrupts",
            DeadLetterQueue::Embedded => "kept in the log",
            DeadLetterQueue::Api { .. } | DeadLetterQueue::Http { .. } => "forwarded",
        };
        rows.push([
            api.name.clone(),
            api.id.to_string(),
            word(&api.state),
            entrypoint.context_path.clone(),
            source,
            word(&entrypoint.qos),
            dead_letters.to_owned(),
            if entrypoint.logging.captures() {
                "on"
            } else {
                "off"
            }
            .to_owned(),
        ]);
    }
    rows
}

fn subscriptions(plan: &Plan) -> Rows {
    let head = [
        "Subscription",
        "API",
        "Application",
        "Callback URL",
        "Auth",
        "Status",
    ];
    let mut rows = Rows::new(head);
    for PlannedSubscription {
        subscription,
        paused,
        ..
    } in &plan.subscriptions
    {
        let api = plan
            .apis
            .iter()
            .find(|planned| planned.api.id == subscription.api);
        let api = api.map_or_else(|| subscription.api.to_string(), |api| api.api.name.clone());
        let mut applications = plan.applications.iter().map(|planned| &planned.application);
        let application = applications.find(|of| of.id == subscription.application);
        let url = subscription.configuration.callback_url.as_ref();
        let status = if *paused && subscription.status == SubscriptionStatus::Accepted {
            SubscriptionStatus::Paused
        } else {
            subscription.status
        };
        rows.push([
            subscription.id.to_string(),
            api,
            application.map(|of| of.name.clone()).unwrap_or_default(),
            url.map(|url| url.redacted().to_string())
                .unwrap_or_default(),
            auth(&subscription.configuration.auth).to_owned(),
            word(&status),
        ]);
    }
    rows
}

const fn auth(auth: &Auth) -> &'static str {
    match auth {
        Auth::None => "none",
        Auth::Basic { .. } => "basic",
        Auth::Token { .. } => "token",
        Auth::Oauth2(_) => "oauth2",
        Auth::JwtProfileOauth2(_) => "jwtProfileOauth2",
    }
}

/// A value as its JSON has it.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn place(note: &Note, several_files: bool) -> String {
    let document = match note.document {
        1 => String::new(),
        document => format!(" (document {document})"),
    };
    let pointer = match note.pointer.as_str() {
        "" => "the whole document",
        pointer => pointer,
    };
    if several_files {
        format!("{}{document}: {pointer}", note.file)
    } else {
        format!("{pointer}{document}")
    }
}

fn notes(plan: &Plan, several_files: bool) -> Rows {
    let tone_of = |kind: &str| match kind {
        "invalid" => Some(Tone::Bad),
        "unsupported" | "changed" => Some(Tone::Open),
        _ => None,
    };
    let mut rows = Rows::new(["Note", "Where", "Why", "Instead"]).tone(0, tone_of);
    let mut notes: Vec<_> = plan.notes.iter().collect();
    notes.retain(|note| note.kind != NoteKind::Informational);
    notes.sort_by_key(|note| (note.kind, &note.file, note.document));
    for note in notes {
        rows.push([
            note.kind.as_str().to_owned(),
            place(note, several_files),
            note.reason.clone(),
            note.instead.clone(),
        ]);
    }
    rows
}

/// What is of no consequence, by its reason and not in a row each.
fn informational(plan: &Plan, several_files: bool) -> Vec<String> {
    let notes = plan
        .notes
        .iter()
        .filter(|note| note.kind == NoteKind::Informational);
    let mut groups: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for note in notes {
        let place = place(note, several_files);
        let group = groups
            .iter_mut()
            .find(|(reason, ..)| *reason == note.reason);
        match group {
            Some((_, _, places)) => places.push(place),
            None => groups.push((&note.reason, &note.instead, vec![place])),
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(reason, instead, places)| {
            format!(
                "Of no consequence ({reason}; {instead}): {}",
                places.join(", ")
            )
        })
        .collect()
}

fn show_applied(applied: &Applied, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        for done in &applied.done {
            output.json(&Line::Done(done))?;
        }
        return Ok(output.flush()?);
    }
    let mut rows = Rows::new(["Imported", "Id", "Name", "Result"]);
    for done in &applied.done {
        let result = done
            .change
            .as_ref()
            .map(word)
            .or_else(|| done.error.clone());
        rows.push([
            done.kind.to_owned(),
            done.id.clone(),
            done.name.clone(),
            result.unwrap_or_default(),
        ]);
    }
    output.table(&rows, "")?;
    Ok(output.flush()?)
}
