//! Behaviours of hooklog, one module each.

mod log_conformance;
mod subscription_rules;
