//! Behaviours of hooklog, one module each.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod projection_deliveries;
mod projection_engine;
mod projection_figures;
