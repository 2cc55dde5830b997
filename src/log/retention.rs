//! Retention: whole sealed segments are dropped, oldest first. The newest one never is.

use std::{sync::Arc, time::Duration};

use crate::model::{Position, Timestamp};

use super::{EventLog, ReadError, StorageError, segment::SegmentReader, view::View};

/// What may be dropped. A segment goes when one of the two says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// Segments whose newest event is older than this.
    pub max_age: Option<Duration>,
    /// The oldest segments, while all together take more bytes on disk than this.
    pub max_bytes: Option<u64>,
}

impl RetentionPolicy {
    /// What it says of these sealed segments, oldest first, beside a newest of that size.
    fn plan(
        self,
        sealed: Vec<RetiredSegment>,
        newest_bytes: u64,
        now: Timestamp,
        keep_from: Position,
    ) -> RetentionPlan {
        let mut left = newest_bytes + sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        let mut plan = RetentionPlan::default();
        for segment in sealed {
            let large = self.max_bytes.is_some_and(|max| left > max);
            let old = self.max_age.zip(segment.until);
            let old = old.is_some_and(|(max, until)| now.since(until) > max);
            if !(large || old) {
                break;
            }
            left -= segment.bytes;
            if segment.last < keep_from {
                plan.segments.push(segment);
            } else {
                plan.held.push(segment);
            }
        }
        plan
    }
}

/// A segment that would be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetiredSegment {
    /// Its first position.
    pub first: Position,
    /// Its last position.
    pub last: Position,
    /// No event of it is newer than this; `None` when damage hides it.
    pub until: Option<Timestamp>,
    /// Bytes it takes on disk.
    pub bytes: u64,
}

/// What a policy would drop now. Nothing is dropped before
/// [`apply_retention`](EventLog::apply_retention).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPlan {
    /// The segments, oldest first.
    pub segments: Vec<RetiredSegment>,
    /// What the policy says as well, and somebody still needs; oldest first.
    pub held: Vec<RetiredSegment>,
}

impl RetentionPlan {
    /// Bytes on disk that would be free.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The last position that would be gone.
    pub fn last(&self) -> Option<Position> {
        self.segments.last().map(|segment| segment.last)
    }
}

/// Retention could not be worked out or carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// The log was opened for reading.
    #[error("the log is open for reading alone")]
    ReadOnly,
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl EventLog {
    /// What this policy would drop at `now`. Segments that hold `keep_from` or a position above it
    /// are held back, and named. Blocks.
    pub fn retain(
        &self,
        policy: RetentionPolicy,
        now: Timestamp,
        keep_from: Position,
    ) -> Result<RetentionPlan, RetentionError> {
        let sealed = sealed(self.view())?;
        let newest = self.view().segments().firsts.last().copied();
        let newest_bytes = newest.map(|first| self.view().storage.bytes_on_disk(first));
        let newest_bytes = newest_bytes.transpose()?.unwrap_or(0);
        Ok(policy.plan(sealed, newest_bytes, now, keep_from))
    }

    /// Drops what the plan names, oldest first; what is gone already is passed over. Blocks.
    ///
    /// Reading what was dropped gives [`ReadError::Gone`] or [`ReadError::StreamGone`]. Versions of
    /// streams go on where they were.
    pub fn apply_retention(&self, plan: &RetentionPlan) -> Result<(), RetentionError> {
        if !self.is_writable() {
            return Err(RetentionError::ReadOnly);
        }
        for segment in &plan.segments {
            // Who is about to open it would make an empty store where it was.
            let _opening = self.view().opening();
            if self.view().retire(segment.first, segment.last)? {
                // Before it is gone, so that what is gone without a word is known as damage.
                self.view().head_file().retire_below(segment.last.next())?;
                self.view().storage.remove(segment.first)?;
            }
        }
        Ok(())
    }
}

/// Every segment but the newest.
fn sealed(view: &Arc<View>) -> Result<Vec<RetiredSegment>, RetentionError> {
    let firsts = view.segments().firsts.clone();
    let mut until = None;
    let mut sealed = Vec::new();
    // From the newest on: a segment's events are not newer than the segment that follows it.
    for pair in firsts.windows(2).rev() {
        let (first, next) = (pair[0], pair[1]);
        until = created(view, next)?.or(until);
        sealed.push(RetiredSegment {
            first,
            last: next.previous(),
            until,
            bytes: view.storage.bytes_on_disk(first)?,
        });
    }
    sealed.reverse();
    Ok(sealed)
}

/// When a segment was begun; `None` when damage hides it.
fn created(view: &View, first: Position) -> Result<Option<Timestamp>, ReadError> {
    let store = match view.store(first) {
        Ok(store) => store,
        Err(ReadError::Corrupt { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match SegmentReader(store.as_ref()).header(first) {
        Ok(header) => Ok(header.map(|header| header.created)),
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
