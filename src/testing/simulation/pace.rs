//! When a call may begin, seen from outside the core: by the monotonic clock, whatever the wall clock
//! does.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::Broken;
use crate::{
    model::{Retry, RetryStrategy, SubscriptionId, Version},
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
    /// Until when no call may begin, as the callback asked last.
    held_until: Option<Duration>,
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
        let held = pace.held_until.filter(|until| *until > now.elapsed);
        if let Some(until) = held {
            return Err(format!(
                "the callback asked for a pause until {until:?}, and now it is {now:?}"
            ));
        }
        // What a restart took over stands by the wall clock.
        let held = state.hold.map(|hold| hold.remaining(now.wall));
        if !wall_jumps && held.is_some_and(|held| !held.is_zero()) {
            return Err(format!("the callback asked for a pause of {held:?} yet"));
        }
        let Some(retry) = open.and_then(|open| open.retry).filter(|_| !call.probe) else {
            return Ok(());
        };
        let due = pace.ended_at.get(&call.message.version);
        let due = due.map(|ended| *ended + Duration::from_millis(retry.delay_ms));
        if let Some(due) = due.filter(|due| *due > now.elapsed) {
            return Err(format!("it is due at {due:?}, and now it is {now:?}"));
        }
        if !wall_jumps && retry.due_at > now.wall {
            return Err(format!("it is due at {}", retry.due_at));
        }
        Ok(())
    }

    /// A call has failed, and this is planned for its message by now: it waits as the settings of the
    /// call have it, longer or shorter by their jitter, and at least until the pause ends that the
    /// callback asked for with this call (`pause`) or before.
    pub(super) fn planned(
        &self,
        state: &SubscriptionState,
        call: &Call,
        pause: Option<Duration>,
        now: Now,
    ) -> Result<(), Broken> {
        let open = state.open.get(&call.message.version);
        let Some((open, retry)) = open.and_then(|open| Some((open, open.retry?))) else {
            return Ok(());
        };
        let delay = Duration::from_millis(retry.delay_ms);
        if retry.due_at != now.wall.plus(delay) {
            let due_at = retry.due_at;
            return Err(format!("it is due at {due_at}, {delay:?} after {now:?}"));
        }
        let (shortest, longest) = waits(&call.policy.retry, open.counted.max(1));
        let held_until = self.0.get(&state.id).and_then(|pace| pace.held_until);
        let stands = held_until.map(|until| until.saturating_sub(now.elapsed));
        let shortest = shortest.max(pause.or(stands).unwrap_or_default());
        let asked = state.hold.map(|hold| hold.retry_after.duration());
        let longest = longest.max(asked.unwrap_or_default());
        if delay < shortest || delay > longest {
            return Err(format!(
                "it waits {delay:?}, and should from {shortest:?} to {longest:?}"
            ));
        }
        Ok(())
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, id: SubscriptionId, version: Version, elapsed: Duration) {
        let pace = self.0.entry(id).or_default();
        pace.ended_at.insert(version, elapsed);
    }

    /// The callback has asked for a pause until then.
    ///
    /// A pause counts from its answer on, whatever the wall clock does, and holds probes too; of
    /// several the one that was asked for last stands, also where it is shorter. Nothing is claimed
    /// - of what a former callback asks for: it holds nobody;
    /// - after a restart: what is on record is counted anew, from the wall clock.
    pub(super) fn held(&mut self, id: SubscriptionId, until: Duration) {
        self.0.entry(id).or_default().held_until = Some(until);
    }

    /// No pause stands any more: it was resumed after an interruption, or has another callback.
    pub(super) fn let_go(&mut self, id: SubscriptionId) {
        self.0.entry(id).or_default().held_until = None;
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

/// The shortest and the longest wait before the retry with this number, from 1, pauses apart. No
/// settings here name an explicit schedule.
fn waits(retry: &Retry, number: u32) -> (Duration, Duration) {
    let factor = match retry.retry_strategy {
        RetryStrategy::Linear => u64::from(number),
        RetryStrategy::Exponential => 2_u64.saturating_pow(number - 1),
    };
    let grown = retry.initial_delay_seconds.saturating_mul(factor);
    let millis = 1_000 * grown.min(retry.max_delay_seconds);
    let jitter = millis * u64::from(retry.jitter_percent) / 100;
    (
        Duration::from_millis(millis - jitter),
        Duration::from_millis(millis + jitter),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::handmade::{breaks, message};
    use super::*;
    use crate::{
        model::{
            AttemptNumber, ConsumerConfiguration, Policy, RetryAfter, Timestamp, WebhookEntrypoint,
        },
        subscription::{Hold, OpenDelivery, PlannedRetry},
    };

    const ID: SubscriptionId = SubscriptionId::nil();

    /// So many seconds after the beginning of 1970, by both clocks.
    fn at(seconds: u64) -> Now {
        let elapsed = Duration::from_secs(seconds);
        Now {
            wall: Timestamp::EPOCH.plus(elapsed),
            elapsed,
        }
    }

    fn call_under(change: impl FnOnce(&mut Policy)) -> Call {
        let entrypoint = WebhookEntrypoint::at("/simulated");
        let mut policy = Policy::of(&entrypoint, &ConsumerConfiguration::default());
        change(&mut policy);
        Call {
            message: message(1),
            attempt: AttemptNumber::FIRST,
            probe: false,
            policy: Arc::new(policy),
            deadline: None,
        }
    }

    /// A subscription whose first message has begun, so changed.
    fn with_open(change: impl FnOnce(&mut OpenDelivery)) -> SubscriptionState {
        let mut state = SubscriptionState::new(ID);
        let mut open = OpenDelivery {
            message: message(1),
            attempts: 1,
            counted: 1,
            retry: None,
            status: 500,
            error: None,
            taken: false,
            renewed: false,
        };
        change(&mut open);
        state.open.insert(open.message.version, open);
        state
    }

    #[test]
    fn a_call_above_the_rate_is_told() {
        let (mut paces, state) = (Paces::default(), SubscriptionState::new(ID));
        let call = call_under(|policy| policy.rate_limit_per_second = Some(2));
        for _ in 0..3 {
            paces.begins(ID, &state, &call, at(0), false).unwrap();
        }
        let fourth = paces.begins(ID, &state, &call, at(0), false);
        breaks(fourth, "4 calls in a second, of 2");
        paces.begins(ID, &state, &call, at(1), false).unwrap();
    }

    #[test]
    fn a_call_after_its_deadline_is_told() {
        let mut paces = Paces::default();
        let call = call_under(|policy| policy.retry.deadline_seconds = Some(60));
        let fresh = SubscriptionState::new(ID);
        paces.begins(ID, &fresh, &call, at(59), false).unwrap();
        let late = paces.begins(ID, &fresh, &call, at(60), true);
        breaks(late, "its deadline passed at");
        for excused in [
            with_open(|open| open.renewed = true),
            with_open(|open| open.taken = true),
        ] {
            paces.begins(ID, &excused, &call, at(60), false).unwrap();
        }
    }

    #[test]
    fn a_call_within_a_pause_is_told_whatever_the_wall_clock_does() {
        let (mut paces, state) = (Paces::default(), SubscriptionState::new(ID));
        let call = call_under(|_| {});
        let probe = Call {
            probe: true,
            ..call.clone()
        };
        let at_jumped = |seconds| Now {
            wall: at(100_000).wall,
            ..at(seconds)
        };
        paces.held(ID, at(50).elapsed);
        for call in [&call, &probe] {
            let early = paces.begins(ID, &state, call, at_jumped(49), true);
            breaks(early, "the callback asked for a pause until 50s");
            paces.begins(ID, &state, call, at_jumped(50), true).unwrap();
        }
        let taken = with_open(|open| open.taken = true);
        paces.begins(ID, &taken, &call, at(49), true).unwrap();

        paces.held(ID, at(30).elapsed);
        let early = paces.begins(ID, &state, &call, at(29), true);
        breaks(early, "the callback asked for a pause until 30s");
        paces.begins(ID, &state, &call, at(30), true).unwrap();
        paces.let_go(ID);
        paces.begins(ID, &state, &call, at(29), true).unwrap();

        paces.held(ID, at(50).elapsed);
        paces.forget(ID);
        paces.begins(ID, &state, &call, at(49), true).unwrap();
    }

    #[test]
    fn a_call_within_a_pause_that_a_restart_took_over_is_told() {
        let mut paces = Paces::default();
        let mut state = SubscriptionState::new(ID);
        state.hold = Some(Hold {
            until: at(50).wall,
            retry_after: RetryAfter::from_seconds(50),
        });
        let call = call_under(|_| {});
        let early = paces.begins(ID, &state, &call, at(49), false);
        breaks(early, "the callback asked for a pause");
        paces.begins(ID, &state, &call, at(50), false).unwrap();
    }

    #[test]
    fn a_call_before_it_is_due_is_told_by_both_clocks() {
        let state = with_open(|open| {
            open.retry = Some(PlannedRetry {
                due_at: at(30).wall,
                delay_ms: 10_000,
            });
        });
        let call = call_under(|_| {});
        let mut paces = Paces::default();
        let early = paces.begins(ID, &state, &call, at(29), false);
        breaks(early, "it is due at 1970-01-01T00:00:30");
        paces.begins(ID, &state, &call, at(29), true).unwrap();

        paces.ended(ID, call.message.version, at(20).elapsed);
        let jumped = Now {
            wall: at(1_000).wall,
            ..at(29)
        };
        let early = paces.begins(ID, &state, &call, jumped, true);
        breaks(early, "it is due at 30s");
        paces.begins(ID, &state, &call, at(30), false).unwrap();
        let probe = Call {
            probe: true,
            ..call
        };
        paces.begins(ID, &state, &probe, at(29), false).unwrap();
    }
    /// A retry that was planned a hundred seconds after the beginning of 1970.
    fn with_planned(counted: u32, delay_ms: u64) -> SubscriptionState {
        let due_at = at(100).wall.plus(Duration::from_millis(delay_ms));
        with_open(|open| {
            open.counted = counted;
            open.retry = Some(PlannedRetry { due_at, delay_ms });
        })
    }

    #[test]
    fn a_retry_that_waits_otherwise_than_its_settings_have_it_is_told() {
        let paces = Paces::default();
        let call_of = |retry_strategy| {
            call_under(|policy| {
                policy.retry = Retry {
                    retry_strategy,
                    initial_delay_seconds: 10,
                    max_delay_seconds: 30,
                    jitter_percent: 20,
                    ..Retry::default()
                };
            })
        };
        let linear = call_of(RetryStrategy::Linear);
        let exponential = call_of(RetryStrategy::Exponential);
        for (call, counted, shortest, longest) in [
            (&linear, 1, 8_000, 12_000),
            (&linear, 2, 16_000, 24_000),
            (&linear, 3, 24_000, 36_000),
            (&exponential, 1, 8_000, 12_000),
            (&exponential, 2, 16_000, 24_000),
            (&exponential, 3, 24_000, 36_000),
            (&exponential, 90, 24_000, 36_000),
        ] {
            let planned = |delay_ms| {
                let state = with_planned(counted, delay_ms);
                paces.planned(&state, call, None, at(100))
            };
            planned(shortest).unwrap();
            planned(longest).unwrap();
            breaks(planned(shortest - 1), "it waits");
            breaks(planned(longest + 1), "it waits");
        }
        let late = paces.planned(&with_planned(1, 10_000), &linear, None, at(101));
        breaks(late, "it is due at 1970-01-01T00:01:50");
    }

    #[test]
    fn a_retry_that_is_due_before_the_end_of_a_pause_is_told() {
        let mut paces = Paces::default();
        let call = call_under(|_| {});
        let pause = Duration::from_secs(50);
        let early = with_planned(1, 12_000);
        let mut in_time = with_planned(1, 50_000);
        in_time.hold = Some(Hold {
            until: at(150).wall,
            retry_after: RetryAfter::from_seconds(50),
        });
        breaks(
            paces.planned(&early, &call, Some(pause), at(100)),
            "it waits",
        );
        paces
            .planned(&in_time, &call, Some(pause), at(100))
            .unwrap();
        paces.held(ID, at(150).elapsed);
        breaks(paces.planned(&early, &call, None, at(100)), "it waits");
        paces.planned(&in_time, &call, None, at(100)).unwrap();
    }
}
