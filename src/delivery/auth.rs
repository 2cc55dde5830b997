//! The `Authorization` header of a call.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::model::{AttemptError, Auth, ErrorClass, Secret, Secrets};

/// The `Authorization` header that these credentials ask for, `None` when they ask for none.
///
/// The one place where credentials become a header: kinds that have to fetch a token first belong
/// here too.
pub(super) fn authorize(
    auth: &Auth,
    secrets: &dyn Secrets,
) -> Result<Option<HeaderValue>, AttemptError> {
    let text = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { username, password } => {
            let password = reveal(password, secrets, "the password")?;
            let pair = Zeroizing::new(format!("{username}:{}", *password));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        Auth::Token { value } => {
            let token = reveal(value, secrets, "the token")?;
            Zeroizing::new(format!("Bearer {}", *token))
        }
        Auth::Oauth2(_) => return Err(unsupported("oauth2")),
        Auth::JwtProfileOauth2(_) => return Err(unsupported("jwtProfileOauth2")),
    };
    match HeaderValue::from_str(&text) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Ok(Some(header))
        }
        Err(_) => Err(error("the credentials hold characters that no header may hold")),
    }
}

fn reveal(
    secret: &Secret,
    secrets: &dyn Secrets,
    what: &str,
) -> Result<Zeroizing<String>, AttemptError> {
    let missing = || error(format!("{what} is not in the vault"));
    secret.reveal(secrets).ok_or_else(missing)
}

fn unsupported(kind: &str) -> AttemptError {
    error(format!("authentication of type {kind} is not supported yet"))
}

fn error(detail: impl Into<String>) -> AttemptError {
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
