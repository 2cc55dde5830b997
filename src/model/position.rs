//! Where an event stands: in the whole log, and in its stream.

use std::{fmt, num::ParseIntError, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! ordinal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Before the first: what an empty log or stream has reached.
            pub const ZERO: Self = Self(0);
            /// The first.
            pub const FIRST: Self = Self(1);
            /// The largest that can be written.
            pub const MAX: Self = Self(u64::MAX);

            /// This ordinal from its number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after it; none is after [`MAX`](Self::MAX).
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The one before it, or [`ZERO`](Self::ZERO).
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// The one `count` places after it, at most [`MAX`](Self::MAX).
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// How many places it stands after `earlier`; 0 when it does not.
            pub const fn distance_from(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    };
}

ordinal!(
    /// An event's place in the whole log: from 1, in commit order, gapless but where a repair gave up
    /// what was damaged (G1).
    Position
);
ordinal!(
    /// An event's place in its stream: gapless, from 1 (G1).
    Version
);
