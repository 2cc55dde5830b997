//! `hooklog subscribe`: a callback on an API.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, Output, client::ServerArgs, input, subscription};
use crate::model::{
    CustomHeader, DeliveryMode, Header, Method, Retry, RetryOption, RetryStrategy,
    STANDARD_WEBHOOKS_SCHEDULE_SECONDS, StartFrom, Subscription, Timestamp,
};

#[derive(Debug, Args)]
pub(super) struct SubscribeArgs {
    /// The API, by id or name.
    api: String,
    /// Where its messages are sent.
    #[arg(required_unless_present = "file")]
    callback_url: Option<String>,
    /// The definition as JSON (see `hooklog schema subscription`), for what no flag tells; - is
    /// standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "callback_url")]
    file: Option<PathBuf>,
    /// Whose it is, by id or name. Default: the application `default`
    #[arg(long)]
    application: Option<String>,
    /// Only messages of this channel.
    #[arg(long)]
    channel: Option<String>,
    /// Only messages for which this holds, as CEL: type == 'order.paid' && body.amount > 100
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// In which order messages are delivered. Default: concurrent
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The first message it gets: now, beginning, a position, or a time (RFC 3339). Default: now
    #[arg(long, value_name = "WHERE", value_parser = parse_start)]
    start_from: Option<StartFrom>,
    /// The method of calls.
    #[arg(long, value_parser = parse_method)]
    method: Option<Method>,
    /// A header of each call; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<Header>,
    /// Most calls a second.
    #[arg(long, value_name = "COUNT")]
    rate_limit_per_second: Option<u32>,
    /// Most messages in flight.
    #[arg(long, value_name = "COUNT")]
    max_in_flight: Option<u16>,
    #[command(flatten)]
    retry: RetryArgs,
    /// Asked again with the same key, it is done once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// How failed deliveries are tried again. What is not said is as in the definition, or its default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Retries (default: as the API's entrypoint says)")]
struct RetryArgs {
    /// The first failure is final.
    #[arg(long, conflicts_with_all = ["retry_strategy", "retry_schedule", "max_attempts"])]
    no_retry: bool,
    /// How the delay grows from retry to retry.
    #[arg(long, value_enum, value_name = "STRATEGY")]
    retry_strategy: Option<Strategy>,
    /// Retries after the first try.
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Delay before the first retry.
    #[arg(long, value_name = "SECONDS")]
    initial_delay_seconds: Option<u64>,
    /// No delay is longer.
    #[arg(long, value_name = "SECONDS")]
    max_delay_seconds: Option<u64>,
    /// The delays themselves, in seconds, with commas between them; or `standard-webhooks`.
    #[arg(long, value_name = "SECONDS,…", value_parser = parse_schedule)]
    retry_schedule: Option<Schedule>,
    /// A delivery is given up so long after its message was accepted.
    #[arg(long, value_name = "SECONDS")]
    deadline_seconds: Option<u64>,
    /// A status that is retried too; may be repeated.
    #[arg(long, value_name = "STATUS")]
    retry_on_status: Vec<u16>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// One at a time; a failing message holds the next.
    Ordered,
    /// In order per key; keys in parallel.
    Keyed,
    /// As many as may be in flight; a retry holds no other.
    Concurrent,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strategy {
    /// By the initial delay each time.
    Linear,
    /// Twice as long each time.
    Exponential,
}

/// Delays in seconds.
#[derive(Debug, Clone)]
struct Schedule(Vec<u64>);

fn parse_schedule(text: &str) -> Result<Schedule, String> {
    if text == "standard-webhooks" {
        return Ok(Schedule(STANDARD_WEBHOOKS_SCHEDULE_SECONDS.to_vec()));
    }
    let delays = text.split(',').map(|delay| delay.trim().parse());
    let delays: Result<_, std::num::ParseIntError> = delays.collect();
    delays.map(Schedule).map_err(|_| {
        "expected seconds with commas between them, such as 5,300,1800, or standard-webhooks"
            .to_owned()
    })
}

fn parse_start(text: &str) -> Result<StartFrom, String> {
    match text {
        "now" => return Ok(StartFrom::Now),
        "beginning" => return Ok(StartFrom::Beginning),
        _ => {}
    }
    if let Ok(position) = text.parse() {
        return Ok(StartFrom::Position(position));
    }
    let time: Result<Timestamp, _> = text.parse();
    time.map(StartFrom::Time).map_err(|_| {
        "expected now, beginning, a position such as 1284, or a time such as 2026-03-04T05:06:07Z"
            .to_owned()
    })
}

fn parse_method(text: &str) -> Result<Method, String> {
    let methods = [Method::Post, Method::Put, Method::Patch];
    let found = methods
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "expected POST, PUT or PATCH".to_owned())
}

fn parse_header(text: &str) -> Result<Header, String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("expected a name, a colon and a value, such as 'x-team: payments'")?;
    let header = Header::new(name.trim(), value.trim());
    header.validate().map_err(|invalid| invalid.to_string())?;
    Ok(header)
}

impl RetryArgs {
    fn is_empty(&self) -> bool {
        let Self {
            no_retry,
            retry_strategy,
            max_attempts,
            initial_delay_seconds,
            max_delay_seconds,
            retry_schedule,
            deadline_seconds,
            retry_on_status,
        } = self;
        !no_retry
            && retry_strategy.is_none()
            && max_attempts.is_none()
            && initial_delay_seconds.is_none()
            && max_delay_seconds.is_none()
            && retry_schedule.is_none()
            && deadline_seconds.is_none()
            && retry_on_status.is_empty()
    }

    /// The policy, where anything was said of it.
    fn apply(&self, to: &mut Option<Retry>) {
        if self.is_empty() {
            return;
        }
        let retry = to.get_or_insert_default();
        if self.no_retry {
            retry.retry_option = RetryOption::NoRetry;
        }
        if let Some(strategy) = self.retry_strategy {
            retry.retry_strategy = match strategy {
                Strategy::Linear => RetryStrategy::Linear,
                Strategy::Exponential => RetryStrategy::Exponential,
            };
        }
        set(&mut retry.max_attempts, self.max_attempts);
        set(&mut retry.initial_delay_seconds, self.initial_delay_seconds);
        if let (Some(initial), None) = (self.initial_delay_seconds, self.max_delay_seconds) {
            retry.max_delay_seconds = retry.max_delay_seconds.max(initial);
        }
        set(&mut retry.max_delay_seconds, self.max_delay_seconds);
        if let Some(Schedule(delays)) = &self.retry_schedule {
            retry.schedule.clone_from(delays);
        }
        retry.deadline_seconds = self.deadline_seconds.or(retry.deadline_seconds);
        retry.retry_on_status.extend(&self.retry_on_status);
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl SubscribeArgs {
    fn definition(&self) -> Result<Subscription, CliError> {
        let mut definition: Subscription = match (&self.file, &self.callback_url) {
            (Some(file), _) => input::definition(file)?,
            (None, url) => Subscription::to(url.as_deref().unwrap_or_default())?,
        };
        if let Some(filter) = &self.filter {
            definition = definition.filtered(filter);
        }
        if let Some(channel) = &self.channel {
            definition.channel = Some(channel.clone());
        }
        if let Some(mode) = self.mode {
            definition.delivery_mode = match mode {
                Mode::Ordered => DeliveryMode::Ordered,
                Mode::Keyed => DeliveryMode::Keyed,
                Mode::Concurrent => DeliveryMode::Concurrent,
            };
        }
        set(&mut definition.start_from, self.start_from);
        let configuration = &mut definition.configuration;
        configuration.method = self.method.or(configuration.method);
        let headers = self.header.iter().cloned().map(CustomHeader::from);
        configuration.headers.extend(headers);
        configuration.rate_limit_per_second = self
            .rate_limit_per_second
            .or(configuration.rate_limit_per_second);
        configuration.max_in_flight = self.max_in_flight.or(configuration.max_in_flight);
        self.retry.apply(&mut configuration.retry);
        Ok(definition)
    }
}

pub(super) fn run(args: &SubscribeArgs, output: &mut Output) -> Result<(), CliError> {
    let mut definition = args.definition()?;
    let client = args.server.client()?;
    let api = client.api(&args.api)?.to_string();
    if let Some(application) = &args.application {
        definition.application = client.application(application)?;
    }
    let answer = client
        .post(&["v1", "apis", &api, "subscriptions"])
        .header("idempotency-key", args.idempotency_key.as_deref())
        .json(&definition)?
        .send()?;
    subscription::show(&answer, output)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SubscribeArgs,
    }

    fn definition(flags: &[&str]) -> Subscription {
        let line = [&["subscribe", "orders", "https://example.com/hook"], flags].concat();
        Line::try_parse_from(line)
            .unwrap()
            .args
            .definition()
            .unwrap()
    }

    #[test]
    fn what_no_flag_tells_is_inherited_from_the_entrypoint() {
        let plain = definition(&[]);
        assert_eq!(plain, Subscription::to("https://example.com/hook").unwrap());
        assert_eq!(plain.configuration.retry, None);
    }

    #[test]
    fn every_flag_of_retries_has_its_effect() {
        let retry = |flags: &[&str]| definition(flags).configuration.retry.unwrap();
        assert_eq!(retry(&["--no-retry"]), Retry::none());
        assert_eq!(retry(&["--max-attempts", "7"]).max_attempts, 7);
        let linear = retry(&[
            "--retry-strategy",
            "linear",
            "--initial-delay-seconds",
            "60",
        ]);
        assert_eq!(linear.retry_strategy, RetryStrategy::Linear);
        assert_eq!(linear.validate(), Ok(()));
        let schedule = retry(&["--retry-schedule", "standard-webhooks"]);
        assert_eq!(schedule, Retry::standard_webhooks());
        let listed = retry(&["--retry-schedule", "1, 2", "--retry-on-status", "404"]);
        assert_eq!(listed.schedule, [1, 2]);
        assert_eq!(listed.retry_on_status, [404]);
        assert_eq!(
            retry(&["--deadline-seconds", "60"]).deadline_seconds,
            Some(60)
        );
    }

    #[test]
    fn a_header_is_a_name_and_a_value_that_may_be_sent() {
        assert_eq!(
            parse_header("x-team:  a: b"),
            Ok(Header::new("x-team", "a: b"))
        );
        assert!(parse_header("x-team").is_err());
        assert!(parse_header("host: example.com").is_err());
    }

    #[test]
    fn a_first_message_is_named_by_place_or_time() {
        assert_eq!(parse_start("beginning"), Ok(StartFrom::Beginning));
        let position = StartFrom::Position(crate::model::Position::new(12));
        assert_eq!(parse_start("12"), Ok(position));
        assert!(matches!(
            parse_start("2026-03-04T05:06:07Z"),
            Ok(StartFrom::Time(_))
        ));
        assert!(parse_start("yesterday").is_err());
    }
}
