//! Rows whose stores are opened side by side, beside the log that they are of. Opening one reads
//! what was written to it since it was opened last, which is most of what a start takes.

use std::{
    collections::HashMap,
    fmt,
    thread::{self, JoinHandle},
};

use super::{
    Projection, StartError, Storage,
    place::{Opened, Place},
    set::check_name,
};

/// Rows that are being opened, each on a thread of its own. Dropped, it waits for them and lets go
/// of their directories.
pub struct RowsAhead {
    storage: Storage,
    opening: HashMap<&'static str, JoinHandle<Result<Opened, StartError>>>,
}

impl fmt::Debug for RowsAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsAhead")
            .field("storage", &self.storage)
            .field("opening", &self.opening.keys())
            .finish()
    }
}

impl RowsAhead {
    /// Nothing is opened yet. Whoever calls this has the directory to themselves.
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            opening: HashMap::new(),
        }
    }

    /// Begins to open the rows of a projection. What keeps it from being started is told then.
    pub fn open<P: Projection>(&mut self) {
        if check_name(P::NAME).is_err() || self.opening.contains_key(P::NAME) {
            return;
        }
        let place = self.storage.place::<P>();
        let opening = thread::Builder::new()
            .name(format!("open-{}", P::NAME))
            .spawn(move || place.open());
        // Without a thread they are opened once they are asked for.
        if let Ok(opening) = opening {
            self.opening.insert(P::NAME, opening);
        }
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The rows of this name, which are at this place. Blocks until they are open.
    pub(super) fn take(&mut self, name: &str, place: &Place) -> Result<Opened, StartError> {
        match self.opening.remove(name) {
            Some(opening) => opening
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => place.open(),
        }
    }
}

impl Drop for RowsAhead {
    fn drop(&mut self) {
        for (name, opening) in self.opening.drain() {
            if opening.join().is_err() {
                tracing::error!(projection = name, "opening its rows panicked");
            }
        }
    }
}
