//! A webhook gateway whose every delivery is an event.

pub mod clock;
pub mod delivery;
pub mod log;
pub mod model;
