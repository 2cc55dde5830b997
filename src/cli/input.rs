//! What a command takes in: from a file, or from standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::CliError;

/// What is in this file; `-` is standard input.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| CliError::failure(format!("cannot read {}: {error}", path.display())))
}

/// The definition in this file of JSON; `-` is standard input.
pub(super) fn definition<T: DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    serde_json::from_slice(&bytes(path)?)
        .map_err(|error| CliError::failure(format!("{}: {error}", path.display())))
}
