//! Creating and changing APIs, applications and subscriptions, and asking subscriptions something.

mod api;
mod application;
mod check;
mod delivery;
mod secrets;
mod subscription;
mod token;

pub use self::token::TokenSecret;
use super::{ControlError, Handle};
use crate::{
    log::{Appended, ExpectedVersion, StreamId, Urgency},
    model::{Event, Position, SubscriptionId},
    subscription::Command,
};

impl Handle {
    /// Carries a change out to its end, also when its caller goes away: what is on record and what
    /// runs must not come apart.
    async fn whole<T, F>(&self, change: impl FnOnce(Self) -> F) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let task = self.0.sources.tasks().spawn(change(self.clone()));
        joined(task.await)
    }

    async fn command(
        &self,
        id: SubscriptionId,
        command: Command,
    ) -> Result<Position, ControlError> {
        self.0.directory.owner(id)?;
        Ok(self.0.registry.execute(id, command).await?)
    }

    async fn append(
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
fn joined<T, E: Into<ControlError>>(
    answer: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, ControlError> {
    match answer.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(answer) => answer.map_err(Into::into),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(ControlError::Stopped),
    }
}
