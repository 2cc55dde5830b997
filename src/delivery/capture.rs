//! What is kept of a call where logging is on: cut, and redacted before it leaves this room.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use super::{AttemptRequest, RESPONSE_BYTES_MAX};
use crate::model::{Captured, CapturedBody, CapturedHeader, CapturedPart, Logging, LoggingParts};

/// What stands in place of a value that is not shown.
const REDACTED: &str = "[redacted]";

/// Headers that are never shown.
const SECRET_HEADERS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
];

/// Nor are headers whose name ends so.
const SECRET_SUFFIXES: [&str; 4] = ["-password", "-secret", "-signature", "-token"];

/// Headers whose value is a URL.
const URL_HEADERS: [HeaderName; 3] = [header::CONTENT_LOCATION, header::LOCATION, header::REFERER];

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

/// How much of bodies is kept, and what of them is never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Most bytes kept of a body. Default 64 KiB. Of a response no more than
    /// [`RESPONSE_BYTES_MAX`] is read in any case.
    pub body_bytes_max: usize,
    /// JSON pointers of values that are shown as `[redacted]` in JSON bodies.
    ///
    /// While there are any, a body that looks like JSON but cannot be read as such (cut short, or
    /// compressed) is withheld as a whole, and JSON bodies are shown in compact form with sorted
    /// keys.
    pub redact_json_pointers: Vec<String>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 * 1024,
            redact_json_pointers: Vec::new(),
        }
    }
}

/// A response's body, as far as it is read.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) kept: Vec<u8>,
    pub(super) size: u64,
    /// Whether the read stopped before its end.
    pub(super) cut: bool,
}

impl Body {
    /// Counts this part of it, and keeps it up to the limit when `keep` is set.
    pub(super) fn take(&mut self, chunk: &[u8], keep: bool) {
        self.size += chunk.len() as u64;
        if keep {
            let room = RESPONSE_BYTES_MAX - self.kept.len();
            self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    }
}

/// Gathers what is kept of one call.
pub(super) struct Capture<'a> {
    options: &'a CaptureOptions,
    logging: Logging,
    captured: Option<Box<Captured>>,
}

impl<'a> Capture<'a> {
    pub(super) fn of(request: &AttemptRequest, options: &'a CaptureOptions) -> Self {
        Self {
            options,
            logging: request.policy.logging,
            captured: None,
        }
    }

    pub(super) fn keeps_response_body(&self) -> bool {
        self.logging.enabled && self.logging.response.payload
    }

    pub(super) fn request(&mut self, headers: &HeaderMap, body: &[u8]) {
        if self.logging.captures() {
            let part = self.part(self.logging.request, headers, body, body.len() as u64);
            self.captured.get_or_insert_default().request = part;
        }
    }

    pub(super) fn response(&mut self, headers: &HeaderMap, body: Body) {
        if self.logging.captures() {
            let mut part = self.part(self.logging.response, headers, &body.kept, body.size);
            if let Some(shown) = &mut part.body {
                shown.truncated |= body.cut;
            }
            self.captured.get_or_insert_default().response = part;
        }
    }

    pub(super) fn finish(self) -> Option<Box<Captured>> {
        self.captured
    }

    fn part(&self, parts: LoggingParts, headers: &HeaderMap, body: &[u8], size: u64) -> CapturedPart {
        CapturedPart {
            headers: parts.headers.then(|| shown_headers(headers)),
            body: parts.payload.then(|| self.shown_body(headers, body, size)),
        }
    }

    fn shown_body(&self, headers: &HeaderMap, body: &[u8], size: u64) -> CapturedBody {
        let encoded = headers.contains_key(header::CONTENT_ENCODING);
        let shown = redacted_body(body, encoded, &self.options.redact_json_pointers);
        let kept = shown.len().min(self.options.body_bytes_max);
        CapturedBody {
            bytes: shown[..kept].to_vec(),
            size,
            truncated: kept < shown.len() || size > body.len() as u64,
        }
    }
}

/// The headers, sensitive ones without their value.
fn shown_headers(headers: &HeaderMap) -> Vec<CapturedHeader> {
    let shown = headers.iter().map(|(name, value)| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let value = if value.is_sensitive() || is_secret_header(name.as_str()) {
            REDACTED.to_owned()
        } else if URL_HEADERS.contains(name) {
            redacted_url(&text)
        } else {
            text.into_owned()
        };
        CapturedHeader {
            name: name.as_str().to_owned(),
            value,
        }
    });
    shown.collect()
}

/// Whether a header of this name, lower case, may hold a secret.
fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name) || SECRET_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// A URL, absolute or relative, as it may be shown: without user info, and without the values of
/// query keys that name a secret.
///
/// ```
/// use hooklog::delivery::redacted_url;
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

/// The body with the values at these JSON pointers replaced.
fn redacted_body<'a>(body: &'a [u8], encoded: bool, pointers: &[String]) -> Cow<'a, [u8]> {
    let looks_like_json = || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    if pointers.is_empty() || body.is_empty() || !(encoded || looks_like_json()) {
        return Cow::Borrowed(body);
    }
    let withheld = || Cow::Borrowed(REDACTED.as_bytes());
    // Written anew even when no pointer matches: of two equal keys only the last is looked at,
    // and only that one may be shown.
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return withheld();
    };
    for pointer in pointers {
        if let Some(found) = value.pointer_mut(pointer) {
            *found = REDACTED.into();
        }
    }
    serde_json::to_vec(&value).map_or_else(|_| withheld(), Cow::Owned)
}
