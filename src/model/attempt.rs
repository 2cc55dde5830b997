//! One HTTP call and what came of it.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Captured, Timestamp};

/// The how-manyth call of a delivery, from 1. A redelivery counts on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct AttemptNumber(u32);

impl AttemptNumber {
    /// The first try.
    pub const FIRST: Self = Self(1);

    /// The attempt with this number; 0 is taken as 1.
    pub const fn new(number: u32) -> Self {
        Self(if number == 0 { 1 } else { number })
    }

    /// Its number, from 1.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a call got no response.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The host name has no address, or the resolver failed.
    Dns,
    /// No connection: refused, unreachable, proxy refused.
    Connect,
    /// The TLS handshake failed or the certificate was not accepted.
    Tls,
    /// The connect, read or total time was spent.
    Timeout,
    /// The connection broke after it stood.
    Reset,
    /// What came back is not HTTP, or breaks its limits.
    Protocol,
    /// The destination is one that must not be called.
    Blocked,
    /// The credentials of a call could not be prepared: key material, or a token endpoint that was
    /// not reached or gave no token.
    Auth,
    /// A fault of the gateway itself, not of the callback.
    Internal,
    /// The subscription's filter fails on the message, so it was not called with it.
    Filter,
}

impl ErrorClass {
    /// Every class, in the order of a call's life.
    pub const ALL: [Self; 10] = [
        Self::Filter,
        Self::Blocked,
        Self::Auth,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Internal,
    ];

    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Blocked => "blocked",
            Self::Auth => "auth",
            Self::Internal => "internal",
            Self::Filter => "filter",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose fault a failed call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The subscriber's: its callback answered badly or not at all, or its filter failed.
    Receiver,
    /// The gateway's own: blocked destination, credentials or settings that cannot be used, inner
    /// error.
    System,
}

/// Why a call got no response, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[error("{class}: {detail}")]
pub struct AttemptError {
    /// What kind of failure.
    pub class: ErrorClass,
    /// What happened, for people. Never holds a secret.
    pub detail: String,
}

impl AttemptError {
    /// An error of this class.
    pub fn new(class: ErrorClass, detail: impl Into<String>) -> Self {
        Self {
            class,
            detail: detail.into(),
        }
    }

    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self.class {
            ErrorClass::Blocked | ErrorClass::Auth | ErrorClass::Internal => Fault::System,
            _ => Fault::Receiver,
        }
    }
}

/// What a `Retry-After` header asks for, resolved to a wait from the time of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RetryAfter {
    /// Seconds to wait, clamped to a day.
    pub seconds: u32,
}

impl RetryAfter {
    /// Longest hold that is honoured: a day.
    pub const SECONDS_MAX: u32 = 86_400;

    /// A wait of this many seconds, clamped to a day.
    pub fn from_seconds(seconds: u64) -> Self {
        Self {
            seconds: u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .min(Self::SECONDS_MAX),
        }
    }

    /// The wait.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }
}

/// How long the parts of a call took, in microseconds; absent for a part that did not happen
/// (a kept-alive connection resolves, connects and shakes hands no more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timings {
    /// Resolving the host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u32>,
    /// The TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u32>,
    /// The TLS handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u32>,
    /// From the request being sent to the response's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u32>,
    /// The whole call.
    pub total_us: u32,
}

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The callback answered: the head of its response came, whatever became of the body. An
    /// HTTP 500 is a response, not an error.
    Responded {
        /// The status, 100 to 999.
        status: u16,
        /// What its `Retry-After` asks for, if it had one that can be read.
        retry_after: Option<RetryAfter>,
    },
    /// There was no response; shown as status 0.
    Failed(AttemptError),
}

impl AttemptResult {
    /// The status, 0 for no response.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Responded { status, .. } => *status,
            Self::Failed(_) => 0,
        }
    }
}

/// One finished call, as a transport reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// When the call began, wall clock.
    pub started_at: Timestamp,
    /// How long its parts took.
    pub timings: Timings,
    /// What came of it.
    pub result: AttemptResult,
    /// Headers and bodies, where logging is on; already redacted.
    pub captured: Option<Box<Captured>>,
}
