//! Creating and revoking tokens, and putting on record what their bearers ask for.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{ControlError, Handle};
use crate::{
    log::{ExpectedVersion, StreamId},
    model::{
        Position, RequestAccepted, RequestKey, Token, TokenCreated, TokenHash, TokenId,
        TokenRevoked,
    },
    projection::{View, ViewError, access::Access, idempotency_keys::IdempotencyKeys},
};

/// What the secret of every token begins with, so that a leaked one is known for what it is.
const PREFIX: &str = "hl_";
/// How long a change of a token waits until it is in force.
const IN_FORCE_WAIT: Duration = Duration::from_secs(10);

/// The secret of a token, for the one moment in which it is shown.
pub struct TokenSecret(Zeroizing<String>);

impl TokenSecret {
    /// The text that its bearer shows.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of the secret that a bearer shows.
    pub fn hash(secret: &str) -> TokenHash {
        let digest = Sha256::digest(secret.as_bytes());
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("below 16");
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        TokenHash::from_hex(digits.map(digit).collect())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl Handle {
    /// Creates a token. One without an id (all zeros) is given one. Its secret, 256 random bits, is
    /// told here and never again. When this returns the token is in force.
    pub async fn create_token(
        &self,
        mut token: Token,
    ) -> Result<(Token, TokenSecret), ControlError> {
        if token.id.is_nil() {
            token.id = TokenId::from_moment(&self.0.clock.moment());
        }
        token.validate()?;
        if let Some(application) = token.application {
            self.application_version(application)?;
        }
        let secret = self.fresh_secret();
        let event = TokenCreated {
            token: token.clone(),
            hash: TokenSecret::hash(secret.reveal()),
        };
        let stream = StreamId::token(token.id);
        let appended = self.append(stream, ExpectedVersion::NoStream, event);
        self.in_force(appended.await?.last).await?;
        Ok((token, secret))
    }

    /// Revokes a token. When this returns nobody comes in by it any more. Nothing happens when it
    /// is revoked already.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), ControlError> {
        let Some(row) = self.access().token(id)? else {
            return Err(ControlError::UnknownToken(id));
        };
        if row.revoked_at.is_some() {
            return Ok(());
        }
        let stream = StreamId::token(id);
        let appended = self.append(stream, ExpectedVersion::Any, TokenRevoked {});
        self.in_force(appended.await?.last).await
    }

    /// Puts on record that the bearer of a token asked for a change, before it is made.
    pub async fn record_request(
        &self,
        token: TokenId,
        operation: &str,
        path: &str,
        key: Option<RequestKey>,
    ) -> Result<Position, ControlError> {
        let event = RequestAccepted {
            operation: operation.to_owned(),
            path: path.to_owned(),
            key,
        };
        let stream = StreamId::token(token);
        let appended = self.append(stream, ExpectedVersion::Any, event);
        Ok(appended.await?.last)
    }

    /// Tokens, as their events tell.
    pub fn access(&self) -> View<Access> {
        self.built_in()
    }

    /// A token, if its bearer may come in now.
    pub fn token_in_force(&self, id: TokenId) -> Result<Option<Token>, ViewError> {
        let row = self.access().token(id)?;
        Ok(row
            .filter(|row| row.is_valid(self.now()))
            .map(|row| row.token))
    }

    /// A fingerprint of these bytes, as 32 hexadecimal digits. Only who has the secret key of the
    /// data directory can tell whether something has it.
    pub fn fingerprint(&self, bytes: &[u8]) -> String {
        self.0.vault.fingerprint(bytes)
    }

    /// Whether what was created under this key was created of this body; also where nothing was,
    /// or that is not known any more.
    pub async fn is_creating_body(&self, key: &RequestKey) -> Result<bool, ControlError> {
        let view = self.caught_up(self.built_in::<IdempotencyKeys>()).await?;
        let body = view.creating_body(key.id)?;
        Ok(body.is_none_or(|body| body == key.body))
    }

    async fn in_force(&self, position: Position) -> Result<(), ControlError> {
        self.access().at(position, IN_FORCE_WAIT).await?;
        Ok(())
    }

    fn fresh_secret(&self) -> TokenSecret {
        let bits = self.fresh_bits();
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 43));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(*bits, &mut text);
        TokenSecret(text)
    }
}
