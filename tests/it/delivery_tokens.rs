//! Calls with an access token: when one is asked for, how long it serves, and what is told when
//! there is none.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::{BoxFuture, join_all};
use hooklog::{
    clock::SystemClock,
    delivery::{Egress, HttpTransport, Resolve, Transport as _},
    model::{
        AttemptReport, AttemptResult, Auth, ErrorClass, Fault, HttpOptions, JwtAlgorithm, JwtClaim,
        JwtProfile, OAuth2, Policy, Proxy, ProxyKind, Secret, SubscriptionId, Timestamp,
    },
    testing::{
        ManualClock,
        callback::{Answer, CallbackServer, ReceivedCall},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::form_urlencoded;

use crate::support::{
    hostile::{ClosedPort, Hostile, LEFT_MAX, read_request},
    requests::{BRIEF, class, fault, policy, request, transport},
};

const PROTECTED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An answer with this token.
fn token(token: &str, expires_in: u64) -> Answer {
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in});
    Answer::status(200).with_body(body.to_string())
}

/// A token endpoint that gives the tokens `canary-1`, `canary-2` and so on.
async fn endpoint(expires_in: u64) -> CallbackServer {
    let given = AtomicUsize::new(0);
    let give = move |_: &ReceivedCall| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        token(&format!("canary-{number}"), expires_in)
    };
    CallbackServer::start(SystemClock::shared(), give)
        .await
        .unwrap()
}

/// A callback that accepts every token but these, which it answers with 401.
async fn refusing(refused: &'static [&'static str]) -> CallbackServer {
    CallbackServer::start(SystemClock::shared(), |call| {
        let shown = call.header("authorization").unwrap_or_default();
        let known = refused
            .iter()
            .any(|token| shown == format!("Bearer {token}"));
        Answer::status(if known { 401 } else { 200 })
    })
    .await
    .unwrap()
}

fn oauth2(endpoint: &str) -> OAuth2 {
    OAuth2 {
        endpoint: endpoint.parse().unwrap(),
        client_id: "c&d".to_owned(),
        client_secret: Secret::new("canary/s"),
        scopes: vec!["read".to_owned(), "write".to_owned()],
    }
}

/// The settings of a subscription to this callback that gets its tokens at this endpoint.
fn settings(callback: &CallbackServer, endpoint: &CallbackServer) -> Policy {
    authenticated(callback, oauth2(endpoint.url("/token").as_str()))
}

fn authenticated(callback: &CallbackServer, oauth2: OAuth2) -> Policy {
    Policy {
        auth: Auth::Oauth2(oauth2),
        ..policy(callback.url("/hook").as_str())
    }
}

/// What the callback got as `Authorization`, in order.
fn shown(callback: &CallbackServer) -> Vec<String> {
    let calls = callback.received();
    let shown = calls
        .iter()
        .map(|call| call.header("authorization").unwrap());
    shown
        .map(|text| text.trim_start_matches("Bearer ").to_owned())
        .collect()
}

/// The detail of a call that failed for its credentials, which holds none of them.
fn told(report: &AttemptReport) -> String {
    let AttemptResult::Failed(error) = &report.result else {
        panic!("it fails: {report:?}");
    };
    assert_eq!(error.class, ErrorClass::Auth, "{error}");
    assert_eq!(fault(report), Fault::System);
    assert!(!format!("{report:?}").contains("canary"), "{report:?}");
    error.detail.clone()
}

fn form(call: &ReceivedCall) -> Vec<(String, String)> {
    form_urlencoded::parse(&call.body).into_owned().collect()
}

#[tokio::test]
async fn a_token_is_got_by_a_form_with_client_and_scopes_and_is_sent_and_not_shown() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&[]).await);
    let report = transport()
        .send(request(settings(&callback, &endpoint)))
        .await;
    assert_eq!(report.result.status(), 200, "{report:?}");
    assert!(!format!("{report:?}").contains("canary"), "{report:?}");
    assert_eq!(shown(&callback), ["canary-1"]);
    let headers = report.captured.unwrap().request.headers.unwrap();
    let shown = headers.iter().find(|header| header.name == "authorization");
    assert_eq!(shown.unwrap().value, "[redacted]");

    let asked = endpoint.stop().await.remove(0);
    assert_eq!((asked.method.as_str(), &*asked.target), ("POST", "/token"));
    assert_eq!(
        asked.body,
        "grant_type=client_credentials&client_id=c%26d&client_secret=canary%2Fs&scope=read+write"
    );
    for (name, value) in [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
        ("content-length", "87"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_token_serves_until_shortly_before_its_end() {
    for (lifetime, renewed_at) in [(600, 540), (240, 180), (8, 6), (999_999_999, 86_340)] {
        let clock = ManualClock::at(Timestamp::EPOCH, 1);
        let (endpoint, callback) = (endpoint(lifetime).await, refusing(&[]).await);
        let transport = HttpTransport::builder()
            .clock(Arc::new(clock.clone()))
            .egress(Egress::loopback())
            .build();
        let policy = settings(&callback, &endpoint);
        for advance in [0, renewed_at - 1, 1, 0] {
            clock.advance(Duration::from_secs(advance));
            let report = transport.send(request(policy.clone())).await;
            assert_eq!(report.result.status(), 200, "{report:?}");
        }
        let used = ["canary-1", "canary-1", "canary-2", "canary-2"];
        assert_eq!(shown(&callback), used, "a token for {lifetime} s");
    }
}

#[tokio::test]
async fn a_token_that_does_not_say_how_long_it_holds_serves_for_some_minutes() {
    let clock = ManualClock::at(Timestamp::EPOCH, 1);
    let silent = Answer::status(200).with_body(r#"{"access_token":"canary"}"#);
    let endpoint = CallbackServer::scripted(SystemClock::shared(), [silent])
        .await
        .unwrap();
    let callback = refusing(&[]).await;
    let transport = HttpTransport::builder()
        .clock(Arc::new(clock.clone()))
        .egress(Egress::loopback())
        .build();
    for (minutes, asked) in [(0, 1), (3, 1), (1, 2)] {
        clock.advance(Duration::from_mins(minutes));
        let policy = settings(&callback, &endpoint);
        assert_eq!(transport.send(request(policy)).await.result.status(), 200);
        assert_eq!(endpoint.count(), asked);
    }
}

#[tokio::test]
async fn many_calls_at_once_wait_for_one_token() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&[]).await);
    endpoint.hold();
    let transport = transport();
    let policy = settings(&callback, &endpoint);
    // All in one task: each has begun before the first can have a token.
    let calls = join_all((0..50).map(|_| transport.send(request(policy.clone()))));
    let (reports, ()) = tokio::join!(calls, async {
        endpoint.wait_for(1).await;
        endpoint.release();
    });
    assert!(reports.iter().all(|report| report.result.status() == 200));
    assert_eq!((endpoint.count(), callback.count()), (1, 50));
}

#[tokio::test]
async fn many_calls_whose_token_is_refused_at_once_renew_it_once() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&["canary-1"]).await);
    let transport = transport();
    let policy = settings(&callback, &endpoint);
    let calls = (0..50).map(|_| transport.send(request(policy.clone())));
    let reports = join_all(calls).await;
    assert!(reports.iter().all(|report| report.result.status() == 200));
    assert_eq!((endpoint.count(), callback.count()), (2, 100));
}

#[tokio::test]
async fn a_401_renews_the_token_and_the_same_attempt_is_made_once_more() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&["canary-1"]).await);
    let transport = transport();
    let policy = settings(&callback, &endpoint);
    for _ in 0..2 {
        let report = transport.send(request(policy.clone())).await;
        assert_eq!(report.result.status(), 200, "{report:?}");
    }
    assert_eq!(shown(&callback), ["canary-1", "canary-2", "canary-2"]);
    assert_eq!(endpoint.count(), 2);
    let calls = callback.stop().await;
    assert_eq!(calls[0].message(), calls[1].message());
    assert_eq!(calls[0].attempt(), calls[1].attempt());
    assert_eq!(calls[0].body, calls[1].body);
}

#[tokio::test]
async fn a_second_401_is_the_answer_of_the_attempt() {
    let both = refusing(&["canary-1", "canary-2"]).await;
    let endpoint = endpoint(3_600).await;
    let report = transport().send(request(settings(&both, &endpoint))).await;
    assert_eq!(report.result.status(), 401);
    assert_eq!((endpoint.count(), both.count()), (2, 2));
}

#[tokio::test]
async fn no_other_answer_and_no_fixed_credentials_are_tried_twice() {
    let endpoint = endpoint(3_600).await;
    for status in [400, 403, 407, 500] {
        let callback = CallbackServer::scripted(SystemClock::shared(), [Answer::status(status)])
            .await
            .unwrap();
        let report = transport()
            .send(request(settings(&callback, &endpoint)))
            .await;
        assert_eq!((report.result.status(), callback.count()), (status, 1));
    }
    let callback = refusing(&["fixed"]).await;
    let fixed = Policy {
        auth: Auth::Token {
            value: Secret::new("fixed"),
        },
        ..settings(&callback, &endpoint)
    };
    let report = transport().send(request(fixed)).await;
    assert_eq!((report.result.status(), callback.count()), (401, 1));
}

#[tokio::test]
async fn a_token_endpoint_that_fails_after_a_401_is_told_with_it() {
    let answers = [token("canary-1", 3_600), Answer::status(503)];
    let endpoint = CallbackServer::scripted(SystemClock::shared(), answers)
        .await
        .unwrap();
    let callback = refusing(&["canary-1"]).await;
    let report = transport()
        .send(request(settings(&callback, &endpoint)))
        .await;
    assert_eq!(
        told(&report),
        "the callback answered 401, and then token endpoint: answered 503"
    );
    assert_eq!(callback.count(), 1);
}

#[tokio::test]
async fn an_answer_without_a_token_is_told_and_the_next_call_asks_anew() {
    let elsewhere = Hostile::answering(PROTECTED).await;
    let body = |text: &str| Answer::status(200).with_body(text.to_owned());
    let token = |rest: &str| body(&format!(r#"{{"access_token":"canary"{rest}}}"#));
    let refusal = r#"{"error":"invalid_client","error_description":"canary/s"}"#;
    for (answer, expected) in [
        (
            Answer::status(400).with_body(refusal),
            "answered 400 invalid_client",
        ),
        (Answer::status(401).with_body("canary"), "answered 401"),
        (Answer::status(500), "answered 500"),
        (
            Answer::status(307).with_header("location", &elsewhere.url()),
            "answered 307",
        ),
        (
            Answer::status(400).with_body(r#"{"error":"canary/s"}"#),
            "answered 400",
        ),
        (body("<canary>"), "not JSON"),
        (Answer::status(204), "not JSON"),
        (body(r#"{"token":"canary"}"#), "without an access_token"),
        (token(r#","expires_in":-60"#), "expires_in"),
        (token(r#","expires_in":1e99"#), "expires_in"),
        (body(r#"{"access_token":"canary\r\nx: y"}"#), "characters"),
        (token(r#","token_type":"mac""#), "token_type"),
        (token(&" ".repeat(64 * 1024)), "cut short or too long"),
    ] {
        let answers = [answer, self::token("good", 3_600)];
        let endpoint = CallbackServer::scripted(SystemClock::shared(), answers)
            .await
            .unwrap();
        let callback = refusing(&[]).await;
        let transport = transport();
        let policy = settings(&callback, &endpoint);
        let told = told(&transport.send(request(policy.clone())).await);
        assert!(told.starts_with("token endpoint: answered "), "{told}");
        assert!(told.contains(expected), "{expected}: {told}");
        assert_eq!(callback.count(), 0, "{expected}");

        let report = transport.send(request(policy)).await;
        assert_eq!(report.result.status(), 200, "{report:?}");
        assert_eq!(endpoint.count(), 2);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_token_endpoint_that_cannot_be_reached_is_told_by_how() {
    let closed = ClosedPort::take();
    let mute = Hostile::mute().await;
    let strange = Hostile::answering("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    let closing = Hostile::answering("").await;
    let stalling = Hostile::start(|mut stream| async move {
        read_request(&mut stream).await;
        let part = "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"access_token\":\"canary\"";
        stream.write_all(part.as_bytes()).await.unwrap();
        drop(stream.read_u8().await);
    })
    .await;
    let dripping = Hostile::dripping("HTTP/1.1 200 OK\r\nx: ").await;
    let dripped = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"access_token\":\"canary";
    let dripped = Hostile::dripping(dripped).await;
    let head = "HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"canary";
    let (endless, mut poured) = Hostile::pouring(head, "a".repeat(8_192), 1 << 30).await;
    for (url, expected) in [
        (dripping.url(), "timeout: no response within 300 ms"),
        (dripped.url(), "answered 200, cut short"),
        (endless.url(), "answered 200, cut short or too long"),
        (closed.url(), "connect: "),
        (mute.url(), "timeout: no response within 300 ms"),
        (strange.url(), "protocol: "),
        (closing.url(), "reset: "),
        (stalling.url(), "answered 200, cut short"),
    ] {
        let callback = refusing(&[]).await;
        let policy = Policy {
            http: BRIEF,
            ..authenticated(&callback, oauth2(&url))
        };
        let told = told(&transport().send(request(policy)).await);
        let start = format!("token endpoint: {expected}");
        assert!(told.starts_with(&start), "{expected}: {told}");
        assert_eq!(callback.count(), 0);
    }
    let left = tokio::time::timeout(Duration::from_secs(5), poured.recv()).await;
    assert!(left.expect("it is dropped").unwrap() < LEFT_MAX);
}

/// Names point at a private address.
struct Inside;

impl Resolve for Inside {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![Ipv4Addr::new(10, 0, 0, 1).into()]) })
    }
}

#[tokio::test]
async fn a_token_endpoint_that_must_not_be_called_is_a_blocked_destination() {
    let denied = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let callback = refusing(&[]).await;
    let transport = HttpTransport::builder()
        .egress(Egress {
            allow_http: true,
            allow_private_cidrs: vec!["127.0.0.1/32".parse().unwrap()],
            ..Egress::default()
        })
        .resolver(Arc::new(Inside))
        .build();
    let literal = format!("http://{}/", denied.local_addr().unwrap());
    for url in [&*literal, "http://tokens.example.com/", "http://localhost/"] {
        let policy = authenticated(&callback, oauth2(url));
        let report = transport.send(request(policy)).await;
        let AttemptResult::Failed(error) = report.result else {
            panic!("it is blocked: {report:?}");
        };
        assert_eq!(
            error.to_string(),
            "blocked: token endpoint: blocked destination"
        );
    }
    assert_eq!(callback.count(), 0);
    let connected = tokio::time::timeout(Duration::ZERO, denied.accept()).await;
    assert!(connected.is_err(), "nobody connected");
}

#[tokio::test]
async fn a_callback_that_must_not_be_called_costs_no_token() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&[]).await);
    let blocked = Policy {
        callback_url: Some("http://10.0.0.1/".parse().unwrap()),
        ..settings(&callback, &endpoint)
    };
    let report = transport().send(request(blocked)).await;
    assert_eq!(class(&report), ErrorClass::Blocked);
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn a_token_is_for_one_subscription_under_its_present_credentials() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&[]).await);
    let transport = transport();
    let url = endpoint.url("/token");
    let mut other = oauth2(url.as_str());
    other.client_secret = Secret::new("canary/t");
    let old = authenticated(&callback, oauth2(url.as_str()));
    let new = authenticated(&callback, other);
    let mut elsewhere = request(new.clone());
    elsewhere.subscription = SubscriptionId::from_uuid(uuid::Uuid::from_u128(77));
    let retold = Policy {
        headers: vec![hooklog::model::CustomHeader::new("x-a", "1")],
        ..new.clone()
    };
    for (call, used) in [
        (request(old.clone()), "canary-1"),
        (request(new.clone()), "canary-2"),
        (request(new), "canary-2"),
        (elsewhere, "canary-3"),
        (request(retold), "canary-2"),
        (request(old), "canary-4"),
    ] {
        transport.send(call).await;
        assert_eq!(shown(&callback).last().unwrap(), used);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_its_token_to_those_who_wait_and_come() {
    let (endpoint, callback) = (endpoint(3_600).await, refusing(&[]).await);
    endpoint.hold();
    let transport = transport();
    let policy = settings(&callback, &endpoint);
    let given_up = tokio::spawn(transport.send(request(policy.clone())));
    endpoint.wait_for(1).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let waiting = transport.send(request(policy.clone()));
    let (report, ()) = tokio::join!(waiting, async { endpoint.release() });
    assert_eq!(report.result.status(), 200, "{report:?}");
    assert_eq!(transport.send(request(policy)).await.result.status(), 200);
    assert_eq!(shown(&callback), ["canary-1", "canary-1"]);
}

#[tokio::test]
async fn a_call_that_is_given_up_at_a_mute_token_endpoint_does_not_hold_up_the_next() {
    let (told, mut heard) = tokio::sync::mpsc::channel(8);
    let mute = Hostile::start(move |mut stream| {
        let told = told.clone();
        async move {
            read_request(&mut stream).await;
            told.send(()).await.unwrap();
            drop(stream.read_u8().await);
        }
    })
    .await;
    let callback = refusing(&[]).await;
    let transport = transport();
    let policy = Policy {
        http: BRIEF,
        ..authenticated(&callback, oauth2(&mute.url()))
    };
    let given_up = tokio::spawn(transport.send(request(policy.clone())));
    heard.recv().await.unwrap();
    given_up.abort();
    for _ in 0..2 {
        let report = transport.send(request(policy.clone())).await;
        assert!(self::told(&report).contains("timeout"));
    }
    assert!(mute.connections() >= 2, "what was given up came to its end");
}

/// A callback that refuses `canary-1` in an answer that comes to no end, and answers other tokens so.
async fn refusing_slowly(others: &'static str) -> Hostile {
    let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 90\r\n\r\n";
    Hostile::start(move |mut stream| async move {
        let is_refused = read_request(&mut stream).await.contains("canary-1");
        let answer = if is_refused { refusal } else { others };
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream.read_u8().await);
    })
    .await
}

/// Calls this callback with a token of this endpoint, under limits such that no two that take the
/// read time fit into the total.
fn slow(callback: &Hostile, endpoint: &CallbackServer) -> Policy {
    Policy {
        auth: Auth::Oauth2(oauth2(endpoint.url("/token").as_str())),
        http: HttpOptions {
            read_timeout_ms: 1_000,
            ..BRIEF
        },
        ..policy(&callback.url())
    }
}

#[tokio::test]
async fn the_total_timeout_ends_an_attempt_of_several_calls() {
    let endpoint = endpoint(3_600).await;
    let callback = refusing_slowly("").await;
    let policy = slow(&callback, &endpoint);
    let report = transport().send(request(policy)).await;
    let AttemptResult::Failed(error) = &report.result else {
        panic!("it fails: {report:?}");
    };
    assert_eq!(error.to_string(), "timeout: no response within 1200 ms");
    assert!(report.timings.total_us < 2_000_000, "{report:?}");
    assert_eq!((endpoint.count(), callback.connections()), (2, 2));
}

#[tokio::test]
async fn the_total_timeout_ends_the_wait_for_a_token_and_leaves_it_to_those_who_come() {
    let answers = [token("canary-1", 3_600), token("canary-2", 3_600).held()];
    let endpoint = CallbackServer::scripted(SystemClock::shared(), answers)
        .await
        .unwrap();
    let callback = refusing_slowly(PROTECTED).await;
    let transport = transport();
    let policy = slow(&callback, &endpoint);
    let report = transport.send(request(policy.clone())).await;
    assert_eq!(
        told(&report),
        "the callback answered 401, and then token endpoint: timeout: no response within 1200 ms"
    );
    assert!(report.timings.total_us < 2_000_000, "{report:?}");
    let next = transport.send(request(policy));
    let (report, ()) = tokio::join!(next, async {
        endpoint.wait_for(2).await;
        endpoint.release();
    });
    assert_eq!(report.result.status(), 200, "{report:?}");
    assert_eq!(endpoint.count(), 2);
}

fn jwt_profile(endpoint: &CallbackServer) -> JwtProfile {
    JwtProfile {
        endpoint: endpoint.url("/token"),
        issuer: "gateway".to_owned(),
        subject: "consumer".to_owned(),
        audience: "https://example.com/".to_owned(),
        signature_algorithm: JwtAlgorithm::RsaRs256,
        key_content: Secret::new(include_str!("../fixtures/keys/rsa-2048.pkcs8.pem")),
        expiration_seconds: 90,
        key_id: Some("k1".to_owned()),
        custom_claims: vec![JwtClaim {
            name: "tenant".to_owned(),
            value: "acme".to_owned(),
        }],
    }
}

#[tokio::test]
async fn a_token_is_got_for_a_signed_assertion_that_is_made_for_each_request() {
    let clock = ManualClock::at(Timestamp::from_millis(1_772_600_767_000), 1);
    let (endpoint, callback) = (endpoint(600).await, refusing(&[]).await);
    let transport = HttpTransport::builder()
        .clock(Arc::new(clock.clone()))
        .egress(Egress::loopback())
        .build();
    let policy = Policy {
        auth: Auth::JwtProfileOauth2(Box::new(jwt_profile(&endpoint))),
        ..settings(&callback, &endpoint)
    };
    for _ in 0..2 {
        let report = transport.send(request(policy.clone())).await;
        assert_eq!(report.result.status(), 200, "{report:?}");
        assert!(!format!("{report:?}").contains("canary"), "{report:?}");
        clock.advance(Duration::from_secs(600));
    }
    assert_eq!(shown(&callback), ["canary-1", "canary-2"]);

    let mut ids = Vec::new();
    for (call, issued) in endpoint
        .stop()
        .await
        .iter()
        .zip([1_772_600_767, 1_772_601_367])
    {
        let form = form(call);
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        assert_eq!(form[0], ("grant_type".to_owned(), grant.to_owned()));
        assert_eq!((form.len(), &*form[1].0), (2, "assertion"));
        let parts: Vec<_> = form[1].1.split('.').collect();
        let part = |index: usize| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[index]).unwrap()).unwrap()
        };
        assert_eq!(part(0), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let mut claims = part(1);
        ids.push(claims["jti"].take());
        let expected = json!({
            "iss": "gateway", "sub": "consumer", "aud": "https://example.com/", "tenant": "acme",
            "iat": issued, "exp": issued + 90, "jti": null,
        });
        assert_eq!(claims, expected);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 256);
    }
    assert!(ids[0].is_string() && ids[0] != ids[1]);
}

#[tokio::test]
async fn a_key_that_cannot_sign_asks_for_nothing_and_is_told() {
    let (endpoint, callback) = (endpoint(600).await, refusing(&[]).await);
    let mut profile = jwt_profile(&endpoint);
    profile.key_content = Secret::new("canary");
    let policy = Policy {
        auth: Auth::JwtProfileOauth2(Box::new(profile)),
        ..settings(&callback, &endpoint)
    };
    let report = transport().send(request(policy)).await;
    assert!(told(&report).contains("PEM"));
    assert_eq!((endpoint.count(), callback.count()), (0, 0));
}

#[tokio::test]
async fn the_token_endpoint_is_asked_through_the_proxy() {
    let proxy = CallbackServer::start(SystemClock::shared(), |call| {
        if call.target.contains("token") {
            token("canary-1", 600)
        } else {
            Answer::status(200)
        }
    })
    .await
    .unwrap();
    let policy = Policy {
        callback_url: Some("http://93.184.215.14/hook".parse().unwrap()),
        proxy: Some(Proxy {
            kind: ProxyKind::Http,
            host: "127.0.0.1".to_owned(),
            port: proxy.address().port(),
            username: None,
            password: None,
        }),
        ..authenticated(&proxy, oauth2("http://93.184.215.15/token"))
    };
    let report = transport().send(request(policy)).await;
    assert_eq!(report.result.status(), 200, "{report:?}");
    let targets: Vec<_> = proxy
        .received()
        .into_iter()
        .map(|call| call.target)
        .collect();
    let expected = ["http://93.184.215.15/token", "http://93.184.215.14/hook"];
    assert_eq!(targets, expected);
}
