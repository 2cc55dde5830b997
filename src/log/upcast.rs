//! Old schema versions, read as newer ones.

use crate::model::EventType;

/// Turns the payload of one old schema version into a newer one. Chains are followed: version 1
/// becomes 2, then 3.
///
/// It must be pure: the same bytes give the same bytes, or two replays differ.
pub trait Upcaster: Send + Sync + 'static {
    /// The type it reads.
    fn event_type(&self) -> &str;

    /// The schema version it reads.
    fn reads_version(&self) -> u16;

    /// The payload (`MessagePack`, named fields) in its newer form, or why it has none.
    fn upcast(&self, payload: &[u8]) -> Result<Upcast, String>;
}

/// A payload in a newer form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcast {
    /// Its type, which may be another one than before.
    pub event_type: EventType,
    /// Its schema version.
    pub schema_version: u16,
    /// Its payload.
    pub payload: Vec<u8>,
}
