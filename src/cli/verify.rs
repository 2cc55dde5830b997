//! `hooklog verify`: the log against itself, and the views against the log.

use clap::Args;
use serde_json::json;

use super::{
    CliError, Output,
    data::{AtRestArgs, Data},
    output::progress,
};
use crate::projection::{
    Projection, ReplayUntil, StartError, View, ViewError, access::Access, copy_rows,
    dead_letters::DeadLetters, deliveries::Deliveries, history_until,
    idempotency_keys::IdempotencyKeys, jobs::Jobs, metrics::Metrics, stored_view,
    subscriptions::Subscriptions,
};

/// Rows compared at a time.
const PAGE: usize = 4_096;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    data: AtRestArgs,
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
    if !args.log_only && report.is_sound() && data.rows().is_dir() {
        let compared = compare_views(&data)?;
        views = compared.views;
        problems.extend(compared.problems);
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
            "givenUp": report.given_up.iter().map(|range| json!({
                "from": range.from,
                "to": range.to,
                "time": range.time,
                "reason": range.reason,
            })).collect::<Vec<_>>(),
        }))?;
    } else {
        output.line(format!(
            "{} events in {} pages and {} segments, up to position {}; {views} views compared",
            report.events, report.pages, report.segments, report.last
        ))?;
        for range in &report.given_up {
            output.line(format!(
                "Positions {} to {} were given up by a repair at {}: {}",
                range.from, range.to, range.time, range.reason
            ))?;
        }
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

/// What comparing the stored views with the log found.
#[derive(Default)]
struct Compared {
    views: usize,
    problems: Vec<String>,
}

/// Folds each stored view anew, as far as it is, and compares the two row by row. Nothing in the
/// data directory is mended or written.
fn compare_views(data: &Data) -> Result<Compared, CliError> {
    let mut compared = Compared::default();
    compared.view(data, Deliveries)?;
    compared.view(data, Metrics)?;
    compared.view(data, DeadLetters)?;
    compared.view(data, Subscriptions)?;
    compared.view(data, Access)?;
    compared.view(data, IdempotencyKeys)?;
    compared.view(data, Jobs)?;
    Ok(compared)
}

impl Compared {
    fn view<P: Projection>(&mut self, data: &Data, projection: P) -> Result<(), CliError> {
        let copy = data.scratch()?.join("stored");
        if !copy_rows::<P>(&data.rows(), &copy)? {
            return Ok(());
        }
        let stored = match stored_view::<P>(&copy, data.history(), data.clock.clone()) {
            Ok(None) => return Ok(()),
            Ok(Some(stored)) => stored,
            Err(StartError::Rows { source, .. }) => {
                self.problem::<P>(format!("cannot be opened: {source}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // Rows that are yet to forget what was cut differ until they do.
        if P::FORGETS && stored.begins() < data.history().begins() {
            return Ok(());
        }
        self.views += 1;
        let (position, head) = (stored.position(), data.log.head());
        if position > head {
            self.problem::<P>(format!(
                "is at position {position}, and the log ends at {head}"
            ));
            return Ok(());
        }
        let history = history_until(data.history(), ReplayUntil::Position(position))?;
        let anew = data.fold(projection, history, &data.scratch()?.join("anew"))?;
        match first_difference(&stored, &anew) {
            Ok(None) => {}
            Ok(Some(key)) => self.problem::<P>(format!("differs from the log at key {key}")),
            Err(ViewError::Rows(error)) => self.problem::<P>(format!("cannot be read: {error}")),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn problem<P: Projection>(&mut self, what: String) {
        self.problems.push(format!("view {:?} {what}", P::NAME));
    }
}

/// The first key, in hexadecimal, whose rows differ.
fn first_difference<P: Projection>(a: &View<P>, b: &View<P>) -> Result<Option<String>, ViewError> {
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
