//! `hooklog subscription`: the subscriptions of an API.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    CliError, Output,
    bulk::JobArgs,
    client::{Answer, ServerArgs},
    logs::parse_period,
    output::{Rows, Tone, duration},
};
use crate::{
    clock::{Clock, SystemClock},
    model::{
        ApiId, ApplicationId, AttemptError, ConsumerStatus, DeliveryMode, FailureCause,
        SubscriptionId, SubscriptionStatus, Timestamp, Timings,
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
    /// Send a test message to the callback, once, and tell what came of it. It is no delivery.
    Test(TestArgs),
    /// Send everything since a time again, delivered or not, in a job.
    Redeliver(RedeliverArgs),
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

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The content: JSON, or text. Default: a small object that says that it is a test
    content: Option<String>,
    /// What kind of event it tells of. Default: hooklog.test
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
}

#[derive(Debug, Args)]
struct RedeliverArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Messages that were accepted at or after this time (RFC 3339), or in the last 30min, 12h
    /// or 7d.
    #[arg(long, value_name = "TIME|PERIOD", value_parser = parse_since)]
    since: Since,
    /// Of them, those that were accepted before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    #[command(flatten)]
    job: JobArgs,
}

/// Since when.
#[derive(Debug, Clone, Copy)]
enum Since {
    Time(Timestamp),
    Ago(Duration),
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse() {
        return Ok(Since::Time(time));
    }
    parse_period(text).map(Since::Ago).map_err(|_| {
        "expected a time such as 2026-03-04T05:06:07Z, or a period such as 30min, 12h or 7d"
            .to_owned()
    })
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
    /// Absent while the gateway's view of subscriptions is not up to date.
    #[serde(default)]
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
        SubscriptionCommand::Test(args) => test(args, output),
        SubscriptionCommand::Redeliver(args) => redeliver(args, output),
    }
}

/// What came of a test message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    message: String,
    method: String,
    callback_url: Option<String>,
    status: u16,
    delivered: bool,
    error: Option<AttemptError>,
    timings: Timings,
}

fn test(args: &TestArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.one.server.client()?;
    let id = args.one.subscription.to_string();
    let content = args.content.as_ref();
    let content = content.map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
    let asked: Map<String, Value> = [
        ("content", content),
        ("type", args.event_type.as_ref().map(|kind| json!(kind))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    let ask = client.post(&["v1", "subscriptions", &id, "_test"]);
    let answer = ask.json(&asked)?.send()?;
    let tested: Tested = answer.parse()?;
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        tested.describe(output)?;
    }
    output.flush()?;
    if tested.delivered {
        Ok(())
    } else {
        Err(CliError::failure("the callback did not take the message"))
    }
}

impl Tested {
    fn describe(&self, output: &mut Output) -> Result<(), CliError> {
        let took = Duration::from_micros(u64::from(self.timings.total_us));
        let url = self.callback_url.as_deref().unwrap_or("(no callback URL)");
        output.line(format!("Message  {}", self.message))?;
        output.line(format!("Request  {} {url}", self.method))?;
        output.line(format!(
            "Response status {}, {}",
            self.status,
            duration(took)
        ))?;
        if let Some(error) = &self.error {
            output.line(format!("Error    {error}"))?;
        }
        Ok(())
    }
}

fn redeliver(args: &RedeliverArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.one.server.client()?;
    let id = args.one.subscription.to_string();
    let since = match args.since {
        Since::Time(time) => time,
        Since::Ago(period) => SystemClock::new().now().minus(period),
    };
    let selection = match args.until {
        Some(until) => json!({"since": since, "until": until}),
        None => json!({"since": since}),
    };
    let path = ["v1", "subscriptions", &id, "_redeliver"];
    args.job.run(&client, &path, selection, output)
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
