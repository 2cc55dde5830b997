//! The webhook log: one row per delivery that has an outcome, newest first, with every filter.
//!
//! Each delivery of an API gets a dense ordinal when its first outcome is recorded. Rows refer to
//! the events behind them by position instead of copying what was captured.
//!
//! | key | value |
//! |---|---|
//! | `s` subscription | API, application (32 bytes) |
//! | `c` subscription | what holds for its next calls, see `plans.rs` |
//! | `a` API | ordinals given (u64), keep failures (0 or 1) |
//! | `u` position / 4,096 | one bit per message that the sample did not take |
//! | `d`, `k`, `n` | the rows and where they stand, see `blocks.rs` |
//! | `v` API, `u` URL or `p` application | deliveries (u64) |
//! | `b`, `z`, `t` | the index, see `index.rs` |
//! | `f` | where the log was cut, see `forgotten.rs` |

mod blocks;
mod cursor;
mod detail;
mod index;
mod plans;
mod project;
mod query;
mod row;
mod stored;

pub use self::{
    cursor::Cursor,
    detail::{AttemptDetail, DeliveryDetail, RequestDetail, ResponseDetail},
    query::{DeliveryFilter, DeliveryPage, DeliveryQuery, PAGE_MAX, PickerValues, StatusFilter},
    row::{DeliveryOutcome, DeliveryRow, DlqEntry, GivenUp, LoggedPositions},
};

pub(super) use self::query::EXAMINED_MAX;

/// The projection behind the webhook log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deliveries;
