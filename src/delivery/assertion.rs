//! The signed JWT that is shown to a token endpoint (RFC 7523).
//!
//! A JWT in compact form is two pieces of JSON and a signature over them, and what signs is here
//! already: the TLS provider for RSA, the crates of the webhook signatures for HMAC.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::Signer,
};
use serde::Serialize;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::model::{Invalid, JwtAlgorithm, JwtProfile, Moment, Secrets};

/// An assertion that cannot be made. Its text never holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AssertionError {
    #[error("the key is not in the vault")]
    Missing,
    #[error("the key is encrypted; RSA_RS256 takes an unencrypted private key")]
    Encrypted,
    #[error("the key is not a private key in PEM form, which RSA_RS256 takes")]
    NotPem,
    #[error("the key cannot sign with RSA_RS256; it takes an RSA key of 2048 to 4096 bits")]
    NotRsa,
    #[error("the key has {has} bytes; {algorithm} takes {least} or more (RFC 7518 §3.2)")]
    Short {
        has: usize,
        least: usize,
        algorithm: &'static str,
    },
    #[error("signing with the key failed")]
    Failed,
}

/// Checks that assertions can be signed under these settings.
pub(super) fn check(profile: &JwtProfile, secrets: &dyn Secrets) -> Result<(), Invalid> {
    let key = Key::of(profile, secrets);
    key.map(drop)
        .map_err(|error| Invalid::one("/keyContent", error.to_string()))
}

/// A new assertion, made and signed at this moment.
pub(super) fn assertion(
    profile: &JwtProfile,
    secrets: &dyn Secrets,
    moment: &Moment,
) -> Result<Zeroizing<String>, AssertionError> {
    let key = Key::of(profile, secrets)?;
    let header = Header {
        alg: key.name(),
        typ: "JWT",
        kid: profile.key_id.as_deref(),
    };
    let issued = moment.now.as_seconds();
    let lifetime = i64::try_from(profile.expiration_seconds).unwrap_or(i64::MAX);
    let custom = profile.custom_claims.iter();
    let claims = Claims {
        iss: &profile.issuer,
        sub: &profile.subject,
        aud: &profile.audience,
        iat: issued,
        exp: issued.saturating_add(lifetime),
        jti: moment.uuid().to_string(),
        custom: custom.map(|claim| (&*claim.name, &*claim.value)).collect(),
    };
    let mut jwt = Zeroizing::new(String::with_capacity(1_024));
    append(&mut jwt, &json(&header));
    jwt.push('.');
    append(&mut jwt, &json(&claims));
    let signature = key.sign(jwt.as_bytes())?;
    jwt.push('.');
    append(&mut jwt, &signature);
    Ok(jwt)
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    #[serde(flatten)]
    custom: BTreeMap<&'a str, &'a str>,
}

fn json(part: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(part).expect("texts and numbers under texts are JSON")
}

fn append(jwt: &mut String, part: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(part, jwt);
}

/// A key that can sign.
enum Key {
    Rs256(Box<dyn Signer>),
    Hs256(Zeroizing<String>),
    Hs384(Zeroizing<String>),
    Hs512(Zeroizing<String>),
}

impl Key {
    fn of(profile: &JwtProfile, secrets: &dyn Secrets) -> Result<Self, AssertionError> {
        let text = profile.key_content.reveal(secrets);
        let text = text.ok_or(AssertionError::Missing)?;
        let key = match profile.signature_algorithm {
            JwtAlgorithm::RsaRs256 => Self::Rs256(rsa(&text)?),
            JwtAlgorithm::HmacHs256 => Self::Hs256(long_enough(text, 32, "HMAC_HS256")?),
            JwtAlgorithm::HmacHs384 => Self::Hs384(long_enough(text, 48, "HMAC_HS384")?),
            JwtAlgorithm::HmacHs512 => Self::Hs512(long_enough(text, 64, "HMAC_HS512")?),
        };
        Ok(key)
    }

    /// The algorithm as a JWT names it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Hs256(_) => "HS256",
            Self::Hs384(_) => "HS384",
            Self::Hs512(_) => "HS512",
        }
    }

    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AssertionError> {
        match self {
            Self::Rs256(signer) => signer.sign(input).map_err(|_| AssertionError::Failed),
            Self::Hs256(key) => Ok(tag::<Hmac<Sha256>>(key, input)),
            Self::Hs384(key) => Ok(tag::<Hmac<Sha384>>(key, input)),
            Self::Hs512(key) => Ok(tag::<Hmac<Sha512>>(key, input)),
        }
    }
}

fn rsa(pem: &str) -> Result<Box<dyn Signer>, AssertionError> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|_| {
        if pem.contains("ENCRYPTED") {
            AssertionError::Encrypted
        } else {
            AssertionError::NotPem
        }
    })?;
    let key = any_supported_type(&der).map_err(|_| AssertionError::NotRsa)?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
    signer.ok_or(AssertionError::NotRsa)
}

/// The key, if it is no shorter than what the hash gives.
fn long_enough(
    key: Zeroizing<String>,
    least: usize,
    algorithm: &'static str,
) -> Result<Zeroizing<String>, AssertionError> {
    let has = key.len();
    if has < least {
        return Err(AssertionError::Short {
            has,
            least,
            algorithm,
        });
    }
    Ok(key)
}

fn tag<M: Mac + KeyInit>(key: &str, input: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(key.as_bytes());
    let mac = mac.expect("HMAC takes keys of any length");
    mac.chain_update(input).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::NoSecrets,
        model::{JwtClaim, Secret, SecretId, Timestamp},
    };

    const PKCS8: &str = include_str!("../../tests/fixtures/keys/rsa-2048.pkcs8.pem");
    const PKCS1: &str = include_str!("../../tests/fixtures/keys/rsa-2048.pkcs1.pem");
    const ENCRYPTED: &str = include_str!("../../tests/fixtures/keys/rsa-2048.encrypted.pem");
    const SMALL: &str = include_str!("../../tests/fixtures/keys/rsa-1024.pkcs8.pem");
    const EC: &str = include_str!("../../tests/fixtures/keys/ec-p256.pkcs8.pem");
    const SHARED: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    // What `openssl dgst -sign` and `openssl dgst -hmac` make of the same input.
    const RS256: &str = "BqFzO1r3RcO3gcAaqJxQHDAhaaM6YHhabSOcVzNkes96iFUww_IcyF3Rz9ykZ3pctVnNqTH_bjj_SALmURbWA5XczsLls5x3XARXELSaeUmPeF1jUKhfnULC1WNGncoGiLIToGqU9T9Cuc4FJVob_gwpOGuVHQxSZy5DZMubprSUxQlw_GveBVOdcJLiPJnP9c251F1X449Se5HYkR7JfO1Wt5uEFSfe8LT4o1kCQA8fhvkSuPz_EstYbjyN8avaVeAcFAxf-7nZVgbglDIwrLSdJiL3FR8ka6wTsQ068KNtkihxF5pyOvT6J4NboqV-YxZDQSJxBkbmq2ojciXK-A";
    const HS256: &str = "R97OIfJRoX-mAo7gRmiLFwlpJPZ-V9kg1lvs4rIN3ts";
    const HS384: &str = "_raOfMuVpwz3mGNpNlv1rfbWOc1NbS83T_1D2lyy9JZgKS48qg9B4c_8k4WqV2sG";
    const HS512: &str =
        "8OLwHbZsQ2W3HnLPUhBLf_iKFE09qD2x40DPf_M0plMbyuIYrddUYfBrsHc1O-pnXhsXlaWcNDL86Y6OBgTyLQ";

    fn profile(signature_algorithm: JwtAlgorithm, key: &str) -> JwtProfile {
        JwtProfile {
            endpoint: "https://example.com/token".parse().unwrap(),
            issuer: "gateway".to_owned(),
            subject: "consumer".to_owned(),
            audience: "https://example.com/".to_owned(),
            signature_algorithm,
            key_content: Secret::new(key),
            expiration_seconds: 90,
            key_id: Some("k1".to_owned()),
            custom_claims: vec![JwtClaim {
                name: "tenant".to_owned(),
                value: "a \"b\"".to_owned(),
            }],
        }
    }

    fn made(profile: &JwtProfile) -> Vec<String> {
        let moment = Moment::new(Timestamp::from_millis(1_772_600_767_999), 7);
        let jwt = assertion(profile, &NoSecrets, &moment).unwrap();
        jwt.split('.').map(str::to_owned).collect()
    }

    fn text(part: &str) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_says_who_for_whom_until_when_and_is_told_apart_from_others() {
        let mut profile = profile(JwtAlgorithm::HmacHs256, SHARED);
        let parts = made(&profile);
        assert_eq!(text(&parts[0]), r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#);
        assert_eq!(
            text(&parts[1]),
            r#"{"iss":"gateway","sub":"consumer","aud":"https://example.com/","iat":1772600767,"exp":1772600857,"jti":"019cb73d-35ff-7000-8000-000000000007","tenant":"a \"b\""}"#
        );
        profile.key_id = None;
        assert_eq!(text(&made(&profile)[0]), r#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn signatures_are_those_of_openssl() {
        for (algorithm, key, signature) in [
            (JwtAlgorithm::RsaRs256, PKCS8, RS256),
            (JwtAlgorithm::RsaRs256, PKCS1, RS256),
            (JwtAlgorithm::HmacHs256, SHARED, HS256),
            (JwtAlgorithm::HmacHs384, SHARED, HS384),
            (JwtAlgorithm::HmacHs512, SHARED, HS512),
        ] {
            let parts = made(&profile(algorithm, key));
            assert_eq!(
                parts[2], signature,
                "{algorithm:?} of {}.{}",
                parts[0], parts[1]
            );
        }
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_without_showing_it() {
        use JwtAlgorithm::{HmacHs256, HmacHs384, HmacHs512, RsaRs256};
        for (algorithm, key, told) in [
            (RsaRs256, "canary", "PEM"),
            (RsaRs256, "-----BEGIN PRIVATE KEY-----\ncanary", "PEM"),
            (RsaRs256, ENCRYPTED, "encrypted"),
            (RsaRs256, EC, "RSA key"),
            (RsaRs256, SMALL, "2048"),
            (HmacHs256, "", "32"),
            (HmacHs256, &SHARED[..31], "32"),
            (HmacHs384, &SHARED[..47], "48"),
            (HmacHs512, &SHARED[..63], "64"),
        ] {
            let refused = check(&profile(algorithm, key), &NoSecrets).unwrap_err();
            assert_eq!(refused.problems[0].pointer, "/keyContent");
            let reason = &refused.problems[0].reason;
            assert!(reason.contains(told), "{reason}");
            assert!(!reason.contains("canary") && !reason.contains("01234"));
        }
        for (algorithm, length) in [(HmacHs256, 32), (HmacHs384, 48), (HmacHs512, 64)] {
            let enough = profile(algorithm, &SHARED[..length]);
            assert!(check(&enough, &NoSecrets).is_ok());
        }
    }

    #[test]
    fn a_key_that_the_vault_lacks_is_told() {
        let mut profile = profile(JwtAlgorithm::HmacHs256, SHARED);
        let id = SecretId::from_uuid(uuid::Uuid::from_u128(7));
        profile.key_content = Secret::Sealed(id);
        let refused = check(&profile, &NoSecrets).unwrap_err();
        assert!(refused.to_string().contains("vault"), "{refused}");
    }
}
