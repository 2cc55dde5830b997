//! A log in memory, for tests of projections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    log::RecordedEvent,
    model::{Draws, Moment, Position, Timestamp},
    projection::{Batch, History, HistoryError},
};

/// Recorded events in memory. More can be added while projections follow.
#[derive(Debug)]
pub struct MemoryHistory {
    events: Mutex<Vec<Arc<RecordedEvent>>>,
    tip: watch::Sender<Position>,
    batches: Option<Mutex<Draws>>,
}

impl MemoryHistory {
    /// A log of these events, whose positions run from 1 without a gap.
    pub fn new(events: Vec<Arc<RecordedEvent>>) -> Self {
        let log = Self {
            events: Mutex::new(Vec::new()),
            tip: watch::Sender::new(Position::ZERO),
            batches: None,
        };
        log.extend(events);
        log
    }

    /// The same log, which gives out random numbers of events at a time.
    #[must_use]
    pub fn in_random_batches(mut self, seed: u64) -> Self {
        let moment = Moment::new(Timestamp::EPOCH, seed.into());
        self.batches = Some(Mutex::new(moment.draws()));
        self
    }

    /// Adds events at the end.
    pub fn extend(&self, more: impl IntoIterator<Item = Arc<RecordedEvent>>) {
        let mut events = unpoisoned(&self.events);
        events.extend(more);
        let gapless = events
            .iter()
            .zip(1..)
            .all(|(event, n)| event.position.get() == n);
        assert!(gapless, "positions run from 1 without a gap");
        let tip = events.last().map_or(Position::ZERO, |event| event.position);
        drop(events);
        self.tip.send_replace(tip);
    }
}

impl History for MemoryHistory {
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        let limit = match &self.batches {
            Some(draws) => {
                let bound = u64::try_from(limit.min(300)).unwrap_or(300);
                usize::try_from(1 + unpoisoned(draws).below(bound)).unwrap_or(1)
            }
            None => limit,
        };
        let skip = usize::try_from(after.get()).unwrap_or(usize::MAX);
        let events = unpoisoned(&self.events);
        let events = events.iter().skip(skip).take(limit).cloned().collect();
        Ok(Batch::new(after, events))
    }

    fn tip(&self) -> Position {
        *self.tip.borrow()
    }

    fn past(&self, after: Position) -> BoxFuture<'static, ()> {
        let mut tip = self.tip.subscribe();
        Box::pin(async move {
            if tip.wait_for(|tip| *tip > after).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
