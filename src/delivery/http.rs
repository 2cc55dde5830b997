//! The transport that speaks HTTP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::HeaderValue;
use tracing::Instrument as _;

use super::{
    AttemptRequest, CaptureOptions, Egress, NoSecrets, Resolve, SystemResolver, Transport, auth,
    capture::Capture,
    clients::Connection,
    cloud_events::Payload,
    exchange::{Answer, Limits, Wire},
    request, retry_after,
    target::Target,
    tls,
    tokens::Tokens,
    trace,
};
use crate::{
    clock::{SharedClock, SystemClock},
    model::{
        AttemptError, AttemptReport, AttemptResult, CallbackUrl, ErrorClass, Method, Secrets,
        Timings,
    },
};

/// Most bytes that are read of a response's body; after them the connection is dropped.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Most URLs that are kept parsed and checked, in each worker.
const TARGETS_MAX: usize = 1_024;

/// Makes calls over HTTP/1.1, on kept-alive connections.
///
/// Time limits run on the timers of the tokio runtime it is used in; timings and signatures take
/// their times from the clock it was given.
#[derive(Clone)]
pub struct HttpTransport {
    shared: Arc<Shared>,
    wire: Arc<Wire>,
    tokens: Arc<Tokens>,
    targets: Arc<Mutex<HashMap<CallbackUrl, Arc<Target>>>>,
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
        let wire = Arc::new(Wire::new(Arc::clone(&shared)));
        Self {
            tokens: Tokens::new(Arc::clone(&wire), Arc::clone(&shared)),
            targets: Arc::default(),
            wire,
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
        let span = trace::span(&request);
        Box::pin(async move {
            let report = transport.attempt(request).instrument(span.clone()).await;
            trace::ended(&span, &report);
            report
        })
    }

    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
        Arc::new(Self::with(Arc::clone(&self.shared)))
    }
}

impl HttpTransport {
    async fn attempt(&self, request: AttemptRequest) -> AttemptReport {
        let clock = &self.shared.clock;
        let started_at = clock.now();
        let started = clock.elapsed();
        let mut capture = Capture::of(&request, &self.shared.capture);
        let called = self.call(&request, &mut capture).await;
        let mut timings = Timings {
            total_us: micros(clock.elapsed().saturating_sub(started)),
            ..Timings::default()
        };
        let result = match called {
            Ok(answer) => {
                timings.dns_us = answer.connection.dns.map(micros);
                timings.connect_us = answer.connection.connect.map(micros);
                timings.tls_us = answer.connection.tls.map(micros);
                timings.first_byte_us = Some(micros(answer.first_byte));
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

    /// Makes the call; once more, with a new token, when the callback does not accept the token. All
    /// of it has the total time of one call.
    async fn call(
        &self,
        request: &AttemptRequest,
        capture: &mut Capture<'_>,
    ) -> Result<Answer, AttemptError> {
        let policy = &*request.policy;
        let target = &*self.target(request)?;
        let limits = Limits::from_now(policy.http);
        if policy.auth.token_endpoint().is_none() {
            let credentials = auth::authorize(&policy.auth, &*self.shared.secrets)?;
            return self
                .call_as(request, target, credentials.as_ref(), limits, capture)
                .await;
        }
        let token = self.tokens.get(request, limits).await?;
        let first = self.call_as(request, target, Some(token.header()), limits, capture);
        let answer = first.await?;
        if answer.status != http::StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.tokens.renewed(request, &token, limits).await;
        let token = token.map_err(|error| {
            let detail = format!("the callback answered 401, and then {}", error.detail);
            AttemptError::new(error.class, detail)
        })?;
        self.call_as(request, target, Some(token.header()), limits, capture)
            .await
    }

    /// The URL to call, if it may be called.
    fn target(&self, request: &AttemptRequest) -> Result<Arc<Target>, AttemptError> {
        let Some(url) = &request.policy.callback_url else {
            let detail = "neither subscription nor entrypoint names a callback URL";
            return Err(AttemptError::new(ErrorClass::Internal, detail));
        };
        // Without a query it holds no secret, and is the same each time.
        let is_plain = !url.as_str().contains('?');
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if is_plain && let Some(known) = targets.get(url) {
            return Ok(Arc::clone(known));
        }
        let revealed = auth::url(url, &*self.shared.secrets)?;
        self.wire.check(&revealed, request.subscription)?;
        let target = Arc::new(Target::of(&revealed)?);
        if is_plain {
            if targets.len() >= TARGETS_MAX {
                targets.clear();
            }
            targets.insert(url.clone(), Arc::clone(&target));
        }
        Ok(target)
    }

    async fn call_as(
        &self,
        request: &AttemptRequest,
        target: &Target,
        credentials: Option<&HeaderValue>,
        limits: Limits,
        capture: &mut Capture<'_>,
    ) -> Result<Answer, AttemptError> {
        let policy = &*request.policy;
        let payload = Payload::of(request);
        let (secrets, now) = (&*self.shared.secrets, self.shared.clock.now());
        let mut headers = request::headers(request, &payload, credentials, secrets, now)?;
        request::complete(&mut headers, target, &payload.body);
        let connection = Connection::to(target, &policy.ssl, policy.proxy.as_ref(), policy.http);
        let method = match policy.method {
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
        };
        let body = payload.body.clone();
        let prepared = self
            .wire
            .prepare(connection, method, target, headers, body)?;
        capture.request(prepared.headers(), &payload.body);
        let keep_body = capture.keeps_response_body();
        let limits = limits.again();
        self.wire.exchange(prepared, limits, keep_body).await
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
