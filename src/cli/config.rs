//! The configuration of a gateway: flag over environment over file over default.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    CliError, Output,
    telemetry::{TracingArgs, TracingConfig},
};
use crate::{
    delivery::{CaptureOptions, Egress},
    log::{Durability, LogOptions, RetentionPolicy},
    nearest::nearest,
};

/// Where a configuration comes from, and what of it is said on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "HOOKLOG_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory. Default ./data
    #[arg(long, value_name = "DIR", env = "HOOKLOG_DATA")]
    data: Option<PathBuf>,
    /// Where to listen. Default 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", env = "HOOKLOG_LISTEN")]
    listen: Option<SocketAddr>,
    /// The file of the key that secrets are sealed with. Default: secret.key in the data directory
    #[arg(long, value_name = "FILE", env = "HOOKLOG_SECRET_KEY_FILE")]
    secret_key_file: Option<PathBuf>,
    #[command(flatten)]
    tracing: TracingArgs,
    /// Events older than so many days may be dropped. Default: all are kept
    #[arg(long, value_name = "DAYS", env = "HOOKLOG_RETENTION_AGE_DAYS_MAX")]
    retention_age_days_max: Option<u64>,
    /// The oldest events may be dropped while the log takes more bytes on disk. Default: all are kept
    #[arg(long, value_name = "BYTES", env = "HOOKLOG_RETENTION_BYTES_MAX")]
    retention_bytes_max: Option<u64>,
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    /// The data directory.
    pub(super) data: PathBuf,
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// The file of the key that secrets are sealed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_key_file: Option<PathBuf>,
    /// Threads that make calls; one a core when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workers: Option<usize>,
    /// Most calls under way at a time, over all subscriptions; 2,048 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls_max: Option<usize>,
    pub(super) log: LogConfig,
    pub(super) retention: RetentionConfig,
    pub(super) egress: EgressConfig,
    pub(super) capture: CaptureConfig,
    pub(super) metrics: MetricsConfig,
    pub(super) tracing: TracingConfig,
}

/// The event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogConfig {
    /// What an acknowledged event survives: `buffered`, `flushed` or `synced`.
    durability: DurabilityConfig,
    /// A segment is sealed at this size.
    segment_bytes_max: u64,
    /// Messages are refused when less than this is free on the disk.
    free_bytes_min: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurabilityConfig {
    Buffered,
    Flushed,
    Synced,
}

/// What of the log's old end may be dropped; nothing where no limit is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetentionConfig {
    /// Segments whose newest event is older than so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_days_max: Option<u64>,
    /// The oldest segments, while all together take more on disk than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<u64>,
}

/// Which destinations may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EgressConfig {
    /// Whether `http:` may be called.
    allow_http: bool,
    /// Private ranges that may be called.
    allow_private_cidrs: Vec<IpNet>,
}

/// How much of calls is captured where logging is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CaptureConfig {
    /// Longer bodies are cut.
    body_bytes_max: usize,
    /// JSON pointers whose values are redacted.
    redact_json_pointers: Vec<String>,
}

/// The metrics at `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MetricsConfig {
    /// Whether they are read without a token.
    pub(super) open: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            secret_key_file: None,
            workers: None,
            calls_max: None,
            log: LogConfig::default(),
            retention: RetentionConfig::default(),
            egress: EgressConfig::default(),
            capture: CaptureConfig::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        let options = LogOptions::default();
        Self {
            durability: DurabilityConfig::Synced,
            segment_bytes_max: options.segment_bytes_max,
            free_bytes_min: options.min_free_bytes,
        }
    }
}

impl Default for CaptureConfig {
    fn default() -> Self {
        let options = CaptureOptions::default();
        Self {
            body_bytes_max: options.body_bytes_max,
            redact_json_pointers: options.redact_json_pointers,
        }
    }
}

impl LogConfig {
    /// As the log takes it.
    pub(super) fn options(&self) -> LogOptions {
        LogOptions {
            durability: match self.durability {
                DurabilityConfig::Buffered => Durability::Buffered,
                DurabilityConfig::Flushed => Durability::Flushed,
                DurabilityConfig::Synced => Durability::Synced,
            },
            segment_bytes_max: self.segment_bytes_max,
            min_free_bytes: self.free_bytes_min,
            ..LogOptions::default()
        }
    }
}

impl RetentionConfig {
    /// As the runtime takes it.
    pub(super) fn policy(self) -> RetentionPolicy {
        const DAY_SECONDS: u64 = 24 * 60 * 60;
        let seconds = self
            .age_days_max
            .map(|days| days.saturating_mul(DAY_SECONDS));
        RetentionPolicy {
            max_age: seconds.map(Duration::from_secs),
            max_bytes: self.bytes_max,
        }
    }
}

impl EgressConfig {
    /// As delivery takes it, beside the addresses that are our own.
    pub(super) fn guard(&self, own_addresses: Vec<SocketAddr>) -> Egress {
        Egress {
            allow_http: self.allow_http,
            allow_private_cidrs: self.allow_private_cidrs.clone(),
            own_addresses,
        }
    }
}

impl CaptureConfig {
    /// As delivery takes it.
    pub(super) fn options(&self) -> CaptureOptions {
        CaptureOptions {
            body_bytes_max: self.body_bytes_max,
            redact_json_pointers: self.redact_json_pointers.clone(),
        }
    }
}

impl ConfigArgs {
    /// What holds, of all sources together.
    pub(super) fn load(&self) -> Result<Config, CliError> {
        let mut config = match &self.config {
            Some(path) => read(path)?,
            None => Config::default(),
        };
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(key) = &self.secret_key_file {
            config.secret_key_file = Some(key.clone());
        }
        config.tracing = config.tracing.with(&self.tracing)?;
        let retention = &mut config.retention;
        retention.age_days_max = self.retention_age_days_max.or(retention.age_days_max);
        retention.bytes_max = self.retention_bytes_max.or(retention.bytes_max);
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Config, CliError> {
    let named = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| CliError::config(format!("cannot read {named}: {error}")))?;
    parse(&text).map_err(|reason| CliError::config(format!("{named}: {reason}")))
}

fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| {
        let said = error.to_string();
        let names: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        match names.split_first() {
            Some((wrong, known)) if error.message().starts_with("unknown field") => {
                let known = known.iter().copied();
                nearest(wrong, known).map_or_else(
                    || said.clone(),
                    |near| format!("{}\ndid you mean `{near}`?", said.trim_end()),
                )
            }
            _ => said,
        }
    })
}

#[derive(Debug, Args)]
pub(super) struct ConfigCommandArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what holds, of file, environment and flags together, or what is wrong with it.
    Check(ConfigArgs),
}

pub(super) fn run(args: &ConfigCommandArgs, output: &mut Output) -> Result<(), CliError> {
    let ConfigCommand::Check(args) = &args.command;
    let config = args.load()?;
    if output.is_json() {
        output.json(&config)?;
    } else {
        let text = toml::to_string(&config)
            .map_err(|error| CliError::failure(format!("cannot write it: {error}")))?;
        for line in text.lines() {
            output.line(line)?;
        }
    }
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_nearest_neighbour() {
        for (text, near) in [
            ("listn = \"127.0.0.1:1\"", "listen"),
            ("[egress]\nallow_htp = true", "allow_http"),
            ("[tracing]\nlevl = \"info\"", "level"),
            ("[log]\ndurabilty = \"synced\"", "durability"),
            ("[retention]\nage_days = 30", "age_days_max"),
        ] {
            let refused = parse(text).unwrap_err();
            let expected = format!("did you mean `{near}`?");
            assert!(refused.contains(&expected), "{refused}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_default_and_reads_back() {
        let config = parse("listen = \"0.0.0.0:9000\"").unwrap();
        let expected = Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 9000)),
            ..Config::default()
        };
        assert_eq!(config, expected);
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    /// Sections and keys that exist, and some that do not.
    const HEADS: &[&str] = &[
        "",
        "[log]",
        "[retention]",
        "[egress]",
        "[capture]",
        "[metrics]",
        "[tracing]",
        "[x]",
        "[[log]]",
        "[log.x]",
    ];
    const KEYS: &[&str] = &[
        "data",
        "listen",
        "secret_key_file",
        "workers",
        "calls_max",
        "durability",
        "segment_bytes_max",
        "free_bytes_min",
        "age_days_max",
        "bytes_max",
        "allow_http",
        "allow_private_cidrs",
        "body_bytes_max",
        "redact_json_pointers",
        "open",
        "level",
        "format",
        "x",
        "log",
        "\"a b\"",
    ];
    const VALUES: &[&str] = &[
        "true",
        "false",
        "0",
        "1",
        "-1",
        "18446744073709551615",
        "9223372036854775807",
        "1e400",
        "nan",
        "[]",
        "[\"/a\"]",
        "[\"10.0.0.0/8\"]",
        "[\"::/129\"]",
        "[1]",
        "{}",
        "{ open = true }",
        "\"synced\"",
        "\"127.0.0.1:0\"",
        "\"[::1]:80\"",
        "\"\"",
        "\"info\"",
        "\"json\"",
        "2026-01-01",
        "\"\\u0000\"",
    ];

    fn any_text() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            proptest::sample::select(VALUES).prop_map(str::to_owned),
            "-?[0-9]{1,20}",
            "\"[ -~]{0,12}\"",
        ];
        let line = prop_oneof![
            8 => (proptest::sample::select(KEYS), value).prop_map(|(key, value)| format!("{key} = {value}")),
            1 => "[ -~\t]{0,20}",
        ];
        let section = (
            proptest::sample::select(HEADS),
            proptest::collection::vec(line, 0..4),
        )
            .prop_map(|(head, lines)| format!("{head}\n{}\n", lines.join("\n")));
        proptest::collection::vec(section, 0..4).prop_map(|sections| sections.concat())
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_reads_back(text in any_text()) {
            if let Ok(config) = parse(&text) {
                let written = toml::to_string(&config).expect("a configuration is written");
                prop_assert_eq!(parse(&written), Ok(config.clone()));
                // Whoever takes it over takes any number.
                let _ = (config.log.options(), config.retention.policy(), config.capture.options());
            }
        }
    }
}
