//! What tests of many cases draw them from.

use hooklog::clock::{Clock as _, SystemClock};

/// The seed of this run, printed: `HOOKLOG_SEED` where one is repeated, otherwise a fresh one.
pub(crate) fn seed() -> u64 {
    let fresh = || u64::try_from(SystemClock::new().entropy() >> 64).expect("it is half of it");
    printed(asked_seed().unwrap_or_else(fresh))
}

/// The same, where it is this one otherwise.
pub(crate) fn seed_or(usual: u64) -> u64 {
    printed(asked_seed().unwrap_or(usual))
}

/// The seed that is to be repeated.
pub(crate) fn asked_seed() -> Option<u64> {
    let asked = std::env::var("HOOKLOG_SEED").ok();
    asked.map(|seed| seed.parse().expect("HOOKLOG_SEED is a number"))
}

fn printed(seed: u64) -> u64 {
    println!("HOOKLOG_SEED={seed}");
    seed
}
