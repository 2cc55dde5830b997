//! Takes dead letters to another API or to a URL.

use std::sync::{Arc, OnceLock, Weak};

use futures_util::future::BoxFuture;

use super::handle::Inner;
use crate::{
    actor::{DeadLetter, Forwarder},
    delivery::AttemptRequest,
    kill_point::KillPoint,
    model::{
        AttemptNumber, AttemptResult, CallbackUrl, ConsumerConfiguration, DeadLetterQueue,
        DeliveryId, Message, MessageId, MessagePublished, Policy, WebhookEntrypoint,
    },
};

/// The runtime's forwarder. It is made before the runtime is, and told of it afterwards.
#[derive(Default)]
pub(super) struct Forwards(OnceLock<Weak<Inner>>);

impl Forwards {
    /// Tells it of the runtime; a second telling changes nothing.
    pub(super) fn connect(&self, inner: &Arc<Inner>) {
        let _ = self.0.set(Arc::downgrade(inner));
    }
}

impl Forwarder for Forwards {
    fn forward(&self, letter: DeadLetter) -> BoxFuture<'static, Result<(), String>> {
        let inner = self.0.get().and_then(Weak::upgrade);
        Box::pin(async move {
            let inner = inner.ok_or("the runtime is stopping")?;
            let recorded = inner.log.get_async(letter.message.position).await;
            let recorded = recorded
                .map_err(|error| error.to_string())?
                .ok_or_else(|| format!("position {} holds nothing", letter.message.position))?;
            let message = recorded
                .event
                .as_published()
                .ok_or_else(|| format!("position {} holds no message", recorded.position))?;
            match &letter.target {
                DeadLetterQueue::Api { api } => {
                    let entry = inner
                        .directory
                        .api(*api)
                        .map_err(|error| error.to_string())?;
                    let copy = copy_of(message, &letter);
                    entry
                        .intake
                        .publish_again(copy)
                        .await
                        .map_err(|error| error.to_string())?;
                    KillPoint::Forward.pass();
                    Ok(())
                }
                DeadLetterQueue::Http { url } => post(&inner, message, &letter, url).await,
                DeadLetterQueue::Embedded | DeadLetterQueue::None => Ok(()),
            }
        })
    }
}

/// Headers that tell where a dead letter comes from.
const LETTER_HEADERS: [&str; 2] = ["x-dead-letter-message", "x-dead-letter-subscription"];

/// The dead letter as a message of another API. Its id is the delivery's, so a letter that is
/// forwarded twice after a crash can be told. Of one that was forwarded before it tells the last
/// way alone.
fn copy_of(message: &MessagePublished, letter: &DeadLetter) -> Message {
    let delivery = DeliveryId::of(message.id, letter.subscription);
    let mut copy = Message::new(message.content.clone(), message.content_type.clone())
        .with_id(MessageId::from_uuid(*delivery.as_uuid()));
    copy.event_type.clone_from(&message.event_type);
    copy.channel.clone_from(&message.channel);
    copy.key.clone_from(&message.key);
    copy.headers.clone_from(&message.headers);
    copy.headers.retain(|header| {
        let is_own = |name: &&str| header.name.eq_ignore_ascii_case(name);
        !LETTER_HEADERS.iter().any(is_own)
    });
    let [of_message, of_subscription] = LETTER_HEADERS;
    copy.with_header(of_message, message.id.to_string())
        .with_header(of_subscription, letter.subscription.to_string())
}

async fn post(
    inner: &Inner,
    message: &MessagePublished,
    letter: &DeadLetter,
    url: &CallbackUrl,
) -> Result<(), String> {
    let configuration = ConsumerConfiguration {
        callback_url: Some(url.clone()),
        ..ConsumerConfiguration::default()
    };
    let report = inner
        .transport
        .send(AttemptRequest {
            delivery: DeliveryId::of(message.id, letter.subscription),
            api: letter.api,
            subscription: letter.subscription,
            attempt: AttemptNumber::FIRST,
            probe: false,
            message: Arc::new(message.clone()),
            accepted_at: letter.message.accepted_at,
            policy: Arc::new(Policy::of(&WebhookEntrypoint::at("/"), &configuration)),
            gravitee_client_identifier: false,
        })
        .await;
    match report.result {
        AttemptResult::Responded {
            status: 200..=299, ..
        } => Ok(()),
        AttemptResult::Responded { status, .. } => {
            Err(format!("{} answered {status}", url.redacted()))
        }
        AttemptResult::Failed(error) => Err(error.to_string()),
    }
}
