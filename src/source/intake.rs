//! The way into the log for one API's messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::{
    activity::Activity,
    clock::SharedClock,
    log::{AppendError, EventLog, ExpectedVersion, StreamId, Urgency},
    model::{
        Api, ApiId, ApiState, Coordinate, Event, Invalid, Message, MessageId, MessagePublished,
        Moment, Position, Sampler,
    },
};

/// Most messages in one batch.
const BATCH_MESSAGES_MAX: usize = 1_000;

/// A message was accepted and is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Receipt {
    id: MessageId,
    position: Position,
    duplicate: bool,
}

impl Receipt {
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

    /// Accepts all of these messages, or none of them. At most 1,000.
    pub async fn publish_batch(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        self.check(&messages)?;
        let _busy = self.0.activity.begin();
        let mut receipts = Vec::with_capacity(messages.len());
        let mut events: Vec<Event> = Vec::with_capacity(messages.len());
        let mut coordinates = Vec::new();
        for message in messages {
            let duplicate = message
                .coordinate
                .as_ref()
                .is_some_and(|c| self.is_known(c));
            let moment = self.0.clock.moment();
            let id = message
                .id
                .unwrap_or_else(|| MessageId::from_moment(&moment));
            receipts.push(Receipt {
                id,
                position: Position::ZERO,
                duplicate,
            });
            if !duplicate {
                coordinates.extend(message.coordinate.clone());
                events.push(self.published(id, message, &moment).into());
            }
        }
        let first = self.append(events).await?;
        self.learn(coordinates);
        let mut next = first;
        for receipt in &mut receipts {
            if receipt.duplicate {
                receipt.position = self.0.log.head();
            } else {
                receipt.position = next;
                next = next.next();
            }
        }
        Ok(receipts)
    }

    async fn append(&self, events: Vec<Event>) -> Result<Position, PublishError> {
        if events.is_empty() {
            return Ok(Position::ZERO);
        }
        let log = &self.0.log;
        let appended = log
            .append(self.0.stream, ExpectedVersion::Any, events, Urgency::Now)
            .await?;
        Ok(appended.first)
    }

    fn check(&self, messages: &[Message]) -> Result<(), PublishError> {
        let api = self.api();
        if api.state == ApiState::Stopped {
            return Err(PublishError::Stopped { api: api.id });
        }
        let mut invalid = Invalid::none();
        invalid.check(
            messages.len() <= BATCH_MESSAGES_MAX,
            "",
            format!(
                "holds {} messages, at most {BATCH_MESSAGES_MAX} are allowed",
                messages.len()
            ),
        );
        for (index, message) in messages.iter().enumerate() {
            invalid.merge(&format!("/{index}"), message.validate());
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
