//! What the log says there is: every API, application and subscription, folded from their events
//! in one sequential read. No effect runs here (G7).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    log::{EventLog, ReadError, RecordedEvent, SnapshotStore, StreamId, StreamKind},
    model::{
        Api, ApiEvent, ApiId, ApiState, Application, ApplicationEvent, ApplicationId, Event,
        MessagePublished, Position, SubscriptionEvent, SubscriptionId, Version,
    },
    subscription::{SubscriptionState, apply},
};

/// Events read at a time.
const READ_EVENTS: usize = 4_096;

/// An API as recovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecoveredApi {
    /// Its definition.
    pub(crate) api: Arc<Api>,
    /// The last version of its stream.
    pub(crate) version: Version,
    /// The last version of its message stream.
    pub(crate) head: Version,
    /// The last coordinate of each partition of its source.
    pub(crate) offsets: HashMap<String, u64>,
}

/// A subscription as recovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecoveredSubscription {
    /// Its state.
    pub(crate) state: SubscriptionState,
    /// The last version of its stream.
    pub(crate) version: Version,
}

/// Everything the runtime starts from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovered {
    /// The last position that is folded in.
    pub(crate) position: Position,
    /// Every API that was not deleted.
    pub(crate) apis: HashMap<ApiId, RecoveredApi>,
    /// Every application that was not deleted.
    pub(crate) applications: HashMap<ApplicationId, (Application, Version)>,
    /// Every subscription, ended ones included.
    pub(crate) subscriptions: HashMap<SubscriptionId, RecoveredSubscription>,
    /// What changed since the snapshot it was read from.
    changed: HashSet<StreamId>,
}

/// The row of a snapshot that one thing is kept in.
#[derive(Serialize, Deserialize)]
enum Row {
    Api(RecoveredApi),
    Application(Application, Version),
    Subscription(Box<RecoveredSubscription>),
}

impl Recovered {
    /// Reads the newest snapshot, if one is to be believed, and the log from there to its head.
    pub(crate) fn read(log: &EventLog, snapshots: &SnapshotStore) -> Result<Self, ReadError> {
        let mut recovered = match snapshots.load() {
            Ok(Some((position, rows))) if position <= log.head() => {
                Self::from_rows(position, &rows).unwrap_or_default()
            }
            Ok(_) => Self::default(),
            Err(error) => {
                tracing::warn!(%error, "the snapshot is not believed; reading the whole log");
                Self::default()
            }
        };
        recovered.catch_up(log)?;
        Ok(recovered)
    }

    /// Folds in what the log holds after this.
    pub(crate) fn catch_up(&mut self, log: &EventLog) -> Result<(), ReadError> {
        loop {
            let events = log.read(self.position, READ_EVENTS)?;
            if events.is_empty() {
                return Ok(());
            }
            for recorded in events {
                self.fold(&recorded);
            }
        }
    }

    /// Folds in one event.
    pub(crate) fn fold(&mut self, recorded: &RecordedEvent) {
        self.position = recorded.position;
        self.changed.insert(row_of(recorded.stream));
        match (&recorded.event, recorded.stream.kind()) {
            (Event::Api(event), StreamKind::Api) => self.fold_api(recorded, event),
            (Event::Application(event), StreamKind::Application) => {
                self.fold_application(recorded, event);
            }
            (Event::Subscription(event), StreamKind::Subscription) => {
                self.fold_subscription(recorded, event);
            }
            (event, StreamKind::Messages) => {
                if let Some(api) = recorded
                    .stream
                    .as_api()
                    .and_then(|id| self.apis.get_mut(&id))
                {
                    api.head = recorded.version;
                    if let Some(message) = event.as_published() {
                        learn(&mut api.offsets, message);
                    }
                }
            }
            (event, _) => tracing::warn!(
                position = %recorded.position,
                event_type = %event.event_type(),
                "an event of an unknown type is passed over"
            ),
        }
    }

    fn fold_api(&mut self, recorded: &RecordedEvent, event: &ApiEvent) {
        let Some(id) = recorded.stream.as_api() else {
            return;
        };
        match event {
            ApiEvent::Created(created) => {
                let api = RecoveredApi {
                    api: Arc::new((*created.api).clone()),
                    version: recorded.version,
                    head: Version::ZERO,
                    offsets: HashMap::new(),
                };
                self.apis.insert(id, api);
            }
            ApiEvent::Updated(updated) => self.change_api(id, recorded.version, |api| {
                api.clone_from(&updated.api);
            }),
            ApiEvent::Started(_) => self.change_api(id, recorded.version, |api| {
                api.state = ApiState::Started;
            }),
            ApiEvent::Stopped(_) => self.change_api(id, recorded.version, |api| {
                api.state = ApiState::Stopped;
            }),
            ApiEvent::Deleted(_) => {
                self.apis.remove(&id);
            }
        }
    }

    fn change_api(&mut self, id: ApiId, version: Version, change: impl FnOnce(&mut Api)) {
        if let Some(entry) = self.apis.get_mut(&id) {
            change(Arc::make_mut(&mut entry.api));
            entry.version = version;
        }
    }

    fn fold_application(&mut self, recorded: &RecordedEvent, event: &ApplicationEvent) {
        let Some(id) = recorded.stream.as_application() else {
            return;
        };
        match event {
            ApplicationEvent::Created(created) => {
                self.applications
                    .insert(id, (created.application.clone(), recorded.version));
            }
            ApplicationEvent::Updated(updated) => {
                self.applications
                    .insert(id, (updated.application.clone(), recorded.version));
            }
            ApplicationEvent::Deleted(_) => {
                self.applications.remove(&id);
            }
        }
    }

    fn fold_subscription(&mut self, recorded: &RecordedEvent, event: &SubscriptionEvent) {
        let Some(id) = recorded.stream.as_subscription() else {
            return;
        };
        let entry = self
            .subscriptions
            .entry(id)
            .or_insert_with(|| RecoveredSubscription {
                state: SubscriptionState::new(id),
                version: Version::ZERO,
            });
        apply(&mut entry.state, event);
        entry.version = recorded.version;
    }

    /// The rows that changed since the snapshot this was read from. A row of something that was
    /// deleted is empty.
    pub(crate) fn changed_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.changed
            .iter()
            .map(|stream| (stream.to_bytes().to_vec(), self.row(*stream)))
            .collect()
    }

    fn row(&self, stream: StreamId) -> Vec<u8> {
        let row = if let Some(id) = stream.as_api() {
            self.apis.get(&id).cloned().map(Row::Api)
        } else if let Some(id) = stream.as_application() {
            let found = self.applications.get(&id).cloned();
            found.map(|(application, version)| Row::Application(application, version))
        } else {
            let found = stream
                .as_subscription()
                .and_then(|id| self.subscriptions.get(&id));
            found
                .cloned()
                .map(|subscription| Row::Subscription(Box::new(subscription)))
        };
        row.map_or_else(Vec::new, |row| {
            rmp_serde::to_vec_named(&row).expect("recovered state holds no unsealed secret")
        })
    }

    /// What these rows say; `None` when one of them cannot be read.
    fn from_rows(position: Position, rows: &[(Vec<u8>, Vec<u8>)]) -> Option<Self> {
        let mut recovered = Self {
            position,
            ..Self::default()
        };
        for (_, bytes) in rows.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            match rmp_serde::from_slice(bytes).ok()? {
                Row::Api(api) => {
                    recovered.apis.insert(api.api.id, api);
                }
                Row::Application(application, version) => {
                    recovered
                        .applications
                        .insert(application.id, (application, version));
                }
                Row::Subscription(subscription) => {
                    recovered
                        .subscriptions
                        .insert(subscription.state.id, *subscription);
                }
            }
        }
        Some(recovered)
    }
}

/// The row that keeps what this stream tells of: an API keeps the head of its messages.
fn row_of(stream: StreamId) -> StreamId {
    match stream.kind() {
        StreamKind::Messages => StreamId::new(StreamKind::Api, stream.uuid()),
        _ => stream,
    }
}

fn learn(offsets: &mut HashMap<String, u64>, message: &MessagePublished) {
    if let Some(coordinate) = &message.coordinate {
        let last = offsets
            .entry(coordinate.partition.clone())
            .or_insert(coordinate.offset);
        *last = (*last).max(coordinate.offset);
    }
}
