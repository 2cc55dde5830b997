//! Whether settings can be used, told when they are set instead of at the first call.

use super::{Egress, assertion, clients::ClientError, proxy, sign, tls};
use crate::model::{Auth, ConsumerConfiguration, Invalid, Proxy, Secrets, Signing};

/// Checks that the keys, certificates and secrets of these settings can be used for a call. The
/// text of an error never holds a secret.
pub fn check_configuration(
    configuration: &ConsumerConfiguration,
    secrets: &dyn Secrets,
) -> Result<(), Invalid> {
    let mut invalid = Invalid::none();
    if let Auth::JwtProfileOauth2(profile) = &configuration.auth {
        invalid.merge("/auth", assertion::check(profile, secrets));
    }
    invalid.merge("/ssl", tls::check(&configuration.ssl, secrets));
    if let Some(signing) = &configuration.signing {
        invalid.merge("/signing", check_signing(signing, secrets));
    }
    invalid.into_result()
}

fn check_signing(signing: &Signing, secrets: &dyn Secrets) -> Result<(), Invalid> {
    let mut invalid = Invalid::none();
    for (index, key) in signing.keys.iter().enumerate() {
        let checked = sign::check(key, secrets, index);
        let pointer = format!("/keys/{index}/secret");
        let reason = checked.as_ref().err().map(ToString::to_string);
        invalid.check(checked.is_ok(), &pointer, reason.unwrap_or_default());
    }
    invalid.into_result()
}

/// Checks that calls may and can go through this proxy.
pub fn check_proxy(proxy: &Proxy, egress: &Egress) -> Result<(), Invalid> {
    let refused = |error: ClientError| Invalid::one("/host", error.to_string());
    proxy::address(proxy, egress).map(drop).map_err(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::{
        delivery::NoSecrets,
        model::{JwtAlgorithm, JwtProfile, ProxyKind, Secret, SecretId, SigningKey, Ssl},
    };

    fn problem(configuration: &ConsumerConfiguration) -> (String, String) {
        let mut invalid = check_configuration(configuration, &NoSecrets).unwrap_err();
        assert_eq!(invalid.problems.len(), 1, "{invalid}");
        let problem = invalid.problems.remove(0);
        (problem.pointer, problem.reason)
    }

    fn with_ssl(ssl: Ssl) -> ConsumerConfiguration {
        ConsumerConfiguration {
            ssl,
            ..ConsumerConfiguration::default()
        }
    }

    #[test]
    fn a_key_that_cannot_sign_is_named_by_its_place() {
        let sealed = Secret::Sealed(SecretId::from_uuid(uuid::Uuid::from_u128(7)));
        for (secret, reason) in [
            (Secret::new("whsec_canary"), "base64"),
            (Secret::new("canary"), "whsec_"),
            (sealed, "vault"),
        ] {
            let good = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
            let keys = [good, secret].map(SigningKey::new);
            let (pointer, told) = problem(&ConsumerConfiguration {
                signing: Some(Signing { keys: keys.into() }),
                ..ConsumerConfiguration::default()
            });
            assert_eq!(pointer, "/signing/keys/1/secret");
            assert!(told.contains(reason) && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn stores_that_are_not_pem_are_told_by_their_form() {
        let pkcs12 = STANDARD.encode(b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82\x09\xc6canary");
        let jks = STANDARD.encode(b"\xfe\xed\xfe\xed\x00\x00\x00\x02canary");
        for (content, form) in [
            (pkcs12.as_str(), "PKCS12"),
            (jks.as_str(), "JKS"),
            ("canary", "PEM"),
            ("", "PEM"),
        ] {
            for trust_all in [false, true] {
                let (pointer, told) = problem(&with_ssl(Ssl {
                    trust_all,
                    trust_store: Some(content.to_owned()),
                    ..Ssl::default()
                }));
                assert_eq!(pointer, "/ssl/trustStore");
                assert!(told.contains(form) && !told.contains("canary"), "{told}");
            }
            let (pointer, told) = problem(&with_ssl(Ssl {
                key_store: Some(Secret::new(content)),
                ..Ssl::default()
            }));
            assert_eq!(pointer, "/ssl/keyStore");
            assert!(told.contains(form) && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn a_proxy_that_must_not_or_cannot_be_used_is_refused() {
        let proxy = |host: &str| Proxy {
            kind: ProxyKind::Http,
            host: host.to_owned(),
            port: 3128,
            username: None,
            password: None,
        };
        let egress = Egress::default();
        assert!(check_proxy(&proxy("proxy.example.com"), &egress).is_ok());
        for host in ["10.0.0.1", "proxy .example.com"] {
            let invalid = check_proxy(&proxy(host), &egress).unwrap_err();
            assert_eq!(invalid.problems[0].pointer, "/host");
        }
    }

    /// Stores and keys in PEM form: some that can be used, and some that cannot.
    static PEMS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let mut pems = vec![certificate.clone() + &key, certificate];
        pems.extend([
            include_str!("../../tests/fixtures/keys/rsa-2048.pkcs8.pem").to_owned(),
            include_str!("../../tests/fixtures/keys/rsa-2048.pkcs1.pem").to_owned(),
            include_str!("../../tests/fixtures/keys/rsa-2048.encrypted.pem").to_owned(),
            include_str!("../../tests/fixtures/keys/ec-p256.pkcs8.pem").to_owned(),
        ]);
        pems
    });

    const LABELS: &[&str] = &[
        "CERTIFICATE",
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "X509 CRL",
        "",
    ];

    /// How stores of other forms begin.
    const MAGICS: &[&[u8]] = &[
        b"\xfe\xed\xfe\xed",
        b"\xce\xce\xce\xce",
        b"\x30\x82\x0a\x00\x02\x01\x03",
        b"\x30\xff",
        b"\x30\x80\x02\x01\x03",
        b"",
    ];

    /// The same text in each place that takes a store or a key.
    fn everywhere(text: &str) -> [ConsumerConfiguration; 3] {
        let profile = JwtProfile {
            endpoint: "https://example.com/token".parse().unwrap(),
            issuer: "gateway".to_owned(),
            subject: "consumer".to_owned(),
            audience: "https://example.com/".to_owned(),
            signature_algorithm: JwtAlgorithm::RsaRs256,
            key_content: Secret::new(text),
            expiration_seconds: 90,
            key_id: None,
            custom_claims: Vec::new(),
        };
        [
            with_ssl(Ssl {
                trust_store: Some(text.to_owned()),
                ..Ssl::default()
            }),
            with_ssl(Ssl {
                key_store: Some(Secret::new(text)),
                ..Ssl::default()
            }),
            ConsumerConfiguration {
                auth: Auth::JwtProfileOauth2(Box::new(profile)),
                ..ConsumerConfiguration::default()
            },
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(400)))]

        #[test]
        fn no_store_and_no_key_panics_and_none_is_shown(
            sample: Index,
            edits in proptest::collection::vec((any::<Index>(), prop::char::range('\n', 'z')), 0..3),
            cut in prop::option::weighted(0.3, any::<Index>()),
            label in proptest::sample::select(LABELS),
            magic in proptest::sample::select(MAGICS),
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            text in "[ -~\n]{0,80}",
        ) {
            let pem: &String = sample.get(&PEMS);
            let mut edited: Vec<char> = pem.chars().collect();
            for (at, with) in edits {
                let at = at.index(edited.len());
                edited[at] = with;
            }
            if let Some(cut) = cut {
                edited.truncate(cut.index(edited.len()));
            }
            let coded = STANDARD.encode([magic, &*bytes].concat());
            let made_up = format!("-----BEGIN {label}-----\n{coded}\n-----END {label}-----\n");
            for text in [edited.into_iter().collect::<String>(), made_up, coded, text] {
                let pointers = ["/ssl/trustStore", "/ssl/keyStore", "/auth/keyContent"];
                for (configuration, pointer) in everywhere(&text).iter().zip(pointers) {
                    let Err(invalid) = check_configuration(configuration, &NoSecrets) else {
                        continue;
                    };
                    let told = invalid.to_string();
                    prop_assert_eq!(&invalid.problems[0].pointer, pointer, "{}", told);
                    let mut held = text.lines().filter(|line| line.len() >= 16 && !line.contains("-----"));
                    prop_assert!(held.all(|line| !told.contains(line)), "{told}");
                }
            }
        }
    }
}
