//! What is wrong with a value, field by field.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// JSON pointer of the field, empty for the value as a whole.
    pub pointer: String,
    /// What is wrong with it and what would be accepted.
    pub reason: String,
}

/// A value was refused; every field at fault is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Invalid {
    /// The fields at fault, in the order of the value.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// A refusal of one field.
    pub fn one(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            problems: vec![Problem {
                pointer: pointer.into(),
                reason: reason.into(),
            }],
        }
    }

    /// Starts a check that finds nothing wrong yet.
    pub fn none() -> Self {
        Self::default()
    }

    /// Notes one more field at fault when `accepted` is false.
    pub fn check(&mut self, accepted: bool, pointer: &str, reason: impl fmt::Display) {
        if !accepted {
            self.problems.push(Problem {
                pointer: pointer.to_owned(),
                reason: reason.to_string(),
            });
        }
    }

    /// Takes over the problems of a part of the value that stands under `prefix`.
    pub fn merge(&mut self, prefix: &str, part: Result<(), Self>) {
        if let Err(invalid) = part {
            self.problems.extend(invalid.under(prefix).problems);
        }
    }

    /// The same problems, their pointers put under `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for problem in &mut self.problems {
            problem.pointer.insert_str(0, prefix);
        }
        self
    }

    /// Accepts the value when nothing is wrong with it.
    pub fn into_result(self) -> Result<(), Self> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if !problem.pointer.is_empty() {
                write!(f, "{}: ", problem.pointer)?;
            }
            f.write_str(&problem.reason)?;
        }
        Ok(())
    }
}
