//! The HTTP clients of one worker: one per distinct set of connection settings, each with its own
//! pool of kept-alive connections.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header::PROXY_AUTHORIZATION};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use tokio_rustls::TlsConnector;

use super::{
    Blocked, Egress,
    connect::{Connector, Route},
    http::Shared,
    proxy::Upstream,
    resolve::Lookups,
    stream::HEAD_BYTES_MAX,
    target::Target,
    tls::{self, TlsOptionsError},
};
use crate::{
    clock::SharedClock,
    model::{HttpOptions, Proxy, Secrets, Ssl},
};

/// Most clients that a worker keeps. Nearly all subscriptions share one set of settings; one with
/// a certificate of its own has a set of its own.
const CLIENTS_MAX: usize = 1_024;

/// A callback that answers with many headers has taken the message: to call that no response would
/// send it again.
const RESPONSE_HEADERS_MAX: usize = 1_000;

/// Most idle connections that a client keeps to one host.
const IDLE_PER_HOST_MAX: usize = 256;

/// Why there is no client for some settings.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Tls(#[from] TlsOptionsError),
    #[error(transparent)]
    Blocked(#[from] Blocked),
    #[error("the password of the proxy is not in the vault")]
    ProxyPassword,
    #[error("the proxy {host:?} cannot be used")]
    Proxy { host: String },
}

/// Sends requests over kept-alive connections, each made in the same way.
pub(super) struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    /// What an HTTP proxy wants to see in requests that it takes itself.
    proxy_authorization: Option<HeaderValue>,
}

impl Client {
    /// Sends a request; over another connection when a kept-alive one turns out closed before a
    /// byte of it was written, else never again. No redirect is followed.
    pub(super) fn send(&self, mut request: Request<Full<Bytes>>) -> ResponseFuture {
        if let Some(authorization) = &self.proxy_authorization {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        self.http.request(request)
    }
}

/// The clients of one worker.
pub(super) struct Clients {
    secrets: Arc<dyn Secrets>,
    egress: Arc<Egress>,
    lookups: Arc<Lookups>,
    clock: SharedClock,
    idle_max: usize,
    /// Connections made since all idle ones were closed: no fewer than are idle.
    made: Arc<AtomicUsize>,
    hasher: RandomState,
    kept: Mutex<Shelf>,
}

/// The clients that are kept, by the hash of their settings.
#[derive(Default)]
struct Shelf {
    by_hash: HashMap<u64, Vec<Kept>>,
    count: usize,
}

struct Kept {
    settings: Settings,
    client: Arc<Client>,
    /// When it was asked for last, by the monotonic clock.
    used: Duration,
}

/// What a request needs of the connection that it goes over.
#[derive(Clone, Copy, Hash, PartialEq, Eq)]
pub(super) struct Connection<'a> {
    /// `None` for plain http, which no TLS option changes.
    ssl: Option<&'a Ssl>,
    proxy: Option<&'a Proxy>,
    connect_timeout_ms: u64,
    idle_timeout_ms: u64,
}

impl<'a> Connection<'a> {
    /// One to this target under these settings.
    pub(super) fn to(
        target: &Target,
        ssl: &'a Ssl,
        proxy: Option<&'a Proxy>,
        http: HttpOptions,
    ) -> Self {
        Self {
            ssl: target.is_tls().then_some(ssl),
            proxy,
            connect_timeout_ms: http.connect_timeout_ms,
            idle_timeout_ms: http.idle_timeout_ms,
        }
    }

    pub(super) const fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }
}

/// What tells two clients apart: a [`Connection`] that is kept.
struct Settings {
    ssl: Option<Ssl>,
    proxy: Option<Proxy>,
    connect_timeout_ms: u64,
    idle_timeout_ms: u64,
}

impl Settings {
    fn of(connection: Connection<'_>) -> Self {
        Self {
            ssl: connection.ssl.cloned(),
            proxy: connection.proxy.cloned(),
            connect_timeout_ms: connection.connect_timeout_ms,
            idle_timeout_ms: connection.idle_timeout_ms,
        }
    }

    fn as_connection(&self) -> Connection<'_> {
        Connection {
            ssl: self.ssl.as_ref(),
            proxy: self.proxy.as_ref(),
            connect_timeout_ms: self.connect_timeout_ms,
            idle_timeout_ms: self.idle_timeout_ms,
        }
    }
}

impl Shelf {
    fn find(&mut self, hash: u64, connection: Connection<'_>) -> Option<&mut Kept> {
        let kept = self.by_hash.get_mut(&hash)?;
        kept.iter_mut()
            .find(|one| one.settings.as_connection() == connection)
    }

    fn put(&mut self, hash: u64, kept: Kept) {
        if self.count >= CLIENTS_MAX {
            self.make_room(kept.used);
        }
        self.by_hash.entry(hash).or_default().push(kept);
        self.count += 1;
    }

    /// Drops the clients whose connections have all idled out, and of the others the quarter that
    /// is unused for longest.
    fn make_room(&mut self, now: Duration) {
        let expired = |kept: &Kept| {
            let idle = Duration::from_millis(kept.settings.idle_timeout_ms);
            now.saturating_sub(kept.used) > idle
        };
        let mut used: Vec<_> = self
            .by_hash
            .values()
            .flatten()
            .map(|kept| kept.used)
            .collect();
        used.sort_unstable();
        let oldest = used.get(used.len() / 4).copied().unwrap_or_default();
        self.by_hash.retain(|_, kept| {
            kept.retain(|one| !expired(one) && one.used > oldest);
            !kept.is_empty()
        });
        self.count = self.by_hash.values().map(Vec::len).sum();
    }
}

impl Clients {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            secrets: Arc::clone(&shared.secrets),
            egress: Arc::clone(&shared.egress),
            lookups: Lookups::new(Arc::clone(&shared.resolver), Arc::clone(&shared.egress)),
            clock: Arc::clone(&shared.clock),
            idle_max: shared.idle_connections_max,
            made: Arc::default(),
            hasher: RandomState::new(),
            kept: Mutex::default(),
        }
    }

    pub(super) const fn lookups(&self) -> &Arc<Lookups> {
        &self.lookups
    }

    /// The client for such connections: a kept one, or a new one.
    pub(super) fn get(&self, connection: Connection<'_>) -> Result<Arc<Client>, ClientError> {
        let hash = self.hasher.hash_one(connection);
        let now = self.clock.elapsed();
        let mut clients = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.made.load(Ordering::Relaxed) >= self.idle_max {
            // A pool bounds idle connections by host alone. Dropping a client closes its idle
            // ones; calls under way keep theirs.
            *clients = Shelf::default();
            self.made.store(0, Ordering::Relaxed);
        }
        if let Some(kept) = clients.find(hash, connection) {
            kept.used = now;
            return Ok(Arc::clone(&kept.client));
        }
        let settings = Settings::of(connection);
        let client = Arc::new(self.build(&settings)?);
        let kept = Kept {
            settings,
            client: Arc::clone(&client),
            used: now,
        };
        clients.put(hash, kept);
        Ok(client)
    }

    fn build(&self, settings: &Settings) -> Result<Client, ClientError> {
        let (secrets, egress) = (&*self.secrets, &self.egress);
        let tls = settings.ssl.as_ref();
        let tls = tls
            .map(|ssl| tls::client_config(ssl, secrets))
            .transpose()?;
        let proxy = settings.proxy.as_ref();
        let proxy = proxy.map(|proxy| Upstream::of(proxy, egress, secrets));
        let proxy = proxy.transpose()?;
        let is_plain = settings.ssl.is_none();
        let authorization = proxy.as_ref().filter(|_| is_plain);
        let proxy_authorization = authorization.and_then(Upstream::authorization).cloned();
        let connector = Connector::along(Route {
            clock: Arc::clone(&self.clock),
            egress: Arc::clone(egress),
            lookups: Arc::clone(&self.lookups),
            made: Arc::clone(&self.made),
            proxy,
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            timeout: Duration::from_millis(settings.connect_timeout_ms),
        });
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(settings.idle_timeout_ms))
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .set_host(false)
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Client {
            http,
            proxy_authorization,
        })
    }
}
