//! `hooklog receiver`: the demo's callbacks in a process of their own.

use clap::Args;

use super::{CliError, demo::Callbacks};

#[derive(Debug, Args)]
pub(super) struct ReceiverArgs {}

/// Prints the base URL of the callbacks, serves them until standard input ends, and prints a line
/// for each request before it is answered: path, message, attempt.
pub(super) fn run(_: ReceiverArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let callbacks = Callbacks::start_with(|call| {
            let message = call.header("webhook-id").unwrap_or("-");
            let attempt = call.header("webhook-attempt").unwrap_or("-");
            println!("{} {message} {attempt}", call.target);
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
