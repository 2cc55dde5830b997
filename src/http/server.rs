//! The HTTP server: connections, limits, and the road from bytes to an operation and back.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, dev,
    http::{KeepAlive, StatusCode, header},
    rt::time::timeout,
    web,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tracing::{Instrument as _, Span};

use super::{
    bodies::{self, Held},
    call::Headers,
    gate::{self, Incoming},
    gateway::Gateway,
    pages::{PageRequest, Pages},
    problem::{Kind, Problem},
    reply::{Body, Reply},
    trace::RequestTrace,
};
use crate::model::TRACEPARENT;

/// Most connections of one worker.
const CONNECTIONS_MAX: usize = 10_000;

/// A server that runs.
pub struct Server {
    addresses: Vec<SocketAddr>,
    running: dev::Server,
    gateway: Arc<Gateway>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves a gateway to who connects here, with so many threads (at least 1), once
    /// [`run`](Self::run) is awaited.
    pub fn listen(
        gateway: Arc<Gateway>,
        listener: TcpListener,
        workers: usize,
    ) -> io::Result<Self> {
        let shared = Arc::clone(&gateway);
        let time_limits = gateway.time_limits();
        let server = HttpServer::new(move || {
            let gateway = web::Data::from(Arc::clone(&shared));
            App::new().app_data(gateway).default_service(web::to(serve))
        })
        .workers(workers.max(1))
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(time_limits.head)
        .keep_alive(KeepAlive::Timeout(time_limits.idle))
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?;
        let addresses = server.addrs();
        Ok(Self {
            addresses,
            running: server.run(),
            gateway,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Serves until `end` ends; then takes no connection more, ends its streams, and lets requests
    /// under way end for a second.
    pub async fn run(self, end: impl Future<Output = ()>) -> io::Result<()> {
        let handle = self.running.handle();
        let mut running = std::pin::pin!(self.running);
        tokio::select! {
            ended = &mut running => return ended,
            () = end => {}
        }
        self.gateway.close();
        let (ended, ()) = tokio::join!(running, handle.stop(true));
        ended
    }
}

async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    gateway: web::Data<Gateway>,
) -> HttpResponse {
    let gateway = gateway.into_inner();
    let began = gateway.handle().elapsed();
    let came = text(&request, &header::HeaderName::from_static(TRACEPARENT));
    let moment = gateway.handle().moment();
    let trace = RequestTrace::new(came.as_deref(), gateway.has_watched_traces(), &moment);
    let span = trace.span(request.method().as_str());
    let answering = respond(&request, payload, &gateway, trace);
    let reply = answering.instrument(span.clone()).await;
    let took = gateway.handle().elapsed().saturating_sub(began);
    span.record("status", reply.status);
    span.in_scope(|| tracing::info!(took_us = took.as_micros(), "served"));
    written(reply.header("x-request-id", trace.request.to_string()))
}

async fn respond(
    request: &HttpRequest,
    payload: web::Payload,
    gateway: &Arc<Gateway>,
    trace: RequestTrace,
) -> Reply {
    let path = request.path();
    if let Some(pages) = gateway.pages(path) {
        // Which one is for the path to tell, and a path may hold what is not to be told.
        Span::current().record("route", "(page)");
        // Boxed, as the rest: what is moved with every request is small.
        return Box::pin(show(request, payload, Arc::clone(pages), gateway)).await;
    }
    let context_of = |path: &str| gateway.handle().context_of(path);
    let found = match gate::find(request.method().as_str(), path, context_of) {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let operation = found.operation;
    Span::current().record("route", operation.path);
    let incoming = Incoming {
        found,
        path: path.to_owned(),
        query: request.query_string().to_owned(),
        authorization: text(request, &header::AUTHORIZATION),
        peer: request.peer_addr().map(|peer| peer.ip()),
        headers: Headers {
            content_type: text(request, &header::CONTENT_TYPE),
            if_match: text(request, &header::IF_MATCH),
            idempotency_key: text(request, &header::HeaderName::from_static("idempotency-key")),
            last_event_id: text(request, &header::HeaderName::from_static("last-event-id")),
        },
        trace,
    };
    let admitted = gate::admit(gateway, &incoming);
    let bearer = match admitted {
        Ok(bearer) => bearer,
        Err(problem) => return problem.into(),
    };
    let sender = bearer.as_ref().map(|token| token.id);
    let body = gateway.bodies().begin(sender, operation.body_bytes_max());
    match read(payload, body, gateway.time_limits().body).await {
        Ok((body, _held)) => {
            Box::pin(gate::answer(Arc::clone(gateway), incoming, bearer, body)).await
        }
        Err(problem) => problem.into(),
    }
}

/// Answers with a page.
async fn show(
    request: &HttpRequest,
    payload: web::Payload,
    pages: Arc<dyn Pages>,
    gateway: &Gateway,
) -> Reply {
    let of = |name: &'static str| text(request, &header::HeaderName::from_static(name));
    let bytes_max = pages.body_bytes_max(of("cookie").as_deref());
    let body = gateway.bodies().begin(None, bytes_max);
    let came = read(payload, body, gateway.time_limits().body).await;
    let asked = PageRequest {
        method: request.method().as_str().to_owned(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        cookie: of("cookie"),
        host: of("host"),
        origin: of("origin"),
        fetch_site: of("sec-fetch-site"),
        fetch_dest: of("sec-fetch-dest"),
        last_event_id: of("last-event-id"),
        peer: request.peer_addr().map(|peer| peer.ip()),
        body: Bytes::new(),
    };
    let (body, _held) = match came {
        Ok(came) => came,
        Err(problem) => {
            let status = problem.kind().status();
            let reply = pages.refuse(asked, status, problem.detail());
            return reply.again_after(&problem);
        }
    };
    let mut reply = pages.answer(PageRequest { body, ..asked }).await;
    if let Body::Stream(stream) = reply.body {
        reply.body = Body::Stream(stream.take_until(gateway.closed()).boxed());
    }
    reply
}

fn text(request: &HttpRequest, name: &header::HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Reads a body up to so many bytes.
async fn read(
    mut payload: web::Payload,
    mut body: bodies::Body,
    longest: Duration,
) -> Result<(Bytes, Held), Problem> {
    let whole = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::new(Kind::Malformed, format!("the body cannot be read: {error}"))
            })?;
            body.push(&chunk)?;
        }
        Ok(body.end())
    };
    timeout(longest, whole).await.unwrap_or_else(|_| {
        let seconds = longest.as_secs_f64();
        let detail = format!("the body did not come whole within {seconds} s");
        Err(Problem::new(Kind::Malformed, detail))
    })
}

fn written(reply: Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    let kept = if reply.is_lasting {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    response
        .insert_header((header::CACHE_CONTROL, kept))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if !reply.content_type.is_empty() {
        response.insert_header((header::CONTENT_TYPE, reply.content_type));
    }
    for (name, value) in reply.headers {
        response.insert_header((name, value));
    }
    match reply.body {
        Body::Empty => response.finish(),
        Body::Whole(bytes) => response.body(bytes),
        Body::Stream(stream) => response.streaming(stream.map(Ok::<_, actix_web::Error>)),
    }
}
