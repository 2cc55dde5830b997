//! A subscription: an application's webhook on an API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiId, ApplicationId, Auth, CallbackUrl, CustomHeader, FilterExpression, Invalid, Position,
    Retry, Signing, Ssl, SubscriptionId, Timestamp,
    entrypoint::{CloudEvents, Method},
};

/// Where a subscription stands with the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SubscriptionStatus {
    /// Waits to be accepted.
    Pending,
    /// Accepted: delivers while the consumer's side is started.
    #[default]
    Accepted,
    /// Paused by the publisher; messages wait.
    Paused,
    /// Ended.
    Closed,
    /// Refused.
    Rejected,
}

/// Where a subscription stands with its callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConsumerStatus {
    /// Delivering.
    #[default]
    Started,
    /// Stopped by the consumer, or because the callback said it is gone.
    Stopped,
    /// Interrupted by a delivery that could not be made; waits to be resumed.
    Failure,
}

/// In which order a subscription's messages are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// One at a time; a failing message holds the next.
    Ordered,
    /// In order per key; keys in parallel. A message without a key is held by none.
    Keyed,
    /// As many as may be in flight; a retry holds no other.
    #[default]
    Concurrent,
}

/// The first message a new subscription gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StartFrom {
    /// The first one accepted after the subscription.
    #[default]
    Now,
    /// The oldest one kept.
    Beginning,
    /// The first one at or after this position of the log.
    Position(Position),
    /// The first one accepted at or after this time.
    Time(Timestamp),
}

/// The consumer's settings. What is absent is inherited from the entrypoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConsumerConfiguration {
    /// Where messages are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<CallbackUrl>,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Headers of each call; they win over the entrypoint's of the same name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CustomHeader>,
    /// Retry policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Credentials.
    pub auth: Auth,
    /// TLS options.
    pub ssl: Ssl,
    /// Signatures; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// Most calls a second; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_second: Option<u32>,
    /// Most messages in flight. The entrypoint's `maxConcurrentConnections` bounds it, and holds
    /// when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u16>,
    /// Whether calls carry CloudEvents; as the entrypoint says when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<CloudEvents>,
}

impl ConsumerConfiguration {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.merge("/headers", CustomHeader::validate_all(&self.headers));
        if let Some(retry) = &self.retry {
            invalid.merge("/retry", retry.validate());
        }
        invalid.merge("/auth", self.auth.validate());
        if let Some(signing) = &self.signing {
            invalid.merge("/signing", signing.validate());
        }
        invalid.check(
            self.rate_limit_per_second != Some(0),
            "/rateLimitPerSecond",
            "must be at least 1",
        );
        invalid.check(
            self.max_in_flight
                .is_none_or(|max| (1..=1_000).contains(&max)),
            "/maxInFlight",
            "must be 1 to 1000",
        );
        invalid.into_result()
    }
}

/// An application's webhook on an API, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its identity, given at creation.
    #[serde(default = "SubscriptionId::nil")]
    pub id: SubscriptionId,
    /// The API whose messages it gets.
    #[serde(default = "ApiId::nil")]
    pub api: ApiId,
    /// Whose it is. Default: the application `default`.
    #[serde(default = "ApplicationId::nil")]
    pub application: ApplicationId,
    /// Only messages of this channel; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Only messages that this condition holds for; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterExpression>,
    /// The consumer's settings.
    #[serde(default)]
    pub configuration: ConsumerConfiguration,
    /// Where it stands with the publisher when it is created.
    #[serde(default)]
    pub status: SubscriptionStatus,
    /// No delivery before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_at: Option<Timestamp>,
    /// No delivery from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_at: Option<Timestamp>,
    /// Its first message.
    #[serde(default)]
    pub start_from: StartFrom,
    /// In which order.
    #[serde(default)]
    pub delivery_mode: DeliveryMode,
}

impl Subscription {
    /// A subscription of no application in particular to this callback, accepted, from now on.
    /// API and identity are given when it is created.
    ///
    /// ```
    /// use hooklog::model::Subscription;
    /// assert!(Subscription::to("https://example.com/hook").is_ok());
    /// assert!(Subscription::to("ftp://example.com").is_err());
    /// ```
    pub fn to(callback_url: &str) -> Result<Self, Invalid> {
        let url = callback_url.parse::<CallbackUrl>();
        let callback_url = url.map_err(|invalid| invalid.under("/configuration/callbackUrl"))?;
        Ok(Self::with(ConsumerConfiguration {
            callback_url: Some(callback_url),
            ..ConsumerConfiguration::default()
        }))
    }

    /// A subscription with this configuration, accepted, from now on.
    pub fn with(configuration: ConsumerConfiguration) -> Self {
        Self {
            id: SubscriptionId::nil(),
            api: ApiId::nil(),
            application: ApplicationId::nil(),
            channel: None,
            filter: None,
            configuration,
            status: SubscriptionStatus::Accepted,
            starting_at: None,
            ending_at: None,
            start_from: StartFrom::Now,
            delivery_mode: DeliveryMode::Concurrent,
        }
    }

    /// The same subscription of this application.
    #[must_use]
    pub fn by(mut self, application: ApplicationId) -> Self {
        self.application = application;
        self
    }

    /// The same subscription to the messages alone that this condition holds for.
    #[must_use]
    pub fn filtered(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(FilterExpression::new(filter));
        self
    }

    /// Whether it names another callback than this definition. What is thought of a callback, and
    /// planned for it, does not hold for another one.
    pub fn calls_elsewhere_than(&self, other: &Self) -> bool {
        self.configuration.callback_url != other.configuration.callback_url
    }

    /// Checks every field; of the filter its length.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        if let Some(filter) = &self.filter {
            invalid.merge("/filter", filter.validate());
        }
        invalid.merge("/configuration", self.configuration.validate());
        if let (Some(start), Some(end)) = (self.starting_at, self.ending_at) {
            invalid.check(
                start < end,
                "/endingAt",
                format!("is not after startingAt, {start}"),
            );
        }
        invalid.check(
            matches!(
                self.status,
                SubscriptionStatus::Pending | SubscriptionStatus::Accepted
            ),
            "/status",
            "must be PENDING or ACCEPTED at creation",
        );
        invalid.into_result()
    }
}
