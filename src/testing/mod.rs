//! What tests of programs that embed hooklog stand on.

pub mod given;
mod manual_clock;

pub use manual_clock::ManualClock;
