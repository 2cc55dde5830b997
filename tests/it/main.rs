//! Behaviours of hooklog, one module each.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it stands"
)]
#![allow(
    clippy::unnecessary_box_returns,
    reason = "commands hold their reports boxed"
)]

mod subscription_rules;
