//! Whether the log can be written.

use tokio::sync::watch;

use crate::model::Position;

/// Whether the log can be written, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It can.
    Sound,
    /// The disk refused for want of room. The next append tries again when there is room.
    Full,
    /// A sync failed: nothing is acknowledged until the log is opened again (G10).
    Poisoned,
    /// The end of the log is damaged: it is read, and takes no append.
    TailDamaged {
        /// The first position that is lost.
        from: Position,
        /// The last position known to have been written; `None` when it is not known.
        to: Option<Position>,
        /// How that was seen.
        reason: String,
    },
    /// It is closed.
    Closed,
}

/// Tells when the health of a log changes. It does not keep the log open.
#[derive(Debug, Clone)]
pub struct HealthWatch(watch::Receiver<Health>);

impl HealthWatch {
    pub(crate) const fn new(receiver: watch::Receiver<Health>) -> Self {
        Self(receiver)
    }

    /// The health now.
    pub fn health(&self) -> Health {
        self.0.borrow().clone()
    }

    /// Waits until the health is another than this watch last told of, at first the one when it was
    /// made, and gives it; `None` once the log is closed and that was told. Cancel safe.
    pub async fn changed(&mut self) -> Option<Health> {
        if *self.0.borrow() == Health::Closed && !self.0.has_changed().unwrap_or(false) {
            return None;
        }
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
