//! From a host name to addresses that may be called.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
    vec,
};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::{Semaphore, oneshot, watch};
use tower_service::Service;

use super::{Egress, classify::is_own_want, connect::BoxError, probe::Probe};

/// Finds the addresses of a host name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of this host, in order of preference. An error that says that the process has no
    /// more files or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` or its kind) is the gateway's own
    /// fault, each other one the callback's.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            // No thread of the runtime that asks, whose end would wait for as long as it tries.
            let lookup = thread::Builder::new().name("hooklog-lookup".to_owned());
            let begun = lookup.spawn(move || drop(tell.send(look_up(&host))));
            // It may say "try again", as a name server does that is silent: this is another matter.
            begun.map_err(|error| {
                let text = format!("no thread can be begun: {error}");
                io::Error::new(io::ErrorKind::OutOfMemory, text)
            })?;
            let lost = |_| Err(io::Error::other("the thread of the lookup panicked"));
            told.await.unwrap_or_else(lost)
        })
    }
}

/// Asks the system's resolver. Blocks.
fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(no_file_to_be_had().unwrap_or(error)),
    }
}

/// Why no file can be opened, where none can. Without one for its own use the system's resolver
/// knows no name, and does not say why.
fn no_file_to_be_had() -> Option<io::Error> {
    let refused = File::open("/").err()?;
    is_own_want(&refused).then_some(refused)
}

/// Lookups of a worker that run at once. A lookup blocks a thread, and no time limit of a call ends
/// it.
const QUICK_MAX: usize = 16;

/// Lookups that may run beside them once they have taken [`SLOW_AFTER`]; one more is given up then:
/// names whose servers are silent, however many, hold up nobody else.
const SLOW_MAX: usize = 64;

/// Lookups that were given up and still block their threads, as long as the system's resolver tries.
/// With as many, one more keeps its place among the quick ones: no worker begins ever more threads.
const GIVEN_UP_MAX: usize = 128;

/// When a lookup makes room for others. Most take some milliseconds.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Names that may be looked up or wait for it; one more fails at once instead of waiting out its
/// call's time.
const NAMES_MAX: usize = 1_024;

/// A host name that gave no address.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum LookupError {
    #[error("{0}")]
    Resolver(Arc<io::Error>),
    #[error("the host has no address")]
    Empty,
    #[error("{NAMES_MAX} other names are being looked up")]
    Full,
    #[error(
        "no answer within {} s, while {SLOW_MAX} other names are as slow",
        SLOW_AFTER.as_secs()
    )]
    GivenUp,
    #[error("the lookup ended without an answer")]
    Lost,
}

type Found = Result<Vec<IpAddr>, LookupError>;

/// The lookups of one worker. Callers of the same name share one.
pub(super) struct Lookups {
    resolver: Arc<dyn Resolve>,
    egress: Arc<Egress>,
    running: Mutex<HashMap<String, watch::Receiver<Option<Found>>>>,
    quick: Semaphore,
    slow: Semaphore,
    given_up: Arc<Semaphore>,
}

impl Lookups {
    pub(super) fn new(resolver: Arc<dyn Resolve>, egress: Arc<Egress>) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            egress,
            running: Mutex::default(),
            quick: Semaphore::new(QUICK_MAX),
            slow: Semaphore::new(SLOW_MAX),
            given_up: Arc::new(Semaphore::new(GIVEN_UP_MAX)),
        })
    }

    /// The addresses of this host. Giving up leaves the lookup to others that wait for it.
    pub(super) async fn addresses(self: &Arc<Self>, host: &str) -> Found {
        let mut answer = self.begin(host)?;
        match answer.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or(Err(LookupError::Lost)),
            Err(_) => Err(LookupError::Lost),
        }
    }

    /// The addresses of this host, when all of them may be called: one denied address refuses the
    /// whole answer. A name that points inside and outside at once is an attack or an accident, and
    /// trying the rest would help neither.
    pub(super) async fn allowed(
        self: &Arc<Self>,
        host: &str,
        probe: &Probe,
    ) -> Result<Vec<IpAddr>, BoxError> {
        probe.resolving();
        let addresses = self.addresses(host).await?;
        probe.resolved();
        for address in &addresses {
            self.egress.check_address(*address)?;
        }
        Ok(addresses)
    }

    /// Whether a host behind a proxy may be called, as far as we can resolve it. A name without an
    /// address is no reason to refuse: behind a proxy, outer names often cannot be resolved at all.
    /// That we have not what it takes to look it up is one.
    pub(super) async fn check_behind_proxy(
        self: &Arc<Self>,
        host: &str,
        port: u16,
    ) -> Result<(), BoxError> {
        let addresses = match self.addresses(host).await {
            Err(error) if is_own_want(&error) => return Err(error.into()),
            found => found.unwrap_or_default(),
        };
        for ip in addresses {
            self.egress.check_peer(SocketAddr::new(ip, port))?;
        }
        Ok(())
    }

    /// Joins the lookup of this host, or begins one.
    fn begin(self: &Arc<Self>, host: &str) -> Result<watch::Receiver<Option<Found>>, LookupError> {
        let mut running = self.running();
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        if running.len() >= NAMES_MAX {
            return Err(LookupError::Full);
        }
        let (tell, answer) = watch::channel(None);
        running.insert(host.to_owned(), answer.clone());
        let name = RunningName {
            lookups: Arc::clone(self),
            host: host.to_owned(),
        };
        tokio::spawn(async move {
            let found = name.lookups.look_up(&name.host).await;
            // Who comes from now on asks anew: the answer holds for those who waited.
            drop(name);
            tell.send_replace(Some(found));
        });
        Ok(answer)
    }

    async fn look_up(&self, host: &str) -> Found {
        let closed = "the semaphores are never closed";
        let quick = self.quick.acquire().await.expect(closed);
        let mut looking = self.resolver.resolve(host);
        let found = if let Ok(found) = tokio::time::timeout(SLOW_AFTER, &mut looking).await {
            found
        } else {
            let Ok(_slow) = self.slow.try_acquire() else {
                // In the place of a quick one it would hold up every other name.
                if let Ok(given_up) = Arc::clone(&self.given_up).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = looking.await;
                        drop(given_up);
                    });
                } else {
                    let _ = looking.await;
                }
                return Err(LookupError::GivenUp);
            };
            drop(quick);
            looking.await
        };
        match found {
            Ok(addresses) if addresses.is_empty() => Err(LookupError::Empty),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(LookupError::Resolver(Arc::new(error))),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Found>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is being looked up; it is no longer when this is dropped.
struct RunningName {
    lookups: Arc<Lookups>,
    host: String,
}

impl Drop for RunningName {
    fn drop(&mut self) {
        self.lookups.running().remove(&self.host);
    }
}

/// The resolver of one call's connections.
#[derive(Clone)]
pub(super) struct Guarded {
    pub(super) lookups: Arc<Lookups>,
    pub(super) probe: Arc<Probe>,
}

impl Service<Name> for Guarded {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { lookups, probe } = self.clone();
        Box::pin(async move {
            let addresses = lookups.allowed(name.as_str(), &probe).await?;
            // The port is the URL's.
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Never answers for names that begin with `silent`, at once for others.
    #[derive(Default)]
    struct Partly {
        asked: AtomicUsize,
    }

    impl Resolve for Partly {
        fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let silent = host.starts_with("silent");
            Box::pin(async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            })
        }
    }

    fn lookups() -> (Arc<Partly>, Arc<Lookups>) {
        let resolver = Arc::new(Partly::default());
        let lookups = Lookups::new(Arc::clone(&resolver) as _, Arc::default());
        (resolver, lookups)
    }

    /// Begins to look up so many names that never answer.
    async fn silent(lookups: &Arc<Lookups>, count: usize) {
        for i in 0..count {
            drop(lookups.begin(&format!("silent{i}.example.com")));
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn g12_names_whose_servers_are_silent_hold_up_no_other() {
        let (_, lookups) = lookups();
        silent(&lookups, QUICK_MAX + SLOW_MAX - 1).await;
        let began = tokio::time::Instant::now();
        let found = lookups.addresses("callback.example.com").await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(began.elapsed() < 6 * SLOW_AFTER, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_lookups_than_have_room_block_a_thread() {
        let (_, lookups) = lookups();
        let most = QUICK_MAX + SLOW_MAX + GIVEN_UP_MAX;
        silent(&lookups, most + QUICK_MAX).await;
        tokio::time::sleep(60 * SLOW_AFTER).await;
        assert_eq!(lookups.given_up.available_permits(), 0);
        assert_eq!(lookups.slow.available_permits(), 0);
        assert_eq!(
            lookups.quick.available_permits(),
            0,
            "they keep their places"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn g12_more_silent_names_than_have_room_are_given_up_and_hold_up_no_other() {
        let (_, lookups) = lookups();
        let count = SLOW_MAX + 2 * QUICK_MAX;
        silent(&lookups, count).await;
        let last = format!("silent{}.example.com", count - 1);
        let first = lookups.begin("silent0.example.com").unwrap();
        let (last, found) = tokio::join!(lookups.addresses(&last), async {
            // Each of them has had its time.
            tokio::time::sleep(7 * SLOW_AFTER).await;
            let within = tokio::time::timeout(SLOW_AFTER, lookups.addresses("callback.example"));
            within.await.expect("nobody is in its way")
        });
        assert_eq!(found.unwrap().len(), 1);
        assert!(matches!(last, Err(LookupError::GivenUp)), "{last:?}");
        assert!(first.borrow().is_none(), "who has room waits on");
    }

    #[tokio::test(start_paused = true)]
    async fn one_name_is_looked_up_once_for_all_who_wait_and_anew_for_the_next() {
        let (resolver, lookups) = lookups();
        let both = tokio::join!(
            lookups.addresses("a.example"),
            lookups.addresses("a.example")
        );
        assert!(both.0.is_ok() && both.1.is_ok());
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
        lookups.addresses("a.example").await.unwrap();
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_names_fail_at_once() {
        let (_, lookups) = lookups();
        silent(&lookups, NAMES_MAX).await;
        let error = lookups.addresses("one-more.example.com").await.unwrap_err();
        assert!(matches!(error, LookupError::Full));
    }
}
