//! `hooklog demo`: a gateway at work, with real sockets, in one process.

mod callbacks;
mod summary;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use futures_util::{
    FutureExt,
    future::{self, Either},
};
use tokio::sync::oneshot;

pub(super) use self::callbacks::{ANY_PORT, Callbacks};
use self::{
    callbacks::{Temper, url},
    summary::{Figures, Live},
};
use super::{
    CliError, Output,
    data::temporary_directory,
    site::{Site, tokens},
    telemetry::{Telemetry, TracingArgs, TracingConfig},
};
use crate::{
    delivery::Egress,
    http::Gateway,
    log::StreamId,
    model::{
        Api, ApiId, Application, Logging, MockSource, Retry, Source, Subscription, SubscriptionId,
    },
    runtime::{Handle, Runtime},
};

/// The name of the demo's API.
const API: &str = "demo";
/// How often the live summary is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How long calls may take to end when the demo is interrupted.
const DRAIN: Duration = Duration::from_secs(8);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The data directory; a new one under the system's temporary directory when absent. It is
    /// kept, and the demo goes on where it stopped.
    #[arg(long, value_name = "DIR", env = "HOOKLOG_DATA")]
    data: Option<PathBuf>,
    /// End by itself when so many messages were published and each has its fate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Time between two messages, in milliseconds. Default 1 with --messages, else 100.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    interval_ms: Option<u64>,
    /// Where the console and the API are served; 127.0.0.1:8080 when absent, or another port of
    /// 127.0.0.1 where that is taken.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Call callbacks under this URL instead of starting them (see `hooklog receiver`).
    #[arg(long, value_name = "URL", hide = true)]
    callbacks: Option<String>,
    #[command(flatten)]
    tracing: TracingArgs,
}

pub(super) fn run(args: DemoArgs, output: &mut Output) -> Result<(), CliError> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => temporary_directory("hooklog-demo")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let tracing = TracingConfig::default().with(&args.tracing)?;
    let figures = runtime.block_on(async {
        let telemetry = Telemetry::start(&tracing)?;
        let figures = demo(&args, &data, telemetry.is_exporting()).await;
        telemetry.end().await;
        figures
    })?;
    figures.show(&data, output)?;
    if args.messages.is_some() {
        figures.check()
    } else {
        Ok(())
    }
}

async fn demo(args: &DemoArgs, data: &Path, watches_traces: bool) -> Result<Figures, CliError> {
    let own = match &args.callbacks {
        Some(_) => None,
        None => Some(Callbacks::start().await?),
    };
    let base = args
        .callbacks
        .clone()
        .or_else(|| own.as_ref().map(Callbacks::base));
    let base = base.expect("there are callbacks, own ones or others");
    let runtime = Runtime::builder(data)
        .egress(Egress::loopback())
        .start()
        .await?;
    let handle = runtime.handle();
    let gateway = Gateway::new(handle.clone()).with_watched_traces(watches_traces);
    let known = tokens(&handle).await?;
    let site = Site::open(&handle, &known, listener(args.listen)?, gateway).await?;
    let stage = Stage::set(&handle, args, &base).await?;
    let live = Live::new(args.messages, data, &base, site.sign_in.as_deref());
    let (shown_to_the_end, end) = oneshot::channel::<()>();
    let watched = async {
        let figures = stage.played(&handle, args, &live).await;
        drop(shown_to_the_end);
        figures
    };
    let served = site.server.run(end.map(drop));
    let (figures, served) = future::join(watched, served).await;
    live.end();
    runtime.shutdown(DRAIN).await;
    served?;
    figures
}

/// Where the console is shown: on any port of this machine where the usual one is taken.
fn listener(asked: Option<SocketAddr>) -> Result<TcpListener, CliError> {
    let usual = SocketAddr::from(([127, 0, 0, 1], 8080));
    let bound = match asked {
        Some(address) => TcpListener::bind(address),
        None => TcpListener::bind(usual).or_else(|_| TcpListener::bind("127.0.0.1:0")),
    };
    bound.map_err(|error| {
        let address = asked.unwrap_or(usual);
        CliError::config(format!("cannot listen on {address}: {error}"))
    })
}

/// What the demo plays with.
pub(super) struct Stage {
    api: ApiId,
    subscriptions: [(Temper, SubscriptionId); 3],
    clock_started: std::time::Duration,
    clock: crate::clock::SystemClock,
}

impl Stage {
    /// Finds what an earlier demo left in the data directory, and makes what is missing.
    async fn set(handle: &Handle, args: &DemoArgs, base: &str) -> Result<Self, CliError> {
        let known = handle.subscriptions();
        known
            .at(handle.log().head(), Duration::from_secs(60))
            .await?;
        let interval = args
            .interval_ms
            .unwrap_or(if args.messages.is_some() { 1 } else { 100 });
        let found = known
            .apis()?
            .into_iter()
            .map(|row| row.api)
            .find(|api| api.name == API);
        let mut api = found.clone().unwrap_or_else(|| Api::named(API));
        "Made-up messages to three callbacks".clone_into(&mut api.description);
        api.entrypoint.logging = Logging::ALL;
        api.entrypoint.http.read_timeout_ms = 1_000;
        api.entrypoint.retry = Retry {
            initial_delay_seconds: 1,
            max_delay_seconds: 4,
            ..Retry::default()
        };
        // Messages begin once everybody listens.
        api.source = Source::Publish;
        let exists = found.is_some();
        let mut api = if exists {
            handle.update_api(api).await?
        } else {
            handle.create_api(api).await?
        };
        let mut subscriptions = Vec::new();
        for temper in Temper::ALL {
            subscriptions.push((temper, subscription(handle, api.id, temper, base).await?));
        }
        api.source = Source::Mock(MockSource {
            message_interval_ms: interval,
            message_content: r#"{"hello":"from the demo"}"#.to_owned(),
            message_count: args.messages,
            headers: Vec::new(),
        });
        handle.update_api(api.clone()).await?;
        let subscriptions = subscriptions.try_into().expect("one for each temper");
        let clock = crate::clock::SystemClock::new();
        Ok(Self {
            api: api.id,
            subscriptions,
            clock_started: crate::clock::Clock::elapsed(&clock),
            clock,
        })
    }

    /// What came of it, when it ended by itself or was interrupted.
    async fn played(
        &self,
        handle: &Handle,
        args: &DemoArgs,
        live: &Live,
    ) -> Result<Figures, CliError> {
        let interrupted = Box::pin(tokio::signal::ctrl_c());
        match future::select(Box::pin(self.watch(handle, args, live)), interrupted).await {
            Either::Left((figures, _)) => figures,
            Either::Right(_) => self.figures(handle),
        }
    }

    /// Draws the live summary until every message has its fate, or for ever.
    async fn watch(
        &self,
        handle: &Handle,
        args: &DemoArgs,
        live: &Live,
    ) -> Result<Figures, CliError> {
        use crate::clock::Clock;
        loop {
            let figures = self.figures(handle)?;
            live.draw(&figures);
            if args
                .messages
                .is_some_and(|messages| figures.published >= messages)
                && self.pending(handle).await? == 0
            {
                handle.settle().await;
                return self.figures(handle);
            }
            self.clock.sleep(DRAW_EVERY).await;
        }
    }

    async fn pending(&self, handle: &Handle) -> Result<u64, CliError> {
        let mut pending = 0;
        for (_, id) in self.subscriptions {
            pending += handle.inspect(id).await?.pending;
        }
        Ok(pending)
    }

    fn figures(&self, handle: &Handle) -> Result<Figures, CliError> {
        let published = handle
            .log()
            .stream_version(StreamId::messages(self.api))
            .get();
        let elapsed = crate::clock::Clock::elapsed(&self.clock).saturating_sub(self.clock_started);
        Figures::read(handle, published, elapsed, &self.subscriptions)
    }
}

async fn subscription(
    handle: &Handle,
    api: ApiId,
    temper: Temper,
    base: &str,
) -> Result<SubscriptionId, CliError> {
    let url = url(base, temper)?;
    let known = handle.subscriptions();
    let mut existing = known.of_api(api, None, 1_000)?.into_iter();
    let name = temper.as_str();
    if let Some(row) = existing.find(|row| row.application_name.as_deref() == Some(name)) {
        let mut subscription = row.state.definition;
        subscription.configuration.callback_url = Some(url);
        return Ok(handle.update_subscription(subscription).await?.id);
    }
    let found = known.applications()?.into_iter().map(|row| row.application);
    let application = match found
        .into_iter()
        .find(|application| application.name == name)
    {
        Some(application) => application,
        None => handle.create_application(Application::named(name)).await?,
    };
    let subscription = Subscription::to(url.as_str())?.by(application.id);
    Ok(handle.subscribe(api, subscription).await?.id)
}
