//! Saves what recovery would find, so that a start does not read the whole history.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::recovery::Recovered;
use crate::log::{EventLog, SnapshotStore};

/// Events after which a snapshot is saved. Reading as many back takes well under a second.
const EVENTS_BETWEEN: u64 = 100_000;
/// How long the thread waits before it looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The thread that saves snapshots.
pub(super) struct Snapshotter {
    stop: Arc<AtomicBool>,
    #[cfg(feature = "testing")]
    last: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Snapshotter {
    /// Starts it.
    pub(super) fn start(log: EventLog, snapshots: SnapshotStore) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicBool::new(true));
        let (stopped, save_last) = (Arc::clone(&stop), Arc::clone(&last));
        let thread = thread::Builder::new()
            .name("hooklog-snapshots".to_owned())
            .spawn(move || {
                let mut saved = log.head();
                let mut watch = log.watch();
                while !stopped.load(Ordering::Acquire) {
                    watch.wait_timeout(LOOK_EVERY);
                    if log.head().distance_from(saved) >= EVENTS_BETWEEN {
                        saved = log.head();
                        save(&log, &snapshots);
                    }
                }
                if save_last.load(Ordering::Acquire) {
                    save(&log, &snapshots);
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

/// A snapshot is a cache: one that cannot be saved costs the next start time and nothing else.
fn save(log: &EventLog, snapshots: &SnapshotStore) {
    match Recovered::read(log, snapshots) {
        Ok(recovered) => {
            let rows = recovered.changed_rows();
            if let Err(error) = snapshots.save(log, recovered.position, rows) {
                tracing::warn!(%error, "no snapshot was saved");
            }
        }
        Err(error) => tracing::warn!(%error, "no snapshot was saved"),
    }
}
