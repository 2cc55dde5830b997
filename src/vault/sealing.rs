//! Finding the secrets in settings, and putting them away.

use super::{SecretKind, Vault, VaultError};
use crate::model::{Auth, ConsumerConfiguration, Proxy, Secret, SecretId, WebhookEntrypoint};

/// Secrets that were just put away for settings that are not accepted yet. Dropping it leaves them
/// sealed; take them back when the settings are refused.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "secrets of refused settings have to be taken back"]
pub struct Sealing {
    /// The ids they were given.
    pub sealed: Vec<SecretId>,
}

impl Vault {
    /// Puts away every secret value in these settings; ids stand in their place. When one cannot
    /// be put away, those before it are taken back and the settings must not be used.
    pub fn seal_configuration(
        &self,
        configuration: &mut ConsumerConfiguration,
    ) -> Result<Sealing, VaultError> {
        self.seal_all(configuration_secrets(configuration))
    }

    /// As [`seal_configuration`](Self::seal_configuration), for an entrypoint.
    pub fn seal_entrypoint(
        &self,
        entrypoint: &mut WebhookEntrypoint,
    ) -> Result<Sealing, VaultError> {
        self.seal_all(
            entrypoint
                .proxy
                .iter_mut()
                .filter_map(proxy_secret)
                .collect(),
        )
    }

    /// Takes back secrets whose settings were refused. One that cannot be removed is left, of no
    /// use to anybody, and the error told in the log.
    pub fn take_back(&self, sealing: &Sealing) {
        for id in &sealing.sealed {
            if let Err(error) = self.remove(*id) {
                tracing::warn!(%id, %error, "cannot take back a secret");
            }
        }
    }

    fn seal_all(&self, found: Vec<(SecretKind, &mut Secret)>) -> Result<Sealing, VaultError> {
        let mut sealing = Sealing::default();
        for (kind, secret) in found {
            let Secret::Value(value) = &*secret else {
                continue;
            };
            match self.seal(kind, value) {
                Ok(id) => {
                    sealing.sealed.push(id);
                    *secret = Secret::Sealed(id);
                }
                Err(error) => {
                    self.take_back(&sealing);
                    return Err(error);
                }
            }
        }
        Ok(sealing)
    }
}

/// The ids of the secrets that these settings use: what may be removed when nothing else holds the
/// settings any more.
pub fn sealed_secrets(configuration: &ConsumerConfiguration) -> Vec<SecretId> {
    let mut configuration = configuration.clone();
    let found = configuration_secrets(&mut configuration).into_iter();
    let ids = found.filter_map(|(_, secret)| match secret {
        Secret::Sealed(id) => Some(*id),
        Secret::Value(_) => None,
    });
    ids.collect()
}

/// As [`sealed_secrets`], for an entrypoint.
pub fn sealed_in_entrypoint(entrypoint: &WebhookEntrypoint) -> Vec<SecretId> {
    let password = entrypoint
        .proxy
        .as_ref()
        .and_then(|proxy| proxy.password.as_ref());
    match password {
        Some(Secret::Sealed(id)) => vec![*id],
        _ => Vec::new(),
    }
}

fn configuration_secrets(
    configuration: &mut ConsumerConfiguration,
) -> Vec<(SecretKind, &mut Secret)> {
    let mut found = Vec::new();
    found.extend(auth_secret(&mut configuration.auth));
    found.extend(
        configuration
            .ssl
            .key_store
            .as_mut()
            .map(|s| (SecretKind::KeyStore, s)),
    );
    if let Some(signing) = &mut configuration.signing {
        let keys = signing.keys.iter_mut();
        found.extend(keys.map(|key| (SecretKind::SigningKey, &mut key.secret)));
    }
    found
}

fn auth_secret(auth: &mut Auth) -> Option<(SecretKind, &mut Secret)> {
    match auth {
        Auth::None => None,
        Auth::Basic { password, .. } => Some((SecretKind::Password, password)),
        Auth::Token { value } => Some((SecretKind::Token, value)),
        Auth::Oauth2(oauth2) => Some((SecretKind::ClientSecret, &mut oauth2.client_secret)),
        Auth::JwtProfileOauth2(jwt) => Some((SecretKind::AssertionKey, &mut jwt.key_content)),
    }
}

fn proxy_secret(proxy: &mut Proxy) -> Option<(SecretKind, &mut Secret)> {
    proxy
        .password
        .as_mut()
        .map(|password| (SecretKind::ProxyPassword, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        model::{Signing, SigningKey, Ssl},
    };

    fn settings() -> ConsumerConfiguration {
        ConsumerConfiguration {
            auth: Auth::Basic {
                username: "u".to_owned(),
                password: Secret::new("canary-1"),
            },
            ssl: Ssl {
                key_store: Some(Secret::new("canary-2")),
                ..Ssl::default()
            },
            signing: Some(Signing {
                keys: ["canary-3", "canary-4"]
                    .map(|text| SigningKey::new(Secret::new(text)))
                    .into(),
            }),
            ..ConsumerConfiguration::default()
        }
    }

    #[test]
    fn sealed_settings_can_be_written_and_hold_no_value() {
        let data = tempfile::tempdir().unwrap();
        let vault = Vault::open(data.path(), SystemClock::shared()).unwrap();
        let mut configuration = settings();
        assert!(serde_json::to_string(&configuration).is_err());
        let sealing = vault.seal_configuration(&mut configuration).unwrap();
        assert!(
            !serde_json::to_string(&configuration)
                .unwrap()
                .contains("canary")
        );
        assert_eq!(sealed_secrets(&configuration), sealing.sealed);
        let values: Vec<_> = sealing
            .sealed
            .iter()
            .map(|id| vault.reveal(*id).unwrap())
            .collect();
        let values: Vec<_> = values.iter().map(|value| value.as_str()).collect();
        assert_eq!(values, ["canary-1", "canary-2", "canary-3", "canary-4"]);
    }

    #[test]
    fn what_is_sealed_already_stays_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let vault = Vault::open(data.path(), SystemClock::shared()).unwrap();
        let mut configuration = settings();
        let first = vault.seal_configuration(&mut configuration).unwrap();
        assert_eq!(first.sealed.len(), 4);
        let second = vault.seal_configuration(&mut configuration).unwrap();
        assert!(second.sealed.is_empty());
        vault.take_back(&first);
        assert!(vault.reveal(first.sealed[0]).is_err());
    }

    #[test]
    fn the_proxy_password_of_an_entrypoint_is_sealed() {
        let data = tempfile::tempdir().unwrap();
        let vault = Vault::open(data.path(), SystemClock::shared()).unwrap();
        let mut entrypoint = WebhookEntrypoint::at("/a");
        entrypoint.proxy = serde_json::from_value(serde_json::json!({
            "type": "HTTP", "host": "proxy.example.com", "port": 3128,
            "username": "u", "password": "canary"
        }))
        .unwrap();
        let sealing = vault.seal_entrypoint(&mut entrypoint).unwrap();
        assert_eq!(*vault.reveal(sealing.sealed[0]).unwrap(), "canary");
        assert!(serde_json::to_string(&entrypoint).is_ok());
    }
}
