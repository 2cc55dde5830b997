//! How a gateway tells of its work.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::Url;

use crate::cli::CliError;

/// The variable that says which lines are written.
pub(super) const LEVEL_VARIABLE: &str = "HOOKLOG_LOG";

/// What of it is said on the command line.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct TracingArgs {
    /// How lines are written to standard error. Default: text
    #[arg(long, value_enum, env = "HOOKLOG_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Which lines are written: off, error, warn, info (one for each request and each call),
    /// debug or trace; or a filter such as `warn,hooklog::http=info`. Default: warn
    #[arg(long, value_name = "LEVEL|FILTER", env = LEVEL_VARIABLE)]
    log_level: Option<String>,
    /// The collector that spans are sent to, in OTLP over HTTP, such as `http://127.0.0.1:4318`.
    /// For builds with the feature `otlp`
    #[arg(long, value_name = "URL", env = "HOOKLOG_OTLP_ENDPOINT")]
    otlp_endpoint: Option<Url>,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON a line.
    Json,
}

/// What a gateway tells of its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cli) struct TracingConfig {
    /// How lines are written: `text` or `json`.
    pub(super) format: LogFormat,
    /// Which are: a level, or a filter.
    level: String,
    /// The collector that spans are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) otlp_endpoint: Option<Url>,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "warn".to_owned(),
            otlp_endpoint: None,
        }
    }
}

impl TracingConfig {
    /// This, but for what is said on the command line.
    pub(in crate::cli) fn with(mut self, args: &TracingArgs) -> Result<Self, CliError> {
        if let Some(format) = args.log_format {
            self.format = format;
        }
        if let Some(level) = args.log_level.as_ref().filter(|level| !level.is_empty()) {
            self.level.clone_from(level);
        }
        if let Some(endpoint) = &args.otlp_endpoint {
            self.otlp_endpoint = Some(endpoint.clone());
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), CliError> {
        let schemes = ["http", "https"];
        if let Some(endpoint) = &self.otlp_endpoint
            && !schemes.contains(&endpoint.scheme())
        {
            return Err(CliError::config(format!(
                "tracing.otlp_endpoint: {endpoint} must be an http or https URL, such as \
                 http://127.0.0.1:4318"
            )));
        }
        self.filter().map(drop)
    }

    /// Which lines are written. A bare level is ours: of the libraries beneath, whose lines nobody
    /// has held against what must not be told, no more than warnings are written.
    pub(super) fn filter(&self) -> Result<EnvFilter, CliError> {
        let directives = match self.level.parse::<LevelFilter>() {
            Ok(level) => format!("{},hooklog={level}", level.min(LevelFilter::WARN)),
            Err(_) => self.level.clone(),
        };
        EnvFilter::try_new(&directives).map_err(|error| {
            CliError::config(format!(
                "tracing.level: {:?} is neither a level (off, error, warn, info, debug, trace) nor \
                 a filter such as warn,hooklog::http=info: {error}",
                self.level
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(level: &str) -> Result<String, String> {
        let config = TracingConfig {
            level: level.to_owned(),
            ..TracingConfig::default()
        };
        let filter = config.filter().map(|filter| filter.to_string());
        filter.map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_level_is_ours_and_libraries_are_kept_to_warnings() {
        assert_eq!(filter("trace").unwrap(), "hooklog=trace,warn");
        assert_eq!(filter("error").unwrap(), "hooklog=error,error");
        assert_eq!(filter("off").unwrap(), "hooklog=off,off");
        assert_eq!(filter("info,hyper=debug").unwrap(), "hyper=debug,info");
        assert!(filter("hooklog=loud").unwrap_err().contains("off, error"));
    }

    #[test]
    fn an_endpoint_is_reached_over_http() {
        let args = TracingArgs {
            otlp_endpoint: Some("grpc://127.0.0.1:4317".parse().unwrap()),
            ..TracingArgs::default()
        };
        let refused = TracingConfig::default().with(&args).unwrap_err();
        assert!(refused.to_string().contains("http"), "{refused}");
    }
}
