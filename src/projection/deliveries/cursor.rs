//! Where the next page of a list begins.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::model::{ApiId, Invalid, Position};

/// Where the next page of an API's list begins: text for callers, a place within. It belongs to
/// one list of one API; it stays good while rows arrive, and when the log is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    below: Below,
    check: u32,
}

/// What the rows of a page are below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// A position, in the list of dead letters.
    Position(u64),
    /// A delivery, in the webhook log.
    Delivery(RowPlace),
}

/// Where a delivery stands among those of its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlace {
    /// Its first event. It never changes, and its order is that of the ordinals.
    pub(super) opened: Position,
    /// The ordinal that it had when it was shown.
    pub(super) ordinal: u64,
}

impl Cursor {
    /// The rows of this API below a position.
    pub(in crate::projection) fn below(api: ApiId, below: u64) -> Self {
        Self::of(api, Below::Position(below))
    }

    /// The deliveries of this API below one.
    pub(super) fn below_delivery(api: ApiId, place: RowPlace) -> Self {
        Self::of(api, Below::Delivery(place))
    }

    fn of(api: ApiId, below: Below) -> Self {
        Self {
            below,
            check: check(api, below),
        }
    }

    /// The position, if this is a cursor of this API's dead letters.
    pub(in crate::projection) fn resolve(&self, api: ApiId) -> Result<u64, Invalid> {
        match self.below {
            Below::Position(below) if self.is_of(api) => Ok(below),
            _ => Err(foreign()),
        }
    }

    /// The delivery, if this is a cursor of this API's webhook log.
    pub(super) fn resolve_delivery(&self, api: ApiId) -> Result<RowPlace, Invalid> {
        match self.below {
            Below::Delivery(place) if self.is_of(api) => Ok(place),
            _ => Err(foreign()),
        }
    }

    fn is_of(&self, api: ApiId) -> bool {
        self.check == check(api, self.below)
    }
}

impl Below {
    /// How it is written: the first byte of a cursor.
    const fn form(self) -> u8 {
        match self {
            Self::Position(_) => 1,
            Self::Delivery(_) => 2,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Position(below) => below.to_be_bytes().to_vec(),
            Self::Delivery(place) => {
                let (opened, ordinal) = (place.opened.get(), place.ordinal);
                [opened.to_be_bytes(), ordinal.to_be_bytes()].concat()
            }
        }
    }

    fn from_bytes(form: u8, bytes: &[u8]) -> Option<Self> {
        let number = |part: &[u8]| Some(u64::from_be_bytes(part.try_into().ok()?));
        match form {
            1 => Some(Self::Position(number(bytes)?)),
            2 => {
                let (opened, ordinal) = bytes.split_at_checked(8)?;
                Some(Self::Delivery(RowPlace {
                    opened: Position::new(number(opened)?),
                    ordinal: number(ordinal)?,
                }))
            }
            _ => None,
        }
    }
}

fn check(api: ApiId, below: Below) -> u32 {
    let check = crc32c::crc32c(api.as_uuid().as_bytes());
    crc32c::crc32c_append(check, &below.to_bytes())
}

/// Cursors of the webhook log used to hold an ordinal alone, which tells nothing once they are
/// counted anew.
fn foreign() -> Invalid {
    Invalid::one(
        "/cursor",
        "belongs to another list, or to an earlier version; begin again without a cursor",
    )
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.below.form()];
        bytes.extend(self.below.to_bytes());
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
            let (below, check) = rest.split_last_chunk()?;
            Some(Self {
                below: Below::from_bytes(*form, below)?,
                check: u32::from_be_bytes(*check),
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

    fn place(opened: u64, ordinal: u64) -> RowPlace {
        RowPlace {
            opened: Position::new(opened),
            ordinal,
        }
    }

    #[test]
    fn a_cursor_survives_as_text_and_belongs_to_one_list_of_one_api() {
        let api = |n| ApiId::from_uuid(uuid::Uuid::from_u128(n));
        let read = |cursor: Cursor| cursor.to_string().parse::<Cursor>().unwrap();
        let of_dead_letters = read(Cursor::below(api(1), 77));
        assert_eq!(of_dead_letters.resolve(api(1)), Ok(77));
        assert!(of_dead_letters.resolve(api(2)).is_err());
        let of_deliveries = read(Cursor::below_delivery(api(1), place(900, 77)));
        assert_eq!(of_deliveries.resolve_delivery(api(1)), Ok(place(900, 77)));
        assert!(of_deliveries.resolve_delivery(api(2)).is_err());

        assert!(of_deliveries.resolve(api(1)).is_err());
        let refused = of_dead_letters.resolve_delivery(api(1)).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("begin again without a cursor"), "{said}");
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
            opened in any::<u64>(),
            text in ".{0,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            let api = ApiId::from_uuid(uuid::Uuid::from_u128(1));
            let cursor = Cursor::below(api, below);
            let read: Cursor = cursor.to_string().parse().expect("it was written by us");
            prop_assert_eq!(read.resolve(api), Ok(below));
            let cursor = Cursor::below_delivery(api, place(opened, below));
            let read: Cursor = cursor.to_string().parse().expect("it was written by us");
            prop_assert_eq!(read.resolve_delivery(api), Ok(place(opened, below)));
            for text in [text, URL_SAFE_NO_PAD.encode(bytes)] {
                let Ok(cursor) = text.parse::<Cursor>() else {
                    continue;
                };
                // One in four billion is right by chance.
                if let Ok(below) = cursor.resolve(api) {
                    prop_assert_eq!(&text, &Cursor::below(api, below).to_string());
                }
                if let Ok(place) = cursor.resolve_delivery(api) {
                    prop_assert_eq!(&text, &Cursor::below_delivery(api, place).to_string());
                }
            }
        }
    }
}
