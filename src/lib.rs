//! A webhook gateway whose every delivery is an event.

pub mod activity;
pub mod actor;
#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
pub mod delivery;
pub mod log;
pub mod model;
pub mod projection;
pub mod runtime;
pub mod source;
pub mod subscription;
#[cfg(any(feature = "testing", feature = "callback"))]
pub mod testing;
pub mod vault;
