//! `hooklog receiver`: the demo's callbacks in a process of their own.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use clap::Args;

use super::{CliError, demo::Callbacks};

#[derive(Debug, Args)]
pub(super) struct ReceiverArgs {
    /// A file that gets one line per request: path, message, attempt.
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
}

/// Prints the base URL of the callbacks and serves them until standard input ends.
pub(super) fn run(args: ReceiverArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ledger = OpenOptions::new()
        .create(true)
        .append(true)
        .open(args.ledger)?;
    let ledger = Mutex::new(ledger);
    runtime.block_on(async {
        let callbacks = Callbacks::start_with(move |call| {
            let message = call.header("webhook-id").unwrap_or("-");
            let attempt = call.header("webhook-attempt").unwrap_or("-");
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writeln!(ledger, "{} {message} {attempt}", call.target) {
                eprintln!("error: the ledger: {error}");
            }
        })
        .await?;
        println!("{}", callbacks.base());
        let ended = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        });
        // An error ends it as well as the end does.
        let _ = ended.await;
        Ok(())
    })
}
