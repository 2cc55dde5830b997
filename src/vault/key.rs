//! The key of a vault, in a file of its own.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{file::write_whole, store::VaultError};
use crate::clock::Clock;

/// A key: 256 bits.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The key in this file: 32 bytes in base64, on one line.
pub(super) fn read(path: &Path) -> Result<Key, VaultError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(malformed(path)),
        Err(error) => return Err(VaultError::io("read the key", path, error)),
    };
    warn_when_open_to_others(path);
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| malformed(path))?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| malformed(path))?;
    Ok(Zeroizing::new(key))
}

/// A fresh key, written to this file.
pub(super) fn create(path: &Path, clock: &dyn Clock) -> Result<Key, VaultError> {
    let mut key = Key::default();
    key[..16].copy_from_slice(&clock.entropy().to_be_bytes());
    key[16..].copy_from_slice(&clock.entropy().to_be_bytes());
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
    write_whole(path, text.as_bytes())
        .map_err(|error| VaultError::io("write the key", path, error))?;
    Ok(key)
}

fn malformed(path: &Path) -> VaultError {
    VaultError::MalformedKey {
        path: path.to_owned(),
    }
}

fn warn_when_open_to_others(path: &Path) {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "the key of the vault can be read by other users");
    }
}
