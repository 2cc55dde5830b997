//! `hooklog what-if`: a recorded window under another retry policy.

use clap::{Args, ValueEnum};

use super::{CliError, Output, data::DataArgs, output::Rows};
use crate::{
    model::{Retry, RetryStrategy, SubscriptionId, Timestamp},
    runtime::{Comparison, Outcome, WhatIf, what_if},
};

#[derive(Debug, Args)]
pub(super) struct WhatIfArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Only deliveries whose first call began at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only deliveries whose first call began before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only this subscription.
    #[arg(long, value_name = "ID")]
    subscription: Option<SubscriptionId>,
    /// Explicit delays before each retry, in seconds, with commas between them.
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["strategy", "max_attempts", "initial_delay", "max_delay"])]
    schedule: Vec<u64>,
    /// How delays grow.
    #[arg(long, value_enum)]
    strategy: Option<Strategy>,
    /// Retries after the first try.
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Delay before the first retry, in seconds.
    #[arg(long, value_name = "SECONDS")]
    initial_delay: Option<u64>,
    /// No delay is longer, in seconds.
    #[arg(long, value_name = "SECONDS")]
    max_delay: Option<u64>,
    /// Give up so long after a message was accepted, in seconds.
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// Statuses that are retried beside 408, 425, 429 and 5xx.
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    retry_on_status: Vec<u16>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strategy {
    Linear,
    Exponential,
}

impl WhatIfArgs {
    fn question(&self) -> Result<WhatIf, CliError> {
        let default = Retry::default();
        let retry = Retry {
            retry_strategy: match self.strategy {
                Some(Strategy::Linear) => RetryStrategy::Linear,
                Some(Strategy::Exponential) => RetryStrategy::Exponential,
                None => default.retry_strategy,
            },
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            initial_delay_seconds: self.initial_delay.unwrap_or(default.initial_delay_seconds),
            max_delay_seconds: self.max_delay.unwrap_or(default.max_delay_seconds),
            schedule: self.schedule.clone(),
            deadline_seconds: self.deadline,
            retry_on_status: self.retry_on_status.clone(),
            ..default
        };
        retry.validate()?;
        Ok(WhatIf {
            retry,
            from: self.from.unwrap_or(Timestamp::from_millis(i64::MIN)),
            to: self.to.unwrap_or(Timestamp::from_millis(i64::MAX)),
            subscription: self.subscription,
        })
    }
}

pub(super) fn run(args: &WhatIfArgs, output: &mut Output) -> Result<(), CliError> {
    let question = args.question()?;
    let data = args.data.open()?;
    let told = what_if(&data.log, &question)?;
    if output.is_json() {
        output.json(&told)?;
    } else {
        output.table(&table(&told), "")?;
        output.line(summary(&told))?;
    }
    Ok(output.flush()?)
}

fn table(told: &Comparison) -> Rows {
    let mut rows = Rows::new(["", "Recorded", "What if"]).numbers([1, 2]);
    let count = |of: fn(&Outcome) -> u64| [of(&told.recorded), of(&told.what_if)];
    for (name, [recorded, what_if]) in [
        ("Delivered", count(|o| o.delivered)),
        ("Given up", count(|o| o.given_up)),
        ("Still open", count(|o| o.open)),
        ("Calls", count(|o| o.calls)),
        ("Recovered after a failure", count(|o| o.recovered)),
        ("Time to recover, p50 (ms)", count(|o| o.recovery_p50_ms)),
        ("Time to recover, p95 (ms)", count(|o| o.recovery_p95_ms)),
    ] {
        rows.push([name.to_owned(), recorded.to_string(), what_if.to_string()]);
    }
    rows
}

fn summary(told: &Comparison) -> String {
    let more = |now: u64, then: u64| {
        if now >= then {
            format!("{} more", now - then)
        } else {
            format!("{} fewer", then - now)
        }
    };
    format!(
        "Of {} deliveries: {} delivered, {} given up, for {} calls.",
        told.deliveries,
        more(told.what_if.delivered, told.recorded.delivered),
        more(told.what_if.given_up, told.recorded.given_up),
        more(told.what_if.calls, told.recorded.calls),
    )
}
