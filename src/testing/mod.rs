//! What tests of programs that embed hooklog stand on.

#[cfg(feature = "callback")]
pub mod callback;
#[cfg(feature = "testing")]
pub mod given;
#[cfg(feature = "testing")]
mod manual_clock;

#[cfg(feature = "testing")]
pub use manual_clock::ManualClock;
