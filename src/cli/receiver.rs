//! `hooklog receiver`: a callback to try things out with, in a process of its own.

use std::net::SocketAddr;

use clap::Args;

use super::{
    CliError,
    demo::{ANY_PORT, Callbacks},
    output::clean,
};

#[derive(Debug, Args)]
pub(super) struct ReceiverArgs {
    /// Where to listen. Default: a free port of 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value_t = ANY_PORT, hide_default_value = true)]
    listen: SocketAddr,
    /// The status of every answer but those of /healthy, /flaky and /broken, which are as in the
    /// demo.
    #[arg(long, value_name = "STATUS", default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
}

/// Prints the base URL, serves until standard input ends, and prints a line for each request
/// before it is answered: path, message, attempt.
pub(super) fn run(args: &ReceiverArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let started = Callbacks::start_at(args.listen, args.status, |call| {
            let message = call.header("webhook-id").unwrap_or("-");
            let attempt = call.header("webhook-attempt").unwrap_or("-");
            println!("{}", clean(&format!("{} {message} {attempt}", call.target)));
        });
        let callbacks = started.await.map_err(|error| {
            CliError::failure(format!("cannot listen on {}: {error}", args.listen))
        })?;
        println!("{}", callbacks.base());
        let ended = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        });
        // An error ends it as well as the end does.
        let _ = ended.await;
        Ok(())
    })
}
