//! `hooklog logs`: the webhook log, its list and one delivery.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CliError, Output,
    client::{Ask, Client},
    data::Data,
    named,
    output::{Rows, Tone, duration},
    paging::{Page, PageArgs},
    place::{Place, PlaceArgs},
};
use crate::{
    clock::{Clock, SystemClock},
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

/// Deliveries that a tail begins with.
const TAIL_ROWS: usize = 10;
/// Most deliveries that a tail asks for at once.
const TAIL_PAGE: usize = 1_000;

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
    Show(ShowArgs),
    /// Show deliveries as they enter the webhook log, a line each.
    Tail(TailArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Its API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    /// The delivery's id.
    delivery: DeliveryId,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    period: PeriodArgs,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only this API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    /// Only this status (`503`), class (`5xx`) or `0` for no response; may be repeated.
    #[arg(long, value_parser = parse_status)]
    status: Vec<StatusText>,
    /// Only calls to this URL.
    #[arg(long, value_name = "URL")]
    callback_url: Option<CallbackUrl>,
    /// Only this application, by id or name.
    #[arg(long)]
    application: Option<String>,
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
}

/// A status filter as it was written, known to be one.
#[derive(Debug, Clone)]
struct StatusText {
    text: String,
    filter: StatusFilter,
}

fn parse_status(text: &str) -> Result<StatusText, String> {
    let filter = text
        .parse()
        .map_err(|invalid: crate::model::Invalid| invalid.to_string())?;
    Ok(StatusText {
        text: text.to_owned(),
        filter,
    })
}

/// When the first call of a delivery began, or a dead letter was given up.
#[derive(Debug, Clone, Args)]
pub(super) struct PeriodArgs {
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
    /// Its beginning, if it has one.
    pub(super) fn from(&self, now: Timestamp) -> Option<Timestamp> {
        self.last.map(|last| now.minus(last)).or(self.from)
    }

    /// Its end, if it has one.
    pub(super) const fn to(&self) -> Option<Timestamp> {
        self.to
    }
}

pub(super) fn parse_period(text: &str) -> Result<Duration, String> {
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

pub(super) fn run(args: &LogsArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        Some(LogsCommand::Show(args)) => show(args, output),
        Some(LogsCommand::List(args)) => list(args, output),
        Some(LogsCommand::Tail(args)) => tail(args, output),
        None => list(&args.list, output),
    }
}

impl FilterArgs {
    /// The question to a gateway.
    fn ask<'a>(&self, client: &'a Client, known: &Known) -> Ask<'a> {
        let api = known.api.to_string();
        let statuses: Vec<_> = self.status.iter().map(|status| &*status.text).collect();
        let statuses = Some(statuses.join(",")).filter(|text| !text.is_empty());
        client
            .get(&["v1", "apis", &api, "logs"])
            .query("status", statuses)
            .query("callbackUrl", self.callback_url.as_ref())
            .query("application", known.application)
            .query("subscription", self.subscription)
            .query("dlq", self.dlq)
            .query("outcome", self.outcome.map(DeliveryOutcome::as_str))
            .query("errorClass", self.error_class.map(ErrorClass::as_str))
            .query("minDurationMs", self.min_duration_ms)
            .query("message", self.message.as_ref())
    }

    /// The question to a view.
    fn filter(&self, known: &Known) -> DeliveryFilter {
        DeliveryFilter {
            status: self.status.iter().map(|status| status.filter).collect(),
            callback_url: self.callback_url.clone(),
            application: known.application,
            subscription: self.subscription,
            from: None,
            to: None,
            sent_to_dlq: self.dlq,
            outcome: self.outcome,
            error_class: self.error_class,
            min_duration: self.min_duration_ms.map(Duration::from_millis),
            message: self.message,
        }
    }
}

/// What names stand for, and the names of what rows tell of.
struct Known {
    api: ApiId,
    application: Option<ApplicationId>,
    applications: Vec<(String, ApplicationId)>,
}

impl Known {
    /// Of a gateway.
    fn ask(client: &Client, args: &FilterArgs) -> Result<Self, CliError> {
        let applications = client.applications()?.into_iter();
        let applications = applications.map(|one| (one.name, one.id)).collect();
        Self::of(client.api_or_only(args.api.as_deref())?, applications, args)
    }

    /// Of a data directory.
    fn read(data: &Data, args: &FilterArgs) -> Result<Self, CliError> {
        let view = data.view(Subscriptions)?;
        let rows = view.applications()?.into_iter();
        let applications = rows.map(|row| (row.application.name, row.application.id));
        let api = find_api(&view, args.api.as_deref())?;
        Self::of(api, applications.collect(), args)
    }

    fn of(
        api: ApiId,
        applications: Vec<(String, ApplicationId)>,
        args: &FilterArgs,
    ) -> Result<Self, CliError> {
        let named: Vec<_> = applications
            .iter()
            .map(|(name, id)| (name.as_str(), *id))
            .collect();
        let application = match &args.application {
            None => None,
            // An id that nothing has matches nothing.
            Some(wanted) => Some(match wanted.parse() {
                Ok(id) => id,
                Err(_) => named::find("application", wanted, &named)?,
            }),
        };
        Ok(Self {
            api,
            application,
            applications,
        })
    }

    fn name_of(&self, application: ApplicationId) -> String {
        let mut known = self.applications.iter();
        let found = known.find(|(_, id)| *id == application);
        found.map_or_else(|| application.to_string(), |(name, _)| name.clone())
    }
}

/// The API that is meant: by id, by name, or the only one.
fn find_api(view: &View<Subscriptions>, wanted: Option<&str>) -> Result<ApiId, CliError> {
    let rows = view.apis()?;
    let named = rows.iter().map(|row| (row.api.name.as_str(), row.api.id));
    let named: Vec<_> = named.collect();
    match wanted {
        Some(wanted) => named::find("API", wanted, &named),
        None => named::only(&named),
    }
}

/// A page of a gateway's, as it comes.
#[derive(Deserialize)]
struct Answered {
    deliveries: Vec<DeliveryRow>,
    next: Option<Cursor>,
}

fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let now = SystemClock::new().now();
    let (from, to) = (args.period.from(now), args.period.to());
    match args.place.place()? {
        Place::Server(client) => {
            let known = Known::ask(&client, &args.filter)?;
            let ask = |cursor: Option<&Cursor>, limit: u16| {
                let ask = args.filter.ask(&client, &known);
                let ask = ask.query("from", from).query("to", to);
                let ask = ask.query("cursor", cursor).query("limit", Some(limit));
                let page: Answered = ask.send()?.parse()?;
                Ok(Page {
                    rows: page.deliveries,
                    next: page.next,
                })
            };
            args.page
                .show(output, ask, |rows, output| write(rows, &known, output))
        }
        Place::Data(data) => {
            let data = data.open()?;
            let known = Known::read(&data, &args.filter)?;
            let deliveries = data.view(Deliveries)?;
            let ask = |cursor: Option<&Cursor>, limit: u16| {
                let filter = args.filter.filter(&known);
                let page = deliveries.list(&DeliveryQuery {
                    api: known.api,
                    filter: DeliveryFilter { from, to, ..filter },
                    cursor: cursor.cloned(),
                    limit: limit.into(),
                })?;
                Ok(Page {
                    rows: page.deliveries,
                    next: page.next,
                })
            };
            args.page
                .show(output, ask, |rows, output| write(rows, &known, output))
        }
    }
}

fn write(rows: &[DeliveryRow], known: &Known, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        return Ok(rows.iter().try_for_each(|row| output.json(row))?);
    }
    let table = table_of(rows, |id| Ok(known.name_of(id)))?;
    Ok(output.table(&table, "No delivery matches.")?)
}

fn tail(args: &TailArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args
        .place
        .gateway("nothing is delivered there while no gateway runs")?;
    let known = Known::ask(&client, &args.filter)?;
    let ask = args.filter.ask(&client, &known);
    let first: Answered = ask
        .clone()
        .query("limit", Some(TAIL_ROWS))
        .send()?
        .parse()?;
    // By their first events: ordinals are counted anew when the log is cut.
    let opened = |row: &DeliveryRow| row.events.first();
    let mut after = first.deliveries.first().and_then(opened);
    tell(&first.deliveries, &known, output)?;
    let changes = client.get(&["v1", "projections", "deliveries", "stream"]);
    changes.follow(async |_| {
        let is_new = |row: &DeliveryRow| opened(row) > after;
        let rows = newer(is_new, async |cursor| {
            let page = ask.clone().query("cursor", cursor);
            let page = page.query("limit", Some(TAIL_PAGE)).answer().await?;
            let Answered { deliveries, next } = page.parse()?;
            Ok(Page {
                rows: deliveries,
                next,
            })
        });
        let rows = rows.await?;
        after = rows.first().and_then(opened).or(after);
        tell(&rows, &known, output)
    })
}

/// The new rows of a list that comes newest first: page by page, up to one that ends in old rows
/// or is the last.
async fn newer<T>(
    is_new: impl Fn(&T) -> bool,
    ask: impl AsyncFn(Option<&Cursor>) -> Result<Page<T>, CliError>,
) -> Result<Vec<T>, CliError> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = ask(cursor.as_ref()).await?;
        let is_whole = page.rows.iter().all(&is_new);
        rows.extend(page.rows.into_iter().filter(&is_new));
        match page.next {
            Some(next) if is_whole => cursor = Some(next),
            _ => return Ok(rows),
        }
    }
}

/// Shows rows that come newest first, a line each, oldest first.
fn tell(rows: &[DeliveryRow], known: &Known, output: &mut Output) -> Result<(), CliError> {
    for row in rows.iter().rev() {
        if output.is_json() {
            output.json(row)?;
            continue;
        }
        let url = row.callback_url.as_ref();
        output.line(format!(
            "{} {:>3} {} {} attempt {}, {}: {} {}",
            row.started_at,
            row.status,
            url.map_or_else(String::new, ToString::to_string),
            known.name_of(row.application),
            row.attempts,
            duration(row.last_duration()),
            row.outcome.as_str(),
            row.id,
        ))?;
    }
    Ok(output.flush()?)
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

fn show(args: &ShowArgs, output: &mut Output) -> Result<(), CliError> {
    let id = args.delivery;
    let detail: Box<RawValue> = match args.place.place()? {
        Place::Server(client) => {
            let api = client.api_or_only(args.api.as_deref())?.to_string();
            let path = ["v1", "apis", &api, "logs", &id.to_string()];
            client.get(&path).send()?.raw()?
        }
        Place::Data(data) => {
            let data = data.open()?;
            let api = match &args.api {
                Some(api) => Some(find_api(&data.view(Subscriptions)?, Some(api))?),
                None => None,
            };
            let detail = data.view(Deliveries)?.detail(id)?;
            let detail = detail.filter(|detail| api.is_none_or(|api| detail.delivery.api == api));
            let detail = detail.ok_or_else(|| {
                CliError::failure(format!("there is no delivery {id} in the webhook log"))
            })?;
            serde_json::value::to_raw_value(&detail)?
        }
    };
    if output.is_json() {
        output.json(&detail)?;
    } else {
        describe(&serde_json::from_str(detail.get())?, output)?;
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

    /// The new rows of a list of numbers in pages of three, newest first, above `after`.
    fn newer_than(after: Option<u64>, newest: u64) -> Vec<u64> {
        let rows: Vec<u64> = (1..=newest).rev().collect();
        let page_at = |from: usize| {
            // Well formed is enough: the pages are told apart by how many were asked for.
            let next = (from + 3 < rows.len()).then_some("AQAAAAAAAAAAAAAAAA");
            Page {
                rows: rows.iter().skip(from).take(3).copied().collect(),
                next: next.map(|next| serde_json::from_value(next.into()).unwrap()),
            }
        };
        let asked = std::cell::Cell::new(0);
        let found = newer(
            |row| after.is_none_or(|after| *row > after),
            async |cursor| {
                assert_eq!(cursor.is_some(), asked.get() > 0);
                let page = page_at(asked.get());
                asked.set(asked.get() + 3);
                Ok(page)
            },
        );
        futures_util::FutureExt::now_or_never(found)
            .expect("nothing is waited for")
            .unwrap()
    }

    #[test]
    fn a_burst_of_several_pages_is_shown_whole() {
        let whole: Vec<u64> = (1..=8).rev().collect();
        assert_eq!(newer_than(None, 8), whole, "after an empty list");
        assert_eq!(newer_than(Some(2), 8), whole[..6]);
        assert_eq!(newer_than(Some(8), 8), [0; 0]);
    }

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
