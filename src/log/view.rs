//! What readers share with the writer: how far the log is visible, the versions of streams, the
//! newest events, and the segments.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::model::{Position, Version};

use super::{
    AppendError, Health, HealthWatch, LogOptions, ReadError, RecordedEvent, SegmentStore, Storage,
    StorageError, StreamId, codec::Decoder, head_file::HeadFile, page::Decoded,
    segment::SegmentReader,
};

/// Decoded pages of the middle of the log that are kept: a few readers side by side.
const PAGES_KEPT: usize = 8;
/// What an event costs in memory beside its payload.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// A range of positions that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The first position of it.
    pub from: Position,
    /// The last position of it; `None` for the newest segment, whose end is not known.
    pub to: Option<Position>,
    /// How the damage was seen.
    pub reason: String,
}

/// The decoded events of one page.
pub(crate) type PageEvents = Arc<Vec<Decoded>>;

pub(crate) struct View {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) decoder: Decoder,
    visible: RwLock<Visible>,
    head: watch::Sender<Position>,
    blocking_head: Mutex<Position>,
    head_moved: Condvar,
    segments: RwLock<Segments>,
    /// Held while a segment is opened, which takes long: the store below refuses to be opened
    /// twice. Taken before `segments`.
    opening: Mutex<()>,
    closed: AtomicBool,
    health: watch::Sender<Health>,
    head_file: Mutex<HeadFile>,
    pages: Mutex<VecDeque<(Position, PageEvents)>>,
    segments_open_max: usize,
    min_free_bytes: u64,
}

struct Visible {
    head: Position,
    heads: HashMap<StreamId, Version>,
    tail: Tail,
}

/// The segments there are, by their first positions, and those that are open.
pub(crate) struct Segments {
    pub(crate) firsts: Vec<Position>,
    pub(crate) active: Option<(Position, Arc<dyn SegmentStore>)>,
    open: VecDeque<(Position, Arc<dyn SegmentStore>)>,
    /// Let go of here, and perhaps still held by a reader.
    evicted: Vec<(Position, Weak<dyn SegmentStore>)>,
    damage: Vec<Quarantined>,
    /// Segments that cannot be read at all.
    unreadable: HashMap<Position, Quarantined>,
}

impl View {
    pub(crate) fn new(storage: Arc<dyn Storage>, options: &LogOptions) -> Self {
        Self {
            head_file: Mutex::new(HeadFile::new(Arc::clone(&storage))),
            storage,
            decoder: Decoder::new(&options.upcasters),
            visible: RwLock::new(Visible {
                head: Position::ZERO,
                heads: HashMap::new(),
                tail: Tail::new(options.tail_cache_bytes),
            }),
            head: watch::Sender::new(Position::ZERO),
            blocking_head: Mutex::new(Position::ZERO),
            head_moved: Condvar::new(),
            segments: RwLock::new(Segments {
                firsts: Vec::new(),
                active: None,
                open: VecDeque::new(),
                evicted: Vec::new(),
                damage: Vec::new(),
                unreadable: HashMap::new(),
            }),
            opening: Mutex::new(()),
            closed: AtomicBool::new(false),
            health: watch::Sender::new(Health::Sound),
            pages: Mutex::new(VecDeque::new()),
            segments_open_max: options.segments_open_max,
            min_free_bytes: options.min_free_bytes,
        }
    }

    /// Whether there is room on the disk for messages. Asks the operating system.
    pub(crate) fn room_for_messages(&self) -> Result<(), AppendError> {
        room_beside(self.min_free_bytes, self.storage.bytes_free())
    }

    /// Whether the log takes events that hold no messages, as far as its disk is concerned. Asks the
    /// operating system.
    pub(crate) fn room_for_events(&self) -> Result<(), AppendError> {
        let (free, needed) = (
            self.storage.bytes_free(),
            kept_from_events(self.min_free_bytes),
        );
        if self.health() == Health::Full {
            let free = free.unwrap_or_default();
            return Err(AppendError::Full { free, needed });
        }
        room_beside(needed, free)
    }

    pub(crate) fn head(&self) -> Position {
        self.visible().head
    }

    pub(crate) fn stream_version(&self, stream: StreamId) -> Version {
        let visible = self.visible();
        visible.heads.get(&stream).copied().unwrap_or_default()
    }

    /// All streams with their versions.
    pub(crate) fn heads(&self) -> HashMap<StreamId, Version> {
        self.visible().heads.clone()
    }

    /// Starts over from what recovery found.
    pub(crate) fn reset(&self, head: Position, heads: HashMap<StreamId, Version>) {
        let mut visible = write(&self.visible);
        visible.heads = heads;
        visible.head = head;
        visible.tail.clear();
        drop(visible);
        self.announce(head);
    }

    /// Makes these events visible, in one step.
    pub(crate) fn publish(&self, events: Vec<(Arc<RecordedEvent>, usize)>) {
        let Some(head) = events.last().map(|(event, _)| event.position) else {
            return;
        };
        let mut visible = write(&self.visible);
        for (event, payload_bytes) in events {
            visible.heads.insert(event.stream, event.version);
            visible.tail.push(event, payload_bytes);
        }
        visible.head = head;
        drop(visible);
        self.announce(head);
    }

    fn announce(&self, head: Position) {
        self.head.send_replace(head);
        *lock(&self.blocking_head) = head;
        self.head_moved.notify_all();
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Waits on this thread until the head is above `seen`, the log is closed or the time is over.
    pub(crate) fn wait_above(&self, seen: Position, timeout: Duration) -> Position {
        let guard = lock(&self.blocking_head);
        let waited = self
            .head_moved
            .wait_timeout_while(guard, timeout, |head| *head <= seen && !self.is_closed());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Events after `after` from memory alone; `None` when some are not there.
    pub(crate) fn cached(&self, after: Position, limit: usize) -> Option<Vec<Arc<RecordedEvent>>> {
        let visible = self.visible();
        if after >= visible.head {
            return Some(Vec::new());
        }
        visible.tail.after(after, limit)
    }

    /// Events of a stream from memory alone; `None` when some are not there.
    pub(crate) fn cached_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: usize,
    ) -> Option<Vec<Arc<RecordedEvent>>> {
        let visible = self.visible();
        if after >= visible.heads.get(&stream).copied().unwrap_or_default() {
            return Some(Vec::new());
        }
        visible.tail.stream_after(stream, after, limit)
    }

    fn visible(&self) -> RwLockReadGuard<'_, Visible> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segments(&self) -> RwLockReadGuard<'_, Segments> {
        read(&self.segments)
    }

    pub(crate) fn segments_mut(&self) -> RwLockWriteGuard<'_, Segments> {
        write(&self.segments)
    }

    /// Keeps readers from opening a segment.
    pub(crate) fn opening(&self) -> MutexGuard<'_, ()> {
        lock(&self.opening)
    }

    pub(crate) fn head_file(&self) -> MutexGuard<'_, HeadFile> {
        lock(&self.head_file)
    }

    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    pub(crate) fn watch_health(&self) -> HealthWatch {
        HealthWatch::new(self.health.subscribe())
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.health.send_if_modified(|current| {
            let is_new = *current != health;
            *current = health;
            is_new
        });
    }

    /// The store of a segment; opens it when it is sealed and not open yet. That takes long, and
    /// keeps nobody waiting but who wants a segment opened too.
    pub(crate) fn store(&self, first: Position) -> Result<Arc<dyn SegmentStore>, ReadError> {
        if let Some(store) = self.opened(first)? {
            return Ok(store);
        }
        let _opening = self.opening();
        if let Some(store) = self.opened(first)? {
            return Ok(store);
        }
        if self.segments().last_of(first).is_none() {
            return Err(self.newest_is_away().into());
        }
        let opened = open_sealed(self.storage.as_ref(), first);
        let mut segments = self.segments_mut();
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        if !segments.firsts.contains(&first) {
            return Err(segments.gone());
        }
        match opened {
            Ok(store) => {
                segments.keep_open(first, &store, self.segments_open_max);
                Ok(store)
            }
            Err(error @ StorageError::Corrupt { .. }) => {
                segments.quarantine_segment(first, error.to_string());
                segments.check(first)?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn opened(&self, first: Position) -> Result<Option<Arc<dyn SegmentStore>>, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let segments = self.segments();
        if let Some(store) = segments.opened(first) {
            return Ok(Some(store));
        }
        segments.check(first)?;
        if segments.firsts.contains(&first) {
            Ok(None)
        } else {
            Err(segments.gone())
        }
    }

    /// The writer owns the newest segment. It has let go of it, and could not open it again.
    fn newest_is_away(&self) -> StorageError {
        match self.health() {
            Health::Poisoned => StorageError::Poisoned,
            _ => StorageError::Full {
                path: PathBuf::from("the newest segment"),
            },
        }
    }

    /// Hides a sealed segment from readers, if it is still the oldest; says whether it was.
    pub(crate) fn retire(&self, first: Position, last: Position) -> Result<bool, ReadError> {
        let mut segments = self.segments_mut();
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        if segments.first() != first || segments.last_of(first) != Some(last) {
            return Ok(false);
        }
        segments.forget(first);
        drop(segments);
        write(&self.visible).tail.drop_until(last);
        Ok(true)
    }

    pub(crate) fn kept_page(&self, position: Position) -> Option<PageEvents> {
        let pages = lock(&self.pages);
        let found = pages.iter().find(|(first, events)| {
            *first <= position && position.distance_from(*first) < events.len() as u64
        });
        found.map(|(_, events)| Arc::clone(events))
    }

    pub(crate) fn keep_page(&self, first: Position, events: &PageEvents) {
        let mut pages = lock(&self.pages);
        pages.push_back((first, Arc::clone(events)));
        if pages.len() > PAGES_KEPT {
            pages.pop_front();
        }
    }

    /// Lets go of every store and wakes all who wait.
    pub(crate) fn close(&self) {
        let mut segments = self.segments_mut();
        self.closed.store(true, Ordering::Release);
        segments.active = None;
        segments.open.clear();
        drop(segments);
        self.set_health(Health::Closed);
        lock(&self.pages).clear();
        let head = self.head();
        self.announce(head);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// How much of what messages leave free is kept from other events too: outcomes find room for longer.
pub(crate) const fn kept_from_events(min_free_bytes: u64) -> u64 {
    min_free_bytes / 4
}

/// Whether as much is free as is kept; where the system does not tell, there is room.
pub(crate) fn room_beside(needed: u64, free: Option<u64>) -> Result<(), AppendError> {
    match free {
        Some(free) if free < needed => Err(AppendError::Full { free, needed }),
        _ => Ok(()),
    }
}

fn open_sealed(
    storage: &dyn Storage,
    first: Position,
) -> Result<Arc<dyn SegmentStore>, StorageError> {
    let store = storage.open(first)?;
    match SegmentReader(store.as_ref()).header(first)? {
        Some(_) => Ok(store),
        None => Err(StorageError::corrupt(
            format!("segment {first}"),
            "it has no header",
        )),
    }
}

impl Segments {
    /// The segment that holds, or would hold, this position.
    pub(crate) fn of(&self, position: Position) -> Option<Position> {
        let after = self.firsts.partition_point(|first| *first <= position);
        after.checked_sub(1).map(|at| self.firsts[at])
    }

    /// The last position of a segment, known from its neighbour's name; `None` for the newest.
    pub(crate) fn last_of(&self, first: Position) -> Option<Position> {
        let after = self.firsts.partition_point(|other| *other <= first);
        self.firsts.get(after).map(|next| next.previous())
    }

    pub(crate) fn first(&self) -> Position {
        self.firsts.first().copied().unwrap_or(Position::FIRST)
    }

    pub(crate) fn gone(&self) -> ReadError {
        ReadError::Gone {
            first: self.first(),
        }
    }

    pub(crate) fn damage(&self) -> &[Quarantined] {
        &self.damage
    }

    pub(crate) fn quarantine(&mut self, damage: Quarantined) {
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
            self.damage.sort_by_key(|d| d.from);
        }
    }

    /// Gives up a whole segment. Where the newest one ends may be told by damage that is known.
    pub(crate) fn quarantine_segment(&mut self, first: Position, reason: String) {
        let last = self.last_of(first);
        let known = self
            .damage
            .iter()
            .find(|d| d.from == first && last.is_none());
        let damage = known.cloned().unwrap_or(Quarantined {
            from: first,
            to: last,
            reason,
        });
        self.unreadable.insert(first, damage.clone());
        self.quarantine(damage);
    }

    fn keep_open(&mut self, first: Position, store: &Arc<dyn SegmentStore>, open_max: usize) {
        self.evicted.retain(|(_, store)| store.strong_count() > 0);
        self.open.push_back((first, Arc::clone(store)));
        while self.open.len() > open_max
            && let Some((evicted, store)) = self.open.pop_front()
        {
            self.evicted.push((evicted, Arc::downgrade(&store)));
        }
    }

    /// Replaces the segment that the writer writes.
    pub(crate) fn set_active(&mut self, first: Position, store: Arc<dyn SegmentStore>) {
        if let Some((sealed, store)) = self.active.replace((first, store)) {
            self.evicted.push((sealed, Arc::downgrade(&store)));
        }
    }

    /// Forgets a segment that retention drops.
    pub(crate) fn forget(&mut self, first: Position) {
        let last = self.last_of(first);
        self.firsts.retain(|other| *other != first);
        self.open.retain(|(other, _)| *other != first);
        self.evicted.retain(|(other, _)| *other != first);
        self.unreadable.remove(&first);
        self.damage
            .retain(|d| d.from < first || last.is_some_and(|last| d.from > last));
    }

    fn opened(&self, first: Position) -> Option<Arc<dyn SegmentStore>> {
        let mut stores = self.active.iter().chain(&self.open);
        let found = stores.find(|(other, _)| *other == first);
        let found = found.map(|(_, store)| Arc::clone(store));
        let mut evicted = self.evicted.iter();
        found.or_else(|| evicted.find(|(other, _)| *other == first)?.1.upgrade())
    }

    /// Refuses a segment that cannot be read at all.
    fn check(&self, first: Position) -> Result<(), ReadError> {
        match self.unreadable.get(&first) {
            Some(damage) => Err(ReadError::Corrupt {
                from: damage.from,
                to: damage.to.unwrap_or(Position::MAX),
                reason: damage.reason.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// The newest events, decoded, without a gap, up to a number of bytes.
struct Tail {
    events: VecDeque<(Arc<RecordedEvent>, usize)>,
    streams: HashMap<StreamId, VecDeque<Arc<RecordedEvent>>>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    fn new(bytes_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            streams: HashMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    fn push(&mut self, event: Arc<RecordedEvent>, payload_bytes: usize) {
        let bytes = payload_bytes + EVENT_OVERHEAD_BYTES;
        let stream = self.streams.entry(event.stream).or_default();
        stream.push_back(Arc::clone(&event));
        self.events.push_back((event, bytes));
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            self.drop_oldest();
        }
    }

    fn drop_until(&mut self, last: Position) {
        while self
            .events
            .front()
            .is_some_and(|(event, _)| event.position <= last)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((event, bytes)) = self.events.pop_front() else {
            return;
        };
        self.bytes -= bytes;
        if let Some(stream) = self.streams.get_mut(&event.stream) {
            stream.pop_front();
            if stream.is_empty() {
                self.streams.remove(&event.stream);
            }
        }
    }

    fn after(&self, after: Position, limit: usize) -> Option<Vec<Arc<RecordedEvent>>> {
        let oldest = self.events.front()?.0.position;
        let skip = after.next().get().checked_sub(oldest.get())?;
        let skip = usize::try_from(skip).ok()?;
        let events = self.events.iter().skip(skip).take(limit);
        Some(events.map(|(event, _)| Arc::clone(event)).collect())
    }

    fn stream_after(
        &self,
        stream: StreamId,
        after: Version,
        limit: usize,
    ) -> Option<Vec<Arc<RecordedEvent>>> {
        let events = self.streams.get(&stream)?;
        let skip = after
            .next()
            .get()
            .checked_sub(events.front()?.version.get())?;
        let skip = usize::try_from(skip).ok()?;
        Some(events.iter().skip(skip).take(limit).cloned().collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
