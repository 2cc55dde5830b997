//! The plain data of hooklog, with its validation: what an API, an application, a subscription and
//! a message are, how retries, authentication, logging and sampling are described, and the events
//! that tell what happened to them.
//!
//! This room imports no other. Everything here is a value: nothing reads a clock, draws a random
//! number, or touches a disk or a socket.

mod access;
mod api;
mod application;
mod attempt;
mod auth;
mod capture;
mod content;
mod entrypoint;
mod event;
mod filter;
mod header;
mod ids;
mod job;
mod message;
mod moment;
mod policy;
mod position;
mod redact;
mod retry;
mod sampling;
mod secret;
mod source;
mod subscription;
mod time;
mod trace;
mod url;
mod validation;

pub use self::{
    access::{Permission, RequestKey, Role, Token, TokenHash},
    api::{Analytics, Api, ApiState, KeepFailures, LogEntry},
    application::Application,
    attempt::{
        AttemptError, AttemptNumber, AttemptReport, AttemptResult, ErrorClass, Fault, RetryAfter,
        Timings,
    },
    auth::{Auth, JwtAlgorithm, JwtClaim, JwtProfile, OAuth2, Signing, SigningKey, Ssl},
    capture::{Captured, CapturedBody, CapturedHeader, CapturedPart},
    entrypoint::{
        CloudEvents, DeadLetterQueue, HttpOptions, Logging, LoggingParts, Method, OnFailure, Proxy,
        ProxyKind, Qos, SubscriptionValidation, WebhookEntrypoint,
    },
    event::{
        AccessEvent, ApiCreated, ApiDeleted, ApiEvent, ApiStarted, ApiStopped, ApiUpdated,
        ApplicationCreated, ApplicationDeleted, ApplicationEvent, ApplicationUpdated,
        AttemptFailed, AttemptRecord, AttemptSucceeded, CircuitClosed, CircuitOpened,
        DeadLetterForwardFailed, DeadLetterForwarded, DeadLetterReason, DeliveryDeadLettered,
        DeliveryDiscarded, DeliveryFiltered, DeliveryRedelivered, DeliveryTaken, DiscardReason,
        Event, EventType, FailureCause, FilterReason, JobCancelled, JobCreated, JobEvent,
        JobFailed, JobFinished, JobPaused, JobProgressed, JobResumed, LogCut, LogEvent,
        LogRepaired, MessageEvent, MessagePublished, RequestAccepted, RetryScheduled,
        SubscriptionAccepted, SubscriptionClosed, SubscriptionCreated, SubscriptionEvent,
        SubscriptionFailed, SubscriptionHeld, SubscriptionPaused, SubscriptionRecovered,
        SubscriptionRejected, SubscriptionResumed, SubscriptionUpdated, TokenCreated, TokenRevoked,
        UnknownEvent,
    },
    filter::{FILTER_BYTES_MAX, FilterExpression, FilterVerdict},
    header::{CustomHeader, HEADER_BYTES_MAX, HEADERS_BYTES_MAX, HEADERS_COUNT_MAX, Header},
    ids::{
        ApiId, ApplicationId, DeliveryId, ForeignId, JobId, MessageId, RequestKeyId, SecretId,
        SubscriptionId, TokenId,
    },
    job::{
        DeadLetterFilter, JOB_DELIVERIES_MAX, JOB_FAILURES_KEPT, JOB_RATE_MAX, Job, JobCounts,
        JobCursor, JobFailure, JobKind, JobSelection, JobState, JobStatus,
    },
    message::{Coordinate, MESSAGE_BYTES_MAX, Message, MessageRef},
    moment::{Draws, Moment},
    policy::Policy,
    position::{Position, Version},
    redact::{REDACTED, is_secret_header, redacted_url},
    retry::{Retry, RetryOption, RetryStrategy, STANDARD_WEBHOOKS_SCHEDULE_SECONDS},
    sampling::{Sampler, Sampling},
    secret::{Secret, Secrets},
    source::{MockSource, Source},
    subscription::{
        ConsumerConfiguration, ConsumerStatus, DeliveryMode, StartFrom, Subscription,
        SubscriptionStatus,
    },
    time::Timestamp,
    trace::{ForeignTrace, SpanId, TRACEPARENT, TraceContext, TraceId},
    url::CallbackUrl,
    validation::{Invalid, Problem},
};
