//! From a host name to addresses that may be called.

use std::{io, net::{IpAddr, SocketAddr}, sync::Arc};

use futures_util::future::BoxFuture;

use super::{Egress, probe::Probe};

/// Finds the addresses of a host name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of this host, in order of preference.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

/// A resolver whose answers the egress guard has passed.
#[derive(Clone)]
pub(super) struct Guarded {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) egress: Arc<Egress>,
}

impl reqwest::dns::Resolve for Guarded {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let answer = self.resolver.resolve(name.as_str());
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            let probe = Probe::current();
            if let Some(probe) = &probe {
                probe.resolving();
            }
            let addresses = answer.await?;
            if let Some(probe) = &probe {
                probe.resolved();
            }
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address").into());
            }
            // One denied address refuses the whole answer: a name that points inside and outside
            // at once is an attack or an accident, and trying the rest would help neither.
            for address in &addresses {
                egress.check_address(*address)?;
            }
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}
