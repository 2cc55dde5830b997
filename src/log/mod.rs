//! The event log: every fact of the gateway, in the order it happened.
//!
//! One writer, any number of readers. [`EventLog`] promises:
//!
//! - **G1** positions are the commit order, gapless but where a repair says so; versions are gapless
//!   per stream.
//! - **G2** an append is all-or-nothing and as durable as configured before it returns.
//! - **G4** a reader never sees a position before all lower ones, nor one that is not yet as
//!   durable as configured.
//! - **G5** a feed gives each position after its start once, in order; filtered feeds report
//!   progress.
//! - **G10** after a failed sync nothing is acknowledged.
//! - **G11** damage is detected, never served; only the damaged range is affected.
//!
//! A commit is stored as one page in the newest of a row of segments; `FORMAT.md` beside this file
//! tells the bytes. Only `sled_storage` imports sled. This room imports [`model`](crate::model) and
//! [`clock`](crate::clock) and no other.

mod append_times;
mod codec;
mod core;
mod envelope;
mod error;
mod event_log;
mod feed;
mod head_file;
mod health;
mod offline;
mod options;
mod origin;
mod page;
mod reader;
mod recovery;
mod repair;
mod retention;
mod segment;
mod sled_flush;
mod sled_storage;
mod snapshot;
mod storage;
mod upcast;
mod verify;
mod view;
mod writer;

#[cfg(all(test, feature = "server"))]
pub(crate) use self::codec::recorded;
pub(crate) use self::codec::{Cursor, put_varint};
#[cfg(feature = "server")]
pub(crate) use self::error::until;
pub(crate) use self::sled_flush::flush;
pub(crate) use self::sled_storage::{remove_unfinished, sync_directory};
pub use self::{
    append_times::AppendTimes,
    core::{
        APPEND_BYTES_MAX, APPEND_EVENTS_MAX, AppendAnswer, AppendRequest, Appended,
        ExpectedVersion, LogCore, StreamAppend,
    },
    envelope::{ForeignStream, RecordedEvent, StreamId, StreamKind},
    error::{AppendError, OpenError, ReadError, StorageError},
    event_log::{EventLog, HeadWatch},
    feed::{Feed, FeedItem, FeedStart, Filter},
    health::{Health, HealthWatch},
    offline::{LogStart, OfflineError, OfflineWriter, Sequence},
    options::{Durability, LogOptions},
    origin::{Origin, OriginDraft, OriginStore, SectionRows, SectionWriter},
    reader::ReadLimit,
    repair::{Repair, RepairError, RepairPlan},
    retention::{RetentionError, RetentionPlan, RetentionPolicy, RetiredSegment},
    sled_storage::DirectoryStorage,
    snapshot::{SnapshotRows, SnapshotStore},
    storage::{Row, SegmentStore, Storage, Visit},
    upcast::{Upcast, Upcaster},
    verify::{GivenUp, VerifyProblem, VerifyProgress, VerifyReport},
    view::Quarantined,
    writer::{LogWriter, PendingAppend, Urgency},
};
