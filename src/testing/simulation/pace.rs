//! When a call may begin, seen from outside the core: by the monotonic clock, whatever the wall clock
//! does.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::Broken;
use crate::{
    model::{SubscriptionId, Version},
    subscription::{Call, Now, SubscriptionState, schedule},
};

/// In what time calls are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// What is remembered of each subscription for as long as its actor lives.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<SubscriptionId, Pace>);

#[derive(Debug, Default)]
struct Pace {
    /// When the last call of a message ended, probes apart: they change no plan.
    ended_at: BTreeMap<Version, Duration>,
    /// When calls began, within the window.
    begun_at: VecDeque<Duration>,
}

impl Paces {
    /// A call begins, at this time.
    pub(super) fn begins(
        &mut self,
        id: SubscriptionId,
        state: &SubscriptionState,
        call: &Call,
        now: Now,
        wall_jumps: bool,
    ) -> Result<(), Broken> {
        let pace = self.0.entry(id).or_default();
        pace.within_rate(call, now)?;
        let open = state.open.get(&call.message.version);
        // One that was taken has begun: it would be lost otherwise.
        if open.is_some_and(|open| open.taken) {
            return Ok(());
        }
        let deadline = schedule::deadline(&call.policy.retry, call.message.accepted_at);
        let counts = !open.is_some_and(|open| open.renewed);
        if counts && deadline.is_some_and(|deadline| deadline <= now.wall) {
            return Err(format!("its deadline passed at {deadline:?}"));
        }
        let held = state.hold.map(|hold| hold.remaining(now.wall));
        if !wall_jumps && held.is_some_and(|held| !held.is_zero()) {
            return Err(format!("the callback asked for a pause of {held:?} yet"));
        }
        let Some(retry) = open.and_then(|open| open.retry).filter(|_| !call.probe) else {
            return Ok(());
        };
        let due = pace.ended_at.get(&call.message.version);
        let due = due.map(|ended| *ended + Duration::from_millis(retry.delay_ms));
        if due.is_some_and(|due| due > now.elapsed) {
            return Err(format!("it is due at {due:?}, and now it is {now:?}"));
        }
        if !wall_jumps && retry.due_at > now.wall {
            return Err(format!("it is due at {}", retry.due_at));
        }
        Ok(())
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, id: SubscriptionId, version: Version, elapsed: Duration) {
        let pace = self.0.entry(id).or_default();
        pace.ended_at.insert(version, elapsed);
    }

    /// The actor of this subscription is gone, and what it counted.
    pub(super) fn forget(&mut self, id: SubscriptionId) {
        self.0.remove(&id);
    }

    /// All actors are gone.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

impl Pace {
    /// As `subscription::pace` promises: no more than the rate in a second, and what it makes up for.
    fn within_rate(&mut self, call: &Call, now: Now) -> Result<(), Broken> {
        self.begun_at.push_back(now.elapsed);
        while self
            .begun_at
            .pop_front_if(|begun| *begun + WINDOW <= now.elapsed)
            .is_some()
        {}
        let Some(rate) = call.policy.rate_limit_per_second else {
            return Ok(());
        };
        let begun = self.begun_at.len();
        if begun > rate as usize + 1 {
            return Err(format!("{begun} calls in a second, of {rate}"));
        }
        Ok(())
    }
}
