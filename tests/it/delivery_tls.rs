//! TLS: who is trusted, how we show who we are, and how a handshake fails.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hooklog::{
    delivery::Transport as _,
    model::{AttemptReport, Auth, ErrorClass, Fault, OAuth2, Policy, ProxyKind, Secret, Ssl},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use crate::{
    delivery_calls::{proxied, socks},
    support::{
        hostile::{Hostile, read_request},
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

    fn pem(&self) -> String {
        self.certificate.pem() + &self.key.serialize_pem()
    }
}

/// An https callback with this identity; it wants a client certificate of `clients` when given.
pub(crate) async fn serve(
    identity: &Identity,
    clients: Option<CertificateDer<'static>>,
) -> Hostile {
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
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    Hostile::start(move |stream| {
        let acceptor = acceptor.clone();
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
                let answer = "HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await
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
