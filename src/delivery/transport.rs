//! What a call is asked for with, and who makes it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::model::{
    ApiId, AttemptNumber, AttemptReport, DeliveryId, MessagePublished, Policy, SecretId, Secrets,
    SubscriptionId, Timestamp,
};

/// One HTTP call to make. Cloning it copies no content.
#[derive(Debug, Clone)]
pub struct AttemptRequest {
    /// The delivery that it is a try of.
    pub delivery: DeliveryId,
    /// The API whose message it carries.
    pub api: ApiId,
    /// The subscription that it is made for.
    pub subscription: SubscriptionId,
    /// The how-manyth try, sent as `webhook-attempt`.
    pub attempt: AttemptNumber,
    /// Whether it only tests if a callback is up again; it is sent like any other.
    pub probe: bool,
    /// The message.
    pub message: Arc<MessagePublished>,
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// The settings it is made under.
    pub policy: Arc<Policy>,
    /// Sends `X-Gravitee-Client-Identifier`, the subscription's id; for imported APIs.
    pub gravitee_client_identifier: bool,
}

/// Makes calls.
///
/// A transport reports every end of a call, also its own faults; it never panics and never hangs.
/// Dropping the future gives the call up; the callback may have got it all the same.
pub trait Transport: Send + Sync + 'static {
    /// Makes one call and reports what came of it.
    fn send(&self, request: AttemptRequest) -> BoxFuture<'static, AttemptReport>;

    /// The transport of one worker thread: one with connections of its own, or this very one when
    /// the workers may share it.
    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport>;
}

/// A vault that holds nothing: for settings whose secrets are not sealed, or have none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn reveal(&self, _: SecretId) -> Option<Zeroizing<String>> {
        None
    }
}
