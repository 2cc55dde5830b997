//! Saves what recovery would find, so that a start does not read the whole history.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    recovery::Recovered,
    unsaved::{Unsaved, UnsavedError},
};
use crate::{
    log::{EventLog, OriginStore, ReadError, SnapshotStore},
    model::Position,
};

/// Events after which it is tried again to save what could not be saved.
const EVENTS_BEFORE_AGAIN: u64 = 100_000;
/// How long the thread waits before it looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it lets events gather: the log holds the newest in memory for longer.
const GATHERS_FOR: Duration = Duration::from_millis(20);

/// Saves snapshots, one at a time: each holds what changed since the one before.
pub(super) struct Saver {
    log: EventLog,
    snapshots: SnapshotStore,
    origins: Arc<OriginStore>,
    /// What changed since the last one. `None` before it is first asked for, and after it could
    /// not go on.
    unsaved: Mutex<Option<Unsaved>>,
}

impl Saver {
    /// Saves snapshots of this log.
    pub(super) const fn new(
        log: EventLog,
        snapshots: SnapshotStore,
        origins: Arc<OriginStore>,
    ) -> Self {
        Self {
            log,
            snapshots,
            origins,
            unsaved: Mutex::new(None),
        }
    }

    /// Everything that the log tells by now, beginning with a new snapshot. Blocks.
    pub(super) fn recovered(&self) -> Result<Recovered, ReadError> {
        self.try_save(When::Now);
        let origin = self.origins.current();
        Recovered::read_after(&self.log, &self.snapshots, origin.as_deref())
    }

    /// Follows the log, and saves what it tells when there is enough of it, or now; says whether
    /// it could. A snapshot is a cache: one that cannot be saved costs the next start time and
    /// nothing else.
    fn try_save(&self, when: When) -> bool {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back once all went well.
        let followed = self.follow(unsaved.take(), when);
        match followed {
            Ok(followed) => {
                *unsaved = Some(followed);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot was saved");
                false
            }
        }
    }

    fn follow(&self, unsaved: Option<Unsaved>, when: When) -> Result<Unsaved, UnsavedError> {
        let origin = self.origins.current();
        let begin = || Unsaved::begin(&self.log, &self.snapshots, origin.as_deref());
        let mut unsaved = unsaved.map_or_else(begin, Ok)?;
        loop {
            let more = unsaved.follow(&self.log, &self.snapshots)?;
            let is_last = when == When::Now && !more && !unsaved.is_empty();
            if is_last || unsaved.is_enough() {
                unsaved.save(&self.log, &self.snapshots)?;
            }
            if !more {
                return Ok(unsaved);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Enough,
    Now,
}

/// The thread that saves snapshots.
pub(super) struct Snapshotter {
    stop: Arc<AtomicBool>,
    #[cfg(feature = "testing")]
    last: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Snapshotter {
    /// Starts it.
    pub(super) fn start(saver: Arc<Saver>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicBool::new(true));
        let (stopped, save_last) = (Arc::clone(&stop), Arc::clone(&last));
        let thread = thread::Builder::new()
            .name("hooklog-snapshots".to_owned())
            .spawn(move || {
                let mut watch = saver.log.watch();
                // After what could not be saved it is tried again with the next events.
                let mut follows_from = Position::ZERO;
                while !stopped.load(Ordering::Acquire) {
                    if saver.log.head() >= follows_from && !saver.try_save(When::Enough) {
                        follows_from = saver.log.head().plus(EVENTS_BEFORE_AGAIN);
                    }
                    watch.wait_timeout(LOOK_EVERY);
                    thread::park_timeout(GATHERS_FOR);
                }
                if save_last.load(Ordering::Acquire) {
                    saver.try_save(When::Now);
                }
            })?;
        Ok(Self {
            stop,
            #[cfg(feature = "testing")]
            last,
            thread,
        })
    }

    /// Ends without a last snapshot. Blocks until that is done.
    #[cfg(feature = "testing")]
    pub(super) fn abandon(self) {
        self.last.store(false, Ordering::Release);
        self.stop();
    }

    /// Saves a last snapshot and ends. Blocks until that is done.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that saves snapshots panicked; the next start reads more");
        }
    }
}
