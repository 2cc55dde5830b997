//! Standard Webhooks signatures: `v1` (HMAC-SHA256) and `v1a` (ed25519).

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::{Secrets, Signing};

/// A signing key that cannot be used. Its text never holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
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

/// Checks that this text is a signing key that can be used.
pub fn check_key(text: &str) -> Result<(), SignatureError> {
    Key::parse(text, 0).map(drop)
}

/// The value of `webhook-signature`: one signature per key, in order, separated by a space.
pub(super) fn signature(
    signing: &Signing,
    secrets: &dyn Secrets,
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> Result<String, SignatureError> {
    let mut value = String::with_capacity(signing.keys.len() * 96);
    for (index, key) in signing.keys.iter().enumerate() {
        let text = key.secret.reveal(secrets).ok_or(SignatureError::Missing(index))?;
        if index > 0 {
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
                Ok(bytes) if !bytes.is_empty() => Ok(Self::Hmac(bytes)),
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
                parts.iter().for_each(|part| mac.update(part));
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
