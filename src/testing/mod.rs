//! What tests of programs that embed hooklog stand on.

#[cfg(feature = "callback")]
pub mod callback;
