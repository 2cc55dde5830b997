//! What outlives a cut: the rows as they stood just before it are folded beside the live ones, and
//! those that a projection carries are written to the origin.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::oneshot;

use super::{
    OnBadEvent, ReadRows, StoredRows, ViewError,
    checkpoint::Checkpoint,
    engine::{Engine, Trouble},
    fold::fold,
    origin::{fill, section},
    store::RowStore,
};
use crate::{log::OriginDraft, model::Position};

/// The generation of rows that are folded for an origin; it is never ready, so never served. Far
/// above what rebuilds reach.
const CARRIED_GENERATION: u64 = 1 << 62;
/// Tells them apart: a store that is closed lets go of its directory a little later.
static CARRIED: AtomicU64 = AtomicU64::new(0);

/// Asks for what outlives a cut.
pub(super) struct CarryOrder {
    pub(super) draft: Arc<OriginDraft>,
    pub(super) answer: oneshot::Sender<Result<(), ViewError>>,
}

/// An order that is being carried out.
pub(super) struct Carrying {
    store: Box<dyn RowStore>,
    checkpoint: Checkpoint,
    generation: u64,
    order: CarryOrder,
}

impl Carrying {
    /// The last event before the cut.
    fn until(&self) -> Position {
        self.order.draft.first().previous()
    }
}

impl Engine {
    /// Carries out a part of an order; false when there is none.
    pub(super) fn step_carry(&mut self) -> bool {
        let carrying = match self.carrying.take() {
            Some(carrying) => Ok(carrying),
            None => match self.shared.orders.take_carry() {
                Some(order) => self.begin_carry(order),
                None => return false,
            },
        };
        let Ok(mut carrying) = carrying else {
            return true;
        };
        match self.carry_on(&mut carrying) {
            Ok(true) => self.carrying = Some(carrying),
            Ok(false) => self.end_carry(carrying, Ok(())),
            Err(reason) => {
                let refused = self.no_carry(carrying.checkpoint.position, reason);
                self.end_carry(carrying, Err(refused));
            }
        }
        true
    }

    fn begin_carry(&self, order: CarryOrder) -> Result<Carrying, ()> {
        let generation = CARRIED_GENERATION + CARRIED.fetch_add(1, Ordering::Relaxed);
        match self.place.fresh(generation, Checkpoint::default()) {
            Ok(opened) => Ok(Carrying {
                store: opened.store,
                checkpoint: opened.checkpoint,
                generation,
                order,
            }),
            Err(error) => {
                let refused = self.no_carry(Position::ZERO, error.to_string());
                // Whoever asked may have stopped waiting.
                let _ = order.answer.send(Err(refused));
                Err(())
            }
        }
    }

    /// Whether there is more to do.
    fn carry_on(&self, carrying: &mut Carrying) -> Result<bool, String> {
        if carrying.checkpoint.position < carrying.until() {
            let folded = self.fold_towards(carrying);
            return folded.map(|()| true).map_err(|trouble| trouble.reason());
        }
        self.write_carried(carrying).map(|()| false)
    }

    fn fold_towards(&self, carrying: &mut Carrying) -> Result<(), Trouble> {
        let history = &self.shared.history;
        let (at, until) = (carrying.checkpoint.position, carrying.until());
        let (projection, store) = (self.projection.as_ref(), carrying.store.as_mut());
        if let Some(origin) = history.origin()
            && at < origin.last()
        {
            carrying.checkpoint = fill(projection, store, &origin, carrying.checkpoint)?;
            return Ok(());
        }
        let mut batch = history.read_after(at, self.batch_events)?;
        batch.events.retain(|event| event.position <= until);
        batch.reached = batch.reached.min(until);
        if batch.reached <= at {
            return Err(Trouble::unreadable(at));
        }
        let folded = fold(
            projection,
            store,
            carrying.checkpoint,
            &batch,
            OnBadEvent::SkipAndRecord,
        )?;
        store.commit(folded.changes)?;
        carrying.checkpoint = folded.checkpoint;
        Ok(())
    }

    fn write_carried(&self, carrying: &Carrying) -> Result<(), String> {
        let name = section(self.projection.as_ref());
        let draft = &carrying.order.draft;
        let mut section = draft.section(&name).map_err(|error| error.to_string())?;
        for row in StoredRows(carrying.store.as_ref()).prefix(b"") {
            let row = row.map_err(|error| error.to_string())?;
            if let Some(row) = self.projection.carry(row) {
                let written = section.push(&row.key, &row.value);
                written.map_err(|error| error.to_string())?;
            }
        }
        section.finish().map_err(|error| error.to_string())
    }

    fn end_carry(&self, carrying: Carrying, answer: Result<(), ViewError>) {
        drop(carrying.store);
        self.place.remove(carrying.generation);
        // Whoever asked may have stopped waiting.
        let _ = carrying.order.answer.send(answer);
    }

    fn no_carry(&self, position: Position, reason: String) -> ViewError {
        ViewError::Rebuild {
            projection: self.projection.name(),
            position,
            reason,
        }
    }
}
