//! Pages: how one commit stands on disk. `FORMAT.md` tells it byte by byte.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::model::{EventType, Position, Timestamp, Version};

use super::{
    RecordedEvent, StreamId,
    codec::{Cursor, Decoder, decode_current, put_varint},
};

/// The page format this program writes.
pub(crate) const PAGE_FORMAT: u8 = 1;
/// The most bytes of a stored value. sled moves a node whose rows take more than 131,052 bytes
/// together into a file of its own, which it never syncs; a leaf holds up to 17 rows, and 17 of
/// these stay well below that.
pub(crate) const PART_BYTES_MAX: usize = 6 << 10;

const HEADER_BYTES: usize = 68;
const CRC_AT: std::ops::Range<usize> = 32..36;
const FLAG_LZ4: u8 = 1;
/// Below this a compressed body saves less than it costs to undo.
const LZ4_BYTES_MIN: usize = 128;
/// The most bytes of a body that a reader is willing to make room for.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The hash of a page, which the next page carries.
pub(crate) type PageHash = [u8; 32];

/// What is before the first page.
pub(crate) const NO_PAGE: PageHash = [0; 32];

/// A run of versions of one stream within a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamRun {
    pub(crate) stream: StreamId,
    pub(crate) first: Version,
    pub(crate) count: u64,
}

/// An event with its payload encoded, on its way into a page.
pub(crate) struct Encoded {
    pub(crate) event: crate::model::Event,
    pub(crate) payload: Vec<u8>,
}

impl Encoded {
    /// Bytes that it may take in a page. Names that are not ours may have any length.
    pub(crate) fn bytes(&self) -> usize {
        let name = match &self.event {
            crate::model::Event::Unknown(unknown) => unknown.event_type.as_str().len(),
            _ => 0,
        };
        self.payload.len() + name
    }
}

/// Collects the events of one commit.
#[derive(Default)]
pub(crate) struct PageBuilder {
    runs: Vec<StreamRun>,
    run_of: HashMap<StreamId, usize>,
    types: Vec<(EventType, u16)>,
    events: Vec<u8>,
    count: u32,
}

impl PageBuilder {
    /// Adds an event; `version` is used at the first event of its stream, the others follow on.
    pub(crate) fn push(&mut self, stream: StreamId, version: Version, encoded: &Encoded) {
        let run = *self.run_of.entry(stream).or_insert_with(|| {
            self.runs.push(StreamRun {
                stream,
                first: version,
                count: 0,
            });
            self.runs.len() - 1
        });
        debug_assert_eq!(self.runs[run].first.plus(self.runs[run].count), version);
        self.runs[run].count += 1;
        let kind = (encoded.event.event_type(), encoded.event.schema_version());
        let kind_at = self.types.iter().position(|k| *k == kind);
        let kind_at = kind_at.unwrap_or_else(|| {
            self.types.push(kind);
            self.types.len() - 1
        });
        put_varint(&mut self.events, run as u64);
        put_varint(&mut self.events, kind_at as u64);
        put_varint(&mut self.events, encoded.payload.len() as u64);
        self.events.extend_from_slice(&encoded.payload);
        self.count += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// The version the stream has reached within this page.
    pub(crate) fn reached(&self, stream: StreamId) -> Option<Version> {
        let run = self.runs[*self.run_of.get(&stream)?];
        Some(run.first.plus(run.count - 1))
    }

    pub(crate) fn runs(&self) -> &[StreamRun] {
        &self.runs
    }

    /// The whole page: header and body.
    pub(crate) fn finish(&self, first: Position, time: Timestamp, previous: &PageHash) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.events.len() + 64);
        put_varint(&mut body, self.runs.len() as u64);
        for run in &self.runs {
            body.extend_from_slice(&run.stream.to_bytes());
            put_varint(&mut body, run.first.get());
        }
        put_varint(&mut body, self.types.len() as u64);
        for (name, version) in &self.types {
            put_varint(&mut body, name.as_str().len() as u64);
            body.extend_from_slice(name.as_str().as_bytes());
            put_varint(&mut body, u64::from(*version));
        }
        body.extend_from_slice(&self.events);
        let raw_bytes = u32::try_from(body.len()).expect("an append is held far below 4 GiB");
        let packed = (body.len() >= LZ4_BYTES_MIN).then(|| lz4_flex::block::compress(&body));
        let packed = packed.filter(|packed| packed.len() < body.len() - body.len() / 16);
        let flags = if packed.is_some() { FLAG_LZ4 } else { 0 };
        let stored = packed.unwrap_or(body);
        let stored_bytes = u32::try_from(stored.len()).expect("it is below raw_bytes");

        let mut page = Vec::with_capacity(HEADER_BYTES + stored.len());
        page.extend_from_slice(&[PAGE_FORMAT, flags]);
        page.extend_from_slice(&part_count(HEADER_BYTES + stored.len()).to_be_bytes());
        page.extend_from_slice(&self.count.to_be_bytes());
        page.extend_from_slice(&first.get().to_be_bytes());
        page.extend_from_slice(&time.as_millis().to_be_bytes());
        page.extend_from_slice(&raw_bytes.to_be_bytes());
        page.extend_from_slice(&stored_bytes.to_be_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(previous);
        page.extend_from_slice(&stored);
        let crc = crc32c::crc32c(&page);
        page[CRC_AT].copy_from_slice(&crc.to_be_bytes());
        page
    }
}

fn part_count(page_bytes: usize) -> u16 {
    u16::try_from(page_bytes.div_ceil(PART_BYTES_MAX)).expect("an append is held below 4 GiB")
}

/// The hash that the next page carries.
pub(crate) fn hash(page: &[u8]) -> PageHash {
    *blake3::hash(page).as_bytes()
}

/// What stands at the head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHeader {
    flags: u8,
    pub(crate) parts: u16,
    pub(crate) count: u32,
    pub(crate) first: Position,
    pub(crate) time: Timestamp,
    raw_bytes: u32,
    stored_bytes: u32,
    crc: u32,
    pub(crate) previous: PageHash,
}

impl PageHeader {
    /// Reads the head of a page or of its first part. The checksum is not tried yet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor(bytes);
        let format = cursor.u8().ok_or("it is empty")?;
        if format != PAGE_FORMAT {
            return Err(format!("its format is {format}, expected {PAGE_FORMAT}"));
        }
        Self::fields(&mut cursor).ok_or_else(|| "its header is cut off".to_owned())
    }

    fn fields(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            flags: cursor.u8()?,
            parts: cursor.u16()?,
            count: cursor.u32()?,
            first: Position::new(cursor.u64()?),
            time: Timestamp::from_millis(i64::from_be_bytes(cursor.array()?)),
            raw_bytes: cursor.u32()?,
            stored_bytes: cursor.u32()?,
            crc: cursor.u32()?,
            previous: cursor.array()?,
        })
    }

    /// The last position in the page.
    pub(crate) fn last(&self) -> Position {
        Position::new(
            self.first
                .get()
                .saturating_add(u64::from(self.count).saturating_sub(1)),
        )
    }
}

/// A page whose checksum holds.
pub(crate) struct Page {
    pub(crate) header: PageHeader,
    bytes: Bytes,
    body: Bytes,
}

impl Page {
    /// Takes a whole page apart and tries its checksum and lengths.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, String> {
        let header = PageHeader::read(&bytes)?;
        let mut crc = crc32c::crc32c(&bytes[..CRC_AT.start]);
        crc = crc32c::crc32c_append(crc, &[0; 4]);
        crc = crc32c::crc32c_append(crc, &bytes[CRC_AT.end..]);
        if crc != header.crc {
            return Err("its checksum does not hold".to_owned());
        }
        let stored = bytes.slice(HEADER_BYTES..);
        let (raw_bytes, stored_bytes) = (header.raw_bytes as usize, header.stored_bytes as usize);
        if stored.len() != stored_bytes || raw_bytes > BODY_BYTES_MAX || header.count == 0 {
            return Err("its lengths do not agree".to_owned());
        }
        let body = match header.flags {
            0 => stored,
            FLAG_LZ4 => lz4_flex::block::decompress(&stored, raw_bytes)
                .map_err(|error| format!("it does not decompress: {error}"))?
                .into(),
            flags => return Err(format!("its flags are {flags:#x}")),
        };
        if body.len() != raw_bytes {
            return Err("its length is not the one it tells".to_owned());
        }
        Ok(Self {
            header,
            bytes,
            body,
        })
    }

    /// The hash that the next page carries.
    pub(crate) fn hash(&self) -> PageHash {
        hash(&self.bytes)
    }

    /// Bytes that it takes in the store.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its runs of streams, counts included.
    pub(crate) fn runs(&self) -> Result<Vec<StreamRun>, String> {
        let contents = Contents::read(&self.body).ok_or("its dictionary is cut off")?;
        let mut runs = contents.runs.clone();
        for slot in contents.events(self.header.count)? {
            runs[slot.run].count += 1;
        }
        Ok(runs)
    }

    /// From where on a repair gave up what stands before it, when it begins by saying so.
    pub(crate) fn repaired_from(&self) -> Option<Position> {
        let contents = Contents::read(&self.body)?;
        let slot = contents.slot(&mut Cursor(contents.events))?;
        let (name, version) = contents.types[slot.kind];
        let event = Decoder::new(&[]).decode(name, version, slot.payload);
        event.ok()?.repaired_from()
    }

    /// Its events, each decoded by itself.
    pub(crate) fn events(&self, decoder: &Decoder) -> Result<Vec<Decoded>, String> {
        let contents = Contents::read(&self.body).ok_or("its dictionary is cut off")?;
        let mut next: Vec<Version> = contents.runs.iter().map(|run| run.first).collect();
        let slots = contents.events(self.header.count)?;
        let kinds = contents.types.iter();
        let is_current: Vec<bool> = kinds
            .map(|(name, version)| decoder.is_current(name, *version))
            .collect();
        let mut events = Vec::with_capacity(slots.len());
        let mut position = self.header.first;
        for slot in slots {
            let (name, schema_version) = contents.types[slot.kind];
            let (stream, version) = (contents.runs[slot.run].stream, next[slot.run]);
            let read = if is_current[slot.kind] {
                decode_current(name, slot.payload)
            } else {
                decoder.decode(name, schema_version, slot.payload)
            };
            events.push(match read {
                Ok(event) => Ok(Arc::new(RecordedEvent {
                    position,
                    stream,
                    version,
                    time: self.header.time,
                    event,
                })),
                Err(reason) => Err(Arc::new(Undecodable {
                    position,
                    stream,
                    version,
                    event_type: EventType::from_text(name),
                    reason,
                })),
            });
            next[slot.run] = version.next();
            position = position.next();
        }
        Ok(events)
    }
}

/// An event, or what kept it from being decoded.
pub(crate) type Decoded = Result<Arc<RecordedEvent>, Arc<Undecodable>>;

/// An event of a known type that does not decode.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) position: Position,
    pub(crate) stream: StreamId,
    pub(crate) version: Version,
    pub(crate) event_type: EventType,
    pub(crate) reason: String,
}

struct Contents<'a> {
    runs: Vec<StreamRun>,
    types: Vec<(&'a str, u16)>,
    events: &'a [u8],
}

struct Slot<'a> {
    run: usize,
    kind: usize,
    payload: &'a [u8],
}

impl<'a> Contents<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let run_count = cursor.length(body.len())?;
        let mut runs = Vec::new();
        for _ in 0..run_count {
            runs.push(StreamRun {
                stream: StreamId::from_bytes(cursor.array()?)?,
                first: Version::new(cursor.varint()?),
                count: 0,
            });
        }
        let type_count = cursor.length(body.len())?;
        let mut types = Vec::new();
        for _ in 0..type_count {
            let name_bytes = cursor.length(body.len())?;
            let name = std::str::from_utf8(cursor.take(name_bytes)?).ok()?;
            types.push((name, u16::try_from(cursor.varint()?).ok()?));
        }
        Some(Self {
            runs,
            types,
            events: cursor.0,
        })
    }

    fn events(&self, count: u32) -> Result<Vec<Slot<'a>>, String> {
        let mut cursor = Cursor(self.events);
        let mut slots = Vec::new();
        for _ in 0..count {
            slots.push(self.slot(&mut cursor).ok_or("its events are cut off")?);
        }
        if cursor.0.is_empty() {
            Ok(slots)
        } else {
            Err(format!("{} bytes follow its events", cursor.0.len()))
        }
    }

    fn slot(&self, cursor: &mut Cursor<'a>) -> Option<Slot<'a>> {
        let run = cursor.length(self.runs.len().checked_sub(1)?)?;
        let kind = cursor.length(self.types.len().checked_sub(1)?)?;
        let payload_bytes = cursor.length(cursor.0.len())?;
        Some(Slot {
            run,
            kind,
            payload: cursor.take(payload_bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::{prelude::*, sample::Index};
    use uuid::Uuid;

    use super::*;
    use crate::{
        log::{
            StreamKind,
            codec::{encode_payload, recorded::payloads},
        },
        model::{ApiStarted, ApiStopped, Event},
    };

    const COUNT_AT: Range<usize> = 4..8;
    const RAW_BYTES_AT: Range<usize> = 24..28;
    const STORED_BYTES_AT: Range<usize> = 28..32;

    fn encoded(event: impl Into<Event>) -> Encoded {
        let event = event.into();
        let payload = encode_payload(&event).unwrap();
        Encoded { event, payload }
    }

    fn page() -> Vec<u8> {
        let streams = [1, 2].map(|n| StreamId::new(StreamKind::Api, Uuid::from_u128(n)));
        let mut builder = PageBuilder::default();
        builder.push(streams[0], Version::new(4), &encoded(ApiStarted {}));
        builder.push(streams[1], Version::new(1), &encoded(ApiStarted {}));
        builder.push(streams[0], Version::new(5), &encoded(ApiStopped {}));
        builder.finish(Position::new(7), Timestamp::from_millis(99), &NO_PAGE)
    }

    #[test]
    fn a_page_reads_back() {
        let page = Page::read(page().into()).unwrap();
        let events = page.events(&Decoder::new(&[])).unwrap();
        let places: Vec<_> = events
            .iter()
            .map(|e| e.as_ref().unwrap())
            .map(|e| (e.position.get(), e.version.get(), e.time.as_millis()))
            .collect();
        assert_eq!(places, [(7, 4, 99), (8, 1, 99), (9, 5, 99)]);
        assert_eq!(events[2].as_ref().unwrap().event, ApiStopped {}.into());
        let counts: Vec<_> = page.runs().unwrap().iter().map(|run| run.count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn g11_every_flipped_bit_and_every_cut_is_seen() {
        let whole = page();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Page::read(bytes.into()).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            let bytes = Bytes::copy_from_slice(&whole[..cut]);
            assert!(Page::read(bytes).is_err(), "cut at {cut}");
        }
    }
    /// A page of events of some types in three streams.
    fn page_of(picks: &[(Index, u128)]) -> Vec<u8> {
        let payloads = payloads();
        let mut builder = PageBuilder::default();
        for (pick, stream) in picks {
            let (name, version, payload) = pick.get(&payloads);
            let event = Decoder::new(&[]).decode(name, *version, payload).unwrap();
            let stream = StreamId::new(StreamKind::Api, Uuid::from_u128(*stream));
            let version = builder
                .reached(stream)
                .map_or(Version::FIRST, Version::next);
            builder.push(stream, version, &encoded(event));
        }
        builder.finish(Position::FIRST, Timestamp::EPOCH, &NO_PAGE)
    }

    fn set_lengths_and_checksum(page: &mut [u8]) {
        let stored_bytes = u32::try_from(page.len() - HEADER_BYTES).unwrap();
        page[STORED_BYTES_AT].copy_from_slice(&stored_bytes.to_be_bytes());
        if page[1] & FLAG_LZ4 == 0 {
            page[RAW_BYTES_AT].copy_from_slice(&stored_bytes.to_be_bytes());
        }
        set_checksum(page);
    }

    fn set_checksum(page: &mut [u8]) {
        page[CRC_AT].fill(0);
        let crc = crc32c::crc32c(page);
        page[CRC_AT].copy_from_slice(&crc.to_be_bytes());
    }

    /// Why a page is not read to its end.
    fn refusal(bytes: Vec<u8>) -> String {
        let page = match Page::read(bytes.into()) {
            Ok(page) => page,
            Err(reason) => return reason,
        };
        let _ = page.repaired_from();
        let reason = page.events(&Decoder::new(&[])).map(drop).unwrap_err();
        assert_eq!(page.runs().unwrap_err(), reason);
        reason
    }

    #[test]
    fn g11_what_the_header_of_a_page_claims_is_refused_and_no_room_is_made_for_it() {
        let mut builder = PageBuilder::default();
        for version in 1..=200 {
            let stream = StreamId::new(StreamKind::Api, Uuid::from_u128(1));
            builder.push(stream, Version::new(version), &encoded(ApiStarted {}));
        }
        let packed = builder.finish(Position::FIRST, Timestamp::EPOCH, &NO_PAGE);
        assert_eq!(packed[1], FLAG_LZ4);
        let most = u32::try_from(BODY_BYTES_MAX).unwrap();
        for (at, claimed, reason) in [
            (COUNT_AT, 0, "its lengths do not agree"),
            (COUNT_AT, u32::MAX, "its events are cut off"),
            (STORED_BYTES_AT, u32::MAX, "its lengths do not agree"),
            (RAW_BYTES_AT, u32::MAX, "its lengths do not agree"),
            (RAW_BYTES_AT, most + 1, "its lengths do not agree"),
            (RAW_BYTES_AT, most, "its length is not the one it tells"),
        ] {
            for mut bytes in [page(), packed.clone()] {
                bytes[at.clone()].copy_from_slice(&claimed.to_be_bytes());
                set_checksum(&mut bytes);
                assert_eq!(refusal(bytes), reason, "bytes {at:?} say {claimed}");
            }
        }
        // One that is taken for less than it is has no room in that.
        let mut bytes = packed;
        bytes[RAW_BYTES_AT].copy_from_slice(&1_u32.to_be_bytes());
        set_checksum(&mut bytes);
        let reason = refusal(bytes);
        assert!(reason.starts_with("it does not decompress"), "{reason}");
    }

    #[test]
    fn g11_what_the_body_of_a_page_claims_is_refused_and_no_room_is_made_for_it() {
        let types = 1 + 2 * (StreamId::BYTES + 1);
        let name = types + 1;
        let events = name + 2 * (1 + "api.started".len() + 1);
        let (run, kind, payload) = (events, events + 1, events + 2);
        for (what, at, is, reason) in [
            ("streams", 0, 2, "its dictionary is cut off"),
            ("types", types, 2, "its dictionary is cut off"),
            ("bytes of a name", name, 11, "its dictionary is cut off"),
            ("stream of an event", run, 0, "its events are cut off"),
            ("type of an event", kind, 0, "its events are cut off"),
            ("bytes of a payload", payload, 1, "its events are cut off"),
        ] {
            let body_bytes = (page().len() - HEADER_BYTES) as u64;
            for claimed in [body_bytes, u64::from(u32::MAX), 64 << 30, u64::MAX] {
                let mut bytes = page();
                let at = HEADER_BYTES + at;
                assert_eq!(bytes[at], is, "{what}");
                let mut number = Vec::new();
                put_varint(&mut number, claimed);
                drop(bytes.splice(at..=at, number));
                set_lengths_and_checksum(&mut bytes);
                assert_eq!(refusal(bytes), reason, "{what}: {claimed}");
            }
        }
    }

    proptest! {
        /// Nobody writes such pages: what is read behind the checksum believes nothing either.
        #[test]
        fn no_page_panics_whatever_its_numbers_say(
            picks in prop::collection::vec((any::<Index>(), 0..3_u128), 1..6),
            writes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<Index>()),
            more in prop::collection::vec(any::<u8>(), 0..4),
            is_bare: bool,
        ) {
            let mut bytes = page_of(&picks);
            if is_bare {
                let body = Page::read(bytes.clone().into()).unwrap().body;
                bytes.truncate(HEADER_BYTES);
                bytes[1] = 0;
                bytes.extend(body);
            }
            if let Some(cut) = cut {
                bytes.truncate(HEADER_BYTES + cut.index(bytes.len() - HEADER_BYTES));
            }
            bytes.extend(more);
            for (at, byte) in writes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            set_lengths_and_checksum(&mut bytes);
            if let Ok(page) = Page::read(bytes.into()) {
                let _ = page.repaired_from();
                let (runs, events) = (page.runs(), page.events(&Decoder::new(&[])));
                prop_assert_eq!(runs.is_ok(), events.is_ok());
                if let (Ok(runs), Ok(events)) = (runs, events) {
                    prop_assert_eq!(events.len() as u64, u64::from(page.header.count));
                    prop_assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), events.len() as u64);
                }
            }
        }
    }
}
