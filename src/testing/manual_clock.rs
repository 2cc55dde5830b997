//! A clock that stands still until it is told to move.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

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
#[derive(Clone)]
pub struct ManualClock {
    inner: Arc<Mutex<Inner>>,
    /// Sleepers that were woken and have not gone on yet.
    wakings: Arc<watch::Sender<usize>>,
}

struct Inner {
    wall: Timestamp,
    elapsed: Duration,
    draws: Draws,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<Waking>>,
    sleeper_count: u64,
}

/// Counts a woken sleeper until it has gone on.
struct Waking(Arc<watch::Sender<usize>>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.send_modify(|wakings| *wakings -= 1);
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("ManualClock")
            .field("wall", &inner.wall)
            .field("elapsed", &inner.elapsed)
            .finish_non_exhaustive()
    }
}

/// A sleep. Whoever begins other work after it drops it afterwards, so that a test sees no calm in
/// between.
struct Sleep {
    woken: oneshot::Receiver<Waking>,
    waking: Option<Waking>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.woken).poll(context) {
            Poll::Ready(Ok(waking)) => {
                self.waking = Some(waking);
                Poll::Ready(())
            }
            // The clock is gone, so nobody can advance it any more: sleep for ever.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl ManualClock {
    /// A clock that shows this time and draws its entropy from `seed`.
    pub fn at(wall: Timestamp, seed: u64) -> Self {
        let inner = Inner {
            wall,
            elapsed: Duration::ZERO,
            draws: Moment::new(wall, u128::from(seed)).draws(),
            sleepers: BTreeMap::new(),
            sleeper_count: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            wakings: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Lets this much time pass, on the wall and monotonically, and wakes who slept until then.
    pub fn advance(&self, duration: Duration) {
        let mut inner = self.lock();
        inner.wall = inner.wall.plus(duration);
        inner.elapsed += duration;
        let past = (inner.elapsed + Duration::from_nanos(1), 0);
        let later = inner.sleepers.split_off(&past);
        for (_, wake) in std::mem::replace(&mut inner.sleepers, later) {
            self.wakings.send_modify(|wakings| *wakings += 1);
            // A sleeper that was dropped needs no waking.
            let _ = wake.send(Waking(Arc::clone(&self.wakings)));
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

    /// Sleepers that were woken and have not gone on yet, as their number changes.
    pub(crate) fn wakings(&self) -> watch::Receiver<usize> {
        self.wakings.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        Box::pin(Sleep {
            woken,
            waking: None,
        })
    }

    fn entropy(&self) -> u128 {
        let mut inner = self.lock();
        u128::from(inner.draws.next_u64()) << 64 | u128::from(inner.draws.next_u64())
    }
}
