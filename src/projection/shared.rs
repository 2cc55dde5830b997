//! What the thread of a projection and its views share.

use std::sync::{
    Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    SharedHistory, ViewError,
    carry::CarryOrder,
    checkpoint::{self, Checkpoint},
    engine::unpoisoned,
    store::{MemoryStore, RowStore},
};
use crate::model::Position;

/// What a projection is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// It follows the log.
    #[default]
    Running,
    /// The system refused to read the log or to write rows, such as for want of room. It tries
    /// again by itself, every two seconds at the latest.
    Waiting {
        /// Why.
        reason: String,
    },
    /// It met an event it cannot fold. A rebuild that succeeds sets it going again.
    Halted(Halt),
    /// The runtime stopped it.
    Stopped,
}

/// Where and why a projection halted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The event it could not fold.
    pub position: Position,
    /// Why.
    pub reason: String,
}

impl Phase {
    pub(super) const fn is_halted(&self) -> bool {
        matches!(self, Self::Halted(_))
    }

    /// Whether it will go on by itself.
    pub(super) const fn goes_on(&self) -> bool {
        matches!(self, Self::Running | Self::Waiting { .. })
    }
}

/// How far a projection is. Only the latest is kept for who watches: a slow watcher misses steps
/// in between and holds nobody up.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) position: Position,
    pub(super) skipped: u64,
    /// Where the log began that the rows were begun on.
    pub(super) begins: Position,
    /// The cut after which the rows could not be built again.
    pub(super) kept_past: Position,
    pub(super) phase: Phase,
    /// Damage was met in the rows, and they are still the same.
    is_damaged: bool,
    /// How far rows were that were thrown away for damage. Those in their place know less until they
    /// have come there again.
    mended_at: Position,
}

impl Progress {
    /// Whether rows answer: none that are damaged or half built again.
    pub(super) fn answers(&self) -> bool {
        !self.is_damaged && self.position >= self.mended_at
    }

    /// Whether rows contain this event and answer.
    pub(super) fn has(&self, position: Position) -> bool {
        self.position >= position && self.answers()
    }
}

pub(super) struct Shared {
    pub(super) name: &'static str,
    store: RwLock<Box<dyn RowStore>>,
    pub(super) progress: watch::Sender<Progress>,
    /// How often rows changed.
    changes: AtomicU64,
    pub(super) orders: Orders,
    pub(super) history: SharedHistory,
}

impl Shared {
    pub(super) fn new(
        name: &'static str,
        store: Box<dyn RowStore>,
        checkpoint: Checkpoint,
        history: SharedHistory,
    ) -> Self {
        let progress = Progress {
            position: checkpoint.position,
            skipped: checkpoint.skipped,
            // Where that is damaged the rest shows it.
            begins: checkpoint::begins(store.as_ref()).unwrap_or(Position::FIRST),
            kept_past: Position::ZERO,
            mended_at: checkpoint.mended_at,
            ..Progress::default()
        };
        Self {
            name,
            store: RwLock::new(store),
            progress: watch::Sender::new(progress),
            changes: AtomicU64::new(0),
            orders: Orders::default(),
            history,
        }
    }

    /// Rows of one moment: no batch is committed while this is held.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Box<dyn RowStore>> {
        unpoisoned(self.store.read())
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Box<dyn RowStore>> {
        unpoisoned(self.store.write())
    }

    /// Rows changed, or are others now.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often rows changed. As long as it stays the same, so does every answer.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn phase(&self) -> Phase {
        self.progress.borrow().phase.clone()
    }

    pub(super) fn reached(&self, checkpoint: Checkpoint) {
        self.progress.send_modify(|progress| {
            progress.position = checkpoint.position;
            progress.skipped = checkpoint.skipped;
        });
    }

    /// Puts other rows in the place of these, begun on a log that begins at `begins`.
    pub(super) fn replace(
        &self,
        store: Box<dyn RowStore>,
        begins: Position,
        checkpoint: Checkpoint,
    ) {
        let mut live = self.write();
        *live = store;
        self.changed();
        // While nobody reads: whoever does then knows how far they are.
        self.progress.send_modify(|progress| {
            progress.begins = begins;
            progress.position = checkpoint.position;
            progress.skipped = checkpoint.skipped;
            progress.is_damaged = false;
        });
        drop(live);
    }

    /// Damage was met: nothing is answered from these rows any more, and the thread builds others.
    /// Called while nobody can put others in their place, so that it is of these. Says how far those
    /// have to come before they answer.
    pub(super) fn met_damage(&self) -> Position {
        let mut mended_at = Position::ZERO;
        self.progress.send_modify(|progress| {
            progress.is_damaged = true;
            progress.mended_at = progress.mended_at.max(progress.position);
            mended_at = progress.mended_at;
        });
        mended_at
    }

    /// The rows come no further than this.
    pub(super) fn mended_at_most(&self, position: Position) {
        self.progress
            .send_modify(|progress| progress.mended_at = progress.mended_at.min(position));
    }

    /// Whether damage was met in the rows.
    pub(super) fn is_damaged(&self) -> bool {
        self.progress.borrow().is_damaged
    }

    /// The rows keep what they should forget with this cut.
    pub(super) fn gave_up_forgetting(&self, cut: Position) {
        self.progress
            .send_modify(|progress| progress.kept_past = cut);
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }

    /// The thread is done: nothing moves any more. The store is let go of, so that its directory
    /// can be opened again whoever still holds a view. The phase changes first: no reader takes
    /// the emptiness that follows for an answer.
    pub(super) fn stopped(&self) {
        self.enter(Phase::Stopped);
        self.changed();
        *self.write() = Box::new(MemoryStore::default());
        drop(self.orders.take_rebuilds());
        drop(self.orders.take_carry());
    }
}

/// What the thread is asked to do. At most one of each kind waits.
#[derive(Default)]
pub(super) struct Orders {
    open: Mutex<OpenOrders>,
    given: Notify,
}

#[derive(Default)]
struct OpenOrders {
    stop: bool,
    rebuilds: Vec<oneshot::Sender<Result<Position, ViewError>>>,
    carry: Option<CarryOrder>,
}

impl Orders {
    pub(super) async fn given(&self) {
        self.given.notified().await;
    }

    pub(super) fn stop(&self) {
        self.give(|open| open.stop = true);
    }

    /// Asks for a rebuild; several at once share one.
    pub(super) fn rebuild(&self) -> oneshot::Receiver<Result<Position, ViewError>> {
        let (answer, receiver) = oneshot::channel();
        self.give(|open| {
            if !open.stop {
                open.rebuilds.push(answer);
            }
        });
        receiver
    }

    /// Asks for what outlives a cut; an order before it that was not taken is let go of.
    pub(super) fn carry(&self, order: CarryOrder) {
        self.give(|open| {
            if !open.stop {
                open.carry = Some(order);
            }
        });
    }

    /// Lets the thread see that the log was cut, or that its rows are damaged.
    pub(super) fn look(&self) {
        self.given.notify_one();
    }

    pub(super) fn take_carry(&self) -> Option<CarryOrder> {
        unpoisoned(self.open.lock()).carry.take()
    }

    pub(super) fn is_stopped(&self) -> bool {
        unpoisoned(self.open.lock()).stop
    }

    pub(super) fn take_rebuilds(&self) -> Vec<oneshot::Sender<Result<Position, ViewError>>> {
        std::mem::take(&mut unpoisoned(self.open.lock()).rebuilds)
    }

    fn give(&self, order: impl FnOnce(&mut OpenOrders)) {
        let mut open = unpoisoned(self.open.lock());
        order(&mut open);
        drop(open);
        self.given.notify_one();
    }
}
