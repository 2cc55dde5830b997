//! The command line: one file per command.
//!
//! Answers go to standard output, everything else (progress, warnings, errors) to standard error.
//! Exit status: 0 done, 1 failed, 2 the command line is wrong, 78 the configuration or the data
//! directory is. What comes from outside is shown without its control characters.

mod api;
mod application;
mod bulk;
mod client;
mod completions;
mod config;
mod data;
mod dead_letters;
mod demo;
mod error;
mod events;
mod events_export;
mod events_import;
mod explain;
mod import;
mod input;
mod jobs;
mod logs;
mod named;
mod openapi;
mod output;
mod paging;
mod place;
mod publish;
mod rebuild;
mod receiver;
mod repair;
mod replay;
mod retention;
mod schema;
mod serve;
mod site;
mod sse;
mod subscribe;
mod subscription;
mod telemetry;
mod token;
mod verify;
mod what_if;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{
    error::CliError,
    output::{Format, Output},
};

/// A webhook gateway whose every delivery is an event.
#[derive(Debug, Parser)]
#[command(name = "hooklog", version, about, max_term_width = 100)]
struct Cli {
    /// How answers are written.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "HOOKLOG_OUTPUT"
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway: the HTTP interfaces, and delivery.
    Serve(serve::ServeArgs),
    /// Look at the configuration of a gateway.
    Config(config::ConfigCommandArgs),
    /// Run a gateway with made-up messages and three callbacks of its own: one healthy, one
    /// flaky, one broken.
    Demo(demo::DemoArgs),
    /// The APIs of a gateway.
    Api(api::ApiArgs),
    /// The applications of a gateway: the consumers' identities, and their keys.
    Application(application::ApplicationArgs),
    /// Publish messages.
    Publish(publish::PublishArgs),
    /// Subscribe a callback to an API.
    Subscribe(Box<subscribe::SubscribeArgs>),
    /// The subscriptions of an API.
    Subscription(subscription::SubscriptionArgs),
    /// Show the webhook log.
    Logs(Box<logs::LogsArgs>),
    /// Show dead letters; redeliver or discard them.
    DeadLetters(Box<dead_letters::DeadLettersArgs>),
    /// Explain why a message stands where it stands with a subscription.
    Explain(explain::ExplainArgs),
    /// The jobs of a gateway: many deliveries redelivered or discarded.
    Jobs(jobs::JobsArgs),
    /// Show the events of the log; write them to a file, and make a data directory of one.
    Events(events::EventsArgs),
    /// Take in what another gateway was told.
    Import(import::ImportArgs),
    /// Show the views of a data directory as they were.
    Replay(replay::ReplayArgs),
    /// Check a data directory: checksums, hash chain, and every view against the log.
    Verify(verify::VerifyArgs),
    /// Show what a damaged data directory has lost, and go on without it.
    Repair(repair::RepairArgs),
    /// Compare what happened with what another retry policy would have made of it.
    WhatIf(what_if::WhatIfArgs),
    /// Build the rows of a view again from the log.
    Rebuild(rebuild::RebuildArgs),
    /// Show what of the log is due to go, and let it go.
    Retention(retention::RetentionArgs),
    /// Create, list and revoke tokens.
    Token(token::TokenArgs),
    /// Show the JSON Schemas of definitions and events.
    Schema(schema::SchemaArgs),
    /// Show the `OpenAPI` document of the HTTP interfaces.
    Openapi,
    /// Print what a shell needs to complete command lines.
    Completions(completions::CompletionsArgs),
    /// Run a callback on this machine that shows what it gets, to try things out.
    Receiver(receiver::ReceiverArgs),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A gateway says by its configuration what it tells of its work.
    if !matches!(cli.command, Command::Serve(_) | Command::Demo(_)) {
        telemetry::tell_errors();
    }
    let mut output = Output::new(cli.output);
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args, &mut output),
        Command::Config(args) => config::run(&args, &mut output),
        Command::Demo(args) => demo::run(args, &mut output),
        Command::Api(args) => api::run(&args, &mut output),
        Command::Application(args) => application::run(&args, &mut output),
        Command::Publish(args) => publish::run(&args, &mut output),
        Command::Subscribe(args) => subscribe::run(&args, &mut output),
        Command::Subscription(args) => subscription::run(&args, &mut output),
        Command::Logs(args) => logs::run(&args, &mut output),
        Command::DeadLetters(args) => dead_letters::run(&args, &mut output),
        Command::Explain(args) => explain::run(&args, &mut output),
        Command::Jobs(args) => jobs::run(&args, &mut output),
        Command::Events(args) => events::run(args, &mut output),
        Command::Import(args) => import::run(args, &mut output),
        Command::Replay(args) => replay::run(&args, &mut output),
        Command::Verify(args) => verify::run(&args, &mut output),
        Command::Repair(args) => repair::run(&args, &mut output),
        Command::WhatIf(args) => what_if::run(&args, &mut output),
        Command::Rebuild(args) => rebuild::run(&args, &mut output),
        Command::Retention(args) => retention::run(&args, &mut output),
        Command::Token(args) => token::run(&args, &mut output),
        Command::Schema(args) => schema::run(&args, &mut output),
        Command::Openapi => openapi::run(&mut output),
        Command::Completions(args) => completions::run(&args),
        Command::Receiver(args) => receiver::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
