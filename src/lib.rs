//! A webhook gateway whose every delivery is an event.

pub mod clock;
pub mod log;
pub mod model;
pub mod projection;
pub mod subscription;
#[cfg(feature = "testing")]
pub mod testing;
