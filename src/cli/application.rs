//! `hooklog application`: the consumers' identities, and their keys.

use clap::{Args, Subcommand};

use super::{
    CliError, Output,
    client::{Answer, ServerArgs},
    output::Rows,
    token,
};
use crate::model::{Application, Role, Timestamp, Token};

#[derive(Debug, Args)]
pub(super) struct ApplicationArgs {
    #[command(subcommand)]
    command: ApplicationCommand,
}

#[derive(Debug, Subcommand)]
enum ApplicationCommand {
    /// List every application, oldest first.
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Create an application.
    Create(CreateArgs),
    /// Show an application.
    Show(OneArgs),
    /// Delete an application that has no subscription.
    Delete(OneArgs),
    /// Make a key with which an application subscribes, and sees its own subscriptions alone.
    Key(KeyArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name.
    name: String,
    /// For people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Asked again with the same key, it is done once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The application, by id, or by a name that no other has.
    application: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct KeyArgs {
    #[command(flatten)]
    one: OneArgs,
    /// What the key is for. Default: key of the application
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// It is refused from this time on (RFC 3339); never when absent.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
}

pub(super) fn run(args: &ApplicationArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        ApplicationCommand::List { server } => list(server, output),
        ApplicationCommand::Create(create) => {
            let application = Application {
                description: create.description.clone(),
                ..Application::named(&create.name)
            };
            let client = create.server.client()?;
            let ask = client
                .post(&["v1", "applications"])
                .header("idempotency-key", create.idempotency_key.as_deref());
            show(&ask.json(&application)?.send()?, output)
        }
        ApplicationCommand::Show(one) => {
            let client = one.server.client()?;
            let id = client.application(&one.application)?.to_string();
            show(&client.get(&["v1", "applications", &id]).send()?, output)
        }
        ApplicationCommand::Delete(one) => {
            let client = one.server.client()?;
            let id = client.application(&one.application)?.to_string();
            client.delete(&["v1", "applications", &id]).send()?;
            output.done("deleted", &id)
        }
        ApplicationCommand::Key(key) => make_key(key, output),
    }
}

fn list(server: &ServerArgs, output: &mut Output) -> Result<(), CliError> {
    let applications = server.client()?.applications()?;
    if output.is_json() {
        applications.iter().try_for_each(|one| output.json(one))?;
    } else {
        let mut rows = Rows::new(["Application", "Description", "Id"]);
        for one in &applications {
            rows.push([
                one.name.clone(),
                one.description.clone(),
                one.id.to_string(),
            ]);
        }
        output.table(&rows, "No application.")?;
    }
    Ok(output.flush()?)
}

fn show(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        let application: Application = answer.parse()?;
        output.line(format!("Application {}", application.name))?;
        output.line(format!("Id          {}", application.id))?;
        if !application.description.is_empty() {
            output.line(&application.description)?;
        }
    }
    Ok(output.flush()?)
}

fn make_key(args: &KeyArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.one.server.client()?;
    let application = client.application(&args.one.application)?;
    let name = args.name.clone();
    let name = name.unwrap_or_else(|| format!("key of {}", args.one.application));
    let token = Token {
        expires_at: args.expires_at,
        ..Token::named(name, Role::Consumer).of(application)
    };
    let answer = client.post(&["v1", "tokens"]).json(&token)?.send()?;
    token::show_new(&answer, output)
}
