//! What has no equivalent, and what happens instead.

use serde::{Deserialize, Serialize};

/// What kind of thing a note tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteKind {
    /// A value that cannot be used: of the wrong type, out of its range, or missing.
    Invalid,
    /// Something that hooklog has not.
    Unsupported,
    /// Imported as something else than it says.
    Changed,
    /// Something the input does not say, and what holds because of that.
    Defaulted,
    /// Of no consequence to deliveries: dates, owners, pages of a portal.
    Informational,
}

impl NoteKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Changed => "changed",
            Self::Defaulted => "defaulted",
            Self::Informational => "informational",
        }
    }
}

/// One thing of the input that is not imported as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The file it stands in.
    pub file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// JSON pointer to it in that document. It goes on into configurations that are JSON written
    /// as text.
    pub pointer: String,
    /// What kind of thing this is.
    pub kind: NoteKind,
    /// Why it is not imported as it stands. Never holds what may be a secret.
    pub reason: String,
    /// What happens instead.
    pub instead: String,
}
