//! Extra request headers, and which are allowed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::{Invalid, Secret, is_secret_header};

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

/// A header of settings. Its value is in the vault where its name says that it is secret.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomHeader {
    /// Name: letters, digits and `!#$%&'*+-.^_|~` with the backtick.
    pub name: String,
    /// Value: visible ASCII, spaces and tabs. It is given back as the id of a stored secret where
    /// the name says that it is secret: `authorization`, `cookie`, `x-api-key`, `*-token`, `*-secret`,
    /// `*-signature`, `*-password` and their like.
    pub value: Secret,
}

impl CustomHeader {
    /// A header with this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Secret::new(value),
        }
    }

    /// Whether its value belongs in the vault.
    pub fn is_secret(&self) -> bool {
        is_secret_header(&self.name)
    }

    /// Checks a list, as far as its values are at hand: each header, their count and their size
    /// together.
    pub fn validate_all(headers: &[Self]) -> Result<(), Invalid> {
        let shown = headers.iter().map(|header| match &header.value {
            Secret::Value(value) => Header::new(&header.name, value.as_str()),
            Secret::Sealed(_) => Header::new(&header.name, ""),
        });
        let mut invalid = Invalid::none();
        invalid.merge("", Header::validate_all(&shown.collect::<Vec<_>>()));
        for (index, header) in headers.iter().enumerate() {
            let is_shown = matches!(header.value, Secret::Sealed(_)) && !header.is_secret();
            let reason = "names a stored secret, and the header's name does not say that it is secret: \
                          it would be shown in logs";
            invalid.check(!is_shown, &format!("/{index}/value"), reason);
        }
        invalid.into_result()
    }
}

impl From<Header> for CustomHeader {
    fn from(header: Header) -> Self {
        Self::new(header.name, header.value)
    }
}

impl fmt::Debug for CustomHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.value)
    }
}

impl Serialize for CustomHeader {
    /// A value that is not secret is written as text, though it is not sealed.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("CustomHeader", 2)?;
        fields.serialize_field("name", &self.name)?;
        match &self.value {
            Secret::Value(value) if !self.is_secret() => {
                fields.serialize_field("value", value.as_str())?;
            }
            value => fields.serialize_field("value", value)?,
        }
        fields.end()
    }
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

    /// Checks a header that stands in events as it is: none whose name says that it is secret.
    pub(crate) fn validate_shown(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            !is_secret_header(&self.name),
            "/name",
            format!(
                "{:?} is the name of a secret, and this would stand in the log for all to read; \
                 set it among the headers of the entrypoint or the subscription",
                self.name
            ),
        );
        invalid.into_result()
    }

    /// What it counts towards [`HEADERS_BYTES_MAX`].
    pub(crate) fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
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
        let bytes: usize = headers.iter().map(Self::bytes).sum();
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
    use proptest::prelude::*;

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
            "connection",
            "Content-Encoding",
            "content-length",
            "Date",
            "expect",
            "Forwarded",
            "Host",
            "keep-alive",
            "metadata",
            "Metadata-Flavor",
            "proxy-authenticate",
            "Proxy-Authorization",
            "proxy-connection",
            "Sec-Fetch-Site",
            "TE",
            "trailer",
            "Transfer-Encoding",
            "upgrade",
            "Via",
            "webhook-id",
            "WEBHOOK-signature",
            "X-Forwarded-For",
            "x-forwarded-proto",
        ] {
            let error = Header::new(name, "1").validate().unwrap_err();
            assert_eq!(error.problems[0].pointer, "/name", "{name}");
        }
        for name in ["x-tenant", "Accept", "x-via", "x-metadata", "user-agent"] {
            assert!(Header::new(name, "a b\tc").validate().is_ok(), "{name}");
        }
    }

    #[test]
    fn a_header_holds_4_kib_of_visible_ascii() {
        let of = |bytes: usize| Header::new("x-a", "v".repeat(bytes - 3)).validate();
        assert!(of(4_096).is_ok());
        assert!(of(4_097).is_err());
        for value in ["\u{e9}", "\u{7f}", "\u{0}", "\u{1b}[31m"] {
            assert!(Header::new("x-a", value).validate().is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_value_is_written_unless_its_name_says_that_it_is_secret() {
        let written = |name: &str| serde_json::to_string(&CustomHeader::new(name, "canary"));
        assert_eq!(
            written("x-team").unwrap(),
            r#"{"name":"x-team","value":"canary"}"#
        );
        for name in ["X-Team-Token", "Authorization", "api-key"] {
            assert!(written(name).is_err(), "{name}");
            assert!(!format!("{:?}", CustomHeader::new(name, "canary")).contains("canary"));
        }
    }

    #[test]
    fn a_stored_secret_stands_under_a_name_that_says_so_alone() {
        let stored = |name: &str| CustomHeader {
            name: name.to_owned(),
            value: Secret::Sealed(crate::model::SecretId::from_uuid(uuid::Uuid::from_u128(1))),
        };
        assert!(CustomHeader::validate_all(&[stored("x-shop-token")]).is_ok());
        let refused = CustomHeader::validate_all(&[stored("x-shop")]).unwrap_err();
        assert_eq!(refused.problems[0].pointer, "/0/value");
    }

    #[test]
    fn a_list_has_bounds() {
        let mut many: Vec<_> = (0..32)
            .map(|i| Header::new(format!("x-{i}"), "1"))
            .collect();
        assert!(Header::validate_all(&many).is_ok());
        many.push(Header::new("x-32", "1"));
        let refused = Header::validate_all(&many).unwrap_err();
        assert_eq!(
            refused.problems[0].reason,
            "holds 33 headers, at most 32 are allowed"
        );
        // Four headers of 4 KiB each, and then one byte more.
        let mut large: Vec<_> = (0..4)
            .map(|i| Header::new(format!("x-{i}"), "a".repeat(4_093)))
            .collect();
        assert!(Header::validate_all(&large).is_ok());
        large.push(Header::new("x", ""));
        let refused = Header::validate_all(&large).unwrap_err();
        assert_eq!(
            refused.problems[0].reason,
            "holds 16385 bytes, at most 16384 are allowed"
        );
    }

    proptest! {
        #[test]
        fn what_is_taken_for_a_header_is_one_and_nothing_else(
            name in "[ -~\r\n\t\u{e9}]{0,12}",
            value in "[ -~\r\n\t\u{0}\u{e9}\u{7f}]{0,12}",
        ) {
            let header = Header::new(name.as_str(), value.as_str());
            if header.validate().is_ok() {
                prop_assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok());
                prop_assert!(http::HeaderValue::from_bytes(value.as_bytes()).is_ok());
                let is_shown = |c: char| (' '..='~').contains(&c) || c == '\t';
                prop_assert!(value.chars().all(is_shown));
            }
        }
    }
}
