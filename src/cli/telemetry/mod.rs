//! What a gateway tells of its work while it runs: lines on standard error, and spans that are sent
//! to a collector.
//!
//! The crates of OpenTelemetry are seen in this room alone, and compiled with the feature `otlp`
//! alone.

#[cfg(feature = "otlp")]
mod otlp;
mod settings;
#[cfg(feature = "otlp")]
mod spans;
#[cfg(not(feature = "otlp"))]
mod without_otlp;

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use self::settings::LogFormat;
pub(super) use self::settings::{TracingArgs, TracingConfig};
use super::CliError;
#[cfg(not(feature = "otlp"))]
use without_otlp as otlp;

/// What is told while it lives. [`end`](Self::end) it, or the last spans are lost.
pub(super) struct Telemetry {
    exporter: Option<otlp::Exporter>,
}

impl Telemetry {
    /// Begins to tell. Must be called on the tokio runtime that sends spans.
    pub(super) fn start(config: &TracingConfig) -> Result<Self, CliError> {
        let endpoint = config.otlp_endpoint.as_ref();
        let exporter = endpoint.map(otlp::Exporter::start).transpose()?;
        let lines = lines(config.format).with_filter(config.filter()?);
        let begun = tracing_subscriber::registry()
            .with(lines)
            .with(exporter.as_ref().map(otlp::Exporter::layer))
            .try_init();
        begun.map_err(|error| CliError::failure(error.to_string()))?;
        Ok(Self { exporter })
    }

    /// Whether spans leave the process.
    pub(super) const fn is_exporting(&self) -> bool {
        self.exporter.is_some()
    }

    /// Sends the spans that are still here.
    pub(super) async fn end(self) {
        if let Some(exporter) = self.exporter {
            exporter.end().await;
        }
    }
}

/// Of commands that run for a moment, errors alone are told; `HOOKLOG_LOG` asks for more, in the
/// form of `tracing_subscriber`'s filter.
pub(super) fn tell_errors() {
    let filter = EnvFilter::try_from_env(settings::LEVEL_VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::registry()
        .with(lines(LogFormat::Text).with_filter(filter))
        .init();
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    match format {
        LogFormat::Text => Box::new(lines),
        // A span stands under none of ours, so the one of the line is the whole list.
        LogFormat::Json => Box::new(lines.json().with_span_list(false)),
    }
}
