//! The log as everything else holds it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking};

use crate::model::{Event, Position, Timestamp, Version};

use super::{
    AppendError, AppendRequest, AppendTimes, Appended, ExpectedVersion, Feed, FeedStart, Filter,
    Health, HealthWatch, LogOptions, OpenError, PendingAppend, Quarantined, ReadError, ReadLimit,
    RecordedEvent, Storage, StorageError, StreamAppend, StreamId, Urgency,
    core::LogCore,
    sled_storage::DirectoryStorage,
    view::View,
    writer::{LogWriter, WriterQueue},
};

/// An append-only log of events with one writer and any number of readers.
///
/// Cloning is cheap; all clones are one log. It is closed by [`close`](Self::close), or when the
/// last clone is dropped: what was enqueued is written, the writer's thread ends, and the directory
/// may be opened again at once. Feeds and watches do not keep it open.
///
/// Methods without `async` that may touch the disk say so; from async code use their async forms.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

struct Shared {
    view: Arc<View>,
    /// `None` in a log that is open for reading alone.
    queue: Option<WriterQueue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EventLog {
    /// Opens the log in this data directory, and makes both when the directory is empty or its
    /// parent exists. Blocks; reads the newest segment.
    ///
    /// Damage does not stop it: see [`quarantined`](Self::quarantined).
    pub fn open(path: impl AsRef<Path>, options: LogOptions) -> Result<Self, OpenError> {
        options.validate()?;
        let storage = DirectoryStorage::open(path.as_ref(), options.cache_capacity)?;
        Self::open_with(Arc::new(storage), options)
    }

    /// Opens the log that this storage holds. Blocks.
    pub fn open_with(storage: Arc<dyn Storage>, options: LogOptions) -> Result<Self, OpenError> {
        let (log, writer) = Self::open_stepped(storage, options)?;
        let thread = thread::Builder::new()
            .name("hooklog-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io("the writer's thread", error))?;
        *log.thread() = Some(thread);
        Ok(log)
    }

    /// Opens the log without a thread: nothing is written but when [`LogWriter::step`] is called.
    /// For simulations, which own the order of things.
    pub fn open_stepped(
        storage: Arc<dyn Storage>,
        options: LogOptions,
    ) -> Result<(Self, LogWriter), OpenError> {
        let settings = options.clone();
        let (core, view) = LogCore::open(storage, options, false)?;
        let (writer, queue) = LogWriter::new(core, &settings);
        let log = Self {
            shared: Arc::new(Shared {
                view,
                queue: Some(queue),
                thread: Mutex::new(None),
            }),
        };
        Ok((log, writer))
    }

    /// Opens a log that exists, for reading alone. Its directory must not be in use. Blocks.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_read_only_with_options(path, LogOptions::default())
    }

    /// [`open_read_only`](Self::open_read_only) with upcasters and cache sizes.
    pub fn open_read_only_with_options(
        path: impl AsRef<Path>,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        let storage = DirectoryStorage::open_existing(path.as_ref(), options.cache_capacity)?;
        let (_, view) = LogCore::open(Arc::new(storage), options, true)?;
        Ok(Self {
            shared: Arc::new(Shared {
                view,
                queue: None,
                thread: Mutex::new(None),
            }),
        })
    }

    /// Appends events to one stream, all or none (G2), and returns when they are as durable as
    /// configured. Waits while the queue is full.
    ///
    /// Cancel safety: once enqueued the append is made, whether or not this is polled on.
    pub async fn append(
        &self,
        stream: StreamId,
        expected: ExpectedVersion,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Result<Appended, AppendError> {
        let append = self.enqueue_when_room(stream, expected, events, urgency);
        append.await?.await
    }

    /// Appends to several streams, all or none, like [`append`](Self::append).
    pub async fn append_batch(
        &self,
        parts: Vec<StreamAppend>,
        urgency: Urgency,
    ) -> Result<Appended, AppendError> {
        let request = AppendRequest::encode(parts)?;
        let queue = self.queue()?;
        queue.push_when_room(request, urgency).await?.await
    }

    /// Puts an append into the writer's queue, in order, once it has room. What is returned
    /// resolves when the append is as durable as configured.
    ///
    /// Cancel safety: dropped before it returns, nothing is appended.
    pub async fn enqueue_when_room(
        &self,
        stream: StreamId,
        expected: ExpectedVersion,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Result<PendingAppend, AppendError> {
        let part = StreamAppend {
            stream,
            expected,
            events,
        };
        let request = AppendRequest::encode(vec![part])?;
        self.queue()?.push_when_room(request, urgency).await
    }

    /// Puts an append into the writer's queue, in order, without waiting;
    /// [`AppendError::Busy`] when the queue is full.
    pub fn enqueue(
        &self,
        stream: StreamId,
        expected: ExpectedVersion,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Result<PendingAppend, AppendError> {
        let part = StreamAppend {
            stream,
            expected,
            events,
        };
        self.enqueue_batch(vec![part], urgency)
    }

    /// [`enqueue`](Self::enqueue) for several streams, all or none.
    pub fn enqueue_batch(
        &self,
        parts: Vec<StreamAppend>,
        urgency: Urgency,
    ) -> Result<PendingAppend, AppendError> {
        let request = AppendRequest::encode(parts)?;
        self.queue()?.try_push(request, urgency)
    }

    fn queue(&self) -> Result<&WriterQueue, AppendError> {
        if self.view().is_closed() {
            return Err(AppendError::Closed);
        }
        self.shared.queue.as_ref().ok_or(AppendError::ReadOnly)
    }

    /// How long appends took, from being enqueued to their answer, since the log was opened; refused
    /// ones are left out. `None` in a log that is open for reading alone.
    pub fn append_times(&self) -> Option<AppendTimes> {
        self.shared.queue.as_ref().map(WriterQueue::times)
    }

    /// Refuses as an append of messages would be refused for want of room on the disk. Outcomes are
    /// taken for longer, and [`health`](Self::health) is sound until a write found the disk full.
    pub fn room_for_messages(&self) -> Result<(), AppendError> {
        self.view().room_for_messages()
    }

    /// Whether the log takes events that hold no messages, as far as its disk is concerned. Asks the
    /// operating system.
    pub(crate) fn room_for_events(&self) -> Result<(), AppendError> {
        self.view().room_for_events()
    }

    /// Bytes that the log takes on disk. Blocks.
    pub fn bytes_on_disk(&self) -> Result<u64, StorageError> {
        let firsts = self.view().segments().firsts.clone();
        let sizes = firsts.into_iter();
        sizes
            .map(|first| self.view().storage.bytes_on_disk(first))
            .sum()
    }

    /// The last position that readers see; [`Position::ZERO`] in an empty log.
    pub fn head(&self) -> Position {
        self.view().head()
    }

    /// The first position that retention has left.
    pub fn first_position(&self) -> Position {
        self.view().segments().first()
    }

    /// Whether the log can be written, and why not.
    pub fn health(&self) -> Health {
        self.view().health()
    }

    /// Tells when [`health`](Self::health) changes.
    pub fn watch_health(&self) -> HealthWatch {
        self.view().watch_health()
    }

    /// Tells when the head moves.
    pub fn watch(&self) -> HeadWatch {
        HeadWatch {
            receiver: self.view().watch(),
            view: Arc::clone(self.view()),
            told: self.head(),
        }
    }

    /// The version a stream has reached; [`Version::ZERO`] when it has no events.
    pub fn stream_version(&self, stream: StreamId) -> Version {
        self.view().stream_version(stream)
    }

    /// Up to `limit` events after `after`, in order (G4). Empty at the head. May touch the disk.
    ///
    /// Fewer than `limit` come before a damaged range; the next read after them names it.
    pub fn read(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        self.view().read(after, limit)
    }

    /// [`read`](Self::read), ending earlier where the events are large. May touch the disk.
    pub fn read_within(
        &self,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        self.view().read(after, limit)
    }

    /// Up to `limit` events of one stream after version `after`. May touch the disk.
    pub fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        self.view().read_stream(stream, after, limit)
    }

    /// What [`read`](Self::read) gives, from memory alone; `None` when the disk is needed.
    pub fn cached(&self, after: Position, limit: usize) -> Option<Vec<Arc<RecordedEvent>>> {
        self.view().cached(after, limit)
    }

    /// What [`read_stream`](Self::read_stream) gives, from memory alone; `None` when the disk is
    /// needed.
    pub fn cached_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: usize,
    ) -> Option<Vec<Arc<RecordedEvent>>> {
        self.view().cached_stream(stream, after, limit)
    }

    /// [`read`](Self::read) for async code: from memory, or on a thread for blocking work.
    pub async fn read_async(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        read_async(self.view(), after, limit).await
    }

    /// [`read_stream`](Self::read_stream) for async code, ending earlier where the events are large.
    pub async fn read_stream_async(
        &self,
        stream: StreamId,
        after: Version,
        limit: impl Into<ReadLimit>,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        let limit = limit.into();
        if let Some(events) = self.cached_stream(stream, after, limit.events) {
            return Ok(limit.cut(events));
        }
        let view = Arc::clone(self.view());
        let reading = spawn_blocking(move || view.read_stream(stream, after, limit));
        reading.await.unwrap_or(Err(ReadError::Closed))
    }

    /// The event at a position; `None` above the head, at zero, and where a repair has given it up.
    /// May touch the disk.
    pub fn get(&self, position: Position) -> Result<Option<Arc<RecordedEvent>>, ReadError> {
        if position == Position::ZERO {
            return Ok(None);
        }
        let read = self.read(position.previous(), 1)?.pop();
        Ok(read.filter(|event| event.position == position))
    }

    /// [`get`](Self::get) for async code.
    pub async fn get_async(
        &self,
        position: Position,
    ) -> Result<Option<Arc<RecordedEvent>>, ReadError> {
        if position == Position::ZERO {
            return Ok(None);
        }
        let read = self.read_async(position.previous(), 1).await?.pop();
        Ok(read.filter(|event| event.position == position))
    }

    /// The first position whose time is `time` or later; the one after the head when there is
    /// none. Times never go back along positions. Touches the disk.
    pub fn position_at(&self, time: Timestamp) -> Result<Position, ReadError> {
        self.view().position_at(time)
    }

    /// A reader from `start` on: first what is there, then what comes, without a seam (G5).
    pub fn follow(&self, start: FeedStart, filter: Filter) -> Feed {
        Feed::new(Arc::clone(self.view()), start, filter)
    }

    /// The ranges found damaged so far (G11). Reading them gives [`ReadError::Corrupt`].
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.view().segments().damage().to_vec()
    }

    /// Writes what was enqueued, ends the writer's thread and lets go of the directory. Blocks.
    /// Calling it again does nothing.
    pub fn close(&self) {
        self.shared.close();
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.shared.queue.is_some()
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.shared.view
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn close(&self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the log panicked");
        }
        if !self.view.is_closed() {
            self.view.close();
            self.view.storage.release();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

pub(crate) async fn read_async(
    view: &Arc<View>,
    after: Position,
    limit: impl Into<ReadLimit>,
) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
    let limit = limit.into();
    if let Some(events) = view.cached(after, limit.events) {
        return Ok(limit.cut(events));
    }
    let view = Arc::clone(view);
    let reading = spawn_blocking(move || view.read(after, limit));
    reading.await.unwrap_or(Err(ReadError::Closed))
}

/// Tells when the head of the log moves. It carries no event: whoever is woken reads the log after
/// its own position.
#[derive(Clone)]
pub struct HeadWatch {
    receiver: watch::Receiver<Position>,
    view: Arc<View>,
    told: Position,
}

impl HeadWatch {
    /// The head now.
    pub fn head(&self) -> Position {
        self.view.head()
    }

    /// Waits until the head is above what this watch last told of, at first the head when it was
    /// made, and gives it; `None` when the log is closed. Cancel safe.
    pub async fn changed(&mut self) -> Option<Position> {
        let reached = self.reach(self.told.next()).await?;
        self.told = reached;
        Some(reached)
    }

    /// Waits until the head is at `position` or above, and gives it; `None` when the log is closed
    /// before. Cancel safe.
    pub async fn reach(&mut self, position: Position) -> Option<Position> {
        loop {
            let head = *self.receiver.borrow_and_update();
            if head >= position {
                return Some(head);
            }
            if self.view.is_closed() {
                return None;
            }
            self.receiver.changed().await.ok()?;
        }
    }

    /// Waits on this thread until the head is above what this watch last told of, the log is closed
    /// or the time is over, and gives the head.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Position {
        self.told = self.view.wait_above(self.told, timeout);
        self.told
    }

    /// Whether the log is closed: the head moves no more.
    pub fn is_closed(&self) -> bool {
        self.view.is_closed()
    }
}

impl std::fmt::Debug for HeadWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HeadWatch").field(&self.head()).finish()
    }
}
