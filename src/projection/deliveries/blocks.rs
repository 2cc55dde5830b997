//! Where the rows of deliveries stand: many in one row of the store, for each of those has its
//! price. What belongs together in time stands together, so it is mostly changed in memory, and
//! written once.
//!
//! | key | value |
//! |---|---|
//! | `d` API, ordinal / 32 | the rows of these deliveries, each after its length (u32) |
//! | `k` subscription, message version / 64 | 64 ordinals, each plus 1, 0 for none (u64) |
//! | `n` bytes of the message's id that tell its time, API, ordinal / 32 | message id, ordinal % 32 and the end of the delivery's id (25 bytes) of each |

use std::ops::Range;

use super::{DeliveryRow, stored};
use crate::{
    model::{ApiId, DeliveryId, MessageId, MessageRef, SubscriptionId, Version},
    projection::{
        ReadRows, Row, RowError, Rows,
        codec::{key_of, malformed, u64_at, uuid_at},
        store::Direction,
    },
};

/// Deliveries in one block.
const BLOCK: u64 = 32;
/// Ordinals in one row of a subscription's.
const VERSIONS: u64 = 64;
/// Bytes of an id that tell the time of it, if it tells any.
const TIME_BYTES: usize = 6;
/// Bits of that time that do not matter: messages of eight milliseconds stand together.
const TIME_MASK: u8 = 0b1111_1000;
/// Bytes of a message's entry.
const ENTRY_BYTES: usize = 25;
const LENGTH_BYTES: usize = 4;

/// Writes the row of a delivery: of the next ordinal, or of one that was written before.
pub(super) fn put(rows: &mut Rows<'_>, row: &DeliveryRow) -> Result<(), RowError> {
    let block = rows.edit(&block_key(row.api, row.ordinal), Vec::new)?;
    let bytes = stored::to_bytes(row);
    match span(block, row.ordinal % BLOCK)? {
        Some(span) => drop(block.splice(span, framed(&bytes)?)),
        None => block.extend(framed(&bytes)?),
    }
    Ok(())
}

fn framed(bytes: &[u8]) -> Result<impl Iterator<Item = u8>, RowError> {
    let length = u32::try_from(bytes.len()).map_err(|_| malformed(bytes, "too long"))?;
    Ok(length
        .to_be_bytes()
        .into_iter()
        .chain(bytes.iter().copied()))
}

/// Where the row in this place of a block stands, its length included; `None` behind the last.
fn span(block: &[u8], place: u64) -> Result<Option<Range<usize>>, RowError> {
    let mut at = 0;
    for _ in 0..place {
        at = match length_at(block, at)? {
            Some(length) => at + LENGTH_BYTES + length,
            None => return Err(malformed(block, "the row before is missing")),
        };
    }
    let length = length_at(block, at)?;
    Ok(length.map(|length| at..at + LENGTH_BYTES + length))
}

fn length_at(block: &[u8], at: usize) -> Result<Option<usize>, RowError> {
    if at == block.len() {
        return Ok(None);
    }
    let length = block.get(at..at + LENGTH_BYTES);
    let length = length.and_then(|length| length.try_into().ok());
    let length = length.map(u32::from_be_bytes).map(|length| length as usize);
    length
        .filter(|length| at + LENGTH_BYTES + length <= block.len())
        .map(Some)
        .ok_or_else(|| malformed(block, "a row is cut off"))
}

/// The rows of a block, each with its place.
fn rows_of(block: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), RowError>> {
    let mut at = 0;
    (0..BLOCK).map_while(move |place| {
        let length = length_at(block, at).transpose()?;
        Some(length.map(|length| {
            let begin = at + LENGTH_BYTES;
            at = begin + length;
            (place, &block[begin..at])
        }))
    })
}

fn block_key(api: ApiId, ordinal: u64) -> Vec<u8> {
    key_of(b'd', api.as_uuid(), ordinal / BLOCK)
}

/// The row with this ordinal.
pub(super) fn row_at(
    rows: &dyn ReadRows,
    api: ApiId,
    ordinal: u64,
) -> Result<Option<DeliveryRow>, RowError> {
    let Some(block) = rows.look(&block_key(api, ordinal))? else {
        return Ok(None);
    };
    let place = usize::try_from(ordinal % BLOCK).expect("below 32");
    let row = rows_of(&block).nth(place).transpose()?;
    row.map(|(_, bytes)| stored::from_bytes(api, ordinal, bytes))
        .transpose()
}

/// Shows the rows with these ordinals as they are kept, in order; ends when `each` says so.
pub(super) fn each_in(
    rows: &dyn ReadRows,
    api: ApiId,
    ordinals: Range<u64>,
    direction: Direction,
    mut each: impl FnMut(u64, &[u8]) -> Result<bool, RowError>,
) -> Result<(), RowError> {
    if ordinals.is_empty() {
        return Ok(());
    }
    let range =
        block_key(api, ordinals.start)..key_of(b'd', api.as_uuid(), (ordinals.end - 1) / BLOCK + 1);
    let blocks = match direction {
        Direction::Up => rows.range(range),
        Direction::Down => rows.range_rev(range),
    };
    for block in blocks {
        let Row { key, value } = block?;
        let first = u64_at(&key, 17)? * BLOCK;
        let mut kept: Vec<_> = rows_of(&value).collect::<Result<_, _>>()?;
        if direction == Direction::Down {
            kept.reverse();
        }
        for (place, bytes) in kept {
            let ordinal = first + place;
            if ordinals.contains(&ordinal) && !each(ordinal, bytes)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Notes where the delivery of a message stands.
pub(super) fn note(rows: &mut Rows<'_>, row: &DeliveryRow) -> Result<(), RowError> {
    let (key, at) = place_of(row.subscription, row.message.version);
    let places = rows.edit(&key, || {
        vec![0; usize::try_from(VERSIONS * 8).expect("512")]
    })?;
    let place = places.get_mut(at..at + 8);
    place
        .ok_or_else(|| RowError::Damaged("a row of places is cut off".to_owned()))?
        .copy_from_slice(&(row.ordinal + 1).to_be_bytes());
    let mut key = id_prefix(row.message.id.as_uuid().as_bytes());
    key.extend_from_slice(row.api.as_uuid().as_bytes());
    key.extend_from_slice(&(row.ordinal / BLOCK).to_be_bytes());
    let entries = rows.edit(&key, Vec::new)?;
    entries.extend_from_slice(row.message.id.as_uuid().as_bytes());
    entries.push(u8::try_from(row.ordinal % BLOCK).expect("below 32"));
    entries.extend_from_slice(&row.id.as_uuid().as_bytes()[8..]);
    Ok(())
}

fn place_of(subscription: SubscriptionId, version: Version) -> (Vec<u8>, usize) {
    let version = version.get();
    let at = usize::try_from(version % VERSIONS * 8).expect("below 512");
    (key_of(b'k', subscription.as_uuid(), version / VERSIONS), at)
}

fn id_prefix(id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(31);
    key.push(b'n');
    key.extend_from_slice(&id[..TIME_BYTES]);
    key[TIME_BYTES] &= TIME_MASK;
    key
}

/// The ordinal of a message's delivery to a subscription, if that has a row.
pub(super) fn ordinal_of(
    rows: &dyn ReadRows,
    subscription: SubscriptionId,
    message: &MessageRef,
) -> Result<Option<u64>, RowError> {
    let (key, at) = place_of(subscription, message.version);
    let Some(places) = rows.look(&key)? else {
        return Ok(None);
    };
    Ok(u64_at(&places, at)?.checked_sub(1))
}

/// Where the delivery of a message stands.
struct Entry {
    message: MessageId,
    api: ApiId,
    ordinal: u64,
    /// The last half of the delivery's id.
    end: [u8; 8],
}

/// The deliveries of messages whose ids tell the same time as this one.
fn beside(rows: &dyn ReadRows, id: &[u8]) -> impl Iterator<Item = Result<Entry, RowError>> {
    rows.prefix(&id_prefix(id)).flat_map(|row| {
        let entries = row.and_then(|Row { key, value }| {
            let api = ApiId::from_uuid(uuid_at(&key, 1 + TIME_BYTES)?);
            let first = u64_at(&key, 1 + TIME_BYTES + 16)? * BLOCK;
            let entries = value.chunks_exact(ENTRY_BYTES).map(|entry| {
                Ok(Entry {
                    message: MessageId::from_uuid(uuid_at(entry, 0)?),
                    api,
                    ordinal: first + u64::from(entry[16]),
                    end: u64_at(entry, 17)?.to_be_bytes(),
                })
            });
            Ok(entries.collect::<Vec<_>>())
        });
        entries.unwrap_or_else(|error| vec![Err(error)])
    })
}

/// The ordinals of a message's deliveries among those of an API, in no order.
pub(super) fn ordinals_of_message(
    rows: &dyn ReadRows,
    message: MessageId,
    api: ApiId,
) -> Result<Vec<u64>, RowError> {
    let beside = beside(rows, message.as_uuid().as_bytes());
    let own = beside.filter(|entry| {
        let entry = entry.as_ref();
        entry.map_or(true, |entry| entry.message == message && entry.api == api)
    });
    own.map(|entry| entry.map(|entry| entry.ordinal)).collect()
}

/// The row of this delivery, if it has one.
pub(super) fn find(rows: &dyn ReadRows, id: DeliveryId) -> Result<Option<DeliveryRow>, RowError> {
    for entry in beside(rows, id.as_uuid().as_bytes()) {
        let entry = entry?;
        if !id.may_be_of(entry.message) || entry.end != id.as_uuid().as_bytes()[8..] {
            continue;
        }
        let row = row_at(rows, entry.api, entry.ordinal)?;
        if let Some(row) = row.filter(|row| row.id == id) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
