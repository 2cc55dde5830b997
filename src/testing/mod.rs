//! What tests of programs that embed hooklog stand on.

#[cfg(feature = "callback")]
pub mod callback;
#[cfg(feature = "testing")]
mod fake_transport;
#[cfg(feature = "testing")]
pub mod given;
#[cfg(feature = "testing")]
pub mod history;
#[cfg(feature = "testing")]
pub mod log_conformance;
#[cfg(feature = "testing")]
mod manual_clock;
#[cfg(feature = "testing")]
pub mod memory_history;
#[cfg(feature = "testing")]
pub mod simulation;
#[cfg(feature = "testing")]
mod still;
#[cfg(feature = "testing")]
mod storage;
#[cfg(feature = "testing")]
mod test_runtime;

#[cfg(feature = "testing")]
pub use self::{
    fake_transport::{FakeAnswer, FakeCall, FakeTransport},
    manual_clock::ManualClock,
    still::Still,
    storage::MemoryStorage,
    test_runtime::TestRuntime,
};
