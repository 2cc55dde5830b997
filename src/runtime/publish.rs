//! Publishing: the way in for messages.

use std::sync::atomic::Ordering;

use super::Handle;
use crate::{
    model::{ApiId, Header, Invalid, Message, MessageId, MessagePublished, Position, TRACEPARENT},
    projection::{ViewError, idempotency_keys::IdempotencyKeys},
    source::{Intake, PublishError, Receipt},
};

impl Handle {
    /// Accepts a message for every subscription of an API. When this returns it is as durable as
    /// the runtime was told to make it, and will be delivered or dead-lettered.
    pub async fn publish(&self, api: ApiId, message: Message) -> Result<Receipt, PublishError> {
        self.intake(api)?.publish(message).await
    }

    /// Accepts all of these messages, or none. At most 1,000.
    pub async fn publish_batch(
        &self,
        api: ApiId,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        self.intake(api)?.publish_batch(messages).await
    }

    /// As [`publish_batch`](Self::publish_batch), unless these messages are in the log already:
    /// then their receipts are given again, as duplicates. Their ids must be UUIDs of version 8, as
    /// made of a key by whoever publishes; they are remembered for a day. A `traceparent` among their
    /// headers may be another one.
    ///
    /// # Errors
    /// [`PublishError::Invalid`] when other messages have these ids.
    pub async fn publish_keyed(
        &self,
        api: ApiId,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let handle = self.clone();
        // To its end, also when the caller goes away: who comes next must know how it ended.
        let whole = self.0.sources.tasks().spawn(async move {
            let first = messages.first().and_then(|message| message.id);
            let _lane = handle
                .0
                .lanes
                .enter(first.unwrap_or(MessageId::nil()).as_uuid())
                .await;
            match handle.known(api, &messages).await? {
                Some(receipts) => Ok(receipts),
                None => handle.publish_batch(api, messages).await,
            }
        });
        match whole.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(answer) => answer,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Err(PublishError::ShuttingDown),
        }
    }

    /// The receipts of messages that are in the log; `None` when the first is not.
    async fn known(
        &self,
        api: ApiId,
        messages: &[Message],
    ) -> Result<Option<Vec<Receipt>>, PublishError> {
        let view = self.caught_up(self.built_in::<IdempotencyKeys>()).await;
        let view = view.map_err(not_known)?;
        let mut receipts = Vec::with_capacity(messages.len());
        for message in messages {
            let Some(id) = message.id else { continue };
            let Some(position) = view.position_of(api, id).map_err(not_known)? else {
                break;
            };
            self.check_same(message, position).await?;
            receipts.push(Receipt::again(id, position));
        }
        if receipts.is_empty() {
            return Ok(None);
        }
        if receipts.len() < messages.len() {
            return Err(PublishError::Invalid(other_messages()));
        }
        Ok(Some(receipts))
    }

    async fn check_same(&self, message: &Message, position: Position) -> Result<(), PublishError> {
        let event = self.0.log.get_async(position).await;
        // One that cannot be read any more is taken at its word.
        let Ok(Some(event)) = event else {
            return Ok(());
        };
        let same = event
            .event
            .as_published()
            .is_some_and(|p| is_same(p, message));
        if same {
            Ok(())
        } else {
            Err(other_messages().into())
        }
    }

    fn intake(&self, api: ApiId) -> Result<Intake, PublishError> {
        if self.0.ending.load(Ordering::Acquire) {
            return Err(PublishError::ShuttingDown);
        }
        let things = self.0.directory.read();
        let entry = things
            .apis
            .get(&api)
            .ok_or(PublishError::UnknownApi { api })?;
        Ok(entry.intake.clone())
    }
}

fn is_same(published: &MessagePublished, message: &Message) -> bool {
    published.content == message.content
        && published.content_type == message.content_type
        && published.event_type == message.event_type
        && published.channel == message.channel
        && published.key == message.key
        && without_trace(&published.headers).eq(without_trace(&message.headers))
}

/// Which trace a message came in is no part of what it is: a request that is made again has another
/// span, and the gateway sends it along as a header.
fn without_trace(headers: &[Header]) -> impl Iterator<Item = &Header> {
    headers
        .iter()
        .filter(|header| !header.name.eq_ignore_ascii_case(TRACEPARENT))
}

fn not_known(error: ViewError) -> PublishError {
    let reason = error.to_string();
    PublishError::KeyNotKnown { reason }
}

fn other_messages() -> Invalid {
    Invalid::one(
        "",
        "is not what was published under this key; use a new key for new messages",
    )
}
