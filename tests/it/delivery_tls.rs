//! TLS: who is trusted, how we show who we are, and how a handshake fails.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hooklog::{
    delivery::{RESPONSE_BYTES_MAX, Transport as _},
    model::{
        AttemptReport, AttemptResult, Auth, ErrorClass, Fault, OAuth2, Policy, ProxyKind, Secret,
        Ssl,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore, ServerConfig,
        SupportedCipherSuite,
        crypto::{
            cipher::{OutboundChunks, OutboundPlainMessage},
            ring,
        },
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

use crate::{
    delivery_calls::{proxied, socks},
    support::{
        hostile::{Hostile, LEFT_MAX, read_request},
        requests::{BRIEF, class, fault, policy, request, transport},
    },
};

/// A certificate authority.
pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    named_authority("ours")
}

fn named_authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name with its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    pub(crate) fn issued(
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        expired: bool,
    ) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        Self { certificate, key }
    }

    fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (vec![self.certificate.der().clone()], key.into())
    }

    /// As a key store holds it.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem() + &self.key.serialize_pem()
    }
}

/// How a server with this identity speaks; it wants a client certificate of `clients` when given.
fn config(identity: &Identity, clients: Option<CertificateDer<'static>>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (chain, key) = identity.chain();
    builder.with_single_cert(chain, key).unwrap()
}

/// An https callback with this identity; it wants a client certificate of `clients` when given.
pub(crate) async fn serve(
    identity: &Identity,
    clients: Option<CertificateDer<'static>>,
) -> Hostile {
    let config = config(identity, clients);
    repeating(config, "HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await
}

/// An https callback that answers each request with this.
async fn repeating(config: ServerConfig, answer: String) -> Hostile {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Hostile::start(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            loop {
                let head = read_request(&mut stream).await;
                assert!(!head.contains("proxy-authorization"), "it is the proxy's");
                if head.is_empty() {
                    return;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

/// Well below the limits of a call that is told none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a pouring server has to give.
const OFFERED: usize = 128 << 20;

/// A session ticket, of which a server may send as many as it likes whenever it likes.
fn ticket() -> Vec<u8> {
    let ticket = [7; 8_000];
    // Lifetime and what is added to the age, a nonce of a byte, the ticket, no extension.
    let mut body = vec![0, 0, 14, 16, 0, 0, 0, 0, 1, 0];
    body.extend(u16::try_from(ticket.len()).unwrap().to_be_bytes());
    body.extend(ticket);
    body.extend([0, 0]);
    let mut message = u32::try_from(body.len()).unwrap().to_be_bytes();
    message[0] = 4;
    [&message[..], &body].concat()
}

/// Sends tickets for as long as they are taken; gives how many bytes left.
async fn pour_tickets(stream: TlsStream<TcpStream>) -> usize {
    let (mut tcp, connection) = stream.into_inner();
    let Some(SupportedCipherSuite::Tls13(suite)) = connection.negotiated_cipher_suite() else {
        panic!("it is TLS 1.3");
    };
    let (mut sequence, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("there are no others");
    };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    let ticket = ticket();
    let mut poured = 0;
    while poured < OFFERED {
        let plain = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(&ticket),
        };
        let record = encrypter.encrypt(plain, sequence).unwrap().encode();
        if tcp.write_all(&record).await.is_err() {
            break;
        }
        sequence += 1;
        poured += record.len();
    }
    poured
}

/// An https callback that answers a request with this, or does not even wait for one, and goes on
/// with tickets. Tells how many bytes of them left once no more are taken.
async fn pouring(
    identity: &Identity,
    answer: Option<&'static str>,
) -> (Hostile, mpsc::Receiver<usize>) {
    let mut config = config(identity, None);
    config.enable_secret_extraction = true;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (told, heard) = mpsc::channel(1);
    let server = Hostile::start(move |stream| {
        let (acceptor, told) = (acceptor.clone(), told.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            if let Some(answer) = answer {
                read_request(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
            told.send(pour_tickets(stream).await).await.unwrap();
        }
    });
    (server.await, heard)
}

async fn call(server: &Hostile, ssl: Ssl) -> AttemptReport {
    let url = format!("https://{}/", server.address());
    let policy = Policy {
        ssl,
        http: BRIEF,
        ..policy(&url)
    };
    transport().send(request(policy)).await
}

fn trusting(authority: &CertifiedIssuer<'static, KeyPair>) -> Ssl {
    Ssl {
        trust_store: Some(authority.pem()),
        ..Ssl::default()
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted_and_the_handshake_timed() {
    let authority = authority();
    let server = serve(&Identity::issued(&authority, "127.0.0.1", false), None).await;
    let url = format!("https://{}/", server.address());
    let policy = Policy {
        ssl: trusting(&authority),
        ..policy(&url)
    };
    let transport = transport();
    let first = transport.send(request(policy.clone())).await;
    assert_eq!(first.result.status(), 204, "{first:?}");
    assert!(first.timings.tls_us.is_some() && first.timings.connect_us.is_some());
    let second = transport.send(request(policy)).await;
    assert_eq!(second.result.status(), 204);
    assert_eq!(
        (second.timings.tls_us, second.timings.connect_us),
        (None, None)
    );
    assert_eq!(server.connections(), 1);
}

/// Serves one connection of an HTTP proxy, and checks what it is asked.
async fn tunnel(mut stream: TcpStream, target: SocketAddr) {
    let asked = read_request(&mut stream).await;
    let expected = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\
         Proxy-Authorization: Basic dXNlcjpwYXNz"
    );
    assert_eq!(asked, expected);
    let mut onward = TcpStream::connect(target).await.unwrap();
    let answer = "HTTP/1.1 200 Connection established\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop(copy_bidirectional(&mut stream, &mut onward).await);
}

#[tokio::test]
async fn https_goes_through_a_tunnel_of_either_kind_of_proxy() {
    let authority = authority();
    let server = serve(&Identity::issued(&authority, "127.0.0.1", false), None).await;
    let target = server.address();
    let http = Hostile::start(move |stream| tunnel(stream, target)).await;
    let socks = Hostile::start(|stream| async move { socks(stream).await.unwrap() }).await;
    for (kind, proxy) in [(ProxyKind::Http, http), (ProxyKind::Socks5, socks)] {
        let url = format!("https://{target}/");
        let policy = Policy {
            ssl: trusting(&authority),
            ..proxied(&url, kind, proxy.address().port())
        };
        let transport = transport();
        let first = transport.send(request(policy.clone())).await;
        assert_eq!(first.result.status(), 204, "{kind:?}: {first:?}");
        assert!(first.timings.tls_us.is_some() && first.timings.connect_us.is_some());
        let second = transport.send(request(policy)).await;
        assert_eq!(second.result.status(), 204, "{kind:?}");
        assert_eq!(second.timings.tls_us, None);
        assert_eq!(proxy.connections(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn unknown_expired_and_misnamed_certificates_are_refused() {
    let authority = authority();
    let stranger = named_authority("another");
    for (identity, ssl, reason) in [
        (
            Identity::issued(&authority, "127.0.0.1", false),
            Ssl::default(),
            "UnknownIssuer",
        ),
        (
            Identity::issued(&stranger, "127.0.0.1", false),
            trusting(&authority),
            "UnknownIssuer",
        ),
        (
            Identity::issued(&authority, "127.0.0.1", true),
            trusting(&authority),
            "xpired",
        ),
        (
            Identity::issued(&authority, "other.example", false),
            trusting(&authority),
            "not valid",
        ),
    ] {
        let server = serve(&identity, None).await;
        let report = call(&server, ssl).await;
        assert_eq!(class(&report), ErrorClass::Tls);
        let shown = format!("{:?}", report.result);
        assert!(shown.contains(reason), "{shown}");
    }
}

#[tokio::test]
async fn without_the_host_name_check_only_the_name_may_be_wrong() {
    let authority = authority();
    let lenient = Ssl {
        hostname_verifier: false,
        ..trusting(&authority)
    };
    let misnamed = serve(&Identity::issued(&authority, "other.example", false), None).await;
    assert_eq!(call(&misnamed, lenient.clone()).await.result.status(), 204);
    let expired = serve(&Identity::issued(&authority, "other.example", true), None).await;
    assert_eq!(
        class(&call(&expired, lenient.clone()).await),
        ErrorClass::Tls
    );
    let stranger = serve(
        &Identity::issued(&self::authority(), "127.0.0.1", false),
        None,
    )
    .await;
    assert_eq!(class(&call(&stranger, lenient).await), ErrorClass::Tls);
}

#[tokio::test]
async fn a_client_secret_is_shown_to_no_stranger_whatever_the_callback_is_let_off() {
    let authority = authority();
    let server = serve(&Identity::issued(&authority, "127.0.0.1", false), None).await;
    let misnamed = serve(&Identity::issued(&authority, "other.example", false), None).await;
    let trust_all = Ssl {
        trust_all: true,
        ..Ssl::default()
    };
    let any_name = Ssl {
        hostname_verifier: false,
        ..trusting(&authority)
    };
    for (endpoint, ssl, told) in [
        (&server, trust_all, "token endpoint: tls: "),
        (&misnamed, any_name, "token endpoint: tls: "),
        (
            &server,
            trusting(&authority),
            "token endpoint: answered 204",
        ),
    ] {
        let policy = Policy {
            auth: Auth::Oauth2(OAuth2 {
                endpoint: format!("https://{}/", endpoint.address()).parse().unwrap(),
                client_id: "c".to_owned(),
                client_secret: Secret::new("s"),
                scopes: Vec::new(),
            }),
            ssl,
            ..policy("https://127.0.0.1:1/")
        };
        let report = transport().send(request(policy)).await;
        assert_eq!(class(&report), ErrorClass::Auth);
        let shown = format!("{:?}", report.result);
        assert!(shown.contains(told), "{shown}");
    }
}

/// A certificate as `openssl req -x509` makes it: self-signed, and marked as an authority's.
pub(crate) fn self_signed(name: &str, expired: bool) -> Identity {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity { certificate, key }
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_where_it_is_trusted_itself() {
    let right = self_signed("127.0.0.1", false);
    let trust = |identity: &Identity, hostname_verifier| Ssl {
        hostname_verifier,
        trust_store: Some(identity.certificate.pem()),
        ..Ssl::default()
    };
    let server = serve(&right, None).await;
    assert_eq!(
        call(&server, trust(&right, true)).await.result.status(),
        204
    );
    let stranger = self_signed("127.0.0.1", false);
    let report = call(&server, trust(&stranger, true)).await;
    assert_eq!(class(&report), ErrorClass::Tls);

    let misnamed = self_signed("other.example", false);
    let server = serve(&misnamed, None).await;
    let report = call(&server, trust(&misnamed, true)).await;
    assert_eq!(class(&report), ErrorClass::Tls);
    assert_eq!(
        call(&server, trust(&misnamed, false)).await.result.status(),
        204
    );

    let expired = self_signed("127.0.0.1", true);
    let server = serve(&expired, None).await;
    for hostname_verifier in [true, false] {
        let report = call(&server, trust(&expired, hostname_verifier)).await;
        assert_eq!(class(&report), ErrorClass::Tls);
    }
}

#[tokio::test]
async fn trust_all_accepts_any_certificate() {
    let trust_all = Ssl {
        trust_all: true,
        ..Ssl::default()
    };
    let server = serve(&Identity::issued(&authority(), "other.example", true), None).await;
    assert_eq!(call(&server, trust_all).await.result.status(), 204);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_callback_that_wants_one() {
    let authority = authority();
    let server = Identity::issued(&authority, "127.0.0.1", false);
    let server = serve(&server, Some(authority.der().clone())).await;
    let with_key = |pem: String| Ssl {
        key_store: Some(Secret::new(pem)),
        ..trusting(&authority)
    };
    let client = Identity::issued(&authority, "client", false);
    let report = call(&server, with_key(client.pem())).await;
    assert_eq!(report.result.status(), 204, "{report:?}");
    assert_eq!(
        class(&call(&server, trusting(&authority)).await),
        ErrorClass::Tls
    );
    for damaged in [String::new(), "canary".to_owned(), client.certificate.pem()] {
        let report = call(&server, with_key(damaged)).await;
        assert_eq!(class(&report), ErrorClass::Auth);
        assert_eq!(fault(&report), Fault::System);
        assert!(!format!("{report:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_trust_store_without_certificates_makes_no_call() {
    let server = Hostile::answering("").await;
    for pem in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let ssl = Ssl {
            trust_store: Some(pem.to_owned()),
            ..Ssl::default()
        };
        let report = call(&server, ssl).await;
        assert_eq!(class(&report), ErrorClass::Internal, "{pem:?}");
        assert_eq!(fault(&report), Fault::System);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_handshake_that_stalls_or_breaks_off_is_told_apart() {
    let stalled = Hostile::mute().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), call(&stalled, Ssl::default())).await;
    assert_eq!(class(&ended.unwrap()), ErrorClass::Timeout);
    let plain = Hostile::start(|mut stream| async move {
        drop(stream.read(&mut [0; 1024]).await);
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    })
    .await;
    assert_eq!(class(&call(&plain, Ssl::default()).await), ErrorClass::Tls);
    let closing = Hostile::start(|mut stream| async move {
        drop(stream.read(&mut [0; 1024]).await);
    })
    .await;
    assert_eq!(
        class(&call(&closing, Ssl::default()).await),
        ErrorClass::Tls
    );
}

#[tokio::test]
async fn of_tickets_without_end_no_more_is_read_than_an_answer_may_hold() {
    let authority = authority();
    let identity = Identity::issued(&authority, "127.0.0.1", false);
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    for (what, answer, expected) in [
        ("before the request", None, Err(ErrorClass::Protocol)),
        ("instead of an answer", Some(""), Err(ErrorClass::Protocol)),
        ("on an idle connection", Some(answer), Ok(204)),
    ] {
        let (server, mut poured) = pouring(&identity, answer).await;
        let policy = Policy {
            ssl: trusting(&authority),
            ..policy(&format!("https://{}/", server.address()))
        };
        let transport = transport();
        let report = timeout(PATIENCE, transport.send(request(policy))).await;
        let result = match report.expect(what).result {
            AttemptResult::Responded { status, .. } => Ok(status),
            AttemptResult::Failed(error) => Err(error.class),
        };
        assert_eq!(result, expected, "{what}");
        let poured = timeout(PATIENCE, poured.recv()).await.expect(what).unwrap();
        assert!((poured as u64) < LEFT_MAX, "{what}: {poured}");
        assert_eq!(server.connections(), 1, "{what}");
    }
}

#[tokio::test]
async fn each_answer_over_tls_is_measured_by_itself() {
    let authority = authority();
    let identity = Identity::issued(&authority, "127.0.0.1", false);
    let body = "a".repeat(RESPONSE_BYTES_MAX);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let server = repeating(config(&identity, None), head + &body).await;
    let transport = transport();
    for _ in 0..20 {
        let policy = Policy {
            ssl: trusting(&authority),
            ..policy(&format!("https://{}/", server.address()))
        };
        let report = transport.send(request(policy)).await;
        assert_eq!(report.result.status(), 200);
        assert!(!report.captured.unwrap().response.body.unwrap().truncated);
    }
    assert_eq!(server.connections(), 1);
}
