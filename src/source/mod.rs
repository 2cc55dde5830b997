//! Where messages come from. A source appends to the log and does nothing else; whoever delivers
//! reads the log.
//!
//! A source reads on from where the log says it stood: each message carries the coordinate it had
//! in its source, and a coordinate that is already in the log is dropped ([`Intake`]).

mod intake;
mod mock;

use futures_util::future::BoxFuture;

#[cfg(feature = "server")]
pub(crate) use self::intake::BATCH_MESSAGES_MAX;
pub use self::{
    intake::{Intake, IntakeOptions, PublishError, Receipt},
    mock::Mock,
};

/// Brings messages into the log until it is dropped.
pub trait MessageSource: Send + 'static {
    /// Runs until the source is exhausted. It is started again after a pause that grows when it
    /// fails, and dropped when its API stops. It must not block its thread.
    fn run(&mut self, intake: Intake) -> BoxFuture<'_, Result<(), SourceError>>;
}

/// Why a source stopped before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The log did not take a message.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The source itself failed.
    #[error("the source failed: {0}")]
    Source(String),
}
