//! What stands around an event in the log: where, when, in which stream.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer, ser::SerializeMap};
use uuid::Uuid;

use crate::model::{
    ApiId, ApplicationId, Event, JobId, MessageEvent, Position, SubscriptionId, Timestamp, TokenId,
    Version,
};

/// What kind of thing a stream tells of. The number is what stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// An API's definition and state.
    Api = 1,
    /// An API's messages, and nothing else: versions count messages.
    Messages = 2,
    /// An application.
    Application = 3,
    /// A subscription and its deliveries.
    Subscription = 4,
    /// A token, and what its bearer asked for.
    Token = 5,
    /// A job: many deliveries redelivered or discarded.
    Job = 6,
    /// The log itself; there is one such stream.
    Log = 7,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Api,
        Self::Messages,
        Self::Application,
        Self::Subscription,
        Self::Token,
        Self::Job,
        Self::Log,
    ];

    /// The kind with this number on disk.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Messages => "messages",
            Self::Application => "application",
            Self::Subscription => "subscription",
            Self::Token => "token",
            Self::Job => "job",
            Self::Log => "log",
        }
    }
}

/// Names the stream of one thing's events, written as `kind/uuid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    kind: StreamKind,
    id: Uuid,
}

impl StreamId {
    /// Bytes of a stream id on disk: its kind and its sixteen bytes.
    pub const BYTES: usize = 17;

    /// The stream of this kind and id.
    pub const fn new(kind: StreamKind, id: Uuid) -> Self {
        Self { kind, id }
    }

    /// The stream of an API's definition.
    pub const fn api(id: ApiId) -> Self {
        Self::new(StreamKind::Api, *id.as_uuid())
    }

    /// The stream of an API's messages.
    pub const fn messages(id: ApiId) -> Self {
        Self::new(StreamKind::Messages, *id.as_uuid())
    }

    /// The stream of an application.
    pub const fn application(id: ApplicationId) -> Self {
        Self::new(StreamKind::Application, *id.as_uuid())
    }

    /// The stream of a subscription.
    pub const fn subscription(id: SubscriptionId) -> Self {
        Self::new(StreamKind::Subscription, *id.as_uuid())
    }

    /// The stream of a token.
    pub const fn token(id: TokenId) -> Self {
        Self::new(StreamKind::Token, *id.as_uuid())
    }

    /// The stream of a job.
    pub const fn job(id: JobId) -> Self {
        Self::new(StreamKind::Job, *id.as_uuid())
    }

    /// The stream of the log itself.
    pub const fn log() -> Self {
        Self::new(StreamKind::Log, Uuid::nil())
    }

    /// Its kind.
    pub const fn kind(self) -> StreamKind {
        self.kind
    }

    /// The sixteen bytes of the thing's id.
    pub const fn uuid(self) -> Uuid {
        self.id
    }

    /// The API, when this is a stream of one.
    pub fn as_api(self) -> Option<ApiId> {
        matches!(self.kind, StreamKind::Api | StreamKind::Messages)
            .then(|| ApiId::from_uuid(self.id))
    }

    /// The application, when this is its stream.
    pub fn as_application(self) -> Option<ApplicationId> {
        (self.kind == StreamKind::Application).then(|| ApplicationId::from_uuid(self.id))
    }

    /// The token, when this is its stream.
    pub fn as_token(self) -> Option<TokenId> {
        (self.kind == StreamKind::Token).then(|| TokenId::from_uuid(self.id))
    }

    /// The job, when this is its stream.
    pub fn as_job(self) -> Option<JobId> {
        (self.kind == StreamKind::Job).then(|| JobId::from_uuid(self.id))
    }

    /// The subscription, when this is its stream.
    pub fn as_subscription(self) -> Option<SubscriptionId> {
        (self.kind == StreamKind::Subscription).then(|| SubscriptionId::from_uuid(self.id))
    }

    /// Its form on disk; it sorts by kind, then id.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.kind as u8;
        bytes[1..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// The stream with this form on disk.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[1..]);
        Some(Self::new(
            StreamKind::from_u8(bytes[0])?,
            Uuid::from_bytes(id),
        ))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no stream: expected api/, messages/, application/, subscription/, token/ or job/ and a UUID"
)]
pub struct ForeignStream(String);

impl FromStr for StreamId {
    type Err = ForeignStream;

    fn from_str(text: &str) -> Result<Self, ForeignStream> {
        let stream = text.split_once('/').and_then(|(kind, id)| {
            let kind = StreamKind::ALL.into_iter().find(|k| k.as_str() == kind)?;
            Some(Self::new(kind, Uuid::parse_str(id).ok()?))
        });
        stream.ok_or_else(|| ForeignStream(text.to_owned()))
    }
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Its place in the log (G1).
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in its stream (G1).
    pub version: Version,
    /// When it was written, wall clock. Never before the event at the position below.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
}

impl RecordedEvent {
    /// About how many bytes it takes in memory: what it carries counts, which alone grows large.
    pub(crate) fn weight(&self) -> usize {
        let bodies = match &self.event {
            Event::Message(MessageEvent::Published(message)) => message.content.len(),
            Event::Subscription(event) => {
                let captured = event
                    .attempt()
                    .and_then(|attempt| attempt.captured.as_ref());
                captured.map_or(0, |captured| captured.bytes())
            }
            Event::Unknown(unknown) => unknown.payload.len(),
            Event::Api(_)
            | Event::Application(_)
            | Event::Access(_)
            | Event::Job(_)
            | Event::Log(_) => 0,
        };
        size_of::<Self>() + bodies
    }
}

impl Serialize for RecordedEvent {
    /// For people and programs outside: the envelope, then the payload under `data`. The log has
    /// a form of its own.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("position", &self.position)?;
        map.serialize_entry("stream", &self.stream)?;
        map.serialize_entry("version", &self.version)?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("type", &self.event.event_type())?;
        map.serialize_entry("schemaVersion", &self.event.schema_version())?;
        map.serialize_entry("data", &Payload(&self.event))?;
        map.end()
    }
}

struct Payload<'a>(&'a Event);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_payload(serializer)
    }
}
