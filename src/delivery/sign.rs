//! Standard Webhooks signatures: `v1` (HMAC-SHA256) and `v1a` (ed25519).

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::{self, Secrets, Signing, Timestamp};

/// How long an HMAC key may be, as Standard Webhooks asks.
const HMAC_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A signing key that cannot be used. Its text never holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    /// The vault has no such key.
    #[error("signing key {0} is not in the vault")]
    Missing(usize),
    /// It begins with neither `whsec_` nor `whsk_`.
    #[error("signing key {0} must begin with whsec_ (HMAC) or whsk_ (ed25519)")]
    UnknownKind(usize),
    /// It is not base64, or of the wrong length.
    #[error("signing key {0} is not base64 of {1} bytes")]
    Malformed(usize, &'static str),
}

/// Checks that this key, the one at `index`, can sign.
pub(super) fn check(
    key: &model::SigningKey,
    secrets: &dyn Secrets,
    index: usize,
) -> Result<(), SignatureError> {
    let text = reveal(key, secrets, index)?;
    Key::parse(&text, index).map(drop)
}

fn reveal(
    key: &model::SigningKey,
    secrets: &dyn Secrets,
    index: usize,
) -> Result<Zeroizing<String>, SignatureError> {
    let text = key.secret.reveal(secrets);
    text.ok_or(SignatureError::Missing(index))
}

/// The value of `webhook-signature`: one signature per key that is in force, in order, separated
/// by a space.
pub(super) fn signature(
    signing: &Signing,
    secrets: &dyn Secrets,
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> Result<String, SignatureError> {
    let timestamp = now.as_seconds().to_string();
    let mut value = String::with_capacity(signing.keys.len() * 96);
    let keys = signing.keys.iter().enumerate();
    for (index, key) in keys.filter(|(_, key)| key.is_in_force(now)) {
        let text = reveal(key, secrets, index)?;
        if !value.is_empty() {
            value.push(' ');
        }
        Key::parse(&text, index)?.sign(&mut value, [id.as_bytes(), timestamp.as_bytes(), body]);
    }
    Ok(value)
}

enum Key {
    Hmac(Zeroizing<Vec<u8>>),
    Ed25519(Box<SigningKey>),
}

impl Key {
    fn parse(text: &str, index: usize) -> Result<Self, SignatureError> {
        let decode = |base64: &str| STANDARD.decode(base64).map(Zeroizing::new);
        if let Some(base64) = text.strip_prefix("whsec_") {
            match decode(base64) {
                Ok(bytes) if HMAC_KEY_BYTES.contains(&bytes.len()) => Ok(Self::Hmac(bytes)),
                _ => Err(SignatureError::Malformed(index, "24 to 64")),
            }
        } else if let Some(base64) = text.strip_prefix("whsk_") {
            let malformed = SignatureError::Malformed(index, "32 or 64");
            let bytes = decode(base64).map_err(|_| malformed.clone())?;
            // Either the seed alone, or the seed and the public key behind it.
            let seed = match bytes.len() {
                32 | 64 => bytes[..32].try_into().expect("32 bytes were cut"),
                _ => return Err(malformed),
            };
            let key = SigningKey::from_bytes(&seed);
            if bytes.len() == 64 && key.verifying_key().as_bytes() != &bytes[32..] {
                return Err(malformed);
            }
            Ok(Self::Ed25519(Box::new(key)))
        } else {
            Err(SignatureError::UnknownKind(index))
        }
    }

    /// Appends `version,base64` of `id.timestamp.body`.
    fn sign(&self, out: &mut String, [id, timestamp, body]: [&[u8]; 3]) {
        let parts = [id, b".", timestamp, b".", body];
        match self {
            Self::Hmac(key) => {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
                for part in parts {
                    mac.update(part);
                }
                append(out, "v1", &mac.finalize().into_bytes());
            }
            Self::Ed25519(key) => append(out, "v1a", &key.sign(&parts.concat()).to_bytes()),
        }
    }
}

fn append(out: &mut String, version: &str, signature: &[u8]) {
    write!(out, "{version},").expect("a String takes any text");
    STANDARD.encode_string(signature, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::NoSecrets,
        model::{Secret, SigningKey as ConfiguredKey},
    };

    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const NOW: Timestamp = Timestamp::from_millis(1_649_367_553_000);
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;

    const HMAC_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    /// Of the reference implementation's tests.
    const HMAC_SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    /// The first key of RFC 8032 §7.1.
    const ED25519_KEY: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    /// Made by OpenSSL with that key.
    const ED25519_SIGNATURE: &str = "v1a,jfp5j4J3Buv9EPOcc9Bqo8rJqAO1H6lrRl0WZQdzVZI6IttNPT8HSLyPvUvY54dJJt2BQGA01di1ePvigCwlCw==";

    fn sign(keys: &[&str]) -> Result<String, SignatureError> {
        let keys = keys.iter().map(|key| ConfiguredKey::new(Secret::new(*key)));
        let signing = Signing {
            keys: keys.collect(),
        };
        signature(&signing, &NoSecrets, ID, NOW, BODY)
    }

    #[test]
    fn signatures_are_those_of_other_implementations() {
        assert_eq!(sign(&[HMAC_KEY]).unwrap(), HMAC_SIGNATURE);
        assert_eq!(sign(&[ED25519_KEY]).unwrap(), ED25519_SIGNATURE);
    }

    #[test]
    fn several_keys_sign_side_by_side() {
        let both = format!("{ED25519_SIGNATURE} {HMAC_SIGNATURE}");
        assert_eq!(sign(&[ED25519_KEY, HMAC_KEY]).unwrap(), both);
    }

    #[test]
    fn a_key_signs_until_it_ends() {
        let old = Signing {
            keys: vec![ConfiguredKey::new(Secret::new(ED25519_KEY))],
        };
        let until = NOW.plus(std::time::Duration::from_millis(1));
        let rotated = old.rotated(Secret::new(HMAC_KEY), NOW, until);
        let signed = |now| signature(&rotated, &NoSecrets, ID, now, BODY).unwrap();
        assert_eq!(signed(NOW), format!("{HMAC_SIGNATURE} {ED25519_SIGNATURE}"));
        assert_eq!(signed(until), HMAC_SIGNATURE);
    }

    #[test]
    fn a_key_with_its_public_half_signs_the_same() {
        let seed = STANDARD.decode(&ED25519_KEY[5..]).unwrap();
        let key = SigningKey::from_bytes(seed.as_slice().try_into().unwrap());
        let text = |bytes: &[u8]| format!("whsk_{}", STANDARD.encode(bytes));
        let pair = text(&key.to_keypair_bytes());
        assert_eq!(sign(&[&pair]).unwrap(), ED25519_SIGNATURE);
        let mismatched = text(&[&seed[..], &[1; 32]].concat());
        assert!(sign(&[&mismatched]).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_without_showing_it() {
        for key in [
            "canary",
            "whsec_",
            "whsec_canary!",
            "whsk_Y2FuYXJ5",
            "whpk_Y2FuYXJ5",
            "",
        ] {
            let error = sign(&[HMAC_KEY, key]).unwrap_err();
            assert!(error.to_string().starts_with("signing key 1 "), "{error}");
            assert!(!error.to_string().contains("canary"));
        }
    }
}
