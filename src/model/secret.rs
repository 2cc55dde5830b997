//! Secret values, and the promise that none is ever written into an event.

use std::{
    cell::Cell,
    fmt,
    hash::{Hash, Hasher},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use zeroize::Zeroizing;

use super::SecretId;

/// A secret: either the value itself, on its way in, or the id under which the vault keeps it.
///
/// Only the id can be serialized. Writing a value anywhere (an event, a reply, a log line) fails
/// instead of leaking, so a forgotten sealing is noticed at once.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The value, not yet in the vault.
    Value(Zeroizing<String>),
    /// In the vault under this id.
    Sealed(SecretId),
}

/// Reads secrets that are in the vault.
pub trait Secrets: Send + Sync + 'static {
    /// The value of a sealed secret, or `None` when the vault has none under this id.
    fn reveal(&self, id: SecretId) -> Option<Zeroizing<String>>;
}

impl Secret {
    /// A secret that still has to be sealed.
    pub fn new(value: impl Into<String>) -> Self {
        Self::Value(Zeroizing::new(value.into()))
    }

    /// What `write` gives, where secrets on this thread are written as text: for who sends settings
    /// to a gateway, which seals them.
    #[cfg(feature = "server")]
    pub(crate) fn exposed<T>(write: impl FnOnce() -> T) -> T {
        struct Ended;
        impl Drop for Ended {
            fn drop(&mut self) {
                EXPOSED.set(false);
            }
        }
        EXPOSED.set(true);
        let _ended = Ended;
        write()
    }

    /// The value, asked of the vault when it is sealed.
    pub fn reveal(&self, secrets: &dyn Secrets) -> Option<Zeroizing<String>> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Sealed(id) => secrets.reveal(*id),
        }
    }
}

thread_local! {
    /// Whether values may be written, within [`Secret::exposed`] alone.
    static EXPOSED: Cell<bool> = const { Cell::new(false) };
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Value(value) => value.as_str().hash(hasher),
            Self::Sealed(id) => id.hash(hasher),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Secret(…)"),
            Self::Sealed(id) => write!(f, "Secret({id})"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    secret: SecretId,
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) if EXPOSED.get() => serializer.serialize_str(value),
            Self::Value(_) => Err(ser::Error::custom(
                "a secret must be sealed before it is written",
            )),
            Self::Sealed(secret) => Sealed { secret: *secret }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> de::Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret as text, or the id of a stored one as {\"secret\": id}")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Secret, E> {
        Ok(Secret::new(value))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
        Sealed::deserialize(de::value::MapAccessDeserializer::new(map))
            .map(|sealed| Secret::Sealed(sealed.secret))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret as text when it is set; the id of the stored one when it is read.",
            "anyOf": [
                { "type": "string", "writeOnly": true },
                {
                    "type": "object",
                    "properties": { "secret": generator.subschema_for::<SecretId>() },
                    "required": ["secret"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_be_written_and_does_not_show() {
        let secret = Secret::new("canary");
        assert!(serde_json::to_string(&secret).is_err());
        assert!(rmp_serde::to_vec_named(&secret).is_err());
        assert!(!format!("{secret:?}").contains("canary"));
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_value_is_written_while_it_is_exposed_and_not_after() {
        let secret = Secret::new("s3");
        let text = Secret::exposed(|| serde_json::to_string(&secret));
        assert_eq!(text.unwrap(), "\"s3\"");
        assert!(serde_json::to_string(&secret).is_err());
    }

    #[test]
    fn an_id_survives_both_forms() {
        let secret = Secret::Sealed(SecretId::from_uuid(uuid::Uuid::from_u128(9)));
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
        let bytes = rmp_serde::to_vec_named(&secret).unwrap();
        assert_eq!(rmp_serde::from_slice::<Secret>(&bytes).unwrap(), secret);
    }

    #[test]
    fn text_is_taken_as_a_value() {
        assert_eq!(
            serde_json::from_str::<Secret>("\"s3\"").unwrap(),
            Secret::new("s3")
        );
    }
}
