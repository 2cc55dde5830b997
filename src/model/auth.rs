//! How a call authenticates itself: credentials, TLS, signatures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CallbackUrl, Invalid, Secret, Timestamp};

/// Credentials that each call carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic {
        /// User name, without a colon.
        username: String,
        /// Password.
        password: Secret,
    },
    /// `Authorization: Bearer` with a fixed token.
    Token {
        /// The token.
        value: Secret,
    },
    /// `Authorization: Bearer` with a token got by client credentials.
    Oauth2(OAuth2),
    /// `Authorization: Bearer` with a token got for a signed assertion (RFC 7523).
    JwtProfileOauth2(Box<JwtProfile>),
}

/// OAuth 2.0 client credentials (RFC 6749 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OAuth2 {
    /// Token endpoint.
    pub endpoint: CallbackUrl,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret,
    /// Scopes to ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// How an assertion is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RSA_RS256")]
    RsaRs256,
    /// HMAC with SHA-256.
    #[serde(rename = "HMAC_HS256")]
    HmacHs256,
    /// HMAC with SHA-384.
    #[serde(rename = "HMAC_HS384")]
    HmacHs384,
    /// HMAC with SHA-512.
    #[serde(rename = "HMAC_HS512")]
    HmacHs512,
}

/// One claim beside the registered ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtClaim {
    /// Claim name.
    pub name: String,
    /// Claim value.
    pub value: String,
}

/// OAuth 2.0 with a signed JWT as the grant (RFC 7523).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtProfile {
    /// Token endpoint.
    pub endpoint: CallbackUrl,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audience: String,
    /// How the assertion is signed.
    pub signature_algorithm: JwtAlgorithm,
    /// PEM private key for RSA, the shared key for HMAC.
    pub key_content: Secret,
    /// How long an assertion holds, in seconds. Default 60.
    #[serde(default = "assertion_seconds")]
    pub expiration_seconds: u64,
    /// `kid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Further claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_claims: Vec<JwtClaim>,
}

const fn assertion_seconds() -> u64 {
    60
}

/// Claims of an assertion that are the gateway's to set (RFC 7519 §4.1).
const REGISTERED_CLAIMS: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

impl Auth {
    /// Where these credentials get a token; `None` when they need none.
    pub const fn token_endpoint(&self) -> Option<&CallbackUrl> {
        match self {
            Self::None | Self::Basic { .. } | Self::Token { .. } => None,
            Self::Oauth2(oauth2) => Some(&oauth2.endpoint),
            Self::JwtProfileOauth2(profile) => Some(&profile.endpoint),
        }
    }

    /// Checks every field.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        match self {
            Self::None => {}
            Self::Basic { username, password } => {
                invalid.check(
                    !username.contains(':') && !username.chars().any(char::is_control),
                    "/username",
                    "must not hold a colon or control characters",
                );
                invalid.merge("/password", not_empty(password));
            }
            Self::Token { value } => {
                invalid.merge("/value", not_empty(value));
                if let Secret::Value(token) = value {
                    invalid.check(
                        token.bytes().all(|b| b.is_ascii_graphic()),
                        "/value",
                        "must be visible ASCII without spaces",
                    );
                }
            }
            Self::Oauth2(oauth2) => invalid.merge("", oauth2.validate()),
            Self::JwtProfileOauth2(profile) => invalid.merge("", profile.validate()),
        }
        invalid.into_result()
    }
}

impl OAuth2 {
    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        let named = !self.client_id.is_empty();
        invalid.check(named, "/clientId", "must not be empty");
        invalid.merge("/clientSecret", not_empty(&self.client_secret));
        for (index, scope) in self.scopes.iter().enumerate() {
            // RFC 6749 §3.3; a space would make two of one.
            let allowed = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
            invalid.check(
                !scope.is_empty() && scope.bytes().all(allowed),
                &format!("/scopes/{index}"),
                "must be visible ASCII without spaces, quotes and backslashes",
            );
        }
        invalid.into_result()
    }
}

impl JwtProfile {
    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        for (pointer, text) in [
            ("/issuer", &self.issuer),
            ("/subject", &self.subject),
            ("/audience", &self.audience),
        ] {
            invalid.check(!text.is_empty(), pointer, "must not be empty");
        }
        invalid.check(
            (1..=3_600).contains(&self.expiration_seconds),
            "/expirationSeconds",
            "must be 1 to 3600",
        );
        invalid.merge("/keyContent", not_empty(&self.key_content));
        for (index, claim) in self.custom_claims.iter().enumerate() {
            let pointer = format!("/customClaims/{index}/name");
            let named = !claim.name.is_empty();
            invalid.check(named, &pointer, "must not be empty");
            let own = REGISTERED_CLAIMS.contains(&claim.name.as_str());
            invalid.check(!own, &pointer, "is a claim that the gateway sets");
            let before = &self.custom_claims[..index];
            let twice = before.iter().any(|other| other.name == claim.name);
            invalid.check(!twice, &pointer, "is named twice");
        }
        invalid.into_result()
    }
}

fn not_empty(secret: &Secret) -> Result<(), Invalid> {
    match secret {
        Secret::Value(value) if value.is_empty() => Err(Invalid::one("", "must not be empty")),
        _ => Ok(()),
    }
}

/// TLS options of a subscription's calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ssl {
    /// Checks that the certificate names the host. Default true.
    pub hostname_verifier: bool,
    /// Accepts any certificate. Default false.
    pub trust_all: bool,
    /// PEM certificates to trust in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_store: Option<String>,
    /// PEM client certificate chain and its private key: mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_store: Option<Secret>,
}

impl Default for Ssl {
    fn default() -> Self {
        Self {
            hostname_verifier: true,
            trust_all: false,
            trust_store: None,
            key_store: None,
        }
    }
}

/// Standard Webhooks signatures. Several keys sign side by side during a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signing {
    /// The keys; each adds one signature to `webhook-signature`. At most 5.
    pub keys: Vec<SigningKey>,
}

/// One key: `whsec_` + base64 signs v1 (HMAC-SHA256), `whsk_` + base64 signs v1a (ed25519).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKey {
    /// The key in its Standard Webhooks text form.
    pub secret: Secret,
    /// It signs no call from this time on; for ever when absent. A rotation sets it on the keys
    /// that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl SigningKey {
    /// A key that signs until it is taken away.
    pub const fn new(secret: Secret) -> Self {
        Self {
            secret,
            expires_at: None,
        }
    }

    /// Whether it signs calls of this time.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// Most signing keys of a subscription.
const SIGNING_KEYS_MAX: usize = 5;

impl Signing {
    /// The same keys with a new one before them. From `until` on the new one signs alone; keys that
    /// have ended by `now` are left out.
    #[must_use]
    pub fn rotated(&self, new: Secret, now: Timestamp, until: Timestamp) -> Self {
        let old = self.keys.iter().cloned().map(|key| SigningKey {
            expires_at: Some(
                key.expires_at
                    .map_or(until, |expires_at| expires_at.min(until)),
            ),
            ..key
        });
        let old = old.filter(|key| key.is_in_force(now));
        Self {
            keys: std::iter::once(SigningKey::new(new)).chain(old).collect(),
        }
    }

    /// Checks count and form of the keys.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            (1..=SIGNING_KEYS_MAX).contains(&self.keys.len()),
            "/keys",
            format!(
                "must hold 1 to {SIGNING_KEYS_MAX} keys, those that a rotation left to end included"
            ),
        );
        invalid.check(
            self.keys.is_empty() || self.keys.iter().any(|key| key.expires_at.is_none()),
            "/keys",
            "must hold a key without expiresAt; else calls would one day go unsigned",
        );
        for (index, key) in self.keys.iter().enumerate() {
            if let Secret::Value(text) = &key.secret {
                invalid.check(
                    text.starts_with("whsec_") || text.starts_with("whsk_"),
                    &format!("/keys/{index}/secret"),
                    "must begin with whsec_ (HMAC) or whsk_ (ed25519)",
                );
            }
        }
        invalid.into_result()
    }
}
