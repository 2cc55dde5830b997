//! Headers: a list of names and values, or a map.

use super::{ledger::Node, note::NoteKind};
use crate::model::{Header, Invalid};

/// The headers under `headers`. One that cannot be sent is noted and left out.
pub(super) fn headers(holder: &Node<'_>) -> Vec<Header> {
    headers_that(holder, Header::validate)
}

/// The same of messages, in which no secret may stand.
pub(super) fn shown_headers(holder: &Node<'_>) -> Vec<Header> {
    headers_that(holder, |header| {
        header.validate().and_then(|()| header.validate_shown())
    })
}

fn headers_that(holder: &Node<'_>, check: impl Fn(&Header) -> Result<(), Invalid>) -> Vec<Header> {
    let mut headers = Vec::new();
    for (name, node) in holder.list_or_map("headers") {
        let Some(header) = header(name, &node) else {
            continue;
        };
        // By itself first: then what is wrong needs no place in the list.
        let valid = check(&header);
        headers.push(header);
        if let Err(invalid) = valid.and_then(|()| Header::validate_all(&headers)) {
            headers.pop();
            node.note(NoteKind::Invalid, invalid.to_string(), "left out");
        }
    }
    headers
}

fn header(name: Option<&str>, node: &Node<'_>) -> Option<Header> {
    if let Some(name) = name {
        return Some(Header::new(name, node.literal("the header is left out")?));
    }
    let (Some(name), Some(value)) = (node.get("name"), node.get("value")) else {
        node.note(NoteKind::Invalid, "has no name or no value", "left out");
        return None;
    };
    let value = value.literal("the header is left out");
    let name = name.literal("the header is left out");
    Some(Header::new(name?.trim(), value?))
}
