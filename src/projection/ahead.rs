//! Rows whose stores are opened beside the log that they are of. Opening one reads what was written
//! to it since it was opened last, which is most of what a start takes.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use super::{
    Projection, StartError, Storage,
    engine::unpoisoned,
    place::{Opened, Place},
    set::check_name,
};

type OpenedRows = Result<Opened, StartError>;

/// Rows that are being opened, one after the other on a thread: what the first takes to be read
/// through is taken again by the next. Dropped, it waits for them and lets go of their directories.
pub struct RowsAhead {
    storage: Storage,
    /// Each behind a lock for the sake of `Sync` alone.
    opening: HashMap<&'static str, Mutex<Receiver<OpenedRows>>>,
    work: Option<Sender<(Place, Sender<OpenedRows>)>>,
    thread: Option<JoinHandle<()>>,
    /// Nobody waits for what is not open yet.
    is_over: Arc<AtomicBool>,
}

impl fmt::Debug for RowsAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsAhead")
            .field("storage", &self.storage)
            .field("opening", &self.opening.keys())
            .finish_non_exhaustive()
    }
}

impl RowsAhead {
    /// Nothing is opened yet. Whoever calls this has the directory to themselves.
    pub fn new(storage: Storage) -> Self {
        let (work, asked) = mpsc::channel::<(Place, Sender<OpenedRows>)>();
        let thread = thread::Builder::new().name("open-rows".to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread.spawn(move || {
            for (place, opened) in asked {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // Whoever asked may be gone.
                let _ = opened.send(place.open());
            }
        });
        Self {
            storage,
            opening: HashMap::new(),
            work: Some(work),
            is_over,
            // Without a thread they are opened once they are asked for.
            thread: thread.ok(),
        }
    }

    /// Begins to open the rows of a projection. What keeps it from being started is told then.
    pub fn open<P: Projection>(&mut self) {
        if check_name(P::NAME).is_err() || self.opening.contains_key(P::NAME) {
            return;
        }
        let (opened, opening) = mpsc::channel();
        let asked = (self.storage.place::<P>(), opened);
        if self
            .work
            .as_ref()
            .is_some_and(|work| work.send(asked).is_ok())
        {
            self.opening.insert(P::NAME, Mutex::new(opening));
        }
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The rows of this name, which are at this place. Blocks until they are open.
    pub(super) fn take(&mut self, name: &str, place: &Place) -> Result<Opened, StartError> {
        let opening = self.opening.remove(name);
        let opened = opening.and_then(|opening| unpoisoned(opening.into_inner()).recv().ok());
        opened.unwrap_or_else(|| place.open())
    }
}

impl Drop for RowsAhead {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.work.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("opening rows panicked");
        }
    }
}
