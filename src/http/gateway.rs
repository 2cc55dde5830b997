//! What the HTTP interfaces serve: a runtime, and how it does.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    bearers::Bearers,
    bodies::Bodies,
    pages::Pages,
    problem::{Kind, Problem},
    strangers::Strangers,
};
use crate::{
    model::TokenId,
    runtime::{Handle, Lanes},
};

/// Most streams that one token may have open.
const STREAMS_MAX: usize = 32;
/// Wrong tokens that a network may show in a window.
const WRONG_TOKENS_MAX: u32 = 60;
const WRONG_TOKENS_WINDOW: Duration = Duration::from_mins(1);

/// How long a client may take. Whoever takes longer is disconnected, so that none holds a connection
/// by doing nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// For the head of a request; default 10 s.
    pub head: Duration,
    /// For its whole body; default 30 s.
    pub body: Duration,
    /// Between two requests of a connection; default 75 s.
    pub idle: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
        }
    }
}

/// A runtime as it is served.
pub struct Gateway {
    handle: Handle,
    closing: watch::Sender<bool>,
    open_metrics: bool,
    watched_traces: bool,
    pages: Option<Arc<dyn Pages>>,
    bearers: Bearers,
    bodies: Bodies,
    time_limits: TimeLimits,
    strangers: Strangers,
    lanes: Lanes,
    streams: Arc<Mutex<HashMap<TokenId, usize>>>,
}

/// A stream that a token has open; closed when it is dropped.
pub(super) struct Slot {
    handle: Handle,
    streams: Arc<Mutex<HashMap<TokenId, usize>>>,
    token: TokenId,
}

impl Slot {
    /// Whether the token of the stream is still in force.
    pub(super) fn is_in_force(&self) -> bool {
        matches!(self.handle.token_in_force(self.token), Ok(Some(_)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = streams.entry(self.token) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.handle).finish()
    }
}

impl Gateway {
    /// Serves this runtime.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            closing: watch::Sender::new(false),
            open_metrics: false,
            watched_traces: false,
            pages: None,
            bearers: Bearers::default(),
            bodies: Bodies::default(),
            time_limits: TimeLimits::default(),
            strangers: Strangers::new(WRONG_TOKENS_MAX, WRONG_TOKENS_WINDOW),
            lanes: Lanes::default(),
            streams: Arc::default(),
        }
    }

    /// The same, with metrics that anybody may scrape.
    #[must_use]
    pub const fn with_open_metrics(mut self, open: bool) -> Self {
        self.open_metrics = open;
        self
    }

    /// The same, with traces that somebody watches: that of a request is stored with the messages it
    /// publishes, also where it begins here.
    #[must_use]
    pub const fn with_watched_traces(mut self, watched: bool) -> Self {
        self.watched_traces = watched;
        self
    }

    /// The same, with room for so many bytes of requests that are read or wait for their answers, of
    /// which one token may have a quarter; default 256 MiB. Requests of up to 16 KiB are not counted.
    /// What does not fit is refused with 503 and `Retry-After`, what never fits with 413.
    #[must_use]
    pub fn with_body_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bodies = Bodies::of(bytes_max);
        self
    }

    /// The same, with other limits of how long a client may take.
    #[must_use]
    pub const fn with_time_limits(mut self, limits: TimeLimits) -> Self {
        self.time_limits = limits;
        self
    }

    /// How long a client may take.
    pub(super) const fn time_limits(&self) -> TimeLimits {
        self.time_limits
    }

    /// Room for what is sent.
    pub(super) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Whether somebody watches traces.
    pub(super) const fn has_watched_traces(&self) -> bool {
        self.watched_traces
    }

    /// The same, with these pages beside the API.
    #[must_use]
    pub fn with_pages(mut self, pages: Arc<dyn Pages>) -> Self {
        self.pages = Some(pages);
        self
    }

    /// The pages that this path is one of.
    pub(super) fn pages(&self, path: &str) -> Option<&Arc<dyn Pages>> {
        self.pages.as_ref().filter(|pages| pages.takes(path))
    }

    /// Whether anybody may scrape its metrics.
    pub(super) const fn has_open_metrics(&self) -> bool {
        self.open_metrics
    }

    /// The runtime.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Who was let in of late.
    pub(super) const fn bearers(&self) -> &Bearers {
        &self.bearers
    }

    /// Who showed wrong tokens of late.
    pub(super) const fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Where creations under the same idempotency key pass one at a time.
    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Room for one more stream of this token.
    pub(super) fn stream_slot(&self, token: TokenId) -> Result<Slot, Problem> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(token).or_default();
        if *open >= STREAMS_MAX {
            let detail = format!("this token has {STREAMS_MAX} streams open; close one");
            return Err(Problem::new(Kind::TooMany, detail));
        }
        *open += 1;
        Ok(Slot {
            handle: self.handle.clone(),
            streams: Arc::clone(&self.streams),
            token,
        })
    }

    /// From now on it is not ready, and open streams end.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Whether it is closing.
    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Ends when it begins to close.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closing = self.closing.subscribe();
        async move {
            // It is gone: there is nothing left to wait for.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}
