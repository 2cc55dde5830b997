//! The one place that reads clocks and draws randomness. Everything else is handed a [`Clock`] or
//! a [`Moment`], so tests and replay own time and chance.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::BoxFuture;

use crate::model::{Moment, Timestamp};

/// Time and randomness, as the runtime sees them.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed start. It never runs backwards.
    fn elapsed(&self) -> Duration;

    /// Ends after `duration` of monotonic time. Must be awaited inside a tokio runtime with its
    /// time driver on. Dropping it cancels the wait. Drop it after the work that follows it has
    /// begun: a manual clock counts it until then.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// 128 fresh random bits.
    fn entropy(&self) -> u128;

    /// Now, with fresh entropy.
    fn moment(&self) -> Moment {
        Moment::new(self.now(), self.entropy())
    }
}

/// A clock that many hold.
pub type SharedClock = Arc<dyn Clock>;

/// Random bytes of the system that were not given out yet. Each is given out once; asking for many
/// at a time costs little more than asking for one.
struct Pool {
    bytes: [u8; Self::BYTES],
    given: usize,
}

impl Pool {
    const BYTES: usize = 1_024;

    fn next(&mut self) -> u128 {
        const WIDTH: usize = size_of::<u128>();
        if self.given + WIDTH > self.bytes.len() {
            getrandom::fill(&mut self.bytes).expect("the system's random source works");
            self.given = 0;
        }
        let mut bytes = [0; WIDTH];
        bytes.copy_from_slice(&self.bytes[self.given..self.given + WIDTH]);
        self.given += WIDTH;
        u128::from_ne_bytes(bytes)
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool { bytes: [0; Pool::BYTES], given: Pool::BYTES })
    };
}

/// The machine's clocks and its random numbers.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clock, its monotonic time counting from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place the rule names"
    )]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The machine's clock for many holders.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place the rule names"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn entropy(&self) -> u128 {
        POOL.with_borrow_mut(Pool::next)
    }
}
