//! Jobs, as their events tell.
//!
//! | key | value |
//! |---|---|
//! | `j` position of its first event | [`JobRow`] |
//! | `i` job | that position (u64) |

use serde::{Deserialize, Serialize};

use super::{
    ProjectError, Projection, ReadRows, RowError, Rows, View, ViewError, after_prefix,
    codec::{decode, encode_named, id_key, u64_at},
    deliveries::{EXAMINED_MAX, PAGE_MAX},
};
use crate::{
    log::RecordedEvent,
    model::{ApiId, Event, Invalid, JobEvent, JobId, JobState, JobStatus, Position, Timestamp},
};

/// The projection behind the list of jobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jobs;

/// A job as its events tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its first event, by which jobs are listed.
    pub position: Position,
    /// What it is, and how far.
    pub state: JobState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl JobRow {
    /// The row after one more event of its job; `None` where the beginning of the job is missing.
    pub(crate) fn after(before: Option<Self>, recorded: &RecordedEvent) -> Option<Self> {
        let Event::Job(event) = &recorded.event else {
            return before;
        };
        if let JobEvent::Created(created) = event {
            return Some(Self {
                position: recorded.position,
                state: JobState::begun((*created.job).clone()),
                created_at: recorded.time,
                updated_at: recorded.time,
            });
        }
        let mut row = before?;
        row.state.apply(event);
        row.updated_at = recorded.time;
        Some(row)
    }
}

/// Which jobs; each field that is set narrows the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// On deliveries of this API.
    pub api: Option<ApiId>,
    /// That stand so.
    pub status: Option<JobStatus>,
}

impl JobFilter {
    /// Whether a job is one of them.
    pub fn holds(&self, row: &JobRow) -> bool {
        self.api
            .is_none_or(|api| row.state.job.selection.api() == api)
            && self.status.is_none_or(|status| row.state.status == status)
    }
}

/// One page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobPage {
    /// The jobs. There may be fewer than asked for, even none, where many had to be looked at.
    pub jobs: Vec<JobRow>,
    /// The next page holds the jobs below this position; absent on the last.
    pub next: Option<Position>,
}

impl Projection for Jobs {
    const NAME: &'static str = "jobs";
    const VERSION: u32 = 1;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let (Event::Job(event), Some(id)) = (&recorded.event, recorded.stream.as_job()) else {
            return Ok(());
        };
        let before = if matches!(event, JobEvent::Created(_)) {
            let position = recorded.position.get().to_be_bytes();
            rows.put(id_key(b'i', id.as_uuid()), position);
            None
        } else {
            find(rows, id)?
        };
        if let Some(row) = JobRow::after(before, recorded) {
            rows.put(job_key(row.position), encode_named(&row));
        }
        Ok(())
    }
}

impl View<Jobs> {
    /// One job.
    pub fn job(&self, id: JobId) -> Result<Option<JobRow>, ViewError> {
        self.read(|rows| Ok(find(rows, id)?))
    }

    /// A page of jobs, those created below `below`; at most `limit` (1 to [`PAGE_MAX`]).
    ///
    /// # Errors
    /// [`ViewError::Query`] when the limit cannot be used.
    pub fn list(
        &self,
        filter: &JobFilter,
        below: Option<Position>,
        limit: usize,
    ) -> Result<JobPage, ViewError> {
        if !(1..=PAGE_MAX).contains(&limit) {
            let reason = format!("is {limit}, must be 1 to {PAGE_MAX}");
            return Err(Invalid::one("/limit", reason).into());
        }
        self.read(|rows| {
            let mut page = JobPage::default();
            let end = below.map_or_else(|| after_prefix(b"j"), job_key);
            for (examined, row) in rows.range_rev(b"j".to_vec()..end).enumerate() {
                if page.jobs.len() == limit || examined == EXAMINED_MAX {
                    return Ok(page);
                }
                let row: JobRow = decode(&row?.value)?;
                page.next = Some(row.position);
                if filter.holds(&row) {
                    page.jobs.push(row);
                }
            }
            page.next = None;
            Ok(page)
        })
    }
}

fn find(rows: &dyn ReadRows, id: JobId) -> Result<Option<JobRow>, RowError> {
    let Some(position) = rows.get(&id_key(b'i', id.as_uuid()))? else {
        return Ok(None);
    };
    let row = rows.get(&job_key(Position::new(u64_at(&position, 0)?)))?;
    row.map(|row| decode(&row)).transpose()
}

fn job_key(position: Position) -> Vec<u8> {
    let mut key = vec![b'j'];
    key.extend_from_slice(&position.get().to_be_bytes());
    key
}
