//! `hooklog explain`: why a message stands where it stands with a subscription.

use clap::Args;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    CliError, Output,
    client::{Ask, Client},
    output::Rows,
    place::PlaceArgs,
};
use crate::model::{MessageRef, Position, SubscriptionId, Timestamp};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// A delivery of the webhook log, by its id; or, before a subscription, a message.
    #[arg(value_name = "DELIVERY|MESSAGE")]
    id: Uuid,
    /// The subscription, where the first id is a message's: also one that has no log entry.
    subscription: Option<SubscriptionId>,
    /// The API of the delivery, by id or name; may be left out where there is one.
    #[arg(long, conflicts_with = "subscription")]
    api: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    message: MessageRef,
    subscription: SubscriptionId,
    standing: String,
    because: String,
    steps: Vec<Step>,
    is_cut: bool,
}

#[derive(Deserialize)]
struct Step {
    position: Position,
    at: Timestamp,
    #[serde(rename = "type")]
    event_type: String,
    text: String,
}

pub(super) fn run(args: &ExplainArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args
        .place
        .gateway("what a message waits for is known to a gateway that runs alone")?;
    let answer = ask(args, &client)?.send()?;
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        describe(&answer.parse()?, output)?;
    }
    Ok(output.flush()?)
}

fn ask<'a>(args: &ExplainArgs, client: &'a Client) -> Result<Ask<'a>, CliError> {
    let id = args.id.to_string();
    let Some(subscription) = args.subscription else {
        let api = client.api_or_only(args.api.as_deref())?.to_string();
        return Ok(client.get(&["v1", "apis", &api, "logs", &id, "explain"]));
    };
    let of = subscription.to_string();
    Ok(client.get(&["v1", "subscriptions", &of, "messages", &id, "explain"]))
}

fn describe(explained: &Explained, output: &mut Output) -> Result<(), CliError> {
    let Explained { message, .. } = explained;
    let standing = explained.standing.replace('_', "-");
    output.line(format!(
        "Message {}, position {}, is {standing} for subscription {}",
        message.id, message.position, explained.subscription
    ))?;
    output.line(format!("Because  {}", explained.because))?;
    let mut table = Rows::new(["Position", "Time", "Type", "What happened"]).numbers([0]);
    for step in &explained.steps {
        table.push([
            step.position.to_string(),
            step.at.to_string(),
            step.event_type.clone(),
            step.text.clone(),
        ]);
    }
    output.table(&table, "No event.")?;
    if explained.is_cut {
        output.line("The subscription has more events than were looked at.")?;
    }
    Ok(())
}
