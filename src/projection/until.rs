//! A log that ends earlier than the real one.

use std::sync::Arc;

use futures_util::future::{BoxFuture, pending};

use super::{Batch, History, HistoryError, SharedHistory};
use crate::{
    log::Origin,
    model::{Position, Timestamp},
};

/// Where a replay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayUntil {
    /// With the last event there is now.
    Now,
    /// With this event.
    Position(Position),
    /// With the last event at or before this time.
    Time(Timestamp),
}

/// The events of a log up to a fixed end.
pub(super) struct Until {
    history: SharedHistory,
    end: Position,
}

impl Until {
    pub(super) fn new(history: SharedHistory, until: ReplayUntil) -> Result<Self, HistoryError> {
        let tip = history.tip();
        let end = match until {
            ReplayUntil::Now => tip,
            ReplayUntil::Position(position) => position.min(tip),
            ReplayUntil::Time(time) => history.last_until(time)?.min(tip),
        };
        let cut = history.origin().map(|origin| origin.last());
        match cut {
            Some(last) if end < last => Err(HistoryError {
                after: end,
                reason: format!("retention has cut the log up to position {last}"),
                passing: false,
            }),
            _ => Ok(Self { history, end }),
        }
    }
}

impl History for Until {
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        if after >= self.end {
            return Ok(Batch::new(after, Vec::new()));
        }
        let mut batch = self.history.read_after(after, limit)?;
        batch.events.retain(|event| event.position <= self.end);
        batch.reached = batch.reached.min(self.end);
        Ok(batch)
    }

    fn tip(&self) -> Position {
        self.end
    }

    fn origin(&self) -> Option<Arc<Origin>> {
        self.history.origin()
    }

    fn past(&self, after: Position) -> BoxFuture<'static, ()> {
        if after < self.end {
            Box::pin(std::future::ready(()))
        } else {
            Box::pin(pending())
        }
    }
}
