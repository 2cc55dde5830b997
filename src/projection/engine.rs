//! One projection at work: a thread that reads the log after its checkpoint, folds a batch,
//! commits rows and checkpoint together, and tells who waits.

use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::{
    Erased, OnBadEvent, RowError, StartError, ViewError,
    checkpoint::Checkpoint,
    fold::{Folded, fold},
    place::{Opened, Place},
    shared::{Halt, Phase, Shared},
    store::RowStore,
};
use crate::model::Position;

/// Most events in one batch: enough that a commit's fixed price is spread thin.
const BATCH_EVENTS: usize = 1_024;
/// Batches between two flushes while there is work. What was not flushed is folded again.
const FLUSH_BATCHES: u32 = 64;
/// How often damaged rows are built again before the projection gives up.
const REPAIRS_MAX: u32 = 3;

/// The state of the thread.
pub(super) struct Engine {
    pub(super) projection: Box<dyn Erased>,
    pub(super) place: Place,
    pub(super) policy: OnBadEvent,
    pub(super) shared: Arc<Shared>,
    pub(super) checkpoint: Checkpoint,
    pub(super) generation: u64,
    pub(super) batch_events: usize,
    beside: Option<Rebuild>,
    unflushed: u32,
    repairs: u32,
    caught_up_once: bool,
}

/// A second set of rows that is filled while the first serves.
struct Rebuild {
    store: Box<dyn RowStore>,
    checkpoint: Checkpoint,
    generation: u64,
    answers: Vec<oneshot::Sender<Result<Position, ViewError>>>,
}

impl Engine {
    /// An engine over opened rows; it answers through the `Shared` it returns.
    pub(super) fn new(
        projection: Box<dyn Erased>,
        place: Place,
        opened: Opened,
        policy: OnBadEvent,
        history: super::SharedHistory,
    ) -> Self {
        let shared = Shared::new(projection.name(), opened.store, opened.checkpoint, history);
        Self {
            projection,
            place,
            policy,
            shared: Arc::new(shared),
            checkpoint: opened.checkpoint,
            generation: opened.generation,
            batch_events: BATCH_EVENTS,
            beside: None,
            unflushed: 0,
            repairs: 0,
            caught_up_once: false,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let waiting = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers needs no resources");
        while !self.shared.orders.is_stopped() {
            self.take_orders();
            let worked = self.step();
            let rebuilt = self.step_rebuild();
            if worked || rebuilt {
                continue;
            }
            self.flush();
            let shared = Arc::clone(&self.shared);
            let position = self.checkpoint.position;
            let halted = shared.phase().is_halted();
            waiting.block_on(async {
                tokio::select! {
                    () = shared.orders.given() => {}
                    () = shared.history.past(position), if !halted => {}
                }
            });
        }
        if self.checkpoint.position >= self.shared.history.tip() {
            self.caught_up();
        }
        self.flush();
        self.shared.stopped();
    }

    fn take_orders(&mut self) {
        if self.shared.orders.take_repair() {
            self.repair(&RowError::Damaged("a view met damage".to_owned()));
        }
        let answers = self.shared.orders.take_rebuilds();
        if answers.is_empty() {
            return;
        }
        if let Some(beside) = &mut self.beside {
            beside.answers.extend(answers);
            return;
        }
        match self.place.fresh(self.generation + 1, false) {
            Ok(opened) => {
                self.beside = Some(Rebuild {
                    store: opened.store,
                    checkpoint: opened.checkpoint,
                    generation: opened.generation,
                    answers,
                });
            }
            Err(error) => self.refuse(answers, Position::ZERO, &error.to_string()),
        }
    }

    /// Folds the next batch into the live rows; false when there is nothing to do.
    pub(super) fn step(&mut self) -> bool {
        if self.shared.phase().is_halted() {
            return false;
        }
        let position = self.checkpoint.position;
        let batch = self.shared.history.read_after(position, self.batch_events);
        let batch = match batch {
            Ok(batch) if batch.reached <= position => {
                self.caught_up();
                return false;
            }
            Ok(batch) => batch,
            Err(error) => {
                self.halt(self.checkpoint.position.next(), error.to_string());
                return false;
            }
        };
        let folded = {
            let store = self.shared.read();
            fold(
                self.projection.as_ref(),
                store.as_ref(),
                self.checkpoint,
                &batch,
                self.policy,
            )
        };
        match folded.and_then(|folded| self.commit(folded)) {
            Ok(()) => true,
            Err(error) => {
                self.repair(&error);
                true
            }
        }
    }

    fn commit(&mut self, folded: Folded) -> Result<(), RowError> {
        self.shared.write().commit(folded.changes)?;
        self.checkpoint = folded.checkpoint;
        self.shared.reached(self.checkpoint);
        self.unflushed += 1;
        if self.unflushed >= FLUSH_BATCHES {
            self.flush();
        }
        if let Some(bad) = folded.halted {
            self.halt(bad.position, bad.reason);
        }
        Ok(())
    }

    /// The old version's rows are of no use to anyone once these have caught up.
    fn caught_up(&mut self) {
        self.repairs = 0;
        if !self.caught_up_once {
            self.caught_up_once = true;
            self.place.remove_other_versions();
        }
    }

    fn halt(&mut self, position: Position, reason: String) {
        tracing::error!(projection = self.projection.name(), %position, reason, "projection halted");
        self.shared.enter(Phase::Halted(Halt { position, reason }));
    }

    fn flush(&mut self) {
        if self.unflushed == 0 {
            return;
        }
        self.unflushed = 0;
        if let Err(error) = self.shared.read().flush() {
            let projection = self.projection.name();
            tracing::warn!(projection, %error, "rows could not be flushed");
        }
    }

    /// Throws the live rows away and begins again.
    fn repair(&mut self, error: &RowError) {
        self.repairs += 1;
        let next = self.checkpoint.position.next();
        if !error.is_damage() || self.repairs > REPAIRS_MAX {
            return self.halt(next, error.to_string());
        }
        tracing::warn!(projection = self.projection.name(), %error, "rows are built again");
        let old = self.generation;
        let newest = self.beside.as_ref().map_or(old, |beside| beside.generation);
        match self.place.fresh(newest + 1, true) {
            Ok(opened) => {
                self.swap(opened);
                self.place.remove(old);
            }
            Err(error) => self.halt(next, error.to_string()),
        }
    }

    fn swap(&mut self, opened: Opened) {
        *self.shared.write() = opened.store;
        self.checkpoint = opened.checkpoint;
        self.generation = opened.generation;
        self.shared.reached(self.checkpoint);
        self.shared.enter(Phase::Running);
    }

    /// Folds the next batch into the rows beside; strict: a bad event ends the rebuild.
    fn step_rebuild(&mut self) -> bool {
        let Some(mut beside) = self.beside.take() else {
            return false;
        };
        match self.fold_beside(&mut beside) {
            Ok(true) => self.beside = Some(beside),
            Ok(false) => self.finish_rebuild(beside),
            Err((position, reason)) => {
                drop(beside.store);
                self.place.remove(beside.generation);
                self.refuse(beside.answers, position, &reason);
            }
        }
        true
    }

    /// Whether there is more to fold.
    fn fold_beside(&self, beside: &mut Rebuild) -> Result<bool, (Position, String)> {
        let at = beside.checkpoint.position;
        let failed = |reason: String| (at.next(), reason);
        let history = &self.shared.history;
        let batch = history
            .read_after(at, self.batch_events)
            .map_err(|error| failed(error.to_string()))?;
        if batch.reached <= at {
            return Ok(false);
        }
        let folded = fold(
            self.projection.as_ref(),
            beside.store.as_ref(),
            beside.checkpoint,
            &batch,
            OnBadEvent::Halt,
        )
        .map_err(|error| failed(error.to_string()))?;
        if let Some(bad) = folded.halted {
            return Err((bad.position, bad.reason));
        }
        beside.checkpoint = folded.checkpoint;
        let committed = beside.store.commit(folded.changes);
        committed.map_err(|error| failed(error.to_string()))?;
        Ok(true)
    }

    /// Marks the new rows as ready, serves them, deletes the old ones.
    fn finish_rebuild(&mut self, mut beside: Rebuild) {
        beside.checkpoint.ready = true;
        let marked = beside
            .store
            .commit(beside.checkpoint.as_change())
            .and_then(|()| beside.store.flush());
        if let Err(error) = marked {
            let position = beside.checkpoint.position;
            drop(beside.store);
            self.place.remove(beside.generation);
            return self.refuse(beside.answers, position, &error.to_string());
        }
        let old = self.generation;
        self.swap(Opened {
            store: beside.store,
            checkpoint: beside.checkpoint,
            generation: beside.generation,
        });
        self.place.remove(old);
        for answer in beside.answers {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(Ok(self.checkpoint.position));
        }
    }

    fn refuse(
        &self,
        answers: Vec<oneshot::Sender<Result<Position, ViewError>>>,
        position: Position,
        reason: &str,
    ) {
        for answer in answers {
            let _ = answer.send(Err(ViewError::Rebuild {
                projection: self.projection.name(),
                position,
                reason: reason.to_owned(),
            }));
        }
    }
}

impl Engine {
    /// Starts the thread.
    pub(super) fn spawn(self) -> Result<std::thread::JoinHandle<()>, StartError> {
        let name = self.projection.name();
        std::thread::Builder::new()
            .name(format!("projection-{name}"))
            .spawn(move || self.run())
            .map_err(|source| StartError::Thread { name, source })
    }
}

/// A lock is poisoned only by a panic, and no code under these locks leaves them half changed.
pub(super) fn unpoisoned<G>(guard: Result<G, PoisonError<G>>) -> G {
    guard.unwrap_or_else(PoisonError::into_inner)
}
