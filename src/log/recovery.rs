//! Opening: what the newest segment tells of where the log ends. Sealed segments are not opened.

use std::{collections::HashMap, sync::Arc};

use crate::model::{Position, Timestamp, Version};

use super::{
    SegmentStore, Storage, StorageError, StreamId,
    page::{NO_PAGE, PageHash, hash},
    segment::{PageDamage, PageError, SegmentHeader, SegmentReader},
    view::Quarantined,
};

pub(crate) enum Newest {
    None,
    /// It cannot be opened, so where the log ends is not known.
    Unreadable {
        first: Position,
        reason: String,
    },
    Readable {
        first: Position,
        created: Timestamp,
        store: Arc<dyn SegmentStore>,
        bytes: u64,
        /// Whether every page of it is sound.
        sound: bool,
    },
}

pub(crate) struct Recovered {
    pub(crate) firsts: Vec<Position>,
    pub(crate) newest: Newest,
    pub(crate) head: Position,
    pub(crate) heads: HashMap<StreamId, Version>,
    pub(crate) damage: Vec<Quarantined>,
    pub(crate) last_hash: PageHash,
    pub(crate) last_time: Timestamp,
}

/// Finds where the log ends. A segment that was made and never begun is dropped, unless the log is
/// only read.
pub(crate) fn recover(storage: &dyn Storage, read_only: bool) -> Result<Recovered, StorageError> {
    let mut firsts = storage.segments()?;
    while let Some(first) = firsts.last().copied() {
        match open_newest(storage, first) {
            Ok(Some((store, header))) => return recover_from(firsts, store, &header),
            Ok(None) => {
                firsts.pop();
                if !read_only {
                    storage.remove(first)?;
                }
            }
            Err(StorageError::Corrupt { what, reason }) => {
                return Ok(unreadable(firsts, first, format!("{what}: {reason}")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Recovered {
        firsts,
        newest: Newest::None,
        head: Position::ZERO,
        heads: HashMap::new(),
        damage: Vec::new(),
        last_hash: NO_PAGE,
        last_time: Timestamp::from_millis(i64::MIN),
    })
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

fn unreadable(firsts: Vec<Position>, first: Position, reason: String) -> Recovered {
    Recovered {
        firsts,
        head: first.previous(),
        heads: HashMap::new(),
        damage: vec![Quarantined {
            from: first,
            to: None,
            reason: reason.clone(),
        }],
        newest: Newest::Unreadable { first, reason },
        last_hash: NO_PAGE,
        last_time: Timestamp::from_millis(i64::MIN),
    }
}

fn recover_from(
    firsts: Vec<Position>,
    store: Arc<dyn SegmentStore>,
    header: &SegmentHeader,
) -> Result<Recovered, StorageError> {
    match Scan::run(SegmentReader(store.as_ref()), header) {
        Ok(scan) => Ok(Recovered {
            firsts,
            newest: Newest::Readable {
                first: header.first,
                created: header.created,
                store,
                bytes: scan.bytes,
                sound: scan.damage.is_empty(),
            },
            head: scan.next.previous(),
            heads: scan.heads,
            damage: scan.damage,
            last_hash: scan.last_hash,
            last_time: scan.last_time,
        }),
        Err(StorageError::Corrupt { what, reason }) => Ok(unreadable(
            firsts,
            header.first,
            format!("{what}: {reason}"),
        )),
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
            end = end.plus(row.count);
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
                self.last_hash = page.hash;
                self.chained = true;
                self.last_time = self.last_time.max(page.header.time);
                self.bytes += reader
                    .page_bytes(page.header.first)?
                    .map_or(0, |bytes| bytes.len() as u64);
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
