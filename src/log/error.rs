//! What can go wrong with the log: one enum per family, over one storage error.

use std::{io, path::PathBuf, sync::Arc};

use crate::model::{EventType, Position, Version};

use super::{ExpectedVersion, StreamId};

/// The store under the log failed. Clones share their source, because one failure answers many
/// appends.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Stored bytes are not what was written.
    #[error("{what} is damaged: {reason}")]
    Corrupt {
        /// What is damaged: a path, a page, a row.
        what: String,
        /// How that was seen.
        reason: String,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// A sync failed earlier, so nothing written since can be believed (G10).
    #[error("an earlier sync failed; open the log again")]
    Poisoned,
    /// Another holder has the directory.
    #[error("{path} is in use by another process", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{path} has format {found}, and this program reads up to {newest}", path = path.display())]
    FormatTooNew {
        /// The file that says so.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this program reads.
        newest: u32,
    },
    /// There is no room.
    #[error("no space is left in {path}", path = path.display())]
    Full {
        /// The directory.
        path: PathBuf,
    },
}

impl StorageError {
    /// Damage, with what and how.
    pub fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// What the operating system said of this path; out of space becomes [`Full`](Self::Full).
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return Self::Full { path };
        }
        Self::Io {
            path,
            source: Arc::new(source),
        }
    }
}

/// The log cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such directory.
    #[error("{path} does not exist", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("{path} is not a hooklog data directory: {reason}", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Why it is taken as foreign.
        reason: String,
    },
    /// An option is out of range.
    #[error("option {option}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// An append was not acknowledged.
///
/// All variants but [`Unknown`](Self::Unknown) mean *surely not written*.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is not where the caller thought.
    #[error("stream {stream} was expected at {expected} and is at version {actual}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the caller expected.
        expected: ExpectedVersion,
        /// Its version, zero when it has no events.
        actual: Version,
    },
    /// There is no event in it.
    #[error("an append needs at least one event")]
    Empty,
    /// Its events are too large together.
    #[error("an append of {bytes} bytes is above the limit of {max} bytes")]
    TooLarge {
        /// Their encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It has too many events.
    #[error("an append of {count} events is above the limit of {max} events")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// An event has no encoding.
    #[error("an event of type {event_type} cannot be encoded: {reason}")]
    Unencodable {
        /// Its type.
        event_type: EventType,
        /// What the encoder said.
        reason: String,
    },
    /// The disk is full, or below its watermark.
    #[error("there is no room: {free} bytes are free and {needed} bytes are kept back")]
    Full {
        /// Free bytes; zero when the disk refused.
        free: u64,
        /// The watermark.
        needed: u64,
    },
    /// The writer's queue is full. Try again, or use [`append`](super::EventLog::append), which
    /// waits.
    #[error("the queue of the log is full, at {max} appends or by their bytes")]
    Busy {
        /// The most appends in the queue.
        max: usize,
    },
    /// An earlier sync failed (G10).
    #[error("an earlier sync failed; open the log again")]
    Poisoned,
    /// The end of the log is damaged, so the versions that streams have reached are not known, and
    /// none may be given twice. What lies below is read. See
    /// [`repair_plan`](super::EventLog::repair_plan).
    #[error("the log is damaged from position {from} {}: {reason}; it can be read and takes no append until it is repaired", until(*to))]
    TailDamaged {
        /// The first position that is lost.
        from: Position,
        /// The last position known to have been written; `None` when it is not known.
        to: Option<Position>,
        /// How that was seen.
        reason: String,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The log was opened for reading.
    #[error("the log is open for reading alone")]
    ReadOnly,
    /// The store refused before anything was written.
    #[error("the store refused")]
    Refused(#[source] StorageError),
    /// *Outcome unknown*: it may or may not be in the log after the next open.
    #[error("the append may or may not have been written")]
    Unknown(#[source] StorageError),
}

/// Names the end of a damaged range.
pub(crate) fn until(to: Option<Position>) -> String {
    to.map_or_else(|| "on".to_owned(), |to| format!("to {to}"))
}

impl AppendError {
    /// Whether the events may be in the log all the same.
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Events cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Retention has dropped what was asked for.
    #[error("retention dropped what was asked for; the log begins at position {first}")]
    Gone {
        /// The first position there is.
        first: Position,
    },
    /// Retention has dropped what was asked for of a stream.
    #[error("retention dropped what was asked for; stream {stream} begins at version {first}")]
    StreamGone {
        /// The stream.
        stream: StreamId,
        /// The first version there is.
        first: Version,
    },
    /// A range of positions is damaged (G11). Reading on after `to` works.
    #[error("positions {from} to {to} are damaged: {reason}")]
    Corrupt {
        /// The first damaged position.
        from: Position,
        /// The last damaged position.
        to: Position,
        /// How that was seen.
        reason: String,
    },
    /// Versions of a stream are damaged (G11). Reading on from `resume` works.
    #[error("versions of stream {stream} after {after} are damaged, up to {resume}: {reason}")]
    StreamDamaged {
        /// The stream.
        stream: StreamId,
        /// The version before the damage: that which was read after.
        after: Version,
        /// The first version behind the damage: one that can be read, or the next to be written.
        resume: Version,
        /// How that was seen.
        reason: String,
    },
    /// An event of a known type does not decode.
    #[error("the event at position {position}, of type {event_type}, does not decode: {reason}")]
    Undecodable {
        /// Where. Reading on after it works.
        position: Position,
        /// Its stream.
        stream: StreamId,
        /// Its place in its stream.
        version: Version,
        /// Its type.
        event_type: EventType,
        /// What the decoder said.
        reason: String,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// The version after which a stream goes on, where the fault is that some of it is gone or
    /// damaged.
    pub(crate) fn stream_goes_on_after(&self) -> Option<Version> {
        match self {
            Self::StreamGone { first, .. } => Some(first.previous()),
            Self::StreamDamaged { resume, .. } => Some(resume.previous()),
            _ => None,
        }
    }
}
