//! One request and its response: where it may go, over which connection, how long it may take, how
//! much of the response is read.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::time::Instant;
use url::Url;

use super::{
    capture::Body,
    classify,
    clients::{Client, Clients, Connection},
    http::{RESPONSE_BYTES_MAX, Shared},
    probe::{ConnectionTimes, Probe},
    target::{self, Target},
};
use crate::model::{AttemptError, ErrorClass, HttpOptions, SubscriptionId};

/// The connections of one worker, and the way of a request over them.
pub(super) struct Wire {
    shared: Arc<Shared>,
    clients: Clients,
}

/// A request that may be made, with the client that makes it.
pub(super) struct Prepared {
    client: Arc<Client>,
    request: Request<Full<Bytes>>,
    proxied: bool,
}

/// A response, as far as it is read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// How long the parts of its connection took, when it was made for it.
    pub(super) connection: ConnectionTimes,
    /// From the request being sent to the response's head.
    pub(super) first_byte: Duration,
}

impl Prepared {
    /// Every header that is sent.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }
}

impl Wire {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            clients: Clients::new(&shared),
            shared,
        }
    }

    /// Refuses a URL that must not be called for this subscription, as far as it tells by itself.
    pub(super) fn check(
        &self,
        url: &Url,
        subscription: SubscriptionId,
    ) -> Result<(), AttemptError> {
        let checked = self.shared.egress.check_parsed(url);
        checked.map_err(|error| {
            tracing::debug!(%subscription, reason = %error.reason(), "blocked a destination");
            AttemptError::new(ErrorClass::Blocked, error.to_string())
        })
    }

    /// A request to a target whose URL was [checked](Self::check).
    pub(super) fn prepare(
        &self,
        connection: Connection<'_>,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Prepared, AttemptError> {
        let client = self.clients.get(connection);
        let client = client.map_err(|error| classify::unusable(&error))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.uri().clone();
        *request.headers_mut() = headers;
        Ok(Prepared {
            client,
            request,
            proxied: connection.is_proxied(),
        })
    }

    /// Sends the request and reads the response to its end, or to a limit. Ends within these limits.
    ///
    /// Once its head is there the other side has answered, and its status decides: a body that
    /// stalls or breaks is cut where it stood. To call that "no response" would send the message
    /// again to a callback that took it, and lose a `Retry-After` or a 410.
    pub(super) async fn exchange(
        &self,
        prepared: Prepared,
        limits: Limits,
        keep_body: bool,
    ) -> Result<Answer, AttemptError> {
        let clock = &self.shared.clock;
        let began = clock.elapsed();
        let probe = Probe::new(Arc::clone(clock));
        let sending = Arc::clone(&probe).follow(self.head(prepared, &probe));
        let response = limits
            .within(&probe, sending)
            .await
            .ok_or_else(|| limits.spent())??;
        let headed = clock.elapsed();
        let connection = probe.marks().times(local_address(&response));
        let sent = connection.stood.unwrap_or(began);
        let (head, incoming) = response.into_parts();
        let mut body = Body {
            declared: incoming.size_hint().exact(),
            ..Body::default()
        };
        let reading = read_body(incoming, &mut body, keep_body);
        if !matches!(limits.within(&probe, reading).await, Some(Ok(()))) {
            body.cut = true;
        }
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            connection,
            first_byte: headed.saturating_sub(sent),
        })
    }

    /// Sends the request and waits for the head of the response.
    async fn head(
        &self,
        prepared: Prepared,
        probe: &Probe,
    ) -> Result<Response<Incoming>, AttemptError> {
        let Prepared {
            client,
            request,
            proxied,
        } = prepared;
        if proxied && let Some((host, port)) = target::name(request.uri()) {
            let lookups = self.clients.lookups();
            let checked = lookups.check_behind_proxy(host, port).await;
            checked.map_err(|error| classify::unasked(error.as_ref()))?;
        }
        let sent = client.send(request).await;
        sent.map_err(|error| classify::classify(&error, probe.marks().stage))
    }
}

/// Our end of the connection that a response came over.
fn local_address(response: &Response<Incoming>) -> Option<SocketAddr> {
    let info = response.extensions().get::<HttpInfo>();
    info.map(HttpInfo::local_addr)
}

/// Reads a body to its end or to the limit; what has come stays in `body` when this is given up.
async fn read_body(
    mut incoming: Incoming,
    body: &mut Body,
    keep: bool,
) -> Result<(), hyper::Error> {
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        body.take(&chunk, keep);
        if body.size >= RESPONSE_BYTES_MAX as u64 {
            body.cut = body.declared != Some(body.size);
            break;
        }
    }
    Ok(())
}

/// The time limits of a call: the read time, counted from the connection, which itself has at most
/// the connect time. The calls that an attempt is made of end by one total.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    http: HttpOptions,
    began: Instant,
    ends: Instant,
}

impl Limits {
    /// Those of an attempt that begins now.
    pub(super) fn from_now(http: HttpOptions) -> Self {
        let began = Instant::now();
        Self {
            http,
            began,
            ends: began + http.total_timeout(),
        }
    }

    /// Those of a call of the same attempt that begins now.
    pub(super) fn again(self) -> Self {
        Self {
            began: Instant::now(),
            ..self
        }
    }

    /// Waits for what others may wait for too; `None` when the total was up before.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.ends, what).await.ok()
    }

    /// Runs `part` of the call; `None` when its time was up before. A part that is ready at once,
    /// as most bodies are, arms no timer.
    async fn within<T>(&self, probe: &Probe, part: impl Future<Output = T>) -> Option<T> {
        let timer = tokio::time::sleep_until(self.until(probe));
        tokio::pin!(timer, part);
        loop {
            tokio::select! {
                biased;
                done = &mut part => return Some(done),
                () = &mut timer => {}
            }
            // A connection was made on the way: the read time began when it stood.
            let until = self.until(probe);
            if until <= timer.deadline() {
                return None;
            }
            timer.as_mut().reset(until);
        }
    }

    fn until(&self, probe: &Probe) -> Instant {
        let read = Duration::from_millis(self.http.read_timeout_ms);
        let marks = probe.marks();
        match marks.connected_at {
            Some(connected) => (connected + read).min(self.ends),
            None if marks.dialling() => self.ends,
            None => (self.began + read).min(self.ends),
        }
    }

    /// The error of an attempt whose time was up.
    pub(super) fn spent(&self) -> AttemptError {
        let limit = if Instant::now() < self.ends {
            self.http.read_timeout_ms.into()
        } else {
            self.http.total_timeout().as_millis()
        };
        let detail = format!("no response within {limit} ms");
        AttemptError::new(ErrorClass::Timeout, detail)
    }
}
