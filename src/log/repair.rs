//! Going on behind a damaged end. What was written there is given up for good; the log says so in
//! an event of its own, and takes appends again.
//!
//! Nothing is removed: a segment that cannot be read stays where it is. Positions go on well behind
//! everything that may have been given, so that none stands for two events, whoever has seen it.

use std::sync::Arc;

use crate::model::{LogRepaired, Position, Timestamp};

use super::{
    AppendError, Appended, EventLog, Health, LogOptions, OpenError, Quarantined, Storage,
    core::LogCore,
};

/// Positions are gone on with at a multiple of this, with at least as many between. The record of
/// what is durable may be older than the last acknowledgement where the power failed as well.
const POSITIONS_SKIPPED: u64 = 1_000_000;
/// The same where nothing tells how far the log had come: more than a segment can hold.
const POSITIONS_SKIPPED_UNKNOWN: u64 = 1_000 * POSITIONS_SKIPPED;

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
        let before = self.read(self.head().previous(), 1).ok();
        let passed_over = self.quarantined();
        Some(RepairPlan {
            from,
            to,
            readable_until: before.and_then(|events| Some(events.first()?.time)),
            resume: resume(self.highest_known(), to),
            passed_over: passed_over
                .into_iter()
                .filter(|damage| damage.from < from)
                .collect(),
            reason,
        })
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
fn resume(known: Position, to: Option<Position>) -> Position {
    let skipped = match to {
        Some(_) => POSITIONS_SKIPPED,
        None => POSITIONS_SKIPPED_UNKNOWN,
    };
    let known = known.max(to.unwrap_or(Position::ZERO)).get();
    Position::new((known / skipped + 2) * skipped)
}

/// Gives up what this plan names of the log that this storage holds, and nothing else. Blocks.
///
/// Views and snapshots may know of what is given up; [`runtime::repair`](crate::runtime::repair) drops
/// them with it.
pub fn repair_with(
    storage: Arc<dyn Storage>,
    options: LogOptions,
    plan: &RepairPlan,
) -> Result<Appended, RepairError> {
    let now = options.clock.now();
    let (mut core, view) = LogCore::open(storage, options, false)?;
    let health = view.health();
    let is_planned = matches!(
        &health,
        Health::TailDamaged { from, to, .. } if (*from, *to) == (plan.from, plan.to)
    );
    if !is_planned {
        return Err(RepairError::Changed);
    }
    let told = LogRepaired {
        from: plan.from,
        to: plan.to,
        reason: plan.reason.clone(),
    };
    let appended = core.begin_behind(plan.resume, now, told.into())?;
    core.close();
    Ok(appended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_well_behind_what_is_known() {
        for (known, to, expected) in [
            (0, None, 2_000_000_000),
            (90, Some(100), 2_000_000),
            (999_999, Some(999_999), 2_000_000),
            (1_000_000, Some(1_000_001), 3_000_000),
            (5_500_000, None, 2_000_000_000),
        ] {
            let to = to.map(Position::new);
            assert_eq!(resume(Position::new(known), to), Position::new(expected));
        }
    }
}
