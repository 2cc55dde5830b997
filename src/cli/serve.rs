//! `hooklog serve`: the gateway.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CliError, Output,
    config::{Config, ConfigArgs},
    site::{Site, tokens},
    telemetry::Telemetry,
};
use crate::{
    http::Gateway,
    projection::{ViewError, access::TokenRow},
    runtime::{Handle, Runtime, TokenSecret},
};

/// How long what is under way may take to end when the gateway is stopped, from the signal on:
/// requests, and then calls. Whoever stops it and kills it after 10 s, as is usual, leaves time for
/// what is then written.
const DRAIN: Duration = Duration::from_secs(8);

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
    let served = runtime.block_on(serve(&config, output));
    // A start that was broken off may still be reading.
    runtime.shutdown_background();
    served
}

async fn serve(config: &Config, output: &mut Output) -> Result<(), CliError> {
    // Bound before anything else is touched: a second gateway on the address changes nothing.
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        CliError::config(format!("cannot listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let telemetry = Telemetry::start(&config.tracing)?;
    let served = serve_on(config, listener, address, &telemetry, output).await;
    telemetry.end().await;
    served
}

async fn serve_on(
    config: &Config,
    listener: TcpListener,
    address: SocketAddr,
    telemetry: &Telemetry,
    output: &mut Output,
) -> Result<(), CliError> {
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
    if let Some(calls) = config.calls_max {
        builder = builder.calls_max(calls);
    }
    let stopped = stop_signal()?;
    tokio::pin!(stopped);
    let runtime = tokio::select! {
        started = builder.start() => started?,
        // What it may have begun is made again, as after a crash.
        () = &mut stopped => return Ok(()),
    };
    let gateway = Gateway::new(runtime.handle())
        .with_open_metrics(config.metrics.open)
        .with_watched_traces(telemetry.is_exporting());
    let handle = runtime.handle();
    let known = known_tokens(&handle, &mut stopped).await?;
    let mut stopped_at = None;
    let ended = if let Some(tokens) = known {
        // Not broken off: a token that was made is told.
        let site = Site::open(&handle, &tokens, listener, gateway).await?;
        say(config, &site, output)?;
        let stopped = async {
            stopped.await;
            stopped_at = Some(handle.elapsed());
        };
        site.server.run(stopped).await
    } else {
        Ok(())
    };
    let spent = stopped_at.map_or(Duration::ZERO, |at| handle.elapsed().saturating_sub(at));
    let report = runtime.shutdown(DRAIN.saturating_sub(spent)).await;
    if report.unfinished > 0 {
        let count = report.unfinished;
        tracing::warn!(
            count,
            "subscriptions had calls under way; they are made again"
        );
    }
    Ok(ended?)
}

/// The tokens; none where it is told to end before they are known, which takes long where their rows
/// are built again.
async fn known_tokens(
    handle: &Handle,
    stopped: impl Future<Output = ()>,
) -> Result<Option<Vec<TokenRow>>, ViewError> {
    tokio::select! {
        known = tokens(handle) => known.map(Some),
        () = stopped => Ok(None),
    }
}

fn say(config: &Config, site: &Site, output: &mut Output) -> Result<(), CliError> {
    let Site {
        url,
        token,
        sign_in,
        ..
    } = site;
    if output.is_json() {
        let token = token.as_ref().map(TokenSecret::reveal);
        output
            .json(&json!({"url": url, "data": config.data, "token": token, "console": sign_in}))?;
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
        if let Some(link) = sign_in {
            output.line(format!("console  {link}  (signs in once, within an hour)"))?;
        }
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

#[cfg(test)]
mod tests {
    use std::future;

    use tokio::{task::yield_now, time::timeout};

    use super::*;
    use crate::{
        model::Api,
        testing::{Still, TestRuntime},
    };

    /// Longer than anything here takes, so that what waits for ever is seen to.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_start_that_waits_for_its_tokens_ends_when_it_is_told_to() {
        let data = tempfile::tempdir().unwrap();
        let test = TestRuntime::start(data.path(), 1).await.unwrap();
        let handle = test.handle();
        let still = Still::of(handle.access()).await;
        handle.create_api(Api::named("orders")).await.unwrap();

        // Not before they were asked for.
        let told_to_end = timeout(LONG, known_tokens(&handle, yield_now())).await;
        still.release().await;
        assert_eq!(told_to_end.expect("it ends at once"), Ok(None));
        let not_told = timeout(LONG, known_tokens(&handle, future::pending())).await;
        assert_eq!(
            not_told.expect("they are known again"),
            Ok(Some(Vec::new()))
        );
        test.shutdown().await;
    }
}
