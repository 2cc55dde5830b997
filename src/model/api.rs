//! An API: a stream of messages that applications subscribe to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiId, Invalid, Sampling, Source, WebhookEntrypoint};

/// Longest name of an API or application, in characters.
pub(super) const NAME_CHARS_MAX: usize = 200;

/// Whether an API takes in and delivers messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApiState {
    /// Messages are taken in and delivered.
    #[default]
    Started,
    /// Nothing is taken in; what was accepted waits.
    Stopped,
}

/// What of an API's traffic gets a log entry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Analytics {
    /// Which messages get a log entry. Counters count every message whatever this says.
    #[serde(default)]
    pub sampling: Sampling,
    /// Keeps the log entry of every delivery with a failed attempt, whatever the sample says.
    /// Default true.
    #[serde(default = "yes")]
    pub keep_failures: KeepFailures,
}

/// See [`Analytics::keep_failures`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct KeepFailures(pub bool);

impl Default for KeepFailures {
    fn default() -> Self {
        Self(true)
    }
}

fn yes() -> KeepFailures {
    KeepFailures(true)
}

/// Which calls with a message get an entry in the webhook log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogEntry {
    /// Every one: the sample took the message.
    Every,
    /// Those that fail.
    Failures,
    /// None.
    None,
}

impl Analytics {
    /// Which calls get an entry with a message that the sample took or did not take.
    pub const fn entry(&self, sampled: bool) -> LogEntry {
        match (sampled, self.keep_failures) {
            (true, _) => LogEntry::Every,
            (false, KeepFailures(true)) => LogEntry::Failures,
            (false, KeepFailures(false)) => LogEntry::None,
        }
    }
}

/// A message API with one webhook entrypoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Api {
    /// Its identity, given at creation.
    #[serde(default = "ApiId::nil")]
    pub id: ApiId,
    /// Unique name, 1 to 200 characters.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The publisher's own version of the API.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whether it runs.
    #[serde(default)]
    pub state: ApiState,
    /// Where its messages come from. Default: they are published.
    #[serde(default)]
    pub source: Source,
    /// How consumers get them.
    pub entrypoint: WebhookEntrypoint,
    /// What gets a log entry.
    #[serde(default)]
    pub analytics: Analytics,
}

impl Api {
    /// An API with this name whose messages are published, under the context path `/<name>`
    /// (lower case, everything else a dash).
    ///
    /// It has no identity before it is created: the runtime gives it one.
    ///
    /// ```
    /// use hooklog::model::Api;
    /// let api = Api::named("Order events");
    /// assert_eq!(api.entrypoint.context_path, "/order-events");
    /// ```
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let entrypoint = WebhookEntrypoint::at(format!("/{}", slug(&name)));
        Self {
            id: ApiId::nil(),
            name,
            description: String::new(),
            version: String::new(),
            state: ApiState::Started,
            source: Source::default(),
            entrypoint,
            analytics: Analytics::default(),
        }
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.merge("/name", validate_name(&self.name));
        invalid.merge("/source", self.source.validate());
        invalid.merge("/entrypoint", self.entrypoint.validate());
        invalid.merge("/analytics/sampling", self.analytics.sampling.validate());
        invalid.into_result()
    }
}

pub(super) fn validate_name(name: &str) -> Result<(), Invalid> {
    let mut invalid = Invalid::none();
    invalid.check(!name.trim().is_empty(), "", "must not be empty");
    invalid.check(
        name.chars().count() <= NAME_CHARS_MAX,
        "",
        format!("must be at most {NAME_CHARS_MAX} characters"),
    );
    invalid.check(
        !name.chars().any(char::is_control),
        "",
        "must not hold control characters",
    );
    invalid.into_result()
}

fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "api".to_owned()
    } else {
        slug.to_owned()
    }
}
