//! What tests of programs that embed hooklog stand on.

pub mod given;
pub mod log_conformance;
mod manual_clock;
mod storage;

pub use manual_clock::ManualClock;
pub use storage::MemoryStorage;
