//! What an operation answers.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;

use super::problem::Problem;

/// The body of an answer.
pub(super) enum Body {
    /// None.
    Empty,
    /// These bytes.
    Whole(Bytes),
    /// Bytes as they come.
    Stream(BoxStream<'static, Bytes>),
}

/// What an operation answers.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

impl Reply {
    /// This value as JSON.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| Problem::internal(&error))?;
        Ok(Self::bytes(status, "application/json", body))
    }

    /// These bytes.
    pub(super) fn bytes(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: Body::Whole(body.into()),
        }
    }

    /// Bytes as they come.
    pub(super) fn stream(content_type: &'static str, body: BoxStream<'static, Bytes>) -> Self {
        Self {
            status: 200,
            content_type,
            headers: Vec::new(),
            body: Body::Stream(body),
        }
    }

    /// Done, and nothing to say.
    pub(super) const fn done() -> Self {
        Self {
            status: 204,
            content_type: "",
            headers: Vec::new(),
            body: Body::Empty,
        }
    }

    /// The same, as the answer to a request that was made before under its idempotency key.
    pub(super) fn replayed(self) -> Self {
        self.header("idempotency-replayed", "true")
    }

    /// The same with one more header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let kind = problem.kind();
        let mut reply = Self::bytes(kind.status(), "application/problem+json", problem.to_json());
        if let Some(seconds) = problem.retry_after_seconds() {
            reply = reply.header("retry-after", seconds.to_string());
        }
        if kind.status() == 401 {
            reply = reply.header("www-authenticate", "Bearer realm=\"hooklog\"");
        }
        reply
    }
}
