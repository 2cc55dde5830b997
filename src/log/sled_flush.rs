//! Flushes of sled that end.
//!
//! A flush waits until what was written before it is in the file. Where such a write fails in another
//! thread, as on a full disk, sled notes the error and may wake nobody: the flush would wait for ever.
//! Another flush of the same store meets the noted error, and wakes all who wait. So flushes that take
//! long get company.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::Duration,
};

/// Between two looks at the flushes under way.
const LOOK: Duration = Duration::from_secs(1);

/// The flushes under way, and how many looks each has lasted.
static UNDER_WAY: LazyLock<Mutex<UnderWay>> = LazyLock::new(Mutex::default);
static WATCHED: Once = Once::new();

#[derive(Default)]
struct UnderWay {
    flushes: HashMap<u64, (sled::Db, u32)>,
    begun: u64,
}

fn under_way() -> MutexGuard<'static, UnderWay> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what a store holds to its file. Not a sync.
pub(crate) fn flush(db: &sled::Db) -> sled::Result<()> {
    WATCHED.call_once(|| {
        let watch = thread::Builder::new().name("hooklog-flushes".to_owned());
        if let Err(error) = watch.spawn(watch_flushes) {
            tracing::warn!(%error, "flushes are not watched");
        }
    });
    let under = Under::begin(db);
    let flushed = db.flush();
    drop(under);
    flushed.map(drop)
}

/// A flush under way, until it is dropped.
struct Under(u64);

impl Under {
    fn begin(db: &sled::Db) -> Self {
        let mut all = under_way();
        all.begun += 1;
        let number = all.begun;
        all.flushes.insert(number, (db.clone(), 0));
        Self(number)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let ended = under_way().flushes.remove(&self.0);
        drop(ended);
    }
}

fn watch_flushes() {
    loop {
        thread::park_timeout(LOOK);
        let mut long = Vec::new();
        for (db, looks) in under_way().flushes.values_mut() {
            *looks += 1;
            // Company may come too early and wait as well. A slow disk gets it ever more seldom.
            if looks.is_power_of_two() {
                long.push(db.clone());
            }
        }
        for db in long {
            let company = thread::Builder::new().name("hooklog-flush".to_owned());
            // It fails as the one it wakes does. Without a thread the next look tries again.
            let _ = company.spawn(move || drop(db.flush()));
        }
    }
}
