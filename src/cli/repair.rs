//! `hooklog repair`: what a damaged log has lost, and how it goes on without it.

use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, Output, data::AtRestArgs};
use crate::{
    log::{EventLog, Quarantined, RepairPlan, until},
    runtime,
};

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    data: AtRestArgs,
    /// Give up what was shown, for good, so that the log takes events again. Without it, and where
    /// it cannot be shown, nothing is changed. As JSON it is shown in a line before the one that
    /// says "applied": true.
    #[arg(long)]
    apply: bool,
}

/// What is told.
struct Findings {
    plan: Option<RepairPlan>,
    /// What is damaged and keeps nothing from going on.
    passed_over: Vec<Quarantined>,
}

pub(super) fn run(args: &RepairArgs, output: &mut Output) -> Result<(), CliError> {
    // What is read is closed before anything is written.
    let findings = Findings::of(&args.data.open()?.log);
    let shown = findings.show(args.apply, output);
    let Some(plan) = findings.plan.as_ref().filter(|_| args.apply) else {
        return Ok(shown?);
    };
    // Also where the reader has gone, which ends other commands well: they have done their part.
    shown.map_err(|error| {
        CliError::failure(format!(
            "what would be given up could not be shown, so nothing is: {error}"
        ))
    })?;
    runtime::repair(args.data.path(), plan)
        .map_err(|error| CliError::failure(error.to_string()))?;
    findings.tell_done(plan, output).map_err(|error| {
        CliError::failure(format!("it is done, which could not be shown: {error}"))
    })
}

impl Findings {
    fn of(log: &EventLog) -> Self {
        let plan = log.repair_plan();
        let passed_over = match &plan {
            Some(plan) => plan.passed_over.clone(),
            None => log.quarantined(),
        };
        Self { plan, passed_over }
    }

    /// Tells what there is, before anything is done about it.
    fn show(&self, goes_on: bool, output: &mut Output) -> io::Result<()> {
        if output.is_json() {
            output.json(&self.document(false))?;
        } else {
            for line in self.lines() {
                output.line(line)?;
            }
            if self.plan.is_some() && !goes_on {
                output.line("Nothing is changed. `hooklog repair --apply` does it.")?;
            }
        }
        output.flush()
    }

    fn tell_done(&self, plan: &RepairPlan, output: &mut Output) -> io::Result<()> {
        if output.is_json() {
            output.json(&self.document(true))?;
        } else {
            let resume = plan.resume;
            output.line(format!("Done: the log goes on at position {resume}."))?;
        }
        output.flush()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for range in &self.passed_over {
            lines.push(format!(
                "Positions {} {} are damaged and are passed over: {}",
                range.from,
                until(range.to),
                range.reason
            ));
        }
        let Some(plan) = &self.plan else {
            lines.push("The log takes events; there is nothing to repair.".to_owned());
            return lines;
        };
        lines.push(match plan.readable_until {
            Some(time) => format!(
                "The log can be read before position {}, up to {time}.",
                plan.from
            ),
            None => format!("Nothing can be read before position {}.", plan.from),
        });
        lines.push(format!("What follows is damaged: {}", plan.reason));
        lines.push(String::new());
        lines.push("A repair gives up, for good:".to_owned());
        lines.push(match (plan.to, plan.events()) {
            (Some(to), Some(count)) => format!(
                "- {count} events, at positions {} to {to}, and any behind them that no record tells of",
                plan.from
            ),
            _ => format!(
                "- every event from position {} on; how many there were is not known",
                plan.from
            ),
        });
        lines.push("- messages among them, which are not delivered any more".to_owned());
        lines.push(
            "- outcomes of calls among them: those messages are sent again, with the same webhook-id"
                .to_owned(),
        );
        lines.push("- whatever was created or changed by them".to_owned());
        lines.push(String::new());
        lines.push(format!(
            "The log then says so, and goes on at position {}. Views that know of it are built again. A \
             segment that cannot be read is kept beside the log, with .given-up behind its name.",
            plan.resume
        ));
        lines
    }

    fn document(&self, is_applied: bool) -> Value {
        let passed_over = self.passed_over.iter();
        let passed_over = passed_over
            .map(|range| json!({"from": range.from, "to": range.to, "reason": range.reason}));
        let plan = self.plan.as_ref().map(|plan| {
            json!({
                "from": plan.from,
                "to": plan.to,
                "events": plan.events(),
                "reason": plan.reason,
                "readableUntil": plan.readable_until,
                "resume": plan.resume,
            })
        });
        json!({
            "repair": plan,
            "passedOver": passed_over.collect::<Vec<_>>(),
            "applied": is_applied,
        })
    }
}
