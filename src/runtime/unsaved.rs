//! What the log tells since the snapshot: each thing that changed, as it is now. It follows the
//! log, so that a snapshot can be saved without reading the log again, and holds nothing of what
//! did not change.

use std::collections::BTreeMap;

use super::recovery::{Recovered, row_of};
use crate::{
    log::{EventLog, Origin, ReadError, SnapshotStore, StorageError, StreamId},
    model::Position,
};

/// Events after which a snapshot is saved. Reading as many back takes well under a second.
const EVENTS_BETWEEN: u64 = 100_000;
/// What changed rows take in memory when they are saved before that; large ones make more.
const ROWS_BYTES_MAX: usize = 32 << 20;
/// Fewer events than these are not worth writing all changed rows.
const EVENTS_BETWEEN_MIN: u64 = 10_000;
/// What a row takes beside its bytes.
const ROW_OVERHEAD_BYTES: usize = 64;
/// Most things that are held as folded.
const FOLDED_MAX: usize = 512;

/// Changes that are not in the snapshot yet.
#[derive(Debug)]
pub(crate) struct Unsaved {
    /// The position of the snapshot that they are laid over.
    base: Position,
    /// What changed last: few things, for they take much more memory than their rows.
    folded: Recovered,
    /// The rows of what changed before.
    rows: BTreeMap<StreamId, Vec<u8>>,
    rows_bytes: usize,
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
            rows: BTreeMap::new(),
            rows_bytes: 0,
        }
    }

    /// Whether there is anything to save.
    pub(crate) fn is_empty(&self) -> bool {
        self.folded.position == self.base
    }

    /// Whether there is enough that it should be saved.
    pub(crate) fn is_enough(&self) -> bool {
        let events = self.folded.position.distance_from(self.base);
        events >= EVENTS_BETWEEN
            || (events >= EVENTS_BETWEEN_MIN && self.rows_bytes >= ROWS_BYTES_MAX)
    }

    /// Folds in the next events that the log holds by now; says how many. None is left when there
    /// were none, and few are when there were fewer than are read at once. Blocks.
    pub(crate) fn follow(
        &mut self,
        log: &EventLog,
        snapshots: &SnapshotStore,
    ) -> Result<usize, UnsavedError> {
        let mut events = self.folded.read_on(log, Position::MAX)?;
        let Some(last) = events.last().map(|last| last.position) else {
            return Ok(0);
        };
        let count = events.len();
        // Each row is taken up once: none depends on another.
        events.sort_by_key(|recorded| row_of(recorded.stream));
        for recorded in events {
            self.take_up(row_of(recorded.stream), snapshots)?;
            self.folded.fold(&recorded);
        }
        self.folded.position = last;
        Ok(count)
    }

    /// Makes sure that what a row tells is folded in, before an event changes it.
    fn take_up(&mut self, row: StreamId, snapshots: &SnapshotStore) -> Result<(), UnsavedError> {
        if self.folded.has_changed(row) {
            return Ok(());
        }
        if self.folded.changes() >= FOLDED_MAX {
            self.settle();
        }
        let saved = match self.rows.get(&row) {
            // An empty one is of something that was deleted.
            Some(bytes) => Some(bytes.clone()).filter(|bytes| !bytes.is_empty()),
            None => snapshots.saved_row(&row.to_bytes())?,
        };
        match saved {
            Some(saved) => self
                .folded
                .insert_row(&saved)
                .ok_or_else(|| undecodable(row)),
            None => Ok(()),
        }
    }

    /// Makes rows of what is folded.
    fn settle(&mut self) {
        let nothing = Recovered::nothing_at(self.folded.position);
        for (row, bytes) in std::mem::replace(&mut self.folded, nothing).changed_rows() {
            self.rows_bytes += bytes.len() + ROW_OVERHEAD_BYTES;
            if let Some(before) = self.rows.insert(row, bytes) {
                self.rows_bytes -= before.len() + ROW_OVERHEAD_BYTES;
            }
        }
    }

    /// Lays the changes over the snapshot. Blocks.
    pub(crate) fn save(
        &mut self,
        log: &EventLog,
        snapshots: &SnapshotStore,
    ) -> Result<(), UnsavedError> {
        self.settle();
        let rows = std::mem::take(&mut self.rows).into_iter();
        let rows = rows.map(|(row, bytes)| (row.to_bytes().to_vec(), bytes));
        let position = self.folded.position;
        snapshots.save(log, self.base, position, rows.collect())?;
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
            Event, EventType, Subscription, SubscriptionCreated, SubscriptionId,
            SubscriptionPaused, SubscriptionResumed, UnknownEvent, Version,
        },
        testing::MemoryStorage,
    };

    async fn append(log: &EventLog, id: SubscriptionId, event: impl Into<Event>) {
        let stream = StreamId::subscription(id);
        let events = vec![event.into()];
        let append = log.append(stream, ExpectedVersion::Any, events, Urgency::Now);
        append.await.expect("the log takes it");
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
        assert!(unsaved.is_empty());
        assert_eq!(unsaved.follow(&log, &snapshots).unwrap(), 3);
        assert_eq!(unsaved.follow(&log, &snapshots).unwrap(), 0);
        assert!(!unsaved.is_empty());
        unsaved.save(&log, &snapshots).unwrap();
        assert!(unsaved.is_empty());

        append(&log, ids[1], SubscriptionPaused {}).await;
        unsaved.follow(&log, &snapshots).unwrap();
        let held: Vec<_> = unsaved.folded.subscriptions.keys().collect();
        assert_eq!(held, [&ids[1]], "what did not change is not held");
        // What is held as a row is taken up again where it changes again.
        for (id, paused) in [(ids[2], true), (ids[1], false), (ids[0], true)] {
            unsaved.settle();
            let rows = unsaved.rows.values();
            let held: usize = rows.map(|row| row.len() + ROW_OVERHEAD_BYTES).sum();
            assert_eq!(unsaved.rows_bytes, held);
            if paused {
                append(&log, id, SubscriptionPaused {}).await;
            } else {
                append(&log, id, SubscriptionResumed {}).await;
            }
            unsaved.follow(&log, &snapshots).unwrap();
            assert_eq!(unsaved.folded.subscriptions.len(), 1);
        }
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

    #[tokio::test]
    async fn a_snapshot_of_a_program_that_did_not_know_an_event_is_read_past_at_a_start() {
        let storage = Arc::new(MemoryStorage::new());
        let log = EventLog::open_with(storage, LogOptions::default()).unwrap();
        let store = MemoryStorage::new().create(Position::FIRST).unwrap();
        let snapshots = SnapshotStore::open_with(store);
        let newer = Event::Unknown(UnknownEvent {
            event_type: EventType::from_text("api.renamed".to_owned()),
            schema_version: 1,
            payload: bytes::Bytes::from_static(&[0x80]),
        });
        let stream = StreamId::api(crate::model::ApiId::from_uuid(uuid::Uuid::from_u128(1)));
        let append = log.append(stream, ExpectedVersion::Any, vec![newer], Urgency::Now);
        append.await.unwrap();
        let mut unsaved = Unsaved::begin(&log, &snapshots, None).unwrap();
        while unsaved.follow(&log, &snapshots).unwrap() > 0 {}
        unsaved.save(&log, &snapshots).unwrap();

        let again = Recovered::read_again(&log, &snapshots, None).unwrap();
        assert_eq!(again.unknown_from, Some(Position::FIRST));
        assert_eq!(snapshots.position(&log).unwrap(), Some(Position::FIRST));
        let read = Recovered::read(&log, &snapshots).unwrap();
        assert_eq!(read.unknown_from, Some(Position::FIRST), "it is read again");
        assert_eq!(snapshots.position(&log).unwrap(), None);
    }
}
