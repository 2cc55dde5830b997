//! The secrets of a call: fixed credentials as its `Authorization` header, and those of its URL.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use url::Url;
use zeroize::Zeroizing;

use crate::model::{AttemptError, Auth, CallbackUrl, ErrorClass, Secret, Secrets};

/// The `Authorization` header that these credentials ask for, `None` when they ask for none, or for
/// a token that has to be [got](super::tokens) first.
pub(super) fn authorize(
    auth: &Auth,
    secrets: &dyn Secrets,
) -> Result<Option<HeaderValue>, AttemptError> {
    let text = match auth {
        Auth::None | Auth::Oauth2(_) | Auth::JwtProfileOauth2(_) => return Ok(None),
        Auth::Basic { username, password } => {
            let password = reveal(password, secrets, "the password")?;
            let pair = Zeroizing::new(format!("{username}:{}", *password));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        Auth::Token { value } => {
            let token = reveal(value, secrets, "the token")?;
            Zeroizing::new(format!("Bearer {}", *token))
        }
    };
    match HeaderValue::from_str(&text) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Ok(Some(header))
        }
        Err(_) => Err(error(
            "the credentials hold characters that no header may hold",
        )),
    }
}

/// The value of a secret, `what` for those who read that there is none.
pub(super) fn reveal(
    secret: &Secret,
    secrets: &dyn Secrets,
    what: &str,
) -> Result<Zeroizing<String>, AttemptError> {
    let missing = || error(format!("{what} is not in the vault"));
    secret.reveal(secrets).ok_or_else(missing)
}

/// The URL to call, the secrets of its query in their places.
pub(super) fn url(url: &CallbackUrl, secrets: &dyn Secrets) -> Result<Url, AttemptError> {
    let missing = || error("a secret of the URL's query is not in the vault");
    url.revealed(secrets).ok_or_else(missing)
}

/// Credentials that could not be prepared.
pub(super) fn error(detail: impl Into<String>) -> AttemptError {
    AttemptError::new(ErrorClass::Auth, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::NoSecrets, model::SecretId};

    #[test]
    fn basic_is_the_pair_in_base64() {
        // The example of RFC 7617 §2.
        let auth = Auth::Basic {
            username: "Aladdin".to_owned(),
            password: Secret::new("open sesame"),
        };
        let header = authorize(&auth, &NoSecrets).unwrap().unwrap();
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(header.is_sensitive());
    }

    #[test]
    fn a_secret_that_the_vault_lacks_is_an_auth_error() {
        let id = SecretId::from_uuid(uuid::Uuid::from_u128(7));
        let auth = Auth::Token {
            value: Secret::Sealed(id),
        };
        let error = authorize(&auth, &NoSecrets).unwrap_err();
        assert_eq!(error.class, ErrorClass::Auth);
    }

    #[test]
    fn credentials_that_would_break_a_header_are_refused_without_showing_them() {
        let auth = Auth::Token {
            value: Secret::new("canary\r\nx: y"),
        };
        let error = authorize(&auth, &NoSecrets).unwrap_err();
        assert!(!error.detail.contains("canary"));
    }
}
