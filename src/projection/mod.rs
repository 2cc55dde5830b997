//! Projections: views of the gateway that are folded from the log, can be thrown away, and can be
//! built again.
//!
//! A projection is a pure fold of recorded events into rows. Its rows and its position in the log
//! move in one atomic step (G6), so after a crash it goes on where its rows are. Its results
//! depend on the events alone, never on batch boundaries, clocks or other projections: built again
//! from the same log, its rows are equal byte for byte. Nothing here has an effect (G7).
//!
//! # Writing one
//! ```
//! use hooklog::{
//!     log::RecordedEvent,
//!     projection::{ProjectError, Projection, ReadRows, Rows},
//! };
//!
//! /// How many messages each API took in.
//! struct MessageCounts;
//!
//! impl Projection for MessageCounts {
//!     const NAME: &'static str = "message_counts";
//!     // Goes up whenever the rows change: the old ones are then built again.
//!     const VERSION: u32 = 1;
//!
//!     fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
//!         if recorded.event.as_published().is_some() {
//!             let key = recorded.stream.uuid();
//!             let count = rows.get(key.as_bytes())?.map_or(0, |row| row[0]);
//!             rows.put(key.as_bytes(), [count.saturating_add(1)]);
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! Keys are the projection's own; order matters, as ranges are read in key order. Do not keep
//! state in the value itself: it would be lost by a restart. `project` must not read clocks, draw
//! random numbers, or depend on anything but the rows and the event.
//!
//! This room imports `model`, `clock` and `log`. sled is seen in one of its files.

pub mod access;
mod ahead;
mod carry;
mod checkpoint;
mod codec;
pub mod dead_letters;
pub mod deliveries;
mod engine;
mod error;
mod fold;
mod forgotten;
mod gathered;
mod history;
pub mod idempotency_keys;
pub mod jobs;
mod log_history;
pub mod metrics;
mod origin;
mod place;
mod replay;
mod rhythm;
mod rows;
mod set;
mod shared;
mod sled_store;
#[cfg(feature = "testing")]
mod stepped;
mod store;
pub mod subscriptions;
mod until;
mod view;

pub(crate) use self::place::forget_from;
#[cfg(feature = "testing")]
pub(crate) use self::stepped::Stepped;
pub use self::{
    ahead::RowsAhead,
    checkpoint::SkippedEvent,
    error::{HistoryError, ProjectError, RowError, StartError, ViewError},
    fold::OnBadEvent,
    history::{Batch, History, SharedHistory},
    log_history::CutLog,
    replay::{
        Folding, ReplayUntil, Replayed, copy_rows, fold_all, history_until, replay, stored_view,
    },
    rhythm::Rhythm,
    rows::{ReadRows, Row, RowIter, Rows, StoredRows, after_prefix},
    set::{ProjectionStatus, Projections, Storage},
    shared::{Halt, Phase},
    view::{Lag, View},
};
use crate::{log::RecordedEvent, model::Position};

/// A pure fold of recorded events into rows. See the [module](self) for how to write one.
pub trait Projection: Send + 'static {
    /// Names it, and its directory: 1 to 64 lower-case letters, digits and underscores.
    const NAME: &'static str;
    /// The version of its rows; another version's rows are built again.
    const VERSION: u32;
    /// Whether [`carry`](Self::carry) lets go of rows. After retention has cut the log, the rows
    /// are then built again, beside the old ones, without what is gone.
    const FORGETS: bool = false;
    /// Whether rows are on disk as soon as they are seen, at the price of a flush for each batch that
    /// changes any. Others may be in memory alone for as long as [`Rhythm::flush_every`] says, and
    /// are folded again after a crash.
    const PROMPT: bool = false;

    /// Folds one event. Events come in order of position, each once.
    ///
    /// After an error (or a panic) none of what it wrote for this event stays.
    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError>;

    /// What outlives a cut of the log of a row as it stood just before: rows of the cut log begin
    /// with it. By default everything does. Let go of rows about single messages, which would
    /// else be kept for ever, and say so in [`FORGETS`](Self::FORGETS).
    fn carry(&self, row: Row) -> Option<Row> {
        Some(row)
    }

    /// Begins rows on a log that was cut: what was carried is in them, and the event at `first` is
    /// the next that is folded.
    fn begin(&self, _rows: &mut Rows<'_>, _first: Position) -> Result<(), ProjectError> {
        Ok(())
    }

    /// Takes over a row that was carried by another version of this projection, as upcasters do
    /// with events: the events it was folded from are gone. By default it is refused, and the
    /// projection halts.
    fn adopt(&self, version: u32, _row: Row) -> Result<Option<Row>, ProjectError> {
        Err(not_adopted::<Self>(version))
    }
}

/// Why rows of another version are not taken over.
fn not_adopted<P: Projection + ?Sized>(version: u32) -> ProjectError {
    ProjectError::event(format!(
        "the log was cut, and its origin holds rows of version {version}, which version {} does not take over",
        P::VERSION
    ))
}

/// A projection of any kind, for the engine.
trait Erased: Send {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn forgets(&self) -> bool;
    fn is_prompt(&self) -> bool;
    fn carry(&self, row: Row) -> Option<Row>;
    fn begin(&self, rows: &mut Rows<'_>, first: Position) -> Result<(), ProjectError>;
    fn adopt(&self, version: u32, row: Row) -> Result<Option<Row>, ProjectError>;
    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError>;
}

impl<P: Projection> Erased for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> u32 {
        P::VERSION
    }

    fn forgets(&self) -> bool {
        P::FORGETS
    }

    fn is_prompt(&self) -> bool {
        P::PROMPT
    }

    fn carry(&self, row: Row) -> Option<Row> {
        Projection::carry(self, row)
    }

    fn begin(&self, rows: &mut Rows<'_>, first: Position) -> Result<(), ProjectError> {
        Projection::begin(self, rows, first)
    }

    fn adopt(&self, version: u32, row: Row) -> Result<Option<Row>, ProjectError> {
        Projection::adopt(self, version, row)
    }

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        Projection::project(self, rows, recorded)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
        .to_owned()
}
