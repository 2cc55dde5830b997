//! The index of the webhook log. Ordinals fall into chunks of 4,096. The last chunk is open and
//! scanned; a full one is sealed: for each dimension and value that occurs in it, a bitmap of its
//! ordinals. A summary per dimension and value tells which sealed chunks hold it. A query ANDs
//! the summaries, then the bitmaps of each chunk, from the newest to the oldest.
//!
//! | key | value |
//! |---|---|
//! | `b` API, dimension, value, chunk (u32) | bitmap of ordinals within the chunk |
//! | `z` API, dimension, value | bitmap of sealed chunks |
//! | `t` API, chunk / 256 (u32) | earliest and latest start of each chunk (2 × i64) |
//!
//! Values are 16 bytes, longer ones hashed: an answer is checked against its row all the same.

use std::{collections::HashMap, ops::RangeInclusive};

use roaring::RoaringBitmap;

use super::{DeliveryOutcome, DeliveryRow, blocks, stored::Stored};
use crate::{
    model::{ApiId, ApplicationId, CallbackUrl, ErrorClass, SubscriptionId, Timestamp},
    projection::{
        ReadRows, RowError, Rows,
        codec::{id_key, malformed},
        store::Direction,
    },
};

/// Ordinals in one chunk.
pub(super) const CHUNK: u64 = 4_096;
/// Chunks whose times stand in one row.
const TIMES_PER_ROW: u32 = 256;
/// Parts of one power of two of durations.
const DURATION_PARTS: u32 = 16;
/// Bytes of one chunk's times.
const TIME_BYTES: usize = 16;

/// A property that a bitmap exists for: a dimension and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Term([u8; 17]);

impl Term {
    fn new(dimension: u8, value: [u8; 16]) -> Self {
        let mut term = [0; 17];
        term[0] = dimension;
        term[1..].copy_from_slice(&value);
        Self(term)
    }

    fn number(dimension: u8, value: u64) -> Self {
        Self::new(dimension, u128::from(value).to_be_bytes())
    }

    pub(super) fn status(status: u16) -> Self {
        Self::number(1, status.into())
    }

    pub(super) fn status_class(hundreds: u16) -> Self {
        Self::number(2, hundreds.into())
    }

    pub(super) fn url(url: &str) -> Self {
        let hash = blake3::hash(url.as_bytes());
        let mut value = [0; 16];
        value.copy_from_slice(&hash.as_bytes()[..16]);
        Self::new(3, value)
    }

    pub(super) fn application(id: ApplicationId) -> Self {
        Self::new(4, id.as_uuid().into_bytes())
    }

    pub(super) fn subscription(id: SubscriptionId) -> Self {
        Self::new(5, id.as_uuid().into_bytes())
    }

    pub(super) fn outcome(outcome: DeliveryOutcome) -> Self {
        Self::number(6, outcome as u64)
    }

    pub(super) fn dlq(sent: bool) -> Self {
        Self::number(7, sent.into())
    }

    pub(super) fn error_class(class: ErrorClass) -> Self {
        Self::number(8, class as u64)
    }

    /// Durations fall into powers of two of a microsecond.
    fn duration(us: u32) -> Self {
        Self::number(9, duration_power(us).into())
    }

    /// Within its power a duration falls into one of sixteen parts, so that a bound catches few
    /// rows that are below it: a sixteenth of a power, not all of it.
    fn duration_part(us: u32) -> Self {
        Self::part(duration_power(us), duration_part(us))
    }

    fn part(power: u32, part: u32) -> Self {
        Self::number(10, u64::from(power * DURATION_PARTS + part))
    }

    /// The terms of every duration from this one on: the parts of its own power, and the powers
    /// above.
    pub(super) fn durations_from(us: u32) -> Vec<Self> {
        let power = duration_power(us);
        let parts = duration_part(us)..DURATION_PARTS;
        let above = power + 1..=u32::BITS;
        parts
            .map(|part| Self::part(power, part))
            .chain(above.map(|power| Self::number(9, power.into())))
            .collect()
    }
}

/// What the index tells rows apart by.
struct Indexed<'a> {
    status: u16,
    callback_url: Option<&'a str>,
    application: ApplicationId,
    subscription: SubscriptionId,
    outcome: DeliveryOutcome,
    dlq: bool,
    last_duration_us: u32,
    error_class: Option<ErrorClass>,
}

impl<'a> From<&'a DeliveryRow> for Indexed<'a> {
    fn from(row: &'a DeliveryRow) -> Self {
        Self {
            status: row.status,
            callback_url: row.callback_url.as_ref().map(CallbackUrl::as_str),
            application: row.application,
            subscription: row.subscription,
            outcome: row.outcome,
            dlq: row.is_sent_to_dlq(),
            last_duration_us: row.last_duration_us,
            error_class: row.error_class(),
        }
    }
}

impl<'a> From<&Stored<'a>> for Indexed<'a> {
    fn from(row: &Stored<'a>) -> Self {
        Self {
            status: row.status,
            callback_url: row.callback_url,
            application: row.application,
            subscription: row.subscription,
            outcome: row.outcome,
            dlq: row.dlq.is_some(),
            last_duration_us: row.last_duration_us,
            error_class: row.error.as_ref().map(|error| error.class),
        }
    }
}

impl Indexed<'_> {
    /// Every term that holds for the row.
    fn terms(&self) -> impl Iterator<Item = Term> {
        let terms = [
            Term::status(self.status),
            Term::status_class(self.status / 100),
            Term::application(self.application),
            Term::subscription(self.subscription),
            Term::outcome(self.outcome),
            Term::dlq(self.dlq),
            Term::duration(self.last_duration_us),
            Term::duration_part(self.last_duration_us),
        ];
        let url = self.callback_url.map(Term::url);
        let error_class = self.error_class.map(Term::error_class);
        terms.into_iter().chain(url).chain(error_class)
    }
}

const fn duration_power(us: u32) -> u32 {
    u32::BITS - us.leading_zeros()
}

/// Which sixteenth of its power a duration falls into.
const fn duration_part(us: u32) -> u32 {
    let power = duration_power(us);
    if power <= 5 {
        // Fewer than sixteen microseconds wide: each has its own.
        return us % DURATION_PARTS;
    }
    (us >> (power - 5)) % DURATION_PARTS
}

/// Takes note of a row with a new ordinal: the first of a chunk seals the chunk before it.
pub(super) fn created(rows: &mut Rows<'_>, row: &DeliveryRow) -> Result<(), RowError> {
    if row.ordinal == 0 || !row.ordinal.is_multiple_of(CHUNK) {
        return Ok(());
    }
    seal(rows, row.api, chunk_of(row.ordinal - 1))
}

/// Takes note of a change to a row, which matters once its chunk is sealed.
pub(super) fn update(
    rows: &mut Rows<'_>,
    before: &DeliveryRow,
    after: &DeliveryRow,
) -> Result<(), RowError> {
    let chunk = chunk_of(before.ordinal);
    let sealed = times_of(rows, before.api, chunk)?.is_some();
    if !sealed {
        return Ok(());
    }
    let terms = |row: &DeliveryRow| Indexed::from(row).terms().collect::<Vec<_>>();
    let (old, new) = (terms(before), terms(after));
    let place = place_in(before.ordinal);
    for term in old.iter().filter(|term| !new.contains(term)) {
        change(rows, before.api, term, chunk, |bitmap| {
            bitmap.remove(place);
        })?;
    }
    for term in new.iter().filter(|term| !old.contains(term)) {
        change(rows, before.api, term, chunk, |bitmap| {
            bitmap.insert(place);
        })?;
    }
    Ok(())
}

pub(super) fn chunk_of(ordinal: u64) -> u32 {
    u32::try_from(ordinal / CHUNK).expect("16 million million deliveries do not fit a disk")
}

fn place_in(ordinal: u64) -> u32 {
    u32::try_from(ordinal % CHUNK).expect("below 4,096")
}

/// The ordinals of a chunk.
pub(super) fn ordinals(chunk: u32) -> RangeInclusive<u64> {
    let first = u64::from(chunk) * CHUNK;
    first..=first + CHUNK - 1
}

fn seal(rows: &mut Rows<'_>, api: ApiId, chunk: u32) -> Result<(), RowError> {
    let mut places: HashMap<Term, Vec<u32>> = HashMap::new();
    let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
    let of_chunk = ordinals(chunk);
    let of_chunk = *of_chunk.start()..*of_chunk.end() + 1;
    blocks::each_in(rows, api, of_chunk, Direction::Up, |ordinal, bytes| {
        let row = Stored::read(bytes)?;
        earliest = earliest.min(row.started_at.as_millis());
        latest = latest.max(row.started_at.as_millis());
        for term in Indexed::from(&row).terms() {
            places.entry(term).or_default().push(place_in(ordinal));
        }
        Ok(true)
    })?;
    for (term, places) in places {
        // They come lowest first.
        let bitmap = RoaringBitmap::from_sorted_iter(places).unwrap_or_default();
        rows.put(chunk_key(api, &term, chunk), to_bytes(&bitmap));
        let summary_key = summary_key(api, &term);
        let mut summary = read(rows, &summary_key)?;
        summary.insert(chunk);
        rows.put(summary_key, to_bytes(&summary));
    }
    let times = rows.edit(&times_key(api, chunk / TIMES_PER_ROW), Vec::new)?;
    times.extend_from_slice(&earliest.to_be_bytes());
    times.extend_from_slice(&latest.to_be_bytes());
    Ok(())
}

/// Changes the bitmap of a sealed chunk, and the summary when it becomes or ceases to be empty.
fn change(
    rows: &mut Rows<'_>,
    api: ApiId,
    term: &Term,
    chunk: u32,
    change: impl FnOnce(&mut RoaringBitmap),
) -> Result<(), RowError> {
    let key = chunk_key(api, term, chunk);
    let mut bitmap = read(rows, &key)?;
    let was_empty = bitmap.is_empty();
    change(&mut bitmap);
    if bitmap.is_empty() != was_empty {
        let summary_key = summary_key(api, term);
        let mut summary = read(rows, &summary_key)?;
        if was_empty {
            summary.insert(chunk);
        } else {
            summary.remove(chunk);
        }
        put_or_delete(rows, summary_key, &summary);
    }
    put_or_delete(rows, key, &bitmap);
    Ok(())
}

fn put_or_delete(rows: &mut Rows<'_>, key: Vec<u8>, bitmap: &RoaringBitmap) {
    if bitmap.is_empty() {
        rows.delete(key);
    } else {
        rows.put(key, to_bytes(bitmap));
    }
}

/// The sealed chunks that may hold rows with any of these terms.
pub(super) fn chunks_with(
    rows: &dyn ReadRows,
    api: ApiId,
    any_of: &[Term],
) -> Result<RoaringBitmap, RowError> {
    let mut union = RoaringBitmap::new();
    for term in any_of {
        union |= read(rows, &summary_key(api, term))?;
    }
    Ok(union)
}

/// The rows of a sealed chunk with any of these terms.
pub(super) fn rows_with(
    rows: &dyn ReadRows,
    api: ApiId,
    chunk: u32,
    any_of: &[Term],
) -> Result<RoaringBitmap, RowError> {
    let mut union = RoaringBitmap::new();
    for term in any_of {
        union |= read(rows, &chunk_key(api, term, chunk))?;
    }
    Ok(union)
}

/// The sealed chunks with a start between these times, both included.
pub(super) fn chunks_between(
    rows: &dyn ReadRows,
    api: ApiId,
    from: Timestamp,
    to: Timestamp,
) -> Result<RoaringBitmap, RowError> {
    let mut chunks = RoaringBitmap::new();
    let mut first = 0;
    for row in rows.prefix(&id_key(b't', api.as_uuid())) {
        for (times, chunk) in row?.value.chunks_exact(TIME_BYTES).zip(first..) {
            let (earliest, latest) = split_times(times)?;
            if earliest <= to && latest >= from {
                chunks.insert(chunk);
            }
        }
        first += TIMES_PER_ROW;
    }
    Ok(chunks)
}

fn times_of(
    rows: &dyn ReadRows,
    api: ApiId,
    chunk: u32,
) -> Result<Option<(Timestamp, Timestamp)>, RowError> {
    let row = rows.get(&times_key(api, chunk / TIMES_PER_ROW))?;
    let at = (chunk % TIMES_PER_ROW) as usize * TIME_BYTES;
    let times = row.as_ref().and_then(|row| row.get(at..at + TIME_BYTES));
    times.map(split_times).transpose()
}

fn split_times(times: &[u8]) -> Result<(Timestamp, Timestamp), RowError> {
    let time = |part: &[u8]| {
        let bytes = part
            .try_into()
            .map_err(|_| malformed(times, "not two times"))?;
        Ok(Timestamp::from_millis(i64::from_be_bytes(bytes)))
    };
    Ok((time(&times[..8])?, time(&times[8..])?))
}

fn read(rows: &dyn ReadRows, key: &[u8]) -> Result<RoaringBitmap, RowError> {
    let Some(bytes) = rows.get(key)? else {
        return Ok(RoaringBitmap::new());
    };
    RoaringBitmap::deserialize_from(bytes.as_slice())
        .map_err(|error| malformed(&bytes, error.to_string()))
}

fn to_bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap
        .serialize_into(&mut bytes)
        .expect("writing to memory does not fail");
    bytes
}

fn chunk_key(api: ApiId, term: &Term, chunk: u32) -> Vec<u8> {
    let mut key = id_key(b'b', api.as_uuid());
    key.extend_from_slice(&term.0);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

fn summary_key(api: ApiId, term: &Term) -> Vec<u8> {
    let mut key = id_key(b'z', api.as_uuid());
    key.extend_from_slice(&term.0);
    key
}

fn times_key(api: ApiId, row: u32) -> Vec<u8> {
    let mut key = id_key(b't', api.as_uuid());
    key.extend_from_slice(&row.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_from_a_duration_on_hold_every_longer_one_and_few_shorter() {
        let durations = [
            0,
            1,
            2,
            3,
            15,
            16,
            17,
            31,
            32,
            33,
            999,
            1_000_000,
            1 << 31,
            u32::MAX,
        ];
        for from in durations {
            let terms = Term::durations_from(from);
            let holds = |us| {
                terms.contains(&Term::duration(us)) || terms.contains(&Term::duration_part(us))
            };
            for us in durations {
                assert!(us < from || holds(us), "{us} from {from}");
            }
            assert!(from < 32 || !holds(from - from / 8), "{from}");
        }
    }
}
