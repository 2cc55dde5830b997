//! What is kept of a call's headers and bodies where logging is switched on. Already cut and
//! redacted: nothing secret reaches this form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Headers and bodies of one call, as far as logging is switched on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Captured {
    /// The request that was sent.
    #[serde(default)]
    pub request: CapturedPart,
    /// The response that came.
    #[serde(default)]
    pub response: CapturedPart,
}

impl Captured {
    /// About how many bytes its headers and bodies take.
    pub fn bytes(&self) -> usize {
        self.request.bytes() + self.response.bytes()
    }
}

impl CapturedPart {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().flatten();
        let headers: usize = headers.map(|h| h.name.len() + h.value.len()).sum();
        headers + self.body.as_ref().map_or(0, |body| body.bytes.len())
    }
}

/// One side of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapturedPart {
    /// Its headers, `None` when they are not logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<CapturedHeader>>,
    /// Its body, `None` when it is not logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<CapturedBody>,
}

/// One header; a sensitive one shows `[redacted]` as its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapturedHeader {
    /// Name, lower case.
    pub name: String,
    /// Value; bytes that are not text are shown as U+FFFD.
    pub value: String,
}

/// The first part of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapturedBody {
    /// The bytes kept, at most the capture limit (64 KiB by default).
    #[serde(with = "super::content")]
    #[schemars(schema_with = "super::content::schema")]
    pub bytes: Vec<u8>,
    /// Size of the whole body in bytes; of one that was cut and told no size, of what was read.
    pub size: u64,
    /// Whether more followed than was kept.
    #[serde(default)]
    pub truncated: bool,
}

impl CapturedBody {
    /// The body as text, or `None` when it is binary.
    pub fn text(&self) -> Option<&str> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Some(text),
            // A cut may fall inside a character; what stands before it is text all the same.
            Err(error) if self.truncated && error.error_len().is_none() => {
                std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }
}
