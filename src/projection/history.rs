//! The log, as far as projections see it.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::HistoryError;
use crate::{
    log::{Origin, RecordedEvent},
    model::{Position, Timestamp},
};

/// Events read at once while a time is looked for.
const STEP_EVENTS: usize = 1_024;

/// What a read of the log gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Events, lowest first.
    pub events: Vec<Arc<RecordedEvent>>,
    /// Everything up to here was given or cannot be read any more; the next read begins after it.
    /// Where the read began, when there is nothing yet.
    pub reached: Position,
}

impl Batch {
    /// What was read after this position, with nothing left out.
    pub fn new(after: Position, events: Vec<Arc<RecordedEvent>>) -> Self {
        let reached = events.last().map_or(after, |event| event.position);
        Self { events, reached }
    }
}

/// Recorded events in order of position.
pub trait History: Send + Sync + 'static {
    /// Events after this position, at most `limit`, perhaps fewer. Where retention has cut the
    /// log, the first that is kept comes first; what cannot be read any more is passed over, and
    /// the batch says how far, so that a reader never asks for it again.
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError>;

    /// The last position that can be read.
    fn tip(&self) -> Position;

    /// What stood where retention cut the log; rows begin with it. `None` while the log is whole.
    fn origin(&self) -> Option<Arc<Origin>> {
        None
    }

    /// Where the log begins.
    fn begins(&self) -> Position {
        let origin = self.origin();
        origin.map_or(Position::FIRST, |origin| origin.first())
    }

    /// Ends when there is an event after this position.
    fn past(&self, after: Position) -> BoxFuture<'static, ()>;

    /// The last position whose event is at or before this time; [`Position::ZERO`] when there is
    /// none. Times never fall along the log.
    fn last_until(&self, time: Timestamp) -> Result<Position, HistoryError> {
        read_until(self, time)
    }

    /// The event at this position, if it is kept.
    fn event_at(&self, position: Position) -> Result<Option<Arc<RecordedEvent>>, HistoryError> {
        let mut batch = self.read_after(position.previous(), 1)?;
        Ok(batch
            .events
            .pop()
            .filter(|event| event.position == position))
    }
}

/// A log that many read.
pub type SharedHistory = Arc<dyn History>;

impl fmt::Debug for dyn History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History(tip {})", self.tip())
    }
}

/// Reads until the first event after this time.
pub(super) fn read_until<H: History + ?Sized>(
    history: &H,
    time: Timestamp,
) -> Result<Position, HistoryError> {
    let mut end = Position::ZERO;
    loop {
        let batch = history.read_after(end, STEP_EVENTS)?;
        let within = batch.events.partition_point(|event| event.time <= time);
        if within < batch.events.len() {
            let last = within.checked_sub(1);
            return Ok(last.map_or(end, |last| batch.events[last].position));
        }
        if batch.reached <= end {
            return Ok(end);
        }
        end = batch.reached;
    }
}
