//! What is known of an API, an application, a subscription.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Api, Application, AttemptError, ConsumerStatus, FailureCause, Subscription, SubscriptionStatus,
    Timestamp,
};

/// An API as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiRow {
    /// Its definition, with its state.
    pub api: Api,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How many messages it accepted.
    #[serde(default)]
    pub messages: u64,
}

/// An application as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationRow {
    /// Its definition.
    pub application: Application,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What was decided about a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionState {
    /// Its definition; where it stands is in the fields beside it.
    pub definition: Subscription,
    /// Where it stands with the publisher.
    pub status: SubscriptionStatus,
    /// Where it stands with its callback.
    pub consumer_status: ConsumerStatus,
    /// Why it was interrupted, while it is.
    pub failure_cause: Option<FailureCause>,
    /// Why it was rejected.
    pub rejected_because: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When any of this last changed.
    pub updated_at: Timestamp,
}

/// A callback that is taken as down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitRow {
    /// Since when.
    pub opened_at: Timestamp,
    /// When it is probed next.
    pub probe_at: Timestamp,
    /// Retryable failures in a row before it.
    pub failures: u32,
}

/// A callback that asked for a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldRow {
    /// No call before this time.
    pub until: Timestamp,
    /// The status it asked with.
    pub status: u16,
}

/// How a subscription does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionHealth {
    /// The open circuit.
    pub circuit: Option<CircuitRow>,
    /// The last pause that its present callback asked for; over once its time is past.
    pub hold: Option<HoldRow>,
    /// Calls made.
    pub attempts: u64,
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Deliveries given up and kept.
    pub dead_lettered: u64,
    /// Deliveries given up and not kept.
    pub discarded: u64,
    /// When a call last succeeded.
    pub last_success_at: Option<Timestamp>,
    /// When a call last failed.
    pub last_failure_at: Option<Timestamp>,
    /// The status of the last failed call, 0 when there was no response.
    pub last_failure_status: Option<u16>,
    /// Why the last failed call got no response.
    pub last_error: Option<AttemptError>,
}

/// A subscription as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionRow {
    /// What was decided about it.
    #[serde(flatten)]
    pub state: SubscriptionState,
    /// How it does.
    pub health: SubscriptionHealth,
    /// The name of its API, if that is known.
    pub api_name: Option<String>,
    /// The name of its application, if that is known.
    pub application_name: Option<String>,
}
