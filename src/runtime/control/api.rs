//! Creating and changing APIs.

use std::{collections::HashMap, sync::Arc};

use super::{super::directory::ApiEntry, ControlError, Handle, check::unchanged};
use crate::{
    log::{ExpectedVersion, StreamId},
    model::{
        Api, ApiCreated, ApiDeleted, ApiId, ApiStarted, ApiState, ApiStopped, ApiUpdated, Event,
        Version,
    },
    source::{Intake, IntakeOptions},
    vault::sealed_in_entrypoint,
};

impl Handle {
    /// Creates an API. One without an id (all zeros) is given one. Name and context path must be
    /// free.
    pub async fn create_api(&self, api: Api) -> Result<Api, ControlError> {
        self.whole(|handle| async move { handle.add_api(api).await })
            .await
    }

    async fn add_api(&self, mut api: Api) -> Result<Api, ControlError> {
        let _change = self.0.directory.change().await;
        if api.id.is_nil() {
            api.id = ApiId::from_moment(&self.0.clock.moment());
        }
        self.check_api(&api)?;
        let sealing = self.seal_api(&mut api, None).await?;
        let event = ApiCreated {
            api: Box::new(api.clone()),
        };
        let stream = StreamId::api(api.id);
        let appended = self.append(stream, ExpectedVersion::NoStream, event).await;
        let version = self.kept(sealing, appended).await?.last_version;
        let shared = Arc::new(api.clone());
        let intake = Intake::new(IntakeOptions {
            log: self.0.log.clone(),
            clock: Arc::clone(&self.0.clock),
            api: Arc::clone(&shared),
            activity: self.0.activity.clone(),
            offsets: HashMap::new(),
        });
        let run = self.0.as_run(&shared);
        // First: a message that a source brings at once wakes nobody who is not known.
        let registry = &self.0.registry;
        registry.add_api(Arc::clone(&run), Version::ZERO, None);
        self.0.sources.update(&run, intake.clone());
        let entry = ApiEntry {
            api: shared,
            version,
            intake,
        };
        self.0.directory.write().apis.insert(api.id, entry);
        Ok(api)
    }

    /// Replaces the definition of an API, its state apart. Its subscriptions make their next call
    /// under it.
    pub async fn update_api(&self, api: Api) -> Result<Api, ControlError> {
        self.whole(|handle| async move { handle.replace_api(api).await })
            .await
    }

    /// As [`update_api`](Self::update_api), if the definition is still `before`.
    pub async fn update_api_from(&self, before: &Api, api: Api) -> Result<Api, ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.0.directory.api(api.id)?.api;
            unchanged(present.as_ref(), &before, format_args!("API {}", api.id))?;
            handle.replace_api_now(api).await
        })
        .await
    }

    async fn replace_api(&self, api: Api) -> Result<Api, ControlError> {
        let _change = self.0.directory.change().await;
        self.replace_api_now(api).await
    }

    async fn replace_api_now(&self, mut api: Api) -> Result<Api, ControlError> {
        let entry = self.0.directory.api(api.id)?;
        // It is started and stopped by events of their own.
        api.state = entry.api.state;
        self.check_api(&api)?;
        self.check_inherited(&api)?;
        let sealing = self.seal_api(&mut api, Some(&entry.api)).await?;
        let event = ApiUpdated {
            api: Box::new(api.clone()),
        };
        let held = sealed_in_entrypoint(&entry.api.entrypoint);
        let changed = self.change_api(entry, event, api.clone()).await;
        self.kept(sealing, changed).await?;
        let now = sealed_in_entrypoint(&api.entrypoint);
        self.replaced(*api.id.as_uuid(), held, &now).await;
        Ok(api)
    }

    /// Starts an API: messages are taken in. Nothing happens when it runs.
    pub async fn start_api(&self, id: ApiId) -> Result<(), ControlError> {
        self.whole(move |handle| async move { handle.set_state(id, ApiState::Started).await })
            .await
    }

    /// Stops an API: messages are refused, and what was accepted waits. Calls in flight end.
    pub async fn stop_api(&self, id: ApiId) -> Result<(), ControlError> {
        self.whole(move |handle| async move { handle.set_state(id, ApiState::Stopped).await })
            .await
    }

    async fn set_state(&self, id: ApiId, state: ApiState) -> Result<(), ControlError> {
        let _change = self.0.directory.change().await;
        let entry = self.0.directory.api(id)?;
        if entry.api.state == state {
            return Ok(());
        }
        let api = Api {
            state,
            ..Api::clone(&entry.api)
        };
        let event: Event = match state {
            ApiState::Started => ApiStarted {}.into(),
            ApiState::Stopped => ApiStopped {}.into(),
        };
        self.change_api(entry, event, api).await
    }

    async fn change_api(
        &self,
        mut entry: ApiEntry,
        event: impl Into<Event>,
        api: Api,
    ) -> Result<(), ControlError> {
        let expected = ExpectedVersion::Exact(entry.version);
        let appended = self.append(StreamId::api(api.id), expected, event).await?;
        entry.version = appended.last_version;
        entry.api = Arc::new(api);
        entry.intake.update(Arc::clone(&entry.api));
        let run = self.0.as_run(&entry.api);
        self.0.sources.update(&run, entry.intake.clone());
        self.0.registry.update_api(run, appended.last);
        self.0.directory.write().apis.insert(entry.api.id, entry);
        Ok(())
    }

    /// Deletes an API that no open subscription uses. Its messages stay in the log until
    /// retention; its dead letters are counted no more.
    pub async fn delete_api(&self, id: ApiId) -> Result<(), ControlError> {
        self.whole(move |handle| async move { handle.remove_api(id).await })
            .await
    }

    /// As [`delete_api`](Self::delete_api), if the definition is still `before`.
    pub async fn delete_api_from(&self, before: &Api) -> Result<(), ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.0.directory.api(before.id)?.api;
            unchanged(present.as_ref(), &before, format_args!("API {}", before.id))?;
            handle.remove_api_now(before.id).await
        })
        .await
    }

    async fn remove_api(&self, id: ApiId) -> Result<(), ControlError> {
        let _change = self.0.directory.change().await;
        self.remove_api_now(id).await
    }

    async fn remove_api_now(&self, id: ApiId) -> Result<(), ControlError> {
        let entry = self.0.directory.api(id)?;
        let by = {
            let things = self.0.directory.read();
            things
                .subscriptions
                .iter()
                .find(|(_, owner)| owner.api == id)
                .map(|(by, _)| *by)
        };
        if let Some(by) = by {
            return Err(ControlError::InUse {
                what: format!("API {id}"),
                by,
            });
        }
        if let Some(by) = self.0.directory.sends_dead_letters_to(id) {
            return Err(ControlError::IsDeadLetterQueue { api: id, by });
        }
        if let Some(by) = self.0.registry.forwards_of(id).await? {
            return Err(ControlError::Forwards { api: id, by });
        }
        let expected = ExpectedVersion::Exact(entry.version);
        self.append(StreamId::api(id), expected, ApiDeleted {})
            .await?;
        self.0.sources.remove(id);
        self.0.registry.remove_api(id);
        self.0.directory.write().apis.remove(&id);
        Ok(())
    }

    /// An API.
    pub fn api(&self, id: ApiId) -> Result<Arc<Api>, ControlError> {
        Ok(self.0.directory.api(id)?.api)
    }

    /// Every API, oldest first.
    pub fn apis(&self) -> Vec<Arc<Api>> {
        let things = self.0.directory.read();
        let mut apis: Vec<_> = things.apis.values().map(|e| Arc::clone(&e.api)).collect();
        apis.sort_by_key(|api| api.id);
        apis
    }

    /// The API whose entrypoint has this context path.
    pub fn api_at(&self, context_path: &str) -> Option<Arc<Api>> {
        let things = self.0.directory.read();
        let mut apis = things.apis.values().map(|entry| &entry.api);
        let found = apis.find(|api| api.entrypoint.context_path == context_path);
        found.cloned()
    }

    /// The context path that a path lies under, if it lies under one.
    pub fn context_of(&self, path: &str) -> Option<String> {
        let things = self.0.directory.read();
        let contexts = things
            .apis
            .values()
            .map(|entry| &entry.api.entrypoint.context_path);
        let under = |context: &&String| {
            let rest = path.strip_prefix(context.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        contexts
            .filter(under)
            .max_by_key(|context| context.len())
            .cloned()
    }
}
