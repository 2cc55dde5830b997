//! Where the next page of a list begins.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::model::{ApiId, Invalid};

/// Where the next page of an API's list begins: text for callers, an ordinal within. It belongs
/// to one API; it stays good while rows arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    below: u64,
    check: u32,
}

impl Cursor {
    const FORM: u8 = 1;

    /// The rows of this API below an ordinal.
    pub(in crate::projection) fn below(api: ApiId, below: u64) -> Self {
        Self {
            below,
            check: check(api, below),
        }
    }

    /// The ordinal, if this is a cursor of this API's list.
    pub(in crate::projection) fn resolve(&self, api: ApiId) -> Result<u64, Invalid> {
        if self.check == check(api, self.below) {
            Ok(self.below)
        } else {
            Err(Invalid::one(
                "/cursor",
                "belongs to another list; begin again without a cursor",
            ))
        }
    }
}

fn check(api: ApiId, below: u64) -> u32 {
    let check = crc32c::crc32c(api.as_uuid().as_bytes());
    crc32c::crc32c_append(check, &below.to_be_bytes())
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![Self::FORM];
        bytes.extend_from_slice(&self.below.to_be_bytes());
        bytes.extend_from_slice(&self.check.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let parsed = (|| {
            let (form, rest) = bytes.split_first()?;
            let (below, check) = rest.split_at_checked(8)?;
            (*form == Self::FORM).then_some(Self {
                below: u64::from_be_bytes(below.try_into().ok()?),
                check: u32::from_be_bytes(check.try_into().ok()?),
            })
        })();
        parsed.ok_or_else(|| {
            Invalid::one(
                "/cursor",
                "is not a cursor: pass on the text that came with the page before, unchanged",
            )
        })
    }
}

impl schemars::JsonSchema for Cursor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a page begins: pass it on as it came.",
        })
    }
}

impl<'de> serde::Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|invalid: Invalid| {
            let reasons = invalid.problems.into_iter().map(|problem| problem.reason);
            serde::de::Error::custom(reasons.collect::<String>())
        })
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_survives_as_text_and_belongs_to_one_api() {
        let api = |n| ApiId::from_uuid(uuid::Uuid::from_u128(n));
        let cursor: Cursor = Cursor::below(api(1), 77).to_string().parse().unwrap();
        assert_eq!(cursor.resolve(api(1)), Ok(77));
        assert!(cursor.resolve(api(2)).is_err());
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in ["", "x", "AAAA", "!!", "AQAAAAAAAABNAAAAAAAA", "Ag"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_and_no_other_text_is_one_of_this_list(
            below in any::<u64>(),
            text in ".{0,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let api = ApiId::from_uuid(uuid::Uuid::from_u128(1));
            let cursor = Cursor::below(api, below);
            let read: Cursor = cursor.to_string().parse().expect("it was written by us");
            prop_assert_eq!(read.resolve(api), Ok(below));
            for text in [text, URL_SAFE_NO_PAD.encode(bytes)] {
                let found = text.parse::<Cursor>().and_then(|cursor| cursor.resolve(api));
                // One in four billion is right by chance.
                if let Ok(below) = found {
                    prop_assert_eq!(text, Cursor::below(api, below).to_string());
                }
            }
        }
    }
}
