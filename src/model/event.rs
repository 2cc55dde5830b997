//! The facts that the log holds. Each has a type, written as `noun.verb`, and a schema version;
//! both stand outside the payload, so a reader knows what it has before it decodes.
//!
//! A fact is never changed once released: a new shape is a new schema version with an upcaster
//! from the old one (see [`log`](crate::log)).

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Api, Application, AttemptError, AttemptNumber, CallbackUrl, Captured, ConsumerStatus,
    Coordinate, DeadLetterQueue, Fault, Header, Job, JobCounts, JobCursor, JobFailure, MessageId,
    MessageRef, Position, RequestKey, RetryAfter, Subscription, Timestamp, Timings, Token,
    TokenHash, Version, entrypoint::Method,
};

/// The type of an event, such as `attempt.failed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventType(Cow<'static, str>);

impl EventType {
    /// A type known to this program.
    pub const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A type read from outside.
    pub fn from_text(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fact of a type this program does not know, kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent {
    /// Its type.
    pub event_type: EventType,
    /// Its schema version.
    pub schema_version: u16,
    /// Its payload as it stands in the log (`MessagePack`).
    pub payload: Bytes,
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of a message.
    Message(MessageEvent),
    /// Of an API.
    Api(ApiEvent),
    /// Of an application.
    Application(ApplicationEvent),
    /// Of a subscription and its deliveries.
    Subscription(SubscriptionEvent),
    /// Of a token and its bearer.
    Access(AccessEvent),
    /// Of a job.
    Job(JobEvent),
    /// Of the log itself.
    Log(LogEvent),
    /// Of a type this program does not know.
    Unknown(UnknownEvent),
}

macro_rules! family {
    (
        $(#[$doc:meta])*
        $family:ident as $family_variant:ident {
            $( $(#[$variant_doc:meta])* $name:literal, $version:literal => $variant:ident($payload:ty), )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $family {
            $( $(#[$variant_doc])* $variant($payload), )+
        }

        impl $family {
            /// Every type of this family with its current schema version.
            pub const TYPES: &'static [(&'static str, u16)] = &[ $( ($name, $version) ),+ ];

            /// Its type.
            pub const fn event_type(&self) -> EventType {
                match self { $( Self::$variant(_) => EventType::known($name), )+ }
            }

            /// The schema version its payload is written in.
            pub const fn schema_version(&self) -> u16 {
                match self { $( Self::$variant(_) => $version, )+ }
            }

            fn serialize_payload<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $( Self::$variant(payload) => payload.serialize(serializer), )+ }
            }

            fn deserialize_payload<'de, D: Deserializer<'de>>(
                event_type: &str,
                deserializer: D,
            ) -> Option<Result<Self, D::Error>> {
                match event_type {
                    $( $name => Some(<$payload>::deserialize(deserializer).map(Self::$variant)), )+
                    _ => None,
                }
            }

            #[cfg(feature = "server")]
            fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![ $( ($name, generator.subschema_for::<$payload>()) ),+ ]
            }
        }

        impl From<$family> for Event {
            fn from(event: $family) -> Self {
                Self::$family_variant(event)
            }
        }

        $(
            impl From<$payload> for $family {
                fn from(payload: $payload) -> Self {
                    Self::$variant(payload)
                }
            }

            impl From<$payload> for Event {
                fn from(payload: $payload) -> Self {
                    $family::$variant(payload).into()
                }
            }
        )+
    };
}

family! {
    /// What happens to a message before it meets a subscription.
    MessageEvent as Message {
        /// It was accepted; from here on it is not lost.
        "message.published", 1 => Published(Arc<MessagePublished>),
    }
}

impl Event {
    /// From where on the log was given up, where this says so.
    pub(crate) const fn repaired_from(&self) -> Option<Position> {
        match self {
            Self::Log(LogEvent::Repaired(repaired)) => Some(repaired.from),
            _ => None,
        }
    }
}

impl From<MessagePublished> for Event {
    fn from(message: MessagePublished) -> Self {
        Arc::new(message).into()
    }
}

family! {
    /// What happens to an API.
    ApiEvent as Api {
        /// It was created.
        "api.created", 1 => Created(ApiCreated),
        /// Its definition was replaced.
        "api.updated", 1 => Updated(ApiUpdated),
        /// It takes in and delivers messages.
        "api.started", 1 => Started(ApiStarted),
        /// It does not.
        "api.stopped", 1 => Stopped(ApiStopped),
        /// It is gone; its messages stay in the log until retention.
        "api.deleted", 1 => Deleted(ApiDeleted),
    }
}

family! {
    /// What happens to an application.
    ApplicationEvent as Application {
        /// It was created.
        "application.created", 1 => Created(ApplicationCreated),
        /// Its definition was replaced.
        "application.updated", 1 => Updated(ApplicationUpdated),
        /// It is gone.
        "application.deleted", 1 => Deleted(ApplicationDeleted),
    }
}

family! {
    /// What happens to a token, and what its bearer asks for.
    AccessEvent as Access {
        /// It was created.
        "token.created", 1 => Created(TokenCreated),
        /// It is refused from now on.
        "token.revoked", 1 => Revoked(TokenRevoked),
        /// Its bearer asked for a change, and may.
        "request.accepted", 1 => RequestAccepted(RequestAccepted),
    }
}

family! {
    /// What happens to a job.
    JobEvent as Job {
        /// It was created, and begins.
        "job.created", 1 => Created(JobCreated),
        /// Some of its deliveries were dealt with.
        "job.progressed", 1 => Progressed(JobProgressed),
        /// It waits until it is resumed.
        "job.paused", 1 => Paused(JobPaused),
        /// It goes on.
        "job.resumed", 1 => Resumed(JobResumed),
        /// It was given up by a person; what was done stays done.
        "job.cancelled", 1 => Cancelled(JobCancelled),
        /// It has dealt with all that was selected.
        "job.finished", 1 => Finished(JobFinished),
        /// It could not go on.
        "job.failed", 1 => Failed(JobFailed),
    }
}

family! {
    /// What happens to the log itself.
    LogEvent as Log {
        /// Retention cuts it.
        "log.cut", 1 => Cut(LogCut),
        /// Its damaged end was given up.
        "log.repaired", 1 => Repaired(LogRepaired),
    }
}

family! {
    /// What happens to a subscription and to its deliveries.
    SubscriptionEvent as Subscription {
        /// It was created.
        "subscription.created", 1 => Created(SubscriptionCreated),
        /// Its definition was replaced.
        "subscription.updated", 1 => Updated(SubscriptionUpdated),
        /// The publisher accepted it.
        "subscription.accepted", 1 => Accepted(SubscriptionAccepted),
        /// The publisher refused it.
        "subscription.rejected", 1 => Rejected(SubscriptionRejected),
        /// It was paused.
        "subscription.paused", 1 => Paused(SubscriptionPaused),
        /// It was resumed.
        "subscription.resumed", 1 => Resumed(SubscriptionResumed),
        /// Its callback waits, because it asked for a pause with `Retry-After`.
        "subscription.held", 1 => Held(SubscriptionHeld),
        /// It was interrupted.
        "subscription.failed", 1 => Failed(SubscriptionFailed),
        /// It was resumed after an interruption.
        "subscription.recovered", 1 => Recovered(SubscriptionRecovered),
        /// It ended.
        "subscription.closed", 1 => Closed(SubscriptionClosed),
        /// A message is about to be sent (only where it must not be sent twice).
        "delivery.taken", 1 => Taken(DeliveryTaken),
        /// A run of messages is passed over.
        "delivery.filtered", 1 => Filtered(DeliveryFiltered),
        /// A call was answered with 2xx: the message is delivered.
        "attempt.succeeded", 1 => AttemptSucceeded(AttemptSucceeded),
        /// A call failed.
        "attempt.failed", 1 => AttemptFailed(AttemptFailed),
        /// Another call is planned.
        "retry.scheduled", 1 => RetryScheduled(RetryScheduled),
        /// The delivery was given up and kept.
        "delivery.dead_lettered", 1 => DeadLettered(DeliveryDeadLettered),
        /// The delivery was given up and not kept.
        "delivery.discarded", 1 => Discarded(DeliveryDiscarded),
        /// A past delivery is to be made again.
        "delivery.redelivered", 1 => Redelivered(DeliveryRedelivered),
        /// A dead letter reached the place it is forwarded to.
        "dead_letter.forwarded", 1 => DeadLetterForwarded(DeadLetterForwarded),
        /// A dead letter could not be forwarded; it is kept all the same.
        "dead_letter.forward_failed", 1 => DeadLetterForwardFailed(DeadLetterForwardFailed),
        /// The callback is taken as down; messages wait.
        "circuit.opened", 1 => CircuitOpened(CircuitOpened),
        /// The callback is up again.
        "circuit.closed", 1 => CircuitClosed(CircuitClosed),
    }
}

impl SubscriptionEvent {
    /// The call, when it tells what came of one.
    pub const fn attempt(&self) -> Option<&AttemptRecord> {
        match self {
            Self::AttemptSucceeded(event) => Some(&event.attempt),
            Self::AttemptFailed(event) => Some(&event.attempt),
            _ => None,
        }
    }
}

impl Event {
    /// Its type.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Message(event) => event.event_type(),
            Self::Api(event) => event.event_type(),
            Self::Application(event) => event.event_type(),
            Self::Subscription(event) => event.event_type(),
            Self::Access(event) => event.event_type(),
            Self::Job(event) => event.event_type(),
            Self::Log(event) => event.event_type(),
            Self::Unknown(event) => event.event_type.clone(),
        }
    }

    /// The schema version its payload is written in.
    pub const fn schema_version(&self) -> u16 {
        match self {
            Self::Message(event) => event.schema_version(),
            Self::Api(event) => event.schema_version(),
            Self::Application(event) => event.schema_version(),
            Self::Subscription(event) => event.schema_version(),
            Self::Access(event) => event.schema_version(),
            Self::Job(event) => event.schema_version(),
            Self::Log(event) => event.schema_version(),
            Self::Unknown(event) => event.schema_version,
        }
    }

    /// Every type that this program knows, with its current schema version.
    pub fn known_types() -> impl Iterator<Item = (&'static str, u16)> {
        [
            MessageEvent::TYPES,
            ApiEvent::TYPES,
            ApplicationEvent::TYPES,
            SubscriptionEvent::TYPES,
            AccessEvent::TYPES,
            JobEvent::TYPES,
            LogEvent::TYPES,
        ]
        .into_iter()
        .flatten()
        .copied()
    }

    /// Writes the payload alone, without type and version. An unknown event writes its bytes.
    pub fn serialize_payload<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Message(event) => event.serialize_payload(serializer),
            Self::Api(event) => event.serialize_payload(serializer),
            Self::Application(event) => event.serialize_payload(serializer),
            Self::Subscription(event) => event.serialize_payload(serializer),
            Self::Access(event) => event.serialize_payload(serializer),
            Self::Job(event) => event.serialize_payload(serializer),
            Self::Log(event) => event.serialize_payload(serializer),
            Self::Unknown(event) => serializer.serialize_bytes(&event.payload),
        }
    }

    /// Reads a payload of a type in its current schema version; `None` when the type is unknown.
    pub fn deserialize_payload<'de, D: Deserializer<'de>>(
        event_type: &str,
        deserializer: D,
    ) -> Option<Result<Self, D::Error>> {
        let noun = event_type
            .split_once('.')
            .map_or(event_type, |(noun, _)| noun);
        match noun {
            "message" => MessageEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Message)),
            "api" => ApiEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Api)),
            "application" => ApplicationEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Application)),
            "token" | "request" => AccessEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Access)),
            "job" => JobEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Job)),
            "log" => LogEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Log)),
            _ => SubscriptionEvent::deserialize_payload(event_type, deserializer)
                .map(|event| event.map(Self::Subscription)),
        }
    }

    /// The JSON Schema of every payload, by type.
    #[cfg(feature = "server")]
    pub fn schemas(
        generator: &mut schemars::SchemaGenerator,
    ) -> Vec<(&'static str, schemars::Schema)> {
        let mut schemas = MessageEvent::schemas(generator);
        schemas.extend(ApiEvent::schemas(generator));
        schemas.extend(ApplicationEvent::schemas(generator));
        schemas.extend(SubscriptionEvent::schemas(generator));
        schemas.extend(AccessEvent::schemas(generator));
        schemas.extend(JobEvent::schemas(generator));
        schemas.extend(LogEvent::schemas(generator));
        schemas
    }

    /// The message, when this tells that one was published.
    pub const fn as_published(&self) -> Option<&Arc<MessagePublished>> {
        match self {
            Self::Message(MessageEvent::Published(message)) => Some(message),
            _ => None,
        }
    }

    /// The subscription's event, when it is one.
    pub const fn as_subscription(&self) -> Option<&SubscriptionEvent> {
        match self {
            Self::Subscription(event) => Some(event),
            _ => None,
        }
    }
}

macro_rules! payload {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
    };
}

payload! {
    /// A message was accepted.
    MessagePublished {
        /// Its identity, `webhook-id` of each call.
        id: MessageId,
        /// Its content, byte for byte.
        #[serde(with = "super::content")]
        #[schemars(schema_with = "super::content::schema")]
        content: Bytes,
        /// `Content-Type` of each call.
        content_type: String,
        /// What kind of event it tells of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event_type: Option<String>,
        /// The channel it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
        /// Its ordering key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Headers of each call.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Header>,
        /// Where it stood in its source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coordinate: Option<Coordinate>,
        /// Whether the API's sample took it: its deliveries get log entries.
        sampled: bool,
    }
}

payload! {
    /// An API was created.
    ApiCreated {
        /// Its definition.
        api: Box<Api>,
    }
}
payload! {
    /// An API's definition was replaced.
    ApiUpdated {
        /// Its new definition.
        api: Box<Api>,
    }
}
payload! {
    /// An API was started.
    ApiStarted {}
}
payload! {
    /// An API was stopped.
    ApiStopped {}
}
payload! {
    /// An API was deleted.
    ApiDeleted {}
}
payload! {
    /// An application was created.
    ApplicationCreated {
        /// Its definition.
        application: Application,
    }
}
payload! {
    /// An application's definition was replaced.
    ApplicationUpdated {
        /// Its new definition.
        application: Application,
    }
}
payload! {
    /// An application was deleted.
    ApplicationDeleted {}
}

payload! {
    /// A token was created.
    TokenCreated {
        /// What it is.
        token: Token,
        /// The hash of its secret.
        hash: TokenHash,
    }
}
payload! {
    /// A token was revoked.
    TokenRevoked {}
}
payload! {
    /// The bearer of a token asked for a change. The events of the change, if any came of it,
    /// stand behind this one.
    RequestAccepted {
        /// The operation, as the API's description names it, such as `updateApi`.
        operation: String,
        /// The path that was asked for, which names the thing.
        path: String,
        /// The idempotency key it came with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<RequestKey>,
    }
}
payload! {
    /// A job was created.
    JobCreated {
        /// What it does, and with what.
        job: Box<Job>,
    }
}
payload! {
    /// A part of a job was done. Deliveries after `cursor` may have been dealt with already: after
    /// a crash they are looked at again.
    JobProgressed {
        /// The last delivery that counts.
        cursor: JobCursor,
        /// What came of all deliveries up to it.
        counts: JobCounts,
        /// Those of this part that failed, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<JobFailure>,
    }
}
payload! {
    /// A job was paused.
    JobPaused {}
}
payload! {
    /// A job was resumed.
    JobResumed {}
}
payload! {
    /// A job was cancelled.
    JobCancelled {}
}
payload! {
    /// A job came to its end.
    JobFinished {
        /// What came of all that was selected.
        counts: JobCounts,
    }
}
payload! {
    /// A job could not go on.
    JobFailed {
        /// Why.
        reason: String,
    }
}
payload! {
    /// Retention has cut the log: what stands below `first` is told by the origin alone, and
    /// messages below it are forgotten. The same cut may be told twice.
    LogCut {
        /// Where the log begins.
        first: Position,
        /// Bytes on disk that this gives back, without those that went before it could be told.
        bytes: u64,
    }
}
payload! {
    /// The end of the log was damaged, and somebody decided to go on without it. No event stands
    /// between `from` and this one.
    LogRepaired {
        /// The first position that was given up.
        from: Position,
        /// The last position known to have been written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Position>,
        /// How the damage was seen.
        reason: String,
    }
}
payload! {
    /// A subscription was created.
    SubscriptionCreated {
        /// Its definition.
        subscription: Box<Subscription>,
        /// Its first message is the one after this one; `startFrom` resolved when it was created.
        cursor: Version,
    }
}
payload! {
    /// A subscription's definition was replaced.
    SubscriptionUpdated {
        /// Its new definition. Identity, API, application and start do not change.
        subscription: Box<Subscription>,
    }
}
payload! {
    /// A subscription was accepted.
    SubscriptionAccepted {}
}
payload! {
    /// A subscription was refused.
    SubscriptionRejected {
        /// Why, for the consumer.
        reason: String,
    }
}
payload! {
    /// A subscription was paused.
    SubscriptionPaused {}
}
payload! {
    /// A subscription was resumed.
    SubscriptionResumed {}
}
payload! {
    /// A callback asked for a pause.
    SubscriptionHeld {
        /// No call before this time.
        until: Timestamp,
        /// The wait it asked for, clamped to a day. A clock that jumps cannot make it longer.
        retry_after: RetryAfter,
        /// The status it asked with.
        status: u16,
    }
}
payload! {
    /// A subscription was interrupted.
    SubscriptionFailed {
        /// What it is now: STOPPED after a 410 or by its consumer, else FAILURE.
        consumer_status: ConsumerStatus,
        /// Why.
        cause: FailureCause,
        /// The delivery that could not be made; it is the next when the subscription is resumed.
        /// Absent where the filter failed: the message is judged again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageRef>,
    }
}
payload! {
    /// A subscription was resumed after an interruption.
    SubscriptionRecovered {}
}
payload! {
    /// A subscription ended.
    SubscriptionClosed {}
}
payload! {
    /// A message is about to be sent.
    DeliveryTaken {
        /// The message.
        message: MessageRef,
        /// The attempt it is taken for.
        attempt: AttemptNumber,
    }
}
payload! {
    /// A run of messages is passed over.
    DeliveryFiltered {
        /// The first of the run.
        first: Version,
        /// The last of the run.
        last: Version,
        /// Why.
        #[serde(default, skip_serializing_if = "FilterReason::is_default")]
        reason: FilterReason,
    }
}
payload! {
    /// One call, as both outcomes record it.
    AttemptRecord {
        /// The message.
        message: MessageRef,
        /// Which attempt of the delivery, from 1.
        number: AttemptNumber,
        /// Whether it was a probe of an open circuit, which uses up no attempt.
        #[serde(default, skip_serializing_if = "is_false")]
        probe: bool,
        /// Whether another callback had taken the place of the one it went to when it ended.
        #[serde(default, skip_serializing_if = "is_false")]
        former_callback: bool,
        /// When the call began.
        started_at: Timestamp,
        /// How long its parts took.
        timings: Timings,
        /// Its method.
        method: Method,
        /// Where it went, [redacted](CallbackUrl::redacted).
        callback_url: CallbackUrl,
        /// The status of the response, 0 when there was none.
        status: u16,
        /// Headers and bodies, where logging is on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        captured: Option<Box<Captured>>,
    }
}
payload! {
    /// A call was answered with 2xx.
    AttemptSucceeded {
        /// The call.
        attempt: AttemptRecord,
    }
}
payload! {
    /// A call failed.
    AttemptFailed {
        /// The call.
        attempt: AttemptRecord,
        /// Why there was no response; absent when there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<AttemptError>,
    }
}
payload! {
    /// Another call is planned.
    RetryScheduled {
        /// The message.
        message: MessageRef,
        /// The attempt that is planned.
        attempt: AttemptNumber,
        /// When, wall clock.
        due_at: Timestamp,
        /// The wait from now to then. A clock that jumps cannot make it longer.
        delay_ms: u64,
    }
}
payload! {
    /// A delivery was given up and kept.
    DeliveryDeadLettered {
        /// The message.
        message: MessageRef,
        /// Why it was given up.
        reason: DeadLetterReason,
        /// Whose fault it was.
        fault: Fault,
        /// How many calls were made.
        attempts: u32,
        /// The last status, 0 when there was no response or no call.
        status: u16,
        /// The last error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<AttemptError>,
        /// Where it goes.
        target: DeadLetterQueue,
    }
}
payload! {
    /// A delivery was given up and not kept.
    DeliveryDiscarded {
        /// The message.
        message: MessageRef,
        /// Why.
        reason: DiscardReason,
        /// How many calls were made.
        attempts: u32,
        /// The last status, 0 when there was no response or no call.
        status: u16,
        /// The last error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<AttemptError>,
    }
}
payload! {
    /// A past delivery is to be made again, with the same `webhook-id`.
    DeliveryRedelivered {
        /// The message.
        message: MessageRef,
        /// The number of its next attempt; attempts count on.
        attempt: AttemptNumber,
    }
}
payload! {
    /// A dead letter reached the place it is forwarded to.
    DeadLetterForwarded {
        /// The message.
        message: MessageRef,
    }
}
payload! {
    /// A dead letter could not be forwarded yet.
    DeadLetterForwardFailed {
        /// The message.
        message: MessageRef,
        /// Why.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again; absent when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_at: Option<Timestamp>,
    }
}
payload! {
    /// The callback is taken as down.
    CircuitOpened {
        /// Retryable failures in a row.
        failures: u32,
        /// When it is probed, wall clock.
        probe_at: Timestamp,
        /// The wait from now to then.
        pause_ms: u64,
    }
}
payload! {
    /// The callback is up again.
    CircuitClosed {}
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for this signature"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Why a subscription was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum FailureCause {
    /// The callback answered 410 Gone.
    Gone,
    /// Its consumer stopped it.
    StoppedByConsumer,
    /// A delivery was given up, there is no dead letter queue, and `onFailure` is `interrupt`.
    GivenUp {
        /// Why it was given up.
        reason: DeadLetterReason,
        /// How many calls were made.
        attempts: u32,
        /// The last status, 0 when there was no response.
        status: u16,
        /// The last error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<AttemptError>,
    },
    /// Its actor failed again and again: a fault of the gateway, to be reported.
    Restarts {
        /// How often it was restarted.
        count: u32,
    },
    /// Part of its history in the log is damaged: what it was is not known for sure.
    DamagedHistory,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the callback answered 410 Gone"),
            Self::StoppedByConsumer => f.write_str("its consumer stopped it"),
            Self::GivenUp {
                reason,
                attempts,
                status,
                error,
            } => {
                write!(
                    f,
                    "a delivery was given up ({reason}) after {attempts} attempts"
                )?;
                match error {
                    Some(error) => write!(f, ", the last failed: {error}"),
                    None => write!(f, ", the last status was {status}"),
                }
            }
            Self::DamagedHistory => {
                f.write_str("part of its history is damaged; look at its settings, then resume it")
            }
            Self::Restarts { count } => {
                write!(f, "its actor failed and was restarted {count} times")
            }
        }
    }
}

/// Why a delivery was given up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// The callback refused the message with a status that is not retried.
    Refused,
    /// Every attempt was spent.
    AttemptsSpent,
    /// Its deadline passed.
    DeadlinePassed,
    /// The destination must not be called.
    Blocked,
    /// The call could not be made from the gateway's side, and trying again would not help.
    Unsendable,
    /// The subscription's filter fails on the message, so it was not called with it.
    FilterFailed,
}

impl DeadLetterReason {
    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::AttemptsSpent => "attempts_spent",
            Self::DeadlinePassed => "deadline_passed",
            Self::Blocked => "blocked",
            Self::Unsendable => "unsendable",
            Self::FilterFailed => "filter_failed",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why messages are passed over.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FilterReason {
    /// They are not for this subscription: another channel, or filtered out.
    #[default]
    NotForIt,
    /// They cannot be read any more: retention dropped them, or they are damaged.
    Unreadable,
}

impl FilterReason {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a delivery was given up without being kept.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DiscardReason {
    /// There is no dead letter queue and `onFailure` is `discard`.
    OnFailure,
    /// It was taken under at-most-once and its outcome was lost with a crash.
    Interrupted,
    /// The subscription was closed while it waited for a retry.
    SubscriptionClosed,
    /// A person discarded it.
    Operator,
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnFailure => "there is no dead letter queue, and onFailure is discard",
            Self::Interrupted => "its outcome was lost with a crash, and it must not be sent twice",
            Self::SubscriptionClosed => "the subscription was closed",
            Self::Operator => "somebody discarded it",
        })
    }
}
