//! Spans on their way to a collector: OTLP over HTTP, as protobuf.
//!
//! The SDK collects spans in a bounded queue (2,048; what does not fit is dropped, and told of) and
//! sends them from a thread of its own. Headers for the collector, such as credentials, come from
//! the environment's `OTEL_EXPORTER_OTLP_HEADERS`, as everywhere.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanProcessor},
};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};
use url::Url;

use super::spans::SpanLayer;
use crate::{cli::CliError, delivery};

/// Longest wait for a collector to take a batch.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Longest wait for it to take the last one, at the end.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Sends spans to a collector.
pub(super) struct Exporter {
    processor: Arc<BatchSpanProcessor>,
}

impl Exporter {
    /// An exporter to the collector there. Nothing is asked of it yet.
    pub(super) fn start(endpoint: &Url) -> Result<Self, CliError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new()?)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(SEND_MAX)
            .with_endpoint(traces_url(endpoint))
            .build()
            .map_err(|error| CliError::config(format!("tracing.otlp_endpoint: {error}")))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_service_name("hooklog")
            .with_attribute(version)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource);
        Ok(Self {
            processor: Arc::new(processor),
        })
    }

    /// What takes spans in, ours alone.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new().with_target("hooklog", LevelFilter::INFO);
        SpanLayer::new(Arc::clone(&self.processor)).with_filter(ours)
    }

    /// Sends what is left.
    pub(super) async fn end(self) {
        let processor = self.processor;
        let flush = move || processor.shutdown_with_timeout(FLUSH_MAX);
        match tokio::task::spawn_blocking(flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(_) => tracing::error!("the exporter of spans panicked"),
        }
    }
}

/// Where a collector takes traces: its endpoint, or the usual path below that where it names none.
fn traces_url(endpoint: &Url) -> String {
    let mut url = endpoint.clone();
    if url.path() == "/" {
        url.set_path("/v1/traces");
    }
    url.into()
}

/// The client of a gateway's calls, for the SDK's thread, which has no tokio runtime of its own:
/// requests are made on ours.
struct Client {
    http: reqwest::Client,
    tasks: tokio::runtime::Handle,
}

impl Client {
    fn new() -> Result<Self, CliError> {
        let tls = delivery::machine_tls().map_err(CliError::failure)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(SEND_MAX)
            .build()
            .map_err(|error| CliError::failure(format!("there is no HTTP client: {error}")))?;
        Ok(Self {
            http,
            tasks: tokio::runtime::Handle::current(),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'client, 'answer>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'answer>>
    where
        'client: 'answer,
        Self: 'answer,
    {
        let answered = self.tasks.spawn(send(self.http.clone(), request));
        Box::pin(async { answered.await? })
    }
}

async fn send(
    http: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let answer = http.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    Ok(response.body(answer.bytes().await?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_path_gets_the_usual_one() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://a.example/otlp/x", "https://a.example/otlp/x"),
        ] {
            assert_eq!(traces_url(&endpoint.parse().unwrap()), expected);
        }
    }
}
