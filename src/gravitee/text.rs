//! Text to documents: JSON or YAML, one document or several, within bounds.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::yaml;

/// Longest text of a file.
pub const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most values in a file, whatever aliases copy included.
pub const VALUES_MAX: usize = 200_000;
/// How deep values may stand in each other.
pub const DEPTH_MAX: usize = 64;

/// Settings that Gravitee writes as objects in some places and as JSON in a text in others.
const WRITTEN_AS_TEXT: [&str; 6] = [
    "configuration",
    "configurationOverride",
    "consumerConfiguration",
    "entrypointConfiguration",
    "sharedConfiguration",
    "sharedConfigurationOverride",
];

/// A text that is neither JSON nor YAML, or is too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It breaks the rules of its language.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It is too long.
    #[error("{bytes} bytes, at most {TEXT_BYTES_MAX} are read; split it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Its values stand too deep in each other.
    #[error("values stand more than {DEPTH_MAX} deep in each other")]
    TooDeep,
    /// It holds too many values.
    #[error("more than {VALUES_MAX} values, or aliases that copy too much; split it")]
    TooMany,
    /// It holds nothing.
    #[error("no document in it")]
    Empty,
}

/// The documents of a text.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, ReadError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ReadError::TooLong { bytes: text.len() });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = match text.trim_start().as_bytes().first() {
        // YAML may begin like JSON; who wrote JSON wants to hear of JSON.
        Some(b'{' | b'[') => json(text).or_else(|json| yaml::documents(text).map_err(|_| json))?,
        _ => yaml::documents(text)?,
    };
    if documents.is_empty() {
        return Err(ReadError::Empty);
    }
    if documents.iter().any(|value| yaml::depth(value) > DEPTH_MAX) {
        return Err(ReadError::TooDeep);
    }
    for value in &mut documents {
        unfold(value, 0);
    }
    if documents.iter().map(count).sum::<usize>() > VALUES_MAX {
        return Err(ReadError::TooMany);
    }
    Ok(documents)
}

fn json(text: &str) -> Result<Vec<Value>, ReadError> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
    let values = values.map(|value| value.map(|strict| strict.0));
    values.collect::<Result<_, _>>().map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let said = error.to_string();
        let place = format!(" at line {line} column {column}");
        ReadError::Syntax {
            line,
            column,
            reason: said.strip_suffix(&place).unwrap_or(&said).to_owned(),
        }
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts configurations that are JSON in a text in the place of the text.
fn unfold(value: &mut Value, at: usize) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| unfold(item, at + 1)),
        Value::Object(map) => {
            for (key, value) in map {
                if let Value::String(text) = value
                    && WRITTEN_AS_TEXT.contains(&key.as_str())
                    && let Some(inner) = written_in(text)
                    && at + 1 + yaml::depth(&inner) <= DEPTH_MAX
                {
                    *value = inner;
                }
                unfold(value, at + 1);
            }
        }
        _ => {}
    }
}

fn written_in(text: &str) -> Option<Value> {
    let inner = serde_json::from_str::<Strict>(text).ok()?.0;
    inner.is_object().then_some(inner)
}

/// A value of JSON no object of which names a key twice: the first of the two would be lost
/// without a word.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                let reason = format!("the key {key:?} stands here twice");
                return Err(de::Error::custom(reason));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_documents_may_follow_each_other() {
        let found = documents("{\"a\":1}\n{\"b\":[2]}\n").unwrap();
        assert_eq!(found, [json!({"a": 1}), json!({"b": [2]})]);
        assert_eq!(documents("\u{feff}[1]").unwrap(), [json!([1])]);
    }

    #[test]
    fn broken_json_is_told_by_its_line() {
        let error = documents("{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap_err();
        assert!(
            error.to_string().starts_with("line 3, column 7: "),
            "{error}"
        );
        let error = documents("{\"a\": 1,\n \"a\": 2}").unwrap_err();
        assert!(
            error.to_string().contains("\"a\" stands here twice"),
            "{error}"
        );
    }

    #[test]
    fn yaml_may_begin_like_json() {
        assert_eq!(documents("{a: 1}").unwrap(), [json!({"a": 1})]);
    }

    #[test]
    fn a_configuration_in_a_text_is_read_as_what_it_says() {
        let found = documents(r#"{"configuration": "{\"http\": {\"a\": 1}}", "other": "{}"}"#);
        let expected = json!({"configuration": {"http": {"a": 1}}, "other": "{}"});
        assert_eq!(found.unwrap(), [expected]);
        let text = json!({"configuration": "{broken"});
        assert_eq!(documents(&text.to_string()).unwrap(), [text]);
    }

    #[test]
    fn size_depth_and_count_have_bounds() {
        let long = " ".repeat(TEXT_BYTES_MAX + 1);
        assert!(matches!(documents(&long), Err(ReadError::TooLong { .. })));
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert_eq!(documents(&deep), Err(ReadError::TooDeep));
        let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
        assert_eq!(documents(&many), Err(ReadError::TooMany));
        assert_eq!(documents(" \n"), Err(ReadError::Empty));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(400)))]

        #[test]
        fn no_text_panics(text in r#"[\[\]{}:,"'&*!|>?#\-\n a-c0-9.~\\%@]{0,80}"#) {
            let _ = documents(&text);
        }
    }
}
