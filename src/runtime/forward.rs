//! Takes dead letters to another API or to a URL.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use futures_util::future::BoxFuture;

use super::handle::Inner;
use crate::{
    actor::{DeadLetter, ForwardError, Forwarder},
    delivery::AttemptRequest,
    kill_point::KillPoint,
    log::{AppendError, EventLog, Health, ReadError, StreamId},
    model::{
        ApiId, AttemptNumber, AttemptResult, CallbackUrl, ConsumerConfiguration, DeadLetterQueue,
        DeliveryId, Message, MessageId, MessagePublished, Policy, Version, WebhookEntrypoint,
    },
    source::PublishError,
};

/// Messages read at a time where one is looked for: each may hold a mebibyte.
const MESSAGES_READ: usize = 16;

/// The runtime's forwarder. It is made before the runtime is, and told of it afterwards.
#[derive(Default)]
pub(super) struct Forwards {
    inner: OnceLock<Weak<Inner>>,
    unsure: Arc<Unsure>,
}

/// Dead letters that may be messages of another API already: the disk was full when they were
/// written. Each with the version that the messages of that API were at before.
#[derive(Default)]
struct Unsure(Mutex<HashMap<(ApiId, DeliveryId), Version>>);

impl Unsure {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ApiId, DeliveryId), Version>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version_before(&self, api: ApiId, delivery: DeliveryId) -> Option<Version> {
        self.lock().get(&(api, delivery)).copied()
    }
}

impl Forwards {
    /// Tells it of the runtime; a second telling changes nothing.
    pub(super) fn connect(&self, inner: &Arc<Inner>) {
        let _ = self.inner.set(Arc::downgrade(inner));
    }
}

impl Forwarder for Forwards {
    fn forward(&self, letter: DeadLetter) -> BoxFuture<'static, Result<(), ForwardError>> {
        let inner = self.inner.get().and_then(Weak::upgrade);
        let unsure = Arc::clone(&self.unsure);
        Box::pin(async move {
            let inner = inner.ok_or_else(|| "the runtime is stopping".to_owned())?;
            // Before it is read, which may be a mebibyte, again and again.
            let goes_into_log = matches!(letter.target, DeadLetterQueue::Api { .. });
            if goes_into_log && inner.log.room_for_messages().is_err() {
                return Err(ForwardError::NoRoom);
            }
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
                    publish(&inner, &unsure, message, &letter, *api).await
                }
                DeadLetterQueue::Http { url } => {
                    let posted = post(&inner, message, &letter, url).await;
                    posted.map_err(ForwardError::Failed)
                }
                DeadLetterQueue::Embedded | DeadLetterQueue::None => Ok(()),
            }
        })
    }
}

/// Headers that tell where a dead letter comes from.
const LETTER_HEADERS: [&str; 2] = ["x-dead-letter-message", "x-dead-letter-subscription"];

fn copy_id(delivery: DeliveryId) -> MessageId {
    MessageId::from_uuid(*delivery.as_uuid())
}

/// The dead letter as a message of another API. Its id is the delivery's, so a letter that is
/// forwarded twice after a crash can be told. Of one that was forwarded before it tells the last
/// way alone.
fn copy_of(message: &MessagePublished, letter: &DeadLetter) -> Message {
    let delivery = DeliveryId::of(message.id, letter.subscription);
    let mut copy = Message::new(message.content.clone(), message.content_type.clone())
        .with_id(copy_id(delivery));
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

/// Publishes a dead letter as a message of another API, once: where a full disk left open whether
/// it was, that is looked up first, when the log has been opened again.
async fn publish(
    inner: &Inner,
    unsure: &Unsure,
    message: &MessagePublished,
    letter: &DeadLetter,
    api: ApiId,
) -> Result<(), ForwardError> {
    let entry = inner.directory.api(api);
    let entry = entry.map_err(|error| error.to_string())?;
    let (log, stream) = (&inner.log, StreamId::messages(api));
    let delivery = DeliveryId::of(message.id, letter.subscription);
    if let Some(before) = unsure.version_before(api, delivery) {
        if log.health() == Health::Full {
            return Err(ForwardError::NoRoom);
        }
        let is_there = holds_after(log, stream, before, copy_id(delivery)).await;
        let is_there = is_there.map_err(|error| error.to_string())?;
        unsure.lock().remove(&(api, delivery));
        if is_there {
            return Ok(());
        }
    }
    let before = log.stream_version(stream);
    match entry.intake.publish_again(copy_of(message, letter)).await {
        Ok(()) => {
            KillPoint::Forward.pass();
            Ok(())
        }
        Err(PublishError::Append(AppendError::Full { .. } | AppendError::Refused(_))) => {
            Err(ForwardError::NoRoom)
        }
        Err(PublishError::Append(AppendError::Unknown(_)))
            if matches!(log.health(), Health::Full | Health::Sound) =>
        {
            unsure.lock().insert((api, delivery), before);
            Err(ForwardError::NoRoom)
        }
        Err(error) => Err(error.to_string().into()),
    }
}

/// Whether a stream of messages holds this one after a version.
async fn holds_after(
    log: &EventLog,
    stream: StreamId,
    mut after: Version,
    id: MessageId,
) -> Result<bool, ReadError> {
    loop {
        let events = match log.read_stream_async(stream, after, MESSAGES_READ).await {
            Ok(events) => events,
            Err(error) => {
                after = error.stream_goes_on_after().ok_or(error)?;
                continue;
            }
        };
        let Some(last) = events.last() else {
            return Ok(false);
        };
        after = last.version;
        let mut messages = events.iter().filter_map(|read| read.event.as_published());
        if messages.any(|message| message.id == id) {
            return Ok(true);
        }
    }
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
