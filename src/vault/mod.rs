//! Secrets at rest.
//!
//! Events and settings hold the id of a secret, never its value. The value lives here, in one
//! small encrypted file per secret under `secrets/` of the data directory, and is given out to
//! whoever makes a call, through [`Secrets`](crate::model::Secrets).
//!
//! Layout of a secret's file, named by the id of the secret:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `HLS1` |
//! | 1 | [`SecretKind`], as a number |
//! | 24 | nonce |
//! | rest | XChaCha20-Poly1305 of the value; associated data: the five bytes above and the id |
//!
//! So a file that is damaged, renamed to another secret's name or given another kind is not
//! believed. The file `check` is one of them, with an empty value and the nil id: it tells a
//! wrong key when the vault is opened.
//!
//! This room imports `model` and `clock` alone.

mod file;
mod key;
mod sealing;
mod store;

pub use self::{
    file::SecretKind,
    sealing::{Sealing, sealed_in_entrypoint, sealed_secrets},
    store::{Vault, VaultError},
};
