//! One secret's file: encrypting, decrypting, writing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

use crate::model::SecretId;

/// What a secret is for. A secret sealed as one kind is not read as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretKind {
    /// Tells whether the key is the right one.
    Check,
    /// The password of basic authentication.
    Password,
    /// A bearer token.
    Token,
    /// An OAuth2 client secret.
    ClientSecret,
    /// The key that signs OAuth2 assertions.
    AssertionKey,
    /// A client certificate and its private key.
    KeyStore,
    /// A key that signs messages.
    SigningKey,
    /// The password of a proxy.
    ProxyPassword,
    /// The value of a header.
    HeaderValue,
    /// A value in the query of a URL.
    QueryValue,
}

/// First bytes of a file; the digit is the version of its layout.
const MAGIC: &[u8; 4] = b"HLS1";
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = MAGIC.len() + 1;

/// Why the bytes of a file cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are not a secret's file, or one of a later version.
    Foreign,
    /// They do not belong to this key and this id, or were changed.
    Refused,
}

impl SecretKind {
    const fn code(self) -> u8 {
        match self {
            Self::Check => 0,
            Self::Password => 1,
            Self::Token => 2,
            Self::ClientSecret => 3,
            Self::AssertionKey => 4,
            Self::KeyStore => 5,
            Self::SigningKey => 6,
            Self::ProxyPassword => 7,
            Self::HeaderValue => 8,
            Self::QueryValue => 9,
        }
    }
}

/// The bytes of the file of this secret.
pub(super) fn encrypt(
    cipher: &XChaCha20Poly1305,
    kind: SecretKind,
    id: SecretId,
    nonce: [u8; NONCE_BYTES],
    value: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + NONCE_BYTES + value.len() + 16);
    bytes.extend_from_slice(MAGIC);
    bytes.push(kind.code());
    let aad = associated(&bytes, id);
    let payload = Payload {
        msg: value,
        aad: &aad,
    };
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a value is shorter than the 256 GiB that the cipher takes");
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    bytes
}

/// The value in the file of this secret.
pub(super) fn decrypt(
    cipher: &XChaCha20Poly1305,
    id: SecretId,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let (head, rest) = bytes
        .split_at_checked(HEAD_BYTES)
        .ok_or(Unreadable::Foreign)?;
    if !head.starts_with(MAGIC) {
        return Err(Unreadable::Foreign);
    }
    let (nonce, sealed) = rest
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(Unreadable::Refused)?;
    let aad = associated(head, id);
    let payload = Payload {
        msg: sealed,
        aad: &aad,
    };
    let value = cipher.decrypt(&XNonce::from(*nonce), payload);
    value.map(Zeroizing::new).map_err(|_| Unreadable::Refused)
}

fn associated(head: &[u8], id: SecretId) -> Vec<u8> {
    [head, id.as_uuid().as_bytes()].concat()
}

/// Writes a file that is either whole or not there, readable by its owner alone, and durable when
/// this returns. An existing file is replaced.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Half of it is of no use to anyone.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the coming or going of this file durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
