//! `hooklog dead-letters`: what was given up and kept.

use std::fmt::Display;

use clap::{Args, Subcommand};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    CliError, Output,
    client::{Client, ServerArgs},
    logs::PeriodArgs,
    output::{Rows, Tone},
    paging::{Page, PageArgs},
};
use crate::{
    clock::{Clock, SystemClock},
    model::{DeadLetterReason, DeliveryId, Fault, Position, SubscriptionId},
    projection::{dead_letters::DeadLetter, deliveries::Cursor},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List the dead letters of an API, newest first.
    List(ListArgs),
    /// Deliver again: the original bytes and webhook-id, with a fresh budget of attempts.
    Redeliver(SomeArgs),
    /// Give up for good. The deliveries stay in the webhook log.
    Discard(SomeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    /// Only those given up for this reason: `refused`, `attempts_spent`, `deadline_passed`,
    /// `blocked`, `unsendable` or `filter_failed`.
    #[arg(long, value_parser = word::<DeadLetterReason>)]
    reason: Option<DeadLetterReason>,
    /// Only those that the `receiver` is to blame for, or this `system`.
    #[arg(long, value_parser = word::<Fault>)]
    fault: Option<Fault>,
    /// Only this subscription, by id.
    #[arg(long)]
    subscription: Option<SubscriptionId>,
    /// Only this application, by id or name.
    #[arg(long)]
    application: Option<String>,
    #[command(flatten)]
    period: PeriodArgs,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct SomeArgs {
    /// The deliveries, by id.
    #[arg(required = true)]
    delivery: Vec<DeliveryId>,
    /// Their API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// One word of JSON.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

/// A page, as it comes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    dead_letters: Vec<DeadLetter>,
    next: Option<Cursor>,
}

/// It is on record.
#[derive(Deserialize)]
struct Done {
    position: Position,
}

pub(super) fn run(args: &DeadLettersArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        None => list(&args.list, output),
        Some(DeadLettersCommand::List(args)) => list(args, output),
        Some(DeadLettersCommand::Redeliver(args)) => {
            each(args, output, "is delivered again", |client, api, id| {
                let path = ["v1", "apis", api, "logs", id, "_redeliver"];
                client.post(&path).send()?.parse()
            })
        }
        Some(DeadLettersCommand::Discard(args)) => {
            each(args, output, "is discarded", |client, api, id| {
                let path = ["v1", "apis", api, "dead-letters", id];
                client.delete(&path).send()?.parse()
            })
        }
    }
}

fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.server.client()?;
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    let application = args.application.as_ref();
    let application = application
        .map(|name| client.application(name))
        .transpose()?;
    let now = SystemClock::new().now();
    let ask = |cursor: Option<&Cursor>, limit: u16| {
        let page: Answered = client
            .get(&["v1", "apis", &api, "dead-letters"])
            .query("reason", args.reason)
            .query("fault", args.fault.map(fault))
            .query("subscription", args.subscription)
            .query("application", application)
            .query("from", args.period.from(now))
            .query("to", args.period.to())
            .query("cursor", cursor)
            .query("limit", Some(limit))
            .send()?
            .parse()?;
        Ok(Page {
            rows: page.dead_letters,
            next: page.next,
        })
    };
    args.page.show(output, ask, |rows, output| {
        if output.is_json() {
            return Ok(rows.iter().try_for_each(|row| output.json(row))?);
        }
        Ok(output.table(&table_of(rows), "No dead letter matches.")?)
    })
}

/// Does this with each of them. The first that cannot be done ends it.
fn each(
    args: &SomeArgs,
    output: &mut Output,
    what: impl Display,
    step: impl Fn(&Client, &str, &str) -> Result<Done, CliError>,
) -> Result<(), CliError> {
    let client = args.server.client()?;
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    for id in &args.delivery {
        let Done { position } = step(&client, &api, &id.to_string())?;
        if output.is_json() {
            output.json(&serde_json::json!({"id": id, "position": position}))?;
        } else {
            output.line(format!("{id} {what}, as position {position} says"))?;
        }
    }
    Ok(output.flush()?)
}

const fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Receiver => "receiver",
        Fault::System => "system",
    }
}

/// Dead letters as a table.
pub(super) fn table_of(rows: &[DeadLetter]) -> Rows {
    let head = [
        "Position",
        "Given up",
        "Reason",
        "Status",
        "Attempts",
        "Redelivering",
        "Message",
        "Subscription",
        "Delivery",
    ];
    let mut table = Rows::new(head).numbers([0, 3, 4]).tone(3, Tone::of_status);
    for row in rows {
        table.push([
            row.position.to_string(),
            row.at.to_string(),
            row.reason.to_string(),
            row.status.to_string(),
            row.attempts.to_string(),
            if row.redelivering { "yes" } else { "no" }.to_owned(),
            row.message.id.to_string(),
            row.subscription.to_string(),
            row.delivery.to_string(),
        ]);
    }
    table
}
