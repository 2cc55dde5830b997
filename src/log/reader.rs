//! Reading: by position, by stream and version, by time.

use std::sync::Arc;

use crate::model::{Position, Timestamp, Version};

use super::{
    ReadError, RecordedEvent, StreamId,
    page::{PageFault, PageHeader},
    segment::{IndexRow, PageDamage, PageError, SegmentReader},
    view::{PageEvents, Quarantined, View},
};

type Events = Vec<Arc<RecordedEvent>>;

/// Where a read ends; it gives at least one event where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// With this many events.
    pub events: usize,
    /// With the event that brings their bodies to this many bytes in memory.
    pub bytes: usize,
}

impl From<usize> for ReadLimit {
    fn from(events: usize) -> Self {
        Self {
            events,
            bytes: usize::MAX,
        }
    }
}

impl ReadLimit {
    /// Cuts what was read at the limit; whether it was reached.
    fn cut(self, events: &mut Events) -> bool {
        let mut kept = self.events;
        if self.bytes < usize::MAX {
            let mut bytes = 0;
            let last = events.iter().position(|event| {
                bytes += event.weight();
                bytes >= self.bytes
            });
            kept = last.map_or(kept, |last| kept.min(last + 1));
        }
        events.truncate(kept);
        events.len() >= kept
    }
}

impl View {
    /// Visible events after `after`, up to a limit. Stops early before damage, so that what stands
    /// before it is given first.
    pub(crate) fn read(
        &self,
        after: Position,
        limit: impl Into<ReadLimit>,
    ) -> Result<Events, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let limit = limit.into();
        if let Some(mut events) = self.cached(after, limit.events) {
            limit.cut(&mut events);
            return Ok(events);
        }
        let head = self.head();
        let mut next = after.next();
        let mut events = Vec::new();
        while next <= head {
            let page = match self.page_of(next) {
                Ok(page) => page,
                Err(error) if events.is_empty() => return Err(error),
                Err(_) => break,
            };
            let wanted = page.iter().filter(|event| event.position >= next);
            events.extend(wanted.cloned());
            if limit.cut(&mut events) {
                break;
            }
            next = page.last().expect("no page is empty").position.next();
        }
        Ok(events)
    }

    /// Up to `limit` visible events of a stream after version `after`.
    pub(crate) fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Events, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        if let Some(events) = self.cached_stream(stream, after, limit) {
            return Ok(events);
        }
        let head = self.stream_version(stream);
        let mut place = StreamPlace {
            view: self,
            stream,
            next: after.next(),
            segment: self.segment_of_version(stream, after.next())?,
        };
        let mut events = Vec::new();
        while events.len() < limit && place.next <= head {
            match place.page() {
                Ok(page) => events.extend(page.into_iter().take(limit - events.len())),
                Err(error) if events.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(events)
    }

    /// The first position whose time is `time` or later; the one after the head when there is none.
    pub(crate) fn position_at(&self, time: Timestamp) -> Result<Position, ReadError> {
        let mut low = self.segments().first();
        let mut high = self.head().next();
        while low < high {
            let middle = low.plus(high.distance_from(low) / 2);
            let page = self.page_header(middle)?;
            if page.time < time {
                low = page.last().next();
            } else {
                high = page.first.min(middle);
            }
        }
        Ok(low)
    }

    fn page_header(&self, position: Position) -> Result<PageHeader, ReadError> {
        let segment = self.segment_of(position)?;
        let store = self.store(segment)?;
        match SegmentReader(store.as_ref()).page_header_at(position) {
            Ok(Some(header)) if header.last() >= position && header.first <= position => Ok(header),
            Ok(_) => Err(self.missing(segment, position)),
            Err(error) => Err(self.page_error(segment, error)),
        }
    }

    /// The events of the page that holds this position.
    fn page_of(&self, position: Position) -> Result<PageEvents, ReadError> {
        let segment = self.segment_of(position)?;
        if let Some(page) = self.kept_page(position) {
            return Ok(page);
        }
        self.refuse_damaged(position)?;
        let store = self.store(segment)?;
        let page = SegmentReader(store.as_ref()).page_at(position);
        let page = page.map_err(|error| self.page_error(segment, error))?;
        let first = page.header.first;
        let events = page.events(&self.decoder).map_err(|fault| match fault {
            PageFault::Corrupt(reason) => self.corrupt(first, page.header.last(), reason),
            PageFault::Undecodable {
                position,
                event_type,
                reason,
            } => ReadError::Undecodable {
                position,
                event_type,
                reason,
            },
        })?;
        let events = Arc::new(events);
        self.keep_page(first, &events);
        Ok(events)
    }

    fn segment_of(&self, position: Position) -> Result<Position, ReadError> {
        let segments = self.segments();
        segments.of(position).ok_or_else(|| segments.gone())
    }

    fn refuse_damaged(&self, position: Position) -> Result<(), ReadError> {
        let segments = self.segments();
        let holds = |d: &&Quarantined| d.from <= position && d.to.is_some_and(|to| position <= to);
        match segments.damage().iter().find(holds) {
            Some(damage) => Err(ReadError::Corrupt {
                from: damage.from,
                to: damage.to.unwrap_or(Position::MAX),
                reason: damage.reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn page_error(&self, segment: Position, error: PageError) -> ReadError {
        match error {
            PageError::Storage(super::StorageError::Corrupt { what, reason }) => {
                let last = self.segments().last_of(segment);
                let to = last.unwrap_or_else(|| self.head());
                self.corrupt(segment, to, format!("{what}: {reason}"))
            }
            PageError::Storage(error) => error.into(),
            PageError::Damaged(PageDamage { from, to, reason }) => {
                let last = self.segments().last_of(segment);
                let to = to.or(last).unwrap_or_else(|| self.head());
                self.corrupt(from, to, reason)
            }
        }
    }

    fn missing(&self, segment: Position, position: Position) -> ReadError {
        let damage = PageDamage {
            from: position,
            to: None,
            reason: "there is no page for it".to_owned(),
        };
        self.page_error(segment, PageError::Damaged(damage))
    }

    /// Remembers the damage and tells of it.
    fn corrupt(&self, from: Position, to: Position, reason: String) -> ReadError {
        self.segments_mut().quarantine(Quarantined {
            from,
            to: Some(to),
            reason: reason.clone(),
        });
        ReadError::Corrupt { from, to, reason }
    }

    /// The segment where this version should stand: the last that begins before it.
    ///
    /// A segment that cannot be opened is taken to begin where the next readable one does; when the
    /// version was in it, the segment before does not have it, and reading finds the damage.
    fn segment_of_version(&self, stream: StreamId, next: Version) -> Result<Position, ReadError> {
        let firsts = self.segments().firsts.clone();
        let begins_before = |at: usize| -> Result<bool, ReadError> {
            for first in &firsts[at..] {
                match self.base_head(*first, stream) {
                    Ok(base) => return Ok(base < next),
                    Err(ReadError::Corrupt { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(false)
        };
        let (mut low, mut high) = (0, firsts.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if begins_before(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        match low.checked_sub(1) {
            Some(at) => Ok(firsts[at]),
            None => Err(self.stream_gone(stream)),
        }
    }

    /// Why no segment begins before a version: retention dropped it, or the first is damaged.
    fn stream_gone(&self, stream: StreamId) -> ReadError {
        let first = self.segments().first();
        match self.base_head(first, stream) {
            Ok(base) => ReadError::StreamGone {
                stream,
                first: base.next(),
            },
            Err(error) => error,
        }
    }

    fn base_head(&self, segment: Position, stream: StreamId) -> Result<Version, ReadError> {
        let store = self.store(segment)?;
        let base = SegmentReader(store.as_ref()).base_head(stream);
        base.map_err(|error| self.page_error(segment, PageError::Storage(error)))
    }
}

/// A reader of a stream on its way through the segments.
struct StreamPlace<'a> {
    view: &'a View,
    stream: StreamId,
    next: Version,
    segment: Position,
}

impl StreamPlace<'_> {
    /// The events of the page where `next` stands, from `next` on.
    fn page(&mut self) -> Result<Events, ReadError> {
        let row = self.row()?;
        let page = self.view.page_of(row.page)?;
        let events: Events = page
            .iter()
            .filter(|event| event.stream == self.stream && event.version >= self.next)
            .cloned()
            .collect();
        match (events.first(), events.last()) {
            (Some(first), Some(last)) if first.version == self.next => {
                self.next = last.version.next();
                Ok(events)
            }
            _ => Err(self.view.corrupt(
                row.page,
                page.last().expect("no page is empty").position,
                format!("the index of stream {} names the wrong page", self.stream),
            )),
        }
    }

    /// The index row of `next`, in this segment or a later one.
    fn row(&mut self) -> Result<IndexRow, ReadError> {
        loop {
            let store = self.view.store(self.segment)?;
            let row = SegmentReader(store.as_ref()).index_at(self.stream, self.next);
            let row = row.map_err(|error| {
                self.view
                    .page_error(self.segment, PageError::Storage(error))
            })?;
            if let Some(row) = row.filter(|row| row.last() >= self.next) {
                return Ok(row);
            }
            let last = self.view.segments().last_of(self.segment);
            match last {
                Some(last) => self.segment = last.next(),
                None => return Err(self.view.missing(self.segment, self.segment)),
            }
        }
    }
}
