//! What there is right now: APIs, applications, and whose each subscription is.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{ControlError, recovery::Recovered};
use crate::{
    model::{
        Api, ApiId, Application, ApplicationId, DeadLetterQueue, Invalid, Subscription,
        SubscriptionId, Version,
    },
    source::Intake,
};

/// An API that runs.
#[derive(Clone)]
pub(super) struct ApiEntry {
    /// Its definition.
    pub(super) api: Arc<Api>,
    /// The last version of its stream.
    pub(super) version: Version,
    /// The way in for its messages.
    pub(super) intake: Intake,
}

/// Whose a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The API it is on.
    pub(super) api: ApiId,
    /// The application it is of.
    pub(super) application: ApplicationId,
    /// Whether it is called at the callback URL of its API's entrypoint.
    pub(super) inherits_callback: bool,
}

#[derive(Default)]
pub(super) struct Things {
    pub(super) apis: HashMap<ApiId, ApiEntry>,
    pub(super) applications: HashMap<ApplicationId, (Application, Version)>,
    pub(super) subscriptions: HashMap<SubscriptionId, Owner>,
}

/// What there is right now. Reads take a short lock; changes are made one at a time by whoever
/// holds [`change`](Self::change), so that what was checked still holds when it is written.
#[derive(Default)]
pub(super) struct Directory {
    things: RwLock<Things>,
    changing: tokio::sync::Mutex<()>,
}

impl Directory {
    /// Waits for the right to change something.
    pub(super) async fn change(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Things> {
        self.things.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Things> {
        self.things.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn api(&self, id: ApiId) -> Result<ApiEntry, ControlError> {
        self.read()
            .apis
            .get(&id)
            .cloned()
            .ok_or(ControlError::UnknownApi(id))
    }

    pub(super) fn owner(&self, id: SubscriptionId) -> Result<Owner, ControlError> {
        let owner = self.read().subscriptions.get(&id).copied();
        owner.ok_or(ControlError::UnknownSubscription(id))
    }

    /// Refuses an API whose name or context path another has.
    pub(super) fn check_unique(&self, api: &Api) -> Result<(), ControlError> {
        let things = self.read();
        let mut invalid = Invalid::none();
        let others = || {
            things
                .apis
                .values()
                .map(|entry| &entry.api)
                .filter(|o| o.id != api.id)
        };
        if let Some(other) = others().find(|other| other.name == api.name) {
            invalid.check(
                false,
                "/name",
                format!("{:?} is the name of API {}", api.name, other.id),
            );
        }
        let path = &api.entrypoint.context_path;
        if let Some(other) = others().find(|other| overlap(&other.entrypoint.context_path, path)) {
            invalid.check(
                false,
                "/entrypoint/contextPath",
                format!("{path:?} is taken by API {:?}", other.name),
            );
        }
        Ok(invalid.into_result()?)
    }

    /// Whether dead letters that go to the API `from` come to `to` in the end.
    pub(super) fn leads_back(&self, from: ApiId, to: ApiId) -> bool {
        let things = self.read();
        let mut at = from;
        // No chain of different APIs is longer than there are APIs.
        for _ in 0..=things.apis.len() {
            if at == to {
                return true;
            }
            let next = things.apis.get(&at).map(|entry| &entry.api.entrypoint.dlq);
            let Some(DeadLetterQueue::Api { api }) = next else {
                return false;
            };
            at = *api;
        }
        false
    }

    /// Another API whose dead letters go to this one.
    pub(super) fn sends_dead_letters_to(&self, id: ApiId) -> Option<ApiId> {
        let things = self.read();
        let mut apis = things.apis.values().map(|entry| &entry.api);
        let sends =
            apis.find(|api| api.id != id && api.entrypoint.dlq == DeadLetterQueue::Api { api: id });
        sends.map(|api| api.id)
    }

    /// Takes over what was recovered.
    pub(super) fn fill(&self, recovered: &Recovered, intakes: HashMap<ApiId, Intake>) {
        let mut things = self.write();
        for (id, intake) in intakes {
            if let Some(api) = recovered.apis.get(&id) {
                let entry = ApiEntry {
                    api: Arc::clone(&api.api),
                    version: api.version,
                    intake,
                };
                things.apis.insert(id, entry);
            }
        }
        things.applications.clone_from(&recovered.applications);
        let open = recovered.subscriptions.iter();
        for (id, subscription) in open.filter(|(_, open)| !open.state.is_over()) {
            if let Some(definition) = &subscription.state.subscription {
                things.subscriptions.insert(*id, owner(definition));
            }
        }
    }
}

/// Whose this subscription is.
pub(super) const fn owner(subscription: &Subscription) -> Owner {
    Owner {
        api: subscription.api,
        application: subscription.application,
        inherits_callback: subscription.configuration.callback_url.is_none(),
    }
}

/// Whether one of two context paths is reached under the other.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
    let under = |longer: &str, shorter: &str| {
        longer
            .strip_prefix(shorter)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under(a, b) || under(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_paths_overlap_by_whole_parts() {
        assert!(overlap("/a", "/a/"));
        assert!(overlap("/a", "/a/b"));
        assert!(!overlap("/a", "/ab"));
    }
}
