//! A webhook gateway whose every delivery is an event.

pub mod clock;
pub mod log;
pub mod model;
pub mod projection;
#[cfg(feature = "testing")]
pub mod testing;
