//! What is answered when something cannot be done: `application/problem+json`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    actor::ExecuteError,
    log::{AppendError, ReadError, RetentionError},
    model::Invalid,
    projection::ViewError,
    runtime::ControlError,
    source::PublishError,
};

/// The kinds of problems. Each has one status and one stable type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// The body is not what its content type says, or a header has no meaning.
    Malformed,
    /// No token, or one that is not in force.
    Unauthenticated,
    /// The token's role does not allow it.
    Forbidden,
    /// There is no such thing, or not for this token.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The thing is in a state that forbids it.
    Conflict,
    /// The thing changed since it was read.
    Changed,
    /// The body is too large.
    TooLarge,
    /// The content type is not taken here.
    UnsupportedMediaType,
    /// A field breaks a rule.
    Invalid,
    /// Too many requests.
    TooMany,
    /// A fault of the gateway.
    Internal,
    /// Not now.
    Unavailable,
}

impl Kind {
    /// Its status.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::Changed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// The last part of its type.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::Changed => "changed",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Invalid => "invalid",
            Self::TooMany => "too-many-requests",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// What it means, in a few words.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::Unauthenticated => "A valid token is needed",
            Self::Forbidden => "This token may not do that",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "That method is not for this path",
            Self::Conflict => "Its state forbids it",
            Self::Changed => "It changed since it was read",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "That content type is not taken here",
            Self::Invalid => "A field breaks a rule",
            Self::TooMany => "Too many requests",
            Self::Internal => "The gateway made a mistake",
            Self::Unavailable => "Not now",
        }
    }

    /// Whether a later try of the same may work, and after how many seconds.
    const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::TooMany => Some(1),
            Self::Unavailable => Some(5),
            _ => None,
        }
    }
}

/// A field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Fault {
    /// JSON pointer of the field in the body, or `?name` of a query parameter.
    pointer: String,
    /// What is wrong with it and what would be accepted.
    detail: String,
}

/// Why something was not done.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    faults: Vec<Fault>,
}

/// The form of a problem on the wire (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Body<'a> {
    /// What kind of problem it is; stable.
    #[serde(rename = "type")]
    problem_type: String,
    /// The kind in words; stable.
    title: &'a str,
    /// The status of the response.
    status: u16,
    /// What happened, and what to do.
    detail: &'a str,
    /// The fields at fault, where it is about fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [Fault]>,
}

impl Problem {
    /// A problem of this kind.
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            faults: Vec::new(),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what}"))
    }

    /// One field breaks a rule.
    pub(super) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Invalid::one(pointer, detail).into()
    }

    /// The same, at this place of the body.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail).into();
        self
    }

    /// A fault of the gateway: told in full in its log, in part to whoever asked.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Kind::Internal, "see the gateway's log for what failed")
    }

    /// Its kind.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, and what to do.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Seconds after which a try of the same may work.
    pub(super) const fn retry_after_seconds(&self) -> Option<u32> {
        self.kind.retry_after_seconds()
    }

    /// Its body.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let body = Body {
            problem_type: format!("urn:hooklog:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: &self.detail,
            errors: Some(self.faults.as_slice()).filter(|faults| !faults.is_empty()),
        };
        serde_json::to_vec(&body).expect("a problem is plain text")
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let detail = invalid.to_string();
        let faults = invalid.problems.into_iter().map(|problem| Fault {
            pointer: problem.pointer,
            detail: problem.reason,
        });
        Self {
            kind: Kind::Invalid,
            detail: detail.into(),
            faults: faults.collect(),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::Invalid(invalid) => invalid.into(),
            ControlError::UnknownApi(_)
            | ControlError::UnknownApplication(_)
            | ControlError::UnknownSubscription(_)
            | ControlError::UnknownMessage(_)
            | ControlError::UnknownToken(_)
            | ControlError::UnknownJob(_)
            | ControlError::UnknownDelivery(_) => Self::new(Kind::NotFound, text),
            ControlError::InUse { .. }
            | ControlError::Forwards { .. }
            | ControlError::IsDeadLetterQueue { .. }
            | ControlError::JobStatus { .. } => Self::new(Kind::Conflict, text),
            ControlError::Changed { .. } => Self::new(Kind::Changed, text),
            ControlError::Execute(ExecuteError::Rejected(_) | ExecuteError::NotRunning(_)) => {
                Self::new(Kind::Conflict, text)
            }
            ControlError::Execute(ExecuteError::Restarting(_)) | ControlError::Stopped => {
                Self::new(Kind::Unavailable, text)
            }
            ControlError::Execute(ExecuteError::Append(error)) | ControlError::Append(error) => {
                error.into()
            }
            ControlError::Read(error) => error.into(),
            ControlError::View(error) => error.into(),
            ControlError::Retention(RetentionError::Read(error)) => error.into(),
            error if error.is_unstored_secret() => {
                tracing::error!(%error, "a secret could not be stored");
                Self::new(
                    Kind::Unavailable,
                    "the secret could not be stored, and nothing was changed; see the gateway's log",
                )
            }
            error => Self::internal(&error),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let text = error.to_string();
        match error {
            AppendError::Conflict { .. } => Self::new(Kind::Conflict, text),
            AppendError::TooLarge { .. } | AppendError::TooMany { .. } => {
                Self::new(Kind::TooLarge, text)
            }
            AppendError::Empty | AppendError::Unencodable { .. } => Self::internal(&error),
            _ => Self::new(Kind::Unavailable, text),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let text = error.to_string();
        match error {
            PublishError::Invalid(invalid) => invalid.into(),
            PublishError::Stopped { .. } => Self::new(Kind::Conflict, text),
            PublishError::UnknownApi { .. } => Self::new(Kind::NotFound, text),
            PublishError::Append(error) => error.into(),
            _ => Self::new(Kind::Unavailable, text),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::new(Kind::Unavailable, "the gateway is shutting down"),
            error => Self::internal(&error),
        }
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        let text = error.to_string();
        match error {
            ViewError::Query(invalid) => Self::from(as_query(invalid)),
            ViewError::Behind { .. }
            | ViewError::Halted { .. }
            | ViewError::Mending { .. }
            | ViewError::Stopped { .. } => Self::new(Kind::Unavailable, text),
            // Whoever asks next is told that they are built again.
            ViewError::Rows(error) => {
                tracing::error!(%error, "rows could not be read");
                Self::new(Kind::Unavailable, text)
            }
            error => Self::internal(&error),
        }
    }
}

/// The same problems, of query parameters.
pub(super) fn as_query(mut invalid: Invalid) -> Invalid {
    for problem in &mut invalid.problems {
        problem.pointer = format!("?{}", problem.pointer.trim_start_matches('/'));
    }
    invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_type_and_the_fields_at_fault() {
        let problem = Problem::field("/name", "must not be empty");
        let body: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(body["type"], "urn:hooklog:problem:invalid");
        assert_eq!(body["status"], 422);
        assert_eq!(body["errors"][0]["pointer"], "/name");
        let bare = Problem::not_found("API 7");
        let body: serde_json::Value = serde_json::from_slice(&bare.to_json()).unwrap();
        assert_eq!(body["detail"], "there is no API 7");
        assert!(body.get("errors").is_none());
    }
}
