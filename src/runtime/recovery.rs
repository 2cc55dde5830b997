//! What the log says there is: every API, application and subscription, folded from their events
//! in one sequential read. No effect runs here (G7).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{
    actor::{Recall, Recalled, RestartError},
    log::{
        EventLog, Origin, OriginStore, ReadError, RecordedEvent, SectionWriter, SnapshotStore,
        StorageError, StreamId, StreamKind,
    },
    model::{
        Api, ApiEvent, ApiId, ApiState, Application, ApplicationEvent, ApplicationId, Event,
        FailureCause, JobEvent, JobId, JobState, MessagePublished, Position, SubscriptionEvent,
        SubscriptionId, Version,
    },
    subscription::{SubscriptionState, apply},
};

/// Events read at a time.
pub(super) const READ_EVENTS: usize = 4_096;
/// The section of an origin that holds what recovery begins with on a cut log. The number goes up
/// with the form of its rows, and the old form is still read.
pub(super) const ORIGIN_SECTION: &str = "recovered-1";

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
    /// The event that last changed the callback of its entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved_at: Option<Position>,
}

/// A subscription as recovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecoveredSubscription {
    /// Its state.
    pub(crate) state: SubscriptionState,
    /// The last version of its stream.
    pub(crate) version: Version,
    /// The event since which something is thought of its callback. Rows of earlier programs do not
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) judged_since: Option<Position>,
    /// Whether it is among [`Recovered::damaged`]; told in rows alone.
    #[serde(default)]
    damaged: bool,
    /// Whether it is among [`Recovered::unknown`]; told in rows alone.
    #[serde(default)]
    unknown: bool,
}

/// A job that is not over, as recovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecoveredJob {
    /// Its state.
    pub(crate) state: JobState,
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
    /// Every subscription, ended ones included. Each by itself, as rows hold them: a table of them
    /// all would be copied as it grows.
    pub(crate) subscriptions: HashMap<SubscriptionId, Box<RecoveredSubscription>>,
    /// Every job that is not over.
    pub(crate) jobs: HashMap<JobId, RecoveredJob>,
    /// Subscriptions of whose history something is damaged.
    pub(crate) damaged: HashSet<SubscriptionId>,
    /// Subscriptions with an event that this program does not know: what they are cannot be told.
    pub(crate) unknown: HashSet<SubscriptionId>,
    /// The first event of a type that this program does not know, whatever it tells of.
    pub(crate) unknown_from: Option<Position>,
    /// What changed since the snapshot it was read from.
    changed: HashSet<StreamId>,
}

/// The row of a snapshot that one thing is kept in.
#[derive(Serialize, Deserialize)]
enum Row {
    Api(RecoveredApi),
    Application(Application, Version),
    Subscription(Box<RecoveredSubscription>),
    Job(Box<RecoveredJob>),
    /// In the row of the log's own stream.
    UnknownFrom(Position),
}

/// Before a row that is compressed. None that is not begins so: a row is a map.
const COMPRESSED: u8 = 0;

impl Row {
    fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("recovered state holds no unsealed secret")
    }

    /// Names, and what failed deliveries have in common, come again and again in it.
    fn compressed(&self) -> Vec<u8> {
        let compressed = lz4_flex::compress_prepend_size(&self.to_bytes());
        [&[COMPRESSED], compressed.as_slice()].concat()
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let plain = match bytes.strip_prefix(&[COMPRESSED]) {
            Some(compressed) => Cow::Owned(lz4_flex::decompress_size_prepended(compressed).ok()?),
            None => Cow::Borrowed(bytes),
        };
        rmp_serde::from_slice(&plain).ok()
    }
}

impl Recovered {
    /// Reads the newest snapshot, if one is to be believed, and the log from there to its head.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn read(log: &EventLog, snapshots: &SnapshotStore) -> Result<Self, ReadError> {
        Self::read_after(log, snapshots, None)
    }

    /// The same of a log that was cut: without a snapshot from after the cut it begins with the
    /// origin.
    pub(crate) fn read_after(
        log: &EventLog,
        snapshots: &SnapshotStore,
        origin: Option<&Origin>,
    ) -> Result<Self, ReadError> {
        Self::read_as(log, snapshots, origin, true)
    }

    /// The same in a program that saved the snapshot itself.
    pub(super) fn read_again(
        log: &EventLog,
        snapshots: &SnapshotStore,
        origin: Option<&Origin>,
    ) -> Result<Self, ReadError> {
        Self::read_as(log, snapshots, origin, false)
    }

    fn read_as(
        log: &EventLog,
        snapshots: &SnapshotStore,
        origin: Option<&Origin>,
        is_start: bool,
    ) -> Result<Self, ReadError> {
        let snapshot = Self::snapshot(log, snapshots, is_start);
        let told = origin.map_or(Position::ZERO, Origin::last);
        let snapshot = snapshot.filter(|snapshot| snapshot.position >= told);
        let mut recovered = match (snapshot, origin) {
            (Some(snapshot), _) => snapshot,
            (None, None) => Self::default(),
            (None, Some(origin)) => {
                // What is saved later must not be laid over rows from before the cut.
                if let Err(error) = snapshots.discard() {
                    tracing::warn!(%error, "the snapshot cannot be thrown away");
                }
                Self::of_origin(origin)?
            }
        };
        recovered.catch_up(log)?;
        recovered.compare(log)?;
        Ok(recovered)
    }

    /// What the log and its origin tell up to the event before this position.
    pub(crate) fn before(
        log: &EventLog,
        origin: Option<&Origin>,
        first: Position,
    ) -> Result<Self, ReadError> {
        let mut recovered = origin.map_or_else(|| Ok(Self::default()), Self::of_origin)?;
        recovered.catch_up_to(log, first.previous())?;
        Ok(recovered)
    }

    /// What the origin of a cut log tells. All of it counts as changed: no snapshot holds it.
    pub(super) fn of_origin(origin: &Origin) -> Result<Self, ReadError> {
        let rows = origin.rows(ORIGIN_SECTION)?;
        let rows = rows.ok_or_else(|| undecodable(origin))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let recovered = Self::from_rows(origin.last(), &rows);
        let mut recovered = recovered.ok_or_else(|| undecodable(origin))?;
        recovered.changed = recovered.streams().collect();
        Ok(recovered)
    }

    /// Writes all of it to an origin.
    pub(super) fn write(&self, mut section: SectionWriter) -> Result<(), StorageError> {
        let mut streams: Vec<_> = self.streams().collect();
        streams.sort_unstable();
        for stream in streams {
            let row = self.row(stream).map_or_else(Vec::new, |row| row.to_bytes());
            section.push(&stream.to_bytes(), &row)?;
        }
        section.finish()
    }

    /// The stream of each thing that there is.
    fn streams(&self) -> impl Iterator<Item = StreamId> {
        let apis = self.apis.keys().copied().map(StreamId::api);
        let applications = self.applications.keys().copied();
        let subscriptions = self.subscriptions.keys().copied();
        let jobs = self.jobs.keys().copied().map(StreamId::job);
        apis.chain(applications.map(StreamId::application))
            .chain(subscriptions.map(StreamId::subscription))
            .chain(jobs)
            .chain(self.unknown_from.map(|_| StreamId::log()))
    }

    /// How far the stream of each thing had come.
    pub(super) fn versions(&self) -> impl Iterator<Item = (StreamId, Version)> {
        let apis = self.apis.iter().flat_map(|(id, api)| {
            let (own, messages) = (StreamId::api(*id), StreamId::messages(*id));
            [(own, api.version), (messages, api.head)]
        });
        let applications = self.applications.iter();
        let applications = applications.map(|(id, known)| (StreamId::application(*id), known.1));
        let subscriptions = self.subscriptions.iter();
        let subscriptions =
            subscriptions.map(|(id, known)| (StreamId::subscription(*id), known.version));
        let jobs = self.jobs.iter();
        let jobs = jobs.map(|(id, job)| (StreamId::job(*id), job.version));
        apis.chain(applications).chain(subscriptions).chain(jobs)
    }

    /// The newest snapshot. One that is not believed is thrown away: what is saved later must not
    /// be laid over it.
    fn snapshot(log: &EventLog, snapshots: &SnapshotStore, is_start: bool) -> Option<Self> {
        let (position, rows) = match snapshots.load(log) {
            Ok(loaded) => loaded?,
            Err(error) => {
                tracing::warn!(%error, "the snapshot cannot be read; reading the whole log");
                return None;
            }
        };
        let read = Self::from_rows(position, &rows);
        let refused = match &read {
            None => Some("it cannot be decoded"),
            // This program may know what another did not.
            Some(read) if is_start && read.unknown_from.is_some() => {
                Some("the program that saved it did not know an event")
            }
            Some(_) => None,
        };
        let Some(reason) = refused else {
            return read;
        };
        tracing::warn!(%position, reason, "the snapshot is thrown away");
        if let Err(error) = snapshots.discard() {
            tracing::warn!(%error, "the snapshot cannot be thrown away");
        }
        None
    }

    /// Folds in what the log holds after this. A damaged range is passed over (G11); whose history
    /// it holds is told by [`compare`](Self::compare).
    pub(crate) fn catch_up(&mut self, log: &EventLog) -> Result<(), ReadError> {
        self.catch_up_to(log, Position::MAX)
    }

    fn catch_up_to(&mut self, log: &EventLog, end: Position) -> Result<(), ReadError> {
        loop {
            let events = self.read_on(log, end)?;
            if events.is_empty() {
                return Ok(());
            }
            for recorded in events {
                self.fold(&recorded);
            }
        }
    }

    /// The next events to fold in, up to `end`; none at the head. The position moves past damage.
    pub(super) fn read_on(
        &mut self,
        log: &EventLog,
        end: Position,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        loop {
            let left = usize::try_from(end.distance_from(self.position)).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(Vec::new());
            }
            match log.read(self.position, left.min(READ_EVENTS)) {
                Err(ReadError::Corrupt { from, to, reason }) if to > self.position => {
                    tracing::error!(%from, %to, %reason, "damaged events are passed over");
                    let to = to.min(log.head());
                    if to <= self.position {
                        return Ok(Vec::new());
                    }
                    self.position = to;
                }
                // Behind what a repair has given up there may be none before the end.
                Ok(mut events) => {
                    events.retain(|event| event.position <= end);
                    return Ok(events);
                }
                error => return error,
            }
        }
    }

    /// Finds whose history has a gap: the log knows of later versions than could be read.
    fn compare(&mut self, log: &EventLog) -> Result<(), ReadError> {
        for (id, api) in &mut self.apis {
            api.version = api.version.max(log.stream_version(StreamId::api(*id)));
            api.head = api.head.max(log.stream_version(StreamId::messages(*id)));
        }
        for (id, (_, version)) in &mut self.applications {
            *version = (*version).max(log.stream_version(StreamId::application(*id)));
        }
        for (id, job) in &mut self.jobs {
            job.version = job.version.max(log.stream_version(StreamId::job(*id)));
        }
        let subscriptions = self.subscriptions.iter();
        let behind: Vec<_> = subscriptions
            .map(|(id, known)| (*id, known, log.stream_version(StreamId::subscription(*id))))
            .filter(|(_, known, version)| *version > known.version)
            .map(|(id, _, version)| (id, version))
            .collect();
        if !behind.is_empty() {
            // Of a log that is written to: it may have come meanwhile.
            self.catch_up(log)?;
        }
        for (id, version) in behind {
            if let Some(subscription) = self.subscriptions.get_mut(&id)
                && subscription.version < version
            {
                tracing::error!(subscription = %id, "some of its history is damaged");
                subscription.version = version;
                self.damaged.insert(id);
            }
        }
        Ok(())
    }

    /// Folds in one event.
    pub(crate) fn fold(&mut self, recorded: &RecordedEvent) {
        self.position = recorded.position;
        self.changed.insert(row_of(recorded.stream));
        if matches!(recorded.event, Event::Unknown(_)) {
            self.unknown_from.get_or_insert(recorded.position);
            self.changed.insert(StreamId::log());
        }
        match (&recorded.event, recorded.stream.kind()) {
            (Event::Api(event), StreamKind::Api) => self.fold_api(recorded, event),
            (Event::Application(event), StreamKind::Application) => {
                self.fold_application(recorded, event);
            }
            (Event::Subscription(event), StreamKind::Subscription) => {
                self.fold_subscription(recorded, event);
            }
            (Event::Job(event), StreamKind::Job) => self.fold_job(recorded, event),
            (event, StreamKind::Messages) => self.fold_message(recorded, event),
            // Who may come in is a projection's to know; where the log begins stands in its origin.
            (Event::Access(_) | Event::Log(_), _) => {}
            (event, _) => self.fold_unknown(recorded, event),
        }
    }

    fn fold_message(&mut self, recorded: &RecordedEvent, event: &Event) {
        let id = recorded.stream.as_api();
        if let Some(api) = id.and_then(|id| self.apis.get_mut(&id)) {
            api.head = recorded.version;
            if let Some(message) = event.as_published() {
                learn(&mut api.offsets, message);
            }
        }
    }

    /// A newer program wrote it. Definitions stand as they were, at the version that
    /// [`compare`](Self::compare) finds; a subscription is not run.
    fn fold_unknown(&mut self, recorded: &RecordedEvent, event: &Event) {
        let (stream, version) = (recorded.stream, recorded.version);
        tracing::error!(%stream, %version, event_type = %event.event_type(), "an event of an unknown type");
        if let Some(id) = stream.as_subscription() {
            self.unknown.insert(id);
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.version = version;
            }
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
                    moved_at: None,
                };
                self.apis.insert(id, api);
            }
            ApiEvent::Updated(updated) => {
                let callback_url = &updated.api.entrypoint.callback_url;
                if let Some(entry) = self.apis.get_mut(&id)
                    && entry.api.entrypoint.callback_url != *callback_url
                {
                    entry.moved_at = Some(recorded.position);
                }
                self.change_api(id, recorded.version, |api| api.clone_from(&updated.api));
            }
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
        let entry = self.subscriptions.entry(id).or_insert_with(|| {
            Box::new(RecoveredSubscription {
                state: SubscriptionState::new(id),
                version: Version::ZERO,
                judged_since: None,
                damaged: false,
                unknown: false,
            })
        });
        if recorded.version != entry.version.next() {
            tracing::error!(subscription = %id, "some of its history is damaged");
            self.damaged.insert(id);
        }
        if tells_of_damage(event) {
            self.damaged.remove(&id);
        }
        fold_into(
            &mut entry.state,
            &mut entry.judged_since,
            event,
            recorded.position,
        );
        entry.version = recorded.version;
    }

    fn fold_job(&mut self, recorded: &RecordedEvent, event: &JobEvent) {
        let Some(id) = recorded.stream.as_job() else {
            return;
        };
        if let JobEvent::Created(created) = event {
            let state = JobState::begun((*created.job).clone());
            let version = recorded.version;
            self.jobs.insert(id, RecoveredJob { state, version });
        } else if let Some(job) = self.jobs.get_mut(&id) {
            job.state.apply(event);
            job.version = recorded.version;
            if job.state.status.is_over() {
                self.jobs.remove(&id);
            }
        }
    }

    /// Whether this row changed since the snapshot this was read from.
    pub(super) fn has_changed(&self, row: StreamId) -> bool {
        self.changed.contains(&row)
    }

    /// How many rows changed.
    pub(super) fn changes(&self) -> usize {
        self.changed.len()
    }

    /// The rows that changed. A row of something that was deleted is empty.
    pub(super) fn changed_rows(&self) -> impl Iterator<Item = (StreamId, Vec<u8>)> {
        self.changed
            .iter()
            .map(|stream| (*stream, self.row(*stream)))
            .map(|(stream, row)| (stream, row.map_or_else(Vec::new, |row| row.compressed())))
    }

    fn row(&self, stream: StreamId) -> Option<Row> {
        if stream == StreamId::log() {
            self.unknown_from.map(Row::UnknownFrom)
        } else if let Some(id) = stream.as_api() {
            self.apis.get(&id).cloned().map(Row::Api)
        } else if let Some(id) = stream.as_application() {
            let found = self.applications.get(&id).cloned();
            found.map(|(application, version)| Row::Application(application, version))
        } else if let Some(id) = stream.as_job() {
            self.jobs
                .get(&id)
                .cloned()
                .map(|job| Row::Job(Box::new(job)))
        } else {
            let found = stream
                .as_subscription()
                .and_then(|id| self.subscriptions.get(&id));
            found.cloned().map(|mut subscription| {
                let id = &subscription.state.id;
                subscription.damaged = self.damaged.contains(id);
                subscription.unknown = self.unknown.contains(id);
                Row::Subscription(subscription)
            })
        }
    }

    /// What these rows say; `None` when one of them cannot be read.
    fn from_rows(position: Position, rows: &[(Vec<u8>, Vec<u8>)]) -> Option<Self> {
        let mut recovered = Self::nothing_at(position);
        for (_, bytes) in rows.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            recovered.insert_row(bytes)?;
        }
        Some(recovered)
    }

    /// Nothing, as of this position.
    pub(super) fn nothing_at(position: Position) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    /// Takes in what a row says; `None` when it cannot be read.
    pub(super) fn insert_row(&mut self, bytes: &[u8]) -> Option<()> {
        match Row::of_bytes(bytes)? {
            Row::Api(api) => {
                self.apis.insert(api.api.id, api);
            }
            Row::Application(application, version) => {
                self.applications
                    .insert(application.id, (application, version));
            }
            Row::Subscription(subscription) => {
                let id = subscription.state.id;
                if subscription.damaged {
                    self.damaged.insert(id);
                }
                if subscription.unknown {
                    self.unknown.insert(id);
                }
                self.subscriptions.insert(id, subscription);
            }
            Row::Job(job) => {
                self.jobs.insert(job.state.job.id, *job);
            }
            Row::UnknownFrom(position) => self.unknown_from = Some(position),
        }
        Some(())
    }
}

/// Finds what a subscription was from its row of the snapshot and the log after it.
pub(super) struct Recalls {
    pub(super) log: EventLog,
    pub(super) snapshots: SnapshotStore,
    pub(super) origins: Arc<OriginStore>,
}

impl Recall for Recalls {
    fn recall(&self, id: SubscriptionId) -> BoxFuture<'static, Result<Recalled, RestartError>> {
        let (log, snapshots) = (self.log.clone(), self.snapshots.clone());
        let origins = Arc::clone(&self.origins);
        Box::pin(async move {
            let found = spawn_blocking(move || {
                let origin = origins.current();
                recall_after(&log, &snapshots, origin.as_deref(), id)
            });
            let found = found.await;
            found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        })
    }
}

/// What a subscription was. A damaged part of its history is passed over, and told.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn recall(
    log: &EventLog,
    snapshots: &SnapshotStore,
    id: SubscriptionId,
) -> Result<Recalled, RestartError> {
    recall_after(log, snapshots, None, id)
}

/// The same of a log that was cut.
fn recall_after(
    log: &EventLog,
    snapshots: &SnapshotStore,
    origin: Option<&Origin>,
    id: SubscriptionId,
) -> Result<Recalled, RestartError> {
    let stream = StreamId::subscription(id);
    let carried = origin.map(|origin| carried(origin, id)).transpose()?;
    let known = [saved(log, snapshots, id), carried.flatten()];
    let newest = known
        .into_iter()
        .flatten()
        .max_by_key(|known| known.version);
    let mut recalled = newest.unwrap_or_else(|| Recalled {
        state: SubscriptionState::new(id),
        version: Version::ZERO,
        judged_since: None,
        damaged: false,
    });
    loop {
        let events = match log.read_stream(stream, recalled.version, READ_EVENTS) {
            Ok(events) => events,
            Err(ReadError::StreamDamaged { resume, reason, .. }) => {
                tracing::error!(subscription = %id, %reason, "some of its history is damaged");
                recalled.version = resume.previous();
                recalled.damaged = true;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = events.last() else {
            return Ok(recalled);
        };
        recalled.version = last.version;
        for recorded in &events {
            if let Some(event) = recorded.event.as_subscription() {
                recalled.damaged &= !tells_of_damage(event);
                let since = &mut recalled.judged_since;
                fold_into(&mut recalled.state, since, event, recorded.position);
            }
        }
    }
}

/// Folds an event into a state, and tells since which event something is thought of its callback.
fn fold_into(
    state: &mut SubscriptionState,
    judged_since: &mut Option<Position>,
    event: &SubscriptionEvent,
    position: Position,
) {
    let judged = state.judges_callback();
    apply(state, event);
    if !state.judges_callback() {
        *judged_since = None;
    } else if !judged {
        *judged_since = Some(position);
    }
}

/// Whether the damage before this event is on record: whoever resumed the subscription since knew
/// of it.
const fn tells_of_damage(event: &SubscriptionEvent) -> bool {
    match event {
        SubscriptionEvent::Failed(failed) => matches!(failed.cause, FailureCause::DamagedHistory),
        _ => false,
    }
}

/// What the origin of a cut log knows of a subscription.
fn carried(origin: &Origin, id: SubscriptionId) -> Result<Option<Recalled>, ReadError> {
    let key = StreamId::subscription(id).to_bytes();
    let rows = origin.rows(ORIGIN_SECTION)?;
    for row in rows.into_iter().flatten() {
        let (of, row) = row?;
        if of == key {
            return match Row::of_bytes(&row) {
                Some(Row::Subscription(found)) => Ok(Some(Recalled {
                    state: found.state,
                    version: found.version,
                    judged_since: found.judged_since,
                    damaged: found.damaged,
                })),
                _ => Err(undecodable(origin)),
            };
        }
    }
    Ok(None)
}

fn undecodable(origin: &Origin) -> ReadError {
    ReadError::Storage(StorageError::Corrupt {
        what: format!("the origin of the log at position {}", origin.first()),
        reason: "it does not hold what recovery begins with".to_owned(),
    })
}

/// What the snapshot knows of a subscription.
fn saved(log: &EventLog, snapshots: &SnapshotStore, id: SubscriptionId) -> Option<Recalled> {
    let stream = StreamId::subscription(id);
    let row = snapshots.row(log, &stream.to_bytes()).ok().flatten()?;
    let Row::Subscription(found) = Row::of_bytes(&row)? else {
        return None;
    };
    let believed = found.version <= log.stream_version(stream);
    believed.then(|| Recalled {
        state: found.state,
        version: found.version,
        judged_since: found.judged_since,
        damaged: found.damaged,
    })
}

/// The row that keeps what this stream tells of: an API keeps the head of its messages.
pub(super) fn row_of(stream: StreamId) -> StreamId {
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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        log::{ExpectedVersion, LogOptions, Repair, Storage, Urgency},
        model::{
            ConsumerStatus, Subscription, SubscriptionCreated, SubscriptionFailed,
            SubscriptionPaused, SubscriptionResumed, SubscriptionStatus,
        },
        runtime::unsaved::Unsaved,
        testing::MemoryStorage,
    };

    fn no_snapshots() -> SnapshotStore {
        let store = MemoryStorage::new().create(Position::FIRST);
        SnapshotStore::open_with(store.expect("a storage of its own"))
    }

    /// A log with three events of this subscription, the second of them damaged.
    async fn damaged_log(id: SubscriptionId) -> EventLog {
        let stream = StreamId::subscription(id);
        let subscription = Subscription::to("https://example.com/hook").expect("it may be called");
        let created = SubscriptionCreated {
            subscription: Box::new(Subscription { id, ..subscription }),
            cursor: Version::ZERO,
        };
        let history: [Event; 3] = [
            created.into(),
            SubscriptionPaused {}.into(),
            SubscriptionResumed {}.into(),
        ];
        let storage = MemoryStorage::new();
        let options = || LogOptions {
            tail_cache_bytes: 0,
            ..LogOptions::default()
        };
        let open = || EventLog::open_with(Arc::new(storage.clone()), options()).expect("it opens");
        let log = open();
        for event in history {
            let append = log.append(stream, ExpectedVersion::Any, vec![event], Urgency::Now);
            append.await.expect("the log takes it");
        }
        log.close();
        let key = b"p\0\0\0\0\0\0\0\x02\0\0".to_vec();
        let mut rows = storage.rows(Position::FIRST).into_iter();
        let (_, mut page) = rows.find(|(other, _)| *other == key).expect("its page");
        *page.last_mut().expect("it holds an event") ^= 1;
        storage.overwrite(Position::FIRST, &key, Some(page));
        open()
    }

    #[tokio::test]
    async fn a_damaged_part_of_a_history_is_passed_over_and_told() {
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(7));
        let (log, none) = (damaged_log(id).await, no_snapshots());
        let recalled = recall(&log, &none, id).unwrap();
        assert!(recalled.damaged);
        assert_eq!(recalled.version, Version::new(3));
        assert_eq!(recalled.state.status, SubscriptionStatus::Accepted);
        assert_eq!(recalled.state.consumer_status, ConsumerStatus::Started);
        let recovered = Recovered::read(&log, &none).unwrap();
        assert!(recovered.damaged.contains(&id));
        assert_eq!(recovered.subscriptions[&id].state, recalled.state);

        let cause = FailureCause::DamagedHistory;
        let told = vec![
            SubscriptionFailed {
                consumer_status: ConsumerStatus::Failure,
                cause,
                message: None,
            }
            .into(),
        ];
        let stream = StreamId::subscription(id);
        let append = log.append(stream, ExpectedVersion::Any, told, Urgency::Now);
        append.await.unwrap();
        assert!(!recall(&log, &none, id).unwrap().damaged, "it is on record");
        let recovered = Recovered::read(&log, &none).unwrap();
        assert!(!recovered.damaged.contains(&id), "it is on record");
    }

    #[tokio::test]
    async fn a_snapshot_tells_whose_history_is_damaged() {
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(7));
        let (log, snapshots) = (damaged_log(id).await, no_snapshots());
        let mut unsaved = Unsaved::begin(&log, &snapshots, None).unwrap();
        while unsaved.follow(&log, &snapshots).unwrap() > 0 {}
        unsaved.save(&log, &snapshots).unwrap();
        assert_eq!(snapshots.position(&log).unwrap(), Some(log.head()));
        let recovered = Recovered::read(&log, &snapshots).unwrap();
        assert!(recovered.damaged.contains(&id));
        assert!(recall(&log, &snapshots, id).unwrap().damaged);
    }

    #[tokio::test]
    async fn what_stood_before_a_hole_is_not_mixed_with_what_stands_behind_it() {
        let storage = MemoryStorage::new();
        let open =
            || EventLog::open_with(Arc::new(storage.clone()), LogOptions::default()).unwrap();
        let id = SubscriptionId::from_uuid(uuid::Uuid::from_u128(7));
        let stream = StreamId::subscription(id);
        let log = open();
        for event in [SubscriptionPaused {}.into(), SubscriptionResumed {}.into()] {
            let append = log.append(stream, ExpectedVersion::Any, vec![event], Urgency::Now);
            append.await.unwrap();
        }
        log.close();
        storage.break_segment(Position::FIRST);
        let plan = open().repair_plan().unwrap();
        let storage_again: Arc<dyn Storage> = Arc::new(storage.clone());
        let repair = Repair::open(storage_again, LogOptions::default(), &plan).unwrap();
        repair.apply(&HashMap::new()).unwrap();
        let log = open();
        let event = SubscriptionPaused {}.into();
        let append = log.append(stream, ExpectedVersion::Any, vec![event], Urgency::Now);
        append.await.unwrap();
        let before = Recovered::before(&log, None, plan.resume).unwrap();
        assert!(before.subscriptions.is_empty(), "{before:?}");
        let through = Recovered::before(&log, None, plan.resume.plus(2)).unwrap();
        assert_eq!(through.subscriptions[&id].version, Version::new(1));
    }
}
