//! Asks a token endpoint for an access token, and reads what it answers (RFC 6749, RFC 7523).

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded::Serializer};
use zeroize::Zeroizing;

use super::{
    assertion, auth,
    capture::Body,
    clients::Connection,
    exchange::{Answer, Limits, Wire},
    http::Shared,
    request,
    target::Target,
};
use crate::model::{
    AttemptError, Auth, ErrorClass, JwtProfile, OAuth2, Policy, Ssl, SubscriptionId,
};

/// How long a token is taken to hold whose answer does not say. `expires_in` is only recommended
/// (RFC 6749 §5.1); a token that ends earlier is found out by the callback's 401.
const LIFETIME_UNSAID: Duration = Duration::from_mins(5);

/// Longest time for which a token is believed: one that holds for years is still got anew each day.
const LIFETIME_MAX: Duration = Duration::from_hours(24);

/// Longest token, in bytes: servers take some 8 KiB of headers in all.
const TOKEN_BYTES_MAX: usize = 8_000;

/// The error codes that are told as the endpoint says them: those of RFC 6749 §4.1.2.1 and §5.2.
/// Any other text could hold what it was asked with.
const ERROR_CODES: [&str; 10] = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
];

/// A token that was got.
pub(super) struct Issued {
    /// What a call carries as `Authorization`.
    pub(super) header: HeaderValue,
    /// How long it holds.
    pub(super) lifetime: Duration,
}

/// Asks for a token for this subscription. Ends within the connect and read time of its settings
/// together.
///
/// The request goes through the subscription's proxy and under its TLS options, but for those that
/// switch checks off: a client secret is worth more than the messages that they were set for.
pub(super) async fn ask(
    wire: &Wire,
    shared: &Shared,
    subscription: SubscriptionId,
    policy: &Policy,
) -> Result<Issued, AttemptError> {
    let (endpoint, form) = match &policy.auth {
        Auth::Oauth2(oauth2) => (&oauth2.endpoint, client_credentials(oauth2, shared)?),
        Auth::JwtProfileOauth2(profile) => (&profile.endpoint, bearer_assertion(profile, shared)?),
        Auth::None | Auth::Basic { .. } | Auth::Token { .. } => {
            let detail = "these credentials name no token endpoint";
            return Err(AttemptError::new(ErrorClass::Internal, detail));
        }
    };
    let url = auth::url(endpoint, &*shared.secrets)?;
    let answer = post(wire, subscription, policy, url, form).await;
    let answer = answer.map_err(of_endpoint)?;
    read(answer.status, answer.body)
        .map_err(|detail| auth::error(format!("token endpoint: {detail}")))
}

/// The form of RFC 6749 §4.4.2, with the client's id and secret in it (§2.3.1).
fn client_credentials(oauth2: &OAuth2, shared: &Shared) -> Result<Zeroizing<String>, AttemptError> {
    let secret = auth::reveal(&oauth2.client_secret, &*shared.secrets, "the client secret")?;
    let scope = oauth2.scopes.join(" ");
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &oauth2.client_id)
        .append_pair("client_secret", &secret);
    if !scope.is_empty() {
        form.append_pair("scope", &scope);
    }
    Ok(form.finish().into())
}

/// The form of RFC 7523 §2.1.
fn bearer_assertion(
    profile: &JwtProfile,
    shared: &Shared,
) -> Result<Zeroizing<String>, AttemptError> {
    let assertion = assertion::assertion(profile, &*shared.secrets, &shared.clock.moment());
    let assertion = assertion.map_err(|error| auth::error(error.to_string()))?;
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("assertion", &assertion);
    Ok(form.finish().into())
}

async fn post(
    wire: &Wire,
    subscription: SubscriptionId,
    policy: &Policy,
    url: Url,
    form: Zeroizing<String>,
) -> Result<Answer, AttemptError> {
    wire.check(&url, subscription)?;
    let ssl = Ssl {
        trust_all: false,
        hostname_verifier: true,
        ..policy.ssl.clone()
    };
    let target = Target::of(&url)?;
    let connection = Connection::to(&target, &ssl, policy.proxy.as_ref(), policy.http);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(USER_AGENT, HeaderValue::from_static(request::AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    request::complete(&mut headers, &target, form.as_bytes());
    let body = Bytes::from_owner(form);
    let prepared = wire.prepare(connection, Method::POST, &target, headers, body)?;
    let limits = Limits::from_now(policy.http);
    wire.exchange(prepared, limits, true).await
}

/// What it means for a call that its token endpoint was not reached: the callback was not called,
/// so it is never the callback's fault.
pub(super) fn of_endpoint(error: AttemptError) -> AttemptError {
    let AttemptError { class, detail } = error;
    match class {
        ErrorClass::Blocked | ErrorClass::Internal => {
            AttemptError::new(class, format!("token endpoint: {detail}"))
        }
        ErrorClass::Auth => auth::error(format!("token endpoint: {detail}")),
        _ => auth::error(format!("token endpoint: {class}: {detail}")),
    }
}

/// An answer of RFC 6749 §5.1 or §5.2.
#[derive(Deserialize)]
struct Reply {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    error: Option<String>,
}

/// The token of an answer, or what is wrong with it in words that hold nothing of it but its status
/// and a known error code.
fn read(status: u16, body: Body) -> Result<Issued, String> {
    let text = Zeroizing::new(body.kept);
    let reply: Option<Reply> = serde_json::from_slice(&text).ok();
    let said = reply.as_ref().and_then(|reply| reply.error.as_deref());
    let code = ERROR_CODES.into_iter().find(|code| said == Some(code));
    let answered = match code {
        Some(code) => format!("answered {status} {code}"),
        None => format!("answered {status}"),
    };
    if !(200..=299).contains(&status) {
        return Err(answered);
    }
    if body.cut || body.size > text.len() as u64 {
        return Err(format!("{answered}, cut short or too long"));
    }
    let issued = match reply {
        Some(reply) => issued(reply),
        None => Err("which is not JSON as RFC 6749 §5.1 has it"),
    };
    issued.map_err(|fault| format!("{answered}, {fault}"))
}

fn issued(reply: Reply) -> Result<Issued, &'static str> {
    let token = Zeroizing::new(reply.access_token.unwrap_or_default());
    if token.is_empty() {
        return Err("without an access_token");
    }
    if let Some(kind) = reply.token_type
        && !kind.eq_ignore_ascii_case("bearer")
    {
        return Err("whose token_type is not Bearer");
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err("whose access_token is too long for a header");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("whose access_token holds characters that no token may hold");
    }
    let lifetime = match reply.expires_in {
        None => LIFETIME_UNSAID,
        Some(said) => lifetime(&said).ok_or("whose expires_in is not a number of seconds")?,
    };
    let bearer = Zeroizing::new(format!("Bearer {}", *token));
    let mut header = HeaderValue::from_str(&bearer).map_err(|_| "whose access_token is no text")?;
    header.set_sensitive(true);
    Ok(Issued { header, lifetime })
}

/// The lifetime that `expires_in` says, as a number or, as some endpoints write it, as text.
fn lifetime(said: &Value) -> Option<Duration> {
    let seconds = match said {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LIFETIME_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn of(status: u16, body: &str) -> Result<Issued, String> {
        let body = Body {
            kept: body.as_bytes().to_vec(),
            ..Body::default()
        };
        read(status, body)
    }

    fn fault(status: u16, body: &str) -> String {
        of(status, body).map(drop).unwrap_err()
    }

    #[test]
    fn a_token_is_sent_as_it_came_and_believed_for_as_long_as_it_says() {
        let minutes = Duration::from_mins;
        for (said, lifetime) in [
            (r#","expires_in":3600,"scope":"a""#, minutes(60)),
            (r#","expires_in":"3599""#, Duration::from_secs(3_599)),
            (r#","expires_in":1"#, Duration::from_secs(1)),
            (r#","expires_in":315360000"#, LIFETIME_MAX),
            (r#","expires_in":18446744073709551615"#, LIFETIME_MAX),
            (r#","expires_in":null"#, LIFETIME_UNSAID),
            ("", LIFETIME_UNSAID),
        ] {
            let body = format!(r#"{{"access_token":"a.b-c~d+e/f==","token_type":"bearer"{said}}}"#);
            let issued = of(200, &body).unwrap();
            assert_eq!(issued.header, "Bearer a.b-c~d+e/f==");
            assert!(issued.header.is_sensitive());
            assert_eq!(issued.lifetime, lifetime, "{said}");
        }
    }

    #[test]
    fn an_answer_without_a_usable_token_is_told_by_what_is_wrong_with_it() {
        let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(8_001));
        for (body, told) in [
            ("", "not JSON"),
            ("<html>canary</html>", "not JSON"),
            (r#"["canary"]"#, "not JSON"),
            (r#"{"access_token":7}"#, "not JSON"),
            (
                r#"{"access_token":"canary","access_token":"b"}"#,
                "not JSON",
            ),
            ("{}", "access_token"),
            (r#"{"access_token":null}"#, "access_token"),
            (r#"{"access_token":""}"#, "access_token"),
            (r#"{"error":"invalid_scope"}"#, "200 invalid_scope"),
            (r#"{"access_token":"canary\r\nx: y"}"#, "characters"),
            (r#"{"access_token":"can ary"}"#, "characters"),
            (r#"{"access_token":"canarü"}"#, "characters"),
            (&long, "too long"),
            (
                r#"{"access_token":"canary","token_type":"mac"}"#,
                "token_type",
            ),
            (r#"{"access_token":"canary","expires_in":0}"#, "expires_in"),
            (r#"{"access_token":"canary","expires_in":-1}"#, "expires_in"),
            (
                r#"{"access_token":"canary","expires_in":1e300}"#,
                "expires_in",
            ),
            (
                r#"{"access_token":"canary","expires_in":99999999999999999999}"#,
                "expires_in",
            ),
            (
                r#"{"access_token":"canary","expires_in":"soon"}"#,
                "expires_in",
            ),
            (r#"{"access_token":"canary","expires_in":{}}"#, "expires_in"),
        ] {
            let fault = fault(200, body);
            assert!(fault.starts_with("answered 200"), "{fault}");
            assert!(fault.contains(told), "{body}: {fault}");
            assert!(!fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_status_and_a_code_that_holds_no_secret() {
        for (status, body, told) in [
            (
                400,
                r#"{"error":"invalid_client"}"#,
                "answered 400 invalid_client",
            ),
            (
                401,
                r#"{"error":"invalid_grant","error_description":"canary"}"#,
                "answered 401 invalid_grant",
            ),
            (400, r#"{"error":"canary"}"#, "answered 400"),
            (302, "", "answered 302"),
            (503, "canary", "answered 503"),
        ] {
            assert_eq!(fault(status, body), told);
        }
    }

    const KEYS: &[&str] = &[
        "access_token",
        "token_type",
        "expires_in",
        "error",
        "error_description",
        "scope",
    ];
    /// Two texts stand in those that must not be told: `canary` and `424242`.
    const VALUES: &[&str] = &[
        "null",
        "true",
        "0",
        "1",
        "-424242",
        "424242",
        "424242.5",
        "424242e300",
        "42424242424242424242424242",
        "18446744073709551615",
        "{}",
        "[\"canary\"]",
        "{\"canary\": 424242}",
        "\"\"",
        "\"3600\"",
        "\"424242\"",
        "\"+424242 s\"",
        "\"Bearer\"",
        "\"bearer\"",
        "\"mac canary\"",
        "\"canary\"",
        "\"canary.424242~/+==\"",
        "\"canary\\r\\nx: y\"",
        "\"canary\\ud800\"",
        "\"canary\u{fc}\"",
        "\"invalid_scope\"",
        "\"invalid_scope canary\"",
        "\"expired_token_424242\"",
    ];

    /// An answer in JSON, cut off or not.
    fn any_reply() -> impl Strategy<Value = Vec<u8>> {
        let key = proptest::sample::select(KEYS);
        let value = proptest::sample::select(VALUES);
        let fields = proptest::collection::btree_map(key, value, 0..5);
        (fields, prop::option::weighted(0.2, any::<Index>())).prop_map(|(fields, cut)| {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{key:?}: {value}"));
            let mut body = format!("{{{}}}", fields.collect::<Vec<_>>().join(", ")).into_bytes();
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            body
        })
    }

    /// Bytes of any kind around what must not be told.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..24);
        (bytes(), bytes()).prop_map(|(before, after)| [&*before, b"canary", &*after].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

        #[test]
        fn no_answer_panics_and_what_is_wrong_with_it_holds_nothing_of_its_body(
            status in prop_oneof![3 => Just(200_u16), 2 => 100..600_u16, 1 => any::<u16>()],
            kept in prop_oneof![4 => any_reply(), 1 => any_bytes()],
            more in prop_oneof![4 => Just(0_u32), 1 => any::<u32>()],
            cut in prop::bool::weighted(0.1),
        ) {
            let size = kept.len() as u64 + u64::from(more);
            let body = Body { kept, size, declared: None, cut };
            match read(status, body) {
                Ok(issued) => {
                    prop_assert!((200..=299).contains(&status) && more == 0 && !cut);
                    prop_assert!(issued.header.is_sensitive());
                    let token = issued.header.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
                    prop_assert!((1..=TOKEN_BYTES_MAX).contains(&token.len()));
                    prop_assert!(token.iter().all(u8::is_ascii_graphic));
                    let one = Duration::from_secs(1);
                    prop_assert!((one..=LIFETIME_MAX).contains(&issued.lifetime));
                }
                Err(told) => {
                    prop_assert!(told.starts_with(&format!("answered {status}")), "{told}");
                    prop_assert!(!told.contains("canary") && !told.contains("424242"), "{told}");
                }
            }
        }
    }
}
