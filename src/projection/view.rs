//! Reading what a projection has made.

use std::{fmt, marker::PhantomData, ops::Range, sync::Arc, time::Duration};

use super::{
    Phase, Projection, ReadRows, Row, RowError, SharedHistory, SkippedEvent, StoredRows, ViewError,
    checkpoint, shared::Shared,
};
use crate::{clock::SharedClock, model::Position};

/// How far a projection is behind the log, in events. 0: it has seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lag(pub u64);

/// A handle on the rows of one projection. Cloning it is cheap; all clones see the same rows.
///
/// Each answer is of one moment, the commit of some batch; two answers may be of two.
pub struct View<P> {
    shared: Arc<Shared>,
    clock: SharedClock,
    projection: PhantomData<fn() -> P>,
}

impl<P> Clone for View<P> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            projection: PhantomData,
        }
    }
}

impl<P: Projection> fmt::Debug for View<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("projection", &P::NAME)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl<P: Projection> View<P> {
    pub(super) const fn new(shared: Arc<Shared>, clock: SharedClock) -> Self {
        Self {
            shared,
            clock,
            projection: PhantomData,
        }
    }

    /// The last event these rows contain.
    pub fn position(&self) -> Position {
        self.shared.progress.borrow().position
    }

    /// How often the rows changed since the start. As long as it stays the same, so does every
    /// answer.
    pub fn changes(&self) -> u64 {
        self.shared.changes()
    }

    /// Where the log began that the rows were begun on. Rows of what retention cut since are still
    /// there, if the projection lets go of any.
    pub fn begins(&self) -> Position {
        self.shared.progress.borrow().begins
    }

    /// How far it is behind the log.
    pub fn lag(&self) -> Lag {
        let tip = self.shared.history.tip();
        Lag(tip.distance_from(self.position()))
    }

    /// What the projection is doing.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// Waits until the rows contain the event at `position`: what was written is read.
    ///
    /// Cancel-safe. Must be awaited inside a tokio runtime with its time driver on.
    pub async fn at(&self, position: Position, timeout: Duration) -> Result<&Self, ViewError> {
        let mut progress = self.shared.progress.subscribe();
        let reached = async {
            let reached = progress
                .wait_for(|now| now.has(position) || !now.phase.goes_on())
                .await;
            match reached {
                Ok(now) if now.has(position) => Ok(()),
                Ok(now) => Err(Self::no_more(&now.phase)),
                Err(_) => Err(Self::no_more(&Phase::Stopped)),
            }
        };
        tokio::select! {
            biased;
            reached = reached => reached.map(|()| self),
            () = self.clock.sleep(timeout) => Err(ViewError::Behind {
                projection: P::NAME,
                position: self.position(),
                wanted: position,
            }),
        }
    }

    /// Waits until the rows have moved past `after`, and tells how far they are. Steps in between
    /// are not told one by one, so a slow caller holds nobody up. Cancel-safe.
    pub async fn changed(&self, after: Position) -> Result<Position, ViewError> {
        let mut progress = self.shared.progress.subscribe();
        let moved = progress
            .wait_for(|now| now.position > after || now.phase == Phase::Stopped)
            .await;
        match moved {
            Ok(now) if now.position > after => Ok(now.position),
            _ => Err(Self::no_more(&Phase::Stopped)),
        }
    }

    /// Builds the rows again from the log, beside the old ones, which serve until the new ones
    /// have caught up. Returns how far those were then. Strict: an event that cannot be folded
    /// ends it with an error and leaves the rows as they were.
    pub async fn rebuild(&self) -> Result<Position, ViewError> {
        let answer = self.shared.orders.rebuild().await;
        answer.unwrap_or_else(|_| Err(Self::no_more(&Phase::Stopped)))
    }

    /// The first `limit` events that were skipped, with the reason.
    pub fn skipped(&self, limit: usize) -> Result<Vec<SkippedEvent>, ViewError> {
        self.read(|rows| Ok(checkpoint::skipped(rows.0, limit)?))
    }

    /// The row with this key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.read(|rows| Ok(rows.get(key)?))
    }

    /// At most `limit` rows with `range.start <= key < range.end`, lowest key first.
    pub fn range(&self, range: Range<Vec<u8>>, limit: usize) -> Result<Vec<Row>, ViewError> {
        self.read(|rows| {
            let rows: Result<_, RowError> = rows.range(range).take(limit).collect();
            Ok(rows?)
        })
    }

    /// Asks several questions of the rows of one moment. The projection waits while `ask` runs,
    /// so it should be short. Rows that were damaged are built again, and answer
    /// [`ViewError::Mending`] until they are as far as they were.
    pub fn read<T>(
        &self,
        ask: impl FnOnce(&StoredRows<'_>) -> Result<T, ViewError>,
    ) -> Result<T, ViewError> {
        let store = self.shared.read();
        self.check_answers()?;
        ask(&StoredRows(store.as_ref())).map_err(|error| match error {
            ViewError::Rows(error) => self.note(error).into(),
            other => other,
        })
    }

    /// The log the rows are made from.
    pub(super) fn history(&self) -> &SharedHistory {
        &self.shared.history
    }

    fn check_answers(&self) -> Result<(), ViewError> {
        let progress = self.shared.progress.borrow();
        match &progress.phase {
            Phase::Stopped => Err(Self::no_more(&Phase::Stopped)),
            _ if progress.answers() => Ok(()),
            halted @ Phase::Halted(_) => Err(Self::no_more(halted)),
            Phase::Running | Phase::Waiting { .. } => Err(ViewError::Mending {
                projection: P::NAME,
            }),
        }
    }

    /// Has damaged rows built again.
    fn note(&self, error: RowError) -> RowError {
        if error.is_damage() {
            self.shared.met_damage();
            self.shared.orders.look();
        }
        error
    }

    fn no_more(phase: &Phase) -> ViewError {
        match phase {
            Phase::Halted(halt) => ViewError::Halted {
                projection: P::NAME,
                position: halt.position,
                reason: halt.reason.clone(),
            },
            Phase::Running | Phase::Waiting { .. } | Phase::Stopped => ViewError::Stopped {
                projection: P::NAME,
            },
        }
    }
}
