//! Headers: a list of names and values, or a map.

use super::{ledger::Node, note::NoteKind};
use crate::model::{Header, Invalid};

/// The headers of a list or map.
pub(super) struct Headers {
    /// Those that can be sent.
    pub(super) taken: Vec<Header>,
    /// The names of those that are noted and left out.
    pub(super) untaken: Vec<String>,
}

/// The headers under `headers`. Of one that cannot be sent `instead` is noted.
pub(super) fn headers(holder: &Node<'_>, instead: &str) -> Headers {
    headers_that(holder, instead, Header::validate)
}

/// The same of messages, in which no secret may stand.
pub(super) fn shown_headers(holder: &Node<'_>) -> Vec<Header> {
    let headers = headers_that(holder, "left out", |header| {
        header.validate().and_then(|()| header.validate_shown())
    });
    headers.taken
}

fn headers_that(
    holder: &Node<'_>,
    instead: &str,
    check: impl Fn(&Header) -> Result<(), Invalid>,
) -> Headers {
    let (mut taken, mut untaken) = (Vec::new(), Vec::new());
    for (name, node) in holder.list_or_map("headers") {
        let header = match header(name, &node, instead) {
            Ok(header) => header,
            Err(name) => {
                untaken.extend(name);
                continue;
            }
        };
        // By itself first: then what is wrong needs no place in the list.
        let valid = check(&header);
        taken.push(header);
        if let Err(invalid) = valid.and_then(|()| Header::validate_all(&taken)) {
            untaken.extend(taken.pop().map(|header| header.name));
            node.note(NoteKind::Invalid, invalid.to_string(), instead);
        }
    }
    Headers { taken, untaken }
}

/// One header, or its name if that alone can be read.
fn header(name: Option<&str>, node: &Node<'_>, instead: &str) -> Result<Header, Option<String>> {
    let (name, value) = if let Some(name) = name {
        (Some(name.to_owned()), node.literal(instead))
    } else {
        let (name, value) = (node.get("name"), node.get("value"));
        if name.is_none() || value.is_none() {
            node.note(NoteKind::Invalid, "has no name or no value", instead);
        }
        let [name, value] = [name, value].map(|part| part?.literal(instead));
        (name.map(|name| name.trim().to_owned()), value)
    };
    match (name, value) {
        (Some(name), Some(value)) => Ok(Header::new(name, value)),
        (name, _) => Err(name),
    }
}
