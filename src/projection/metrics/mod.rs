//! Counters, histograms and time series, over everything, per API and per subscription. They
//! survive restarts, and a new one can be filled over old events.
//!
//! | key | value |
//! |---|---|
//! | `t` scope | totals: [`Tally`], see `tally.rs` |
//! | `p` scope, resolution, bucket start in seconds (i64) | one bucket of a series: [`Tally`] |
//! | `g` scope | gauges |
//! | `s` subscription | API, settled (u64), ended (0 or 1), see `backlog.rs` |
//! | `m` API | latest message (u64), subscriptions (u64), settled by all of them (u64), the latest message with a time (u64), that time (i64) |
//! | `r` subscription, message version | empty: a retry is planned |
//! | `d` subscription, message version | position of the message (u64): a dead letter is kept |
//! | `f` | where the log was cut, see `forgotten.rs`: dead letters of messages below it are counted no more |
//! | `k` | where it is gone on to delete rows of these, see `dead_letters.rs`; absent when all are gone |
//! | `e` API | empty: it is deleted, and its dead letters are not counted |
//! | `c` subscription | empty: its circuit is open |
//! | `u` subscription | which callback URL it names: 16 bytes of its hash, none where it names none |
//! | `w` subscription | API, its lowest message that is not settled (u64), the last message with a time before it and the next after that (2 × u64), see `oldest.rs` |
//! | `l` API, that message (u64), subscription | empty: these in order |
//! | `b` subscription, message / 2,048 (u64) | bits: settled, above the lowest |
//! | `o` subscription, message (u64) | when it was accepted (i64): settled once, and waits again |
//! | `x` API, when it was accepted (i64), subscription, message (u64) | empty: these in order |
//! | `a` API, message (u64) | when it was accepted (i64), of one in a tenth of a second |
//!
//! A scope is `0` (everything), `1` and an API, or `2` and a subscription.

mod backlog;
mod dead_letters;
mod gauges;
mod histogram;
mod oldest;
mod project;
mod query;
mod tally;

pub use self::{
    gauges::Gauges,
    histogram::{BUCKET_BOUNDS_MS, Histogram},
    query::{Resolution, Series, SeriesPoint, SeriesQuery},
    tally::{Counter, StatusClass, Tally},
};
use crate::model::{ApiId, SubscriptionId};

/// Of the rows of totals.
const TOTALS: u8 = b't';
/// Of the rows of series.
const SERIES: u8 = b'p';
/// Most bytes of a key of a scope, or of a bucket of its series.
const KEY_BYTES_MAX: usize = 27;

/// The projection behind `/metrics` and the charts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metrics;

/// What figures are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole gateway.
    All,
    /// One API.
    Api(ApiId),
    /// One subscription.
    Subscription(SubscriptionId),
}

impl Scope {
    /// Seventeen bytes at most behind the tag; no scope's bytes begin another's.
    fn key(self, tag: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(KEY_BYTES_MAX);
        key.push(tag);
        match self {
            Self::All => key.push(0),
            Self::Api(id) => {
                key.push(1);
                key.extend_from_slice(id.as_uuid().as_bytes());
            }
            Self::Subscription(id) => {
                key.push(2);
                key.extend_from_slice(id.as_uuid().as_bytes());
            }
        }
        key
    }
}
