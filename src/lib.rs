//! A webhook gateway whose every delivery is an event.
//!
//! Messages, calls, retries, dead letters and every change of a setting are events of one log. An
//! actor for each subscription reads messages from the log, calls the callback, and appends what
//! came of it. Everything else that can be seen (the webhook log, counters, dead letters, what
//! there is) is folded from the log, can be thrown away, and comes back the same.
//!
//! So any state is explained by its events, any past moment can be shown again, and a crash loses
//! nothing that was acknowledged.
//!
//! # The road of a message
//! ```text
//!               publish                              fold
//!  your program ──────▶ source ──┐              ┌──▶ deliveries      the webhook log
//!  mock messages ─────▶ source ──┤ append       ├──▶ metrics         counters, histograms, series
//!                                ▼              ├──▶ dead_letters    what was given up and kept
//!                       ┌─────────────────┐     ├──▶ subscriptions   what there is, and its health
//!                       │    EVENT LOG    │─────┤
//!                       └─────────────────┘     └──▶ your own Projection
//!                          ▲           │
//!                  outcome │           │ messages after its cursor
//!                       ┌──┴───────────▼──┐
//!                       │  subscription   │  one actor each
//!                       └────────┬────────┘
//!                                ▼ delivery: one HTTP call
//!                             callback
//! ```
//! One direction and one writer. Sources and actors append; actors and projections read. Whoever
//! is woken is told nothing but that there is something to read, and reads on after its own
//! position: there is no seam between catching up and following.
//!
//! # Embedding it
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use hooklog::{Api, Message, Runtime, Subscription, model::DeliveryId};
//! # use futures_util::future::{BoxFuture, ready};
//! # use hooklog::{clock::{Clock, SystemClock}, delivery::{AttemptRequest, Transport}};
//! # use hooklog::model::{AttemptReport, AttemptResult, Timings};
//! # struct InProcess;
//! # impl Transport for InProcess {
//! #     fn send(&self, _: AttemptRequest) -> BoxFuture<'static, AttemptReport> {
//! #         Box::pin(ready(AttemptReport {
//! #             started_at: SystemClock::new().now(),
//! #             timings: Timings::default(),
//! #             result: AttemptResult::Responded { status: 200, retry_after: None },
//! #             captured: None,
//! #         }))
//! #     }
//! #     fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
//! #         self
//! #     }
//! # }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let data = directory.path();
//! // Without a transport of one's own, calls are made over HTTP.
//! let transport = Arc::new(InProcess);
//! let runtime = Runtime::builder(data).transport(transport).start().await?;
//! let handle = runtime.handle(); // cheap to clone, Send and Sync
//!
//! let api = handle.create_api(Api::named("orders")).await?;
//! let hook = Subscription::to("https://consumer.example.com/hook")?;
//! let hook = handle.subscribe(api.id, hook).await?;
//!
//! // Durable when it returns.
//! let receipt = handle.publish(api.id, Message::json("order 17 is paid")?).await?;
//!
//! handle.settle().await;
//! let delivery = DeliveryId::of(receipt.id(), hook.id);
//! let row = handle.deliveries().delivery(delivery)?.expect("it was made");
//! assert_eq!((row.outcome.as_str(), row.status), ("delivered", 200));
//!
//! runtime.shutdown(Duration::from_secs(8)).await;
//! # Ok(())
//! # }
//! ```
//! What an embedder may bring along: a [`Projection`](projection::Projection), a
//! [`Transport`](delivery::Transport), a [`Clock`](clock::Clock), an
//! [`Upcaster`](log::Upcaster) for events of an older form. The log also opens
//! [alone, for reading](log::EventLog::open_read_only), and [`replay`](projection::replay()) shows
//! the views as they were at any position or time. `examples/` holds short programs: a gateway
//! embedded, a projection, a transport, a replay.
//!
//! # What it promises
//! Tests cite these by number.
//!
//! - **G1** Positions count the events of the log from 1, in the order of their commits, without a
//!   gap but where a person [gave up](runtime::repair) what was damaged. Versions count the events of
//!   one stream in the same way, without any.
//! - **G2** An append is in the log whole or not at all. When it returns, it survives what the
//!   configured [`Durability`](log::Durability) names: by default, loss of power. An append whose
//!   fate is not known is answered with an error that says so.
//! - **G3** A subscription has at most one live actor, and that carries out one command at a time.
//! - **G4** Readers see positions in order: none before all lower ones, and none that is less
//!   durable than configured.
//! - **G5** A feed gives each position after its start once, in order. A reader goes on with
//!   [`FeedStart::After`](log::FeedStart::After) the last position it has; a feed that filters
//!   tells how far it has read all the same.
//! - **G6** The rows of a projection and its position in the log change in one step. Built again
//!   from the same log, the rows are equal byte for byte.
//! - **G7** Recovery, replay and rebuilding read and fold: they call nobody.
//! - **G8** For each subscription it is for, a message ends in exactly one of delivered,
//!   dead-lettered and discarded, or it is visibly pending; [`redeliver`](Handle::redeliver) opens
//!   it again. One that is not for a subscription is on record as filtered, and so is one that
//!   can never be read again, because retention cut it or its place is damaged; the record says
//!   [why](model::FilterReason). Each step is an event of the subscription's stream.
//! - **G9** Delivery is at least once. Every call with a message carries the same `webhook-id`.
//!   After a crash a message may be sent twice: of each subscription, at most those in flight and
//!   those whose outcome was not yet durable, of which there are never more than
//!   [256](subscription::OUTCOMES_NOT_DURABLE_MAX) when a call begins. Under
//!   [`AT_MOST_ONCE`](model::Qos::AtMostOnce) those in flight are discarded instead, on record.
//! - **G10** After a sync that failed nothing is acknowledged until the log is opened again.
//! - **G11** Damage is found by checksums and a chain of hashes, named by its
//!   [range of positions](log::EventLog::quarantined), and never served as events. Other ranges
//!   stay readable. A log whose end cannot be read takes no append until it is
//!   [repaired](runtime::repair).
//! - **G12** A slow, failing or hostile callback costs its own subscription alone: its calls are
//!   few at a time, short in time, and little is read of what it answers.
//!
//! # The rooms
//! Each imports only rooms above it in this list, and fewer than that: `tests/it/walls.rs` names
//! the pairs and fails when another appears.
//!
//! | room | what lives there |
//! |---|---|
//! | [`model`] | plain data with its validation, and the events |
//! | [`clock`] | the one place that reads clocks and draws random numbers |
//! | [`activity`] | counts work under way, so that "nothing is going on" can be waited for |
//! | [`log`] | the event log; its bytes are described in `src/log/FORMAT.md` |
//! | [`vault`] | secrets at rest |
//! | [`filter`] | which messages a subscription gets, by a condition in CEL |
//! | [`subscription`] | the pure core: what is decided, how state follows, what to do next |
//! | [`delivery`] | one HTTP call: signing, credentials, egress guard, TLS, capture |
//! | [`projection`] | views folded from the log, and the engine that folds them |
//! | [`source`] | where messages come from |
//! | [`actor`] | subscriptions live, on threads of their own |
//! | [`runtime`] | all of it put together: what a program embeds |
//! | `http` | the HTTP interfaces: one table of operations, read by routes, access and description |
//! | `console` | the web console: pages rendered here, styles, a little script |
//! | `gravitee` | import of Gravitee v4 definitions and subscriptions |
//! | `testing` | manual clock, fake transport, test runtime, callbacks, storage that forgets |
//! | `cli` | the `hooklog` command, a file for each command |
//!
//! sled, actix and the HTTP client are each seen in one or two rooms, and no type of theirs shows.
//!
//! # Features
//! - `server` (default): the `hooklog` command, with `cli`, `http`, `gravitee` and `callback`. A program that embeds
//!   the runtime does without: `default-features = false`.
//! - `callback`: callback servers with scripted answers, on loopback, in `testing::callback`.
//! - `otlp`: the command sends spans to a collector of OpenTelemetry.
//! - `testing`: everything else of `testing`, and `callback`.

pub mod activity;
pub mod actor;
#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
#[cfg(feature = "server")]
pub mod console;
pub mod delivery;
pub mod filter;
#[cfg(feature = "server")]
pub mod gravitee;
#[cfg(feature = "server")]
pub mod http;
mod kill_point;
pub mod log;
pub mod model;
#[cfg(feature = "server")]
mod nearest;
pub mod projection;
pub mod runtime;
pub mod source;
pub mod subscription;
#[cfg(any(feature = "testing", feature = "callback"))]
pub mod testing;
pub mod vault;

pub use self::{
    model::{Api, Message, Subscription},
    runtime::{Handle, Runtime},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
