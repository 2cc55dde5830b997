//! Puts the rooms together: what a program embeds.
//!
//! ```text
//! Builder ─start─▶ Runtime (owner: shuts down in order)
//!                     └─ Handle (cheap clone: create, subscribe, publish, read, follow)
//! ```
//!
//! Starting recovers everything from the log before the first call is made (G7). Shutting down
//! ends intake, lets calls end, makes their outcomes durable, and saves a snapshot. A runtime that
//! is dropped without shutting down loses nothing that was acknowledged: it is a crash in order.

mod builder;
mod control;
mod directory;
mod error;
mod explain;
mod forward;
mod handle;
mod jobs;
mod lanes;
mod limits;
mod publish;
pub(crate) mod recovery;
mod repair;
mod retention;
mod snapshotter;
mod sources;
pub(crate) mod unsaved;
mod what_if;

#[cfg(feature = "server")]
pub(crate) use self::lanes::Lanes;
pub use self::{
    builder::{Builder, PROJECTIONS_DIRECTORY, Runtime, ShutdownReport},
    control::{SigningSecret, TestReport, TokenSecret},
    error::{ControlError, StartError},
    explain::{Explanation, Standing, Step},
    handle::Handle,
    repair::repair,
    retention::{Holder, HolderKind, RetentionReport, RetentionStatus},
    what_if::{Comparison, Outcome, WhatIf, what_if},
};
