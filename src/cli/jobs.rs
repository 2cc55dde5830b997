//! `hooklog jobs`: many deliveries redelivered or discarded, as one thing that can be watched.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    CliError, Output,
    bulk::JobShown,
    client::{Answer, ServerArgs},
    output::{Rows, Tone},
};
use crate::model::{JobCounts, JobId, JobKind, JobSelection, JobStatus, Position, Timestamp};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List jobs, newest first.
    List(ListArgs),
    /// Show a job, how far it is, and the deliveries that failed.
    Show(OneArgs),
    /// Let a job wait.
    Pause(OneArgs),
    /// Go on after a pause.
    Resume(OneArgs),
    /// Give a job up. What it did stays done.
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those on deliveries of this API, by id or name.
    #[arg(long)]
    api: Option<String>,
    /// Only those that stand so: `running`, `paused`, `cancelled`, `finished` or `failed`.
    #[arg(long, value_parser = parse_status)]
    status: Option<JobStatus>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The job's id.
    job: JobId,
    #[command(flatten)]
    server: ServerArgs,
}

fn parse_status(text: &str) -> Result<JobStatus, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

/// A page of them, as they come.
#[derive(Deserialize)]
struct Page {
    jobs: Vec<Box<RawValue>>,
    next: Option<Position>,
}

/// What a list shows of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: JobId,
    kind: JobKind,
    selection: JobSelection,
    status: JobStatus,
    total: u64,
    counts: JobCounts,
    created_at: Timestamp,
}

pub(super) fn run(args: &JobsArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        None => list(&args.list, output),
        Some(JobsCommand::List(args)) => list(args, output),
        Some(JobsCommand::Show(one)) => {
            let client = one.server.client()?;
            let id = one.job.to_string();
            show(&client.get(&["v1", "jobs", &id]).send()?, output)
        }
        Some(JobsCommand::Pause(one)) => step(one, "_pause", output),
        Some(JobsCommand::Resume(one)) => step(one, "_resume", output),
        Some(JobsCommand::Cancel(one)) => step(one, "_cancel", output),
    }
}

fn step(one: &OneArgs, step: &str, output: &mut Output) -> Result<(), CliError> {
    let client = one.server.client()?;
    let id = one.job.to_string();
    show(&client.post(&["v1", "jobs", &id, step]).send()?, output)
}

fn show(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        answer.parse::<JobShown>()?.describe(output)?;
    }
    Ok(output.flush()?)
}

fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.server.client()?;
    let api = args.api.as_ref().map(|api| client.api(api)).transpose()?;
    let mut table = new_table();
    let mut cursor = None;
    loop {
        let page: Page = client
            .get(&["v1", "jobs"])
            .query("api", api)
            .query("status", args.status)
            .query("cursor", cursor)
            .query("limit", Some(1_000))
            .send()?
            .parse()?;
        for raw in &page.jobs {
            if output.is_json() {
                output.json(raw)?;
            } else {
                table.push(row(&serde_json::from_str(raw.get())?));
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if !output.is_json() {
        output.table(&table, "No job.")?;
    }
    Ok(output.flush()?)
}

fn new_table() -> Rows {
    let head = [
        "Created", "Does", "With", "Status", "Done", "Skipped", "Failed", "Of", "Job",
    ];
    Rows::new(head)
        .numbers([4, 5, 6, 7])
        .tone(3, tone_of_status)
}

fn row(job: &Listed) -> [String; 9] {
    let kind = match job.kind {
        JobKind::Redeliver => "redeliver",
        JobKind::Discard => "discard",
    };
    let selection = match &job.selection {
        JobSelection::DeadLetters { .. } => "dead letters".to_owned(),
        JobSelection::Deliveries { .. } => "named dead letters".to_owned(),
        JobSelection::Messages { since, .. } => format!("messages since {since}"),
    };
    [
        job.created_at.to_string(),
        kind.to_owned(),
        selection,
        job.status.to_string(),
        job.counts.done.to_string(),
        job.counts.skipped.to_string(),
        job.counts.failed.to_string(),
        job.total.to_string(),
        job.id.to_string(),
    ]
}

fn tone_of_status(text: &str) -> Option<Tone> {
    match text {
        "finished" => Some(Tone::Good),
        "running" | "paused" => Some(Tone::Open),
        "failed" => Some(Tone::Bad),
        _ => None,
    }
}
