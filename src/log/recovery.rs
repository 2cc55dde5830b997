//! Opening: what the newest segment tells of where the log ends. Sealed segments are not opened.

use std::{collections::HashMap, sync::Arc};

use crate::model::{Position, Timestamp, Version};

use super::{
    SegmentStore, Storage, StorageError, StreamId,
    head_file::HeadRecord,
    page::{NO_PAGE, PageHash, hash},
    segment::{PageDamage, PageError, SegmentHeader, SegmentReader},
    view::Quarantined,
};

pub(crate) enum Newest {
    None,
    /// It cannot be opened.
    Unreadable {
        first: Position,
    },
    Readable {
        first: Position,
        created: Timestamp,
        store: Arc<dyn SegmentStore>,
        bytes: u64,
        index_rows: u64,
        /// Whether every page of it is sound.
        sound: bool,
    },
}

pub(crate) struct Recovered {
    pub(crate) firsts: Vec<Position>,
    pub(crate) newest: Newest,
    pub(crate) head: Position,
    pub(crate) heads: HashMap<StreamId, Version>,
    /// The first position of a segment that is not there, though the record tells of it.
    pub(crate) missing_first: Option<Position>,
    pub(crate) damage: Vec<Quarantined>,
    /// What is lost behind the head. The versions that streams reached in it are not known.
    pub(crate) lost_tail: Option<Quarantined>,
    pub(crate) last_hash: PageHash,
    pub(crate) last_time: Timestamp,
}

/// What opening may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// Nothing.
    ReadOnly,
    /// For writing; what opening may alter is set aside.
    Write,
    /// Again in a living process, which knows what it has written.
    Again,
}

/// Finds where the log ends, and holds it against what is recorded. A segment that was made and
/// never begun is dropped, unless the log is only read.
pub(crate) fn recover(
    storage: &dyn Storage,
    mode: OpenMode,
    record: Option<HeadRecord>,
) -> Result<Recovered, StorageError> {
    let firsts = storage.segments()?;
    let mut recovered = recover_newest(storage, mode, record, firsts)?;
    if let Some(record) = record {
        recovered.compare(&record);
    }
    if mode == OpenMode::Write {
        recovered.settle(storage);
    }
    Ok(recovered)
}

fn recover_newest(
    storage: &dyn Storage,
    mode: OpenMode,
    record: Option<HeadRecord>,
    mut firsts: Vec<Position>,
) -> Result<Recovered, StorageError> {
    while let Some(first) = firsts.last().copied() {
        if mode == OpenMode::Write
            && let Err(error) = storage.set_aside(first)
        {
            tracing::warn!(%error, "the newest segment is opened without a copy of it");
        }
        match open_newest(storage, first) {
            Ok(Some((store, header))) => {
                let firsts = without_given_up(storage, mode, firsts, store.as_ref(), &header)?;
                return recover_from(storage, firsts, store, &header);
            }
            Ok(None) if record.is_some_and(|record| record.newest >= first) => {
                let reason = "it was begun and is empty".to_owned();
                return unreadable(storage, firsts, first, reason);
            }
            Ok(None) => {
                firsts.pop();
                if mode != OpenMode::ReadOnly {
                    storage.settle(first, false)?;
                    storage.remove(first)?;
                }
            }
            Err(StorageError::Corrupt { what, reason }) => {
                return unreadable(storage, firsts, first, format!("{what}: {reason}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Recovered::nothing(firsts))
}

impl Recovered {
    fn nothing(firsts: Vec<Position>) -> Self {
        Self {
            firsts,
            newest: Newest::None,
            head: Position::ZERO,
            heads: HashMap::new(),
            missing_first: None,
            damage: Vec::new(),
            lost_tail: None,
            last_hash: NO_PAGE,
            last_time: Timestamp::from_millis(i64::MIN),
        }
    }

    /// What was recorded was durable, so where less is found it was lost.
    fn compare(&mut self, record: &HeadRecord) {
        let first = self.firsts.first().copied();
        if record.head >= record.first && first.is_none_or(|first| first > record.first) {
            self.missing_first = Some(record.first);
            self.firsts.insert(0, record.first);
            self.head = self.head.max(record.first.previous());
        }
        if let Some(lost) = &mut self.lost_tail {
            lost.to = (record.head >= lost.from).then_some(record.head);
        } else if self.head < record.head || self.newest_begun() < record.newest {
            self.lost_tail = Some(Quarantined {
                from: self.head.next(),
                to: (self.head < record.head).then_some(record.head),
                reason: format!("it was written, and the log ends at position {}", self.head),
            });
        }
    }

    /// Keeps the newest segment as it was found when it is damaged.
    fn settle(&self, storage: &dyn Storage) {
        let is_damaged = self.lost_tail.is_some() || !self.damage.is_empty();
        match storage.settle(self.newest_begun(), is_damaged) {
            Ok(None) => {}
            Ok(Some(path)) => {
                let path = path.display();
                tracing::error!(%path, "the newest segment is kept as it was found, damaged");
            }
            Err(error) => tracing::warn!(%error, "a copy of the newest segment is left behind"),
        }
    }

    fn newest_begun(&self) -> Position {
        match self.newest {
            Newest::None => Position::ZERO,
            Newest::Unreadable { first } | Newest::Readable { first, .. } => first,
        }
    }
}

/// The segments without those that the newest says a repair has given up. One that could not be read
/// then may be readable, in part, now: it must not come back.
fn without_given_up(
    storage: &dyn Storage,
    mode: OpenMode,
    mut firsts: Vec<Position>,
    store: &dyn SegmentStore,
    header: &SegmentHeader,
) -> Result<Vec<Position>, StorageError> {
    let page = SegmentReader(store).page_at(header.first).ok();
    let Some(from) = page.and_then(|page| page.repaired_from()) else {
        return Ok(firsts);
    };
    let is_given_up = |first: &Position| (from..header.first).contains(first);
    if mode != OpenMode::ReadOnly {
        for first in firsts.iter().copied().filter(is_given_up) {
            storage.give_up(first)?;
        }
    }
    firsts.retain(|first| !is_given_up(first));
    Ok(firsts)
}

type Opened = Option<(Arc<dyn SegmentStore>, SegmentHeader)>;

fn open_newest(storage: &dyn Storage, first: Position) -> Result<Opened, StorageError> {
    let store = storage.open(first)?;
    let reader = SegmentReader(store.as_ref());
    let Some(header) = reader.header(first)? else {
        // Pages without a header are damage; nothing at all is a segment that was never begun.
        return match reader.page_first_after(Position::ZERO)? {
            None => Ok(None),
            Some(_) => Err(StorageError::corrupt(
                format!("segment {first}"),
                "it has pages and no header",
            )),
        };
    };
    Ok(Some((store, header)))
}

/// The newest segment cannot be read: the log is read up to it.
fn unreadable(
    storage: &dyn Storage,
    firsts: Vec<Position>,
    first: Position,
    reason: String,
) -> Result<Recovered, StorageError> {
    let (own, before) = (begins_with(storage, first)?, &firsts[..firsts.len() - 1]);
    let before = match own {
        Some(known) => Some(known),
        None => scan_before(storage, before)?.map(|scan| (scan.heads, scan.last_time)),
    };
    let mut recovered = Recovered::nothing(firsts);
    if let Some((heads, time)) = before {
        (recovered.heads, recovered.last_time) = (heads, time);
    }
    recovered.head = first.previous();
    recovered.newest = Newest::Unreadable { first };
    recovered.lost_tail = Some(Quarantined {
        from: first,
        to: None,
        reason,
    });
    Ok(recovered)
}

/// The versions that streams had when a segment began, and when that was.
type Beginning = (HashMap<StreamId, Version>, Timestamp);

/// The versions that streams had before this segment, and a time that none before it is after, where
/// its table of them can be read.
fn begins_with(storage: &dyn Storage, first: Position) -> Result<Option<Beginning>, StorageError> {
    let known = open_newest(storage, first).and_then(|opened| {
        let Some((store, header)) = opened else {
            return Ok(None);
        };
        let heads = SegmentReader(store.as_ref()).base_heads(&header)?;
        Ok(Some((heads, header.created)))
    });
    match known {
        Err(StorageError::Corrupt { .. }) => Ok(None),
        known => known,
    }
}

/// What the last readable one of these segments ends with.
fn scan_before(storage: &dyn Storage, firsts: &[Position]) -> Result<Option<Scan>, StorageError> {
    for first in firsts.iter().rev() {
        let scanned = match open_newest(storage, *first) {
            Ok(Some((store, header))) => Scan::run(SegmentReader(store.as_ref()), &header),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match scanned {
            Ok(scan) => return Ok(Some(scan)),
            Err(StorageError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn recover_from(
    storage: &dyn Storage,
    firsts: Vec<Position>,
    store: Arc<dyn SegmentStore>,
    header: &SegmentHeader,
) -> Result<Recovered, StorageError> {
    match Scan::run(SegmentReader(store.as_ref()), header) {
        Ok(scan) => Ok(Recovered {
            newest: Newest::Readable {
                first: header.first,
                created: header.created,
                store,
                bytes: scan.bytes,
                index_rows: scan.index_rows,
                sound: scan.damage.is_empty(),
            },
            head: scan.next.previous(),
            heads: scan.heads,
            damage: scan.damage,
            last_hash: scan.last_hash,
            last_time: scan.last_time,
            ..Recovered::nothing(firsts)
        }),
        Err(StorageError::Corrupt { what, reason }) => {
            drop(store);
            unreadable(storage, firsts, header.first, format!("{what}: {reason}"))
        }
        Err(error) => Err(error),
    }
}

/// One pass over the pages of the newest segment.
struct Scan {
    next: Position,
    heads: HashMap<StreamId, Version>,
    damage: Vec<Quarantined>,
    last_hash: PageHash,
    /// Whether the page before is sound, so that the next must carry its hash.
    chained: bool,
    last_time: Timestamp,
    bytes: u64,
    index_rows: u64,
}

impl Scan {
    fn run(reader: SegmentReader<'_>, header: &SegmentHeader) -> Result<Self, StorageError> {
        let mut scan = Self {
            next: header.first,
            heads: reader.base_heads(header)?,
            damage: Vec::new(),
            last_hash: header.previous,
            chained: true,
            last_time: header.created,
            bytes: 0,
            index_rows: 0,
        };
        // The index counts the events of damaged pages too, so it tells where the log ends.
        let mut end = header.first;
        for row in reader.index()? {
            let head = scan.heads.entry(row.stream).or_default();
            if row.first != head.next() {
                return Err(StorageError::corrupt(
                    format!("the index of stream {}", row.stream),
                    format!("version {} follows {head}", row.first),
                ));
            }
            *head = row.last();
            let sum = end.get().checked_add(row.count);
            let sum = sum.ok_or_else(|| {
                StorageError::corrupt("an index row", "it counts more than there can be")
            })?;
            end = Position::new(sum);
            scan.index_rows += 1;
        }
        while scan.next < end {
            scan.step(reader, end)?;
        }
        match reader.page_first_after(end)? {
            None if scan.next == end => Ok(scan),
            _ => Err(StorageError::corrupt(
                format!("segment {}", header.first),
                format!("its pages do not end at position {}", end.previous()),
            )),
        }
    }

    fn step(&mut self, reader: SegmentReader<'_>, end: Position) -> Result<(), StorageError> {
        match reader.page_at(self.next) {
            Ok(page) => {
                if self.chained && page.header.previous != self.last_hash {
                    self.quarantine(
                        self.next,
                        page.header.last(),
                        "it does not follow the page before it",
                    );
                }
                self.last_hash = page.hash();
                self.chained = true;
                self.last_time = self.last_time.max(page.header.time);
                self.bytes += page.stored_bytes();
                self.next = page.header.last().next();
                Ok(())
            }
            Err(PageError::Damaged(PageDamage { to, reason, .. })) => {
                let to = to.unwrap_or_else(|| end.previous());
                let bytes = reader.page_bytes(self.next)?;
                self.last_hash = bytes.map_or(self.last_hash, |bytes| hash(&bytes));
                self.chained = false;
                self.quarantine(self.next, to, &reason);
                self.next = to.next();
                Ok(())
            }
            Err(PageError::Storage(error)) => Err(error),
        }
    }

    fn quarantine(&mut self, from: Position, to: Position, reason: &str) {
        self.damage.push(Quarantined {
            from,
            to: Some(to),
            reason: reason.to_owned(),
        });
    }
}
