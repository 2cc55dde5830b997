//! `hooklog replay`: the views as they were.

use clap::Args;
use serde::Serialize;

use super::{
    CliError, Output,
    data::DataArgs,
    logs,
    output::{Rows, Tone},
};
use crate::{
    model::{ApiId, Position, Timestamp},
    projection::{
        ReplayUntil, Replayed,
        dead_letters::{DeadLetter, DeadLetterFilter},
        deliveries::{DeliveryQuery, DeliveryRow},
        metrics::{Counter, Scope, Tally},
        replay,
        subscriptions::{ApiRow, ApplicationRow, SubscriptionRow},
    },
};

/// Rows asked of a view at a time.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Up to and with this position, or the last event at or before this time (RFC 3339).
    /// Default: the end of the log.
    #[arg(long, value_name = "POSITION|TIME", value_parser = parse_until)]
    until: Option<Until>,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Position(Position),
    Time(Timestamp),
}

fn parse_until(text: &str) -> Result<Until, String> {
    if let Ok(position) = text.parse() {
        return Ok(Until::Position(position));
    }
    text.parse().map(Until::Time).map_err(|_| {
        "expected a position such as 1284, or a time such as 2026-03-04T05:06:07Z".to_owned()
    })
}

/// One API's part of the views.
#[derive(Serialize)]
struct ApiPart {
    #[serde(flatten)]
    row: ApiRow,
    counters: Vec<(String, u64)>,
    subscriptions: Vec<SubscriptionRow>,
    deliveries: Vec<DeliveryRow>,
    dead_letters: Vec<DeadLetter>,
}

/// All views at one position.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Views {
    position: Position,
    applications: Vec<ApplicationRow>,
    apis: Vec<ApiPart>,
}

pub(super) fn run(args: &ReplayArgs, output: &mut Output) -> Result<(), CliError> {
    let data = args.data.open()?;
    let until = match args.until {
        None => ReplayUntil::Now,
        Some(Until::Position(position)) => ReplayUntil::Position(position),
        Some(Until::Time(time)) => ReplayUntil::Time(time),
    };
    let views = gather(&replay(data.history(), until, &data.clock)?)?;
    if output.is_json() {
        output.json(&views)?;
    } else {
        describe(&views, output)?;
    }
    Ok(output.flush()?)
}

fn gather(replayed: &Replayed) -> Result<Views, CliError> {
    let mut apis = Vec::new();
    for row in replayed.subscriptions.apis()? {
        let id = row.api.id;
        apis.push(ApiPart {
            counters: counters(&replayed.metrics.totals(Scope::Api(id))?),
            subscriptions: subscriptions(replayed, id)?,
            deliveries: deliveries(replayed, id)?,
            dead_letters: dead_letters(replayed, id)?,
            row,
        });
    }
    let applications = replayed.subscriptions.applications()?;
    Ok(Views {
        position: replayed.position,
        applications,
        apis,
    })
}

fn counters(tally: &Tally) -> Vec<(String, u64)> {
    Counter::ALL
        .into_iter()
        .map(|counter| (format!("{counter:?}"), tally.get(counter)))
        .collect()
}

fn subscriptions(replayed: &Replayed, api: ApiId) -> Result<Vec<SubscriptionRow>, CliError> {
    let mut all: Vec<SubscriptionRow> = Vec::new();
    loop {
        let after = all.last().map(|row| row.state.definition.id);
        let page = replayed.subscriptions.of_api(api, after, PAGE)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn deliveries(replayed: &Replayed, api: ApiId) -> Result<Vec<DeliveryRow>, CliError> {
    let mut query = DeliveryQuery::newest(api, PAGE);
    let mut all = Vec::new();
    loop {
        let page = replayed.deliveries.list(&query)?;
        all.extend(page.deliveries);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(all),
        }
    }
}

fn dead_letters(replayed: &Replayed, api: ApiId) -> Result<Vec<DeadLetter>, CliError> {
    let filter = DeadLetterFilter::default();
    let mut cursor = None;
    let mut all = Vec::new();
    loop {
        let page = replayed
            .dead_letters
            .list(api, &filter, cursor.as_ref(), PAGE)?;
        all.extend(page.dead_letters);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(all),
        }
    }
}

fn describe(views: &Views, output: &mut Output) -> Result<(), CliError> {
    output.line(format!("As of position {}", views.position))?;
    let name_of = |id| {
        let mut applications = views.applications.iter();
        let found = applications.find(|row| row.application.id == id);
        Ok(found.map_or_else(|| id.to_string(), |row| row.application.name.clone()))
    };
    for api in &views.apis {
        output.line(format!("\nAPI {} ({})", api.row.api.name, api.row.api.id))?;
        output.table(&subscription_table(&api.subscriptions), "No subscription.")?;
        output.line(format!("{} deliveries, newest first", api.deliveries.len()))?;
        output.table(&logs::table_of(&api.deliveries, name_of)?, "None.")?;
        output.line(format!("{} dead letters", api.dead_letters.len()))?;
        output.table(&dead_letter_table(&api.dead_letters), "None.")?;
    }
    Ok(())
}

fn subscription_table(rows: &[SubscriptionRow]) -> Rows {
    let head = [
        "Subscription",
        "Application",
        "Status",
        "Attempts",
        "Delivered",
        "Dead letters",
        "Last error",
    ];
    let mut table = Rows::new(head).numbers([3, 4, 5]);
    for row in rows {
        let error = row.health.last_error.as_ref().map(ToString::to_string);
        let status = row
            .health
            .last_failure_status
            .map(|status| format!("status {status}"));
        table.push([
            row.state.definition.id.to_string(),
            row.application_name.clone().unwrap_or_default(),
            format!("{:?}/{:?}", row.state.status, row.state.consumer_status).to_uppercase(),
            row.health.attempts.to_string(),
            row.health.delivered.to_string(),
            row.health.dead_lettered.to_string(),
            error.or(status).unwrap_or_default(),
        ]);
    }
    table
}

fn dead_letter_table(rows: &[DeadLetter]) -> Rows {
    let head = [
        "Position",
        "Given up",
        "Reason",
        "Status",
        "Attempts",
        "Message",
        "Subscription",
    ];
    let mut table = Rows::new(head).numbers([0, 3, 4]).tone(3, Tone::of_status);
    for row in rows {
        table.push([
            row.position.to_string(),
            row.at.to_string(),
            row.reason.to_string(),
            row.status.to_string(),
            row.attempts.to_string(),
            row.message.id.to_string(),
            row.subscription.to_string(),
        ]);
    }
    table
}
