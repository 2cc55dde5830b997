//! The event log.

mod envelope;

pub use envelope::{ForeignStream, RecordedEvent, StreamId, StreamKind};
