//! Carrying a plan out.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    overlay,
    plan::{Plan, PlannedApi, PlannedApplication, PlannedSubscription},
};
use crate::{
    delivery::Egress,
    model::{Api, ConsumerStatus, SubscriptionId, SubscriptionStatus},
    projection::{View, subscriptions::Subscriptions},
    runtime::{ControlError, Handle},
};

/// How long the view of what there is may lag behind.
const VIEW_WAIT: Duration = Duration::from_secs(30);

/// What became of one thing of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Created,
    /// It was there, and is now as the plan says of what Gravitee has a word for.
    Updated,
    /// It was there, and the plan says nothing of it but that it is.
    Kept,
}

/// Where a plan can be carried out: a gateway in this process, or one that is called.
pub trait Target: Sync {
    /// Why something could not be done.
    type Error: fmt::Display;

    /// Creates the API, or changes of the one with its id what Gravitee has a word for.
    fn put_api(
        &self,
        planned: &PlannedApi,
    ) -> impl Future<Output = Result<Change, Self::Error>> + Send;

    /// Creates the application, or changes the one with its id if the plan describes it.
    fn put_application(
        &self,
        planned: &PlannedApplication,
    ) -> impl Future<Output = Result<Change, Self::Error>> + Send;

    /// Creates the subscription, or changes of the one with its id what Gravitee has a word for;
    /// pauses it where that is planned. One that is pending, and so cannot be paused, is stopped, so
    /// that it does not begin when it is accepted.
    fn put_subscription(
        &self,
        planned: &PlannedSubscription,
    ) -> impl Future<Output = Result<Change, Self::Error>> + Send;
}

/// One thing of a plan that was carried out, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// `api`, `application` or `subscription`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Its name; a subscription's is its callback URL.
    pub name: String,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Why nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Everything of a plan, in the order it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Applied {
    /// One for each thing of the plan.
    pub done: Vec<Done>,
}

impl Applied {
    /// Those that could not be carried out.
    pub fn failures(&self) -> impl Iterator<Item = &Done> {
        self.done.iter().filter(|done| done.error.is_some())
    }

    fn add(
        &mut self,
        kind: &'static str,
        id: impl fmt::Display,
        name: &str,
        result: Result<Change, impl fmt::Display>,
    ) {
        let (change, error) = match result {
            Ok(change) => (Some(change), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (id, name) = (id.to_string(), name.to_owned());
        self.done.push(Done {
            kind,
            id,
            name,
            change,
            error,
        });
    }
}

/// Carries a plan out: APIs, then applications, then subscriptions. What fails is reported, and
/// the rest goes on.
pub async fn apply<T: Target>(plan: &Plan, target: &T) -> Applied {
    let mut applied = Applied::default();
    for planned in &plan.apis {
        let result = target.put_api(planned).await;
        applied.add("api", planned.api.id, &planned.api.name, result);
    }
    for planned in &plan.applications {
        let result = target.put_application(planned).await;
        let application = &planned.application;
        applied.add("application", application.id, &application.name, result);
    }
    for planned in &plan.subscriptions {
        let result = target.put_subscription(planned).await;
        let subscription = &planned.subscription;
        let url = subscription.configuration.callback_url.as_ref();
        let name = url
            .map(|url| url.redacted().to_string())
            .unwrap_or_default();
        applied.add("subscription", subscription.id, &name, result);
    }
    applied
}

/// What a runtime that takes in a plan may accept as destinations: every one that some gateway may
/// call. What this gateway may call is checked again before each call.
pub fn egress() -> Egress {
    let everything = ["0.0.0.0/0", "::/0"].map(str::parse);
    Egress {
        allow_http: true,
        allow_private_cidrs: everything.into_iter().flatten().collect(),
        own_addresses: Vec::new(),
    }
}

impl Target for Handle {
    type Error = ControlError;

    async fn put_api(&self, planned: &PlannedApi) -> Result<Change, ControlError> {
        let id = planned.api.id;
        if present(self).await?.api(id)?.is_none() {
            self.create_api(planned.api.clone()).await?;
            return Ok(Change::Created);
        }
        let before = self.api(id)?;
        let api = overlay::api(planned.clone(), Api::clone(&before));
        self.update_api_from(&before, api).await?;
        Ok(Change::Updated)
    }

    async fn put_application(&self, planned: &PlannedApplication) -> Result<Change, ControlError> {
        let application = planned.application.clone();
        match present(self).await?.application(application.id)? {
            Some(_) if !planned.described => Ok(Change::Kept),
            Some(_) => {
                self.update_application(application).await?;
                Ok(Change::Updated)
            }
            None => {
                self.create_application(application).await?;
                Ok(Change::Created)
            }
        }
    }

    async fn put_subscription(
        &self,
        planned: &PlannedSubscription,
    ) -> Result<Change, ControlError> {
        let id = planned.subscription.id;
        let Some(row) = present(self).await?.subscription(id)? else {
            let subscription = planned.subscription.clone();
            self.subscribe(subscription.api, subscription).await?;
            if planned.paused {
                let status = planned.subscription.status;
                hold_back(self, id, status, ConsumerStatus::Started).await?;
            }
            return Ok(Change::Created);
        };
        // What Gravitee has no word for stays as it is.
        let before = self.subscription(id).await?;
        let subscription = overlay::subscription(planned.clone(), before.clone());
        // Where what could not be taken over was set here since, there is nothing to wait for.
        let lacks = planned.untaken.is_missing_in(&subscription.configuration);
        let pauses = planned.paused && (planned.says_paused || lacks);
        // First, so that no call goes out without what is missing.
        if pauses {
            hold_back(self, id, row.state.status, row.state.consumer_status).await?;
        }
        self.update_subscription_from(&before, subscription).await?;
        Ok(Change::Updated)
    }
}

/// Lets a subscription that stands so call nobody until somebody resumes it.
async fn hold_back(
    handle: &Handle,
    id: SubscriptionId,
    status: SubscriptionStatus,
    consumer_status: ConsumerStatus,
) -> Result<(), ControlError> {
    match (status, consumer_status) {
        (SubscriptionStatus::Accepted, _) => handle.pause(id).await.map(drop),
        (SubscriptionStatus::Pending, ConsumerStatus::Started) => {
            handle.withhold(id).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// What there is, everything that is in the log by now included.
async fn present(handle: &Handle) -> Result<View<Subscriptions>, ControlError> {
    let view = handle.subscriptions();
    view.at(handle.log().head(), VIEW_WAIT).await?;
    Ok(view)
}
