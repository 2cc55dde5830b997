//! Lets who shares an id pass one at a time.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// How many may be under way at once, where the hashes of their ids differ.
const LANES: usize = 64;

/// As many locks, by the hash of an id.
pub(crate) struct Lanes([Mutex<()>; LANES]);

impl Default for Lanes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Lanes {
    /// Waits until nobody else with this id is under way.
    pub(crate) async fn enter(&self, id: &Uuid) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        let lane = usize::try_from(hash % LANES as u64).expect("below a usize");
        self.0[lane].lock().await
    }
}
