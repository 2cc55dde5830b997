//! A callback URL in its one normal form.

use std::{fmt, net::Ipv4Addr, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use super::{Invalid, SecretId, Secrets, redact::secret_pair, redacted_url};

/// Longest callback URL, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// What stands in a query, before the id, for a value that is in the vault.
const SEALED: &str = "sealed-";

/// Where a subscription's messages are sent: http or https, without user info or fragment.
///
/// It is parsed once and only its normal form is kept, shown and called, so what was checked is
/// what is called. Whether its address may be called is the egress guard's to say, at the time
/// it is set and before each call.
///
/// Where it is kept in settings, the value of a query key that names a secret is in the vault, and
/// `sealed-` with the id of the secret stands in its place.
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

    /// The same URL with every value that is secret put away by `seal`, which tells its id.
    pub(crate) fn sealed<E>(
        &self,
        mut seal: impl FnMut(&str) -> Result<SecretId, E>,
    ) -> Result<Self, E> {
        let replaced = self.replace_secrets(|value| {
            if value.is_empty() || sealed_id(value).is_some() {
                return Ok(value.to_owned());
            }
            seal(value).map(|id| format!("{SEALED}{id}"))
        })?;
        // Letters, digits and hyphens in a query are part of the normal form.
        Ok(replaced.map_or_else(|| self.clone(), |text| Self(text.into())))
    }

    /// The secrets that stand in it by their ids.
    pub(crate) fn secrets(&self) -> Vec<SecretId> {
        let pairs = self.0.split_once('?').map(|(_, query)| query.split('&'));
        let secret = pairs.into_iter().flatten().filter_map(secret_pair);
        secret.filter_map(|(_, value)| sealed_id(value)).collect()
    }

    /// The URL to call: every secret in its place. `None` when one of them is not to be had.
    pub(crate) fn revealed(&self, secrets: &dyn Secrets) -> Option<Url> {
        let replaced = self.replace_secrets(|value| match sealed_id(value) {
            None => Ok(value.to_owned()),
            Some(id) => secrets.reveal(id).map(|value| (*value).clone()).ok_or(()),
        });
        let text = replaced.ok()?;
        Url::parse(text.as_deref().unwrap_or(&self.0)).ok()
    }

    /// The text with the values of query keys that name a secret replaced; `None` when it has none.
    fn replace_secrets<E>(
        &self,
        mut replace: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Option<String>, E> {
        let Some((path, query)) = self.0.split_once('?') else {
            return Ok(None);
        };
        let mut is_changed = false;
        let mut parts = Vec::new();
        for part in query.split('&') {
            parts.push(match secret_pair(part) {
                None => part.to_owned(),
                Some((key, value)) => {
                    is_changed = true;
                    format!("{key}={}", replace(value)?)
                }
            });
        }
        Ok(is_changed.then(|| format!("{path}?{}", parts.join("&"))))
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

/// Whether this is surely a callback URL in its normal form, so that it need not be parsed: most are,
/// and each recorded call has one. Nothing in it could be normalised: letters, digits and few marks, no
/// label that could be a number or is encoded, no dot that could begin a segment, no query.
fn is_plain(text: &str) -> bool {
    let schemes = [("https://", "443"), ("http://", "80")];
    let found = schemes
        .iter()
        .find_map(|(scheme, port)| Some((text.strip_prefix(scheme)?, *port)));
    let Some((rest, default_port)) = found else {
        return false;
    };
    let Some((authority, path)) = rest.split_once('/') else {
        return false;
    };
    let (host, is_port_plain) = match authority.split_once(':') {
        None => (authority, true),
        Some((host, port)) => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let is_plain = is_number && !port.starts_with('0') && port != default_port;
            (host, is_plain && port.parse::<u16>().is_ok())
        }
    };
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && !label.starts_with("xn--")
            && bytes.all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let is_address = || host.parse::<Ipv4Addr>().is_ok();
    let is_path = || {
        let mut before = b'/';
        path.bytes().all(|byte| {
            let is_dot_first = byte == b'.' && before == b'/';
            before = byte;
            !is_dot_first
                && (byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.'))
        })
    };
    is_port_plain && (host.split('.').all(is_label) || is_address()) && is_path()
}

/// The id of the secret that a value of a query stands for.
fn sealed_id(value: &str) -> Option<SecretId> {
    value.strip_prefix(SEALED)?.parse().ok()
}

/// How much longer a URL may become when its secrets are put away.
fn growth(url: &Url) -> usize {
    const SEALED_BYTES: usize = SEALED.len() + 36;
    let pairs = url.query().into_iter().flat_map(|query| query.split('&'));
    let values = pairs.filter_map(secret_pair).map(|(_, value)| value.len());
    values.map(|bytes| SEALED_BYTES.saturating_sub(bytes)).sum()
}

impl FromStr for CallbackUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::one("", reason));
        if text.len() > URL_BYTES_MAX {
            return refuse(format!("is above {URL_BYTES_MAX} bytes"));
        }
        if is_plain(text) {
            return Ok(Self(text.into()));
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
        if url.as_str().len() + growth(&url) > URL_BYTES_MAX {
            return refuse(format!(
                "is above {URL_BYTES_MAX} bytes with its secrets put away"
            ));
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
    /// Without what is secret: settings are debugged before they are sealed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.redacted().0, f)
    }
}

impl Serialize for CallbackUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CallbackUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = CallbackUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CallbackUrl, E> {
                text.parse().map_err(|error: Invalid| {
                    E::custom(format!("{:?} {error}", redacted_url(text)))
                })
            }
        }

        deserializer.deserialize_str(Text)
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
    use proptest::prelude::*;

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
    fn secrets_of_a_query_are_put_away_and_found_again() {
        struct One(&'static str);
        impl Secrets for One {
            fn reveal(&self, _: SecretId) -> Option<zeroize::Zeroizing<String>> {
                Some(self.0.to_owned().into())
            }
        }
        let id = SecretId::from_uuid(uuid::Uuid::from_u128(7));
        let url: CallbackUrl = "https://example.com/b?a=1&to%6Ben=can%2Fary&code=&x"
            .parse()
            .unwrap();
        let mut put_away = Vec::new();
        let sealed = url.sealed(|value| {
            put_away.push(value.to_owned());
            Ok::<_, ()>(id)
        });
        let sealed = sealed.unwrap();
        assert_eq!(put_away, ["can%2Fary"]);
        assert_eq!(
            sealed.as_str(),
            format!("https://example.com/b?a=1&to%6Ben=sealed-{id}&code=&x")
        );
        assert_eq!(sealed.as_str().parse(), Ok(sealed.clone()));
        assert_eq!(sealed.secrets(), [id]);
        assert_eq!(sealed.sealed(|_| Err(())), Ok(sealed.clone()));
        let revealed = sealed.revealed(&One("can%2Fary")).unwrap();
        assert_eq!(revealed.as_str(), url.as_str());
        assert_eq!(sealed.redacted(), url.redacted());
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

    proptest! {
        #[test]
        fn what_is_taken_for_a_callback_is_its_own_normal_form(
            text in r"(https?|HTTP|ftp|file|javascript)?:?/{0,3}[a-z0-9@:.\[\]%\\ ]{0,24}[/?#]?[ -~]{0,24}",
        ) {
            if let Ok(url) = text.parse::<CallbackUrl>() {
                prop_assert_eq!(url.as_str().parse(), Ok(url.clone()));
                let parsed = url.to_url();
                prop_assert!(matches!(parsed.scheme(), "http" | "https"));
                prop_assert!(parsed.username().is_empty() && parsed.password().is_none());
                prop_assert!(parsed.fragment().is_none());
                prop_assert!(parsed.host_str().is_some_and(|host| !host.is_empty()));
                prop_assert!(url.as_str().bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
                prop_assert_eq!(url.redacted().as_str().parse(), Ok(url.redacted()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4_000)))]

        #[test]
        fn what_is_not_parsed_would_have_been_its_own_normal_form(
            text in r"https?://(([a-z0-9-]|xn--|0x){1,6}\.){0,3}[a-z0-9.-]{1,8}(:[0-9]{0,5})?/([a-zA-Z0-9_-]|\.|/|%2e){0,12}",
        ) {
            if is_plain(&text) {
                let parsed = Url::parse(&text);
                prop_assert_eq!(parsed.as_ref().map(Url::as_str), Ok(text.as_str()));
                prop_assert_ne!(parsed.unwrap().port(), Some(0));
            }
        }
    }

    #[test]
    fn most_callbacks_are_plain_and_what_could_be_normalised_is_not() {
        for plain in [
            "https://consumer.example.com/hook/1",
            "http://127.0.0.1:8080/",
            "https://a-1.b2.example:8443/A_b-c.d//e",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in [
            "https://example.com",
            "https://example.com:443/",
            "https://example.com:0443/",
            "https://example.com:/",
            "https://127.1/",
            "https://0x7f.0.0.1/",
            "https://127.0.0.01/",
            "https://a.1/",
            "https://xn--a/",
            "https://a..b/",
            "https://a./",
            "https://EXAMPLE.com/",
            "https://user@example.com/",
            "https://example.com/a/../b",
            "https://example.com/%2e%2e/b",
            "https://example.com/?token=1",
            "https://example.com/#a",
            "HTTPS://example.com/",
        ] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
