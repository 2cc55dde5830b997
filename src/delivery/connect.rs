//! Watches connections being made: checks the connected peer before anything is written to it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use tower::{Layer, Service};

use super::{Blocked, BlockedReason, Egress, probe::Probe};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts [`Watched`] around a connector.
#[derive(Clone)]
pub(super) struct WatchLayer {
    pub(super) egress: Arc<Egress>,
    /// Counts connections.
    pub(super) made: Arc<AtomicUsize>,
}

impl<S> Layer<S> for WatchLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched {
            inner,
            egress: Arc::clone(&self.egress),
            made: Arc::clone(&self.made),
        }
    }
}

/// A connector whose connections have passed the egress guard.
#[derive(Clone)]
pub(super) struct Watched<S> {
    inner: S,
    egress: Arc<Egress>,
    made: Arc<AtomicUsize>,
}

impl<S, R> Service<R> for Watched<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: Connection + Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let probe = Probe::current();
        if let Some(probe) = &probe {
            probe.dialling();
        }
        let connecting = self.inner.call(target);
        let egress = Arc::clone(&self.egress);
        let made = Arc::clone(&self.made);
        Box::pin(async move {
            // A connection may outlive the call it was begun for; its marks stay with that call.
            let connection = match &probe {
                Some(probe) => Arc::clone(probe).follow(connecting).await?,
                None => connecting.await?,
            };
            let (peer, local) =
                ends(&connection).ok_or(Blocked::new(BlockedReason::UnknownPeer))?;
            egress.check_peer(peer)?;
            made.fetch_add(1, Ordering::Relaxed);
            if let Some(probe) = &probe {
                probe.connected(local);
            }
            Ok(connection)
        })
    }
}

/// The far and the near end of a connection.
fn ends(connection: &impl Connection) -> Option<(SocketAddr, SocketAddr)> {
    let mut extensions = http::Extensions::new();
    connection.connected().get_extras(&mut extensions);
    let info = extensions.get::<HttpInfo>()?;
    Some((info.remote_addr(), info.local_addr()))
}
