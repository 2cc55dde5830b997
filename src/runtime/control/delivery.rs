//! What is done with past deliveries.

use super::{ControlError, Handle};
use crate::{
    actor::ExecuteError,
    model::{DeliveryId, Position},
    projection::deliveries::{DeliveryOutcome, DeliveryRow},
    subscription::{Command, PastDelivery, Rejection},
};

impl Handle {
    /// Makes a past delivery again, whatever its fate was, with the original bytes and
    /// `webhook-id` and a fresh budget.
    pub async fn redeliver(&self, id: DeliveryId) -> Result<Position, ControlError> {
        let (row, past) = self.past_delivery(id).await?;
        self.command(
            row.subscription,
            Command::Redeliver {
                message: row.message,
                past,
            },
        )
        .await
    }

    /// Drops a dead letter, or a delivery that waits for a retry.
    pub async fn discard(&self, id: DeliveryId) -> Result<Position, ControlError> {
        let (row, past) = self.past_delivery(id).await?;
        if !matches!(
            row.outcome,
            DeliveryOutcome::Retrying | DeliveryOutcome::DeadLettered
        ) {
            return Err(ExecuteError::from(Rejection::Ended(row.message)).into());
        }
        let command = Command::Discard {
            message: row.message,
            past,
            in_flight: false,
        };
        self.command(row.subscription, command).await
    }

    /// What the webhook log tells of a delivery, everything that is in the log by now included.
    async fn past_delivery(
        &self,
        id: DeliveryId,
    ) -> Result<(DeliveryRow, PastDelivery), ControlError> {
        let deliveries = self.caught_up(self.deliveries()).await?;
        let row = deliveries
            .delivery(id)?
            .ok_or(ControlError::UnknownDelivery(id))?;
        let past = PastDelivery {
            attempts: row.attempts,
            status: row.status,
            error: row.error.clone(),
        };
        Ok((row, past))
    }
}
