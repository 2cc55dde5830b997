//! Counts work that is under way, so that "nothing is going on" is a condition to wait on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// How much work is under way: wake-ups not yet seen, calls, reads and appends.
///
/// Work that leads to more work begins the new before it ends the old, so the count never touches
/// zero in between.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    changed: Notify,
}

/// One piece of work; it ends when this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Inner>);

impl Activity {
    /// Begins a piece of work.
    pub fn begin(&self) -> Busy {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(&self.0))
    }

    /// Pieces of work under way.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Waits until nothing is under way. Cancel safe.
    pub async fn idle(&self) {
        self.until(|count| count == 0).await;
    }

    /// Waits until the count of pieces under way is one that is asked for. It is looked at each
    /// time a piece ends, and after [`nudge`](Self::nudge). Cancel safe.
    pub async fn until(&self, asked_for: impl Fn(usize) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if asked_for(self.count()) {
                return;
            }
            changed.await;
        }
    }

    /// Lets who waits look again.
    pub fn nudge(&self) {
        self.0.changed.notify_waiters();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
