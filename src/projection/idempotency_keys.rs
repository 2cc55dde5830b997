//! What was asked for under an idempotency key, for a day: so that a second request with the key
//! finds what the first one made, and one that asks for something else is told from it.
//!
//! The id of a message that is published under a key is made of the key, which is how it is known:
//! it is a UUID of version 8, where all others are of version 7. So is the id of whatever else is
//! created under a key; the body that it was made of is that of the last `request.accepted` with
//! this key before it.
//!
//! | key | value |
//! |---|---|
//! | `k` API, message | position (u64) |
//! | `r` id made of the key | 1 when it was created, else 0; fingerprint of the body |
//! | `t` time it was first accepted (u64), position | key of the row above |

use uuid::Uuid;

use super::{
    ProjectError, Projection, ReadRows, Row, Rows, View, ViewError,
    codec::{id_key, pair_key, u64_at},
};
use crate::{
    log::RecordedEvent,
    model::{AccessEvent, ApiId, Event, MessageId, Position, RequestKeyId, Version},
};

/// How long a key is remembered, in milliseconds: a day.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most keys that are forgotten with one that is new.
const FORGOTTEN_MAX: usize = 16;

/// The projection behind idempotency keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdempotencyKeys;

impl Projection for IdempotencyKeys {
    const NAME: &'static str = "idempotency_keys";
    const VERSION: u32 = 1;
    const FORGETS: bool = true;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let owner = recorded.stream.uuid();
        if let Event::Access(AccessEvent::RequestAccepted(request)) = &recorded.event {
            let Some(keyed) = &request.key else {
                return Ok(());
            };
            let key = id_key(b'r', keyed.id.as_uuid());
            let known = rows.get(&key)?;
            if known.as_deref().is_some_and(is_created) {
                return Ok(());
            }
            if known.is_none() {
                remember(rows, recorded, &key)?;
            }
            rows.put(key, [&[PENDING], keyed.body.as_bytes()].concat());
        } else if let Some(message) = recorded.event.as_published() {
            if is_keyed(message.id.as_uuid()) {
                let key = pair_key(b'k', &owner, message.id.as_uuid());
                remember(rows, recorded, &key)?;
                rows.put(key, recorded.position.get().to_be_bytes());
            }
        } else if recorded.version == Version::FIRST && is_keyed(&owner) {
            let key = id_key(b'r', &owner);
            if let Some(mut row) = rows.get(&key)? {
                row[0] = CREATED;
                rows.put(key, row);
            }
        }
        Ok(())
    }

    /// What was created outlives a cut, a message does not.
    fn carry(&self, row: Row) -> Option<Row> {
        let is_of_message = match row.key.first() {
            Some(b'k') => true,
            Some(b't') => row.value.starts_with(b"k"),
            _ => false,
        };
        (!is_of_message).then_some(row)
    }
}

/// First byte of the row of a request of which nothing has come yet.
const PENDING: u8 = 0;
/// First byte of the row of the request that created something.
const CREATED: u8 = 1;

fn is_created(row: &[u8]) -> bool {
    row.first() == Some(&CREATED)
}

/// Whether an id was made of a key.
fn is_keyed(id: &Uuid) -> bool {
    id.get_version_num() == 8
}

/// Sees to it that a row is forgotten when its day is over.
fn remember(rows: &mut Rows<'_>, recorded: &RecordedEvent, key: &[u8]) -> Result<(), ProjectError> {
    let now = u64::try_from(recorded.time.as_millis()).unwrap_or(0);
    forget(rows, now.saturating_sub(REMEMBERED_MS))?;
    rows.put(time_key(now, recorded.position), key);
    Ok(())
}

fn time_key(time: u64, position: Position) -> Vec<u8> {
    let parts: [&[u8]; 3] = [b"t", &time.to_be_bytes(), &position.get().to_be_bytes()];
    parts.concat()
}

/// Forgets some of what is older than this.
fn forget(rows: &mut Rows<'_>, before: u64) -> Result<(), ProjectError> {
    let range = b"t".to_vec()..time_key(before, Position::ZERO);
    let old: Vec<_> = rows
        .range(range)
        .take(FORGOTTEN_MAX)
        .collect::<Result<_, _>>()?;
    for row in old {
        rows.delete(row.value);
        rows.delete(row.key);
    }
    Ok(())
}

impl View<IdempotencyKeys> {
    /// Where the message with this id stands, if it was published under a key within a day.
    pub fn position_of(
        &self,
        api: ApiId,
        message: MessageId,
    ) -> Result<Option<Position>, ViewError> {
        self.read(|rows| {
            let row = rows.get(&pair_key(b'k', api.as_uuid(), message.as_uuid()))?;
            Ok(row
                .map(|row| u64_at(&row, 0))
                .transpose()?
                .map(Position::new))
        })
    }

    /// The fingerprint of the body that the thing with this id was created of, if that was under a
    /// key within a day.
    pub fn creating_body(&self, key: RequestKeyId) -> Result<Option<String>, ViewError> {
        self.read(|rows| {
            let row = rows.get(&id_key(b'r', key.as_uuid()))?;
            let row = row.filter(|row| is_created(row));
            Ok(row.map(|row| String::from_utf8_lossy(&row[1..]).into_owned()))
        })
    }
}
