//! What stands in a directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file below a directory, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every file below a directory with its bytes, in order.
pub(crate) fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files(directory).into_iter();
    files
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}
