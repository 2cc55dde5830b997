//! The built-in views as they were: history read again into memory, with no effect (G7).

use std::sync::Arc;

use super::{
    OnBadEvent, Phase, Projection, SharedHistory, StartError, View, ViewError,
    dead_letters::DeadLetters, deliveries::Deliveries, engine::Engine, metrics::Metrics,
    place::Place, subscriptions::Subscriptions, until::Until,
};
use crate::{clock::SharedClock, model::Position};

pub use super::until::ReplayUntil;

/// The built-in views as of some position or time.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The webhook log.
    pub deliveries: View<Deliveries>,
    /// Counters and series.
    pub metrics: View<Metrics>,
    /// Dead letters.
    pub dead_letters: View<DeadLetters>,
    /// APIs, applications and subscriptions.
    pub subscriptions: View<Subscriptions>,
    /// The last event they contain.
    pub position: Position,
}

/// Folds the built-in projections over the log up to `until`, in memory and in this thread. The
/// same log and the same `until` give the same rows. Strict: an event that cannot be folded is an
/// error.
///
/// Views keep what they hold; they do not follow the log. The clock is for callers that wait with
/// [`View::at`].
pub fn replay(
    history: SharedHistory,
    until: ReplayUntil,
    clock: &SharedClock,
) -> Result<Replayed, ViewError> {
    let history: SharedHistory = Arc::new(Until::new(history, until)?);
    let deliveries = fold_all(Deliveries, &history, clock)?;
    Ok(Replayed {
        position: deliveries.position(),
        metrics: fold_all(Metrics, &history, clock)?,
        dead_letters: fold_all(DeadLetters, &history, clock)?,
        subscriptions: fold_all(Subscriptions, &history, clock)?,
        deliveries,
    })
}

/// Folds one projection, any, over all of a log into memory.
pub fn fold_all<P: Projection>(
    projection: P,
    history: &SharedHistory,
    clock: &SharedClock,
) -> Result<View<P>, ViewError> {
    let opened = Place::Memory.open().map_err(|error| refused::<P>(&error))?;
    let mut engine = Engine::new(
        Box::new(projection),
        Place::Memory,
        opened,
        OnBadEvent::Halt,
        Arc::clone(history),
        Arc::clone(clock),
    );
    while engine.step() {}
    let view = View::new(Arc::clone(&engine.shared), Arc::clone(clock));
    match view.phase() {
        Phase::Halted(halt) => Err(ViewError::Halted {
            projection: P::NAME,
            position: halt.position,
            reason: halt.reason,
        }),
        // Nobody waits here until it passes.
        Phase::Waiting { reason } => Err(ViewError::Halted {
            projection: P::NAME,
            position: view.position().next(),
            reason,
        }),
        Phase::Running | Phase::Stopped => Ok(view),
    }
}

fn refused<P: Projection>(error: &StartError) -> ViewError {
    ViewError::Rebuild {
        projection: P::NAME,
        position: Position::ZERO,
        reason: error.to_string(),
    }
}
