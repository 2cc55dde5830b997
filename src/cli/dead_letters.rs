//! `hooklog dead-letters`: what was given up and kept.

use clap::{Args, Subcommand};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    CliError, Output,
    bulk::JobArgs,
    client::{Client, ServerArgs},
    logs::PeriodArgs,
    output::{Rows, Tone},
    paging::{Page, PageArgs},
};
use crate::{
    clock::{Clock, SystemClock},
    model::{
        DeadLetterFilter, DeadLetterReason, DeliveryId, Fault, JobKind, Position, SubscriptionId,
    },
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
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Which dead letters; each flag narrows the answer.
#[derive(Debug, Args)]
struct WhichArgs {
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
}

impl WhichArgs {
    /// The same for a gateway, with names resolved.
    fn filter(&self, client: &Client) -> Result<DeadLetterFilter, CliError> {
        let application = self.application.as_ref();
        let application = application.map(|name| client.application(name));
        let now = SystemClock::new().now();
        Ok(DeadLetterFilter {
            reason: self.reason,
            fault: self.fault,
            subscription: self.subscription,
            application: application.transpose()?,
            from: self.period.from(now),
            to: self.period.to(),
        })
    }
}

#[derive(Debug, Args)]
struct SomeArgs {
    /// The deliveries, by id. Without one, those that the filters hold for.
    delivery: Vec<DeliveryId>,
    /// Every dead letter of the API.
    #[arg(long, conflicts_with = "delivery")]
    all: bool,
    /// Their API, by id or name; may be left out where there is one.
    #[arg(long)]
    api: Option<String>,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    job: JobArgs,
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
        Some(DeadLettersCommand::Redeliver(args)) => some(args, JobKind::Redeliver, output),
        Some(DeadLettersCommand::Discard(args)) => some(args, JobKind::Discard, output),
    }
}

fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.server.client()?;
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    let which = args.which.filter(&client)?;
    let ask = |cursor: Option<&Cursor>, limit: u16| {
        let page: Answered = client
            .get(&["v1", "apis", &api, "dead-letters"])
            .query("reason", which.reason)
            .query("fault", which.fault.map(fault))
            .query("subscription", which.subscription)
            .query("application", which.application)
            .query("from", which.from)
            .query("to", which.to)
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

/// Redelivers or discards: one delivery at once, several or what a filter holds for in a job.
fn some(args: &SomeArgs, kind: JobKind, output: &mut Output) -> Result<(), CliError> {
    let client = args.server.client()?;
    let which = args.which.filter(&client)?;
    let is_filtered = which != DeadLetterFilter::default();
    let selection = match args.delivery.as_slice() {
        [] if args.all || is_filtered => json!({"filter": which}),
        [] => {
            return Err(CliError::usage(
                "say which dead letters: name deliveries, narrow them down with --reason, --last \
                 or another filter, or take --all of them",
            ));
        }
        _ if is_filtered => {
            return Err(CliError::usage(
                "deliveries that are named are taken as they are; leave out the filters, or the \
                 deliveries",
            ));
        }
        [one] if args.job.is_plain() => return single(args, &client, *one, kind, output),
        several => json!({"deliveries": several}),
    };
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    let step = match kind {
        JobKind::Redeliver => "_redeliver",
        JobKind::Discard => "_discard",
    };
    let path = ["v1", "apis", &api, "dead-letters", step];
    args.job.run(&client, &path, selection, output)
}

fn single(
    args: &SomeArgs,
    client: &Client,
    delivery: DeliveryId,
    kind: JobKind,
    output: &mut Output,
) -> Result<(), CliError> {
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    let id = delivery.to_string();
    let (ask, what) = match kind {
        JobKind::Redeliver => {
            let ask = client.post(&["v1", "apis", &api, "logs", &id, "_redeliver"]);
            (ask, "is delivered again")
        }
        JobKind::Discard => {
            let ask = client.delete(&["v1", "apis", &api, "dead-letters", &id]);
            (ask, "is discarded")
        }
    };
    let Done { position } = ask.send()?.parse()?;
    if output.is_json() {
        output.json(&json!({"id": id, "position": position}))?;
    } else {
        output.line(format!("{id} {what}, as position {position} says"))?;
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
