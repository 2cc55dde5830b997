//! Behaviours of hooklog, one module each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod delivery_calls;
mod delivery_egress;
mod delivery_faults;
mod delivery_tls;
mod subscription_rules;
mod support;
