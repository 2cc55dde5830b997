//! What is never shown, and what stands in its place.

use std::borrow::Cow;

/// What stands in place of a value that is not shown.
pub const REDACTED: &str = "[redacted]";

/// Query keys whose value is never shown.
const SECRET_KEYS: [&str; 8] = [
    "access_token",
    "code",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
];

/// Headers whose value is never shown.
const SECRET_HEADERS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
];

/// Nor is that of headers whose name ends so.
const SECRET_SUFFIXES: [&str; 4] = ["-password", "-secret", "-signature", "-token"];

/// Whether a header's name says that its value is secret, in any case.
///
/// ```
/// use hooklog::model::is_secret_header;
/// assert!(is_secret_header("X-Api-Key") && is_secret_header("x-shop-token"));
/// assert!(!is_secret_header("x-shop"));
/// ```
pub fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_HEADERS.contains(&name.as_str())
        || SECRET_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// A URL, absolute or relative, as it may be shown: without user info, and without the values of
/// query keys that name a secret.
///
/// ```
/// use hooklog::model::redacted_url;
/// assert_eq!(redacted_url("https://a.example/h?id=1&token=s3"), "https://a.example/h?id=1&token=[redacted]");
/// ```
pub fn redacted_url(url: &str) -> String {
    let (url, fragment) = match url.split_once('#') {
        Some((url, _)) => (url, "#[redacted]"),
        None => (url, ""),
    };
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (url, None),
    };
    let mut shown = without_user_info(path);
    if let Some(query) = query {
        let pairs: Vec<_> = query.split('&').map(redacted_pair).collect();
        shown.push('?');
        shown.push_str(&pairs.join("&"));
    }
    shown.push_str(fragment);
    shown
}

fn without_user_info(path: &str) -> String {
    let Some((scheme, rest)) = path.split_once("//") else {
        return path.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}//{REDACTED}{}", &rest[at..]),
        None => path.to_owned(),
    }
}

fn redacted_pair(pair: &str) -> Cow<'_, str> {
    match secret_pair(pair) {
        Some((key, _)) => Cow::Owned(format!("{key}={REDACTED}")),
        None => Cow::Borrowed(pair),
    }
}

/// Key and value of a part of a query whose key names a secret.
pub(super) fn secret_pair(pair: &str) -> Option<(&str, &str)> {
    let (key, value) = pair.split_once('=')?;
    // The key as the receiver reads it: `t%6Fken` is a token too.
    let (read, _) = url::form_urlencoded::parse(key.as_bytes()).next()?;
    let is_secret = SECRET_KEYS.contains(&read.to_ascii_lowercase().as_str());
    is_secret.then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_names_a_secret() {
        for (url, expected) in [
            ("https://a.example/b?x=1", "https://a.example/b?x=1"),
            (
                "/b?TOKEN=1&key=2&sig=3",
                "/b?TOKEN=[redacted]&key=[redacted]&sig=[redacted]",
            ),
            ("/b?t%6Fken=1", "/b?t%6Fken=[redacted]"),
            (
                "/b?access_token=1&token",
                "/b?access_token=[redacted]&token",
            ),
            (
                "https://u:p@a.example/b@c",
                "https://[redacted]@a.example/b@c",
            ),
            (
                "https://a.example/#access_token=1",
                "https://a.example/#[redacted]",
            ),
            ("?password=a=b", "?password=[redacted]"),
        ] {
            assert_eq!(redacted_url(url), expected);
        }
        // Written down here again, so that one that is left out of the list shows.
        for key in [
            "access_token",
            "code",
            "key",
            "password",
            "secret",
            "sig",
            "signature",
            "token",
        ] {
            for key in [key.to_owned(), key.to_ascii_uppercase()] {
                let shown = redacted_url(&format!("/?{key}=canary"));
                assert_eq!(shown, format!("/?{key}=[redacted]"));
            }
        }
    }
}
