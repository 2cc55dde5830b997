//! A message's content as a filter sees it: JSON, read as far as its limits allow.

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Most values of a content that a filter looks at: nulls, numbers, texts, lists and maps.
pub const FILTER_BODY_VALUES_MAX: u32 = 20_000;
/// Most lists and maps inside each other in a content that a filter looks at.
pub const FILTER_BODY_DEPTH_MAX: u32 = 64;

/// Names and what stands under them; of two equal names the last counts.
pub(super) type Map<'c> = BTreeMap<Cow<'c, str>, Json<'c>>;

/// A JSON value; texts without escapes are borrowed from the content.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'c> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'c, str>),
    List(Vec<Json<'c>>),
    Map(Map<'c>),
}

/// Which limit a content is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    Values,
    Depth,
}

/// Reads a content. What is not JSON is null.
pub(super) fn read(content: &[u8]) -> Result<Json<'_>, Beyond> {
    let limits = Limits {
        values_left: Cell::new(FILTER_BODY_VALUES_MAX),
        beyond: Cell::new(None),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(content);
    let seed = Reader {
        limits: &limits,
        depth: 0,
    };
    let read = seed.deserialize(&mut deserializer);
    if let Some(beyond) = limits.beyond.get() {
        return Err(beyond);
    }
    let whole = deserializer.end();
    Ok(read.ok().filter(|_| whole.is_ok()).unwrap_or(Json::Null))
}

struct Limits {
    values_left: Cell<u32>,
    beyond: Cell<Option<Beyond>>,
}

/// Reads one value, so deep inside others.
#[derive(Clone, Copy)]
struct Reader<'l> {
    limits: &'l Limits,
    depth: u32,
}

impl Reader<'_> {
    fn count<E: Error>(self) -> Result<(), E> {
        let left = self.limits.values_left.get();
        self.limits.values_left.set(left.saturating_sub(1));
        self.within(left > 0, Beyond::Values)
    }

    /// The reader of what stands inside.
    fn inner<E: Error>(mut self) -> Result<Self, E> {
        self.depth += 1;
        self.within(self.depth <= FILTER_BODY_DEPTH_MAX, Beyond::Depth)?;
        Ok(self)
    }

    fn within<E: Error>(self, holds: bool, limit: Beyond) -> Result<(), E> {
        if holds {
            return Ok(());
        }
        self.limits.beyond.set(Some(limit));
        Err(E::custom("beyond a limit"))
    }
}

impl<'c> DeserializeSeed<'c> for Reader<'_> {
    type Value = Json<'c>;

    fn deserialize<D: Deserializer<'c>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'c> Visitor<'c> for Reader<'_> {
    type Value = Json<'c>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Json::Double(value as f64), Json::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Json::Double(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'c str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'c>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'c>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let inner = self.inner()?;
        let mut read = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            let value = map.next_value_seed(inner)?;
            read.insert(name, value);
        }
        Ok(Json::Map(read))
    }
}

/// Reads the name of a field, borrowed where it has no escapes.
struct Name;

impl<'c> DeserializeSeed<'c> for Name {
    type Value = Cow<'c, str>;

    fn deserialize<D: Deserializer<'c>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'c> Visitor<'c> for Name {
    type Value = Cow<'c, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'c str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_serde_json_reads_them() {
        for text in [
            "null",
            "true",
            "-12",
            "1.5",
            "18446744073709551615",
            r#""a\u0041""#,
            r#"[1,[2],{"a":{"b":null},"c":"d"}]"#,
        ] {
            let read = read(text.as_bytes()).unwrap();
            let plain: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(plain_of(&read), plain, "{text}");
        }
    }

    fn plain_of(json: &Json<'_>) -> serde_json::Value {
        match json {
            Json::Null => serde_json::Value::Null,
            Json::Bool(value) => (*value).into(),
            Json::Int(value) => (*value).into(),
            // The one above the range of whole numbers here.
            Json::Double(value) if *value > 1e19 => u64::MAX.into(),
            Json::Double(value) => (*value).into(),
            Json::Text(value) => value.to_string().into(),
            Json::List(values) => values.iter().map(plain_of).collect(),
            Json::Map(map) => map
                .iter()
                .map(|(name, value)| (name.to_string(), plain_of(value)))
                .collect(),
        }
    }

    #[test]
    fn what_is_not_json_is_null() {
        for content in [
            &b""[..],
            b"{",
            b"1 2",
            b"nul",
            b"\"\xff\"",
            b"<a/>",
            b"[1,]",
        ] {
            assert_eq!(read(content), Ok(Json::Null), "{content:?}");
        }
    }

    #[test]
    fn a_content_beyond_a_limit_is_told_from_one_that_is_not_json() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let most = FILTER_BODY_DEPTH_MAX as usize;
        assert!(read(nested(most).as_bytes()).is_ok());
        assert_eq!(read(nested(most + 1).as_bytes()), Err(Beyond::Depth));
        let many = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        let most = FILTER_BODY_VALUES_MAX as usize;
        assert!(read(many(most).as_bytes()).is_ok());
        assert_eq!(read(many(most + 1).as_bytes()), Err(Beyond::Values));
    }
}
