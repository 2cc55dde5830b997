//! Saves what recovery would find, so that a start does not read the whole history.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::recovery::Recovered;
use crate::log::{EventLog, OriginStore, ReadError, SnapshotStore};

/// Events after which a snapshot is saved. Reading as many back takes well under a second.
const EVENTS_BETWEEN: u64 = 100_000;
/// How long the thread waits before it looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Saves snapshots, one at a time: each holds what changed since the one before.
pub(super) struct Saver {
    log: EventLog,
    snapshots: SnapshotStore,
    origins: Arc<OriginStore>,
    turn: Mutex<()>,
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
            turn: Mutex::new(()),
        }
    }

    /// Saves what the log tells by now, and gives it. A snapshot is a cache: one that cannot be
    /// saved costs the next start time and nothing else. Blocks.
    pub(super) fn save(&self) -> Result<Recovered, ReadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = self.origins.current();
        let recovered = Recovered::read_after(&self.log, &self.snapshots, origin.as_deref())?;
        let rows = recovered.changed_rows();
        let saved = self.snapshots.save(&self.log, recovered.position, rows);
        if let Err(error) = saved {
            tracing::warn!(%error, "no snapshot was saved");
        }
        Ok(recovered)
    }

    fn try_save(&self) {
        if let Err(error) = self.save() {
            tracing::warn!(%error, "no snapshot was saved");
        }
    }
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
                let mut last_saved = saver.log.head();
                let mut watch = saver.log.watch();
                while !stopped.load(Ordering::Acquire) {
                    watch.wait_timeout(LOOK_EVERY);
                    if saver.log.head().distance_from(last_saved) >= EVENTS_BETWEEN {
                        last_saved = saver.log.head();
                        saver.try_save();
                    }
                }
                if save_last.load(Ordering::Acquire) {
                    saver.try_save();
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
        if self.thread.join().is_err() {
            tracing::error!("the thread that saves snapshots panicked; the next start reads more");
        }
    }
}
