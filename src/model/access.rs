//! Who may do what: tokens and their roles.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApplicationId, Invalid, RequestKeyId, Timestamp, TokenId, api::validate_name};

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads everything; pauses, resumes, tests, redelivers, discards.
    Operator,
    /// Publishes messages, and nothing else.
    Publisher,
    /// Reads everything.
    Viewer,
    /// An application's key: subscribes by context paths, and sees its own subscriptions alone.
    Consumer,
}

/// The idempotency key that a request came with, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestKey {
    /// Made of the key, the token and the path.
    pub id: RequestKeyId,
    /// Fingerprint of the body, made with the secret key of the data directory.
    pub body: String,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::Publisher,
        Self::Viewer,
        Self::Consumer,
    ];

    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Consumer => "consumer",
        }
    }

    /// Whether its bearer may do this.
    pub const fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Read => matches!(self, Self::Admin | Self::Operator | Self::Viewer),
            Permission::Publish => matches!(self, Self::Admin | Self::Publisher),
            Permission::Operate => matches!(self, Self::Admin | Self::Operator),
            Permission::Manage => matches!(self, Self::Admin),
            Permission::Consume => matches!(self, Self::Consumer),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read definitions, logs, events, metrics.
    Read,
    /// Publish messages.
    Publish,
    /// Steer what there is: pause, resume, test, redeliver, discard, rebuild.
    Operate,
    /// Create, change and delete.
    Manage,
    /// Subscribe as an application, and see one's own subscriptions.
    Consume,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Publish,
        Self::Operate,
        Self::Manage,
        Self::Consume,
    ];

    /// Its name as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Operate => "operate",
            Self::Manage => "manage",
            Self::Consume => "consume",
        }
    }
}

/// A token, without its secret: that is shown once, and kept as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// Its identity, given at creation.
    #[serde(default = "TokenId::nil")]
    pub id: TokenId,
    /// What it is for, for people. 1 to 200 characters.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Whose key it is; set for the role `consumer` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// It is refused from this time on; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Token {
    /// A token of this role. It has no identity before it is created.
    pub fn named(name: impl Into<String>, role: Role) -> Self {
        Self {
            id: TokenId::nil(),
            name: name.into(),
            role,
            application: None,
            expires_at: None,
        }
    }

    /// The same token as a key of this application.
    #[must_use]
    pub fn of(mut self, application: ApplicationId) -> Self {
        self.application = Some(application);
        self
    }

    /// Whether it is past its time.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.merge("/name", validate_name(&self.name));
        let consumer = self.role == Role::Consumer;
        invalid.check(
            !consumer || self.application.is_some(),
            "/application",
            "is needed for the role consumer: whose key is it?",
        );
        invalid.check(
            consumer || self.application.is_none(),
            "/application",
            "is for the role consumer alone",
        );
        invalid.into_result()
    }
}

/// What is kept of a token's secret: its SHA-256, in hexadecimal.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// The hash with this text.
    pub const fn from_hex(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_needs_an_application_and_nobody_else_has_one() {
        let application = ApplicationId::from_uuid(uuid::Uuid::from_u128(1));
        for role in Role::ALL {
            let bare = Token::named("t", role);
            assert_eq!(bare.validate().is_ok(), role != Role::Consumer, "{role}");
            let owned = bare.of(application);
            assert_eq!(owned.validate().is_ok(), role == Role::Consumer, "{role}");
        }
    }

    #[test]
    fn roles_reach_no_further_than_they_say() {
        let may = |role: Role| Permission::ALL.map(|permission| role.may(permission));
        assert_eq!(may(Role::Admin), [true, true, true, true, false]);
        assert_eq!(may(Role::Operator), [true, false, true, false, false]);
        assert_eq!(may(Role::Publisher), [false, true, false, false, false]);
        assert_eq!(may(Role::Viewer), [true, false, false, false, false]);
        assert_eq!(may(Role::Consumer), [false, false, false, false, true]);
    }
}
