//! The live side of subscriptions: one actix actor each, spread over a few threads.
//!
//! An actor is a thin shell around the pure core ([`subscription`](crate::subscription)): it reads
//! messages from the log, makes the calls that the core plans, and appends what came of them. It
//! decides nothing itself.
//!
//! It promises:
//! - at most one live actor a subscription, one command at a time (G3): the stream's version is
//!   checked on every append, so a second one would be found out at its first word;
//! - nothing is held in mailboxes but wake-ups and commands: the log is the queue;
//! - a panic costs its own subscription a restart from the log, and its siblings nothing;
//! - no blocking call on a thread that delivers.
//!
//! actix is imported here and nowhere else, and no type of it shows.

mod registry;
mod signal;
mod slots;
mod subscription_actor;
mod system;
#[cfg(test)]
mod tests;
mod time;

use futures_util::future::BoxFuture;

pub use self::registry::{ExecuteError, Inspection, Registry, RegistryOptions};
pub use self::slots::CALLS_MAX;
#[cfg(feature = "testing")]
pub(crate) use self::time::ClockTime;
use crate::{
    log::{AppendError, ReadError},
    model::{ApiId, DeadLetterQueue, MessageRef, Position, SubscriptionId, Version},
    subscription::SubscriptionState,
};

/// A dead letter on its way to the place its entrypoint names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The API whose message it is.
    pub api: ApiId,
    /// The subscription that gave it up.
    pub subscription: SubscriptionId,
    /// The message.
    pub message: MessageRef,
    /// Where it goes.
    pub target: DeadLetterQueue,
}

/// Takes dead letters to the place their entrypoint names.
pub trait Forwarder: Send + Sync + 'static {
    /// Takes one there.
    fn forward(&self, letter: DeadLetter) -> BoxFuture<'static, Result<(), ForwardError>>;
}

/// Why a dead letter is not at its place. It is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The log has no room for it, whose place is in the log. That is no failure of its place: it
    /// is tried again after a second, and nothing is recorded.
    #[error("the log has no room for it now")]
    NoRoom,
    /// Its place does not take it, for this reason, which is recorded. The more often, the longer
    /// it waits.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for ForwardError {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Finds what a subscription was, for an actor that is started again.
pub trait Recall: Send + Sync + 'static {
    /// Its state as the log tells it.
    fn recall(&self, id: SubscriptionId) -> BoxFuture<'static, Result<Recalled, RestartError>>;
}

/// What a subscription was, as the log tells it.
#[derive(Debug, Clone)]
pub struct Recalled {
    /// Its state.
    pub state: SubscriptionState,
    /// The last version of its stream.
    pub version: Version,
    /// The event since which something is thought of its callback; `None` while nothing is, and
    /// where a row does not tell.
    pub judged_since: Option<Position>,
    /// Whether some of its history is damaged, so that the state leaves it out.
    pub damaged: bool,
}

/// Why an actor could not be started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// Its events could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// That it was interrupted is not on record.
    #[error(transparent)]
    Append(#[from] AppendError),
}
