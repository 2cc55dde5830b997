//! Verification: reads the whole log and holds everything it says against everything else.

use std::{collections::HashMap, sync::Arc};

use crate::model::{Event, LogEvent, Position, Timestamp, Version};

use super::{
    EventLog, ReadError, RecordedEvent, StorageError, StreamId,
    head_file::HeadRecord,
    page::{Page, PageHash},
    segment::{PageError, SegmentHeader, SegmentReader},
    view::View,
};

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyProblem {
    /// The first position that it touches.
    pub from: Position,
    /// The last position that it touches.
    pub to: Position,
    /// What does not hold.
    pub what: String,
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Pages whose checksum holds.
    pub pages: u64,
    /// Events in them.
    pub events: u64,
    /// Events of a type or schema version that this program does not know. Not a problem.
    pub unknown_events: u64,
    /// The last position read.
    pub last: Position,
    /// Everything that does not hold, by position.
    pub problems: Vec<VerifyProblem>,
    /// Ranges that a repair has given up. What is damaged in them is no problem any more.
    pub given_up: Vec<GivenUp>,
}

/// A range of positions that a repair has given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The first position of it.
    pub from: Position,
    /// The last position before the log goes on.
    pub to: Position,
    /// When it was given up.
    pub time: Timestamp,
    /// How the damage had been seen.
    pub reason: String,
}

impl GivenUp {
    fn by(recorded: &RecordedEvent) -> Option<Self> {
        let Event::Log(LogEvent::Repaired(repaired)) = &recorded.event else {
            return None;
        };
        Some(Self {
            from: repaired.from,
            to: recorded.position.previous(),
            time: recorded.time,
            reason: repaired.reason.clone(),
        })
    }

    fn covers(&self, problem: &VerifyProblem) -> bool {
        self.from <= problem.from && problem.to <= self.to
    }
}

impl VerifyReport {
    /// Whether everything holds.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How far verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The last position read.
    pub position: Position,
    /// The position where it ends.
    pub head: Position,
}

impl EventLog {
    /// Reads the log up to its head now: checksums, the chain of hashes over pages and segments,
    /// gapless positions and versions, times that never go back, payloads, and the index. Calls
    /// `progress` after each page. Blocks, long.
    ///
    /// Damage is reported, not an error: errors are those of a store that cannot be asked.
    pub fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress),
    ) -> Result<VerifyReport, ReadError> {
        let head = self.head();
        let mut verifier = Verifier {
            view: Arc::clone(self.view()),
            head,
            next: self.first_position(),
            chain: None,
            heads: None,
            time: None,
            recorded: self.view().head_file().record(),
            report: VerifyReport::default(),
        };
        let firsts = self.view().segments().firsts.clone();
        for first in firsts.iter().copied() {
            verifier.segment(first, &mut |position| {
                progress(VerifyProgress { position, head });
            })?;
        }
        if verifier.next <= head {
            verifier.problem(verifier.next, head, "it is missing");
        }
        verifier.behind_head();
        let VerifyReport {
            problems, given_up, ..
        } = &mut verifier.report;
        problems.retain(|problem| !given_up.iter().any(|given_up| given_up.covers(problem)));
        Ok(verifier.report)
    }
}

struct Verifier {
    view: Arc<View>,
    head: Position,
    /// The next position to come.
    next: Position,
    /// The hash of the page before; `None` when damage hides it.
    chain: Option<PageHash>,
    /// The versions before `next`; `None` before the first segment that can be read.
    heads: Option<HashMap<StreamId, Version>>,
    /// The time of the page before.
    time: Option<Timestamp>,
    /// What the `HEAD` file tells.
    recorded: Option<HeadRecord>,
    report: VerifyReport,
}

impl Verifier {
    /// What was found to be missing behind the head when the log was opened.
    fn behind_head(&mut self) {
        let damage = self.view.segments().damage().to_vec();
        let head = self.head;
        for lost in damage.into_iter().filter(|lost| lost.from > head) {
            let named = |problem: &VerifyProblem| problem.from == lost.from;
            if !self.report.problems.iter().any(named) {
                self.problem(lost.from, lost.to.unwrap_or(lost.from), lost.reason);
            }
        }
        if self.view.head_file().is_damaged() {
            let what = "the HEAD file is damaged, so what is lost at either end is not seen";
            self.problem(self.head, self.head, what);
        }
    }

    fn problem(&mut self, from: Position, to: Position, what: impl Into<String>) {
        self.report.problems.push(VerifyProblem {
            from,
            to,
            what: what.into(),
        });
    }

    fn segment(
        &mut self,
        first: Position,
        progress: &mut dyn FnMut(Position),
    ) -> Result<(), ReadError> {
        let last = self.view.segments().last_of(first).unwrap_or(self.head);
        if first != self.next {
            self.problem(self.next, first.previous(), "it is missing");
            (self.chain, self.heads) = (None, None);
        }
        self.next = first;
        self.report.segments += 1;
        match self.pages(first, last, progress) {
            Ok(()) => Ok(()),
            Err(
                error @ (ReadError::Corrupt { .. }
                | ReadError::Storage(StorageError::Corrupt { .. })),
            ) => {
                self.problem(self.next, last.max(self.next), error.to_string());
                self.next = last.next();
                self.chain = None;
                self.heads = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn pages(
        &mut self,
        first: Position,
        last: Position,
        progress: &mut dyn FnMut(Position),
    ) -> Result<(), ReadError> {
        let store = self.view.store(first)?;
        let reader = SegmentReader(store.as_ref());
        let header = reader.header(first)?;
        let header =
            header.ok_or_else(|| StorageError::corrupt("a segment", "it has no header"))?;
        self.begin(reader, &header)?;
        let mut runs = 0;
        while self.next <= last {
            match reader.page_at(self.next) {
                Ok(page) => runs += self.page(reader, &page)?,
                Err(PageError::Storage(error)) => return Err(error.into()),
                Err(PageError::Damaged(damage)) => {
                    let to = damage.to.unwrap_or(last);
                    self.problem(self.next, to, damage.reason);
                    runs += self.pass_over(reader, to)?;
                }
            }
            self.report.last = self.next.previous();
            progress(self.report.last);
        }
        let index = reader.index()?;
        let indexed = index.iter().filter(|row| row.page <= last).count() as u64;
        if indexed != runs {
            self.problem(
                first,
                last,
                format!("its index has {indexed} rows where its pages ask for {runs}"),
            );
        }
        Ok(())
    }

    fn begin(
        &mut self,
        reader: SegmentReader<'_>,
        header: &SegmentHeader,
    ) -> Result<(), StorageError> {
        let base = reader.base_heads(header)?;
        if self.chain.is_some_and(|chain| chain != header.previous) {
            let what = "its segment does not follow the one before it";
            self.problem(header.first, header.first, what);
        }
        if self.heads.as_ref().is_some_and(|heads| *heads != base) {
            let what = "its segment begins with other versions than the one before ends with";
            self.problem(header.first, header.first, what);
        }
        self.chain = Some(header.previous);
        self.heads = Some(base);
        Ok(())
    }

    /// Checks a page; gives how many index rows it asks for.
    fn page(&mut self, reader: SegmentReader<'_>, page: &Page) -> Result<u64, StorageError> {
        let (first, last) = (page.header.first, page.header.last());
        if first != self.next {
            self.problem(first, last, format!("it overlaps position {}", self.next));
        }
        if self
            .chain
            .is_some_and(|chain| chain != page.header.previous)
        {
            self.problem(first, last, "it does not follow the page before it");
        }
        if self.time.is_some_and(|time| page.header.time < time) {
            self.problem(first, last, "its time is before that of the page before it");
        }
        let recorded = self.recorded.filter(|record| record.head == last);
        if recorded.is_some_and(|record| record.hash != page.hash()) {
            self.problem(first, last, "it is another page than the HEAD file names");
        }
        self.time = Some(page.header.time);
        self.chain = Some(page.hash());
        self.next = last.next();
        self.report.pages += 1;
        self.report.events += u64::from(page.header.count);
        match page.events(&self.view.decoder) {
            Ok(events) => {
                for event in events {
                    match event {
                        Ok(event) if matches!(event.event, Event::Unknown(_)) => {
                            self.report.unknown_events += 1;
                        }
                        Ok(event) => self.report.given_up.extend(GivenUp::by(&event)),
                        Err(bad) => self.problem(bad.position, bad.position, bad.reason.clone()),
                    }
                }
            }
            Err(reason) => self.problem(first, last, reason),
        }
        match page.runs() {
            Ok(runs) => {
                for run in &runs {
                    let row = reader.index_at(run.stream, run.first)?;
                    let agrees = row.is_some_and(|row| {
                        (row.first, row.count, row.page) == (run.first, run.count, first)
                    });
                    if !agrees {
                        let what = format!("the index of stream {} does not name it", run.stream);
                        self.problem(first, last, what);
                    }
                    let last_version = run.first.plus(run.count.saturating_sub(1));
                    self.version(first, last, run.stream, run.first, last_version);
                }
                Ok(runs.len() as u64)
            }
            Err(_) => Ok(0),
        }
    }

    fn version(
        &mut self,
        from: Position,
        to: Position,
        stream: StreamId,
        first: Version,
        last: Version,
    ) {
        let heads = self.heads.get_or_insert_default();
        let before = heads.insert(stream, last).unwrap_or_default();
        if first != before.next() {
            let what = format!("version {first} of stream {stream} follows {before}");
            self.problem(from, to, what);
        }
    }

    /// Goes on behind a damaged page with what the index says of it; gives its index rows.
    fn pass_over(&mut self, reader: SegmentReader<'_>, to: Position) -> Result<u64, ReadError> {
        let heads = self.heads.get_or_insert_default();
        let mut rows = 0;
        for row in reader.index()? {
            if (self.next..=to).contains(&row.page) {
                heads.insert(row.stream, row.last());
                rows += 1;
            }
        }
        // The page that follows carries the hash of what once stood here.
        self.chain = None;
        self.next = to.next();
        Ok(rows)
    }
}
