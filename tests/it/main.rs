//! Behaviours of hooklog, one module each.

mod projection_deliveries;
mod projection_engine;
mod projection_figures;
