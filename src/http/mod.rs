//! The HTTP interfaces: management, publishing, consumers, health.
//!
//! ```text
//! connection ─▶ server ─▶ gate (who is it, may they, how large is it) ─▶ operation ─▶ Handle
//!                            └────────── one table: operations::all() ──────────┘
//! ```
//!
//! Everything that can be asked for is an `Operation` in one table. The
//! routes, the permission each needs and the `OpenAPI` document are all read from it, so none of
//! them can differ from the others.
//!
//! Errors are `application/problem+json` (RFC 9457). A change is put on record with the token that
//! asked for it before it is made.
//!
//! actix-web is seen in `server.rs` alone; operations take a `Call` and give a `Reply`.

mod bearers;
mod bodies;
mod call;
mod etag;
mod exposition;
mod gate;
mod gateway;
mod idempotency;
mod openapi;
mod operation;
mod operations;
mod pages;
mod problem;
mod reply;
mod server;
mod strangers;
mod trace;

pub(crate) use self::strangers::Strangers;
pub use self::{
    gateway::{Gateway, TimeLimits},
    openapi::document,
    pages::{PageRequest, Pages},
    reply::Reply,
    server::Server,
};
