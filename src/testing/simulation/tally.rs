//! How often what happened, so that no kind of step gets lost unseen.

use std::{fmt, ops::AddAssign};

use super::callback::Mood;
use crate::{
    model::{Api, ApiState, Subscription},
    subscription::Command,
};

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident, )+) => {
        /// A fault or a command, by kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $( $(#[$doc])* $name, )+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),+ ];
        }
    };
}

kinds! {
    /// The gateway is killed.
    Kill,
    /// Its power is lost, with what was not synced.
    PowerCut,
    /// It is told to end.
    End,
    /// A sync fails.
    FailedSync,
    /// A write fails.
    FailedApply,
    /// The disk is full.
    FullDisk,
    /// The disk is nearly full.
    LittleRoom,
    /// The wall clock is set forward.
    ClockSetForward,
    /// The wall clock is set back.
    ClockSetBack,
    /// A callback is well from now on.
    TurnHealthy,
    /// A callback fails now and then.
    TurnFlaky,
    /// A callback does not answer.
    TurnDown,
    /// A callback refuses everything.
    TurnRefusing,
    /// A callback fails as hardly any does.
    TurnOdd,
    /// A subscription is paused.
    Pause,
    /// A subscription is resumed.
    Resume,
    /// A subscription is resumed after an interruption.
    ResumeFailure,
    /// A subscription gets other retry settings.
    UpdateRetry,
    /// A subscription gets another callback.
    UpdateCallback,
    /// A subscription gets a filter, or loses it.
    UpdateFilter,
    /// A subscription gets another delivery mode or channel.
    UpdateMode,
    /// A delivery is made again.
    Redeliver,
    /// A dead letter is dropped.
    Discard,
    /// A subscription is closed.
    Close,
    /// An entrypoint gets other retry settings.
    ApiRetry,
    /// An API is stopped.
    ApiStop,
    /// An API is started.
    ApiStart,
    /// A snapshot is saved.
    Snapshot,
    /// Readers and views read on.
    Look,
    /// A message is published under an idempotency key.
    PublishUnderKey,
    /// Something happens to tokens, jobs or idempotency keys.
    Other,
}

impl Kind {
    /// What this command is to a subscription of this definition; `None` for one that changes nothing
    /// or is no step's.
    pub(super) fn of_command(command: &Command, before: Option<&Subscription>) -> Option<Self> {
        match command {
            Command::Pause => Some(Self::Pause),
            Command::Resume => Some(Self::Resume),
            Command::ResumeFailure => Some(Self::ResumeFailure),
            Command::Close { .. } => Some(Self::Close),
            Command::Redeliver { .. } => Some(Self::Redeliver),
            Command::Discard { .. } => Some(Self::Discard),
            Command::Update { subscription } => Self::of_update(before?, subscription),
            _ => None,
        }
    }

    /// No update here changes two things.
    fn of_update(before: &Subscription, after: &Subscription) -> Option<Self> {
        let (was, is) = (&before.configuration, &after.configuration);
        let changes = [
            (Self::UpdateCallback, was.callback_url != is.callback_url),
            (Self::UpdateRetry, was.retry != is.retry),
            (Self::UpdateFilter, before.filter != after.filter),
            (
                Self::UpdateMode,
                (before.delivery_mode, &before.channel) != (after.delivery_mode, &after.channel),
            ),
        ];
        let made = changes.into_iter().find(|(_, is_made)| *is_made);
        made.map(|(kind, _)| kind)
    }

    pub(super) fn of_definition(before: &Api, after: &Api) -> Option<Self> {
        match (before.state, after.state) {
            (ApiState::Started, ApiState::Stopped) => Some(Self::ApiStop),
            (ApiState::Stopped, ApiState::Started) => Some(Self::ApiStart),
            _ => (before.entrypoint.retry != after.entrypoint.retry).then_some(Self::ApiRetry),
        }
    }
}

impl From<Mood> for Kind {
    fn from(mood: Mood) -> Self {
        match mood {
            Mood::Healthy => Self::TurnHealthy,
            Mood::Flaky => Self::TurnFlaky,
            Mood::Down => Self::TurnDown,
            Mood::Refusing => Self::TurnRefusing,
            Mood::Odd => Self::TurnOdd,
        }
    }
}

/// How often each kind of fault and of command came about, before everything healed. A command counts
/// where it was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally([u64; Kind::ALL.len()]);

impl Tally {
    pub(super) fn count(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    /// How often this came about.
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// What never came about.
    pub fn missing(&self) -> Vec<Kind> {
        let kinds = Kind::ALL.iter().copied();
        kinds.filter(|kind| self.of(*kind) == 0).collect()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Kind::ALL.iter().zip(self.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_about_in_any_life_is_missing() {
        let (mut sum, mut other) = (Tally::default(), Tally::default());
        for kind in Kind::ALL {
            match kind {
                Kind::Discard => {}
                Kind::Kill => sum.count(*kind),
                _ => other.count(*kind),
            }
        }
        assert!(other.missing().contains(&Kind::Kill));
        sum += other;
        sum += other;
        assert_eq!(sum.missing(), [Kind::Discard]);
        assert_eq!((sum.of(Kind::Kill), sum.of(Kind::Close)), (1, 2));
    }
}
