//! Going on behind a damaged end. What was written there is given up for good; the log says so in
//! an event of its own, and takes appends again.
//!
//! Positions go on well behind everything that may have been given, so that none stands for two
//! events, whoever has seen it. A segment that could not be read is taken out of the log and kept.

use std::{collections::HashMap, sync::Arc};

use crate::{
    clock::SharedClock,
    model::{LogRepaired, Position, Timestamp, Version},
};

use super::{
    AppendError, Appended, EventLog, Health, LogOptions, LogWriter, OpenError, Quarantined,
    ReadError, Storage, StreamId,
};

/// Positions are gone on with at a multiple of this, with at least as many between: more than what a
/// segment can hold, because the record of what was durable may be as old as its beginning.
const POSITIONS_SKIPPED: u64 = 1_000_000_000;

/// What repairing a log gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// The first position that is given up.
    pub from: Position,
    /// The last position known to have been written; `None` when nothing tells.
    pub to: Option<Position>,
    /// How the damage was seen.
    pub reason: String,
    /// The time of the last event before it, when there is one.
    pub readable_until: Option<Timestamp>,
    /// Where the log goes on.
    pub resume: Position,
    /// Ranges that are damaged too. They are passed over as before: nothing about them changes.
    pub passed_over: Vec<Quarantined>,
}

impl RepairPlan {
    /// How many events are known to be given up, when that is known.
    pub fn events(&self) -> Option<u64> {
        self.to
            .map(|to| to.distance_from(self.from).saturating_add(1))
    }
}

/// A log was not repaired. It is as it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be read.
    #[error("failed to read what is not damaged: {0}")]
    Read(#[from] ReadError),
    /// What is damaged is not what the plan says.
    #[error("the damage is another than the plan says; look at it again")]
    Changed,
    /// What was given up could not be written down.
    #[error("failed to go on behind the damage: {0}")]
    Append(#[from] AppendError),
}

impl EventLog {
    /// What repairing this log would give up; `None` where it takes appends, whatever else of it
    /// is damaged. Blocks.
    pub fn repair_plan(&self) -> Option<RepairPlan> {
        let Health::TailDamaged { from, to, reason } = self.health() else {
            return None;
        };
        let (from, readable_until) = self.readable_before(from);
        let mut passed_over = self.quarantined();
        passed_over.retain(|damage| damage.from < from);
        Some(RepairPlan {
            from,
            to,
            readable_until,
            resume: resume(self.highest_known().max(to.unwrap_or(Position::ZERO))),
            passed_over,
            reason,
        })
    }

    /// Where damage begins that reaches up to this position, and the time of the event before it. It
    /// may begin earlier than the position: where the event of an earlier repair is lost too.
    fn readable_before(&self, mut from: Position) -> (Position, Option<Timestamp>) {
        loop {
            let before = from.previous();
            if before == Position::ZERO {
                return (from, None);
            }
            match self.read(before.previous(), 1) {
                Err(ReadError::Corrupt { from: earlier, .. }) if earlier < from => from = earlier,
                read => {
                    let event = read.ok().and_then(|mut events| events.pop());
                    return (from, event.map(|event| event.time));
                }
            }
        }
    }

    /// The highest position that anything tells of.
    fn highest_known(&self) -> Position {
        let view = self.view();
        let segments = view.segments().firsts.last().copied();
        let record = view.head_file().record();
        let recorded = record.map(|record| record.head.max(record.newest));
        let known = [Some(self.head()), segments, recorded];
        known.into_iter().flatten().max().unwrap_or(Position::ZERO)
    }
}

/// Where a log goes on that had come at least so far.
fn resume(known: Position) -> Position {
    let skipped = known.get() / POSITIONS_SKIPPED + 2;
    Position::new(skipped.saturating_mul(POSITIONS_SKIPPED))
}

/// A damaged log that is about to be repaired: held, and as the plan says.
pub struct Repair {
    log: EventLog,
    writer: LogWriter,
    clock: SharedClock,
    plan: RepairPlan,
}

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Repair {
    /// Opens the log that this storage holds, if it is damaged as the plan says. Blocks, as all of
    /// this does.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        plan: &RepairPlan,
    ) -> Result<Self, RepairError> {
        let clock = Arc::clone(&options.clock);
        let (log, writer) = EventLog::open_stepped(storage, options)?;
        let found = log.repair_plan().ok_or(RepairError::Changed)?;
        let is_planned = (found.from, found.to, found.resume) == (plan.from, plan.to, plan.resume);
        if !is_planned {
            return Err(RepairError::Changed);
        }
        Ok(Self {
            log,
            writer,
            clock,
            plan: found,
        })
    }

    /// The log, to be read.
    pub const fn log(&self) -> &EventLog {
        &self.log
    }

    /// Gives up what the plan names. Streams go on at the versions that can be read, or at those
    /// that are `known` otherwise where they are higher.
    pub fn apply(mut self, known: &HashMap<StreamId, Version>) -> Result<Appended, RepairError> {
        let told = LogRepaired {
            from: self.plan.from,
            to: self.plan.to,
            reason: self.plan.reason,
        };
        let core = self.writer.core();
        let appended = core.begin_behind(self.plan.resume, self.clock.now(), told.into(), known)?;
        core.close();
        Ok(appended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_well_behind_what_is_known() {
        for (known, expected) in [
            (0, 2_000_000_000),
            (100, 2_000_000_000),
            (999_999_999, 2_000_000_000),
            (1_000_000_000, 3_000_000_000),
            (2_000_000_001, 4_000_000_000),
        ] {
            assert_eq!(resume(Position::new(known)), Position::new(expected));
        }
    }
}
