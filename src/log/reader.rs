//! Reading: by position, by stream and version, by time.

use std::sync::Arc;

use crate::model::{Position, Timestamp, Version};

use super::{
    ReadError, RecordedEvent, StorageError, StreamId,
    page::{Page, PageHash, PageHeader, Undecodable},
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
    /// Takes an event off it. True when that was the last there is room for.
    fn spend(&mut self, event: &RecordedEvent) -> bool {
        self.events = self.events.saturating_sub(1);
        if self.bytes < usize::MAX {
            self.bytes = self.bytes.saturating_sub(event.weight());
        }
        self.events == 0 || self.bytes == 0
    }

    /// What there is room for of these.
    pub(crate) fn cut(mut self, mut events: Events) -> Events {
        if let Some(last) = events.iter().position(|event| self.spend(event)) {
            events.truncate(last + 1);
        }
        events
    }
}

impl View {
    /// Visible events after `after`, up to a limit. Stops early before damage, so that what stands
    /// before it is given first; passes over what a repair has given up.
    pub(crate) fn read(
        &self,
        after: Position,
        limit: impl Into<ReadLimit>,
    ) -> Result<Events, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        let mut limit = limit.into();
        if let Some(events) = self.cached(after, limit.events) {
            return Ok(limit.cut(events));
        }
        let head = self.head();
        let mut next = after.next();
        let mut events = Vec::new();
        while next <= head && limit.events > 0 {
            let page = match self.page_of(next) {
                Ok(page) => page,
                Err(ReadError::Corrupt { from, to, .. }) if self.is_given_up(from, to) => {
                    next = to.next();
                    continue;
                }
                Err(error) if events.is_empty() => return Err(error),
                Err(_) => break,
            };
            for event in page.iter() {
                match event {
                    Ok(event) if event.position >= next => {
                        events.push(Arc::clone(event));
                        next = event.position.next();
                        if limit.spend(event) {
                            return Ok(events);
                        }
                    }
                    Err(bad) if bad.position >= next => {
                        return given_or(events, undecodable(bad));
                    }
                    _ => {}
                }
            }
        }
        Ok(events)
    }

    /// Visible events of a stream after version `after`, up to a limit.
    pub(crate) fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: impl Into<ReadLimit>,
    ) -> Result<Events, ReadError> {
        let limit = limit.into();
        loop {
            let first = self.segments().first();
            match self.read_stream_once(stream, after, limit) {
                // Perhaps of one that was dropped while it was looked into for where that version
                // stands, which may well be in those that are left.
                Err(_) if self.segments().first() > first => {}
                read => return read,
            }
        }
    }

    fn read_stream_once(
        &self,
        stream: StreamId,
        after: Version,
        mut limit: ReadLimit,
    ) -> Result<Events, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        if let Some(events) = self.cached_stream(stream, after, limit.events) {
            return Ok(limit.cut(events));
        }
        let head = self.stream_version(stream);
        let mut place = StreamPlace {
            view: self,
            stream,
            next: after.next(),
            segment: self.segment_of_version(stream, after.next())?,
        };
        let mut events = Vec::new();
        while limit.events > 0 && place.next <= head {
            match place.step() {
                Ok(Step::Events(more)) => {
                    for event in more {
                        let is_last = limit.spend(&event);
                        events.push(event);
                        if is_last {
                            return Ok(events);
                        }
                    }
                }
                Ok(Step::Damaged(_)) if !events.is_empty() => break,
                Ok(Step::Damaged(reason)) => return Err(place.damaged(after, head, reason)?),
                Err(error) => return given_or(events, error),
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
            // Where what follows damage is late enough the answer is the damage, so that whoever reads
            // on from there is told of it.
            let (from, page) = self.readable_from(middle, high)?;
            match page {
                Some(page) if page.time < time => low = page.last().next(),
                _ => high = from.min(middle).max(low),
            }
        }
        Ok(low)
    }

    /// The head of the page that holds this position, or of the first one behind damage that hides
    /// it, when that begins before `end`. Before it, where page or damage begins.
    fn readable_from(
        &self,
        position: Position,
        end: Position,
    ) -> Result<(Position, Option<PageHeader>), ReadError> {
        let (mut at, mut damaged) = (position, None);
        while at < end {
            let segment = self.segment_of(at)?;
            // Whole, because a head whose checksum is not tried may tell anything.
            let page = self
                .refuse_damaged(at)
                .and_then(|()| self.sound_page(segment, at));
            match page {
                Ok(page) => return Ok((damaged.unwrap_or(page.header.first), Some(page.header))),
                Err(ReadError::Corrupt { from, to, .. }) => {
                    damaged.get_or_insert(from);
                    at = at.max(to).next();
                }
                Err(error) => return Err(error),
            }
        }
        Ok((damaged.unwrap_or(position), None))
    }

    /// The hash of the page that holds a visible position.
    pub(crate) fn page_hash(&self, position: Position) -> Result<PageHash, ReadError> {
        let segment = self.segment_of(position)?;
        self.refuse_damaged(position)?;
        Ok(self.sound_page(segment, position)?.hash())
    }

    fn sound_page(&self, segment: Position, position: Position) -> Result<Page, ReadError> {
        let store = self.store(segment)?;
        let page = SegmentReader(store.as_ref()).page_at(position);
        page.map_err(|error| self.page_error(segment, error))
    }

    /// The events of the page that holds this position.
    fn page_of(&self, position: Position) -> Result<PageEvents, ReadError> {
        let segment = self.segment_of(position)?;
        if let Some(page) = self.kept_page(position) {
            return Ok(page);
        }
        self.refuse_damaged(position)?;
        let page = self.sound_page(segment, position)?;
        let first = page.header.first;
        let events = page.events(&self.decoder);
        let events = events.map_err(|reason| self.corrupt(first, page.header.last(), reason))?;
        let events = Arc::new(events);
        self.keep_page(first, &events);
        Ok(events)
    }

    /// Whether a repair has given up what is damaged here: the segment behind it begins by saying so,
    /// which is all that is to be told.
    fn is_given_up(&self, from: Position, to: Position) -> bool {
        let behind = to.next();
        if behind > self.head() || self.segments().of(behind) != Some(behind) {
            return false;
        }
        let page = self.page_of(behind);
        let told = page.ok().and_then(|page| page.first()?.clone().ok());
        let begins = told.and_then(|event| event.event.repaired_from());
        begins.is_some_and(|begins| begins <= from)
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
            PageError::Storage(StorageError::Corrupt { what, reason }) => {
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
        match (low.checked_sub(1), firsts.first()) {
            (Some(at), _) => Ok(firsts[at]),
            (None, Some(first)) => match self.base_head(*first, stream) {
                Ok(base) => Err(ReadError::StreamGone {
                    stream,
                    first: base.next(),
                }),
                // It may have been there: the reader finds the damage.
                Err(ReadError::Corrupt { .. }) => Ok(*first),
                Err(error) => Err(error),
            },
            (None, None) => Err(self.segments().gone()),
        }
    }

    /// The version a stream had before a segment. Damage to the table of it alone leaves its pages
    /// sound.
    fn base_head(&self, segment: Position, stream: StreamId) -> Result<Version, ReadError> {
        let store = self.store(segment)?;
        match SegmentReader(store.as_ref()).base_head(stream) {
            Ok(base) => Ok(base),
            Err(StorageError::Corrupt { what, reason }) => Err(ReadError::Corrupt {
                from: segment,
                to: self.segments().last_of(segment).unwrap_or(Position::MAX),
                reason: format!("{what}: {reason}"),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was read, or why nothing was.
fn given_or(events: Events, error: ReadError) -> Result<Events, ReadError> {
    if events.is_empty() {
        Err(error)
    } else {
        Ok(events)
    }
}

fn undecodable(bad: &Undecodable) -> ReadError {
    ReadError::Undecodable {
        position: bad.position,
        stream: bad.stream,
        version: bad.version,
        event_type: bad.event_type.clone(),
        reason: bad.reason.clone(),
    }
}

/// A reader of a stream on its way through the segments.
struct StreamPlace<'a> {
    view: &'a View,
    stream: StreamId,
    next: Version,
    segment: Position,
}

/// What stands at a place of a stream.
enum Step {
    /// Events from there on; the place is behind them.
    Events(Events),
    /// Damage; the place is behind what is known to be lost.
    Damaged(String),
}

impl StreamPlace<'_> {
    /// Goes on until something can be read or the stream ends, and tells where that is.
    fn damaged(
        mut self,
        after: Version,
        head: Version,
        reason: String,
    ) -> Result<ReadError, ReadError> {
        let mut resume = self.next;
        while resume <= head {
            match self.step() {
                Ok(Step::Damaged(_)) => resume = self.next,
                // An event that does not decode says so when it is read.
                Ok(Step::Events(_)) | Err(ReadError::Undecodable { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ReadError::StreamDamaged {
            stream: self.stream,
            after,
            resume,
            reason,
        })
    }

    /// Reads the page where `next` stands, from `next` on, or passes damage.
    fn step(&mut self) -> Result<Step, ReadError> {
        loop {
            let store = match self.view.store(self.segment) {
                Ok(store) => store,
                Err(ReadError::Corrupt { reason, .. }) => {
                    if self.pass_segment() {
                        return Ok(Step::Damaged(reason));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let reader = SegmentReader(store.as_ref());
            let row = match reader.index_at(self.stream, self.next) {
                Ok(row) => row.filter(|row| row.last() >= self.next && self.is_within(row.page)),
                Err(StorageError::Corrupt { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if let Some(row) = row {
                match self.view.page_of(row.page) {
                    Ok(page) => {
                        if let Some(step) = self.events_of(&page)? {
                            return Ok(step);
                        }
                    }
                    Err(ReadError::Corrupt { reason, .. }) if self.continues(reader, &row)? => {
                        self.next = row.last().next();
                        return Ok(Step::Damaged(reason));
                    }
                    Err(ReadError::Corrupt { .. }) => {}
                    Err(error) => return Err(error),
                }
            } else if self.begins_later()? {
                self.segment = self.next_segment().expect("one begins later");
                continue;
            }
            return self.search(reader);
        }
    }

    /// Whether a page can be of this segment.
    fn is_within(&self, page: Position) -> bool {
        let last = self.view.segments().last_of(self.segment);
        page >= self.segment && page <= last.unwrap_or_else(|| self.view.head())
    }

    fn next_segment(&self) -> Option<Position> {
        self.view
            .segments()
            .last_of(self.segment)
            .map(Position::next)
    }

    /// Whether the next segment says that `next` is behind what stands before it.
    fn begins_later(&self) -> Result<bool, ReadError> {
        let Some(next) = self.next_segment() else {
            return Ok(false);
        };
        match self.view.base_head(next, self.stream) {
            Ok(base) => Ok(base < self.next),
            Err(ReadError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether what a row of the index says of its end is borne out: another row goes on there, or
    /// the stream ends there in this segment.
    fn continues(&self, reader: SegmentReader<'_>, row: &IndexRow) -> Result<bool, ReadError> {
        let behind = row.last().next();
        if let Ok(Some(other)) = reader.index_at(self.stream, behind)
            && other.first == behind
        {
            return Ok(true);
        }
        match self.next_segment() {
            None => Ok(row.last() == self.view.stream_version(self.stream)),
            Some(next) => match self.view.base_head(next, self.stream) {
                Ok(base) => Ok(base == row.last()),
                Err(ReadError::Corrupt { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// The events from `next` on of a page; `None` when it does not go on there.
    fn events_of(&mut self, page: &PageEvents) -> Result<Option<Step>, ReadError> {
        let mut events = Vec::new();
        let mut next = self.next;
        for event in page.iter() {
            match event {
                Ok(event) if event.stream == self.stream && event.version >= self.next => {
                    if event.version != next {
                        return Ok(None);
                    }
                    events.push(Arc::clone(event));
                    next = next.next();
                }
                Err(bad) if bad.stream == self.stream && bad.version >= self.next => {
                    if bad.version == self.next {
                        return Err(undecodable(bad));
                    }
                    break;
                }
                _ => {}
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        self.next = next;
        Ok(Some(Step::Events(events)))
    }

    /// Searches the pages of the segment for what its index should have told.
    fn search(&mut self, reader: SegmentReader<'_>) -> Result<Step, ReadError> {
        let damage = |reason: &str| Ok(Step::Damaged(reason.to_owned()));
        let last = self.view.segments().last_of(self.segment);
        let last = last.unwrap_or_else(|| self.view.head());
        let mut position = self.segment;
        while position <= last {
            let page = match reader.page_at(position) {
                Ok(page) => page,
                Err(PageError::Damaged(PageDamage { to, .. })) => {
                    position = to.unwrap_or(last).next();
                    continue;
                }
                Err(error) => return Err(self.view.page_error(self.segment, error)),
            };
            position = page.header.last().next();
            let runs = page.runs().unwrap_or_default();
            let run = runs
                .iter()
                .find(|run| run.stream == self.stream && run.first.plus(run.count) > self.next);
            match run {
                None => {}
                Some(run) if run.first > self.next => {
                    self.next = run.first;
                    return damage("the page that held it is damaged");
                }
                Some(_) => {
                    let events = self.view.page_of(page.header.first)?;
                    if let Some(step) = self.events_of(&events)? {
                        return Ok(step);
                    }
                }
            }
        }
        self.pass_segment();
        damage("no page of its segment holds it")
    }

    /// Goes to the next segment that can be read, behind what is lost before it; says whether
    /// something of the stream is.
    fn pass_segment(&mut self) -> bool {
        while let Some(next) = self.next_segment() {
            self.segment = next;
            if let Ok(base) = self.view.base_head(next, self.stream) {
                let is_lost = base >= self.next;
                self.next = self.next.max(base.next());
                return is_lost;
            }
        }
        self.next = self.view.stream_version(self.stream).next();
        true
    }
}
