//! How rows are written. Compact `MessagePack` arrays: a projection's `VERSION` changes with its
//! rows, so they need no names.

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::RowError;
use crate::model::Subscription;

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("rows hold plain data")
}

/// With field names: for definitions, whose fields may be left out.
pub(super) fn encode_named<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("rows hold plain data")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RowError> {
    rmp_serde::from_slice(bytes).map_err(|error| malformed(bytes, error.to_string()))
}

pub(super) fn malformed(bytes: &[u8], reason: impl Into<String>) -> RowError {
    RowError::Malformed {
        bytes: bytes.len(),
        reason: reason.into(),
    }
}

/// Tells the callback of a definition from others.
pub(super) fn callback_of(definition: &Subscription) -> Vec<u8> {
    let url = definition.configuration.callback_url.as_ref();
    url.map_or_else(Vec::new, |url| {
        blake3::hash(url.as_str().as_bytes()).as_bytes()[..16].to_vec()
    })
}

/// A key of a tag, an id and an ordinal.
pub(super) fn key_of(tag: u8, id: &Uuid, ordinal: u64) -> Vec<u8> {
    let mut key = id_key(tag, id);
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

/// A key of a tag and an id.
pub(super) fn id_key(tag: u8, id: &Uuid) -> Vec<u8> {
    let mut key = Vec::with_capacity(33);
    key.push(tag);
    key.extend_from_slice(id.as_bytes());
    key
}

/// A key of a tag and two ids.
pub(super) fn pair_key(tag: u8, first: &Uuid, second: &Uuid) -> Vec<u8> {
    let mut key = id_key(tag, first);
    key.extend_from_slice(second.as_bytes());
    key
}

/// The number in the eight bytes at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, RowError> {
    let part = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
    part.map(u64::from_be_bytes)
        .ok_or_else(|| malformed(bytes, format!("no number at byte {at}")))
}

/// The id in the sixteen bytes at `at`.
pub(super) fn uuid_at(bytes: &[u8], at: usize) -> Result<Uuid, RowError> {
    let part = bytes.get(at..at + 16).and_then(|part| part.try_into().ok());
    part.map(Uuid::from_bytes)
        .ok_or_else(|| malformed(bytes, format!("no id at byte {at}")))
}
