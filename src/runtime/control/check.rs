//! Whether what is asked for can be used.

use std::fmt;

use super::{ControlError, Handle};
use crate::{
    delivery::check_proxy,
    filter::Filter,
    model::{Api, CallbackUrl, DeadLetterQueue, Invalid, Subscription},
};

/// Refuses a change of something that is no longer what whoever asks for it has read.
pub(super) fn unchanged<T: PartialEq>(
    present: &T,
    read: &T,
    what: fmt::Arguments<'_>,
) -> Result<(), ControlError> {
    if present == read {
        return Ok(());
    }
    Err(ControlError::Changed {
        what: what.to_string(),
    })
}

impl Handle {
    pub(super) fn check_api(&self, api: &Api) -> Result<(), ControlError> {
        api.validate()?;
        self.0.directory.check_unique(api)?;
        let mut invalid = Invalid::none();
        if let Some(url) = &api.entrypoint.callback_url {
            invalid.merge("/entrypoint/callbackUrl", self.allowed(url));
        }
        if let Some(proxy) = &api.entrypoint.proxy {
            invalid.merge("/entrypoint/proxy", check_proxy(proxy, &self.0.egress));
        }
        match &api.entrypoint.dlq {
            DeadLetterQueue::Http { url } => {
                invalid.merge("/entrypoint/dlq/url", self.allowed(url));
            }
            DeadLetterQueue::Api { api: target } => {
                let exists = self.0.directory.read().apis.contains_key(target);
                let reason = format!("there is no API {target}");
                invalid.check(exists, "/entrypoint/dlq/api", reason);
                let reason = "leads back to this API; its dead letters would go round for ever";
                let returns = self.0.directory.leads_back(*target, api.id);
                invalid.check(!returns, "/entrypoint/dlq/api", reason);
            }
            DeadLetterQueue::Embedded | DeadLetterQueue::None => {}
        }
        Ok(invalid.into_result()?)
    }

    pub(super) fn check_subscription(
        &self,
        subscription: &Subscription,
        api: &Api,
    ) -> Result<(), ControlError> {
        let mut invalid = Invalid::none();
        invalid.merge("/configuration", subscription.configuration.validate());
        let url = subscription.configuration.callback_url.as_ref();
        match url.or(api.entrypoint.callback_url.as_ref()) {
            Some(url) => invalid.merge("/configuration/callbackUrl", self.allowed(url)),
            None => invalid.check(
                false,
                "/configuration/callbackUrl",
                "is missing, and the entrypoint names none",
            ),
        }
        if let Some(filter) = &subscription.filter {
            invalid.merge("/filter", Filter::compile(filter).map(drop));
        }
        if let Some(endpoint) = subscription.configuration.auth.token_endpoint() {
            invalid.merge("/configuration/auth/endpoint", self.allowed(endpoint));
        }
        Ok(invalid.into_result()?)
    }

    fn allowed(&self, url: &CallbackUrl) -> Result<(), Invalid> {
        self.0
            .egress
            .check_url(url)
            .map_err(|blocked| Invalid::one("", blocked.to_string()))
    }

    /// Refuses to take away the callback URL that subscriptions inherit.
    pub(super) fn check_inherited(&self, api: &Api) -> Result<(), ControlError> {
        if api.entrypoint.callback_url.is_some() {
            return Ok(());
        }
        let things = self.0.directory.read();
        let mut owners = things.subscriptions.iter();
        let heir = owners.find(|(_, owner)| owner.api == api.id && owner.inherits_callback);
        let Some((heir, _)) = heir else {
            return Ok(());
        };
        let reason = format!("is inherited by subscription {heir}, which names none of its own");
        Err(Invalid::one("/entrypoint/callbackUrl", reason).into())
    }
}
