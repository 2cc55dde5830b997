//! The writer's logic, without its thread: a batch of appends goes in, their answers come out.
//! A simulation drives it step by step.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::kill_point::KillPoint;
use crate::model::{Event, Position, Timestamp, Version};

use super::{
    AppendError, Durability, Health, LogOptions, OpenError, RecordedEvent, SegmentStore, Storage,
    StorageError, StreamId, StreamKind,
    head_file::HeadRecord,
    page::{self, Encoded, NO_PAGE, PageBuilder, PageHash},
    recovery::{self, OpenMode, Recovered},
    segment::{self, SegmentHeader},
    storage::Row,
    view::{View, kept_from_events, room_beside},
};

/// The most events of one append. A page holds its append whole.
pub const APPEND_EVENTS_MAX: usize = 10_000;
/// The most encoded bytes of one append: sixteen of the largest messages.
pub const APPEND_BYTES_MAX: usize = 16 << 20;

/// A segment is sealed at so many index rows, one for each stream of each commit. Opening a log scans
/// them, at some two microseconds each.
const SEGMENT_INDEX_ROWS_MAX: u64 = 200_000;
/// How much more a segment takes, as a part of its largest size, before one that could not be begun
/// behind it is tried again.
const SEGMENT_REFUSED_PART: u64 = 16;

/// Where a stream must stand for an append to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Anywhere.
    Any,
    /// At this version.
    Exact(Version),
    /// It has no events.
    NoStream,
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::Exact(version) => write!(f, "version {version}"),
            Self::NoStream => f.write_str("no version at all"),
        }
    }
}

impl ExpectedVersion {
    fn admits(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(version) => version == actual,
            Self::NoStream => actual == Version::ZERO,
        }
    }
}

/// Events for one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamAppend {
    /// The stream.
    pub stream: StreamId,
    /// Where it must stand.
    pub expected: ExpectedVersion,
    /// What is appended, in order.
    pub events: Vec<Event>,
}

/// Where events now stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The position of the first.
    pub first: Position,
    /// The position of the last.
    pub last: Position,
    /// The version of the last, in its stream; of a batch, in the last part's stream.
    pub last_version: Version,
    /// The time written with them.
    pub time: Timestamp,
}

/// An append with its events encoded, so the writer has less to do. All-or-nothing.
pub struct AppendRequest {
    parts: Vec<EncodedPart>,
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

struct EncodedPart {
    stream: StreamId,
    expected: ExpectedVersion,
    events: Vec<Encoded>,
}

impl AppendRequest {
    /// Encodes the events and holds them against the limits.
    pub fn encode(parts: Vec<StreamAppend>) -> Result<Self, AppendError> {
        let count = parts.iter().map(|part| part.events.len()).sum();
        if count == 0 || parts.iter().any(|part| part.events.is_empty()) {
            return Err(AppendError::Empty);
        }
        if count > APPEND_EVENTS_MAX {
            return Err(AppendError::TooMany {
                count,
                max: APPEND_EVENTS_MAX,
            });
        }
        let parts = parts.into_iter().map(EncodedPart::encode);
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let payloads = parts.iter().flat_map(|part| &part.events);
        let bytes = payloads.map(Encoded::bytes).sum();
        if bytes > APPEND_BYTES_MAX {
            return Err(AppendError::TooLarge {
                bytes,
                max: APPEND_BYTES_MAX,
            });
        }
        Ok(Self {
            parts,
            events: count,
            bytes,
        })
    }

    fn takes_in_messages(&self) -> bool {
        let mut kinds = self.parts.iter().map(|part| part.stream.kind());
        kinds.any(|kind| kind == StreamKind::Messages)
    }
}

impl EncodedPart {
    fn encode(part: StreamAppend) -> Result<Self, AppendError> {
        let encode = |event: Event| match super::codec::encode_payload(&event) {
            Ok(payload) => Ok(Encoded { event, payload }),
            Err(reason) => Err(AppendError::Unencodable {
                event_type: event.event_type(),
                reason,
            }),
        };
        Ok(Self {
            stream: part.stream,
            expected: part.expected,
            events: part
                .events
                .into_iter()
                .map(encode)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What one append came to.
pub type AppendAnswer = Result<Appended, AppendError>;

struct Active {
    first: Position,
    created: Timestamp,
    store: Arc<dyn SegmentStore>,
    bytes: u64,
    index_rows: u64,
    /// Nothing is written behind a damaged page.
    is_damaged: bool,
    /// It is sealed when it holds so many bytes: the segment behind it could not be begun before.
    sealed_from_bytes: u64,
}

/// The writer of a log. One per log; it owns what is written next.
pub struct LogCore {
    view: Arc<View>,
    storage: Arc<dyn Storage>,
    options: LogOptions,
    active: Option<Active>,
    last_hash: PageHash,
    last_time: Timestamp,
    unflushed: bool,
    /// A segment that could not be begun could not be removed either.
    left_behind: bool,
}

impl LogCore {
    /// Recovers the log that this storage holds.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        read_only: bool,
    ) -> Result<(Self, Arc<View>), OpenError> {
        options.validate()?;
        let view = Arc::new(View::new(Arc::clone(&storage), &options));
        let mut core = Self {
            view: Arc::clone(&view),
            storage,
            options,
            active: None,
            left_behind: false,
            last_hash: NO_PAGE,
            last_time: Timestamp::from_millis(i64::MIN),
            unflushed: false,
        };
        core.recover(if read_only {
            OpenMode::ReadOnly
        } else {
            OpenMode::Write
        })?;
        Ok((core, view))
    }

    fn recover(&mut self, mode: OpenMode) -> Result<(), StorageError> {
        let record = self.view.head_file().read()?;
        let Recovered {
            firsts,
            newest,
            head,
            heads,
            missing_first,
            damage,
            lost_tail,
            last_hash,
            last_time,
        } = recovery::recover(self.storage.as_ref(), mode, record)?;
        let visible = self.view.head();
        if mode == OpenMode::Again && head < visible {
            // Positions that readers have seen would be given to other events.
            return Err(StorageError::corrupt(
                "the log",
                format!("it ends at position {head}, and {visible} was acknowledged"),
            ));
        }
        KillPoint::Recover.pass();
        self.active = None;
        let mut segments = self.view.segments_mut();
        segments.firsts = firsts;
        if let Some(first) = missing_first {
            segments.quarantine_segment(first, "its directory is missing".to_owned());
        }
        for damaged in damage.into_iter().chain(lost_tail.clone()) {
            segments.quarantine(damaged);
        }
        match newest {
            recovery::Newest::None => {}
            recovery::Newest::Unreadable { first } => {
                let reason = lost_tail.as_ref().map(|lost| lost.reason.clone());
                segments.quarantine_segment(first, reason.unwrap_or_default());
            }
            recovery::Newest::Readable {
                first,
                created,
                store,
                bytes,
                index_rows,
                sound,
            } => {
                segments.active = Some((first, Arc::clone(&store)));
                // What a killed process left may not have reached the disk, and readers are about
                // to see it.
                if mode != OpenMode::ReadOnly {
                    store.sync()?;
                }
                self.active = Some(Active {
                    first,
                    created,
                    store,
                    bytes,
                    index_rows,
                    is_damaged: !sound,
                    sealed_from_bytes: 0,
                });
            }
        }
        drop(segments);
        self.last_hash = last_hash;
        self.last_time = last_time.max(self.last_time);
        self.view.reset(head, heads);
        self.view.set_health(match lost_tail {
            Some(lost) => Health::TailDamaged {
                from: lost.from,
                to: lost.to,
                reason: lost.reason,
            },
            None => Health::Sound,
        });
        if mode != OpenMode::ReadOnly {
            self.record(head);
        }
        Ok(())
    }

    /// Notes that the log is durable up to here. The record guards against damage; that it cannot
    /// be written is no reason to refuse an append that is durable.
    fn record(&self, head: Position) {
        let Some(active) = &self.active else { return };
        if self.view.health() != Health::Sound {
            return;
        }
        let record = HeadRecord {
            first: self.view.segments().first(),
            newest: active.first,
            head,
            hash: self.last_hash,
        };
        if let Err(error) = self.view.head_file().write(record) {
            tracing::warn!(%error, "the head of the log is not recorded");
        }
    }

    fn sync_record(&self) {
        if let Err(error) = self.view.head_file().sync() {
            tracing::warn!(%error, "the record of the head is not durable");
        }
    }

    /// Writes these appends as one commit, makes it durable once, and answers each, in order.
    ///
    /// What is not refused becomes visible to readers before this returns.
    pub fn commit(&mut self, requests: Vec<AppendRequest>) -> Vec<AppendAnswer> {
        self.commit_at(self.options.clock.now(), requests)
    }

    /// [`commit`](Self::commit) at this time, or the last one written when that is later.
    pub(crate) fn commit_at(
        &mut self,
        now: Timestamp,
        requests: Vec<AppendRequest>,
    ) -> Vec<AppendAnswer> {
        if let Err(error) = self.ready() {
            return requests.iter().map(|_| Err(error.clone())).collect();
        }
        let free = self.storage.bytes_free();
        let first = self.view.head().next();
        let time = now.max(self.last_time);
        let mut commit = Commit {
            view: &self.view,
            builder: PageBuilder::default(),
            events: Vec::new(),
            next: first,
            time,
        };
        let mut answers: Vec<AppendAnswer> = requests
            .into_iter()
            .map(|request| {
                self.options.room_for(&request, free)?;
                commit.add(request)
            })
            .collect();
        let Commit {
            builder, events, ..
        } = commit;
        if builder.is_empty() {
            return answers;
        }
        if let Err(error) = self.write(&builder, first, time) {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(error.clone());
            }
            return answers;
        }
        self.view.publish(events);
        answers
    }

    fn ready(&mut self) -> Result<(), AppendError> {
        if self.view.health() == Health::Full {
            self.reopen_with_room()?;
        }
        match self.view.health() {
            Health::Sound => Ok(()),
            Health::Poisoned => Err(AppendError::Poisoned),
            Health::Full => Err(self.full(0)),
            Health::TailDamaged { from, to, reason } => {
                Err(AppendError::TailDamaged { from, to, reason })
            }
            Health::Closed => Err(AppendError::Closed),
        }
    }

    /// The store refuses every write after it was full once, until it is opened again.
    fn reopen_with_room(&mut self) -> Result<(), AppendError> {
        let free = self.storage.bytes_free();
        if free.is_some_and(|free| free < self.options.min_free_bytes) {
            return Err(self.full(free.unwrap_or(0)));
        }
        // Only the handle of before can tell whether the disk has dropped what it had taken.
        if let Some(active) = self.active.take()
            && let Err(error) = active.store.sync()
            && !matches!(error, StorageError::Full { .. })
        {
            self.fail(&error);
            return Err(AppendError::Refused(error));
        }
        let view = Arc::clone(&self.view);
        let _opening = view.opening();
        view.segments_mut().active = None;
        self.recover(OpenMode::Again).map_err(|error| {
            // Another reason than these is not undone by room.
            if !matches!(
                error,
                StorageError::Full { .. } | StorageError::Locked { .. }
            ) {
                self.fail(&error);
            }
            self.refusal(error)
        })
    }

    fn full(&self, free: u64) -> AppendError {
        AppendError::Full {
            free,
            needed: self.options.min_free_bytes,
        }
    }

    fn write(
        &mut self,
        builder: &PageBuilder,
        first: Position,
        time: Timestamp,
    ) -> Result<(), AppendError> {
        self.roll(first, time)
            .map_err(|error| self.refusal(error))?;
        let page = builder.finish(first, time, &self.last_hash);
        let rows = segment::page_rows(builder, first, &page);
        let active = self.active.as_mut().expect("roll made sure of it");
        let bytes: usize = rows
            .iter()
            .map(|row| row.key.len() + row.value.as_ref().map_or(0, Vec::len))
            .sum();
        active.bytes = active.bytes.saturating_add(bytes as u64);
        active.index_rows += builder.runs().len() as u64;
        let store = Arc::clone(&active.store);
        KillPoint::Append.pass();
        let applied = store.apply(rows);
        KillPoint::Sync.pass();
        if let Err(error) = applied.and_then(|()| self.harden(store.as_ref())) {
            self.fail(&error);
            return Err(AppendError::Unknown(error));
        }
        self.last_hash = page::hash(&page);
        self.last_time = time;
        if self.options.durability == Durability::Synced {
            self.record(first.plus(builder.count() - 1));
        }
        Ok(())
    }

    fn harden(&mut self, store: &dyn SegmentStore) -> Result<(), StorageError> {
        match self.options.durability {
            Durability::Buffered => {
                self.unflushed = true;
                Ok(())
            }
            Durability::Flushed => store.flush(),
            Durability::Synced => store.sync(),
        }
    }

    fn fail(&mut self, error: &StorageError) {
        if let StorageError::Full { .. } = error {
            tracing::warn!(%error, "the log is full");
            self.view.set_health(Health::Full);
        } else {
            tracing::error!(%error, "the log is poisoned: nothing is written until it is opened again");
            self.view.set_health(Health::Poisoned);
        }
    }

    fn refusal(&self, error: StorageError) -> AppendError {
        match error {
            StorageError::Full { .. } => self.full(0),
            error => AppendError::Refused(error),
        }
    }

    /// Seals the newest segment when it is large or old enough, and makes sure that there is one.
    fn roll(&mut self, next: Position, now: Timestamp) -> Result<(), StorageError> {
        if let Some(active) = &self.active {
            let old = now.since(active.created) >= self.options.segment_age_max;
            let large = active.bytes >= self.options.segment_bytes_max
                || active.index_rows >= SEGMENT_INDEX_ROWS_MAX;
            let due = (old || large) && active.bytes >= active.sealed_from_bytes;
            let due = due || active.is_damaged;
            if active.first == next || !due {
                return Ok(());
            }
            // What fails behind this touches nothing that was written.
            if let Err(error) = active.store.sync() {
                self.fail(&error);
                return Err(error);
            }
            self.record(next.previous());
            KillPoint::Seal.pass();
        }
        if let Err(error) = self.begin_segment(next, now, Vec::new()) {
            // What is left of the one that was not begun would stand before what is written next.
            let left_behind = self.left_behind;
            let may_grow = |active: &&mut Active| !active.is_damaged && !left_behind;
            let sound = self.active.as_mut().filter(may_grow);
            return match (&error, sound) {
                (StorageError::Full { .. }, _) | (_, None) => Err(error),
                // Too many open files, or the like: what there is takes more, and it is tried again.
                (_, Some(active)) => {
                    tracing::warn!(%error, "no segment can be begun: the newest grows");
                    let more = self.options.segment_bytes_max / SEGMENT_REFUSED_PART;
                    active.sealed_from_bytes = active.bytes.saturating_add(more);
                    Ok(())
                }
            };
        }
        self.record(next.previous());
        self.sync_record();
        Ok(())
    }

    /// Makes a segment, with these rows from the start, the one that is written to.
    fn begin_segment(
        &mut self,
        first: Position,
        created: Timestamp,
        rows: Vec<Row>,
    ) -> Result<(), StorageError> {
        let heads: HashMap<StreamId, Version> = self.view.heads();
        let header = SegmentHeader {
            first,
            created,
            previous: self.last_hash,
            streams: u32::try_from(heads.len()).expect("streams are fewer than 4 billion"),
        };
        let mut all = segment::header_rows(&header, &heads);
        all.extend(rows);
        let made = self.make_segment(first, all);
        self.left_behind = false;
        if made.is_err()
            && let Err(error) = self.storage.remove(first)
        {
            tracing::warn!(segment = %first, %error, "a segment that was not begun is left behind");
            self.left_behind = true;
        }
        let store = made?;
        let mut segments = self.view.segments_mut();
        segments.firsts.push(first);
        segments.set_active(first, Arc::clone(&store));
        drop(segments);
        self.active = Some(Active {
            first,
            created,
            store,
            bytes: 0,
            index_rows: 0,
            is_damaged: false,
            sealed_from_bytes: 0,
        });
        Ok(())
    }

    fn make_segment(
        &self,
        first: Position,
        rows: Vec<Row>,
    ) -> Result<Arc<dyn SegmentStore>, StorageError> {
        if self.storage.segments()?.contains(&first) {
            // An attempt before this one came to nothing, and its removal too.
            self.storage.remove(first)?;
        }
        let store = self.storage.create(first)?;
        store.apply(rows)?;
        store.sync()?;
        Ok(store)
    }

    /// Begins a segment with this event at `first`, behind a damaged end. Segment and event are
    /// there together or not at all: a log does not go on without saying why. Streams go on at the
    /// versions that can be read, or at those that are `known` otherwise where they are higher.
    pub(crate) fn begin_behind(
        &mut self,
        first: Position,
        time: Timestamp,
        event: Event,
        known: &HashMap<StreamId, Version>,
    ) -> Result<Appended, AppendError> {
        let time = time.max(self.last_time);
        let mut heads = self.view.heads();
        for (stream, version) in known {
            let head = heads.entry(*stream).or_default();
            *head = (*head).max(*version);
        }
        self.view.reset(self.view.head(), heads);
        let request = AppendRequest::encode(vec![StreamAppend {
            stream: StreamId::log(),
            expected: ExpectedVersion::Any,
            events: vec![event],
        }])?;
        let view = Arc::clone(&self.view);
        let mut commit = Commit {
            view: &view,
            builder: PageBuilder::default(),
            events: Vec::new(),
            next: first,
            time,
        };
        let appended = commit.add(request)?;
        let page = commit.builder.finish(first, time, &self.last_hash);
        let rows = segment::page_rows(&commit.builder, first, &page);
        self.begin_segment(first, time, rows)
            .map_err(AppendError::Refused)?;
        (self.last_hash, self.last_time) = (page::hash(&page), time);
        view.publish(commit.events);
        view.set_health(Health::Sound);
        self.record(appended.last);
        self.sync_record();
        Ok(appended)
    }

    /// Whether the disk was full, and nothing has found room since.
    pub(crate) fn is_full(&self) -> bool {
        self.view.health() == Health::Full
    }

    /// Takes appends again where there is room, so that whoever asks is told before the next comes.
    pub(crate) fn look_for_room(&mut self) {
        if let Err(error) = self.ready() {
            tracing::debug!(%error, "the log is still full");
        }
    }

    /// Whether something was acknowledged that a killed process would lose.
    pub(crate) const fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Hands what is only in memory to the operating system.
    pub(crate) fn flush(&mut self) {
        self.unflushed = false;
        let result = self
            .active
            .as_ref()
            .map_or(Ok(()), |active| active.store.flush());
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// Makes everything that was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        match &self.active {
            Some(active) => active.store.sync().inspect_err(|error| self.fail(error)),
            None => Ok(()),
        }
    }

    /// Makes everything durable and lets go of the newest segment.
    pub(crate) fn close(&mut self) {
        if self.view.health() == Health::Sound
            && let Some(active) = &self.active
        {
            match active.store.sync() {
                Ok(()) => {
                    self.record(self.view.head());
                    self.sync_record();
                }
                Err(error) => tracing::error!(%error, "the log was closed without its last sync"),
            }
        }
        self.active = None;
    }
}

impl LogOptions {
    fn room_for(&self, request: &AppendRequest, free: Option<u64>) -> Result<(), AppendError> {
        let needed = if request.takes_in_messages() {
            self.min_free_bytes
        } else {
            kept_from_events(self.min_free_bytes)
        };
        room_beside(needed, free)
    }
}

/// A commit that is being put together.
struct Commit<'a> {
    view: &'a View,
    builder: PageBuilder,
    events: Vec<(Arc<RecordedEvent>, usize)>,
    next: Position,
    time: Timestamp,
}

impl Commit<'_> {
    fn add(&mut self, request: AppendRequest) -> AppendAnswer {
        self.check(&request)?;
        let first = self.next;
        let mut last_version = Version::ZERO;
        for part in request.parts {
            for encoded in part.events {
                last_version = self.version(part.stream).next();
                self.push(part.stream, last_version, encoded);
            }
        }
        Ok(Appended {
            first,
            last: self.next.previous(),
            last_version,
            time: self.time,
        })
    }

    /// All parts, before any is written. A stream that comes twice counts on.
    fn check(&self, request: &AppendRequest) -> Result<(), AppendError> {
        let mut reached: HashMap<StreamId, Version> = HashMap::new();
        for part in &request.parts {
            let actual = reached
                .entry(part.stream)
                .or_insert_with(|| self.version(part.stream));
            if !part.expected.admits(*actual) {
                return Err(AppendError::Conflict {
                    stream: part.stream,
                    expected: part.expected,
                    actual: *actual,
                });
            }
            *actual = actual.plus(part.events.len() as u64);
        }
        Ok(())
    }

    fn version(&self, stream: StreamId) -> Version {
        let within = self.builder.reached(stream);
        within.unwrap_or_else(|| self.view.stream_version(stream))
    }

    fn push(&mut self, stream: StreamId, version: Version, encoded: Encoded) {
        self.builder.push(stream, version, &encoded);
        let event = RecordedEvent {
            position: self.next,
            stream,
            version,
            time: self.time,
            event: encoded.event,
        };
        self.events.push((Arc::new(event), encoded.payload.len()));
        self.next = self.next.next();
    }
}
