//! `hooklog openapi`: the description of the HTTP interfaces.

use super::{CliError, Output};

/// The document as it is published.
pub(super) fn text() -> String {
    let text = serde_json::to_string_pretty(&crate::http::document());
    text.expect("the document is plain JSON") + "\n"
}

pub(super) fn run(output: &mut Output) -> Result<(), CliError> {
    for line in text().lines() {
        output.line(line)?;
    }
    Ok(output.flush()?)
}
