//! A request, as operations see it.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{
    gateway::Gateway,
    operation::Operation,
    problem::{Kind, Problem, as_query},
    trace::RequestTrace,
};
use crate::{
    model::{Invalid, RequestKey, Token},
    projection::{Projection, View},
    runtime::Handle,
};

/// Longest wait for a view to show what is in the log.
const VIEW_WAIT: Duration = Duration::from_secs(2);

/// The headers of a request that operations look at.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) if_match: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) last_event_id: Option<String>,
}

/// A request that was let in.
pub(super) struct Call {
    /// What it asks for.
    pub(super) operation: &'static Operation,
    /// What it asks.
    pub(super) gateway: Arc<Gateway>,
    /// Whose it is; `None` where anybody may ask.
    pub(super) bearer: Option<Token>,
    /// The path, as it was asked for.
    pub(super) path: String,
    /// What stands in the path in place of names.
    pub(super) parameters: BTreeMap<String, String>,
    /// The query, as it was asked for.
    pub(super) query: String,
    /// What headers say.
    pub(super) headers: Headers,
    /// The trace it belongs to.
    pub(super) trace: RequestTrace,
    /// The body.
    pub(super) body: Bytes,
    /// The idempotency key of a creation, as it is put on record.
    pub(super) key: Option<RequestKey>,
}

impl Call {
    /// The runtime.
    pub(super) fn handle(&self) -> &Handle {
        self.gateway.handle()
    }

    /// Whose request it is.
    pub(super) fn bearer(&self) -> Result<&Token, Problem> {
        let missing = || Problem::new(Kind::Unauthenticated, "a token is needed");
        self.bearer.as_ref().ok_or_else(missing)
    }

    /// A part of the path. Text that cannot be one names nothing there is.
    pub(super) fn parameter<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Problem> {
        let text = self.parameters.get(name).map_or("", String::as_str);
        text.parse()
            .map_err(|error: T::Err| Problem::new(Kind::NotFound, error.to_string()))
    }

    /// The query parameters.
    pub(super) fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let deserializer =
            serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(self.query.as_bytes()));
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let pointer = pointer(error.path());
            let reason = with_nearest(&error.into_inner().to_string());
            as_query(Invalid::one(pointer, reason)).into()
        })
    }

    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.takes(&["application/json"])?;
        json(&self.body)
    }

    /// The content type of the body, without parameters and in lower case, when it is one of these.
    pub(super) fn takes(&self, types: &[&'static str]) -> Result<&'static str, Problem> {
        let said = self.headers.content_type.as_deref().unwrap_or_default();
        let essence = said.split(';').next().unwrap_or_default().trim();
        let found = types.iter().find(|t| t.eq_ignore_ascii_case(essence));
        found.copied().ok_or_else(|| {
            let detail = format!("send the body as {}, not as {said:?}", types.join(" or "));
            Problem::new(Kind::UnsupportedMediaType, detail)
        })
    }

    /// Waits for a view to show everything that is in the log by now. One that is far behind is read
    /// as it is: an answer of a moment ago is better than none. Says whether it shows everything.
    pub(super) async fn fresh<P: Projection>(&self, view: &View<P>) -> bool {
        let shows = view.at(self.handle().log().head(), VIEW_WAIT).await;
        shows.is_ok()
    }

    /// Puts on record that this was asked for, where it is a change.
    pub(super) async fn record(&self) -> Result<(), Problem> {
        let Some(token) = self.bearer.as_ref().filter(|_| self.operation.is_change) else {
            return Ok(());
        };
        let (operation, key) = (self.operation.id, self.key.clone());
        let recorded = self
            .handle()
            .record_request(token.id, operation, &self.path, key);
        recorded.await?;
        Ok(())
    }
}

/// Reads JSON; a fault is told with the pointer of the field.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| fault::<T>(bytes, &error))
}

/// Reads it once more, now with an eye to where it stands: that costs as much as the reading.
fn fault<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Problem {
    if error.is_data() {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let read: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
        if let Err(at) = read {
            let text = at.inner().to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text);
            return Problem::field(pointer(at.path()), with_nearest(reason));
        }
    }
    Problem::new(Kind::Malformed, format!("the body is not JSON: {error}"))
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// What serde says of an unknown name, with the nearest that is known.
fn with_nearest(reason: &str) -> String {
    let names: Vec<&str> = reason.split('`').skip(1).step_by(2).collect();
    if let Some((wrong, known)) = names.split_first()
        && reason.starts_with("unknown ")
        && let Some(nearest) = crate::nearest::nearest(wrong, known.iter().copied())
    {
        return format!("{reason}; did you mean `{nearest}`?");
    }
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Api;

    fn problem(body: &str) -> serde_json::Value {
        let problem = json::<Api>(body.as_bytes()).unwrap_err();
        serde_json::from_slice(&problem.to_json()).unwrap()
    }

    #[test]
    fn a_wrong_field_is_named_by_its_pointer() {
        let body = r#"{"id": "00000000-0000-0000-0000-000000000000", "name": "a",
            "entrypoint": {"contextPath": "/a", "http": {"readTimeoutMs": "soon"}}}"#;
        let problem = problem(body);
        assert_eq!(problem["status"], 422);
        assert_eq!(
            problem["errors"][0]["pointer"],
            "/entrypoint/http/readTimeoutMs"
        );
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_nearest_that_is_known() {
        let problem = problem(r#"{"name": "a", "descripton": "b"}"#);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("did you mean `description`?"), "{detail}");
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_not_right() {
        assert_eq!(problem("{")["status"], 400);
        assert_eq!(problem("{} {}")["status"], 422, "a field is missing first");
        assert_eq!(problem("7")["status"], 422);
    }
}
