//! The event log as the history that projections fold.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{Batch, History, HistoryError};
use crate::{
    log::{EventLog, Origin, OriginStore, ReadError, ReadLimit, StorageError},
    model::{Position, Timestamp},
};

/// Bytes of one read: a few of the largest messages, and far more events than spread a commit's
/// price thin. Each projection holds one read in memory.
const READ_BYTES: usize = 4 << 20;

impl History for EventLog {
    /// What retention has dropped, what is quarantined (G11) and what does not decode is passed
    /// over: a projection folds what can be read, and the log itself reports what cannot.
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        let mut from = after;
        loop {
            let limit = ReadLimit {
                events: limit,
                bytes: READ_BYTES,
            };
            match self.read_within(from, limit) {
                Ok(events) => return Ok(Batch::new(from, events)),
                Err(ReadError::Gone { first }) if first > from.next() => from = first.previous(),
                // Damage whose end is not known ends with what is visible.
                Err(ReadError::Corrupt { to, .. }) if to.min(self.head()) > from => {
                    from = to.min(self.head());
                }
                Err(ReadError::Undecodable { position, .. }) if position > from => from = position,
                Err(error) => {
                    return Err(HistoryError {
                        after,
                        reason: error.to_string(),
                        passing: is_passing(&error),
                    });
                }
            }
        }
    }

    fn tip(&self) -> Position {
        self.head()
    }

    /// By bisection, as the log does it.
    fn last_until(&self, time: Timestamp) -> Result<Position, HistoryError> {
        let later = time.plus(Duration::from_millis(1));
        if later == time {
            return Ok(self.head());
        }
        match self.position_at(later) {
            Ok(first) => Ok(first.previous()),
            Err(error) => Err(HistoryError {
                after: Position::ZERO,
                reason: error.to_string(),
                passing: is_passing(&error),
            }),
        }
    }

    fn past(&self, after: Position) -> BoxFuture<'static, ()> {
        let mut watch = self.watch();
        Box::pin(async move {
            // A closed log grows no more, so there is nothing to wait for.
            if watch.reach(after.next()).await.is_none() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// An event log that retention may cut, with its origin: a whole history again, but for what is
/// meant to be forgotten.
#[derive(Debug, Clone)]
pub struct CutLog {
    log: EventLog,
    origins: Arc<OriginStore>,
}

impl CutLog {
    /// This log, which begins where its origin says.
    pub const fn new(log: EventLog, origins: Arc<OriginStore>) -> Self {
        Self { log, origins }
    }
}

impl History for CutLog {
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        let told = self.origin().map_or(Position::ZERO, |origin| origin.last());
        self.log.read_after(after.max(told), limit)
    }

    fn tip(&self) -> Position {
        self.log.head()
    }

    fn origin(&self) -> Option<Arc<Origin>> {
        self.origins.current()
    }

    fn last_until(&self, time: Timestamp) -> Result<Position, HistoryError> {
        self.log.last_until(time)
    }

    fn past(&self, after: Position) -> BoxFuture<'static, ()> {
        self.log.past(after)
    }
}

const fn is_passing(error: &ReadError) -> bool {
    match error {
        ReadError::Storage(error) => is_passing_refusal(error),
        _ => false,
    }
}

/// Whether what the system refused may be granted later.
pub(super) const fn is_passing_refusal(error: &StorageError) -> bool {
    use StorageError::{Full, Io, Locked};
    matches!(error, Io { .. } | Full { .. } | Locked { .. })
}
