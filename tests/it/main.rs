//! Behaviours of hooklog, one module each.

mod log_conformance;
mod log_crash;
mod log_damage;
mod log_directory;
mod log_golden;
mod log_history;
mod log_reading;
mod subscription_rules;
