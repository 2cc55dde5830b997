//! Asking twice and having it done once.
//!
//! Whoever sends an `Idempotency-Key` with a creation gets a thing whose id is made of the key, the
//! operation and the token, so the second request finds what the first one made, also after a
//! restart and without anything being kept for it.

use uuid::Uuid;

use super::{
    call::Call,
    problem::{Kind, Problem},
};

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

    /// The id of what this request creates, when it has a key. `is_free` says that its body asks
    /// for no id of its own.
    pub(super) fn created_id(&self, is_free: bool) -> Result<Option<Uuid>, Problem> {
        let Some(key) = self.idempotency_key()? else {
            return Ok(None);
        };
        if !is_free {
            let detail = "is given by the Idempotency-Key; leave out one of them";
            return Err(Problem::field("/id", detail));
        }
        Ok(Some(self.derived(key, 0)?))
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
