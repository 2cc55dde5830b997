//! What the log tells since the snapshot: each thing that changed, as it is now. It follows the
//! log, so that a snapshot can be saved without reading the log again, and holds nothing of what
//! did not change.

use super::recovery::Recovered;
use crate::{
    log::{EventLog, Origin, ReadError, SnapshotStore, StorageError, StreamId},
    model::Position,
};

/// Changes that are not in the snapshot yet.
#[derive(Debug)]
pub(crate) struct Unsaved {
    /// The position of the snapshot that they are laid over.
    base: Position,
    folded: Recovered,
}

/// Why changes could not be followed or saved. What was folded is not to be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsavedError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The snapshots cannot be read or written.
    #[error(transparent)]
    Snapshots(#[from] StorageError),
}

impl Unsaved {
    /// Begins after the snapshot of this log. Without one that is believed, it begins with the
    /// origin of a cut log, which is saved, or with the log. Blocks.
    pub(crate) fn begin(
        log: &EventLog,
        snapshots: &SnapshotStore,
        origin: Option<&Origin>,
    ) -> Result<Self, UnsavedError> {
        let told = origin.map_or(Position::ZERO, Origin::last);
        let saved = snapshots.position(log)?;
        if let Some(base) = saved.filter(|base| *base >= told) {
            return Ok(Self::after(base));
        }
        // What is saved later must not be laid over rows from before the cut.
        snapshots.discard()?;
        let mut begun = Self::after(Position::ZERO);
        if let Some(origin) = origin {
            begun.folded = Recovered::of_origin(origin)?;
            begun.save(log, snapshots)?;
        }
        Ok(begun)
    }

    fn after(base: Position) -> Self {
        Self {
            base,
            folded: Recovered::nothing_at(base),
        }
    }

    /// How many events are folded in and not saved.
    pub(crate) const fn events(&self) -> u64 {
        self.folded.position.distance_from(self.base)
    }

    /// Folds in what the log holds by now, or as many events as make `events_max` unsaved ones.
    /// Blocks.
    pub(crate) fn follow(
        &mut self,
        log: &EventLog,
        snapshots: &SnapshotStore,
        events_max: u64,
    ) -> Result<(), UnsavedError> {
        let end = self.base.plus(events_max);
        self.folded.catch_up_to(log, end, |folded, row| {
            if folded.has_changed(row) {
                return Ok(());
            }
            match snapshots.saved_row(&row.to_bytes())? {
                Some(saved) => folded.insert_row(&saved).ok_or_else(|| undecodable(row)),
                None => Ok(()),
            }
        })
    }

    /// Lays the changes over the snapshot. Blocks.
    pub(crate) fn save(
        &mut self,
        log: &EventLog,
        snapshots: &SnapshotStore,
    ) -> Result<(), UnsavedError> {
        let position = self.folded.position;
        let rows = self.folded.changed_rows();
        snapshots.save(log, self.base, position, rows)?;
        *self = Self::after(position);
        Ok(())
    }
}

fn undecodable(row: StreamId) -> UnsavedError {
    UnsavedError::Snapshots(StorageError::Corrupt {
        what: format!("the row of {row} in a snapshot"),
        reason: "it cannot be decoded".to_owned(),
    })
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        log::{ExpectedVersion, LogOptions, Storage, Urgency},
        model::{
            Event, Subscription, SubscriptionCreated, SubscriptionId, SubscriptionPaused, Version,
        },
        testing::MemoryStorage,
    };

    async fn append(log: &EventLog, id: SubscriptionId, event: impl Into<Event>) {
        let stream = StreamId::subscription(id);
        let events = vec![event.into()];
        let append = log.append(stream, ExpectedVersion::Any, events, Urgency::Now);
        append.await.unwrap();
    }

    #[tokio::test]
    async fn snapshots_laid_over_each_other_tell_what_the_whole_log_tells() {
        let storage = Arc::new(MemoryStorage::new());
        let log = EventLog::open_with(storage, LogOptions::default()).unwrap();
        let store = || MemoryStorage::new().create(Position::FIRST).unwrap();
        let snapshots = SnapshotStore::open_with(store());
        let ids = [1, 2, 3].map(|id| SubscriptionId::from_uuid(uuid::Uuid::from_u128(id)));
        for id in ids {
            let subscription = Subscription::to("https://example.com/hook").unwrap();
            let created = SubscriptionCreated {
                subscription: Box::new(Subscription { id, ..subscription }),
                cursor: Version::ZERO,
            };
            append(&log, id, created).await;
        }
        let mut unsaved = Unsaved::begin(&log, &snapshots, None).unwrap();
        unsaved.follow(&log, &snapshots, 2).unwrap();
        assert_eq!(unsaved.events(), 2);
        unsaved.save(&log, &snapshots).unwrap();
        unsaved.follow(&log, &snapshots, 100).unwrap();
        unsaved.save(&log, &snapshots).unwrap();
        assert_eq!(unsaved.events(), 0);

        append(&log, ids[1], SubscriptionPaused {}).await;
        unsaved.follow(&log, &snapshots, 100).unwrap();
        let held: Vec<_> = unsaved.folded.subscriptions.keys().collect();
        assert_eq!(held, [&ids[1]], "what did not change is not held");
        unsaved.save(&log, &snapshots).unwrap();
        assert_eq!(snapshots.position(&log).unwrap(), Some(log.head()));

        let none = SnapshotStore::open_with(store());
        let whole = Recovered::read(&log, &none).unwrap();
        let saved = Recovered::read(&log, &snapshots).unwrap();
        for id in ids {
            let (saved, whole) = (&saved.subscriptions[&id], &whole.subscriptions[&id]);
            assert_eq!(saved.state, whole.state);
            assert_eq!(saved.version, whole.version);
        }
    }
}
