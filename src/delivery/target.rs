//! Where a call goes, in the form that goes on the wire.

use std::fmt;

use http::{HeaderValue, Uri, uri::Scheme};
use url::Url;

use crate::model::{AttemptError, ErrorClass};

/// A URL that may be called, parsed once for all calls of it.
#[derive(Clone)]
pub(super) struct Target {
    uri: Uri,
    host: HeaderValue,
}

/// Its query may hold a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The target of a URL that was checked.
    pub(super) fn of(url: &Url) -> Result<Self, AttemptError> {
        // The text may hold a secret in its query, so no error may tell of it.
        let unusable = || AttemptError::new(ErrorClass::Internal, "the URL fits no request");
        let uri: Uri = url.as_str().parse().map_err(|_| unusable())?;
        let authority = uri.authority().ok_or_else(unusable)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| unusable())?;
        Ok(Self { uri, host })
    }

    /// The whole of it.
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What `Host` says: without the port where it is the scheme's own, as a URL in its normal form
    /// names none then.
    pub(super) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Whether it is called over TLS.
    pub(super) fn is_tls(&self) -> bool {
        is_tls(&self.uri)
    }
}

/// As [`Target::is_tls`].
pub(super) fn is_tls(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The host without the brackets of an address of version 6.
pub(super) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The port that is called.
pub(super) fn port(uri: &Uri) -> u16 {
    let own = if is_tls(uri) { 443 } else { 80 };
    uri.port_u16().unwrap_or(own)
}

/// The name that has to be looked up, with the port; `None` where the host is an address.
pub(super) fn name(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?;
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    (!is_address).then(|| (host, port(uri)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Target {
        Target::of(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_target_is_the_url_in_its_normal_form() {
        for (url, host, name) in [
            ("HTTP://Example.com:80/a", "example.com", Some(80)),
            ("https://example.com:443/a?b=%20c", "example.com", Some(443)),
            ("https://example.com:80", "example.com:80", Some(80)),
            ("http://bücher.example", "xn--bcher-kva.example", Some(80)),
            ("http://127.1:8080/", "127.0.0.1:8080", None),
            ("https://[0:0::1]/", "[::1]", None),
            ("https://[::1]:8443/", "[::1]:8443", None),
        ] {
            let target = of(url);
            assert_eq!(target.host(), host);
            let found = self::name(target.uri()).map(|(_, port)| port);
            assert_eq!(found, name, "{url}");
            assert_eq!(target.uri(), Url::parse(url).unwrap().as_str());
            assert_eq!(target.is_tls(), url.starts_with("https"));
        }
    }

    #[test]
    fn what_fits_no_request_is_told_without_the_url() {
        let long = format!("https://example.com/?token={}", "canary".repeat(20_000));
        let error = Target::of(&long.parse().unwrap()).unwrap_err();
        assert_eq!(error.class, ErrorClass::Internal);
        assert!(!error.detail.contains("canary"));
    }
}
