//! A whole runtime under a test's control: its clock, its callbacks, its crashes.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{FakeTransport, ManualClock};
use crate::{
    clock::SharedClock,
    delivery::Egress,
    log::Durability,
    model::Timestamp,
    projection::Rhythm,
    runtime::{Builder, Handle, Runtime, StartError},
};

/// Where the clock of a test runtime starts: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// A runtime with a manual clock and a fake transport.
///
/// ```
/// use hooklog::{model::{Api, Message, Subscription}, testing::TestRuntime};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let data = tempfile::tempdir()?;
/// let test = TestRuntime::start(data.path(), 1).await?;
/// let api = test.handle().create_api(Api::named("orders")).await?;
/// test.handle().subscribe(api.id, Subscription::to("https://example.com/")?).await?;
/// test.handle().publish(api.id, Message::text("hello")).await?;
/// test.settle().await;
/// assert_eq!(test.transport().calls().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestRuntime {
    data: PathBuf,
    options: Options,
    runtime: Runtime,
    clock: ManualClock,
    transport: FakeTransport,
}

/// How a test runtime differs from others.
#[derive(Clone)]
struct Options(Arc<dyn Fn(Builder) -> Builder + Send + Sync>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options")
    }
}

impl TestRuntime {
    /// Starts on this directory, entropy drawn from `seed`. Callbacks answer 200 until told
    /// otherwise; any public or loopback URL may be subscribed.
    pub async fn start(data: impl AsRef<Path>, seed: u64) -> Result<Self, StartError> {
        Self::start_with(data, seed, |builder| builder).await
    }

    /// The same with options of the builder, which hold after a crash too.
    pub async fn start_with(
        data: impl AsRef<Path>,
        seed: u64,
        options: impl Fn(Builder) -> Builder + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        Self::start_at(data, ManualClock::at(START, seed), options).await
    }

    /// The same at the time of this clock.
    pub async fn start_at(
        data: impl AsRef<Path>,
        clock: ManualClock,
        options: impl Fn(Builder) -> Builder + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let transport = FakeTransport::new(Arc::new(clock.clone()));
        let options = Options(Arc::new(options));
        Self::open(data.as_ref().to_owned(), options, clock, transport).await
    }

    async fn open(
        data: PathBuf,
        options: Options,
        clock: ManualClock,
        transport: FakeTransport,
    ) -> Result<Self, StartError> {
        let builder = options.0(Self::builder(&data, &clock, &transport));
        Ok(Self {
            runtime: builder.start().await?,
            data,
            options,
            clock,
            transport,
        })
    }

    fn builder(data: &Path, clock: &ManualClock, transport: &FakeTransport) -> Builder {
        let shared: SharedClock = Arc::new(clock.clone());
        Runtime::builder(data)
            .clock(shared)
            .transport(Arc::new(transport.clone()))
            .egress(Egress::loopback())
            .durability(Durability::Flushed)
            .projection_rhythm(Rhythm::IMMEDIATE)
            .workers(2)
    }

    /// What can be done with the runtime.
    pub fn handle(&self) -> Handle {
        self.runtime.handle()
    }

    /// Its clock.
    pub const fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Its callbacks.
    pub const fn transport(&self) -> &FakeTransport {
        &self.transport
    }

    /// Waits until nothing is under way but calls that are held back. No time passes.
    pub async fn settle(&self) {
        let handle = self.handle();
        let mut held = self.transport.watch_held();
        let mut wakings = self.clock.wakings();
        let woken = self.clock.wakings();
        let nudge = async {
            loop {
                tokio::select! {
                    _ = held.changed() => {}
                    _ = wakings.changed() => {}
                }
                handle.nudge();
            }
        };
        let calm = |under_way| under_way == self.transport.held() && *woken.borrow() == 0;
        tokio::select! {
            () = handle.settle_when(calm) => {}
            () = nudge => {}
        }
    }

    /// Lets time pass from one timer to the next, settling in between, until no timer is left or
    /// the next is more than `at_most` from the start. Gives the time that passed.
    pub async fn run_until_idle(&self, at_most: Duration) -> Duration {
        let mut passed = Duration::ZERO;
        loop {
            self.settle().await;
            match self.clock.next_wake() {
                Some(wait) if passed + wait <= at_most => {
                    self.clock.advance(wait);
                    passed += wait;
                }
                _ => return passed,
            }
        }
    }

    /// Kills the runtime in the middle of whatever it does, and starts another on the same
    /// directory, with the same clock and callbacks.
    pub async fn crash_and_reopen(self) -> Result<Self, StartError> {
        let Self {
            data,
            options,
            runtime,
            clock,
            transport,
        } = self;
        let crashed = tokio::task::spawn_blocking(move || runtime.crash()).await;
        if let Err(panic) = crashed {
            std::panic::resume_unwind(panic.into_panic());
        }
        Self::open(data, options, clock, transport).await
    }

    /// Ends it in order.
    pub async fn shutdown(self) {
        self.runtime.shutdown(Duration::from_secs(8)).await;
    }
}
