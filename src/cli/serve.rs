//! `hooklog serve`: the gateway.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CliError, Output,
    config::{Config, ConfigArgs},
};
use crate::{
    http::{Gateway, Server},
    model::{Role, Token},
    runtime::{Handle, Runtime, TokenSecret},
};

/// How long calls may take to end when the gateway is stopped.
const DRAIN: Duration = Duration::from_secs(8);

/// Longest wait for the tokens of a large log to be known, when their rows are built again.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &ServeArgs, output: &mut Output) -> Result<(), CliError> {
    let config = args.config.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&config, output))
}

async fn serve(config: &Config, output: &mut Output) -> Result<(), CliError> {
    // Bound before anything else is touched: a second gateway on the address changes nothing.
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        CliError::config(format!("cannot listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let mut builder = Runtime::builder(&config.data)
        .log_options(config.log.options())
        .egress(config.egress.guard(vec![address]))
        .capture(config.capture.options())
        .retention(config.retention.policy());
    if let Some(key) = &config.secret_key_file {
        builder = builder.secret_key_file(key);
    }
    if let Some(workers) = config.workers {
        builder = builder.workers(workers);
    }
    let stopped = stop_signal()?;
    let runtime = builder.start().await?;
    let token = first_token(&runtime.handle()).await?;
    let gateway = Gateway::new(runtime.handle()).with_open_metrics(config.metrics.open);
    let gateway = Arc::new(gateway);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let server = Server::listen(gateway, listener, workers)?;
    say(config, address, token.as_ref(), output)?;
    let ended = server.run(stopped).await;
    let report = runtime.shutdown(DRAIN).await;
    if report.unfinished > 0 {
        let count = report.unfinished;
        tracing::warn!(
            count,
            "subscriptions had calls under way; they are made again"
        );
    }
    Ok(ended?)
}

/// Makes the first token of a new data directory.
async fn first_token(handle: &Handle) -> Result<Option<TokenSecret>, CliError> {
    let access = handle.access();
    access.at(handle.log().head(), RECOVERY_MAX).await?;
    if !access.tokens()?.is_empty() {
        return Ok(None);
    }
    let first = Token::named("first admin", Role::Admin);
    let (_, secret) = handle.create_token(first).await?;
    Ok(Some(secret))
}

fn say(
    config: &Config,
    address: SocketAddr,
    token: Option<&TokenSecret>,
    output: &mut Output,
) -> Result<(), CliError> {
    let url = format!("http://{address}");
    if output.is_json() {
        let token = token.map(TokenSecret::reveal);
        output.json(&json!({"url": url, "data": config.data, "token": token}))?;
    } else {
        output.line(format!("hooklog {}", env!("CARGO_PKG_VERSION")))?;
        output.line(format!("data     {}", config.data.display()))?;
        if let Some(token) = token {
            output.line(format!(
                "token    {}  (an admin's, shown this once)",
                token.reveal()
            ))?;
        }
        output.line(format!("serving  {url}"))?;
    }
    Ok(output.flush()?)
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, CliError> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
