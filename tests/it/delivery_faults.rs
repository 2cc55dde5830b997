//! Each way in which a callback can fail has its class, and none holds a call past its time.

use std::{future::pending, sync::Arc, time::Duration};

use hooklog::{
    delivery::{RESPONSE_BYTES_MAX, Transport as _},
    model::{
        AttemptReport, AttemptResult, ErrorClass, HttpOptions, MessagePublished, Policy, RetryAfter,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    hostile::{BlackHole, ClosedPort, Hostile, read_request, reset},
    requests::{BRIEF, call, class, policy, request, transport},
};

/// Well above the limits of [`BRIEF`], well below those of a test run.
const PATIENCE: Duration = Duration::from_secs(5);

async fn class_of(hostile: Hostile) -> ErrorClass {
    let report = timeout(PATIENCE, call(&hostile.url()))
        .await
        .expect("the call ends by itself");
    assert_eq!(report.result.status(), 0);
    class(&report)
}

async fn status_of(bytes: impl Into<Vec<u8>>) -> u16 {
    let hostile = Hostile::answering(bytes).await;
    call(&hostile.url()).await.result.status()
}

/// More than a connection holds of what nobody reads.
const LARGE: usize = 8 << 20;

/// Calls it with a large message, under these limits.
async fn call_with_large(hostile: &Hostile, http: HttpOptions) -> AttemptReport {
    let mut large = request(Policy {
        http,
        ..policy(&hostile.url())
    });
    large.message = Arc::new(MessagePublished {
        content: vec![b'a'; LARGE].into(),
        ..MessagePublished::clone(&large.message)
    });
    timeout(PATIENCE, transport().send(large))
        .await
        .expect("the call ends by itself")
}

/// Refuses a request of which it has read no more than the head.
async fn refuse(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large";
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_callback_that_never_reads_a_large_message_spends_the_read_time() {
    let deaf = Hostile::start(|stream| async move {
        let _held = stream;
        pending::<()>().await;
    });
    let report = call_with_large(&deaf.await, BRIEF).await;
    assert_eq!(class(&report), ErrorClass::Timeout);
    assert!(report.timings.total_us >= 300_000, "{:?}", report.timings);
}

#[tokio::test]
async fn a_callback_that_refuses_a_large_message_before_it_has_read_it_has_answered() {
    let holding = Hostile::start(|mut stream| async move {
        refuse(&mut stream).await;
        stream.shutdown().await.unwrap();
        pending::<()>().await;
    });
    let closing = Hostile::start(|mut stream| async move { refuse(&mut stream).await });
    for hostile in [holding.await, closing.await] {
        let report = call_with_large(&hostile, HttpOptions::default()).await;
        assert_eq!(report.result.status(), 413, "{report:?}");
    }
}

#[tokio::test]
async fn a_closed_port_refuses_the_connection() {
    let closed = ClosedPort::take();
    assert_eq!(class(&call(&closed.url()).await), ErrorClass::Connect);
}

#[tokio::test]
async fn a_black_hole_spends_the_connect_time() {
    let hole = BlackHole::open().await;
    let report = call(&hole.url()).await;
    assert_eq!(class(&report), ErrorClass::Timeout);
    assert!(report.timings.total_us >= 200_000, "{:?}", report.timings);
}

#[tokio::test]
async fn a_reset_before_the_response_is_a_reset() {
    let at_once = Hostile::start(|stream| async move { reset(&stream) }).await;
    assert_eq!(class_of(at_once).await, ErrorClass::Reset);
    let after_request = Hostile::start(|mut stream| async move {
        read_request(&mut stream).await;
        reset(&stream);
    });
    assert_eq!(class_of(after_request.await).await, ErrorClass::Reset);
    let closed = Hostile::answering("").await;
    assert_eq!(class_of(closed).await, ErrorClass::Reset);
}

#[tokio::test]
async fn a_head_that_breaks_off_is_a_reset() {
    for part in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let hostile = Hostile::answering(part).await;
        assert_eq!(class_of(hostile).await, ErrorClass::Reset, "{part:?}");
        let hostile = Hostile::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(part.as_bytes()).await.unwrap();
            reset(&stream);
        });
        assert_eq!(class_of(hostile.await).await, ErrorClass::Reset, "{part:?}");
    }
}

/// Calls it, and checks that the head of its response counts although the body was cut.
async fn head_counts(hostile: Hostile, status: u16) -> AttemptReport {
    let report = timeout(PATIENCE, call(&hostile.url()))
        .await
        .expect("the call ends by itself");
    assert_eq!(report.result.status(), status, "{report:?}");
    let response = &report.captured.as_ref().unwrap().response;
    assert!(!response.headers.as_ref().unwrap().is_empty());
    assert!(response.body.as_ref().unwrap().truncated);
    report
}

#[tokio::test]
async fn a_callback_has_answered_once_its_head_is_there() {
    for part in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        head_counts(Hostile::answering(part).await, 200).await;
        let hostile = Hostile::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(part.as_bytes()).await.unwrap();
            reset(&stream);
        });
        head_counts(hostile.await, 200).await;
    }
}

#[tokio::test]
async fn a_body_that_never_ends_in_time_is_cut_and_its_head_counts() {
    let gone = Hostile::dripping("HTTP/1.1 410 Gone\r\ncontent-length: 900\r\n\r\n").await;
    let report = head_counts(gone, 410).await;
    assert!(report.timings.total_us >= 300_000, "{:?}", report.timings);
    let body = report.captured.unwrap().response.body.unwrap();
    assert_eq!(body.size, 900);
    assert!(body.text().unwrap().starts_with('a'));

    let busy = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 900\r\n\r\n";
    let report = head_counts(Hostile::dripping(busy).await, 429).await;
    let asked = RetryAfter::from_seconds(7);
    assert!(matches!(
        report.result,
        AttemptResult::Responded { retry_after: Some(wait), .. } if wait == asked
    ));
}

#[tokio::test]
async fn silence_spends_the_read_time() {
    let mute = Hostile::mute();
    assert_eq!(class_of(mute.await).await, ErrorClass::Timeout);
}

#[tokio::test]
async fn dripping_headers_do_not_stretch_the_read_time() {
    for start in ["HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nx: "] {
        let class = class_of(Hostile::dripping(start).await).await;
        assert_eq!(class, ErrorClass::Timeout, "{start:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..],
        b"\x00\x01\x02\x03\x04\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/1.1 000 Nothing\r\n\r\n",
        b"HTTP/1.1 99 Short\r\n\r\n",
        b"HTTP/1.1 20000 Long\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ] {
        let hostile = Hostile::answering(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(class_of(hostile).await, ErrorClass::Protocol, "{shown:?}");
    }
}

#[tokio::test]
async fn a_head_without_measure_is_a_protocol_error() {
    let many = "x: y\r\n".repeat(5_000);
    let long = format!("x: {}\r\n", "y".repeat(4 * 1024 * 1024));
    for headers in [many, long] {
        let hostile = Hostile::answering(format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
        assert_eq!(class_of(hostile).await, ErrorClass::Protocol);
    }
}

#[tokio::test]
async fn an_answer_with_hundreds_of_headers_is_an_answer() {
    for count in [101, 200, 900] {
        let headers = "x-many: y\r\n".repeat(count);
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
        assert_eq!(status_of(answer).await, 200, "{count} headers");
    }
}

#[tokio::test]
async fn odd_but_readable_responses_count_as_what_they_say() {
    assert_eq!(
        status_of("HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n").await,
        999
    );
    assert_eq!(status_of("HTTP/1.0 200 OK\r\n\r\nuntil the end").await, 200);
    assert_eq!(status_of("HTTP/1.1 204 No Content\r\n\r\n").await, 204);
    assert_eq!(
        status_of("HTTP/1.1 206 Part\r\ncontent-length: 5\r\n\r\nerror").await,
        206
    );
    let both =
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status_of(both).await, 200);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        for target in ["http://169.254.169.254/latest/meta-data/", &elsewhere.url()] {
            let head = format!("HTTP/1.1 {status} Go\r\nlocation: {target}\r\n");
            assert_eq!(status_of(head + "content-length: 0\r\n\r\n").await, status);
        }
        assert_eq!(elsewhere.connections(), 0);
    }
}

#[tokio::test]
async fn of_an_endless_body_no_more_than_the_limit_is_read() {
    let endless = Hostile::start(|mut stream| async move {
        read_request(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[b'a'; 8192]).await.is_ok() {}
    })
    .await;
    let transport = transport();
    for _ in 0..2 {
        let sent = transport.send(request(policy(&endless.url())));
        let report = timeout(PATIENCE, sent).await.unwrap();
        assert_eq!(report.result.status(), 200);
        let body = report.captured.unwrap().response.body.unwrap();
        assert!(body.truncated);
        assert_eq!(body.bytes.len(), RESPONSE_BYTES_MAX);
        assert_eq!(body.size, 10_737_418_240, "its size is kept");
    }
    assert_eq!(
        endless.connections(),
        2,
        "such a connection is not used again"
    );
}

#[tokio::test]
async fn a_compressed_body_is_not_expanded() {
    // 1 MiB of zeros, in gzip, as its first bytes: whoever expands it fails or grows.
    let squeezed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xec\xc1\x01\x01";
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        squeezed.len()
    );
    let hostile = Hostile::answering([head.as_bytes(), squeezed].concat()).await;
    let report = call(&hostile.url()).await;
    assert_eq!(report.result.status(), 200);
    let captured = report.captured.unwrap();
    assert_eq!(captured.response.body.unwrap().bytes, squeezed);
    let asked = captured.request.headers.unwrap();
    assert!(asked.iter().all(|header| header.name != "accept-encoding"));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_opened_anew() {
    let closing = Hostile::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let transport = transport();
    for _ in 0..3 {
        let report = transport.send(request(policy(&closing.url()))).await;
        assert_eq!(report.result.status(), 200);
    }
    assert_eq!(closing.connections(), 3);
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let closing = Hostile::start(|mut stream| async move {
        read_request(&mut stream).await;
        let answer = "HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_request(&mut stream).await;
    })
    .await;
    let transport = transport();
    let report = transport.send(request(policy(&closing.url()))).await;
    assert_eq!(report.result.status(), 204);
    let report = transport.send(request(policy(&closing.url()))).await;
    assert_eq!(class(&report), ErrorClass::Reset);
    assert_eq!(closing.connections(), 1);
}

#[tokio::test]
async fn retry_after_is_read_where_it_makes_sense() {
    for (value, wait) in [
        ("7", Some(7)),
        ("999999999", Some(RetryAfter::SECONDS_MAX)),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            Some(RetryAfter::SECONDS_MAX),
        ),
        ("-1", None),
        ("soon", None),
    ] {
        let head = format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\n");
        let hostile = Hostile::answering(head + "content-length: 0\r\n\r\n").await;
        let AttemptResult::Responded { retry_after, .. } = call(&hostile.url()).await.result else {
            panic!("it answers");
        };
        assert_eq!(retry_after.map(|retry| retry.seconds), wait, "{value}");
    }
}

#[tokio::test]
async fn no_detail_holds_what_the_url_or_the_headers_hide() {
    let hostile = Hostile::answering("nonsense\r\n\r\n").await;
    let url = format!("{}?token=canary", hostile.url());
    let failing = Policy {
        http: BRIEF,
        auth: hooklog::model::Auth::Token {
            value: hooklog::model::Secret::new("canary"),
        },
        ..policy(&url)
    };
    let report = transport().send(request(failing)).await;
    assert_eq!(class(&report), ErrorClass::Protocol);
    assert!(!format!("{report:?}").contains("canary"), "{report:?}");
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_whole() {
    for (length, whole) in [(RESPONSE_BYTES_MAX, true), (RESPONSE_BYTES_MAX + 1, false)] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let hostile = Hostile::answering(head + &"a".repeat(length)).await;
        let body = call(&hostile.url())
            .await
            .captured
            .unwrap()
            .response
            .body
            .unwrap();
        assert_eq!(
            (body.bytes.len(), body.truncated),
            (RESPONSE_BYTES_MAX, !whole)
        );
    }
}
