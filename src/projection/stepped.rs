//! A projection that folds when it is told to, for simulations that own the order of things.

use std::sync::Arc;

use super::{
    OnBadEvent, Projection, SharedHistory, View,
    engine::Engine,
    place::{Opened, Place},
};
use crate::clock::SharedClock;

/// A projection in memory that folds a batch at a time.
pub(crate) struct Stepped<P> {
    engine: Engine,
    view: View<P>,
}

impl<P: Projection> Stepped<P> {
    /// With nothing folded yet. It halts at an event that cannot be folded.
    pub(crate) fn new(projection: P, history: &SharedHistory, clock: &SharedClock) -> Self {
        let engine = Engine::new(
            Box::new(projection),
            Place::Memory,
            Opened::empty_in_memory(),
            OnBadEvent::Halt,
            Arc::clone(history),
            Arc::clone(clock),
        );
        let view = View::new(Arc::clone(&engine.shared), Arc::clone(clock));
        Self { engine, view }
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
