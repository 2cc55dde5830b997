//! A clock that stands still until it is told to move.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    model::{Draws, Moment, Timestamp},
};

/// A clock for tests: wall and monotonic time move when told, entropy comes from a seed.
///
/// ```
/// use std::time::Duration;
/// use hooklog::{clock::Clock, model::Timestamp, testing::ManualClock};
/// let clock = ManualClock::at(Timestamp::from_millis(1_000), 7);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.now(), Timestamp::from_millis(2_000));
/// assert_eq!(clock.elapsed(), Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    wall: Timestamp,
    elapsed: Duration,
    draws: Draws,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    sleeper_count: u64,
}

impl ManualClock {
    /// A clock that shows this time and draws its entropy from `seed`.
    pub fn at(wall: Timestamp, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            wall,
            elapsed: Duration::ZERO,
            draws: Moment::new(wall, u128::from(seed)).draws(),
            sleepers: BTreeMap::new(),
            sleeper_count: 0,
        })))
    }

    /// Lets this much time pass, on the wall and monotonically, and wakes who slept until then.
    pub fn advance(&self, duration: Duration) {
        let mut inner = self.lock();
        inner.wall = inner.wall.plus(duration);
        inner.elapsed += duration;
        let past = (inner.elapsed + Duration::from_nanos(1), 0);
        let later = inner.sleepers.split_off(&past);
        for (_, wake) in std::mem::replace(&mut inner.sleepers, later) {
            // A sleeper that was dropped needs no waking.
            let _ = wake.send(());
        }
    }

    /// Sets the wall clock alone, as an operator or a time server would; sleepers sleep on.
    pub fn set_wall(&self, wall: Timestamp) {
        self.lock().wall = wall;
    }

    /// How long until the next sleeper wakes; `None` when nobody sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        let mut inner = self.lock();
        inner.sleepers.retain(|_, wake| !wake.is_closed());
        let elapsed = inner.elapsed;
        inner
            .sleepers
            .keys()
            .next()
            .map(|(at, _)| at.saturating_sub(elapsed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().wall
    }

    fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let mut inner = self.lock();
        if duration.is_zero() {
            return Box::pin(std::future::ready(()));
        }
        inner.sleeper_count += 1;
        let key = (inner.elapsed.saturating_add(duration), inner.sleeper_count);
        inner.sleepers.insert(key, wake);
        Box::pin(async move {
            // The clock is gone only when nobody can advance it any more: then sleep for ever.
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn entropy(&self) -> u128 {
        let mut inner = self.lock();
        u128::from(inner.draws.next_u64()) << 64 | u128::from(inner.draws.next_u64())
    }
}
