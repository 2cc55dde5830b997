//! Tokens: who may come in.
//!
//! | key | value |
//! |---|---|
//! | `t` token | [`TokenRow`] |
//! | `h` hash of its secret | token (16 bytes); gone once it is revoked |

use serde::{Deserialize, Serialize};

use super::{
    ProjectError, Projection, ReadRows, RowError, Rows, View, ViewError,
    codec::{decode, encode_named, id_key, uuid_at},
};
use crate::{
    log::RecordedEvent,
    model::{AccessEvent, Event, Timestamp, Token, TokenHash, TokenId},
};

/// The projection behind every check of a token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access;

/// A token as its events tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// What it is.
    pub token: Token,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRow {
    /// Whether its bearer may come in now.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && !self.token.is_expired(now)
    }
}

impl Projection for Access {
    const NAME: &'static str = "access";
    const VERSION: u32 = 1;
    /// A token that was revoked is not let in again after a crash.
    const PROMPT: bool = true;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let (Event::Access(event), Some(id)) = (&recorded.event, recorded.stream.as_token()) else {
            return Ok(());
        };
        let key = id_key(b't', id.as_uuid());
        match event {
            AccessEvent::Created(created) => {
                let row = TokenRow {
                    token: created.token.clone(),
                    hash: created.hash.clone(),
                    created_at: recorded.time,
                    revoked_at: None,
                };
                rows.put(hash_key(&row.hash), *id.as_uuid().as_bytes());
                rows.put(key, encode_named(&row));
            }
            AccessEvent::Revoked(_) => {
                if let Some(row) = rows.get(&key)? {
                    let mut row: TokenRow = decode(&row)?;
                    row.revoked_at = Some(recorded.time);
                    rows.delete(hash_key(&row.hash));
                    rows.put(key, encode_named(&row));
                }
            }
            AccessEvent::RequestAccepted(_) => {}
        }
        Ok(())
    }
}

impl View<Access> {
    /// Every token, oldest first, revoked ones included.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, ViewError> {
        self.read(|rows| {
            let tokens = rows.prefix(b"t").map(|row| decode(&row?.value));
            Ok(tokens.collect::<Result<_, _>>()?)
        })
    }

    /// One token.
    pub fn token(&self, id: TokenId) -> Result<Option<TokenRow>, ViewError> {
        self.read(|rows| Ok(token(rows, id)?))
    }

    /// The token whose secret has this hash, unless it is revoked. It may be past its time.
    pub fn bearer(&self, hash: &TokenHash) -> Result<Option<TokenRow>, ViewError> {
        self.read(|rows| {
            let Some(id) = rows.get(&hash_key(hash))? else {
                return Ok(None);
            };
            Ok(token(rows, TokenId::from_uuid(uuid_at(&id, 0)?))?)
        })
    }
}

fn token(rows: &dyn ReadRows, id: TokenId) -> Result<Option<TokenRow>, RowError> {
    let row = rows.get(&id_key(b't', id.as_uuid()))?;
    row.map(|row| decode(&row)).transpose()
}

fn hash_key(hash: &TokenHash) -> Vec<u8> {
    let mut key = vec![b'h'];
    key.extend_from_slice(hash.as_str().as_bytes());
    key
}
