//! The transport that speaks HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::time::Instant;
use url::Host;

use super::{
    AttemptRequest, CaptureOptions, Egress, NoSecrets, Resolve, SystemResolver, Transport,
    capture::{Body, Capture},
    classify,
    clients::Clients,
    cloud_events::Payload,
    probe::Probe,
    request, retry_after, tls,
};
use crate::{
    clock::{SharedClock, SystemClock},
    model::{
        AttemptError, AttemptReport, AttemptResult, ErrorClass, HttpOptions, Method, Policy,
        Secrets, Timings,
    },
};

/// Most bytes that are read of a response's body; after them the connection is dropped.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Makes calls over HTTP/1.1, on kept-alive connections.
///
/// Time limits run on the timers of the tokio runtime it is used in; timings and signatures take
/// their times from the clock it was given.
#[derive(Clone)]
pub struct HttpTransport {
    shared: Arc<Shared>,
    clients: Arc<Clients>,
}

/// What the transports of all workers have in common.
pub(super) struct Shared {
    pub(super) clock: SharedClock,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) egress: Arc<Egress>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) idle_connections_max: usize,
    capture: CaptureOptions,
}

/// Sets up an [`HttpTransport`].
pub struct HttpTransportBuilder {
    shared: Shared,
}

impl HttpTransport {
    /// A transport with the machine's clock and resolver, no secrets, and the strict [`Egress`].
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder {
            shared: Shared {
                clock: SystemClock::shared(),
                secrets: Arc::new(NoSecrets),
                egress: Arc::default(),
                resolver: Arc::new(SystemResolver),
                idle_connections_max: idle_connections_max(),
                capture: CaptureOptions::default(),
            },
        }
    }

    fn with(shared: Arc<Shared>) -> Self {
        Self {
            clients: Arc::new(Clients::new(&shared)),
            shared,
        }
    }
}

impl HttpTransportBuilder {
    /// Takes times from this clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.shared.clock = clock;
        self
    }

    /// Reads sealed secrets from here.
    #[must_use]
    pub fn secrets(mut self, secrets: Arc<dyn Secrets>) -> Self {
        self.shared.secrets = secrets;
        self
    }

    /// Calls only what this allows.
    #[must_use]
    pub fn egress(mut self, egress: Egress) -> Self {
        self.shared.egress = Arc::new(egress);
        self
    }

    /// Finds addresses with this resolver.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.shared.resolver = resolver;
        self
    }

    /// Captures under these limits.
    #[must_use]
    pub fn capture(mut self, capture: CaptureOptions) -> Self {
        self.shared.capture = capture;
        self
    }

    /// Keeps at most so many idle connections a worker; when more were made, all that are idle are
    /// closed. Default: such that those of all workers take a quarter of the files that the process
    /// may open, at most 4,096 a worker.
    #[must_use]
    pub fn idle_connections_max(mut self, connections: usize) -> Self {
        self.shared.idle_connections_max = connections.max(1);
        self
    }

    /// The transport. Reads the machine's certificate authorities, once in a process, so that no
    /// call has to wait for them.
    pub fn build(self) -> HttpTransport {
        tls::native_roots();
        HttpTransport::with(Arc::new(self.shared))
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: AttemptRequest) -> BoxFuture<'static, AttemptReport> {
        let transport = self.clone();
        Box::pin(async move { transport.attempt(request).await })
    }

    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
        Arc::new(Self::with(Arc::clone(&self.shared)))
    }
}

/// A call that may be made.
struct Prepared {
    client: reqwest::Client,
    request: reqwest::Request,
    /// Whether it goes through a proxy.
    proxied: bool,
}

/// A response, as far as it is read.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Body,
    first_byte: Duration,
    /// Our end of the connection that it came over.
    local: Option<SocketAddr>,
}

impl HttpTransport {
    async fn attempt(&self, request: AttemptRequest) -> AttemptReport {
        let clock = &self.shared.clock;
        let started_at = clock.now();
        let started = clock.elapsed();
        let probe = Probe::new(Arc::clone(clock));
        let mut capture = Capture::of(&request, &self.shared.capture);
        let outcome = match self.prepare(&request, &mut capture) {
            Ok(prepared) => {
                let limits = Limits::from_now(request.policy.http);
                self.exchange(prepared, &limits, &probe, capture.keeps_response_body())
                    .await
            }
            Err(error) => Err(error),
        };
        let ended = clock.elapsed();
        let mut timings = Timings {
            total_us: micros(ended.saturating_sub(started)),
            ..Timings::default()
        };
        let result = match outcome {
            Ok(answer) => {
                let times = probe.marks().times(answer.local);
                timings.dns_us = times.dns.map(micros);
                timings.connect_us = times.connect.map(micros);
                timings.tls_us = times.tls.map(micros);
                let sent = times.stood.unwrap_or(started);
                timings.first_byte_us = Some(micros(answer.first_byte.saturating_sub(sent)));
                self.responded(answer, &mut capture)
            }
            Err(error) => AttemptResult::Failed(error),
        };
        AttemptReport {
            started_at,
            timings,
            result,
            captured: capture.finish(),
        }
    }

    fn prepare(
        &self,
        request: &AttemptRequest,
        capture: &mut Capture<'_>,
    ) -> Result<Prepared, AttemptError> {
        let Policy {
            callback_url,
            method,
            ..
        } = &*request.policy;
        let Some(url) = callback_url else {
            let detail = "neither subscription nor entrypoint names a callback URL";
            return Err(AttemptError::new(ErrorClass::Internal, detail));
        };
        let url = url.to_url();
        self.shared.egress.check_parsed(&url).map_err(|blocked| {
            tracing::debug!(subscription = %request.subscription, reason = %blocked.reason(),
                "blocked a destination");
            AttemptError::new(ErrorClass::Blocked, blocked.to_string())
        })?;
        let payload = Payload::of(request);
        let (secrets, now) = (&*self.shared.secrets, self.shared.clock.now());
        let mut headers = request::headers(request, &payload, secrets, now)?;
        request::complete(&mut headers, &url, &payload.body)?;
        let client = self
            .clients
            .get(&request.policy, url.scheme() == "https")
            .map_err(|error| classify::unusable(&error))?;
        capture.request(&headers, &payload.body);
        let method = match method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
        };
        let mut built = reqwest::Request::new(method, url);
        *built.headers_mut() = headers;
        *built.body_mut() = Some(payload.body.into());
        Ok(Prepared {
            client,
            request: built,
            proxied: request.policy.proxy.is_some(),
        })
    }

    /// Sends the request and reads the response to its end, or to a limit.
    ///
    /// Once its head is there the callback has answered, and its status decides: a body that stalls
    /// or breaks is cut where it stood. To call that "no response" would send the message again to
    /// a callback that took it, and lose a `Retry-After` or a 410.
    async fn exchange(
        &self,
        prepared: Prepared,
        limits: &Limits,
        probe: &Arc<Probe>,
        keep_body: bool,
    ) -> Result<Answer, AttemptError> {
        let sending = Arc::clone(probe).follow(self.head(prepared, probe));
        let mut response = limits
            .within(probe, sending)
            .await
            .ok_or_else(|| limits.spent())??;
        let first_byte = self.shared.clock.elapsed();
        let local = response
            .extensions()
            .get::<HttpInfo>()
            .map(HttpInfo::local_addr);
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Body {
            declared: response.content_length(),
            ..Body::default()
        };
        let reading = read_body(response, &mut body, keep_body);
        if !matches!(limits.within(probe, reading).await, Some(Ok(()))) {
            body.cut = true;
        }
        Ok(Answer {
            status,
            headers,
            body,
            first_byte,
            local,
        })
    }

    /// Sends the request and waits for the head of the response.
    async fn head(
        &self,
        prepared: Prepared,
        probe: &Probe,
    ) -> Result<reqwest::Response, AttemptError> {
        let Prepared {
            client,
            request,
            proxied,
        } = prepared;
        if let (true, Some(Host::Domain(host))) = (proxied, request.url().host()) {
            let port = request.url().port_or_known_default().unwrap_or_default();
            let lookups = self.clients.lookups();
            let checked = lookups.check_behind_proxy(host, port).await;
            checked.map_err(|blocked| {
                tracing::debug!(reason = %blocked.reason(), "blocked a destination behind a proxy");
                AttemptError::new(ErrorClass::Blocked, blocked.to_string())
            })?;
        }
        let sent = client.execute(request).await;
        sent.map_err(|error| classify::classify(error, probe.marks().stage))
    }

    fn responded(&self, answer: Answer, capture: &mut Capture<'_>) -> AttemptResult {
        let retry_after = answer
            .headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.as_bytes(), self.shared.clock.now()));
        capture.response(&answer.headers, answer.body);
        AttemptResult::Responded {
            status: answer.status,
            retry_after,
        }
    }
}

/// Reads a body to its end or to the limit; what has come stays in `body` when this is given up.
async fn read_body(
    mut response: reqwest::Response,
    body: &mut Body,
    keep: bool,
) -> Result<(), reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        body.take(&chunk, keep);
        if body.size >= RESPONSE_BYTES_MAX as u64 {
            body.cut = body.declared != Some(body.size);
            break;
        }
    }
    Ok(())
}

/// The time limits of a call: the read time, counted from the connection, which itself has at most
/// the connect time.
struct Limits {
    http: HttpOptions,
    began: Instant,
}

impl Limits {
    fn from_now(http: HttpOptions) -> Self {
        Self {
            http,
            began: Instant::now(),
        }
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
        let total = self.began + self.http.total_timeout();
        let marks = probe.marks();
        match marks.connected_at {
            Some(connected) => (connected + read).min(total),
            None if marks.dialling() => total,
            None => self.began + read,
        }
    }

    fn spent(&self) -> AttemptError {
        let limit = self.http.read_timeout_ms;
        let detail = format!("no response within {limit} ms");
        AttemptError::new(ErrorClass::Timeout, detail)
    }
}

/// What a worker may keep idle, one worker a core.
fn idle_connections_max() -> usize {
    const MAX: usize = 4_096;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (files / 4 / workers).clamp(16, MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
