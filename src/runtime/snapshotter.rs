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
    recovery::{READ_EVENTS, Recovered},
    unsaved::{Unsaved, UnsavedError},
};
use crate::log::{EventLog, OriginStore, ReadError, SnapshotStore, StorageError};

/// How long the thread waits before it looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it lets events gather: the log holds the newest in memory for longer.
const GATHERS_FOR: Duration = Duration::from_millis(50);
/// Most reads of the log for one snapshot once the gateway ends: together they take about a second.
/// After a start that found none it is further behind, and the end does not wait until all is read again.
const LAST_READS: usize = 16;
/// How long it rests after it could not go on.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// Saves snapshots, one at a time: each holds what changed since the one before.
pub(super) struct Saver {
    log: EventLog,
    snapshots: SnapshotStore,
    origins: Arc<OriginStore>,
    /// What changed since the last one. `None` before it is first asked for, and after it could
    /// not go on.
    unsaved: Mutex<Option<Unsaved>>,
    /// Whether the gateway ends.
    ends: AtomicBool,
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
            ends: AtomicBool::new(false),
        }
    }

    /// Everything that the log tells by now, beginning with a new snapshot. Blocks.
    pub(super) fn recovered(&self) -> Result<Recovered, ReadError> {
        self.save();
        let origin = self.origins.current();
        Recovered::read_again(&self.log, &self.snapshots, origin.as_deref())
    }

    /// Saves what the log tells by now, or a part of it where the gateway ends and that is much. A
    /// snapshot is a cache: one that cannot be saved costs the next start time and nothing else.
    fn save(&self) {
        self.try_to(|unsaved| {
            let mut reads = 0;
            while reads < LAST_READS || !self.ends.load(Ordering::Acquire) {
                if unsaved.follow(&self.log, &self.snapshots)? == 0 {
                    break;
                }
                self.save_enough(unsaved)?;
                reads += 1;
            }
            if unsaved.is_empty() {
                Ok(())
            } else {
                unsaved.save(&self.log, &self.snapshots)
            }
        });
    }

    /// Follows the log for one step, and saves what it tells when there is enough of it. Says
    /// whether it fell behind; `None` when it could not go on.
    fn step(&self) -> Option<bool> {
        self.try_to(|unsaved| {
            let events = unsaved.follow(&self.log, &self.snapshots)?;
            self.save_enough(unsaved)?;
            Ok(events >= READ_EVENTS)
        })
    }

    fn save_enough(&self, unsaved: &mut Unsaved) -> Result<(), UnsavedError> {
        if unsaved.is_enough() {
            unsaved.save(&self.log, &self.snapshots)?;
        }
        Ok(())
    }

    fn try_to<T>(&self, work: impl FnOnce(&mut Unsaved) -> Result<T, UnsavedError>) -> Option<T> {
        let mut place = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back once all went well.
        let unsaved = place.take();
        let origin = self.origins.current();
        let begin = || Unsaved::begin(&self.log, &self.snapshots, origin.as_deref());
        let worked = unsaved.map_or_else(begin, Ok).and_then(|mut unsaved| {
            let done = work(&mut unsaved)?;
            Ok((unsaved, done))
        });
        match worked {
            Ok((unsaved, done)) => {
                *place = Some(unsaved);
                Some(done)
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot was saved");
                if let UnsavedError::Snapshots(StorageError::Corrupt { .. }) = error
                    && let Err(error) = self.snapshots.discard()
                {
                    tracing::warn!(%error, "the snapshot cannot be thrown away");
                }
                None
            }
        }
    }
}

/// The thread that saves snapshots.
pub(super) struct Snapshotter {
    saver: Arc<Saver>,
    #[cfg(feature = "testing")]
    last: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Snapshotter {
    /// Starts it.
    pub(super) fn start(saver: Arc<Saver>) -> std::io::Result<Self> {
        let last = Arc::new(AtomicBool::new(true));
        let (save_last, working) = (Arc::clone(&last), Arc::clone(&saver));
        let thread = thread::Builder::new()
            .name("hooklog-snapshots".to_owned())
            .spawn(move || {
                let mut watch = working.log.watch();
                let runs = || !working.ends.load(Ordering::Acquire);
                while runs() {
                    match working.step() {
                        Some(true) => {}
                        Some(false) => {
                            watch.wait_timeout(LOOK_EVERY);
                            if runs() {
                                thread::park_timeout(GATHERS_FOR);
                            }
                        }
                        None if runs() => thread::park_timeout(FAILED_PAUSE),
                        None => {}
                    }
                }
                if save_last.load(Ordering::Acquire) {
                    working.save();
                }
            })?;
        Ok(Self {
            saver,
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

    /// Saves a last snapshot, of a part where it is far behind, and ends. Blocks until that is done.
    pub(super) fn stop(self) {
        self.saver.ends.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread that saves snapshots panicked; the next start reads more");
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        log::{ExpectedVersion, LogOptions, Storage, StreamId, Urgency},
        model::{
            Event, Position, Subscription, SubscriptionCreated, SubscriptionId, SubscriptionPaused,
            SubscriptionResumed, Version,
        },
        testing::MemoryStorage,
    };

    #[tokio::test]
    async fn the_last_snapshot_of_a_log_that_is_far_ahead_is_of_a_part_of_it() {
        let storage = Arc::new(MemoryStorage::new());
        let log = EventLog::open_with(storage, LogOptions::default()).unwrap();
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(1));
        let subscription = Subscription::to("https://example.com/hook").unwrap();
        let created = SubscriptionCreated {
            subscription: Box::new(Subscription { id, ..subscription }),
            cursor: Version::ZERO,
        };
        let append = async |events: Vec<Event>| {
            let stream = StreamId::subscription(id);
            let append = log.append(stream, ExpectedVersion::Any, events, Urgency::Now);
            append.await.unwrap();
        };
        append(vec![created.into()]).await;
        let changes: [Event; 2] = [SubscriptionPaused {}.into(), SubscriptionResumed {}.into()];
        while log.head().get() <= (LAST_READS * READ_EVENTS) as u64 {
            append(changes.iter().cloned().cycle().take(8_000).collect()).await;
        }
        let snapshots =
            SnapshotStore::open_with(MemoryStorage::new().create(Position::FIRST).unwrap());
        let nowhere = tempfile::tempdir().unwrap();
        let origins = Arc::new(OriginStore::open(nowhere.path()).unwrap());
        let saver = Saver::new(log.clone(), snapshots.clone(), origins);
        saver.ends.store(true, Ordering::Release);
        saver.save();
        let reached = snapshots.position(&log).unwrap().unwrap();
        assert!(
            reached > Position::ZERO && reached < log.head(),
            "{reached}"
        );
        // The next goes on from there.
        saver.save();
        assert_eq!(snapshots.position(&log).unwrap(), Some(log.head()));
    }
}
