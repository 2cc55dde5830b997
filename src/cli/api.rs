//! `hooklog api`: the APIs of a gateway.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    CliError, Output,
    client::{Answer, ServerArgs},
    input,
    output::{Rows, Tone},
};
use crate::model::{Api, ApiState, CallbackUrl, Logging};

#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    #[command(subcommand)]
    command: ApiCommand,
}

#[derive(Debug, Subcommand)]
enum ApiCommand {
    /// List every API, oldest first.
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Create an API whose messages are published, or the one in a file.
    Create(CreateArgs),
    /// Show the definition of an API.
    Show(OneArgs),
    /// Delete an API that no subscription uses.
    Delete(OneArgs),
    /// Start an API: messages are taken in and delivered.
    Start(OneArgs),
    /// Stop an API: messages are refused, and what was accepted waits.
    Stop(OneArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The API, by id or name.
    api: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name, which no other has.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// Its definition as JSON (see `hooklog schema api`); - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "description", "context_path", "callback_url", "log_calls"])]
    file: Option<PathBuf>,
    /// For people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// The path under which consumers subscribe. Default: made of the name
    #[arg(long, value_name = "PATH")]
    context_path: Option<String>,
    /// Where subscriptions without a callback URL of their own send messages.
    #[arg(long, value_name = "URL")]
    callback_url: Option<CallbackUrl>,
    /// Capture headers and bodies of calls in the webhook log.
    #[arg(long)]
    log_calls: bool,
    /// Asked again with the same key, it is done once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

impl CreateArgs {
    fn definition(&self) -> Result<Api, CliError> {
        if let Some(file) = &self.file {
            return input::definition(file);
        }
        let mut api = Api::named(self.name.clone().unwrap_or_default());
        api.description.clone_from(&self.description);
        if let Some(path) = &self.context_path {
            api.entrypoint.context_path.clone_from(path);
        }
        api.entrypoint.callback_url.clone_from(&self.callback_url);
        if self.log_calls {
            api.entrypoint.logging = Logging::ALL;
        }
        Ok(api)
    }
}

pub(super) fn run(args: &ApiArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        ApiCommand::List { server } => list(server, output),
        ApiCommand::Create(create) => {
            let client = create.server.client()?;
            let ask = client
                .post(&["v1", "apis"])
                .header("idempotency-key", create.idempotency_key.as_deref());
            show(&ask.json(&create.definition()?)?.send()?, output)
        }
        ApiCommand::Show(one) => {
            let client = one.server.client()?;
            let id = client.api(&one.api)?.to_string();
            show(&client.get(&["v1", "apis", &id]).send()?, output)
        }
        ApiCommand::Delete(one) => {
            let client = one.server.client()?;
            let id = client.api(&one.api)?.to_string();
            client.delete(&["v1", "apis", &id]).send()?;
            output.done("deleted", &id)
        }
        ApiCommand::Start(one) => step(one, "_start", output),
        ApiCommand::Stop(one) => step(one, "_stop", output),
    }
}

fn step(one: &OneArgs, step: &str, output: &mut Output) -> Result<(), CliError> {
    let client = one.server.client()?;
    let id = client.api(&one.api)?.to_string();
    show(&client.post(&["v1", "apis", &id, step]).send()?, output)
}

fn list(server: &ServerArgs, output: &mut Output) -> Result<(), CliError> {
    let apis = server.client()?.apis()?;
    if output.is_json() {
        apis.iter().try_for_each(|api| output.json(api))?;
    } else {
        let mut rows = Rows::new(["API", "State", "Context path", "Id"]).tone(1, tone_of_state);
        for api in &apis {
            rows.push([
                api.name.clone(),
                state(api.state).to_owned(),
                api.entrypoint.context_path.clone(),
                api.id.to_string(),
            ]);
        }
        output.table(&rows, "No API.")?;
    }
    Ok(output.flush()?)
}

const fn state(state: ApiState) -> &'static str {
    match state {
        ApiState::Started => "STARTED",
        ApiState::Stopped => "STOPPED",
    }
}

fn tone_of_state(text: &str) -> Option<Tone> {
    match text {
        "STARTED" => Some(Tone::Good),
        "STOPPED" => Some(Tone::Open),
        _ => None,
    }
}

fn show(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        let api: Api = answer.parse()?;
        let entrypoint = &api.entrypoint;
        output.line(format!("API          {}", api.name))?;
        output.line(format!("Id           {}", api.id))?;
        output.line(format!("State        {}", state(api.state)))?;
        output.line(format!("Context path {}", entrypoint.context_path))?;
        if let Some(url) = &entrypoint.callback_url {
            output.line(format!("Callback URL {}", url.redacted()))?;
        }
        let logging = if entrypoint.logging.enabled {
            "on"
        } else {
            "off"
        };
        output.line(format!("Logging      {logging}"))?;
        if !api.description.is_empty() {
            output.line(&api.description)?;
        }
    }
    Ok(output.flush()?)
}
