//! What a call carries: the message as it is, or as one of CloudEvents.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::{AttemptRequest, capture::is_json_type};
use crate::model::{CloudEvents, Timestamp};

/// `type` of a message that names none.
const TYPE: &str = "hooklog.message";

/// `Content-Type` of the structured mode.
const STRUCTURED: &str = "application/cloudevents+json";

/// The body of a call and the headers that describe it.
#[derive(Debug)]
pub(super) struct Payload<'a> {
    pub(super) body: Bytes,
    pub(super) content_type: &'a str,
    /// Attributes that travel as headers.
    pub(super) attributes: HeaderMap,
}

impl<'a> Payload<'a> {
    pub(super) fn of(request: &'a AttemptRequest) -> Self {
        let message = &request.message;
        let as_is = Self {
            body: message.content.clone(),
            content_type: &message.content_type,
            attributes: HeaderMap::new(),
        };
        match request.policy.cloud_events {
            CloudEvents::None => as_is,
            CloudEvents::Binary => Self {
                attributes: Attributes::of(request).headers(),
                ..as_is
            },
            CloudEvents::Structured => Self {
                body: structured(request),
                content_type: STRUCTURED,
                attributes: HeaderMap::new(),
            },
        }
    }
}

/// The context attributes of CloudEvents 1.0, the content type apart.
#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: Timestamp,
}

impl<'a> Attributes<'a> {
    fn of(request: &'a AttemptRequest) -> Self {
        Self {
            specversion: "1.0",
            id: request.message.id.to_string(),
            source: format!("/apis/{}", request.api),
            event_type: request.message.event_type.as_deref().unwrap_or(TYPE),
            time: request.accepted_at,
        }
    }

    fn headers(&self) -> HeaderMap {
        let time = self.time.to_string();
        let pairs = [
            ("ce-specversion", self.specversion),
            ("ce-id", &self.id),
            ("ce-source", &self.source),
            ("ce-type", self.event_type),
            ("ce-time", &time),
        ];
        let headers = pairs.map(|(name, value)| {
            let value = HeaderValue::try_from(percent_encoded(value));
            let value = value.expect("what no header may hold is percent-encoded");
            (HeaderName::from_static(name), value)
        });
        headers.into_iter().collect()
    }
}

/// A value as the HTTP binding writes it (§3.1.3.2): everything that is not visible ASCII, the
/// quote and the percent sign are percent-encoded.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes any text");
        }
    }
    encoded
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(flatten)]
    attributes: Attributes<'a>,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// The whole event as JSON. Data that is JSON stands in it byte for byte, text as a string,
/// anything else in base64.
fn structured(request: &AttemptRequest) -> Bytes {
    let message = &request.message;
    let content = &*message.content;
    let mut envelope = Envelope {
        attributes: Attributes::of(request),
        datacontenttype: &message.content_type,
        data: None,
        data_base64: None,
    };
    let is_json = is_json_type(message.content_type.as_bytes())
        && serde_json::from_slice::<serde::de::IgnoredAny>(content).is_ok();
    if !is_json {
        envelope.data = std::str::from_utf8(content)
            .ok()
            .filter(|_| message.content_type.starts_with("text/"));
        if envelope.data.is_none() {
            envelope.data_base64 = Some(STANDARD.encode(content));
        }
    }
    let mut body = serde_json::to_vec(&envelope).expect("text and times can be JSON");
    if is_json {
        body.pop();
        body.extend_from_slice(b",\"data\":");
        body.extend_from_slice(content);
        body.push(b'}');
    }
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_percent_encoded() {
        assert_eq!(percent_encoded("order.paid"), "order.paid");
        assert_eq!(percent_encoded("a b\"%\r\n€"), "a%20b%22%25%0D%0A%E2%82%AC");
    }
}
