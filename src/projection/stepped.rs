//! A projection that folds when it is told to, for simulations that own the order of things.

use std::sync::Arc;

use super::{OnBadEvent, Projection, SharedHistory, View, ViewError, engine::Engine, place::Place};
use crate::clock::SharedClock;

/// A projection in memory that folds a batch at a time.
pub(crate) struct Stepped<P> {
    engine: Engine,
    view: View<P>,
}

impl<P: Projection> Stepped<P> {
    /// With nothing folded yet. It halts at an event that cannot be folded.
    pub(crate) fn new(
        projection: P,
        history: &SharedHistory,
        clock: &SharedClock,
    ) -> Result<Self, ViewError> {
        let place = Place::Memory;
        let opened = place.open().map_err(|error| ViewError::Halted {
            projection: P::NAME,
            position: crate::model::Position::ZERO,
            reason: error.to_string(),
        })?;
        let engine = Engine::new(
            Box::new(projection),
            place,
            opened,
            OnBadEvent::Halt,
            Arc::clone(history),
            Arc::clone(clock),
        );
        let view = View::new(Arc::clone(&engine.shared), Arc::clone(clock));
        Ok(Self { engine, view })
    }

    /// Folds at most so many of the events that follow. False when there was none.
    pub(crate) fn step(&mut self, events: usize) -> bool {
        self.engine.batch_events = events;
        self.engine.step()
    }

    /// What is folded so far.
    pub(crate) const fn view(&self) -> &View<P> {
        &self.view
    }
}
