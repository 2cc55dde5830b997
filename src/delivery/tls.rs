//! The TLS side of calls.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};

use zeroize::Zeroizing;

use crate::model::{Invalid, Secrets, Ssl};

/// TLS sessions remembered per client, to be resumed.
const SESSIONS_MAX: usize = 256;

/// TLS options that cannot be used. No text of them is shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsOptionsError {
    #[error("the trust store {0}; it must hold certificates in PEM form")]
    TrustStore(NotPem),
    #[error("the key store is not in the vault")]
    KeyStoreMissing,
    #[error(
        "the key store {0}; it must hold a certificate chain and its unencrypted private key in \
         PEM form"
    )]
    KeyStore(NotPem),
    #[error("the trust store holds no certificate that can be used: {0}")]
    Verifier(String),
    #[error("the certificate and private key of the key store cannot be used: {0}")]
    Identity(Error),
    #[error("no TLS version can be used: {0}")]
    Versions(Error),
}

/// What a store holds in place of PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPem {
    /// See RFC 7292: a sequence whose first part is the number 3.
    #[error("is in PKCS12 form, which is not read: convert it with `openssl pkcs12 -nodes`")]
    Pkcs12,
    /// The key stores of Java.
    #[error(
        "is in JKS form, which is not read: convert it with `keytool -importkeystore` and `openssl pkcs12 -nodes`"
    )]
    Jks,
    #[error("cannot be read")]
    Other,
}

impl NotPem {
    /// The form of this text: binary stores are written in base64.
    fn of(text: &str) -> Self {
        let compact: String = text.split_ascii_whitespace().collect();
        let bytes = Zeroizing::new(STANDARD.decode(compact).unwrap_or_default());
        let jks = [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"];
        if jks.iter().any(|magic| bytes.starts_with(*magic)) {
            return Self::Jks;
        }
        // A length above 127 says first in how many bytes it is written.
        let length_bytes = match bytes.get(..2) {
            Some([0x30, short]) if *short < 0x80 => 1,
            Some([0x30, long]) => 1 + usize::from(long & 0x7f),
            _ => return Self::Other,
        };
        match bytes.get(1 + length_bytes..) {
            Some([2, 1, 3, ..]) => Self::Pkcs12,
            _ => Self::Other,
        }
    }
}

impl TlsOptionsError {
    /// Whether it is about who we show ourselves as.
    pub(super) const fn is_identity(&self) -> bool {
        match self {
            Self::KeyStoreMissing | Self::KeyStore(_) | Self::Identity(_) => true,
            Self::TrustStore(_) | Self::Verifier(_) | Self::Versions(_) => false,
        }
    }

    /// The option at fault.
    const fn pointer(&self) -> &'static str {
        match self {
            Self::Versions(_) => "",
            _ if self.is_identity() => "/keyStore",
            _ => "/trustStore",
        }
    }
}

/// Checks that these options can be used, also those that others overrule.
pub(super) fn check(ssl: &Ssl, secrets: &dyn Secrets) -> Result<(), Invalid> {
    let built = roots(ssl).and_then(|_| client_config(ssl, secrets));
    built
        .map(drop)
        .map_err(|error| Invalid::one(error.pointer(), error.to_string()))
}

/// The client side of TLS for calls that are no deliveries: it trusts this machine's authorities.
#[cfg(feature = "server")]
pub(crate) fn machine_tls() -> Result<ClientConfig, String> {
    let config = client_config(&Ssl::default(), &super::NoSecrets);
    config.map_err(|error| error.to_string())
}

/// The client side of TLS under these options.
pub(super) fn client_config(
    ssl: &Ssl,
    secrets: &dyn Secrets,
) -> Result<ClientConfig, TlsOptionsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsOptionsError::Versions)?;
    let builder = if ssl.trust_all {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAll { provider }))
    } else if ssl.hostname_verifier && ssl.trust_store.is_none() {
        builder.with_root_certificates(roots(ssl)?)
    } else {
        let inner = WebPkiServerVerifier::builder_with_provider(roots(ssl)?, provider)
            .build()
            .map_err(|error| TlsOptionsError::Verifier(error.to_string()))?;
        let trusted = ssl.trust_store.as_deref().map(certificates).transpose();
        let verifier = Lenient {
            inner,
            trusted: trusted
                .map_err(TlsOptionsError::TrustStore)?
                .unwrap_or_default(),
            any_name: !ssl.hostname_verifier,
        };
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    };
    let mut config = match &ssl.key_store {
        None => builder.with_no_client_auth(),
        Some(secret) => {
            let pem = secret
                .reveal(secrets)
                .ok_or(TlsOptionsError::KeyStoreMissing)?;
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
                .map_err(|_| TlsOptionsError::KeyStore(NotPem::of(&pem)))?;
            let chain = certificates(&pem).map_err(TlsOptionsError::KeyStore)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsOptionsError::Identity)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

/// The certificate authorities that are trusted.
fn roots(ssl: &Ssl) -> Result<Arc<RootCertStore>, TlsOptionsError> {
    let Some(pem) = &ssl.trust_store else {
        return Ok(native_roots());
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem).map_err(TlsOptionsError::TrustStore)? {
        store
            .add(certificate)
            .map_err(|error| TlsOptionsError::Verifier(error.to_string()))?;
    }
    Ok(Arc::new(store))
}

/// The machine's certificate authorities, read once. A machine that has none trusts nobody.
pub(super) fn native_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read a certificate authority of this machine");
        }
        let mut store = RootCertStore::empty();
        let (added, ignored) = store.add_parsable_certificates(found.certs);
        tracing::debug!(added, ignored, "read the machine's certificate authorities");
        Arc::new(store)
    };
    Arc::clone(ROOTS.get_or_init(load))
}

/// The certificates of a PEM text, which has at least one and none that is damaged.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, NotPem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.ok().filter(|certificates| !certificates.is_empty());
    found.ok_or_else(|| NotPem::of(pem))
}

/// Checks a certificate in every way but those that the options leave out.
#[derive(Debug)]
struct Lenient {
    inner: Arc<WebPkiServerVerifier>,
    /// Certificates that are trusted as they stand: a callback's own self-signed one is marked as
    /// an authority's by most tools, and authorities are not accepted as servers else.
    trusted: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl Lenient {
    /// Whether a certificate was refused for being an authority's alone, and is trusted itself.
    /// Its time of validity is looked at before that, its name is not; that the server holds its
    /// key is shown by the handshake.
    fn is_trusted_itself(&self, end_entity: &CertificateDer<'_>, error: &Error) -> bool {
        let Error::InvalidCertificate(CertificateError::Other(reason)) = error else {
            return false;
        };
        // The name of the error is all that can be told of it from here.
        reason.to_string() == "CaUsedAsEndEntity" && self.trusted.contains(end_entity)
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let checked = match checked {
            Err(error) if self.is_trusted_itself(end_entity, &error) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name)
                    .map(|()| ServerCertVerified::assertion())
            }
            other => other,
        };
        match checked {
            // The name is looked at last, so everything else has been accepted here.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any certificate whose key signed the handshake.
#[derive(Debug)]
struct TrustAll {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
