//! What a call carries, over which connection it goes, what is kept of it.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    future, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use hooklog::{
    clock::SystemClock,
    delivery::{CaptureOptions, Egress, HttpTransport, Resolve, Transport},
    model::{
        AttemptNumber, AttemptReport, Auth, CloudEvents, ConsumerConfiguration, CustomHeader,
        Draws, ErrorClass, Fault, HttpOptions, Logging, LoggingParts, Method, Moment, OAuth2,
        Policy, Proxy, ProxyKind, Secret, SecretId, Secrets, Signing, SigningKey, Timestamp,
        WebhookEntrypoint,
    },
    testing::callback::{Answer, CallbackServer, ReceivedCall},
};
use rustix::{
    io::Errno,
    process::{Resource, getrlimit, setrlimit},
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};

use crate::support::{
    hostile::{Hostile, read_request},
    requests::{BLOCKED, BRIEF, call, class, fault, policy, request, told, transport},
    seed::seed_or,
};

async fn callback() -> CallbackServer {
    CallbackServer::start(SystemClock::shared(), |_| Answer::status(200))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_message_is_posted_byte_for_byte() {
    let callback = callback().await;
    let report = call(callback.url("/hook?tenant=a").as_str()).await;
    assert_eq!(report.result.status(), 200);
    let calls = callback.stop().await;
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].method.as_str(), calls[0].target.as_str()),
        ("POST", "/hook?tenant=a")
    );
    assert_eq!(calls[0].body, r#"{"order":7}"#);
    assert_eq!(calls[0].header("content-type"), Some("application/json"));
    assert_eq!(calls[0].header("content-length"), Some("11"));
    assert_eq!(calls[0].attempt(), Some(AttemptNumber::FIRST));
    assert!(calls[0].message().is_some());
    for absent in [
        "accept-encoding",
        "referer",
        "authorization",
        "webhook-signature",
    ] {
        assert_eq!(calls[0].header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn the_method_is_the_policys() {
    let callback = callback().await;
    for method in [Method::Post, Method::Put, Method::Patch] {
        let policy = Policy {
            method,
            ..policy(callback.url("/").as_str())
        };
        transport().send(request(policy)).await;
    }
    let methods: Vec<_> = callback
        .received()
        .into_iter()
        .map(|call| call.method)
        .collect();
    assert_eq!(methods, ["POST", "PUT", "PATCH"]);
}

#[tokio::test]
async fn a_request_on_the_wire_has_its_headers_in_one_order_and_in_lower_case() {
    let (server, mut heard) = Hostile::accepting().await;
    let policy = Policy {
        headers: vec![CustomHeader::new("X-Tenant", "a")],
        ..policy(&format!("{}?a=%20b", server.url()))
    };
    transport().send(request(policy)).await;
    let asked = heard.recv().await.unwrap();
    let sent: Vec<_> = asked
        .lines()
        .filter(|line| !line.starts_with("webhook-timestamp: "))
        .collect();
    let expected = [
        "POST /hook?a=%20b HTTP/1.1",
        "x-tenant: a",
        concat!("user-agent: hooklog/", env!("CARGO_PKG_VERSION")),
        "traceparent: 00-000000000000800087654d5c9e61dff6-87654d5c9e61dff7-01",
        "content-type: application/json",
        "webhook-id: 00000000-0000-0000-0000-000000000001",
        "webhook-attempt: 1",
        &format!("host: {}", server.address()),
        "content-length: 11",
        "accept: */*",
    ];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_message_without_content_says_so() {
    let callback = callback().await;
    let mut request = request(policy(callback.url("/").as_str()));
    Arc::make_mut(&mut request.message).content = "".into();
    transport().send(request).await;
    let calls = callback.stop().await;
    assert_eq!(calls[0].header("content-length"), Some("0"));
    assert_eq!(calls[0].body, "");
}

#[tokio::test]
async fn a_connection_that_is_idle_for_long_is_closed() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let server = Hostile::start(move |mut stream| {
        let told = told.clone();
        async move {
            while !read_request(&mut stream).await.is_empty() {
                let answer = "HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            told.send(()).await.unwrap();
        }
    })
    .await;
    let policy = Policy {
        http: HttpOptions {
            idle_timeout_ms: 50,
            ..HttpOptions::default()
        },
        ..policy(&server.url())
    };
    let transport = transport();
    for connections in 1..=2 {
        let report = transport.send(request(policy.clone())).await;
        assert_eq!(report.result.status(), 204);
        assert_eq!(server.connections(), connections);
        let closed = tokio::time::timeout(std::time::Duration::from_secs(5), heard.recv());
        closed.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn calls_at_the_same_time_have_a_connection_each_and_leave_it_to_the_next() {
    let callback = callback().await;
    callback.hold();
    let transport = transport();
    let url = callback.url("/");
    let send = || transport.send(request(policy(url.as_str())));
    let at_once = futures_util::future::join_all((0..4).map(|_| send()));
    let (reports, ()) = tokio::join!(at_once, async {
        callback.wait_for(4).await;
        callback.release();
    });
    for report in reports {
        assert_eq!(report.result.status(), 200);
        assert!(report.timings.connect_us.is_some());
    }
    let later = futures_util::future::join_all((0..4).map(|_| send()));
    for report in later.await {
        assert_eq!(report.result.status(), 200);
        assert_eq!(report.timings.connect_us, None);
    }
}

#[tokio::test]
async fn calls_share_a_kept_alive_connection_and_only_the_first_connects() {
    let server = Hostile::start(|mut stream| async move {
        while !read_request(&mut stream).await.is_empty() {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let transport = transport();
    let mut timings = Vec::new();
    for _ in 0..3 {
        timings.push(transport.send(request(policy(&server.url()))).await.timings);
    }
    assert_eq!(server.connections(), 1);
    assert!(timings[0].connect_us.is_some());
    assert!(timings[0].dns_us.is_none() && timings[0].tls_us.is_none());
    for later in &timings[1..] {
        assert!(later.connect_us.is_none());
        assert!(later.first_byte_us.unwrap() <= later.total_us);
    }
}

#[tokio::test]
async fn each_worker_has_connections_of_its_own() {
    let server = Hostile::start(|mut stream| async move {
        while !read_request(&mut stream).await.is_empty() {
            let answer = "HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let shared: Arc<dyn Transport> = Arc::new(transport());
    for _ in 0..2 {
        let worker = Arc::clone(&shared).for_worker();
        worker.send(request(policy(&server.url()))).await;
    }
    assert_eq!(server.connections(), 2);
}

/// One that keeps connections alive.
async fn kept_alive() -> Hostile {
    Hostile::start(|mut stream| async move {
        while !read_request(&mut stream).await.is_empty() {
            let answer = "HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn many_sets_of_settings_keep_their_connections() {
    let server = kept_alive().await;
    let transport = transport();
    for _ in 0..2 {
        for idle_timeout_ms in 50_001..50_101 {
            let http = HttpOptions {
                idle_timeout_ms,
                ..HttpOptions::default()
            };
            let policy = Policy {
                http,
                ..policy(&server.url())
            };
            transport.send(request(policy)).await;
        }
    }
    assert_eq!(server.connections(), 100);
}

#[tokio::test]
async fn idle_connections_are_bounded_over_all_callbacks() {
    for (max, connections) in [(2, 2), (100, 1)] {
        let transport = HttpTransport::builder()
            .egress(Egress::loopback())
            .idle_connections_max(max)
            .build();
        let servers = [kept_alive().await, kept_alive().await, kept_alive().await];
        for server in servers.iter().chain([&servers[0]]) {
            let report = transport.send(request(policy(&server.url()))).await;
            assert_eq!(report.result.status(), 204);
        }
        assert_eq!(servers[0].connections(), connections, "at most {max}");
    }
}

#[tokio::test]
async fn a_signed_call_passes_the_reference_verifier() {
    let callback = callback().await;
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let keys = ["whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", key];
    let keys = keys.map(|key| SigningKey::new(Secret::new(key)));
    let signed = Policy {
        signing: Some(Signing { keys: keys.into() }),
        ..policy(callback.url("/").as_str())
    };
    transport().send(request(signed)).await;
    let calls = callback.stop().await;
    let verifier = standardwebhooks::Webhook::new(key).unwrap();
    verifier.verify(&calls[0].body, &calls[0].headers).unwrap();
    assert!(verifier.verify(b"other", &calls[0].headers).is_err());
    assert!(
        calls[0]
            .header("webhook-signature")
            .unwrap()
            .starts_with("v1a,")
    );
}

#[tokio::test]
async fn credentials_are_sent_and_not_shown() {
    let callback = callback().await;
    let authenticated = Policy {
        auth: Auth::Basic {
            username: "u".to_owned(),
            password: Secret::new("canary"),
        },
        headers: vec![
            CustomHeader::new("x-client-token", "canary"),
            CustomHeader::new("x-tenant", "a"),
        ],
        ..policy(callback.url("/?key=canary").as_str())
    };
    let report = transport().send(request(authenticated)).await;
    let calls = callback.stop().await;
    assert_eq!(calls[0].header("authorization"), Some("Basic dTpjYW5hcnk="));
    assert_eq!(calls[0].header("x-client-token"), Some("canary"));
    let shown = format!("{report:?}");
    assert!(
        !shown.contains("canary") && !shown.contains("dTpjYW5hcnk"),
        "{shown}"
    );
    let captured = report.captured.unwrap().request.headers.unwrap();
    let value = |name: &str| {
        &captured
            .iter()
            .find(|header| header.name == name)
            .unwrap()
            .value
    };
    assert_eq!(value("authorization"), "[redacted]");
    assert_eq!(value("x-client-token"), "[redacted]");
    assert_eq!(value("x-tenant"), "a");
}

/// A vault that holds one value under each id.
struct One(&'static str);

impl Secrets for One {
    fn reveal(&self, _: SecretId) -> Option<zeroize::Zeroizing<String>> {
        Some(self.0.to_owned().into())
    }
}

#[tokio::test]
async fn secrets_of_headers_and_query_are_sent_from_the_vault() {
    let callback = callback().await;
    let id = SecretId::from_uuid(uuid::Uuid::from_u128(9));
    let sealed = Policy {
        headers: vec![CustomHeader {
            name: "x-client-token".to_owned(),
            value: Secret::Sealed(id),
        }],
        ..policy(callback.url(&format!("/?key=sealed-{id}&a=1")).as_str())
    };
    let transport = HttpTransport::builder()
        .egress(Egress::loopback())
        .secrets(Arc::new(One("canary")))
        .build();
    let report = transport.send(request(sealed)).await;
    let shown = format!("{report:?}");
    assert!(!shown.contains("canary"), "{shown}");
    let calls = callback.stop().await;
    assert_eq!(calls[0].header("x-client-token"), Some("canary"));
    assert_eq!(calls[0].target, "/?key=canary&a=1");
}

#[tokio::test]
async fn credentials_that_cannot_be_prepared_make_no_call() {
    let callback = callback().await;
    let missing = Secret::Sealed(SecretId::from_uuid(uuid::Uuid::from_u128(9)));
    let oauth2 = Auth::Oauth2(OAuth2 {
        endpoint: callback.url("/token"),
        client_id: "c".to_owned(),
        client_secret: missing.clone(),
        scopes: Vec::new(),
    });
    for auth in [Auth::Token { value: missing }, oauth2] {
        let policy = Policy {
            auth,
            ..policy(callback.url("/").as_str())
        };
        let report = transport().send(request(policy)).await;
        assert_eq!(class(&report), ErrorClass::Auth);
        assert_eq!(fault(&report), Fault::System, "it was not called");
    }
    assert_eq!(callback.count(), 0);
}

#[tokio::test]
async fn only_what_logging_names_is_kept() {
    let callback = CallbackServer::start(SystemClock::shared(), |_| {
        Answer::status(200)
            .with_header("x-answer", "1")
            .with_body(r#"{"pin":4,"a":1}"#)
    })
    .await
    .unwrap();
    let transport = HttpTransport::builder()
        .egress(Egress::loopback())
        .capture(CaptureOptions {
            redact_json_pointers: vec!["/pin".to_owned()],
            ..CaptureOptions::default()
        })
        .build();
    let url = callback.url("/");
    let off = Logging {
        enabled: false,
        ..Logging::ALL
    };
    let silent = Policy {
        logging: off,
        ..policy(url.as_str())
    };
    assert_eq!(transport.send(request(silent)).await.captured, None);

    let payload = LoggingParts {
        headers: false,
        payload: true,
    };
    let logging = Logging {
        enabled: true,
        request: LoggingParts::default(),
        response: payload,
    };
    let some = Policy {
        logging,
        ..policy(url.as_str())
    };
    let captured = transport.send(request(some)).await.captured.unwrap();
    assert_eq!(captured.request, hooklog::model::CapturedPart::default());
    assert_eq!(captured.response.headers, None);
    let body = captured.response.body.unwrap();
    assert_eq!(body.text(), Some(r#"{"a":1,"pin":"[redacted]"}"#));
    assert_eq!(body.size, 15);

    let all = transport
        .send(request(policy(url.as_str())))
        .await
        .captured
        .unwrap();
    assert_eq!(all.request.body.unwrap().text(), Some(r#"{"order":7}"#));
    let headers = all.response.headers.unwrap();
    assert!(
        headers
            .iter()
            .any(|header| header.name == "x-answer" && header.value == "1")
    );
}

#[tokio::test]
async fn captured_request_headers_are_those_that_are_sent() {
    let callback = callback().await;
    let report = transport()
        .send(request(policy(callback.url("/").as_str())))
        .await;
    let captured = report.captured.unwrap().request.headers.unwrap();
    let captured: BTreeMap<_, _> = captured.into_iter().map(|h| (h.name, h.value)).collect();
    let calls = callback.stop().await;
    let sent = calls[0].headers.iter();
    let sent: BTreeMap<_, _> = sent
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    assert_eq!(captured, sent);
    for name in ["host", "content-length", "user-agent", "content-type"] {
        assert!(sent.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_held_callback_answers_when_it_is_released() {
    let callback = callback().await;
    callback.hold();
    let url = callback.url("/");
    let call = tokio::spawn(transport().send(request(policy(url.as_str()))));
    callback.wait_for(1).await;
    assert!(!call.is_finished());
    callback.release();
    assert_eq!(call.await.unwrap().result.status(), 200);
}

#[tokio::test]
async fn a_script_is_answered_in_order_and_its_last_answer_stays() {
    let script = [500, 429, 204].map(Answer::status);
    let callback = CallbackServer::scripted(SystemClock::shared(), script)
        .await
        .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(call(callback.url("/").as_str()).await.result.status());
    }
    assert_eq!(statuses, [500, 429, 204, 204]);
}

#[tokio::test]
async fn without_a_callback_url_nothing_is_called() {
    let nowhere = Policy {
        callback_url: None,
        ..policy("https://example.com/")
    };
    let report = transport().send(request(nowhere)).await;
    assert_eq!(class(&report), ErrorClass::Internal);
}

#[tokio::test]
async fn a_denied_destination_is_not_connected_to() {
    let server = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let strict = HttpTransport::builder()
        .egress(Egress {
            allow_http: true,
            ..Egress::default()
        })
        .build();
    let report = strict.send(request(policy(&server.url()))).await;
    assert_eq!(told(&report), BLOCKED);
    assert_eq!(server.connections(), 0);
}

/// Gives one answer after the other, the last one again and again.
struct Rebinding {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Rebinding {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[asked.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn rebinding(answers: &[&[Ipv4Addr]]) -> HttpTransport {
    let answers = answers
        .iter()
        .map(|answer| answer.iter().copied().map(IpAddr::V4).collect());
    HttpTransport::builder()
        .egress(Egress {
            allow_http: true,
            allow_private_cidrs: vec!["127.0.0.1/32".parse().unwrap()],
            ..Egress::default()
        })
        .resolver(Arc::new(Rebinding {
            answers: answers.collect(),
            asked: AtomicUsize::new(0),
        }))
        .build()
}

#[tokio::test]
async fn a_name_is_resolved_timed_and_called() {
    let server = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://hooks.example.com:{}/", server.address().port());
    let report = rebinding(&[&[Ipv4Addr::LOCALHOST]])
        .send(request(policy(&url)))
        .await;
    assert_eq!(report.result.status(), 200);
    assert!(report.timings.dns_us.is_some() && report.timings.connect_us.is_some());
}

#[tokio::test]
async fn a_name_that_turns_private_is_blocked_at_the_next_connection() {
    let server = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://hooks.example.com:{}/", server.address().port());
    let transport = rebinding(&[&[Ipv4Addr::LOCALHOST], &[Ipv4Addr::new(127, 0, 0, 2)]]);
    assert_eq!(
        transport.send(request(policy(&url))).await.result.status(),
        200
    );
    let report = transport.send(request(policy(&url))).await;
    assert_eq!(told(&report), BLOCKED);
}

#[tokio::test]
async fn one_denied_address_refuses_the_whole_answer() {
    let server = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://hooks.example.com:{}/", server.address().port());
    let both = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)];
    let report = rebinding(&[&both]).send(request(policy(&url))).await;
    assert_eq!(told(&report), BLOCKED);
    assert_eq!(server.connections(), 0);
    assert_eq!(
        class(&rebinding(&[&[]]).send(request(policy(&url))).await),
        ErrorClass::Dns
    );
}

/// Answers by chance with what may be called, what may not, both, or nothing, and keeps it.
struct Flipping {
    draws: Mutex<Draws>,
    answers: Mutex<Vec<Vec<IpAddr>>>,
}

impl Resolve for Flipping {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut draws = self.draws.lock().unwrap();
        let denied = [
            "127.0.0.2",
            "127.0.0.3",
            "10.0.0.1",
            "169.254.169.254",
            "::1",
            "fd00::1",
            "::ffff:127.0.0.2",
        ];
        // Half of it may be called, or hardly an answer would pass.
        let answer: Vec<IpAddr> = (0..draws.below(4))
            .map(|_| match draws.below(14) {
                which @ 0..7 => denied[usize::try_from(which).unwrap()].parse().unwrap(),
                _ => Ipv4Addr::LOCALHOST.into(),
            })
            .collect();
        self.answers.lock().unwrap().push(answer.clone());
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_name_that_flips_a_thousand_times_never_leads_to_a_denied_peer() {
    let seed = seed_or(11);
    let server = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.address().port();
    // They listen, so a connection to one would be made.
    let denied = [[127, 0, 0, 2], [127, 0, 0, 3]];
    let denied = denied.map(|address| TcpListener::bind((Ipv4Addr::from(address), port)).unwrap());
    let mut denied = Vec::from(denied);
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(listener) => denied.push(listener),
        Err(error) => println!("nobody listens on [::1]:{port} here: {error}"),
    }
    for listener in &denied {
        listener.set_nonblocking(true).unwrap();
    }
    let flipping = Arc::new(Flipping {
        draws: Mutex::new(Moment::new(Timestamp::EPOCH, seed.into()).draws()),
        answers: Mutex::default(),
    });
    let transport = HttpTransport::builder()
        .egress(Egress {
            allow_http: true,
            allow_private_cidrs: vec!["127.0.0.1/32".parse().unwrap()],
            ..Egress::default()
        })
        .resolver(Arc::clone(&flipping) as _)
        .build();
    let url = format!("http://hooks.example.com:{port}/");
    let (mut called, mut blocked) = (0, 0);
    for _ in 0..1_000 {
        let asked = flipping.answers.lock().unwrap().len();
        let report = transport.send(request(policy(&url))).await;
        let answers = flipping.answers.lock().unwrap();
        let Some(answer) = answers.get(asked) else {
            assert_eq!(
                report.result.status(),
                200,
                "on a connection that was made before"
            );
            continue;
        };
        if answer.is_empty() {
            assert_eq!(class(&report), ErrorClass::Dns);
        } else if answer.iter().all(|address| *address == Ipv4Addr::LOCALHOST) {
            assert_eq!(report.result.status(), 200, "{answer:?}");
            called += 1;
        } else {
            assert_eq!(told(&report), BLOCKED, "{answer:?}");
            blocked += 1;
        }
    }
    println!("{called} were called, {blocked} were blocked");
    assert!(called > 100 && blocked > 100);
    for listener in denied {
        let connected = listener.accept();
        assert!(connected.is_err(), "{connected:?}");
    }
}

#[tokio::test]
async fn our_own_port_behind_a_name_is_blocked_before_a_byte_is_written() {
    let (server, mut heard) = Hostile::silent().await;
    let transport = HttpTransport::builder()
        .egress(Egress {
            own_addresses: vec![server.address()],
            ..Egress::loopback()
        })
        .resolver(Arc::new(Rebinding {
            answers: vec![vec![Ipv4Addr::LOCALHOST.into()]],
            asked: AtomicUsize::new(0),
        }))
        .build();
    let url = format!("http://hooks.example.com:{}/", server.address().port());
    let report = transport.send(request(policy(&url))).await;
    assert_eq!(told(&report), BLOCKED);
    assert_eq!(heard.recv().await.unwrap(), b"");
}

#[tokio::test]
async fn no_handshake_is_begun_with_a_peer_that_is_denied() {
    let (server, mut heard) = Hostile::silent().await;
    let port = server.address().port();
    let own = Egress {
        own_addresses: vec![server.address()],
        ..Egress::loopback()
    };
    let url = format!("https://hooks.example.com:{port}/");
    let proxied = |kind| {
        let mut policy = proxied("https://93.184.215.14/", kind, port);
        policy.proxy.as_mut().unwrap().host = "proxy.example.com".to_owned();
        policy
    };
    for policy in [
        policy(&url),
        proxied(ProxyKind::Http),
        proxied(ProxyKind::Socks5),
    ] {
        let transport = HttpTransport::builder()
            .egress(own.clone())
            .resolver(Arc::new(Rebinding {
                answers: vec![vec![Ipv4Addr::LOCALHOST.into()]],
                asked: AtomicUsize::new(0),
            }))
            .build();
        let report = transport.send(request(policy)).await;
        assert_eq!(told(&report), BLOCKED);
        assert_eq!(heard.recv().await.unwrap(), b"");
    }
}

/// Settings under which this URL is called through a proxy on this machine that wants a password.
pub(crate) fn proxied(url: &str, kind: ProxyKind, port: u16) -> Policy {
    let proxy = Proxy {
        kind,
        host: "127.0.0.1".to_owned(),
        port,
        username: Some("user".to_owned()),
        password: Some(Secret::new("pass")),
    };
    Policy {
        proxy: Some(proxy),
        http: BRIEF,
        ..policy(url)
    }
}

#[tokio::test]
async fn an_http_proxy_gets_the_absolute_form_and_its_credentials() {
    let (proxy, mut heard) = Hostile::accepting().await;
    let policy = proxied(
        "http://93.184.215.14/hook",
        ProxyKind::Http,
        proxy.address().port(),
    );
    let report = transport().send(request(policy)).await;
    assert_eq!(report.result.status(), 204, "{report:?}");
    let asked = heard.recv().await.unwrap();
    assert!(
        asked.starts_with("POST http://93.184.215.14/hook HTTP/1.1"),
        "{asked}"
    );
    assert!(
        asked.contains("proxy-authorization: Basic dXNlcjpwYXNz"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_socks_proxy_carries_the_call() {
    let callback = callback().await;
    let proxy = Hostile::start(|stream| async move { socks(stream).await.unwrap() }).await;
    let policy = proxied(
        callback.url("/hook").as_str(),
        ProxyKind::Socks5,
        proxy.address().port(),
    );
    let report = transport().send(request(policy)).await;
    assert_eq!(report.result.status(), 200, "{report:?}");
    assert_eq!(callback.count(), 1);
    assert_eq!(proxy.connections(), 1);
}

/// Serves one connection of SOCKS 5 with user name and password (RFC 1928, RFC 1929).
pub(crate) async fn socks(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await?;
    assert!(methods.contains(&2));
    stream.write_all(&[5, 2]).await?;
    let mut login = [0; 11];
    stream.read_exact(&mut login).await?;
    assert_eq!(&login, b"\x01\x04user\x04pass");
    stream.write_all(&[1, 0]).await?;
    let mut target = [0; 10];
    stream.read_exact(&mut target).await?;
    assert_eq!(&target[..4], &[5, 1, 0, 1]);
    let ip = Ipv4Addr::new(target[4], target[5], target[6], target[7]);
    let port = u16::from_be_bytes([target[8], target[9]]);
    let mut onward = tokio::net::TcpStream::connect((ip, port)).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    drop(copy_bidirectional(&mut stream, &mut onward).await);
    Ok(())
}

#[tokio::test]
async fn a_name_behind_a_socks_proxy_is_resolved_here() {
    let callback = callback().await;
    let proxy = Hostile::start(|stream| async move { socks(stream).await.unwrap() }).await;
    let port = callback.url("/").to_url().port().unwrap();
    let url = format!("http://hooks.example.com:{port}/");
    let policy = proxied(&url, ProxyKind::Socks5, proxy.address().port());
    let transport = rebinding(&[&[Ipv4Addr::LOCALHOST]]);
    let report = transport.send(request(policy)).await;
    assert_eq!(report.result.status(), 200, "{report:?}");
    let calls = callback.stop().await;
    let host = format!("hooks.example.com:{port}");
    assert_eq!(calls[0].header("host"), Some(host.as_str()));
    assert_eq!(calls[0].header("proxy-authorization"), None);
}

#[tokio::test]
async fn a_proxy_that_is_silent_spends_the_connect_time() {
    let silent = Hostile::mute().await;
    let port = silent.address().port();
    for (url, kind) in [
        ("https://93.184.215.14/", ProxyKind::Http),
        ("https://93.184.215.14/", ProxyKind::Socks5),
        ("http://93.184.215.14/", ProxyKind::Socks5),
    ] {
        let report = transport().send(request(proxied(url, kind, port))).await;
        assert_eq!(class(&report), ErrorClass::Timeout, "{url} {kind:?}");
    }
}

#[tokio::test]
async fn a_proxy_whose_name_points_inside_is_blocked() {
    let proxy = Hostile::answering("").await;
    let port = proxy.address().port();
    for (url, kind) in [
        ("http://93.184.215.14/", ProxyKind::Http),
        ("https://93.184.215.14/", ProxyKind::Http),
        ("http://93.184.215.14/", ProxyKind::Socks5),
    ] {
        let mut policy = proxied(url, kind, port);
        policy.proxy.as_mut().unwrap().host = "proxy.example.com".to_owned();
        let transport = rebinding(&[&[Ipv4Addr::new(10, 0, 0, 1)]]);
        let report = transport.send(request(policy)).await;
        assert_eq!(told(&report), BLOCKED, "{url} {kind:?}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_connect_error() {
    let proxy = Hostile::answering("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
    let policy = proxied(
        "https://93.184.215.14/",
        ProxyKind::Http,
        proxy.address().port(),
    );
    assert_eq!(
        class(&transport().send(request(policy)).await),
        ErrorClass::Connect
    );
}

/// What comes of a call to a name for which the resolver gives these answers, behind a proxy on this
/// machine.
async fn resolved_behind(kind: ProxyKind, own: bool, answers: &[&[Ipv4Addr]]) -> AttemptReport {
    let proxy = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answers = answers
        .iter()
        .map(|answer| answer.iter().copied().map(IpAddr::V4).collect());
    let transport = HttpTransport::builder()
        .egress(Egress {
            own_addresses: own
                .then(|| "127.0.0.1:80".parse().unwrap())
                .into_iter()
                .collect(),
            ..Egress::loopback()
        })
        .resolver(Arc::new(Rebinding {
            answers: answers.collect(),
            asked: AtomicUsize::new(0),
        }))
        .build();
    let policy = proxied("http://hooks.example.com/", kind, proxy.address().port());
    let report = transport.send(request(policy)).await;
    if class(&report) == ErrorClass::Blocked {
        assert_eq!(proxy.connections(), 0);
    }
    report
}

#[tokio::test]
async fn a_name_that_points_inside_is_blocked_behind_a_proxy_too() {
    let inside: &[&[Ipv4Addr]] = &[&[Ipv4Addr::new(10, 0, 0, 1)]];
    let loopback: &[&[Ipv4Addr]] = &[&[Ipv4Addr::LOCALHOST]];
    for kind in [ProxyKind::Http, ProxyKind::Socks5] {
        let report = resolved_behind(kind, false, inside).await;
        assert_eq!(told(&report), BLOCKED, "{kind:?}");
        let report = resolved_behind(kind, true, loopback).await;
        assert_eq!(told(&report), BLOCKED, "{kind:?}");
    }
}

/// A resolver that knows no name, for this reason.
struct Failing(fn() -> io::Error);

impl Resolve for Failing {
    fn resolve(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(future::ready(Err((self.0)())))
    }
}

#[tokio::test]
async fn a_name_that_we_lack_the_means_to_look_up_is_not_left_to_a_proxy() {
    let proxy = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let called = async |why: fn() -> io::Error| {
        let resolver = Arc::new(Failing(why));
        let transport = HttpTransport::builder().egress(Egress::loopback());
        let transport = transport.resolver(resolver).build();
        let port = proxy.address().port();
        let policy = proxied("http://hooks.example.com/", ProxyKind::Http, port);
        transport.send(request(policy)).await
    };
    let report = called(|| io::Error::from(Errno::MFILE)).await;
    assert_eq!(class(&report), ErrorClass::Internal, "{report:?}");
    assert_eq!((fault(&report), proxy.connections()), (Fault::System, 0));
    let report = called(|| io::Error::other("no such name")).await;
    assert_eq!(report.result.status(), 200, "{report:?}");
}

const WITHOUT_FILES: &str = "HOOKLOG_TEST_WITHOUT_FILES";

/// Not a test by itself: a process that has opened all the files that it may.
#[tokio::test]
async fn without_files_child() {
    if env::var_os(WITHOUT_FILES).is_none() {
        return;
    }
    let transport = transport();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(200);
    setrlimit(Resource::Nofile, limit).unwrap();
    let files: Vec<_> = std::iter::from_fn(|| File::open("/").ok()).collect();
    assert!(!files.is_empty());
    let report = transport
        .send(request(policy("http://hooks.example.com/")))
        .await;
    drop(files);
    assert_eq!(class(&report), ErrorClass::Internal, "{report:?}");
    assert_eq!(fault(&report), Fault::System);
}

#[test]
fn a_name_that_no_file_is_left_to_look_up_is_not_the_callbacks_fault() {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "delivery_calls::without_files_child"])
        .arg("--nocapture")
        .env(WITHOUT_FILES, "")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_behind_a_socks_proxy_is_a_dns_error() {
    let report = resolved_behind(ProxyKind::Socks5, false, &[&[]]).await;
    assert_eq!(class(&report), ErrorClass::Dns);
}

/// What a callback gets of a message of this type and content as one of CloudEvents.
async fn cloud_event(mode: CloudEvents, content_type: &str, content: &[u8]) -> ReceivedCall {
    let callback = callback().await;
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let secret = Secret::new(key);
    let policy = Policy {
        cloud_events: mode,
        signing: Some(Signing {
            keys: vec![SigningKey::new(secret)],
        }),
        ..policy(callback.url("/").as_str())
    };
    let mut request = request(policy);
    let message = Arc::make_mut(&mut request.message);
    message.content = content.to_vec().into();
    content_type.clone_into(&mut message.content_type);
    message.event_type = Some("order paid".to_owned());
    transport().send(request).await;
    let call = callback.stop().await.remove(0);
    let verifier = standardwebhooks::Webhook::new(key).unwrap();
    verifier.verify(&call.body, &call.headers).unwrap();
    call
}

const MESSAGE: &str = "00000000-0000-0000-0000-000000000001";
const SOURCE: &str = "/apis/00000000-0000-0000-0000-000000000003";
const ACCEPTED: &str = "2026-01-02T03:04:05.678Z";

#[tokio::test]
async fn a_binary_cloud_event_is_the_content_with_its_attributes_as_headers() {
    let call = cloud_event(CloudEvents::Binary, "text/plain", b"hello").await;
    assert_eq!(call.body, "hello");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", MESSAGE),
        ("ce-source", SOURCE),
        ("ce-type", "order%20paid"),
        ("ce-time", ACCEPTED),
        ("content-type", "text/plain"),
    ] {
        assert_eq!(call.header(name), Some(value));
    }
}

#[tokio::test]
async fn a_structured_cloud_event_is_one_json_object() {
    let json = br#"{"b":1.50, "a":[]}"#;
    for (content_type, content, name, data) in [
        (
            "application/json",
            &json[..],
            "data",
            json!({"a": [], "b": 1.5}),
        ),
        ("text/plain", b"hello", "data", json!("hello")),
        ("application/json", b"{", "data_base64", json!("ew==")),
        ("image/png", b"\xff\x00", "data_base64", json!("/wA=")),
    ] {
        let call = cloud_event(CloudEvents::Structured, content_type, content).await;
        assert_eq!(
            call.header("content-type"),
            Some("application/cloudevents+json")
        );
        assert_eq!(call.header("ce-id"), None);
        let event: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        let mut expected = json!({
            "specversion": "1.0",
            "id": MESSAGE,
            "source": SOURCE,
            "type": "order paid",
            "time": ACCEPTED,
            "datacontenttype": content_type,
        });
        expected[name] = data;
        assert_eq!(event, expected);
    }
    let call = cloud_event(CloudEvents::Structured, "application/json", json).await;
    let verbatim = call.body.windows(json.len()).any(|part| part == json);
    assert!(verbatim, "JSON stands in it byte for byte");
}

#[test]
fn a_subscription_says_how_it_wants_messages_and_the_entrypoint_for_those_that_do_not() {
    let mut entrypoint = WebhookEntrypoint::at("/a");
    entrypoint.cloud_events = CloudEvents::Structured;
    let mut configuration = ConsumerConfiguration::default();
    let of = |configuration: &_| Policy::of(&entrypoint, configuration).cloud_events;
    assert_eq!(of(&configuration), CloudEvents::Structured);
    configuration.cloud_events = Some(CloudEvents::None);
    assert_eq!(of(&configuration), CloudEvents::None);
    let written = serde_json::to_value(&configuration).unwrap();
    assert_eq!(written["cloudEvents"], "none");
}
