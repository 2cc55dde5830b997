//! The HTTP clients of one worker: one per distinct set of connection settings, each with its own
//! pool of kept-alive connections.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Blocked, Egress, Resolve,
    connect::WatchLayer,
    resolve::{Guarded, Lookups},
    tls::{self, TlsOptionsError},
};
use crate::model::{HttpOptions, Policy, Proxy, ProxyKind, Secrets, Ssl};

/// Most clients that a worker keeps; the one unused for longest goes first, and its idle
/// connections with it. Nearly all subscriptions share one set of settings.
const CLIENTS_MAX: usize = 64;

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
    /// The one used last stands first.
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    settings: Settings,
    client: reqwest::Client,
}

/// What tells two clients apart.
struct Settings {
    /// `None` for plain http, which no TLS option changes.
    ssl: Option<Ssl>,
    proxy: Option<Proxy>,
    connect_timeout_ms: u64,
    idle_timeout_ms: u64,
}

impl Settings {
    fn of(policy: &Policy, secure: bool) -> Self {
        Self {
            ssl: secure.then(|| policy.ssl.clone()),
            proxy: policy.proxy.clone(),
            connect_timeout_ms: policy.http.connect_timeout_ms,
            idle_timeout_ms: policy.http.idle_timeout_ms,
        }
    }

    fn serve(&self, policy: &Policy, secure: bool) -> bool {
        let HttpOptions {
            connect_timeout_ms,
            idle_timeout_ms,
            ..
        } = policy.http;
        self.connect_timeout_ms == connect_timeout_ms
            && self.idle_timeout_ms == idle_timeout_ms
            && self.proxy == policy.proxy
            && self.ssl.as_ref() == secure.then_some(&policy.ssl)
    }
}

impl Clients {
    pub(super) fn new(
        secrets: Arc<dyn Secrets>,
        egress: Arc<Egress>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self {
            secrets,
            lookups: Lookups::new(resolver, Arc::clone(&egress)),
            egress,
            kept: Mutex::default(),
        }
    }

    pub(super) const fn lookups(&self) -> &Arc<Lookups> {
        &self.lookups
    }

    /// The client for this policy: a kept one, or a new one.
    pub(super) fn get(
        &self,
        policy: &Policy,
        secure: bool,
    ) -> Result<reqwest::Client, ClientError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept
            .iter()
            .position(|one| one.settings.serve(policy, secure))
        {
            kept[..=at].rotate_right(1);
            return Ok(kept[0].client.clone());
        }
        let settings = Settings::of(policy, secure);
        let client = self.build(&settings)?;
        kept.truncate(CLIENTS_MAX - 1);
        kept.insert(
            0,
            Kept {
                settings,
                client: client.clone(),
            },
        );
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
