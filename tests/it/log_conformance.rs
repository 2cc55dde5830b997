//! The rules of a storage, held against both that there are.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use hooklog::{
    log::{DirectoryStorage, Storage},
    testing::{
        MemoryStorage,
        log_conformance::{Reopen, check},
    },
};

struct InDirectory(tempfile::TempDir);

impl Reopen for InDirectory {
    fn open(&self) -> Arc<dyn Storage> {
        Arc::new(DirectoryStorage::open(self.0.path(), 4 << 20).unwrap())
    }
}

struct InMemory(MemoryStorage);

impl Reopen for InMemory {
    fn open(&self) -> Arc<dyn Storage> {
        self.0.crash();
        Arc::new(self.0.clone())
    }
}

#[test]
fn a_directory_keeps_the_rules() {
    check(|| InDirectory(tempfile::tempdir().unwrap()));
}

#[test]
fn memory_keeps_the_rules_even_when_power_is_lost_at_each_close() {
    check(|| InMemory(MemoryStorage::new()));
}
