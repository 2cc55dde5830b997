//! An application: the consumer's identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApplicationId, Invalid, api::validate_name};

/// The identity under which a consumer subscribes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Application {
    /// Its identity, given at creation.
    #[serde(default = "ApplicationId::nil")]
    pub id: ApplicationId,
    /// Name, 1 to 200 characters.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Application {
    /// An application with this name. It has no identity before it is created.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            id: ApplicationId::nil(),
            name: name.into(),
            description: String::new(),
        }
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_name(&self.name).map_err(|invalid| invalid.under("/name"))
    }
}
