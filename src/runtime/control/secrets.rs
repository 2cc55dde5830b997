//! Putting the secrets of settings away before the settings are on record.

use std::{sync::Arc, time::Duration};

use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{ControlError, Handle, joined};
use crate::{
    actor::ExecuteError,
    delivery::check_configuration,
    model::{Api, Invalid, SecretId, Subscription, SubscriptionId},
    vault::{Sealing, sealed_in_entrypoint, sealed_secrets},
};

impl Handle {
    /// Puts the secrets of an API away.
    pub(super) async fn seal_api(
        &self,
        api: &mut Api,
        before: Option<&Api>,
    ) -> Result<Sealing, ControlError> {
        let own = before.map_or_else(Vec::new, |api| sealed_in_entrypoint(&api.entrypoint));
        check_own(&sealed_in_entrypoint(&api.entrypoint), &own, "/entrypoint")?;
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
        before: Option<&Subscription>,
    ) -> Result<Sealing, ControlError> {
        let own = before.map_or_else(Vec::new, |before| sealed_secrets(&before.configuration));
        check_own(
            &sealed_secrets(&subscription.configuration),
            &own,
            "/configuration",
        )?;
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

/// Between two looks whether what was closed is over.
const ENDED_LOOK: Duration = Duration::from_secs(10);

impl Handle {
    /// The settings of an owner hold these secrets in the place of those of before.
    pub(super) async fn replaced(&self, owner: Uuid, before: Vec<SecretId>, now: &[SecretId]) {
        let held_no_more = before.into_iter().filter(|id| !now.contains(id));
        let held_no_more = held_no_more.collect();
        let vault = Arc::clone(&self.0.vault);
        // It tells what it cannot remove.
        let _ = spawn_blocking(move || vault.replace(owner, held_no_more)).await;
    }

    /// The secrets of a subscription that is not over.
    pub(super) async fn secrets_of(&self, id: SubscriptionId) -> Vec<SecretId> {
        let shown = self.inspect(id).await.ok();
        let definition = shown.and_then(|shown| shown.state.subscription);
        definition.map_or_else(Vec::new, |definition| {
            sealed_secrets(&definition.configuration)
        })
    }

    /// Removes the secrets of a subscription that was closed, once its last calls are over. Those of
    /// one that was closed shortly before the end of the process are left.
    pub(super) fn forget_secrets(&self, id: SubscriptionId, held: Vec<SecretId>) {
        let (weak, clock) = (Arc::downgrade(&self.0), Arc::clone(&self.0.clock));
        self.0.sources.tasks().spawn(async move {
            loop {
                clock.sleep(ENDED_LOOK).await;
                let Some(inner) = weak.upgrade() else { return };
                if !inner.registry.runs(id) {
                    let vault = Arc::clone(&inner.vault);
                    let owner = *id.as_uuid();
                    let _ = spawn_blocking(move || vault.remove_owner(owner, &held)).await;
                    return;
                }
            }
        });
    }
}

/// Refuses the id of a secret that the settings did not hold before: whoever knew the id of
/// another's secret could have it sent to a callback of their own.
fn check_own(named: &[SecretId], own: &[SecretId], pointer: &str) -> Result<(), Invalid> {
    let Some(foreign) = named.iter().find(|id| !own.contains(id)) else {
        return Ok(());
    };
    let reason =
        format!("names the stored secret {foreign}, which is not its own; send it as text");
    Err(Invalid::one(pointer, reason))
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
