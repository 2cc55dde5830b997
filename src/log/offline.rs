//! Writing a log anew from events that were recorded before, as they were.

use std::{collections::HashMap, path::Path, sync::Arc};

use crate::model::{Position, Timestamp, Version};

use super::{
    AppendError, AppendRequest, Durability, ExpectedVersion, LogOptions, OpenError, RecordedEvent,
    StorageError, StreamAppend, StreamId, core::LogCore, sled_storage::DirectoryStorage,
    storage::Storage,
};

/// The furthest position and version of what was recorded elsewhere: as many again may follow.
const FURTHEST: u64 = u64::MAX / 2;

/// Events that do not follow each other as those of a log do, or cannot be written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// Positions have no gaps (G1) but where a repair says so.
    #[error("position {found} stands where {expected} must follow")]
    Position {
        /// The position that must follow.
        expected: Position,
        /// The one that stands there.
        found: Position,
    },
    /// Nor have the versions of a stream (G1).
    #[error("version {found} of stream {stream} stands where {expected} must follow")]
    Version {
        /// The stream.
        stream: StreamId,
        /// The version that must follow.
        expected: Version,
        /// The one that stands there.
        found: Version,
    },
    /// Times never go back along positions.
    #[error("time {found} is before {before}, the time of the event at the position below")]
    Time {
        /// The time of the event before.
        before: Timestamp,
        /// The time that stands there.
        found: Timestamp,
    },
    /// A log that begins so far on would soon have no number left.
    #[error(
        "position {position}, version {version} of stream {stream}: neither may be beyond {FURTHEST}"
    )]
    TooFar {
        /// The position.
        position: Position,
        /// The stream.
        stream: StreamId,
        /// The version.
        version: Version,
    },
    /// The log did not take an event.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be made durable.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where a log begins: its first position, and how far the streams it holds had come by then. It is
/// the very beginning, or where retention had cut the log that the events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStart {
    first: Position,
    heads: HashMap<StreamId, Version>,
}

/// Holds events, in the order of their positions, against what a log promises.
#[derive(Debug, Default)]
pub struct Sequence {
    first: Option<Position>,
    last: Position,
    time: Option<Timestamp>,
    /// How far each stream had come before its first event here.
    start: HashMap<StreamId, Version>,
    heads: HashMap<StreamId, Version>,
}

impl Sequence {
    /// Takes the next event in, if it follows.
    pub fn follow(&mut self, event: &RecordedEvent) -> Result<(), OfflineError> {
        let (position, stream, version) = (event.position, event.stream, event.version);
        let expected = match self.first {
            Some(_) => self.last.next(),
            None => position.max(Position::FIRST),
        };
        if position != expected && !is_behind_given_up(event, expected) {
            return Err(OfflineError::Position {
                expected,
                found: position,
            });
        }
        let expected = match self.heads.get(&stream) {
            Some(head) => head.next(),
            // The events before were dropped with those of the positions before.
            None if self.first.unwrap_or(position) > Position::FIRST => version.max(Version::FIRST),
            None => Version::FIRST,
        };
        if version != expected {
            return Err(OfflineError::Version {
                stream,
                expected,
                found: version,
            });
        }
        if position.get().max(version.get()) > FURTHEST {
            return Err(OfflineError::TooFar {
                position,
                stream,
                version,
            });
        }
        if let Some(before) = self.time
            && event.time < before
        {
            return Err(OfflineError::Time {
                before,
                found: event.time,
            });
        }
        self.first.get_or_insert(position);
        self.last = position;
        self.time = Some(event.time);
        self.start.entry(stream).or_insert(version.previous());
        self.heads.insert(stream, version);
        Ok(())
    }

    /// Where the log of these events begins; `None` before the first.
    pub fn start(&self) -> Option<LogStart> {
        let heads = self.start.iter();
        let heads = heads.filter(|(_, version)| **version > Version::ZERO);
        Some(LogStart {
            first: self.first?,
            heads: heads.map(|(stream, version)| (*stream, *version)).collect(),
        })
    }

    /// The last position taken in; [`Position::ZERO`] before the first.
    pub const fn last(&self) -> Position {
        self.last
    }
}

/// Whether this event says that what stood from `expected` up to it was given up.
fn is_behind_given_up(event: &RecordedEvent, expected: Position) -> bool {
    event.position > expected && event.event.repaired_from() == Some(expected)
}

/// Writes events that were recorded elsewhere into a new log: positions, streams, versions and
/// times stay what they were, which no append to a living log can have.
///
/// Events of one time are written as one page, as a commit is. Nothing is durable before
/// [`finish`](Self::finish): what a crash leaves is to be thrown away and written again.
pub struct OfflineWriter {
    core: LogCore,
    storage: Arc<dyn Storage>,
    sequence: Sequence,
    waiting: Vec<RecordedEvent>,
    waiting_bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl OfflineWriter {
    /// Makes a log in this directory, which must be empty or missing. Blocks, as all of this does.
    pub fn create(path: impl AsRef<Path>, start: LogStart) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let options = LogOptions::with_durability(Durability::Buffered);
        let storage: Arc<dyn Storage> =
            Arc::new(DirectoryStorage::open(path, options.cache_capacity)?);
        if !storage.segments()?.is_empty() {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                reason: "it holds events already".to_owned(),
            });
        }
        let (events_max, bytes_max) = (options.commit_events_max, options.commit_bytes_max);
        let (core, view) = LogCore::open(Arc::clone(&storage), options, false)?;
        view.reset(start.first.previous(), start.heads);
        Ok(Self {
            core,
            storage,
            sequence: Sequence::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            events_max,
            bytes_max,
        })
    }

    /// Takes the next event.
    pub fn write(&mut self, event: RecordedEvent) -> Result<(), OfflineError> {
        let expected = self.sequence.last.next();
        self.sequence.follow(&event)?;
        if is_behind_given_up(&event, expected) {
            self.commit()?;
            self.core.sync()?;
            self.core
                .begin_behind(event.position, event.time, event.event, &HashMap::new())?;
            return Ok(());
        }
        let is_full = self.waiting.len() >= self.events_max || self.waiting_bytes >= self.bytes_max;
        if is_full
            || self
                .waiting
                .last()
                .is_some_and(|last| last.time != event.time)
        {
            self.commit()?;
        }
        self.waiting_bytes += event.weight();
        self.waiting.push(event);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), OfflineError> {
        self.waiting_bytes = 0;
        let Some(time) = self.waiting.first().map(|event| event.time) else {
            return Ok(());
        };
        let parts = self.waiting.drain(..).map(|event| StreamAppend {
            stream: event.stream,
            expected: ExpectedVersion::Exact(event.version.previous()),
            events: vec![event.event],
        });
        let request = AppendRequest::encode(parts.collect())?;
        for answer in self.core.commit_at(time, vec![request]) {
            answer?;
        }
        Ok(())
    }

    /// Makes everything durable, and lets go of the directory. The log is open to others then.
    pub fn finish(mut self) -> Result<(), OfflineError> {
        self.commit()?;
        self.core.sync()?;
        self.core.close();
        Ok(())
    }
}

impl Drop for OfflineWriter {
    fn drop(&mut self) {
        self.storage.release();
    }
}

impl std::fmt::Debug for OfflineWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfflineWriter")
            .field("last", &self.sequence.last)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::EventLog,
        model::{Event, JobId, JobPaused, LogRepaired},
    };

    fn stream(number: u128) -> StreamId {
        StreamId::job(JobId::from_uuid(uuid::Uuid::from_u128(number)))
    }

    fn event(position: u64, of: u128, version: u64, millis: i64) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            stream: stream(of),
            version: Version::new(version),
            time: Timestamp::from_millis(millis),
            event: Event::Job(JobPaused {}.into()),
        }
    }

    /// The log of these events, read back from its directory.
    fn written(events: &[RecordedEvent]) -> (tempfile::TempDir, EventLog) {
        let directory = tempfile::tempdir().unwrap();
        let mut sequence = Sequence::default();
        for event in events {
            sequence.follow(event).unwrap();
        }
        let mut writer =
            OfflineWriter::create(directory.path(), sequence.start().unwrap()).unwrap();
        for event in events {
            writer.write(event.clone()).unwrap();
        }
        writer.finish().unwrap();
        let log = EventLog::open(directory.path(), LogOptions::default()).unwrap();
        (directory, log)
    }

    #[test]
    fn events_stand_where_and_when_they_stood() {
        let day = 86_400_000;
        let events = [
            event(1, 1, 1, 5),
            event(2, 2, 1, 5),
            event(3, 1, 2, 6),
            event(4, 1, 3, 2 * day),
        ];
        let (_directory, log) = written(&events);
        let read = log.read(Position::ZERO, 10).unwrap();
        assert_eq!(
            read.iter().map(|e| (**e).clone()).collect::<Vec<_>>(),
            events
        );
        let report = log.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.pages, report.segments), (3, 2), "a segment a day");
    }

    #[test]
    fn a_log_that_retention_cut_goes_on_from_there() {
        let (_directory, log) = written(&[event(41, 1, 7, 5), event(42, 2, 1, 5)]);
        assert_eq!(log.first_position(), Position::new(41));
        assert_eq!(log.head(), Position::new(42));
        assert_eq!(log.stream_version(stream(1)), Version::new(7));
        assert!(log.quarantined().is_empty());
        assert!(log.verify(|_| {}).unwrap().is_sound());
    }

    #[test]
    fn what_a_repair_gave_up_stays_given_up() {
        let repaired = |position: u64, from: u64| RecordedEvent {
            position: Position::new(position),
            stream: StreamId::log(),
            version: Version::new(1),
            time: Timestamp::from_millis(7),
            event: LogRepaired {
                from: Position::new(from),
                to: None,
                reason: "it is gone".to_owned(),
            }
            .into(),
        };
        let events = [event(1, 1, 1, 5), repaired(90, 2), event(91, 1, 2, 8)];
        let (_directory, log) = written(&events);
        let read = log.read(Position::ZERO, 10).unwrap();
        let read: Vec<_> = read.iter().map(|event| (**event).clone()).collect();
        assert_eq!(read, events);
        let report = log.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.given_up.len(), 1);

        let mut sequence = Sequence::default();
        sequence.follow(&events[0]).unwrap();
        let error = sequence.follow(&repaired(90, 3)).unwrap_err();
        assert!(error.to_string().contains("position 90"), "{error}");
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let refused = |events: &[RecordedEvent]| {
            let mut sequence = Sequence::default();
            let mut errors = events.iter().filter_map(|e| sequence.follow(e).err());
            errors.next().map(|error| error.to_string()).unwrap()
        };
        let first = event(1, 1, 1, 5);
        for (second, expected) in [
            (event(3, 1, 2, 5), "position 3 stands where 2"),
            (event(2, 1, 3, 5), "version 3"),
            (event(2, 2, 2, 5), "version 2"),
            (event(2, 1, 2, 4), "is before"),
        ] {
            let said = refused(&[first.clone(), second]);
            assert!(said.contains(expected), "{said}");
        }
        assert!(refused(&[event(0, 1, 1, 5)]).contains("position 0"));
        for (position, version) in [(u64::MAX, 1), (FURTHEST + 1, 1), (9, u64::MAX)] {
            let said = refused(&[event(position, 1, version, 5)]);
            assert!(said.contains("neither may be beyond"), "{said}");
        }
        let mut sequence = Sequence::default();
        sequence.follow(&event(FURTHEST, 1, FURTHEST, 5)).unwrap();
    }
}
