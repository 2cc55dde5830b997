//! A callback that answers by script and keeps its own ledger of what it got.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::TokioIo,
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    clock::SharedClock,
    model::{AttemptNumber, CallbackUrl, MessageId, Timestamp},
};

/// Any port of this machine that is free.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One request that a callback server got, written down when it had come whole.
#[derive(Debug, Clone)]
pub struct ReceivedCall {
    /// When.
    pub at: Timestamp,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl ReceivedCall {
    /// A header's value, when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The message it carries, as `webhook-id` says.
    pub fn message(&self) -> Option<MessageId> {
        self.header("webhook-id")?.parse().ok()
    }

    /// The how-manyth try it is, as `webhook-attempt` says.
    pub fn attempt(&self) -> Option<AttemptNumber> {
        self.header("webhook-attempt")?
            .parse()
            .ok()
            .map(AttemptNumber::new)
    }
}

/// What a callback server answers to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    held: bool,
}

impl Answer {
    /// 204, nothing else.
    pub fn ok() -> Self {
        Self::status(204)
    }

    /// This status with an empty body.
    ///
    /// # Panics
    /// When `status` is not 100 to 999.
    pub fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status is 100 to 999"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            held: false,
        }
    }

    /// The same answer with this header.
    ///
    /// # Panics
    /// When it is not a valid header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a valid header name"),
            HeaderValue::from_str(value).expect("a valid header value"),
        );
        self
    }

    /// The same answer with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same answer, given once the server is released; see [`CallbackServer::release`].
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }
}

type Answers = dyn Fn(&ReceivedCall) -> Answer + Send + Sync;

/// A callback on a free port of 127.0.0.1.
///
/// It runs on the runtime it was started in. Dropping it closes the port and breaks its
/// connections; [`stop`](Self::stop) lets running requests end.
pub struct CallbackServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopping: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    clock: SharedClock,
    answers: Box<Answers>,
    calls: Mutex<Vec<ReceivedCall>>,
    /// Whether `calls` is kept.
    keeps: bool,
    count: watch::Sender<usize>,
    /// Connections that are open.
    connections: watch::Sender<usize>,
    /// How often [`CallbackServer::release`] was called, and whether all answers are held.
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    releases: u64,
    holding: bool,
}

impl CallbackServer {
    /// A server that answers each request as `answers` says. Requests are dated by `clock`.
    pub async fn start(
        clock: SharedClock,
        answers: impl Fn(&ReceivedCall) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::serving(ANY_PORT, clock, answers, true).await
    }

    /// As [`start`](Self::start), for a server that runs long: it counts what it gets and keeps
    /// none of it, so [`received`](Self::received) is empty.
    pub async fn start_without_ledger(
        clock: SharedClock,
        answers: impl Fn(&ReceivedCall) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_at(ANY_PORT, clock, answers).await
    }

    /// As [`start_without_ledger`](Self::start_without_ledger), at this address.
    pub async fn start_at(
        address: SocketAddr,
        clock: SharedClock,
        answers: impl Fn(&ReceivedCall) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::serving(address, clock, answers, false).await
    }

    async fn serving(
        address: SocketAddr,
        clock: SharedClock,
        answers: impl Fn(&ReceivedCall) -> Answer + Send + Sync + 'static,
        keeps: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            clock,
            answers: Box::new(answers),
            calls: Mutex::default(),
            keeps,
            count: watch::Sender::new(0),
            connections: watch::Sender::new(0),
            gate: watch::Sender::default(),
        });
        let (stopping, stop) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stop));
        Ok(Self {
            address,
            shared,
            stopping,
            accepting: Some(accepting),
        })
    }

    /// A server that gives these answers one after the other; the last one again and again, 204
    /// when there is none.
    pub async fn scripted(
        clock: SharedClock,
        script: impl IntoIterator<Item = Answer>,
    ) -> io::Result<Self> {
        let script = Mutex::new(script.into_iter().collect::<VecDeque<_>>());
        Self::start(clock, move |_| {
            let mut script = lock(&script);
            match script.len() {
                0 => Answer::ok(),
                1 => script[0].clone(),
                _ => script.pop_front().expect("its length was looked at"),
            }
        })
        .await
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of this path on it.
    ///
    /// # Panics
    /// When `path` does not begin with a slash.
    pub fn url(&self, path: &str) -> CallbackUrl {
        assert!(
            path.starts_with('/'),
            "a path begins with a slash: {path:?}"
        );
        let url = format!("http://{}{path}", self.address);
        url.parse().expect("an address and a path make a URL")
    }

    /// Everything it got so far, in the order in which it came whole.
    pub fn received(&self) -> Vec<ReceivedCall> {
        lock(&self.shared.calls).clone()
    }

    /// How many requests it got so far.
    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Waits until it has got `count` requests, and gives all it got. Waits for ever when they do
    /// not come.
    pub async fn wait_for(&self, count: usize) -> Vec<ReceivedCall> {
        let mut counts = self.shared.count.subscribe();
        let reached = counts.wait_for(|got| *got >= count).await;
        drop(reached.expect("the sender lives as long as the server"));
        self.received()
    }

    /// Waits until nobody is connected. Whoever is still to be accepted is not seen: make a
    /// connection before, which is accepted behind all others.
    pub async fn until_left(&self) {
        let mut connections = self.shared.connections.subscribe();
        let left = connections.wait_for(|open| *open == 0).await;
        drop(left.expect("the server is there"));
    }

    /// Holds every answer from now on, until [`release`](Self::release).
    pub fn hold(&self) {
        self.shared.gate.send_modify(|gate| gate.holding = true);
    }

    /// Gives every answer that is held, and holds no more by itself.
    pub fn release(&self) {
        self.shared.gate.send_modify(|gate| {
            gate.releases += 1;
            gate.holding = false;
        });
    }

    /// Takes no new connection, lets running requests end, releases what is held, and gives all it
    /// got.
    pub async fn stop(mut self) -> Vec<ReceivedCall> {
        self.release();
        self.stopping.send_replace(true);
        if let Some(accepting) = self.accepting.take() {
            // It ends by itself; a panic of it was printed already.
            drop(accepting.await);
        }
        self.received()
    }
}

impl Drop for CallbackServer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl Shared {
    async fn serve(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let call = ReceivedCall {
            body: body.collect().await?.to_bytes(),
            at: self.clock.now(),
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
        };
        let answer = (self.answers)(&call);
        let mut gate = self.gate.subscribe();
        let Gate { releases, holding } = *gate.borrow_and_update();
        if self.keeps {
            lock(&self.calls).push(call);
        }
        self.count.send_modify(|count| *count += 1);
        if holding || answer.held {
            let released = gate.wait_for(|gate| gate.releases > releases).await;
            drop(released.expect("the server outlives its connections"));
        }
        let mut response = Response::new(Full::new(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    // Connections live in here: when this future is dropped they break.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    shared.connections.send_modify(|open| *open += 1);
                    let open = Open(Arc::clone(&shared));
                    connections.spawn(connection(stream, open, graceful.watcher()));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

/// A connection that is open until this is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.send_modify(|open| *open -= 1);
    }
}

async fn connection(stream: TcpStream, open: Open, watcher: Watcher) {
    // Without this, small answers on a kept-alive connection wait for the peer's acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| {
        let shared = Arc::clone(&open.0);
        async move { shared.serve(request).await }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A connection that the peer breaks is an everyday thing.
    drop(watcher.watch(serving).await);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
