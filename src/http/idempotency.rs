//! Asking twice and having it done once.
//!
//! Whoever sends an `Idempotency-Key` with a creation gets a thing whose id is made of the key, the
//! operation and the token, so the second request finds what the first one made, also after a
//! restart. That it asks for the same is told by a fingerprint of its body, for a day.

use uuid::Uuid;

use super::{
    call::Call,
    problem::{Kind, Problem},
};
use crate::model::{RequestKey, RequestKeyId};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

impl Call {
    /// The key of this request, if it has one.
    pub(super) fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let Some(key) = self.headers.idempotency_key.as_deref() else {
            return Ok(None);
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic())
        {
            let detail = format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible characters");
            return Err(Problem::new(Kind::Malformed, detail));
        }
        Ok(Some(key))
    }

    /// The key of this request as it is put on record, where the operation takes one and it has one.
    pub(super) fn request_key(&self) -> Result<Option<RequestKey>, Problem> {
        if !self.operation.is_keyed_creation() {
            return Ok(None);
        }
        let Some(key) = self.idempotency_key()? else {
            return Ok(None);
        };
        let asked = [self.query.as_bytes(), b"\n", &self.body].concat();
        Ok(Some(RequestKey {
            id: RequestKeyId::from_uuid(self.derived(key, 0)?),
            body: self.handle().fingerprint(&asked),
        }))
    }

    /// The id of what this request creates, when it has a key. `is_free` says that its body asks
    /// for no id of its own.
    ///
    /// Refused when something was created under the key already, of another body. A request that
    /// was refused uses its key up for nothing: what was wrong with it may be mended.
    pub(super) async fn created_id(&self, is_free: bool) -> Result<Option<Uuid>, Problem> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        if !is_free {
            let detail = "is given by the Idempotency-Key; leave out one of them";
            return Err(Problem::field("/id", detail));
        }
        if !self.handle().is_creating_body(key).await? {
            let detail = "this Idempotency-Key came with another body before; \
                          use a new key for a new request";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        Ok(Some(*key.id.as_uuid()))
    }

    /// The `index`th id that a key gives.
    pub(super) fn derived(&self, key: &str, index: u32) -> Result<Uuid, Problem> {
        let mut hasher = blake3::Hasher::new_derive_key("hooklog idempotency 1");
        hasher.update(self.bearer()?.id.as_uuid().as_bytes());
        hasher.update(self.path.as_bytes());
        hasher.update(&[0]);
        hasher.update(key.as_bytes());
        hasher.update(&index.to_be_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}
