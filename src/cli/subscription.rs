//! `hooklog subscription`: the subscriptions of an API.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CliError, Output,
    client::{Answer, ServerArgs},
    output::{Rows, Tone},
};
use crate::{
    model::{
        ApiId, ApplicationId, ConsumerStatus, DeliveryMode, FailureCause, SubscriptionId,
        SubscriptionStatus,
    },
    projection::subscriptions::SubscriptionHealth,
};

#[derive(Debug, Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    /// List the subscriptions of an API, oldest first.
    List(ListArgs),
    /// Show a subscription, and how it does.
    Show(OneArgs),
    /// Accept a pending subscription.
    Accept(OneArgs),
    /// Let a subscription's messages wait.
    Pause(OneArgs),
    /// Go on after a pause.
    Resume(OneArgs),
    /// Go on after an interruption; what could not be delivered gets a fresh budget.
    ResumeFailure(OneArgs),
    /// End a subscription. What waits for a retry is discarded, on record.
    Close(OneArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The API, by id or name; may be left out where there is one.
    api: Option<String>,
    /// Only those of this application, by id or name.
    #[arg(long)]
    application: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The subscription's id.
    subscription: SubscriptionId,
    #[command(flatten)]
    server: ServerArgs,
}

/// A page of them, as they come.
#[derive(Deserialize)]
struct Page {
    subscriptions: Vec<Box<RawValue>>,
    next: Option<SubscriptionId>,
}

/// What is shown of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: SubscriptionId,
    api: ApiId,
    application: ApplicationId,
    channel: Option<String>,
    filter: Option<String>,
    configuration: Configuration,
    status: SubscriptionStatus,
    consumer_status: ConsumerStatus,
    failure_cause: Option<FailureCause>,
    delivery_mode: DeliveryMode,
    health: SubscriptionHealth,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    callback_url: Option<String>,
}

impl Shown {
    /// Where it stands, the publisher's side before the consumer's.
    fn state(&self) -> String {
        let status = format!("{:?}", self.status).to_uppercase();
        match (self.status, self.consumer_status) {
            (SubscriptionStatus::Accepted, ConsumerStatus::Started) => status,
            (_, consumer) => format!("{status}/{consumer:?}").to_uppercase(),
        }
    }

    const fn circuit(&self) -> &'static str {
        if self.health.circuit.is_some() {
            "open"
        } else {
            "closed"
        }
    }

    fn callback_url(&self) -> String {
        let url = self.configuration.callback_url.clone();
        url.unwrap_or_else(|| "(the entrypoint's)".to_owned())
    }

    fn last_error(&self) -> String {
        let error = self.health.last_error.as_ref().map(ToString::to_string);
        let status = self.health.last_failure_status;
        let status = status.map(|status| format!("status {status}"));
        error.or(status).unwrap_or_default()
    }
}

pub(super) fn run(args: &SubscriptionArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        SubscriptionCommand::List(args) => list(args, output),
        SubscriptionCommand::Show(one) => {
            let client = one.server.client()?;
            let id = one.subscription.to_string();
            show(&client.get(&["v1", "subscriptions", &id]).send()?, output)
        }
        SubscriptionCommand::Accept(one) => step(one, "_accept", output),
        SubscriptionCommand::Pause(one) => step(one, "_pause", output),
        SubscriptionCommand::Resume(one) => step(one, "_resume", output),
        SubscriptionCommand::ResumeFailure(one) => step(one, "_resumeFailure", output),
        SubscriptionCommand::Close(one) => {
            let client = one.server.client()?;
            let id = one.subscription.to_string();
            client.delete(&["v1", "subscriptions", &id]).send()?;
            output.done("closed", &id)
        }
    }
}

fn step(one: &OneArgs, step: &str, output: &mut Output) -> Result<(), CliError> {
    let client = one.server.client()?;
    let id = one.subscription.to_string();
    let answer = client.post(&["v1", "subscriptions", &id, step]).send()?;
    show(&answer, output)
}

fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.server.client()?;
    let api = client.api_or_only(args.api.as_deref())?.to_string();
    let application = args.application.as_ref();
    let application = application
        .map(|name| client.application(name))
        .transpose()?;
    let applications = client.applications()?;
    let mut rows = new_table();
    let mut cursor = None;
    loop {
        let page: Page = client
            .get(&["v1", "apis", &api, "subscriptions"])
            .query("application", application)
            .query("cursor", cursor)
            .query("limit", Some(1_000))
            .send()?
            .parse()?;
        for raw in &page.subscriptions {
            if output.is_json() {
                output.json(raw)?;
                continue;
            }
            let shown: Shown = serde_json::from_str(raw.get())?;
            let named = applications.iter().find(|one| one.id == shown.application);
            let application =
                named.map_or_else(|| shown.application.to_string(), |one| one.name.clone());
            rows.push([
                shown.id.to_string(),
                application,
                shown.state(),
                shown.circuit().to_owned(),
                shown.callback_url(),
                shown.health.delivered.to_string(),
                shown.health.dead_lettered.to_string(),
                shown.last_error(),
            ]);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if !output.is_json() {
        output.table(&rows, "No subscription.")?;
    }
    Ok(output.flush()?)
}

fn new_table() -> Rows {
    let head = [
        "Subscription",
        "Application",
        "Status",
        "Circuit",
        "Callback URL",
        "Delivered",
        "Dead letters",
        "Last error",
    ];
    Rows::new(head)
        .numbers([5, 6])
        .tone(2, tone_of_state)
        .tone(3, |text| (text == "open").then_some(Tone::Bad))
}

fn tone_of_state(text: &str) -> Option<Tone> {
    match text {
        "ACCEPTED" => Some(Tone::Good),
        "CLOSED" | "REJECTED" => None,
        _ if text.ends_with("FAILURE") => Some(Tone::Bad),
        _ => Some(Tone::Open),
    }
}

/// Shows the subscription of an answer.
pub(super) fn show(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&answer.raw()?)?;
        return Ok(output.flush()?);
    }
    let shown: Shown = answer.parse()?;
    let health = &shown.health;
    output.line(format!("Subscription {}", shown.id))?;
    output.line(format!("API          {}", shown.api))?;
    output.line(format!("Application  {}", shown.application))?;
    output.line(format!("Callback URL {}", shown.callback_url()))?;
    output.line(format!("Status       {}", shown.state()))?;
    if let Some(cause) = &shown.failure_cause {
        output.line(format!("Cause        {cause}"))?;
    }
    if let Some(channel) = &shown.channel {
        output.line(format!("Channel      {channel}"))?;
    }
    if let Some(filter) = &shown.filter {
        output.line(format!("Filter       {filter}"))?;
    }
    let mode = format!("{:?}", shown.delivery_mode).to_lowercase();
    output.line(format!("Mode         {mode}"))?;
    output.line(format!("Circuit      {}", shown.circuit()))?;
    output.line(format!(
        "Deliveries   {} delivered, {} dead-lettered, {} discarded, in {} calls",
        health.delivered, health.dead_lettered, health.discarded, health.attempts
    ))?;
    let error = shown.last_error();
    if !error.is_empty() {
        output.line(format!("Last error   {error}"))?;
    }
    Ok(output.flush()?)
}
