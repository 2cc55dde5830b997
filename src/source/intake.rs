//! The way into the log for one API's messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::{
    activity::Activity,
    clock::SharedClock,
    log::{AppendError, EventLog, ExpectedVersion, PendingAppend, StreamId, Urgency},
    model::{
        Api, ApiId, ApiState, Coordinate, Event, Invalid, Message, MessageId, MessagePublished,
        Moment, Position, Sampler,
    },
};

/// Most messages in one batch.
pub(crate) const BATCH_MESSAGES_MAX: usize = 1_000;

/// A message was accepted and is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Receipt {
    id: MessageId,
    position: Position,
    duplicate: bool,
}

impl Receipt {
    /// The receipt of a message that is in the log already.
    pub(crate) const fn again(id: MessageId, position: Position) -> Self {
        Self {
            id,
            position,
            duplicate: true,
        }
    }

    /// The message's identity.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// Where it stands in the log.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Whether its coordinate was in the log already, so that it was dropped. Its position is
    /// then the log's head.
    pub const fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The API is stopped.
    #[error("API {api} is stopped; start it to publish")]
    Stopped {
        /// The API.
        api: ApiId,
    },
    /// There is no such API.
    #[error("there is no API {api}")]
    UnknownApi {
        /// The API.
        api: ApiId,
    },
    /// The gateway is being shut down. Nothing of it is in the log: publish it again after the next
    /// start.
    #[error("the gateway is shutting down; publish it again once it runs")]
    ShuttingDown,
    /// Whether it is in the log already cannot be told now. Nothing was published.
    #[error("cannot tell whether this key was used before: {reason}")]
    KeyNotKnown {
        /// Why.
        reason: String,
    },
    /// The log did not take it, or cannot say whether it did.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What an [`Intake`] is made of.
pub struct IntakeOptions {
    /// The log it appends to.
    pub log: EventLog,
    /// Time, and the randomness of ids and samples.
    pub clock: SharedClock,
    /// The API.
    pub api: Arc<Api>,
    /// Counts messages that are on their way into the log.
    pub activity: Activity,
    /// The last coordinate of each partition that is in the log.
    pub offsets: HashMap<String, u64>,
}

/// What a batch of messages comes to.
#[derive(Default)]
struct Batch {
    receipts: Vec<Receipt>,
    events: Vec<Event>,
    coordinates: Vec<Coordinate>,
}

impl Batch {
    fn holds(&self, coordinate: &Coordinate) -> bool {
        let mut same = self.coordinates.iter();
        same.any(|c| c.partition == coordinate.partition && c.offset >= coordinate.offset)
    }

    /// The receipts with their positions: what is new stands from `first` on, a duplicate's
    /// position is the log's head.
    fn placed(mut self, first: Position, head: Position) -> Vec<Receipt> {
        let mut next = first;
        for receipt in &mut self.receipts {
            if receipt.duplicate {
                receipt.position = head;
            } else {
                receipt.position = next;
                next = next.next();
            }
        }
        self.receipts
    }
}

/// Accepts the messages of one API. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    log: EventLog,
    clock: SharedClock,
    stream: StreamId,
    activity: Activity,
    api: RwLock<Arc<Api>>,
    sampler: Mutex<Sampler>,
    offsets: Mutex<HashMap<String, u64>>,
    /// Held while messages with coordinates are on their way into the log.
    begun: tokio::sync::Mutex<Option<Begun>>,
}

/// An append of messages with coordinates whose answer is not known yet. It is made even when its
/// caller went away, so whoever comes next learns its answer first.
struct Begun {
    coordinates: Vec<Coordinate>,
    append: PendingAppend,
}

impl Intake {
    /// The intake of an API.
    pub fn new(options: IntakeOptions) -> Self {
        let IntakeOptions {
            log,
            clock,
            api,
            activity,
            offsets,
        } = options;
        Self(Arc::new(Inner {
            log,
            clock,
            stream: StreamId::messages(api.id),
            activity,
            sampler: Mutex::new(Sampler::new(&api.analytics.sampling)),
            api: RwLock::new(api),
            offsets: Mutex::new(offsets),
            begun: tokio::sync::Mutex::new(None),
        }))
    }

    /// The API as it is now.
    pub fn api(&self) -> Arc<Api> {
        Arc::clone(&self.0.api.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over a new definition of the API. The sample starts anew when its rule changed.
    pub fn update(&self, api: Arc<Api>) {
        let before = std::mem::replace(
            &mut *self.0.api.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&api),
        );
        if before.analytics.sampling != api.analytics.sampling {
            *self
                .0
                .sampler
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Sampler::new(&api.analytics.sampling);
        }
    }

    /// The clock that messages are stamped by.
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The last offset of a partition that is in the log; `None` before the first.
    pub fn offset(&self, partition: &str) -> Option<u64> {
        self.0
            .offsets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(partition)
            .copied()
    }

    /// Accepts a message. When this returns, it is as durable as the log is configured to make it.
    ///
    /// Dropping the future does not take the message back: it may or may not be accepted.
    pub async fn publish(&self, message: Message) -> Result<Receipt, PublishError> {
        let receipts = self
            .publish_batch(vec![message])
            .await
            .map_err(|error| match error {
                PublishError::Invalid(mut invalid) => {
                    for problem in &mut invalid.problems {
                        problem.pointer = problem.pointer.trim_start_matches("/0").to_owned();
                    }
                    PublishError::Invalid(invalid)
                }
                other => other,
            })?;
        Ok(receipts
            .into_iter()
            .next()
            .expect("one message gives one receipt"))
    }

    /// Accepts a message that the gateway makes of one it had accepted: its headers may be more
    /// than a publisher may send.
    pub(crate) async fn publish_again(&self, message: Message) -> Result<(), PublishError> {
        self.check_runs()?;
        self.accept(vec![message]).await.map(drop)
    }

    /// Accepts all of these messages, or none of them. At most 1,000.
    pub async fn publish_batch(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        self.check(&messages)?;
        self.accept(messages).await
    }

    async fn accept(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, PublishError> {
        let _busy = self.0.activity.begin();
        if messages.iter().any(|message| message.coordinate.is_some()) {
            return self.publish_once(messages).await;
        }
        let mut batch = self.batch(messages);
        let events = std::mem::take(&mut batch.events);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let appended = self.enqueue(events).await?.await?;
        Ok(batch.placed(appended.first, appended.last))
    }

    /// Accepts what is not in the log yet. One batch at a time, so that a coordinate is known
    /// before it can come again.
    async fn publish_once(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, PublishError> {
        let mut begun = self.0.begun.lock().await;
        // An error was its caller's, who went away; what was not written is not known.
        let _ = self.end(&mut begun).await;
        let mut batch = self.batch(messages);
        let events = std::mem::take(&mut batch.events);
        let mut first = Position::ZERO;
        if !events.is_empty() {
            *begun = Some(Begun {
                coordinates: std::mem::take(&mut batch.coordinates),
                append: self.enqueue(events).await?,
            });
            first = self.end(&mut begun).await?;
        }
        Ok(batch.placed(first, self.0.log.head()))
    }

    /// Waits for the append that was begun, if there is one, and learns its coordinates. Gives the
    /// position of its first event.
    async fn end(&self, begun: &mut Option<Begun>) -> Result<Position, AppendError> {
        let Some(Begun { append, .. }) = begun else {
            return Ok(Position::ZERO);
        };
        let answer = append.await;
        let coordinates = begun.take().map(|begun| begun.coordinates);
        let appended = answer?;
        self.learn(coordinates.unwrap_or_default());
        Ok(appended.first)
    }

    async fn enqueue(&self, events: Vec<Event>) -> Result<PendingAppend, AppendError> {
        let (log, stream) = (&self.0.log, self.0.stream);
        log.enqueue_when_room(stream, ExpectedVersion::Any, events, Urgency::Now)
            .await
    }

    /// The events of what is new among these messages.
    fn batch(&self, messages: Vec<Message>) -> Batch {
        let mut batch = Batch::default();
        for message in messages {
            let coordinate = message.coordinate.clone();
            let duplicate = coordinate
                .as_ref()
                .is_some_and(|c| self.is_known(c) || batch.holds(c));
            let moment = self.0.clock.moment();
            let id = message
                .id
                .unwrap_or_else(|| MessageId::from_moment(&moment));
            batch.receipts.push(Receipt {
                id,
                position: Position::ZERO,
                duplicate,
            });
            if !duplicate {
                batch.coordinates.extend(coordinate);
                batch
                    .events
                    .push(self.published(id, message, &moment).into());
            }
        }
        batch
    }

    fn check_runs(&self) -> Result<(), PublishError> {
        let api = self.api();
        if api.state == ApiState::Stopped {
            return Err(PublishError::Stopped { api: api.id });
        }
        Ok(())
    }

    fn check(&self, messages: &[Message]) -> Result<(), PublishError> {
        self.check_runs()?;
        let mut invalid = Invalid::none();
        invalid.check(
            messages.len() <= BATCH_MESSAGES_MAX,
            "",
            format_args!(
                "holds {} messages, at most {BATCH_MESSAGES_MAX} are allowed",
                messages.len()
            ),
        );
        for (index, message) in messages.iter().enumerate() {
            if let Err(problems) = message.validate() {
                invalid.merge(&format!("/{index}"), Err(problems));
            }
        }
        Ok(invalid.into_result()?)
    }

    fn published(&self, id: MessageId, message: Message, moment: &Moment) -> MessagePublished {
        let sampled = self
            .0
            .sampler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(moment);
        MessagePublished {
            id,
            content: message.content,
            content_type: message.content_type,
            event_type: message.event_type,
            channel: message.channel,
            key: message.key,
            headers: message.headers,
            coordinate: message.coordinate,
            sampled,
        }
    }

    fn is_known(&self, coordinate: &Coordinate) -> bool {
        self.offset(&coordinate.partition)
            .is_some_and(|last| coordinate.offset <= last)
    }

    fn learn(&self, coordinates: Vec<Coordinate>) {
        let mut offsets = self
            .0
            .offsets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for Coordinate { partition, offset } in coordinates {
            let last = offsets.entry(partition).or_insert(offset);
            *last = (*last).max(offset);
        }
    }
}
