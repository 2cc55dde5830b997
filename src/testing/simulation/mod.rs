//! Whole lives of a gateway from one seed: publishes, filters, answers of every kind, pauses and
//! updates, tokens, jobs, idempotency keys, full disks, failed syncs, power cuts, clock jumps,
//! orderly ends, restarts. In the end everything heals, and what the log holds is held against what
//! the outside saw.
//!
//! What runs is the real log over storage that forgets, the real [`Driver`] of each subscription,
//! real recovery and real projections. Callbacks, time and chance are made up. One thread, no
//! socket, no sleep: the same seed gives the same life.
//!
//! Checked on the way and at the end (numbers as in the crate's documentation):
//! - G1 positions and versions gapless, times never back;
//! - G2 what was acknowledged is there after a crash, byte for byte; G4 so is what a reader saw;
//! - G3 no append ever meets another writer of its stream;
//! - G5 a feed that is cut and resumed tells every position once;
//! - G6 each of the seven views that followed along equals one that is built anew;
//! - G7 recovery gives the state that the whole history gives, and begins no call;
//! - G8 each message of each subscription ends in exactly one of delivered, dead-lettered,
//!   discarded and passed over, once everything is healed;
//! - G9 no call is made again but one that was under way at a crash, and none at all under
//!   at-most-once; an orderly end that nothing holds up leaves none under way;
//! - G10 after a failed sync nothing is acknowledged until the log is opened again;
//! - order, limits in flight, rates, pauses, deadlines, due times and open circuits are kept at every
//!   call.
//!
//! [`Driver`]: crate::subscription::Driver

mod callback;
mod checks;
#[cfg(test)]
mod handmade;
mod ledger;
mod node;
mod others;
mod pace;
mod scenario;
mod shrink;
mod tally;
mod world;

use std::{collections::BTreeSet, fmt, panic::UnwindSafe};

pub use self::tally::{Kind, Tally};
use self::world::World;

/// What a life came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Events in the log.
    pub events: u64,
    /// Messages that were published.
    pub messages: u64,
    /// Calls that reached a callback.
    pub calls: u64,
    /// Calls that reached it twice.
    pub repeated: u64,
    /// Times the gateway was killed or lost its power.
    pub crashes: u64,
    /// Times it was told to end.
    pub ends: u64,
    /// How often each kind of fault and of command came about.
    pub tally: Tally,
    /// A hash of what happened when: equal lives have equal ones.
    pub digest: u64,
}

/// A life in which something did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed that lives it again.
    pub seed: u64,
    /// The steps that are taken of it; `None` for all of them.
    pub kept: Option<BTreeSet<u32>>,
    /// What did not hold.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nlive it again: HOOKLOG_SIMULATION_SEED={} ",
            self.what, self.seed
        )?;
        if let Some(kept) = &self.kept {
            let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
            write!(f, "HOOKLOG_SIMULATION_STEPS={} ", kept.join(","))?;
        }
        f.write_str("cargo test --all-features --test it simulation")
    }
}

impl std::error::Error for Failure {}

/// What did not hold.
type Broken = String;

/// Lives the life of this seed.
///
/// ```
/// let summary = hooklog::testing::simulation::live(7)?;
/// assert!(summary.messages > 0);
/// # Ok::<(), hooklog::testing::simulation::Failure>(())
/// ```
pub fn live(seed: u64) -> Result<Summary, Failure> {
    live_steps(seed, None)
}

/// Lives the life of this seed with these of its steps alone; all of them when they are `None`.
pub fn live_steps(seed: u64, kept: Option<BTreeSet<u32>>) -> Result<Summary, Failure> {
    let lived = caught(|| World::new(seed, kept.clone())?.live());
    lived.map_err(|what| Failure { seed, kept, what })
}

/// A panic is something that did not hold.
fn caught<T>(life: impl FnOnce() -> Result<T, Broken> + UnwindSafe) -> Result<T, Broken> {
    std::panic::catch_unwind(life).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

impl Failure {
    /// The same life with as few steps as still break it, in whatever way. It lives some hundred
    /// lives to find them.
    #[must_use]
    pub fn shrunk(self) -> Self {
        self.shrunk_as(live_steps)
    }

    /// The same where this tells whether a life breaks.
    fn shrunk_as(self, live: impl Fn(u64, Option<BTreeSet<u32>>) -> Result<Summary, Self>) -> Self {
        let seed = self.seed;
        let steps = World::new(seed, None).map_or(0, |world| world.steps());
        let breaks = |kept: &BTreeSet<u32>| live(seed, Some(kept.clone())).is_err();
        let kept = shrink::shrink(steps, breaks);
        live(seed, Some(kept)).err().unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_with_the_one_command_that_lives_it_again() {
        let mut failure = Failure {
            seed: 7,
            kept: Some(BTreeSet::from([1, 2])),
            what: "G1: as a test has it".to_owned(),
        };
        let told = failure.to_string();
        assert!(told.starts_with("G1: as a test has it\n"), "{told}");
        assert!(
            told.ends_with(
                ": HOOKLOG_SIMULATION_SEED=7 HOOKLOG_SIMULATION_STEPS=1,2 cargo test --all-features --test it simulation"
            ),
            "{told}"
        );
        failure.kept = None;
        let told = failure.to_string();
        assert!(
            told.ends_with(
                ": HOOKLOG_SIMULATION_SEED=7 cargo test --all-features --test it simulation"
            ),
            "{told}"
        );
    }

    #[test]
    fn a_panic_is_something_that_did_not_hold() {
        let told = caught::<Summary>(|| {
            let number = u64::MAX.count_ones();
            panic!("number {number}")
        });
        assert_eq!(told, Err("panicked: number 64".to_owned()));
        let told = caught::<Summary>(|| panic!("as a test has it"));
        assert_eq!(told, Err("panicked: as a test has it".to_owned()));
    }

    /// Lives as ever, and holds that no gateway is ever killed.
    fn live_unkilled(seed: u64, kept: Option<BTreeSet<u32>>) -> Result<Summary, Failure> {
        let lived = live_steps(seed, kept.clone())?;
        if lived.crashes == 0 {
            return Ok(lived);
        }
        let what = "it was killed".to_owned();
        Err(Failure { seed, kept, what })
    }

    #[test]
    fn a_life_that_breaks_is_shrunk_to_steps_of_which_none_is_too_many() {
        let broken = (0..).find_map(|seed| live_unkilled(seed, None).err());
        let broken = broken.expect("most lives are killed");
        let shrunk = broken.clone().shrunk_as(live_unkilled);
        assert_eq!(
            (shrunk.seed, &shrunk.what),
            (broken.seed, &"it was killed".to_owned())
        );
        let kept = shrunk.kept.expect("it is shrunk");
        assert!((1..10).contains(&kept.len()), "{kept:?}");
        for step in &kept {
            let mut fewer = kept.clone();
            fewer.remove(step);
            live_unkilled(shrunk.seed, Some(fewer)).unwrap();
        }
    }
}
