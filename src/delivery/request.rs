//! The request of a call: its headers, in the order in which they win.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};

use super::{AttemptRequest, auth, sign};
use crate::model::{
    AttemptError, AttemptNumber, DeliveryId, ErrorClass, Header, Secrets, Timestamp,
};

/// `user-agent` of every call that chooses none.
const AGENT: &str = concat!("hooklog/", env!("CARGO_PKG_VERSION"));

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CLIENT_IDENTIFIER: HeaderName = HeaderName::from_static("x-gravitee-client-identifier");

/// The headers of this call made now.
///
/// A message's headers win over the policy's of the same name, and both over the gateway's
/// `user-agent` and `traceparent`. `content-type`, `authorization` from credentials, and what the
/// callback trusts (`webhook-*`, the client identifier) are the gateway's alone.
pub(super) fn headers(
    request: &AttemptRequest,
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<HeaderMap, AttemptError> {
    let AttemptRequest {
        policy, message, ..
    } = request;
    let mut map = HeaderMap::with_capacity(16);
    for header in &policy.headers {
        if !message.headers.iter().any(|h| h.name.eq_ignore_ascii_case(&header.name)) {
            append(&mut map, header)?;
        }
    }
    for header in &message.headers {
        append(&mut map, header)?;
    }
    let agent = HeaderValue::from_static(AGENT);
    map.entry(USER_AGENT).or_insert(agent);
    let trace = value(&traceparent(request.delivery, request.attempt))?;
    map.entry(TRACEPARENT).or_insert(trace);
    map.insert(CONTENT_TYPE, value(&message.content_type)?);
    if let Some(credentials) = auth::authorize(&policy.auth, secrets)? {
        map.insert(AUTHORIZATION, credentials);
    }
    if request.gravitee_client_identifier {
        map.insert(CLIENT_IDENTIFIER, value(&request.subscription.to_string())?);
    }
    webhook_headers(&mut map, request, secrets, now)?;
    Ok(map)
}

fn webhook_headers(
    map: &mut HeaderMap,
    request: &AttemptRequest,
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<(), AttemptError> {
    let id = request.message.id.to_string();
    let timestamp = now.as_seconds().to_string();
    if let Some(signing) = &request.policy.signing {
        let signature = sign::signature(signing, secrets, &id, &timestamp, &request.message.content)
            .map_err(|error| AttemptError::new(ErrorClass::Auth, error.to_string()))?;
        map.insert(WEBHOOK_SIGNATURE, value(&signature)?);
    }
    map.insert(WEBHOOK_ID, value(&id)?);
    map.insert(WEBHOOK_TIMESTAMP, value(&timestamp)?);
    map.insert(WEBHOOK_ATTEMPT, HeaderValue::from(request.attempt.get()));
    Ok(())
}

/// The trace context of a call (W3C): one trace per delivery, one span per attempt, the same on
/// every run, so what a callback logged can be found from the delivery's id alone.
fn traceparent(delivery: DeliveryId, attempt: AttemptNumber) -> String {
    let (_, low) = delivery.as_uuid().as_u64_pair();
    let span = low.wrapping_add(u64::from(attempt.get())).max(1);
    format!("00-{}-{span:016x}-01", delivery.as_uuid().as_simple())
}

fn append(map: &mut HeaderMap, header: &Header) -> Result<(), AttemptError> {
    let name = HeaderName::from_bytes(header.name.as_bytes())
        .map_err(|_| internal(format!("{:?} is not a header name", header.name)))?;
    map.append(name, value(&header.value)?);
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, AttemptError> {
    HeaderValue::from_str(text)
        .map_err(|_| internal("a header holds characters that no header may hold"))
}

fn internal(detail: impl Into<String>) -> AttemptError {
    AttemptError::new(ErrorClass::Internal, detail)
}
