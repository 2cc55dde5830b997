//! A subscription's filter as it is written, and what it makes of a message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 2_048;

/// A condition on messages as it is written, in CEL. The room [`filter`](crate::filter) reads it.
///
/// ```
/// use hooklog::model::FilterExpression;
/// let filter = FilterExpression::new("type == 'order.paid' && body.amount > 100");
/// assert!(filter.validate().is_ok());
/// assert!(FilterExpression::new("").validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FilterExpression(#[schemars(length(min = 1, max = 2048))] String);

impl FilterExpression {
    /// This text, not yet looked at.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks its length. Whether it can be read is the room `filter`'s to say.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            !self.0.trim().is_empty(),
            "",
            "is empty; leave it out to get every message",
        );
        invalid.check(
            self.0.len() <= FILTER_BYTES_MAX,
            "",
            format!(
                "is {} bytes, at most {FILTER_BYTES_MAX} are allowed",
                self.0.len()
            ),
        );
        invalid.into_result()
    }
}

/// What a filter makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterVerdict {
    /// It is for the subscription.
    Passes,
    /// It is not.
    Filtered,
    /// The filter fails on it, for this reason. It holds nothing of the message's content.
    Failed(String),
}
