//! The vault itself.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    file::{self, SecretKind, Unreadable},
    key::{self, Key},
};
use crate::{
    clock::SharedClock,
    model::{SecretId, Secrets},
};

/// Most secrets kept decrypted in memory. Each call of a subscription with credentials asks for
/// one or two; above this the memory is emptied and filled anew.
const REVEALED_MAX: usize = 16_384;

/// Name of the key's file in a data directory, where no other was given.
const KEY_FILE: &str = "secret.key";
const SECRETS_DIRECTORY: &str = "secrets";
const CHECK_FILE: &str = "check";

/// A vault or a secret in it cannot be used. No text holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file system refused.
    #[error("{what} at {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of the key does not hold one.
    #[error("the key at {} is not 32 bytes in base64", path.display())]
    MalformedKey {
        /// That file.
        path: PathBuf,
    },
    /// There are secrets, and the key that they were sealed with is gone. No new one is made: it
    /// could open none of them.
    #[error("the key at {} is missing, and {} holds secrets sealed with it", path.display(), secrets.display())]
    MissingKey {
        /// Where the key should be.
        path: PathBuf,
        /// Where the secrets are.
        secrets: PathBuf,
    },
    /// The secrets were sealed with another key.
    #[error("the key does not open the secrets in {}", secrets.display())]
    WrongKey {
        /// Where the secrets are.
        secrets: PathBuf,
    },
    /// There is no such secret.
    #[error("there is no secret {0}")]
    Missing(SecretId),
    /// A secret's file is damaged.
    #[error("the secret at {} is damaged", path.display())]
    Damaged {
        /// That file.
        path: PathBuf,
    },
}

/// Keeps secrets encrypted on disk.
///
/// Sealing and removing write to disk and are durable when they return; do them off the threads
/// that must not block. Revealing reads a secret's file once and remembers it in memory.
pub struct Vault {
    secrets: PathBuf,
    cipher: XChaCha20Poly1305,
    fingerprints: Zeroizing<[u8; 32]>,
    clock: SharedClock,
    revealed: RwLock<HashMap<SecretId, Zeroizing<String>>>,
    /// What the settings of each owner held before their last change, and hold no more.
    replaced: Mutex<HashMap<Uuid, Vec<SecretId>>>,
}

impl Vault {
    /// The vault of this data directory, with the key in its `secret.key`. Directory and key are
    /// made when they are not there, readable by their owner alone.
    pub fn open(data: &Path, clock: SharedClock) -> Result<Self, VaultError> {
        let path = data.join(KEY_FILE);
        let secrets = prepared(data)?;
        let key = match key::read(&path) {
            Err(VaultError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if secrets.join(CHECK_FILE).exists() {
                    return Err(VaultError::MissingKey { path, secrets });
                }
                key::create(&path, &*clock)?
            }
            other => other?,
        };
        Self::with(secrets, &key, clock)
    }

    /// The vault of this data directory, with the key in a file elsewhere, which must exist: 32
    /// bytes in base64.
    pub fn open_with_key(data: &Path, key: &Path, clock: SharedClock) -> Result<Self, VaultError> {
        let key = key::read(key)?;
        Self::with(prepared(data)?, &key, clock)
    }

    fn with(secrets: PathBuf, key: &Key, clock: SharedClock) -> Result<Self, VaultError> {
        let vault = Self {
            secrets,
            cipher: XChaCha20Poly1305::new((&**key).into()),
            fingerprints: Zeroizing::new(blake3::derive_key("hooklog fingerprints 1", &**key)),
            clock,
            revealed: RwLock::default(),
            replaced: Mutex::default(),
        };
        vault.check_key()?;
        Ok(vault)
    }

    /// 32 hexadecimal digits that stand for these bytes, and tell nothing of them without the key.
    pub fn fingerprint(&self, bytes: &[u8]) -> String {
        blake3::keyed_hash(&self.fingerprints, bytes).to_hex()[..32].to_owned()
    }

    /// Puts a value away and gives the id that stands for it from now on.
    pub fn seal(&self, kind: SecretKind, value: &str) -> Result<SecretId, VaultError> {
        let id = SecretId::from_moment(&self.clock.moment());
        self.write(&self.path_of(id), kind, id, value.as_bytes())?;
        Ok(id)
    }

    /// The value of a secret.
    pub fn reveal(&self, id: SecretId) -> Result<Zeroizing<String>, VaultError> {
        let revealed = self.revealed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = revealed.get(&id) {
            return Ok(value.clone());
        }
        drop(revealed);
        let value = self.read(id)?;
        let mut revealed = self
            .revealed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if revealed.len() >= REVEALED_MAX {
            revealed.clear();
        }
        revealed.insert(id, value.clone());
        Ok(value)
    }

    /// Forgets a secret for good; one that is not there is fine.
    pub fn remove(&self, id: SecretId) -> Result<(), VaultError> {
        let path = self.path_of(id);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => file::sync_directory(&path),
        };
        let mut revealed = self
            .revealed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        revealed.remove(&id);
        removed.map_err(|error| VaultError::io("remove a secret", &path, error))
    }

    /// Forgets what an owner's settings held until the change before this one. What they held until
    /// this one stays: calls under them may be under way. What a process had kept so when it ended
    /// is left.
    pub fn replace(&self, owner: Uuid, held_no_more: Vec<SecretId>) {
        let earlier = self.replaced().insert(owner, held_no_more);
        self.remove_all(&earlier.unwrap_or_default());
    }

    /// Forgets what the settings of an owner held that is over, and what they held before.
    pub fn remove_owner(&self, owner: Uuid, held: &[SecretId]) {
        let earlier = self.replaced().remove(&owner);
        self.remove_all(&earlier.unwrap_or_default());
        self.remove_all(held);
    }

    /// Removes these. One that cannot be removed is left, of no use to anybody, and the error told in
    /// the log.
    pub(super) fn remove_all(&self, ids: &[SecretId]) {
        for id in ids {
            if let Err(error) = self.remove(*id) {
                tracing::warn!(%id, %error, "cannot remove a secret");
            }
        }
    }

    fn replaced(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<SecretId>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, id: SecretId) -> Result<Zeroizing<String>, VaultError> {
        let path = self.path_of(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VaultError::Missing(id));
            }
            Err(error) => return Err(VaultError::io("read a secret", &path, error)),
        };
        let value = file::decrypt(&self.cipher, id, &bytes).ok();
        let text = value.and_then(|value| std::str::from_utf8(&value).map(str::to_owned).ok());
        text.map(Zeroizing::new).ok_or(VaultError::Damaged { path })
    }

    /// Reads the check file, or writes it where there is none yet.
    fn check_key(&self) -> Result<(), VaultError> {
        let path = self.secrets.join(CHECK_FILE);
        let nil = SecretId::from_uuid(Uuid::nil());
        match fs::read(&path) {
            Ok(bytes) => match file::decrypt(&self.cipher, nil, &bytes) {
                Ok(_) => Ok(()),
                Err(Unreadable::Refused) => Err(VaultError::WrongKey {
                    secrets: self.secrets.clone(),
                }),
                Err(Unreadable::Foreign) => Err(VaultError::Damaged { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write(&path, SecretKind::Check, nil, b"")
            }
            Err(error) => Err(VaultError::io("read the key's check", &path, error)),
        }
    }

    fn write(
        &self,
        path: &Path,
        kind: SecretKind,
        id: SecretId,
        value: &[u8],
    ) -> Result<(), VaultError> {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.clock.entropy().to_be_bytes());
        nonce[16..].copy_from_slice(&self.clock.entropy().to_be_bytes()[..8]);
        let bytes = file::encrypt(&self.cipher, kind, id, nonce, value);
        file::write_whole(path, &bytes)
            .map_err(|error| VaultError::io("write a secret", path, error))
    }

    fn path_of(&self, id: SecretId) -> PathBuf {
        self.secrets.join(id.to_string())
    }
}

impl Secrets for Vault {
    fn reveal(&self, id: SecretId) -> Option<Zeroizing<String>> {
        match Self::reveal(self, id) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(%id, %error, "cannot reveal a secret");
                None
            }
        }
    }
}

impl VaultError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// The directory of secrets, made when it is not there.
fn prepared(data: &Path) -> Result<PathBuf, VaultError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let secrets = data.join(SECRETS_DIRECTORY);
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&secrets);
    made.and_then(|()| file::sync_directory(&secrets))
        .map_err(|error| VaultError::io("make the directory of secrets", &secrets, error))?;
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::SystemClock;

    fn vault(data: &Path) -> Vault {
        Vault::open(data, SystemClock::shared()).unwrap()
    }

    #[test]
    fn a_sealed_secret_is_read_again_after_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let id = vault(data.path())
            .seal(SecretKind::Token, "canary")
            .unwrap();
        assert_eq!(*vault(data.path()).reveal(id).unwrap(), "canary");
        assert_eq!(
            **Secrets::reveal(&vault(data.path()), id).as_ref().unwrap(),
            "canary"
        );
    }

    #[test]
    fn no_file_holds_the_value_and_only_the_owner_reads_them() {
        let data = tempfile::tempdir().unwrap();
        vault(data.path())
            .seal(SecretKind::Token, "canary")
            .unwrap();
        let mut files: Vec<_> = fs::read_dir(data.path().join("secrets")).unwrap().collect();
        files.extend(fs::read_dir(data.path()).unwrap());
        for entry in files.into_iter().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
            if entry.path().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(6).any(|window| window == b"canary"));
            }
        }
    }

    #[test]
    fn a_removed_secret_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let vault = vault(data.path());
        let id = vault.seal(SecretKind::Password, "canary").unwrap();
        vault.reveal(id).unwrap();
        vault.remove(id).unwrap();
        vault.remove(id).unwrap();
        assert!(matches!(vault.reveal(id), Err(VaultError::Missing(missing)) if missing == id));
    }

    #[test]
    fn a_secret_under_another_name_of_another_kind_or_with_a_flipped_bit_is_not_believed() {
        let data = tempfile::tempdir().unwrap();
        let ids = ["one", "two"].map(|value| vault(data.path()).seal(SecretKind::Token, value));
        let ids = ids.map(Result::unwrap);
        let [one, two] = ids.map(|id| vault(data.path()).path_of(id));
        let bytes = fs::read(&one).unwrap();
        fs::write(&two, &bytes).unwrap();
        let swapped = vault(data.path()).reveal(ids[1]);
        assert!(matches!(swapped, Err(VaultError::Damaged { path }) if path == two));
        // The fifth byte is the kind.
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                fs::write(&one, flipped).unwrap();
                let read = vault(data.path()).reveal(ids[0]);
                assert!(
                    matches!(read, Err(VaultError::Damaged { .. })),
                    "{bit} of {at}"
                );
            }
        }
        fs::write(&one, bytes).unwrap();
        assert_eq!(*vault(data.path()).reveal(ids[0]).unwrap(), "one");
    }

    #[test]
    fn another_key_is_noticed_when_the_vault_is_opened() {
        let data = tempfile::tempdir().unwrap();
        vault(data.path());
        let key = data.path().join("other");
        fs::write(&key, base64_of(&[7; 32])).unwrap();
        let opened = Vault::open_with_key(data.path(), &key, SystemClock::shared());
        assert!(matches!(opened.err(), Some(VaultError::WrongKey { .. })));
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        vault(data.path());
        fs::remove_file(data.path().join(KEY_FILE)).unwrap();
        let opened = Vault::open(data.path(), SystemClock::shared());
        assert!(matches!(opened.err(), Some(VaultError::MissingKey { .. })));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let key = data.path().join("key");
        for bytes in [
            &b""[..],
            b"short",
            b"\xff\xfe",
            base64_of(&[1; 31]).as_bytes(),
        ] {
            fs::write(&key, bytes).unwrap();
            let opened = Vault::open_with_key(data.path(), &key, SystemClock::shared());
            assert!(matches!(
                opened.err(),
                Some(VaultError::MalformedKey { .. })
            ));
        }
    }

    #[test]
    fn every_damaged_byte_and_every_length_is_noticed() {
        let data = tempfile::tempdir().unwrap();
        let id = vault(data.path())
            .seal(SecretKind::Token, "canary")
            .unwrap();
        let path = data.path().join("secrets").join(id.to_string());
        let whole = fs::read(&path).unwrap();
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        for bytes in flipped.chain(cut) {
            fs::write(&path, bytes).unwrap();
            let revealed = vault(data.path()).reveal(id);
            assert!(matches!(revealed, Err(VaultError::Damaged { .. })));
        }
    }

    #[test]
    fn a_file_under_another_name_is_not_believed() {
        let data = tempfile::tempdir().unwrap();
        let vault = vault(data.path());
        let one = vault.seal(SecretKind::Token, "one").unwrap();
        let two = vault.seal(SecretKind::Token, "two").unwrap();
        fs::rename(vault.path_of(one), vault.path_of(two)).unwrap();
        assert!(matches!(vault.reveal(two), Err(VaultError::Damaged { .. })));
    }

    fn base64_of(bytes: &[u8]) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
}
