//! What a segment holds: its header, the versions that streams had before it, its pages, and the
//! index from streams to pages. `FORMAT.md` tells it byte by byte.

use std::{collections::HashMap, ops::ControlFlow};

use bytes::{Bytes, BytesMut};

use crate::model::{Position, Timestamp, Version};

use super::{
    SegmentStore, StorageError, StreamId,
    codec::{Cursor, put_varint},
    page::{PART_BYTES_MAX, Page, PageBuilder, PageHash, PageHeader, StreamRun},
    storage::Row,
};

/// The segment format this program writes.
const SEGMENT_FORMAT: u8 = 1;
/// Streams in one row of the table of heads: 27 bytes at most each, below a part.
const HEADS_A_ROW: usize = 200;

const HEADER_KEY: &[u8] = b"m";
const HEADS: u8 = b'h';
const PAGES: u8 = b'p';
const INDEX: u8 = b's';

/// The head of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) first: Position,
    pub(crate) created: Timestamp,
    /// The hash of the page before its first one.
    pub(crate) previous: PageHash,
    /// How many streams its table of heads has.
    pub(crate) streams: u32,
}

/// The rows that begin a segment.
pub(crate) fn header_rows(header: &SegmentHeader, heads: &HashMap<StreamId, Version>) -> Vec<Row> {
    let mut value = vec![SEGMENT_FORMAT];
    value.extend_from_slice(&header.first.get().to_be_bytes());
    value.extend_from_slice(&header.created.as_millis().to_be_bytes());
    value.extend_from_slice(&header.previous);
    value.extend_from_slice(&header.streams.to_be_bytes());
    let mut rows = vec![Row::put(HEADER_KEY.to_vec(), sealed(value))];
    let mut sorted: Vec<_> = heads.iter().collect();
    sorted.sort_unstable();
    rows.extend(sorted.chunks(HEADS_A_ROW).map(|chunk| {
        let mut value = Vec::new();
        for (stream, version) in chunk {
            value.extend_from_slice(&stream.to_bytes());
            put_varint(&mut value, version.get());
        }
        Row::put(stream_key(HEADS, *chunk[0].0), sealed(value))
    }));
    rows
}

/// The rows of one commit: the parts of its page, and an index row for each stream in it.
pub(crate) fn page_rows(builder: &PageBuilder, first: Position, page: &[u8]) -> Vec<Row> {
    let parts = page.chunks(PART_BYTES_MAX).zip(0_u16..);
    let mut rows: Vec<Row> = parts
        .map(|(part, number)| Row::put(page_key(first, number), part.to_vec()))
        .collect();
    rows.extend(builder.runs().iter().map(|run| index_row(run, first)));
    rows
}

fn index_row(run: &StreamRun, page: Position) -> Row {
    let mut value = page.get().to_be_bytes().to_vec();
    put_varint(&mut value, run.count);
    Row::put(index_key(run.stream, run.first), value)
}

fn stream_key(table: u8, stream: StreamId) -> Vec<u8> {
    [&[table], stream.to_bytes().as_slice()].concat()
}

fn index_key(stream: StreamId, version: Version) -> Vec<u8> {
    [
        stream_key(INDEX, stream).as_slice(),
        &version.get().to_be_bytes(),
    ]
    .concat()
}

fn page_key(first: Position, part: u16) -> Vec<u8> {
    [
        &[PAGES],
        first.get().to_be_bytes().as_slice(),
        &part.to_be_bytes(),
    ]
    .concat()
}

/// A value with its checksum behind it.
pub(crate) fn sealed(mut value: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&value);
    value.extend_from_slice(&crc.to_be_bytes());
    value
}

/// A value whose checksum holds, without it.
pub(crate) fn unsealed(value: &[u8]) -> Option<&[u8]> {
    let (value, crc) = value.split_last_chunk()?;
    (crc32c::crc32c(value) == u32::from_be_bytes(*crc)).then_some(value)
}

/// A place in the stream index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexRow {
    pub(crate) stream: StreamId,
    pub(crate) first: Version,
    pub(crate) count: u64,
    pub(crate) page: Position,
}

impl IndexRow {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut key = Cursor(key.strip_prefix(&[INDEX])?);
        let mut value = Cursor(value);
        let row = Self {
            stream: StreamId::from_bytes(key.array()?)?,
            first: Version::new(key.u64()?),
            page: Position::new(value.u64()?),
            count: value.varint()?,
        };
        (key.0.is_empty() && value.0.is_empty() && row.count > 0).then_some(row)
    }

    pub(crate) fn last(&self) -> Version {
        Version::new(self.first.get().saturating_add(self.count - 1))
    }
}

/// A damaged page and why it is taken as one; `to` is unknown when no page follows.
#[derive(Debug, Clone)]
pub(crate) struct PageDamage {
    pub(crate) from: Position,
    pub(crate) to: Option<Position>,
    pub(crate) reason: String,
}

/// Why a page was not found or not read.
pub(crate) enum PageError {
    Damaged(PageDamage),
    Storage(StorageError),
}

impl From<StorageError> for PageError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Reads one segment.
#[derive(Clone, Copy)]
pub(crate) struct SegmentReader<'a>(pub(crate) &'a dyn SegmentStore);

impl SegmentReader<'_> {
    /// The header; `None` in a segment that was made and never begun.
    pub(crate) fn header(&self, name: Position) -> Result<Option<SegmentHeader>, StorageError> {
        let Some(value) = self.0.get(HEADER_KEY)? else {
            return Ok(None);
        };
        let what = || format!("the header of segment {name}");
        let value = unsealed(&value)
            .ok_or_else(|| StorageError::corrupt(what(), "its checksum does not hold"))?;
        if value.first() != Some(&SEGMENT_FORMAT) {
            return Err(StorageError::corrupt(what(), "its format is not known"));
        }
        let mut cursor = Cursor(&value[1..]);
        let header = (|| {
            Some(SegmentHeader {
                first: Position::new(cursor.u64()?),
                created: Timestamp::from_millis(i64::from_be_bytes(cursor.array()?)),
                previous: cursor.array()?,
                streams: cursor.u32()?,
            })
        })();
        match header {
            Some(header) if header.first == name => Ok(Some(header)),
            Some(header) => Err(StorageError::corrupt(
                what(),
                format!("it belongs to the segment at position {}", header.first),
            )),
            None => Err(StorageError::corrupt(what(), "it is cut off")),
        }
    }

    /// The version each stream had before this segment.
    pub(crate) fn base_heads(
        &self,
        header: &SegmentHeader,
    ) -> Result<HashMap<StreamId, Version>, StorageError> {
        let mut heads = HashMap::new();
        let mut damaged = false;
        self.0.scan(&[HEADS], &[HEADS + 1], &mut |_, value| {
            if let Some(row) = heads_row(value) {
                heads.extend(row);
                ControlFlow::Continue(())
            } else {
                damaged = true;
                ControlFlow::Break(())
            }
        })?;
        if damaged || heads.len() != header.streams as usize {
            return Err(StorageError::corrupt(
                format!("the table of streams of segment {}", header.first),
                "a row of it is missing or its checksum does not hold",
            ));
        }
        Ok(heads)
    }

    /// The version this stream had before this segment.
    pub(crate) fn base_head(&self, stream: StreamId) -> Result<Version, StorageError> {
        let found = self.0.last_at_or_before(&stream_key(HEADS, stream))?;
        let Some((_, value)) = found.filter(|(key, _)| key.first() == Some(&HEADS)) else {
            return Ok(Version::ZERO);
        };
        let row = heads_row(&value).ok_or_else(|| {
            StorageError::corrupt("a table of streams", "its checksum does not hold")
        })?;
        let found = row.iter().find(|(other, _)| *other == stream);
        Ok(found.map_or(Version::ZERO, |(_, version)| *version))
    }

    /// The index row of the page that holds this version, or of the one before it.
    pub(crate) fn index_at(
        &self,
        stream: StreamId,
        version: Version,
    ) -> Result<Option<IndexRow>, StorageError> {
        let found = self.0.last_at_or_before(&index_key(stream, version))?;
        let Some((key, value)) = found.filter(|(key, _)| {
            key.first() == Some(&INDEX) && key[1..].starts_with(&stream.to_bytes())
        }) else {
            return Ok(None);
        };
        let row = IndexRow::read(&key, &value)
            .ok_or_else(|| StorageError::corrupt("an index row", "it makes no sense"))?;
        Ok(Some(row))
    }

    /// Every index row.
    pub(crate) fn index(&self) -> Result<Vec<IndexRow>, StorageError> {
        let (mut rows, mut sound) = (Vec::new(), true);
        self.0.scan(&[INDEX], &[INDEX + 1], &mut |key, value| {
            let row = IndexRow::read(key, value);
            sound = row.is_some();
            rows.extend(row);
            if sound {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if sound {
            Ok(rows)
        } else {
            Err(StorageError::corrupt("an index row", "it makes no sense"))
        }
    }

    /// The page that holds `position`.
    pub(crate) fn page_at(&self, position: Position) -> Result<Page, PageError> {
        let missing = "there is no page for it";
        // Who reads on asks for the first of a page, which is found at once.
        if let Some(bytes) = self.page_bytes(position)? {
            let page = Self::page_from(position, bytes);
            return page.map_err(|reason| self.damage(position, reason));
        }
        let Some(first) = self.page_first_at(position)? else {
            return Err(self.damage(position, missing.to_owned()));
        };
        let page = match self.page(first)? {
            Ok(page) => page,
            Err(reason) => return Err(self.damage(first, reason)),
        };
        if page.header.last() < position {
            return Err(self.damage(page.header.last().next(), missing.to_owned()));
        }
        Ok(page)
    }

    /// The first page that begins at or after `position`.
    pub(crate) fn page_first_after(
        &self,
        position: Position,
    ) -> Result<Option<Position>, StorageError> {
        let mut found = None;
        self.0
            .scan(&page_key(position, 0), &[PAGES + 1], &mut |key, _| {
                found = page_of_key(key).map(|(first, _)| first);
                ControlFlow::Break(())
            })?;
        Ok(found)
    }

    fn page_first_at(&self, position: Position) -> Result<Option<Position>, StorageError> {
        let found = self.0.last_at_or_before(&page_key(position, u16::MAX))?;
        Ok(found.and_then(|(key, _)| page_of_key(&key).map(|(first, _)| first)))
    }

    fn page(&self, first: Position) -> Result<Result<Page, String>, StorageError> {
        let Some(bytes) = self.page_bytes(first)? else {
            return Ok(Err("a part of it is missing".to_owned()));
        };
        Ok(Self::page_from(first, bytes))
    }

    fn page_from(first: Position, bytes: Bytes) -> Result<Page, String> {
        let page = Page::read(bytes)?;
        if page.header.first == first {
            Ok(page)
        } else {
            Err(format!("it says that it begins at {}", page.header.first))
        }
    }

    /// The bytes of the page that begins at `first`, whatever they are.
    pub(crate) fn page_bytes(&self, first: Position) -> Result<Option<Bytes>, StorageError> {
        let Some(part) = self.0.get(&page_key(first, 0))? else {
            return Ok(None);
        };
        let parts = PageHeader::read(&part).map_or(1, |header| header.parts);
        if parts <= 1 {
            return Ok(Some(part));
        }
        let mut bytes = BytesMut::from(part.as_ref());
        for number in 1..parts {
            match self.0.get(&page_key(first, number))? {
                Some(part) => bytes.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
        Ok(Some(bytes.freeze()))
    }

    fn damage(&self, from: Position, reason: String) -> PageError {
        match self.page_first_after(from.next()) {
            Ok(next) => PageError::Damaged(PageDamage {
                from,
                to: next.map(Position::previous),
                reason,
            }),
            Err(error) => PageError::Storage(error),
        }
    }
}

fn page_of_key(key: &[u8]) -> Option<(Position, u16)> {
    let mut cursor = Cursor(key.strip_prefix(&[PAGES])?);
    let found = (Position::new(cursor.u64()?), cursor.u16()?);
    cursor.0.is_empty().then_some(found)
}

fn heads_row(value: &[u8]) -> Option<Vec<(StreamId, Version)>> {
    let mut cursor = Cursor(unsealed(value)?);
    let mut heads = Vec::new();
    while !cursor.0.is_empty() {
        heads.push((
            StreamId::from_bytes(cursor.array()?)?,
            Version::new(cursor.varint()?),
        ));
    }
    Some(heads)
}
