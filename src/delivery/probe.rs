//! Follows one call through resolver, connection and handshake, for its timings and for telling
//! its failures apart.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::SharedClock;

tokio::task_local! {
    // The pool asks for connections by their URL alone: the call that one is made for is found
    // again through the task it runs in.
    static CALL: Arc<Probe>;
}

/// How far a call's own connection has come. A call on a kept-alive connection has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Stage {
    /// No connection is being made.
    #[default]
    Pooled,
    /// The address is looked up, or the connection opened.
    Connecting,
    /// The TLS handshake runs.
    Handshaking,
    /// The connection stands.
    Connected,
}

/// The times of a connection, by the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    pub(super) stage: Stage,
    dialled: Duration,
    resolve_began: Option<Duration>,
    resolved: Option<Duration>,
    handshake_began: Option<Duration>,
    connected: Duration,
    /// When the connection stood, on the clock of the runtime's timers.
    pub(super) connected_at: Option<Instant>,
    local: Option<SocketAddr>,
}

/// How long the parts of a new connection took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConnectionTimes {
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    /// When it stood, by the monotonic clock.
    pub(super) stood: Option<Duration>,
}

/// The observer of one call.
pub(super) struct Probe {
    clock: SharedClock,
    marks: Mutex<Marks>,
}

impl Probe {
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            marks: Mutex::default(),
        })
    }

    /// Runs `future` as part of this call.
    pub(super) fn follow<F: Future>(self: Arc<Self>, future: F) -> impl Future<Output = F::Output> {
        CALL.scope(self, future)
    }

    /// The call that the running task is part of.
    pub(super) fn current() -> Option<Arc<Self>> {
        CALL.try_with(Arc::clone).ok()
    }

    pub(super) fn marks(&self) -> Marks {
        *self.lock()
    }

    pub(super) fn dialling(&self) {
        let now = self.clock.elapsed();
        // A second dial, after a kept-alive connection turned out closed, starts afresh.
        *self.lock() = Marks {
            stage: Stage::Connecting,
            dialled: now,
            ..Marks::default()
        };
    }

    pub(super) fn resolving(&self) {
        self.lock().resolve_began = Some(self.clock.elapsed());
    }

    pub(super) fn resolved(&self) {
        self.lock().resolved = Some(self.clock.elapsed());
    }

    pub(super) fn handshaking(&self) {
        let now = self.clock.elapsed();
        let mut marks = self.lock();
        marks.handshake_began = Some(now);
        marks.stage = Stage::Handshaking;
    }

    pub(super) fn connected(&self, local: SocketAddr) {
        let now = self.clock.elapsed();
        let mut marks = self.lock();
        marks.connected = now;
        marks.connected_at = Some(Instant::now());
        marks.local = Some(local);
        marks.stage = Stage::Connected;
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// The times of the connection that the response came over, told by its local address: a call
    /// that began to connect may be served by a pooled connection that came free first.
    pub(super) fn times(&self, used: Option<SocketAddr>) -> ConnectionTimes {
        if self.stage != Stage::Connected || self.local != used {
            return ConnectionTimes::default();
        }
        let resolve = self.resolve_began.zip(self.resolved);
        let opened = self.handshake_began.unwrap_or(self.connected);
        let open_began = self.resolved.unwrap_or(self.dialled);
        ConnectionTimes {
            dns: resolve.map(|(began, ended)| ended.saturating_sub(began)),
            connect: Some(opened.saturating_sub(open_began)),
            tls: self
                .handshake_began
                .map(|began| self.connected.saturating_sub(began)),
            stood: Some(self.connected),
        }
    }

    /// Whether a connection is being made that does not stand yet.
    pub(super) fn dialling(&self) -> bool {
        matches!(self.stage, Stage::Connecting | Stage::Handshaking)
    }
}
