//! What can go wrong with a runtime, one enum per family.

use std::io;

use crate::{
    actor::ExecuteError,
    log::{AppendError, OpenError, ReadError, RetentionError, StorageError},
    model::{
        ApiId, ApplicationId, DeliveryId, Invalid, JobId, JobStatus, MessageId, SubscriptionId,
        TokenId,
    },
    projection::{self, ViewError},
    vault::VaultError,
};

/// A runtime could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be read.
    #[error("failed to recover: {0}")]
    Recover(#[from] ReadError),
    /// A projection could not be opened.
    #[error(transparent)]
    Projection(#[from] projection::StartError),
    /// The snapshots could not be opened.
    #[error(transparent)]
    Snapshots(#[from] StorageError),
    /// The secrets could not be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was found could not be put on record.
    #[error("failed to recover: {0}")]
    Append(#[from] AppendError),
    /// The system allows this process too few open files.
    #[error(
        "this process may open {limit} files at a time and needs {needed} at least, and one more for each connection: raise the limit (`ulimit -n`, `LimitNOFILE` of systemd)"
    )]
    OpenFiles {
        /// How many it may open.
        limit: u64,
        /// How many it needs.
        needed: u64,
    },
    /// Threads could not be started.
    #[error("failed to start a thread: {0}")]
    Threads(#[from] io::Error),
}

/// Something could not be created, changed or asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A field breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such API.
    #[error("there is no API {0}")]
    UnknownApi(ApiId),
    /// There is no such application.
    #[error("there is no application {0}")]
    UnknownApplication(ApplicationId),
    /// There is no such subscription.
    #[error("there is no subscription {0}")]
    UnknownSubscription(SubscriptionId),
    /// It is not what the caller thought it was when the change was asked for.
    #[error("{what} changed meanwhile; read it again")]
    Changed {
        /// What.
        what: String,
    },
    /// There is no such message, or retention dropped it.
    #[error("there is no message {0}, or retention dropped it")]
    UnknownMessage(MessageId),
    /// There is no such token.
    #[error("there is no token {0}")]
    UnknownToken(TokenId),
    /// No such delivery has an entry in the webhook log.
    #[error("there is no delivery {0} in the webhook log")]
    UnknownDelivery(DeliveryId),
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// How a job stands forbids it.
    #[error("job {id} is {status}; {advice}")]
    JobStatus {
        /// The job.
        id: JobId,
        /// How it stands.
        status: JobStatus,
        /// What to do.
        advice: &'static str,
    },
    /// It is still used.
    #[error("{what} is still used by subscription {by}; close it first")]
    InUse {
        /// What.
        what: String,
        /// By whom.
        by: SubscriptionId,
    },
    /// Dead letters of a subscription that is over are on their way.
    #[error(
        "dead letters of subscription {by}, which is closed, wait to be forwarded; discard them \
        first, or have their target take them"
    )]
    Forwards {
        /// The API.
        api: ApiId,
        /// The subscription.
        by: SubscriptionId,
    },
    /// Dead letters of another API go to it.
    #[error("dead letters of API {by} go to API {api}; give {by} another dead letter queue first")]
    IsDeadLetterQueue {
        /// The API.
        api: ApiId,
        /// The other one.
        by: ApiId,
    },
    /// The subscription refused, or could not answer.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The log did not take it, or cannot say whether it did.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Retention could not be worked out or carried out.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// A view could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A secret could not be kept.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The program's tokio runtime ended while it was carried out.
    #[error("the program ended meanwhile; it may or may not have been done")]
    Stopped,
}

impl ControlError {
    /// Whether the file system refused to keep a secret. Nothing was changed.
    pub const fn is_unstored_secret(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Io { .. }))
    }
}
