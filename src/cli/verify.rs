//! `hooklog verify`: the log against itself, and the views against the log.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{
    CliError, Output,
    data::{Data, DataArgs},
    output::progress,
};
use crate::{
    projection::{
        OnBadEvent, Projection, Projections, Storage, View, dead_letters::DeadLetters,
        deliveries::Deliveries, metrics::Metrics, subscriptions::Subscriptions,
    },
    runtime::PROJECTIONS_DIRECTORY,
};

/// Rows compared at a time.
const PAGE: usize = 4_096;
/// How long a projection may take to catch up with the log.
const CATCH_UP: Duration = Duration::from_hours(1);

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Check the log alone, not the views.
    #[arg(long)]
    log_only: bool,
}

pub(super) fn run(args: &VerifyArgs, output: &mut Output) -> Result<(), CliError> {
    let data = args.data.open()?;
    let bar = progress(data.log.head().get(), "events");
    let report = data.log.verify(|at| bar.set_position(at.position.get()))?;
    bar.finish_and_clear();
    let mut problems: Vec<String> = report
        .problems
        .iter()
        .map(|problem| {
            format!(
                "positions {} to {}: {}",
                problem.from, problem.to, problem.what
            )
        })
        .collect();
    let mut views = 0;
    if !args.log_only && report.is_sound() && data.path.join(PROJECTIONS_DIRECTORY).is_dir() {
        views = 4;
        problems.extend(compare_views(&data)?);
    }
    if output.is_json() {
        output.json(&json!({
            "segments": report.segments,
            "pages": report.pages,
            "events": report.events,
            "unknownEvents": report.unknown_events,
            "last": report.last,
            "views": views,
            "problems": problems,
        }))?;
    } else {
        output.line(format!(
            "{} events in {} pages and {} segments, up to position {}; {views} views compared",
            report.events, report.pages, report.segments, report.last
        ))?;
        for problem in &problems {
            output.line(problem)?;
        }
        if problems.is_empty() {
            output.line("Everything holds.")?;
        }
    }
    output.flush()?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(CliError::failure(format!(
            "{} problems were found",
            problems.len()
        )))
    }
}

/// Lets the stored views catch up, folds each anew in memory, and compares them row by row.
fn compare_views(data: &Data) -> Result<Vec<String>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let storage = Storage::Directory(data.path.join(PROJECTIONS_DIRECTORY));
    let mut projections = Projections::new(storage, data.history(), data.clock.clone());
    let problems = [
        runtime.block_on(compare(&mut projections, data, Deliveries))?,
        runtime.block_on(compare(&mut projections, data, Metrics))?,
        runtime.block_on(compare(&mut projections, data, DeadLetters))?,
        runtime.block_on(compare(&mut projections, data, Subscriptions))?,
    ];
    projections.stop();
    Ok(problems.into_iter().flatten().collect())
}

async fn compare<P: Projection + Copy>(
    projections: &mut Projections,
    data: &Data,
    projection: P,
) -> Result<Option<String>, CliError> {
    let stored = projections.start(projection, OnBadEvent::SkipAndRecord)?;
    stored.at(data.log.head(), CATCH_UP).await?;
    let anew = data.view(projection)?;
    Ok(first_difference(&stored, &anew)?
        .map(|key| format!("view {:?} differs from the log at key {key}", P::NAME)))
}

/// The first key, in hexadecimal, whose rows differ.
fn first_difference<P: Projection>(a: &View<P>, b: &View<P>) -> Result<Option<String>, CliError> {
    let end = vec![0xff; 64];
    let mut from = Vec::new();
    loop {
        let (left, right) = (
            a.range(from.clone()..end.clone(), PAGE)?,
            b.range(from.clone()..end.clone(), PAGE)?,
        );
        if let Some((l, r)) = left.iter().zip(&right).find(|(l, r)| l != r) {
            return Ok(Some(hex(l.key.as_slice().min(r.key.as_slice()))));
        }
        if left.len() != right.len() {
            let longer = if left.len() > right.len() {
                &left
            } else {
                &right
            };
            return Ok(Some(hex(&longer[left.len().min(right.len())].key)));
        }
        match left.last() {
            Some(last) => {
                from.clone_from(&last.key);
                from.push(0);
            }
            None => return Ok(None),
        }
    }
}

fn hex(key: &[u8]) -> String {
    key.iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
