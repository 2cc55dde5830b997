//! Finding the secrets in settings, and putting them away.

use super::{SecretKind, Vault, VaultError};
use crate::model::{
    Auth, CallbackUrl, ConsumerConfiguration, CustomHeader, DeadLetterQueue, Secret, SecretId,
    WebhookEntrypoint,
};

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
        self.seal_all(entrypoint_secrets(entrypoint))
    }

    /// Takes back secrets whose settings were refused.
    pub fn take_back(&self, sealing: &Sealing) {
        self.remove_all(&sealing.sealed);
    }

    fn seal_all(&self, found: Vec<Found<'_>>) -> Result<Sealing, VaultError> {
        let mut sealing = Sealing::default();
        for place in found {
            if let Err(error) = self.seal_one(place, &mut sealing) {
                self.take_back(&sealing);
                return Err(error);
            }
        }
        Ok(sealing)
    }

    fn seal_one(&self, place: Found<'_>, sealing: &mut Sealing) -> Result<(), VaultError> {
        let mut seal = |kind, value: &str| {
            let id = self.seal(kind, value)?;
            sealing.sealed.push(id);
            Ok(id)
        };
        match place {
            Found::Secret(kind, secret) => {
                if let Secret::Value(value) = &*secret {
                    *secret = Secret::Sealed(seal(kind, value)?);
                }
            }
            Found::Url(url) => *url = url.sealed(|value| seal(SecretKind::QueryValue, value))?,
        }
        Ok(())
    }
}

/// A place in settings where secrets may stand.
enum Found<'a> {
    Secret(SecretKind, &'a mut Secret),
    /// In its query.
    Url(&'a mut CallbackUrl),
}

impl Found<'_> {
    fn sealed(&self) -> Vec<SecretId> {
        match self {
            Self::Secret(_, Secret::Sealed(id)) => vec![*id],
            Self::Secret(_, Secret::Value(_)) => Vec::new(),
            Self::Url(url) => url.secrets(),
        }
    }
}

/// The ids of the secrets that these settings use: what may be removed when nothing else holds the
/// settings any more.
pub fn sealed_secrets(configuration: &ConsumerConfiguration) -> Vec<SecretId> {
    let mut configuration = configuration.clone();
    let found = configuration_secrets(&mut configuration);
    found.iter().flat_map(Found::sealed).collect()
}

/// As [`sealed_secrets`], for an entrypoint.
pub fn sealed_in_entrypoint(entrypoint: &WebhookEntrypoint) -> Vec<SecretId> {
    let mut entrypoint = entrypoint.clone();
    let found = entrypoint_secrets(&mut entrypoint);
    found.iter().flat_map(Found::sealed).collect()
}

fn configuration_secrets(configuration: &mut ConsumerConfiguration) -> Vec<Found<'_>> {
    let mut found: Vec<_> = configuration
        .callback_url
        .iter_mut()
        .map(Found::Url)
        .collect();
    found.extend(header_secrets(&mut configuration.headers));
    found.extend(auth_secrets(&mut configuration.auth));
    let key_store = configuration.ssl.key_store.as_mut();
    found.extend(key_store.map(|store| Found::Secret(SecretKind::KeyStore, store)));
    if let Some(signing) = &mut configuration.signing {
        let keys = signing.keys.iter_mut();
        found.extend(keys.map(|key| Found::Secret(SecretKind::SigningKey, &mut key.secret)));
    }
    found
}

fn entrypoint_secrets(entrypoint: &mut WebhookEntrypoint) -> Vec<Found<'_>> {
    let mut found: Vec<_> = entrypoint.callback_url.iter_mut().map(Found::Url).collect();
    found.extend(header_secrets(&mut entrypoint.headers));
    if let DeadLetterQueue::Http { url } = &mut entrypoint.dlq {
        found.push(Found::Url(url));
    }
    let password = entrypoint
        .proxy
        .as_mut()
        .and_then(|proxy| proxy.password.as_mut());
    found.extend(password.map(|password| Found::Secret(SecretKind::ProxyPassword, password)));
    found
}

fn header_secrets(headers: &mut [CustomHeader]) -> impl Iterator<Item = Found<'_>> {
    // One that holds a stored secret counts whatever its name: nobody's secret may be named unseen.
    let holds = |header: &&mut CustomHeader| {
        header.is_secret() || matches!(header.value, Secret::Sealed(_))
    };
    let secret = headers.iter_mut().filter(holds);
    secret.map(|header| Found::Secret(SecretKind::HeaderValue, &mut header.value))
}

fn auth_secrets(auth: &mut Auth) -> Vec<Found<'_>> {
    match auth {
        Auth::None => Vec::new(),
        Auth::Basic { password, .. } => vec![Found::Secret(SecretKind::Password, password)],
        Auth::Token { value } => vec![Found::Secret(SecretKind::Token, value)],
        Auth::Oauth2(oauth2) => vec![
            Found::Url(&mut oauth2.endpoint),
            Found::Secret(SecretKind::ClientSecret, &mut oauth2.client_secret),
        ],
        Auth::JwtProfileOauth2(jwt) => vec![
            Found::Url(&mut jwt.endpoint),
            Found::Secret(SecretKind::AssertionKey, &mut jwt.key_content),
        ],
    }
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
            callback_url: Some("https://example.com/?token=canary-0".parse().unwrap()),
            headers: vec![
                CustomHeader::new("x-team", "plain"),
                CustomHeader::new("X-Team-Token", "canary-5"),
            ],
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
        let expected = ["0", "5", "1", "2", "3", "4"].map(|n| format!("canary-{n}"));
        assert_eq!(values, expected);
    }

    #[test]
    fn a_stored_secret_is_seen_under_any_name() {
        let id = SecretId::from_uuid(uuid::Uuid::from_u128(1));
        let configuration = ConsumerConfiguration {
            headers: vec![CustomHeader {
                name: "x-shop".to_owned(),
                value: Secret::Sealed(id),
            }],
            ..ConsumerConfiguration::default()
        };
        assert_eq!(sealed_secrets(&configuration), [id]);
    }

    #[test]
    fn what_is_sealed_already_stays_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let vault = Vault::open(data.path(), SystemClock::shared()).unwrap();
        let mut configuration = settings();
        let first = vault.seal_configuration(&mut configuration).unwrap();
        assert_eq!(first.sealed.len(), 6);
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
