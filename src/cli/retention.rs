//! `hooklog retention`: what of a gateway's log goes, and who keeps it.

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{
    CliError, Output,
    client::{Answer, ServerArgs},
    output::Rows,
};
use crate::model::{Position, Timestamp};

#[derive(Debug, Args)]
pub(super) struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Show what would be dropped now, and who holds something back.
    Show {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Drop now what the gateway's configuration says and nobody needs.
    Apply {
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// What is shown of either answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    first: Position,
    #[serde(default)]
    policy: Option<Policy>,
    #[serde(alias = "dropped")]
    due: Vec<Segment>,
    held: Vec<Segment>,
    held_by: Vec<HeldBy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    age_seconds_max: Option<u64>,
    bytes_max: Option<u64>,
}

#[derive(Deserialize)]
struct Segment {
    first: Position,
    last: Position,
    until: Option<Timestamp>,
    bytes: u64,
}

#[derive(Deserialize)]
struct HeldBy {
    from: Position,
    reason: String,
}

impl Policy {
    fn line(&self) -> String {
        let age = self
            .age_seconds_max
            .map(|seconds| format!("what is older than {} days", seconds / (24 * 60 * 60)));
        let bytes = self
            .bytes_max
            .map(|bytes| format!("what is above {bytes} bytes"));
        let parts: Vec<_> = age.into_iter().chain(bytes).collect();
        if parts.is_empty() {
            return "Everything is kept.".to_owned();
        }
        format!("May go: {}.", parts.join(", and "))
    }
}

pub(super) fn run(args: &RetentionArgs, output: &mut Output) -> Result<(), CliError> {
    let answer = match &args.command {
        RetentionCommand::Show { server } => server.client()?.get(&["v1", "retention"]).send()?,
        RetentionCommand::Apply { server } => {
            let client = server.client()?;
            client.post(&["v1", "retention", "_apply"]).send()?
        }
    };
    show(&answer, output)
}

fn show(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&answer.raw()?)?;
        return Ok(output.flush()?);
    }
    let shown: Shown = answer.parse()?;
    if let Some(policy) = &shown.policy {
        output.line(policy.line())?;
    }
    output.line(format!("The log begins at position {}.", shown.first))?;
    let goes = if shown.policy.is_some() {
        "due"
    } else {
        "dropped"
    };
    let mut rows = Rows::new(["First", "Last", "Until", "Bytes", "Is"]).numbers([0, 1, 3]);
    for segment in &shown.due {
        rows.push(segment.row(goes));
    }
    for segment in &shown.held {
        rows.push(segment.row("held"));
    }
    output.table(&rows, "Nothing is to be dropped.")?;
    for holder in &shown.held_by {
        output.line(format!(
            "Held from position {}: {}",
            holder.from, holder.reason
        ))?;
    }
    Ok(output.flush()?)
}

impl Segment {
    fn row(&self, is: &str) -> [String; 5] {
        [
            self.first.to_string(),
            self.last.to_string(),
            self.until
                .map_or_else(String::new, |until| until.to_string()),
            self.bytes.to_string(),
            is.to_owned(),
        ]
    }
}
