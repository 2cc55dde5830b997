//! Creating and changing APIs, applications and subscriptions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{
    ControlError, Handle,
    directory::{ApiEntry, owner},
};
use crate::{
    actor::ExecuteError,
    delivery::{check_configuration, check_proxy},
    log::{Appended, ExpectedVersion, StreamId, Urgency},
    model::{
        Api, ApiCreated, ApiDeleted, ApiId, ApiStarted, ApiState, ApiStopped, ApiUpdated,
        Application, ApplicationCreated, ApplicationDeleted, ApplicationId, ApplicationUpdated,
        CallbackUrl, DeadLetterQueue, DeliveryId, Event, Invalid, Policy, Position, StartFrom,
        Subscription, SubscriptionId, Version,
    },
    projection::deliveries::{DeliveryOutcome, DeliveryRow},
    source::{Intake, IntakeOptions},
    subscription::{Command, PastDelivery, Rejection, SubscriptionState, apply, decide},
};

/// How long a command waits for the webhook log to show everything that is in the event log.
const VIEW_WAIT: Duration = Duration::from_secs(10);

impl Handle {
    /// Creates an API. One without an id (all zeros) is given one. Name and context path must be
    /// free.
    pub async fn create_api(&self, mut api: Api) -> Result<Api, ControlError> {
        let _change = self.0.directory.change().await;
        if api.id.as_uuid().is_nil() {
            api.id = ApiId::from_moment(&self.0.clock.moment());
        }
        self.check_api(&api)?;
        self.seal_api(&mut api).await?;
        let event = ApiCreated {
            api: Box::new(api.clone()),
        };
        let stream = StreamId::api(api.id);
        let version = self
            .append(stream, ExpectedVersion::NoStream, event)
            .await?
            .last_version;
        let shared = Arc::new(api.clone());
        let intake = Intake::new(IntakeOptions {
            log: self.0.log.clone(),
            clock: Arc::clone(&self.0.clock),
            api: Arc::clone(&shared),
            activity: self.0.activity.clone(),
            offsets: HashMap::new(),
        });
        self.0.registry.add_api(Arc::clone(&shared), Version::ZERO);
        self.0.sources.update(&api, intake.clone());
        let entry = ApiEntry {
            api: shared,
            version,
            intake,
        };
        self.0.directory.write().apis.insert(api.id, entry);
        Ok(api)
    }

    /// Replaces the definition of an API. Its subscriptions make their next call under it.
    pub async fn update_api(&self, mut api: Api) -> Result<Api, ControlError> {
        let _change = self.0.directory.change().await;
        let entry = self.0.directory.api(api.id)?;
        self.check_api(&api)?;
        self.seal_api(&mut api).await?;
        let event = ApiUpdated {
            api: Box::new(api.clone()),
        };
        self.change_api(entry, event, api.clone()).await?;
        Ok(api)
    }

    /// Starts an API: messages are taken in. Nothing happens when it runs.
    pub async fn start_api(&self, id: ApiId) -> Result<(), ControlError> {
        self.set_state(id, ApiState::Started).await
    }

    /// Stops an API: messages are refused, and what was accepted waits. Calls in flight end.
    pub async fn stop_api(&self, id: ApiId) -> Result<(), ControlError> {
        self.set_state(id, ApiState::Stopped).await
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
        entry.version = self
            .append(StreamId::api(api.id), expected, event)
            .await?
            .last_version;
        entry.api = Arc::new(api);
        entry.intake.update(Arc::clone(&entry.api));
        self.0.registry.update_api(Arc::clone(&entry.api));
        self.0.sources.update(&entry.api, entry.intake.clone());
        self.0.directory.write().apis.insert(entry.api.id, entry);
        Ok(())
    }

    /// Deletes an API that no open subscription uses. Its messages stay in the log until
    /// retention.
    pub async fn delete_api(&self, id: ApiId) -> Result<(), ControlError> {
        let _change = self.0.directory.change().await;
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
        let expected = ExpectedVersion::Exact(entry.version);
        self.append(StreamId::api(id), expected, ApiDeleted {})
            .await?;
        self.0.sources.remove(id);
        self.0.registry.remove_api(id);
        self.0.directory.write().apis.remove(&id);
        Ok(())
    }

    /// Creates an application. One without an id (all zeros) is given one.
    pub async fn create_application(
        &self,
        mut application: Application,
    ) -> Result<Application, ControlError> {
        let _change = self.0.directory.change().await;
        if application.id.as_uuid().is_nil() {
            application.id = ApplicationId::from_moment(&self.0.clock.moment());
        }
        self.add_application(application.clone()).await?;
        Ok(application)
    }

    async fn add_application(&self, application: Application) -> Result<(), ControlError> {
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
        let _change = self.0.directory.change().await;
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
        let _change = self.0.directory.change().await;
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

    fn application_version(&self, id: ApplicationId) -> Result<Version, ControlError> {
        let things = self.0.directory.read();
        let found = things.applications.get(&id).map(|(_, version)| *version);
        found.ok_or(ControlError::UnknownApplication(id))
    }

    /// Subscribes to an API. One without an id (all zeros) is given one; one without an
    /// application belongs to the application `default`, which is made when it is missing.
    pub async fn subscribe(
        &self,
        api: ApiId,
        mut subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        let _change = self.0.directory.change().await;
        let entry = self.0.directory.api(api)?;
        let moment = self.0.clock.moment();
        subscription.api = api;
        if subscription.id.as_uuid().is_nil() {
            subscription.id = SubscriptionId::from_moment(&moment);
        }
        subscription.application = self.application_of(&subscription).await?;
        subscription.validate()?;
        self.check_subscription(&subscription, &entry.api)?;
        let cursor = self.first_cursor(api, subscription.start_from).await?;
        self.seal_subscription(&mut subscription).await?;

        let mut state = SubscriptionState::new(subscription.id);
        let policy = Policy::of(&entry.api.entrypoint, &subscription.configuration);
        let command = Command::Create {
            subscription: Box::new(subscription.clone()),
            cursor,
        };
        let events = decide(&state, command, &policy, &moment).map_err(ExecuteError::Rejected)?;
        for event in &events {
            apply(&mut state, event);
        }
        let stream = StreamId::subscription(subscription.id);
        let events = events.into_iter().map(Event::from).collect();
        let append = self
            .0
            .log
            .append(stream, ExpectedVersion::NoStream, events, Urgency::Now);
        let version = append.await?.last_version;
        let mut things = self.0.directory.write();
        things
            .subscriptions
            .insert(subscription.id, owner(&subscription));
        drop(things);
        self.0.registry.spawn(state, version);
        Ok(subscription)
    }

    async fn application_of(
        &self,
        subscription: &Subscription,
    ) -> Result<ApplicationId, ControlError> {
        const DEFAULT: &str = "default";
        let id = subscription.application;
        if !id.as_uuid().is_nil() {
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
        mut subscription: Subscription,
    ) -> Result<Subscription, ControlError> {
        let owner = self.0.directory.owner(subscription.id)?;
        let entry = self.0.directory.api(owner.api)?;
        self.check_subscription(&subscription, &entry.api)?;
        self.seal_subscription(&mut subscription).await?;
        let command = Command::Update {
            subscription: Box::new(subscription.clone()),
        };
        self.command(subscription.id, command).await?;
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
        let position = self
            .command(
                id,
                Command::Reject {
                    reason: reason.into(),
                },
            )
            .await?;
        self.forget(id);
        Ok(position)
    }

    /// Lets a subscription's messages wait. A call in flight ends as it ends.
    pub async fn pause(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Pause).await
    }

    /// Goes on after a pause.
    pub async fn resume_subscription(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::Resume).await
    }

    /// Goes on after an interruption; what could not be delivered gets a fresh budget.
    pub async fn resume_failure(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        self.command(id, Command::ResumeFailure).await
    }

    /// Ends a subscription. What waits for a retry is discarded, on record.
    pub async fn close(&self, id: SubscriptionId) -> Result<Position, ControlError> {
        let position = self
            .command(
                id,
                Command::Close {
                    in_flight: Vec::new(),
                },
            )
            .await?;
        self.forget(id);
        Ok(position)
    }

    /// Makes a past delivery again, whatever its fate was, with the original bytes and
    /// `webhook-id` and a fresh budget.
    pub async fn redeliver(&self, id: DeliveryId) -> Result<Position, ControlError> {
        let (row, past) = self.past_delivery(id).await?;
        self.command(
            row.subscription,
            Command::Redeliver {
                message: row.message,
                past,
            },
        )
        .await
    }

    /// Drops a dead letter, or a delivery that waits for a retry.
    pub async fn discard(&self, id: DeliveryId) -> Result<Position, ControlError> {
        let (row, past) = self.past_delivery(id).await?;
        if !matches!(
            row.outcome,
            DeliveryOutcome::Retrying | DeliveryOutcome::DeadLettered
        ) {
            return Err(ExecuteError::from(Rejection::Ended(row.message)).into());
        }
        let command = Command::Discard {
            message: row.message,
            past,
            in_flight: false,
        };
        self.command(row.subscription, command).await
    }

    /// What the webhook log tells of a delivery, everything that is in the log by now included.
    async fn past_delivery(
        &self,
        id: DeliveryId,
    ) -> Result<(DeliveryRow, PastDelivery), ControlError> {
        let deliveries = self.deliveries();
        let deliveries = deliveries.at(self.0.log.head(), VIEW_WAIT).await?;
        let row = deliveries
            .delivery(id)?
            .ok_or(ControlError::UnknownDelivery(id))?;
        let past = PastDelivery {
            attempts: row.attempts,
            status: row.status,
            error: row.error.clone(),
        };
        Ok((row, past))
    }

    async fn command(
        &self,
        id: SubscriptionId,
        command: Command,
    ) -> Result<Position, ControlError> {
        self.0.directory.owner(id)?;
        Ok(self.0.registry.execute(id, command).await?)
    }

    /// A subscription that is over counts for no deletion any more. Its actor stays until the next
    /// start, so what is in flight can end.
    fn forget(&self, id: SubscriptionId) {
        self.0.directory.write().subscriptions.remove(&id);
    }

    fn check_api(&self, api: &Api) -> Result<(), ControlError> {
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

    fn check_subscription(
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
        Ok(invalid.into_result()?)
    }

    fn allowed(&self, url: &CallbackUrl) -> Result<(), Invalid> {
        self.0
            .egress
            .check_url(url)
            .map_err(|blocked| Invalid::one("", blocked.to_string()))
    }

    async fn seal_api(&self, api: &mut Api) -> Result<(), ControlError> {
        if api.entrypoint.proxy.is_none() {
            return Ok(());
        }
        let vault = Arc::clone(&self.0.vault);
        let mut entrypoint = api.entrypoint.clone();
        let sealed = spawn_blocking(move || {
            vault
                .seal_entrypoint(&mut entrypoint)
                .map(|_sealing| entrypoint)
        });
        api.entrypoint = joined(sealed.await)?;
        Ok(())
    }

    /// Puts the secrets of a subscription away, if they can be used: a key that cannot would make
    /// every call fail.
    async fn seal_subscription(&self, subscription: &mut Subscription) -> Result<(), ControlError> {
        let vault = Arc::clone(&self.0.vault);
        let mut configuration = subscription.configuration.clone();
        let sealed = spawn_blocking(move || -> Result<_, ControlError> {
            check_configuration(&configuration, &*vault)
                .map_err(|invalid| invalid.under("/configuration"))?;
            let _sealing = vault.seal_configuration(&mut configuration)?;
            Ok(configuration)
        });
        subscription.configuration = joined(sealed.await)?;
        Ok(())
    }

    /// The version before the first message that a subscription gets.
    async fn first_cursor(&self, api: ApiId, start: StartFrom) -> Result<Version, ControlError> {
        let stream = StreamId::messages(api);
        let head = self.0.log.stream_version(stream);
        let position = match start {
            StartFrom::Now => return Ok(head),
            StartFrom::Beginning => return Ok(Version::ZERO),
            StartFrom::Position(position) => position,
            StartFrom::Time(time) => {
                let log = self.0.log.clone();
                joined(spawn_blocking(move || log.position_at(time)).await)?
            }
        };
        // The first version whose message stands at or after that position, by halving.
        let (mut low, mut high) = (Version::ZERO, head);
        while low < high {
            let middle = Version::new(low.get() + (high.get() - low.get()) / 2);
            let found = self.0.log.read_stream_async(stream, middle, 1).await;
            match found {
                Ok(found) if found.first().is_some_and(|first| first.position < position) => {
                    low = middle.next();
                }
                Ok(_) => high = middle,
                // What retention cut stands before everything that is kept.
                Err(crate::log::ReadError::StreamGone { .. }) => low = middle.next(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(low)
    }

    async fn append(
        &self,
        stream: StreamId,
        expected: ExpectedVersion,
        event: impl Into<Event>,
    ) -> Result<Appended, ControlError> {
        let events = vec![event.into()];
        Ok(self
            .0
            .log
            .append(stream, expected, events, Urgency::Now)
            .await?)
    }
}

/// The answer of a blocking task; its panic goes on here.
fn joined<T, E: Into<ControlError>>(
    answer: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, ControlError> {
    match answer {
        Ok(answer) => answer.map_err(Into::into),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
