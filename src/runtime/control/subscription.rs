//! Creating, changing and ending subscriptions.

use super::{super::directory::owner, ControlError, Handle, check::unchanged};
use crate::{
    actor::ExecuteError,
    log::{ExpectedVersion, StreamId, Urgency},
    model::{
        Api, ApiId, Application, ApplicationId, Event, Moment, Policy, Position, StartFrom,
        Subscription, SubscriptionId, Version,
    },
    subscription::{Command, SubscriptionState, apply, decide},
    vault::sealed_secrets,
};

impl Handle {
    /// Subscribes to an API. One without an id (all zeros) is given one; one without an
    /// application belongs to the application `default`, which is made when it is missing.
    pub async fn subscribe(
        &self,
        api: ApiId,
        subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        self.whole(move |handle| async move { handle.add_subscription(api, subscription).await })
            .await
    }

    async fn add_subscription(
        &self,
        api: ApiId,
        mut subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        let _change = self.0.directory.change().await;
        let entry = self.0.directory.api(api)?;
        let moment = self.0.clock.moment();
        subscription.api = api;
        if subscription.id.is_nil() {
            subscription.id = SubscriptionId::from_moment(&moment);
        }
        subscription.validate()?;
        self.check_subscription(&subscription, &entry.api)?;
        // Last, because it may create something.
        subscription.application = self.application_of(&subscription).await?;
        let cursor = self.first_cursor(api, subscription.start_from).await?;
        let sealing = self.seal_subscription(&mut subscription, None).await?;
        let begun = self.begin_subscription(&entry.api, &subscription, cursor, &moment);
        let (state, version) = self.kept(sealing, begun.await).await?;
        let mut things = self.0.directory.write();
        things
            .subscriptions
            .insert(subscription.id, owner(&subscription));
        drop(things);
        self.0.registry.spawn(state, version, None);
        Ok(subscription)
    }

    /// Puts a new subscription on record.
    async fn begin_subscription(
        &self,
        api: &Api,
        subscription: &Subscription,
        cursor: Version,
        moment: &Moment,
    ) -> Result<(SubscriptionState, Version), ControlError> {
        let mut state = SubscriptionState::new(subscription.id);
        let policy = Policy::of(&api.entrypoint, &subscription.configuration);
        let command = Command::Create {
            subscription: Box::new(subscription.clone()),
            cursor,
        };
        let events = decide(&state, command, &policy, moment).map_err(ExecuteError::Rejected)?;
        for event in &events {
            apply(&mut state, event);
        }
        let stream = StreamId::subscription(subscription.id);
        let events = events.into_iter().map(Event::from).collect();
        let append = self
            .0
            .log
            .append(stream, ExpectedVersion::NoStream, events, Urgency::Now);
        Ok((state, append.await?.last_version))
    }

    async fn application_of(
        &self,
        subscription: &Subscription,
    ) -> Result<ApplicationId, ControlError> {
        const DEFAULT: &str = "default";
        let id = subscription.application;
        if !id.is_nil() {
            return self.application_version(id).map(|_| id);
        }
        let found = {
            let things = self.0.directory.read();
            let mut applications = things.applications.values();
            applications
                .find(|(a, _)| a.name == DEFAULT)
                .map(|(a, _)| a.id)
        };
        if let Some(id) = found {
            return Ok(id);
        }
        let mut application = Application::named(DEFAULT);
        application.id = ApplicationId::from_moment(&self.0.clock.moment());
        let id = application.id;
        self.add_application(application).await?;
        Ok(id)
    }

    /// Replaces the definition of a subscription. Its next call is made under it.
    pub async fn update_subscription(
        &self,
        subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            handle.replace_subscription(subscription).await
        })
        .await
    }

    /// As [`update_subscription`](Self::update_subscription), if the definition is still `before`.
    pub async fn update_subscription_from(
        &self,
        before: &Subscription,
        subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.subscription(subscription.id).await?;
            unchanged(
                &present,
                &before,
                format_args!("subscription {}", subscription.id),
            )?;
            handle.replace_subscription(subscription).await
        })
        .await
    }

    /// How many subscriptions an application has on an API, those that are over apart.
    pub fn open_subscriptions(&self, api: ApiId, application: ApplicationId) -> usize {
        let things = self.0.directory.read();
        let owners = things.subscriptions.values();
        owners
            .filter(|owner| owner.api == api && owner.application == application)
            .count()
    }

    /// The definition of a subscription that is not over.
    pub async fn subscription(&self, id: SubscriptionId) -> Result<Subscription, ControlError> {
        self.0.directory.owner(id)?;
        let found = self.inspect(id).await?.state.subscription;
        found.map_or(Err(ControlError::UnknownSubscription(id)), |found| {
            Ok(*found)
        })
    }

    pub(super) async fn replace_subscription(
        &self,
        mut subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        let entry = self.0.directory.owner(subscription.id)?;
        let entry = self.0.directory.api(entry.api)?;
        self.check_subscription(&subscription, &entry.api)?;
        let before = self.inspect(subscription.id).await?.state.subscription;
        let sealing = self
            .seal_subscription(&mut subscription, before.as_deref())
            .await?;
        let command = Command::Update {
            subscription: Box::new(subscription.clone()),
        };
        let replaced = self.command(subscription.id, command).await;
        self.kept(sealing, replaced).await?;
        let sealed = |subscription: &Subscription| sealed_secrets(&subscription.configuration);
        let held = before.as_deref().map_or_else(Vec::new, sealed);
        let owner_id = *subscription.id.as_uuid();
        self.replaced(owner_id, held, &sealed(&subscription)).await;
        let mut things = self.0.directory.write();
        if let Some(known) = things.subscriptions.get_mut(&subscription.id) {
            *known = owner(&subscription);
        }
        drop(things);
        Ok(subscription)
    }

    /// Accepts a pending subscription.
    pub async fn accept(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Accept).await
    }

    /// Refuses a pending subscription.
    pub async fn reject(
        &self,
        id: SubscriptionId,
        reason: impl Into<String> + Send,
    ) -> Result<Position, ControlError> {
        let reason = reason.into();
        self.end(id, Command::Reject { reason }).await
    }

    /// Lets a subscription's messages wait. A call in flight ends as it ends.
    pub async fn pause(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Pause).await
    }

    /// Goes on after a pause.
    pub async fn resume_subscription(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Resume).await
    }

    /// Stops a subscription on its consumer's side: its messages wait until
    /// [`resume_failure`](Self::resume_failure), whatever the publisher's side does.
    pub async fn stop_by_consumer(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Stop).await
    }

    /// Lets a pending subscription not begin when it is accepted: until
    /// [`resume_failure`](Self::resume_failure) it is as if its consumer had stopped it.
    #[cfg(feature = "server")]
    pub(crate) async fn withhold(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Withhold).await
    }

    /// Goes on after an interruption; what could not be delivered gets a fresh budget.
    pub async fn resume_failure(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::ResumeFailure).await
    }

    /// Ends a subscription. What waits for a retry is discarded, on record.
    pub async fn close(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        let in_flight = Vec::new();
        self.end(id, Command::Close { in_flight }).await
    }

    /// As [`close`](Self::close), if the definition is still `before`.
    pub async fn close_from(&self, before: &Subscription) -> Result<Position, ControlError> {
        let before = before.clone();
        self.whole(|handle| async move {
            let _change = handle.0.directory.change().await;
            let present = handle.subscription(before.id).await?;
            unchanged(
                &present,
                &before,
                format_args!("subscription {}", before.id),
            )?;
            let in_flight = Vec::new();
            let command = Command::Close { in_flight };
            handle.end_now(before.id, command).await
        })
        .await
    }

    /// Carries out a command after which the subscription is over. It then counts for no deletion
    /// any more; its actor ends once what is in flight has ended.
    async fn end(&self, id: SubscriptionId, command: Command) -> Result<Position, ControlError> {
        self.whole(move |handle| async move { handle.end_now(id, command).await })
            .await
    }

    async fn end_now(
        &self,
        id: SubscriptionId,
        command: Command,
    ) -> Result<Position, ControlError> {
        let held = self.secrets_of(id).await;
        let position = self.command(id, command).await?;
        self.0.directory.write().subscriptions.remove(&id);
        self.forget_secrets(id, held);
        Ok(position)
    }

    /// The version before the first message that a subscription gets.
    pub(in crate::runtime) async fn first_cursor(
        &self,
        api: ApiId,
        start: StartFrom,
    ) -> Result<Version, ControlError> {
        let stream = StreamId::messages(api);
        match start {
            StartFrom::Now => Ok(self.0.log.stream_version(stream)),
            StartFrom::Beginning => Ok(Version::ZERO),
            StartFrom::Position(position) => self.version_before(stream, position).await,
            StartFrom::Time(time) => {
                let position = self.position_at(time).await?;
                self.version_before(stream, position).await
            }
        }
    }
}
