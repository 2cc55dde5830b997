//! The request of a call: its headers, in the order in which they win.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT},
};

use super::{
    AttemptRequest, auth,
    cloud_events::Payload,
    sign,
    target::Target,
    trace::{AttemptTrace, is_traceparent},
};
use crate::model::{
    AttemptError, CustomHeader, ErrorClass, Secret, Secrets, TRACEPARENT, Timestamp,
};

/// `user-agent` of every call that chooses none.
pub(super) const AGENT: &str = concat!("hooklog/", env!("CARGO_PKG_VERSION"));

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const TRACE: HeaderName = HeaderName::from_static(TRACEPARENT);
const CLIENT_IDENTIFIER: HeaderName = HeaderName::from_static("x-gravitee-client-identifier");

/// The headers of this call made now.
///
/// A message's headers win over the policy's of the same name, and both over the gateway's
/// `user-agent` and `traceparent`; but a trace that came with the message goes on under the call's
/// own span. `content-type`, attributes of CloudEvents, `authorization` from credentials, and what
/// the callback trusts (`webhook-*`, the client identifier) are the gateway's alone.
pub(super) fn headers(
    request: &AttemptRequest,
    payload: &Payload<'_>,
    credentials: Option<&HeaderValue>,
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<HeaderMap, AttemptError> {
    let AttemptRequest {
        policy, message, ..
    } = request;
    let mut map = HeaderMap::with_capacity(16);
    for header in &policy.headers {
        if !message
            .headers
            .iter()
            .any(|h| h.name.eq_ignore_ascii_case(&header.name))
        {
            append_custom(&mut map, header, secrets)?;
        }
    }
    for header in &message.headers {
        append(&mut map, &header.name, value(&header.value)?)?;
    }
    let agent = HeaderValue::from_static(AGENT);
    map.entry(USER_AGENT).or_insert(agent);
    let trace = owned(AttemptTrace::of(request).context.to_string())?;
    if message.headers.iter().any(is_traceparent) {
        map.insert(TRACE, trace);
    } else {
        map.entry(TRACE).or_insert(trace);
    }
    map.insert(CONTENT_TYPE, value(payload.content_type)?);
    for (name, attribute) in &payload.attributes {
        map.insert(name, attribute.clone());
    }
    if let Some(credentials) = credentials {
        map.insert(AUTHORIZATION, credentials.clone());
    }
    if request.gravitee_client_identifier {
        map.insert(CLIENT_IDENTIFIER, owned(request.subscription.to_string())?);
    }
    webhook_headers(&mut map, request, &payload.body, secrets, now)?;
    Ok(map)
}

/// Adds what the HTTP stack would add by itself, so that what is captured is what is sent.
pub(super) fn complete(map: &mut HeaderMap, target: &Target, body: &[u8]) {
    map.insert(HOST, target.host().clone());
    map.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    map.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
}

fn webhook_headers(
    map: &mut HeaderMap,
    request: &AttemptRequest,
    body: &[u8],
    secrets: &dyn Secrets,
    now: Timestamp,
) -> Result<(), AttemptError> {
    let id = request.message.id.to_string();
    if let Some(signing) = &request.policy.signing {
        let signature = sign::signature(signing, secrets, &id, now, body)
            .map_err(|error| AttemptError::new(ErrorClass::Auth, error.to_string()))?;
        map.insert(WEBHOOK_SIGNATURE, owned(signature)?);
    }
    map.insert(WEBHOOK_ID, owned(id)?);
    map.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.as_seconds()));
    map.insert(WEBHOOK_ATTEMPT, HeaderValue::from(request.attempt.get()));
    Ok(())
}

fn append_custom(
    map: &mut HeaderMap,
    header: &CustomHeader,
    secrets: &dyn Secrets,
) -> Result<(), AttemptError> {
    match &header.value {
        Secret::Value(text) => append(map, &header.name, value(text)?),
        Secret::Sealed(_) => {
            let what = format!("the value of the header {}", header.name);
            let mut secret = value(&auth::reveal(&header.value, secrets, &what)?)?;
            // What is captured of it is redacted.
            secret.set_sensitive(true);
            append(map, &header.name, secret)
        }
    }
}

fn append(map: &mut HeaderMap, name: &str, value: HeaderValue) -> Result<(), AttemptError> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| internal(format!("{name:?} is not a header name")))?;
    map.append(name, value);
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, AttemptError> {
    HeaderValue::from_str(text).map_err(|_| unwritable())
}

/// As [`value`], without a copy.
fn owned(text: String) -> Result<HeaderValue, AttemptError> {
    HeaderValue::try_from(text).map_err(|_| unwritable())
}

fn unwritable() -> AttemptError {
    internal("a header holds characters that no header may hold")
}

fn internal(detail: impl Into<String>) -> AttemptError {
    AttemptError::new(ErrorClass::Internal, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        delivery::NoSecrets,
        model::{
            ApiId, AttemptNumber, ConsumerConfiguration, DeliveryId, Header, MessageId,
            MessagePublished, Policy, Secret, Signing, SigningKey, SubscriptionId,
            WebhookEntrypoint,
        },
    };

    fn request(policy_headers: &[CustomHeader], message_headers: &[Header]) -> AttemptRequest {
        let configuration = ConsumerConfiguration {
            headers: policy_headers.to_vec(),
            ..ConsumerConfiguration::default()
        };
        let id = uuid::Uuid::from_u128(0x1234_5678_9abc_def0_1111_2222_3333_4444);
        AttemptRequest {
            delivery: DeliveryId::from_uuid(id),
            api: ApiId::from_uuid(id),
            subscription: SubscriptionId::from_uuid(id),
            attempt: AttemptNumber::new(3),
            probe: false,
            message: Arc::new(MessagePublished {
                id: MessageId::from_uuid(id),
                content: "{}".into(),
                content_type: "application/json".to_owned(),
                event_type: None,
                channel: None,
                key: None,
                headers: message_headers.to_vec(),
                coordinate: None,
                sampled: true,
            }),
            accepted_at: Timestamp::EPOCH,
            policy: Arc::new(Policy::of(&WebhookEntrypoint::at("/a"), &configuration)),
            gravitee_client_identifier: false,
        }
    }

    fn of(request: &AttemptRequest) -> HeaderMap {
        headers(
            request,
            &Payload::of(request),
            Some(&HeaderValue::from_static("Bearer t")),
            &NoSecrets,
            Timestamp::from_millis(1_772_600_767_999),
        )
        .unwrap()
    }

    #[test]
    fn every_call_tells_message_attempt_time_and_trace() {
        let map = of(&request(&[], &[]));
        assert_eq!(map["webhook-id"], "12345678-9abc-def0-1111-222233334444");
        assert_eq!(map["webhook-attempt"], "3");
        assert_eq!(map["webhook-timestamp"], "1772600767");
        assert_eq!(map["content-type"], "application/json");
        assert_eq!(map["user-agent"], AGENT);
        let trace = "00-123456789abcdef01111222233334444-1111222233334447-01";
        assert_eq!(map["traceparent"], trace);
        assert_eq!(map["authorization"], "Bearer t");
        assert_eq!(map.len(), 7);
    }

    #[test]
    fn a_trace_that_came_with_the_message_goes_on_under_the_calls_own_span() {
        let came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let own = "00-123456789abcdef01111222233334444-1111222233334447-01";
        let sent = |value: &str| of(&request(&[], &[Header::new("TraceParent", value)]));
        let went = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111222233334447-00";
        let map = sent(came);
        assert_eq!(
            map.get_all("traceparent").iter().collect::<Vec<_>>(),
            [went]
        );
        assert_eq!(sent("nonsense")["traceparent"], own);
        let chosen = CustomHeader::new("traceparent", came);
        assert_eq!(of(&request(&[chosen], &[]))["traceparent"], came);
    }

    #[test]
    fn a_message_wins_over_the_policy_and_both_over_the_gateway() {
        let policy = [("X-A", "1"), ("x-b", "1"), ("x-b", "2")]
            .map(|(name, value)| CustomHeader::new(name, value));
        let message = [Header::new("x-a", "9"), Header::new("User-Agent", "mine")];
        let map = of(&request(&policy, &message));
        assert_eq!(map.get_all("x-a").iter().collect::<Vec<_>>(), ["9"]);
        assert_eq!(map.get_all("x-b").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(map["user-agent"], "mine");
    }

    #[test]
    fn nothing_chosen_stands_in_for_what_the_callback_trusts() {
        let chosen = [
            Header::new("authorization", "mine"),
            Header::new("content-type", "mine"),
            Header::new("x-gravitee-client-identifier", "mine"),
        ];
        let mut request = request(&chosen.clone().map(CustomHeader::from), &chosen);
        request.gravitee_client_identifier = true;
        let map = of(&request);
        assert_eq!(
            map.get_all("authorization").iter().collect::<Vec<_>>(),
            ["Bearer t"]
        );
        assert_eq!(map["content-type"], "application/json");
        assert_eq!(
            map["x-gravitee-client-identifier"],
            "12345678-9abc-def0-1111-222233334444"
        );
    }

    #[test]
    fn a_key_that_cannot_be_used_is_an_auth_error() {
        let mut request = request(&[], &[]);
        let key = SigningKey::new(Secret::new("whsec_"));
        Arc::make_mut(&mut request.policy).signing = Some(Signing { keys: vec![key] });
        let error = headers(
            &request,
            &Payload::of(&request),
            None,
            &NoSecrets,
            Timestamp::EPOCH,
        )
        .unwrap_err();
        assert_eq!(error.class, ErrorClass::Auth);
    }
}
