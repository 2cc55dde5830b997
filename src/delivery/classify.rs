//! From an error of the HTTP stack to its class, told apart by walking its sources.

use std::{error::Error, io};

use hyper_util::client::legacy::Error as CallError;
use rustix::io::Errno;

use super::{
    Blocked, clients::ClientError, connect::TooSlow, probe::Stage, resolve::LookupError,
    stream::TooMuch,
};
use crate::model::{AttemptError, ErrorClass};

/// Longest detail of an error, in bytes: parts of it may be chosen by the callback.
const DETAIL_BYTES_MAX: usize = 300;

/// What an error of a call means, when its own connection had come as far as `stage`.
pub(super) fn classify(error: &CallError, stage: Stage) -> AttemptError {
    if let Some(blocked) = chain(error).find_map(|e| e.downcast_ref::<Blocked>()) {
        return refused(*blocked);
    }
    let class = class_of(error, stage);
    let detail = match class {
        ErrorClass::Timeout => TooSlow.to_string(),
        _ => clean(&innermost(error).to_string()),
    };
    AttemptError::new(class, detail)
}

/// What it means that settings make no client. The callback was not called, so it is never the
/// callback's fault.
pub(super) fn unusable(error: &ClientError) -> AttemptError {
    let class = match error {
        ClientError::Blocked(_) => ErrorClass::Blocked,
        ClientError::ProxyPassword => ErrorClass::Auth,
        ClientError::Tls(options) if options.is_identity() => ErrorClass::Auth,
        ClientError::Tls(_) | ClientError::Proxy { .. } => ErrorClass::Internal,
    };
    AttemptError::new(class, clean(&error.to_string()))
}

/// What it means that a proxy is not asked for a destination.
pub(super) fn unasked(error: &(dyn Error + 'static)) -> AttemptError {
    match error.downcast_ref::<Blocked>() {
        Some(blocked) => refused(*blocked),
        None => AttemptError::new(ErrorClass::Internal, clean(&error.to_string())),
    }
}

fn refused(blocked: Blocked) -> AttemptError {
    tracing::debug!(reason = %blocked.reason(), "blocked a destination");
    AttemptError::new(ErrorClass::Blocked, Blocked::TEXT)
}

fn class_of(error: &CallError, stage: Stage) -> ErrorClass {
    let found = |wanted: fn(&(dyn Error + 'static)) -> bool| chain(error).any(wanted);
    if found(is_own_want) {
        ErrorClass::Internal
    } else if found(is_too_slow) {
        ErrorClass::Timeout
    } else if found(<dyn Error>::is::<LookupError>) {
        ErrorClass::Dns
    } else if found(<dyn Error>::is::<rustls::Error>)
        || (stage == Stage::Handshaking && error.is_connect())
    {
        ErrorClass::Tls
    } else if found(<dyn Error>::is::<TooMuch>) {
        // It may have come before the request went out, which then looks like no connection.
        ErrorClass::Protocol
    } else if error.is_connect() {
        // A peer that takes a connection and resets it may be faster than our look at it.
        if found(is_reset) {
            ErrorClass::Reset
        } else {
            ErrorClass::Connect
        }
    } else {
        after_connection(error)
    }
}

/// Whether this says that time ran out: ours, or the system's for a connection.
fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    error.is::<TooSlow>() || io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
}

/// Whether this says that the other side broke a connection that stood.
fn is_reset(error: &(dyn Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(
        kind,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
    )
}

/// Whether this says that the process or the machine has no more files, threads or memory, or looks
/// up no more names: a lookup or a connection that failed so says nothing of the callback. A name
/// that was given up does: its server was slow.
pub(super) fn is_own_want(error: &(dyn Error + 'static)) -> bool {
    let io = match error.downcast_ref::<LookupError>() {
        Some(LookupError::Full | LookupError::Lost) => return true,
        Some(LookupError::Resolver(error)) => Some(&**error),
        Some(LookupError::Empty | LookupError::GivenUp) => None,
        None => error.downcast_ref::<io::Error>(),
    };
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS];
    io.is_some_and(|io| {
        let code = io.raw_os_error();
        let is_told = wants.iter().any(|errno| code == Some(errno.raw_os_error()));
        is_told || io.kind() == io::ErrorKind::OutOfMemory
    })
}

/// The class of a failure on a connection that stood.
fn after_connection(error: &CallError) -> ErrorClass {
    for source in chain(error) {
        if let Some(hyper) = source.downcast_ref::<hyper::Error>() {
            if hyper.is_parse() {
                return ErrorClass::Protocol;
            }
            if hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled() {
                return ErrorClass::Reset;
            }
        }
        if let Some(io) = source.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected
                | io::ErrorKind::UnexpectedEof => ErrorClass::Reset,
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ErrorClass::Protocol,
                _ => ErrorClass::Reset,
            };
        }
    }
    ErrorClass::Internal
}

/// The error and its sources, outermost first. An `io::Error` hides the error it wraps from
/// `source`, so it is opened by hand.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

/// One line of bounded length, without control characters.
fn clean(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() > DETAIL_BYTES_MAX {
        line.truncate(line.floor_char_boundary(DETAIL_BYTES_MAX));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn time_that_ran_out_is_told_from_other_failures() {
        let system = |kind| io::Error::other(io::Error::from(kind));
        let nested = |error: io::Error| chain(&error).any(is_too_slow);
        assert!(nested(io::Error::other(TooSlow)));
        assert!(nested(system(io::ErrorKind::TimedOut)));
        assert!(!nested(system(io::ErrorKind::ConnectionRefused)));
    }

    #[test]
    fn a_connection_that_was_reset_is_told_from_one_that_was_refused() {
        for (errno, reset) in [
            (Errno::CONNRESET, true),
            (Errno::NOTCONN, true),
            (Errno::CONNREFUSED, false),
            (Errno::NETUNREACH, false),
        ] {
            let error = io::Error::other(io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(chain(&error).any(is_reset), reset, "{errno}");
        }
    }

    #[test]
    fn what_the_gateway_itself_is_short_of_is_not_the_callbacks_fault() {
        let wrapped = |errno: Errno| {
            let inner = io::Error::from_raw_os_error(errno.raw_os_error());
            io::Error::other(inner)
        };
        for (errno, ours) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOBUFS, true),
            (Errno::AGAIN, false),
            (Errno::CONNREFUSED, false),
        ] {
            let error = wrapped(errno);
            assert_eq!(chain(&error).any(is_own_want), ours, "{errno}");
            let system = io::Error::from_raw_os_error(errno.raw_os_error());
            let looked_up = io::Error::other(LookupError::Resolver(Arc::new(system)));
            assert_eq!(chain(&looked_up).any(is_own_want), ours, "{errno}");
        }
        for (error, ours) in [
            (LookupError::Full, true),
            (LookupError::Lost, true),
            (LookupError::Empty, false),
            (LookupError::GivenUp, false),
        ] {
            let looked_up = io::Error::other(error.clone());
            assert_eq!(chain(&looked_up).any(is_own_want), ours, "{error}");
        }
    }
}
