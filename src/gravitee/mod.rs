//! Import of Gravitee v4 API definitions and subscriptions.
//!
//! ```text
//!  files ──text──▶ documents ──document──▶ APIs, applications, subscriptions ──▶ Plan ──apply──▶ gateway
//!                                │
//!                                └─ ledger: every value is used, or a note names it
//! ```
//! [`Plan::of`] is a pure function from the texts of files to a [`Plan`]: what would be created,
//! and a [`Note`] for each thing that has no equivalent, by file and JSON pointer. Nothing is left
//! out without a note: each value that is read is marked in a ledger, and at the end whatever has
//! no mark is noted. [`apply`] carries a plan out on anything that is a [`Target`], which a
//! [`Handle`](crate::runtime::Handle) is. Ids are kept or made from what things are called, so
//! importing twice changes things and doubles none; what Gravitee has no word for stays as it was
//! set since, and so does what a definition says and could not be taken over. What a definition
//! leaves out is unset, as it is in Gravitee.
//!
//! No note and no error holds a value that could be a secret.
//!
//! This room imports `model`, `delivery` (for its rules of what may be called) and `runtime`.

mod api;
mod apply;
mod auth;
mod document;
mod endpoints;
mod entrypoint;
mod headers;
mod ids;
mod ledger;
mod note;
mod overlay;
mod plan;
mod scalar;
mod ssl;
mod subscription;
mod text;
mod yaml;

pub use self::{
    apply::{Applied, Change, Done, Target, apply, egress},
    note::{Note, NoteKind},
    plan::{Plan, PlannedApi, PlannedApplication, PlannedSubscription, Untaken},
    text::{DEPTH_MAX, ReadError, TEXT_BYTES_MAX, VALUES_MAX},
};
