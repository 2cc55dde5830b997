//! Behaviours of hooklog, one module each.

mod subscription_flight;
mod subscription_lives;
mod subscription_rules;
