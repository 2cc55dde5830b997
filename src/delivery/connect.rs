//! Makes connections: to where it is allowed alone, through the proxy where there is one, with TLS
//! where the URL wants it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::{
    Egress,
    probe::Probe,
    proxy::{self, Upstream},
    resolve::{Guarded, LookupError, Lookups},
    stream::{Bounded, Stream},
    target,
};
use crate::clock::SharedClock;

/// What can go wrong on the way to a connection; told apart by walking its sources.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How soon the system finds out that a peer is gone without a word, also while a connection is
/// idle: it asks so often, so many times, and waits as long for what was sent to be taken.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
#[cfg(target_os = "linux")]
const UNTAKEN_MAX: Duration = Duration::from_secs(30);

/// What the system takes of an answer before it is read; it doubles this. Left to itself it takes ever
/// more from whoever sends fast, on some machines 32 MiB on each connection, and no answer needs that.
const UNREAD_BYTES: usize = 64 * 1024;

/// The connect time was over before the connection stood.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no connection within the connect timeout")]
pub(super) struct TooSlow;

/// How the connections of one client are made.
pub(super) struct Route {
    pub(super) clock: SharedClock,
    pub(super) egress: Arc<Egress>,
    pub(super) lookups: Arc<Lookups>,
    /// Counts connections.
    pub(super) made: Arc<AtomicUsize>,
    pub(super) proxy: Option<Upstream>,
    /// `None` for a client of plain http.
    pub(super) tls: Option<TlsConnector>,
    /// For all of it: looking up, opening, the proxy's part, the handshake.
    pub(super) timeout: Duration,
}

/// Makes connections when the pool has none. Cloned for each call, so it is no more than a count.
#[derive(Clone)]
pub(super) struct Connector(Arc<Route>);

impl Connector {
    pub(super) fn along(route: Route) -> Self {
        Self(Arc::new(route))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let route = Arc::clone(&self.0);
        // A connection may outlive the call it was begun for; its marks stay with that call.
        let probe = Probe::current().unwrap_or_else(|| Probe::new(Arc::clone(&route.clock)));
        Box::pin(async move { route.connect(target, probe).await })
    }
}

impl Route {
    async fn connect(&self, target: Uri, probe: Arc<Probe>) -> Result<Stream, BoxError> {
        probe.dialling();
        let opened = tokio::time::timeout(self.timeout, self.open(target, &probe)).await;
        let stream = opened.map_err(|_| TooSlow)??;
        self.made.fetch_add(1, Ordering::Relaxed);
        probe.connected(stream.tcp().local_addr()?);
        Ok(stream)
    }

    async fn open(&self, target: Uri, probe: &Arc<Probe>) -> Result<Stream, BoxError> {
        let tls = match &self.tls {
            Some(tls) => Some((tls, server_name(&target)?)),
            None => None,
        };
        let (tcp, to_proxy) = match &self.proxy {
            None => (self.dial(target, probe).await?, false),
            Some(upstream) => self.pass(upstream, target, probe).await?,
        };
        let Some((tls, name)) = tls else {
            return Ok(Stream::plain(tcp.into_inner(), to_proxy));
        };
        probe.handshaking();
        let tcp = Bounded::below_tls(tcp.into_inner());
        let tls = tls.connect(name, tcp).await?;
        Ok(Stream::tls(tls))
    }

    /// A connection by way of a proxy, and whether it ends there.
    async fn pass(
        &self,
        upstream: &Upstream,
        target: Uri,
        probe: &Arc<Probe>,
    ) -> Result<(TokioIo<TcpStream>, bool), BoxError> {
        let proxy = upstream.uri().clone();
        if upstream.takes_requests(&target) {
            return Ok((self.dial(proxy, probe).await?, true));
        }
        let target = if upstream.wants_address() {
            proxy::at(self.address(&target, probe).await?)?
        } else {
            target
        };
        let tcp = self.dial(proxy, probe).await?;
        Ok((upstream.lead_on(tcp, target).await?, false))
    }

    /// The address of a callback, for who cannot be told its name.
    async fn address(&self, target: &Uri, probe: &Probe) -> Result<SocketAddr, BoxError> {
        let ip = match target::name(target) {
            Some((host, _)) => {
                let found = self.lookups.allowed(host, probe).await?;
                *found.first().ok_or(LookupError::Empty)?
            }
            None => target::bare_host(target).parse()?,
        };
        let address = SocketAddr::new(ip, target::port(target));
        self.egress.check_peer(address)?;
        Ok(address)
    }

    /// Opens a connection, and checks whom it is to before anything is written to it.
    async fn dial(&self, to: Uri, probe: &Arc<Probe>) -> Result<TokioIo<TcpStream>, BoxError> {
        let resolver = Guarded {
            lookups: Arc::clone(&self.lookups),
            probe: Arc::clone(probe),
        };
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // Of several addresses each gets its part of the time.
        connector.set_connect_timeout(Some(self.timeout));
        connector.set_recv_buffer_size(Some(UNREAD_BYTES));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(UNTAKEN_MAX));
        let tcp = connector.call(to).await?;
        // A connection that was reset meanwhile has no peer, which is no denied one.
        self.egress.check_peer(tcp.inner().peer_addr()?)?;
        Ok(tcp)
    }
}

/// Whom a certificate has to name.
fn server_name(target: &Uri) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(target::bare_host(target).to_owned())
}
