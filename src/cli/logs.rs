//! `hooklog logs`: the webhook log, its list and one delivery.

use clap::{Args, Subcommand};

use super::{
    CliError, Output,
    data::{Data, DataArgs},
    output::{Rows, duration},
};
use crate::{
    model::{ApiId, ApplicationId, CallbackUrl, CapturedBody, CapturedPart, DeliveryId, MessageId},
    projection::{
        View,
        deliveries::{
            Cursor, Deliveries, DeliveryDetail, DeliveryFilter, DeliveryOutcome, DeliveryQuery,
            DeliveryRow, StatusFilter,
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
    #[arg(long, value_parser = parse_status)]
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
    /// Only this message.
    #[arg(long)]
    message: Option<MessageId>,
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Go on where the page before ended.
    #[arg(long)]
    cursor: Option<Cursor>,
    /// Every page, one after the other.
    #[arg(long, conflicts_with = "cursor")]
    all: bool,
}

fn parse_status(text: &str) -> Result<StatusFilter, String> {
    if let Some(hundreds) = text.strip_suffix("xx") {
        if let Ok(hundreds @ 1..=5) = hundreds.parse() {
            return Ok(StatusFilter::Class(hundreds));
        }
    } else if let Ok(status @ (0 | 100..=999)) = text.parse() {
        return Ok(StatusFilter::Exact(status));
    }
    Err("expected a status such as 503, a class such as 5xx, or 0 for no response".to_owned())
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
            outcome: args.outcome,
            sent_to_dlq: args.dlq,
            message: args.message,
            ..DeliveryFilter::default()
        },
        cursor: args.cursor,
        limit: args.limit,
    };
    loop {
        let page = deliveries.list(&query)?;
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
            Some(next) if !output.is_json() => {
                output.line(format!("More: --cursor {next}"))?;
                break;
            }
            _ => break,
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
    let mut table = Rows::new(head).numbers([1, 4, 5]);
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
        let took = duration(std::time::Duration::from_micros(u64::from(
            response.duration_us,
        )));
        output.line(format!("Response status {}, {took}", response.status))?;
    }
    if let Some(error) = &detail.error {
        output.line(format!("Error    {error}"))?;
    }
    match &detail.dlq {
        Some(dlq) => {
            output.line(format!(
                "DLQ      sent {}: {} ({:?})",
                dlq.at, dlq.reason, dlq.fault
            ))?;
        }
        None => output.line("DLQ      not sent")?,
    }
    let mut table = Rows::new(["Attempt", "Status", "Began", "Waited", "Duration", "Reason"])
        .numbers([0, 1, 3, 4]);
    for attempt in &detail.attempts {
        let took = std::time::Duration::from_micros(u64::from(attempt.timings.total_us));
        let waited = attempt.waited_ms.map(std::time::Duration::from_millis);
        table.push([
            attempt.number.to_string(),
            attempt.status.to_string(),
            attempt.started_at.to_string(),
            waited.map_or_else(String::new, duration),
            duration(took),
            attempt
                .error
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
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
