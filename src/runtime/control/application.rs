//! Creating and changing applications.

use super::{ControlError, Handle, check::unchanged};
use crate::{
    log::{ExpectedVersion, StreamId},
    model::{
        Application, ApplicationCreated, ApplicationDeleted, ApplicationId, ApplicationUpdated,
        Version,
    },
};

impl Handle {
    /// Creates an application. One without an id (all zeros) is given one.
    pub async fn create_application(
        &self,
        mut application: Application,
    ) -> Result<Application, ControlError> {
        if application.id.is_nil() {
            application.id = ApplicationId::from_moment(&self.0.clock.moment());
        }
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            handle.add_application(application.clone()).await?;
            Ok(application)
        })
        .await
    }

    pub(super) async fn add_application(
        &self,
        application: Application,
    ) -> Result<(), ControlError> {
        application.validate()?;
        let id = application.id;
        let event = ApplicationCreated {
            application: application.clone(),
        };
        let stream = StreamId::application(id);
        let version = self
            .append(stream, ExpectedVersion::NoStream, event)
            .await?
            .last_version;
        self.0
            .directory
            .write()
            .applications
            .insert(id, (application, version));
        Ok(())
    }

    /// Replaces the definition of an application.
    pub async fn update_application(&self, application: Application) -> Result<(), ControlError> {
        self.whole(|handle| async move { handle.replace_application(application).await })
            .await
    }

    /// As [`update_application`](Self::update_application), if the definition is still `before`.
    pub async fn update_application_from(
        &self,
        before: &Application,
        application: Application,
    ) -> Result<(), ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.application(application.id)?;
            unchanged(
                &present,
                &before,
                format_args!("application {}", application.id),
            )?;
            handle.replace_application_now(application).await
        })
        .await
    }

    async fn replace_application(&self, application: Application) -> Result<(), ControlError> {
        let _change = self.0.directory.change().await;
        self.replace_application_now(application).await
    }

    async fn replace_application_now(&self, application: Application) -> Result<(), ControlError> {
        application.validate()?;
        let id = application.id;
        let version = self.application_version(id)?;
        let event = ApplicationUpdated {
            application: application.clone(),
        };
        let expected = ExpectedVersion::Exact(version);
        let version = self
            .append(StreamId::application(id), expected, event)
            .await?
            .last_version;
        self.0
            .directory
            .write()
            .applications
            .insert(id, (application, version));
        Ok(())
    }

    /// Deletes an application that has no open subscription.
    pub async fn delete_application(&self, id: ApplicationId) -> Result<(), ControlError> {
        self.whole(move |handle| async move { handle.remove_application(id).await })
            .await
    }

    /// As [`delete_application`](Self::delete_application), if the definition is still `before`.
    pub async fn delete_application_from(&self, before: &Application) -> Result<(), ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.application(before.id)?;
            unchanged(&present, &before, format_args!("application {}", before.id))?;
            handle.remove_application_now(before.id).await
        })
        .await
    }

    async fn remove_application(&self, id: ApplicationId) -> Result<(), ControlError> {
        let _change = self.0.directory.change().await;
        self.remove_application_now(id).await
    }

    async fn remove_application_now(&self, id: ApplicationId) -> Result<(), ControlError> {
        let version = self.application_version(id)?;
        let by = {
            let things = self.0.directory.read();
            let mut owners = things.subscriptions.iter();
            owners
                .find(|(_, owner)| owner.application == id)
                .map(|(by, _)| *by)
        };
        if let Some(by) = by {
            return Err(ControlError::InUse {
                what: format!("application {id}"),
                by,
            });
        }
        let expected = ExpectedVersion::Exact(version);
        self.append(StreamId::application(id), expected, ApplicationDeleted {})
            .await?;
        self.0.directory.write().applications.remove(&id);
        Ok(())
    }

    /// An application.
    pub fn application(&self, id: ApplicationId) -> Result<Application, ControlError> {
        let things = self.0.directory.read();
        let found = things.applications.get(&id).map(|(found, _)| found.clone());
        found.ok_or(ControlError::UnknownApplication(id))
    }

    /// Every application, oldest first.
    pub fn applications(&self) -> Vec<Application> {
        let things = self.0.directory.read();
        let found = things.applications.values().map(|(found, _)| found.clone());
        let mut applications: Vec<_> = found.collect();
        applications.sort_by_key(|application| application.id);
        applications
    }

    pub(super) fn application_version(&self, id: ApplicationId) -> Result<Version, ControlError> {
        let things = self.0.directory.read();
        let found = things.applications.get(&id).map(|(_, version)| *version);
        found.ok_or(ControlError::UnknownApplication(id))
    }
}
