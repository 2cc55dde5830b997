//! Whatever the other side does, a call ends in its time, reads no more than it needs, and holds up
//! no other.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use hooklog::{
    delivery::{Egress, HttpTransport, RESPONSE_BYTES_MAX, Resolve, Transport as _},
    model::{AttemptReport, AttemptResult, ErrorClass, Policy, ProxyKind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{
    delivery_calls::proxied,
    support::{
        hostile::{BOMB_BYTES, Hostile, LEFT_MAX, bomb, read_request},
        requests::{BRIEF, call, class, policy, request, transport},
    },
};

/// Well above the limits of [`BRIEF`], well below those of a call that is told no limits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a pouring server has to give.
const OFFERED: u64 = 1 << 30;

/// Waits until a pouring server's connection is dropped, which must be soon.
async fn assert_dropped(poured: &mut mpsc::Receiver<u64>, what: &str) {
    let left = timeout(PATIENCE, poured.recv()).await.expect(what).unwrap();
    assert!(left < LEFT_MAX, "{what}: {left}");
}

/// Makes a call under [`BRIEF`] limits that has to end by itself.
async fn brief(transport: &HttpTransport, policy: Policy) -> AttemptReport {
    let brief = Policy {
        http: BRIEF,
        ..policy
    };
    timeout(PATIENCE, transport.send(request(brief)))
        .await
        .expect("the call ends by itself")
}

/// The status of a call, or why there is none.
fn result(report: &AttemptReport) -> Result<u16, ErrorClass> {
    match &report.result {
        AttemptResult::Responded { status, .. } => Ok(*status),
        AttemptResult::Failed(error) => Err(error.class),
    }
}

/// Answers as the first label of a name says.
struct Names;

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let label = host.split('.').next().unwrap().to_owned();
        Box::pin(async move {
            match &*label {
                "silent" => std::future::pending().await,
                "unknown" => Err(io::Error::other("no such name")),
                "empty" => Ok(Vec::new()),
                _ => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            }
        })
    }
}

fn naming() -> HttpTransport {
    HttpTransport::builder()
        .egress(Egress::loopback())
        .resolver(Arc::new(Names))
        .build()
}

#[tokio::test]
async fn an_unreachable_network_is_a_connect_error() {
    // No route leads to a group of hosts over TCP, on any machine.
    let transport = HttpTransport::builder()
        .egress(Egress {
            allow_http: true,
            allow_private_cidrs: vec!["224.0.0.1/32".parse().unwrap()],
            ..Egress::default()
        })
        .build();
    for url in ["http://224.0.0.1/", "https://224.0.0.1/"] {
        let report = brief(&transport, policy(url)).await;
        assert_eq!(result(&report), Err(ErrorClass::Connect), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_the_system_cannot_find_is_a_dns_error() {
    // A label this long cannot be asked for: the system says so without a network.
    let url = format!("http://{}.example.com/", "a".repeat(64));
    let report = brief(&transport(), policy(&url)).await;
    assert_eq!(result(&report), Err(ErrorClass::Dns), "{report:?}");
    assert_eq!(report.timings.connect_us, None);
}

#[tokio::test]
async fn names_that_are_unknown_empty_or_never_answered_are_told_apart() {
    let proxy = Hostile::mute().await;
    let port = proxy.address().port();
    let transport = naming();
    for (name, expected) in [
        ("unknown", ErrorClass::Dns),
        ("empty", ErrorClass::Dns),
        ("silent", ErrorClass::Timeout),
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{name}.example.com/");
            let socks = proxied(&url, ProxyKind::Socks5, port);
            for policy in [policy(&url), socks] {
                let report = brief(&transport, policy).await;
                assert_eq!(result(&report), Err(expected), "{url}");
            }
        }
    }
    // The names behind an HTTP proxy are looked up before it is called.
    let behind = proxied("http://silent.example.com/", ProxyKind::Http, port);
    let report = brief(&transport, behind).await;
    assert_eq!(result(&report), Err(ErrorClass::Timeout));
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_name_that_is_never_answered_holds_up_no_other() {
    let callback = Hostile::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let transport = naming();
    let unanswered = policy("http://silent.example.com/");
    let silent = transport.send(request(unanswered));
    let known = format!("http://known.example.com:{}/", callback.address().port());
    let known = brief(&transport, policy(&known));
    tokio::select! {
        biased;
        report = silent => panic!("it has its whole time: {report:?}"),
        report = known => assert_eq!(result(&report), Ok(204)),
    }
}

#[tokio::test]
async fn a_handshake_that_drips_spends_the_connect_time() {
    // The head of a record of 16 KiB, which never comes whole.
    let dripping = Hostile::dripping(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc").await;
    let url = format!("https://{}/", dripping.address());
    let report = call(&url).await;
    assert_eq!(class(&report), ErrorClass::Timeout);
    assert!(report.timings.total_us >= 200_000, "{:?}", report.timings);
}

#[tokio::test]
async fn a_handshake_without_end_is_a_tls_error() {
    for (what, part) in [
        (
            "a message of 16 MiB",
            &b"\x16\x03\x03\x00\x04\x02\xff\xff\xff"[..],
        ),
        ("changes of cipher", b"\x14\x03\x03\x00\x01\x01"),
        ("warnings", b"\x15\x03\x03\x00\x02\x01\x5a"),
    ] {
        let (pouring, mut poured) = Hostile::pouring("", part.repeat(1_000), OFFERED).await;
        let url = format!("https://{}/", pouring.address());
        let report = transport().send(request(policy(&url)));
        let report = timeout(PATIENCE, report).await.expect(what);
        assert_eq!(class(&report), ErrorClass::Tls, "{what}");
        assert_dropped(&mut poured, what).await;
    }
}

#[tokio::test]
async fn a_proxy_that_drips_its_answer_spends_the_connect_time() {
    // What SOCKS answers to greeting, login and request, up to a name of 255 bytes.
    let socks = &b"\x05\x02\x01\x00\x05\x00\x00\x03\xff"[..];
    for (kind, scheme, start) in [
        (ProxyKind::Http, "https", &b"HTTP/1.1 200 OK\r\nx: "[..]),
        (ProxyKind::Http, "https", b"HTTP/1.1 200 "),
        (ProxyKind::Http, "http", b"HTTP/1.1 200 OK\r\nx: "),
        (ProxyKind::Socks5, "http", socks),
        (ProxyKind::Socks5, "https", socks),
    ] {
        let proxy = Hostile::dripping(start).await;
        let url = format!("{scheme}://93.184.215.14/");
        let policy = proxied(&url, kind, proxy.address().port());
        let report = brief(&transport(), policy).await;
        assert_eq!(class(&report), ErrorClass::Timeout, "{scheme} {kind:?}");
        assert_eq!(proxy.connections(), 1);
    }
}

#[tokio::test]
async fn a_proxy_whose_answer_has_no_end_is_a_connect_error() {
    for (start, part) in [
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("HTTP/1.1 200 ", "a"),
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
    ] {
        let (proxy, mut poured) = Hostile::pouring(start, part.repeat(1_000), OFFERED).await;
        let policy = Policy {
            http: policy("http://127.0.0.1/").http,
            ..proxied(
                "https://93.184.215.14/",
                ProxyKind::Http,
                proxy.address().port(),
            )
        };
        let report = transport().send(request(policy));
        let report = timeout(PATIENCE, report).await.expect(part);
        assert_eq!(class(&report), ErrorClass::Connect, "{part:?}");
        assert_dropped(&mut poured, part).await;
    }
}

#[tokio::test]
async fn of_an_answer_without_end_no_more_is_read_than_an_answer_may_hold() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let transport = transport();
    for (start, part, expected) in [
        ("HTTP/1.1 200 ", "a", Err(ErrorClass::Protocol)),
        ("HTTP/1.1 200 OK\r\nx: ", "a", Err(ErrorClass::Protocol)),
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n", Err(ErrorClass::Protocol)),
        ("\r\n", "\r\n", Err(ErrorClass::Protocol)),
        (
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            Err(ErrorClass::Protocol),
        ),
        (
            "HTTP/1.1 102 Processing\r\nx: y\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
            Err(ErrorClass::Protocol),
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "a", Ok(200)),
        ("HTTP/1.1 410 Gone\r\n\r\n", "a", Ok(410)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n",
            "a",
            Ok(200),
        ),
        (&format!("{CHUNKED}ffffffffffffffff\r\n"), "a", Ok(200)),
        (CHUNKED, "1\r\na\r\n", Ok(200)),
        (&format!("{CHUNKED}1;"), "a", Ok(200)),
        (&format!("{CHUNKED}0\r\n"), "x: y\r\n", Ok(200)),
    ] {
        let what = format!("{start:?} and {part:?}");
        let part = part.repeat(8_192 / part.len());
        let (pouring, mut poured) = Hostile::pouring(start, part, OFFERED).await;
        let report = transport.send(request(policy(&pouring.url())));
        let report = timeout(PATIENCE, report).await.expect(&what);
        assert_eq!(result(&report), expected, "{what}");
        if expected.is_ok() {
            let body = report.captured.unwrap().response.body.unwrap();
            assert!(body.truncated, "{what}");
            assert!(body.bytes.len() <= RESPONSE_BYTES_MAX, "{what}");
        }
        assert_dropped(&mut poured, &what).await;
        assert_eq!(pouring.connections(), 1, "{what}");
    }
}

#[tokio::test]
async fn a_head_is_an_answer_up_to_its_limit() {
    for (length, expected) in [(60_000, Ok(200)), (200_000, Err(ErrorClass::Protocol))] {
        let long = "y".repeat(length);
        let answer = format!("HTTP/1.1 200 OK\r\nx: {long}\r\ncontent-length: 0\r\n\r\n");
        let server = Hostile::answering(answer).await;
        let report = brief(&transport(), policy(&server.url())).await;
        assert_eq!(result(&report), expected, "{length}");
    }
}

#[tokio::test]
async fn each_answer_of_a_connection_is_measured_by_itself() {
    let body = "a".repeat(RESPONSE_BYTES_MAX);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let server = Hostile::repeating(head + &body).await;
    let transport = transport();
    for _ in 0..10 {
        let report = brief(&transport, policy(&server.url())).await;
        assert_eq!(result(&report), Ok(200));
        assert!(!report.captured.unwrap().response.body.unwrap().truncated);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn interim_responses_that_drip_do_not_stretch_the_read_time() {
    let dripping = Hostile::start(|mut stream| async move {
        read_request(&mut stream).await;
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        while stream.write_all(hint).await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    let report = brief(&transport(), policy(&dripping.url())).await;
    assert_eq!(result(&report), Err(ErrorClass::Timeout));
}

#[tokio::test]
async fn a_bomb_is_kept_as_the_few_bytes_that_came() {
    let bomb = bomb();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        bomb.len()
    );
    assert!(bomb.len() * 100 < BOMB_BYTES, "it is a bomb");
    let server = Hostile::answering([head.as_bytes(), &bomb].concat()).await;
    let report = brief(&transport(), policy(&server.url())).await;
    assert_eq!(result(&report), Ok(200));
    let body = report.captured.unwrap().response.body.unwrap();
    assert!(body.truncated);
    assert_eq!(body.size, bomb.len() as u64);
    assert!(body.bytes == bomb[..RESPONSE_BYTES_MAX]);
}

#[tokio::test]
async fn a_redirect_to_itself_is_called_once() {
    for status in [301, 302, 303, 307, 308] {
        let looping = Hostile::start(move |mut stream| async move {
            let at = stream.local_addr().unwrap();
            while !read_request(&mut stream).await.is_empty() {
                let answer = format!(
                    "HTTP/1.1 {status} Go\r\nlocation: http://{at}/hook\r\ncontent-length: 0\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let report = brief(&transport(), policy(&looping.url())).await;
        assert_eq!(result(&report), Ok(status));
        assert_eq!(looping.connections(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_that_of_the_next_call() {
    let both = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n\
                HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let server = Hostile::repeating(both).await;
    let transport = transport();
    for connections in 1..=3 {
        let report = brief(&transport, policy(&server.url())).await;
        assert_eq!(result(&report), Ok(503));
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn a_change_of_protocol_is_no_acceptance() {
    let (told, mut heard) = mpsc::channel(2);
    let server = Hostile::start(move |mut stream| {
        let told = told.clone();
        async move {
            read_request(&mut stream).await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\n\
                          connection: upgrade\r\nupgrade: x\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
            told.send(rest).await.unwrap();
        }
    })
    .await;
    let transport = transport();
    for connections in 1..=2 {
        let report = brief(&transport, policy(&server.url())).await;
        assert_eq!(result(&report), Ok(101), "{report:?}");
        assert_eq!(server.connections(), connections);
        let rest = timeout(PATIENCE, heard.recv()).await;
        assert_eq!(rest.expect("it is closed").unwrap(), b"");
    }
}
