//! Folding a batch of events into rows: pure but for reading the rows.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Batch, Erased, ProjectError, RowError, Rows, SkippedEvent,
    checkpoint::{Checkpoint, record_skipped},
    store::{Changes, RowStore},
};
use crate::log::RecordedEvent;

/// What happens when a projection cannot fold an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadEvent {
    /// It halts there: its rows stay as of the event before, and views say so.
    #[default]
    Halt,
    /// It passes over the event and lists it, see [`View::skipped`](super::View::skipped).
    SkipAndRecord,
}

/// What came of folding a batch.
pub(super) struct Folded {
    /// Rows and checkpoint, to be committed in one step.
    pub(super) changes: Changes,
    pub(super) checkpoint: Checkpoint,
    /// The event at which the projection halts, when it does.
    pub(super) halted: Option<SkippedEvent>,
}

/// Folds a batch that follows `checkpoint`. One without events moves the checkpoint alone.
pub(super) fn fold(
    projection: &dyn Erased,
    store: &dyn RowStore,
    mut checkpoint: Checkpoint,
    batch: &Batch,
    policy: OnBadEvent,
) -> Result<Folded, RowError> {
    let (mut rows, bad, halted) = fold_events(projection, store, &batch.events, policy)?;
    match &halted {
        None => checkpoint.position = batch.reached,
        Some(halt) => {
            let mut done = batch.events.iter().map(|event| event.position);
            let last = done.rfind(|position| *position < halt.position);
            checkpoint.position = last.unwrap_or(checkpoint.position);
        }
    }
    checkpoint.skipped += bad.len() as u64;
    for event in &bad {
        record_skipped(&mut rows, event);
    }
    rows.extend(checkpoint.as_change());
    Ok(Folded {
        changes: rows,
        checkpoint,
        halted,
    })
}

type Attempted = (Changes, Vec<SkippedEvent>, Option<SkippedEvent>);

/// A bad event may have written some of its rows before it failed. So the batch is folded again
/// without it: folding is pure, and bad events are rare.
fn fold_events(
    projection: &dyn Erased,
    store: &dyn RowStore,
    events: &[Arc<RecordedEvent>],
    policy: OnBadEvent,
) -> Result<Attempted, RowError> {
    let mut bad: Vec<SkippedEvent> = Vec::new();
    loop {
        let mut rows = Rows::over(store);
        let mut good = events.iter().filter(|event| {
            bad.binary_search_by_key(&event.position, |bad| bad.position)
                .is_err()
        });
        let halts = policy == OnBadEvent::Halt && !bad.is_empty();
        let failed = good.find_map(|event| {
            if halts && event.position > bad[0].position {
                return None;
            }
            let reason = project(projection, &mut rows, event).err()?;
            Some((event.position, reason))
        });
        match failed {
            Some((_, ProjectError::Rows(error))) => return Err(error),
            Some((position, ProjectError::Event(reason))) => {
                bad.push(SkippedEvent { position, reason });
            }
            None if halts => return Ok((rows.into_changes(), Vec::new(), bad.pop())),
            None => return Ok((rows.into_changes(), bad, None)),
        }
    }
}

fn project(
    projection: &dyn Erased,
    rows: &mut Rows<'_>,
    event: &RecordedEvent,
) -> Result<(), ProjectError> {
    let attempt = AssertUnwindSafe(|| projection.project(rows, event));
    match catch_unwind(attempt) {
        Ok(result) => result,
        Err(panic) => Err(ProjectError::event(format!(
            "the projection panicked: {}",
            super::panic_text(panic.as_ref())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::StreamId,
        model::{ApiId, ApiStarted, Position, Timestamp, Version},
        projection::{Projection, rows::Held, store::MemoryStore},
    };

    struct Count(u8);

    impl Held for Count {
        fn from_row(row: &[u8]) -> Result<Self, RowError> {
            Ok(Self(row[0]))
        }

        fn to_row(&self) -> Vec<u8> {
            vec![self.0]
        }
    }

    /// Counts events in a row that is held, and fails at every third behind that.
    struct Counting;

    impl Projection for Counting {
        const NAME: &'static str = "counting";
        const VERSION: u32 = 1;

        fn project(&self, rows: &mut Rows<'_>, event: &RecordedEvent) -> Result<(), ProjectError> {
            rows.hold(b"count", || Count(0))?.0 += 1;
            match event.position.get() % 3 {
                0 => Err(ProjectError::event("told to fail")),
                _ => Ok(()),
            }
        }
    }

    fn batch(positions: std::ops::RangeInclusive<u64>) -> Batch {
        let event = |position| RecordedEvent {
            position: Position::new(position),
            stream: StreamId::api(ApiId::from_uuid(uuid::Uuid::nil())),
            version: Version::new(position),
            time: Timestamp::EPOCH,
            event: ApiStarted {}.into(),
        };
        Batch {
            reached: Position::new(*positions.end()),
            events: positions
                .map(|position| Arc::new(event(position)))
                .collect(),
        }
    }

    #[test]
    fn a_bad_event_leaves_nothing_in_what_is_held() {
        let mut store = MemoryStore::default();
        let mut checkpoint = Checkpoint::default();
        for positions in [1..=4, 5..=5, 6..=10] {
            let batch = batch(positions);
            let skip = OnBadEvent::SkipAndRecord;
            let folded = fold(&Counting, &store, checkpoint, &batch, skip).unwrap();
            store.commit(folded.changes).unwrap();
            checkpoint = folded.checkpoint;
        }
        assert_eq!(checkpoint.skipped, 3);
        let rows = crate::projection::StoredRows(&store);
        let count = crate::projection::ReadRows::get(&rows, b"count").unwrap();
        assert_eq!(count, Some(vec![7]));
        let halted = fold(
            &Counting,
            &store,
            checkpoint,
            &batch(11..=13),
            OnBadEvent::Halt,
        );
        let changes = halted.unwrap().changes;
        assert!(changes.values().any(|value| *value == Some(vec![8])));
    }
}
