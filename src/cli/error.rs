//! How a command fails: what it says and with which exit status.

use std::{error::Error, fmt, io, process::ExitCode};

use crate::{
    log::{OpenError, ReadError, StorageError},
    model::Invalid,
    projection::ViewError,
    runtime::{ControlError, StartError},
};

/// Exit status of a wrong configuration or data directory (`EX_CONFIG` of sysexits).
const CONFIGURATION: u8 = 78;
/// Exit status of a wrong command line, as clap's.
const USAGE: u8 = 2;
const FAILURE: u8 = 1;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct CliError {
    status: u8,
    /// `None` when who read the answers has gone: there is nobody to tell, and nothing is wrong.
    text: Option<String>,
    /// Whether what was asked for may have been done all the same.
    may_be_done: bool,
    /// Whether it may go well when it is asked for again later.
    is_passing: bool,
}

impl CliError {
    /// It ran, and what it found or did is not well.
    pub(super) fn failure(text: impl Into<String>) -> Self {
        Self {
            status: FAILURE,
            text: Some(text.into()),
            may_be_done: false,
            is_passing: false,
        }
    }

    /// As [`failure`](Self::failure), of something that may have been done all the same.
    pub(super) fn unknown(text: impl Into<String>) -> Self {
        Self {
            may_be_done: true,
            ..Self::failure(text)
        }
    }

    /// Whether what was asked for may have been done all the same.
    pub(super) const fn may_be_done(&self) -> bool {
        self.may_be_done
    }

    /// The same, where it may go well when it is asked for again later, or not.
    pub(super) fn passing(self, is_passing: bool) -> Self {
        Self { is_passing, ..self }
    }

    /// Whether it may go well when it is asked for again later.
    pub(super) const fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// It was asked for in a way that cannot be followed.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            ..Self::failure(text)
        }
    }

    /// The configuration is wrong.
    pub(super) fn config(text: impl Into<String>) -> Self {
        Self {
            status: CONFIGURATION,
            ..Self::failure(text)
        }
    }

    fn configuration(error: &dyn Error) -> Self {
        Self {
            status: CONFIGURATION,
            ..Self::failure(chain(error))
        }
    }

    /// Says it, and gives the exit status.
    pub(super) fn report(self) -> ExitCode {
        self.tell();
        match self.text {
            Some(_) => ExitCode::from(self.status),
            None => ExitCode::SUCCESS,
        }
    }

    /// Says it, where there is something to say.
    pub(super) fn tell(&self) {
        if let Some(text) = &self.text {
            eprintln!("error: {}", super::output::clean(text));
        }
    }
}

/// An error and what caused it, where that is not said already.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.as_deref().unwrap_or("the reader has gone"))
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                status: 0,
                text: None,
                may_be_done: false,
                is_passing: false,
            };
        }
        Self::failure(chain(&error))
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        Self::configuration(&error)
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::configuration(&error)
    }
}

impl From<Invalid> for CliError {
    fn from(error: Invalid) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<ViewError> for CliError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Query(invalid) => invalid.into(),
            error => Self::failure(chain(&error)),
        }
    }
}

macro_rules! failures {
    ($($error:ty),+) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::failure(chain(&error))
            }
        })+
    };
}

failures!(
    ReadError,
    StorageError,
    ControlError,
    serde_json::Error,
    crate::projection::StartError
);
