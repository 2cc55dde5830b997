//! Whole lives of a gateway, each from its seed.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use hooklog::{
    clock::{Clock, SystemClock},
    testing::simulation::{Failure, Summary, live, live_steps},
};

/// Seeds that failed once, with the steps that broke them.
const REGRESSIONS: &[(u64, &[u32])] = &[(
    // The wall clock is set back while a callback's pause is waited for.
    4_195_991_180,
    &[
        0, 6, 7, 8, 29, 31, 32, 33, 34, 36, 38, 39, 40, 41, 46, 47, 49, 51, 60, 62, 66, 85, 98,
    ],
)];

/// Lives these seeds on two threads; the failure of the lowest seed, if one fails.
fn live_all(seeds: std::ops::Range<u64>) -> Result<Summary, Failure> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let sum = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match live(seed) {
                        Ok(summary) => {
                            let mut sum = sum.lock().unwrap();
                            sum.events += summary.events;
                            sum.messages += summary.messages;
                            sum.calls += summary.calls;
                            sum.repeated += summary.repeated;
                            sum.crashes += summary.crashes;
                            sum.ends += summary.ends;
                            sum.tally += summary.tally;
                        }
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure| failure.seed);
    match failures.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(sum.into_inner().unwrap()),
    }
}

fn asked_for(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

#[test]
fn a_thousand_lives_keep_every_guarantee() {
    if let Some(seed) = asked_for("HOOKLOG_SIMULATION_SEED") {
        let steps = std::env::var("HOOKLOG_SIMULATION_STEPS").ok();
        let steps = steps.map(|steps| {
            let steps = steps.split(',').filter(|step| !step.is_empty());
            steps.map(|step| step.parse().unwrap()).collect()
        });
        let lived = live_steps(seed, steps);
        println!("{:?}", lived.unwrap_or_else(|failure| panic!("{failure}")));
        return;
    }
    let count = asked_for("HOOKLOG_SIMULATION_COUNT").unwrap_or(1_000);
    let random = SystemClock::new().entropy();
    let base = u64::try_from(random >> 96).unwrap();
    println!("base seed {base}, {count} lives");
    for (seed, steps) in REGRESSIONS {
        let steps = steps.iter().copied().collect();
        live_steps(*seed, Some(steps)).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let clock = SystemClock::new();
    let sum = live_all(base..base + count).unwrap_or_else(|failure| {
        println!("{failure}\nsearching for the steps that break it");
        panic!("{}", failure.shrunk())
    });
    println!("{sum:?} in {:.1} s", clock.elapsed().as_secs_f64());
    assert!(sum.crashes > 0 && sum.repeated > 0 && sum.ends > 0);
    if count >= 1_000 {
        let missing = sum.tally.missing();
        assert!(missing.is_empty(), "never came about: {missing:?}");
    }
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in 0..20 {
        assert_eq!(live(seed), live(seed));
    }
}
