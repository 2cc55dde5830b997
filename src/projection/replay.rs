//! Folding without a gateway: the views as they were, and for tools. Nothing has an effect (G7).

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use super::{
    OnBadEvent, Phase, Projection, SharedHistory, StartError, Storage, View, ViewError,
    dead_letters::DeadLetters, deliveries::Deliveries, engine::Engine, metrics::Metrics,
    shared::Shared, subscriptions::Subscriptions, until::Until,
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
    let history = history_until(history, until)?;
    let folding = Folding::in_memory(&history, clock);
    let deliveries = folding.fold(Deliveries)?;
    Ok(Replayed {
        position: deliveries.position(),
        metrics: folding.fold(Metrics)?,
        dead_letters: folding.fold(DeadLetters)?,
        subscriptions: folding.fold(Subscriptions)?,
        deliveries,
    })
}

/// Folds one projection, any, over all of a log into memory.
pub fn fold_all<P: Projection>(
    projection: P,
    history: &SharedHistory,
    clock: &SharedClock,
) -> Result<View<P>, ViewError> {
    Folding::in_memory(history, clock).fold(projection)
}

/// The part of a log up to `until`, as a log that ends there.
pub fn history_until(
    history: SharedHistory,
    until: ReplayUntil,
) -> Result<SharedHistory, ViewError> {
    Ok(Arc::new(Until::new(history, until)?))
}

/// How a tool folds, in its own thread.
#[derive(Clone)]
pub struct Folding<'a> {
    /// What is folded.
    pub history: SharedHistory,
    /// Where the rows go. What stands there already is folded on from.
    pub storage: Storage,
    /// What happens when an event cannot be folded.
    pub policy: OnBadEvent,
    /// For callers that wait with [`View::at`].
    pub clock: SharedClock,
    /// Told after each batch how far it is.
    pub progress: &'a dyn Fn(Position),
}

impl std::fmt::Debug for Folding<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folding")
            .field("history", &self.history)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

impl Folding<'_> {
    fn in_memory(history: &SharedHistory, clock: &SharedClock) -> Self {
        Self {
            history: Arc::clone(history),
            storage: Storage::Memory,
            policy: OnBadEvent::Halt,
            clock: Arc::clone(clock),
            progress: &|_| {},
        }
    }

    /// Folds a projection to the end of the history. The view keeps what it holds.
    ///
    /// # Errors
    /// [`ViewError::Halted`] when an event, the log or the rows keep it from getting there.
    pub fn fold<P: Projection>(&self, projection: P) -> Result<View<P>, ViewError> {
        let place = self.storage.place::<P>();
        let opened = place
            .open()
            .and_then(|opened| place.within(opened, self.history.tip()))
            .map_err(|error| refused::<P>(&error))?;
        let mut engine = Engine::new(
            Box::new(projection),
            place,
            opened,
            self.policy,
            Arc::clone(&self.history),
            Arc::clone(&self.clock),
        );
        while engine.step() {
            (self.progress)(engine.checkpoint.position);
        }
        let view = View::new(Arc::clone(&engine.shared), Arc::clone(&self.clock));
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
}

/// Copies the rows of a projection out of the directory of a gateway that is not running, so that
/// a tool can open them: to open a store is to write to it. Whether there are any. The directories
/// that it makes are for their owner alone.
pub fn copy_rows<P: Projection>(from: &Path, to: &Path) -> io::Result<bool> {
    let name = format!("{}-{}", P::NAME, P::VERSION);
    if !from.join(&name).is_dir() {
        return Ok(false);
    }
    copy_directory(&from.join(&name), &to.join(&name))?;
    Ok(true)
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The rows of a projection as they stand in a directory (see [`copy_rows`]): nothing is mended,
/// deleted or folded. `None` when there are none that a gateway would serve.
///
/// # Errors
/// [`StartError::Rows`] when any are damaged.
pub fn stored_view<P: Projection>(
    directory: &Path,
    history: SharedHistory,
    clock: SharedClock,
) -> Result<Option<View<P>>, StartError> {
    let place = Storage::Directory(directory.to_owned()).place::<P>();
    let opened = place.look()?;
    Ok(opened.map(|mut opened| {
        // Also those that are half built again are rows of where they are.
        opened.checkpoint.mended_at = Position::ZERO;
        let shared = Shared::new(P::NAME, opened.store, opened.checkpoint, history);
        View::new(Arc::new(shared), clock)
    }))
}

fn refused<P: Projection>(error: &StartError) -> ViewError {
    ViewError::Rebuild {
        projection: P::NAME,
        position: Position::ZERO,
        reason: error.to_string(),
    }
}
