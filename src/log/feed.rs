//! Feeds: catch up with the log, then follow it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use crate::model::{EventType, Position};

use super::{
    ReadError, ReadLimit, RecordedEvent, StreamId, StreamKind, event_log::read_async, view::View,
};

/// What is read at once: about a page under load, and few events where they are large.
const READ: ReadLimit = ReadLimit {
    events: 256,
    bytes: 2 << 20,
};

/// Where a feed begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedStart {
    /// With the first event that retention has left.
    Beginning,
    /// With the event after this position; how a reader resumes.
    After(Position),
    /// With the next event that is written.
    Now,
}

/// Which events a feed gives. Each restriction must be met; within one, any of its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    streams: Option<BTreeSet<StreamId>>,
    kinds: Option<BTreeSet<StreamKind>>,
    types: Option<BTreeSet<EventType>>,
}

impl Filter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// Of these streams alone.
    #[must_use]
    pub fn streams(mut self, streams: impl IntoIterator<Item = StreamId>) -> Self {
        self.streams = Some(streams.into_iter().collect());
        self
    }

    /// Of streams of these kinds alone.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = StreamKind>) -> Self {
        self.kinds = Some(kinds.into_iter().collect());
        self
    }

    /// Of these types alone.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        self.types = Some(types.into_iter().collect());
        self
    }

    /// Whether an event passes.
    pub fn admits(&self, event: &RecordedEvent) -> bool {
        let stream = &event.stream;
        let admits_type = |types: &BTreeSet<_>| types.contains(&event.event.event_type());
        self.streams.as_ref().is_none_or(|s| s.contains(stream))
            && self
                .kinds
                .as_ref()
                .is_none_or(|k| k.contains(&stream.kind()))
            && self.types.as_ref().is_none_or(admits_type)
    }
}

/// What a feed gives.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedItem {
    /// The next event that passes the filter.
    Event(Arc<RecordedEvent>),
    /// Everything up to this position was seen, and nothing of it was left to give. Resume after
    /// it.
    Progress(Position),
}

/// A reader of the log: each position after its start once, in order (G5).
///
/// A slow reader slows nobody: it falls behind and reads the disk. When the log is closed it ends
/// with [`ReadError::Closed`]. An error does not move it; [`seek`](Self::seek) moves it past
/// damage.
pub struct Feed {
    view: Arc<View>,
    head: watch::Receiver<Position>,
    filter: Filter,
    /// Everything up to here was read.
    read: Position,
    /// Everything up to here was told.
    told: Position,
    ready: VecDeque<Arc<RecordedEvent>>,
}

impl Feed {
    pub(crate) fn new(view: Arc<View>, start: FeedStart, filter: Filter) -> Self {
        let after = match start {
            FeedStart::Beginning => view.segments().first().previous(),
            FeedStart::After(position) => position,
            FeedStart::Now => view.head(),
        };
        Self {
            head: view.watch(),
            view,
            filter,
            read: after,
            told: after,
            ready: VecDeque::new(),
        }
    }

    /// The next item. Waits at the head. Cancel safe: an item is given or kept.
    pub async fn next(&mut self) -> Result<FeedItem, ReadError> {
        loop {
            if let Some(item) = self.pop() {
                return Ok(item);
            }
            // Seen before the read, so that what comes after the read wakes the wait below.
            self.head.mark_unchanged();
            let events = read_async(&self.view, self.read, READ).await?;
            if events.is_empty() {
                self.wait().await?;
            } else {
                self.take(events);
            }
        }
    }

    /// The next item that is there without waiting for a new event, `None` at the head. May touch
    /// the disk: for threads and offline tools.
    pub fn next_now(&mut self) -> Result<Option<FeedItem>, ReadError> {
        loop {
            if let Some(item) = self.pop() {
                return Ok(Some(item));
            }
            let events = self.view.read(self.read, READ)?;
            if events.is_empty() {
                return Ok(None);
            }
            self.take(events);
        }
    }

    /// Everything up to here was given or reported as progress. Resume with
    /// [`FeedStart::After`] this.
    pub const fn position(&self) -> Position {
        self.told
    }

    /// Goes on after this position, forwards or back: past a damaged range, or to where the log
    /// begins now.
    pub fn seek(&mut self, after: Position) {
        self.ready.clear();
        self.read = after;
        self.told = after;
    }

    /// This feed as a stream. It ends when the log is closed, or after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<FeedItem, ReadError>> + Send {
        stream::unfold(Some(self), |feed| async {
            let mut feed = feed?;
            match feed.next().await {
                Ok(item) => Some((Ok(item), Some(feed))),
                Err(ReadError::Closed) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    fn pop(&mut self) -> Option<FeedItem> {
        if let Some(event) = self.ready.pop_front() {
            self.told = event.position;
            return Some(FeedItem::Event(event));
        }
        (self.told < self.read).then(|| {
            self.told = self.read;
            FeedItem::Progress(self.read)
        })
    }

    fn take(&mut self, events: Vec<Arc<RecordedEvent>>) {
        if let Some(last) = events.last() {
            self.read = last.position;
        }
        let filter = &self.filter;
        let admitted = events.into_iter().filter(|event| filter.admits(event));
        self.ready.extend(admitted);
    }

    async fn wait(&mut self) -> Result<(), ReadError> {
        if self.view.is_closed() || self.head.changed().await.is_err() || self.view.is_closed() {
            return Err(ReadError::Closed);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("filter", &self.filter)
            .field("position", &self.told)
            .finish_non_exhaustive()
    }
}
