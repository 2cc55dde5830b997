//! Entity tags: whether a definition is still what somebody read.

use serde::Serialize;

use super::{
    call::Call,
    problem::{Kind, Problem},
    reply::Reply,
};

/// The tag of a definition: equal definitions have equal tags.
pub(super) fn of(definition: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_vec(definition).map_err(|error| Problem::internal(&error))?;
    let hash = blake3::hash(&text);
    Ok(format!("\"{}\"", &hash.to_hex()[..16]))
}

/// A definition with its tag.
pub(super) fn tagged(status: u16, definition: &impl Serialize) -> Result<Reply, Problem> {
    let tag = of(definition)?;
    Ok(Reply::json(status, definition)?.header("etag", tag))
}

impl Call {
    /// Refuses the change when `If-Match` names another state than this. Without the header the
    /// change is made whatever the state is.
    pub(super) fn if_match(&self, definition: &impl Serialize) -> Result<(), Problem> {
        let Some(wanted) = &self.headers.if_match else {
            return Ok(());
        };
        let is = of(definition)?;
        let mut tags = wanted.split(',').map(str::trim);
        if tags.any(|tag| tag == "*" || tag == is) {
            return Ok(());
        }
        let detail = "read it again, and send the change with its new ETag as If-Match";
        Err(Problem::new(Kind::Changed, detail))
    }

    /// Whether the change is to be made on one state alone: what was checked by
    /// [`if_match`](Self::if_match) must still hold when it is made.
    pub(super) const fn is_conditional(&self) -> bool {
        self.headers.if_match.is_some()
    }
}
