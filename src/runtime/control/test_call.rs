//! Test messages to a callback.

use std::sync::{Arc, atomic::Ordering};

use super::{ControlError, Handle};
use crate::{
    delivery::AttemptRequest,
    model::{
        AttemptNumber, AttemptReport, CallbackUrl, DeliveryId, Message, MessageId,
        MessagePublished, Method, Policy, SubscriptionId,
    },
};

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    /// The message's identity, `webhook-id` of the call.
    pub message: MessageId,
    /// The method of the call.
    pub method: Method,
    /// Where it went, redacted.
    pub callback_url: Option<CallbackUrl>,
    /// What came of the call.
    pub report: AttemptReport,
}

impl Handle {
    /// Sends a message once to the callback of a subscription that is not over, as it would be
    /// delivered now: its method, headers, credentials, signatures, TLS, proxy, time limits and
    /// destination rules hold.
    ///
    /// It is no delivery: it is in no order, counts for no circuit, rate or figure, is not tried
    /// again, and the log does not hold it. Its connection is its own. Filter and channel are not
    /// looked at. A callback that fails is reported, not an error.
    pub async fn test_callback(
        &self,
        id: SubscriptionId,
        mut message: Message,
    ) -> Result<TestReport, ControlError> {
        message.validate()?;
        let subscription = self.subscription(id).await?;
        let entry = self.0.directory.api(subscription.api)?;
        if self.0.ending.load(Ordering::Acquire) {
            return Err(ControlError::Stopped);
        }
        let entrypoint = &entry.api.entrypoint;
        let policy = Arc::new(Policy::of(entrypoint, &subscription.configuration));
        let moment = self.0.clock.moment();
        let given = message.id.take();
        let published = published(message, given.unwrap_or(MessageId::from_moment(&moment)));
        let request = AttemptRequest {
            delivery: DeliveryId::of(published.id, id),
            api: subscription.api,
            subscription: id,
            attempt: AttemptNumber::FIRST,
            probe: false,
            accepted_at: moment.now,
            policy: Arc::clone(&policy),
            gravitee_client_identifier: entrypoint.gravitee_client_identifier,
            message: Arc::new(published),
        };
        let message = request.message.id;
        let report = self.call_once(request).await?;
        Ok(TestReport {
            message,
            method: policy.method,
            callback_url: policy.callback_url.as_ref().map(CallbackUrl::redacted),
            report,
        })
    }

    /// Makes a call on a connection of its own, so that no other is used, kept or closed by it.
    async fn call_once(&self, request: AttemptRequest) -> Result<AttemptReport, ControlError> {
        let busy = self.0.activity.begin();
        let transport = Arc::clone(&self.0.transport).for_worker();
        self.whole(move |_| async move {
            let report = transport.send(request).await;
            drop(busy);
            Ok(report)
        })
        .await
    }
}

fn published(message: Message, id: MessageId) -> MessagePublished {
    MessagePublished {
        id,
        content: message.content,
        content_type: message.content_type,
        event_type: message.event_type,
        channel: message.channel,
        key: message.key,
        headers: message.headers,
        coordinate: None,
        sampled: true,
    }
}
