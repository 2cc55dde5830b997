//! Putting the secrets of settings away before the settings are on record.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{ControlError, Handle, joined};
use crate::{
    actor::ExecuteError,
    delivery::check_configuration,
    model::{Api, Subscription},
    vault::Sealing,
};

impl Handle {
    /// Puts the secrets of an API away.
    pub(super) async fn seal_api(&self, api: &mut Api) -> Result<Sealing, ControlError> {
        if api.entrypoint.proxy.is_none() {
            return Ok(Sealing::default());
        }
        let vault = Arc::clone(&self.0.vault);
        let mut entrypoint = api.entrypoint.clone();
        let sealed = spawn_blocking(move || {
            vault
                .seal_entrypoint(&mut entrypoint)
                .map(|sealing| (entrypoint, sealing))
        });
        let (entrypoint, sealing) = joined(sealed.await)?;
        api.entrypoint = entrypoint;
        Ok(sealing)
    }

    /// Puts the secrets of a subscription away, if they can be used: a key that cannot would make
    /// every call fail.
    pub(super) async fn seal_subscription(
        &self,
        subscription: &mut Subscription,
    ) -> Result<Sealing, ControlError> {
        let vault = Arc::clone(&self.0.vault);
        let mut configuration = subscription.configuration.clone();
        let sealed = spawn_blocking(move || -> Result<_, ControlError> {
            check_configuration(&configuration, &*vault)
                .map_err(|invalid| invalid.under("/configuration"))?;
            let sealing = vault.seal_configuration(&mut configuration)?;
            Ok((configuration, sealing))
        });
        let (configuration, sealing) = joined(sealed.await)?;
        subscription.configuration = configuration;
        Ok(sealing)
    }

    /// Takes secrets back whose settings are surely not on record.
    pub(super) async fn kept<T>(
        &self,
        sealing: Sealing,
        outcome: Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if outcome.as_ref().is_err_and(is_surely_refused) {
            let vault = Arc::clone(&self.0.vault);
            // What cannot be removed is told in the log, and of no use to anybody.
            let _ = spawn_blocking(move || vault.take_back(&sealing)).await;
        }
        outcome
    }
}

/// Whether nothing of what was asked for can be in the log.
const fn is_surely_refused(error: &ControlError) -> bool {
    match error {
        ControlError::Append(error) | ControlError::Execute(ExecuteError::Append(error)) => {
            !error.is_outcome_unknown()
        }
        ControlError::Execute(ExecuteError::Restarting(_)) | ControlError::Stopped => false,
        _ => true,
    }
}
