//! One HTTP call to a callback, and nothing else: whether it is made, what it carries, how long it
//! may take, what is kept of it.
//!
//! A [`Transport`] takes an [`AttemptRequest`] and always gives an
//! [`AttemptReport`](crate::model::AttemptReport): it never fails, it reports. Whether a failed
//! call is made again is for the subscription to decide.
//!
//! [`HttpTransport`] is the one that speaks HTTP. What it promises:
//! - no call to an address that [`Egress`] denies, of a callback or of a token endpoint: the URL is
//!   checked before each call, so is every answer of the resolver, and so is the connected peer
//!   before a byte of the request is written;
//! - no redirect is followed, no proxy taken from the environment, no body decompressed;
//! - every call ends within the connect and read time together. One that has to get an access token
//!   first waits as long again for it at most; when the callback answers 401 to a token, the token is
//!   got anew and the call made once more, each within that time;
//! - at most [`RESPONSE_BYTES_MAX`] of a response are read;
//! - nothing secret is in a report.
//!
//! An access token is kept for one subscription under one set of credentials, on one worker. It is
//! renewed a minute before it ends, or, of a short life, when a quarter of it is left; calls that
//! need one at the same time wait for the same request. A token endpoint that gives none fails the
//! attempt with the class `auth` and what it said: its status and its error code, nothing else of it.
//!
//! This room imports `model` and `clock` alone. It is the only one that sees the HTTP client of calls,
//! and shows no type of it.

mod assertion;
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
mod proxy;
mod request;
mod resolve;
mod retry_after;
mod sign;
mod stream;
mod target;
mod tls;
mod token_endpoint;
mod tokens;
mod trace;
mod transport;

#[cfg(feature = "server")]
pub(crate) use self::tls::machine_tls;
pub use self::{
    capture::CaptureOptions,
    check::{check_configuration, check_proxy},
    egress::{Blocked, BlockedReason, Egress},
    http::{HttpTransport, HttpTransportBuilder, RESPONSE_BYTES_MAX},
    resolve::{Resolve, SystemResolver},
    transport::{AttemptRequest, NoSecrets, Transport},
};
