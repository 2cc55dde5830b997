//! What is kept of a call where logging is on: cut, and redacted before it leaves this room.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use super::{AttemptRequest, RESPONSE_BYTES_MAX};
use crate::model::{
    Captured, CapturedBody, CapturedHeader, CapturedPart, Logging, LoggingParts, REDACTED,
    is_secret_header, redacted_url,
};

/// Headers whose value is a URL.
const URL_HEADERS: [HeaderName; 3] = [header::CONTENT_LOCATION, header::LOCATION, header::REFERER];

/// How much of bodies is kept, and what of them is never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Most bytes kept of a body. Default 64 KiB. Of a response no more than
    /// [`RESPONSE_BYTES_MAX`] is read in any case.
    pub body_bytes_max: usize,
    /// JSON pointers of values that are shown as `[redacted]` in JSON bodies.
    ///
    /// While there are any, a body that says it is JSON or looks like it, but cannot be read as such
    /// (cut short, compressed, in UTF-16, behind a prefix), is withheld as a whole, and JSON bodies
    /// are shown in compact form with sorted keys.
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
    /// Its size as its headers tell, where they do.
    pub(super) declared: Option<u64>,
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

    /// The size of the whole body, as far as it is known.
    fn whole(&self) -> u64 {
        self.size.max(self.declared.unwrap_or_default())
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
            let mut part = self.part(self.logging.response, headers, &body.kept, body.whole());
            if let Some(shown) = &mut part.body {
                shown.truncated |= body.cut;
            }
            self.captured.get_or_insert_default().response = part;
        }
    }

    pub(super) fn finish(self) -> Option<Box<Captured>> {
        self.captured
    }

    fn part(
        &self,
        parts: LoggingParts,
        headers: &HeaderMap,
        body: &[u8],
        size: u64,
    ) -> CapturedPart {
        CapturedPart {
            headers: parts.headers.then(|| shown_headers(headers)),
            body: parts.payload.then(|| self.shown_body(headers, body, size)),
        }
    }

    fn shown_body(&self, headers: &HeaderMap, body: &[u8], size: u64) -> CapturedBody {
        let shown = redacted_body(headers, body, &self.options.redact_json_pointers);
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
/// The byte order mark of UTF-8, which many readers of JSON pass over.
const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Byte order marks of UTF-16; those of UTF-32 hold one of them.
const UTF_16_MARKS: [&[u8]; 2] = [b"\xfe\xff", b"\xff\xfe"];

/// Whether a receiver may read this body as JSON: it says so, it looks so, or what it looks like
/// cannot be told.
fn may_be_json(headers: &HeaderMap, body: &[u8]) -> bool {
    let says = || {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        types.any(|value| is_json_type(value.as_bytes()))
    };
    let hidden = || {
        let wide = |mark: &&[u8]| body[..body.len().min(4)].windows(2).any(|two| two == *mark);
        headers.contains_key(header::CONTENT_ENCODING) || UTF_16_MARKS.iter().any(wide)
    };
    let looks = || {
        let text = body.strip_prefix(UTF_8_MARK).unwrap_or(body);
        matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
    };
    says() || hidden() || looks()
}

/// Whether a content type, lower case, names JSON.
pub(super) fn is_json_type(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    [&b"/json"[..], b"+json"]
        .iter()
        .any(|end| essence.ends_with(end))
}

/// The body with the values at these JSON pointers replaced.
fn redacted_body<'a>(headers: &HeaderMap, body: &'a [u8], pointers: &[String]) -> Cow<'a, [u8]> {
    if pointers.is_empty() || body.is_empty() || !may_be_json(headers, body) {
        return Cow::Borrowed(body);
    }
    let body = body.strip_prefix(UTF_8_MARK).unwrap_or(body);
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(name: &'static str, value: &'static str) -> String {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_static(value));
        shown_headers(&map).remove(0).value
    }

    #[test]
    fn headers_that_may_hold_a_secret_are_not_shown() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "api-key",
            "x-auth-token",
            "client-secret",
            "x-csrf-token",
            "webhook-signature",
            "db-password",
        ] {
            assert_eq!(shown(name, "canary"), REDACTED, "{name}");
        }
        assert_eq!(shown("x-tenant", "a"), "a");
        assert_eq!(
            shown("location", "/b?code=canary&x=1"),
            "/b?code=[redacted]&x=1"
        );
    }

    fn body(text: &str, pointers: &[&str]) -> String {
        let pointers: Vec<_> = pointers.iter().map(ToString::to_string).collect();
        let shown = redacted_body(&HeaderMap::new(), text.as_bytes(), &pointers);
        String::from_utf8(shown.into_owned()).unwrap()
    }

    fn of_type(content_type: &'static str, body: &[u8]) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        redacted_body(&headers, body, &["/pin".to_owned()]).into_owned()
    }

    #[test]
    fn no_prefix_or_encoding_gets_a_value_past_its_pointer() {
        let wide: Vec<u8> = "\u{feff}{\"pin\":\"canary\"}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for content_type in ["application/json", "text/plain", "application/x-ndjson"] {
            let marked = of_type(content_type, b"\xef\xbb\xbf{\"pin\":\"canary\"}");
            assert_eq!(marked, br#"{"pin":"[redacted]"}"#, "{content_type}");
            assert_eq!(
                of_type(content_type, &wide),
                REDACTED.as_bytes(),
                "{content_type}"
            );
        }
        for content_type in [
            "application/json",
            "Application/JSON; charset=utf-16",
            "application/problem+json",
            "text/json ;q=1",
        ] {
            for body in [
                &b")]}',\n{\"pin\":\"canary\"}"[..],
                &wide[2..],
                b"pin=canary",
            ] {
                assert_eq!(
                    of_type(content_type, body),
                    REDACTED.as_bytes(),
                    "{content_type}"
                );
            }
        }
        assert_eq!(of_type("text/html", b"<b>json</b>"), b"<b>json</b>");
    }

    #[test]
    fn values_at_configured_pointers_are_replaced() {
        let text = r#"{"card":{"number":"canary"},"rows":[{"pin":1}], "a":1}"#;
        assert_eq!(body(text, &[]), text);
        assert_eq!(
            body(text, &["/card/number", "/rows/0/pin", "/none"]),
            r#"{"a":1,"card":{"number":"[redacted]"},"rows":[{"pin":"[redacted]"}]}"#
        );
    }

    #[test]
    fn what_might_hide_a_value_is_withheld() {
        let pointers = ["/pin"];
        assert_eq!(body(r#"{"pin":"canary"#, &pointers), REDACTED);
        assert_eq!(
            body(r#"{"pin":"canary","pin":0}"#, &pointers),
            r#"{"pin":"[redacted]"}"#
        );
        assert_eq!(body("plain canary", &pointers), "plain canary");
        let pointers = pointers.map(str::to_owned);
        let mut squeezed = HeaderMap::new();
        squeezed.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(
            *redacted_body(&squeezed, b"\x1f\x8b", &pointers),
            *REDACTED.as_bytes()
        );
    }

    #[test]
    fn a_body_is_cut_and_its_size_kept() {
        let options = CaptureOptions {
            body_bytes_max: 4,
            ..CaptureOptions::default()
        };
        let capture = Capture {
            options: &options,
            logging: Logging::ALL,
            captured: None,
        };
        let body = capture.shown_body(&HeaderMap::new(), b"abcdef", 6);
        assert_eq!(
            (&body.bytes[..], body.size, body.truncated),
            (&b"abcd"[..], 6, true)
        );
        let body = capture.shown_body(&HeaderMap::new(), b"abcd", 4);
        assert!(!body.truncated);
    }
}
