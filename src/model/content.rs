//! Bytes that are mostly text: binary in the log, text for people.
//!
//! In JSON they are a string when they are UTF-8, else `{"base64": "…"}`, so nothing is lost
//! either way.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary<T> {
    base64: T,
}

/// For `#[serde(with)]` on anything that is bytes.
pub(super) fn serialize<B, S>(bytes: &B, serializer: S) -> Result<S::Ok, S::Error>
where
    B: AsRef<[u8]>,
    S: Serializer,
{
    let bytes = bytes.as_ref();
    if !serializer.is_human_readable() {
        return serializer.serialize_bytes(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => Binary {
            base64: STANDARD.encode(bytes),
        }
        .serialize(serializer),
    }
}

/// For `#[serde(with)]` on anything that is made of bytes.
pub(super) fn deserialize<'de, B, D>(deserializer: D) -> Result<B, D::Error>
where
    B: From<Vec<u8>>,
    D: Deserializer<'de>,
{
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(ContentVisitor).map(B::from)
    } else {
        deserializer
            .deserialize_byte_buf(ContentVisitor)
            .map(B::from)
    }
}

/// For `#[schemars(schema_with)]`.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "base64": { "type": "string", "contentEncoding": "base64" } },
                "required": ["base64"],
                "additionalProperties": false
            }
        ]
    })
}

struct ContentVisitor;

impl<'de> de::Visitor<'de> for ContentVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or bytes as {\"base64\": text}")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Vec<u8>, A::Error> {
        let binary: Binary<String> =
            Binary::deserialize(de::value::MapAccessDeserializer::new(map))?;
        STANDARD.decode(binary.base64).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        content: Bytes,
    }

    #[test]
    fn text_reads_as_text_and_nothing_is_lost() {
        for (content, json) in [
            (&b"{\"a\":1}"[..], r#"{"content":"{\"a\":1}"}"#),
            (&[0xff, 0x00][..], r#"{"content":{"base64":"/wA="}}"#),
        ] {
            let holder = Holder {
                content: Bytes::copy_from_slice(content),
            };
            assert_eq!(serde_json::to_string(&holder).unwrap(), json);
            assert_eq!(serde_json::from_str::<Holder>(json).unwrap(), holder);
            let packed = rmp_serde::to_vec_named(&holder).unwrap();
            assert_eq!(rmp_serde::from_slice::<Holder>(&packed).unwrap(), holder);
        }
    }
}
