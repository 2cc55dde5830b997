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
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::{
        delivery::NoSecrets,
        model::{ProxyKind, Secret, SecretId, SigningKey, Ssl},
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
}
