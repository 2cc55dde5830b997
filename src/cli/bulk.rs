//! Work on many deliveries, which a gateway does as a job: counted, asked for, and watched until
//! it is over.

use std::ops::ControlFlow;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CliError, Output, client::Client, output::progress};
use crate::model::{JOB_RATE_MAX, JobCounts, JobFailure, JobId, JobStatus};

/// Failures that are shown to people, the first ones.
const FAILURES_SHOWN: usize = 10;

/// How a job is done.
#[derive(Debug, Clone, Args)]
pub(super) struct JobArgs {
    /// Tell how many deliveries there are, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many deliveries a second. Default: as fast as it goes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(JOB_RATE_MAX)))]
    rate: Option<u32>,
    /// Do not wait for the end; `hooklog jobs show` tells how far the job is.
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

/// How a job stands.
#[derive(Debug, Deserialize)]
pub(super) struct JobShown {
    pub(super) id: JobId,
    pub(super) status: JobStatus,
    pub(super) total: u64,
    pub(super) counts: JobCounts,
    pub(super) failures: Vec<JobFailure>,
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
}

impl JobArgs {
    /// Whether nothing was said that only a job can do.
    pub(super) const fn is_plain(&self) -> bool {
        !self.dry_run && self.rate.is_none() && !self.detach
    }

    /// Asks for a job on this selection, and shows what comes of it.
    pub(super) fn run(
        &self,
        client: &Client,
        path: &[&str],
        mut selection: Value,
        output: &mut Output,
    ) -> Result<(), CliError> {
        selection["dryRun"] = json!(self.dry_run);
        if let Some(rate) = self.rate {
            selection["ratePerSecond"] = json!(rate);
        }
        let answer = client.post(path).json(&selection)?.send()?;
        if self.dry_run {
            let Counted { count } = answer.parse()?;
            return counted(count, output);
        }
        let begun: JobShown = answer.parse()?;
        let id = begun.id;
        let job = if self.detach {
            begun
        } else {
            watch(client, begun)?
        };
        if output.is_json() {
            let id = id.to_string();
            output.json(&client.get(&["v1", "jobs", &id]).send()?.raw()?)?;
        } else {
            job.describe(output)?;
        }
        output.flush()?;
        job.check()
    }
}

fn counted(count: u64, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&json!({"count": count}))?;
    } else {
        output.line(format!("{count} deliveries; nothing was done"))?;
    }
    Ok(output.flush()?)
}

/// Waits until the job no longer runs. Interrupted, it leaves the job at work.
fn watch(client: &Client, begun: JobShown) -> Result<JobShown, CliError> {
    let bar = progress(begun.total, "deliveries").with_message(format!("job {}", begun.id));
    let id = begun.id.to_string();
    let ask = client.get(&["v1", "jobs", &id]);
    let mut job = begun;
    let changes = client.get(&["v1", "projections", "jobs", "stream"]);
    // The first change is told at once, so a job that is over by then is not waited for.
    changes.follow_until(async |_| {
        job = ask.answer().await?.parse()?;
        bar.set_position(job.counts.all());
        Ok(if job.status == JobStatus::Running {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    bar.finish_and_clear();
    Ok(job)
}

impl JobShown {
    /// The job for people.
    pub(super) fn describe(&self, output: &mut Output) -> Result<(), CliError> {
        let counts = &self.counts;
        output.line(format!("Job    {}", self.id))?;
        output.line(format!("Status {}", self.status))?;
        output.line(format!(
            "Done   {} of {}, {} skipped, {} failed",
            counts.done, self.total, counts.skipped, counts.failed
        ))?;
        if let Some(reason) = &self.reason {
            output.line(format!("Reason {reason}"))?;
        }
        for failure in self.failures.iter().take(FAILURES_SHOWN) {
            output.line(format!("Failed {}: {}", failure.delivery, failure.reason))?;
        }
        if counts.failed > FAILURES_SHOWN as u64 {
            output.line(format!(
                "…and more: `hooklog jobs show {} --output json` has up to a hundred",
                self.id
            ))?;
        }
        Ok(())
    }

    /// An error unless everything was done, or is still being done.
    fn check(&self) -> Result<(), CliError> {
        let id = self.id;
        match self.status {
            JobStatus::Running => Ok(()),
            JobStatus::Finished if self.counts.failed == 0 => Ok(()),
            JobStatus::Finished => Err(CliError::failure(format!(
                "{} deliveries could not be dealt with",
                self.counts.failed
            ))),
            JobStatus::Paused => Err(CliError::failure(format!(
                "the job was paused; it goes on with `hooklog jobs resume {id}`"
            ))),
            JobStatus::Cancelled => Err(CliError::failure("the job was cancelled")),
            JobStatus::Failed => Err(CliError::failure("the job could not go on")),
        }
    }
}
