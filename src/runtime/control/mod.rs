//! Creating and changing APIs, applications and subscriptions, and asking subscriptions something.

mod api;
mod application;
mod check;
mod delivery;
mod job;
mod secrets;
mod signing;
mod subscription;
mod test_call;
mod token;

pub use self::{signing::SigningSecret, test_call::TestReport, token::TokenSecret};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{ControlError, Handle};
use crate::{
    log::{Appended, ExpectedVersion, ReadError, StreamId, Urgency},
    model::{Event, Position, SubscriptionId, Timestamp, Version},
    subscription::Command,
};

impl Handle {
    /// Carries a change out to its end, also when its caller goes away: what is on record and what
    /// runs must not come apart.
    pub(in crate::runtime) async fn whole<T, F>(
        &self,
        change: impl FnOnce(Self) -> F,
    ) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let task = self.0.sources.tasks().spawn(change(self.clone()));
        joined(task.await)
    }

    pub(in crate::runtime) async fn command(
        &self,
        id: SubscriptionId,
        command: Command,
    ) -> Result<Position, ControlError> {
        // A subscription that is over leaves the directory at once, and may have dead letters on
        // their way for as long as their target is gone.
        let may_be_over = matches!(command, Command::Discard { .. }) && self.0.registry.runs(id);
        if !may_be_over {
            self.0.directory.owner(id)?;
        }
        if let Command::Redeliver { message, .. } = &command
            && self.0.retention.is_forgotten(message)
        {
            return Err(ControlError::UnknownMessage(message.id));
        }
        Ok(self.0.registry.execute(id, command).await?)
    }

    /// The first position whose event is not before this time.
    pub(super) async fn position_at(&self, time: Timestamp) -> Result<Position, ControlError> {
        let log = self.0.log.clone();
        joined(spawn_blocking(move || log.position_at(time)).await)
    }

    /// The last version of a stream that stands before this position, by halving.
    pub(super) async fn version_before(
        &self,
        stream: StreamId,
        position: Position,
    ) -> Result<Version, ControlError> {
        let (mut low, mut high) = (Version::ZERO, self.0.log.stream_version(stream));
        while low < high {
            let middle = Version::new(low.get() + (high.get() - low.get()) / 2);
            let found = self.0.log.read_stream_async(stream, middle, 1).await;
            match found {
                Ok(found) if found.first().is_some_and(|first| first.position < position) => {
                    low = middle.next();
                }
                Ok(_) => high = middle,
                // What retention cut stands before everything that is kept.
                Err(ReadError::StreamGone { .. }) => low = middle.next(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(low)
    }

    /// 256 random bits.
    fn fresh_bits(&self) -> Zeroizing<[u8; 32]> {
        let mut bits = Zeroizing::new([0; 32]);
        for half in bits.chunks_exact_mut(16) {
            half.copy_from_slice(&self.0.clock.entropy().to_be_bytes());
        }
        bits
    }

    pub(in crate::runtime) async fn append(
        &self,
        stream: StreamId,
        expected: ExpectedVersion,
        event: impl Into<Event>,
    ) -> Result<Appended, ControlError> {
        let events = vec![event.into()];
        Ok(self
            .0
            .log
            .append(stream, expected, events, Urgency::Now)
            .await?)
    }
}

/// The answer of a task; its panic goes on here.
pub(super) fn joined<T, E: Into<ControlError>>(
    answer: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, ControlError> {
    match answer.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(answer) => answer.map_err(Into::into),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(ControlError::Stopped),
    }
}
