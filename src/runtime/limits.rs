//! What the operating system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;

/// With fewer files a gateway cannot be: its stores and threads take some 60 before the first
/// connection.
const OPEN_FILES_MIN: u64 = 128;

/// Raises the limit of open files to what the process may raise it to: each connection, and each
/// segment of the log, is one. The usual soft limit of 1,024 is there for programs that use
/// `select`. Fails where that is too low for anything.
pub(super) fn raise_open_files() -> Result<(), StartError> {
    let limit = getrlimit(Resource::Nofile);
    match limit.maximum {
        Some(limit) if limit < OPEN_FILES_MIN => Err(StartError::OpenFiles {
            limit,
            needed: OPEN_FILES_MIN,
        }),
        _ => {
            raise(limit);
            Ok(())
        }
    }
}

fn raise(mut limit: Rlimit) {
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?before, now = ?limit.maximum, "raised the limit of open files"),
        Err(error) => {
            tracing::warn!(%error, limit = ?before, "cannot raise the limit of open files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        raise_open_files().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
