//! What can go wrong with projections: one enum per who meets it.

use std::{io, path::PathBuf};

use crate::model::{Invalid, Position};

/// Rows cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The store is damaged: it is thrown away and built again from the log.
    #[error("the row store is damaged: {0}")]
    Damaged(String),
    /// The disk refused.
    #[error("the row store cannot be read or written: {0}")]
    Io(String),
    /// A row does not have the form its projection writes: taken as damage.
    #[error("a row of {bytes} bytes cannot be decoded: {reason}")]
    Malformed {
        /// Its size.
        bytes: usize,
        /// What does not fit.
        reason: String,
    },
}

impl RowError {
    /// Whether building the rows again from the log mends it.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Malformed { .. })
    }
}

/// A projection could not fold an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// Its rows failed it.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// The event is not one it can fold.
    #[error("{0}")]
    Event(String),
}

impl ProjectError {
    /// An event that cannot be folded, and why.
    pub fn event(reason: impl Into<String>) -> Self {
        Self::Event(reason.into())
    }
}

/// The log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be read after position {after}: {reason}")]
pub struct HistoryError {
    /// The last position that was read.
    pub after: Position,
    /// Why.
    pub reason: String,
    /// Whether it may pass by itself: the system refused, and may not the next time.
    pub passing: bool,
}

/// A projection could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its directory cannot be used.
    #[error("the projection directory {path} cannot be used: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its rows cannot be opened, and deleting them would not help.
    #[error("the rows in {path} cannot be opened: {source}")]
    Rows {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: RowError,
    },
    /// Another projection has its name.
    #[error("two projections are called {0:?}")]
    DuplicateName(&'static str),
    /// The name cannot be a directory's.
    #[error("{0:?} cannot name a projection: 1 to 64 lower-case letters, digits and underscores")]
    BadName(&'static str),
    /// Its thread could not be started.
    #[error("the thread of projection {name:?} cannot be started: {source}")]
    Thread {
        /// The projection.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A view could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The time was spent before the projection reached the position.
    #[error("projection {projection:?} is at position {position}, behind the wanted {wanted}")]
    Behind {
        /// The projection.
        projection: &'static str,
        /// Where it is.
        position: Position,
        /// Where it should have been.
        wanted: Position,
    },
    /// The projection stopped at an event it could not fold.
    #[error("projection {projection:?} halted at position {position}: {reason}")]
    Halted {
        /// The projection.
        projection: &'static str,
        /// The event it stopped at.
        position: Position,
        /// Why.
        reason: String,
    },
    /// The runtime is shutting down.
    #[error("projection {projection:?} is stopped")]
    Stopped {
        /// The projection.
        projection: &'static str,
    },
    /// Its rows were damaged. They are built again from the log, and answer once they are as far as
    /// they were.
    #[error(
        "the rows of projection {projection:?} were damaged and are built again from the log; ask again soon"
    )]
    Mending {
        /// The projection.
        projection: &'static str,
    },
    /// Its rows failed it. Damaged rows are built again.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// The question cannot be asked like this.
    #[error(transparent)]
    Query(#[from] Invalid),
    /// The events behind an answer cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A rebuild met an event it could not fold; the rows are as before.
    #[error("rebuilding {projection:?} failed at position {position}: {reason}")]
    Rebuild {
        /// The projection.
        projection: &'static str,
        /// The event.
        position: Position,
        /// Why.
        reason: String,
    },
}
