//! Behaviours of hooklog, one module each.

mod subscription_rules;
