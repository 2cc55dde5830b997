//! Extra request headers, and which are allowed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest header, name and value together, in bytes.
pub const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Most headers of one subscription, entrypoint or message.
pub const HEADERS_COUNT_MAX: usize = 32;
/// Most bytes of all of them together.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// A header that is sent with each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Name: letters, digits and `!#$%&'*+-.^_|~` with the backtick.
    pub name: String,
    /// Value: visible ASCII, spaces and tabs.
    pub value: String,
}

const FORBIDDEN: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const FORBIDDEN_PREFIXES: &[&str] = &["metadata", "proxy-", "sec-", "webhook-", "x-forwarded-"];

impl Header {
    /// A header with this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Checks name, value and size.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.merge("/name", validate_name(&self.name));
        invalid.check(
            self.value
                .bytes()
                .all(|b| (b' '..=b'~').contains(&b) || b == b'\t'),
            "/value",
            "must be visible ASCII, without line breaks",
        );
        invalid.check(
            self.name.len() + self.value.len() <= HEADER_BYTES_MAX,
            "",
            format!("is above {HEADER_BYTES_MAX} bytes"),
        );
        invalid.into_result()
    }

    /// Checks a list: each header, their count and their size together.
    pub fn validate_all(headers: &[Self]) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            headers.len() <= HEADERS_COUNT_MAX,
            "",
            format!(
                "holds {} headers, at most {HEADERS_COUNT_MAX} are allowed",
                headers.len()
            ),
        );
        let bytes: usize = headers.iter().map(|h| h.name.len() + h.value.len()).sum();
        invalid.check(
            bytes <= HEADERS_BYTES_MAX,
            "",
            format!("holds {bytes} bytes, at most {HEADERS_BYTES_MAX} are allowed"),
        );
        for (index, header) in headers.iter().enumerate() {
            invalid.merge(&format!("/{index}"), header.validate());
        }
        invalid.into_result()
    }
}

fn validate_name(name: &str) -> Result<(), Invalid> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let mut invalid = Invalid::none();
    invalid.check(
        !name.is_empty() && name.bytes().all(token),
        "",
        format!("{name:?} is not a header name"),
    );
    let lower = name.to_ascii_lowercase();
    let forbidden = FORBIDDEN.contains(&lower.as_str())
        || FORBIDDEN_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix));
    invalid.check(
        !forbidden,
        "",
        format!("{name:?} is set by the gateway and cannot be chosen"),
    );
    invalid.into_result()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_refused_in_name_and_value() {
        assert!(Header::new("x-a\r\nx-b", "1").validate().is_err());
        let error = Header::new("x-a", "1\r\nx-b: 2").validate().unwrap_err();
        assert_eq!(error.problems[0].pointer, "/value");
    }

    #[test]
    fn names_the_gateway_sets_are_refused_in_any_case() {
        for name in [
            "Host",
            "WEBHOOK-id",
            "X-Forwarded-For",
            "metadata-flavor",
            "Proxy-Authorization",
        ] {
            assert!(Header::new(name, "1").validate().is_err(), "{name}");
        }
        assert!(Header::new("x-tenant", "a b\tc").validate().is_ok());
    }

    #[test]
    fn a_list_has_bounds() {
        let many: Vec<_> = (0..33)
            .map(|i| Header::new(format!("x-{i}"), "1"))
            .collect();
        assert!(Header::validate_all(&many).is_err());
        let large: Vec<_> = (0..5)
            .map(|i| Header::new(format!("x-{i}"), "a".repeat(4_000)))
            .collect();
        assert!(
            Header::validate_all(&large)
                .unwrap_err()
                .to_string()
                .contains("16384")
        );
    }
}
