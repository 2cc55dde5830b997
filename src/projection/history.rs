//! The log, as far as projections see it.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::HistoryError;
use crate::{log::RecordedEvent, model::Position};

/// Recorded events in order of position.
pub trait History: Send + Sync + 'static {
    /// Events after this position, lowest first, at most `limit`; empty when there is none yet.
    /// Where retention has cut the log, the first that is kept comes first.
    fn read_after(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Arc<RecordedEvent>>, HistoryError>;

    /// The last position that can be read.
    fn tip(&self) -> Position;

    /// Ends when there is an event after this position.
    fn past(&self, after: Position) -> BoxFuture<'static, ()>;

    /// The event at this position, if it is kept.
    fn event_at(&self, position: Position) -> Result<Option<Arc<RecordedEvent>>, HistoryError> {
        let mut events = self.read_after(position.previous(), 1)?;
        Ok(events.pop().filter(|event| event.position == position))
    }
}

/// A log that many read.
pub type SharedHistory = Arc<dyn History>;

impl fmt::Debug for dyn History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History(tip {})", self.tip())
    }
}
