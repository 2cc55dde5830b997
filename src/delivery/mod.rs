//! One HTTP call to a callback, and nothing else: whether it is made, what it carries, how long it
//! may take, what is kept of it.
//!
//! A [`Transport`] takes an [`AttemptRequest`] and always gives an
//! [`AttemptReport`](crate::model::AttemptReport): it never fails, it reports. Whether a failed
//! call is made again is for the subscription to decide.
//!
//! [`HttpTransport`] is the one that speaks HTTP. What it promises:
//! - no call to an address that [`Egress`] denies: the URL is checked before each call, so is every
//!   answer of the resolver, and so is the connected peer before a byte of the request is written;
//! - no redirect is followed, no proxy taken from the environment, no body decompressed;
//! - every call ends within the connect and read time together;
//! - at most [`RESPONSE_BYTES_MAX`] of a response are read;
//! - nothing secret is in a report.
//!
//! This room imports `model` and `clock` alone. It is the only one that sees the HTTP client, and
//! shows no type of it.

mod auth;
mod capture;
mod check;
mod classify;
mod clients;
mod cloud_events;
mod connect;
mod egress;
mod exchange;
mod http;
mod probe;
mod request;
mod resolve;
mod retry_after;
mod sign;
mod tls;
mod transport;

pub use self::{
    capture::CaptureOptions,
    check::{check_configuration, check_proxy},
    egress::{Blocked, BlockedReason, Egress},
    http::{HttpTransport, HttpTransportBuilder, RESPONSE_BYTES_MAX},
    resolve::{Resolve, SystemResolver},
    transport::{AttemptRequest, NoSecrets, Transport},
};
