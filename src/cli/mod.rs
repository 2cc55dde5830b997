//! The command line: one file per command.
//!
//! Answers go to standard output, everything else (progress, warnings, errors) to standard error.
//! Exit status: 0 done, 1 failed, 2 the command line is wrong, 78 the configuration or the data
//! directory is. What comes from outside is shown without its control characters.

mod config;
mod data;
mod demo;
mod error;
mod events;
mod import;
mod logs;
mod output;
mod receiver;
mod replay;
mod schema;
mod serve;
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
    /// Show the events of a data directory.
    Events(events::EventsArgs),
    /// Take in what another gateway was told.
    Import(import::ImportArgs),
    /// Show the webhook log of a data directory.
    Logs(Box<logs::LogsArgs>),
    /// Show the views of a data directory as they were.
    Replay(replay::ReplayArgs),
    /// Check a data directory: checksums, hash chain, and every view against the log.
    Verify(verify::VerifyArgs),
    /// Compare what happened with what another retry policy would have made of it.
    WhatIf(what_if::WhatIfArgs),
    /// Show the JSON Schemas of definitions and events.
    Schema(schema::SchemaArgs),
    /// Run callbacks like the demo's in a process of their own, with a ledger of what they get.
    #[command(hide = true)]
    Receiver(receiver::ReceiverArgs),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_tracing();
    let mut output = Output::new(cli.output);
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args, &mut output),
        Command::Config(args) => config::run(&args, &mut output),
        Command::Demo(args) => demo::run(args, &mut output),
        Command::Events(args) => events::run(args, &mut output),
        Command::Import(args) => import::run(args, &mut output),
        Command::Logs(args) => logs::run(*args, &mut output),
        Command::Replay(args) => replay::run(&args, &mut output),
        Command::Verify(args) => verify::run(&args, &mut output),
        Command::WhatIf(args) => what_if::run(&args, &mut output),
        Command::Schema(args) => schema::run(&args, &mut output),
        Command::Receiver(args) => receiver::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Warnings go to standard error; `HOOKLOG_LOG` asks for more or less, in the form of
/// `tracing_subscriber`'s filter.
fn init_tracing() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("HOOKLOG_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
