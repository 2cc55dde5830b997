//! `hooklog logs`: the webhook log, its list and one delivery.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError, Output,
    data::{Data, DataArgs},
    output::{Rows, Tone, duration},
};
use crate::{
    model::{
        ApiId, ApplicationId, AttemptError, CallbackUrl, CapturedBody, CapturedPart,
        DeadLetterQueue, DeliveryId, ErrorClass, Fault, MessageId, SubscriptionId, Timestamp,
    },
    projection::{
        View,
        deliveries::{
            Cursor, Deliveries, DeliveryDetail, DeliveryFilter, DeliveryOutcome, DeliveryQuery,
            DeliveryRow, DlqEntry, StatusFilter,
        },
        subscriptions::Subscriptions,
    },
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct LogsArgs {
    #[command(subcommand)]
    command: Option<LogsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum LogsCommand {
    /// List deliveries, newest first.
    List(ListArgs),
    /// Show one delivery: every attempt, and what was logged of it.
    Show {
        #[command(flatten)]
        data: DataArgs,
        /// The delivery's id.
        delivery: DeliveryId,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Only this API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    /// Only this status (`503`), class (`5xx`) or `0` for no response; may be repeated.
    #[arg(long)]
    status: Vec<StatusFilter>,
    /// Only calls to this URL.
    #[arg(long, value_name = "URL")]
    callback_url: Option<CallbackUrl>,
    /// Only this application, by id.
    #[arg(long)]
    application: Option<ApplicationId>,
    /// Only deliveries that stand so: `delivered`, `retrying`, `dead_lettered` or `discarded`.
    #[arg(long, value_parser = parse_outcome)]
    outcome: Option<DeliveryOutcome>,
    /// Only those that went to the dead letter queue (`true`), or did not (`false`).
    #[arg(long)]
    dlq: Option<bool>,
    /// Only this subscription, by id.
    #[arg(long)]
    subscription: Option<SubscriptionId>,
    /// Only those whose last call got no response for this reason: `dns`, `connect`, `tls`,
    /// `timeout`, `reset`, `protocol`, `blocked`, `auth` or `internal`.
    #[arg(long, value_name = "CLASS", value_parser = parse_error_class)]
    error_class: Option<ErrorClass>,
    /// Only those whose last call took at least so long, in milliseconds.
    #[arg(long, value_name = "MS")]
    min_duration_ms: Option<u64>,
    /// Only this message.
    #[arg(long)]
    message: Option<MessageId>,
    #[command(flatten)]
    period: PeriodArgs,
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Go on where the page before ended: with what it gave as `More`, or with `--output json`
    /// as a last line `{"nextCursor": …}`, which the last page lacks.
    #[arg(long)]
    cursor: Option<Cursor>,
    /// Every page, one after the other.
    #[arg(long, conflicts_with = "cursor")]
    all: bool,
}

/// When the first call of a delivery began.
#[derive(Debug, Args)]
struct PeriodArgs {
    /// Only those of the last 30min, 12h or 7d, or any other number of minutes, hours or days.
    #[arg(long, visible_alias = "since", value_name = "PERIOD", value_parser = parse_period)]
    #[arg(conflicts_with_all = ["from", "to"])]
    last: Option<Duration>,
    /// Only those from this time on (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only those before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
}

impl PeriodArgs {
    fn from(&self, now: Timestamp) -> Option<Timestamp> {
        self.last.map(|last| now.minus(last)).or(self.from)
    }
}

fn parse_period(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let minutes = match unit.trim_start() {
        "m" | "min" => 1,
        "h" => 60,
        "d" | "day" | "days" => 24 * 60,
        _ => 0,
    };
    let count: u64 = count.parse().unwrap_or(0);
    match count.checked_mul(minutes * 60) {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a number and min, h or d, such as 30min, 12h or 7d".to_owned()),
    }
}

fn parse_error_class(text: &str) -> Result<ErrorClass, String> {
    let mut classes = ErrorClass::ALL.into_iter();
    classes.find(|class| class.as_str() == text).ok_or_else(|| {
        let names = ErrorClass::ALL.map(ErrorClass::as_str);
        format!("expected one of {}", names.join(", "))
    })
}

fn parse_outcome(text: &str) -> Result<DeliveryOutcome, String> {
    let mut outcomes = DeliveryOutcome::ALL.into_iter();
    outcomes
        .find(|outcome| outcome.as_str() == text)
        .ok_or_else(|| {
            let names = DeliveryOutcome::ALL.map(DeliveryOutcome::as_str);
            format!("expected one of {}", names.join(", "))
        })
}

pub(super) fn run(args: LogsArgs, output: &mut Output) -> Result<(), CliError> {
    match args.command {
        Some(LogsCommand::Show { data, delivery }) => show(&data, delivery, output),
        Some(LogsCommand::List(list_args)) => list(list_args, output),
        None => list(args.list, output),
    }
}

fn list(args: ListArgs, output: &mut Output) -> Result<(), CliError> {
    let data = args.data.open()?;
    let subscriptions = data.view(Subscriptions)?;
    let api = find_api(&subscriptions, args.api.as_deref())?;
    let deliveries = data.view(Deliveries)?;
    let mut query = DeliveryQuery {
        api,
        filter: DeliveryFilter {
            status: args.status,
            callback_url: args.callback_url,
            application: args.application,
            subscription: args.subscription,
            from: args.period.from(data.clock.now()),
            to: args.period.to,
            sent_to_dlq: args.dlq,
            outcome: args.outcome,
            error_class: args.error_class,
            min_duration: args.min_duration_ms.map(Duration::from_millis),
            message: args.message,
        },
        cursor: args.cursor,
        limit: args.limit.into(),
    };
    loop {
        let page = deliveries.list(&query)?;
        if let (true, Some(next)) = (page.deliveries.is_empty(), &page.next) {
            query.cursor = Some(next.clone());
            continue;
        }
        if output.is_json() {
            for row in &page.deliveries {
                output.json(row)?;
            }
        } else {
            let names = |id| {
                let found = subscriptions.application(id)?;
                Ok(found.map_or_else(|| id.to_string(), |row| row.application.name))
            };
            output.table(&table_of(&page.deliveries, names)?, "No delivery matches.")?;
        }
        match page.next {
            Some(next) if args.all => query.cursor = Some(next),
            Some(next) if output.is_json() => {
                output.json(&json!({ "nextCursor": next }))?;
                break;
            }
            Some(next) => {
                output.line(format!("More: --cursor {next}"))?;
                break;
            }
            None => break,
        }
    }
    Ok(output.flush()?)
}

/// The API that is meant: by id, by name, or the only one.
fn find_api(subscriptions: &View<Subscriptions>, wanted: Option<&str>) -> Result<ApiId, CliError> {
    let apis = subscriptions.apis()?;
    let names = || {
        let names: Vec<_> = apis
            .iter()
            .map(|row| format!("{:?}", row.api.name))
            .collect();
        names.join(", ")
    };
    let found = match wanted {
        Some(wanted) => apis
            .iter()
            .find(|row| row.api.name == wanted || row.api.id.to_string() == wanted)
            .ok_or_else(|| {
                CliError::usage(format!(
                    "there is no API {wanted:?}; there are: {}",
                    names()
                ))
            })?,
        None => match apis.as_slice() {
            [] => return Err(CliError::failure("the data directory holds no API")),
            [only] => only,
            _ => return Err(CliError::usage(format!("name one with --api: {}", names()))),
        },
    };
    Ok(found.api.id)
}

/// The list as a table, with the columns of the console.
pub(super) fn table_of(
    rows: &[DeliveryRow],
    name_of: impl Fn(ApplicationId) -> Result<String, CliError>,
) -> Result<Rows, CliError> {
    let head = [
        "Timestamp",
        "Status",
        "Callback URL",
        "Application",
        "Attempts",
        "Duration",
        "Outcome",
        "Sent to DLQ",
        "Delivery",
    ];
    let mut table = Rows::new(head)
        .numbers([1, 4, 5])
        .tone(1, Tone::of_status)
        .tone(6, tone_of_outcome);
    for row in rows {
        table.push([
            row.started_at.to_string(),
            row.status.to_string(),
            row.callback_url
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            name_of(row.application)?,
            row.attempts.to_string(),
            duration(row.last_duration()),
            row.outcome.as_str().to_owned(),
            if row.is_sent_to_dlq() { "yes" } else { "no" }.to_owned(),
            row.id.to_string(),
        ]);
    }
    Ok(table)
}

fn tone_of_outcome(outcome: &str) -> Option<Tone> {
    Some(match parse_outcome(outcome).ok()? {
        DeliveryOutcome::Delivered => Tone::Good,
        DeliveryOutcome::Retrying => Tone::Open,
        DeliveryOutcome::DeadLettered | DeliveryOutcome::Discarded => Tone::Bad,
    })
}

fn show(data: &DataArgs, id: DeliveryId, output: &mut Output) -> Result<(), CliError> {
    let data: Data = data.open()?;
    let detail = data.view(Deliveries)?.detail(id)?;
    let detail = detail.ok_or_else(|| {
        CliError::failure(format!("there is no delivery {id} in the webhook log"))
    })?;
    if output.is_json() {
        output.json(&detail)?;
    } else {
        describe(&detail, output)?;
    }
    Ok(output.flush()?)
}

fn describe(detail: &DeliveryDetail, output: &mut Output) -> Result<(), CliError> {
    let row = &detail.delivery;
    output.line(format!("Delivery {}: {}", row.id, row.outcome.as_str()))?;
    output.line(format!(
        "Message  {}, position {}",
        row.message.id, row.message.position
    ))?;
    match &detail.request {
        Some(request) => output.line(format!(
            "Request  {} {} {}",
            request.date,
            request.method.as_str(),
            request.callback_url
        ))?,
        None => output.line("Request  No call is on record.")?,
    }
    if let Some(response) = &detail.response {
        let took = duration(Duration::from_micros(u64::from(response.duration_us)));
        output.line(format!("Response status {}, {took}", response.status))?;
    }
    let error = match &detail.response {
        Some(response) => reason(response.status, detail.error.as_ref()),
        None => detail
            .error
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    };
    if !error.is_empty() {
        output.line(format!("Error    {error}"))?;
    }
    match &detail.dlq {
        Some(dlq) => output.line(format!("DLQ      {}", sent_to_dlq(dlq)))?,
        None => output.line("DLQ      not sent")?,
    }
    let mut table = Rows::new(["Attempt", "Status", "Began", "Waited", "Duration", "Reason"])
        .numbers([0, 1, 3, 4])
        .tone(1, Tone::of_status);
    for attempt in &detail.attempts {
        let took = Duration::from_micros(u64::from(attempt.timings.total_us));
        let waited = attempt.waited_ms.map(Duration::from_millis);
        table.push([
            attempt.number.to_string(),
            attempt.status.to_string(),
            attempt.started_at.to_string(),
            waited.map_or_else(String::new, duration),
            duration(took),
            reason(attempt.status, attempt.error.as_ref()),
        ]);
    }
    output.table(&table, "No attempt is on record.")?;
    if let (Some(request), Some(response)) = (&detail.request, &detail.response) {
        logged("request", &request.logged, output)?;
        logged("response", &response.logged, output)?;
    }
    let positions: Vec<_> = detail.events.iter().map(ToString::to_string).collect();
    output.line(format!("Events   {}", positions.join(", ")))?;
    Ok(())
}

/// Why a call failed; nothing when it did not.
fn reason(status: u16, error: Option<&AttemptError>) -> String {
    match (error, status) {
        (Some(error), _) => error.to_string(),
        (None, 0 | 200..=299) => String::new(),
        (None, status) => format!("status {status}"),
    }
}

/// When, where, why, and whether it got there.
fn sent_to_dlq(dlq: &DlqEntry) -> String {
    let place = match &dlq.target {
        DeadLetterQueue::Embedded | DeadLetterQueue::None => "kept in the log".to_owned(),
        DeadLetterQueue::Api { api } => format!("to API {api}"),
        DeadLetterQueue::Http { url } => format!("to {url}"),
    };
    let arrived = match (&dlq.forwarded_at, &dlq.forward_error) {
        (Some(at), _) => format!("; arrived {at}"),
        (None, Some(error)) => format!("; not arrived: {error}"),
        (None, None) => String::new(),
    };
    let fault = match dlq.fault {
        Fault::Receiver => "receiver's fault",
        Fault::System => "system's fault",
    };
    format!(
        "sent {}, {place}: {} ({fault}){arrived}",
        dlq.at, dlq.reason
    )
}

fn logged(side: &str, part: &CapturedPart, output: &mut Output) -> Result<(), CliError> {
    match &part.headers {
        None => output.line(format!("No {side} headers captured."))?,
        Some(headers) => {
            output.line(format!("The {side} headers:"))?;
            for header in headers {
                output.line(format!("  {}: {}", header.name, header.value))?;
            }
        }
    }
    match &part.body {
        None => output.line(format!("No {side} body captured."))?,
        Some(body) => {
            output.line(format!(
                "The {side} body, {} bytes{}:",
                body.size,
                cut_note(body)
            ))?;
            output.line(body.text().map_or("  (binary)", |text| text))?;
        }
    }
    Ok(())
}

fn cut_note(body: &CapturedBody) -> String {
    if body.truncated {
        format!(", the first {} kept", body.bytes.len())
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_and_a_unit() {
        let minutes = |text: &str| parse_period(text).map(|period| period.as_secs() / 60);
        assert_eq!(minutes("5min"), Ok(5));
        assert_eq!(minutes("30 m"), Ok(30));
        assert_eq!(minutes("12h"), Ok(720));
        assert_eq!(minutes("3 days"), Ok(3 * 1_440));
        for text in ["", "h", "0h", "5", "-1h", "5s", "99999999999999999999d"] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }
}
