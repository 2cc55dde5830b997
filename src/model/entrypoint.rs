//! The webhook entrypoint of an API: the publisher's side.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiId, CallbackUrl, CustomHeader, Invalid, Retry, Secret, SubscriptionStatus};

/// First parts of paths under which the gateway itself answers.
const RESERVED: [&str; 6] = [
    "v1",
    "console",
    "metrics",
    "livez",
    "readyz",
    "openapi.json",
];

/// What a crash may do to a message that was being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Qos {
    /// As `AT_MOST_ONCE`.
    None,
    /// As `AT_LEAST_ONCE`.
    #[default]
    Auto,
    /// Recorded as taken before the call: after a crash it is not sent again.
    AtMostOnce,
    /// Recorded after the call: after a crash it is sent again, with the same `webhook-id`.
    AtLeastOnce,
}

impl Qos {
    /// Whether a message is recorded as taken before its call.
    pub const fn takes_first(self) -> bool {
        matches!(self, Self::None | Self::AtMostOnce)
    }
}

/// Where deliveries go that are given up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum DeadLetterQueue {
    /// Kept in the log, browsable, redeliverable.
    #[default]
    Embedded,
    /// Kept, and published as a message of another API.
    Api {
        /// That API.
        api: ApiId,
    },
    /// Kept, and posted to a URL.
    Http {
        /// That URL.
        url: CallbackUrl,
    },
    /// Nowhere: `onFailure` says what follows.
    None,
}

/// What follows a delivery that is given up where there is no dead letter queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The subscription goes to FAILURE; the message stays its next.
    #[default]
    Interrupt,
    /// The message is discarded, on record; the subscription goes on.
    Discard,
}

/// Connections and time limits of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Longest time to get a connection, TLS included. Default 3,000.
    pub connect_timeout_ms: u64,
    /// Longest time from the connection to the end of the response. Default 10,000.
    pub read_timeout_ms: u64,
    /// How long an unused connection is kept. Default 60,000.
    pub idle_timeout_ms: u64,
    /// Most calls of one subscription at a time. Default 5.
    pub max_concurrent_connections: u16,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 3_000,
            read_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            max_concurrent_connections: 5,
        }
    }
}

impl HttpOptions {
    /// Longest time a whole call may take.
    pub const fn total_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms + self.read_timeout_ms)
    }

    fn validate(&self) -> Result<(), Invalid> {
        const MS_MAX: u64 = 600_000;
        let mut invalid = Invalid::none();
        for (pointer, value) in [
            ("/connectTimeoutMs", self.connect_timeout_ms),
            ("/readTimeoutMs", self.read_timeout_ms),
            ("/idleTimeoutMs", self.idle_timeout_ms),
        ] {
            invalid.check(
                (1..=MS_MAX).contains(&value),
                pointer,
                format!("is {value}, must be 1 to {MS_MAX} ms"),
            );
        }
        invalid.check(
            (1..=1_000).contains(&self.max_concurrent_connections),
            "/maxConcurrentConnections",
            "must be 1 to 1000",
        );
        invalid.into_result()
    }
}

/// What kind of proxy stands between the gateway and callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProxyKind {
    /// HTTP CONNECT for https, absolute form for http.
    Http,
    /// SOCKS version 5, names resolved by the gateway.
    Socks5,
}

/// A proxy for callbacks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: ProxyKind,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// What of one side of a call is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingParts {
    /// Its headers.
    pub headers: bool,
    /// Its body.
    pub payload: bool,
}

/// What of each call is captured. All off by default; metrics are kept all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Master switch of the four below.
    pub enabled: bool,
    /// Of the request.
    pub request: LoggingParts,
    /// Of the response.
    pub response: LoggingParts,
}

impl Logging {
    /// Everything captured.
    pub const ALL: Self = Self {
        enabled: true,
        request: LoggingParts {
            headers: true,
            payload: true,
        },
        response: LoggingParts {
            headers: true,
            payload: true,
        },
    };

    /// Whether anything at all is captured.
    pub const fn captures(&self) -> bool {
        self.enabled
            && (self.request.headers
                || self.request.payload
                || self.response.headers
                || self.response.payload)
    }
}

/// Whether subscriptions that consumers make begin at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SubscriptionValidation {
    /// They are accepted as they come.
    #[default]
    Auto,
    /// They wait, PENDING, until somebody accepts or rejects them.
    Manual,
}

impl SubscriptionValidation {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for this signature"
    )]
    const fn is_auto(&self) -> bool {
        matches!(self, Self::Auto)
    }

    /// Where a subscription stands that a consumer makes.
    pub const fn first_status(self) -> SubscriptionStatus {
        match self {
            Self::Auto => SubscriptionStatus::Accepted,
            Self::Manual => SubscriptionStatus::Pending,
        }
    }
}

/// The HTTP method of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
}

impl Method {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// Whether calls carry messages as CloudEvents 1.0.
///
/// `id` is the message's id, `source` is `/apis/` and the API's id, `type` is the message's type
/// or `hooklog.message`, `time` is when the message was accepted, `datacontenttype` is its content
/// type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloudEvents {
    /// No: the content alone.
    #[default]
    None,
    /// The content as the body, attributes as `ce-` headers.
    Binary,
    /// One JSON object with attributes and content, as `application/cloudevents+json`.
    Structured,
}

impl CloudEvents {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for this signature"
    )]
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// How consumers get an API's messages, and what their subscriptions inherit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookEntrypoint {
    /// Path under which consumers reach the entrypoint. Unique, starts with `/`.
    pub context_path: String,
    /// Callback URL of subscriptions that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<CallbackUrl>,
    /// Method of subscriptions that name none. Default POST.
    #[serde(default)]
    pub method: Method,
    /// Headers of every call; a subscription's and a message's of the same name win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CustomHeader>,
    /// Retry policy of subscriptions that name none.
    #[serde(default)]
    pub retry: Retry,
    /// What a crash may do to a message.
    #[serde(default)]
    pub qos: Qos,
    /// Where given-up deliveries go.
    #[serde(default)]
    pub dlq: DeadLetterQueue,
    /// What follows a given-up delivery where `dlq` is none.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Connections and time limits.
    #[serde(default)]
    pub http: HttpOptions,
    /// Proxy, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// What is captured.
    #[serde(default)]
    pub logging: Logging,
    /// Whether calls of subscriptions that do not say carry CloudEvents. Default none.
    #[serde(default, skip_serializing_if = "CloudEvents::is_none")]
    pub cloud_events: CloudEvents,
    /// Whether each call carries the subscription's id as `X-Gravitee-Client-Identifier`, which
    /// receivers of a Gravitee gateway know it by. Default false; an import sets it.
    #[serde(default, skip_serializing_if = "is_off")]
    pub gravitee_client_identifier: bool,
    /// Whether subscriptions that consumers make begin at once. Default AUTO.
    #[serde(default, skip_serializing_if = "SubscriptionValidation::is_auto")]
    pub subscription_validation: SubscriptionValidation,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for this signature"
)]
const fn is_off(switch: &bool) -> bool {
    !*switch
}

impl WebhookEntrypoint {
    /// An entrypoint under this path with every default.
    pub fn at(context_path: impl Into<String>) -> Self {
        Self {
            context_path: context_path.into(),
            callback_url: None,
            method: Method::Post,
            headers: Vec::new(),
            retry: Retry::default(),
            qos: Qos::Auto,
            dlq: DeadLetterQueue::Embedded,
            on_failure: OnFailure::Interrupt,
            http: HttpOptions::default(),
            proxy: None,
            logging: Logging::default(),
            cloud_events: CloudEvents::None,
            gravitee_client_identifier: false,
            subscription_validation: SubscriptionValidation::Auto,
        }
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        let path = &self.context_path;
        invalid.check(path.starts_with('/'), "/contextPath", "must start with /");
        invalid.check(
            path.len() <= 200
                && path
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b))
                && !path.contains("//")
                && path.split('/').all(|part| part != "." && part != ".."),
            "/contextPath",
            "may hold letters, digits and - _ . ~ between single slashes, at most 200 characters",
        );
        let first = path.split('/').nth(1).unwrap_or_default();
        invalid.check(
            !RESERVED.contains(&first),
            "/contextPath",
            format!("begins with /{first}, which the gateway itself answers under"),
        );
        invalid.merge("/headers", CustomHeader::validate_all(&self.headers));
        invalid.merge("/retry", self.retry.validate());
        invalid.merge("/http", self.http.validate());
        if let Some(proxy) = &self.proxy {
            invalid.check(
                !proxy.host.trim().is_empty(),
                "/proxy/host",
                "must not be empty",
            );
            invalid.check(proxy.port != 0, "/proxy/port", "must not be 0");
        }
        invalid.into_result()
    }
}
