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

use url::Url;

use super::{
    Blocked, Egress,
    connect::WatchLayer,
    http::Shared,
    resolve::{Guarded, Lookups},
    tls::{self, TlsOptionsError},
};
use crate::{
    clock::SharedClock,
    model::{HttpOptions, Proxy, ProxyKind, Secrets, Ssl},
};

/// Most clients that a worker keeps. Nearly all subscriptions share one set of settings; one with
/// a certificate of its own has a set of its own.
const CLIENTS_MAX: usize = 1_024;

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
    #[error("the HTTP client cannot be built: {0}")]
    Build(reqwest::Error),
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
    client: reqwest::Client,
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
    /// One to this URL under these settings.
    pub(super) fn to(url: &Url, ssl: &'a Ssl, proxy: Option<&'a Proxy>, http: HttpOptions) -> Self {
        Self {
            ssl: (url.scheme() == "https").then_some(ssl),
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
    pub(super) fn get(&self, connection: Connection<'_>) -> Result<reqwest::Client, ClientError> {
        let hash = self.hasher.hash_one(connection);
        let now = self.clock.elapsed();
        let mut clients = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.made.load(Ordering::Relaxed) >= self.idle_max {
            // The HTTP stack bounds idle connections by host alone. Dropping a client closes its
            // idle ones; calls under way keep theirs.
            *clients = Shelf::default();
            self.made.store(0, Ordering::Relaxed);
        }
        if let Some(kept) = clients.find(hash, connection) {
            kept.used = now;
            return Ok(kept.client.clone());
        }
        let settings = Settings::of(connection);
        let client = self.build(&settings)?;
        let kept = Kept {
            settings,
            client: client.clone(),
            used: now,
        };
        clients.put(hash, kept);
        Ok(client)
    }

    fn build(&self, settings: &Settings) -> Result<reqwest::Client, ClientError> {
        let secrets = &*self.secrets;
        // The HTTP stack wants a TLS side in any case; for plain http it is never used.
        let ssl = settings.ssl.clone().unwrap_or(Ssl {
            trust_all: true,
            ..Ssl::default()
        });
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(&ssl, secrets)?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .pool_idle_timeout(Duration::from_millis(settings.idle_timeout_ms))
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .dns_resolver(Guarded(Arc::clone(&self.lookups)))
            .connector_layer(WatchLayer {
                egress: Arc::clone(&self.egress),
                made: Arc::clone(&self.made),
            });
        let builder = match &settings.proxy {
            Some(proxy) => builder.proxy(self.authorized(proxy)?),
            None => builder,
        };
        builder.build().map_err(ClientError::Build)
    }

    fn authorized(&self, proxy: &Proxy) -> Result<reqwest::Proxy, ClientError> {
        let built = self::proxy(proxy, &self.egress)?;
        let Some(username) = &proxy.username else {
            return Ok(built);
        };
        let password = match &proxy.password {
            Some(secret) => secret
                .reveal(&*self.secrets)
                .ok_or(ClientError::ProxyPassword)?,
            None => String::new().into(),
        };
        Ok(built.basic_auth(username, &password))
    }
}

/// The proxy without its credentials, if it may be called.
pub(super) fn proxy(proxy: &Proxy, egress: &Egress) -> Result<reqwest::Proxy, ClientError> {
    egress.check_host(&proxy.host, proxy.port)?;
    let scheme = match proxy.kind {
        ProxyKind::Http => "http",
        ProxyKind::Socks5 => "socks5",
    };
    let host = proxy.host.as_str();
    let bracketed = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let url = format!("{scheme}://{bracketed}:{}", proxy.port);
    reqwest::Proxy::all(url).map_err(|_| ClientError::Proxy {
        host: proxy.host.clone(),
    })
}
