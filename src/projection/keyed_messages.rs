//! Messages that were published under an idempotency key, for a day: so that a second request with
//! the key finds what the first one made.
//!
//! The id of such a message is made of its key, which is how it is known: it is a UUID of version 8,
//! where all others are of version 7.
//!
//! | key | value |
//! |---|---|
//! | `k` API, message | position (u64) |
//! | `t` time it was accepted (u64), position | API, message (32 bytes) |

use super::{
    ProjectError, Projection, ReadRows, Rows, View, ViewError,
    codec::{pair_key, u64_at, uuid_at},
};
use crate::{
    log::RecordedEvent,
    model::{ApiId, MessageId, Position},
};

/// How long a key is remembered, in milliseconds: a day.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most keys that are forgotten with one that is new.
const FORGOTTEN_MAX: usize = 16;

/// The projection behind idempotency keys of publishes.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyedMessages;

impl Projection for KeyedMessages {
    const NAME: &'static str = "keyed_messages";
    const VERSION: u32 = 1;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let Some(message) = recorded.event.as_published().filter(|m| is_keyed(m.id)) else {
            return Ok(());
        };
        let now = u64::try_from(recorded.time.as_millis()).unwrap_or(0);
        forget(rows, now.saturating_sub(REMEMBERED_MS))?;
        let api = recorded.stream.uuid();
        let position = recorded.position.get().to_be_bytes();
        rows.put(pair_key(b'k', &api, message.id.as_uuid()), position);
        let owner = [*api.as_bytes(), *message.id.as_uuid().as_bytes()].concat();
        rows.put(time_key(now, recorded.position), owner);
        Ok(())
    }
}

/// Whether an id was made of a key.
fn is_keyed(id: MessageId) -> bool {
    id.as_uuid().get_version_num() == 8
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
        let (api, message) = (uuid_at(&row.value, 0)?, uuid_at(&row.value, 16)?);
        rows.delete(pair_key(b'k', &api, &message));
        rows.delete(row.key);
    }
    Ok(())
}

impl View<KeyedMessages> {
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
}
