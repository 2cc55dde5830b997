//! Where an API's messages come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Header, Invalid, MESSAGE_BYTES_MAX};

/// Where an API's messages come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// They are published through the API.
    #[default]
    Publish,
    /// They are made up, for trials.
    Mock(MockSource),
}

/// Made-up messages at a steady pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MockSource {
    /// Time between two messages. Default 1,000.
    pub message_interval_ms: u64,
    /// Content of every message. Default `mock message`.
    pub message_content: String,
    /// How many messages to make in all; without end when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_count: Option<u64>,
    /// Headers of every message. They stand in the log, so none may be named as secrets are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
}

impl Default for MockSource {
    fn default() -> Self {
        Self {
            message_interval_ms: 1_000,
            message_content: "mock message".to_owned(),
            message_count: None,
            headers: Vec::new(),
        }
    }
}

impl Source {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self::Mock(mock) = self else {
            return Ok(());
        };
        let mut invalid = Invalid::none();
        invalid.check(
            mock.message_interval_ms >= 1,
            "/messageIntervalMs",
            "must be at least 1",
        );
        invalid.check(
            mock.message_content.len() <= MESSAGE_BYTES_MAX,
            "/messageContent",
            format!("must be at most {MESSAGE_BYTES_MAX} bytes"),
        );
        invalid.merge("/headers", Header::validate_all(&mock.headers));
        for (index, header) in mock.headers.iter().enumerate() {
            invalid.merge(&format!("/headers/{index}"), header.validate_shown());
        }
        invalid.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_message_carries_no_header_that_is_named_as_a_secret() {
        let of = |name: &str| {
            let headers = vec![Header::new("x-kind", "order"), Header::new(name, "1")];
            let mock = MockSource {
                headers,
                ..MockSource::default()
            };
            Source::Mock(mock).validate()
        };
        assert!(of("x-tenant").is_ok());
        for name in ["Authorization", "x-api-key", "X-Shop-Token"] {
            let error = of(name).unwrap_err();
            assert_eq!(error.problems[0].pointer, "/headers/1/name", "{name}");
        }
    }
}
