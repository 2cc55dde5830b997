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
    let (key, has_value) = match pair.split_once('=') {
        Some((key, _)) => (key, true),
        None => (pair, false),
    };
    // The key as the receiver reads it: `t%6Fken` is a token too.
    let read = url::form_urlencoded::parse(key.as_bytes()).next();
    let read = read.map(|(key, _)| key.to_ascii_lowercase());
    let secret = read.is_some_and(|key| SECRET_KEYS.contains(&key.as_str()));
    if secret && has_value {
        Cow::Owned(format!("{key}={REDACTED}"))
    } else {
        Cow::Borrowed(pair)
    }
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
    }
}
