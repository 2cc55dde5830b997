//! A message: the payload that an API sends to its subscribers.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Header, Invalid, MessageId, Position, Timestamp, Version};

/// Largest content of a message, in bytes: 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Longest type, channel, key and coordinate, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 256;

/// Where a message stood in the source it was read from. Reading it again gives the same
/// coordinate, so a message already in the log is known and dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coordinate {
    /// The part of the source that numbers its messages (topic and partition, queue, `mock`).
    pub partition: String,
    /// The number in that part.
    pub offset: u64,
}

/// A message to publish.
///
/// ```
/// use hooklog::model::Message;
/// let message = Message::text("hello").with_type("greeting").with_header("x-tenant", "a");
/// assert_eq!(message.content_type, "text/plain; charset=utf-8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity; `None` lets the runtime give one.
    pub id: Option<MessageId>,
    /// The body of each call, byte for byte. At most 1 MiB.
    pub content: Bytes,
    /// `Content-Type` of each call.
    pub content_type: String,
    /// What kind of event it tells of, for filters.
    pub event_type: Option<String>,
    /// The channel it belongs to; a subscription to one channel gets only that channel's.
    pub channel: Option<String>,
    /// Messages with the same key keep their order in keyed mode.
    pub key: Option<String>,
    /// Headers of each call; they win over the subscription's.
    pub headers: Vec<Header>,
    /// Where it stood in its source.
    pub coordinate: Option<Coordinate>,
}

impl Message {
    /// A message with these bytes and this content type.
    pub fn new(content: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        Self {
            id: None,
            content: content.into(),
            content_type: content_type.into(),
            event_type: None,
            channel: None,
            key: None,
            headers: Vec::new(),
            coordinate: None,
        }
    }

    /// A message whose body is this value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Invalid> {
        match serde_json::to_vec(value) {
            Ok(content) => Ok(Self::new(content, "application/json")),
            Err(error) => Err(Invalid::one("/content", format!("cannot be JSON: {error}"))),
        }
    }

    /// A message whose body is this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into().into_bytes(), "text/plain; charset=utf-8")
    }

    /// The same message with this id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same message of this event type.
    #[must_use]
    pub fn with_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// The same message on this channel.
    #[must_use]
    pub fn with_channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// The same message with this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same message with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Checks size, attributes and headers.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            self.content.len() <= MESSAGE_BYTES_MAX,
            "/content",
            format_args!(
                "is {} bytes, at most {MESSAGE_BYTES_MAX} (1 MiB) are allowed",
                self.content.len()
            ),
        );
        let content_type = Header::new("x", &self.content_type);
        invalid.check(
            !self.content_type.is_empty() && content_type.validate().is_ok(),
            "/contentType",
            "must be a content type of visible ASCII",
        );
        for (pointer, value) in [
            ("/type", &self.event_type),
            ("/channel", &self.channel),
            ("/key", &self.key),
        ] {
            if let Some(value) = value {
                invalid.check(
                    !value.is_empty() && value.len() <= ATTRIBUTE_BYTES_MAX,
                    pointer,
                    format_args!("must be 1 to {ATTRIBUTE_BYTES_MAX} bytes"),
                );
            }
        }
        invalid.merge("/headers", Header::validate_all(&self.headers));
        invalid.into_result()
    }
}

/// Names a message wherever an event speaks of it: its id, and where to read it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageRef {
    /// Its place among its API's messages. A subscription's cursor counts these.
    pub version: Version,
    /// Its place in the log.
    pub position: Position,
    /// Its identity.
    pub id: MessageId,
    /// When it was accepted; deadlines count from here.
    pub accepted_at: Timestamp,
}
