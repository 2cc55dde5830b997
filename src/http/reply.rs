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

/// What an operation or a page answers.
pub struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// Whether it may be kept by who asked: it never changes under its path.
    pub(super) is_lasting: bool,
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
    pub(crate) fn bytes(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            is_lasting: false,
            headers: Vec::new(),
            body: Body::Whole(body.into()),
        }
    }

    /// Bytes as they come.
    pub(crate) fn stream(content_type: &'static str, body: BoxStream<'static, Bytes>) -> Self {
        Self {
            status: 200,
            content_type,
            is_lasting: false,
            headers: Vec::new(),
            body: Body::Stream(body),
        }
    }

    /// Another page is to be asked for.
    pub(crate) fn redirect(to: String) -> Self {
        let mut reply = Self::done().header("location", to);
        reply.status = 303;
        reply
    }

    /// The same, to be kept by who asked: it never changes under its path.
    pub(crate) const fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// Done, and nothing to say.
    pub(super) const fn done() -> Self {
        Self {
            status: 204,
            content_type: "",
            is_lasting: false,
            headers: Vec::new(),
            body: Body::Empty,
        }
    }

    /// The same, as the answer to a request that was made before under its idempotency key.
    pub(super) fn replayed(self) -> Self {
        self.header("idempotency-replayed", "true")
    }

    /// The same, saying when a try of the same may work, where this problem tells.
    pub(super) fn again_after(self, problem: &Problem) -> Self {
        match problem.retry_after_seconds() {
            Some(seconds) => self.header("retry-after", seconds.to_string()),
            None => self,
        }
    }

    /// Its status.
    #[cfg(test)]
    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    /// The value of a further header.
    #[cfg(test)]
    pub(crate) fn header_of(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter();
        let found = values.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let kind = problem.kind();
        let reply = Self::bytes(kind.status(), "application/problem+json", problem.to_json());
        let mut reply = reply.again_after(&problem);
        if kind.status() == 401 {
            reply = reply.header("www-authenticate", "Bearer realm=\"hooklog\"");
        }
        reply
    }
}
