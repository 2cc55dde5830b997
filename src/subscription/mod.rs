//! The pure core of a subscription: what it is, what may be asked of it, what follows.
//!
//! ```text
//! command ─▶ decide(&state, command, &policy, &moment) ─▶ events ─▶ log
//!                                                           │
//!               state ◀── apply(&mut state, &event) ◀───────┘──▶ effects (live only)
//!
//! Flight::next(&state, &policy, now, head) ─▶ actions: read, send, record, forward, wake
//!
//! Driver: all of it for one subscription. It gives jobs (read, send, forward, append, wake) and is
//!         told what came of them, so an actor and a simulation run the very same code.
//! ```
//!
//! It promises:
//! - the state is folded from events alone, so it can be explained and built again;
//! - every message ends in exactly one of delivered, dead-lettered and discarded, or is visibly
//!   pending (G8), and one without an outcome is sent again after a crash (G9);
//! - replay draws nothing: times and chance stand in the events.
//!
//! It imports nothing but [`model`](crate::model): no clock, no randomness, no disk, no socket.

mod apply;
pub mod circuit;
mod command;
mod decide;
mod driver;
mod effect;
mod flight;
pub mod outcome;
mod pace;
mod record;
mod runs;
pub mod schedule;
mod state;
mod timers;

pub use self::{
    apply::apply,
    command::{Command, PastDelivery, Rejection},
    decide::{FORWARD_JITTER_PERCENT, FORWARD_PAUSE_FIRST, FORWARD_PAUSE_MAX, decide},
    driver::{Call, Driver, Durable, Job, Time},
    effect::{Effect, effects},
    flight::{
        Action, Flight, GIVE_UP_STEP, KEYED_LOOK_AHEAD, MessageMeta, Now, OPEN_DELIVERIES_MAX,
        OUTCOMES_NOT_DURABLE_MAX, READ_AHEAD,
    },
    runs::Runs,
    state::{Counters, Forward, Hold, LastError, OpenDelivery, PlannedRetry, SubscriptionState},
};
