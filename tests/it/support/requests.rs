//! Calls to make.

use std::sync::Arc;

use hooklog::{
    clock::SystemClock,
    delivery::{AttemptRequest, Egress, HttpTransport, Transport as _},
    model::{
        ApiId, AttemptNumber, AttemptReport, AttemptResult, ConsumerConfiguration, DeliveryId,
        ErrorClass, Fault, HttpOptions, Logging, MessageId, MessagePublished, Policy,
        SubscriptionId, WebhookEntrypoint,
    },
};
use uuid::Uuid;

/// Short limits: what has to run into them does so at once.
pub(crate) const BRIEF: HttpOptions = HttpOptions {
    connect_timeout_ms: 200,
    read_timeout_ms: 300,
    idle_timeout_ms: 60_000,
    max_concurrent_connections: 5,
};

/// A transport that may call loopback addresses.
pub(crate) fn transport() -> HttpTransport {
    HttpTransport::builder()
        .clock(SystemClock::shared())
        .egress(Egress::loopback())
        .build()
}

/// The settings of a subscription to this URL, everything captured.
pub(crate) fn policy(url: &str) -> Policy {
    let configuration = ConsumerConfiguration {
        callback_url: Some(url.parse().unwrap()),
        ..ConsumerConfiguration::default()
    };
    Policy {
        logging: Logging::ALL,
        ..Policy::of(&WebhookEntrypoint::at("/a"), &configuration)
    }
}

/// The first try of a message with these settings.
pub(crate) fn request(policy: Policy) -> AttemptRequest {
    let message = MessageId::from_uuid(Uuid::from_u128(1));
    let subscription = SubscriptionId::from_uuid(Uuid::from_u128(2));
    AttemptRequest {
        delivery: DeliveryId::of(message, subscription),
        api: ApiId::from_uuid(Uuid::from_u128(3)),
        subscription,
        attempt: AttemptNumber::FIRST,
        probe: false,
        message: Arc::new(MessagePublished {
            id: message,
            content: r#"{"order":7}"#.into(),
            content_type: "application/json".to_owned(),
            event_type: None,
            channel: None,
            key: None,
            headers: Vec::new(),
            coordinate: None,
            sampled: true,
        }),
        accepted_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        policy: Arc::new(policy),
        gravitee_client_identifier: false,
    }
}

/// Calls this URL once, under [`BRIEF`] limits.
pub(crate) async fn call(url: &str) -> AttemptReport {
    let policy = Policy {
        http: BRIEF,
        ..policy(url)
    };
    transport().send(request(policy)).await
}

/// The class of a failed call; panics when it did not fail.
pub(crate) fn class(report: &AttemptReport) -> ErrorClass {
    match &report.result {
        AttemptResult::Failed(error) => error.class,
        AttemptResult::Responded { status, .. } => panic!("answered {status}"),
    }
}

/// What is told of a call whose destination must not be called: no more than that.
pub(crate) const BLOCKED: (ErrorClass, &str) = (ErrorClass::Blocked, "blocked destination");

/// Class and detail of a failed call; panics when it did not fail.
pub(crate) fn told(report: &AttemptReport) -> (ErrorClass, &str) {
    match &report.result {
        AttemptResult::Failed(error) => (error.class, error.detail.as_str()),
        AttemptResult::Responded { status, .. } => panic!("answered {status}"),
    }
}

/// Whose fault a failed call is; panics when it did not fail.
pub(crate) fn fault(report: &AttemptReport) -> Fault {
    match &report.result {
        AttemptResult::Failed(error) => error.fault(),
        AttemptResult::Responded { status, .. } => panic!("answered {status}"),
    }
}
