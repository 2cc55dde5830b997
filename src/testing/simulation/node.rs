//! A gateway that runs: its log and the drivers of its subscriptions.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;

use super::Broken;
use crate::{
    actor::ClockTime,
    clock::SharedClock,
    filter::FilterCache,
    log::{
        AppendError, Appended, EventLog, ExpectedVersion, LogOptions, LogWriter, OpenError,
        PendingAppend, RecordedEvent, SnapshotStore, Storage, StreamId, Urgency,
    },
    model::{Api, Event, JobEvent, JobState, MessagePublished, Position, SubscriptionId, Version},
    projection::{Batch, History, HistoryError, SharedHistory},
    runtime::{
        recovery::{Recovered, recall},
        unsaved::{Unsaved, UnsavedError},
    },
    subscription::Driver,
    testing::{ManualClock, MemoryStorage},
};

/// A subscription that runs.
pub(super) struct Seat {
    pub(super) driver: Driver<()>,
    pub(super) filter: FilterCache,
    /// The one wake-up that counts.
    pub(super) wake: u64,
    /// The log takes nothing more.
    pub(super) stuck: bool,
}

impl Seat {
    /// Whether everything that was begun has ended, and is on record.
    pub(super) fn is_quiet(&self) -> bool {
        !self.stuck && self.driver.is_quiet()
    }
}

/// An append on its way.
pub(super) struct OnItsWay {
    pub(super) what: Appending,
    append: PendingAppend,
}

/// What is appended.
pub(super) enum Appending {
    /// Messages.
    Messages(Vec<MessagePublished>),
    /// What a driver decided.
    Decided(Decided),
    /// A new definition of the API.
    Definition(Arc<Api>),
    /// An event that nobody here acts on.
    Other(StreamId, Box<Event>),
}

/// What a driver decided; nobody else appends to its stream.
pub(super) struct Decided {
    pub(super) subscription: SubscriptionId,
    pub(super) expected: Version,
    pub(super) events: Vec<crate::model::SubscriptionEvent>,
    /// Whether an append of it came to nobody knows what.
    pub(super) may_be_written: bool,
}

impl Decided {
    /// The version of its stream once it is on record.
    pub(super) const fn last(&self) -> Version {
        self.expected.plus(self.events.len() as u64)
    }
}

/// A gateway that runs.
pub(super) struct Node {
    pub(super) log: EventLog,
    pub(super) writer: LogWriter,
    pub(super) seats: BTreeMap<SubscriptionId, Seat>,
    pub(super) api: Arc<Api>,
    /// The last version of its messages that may be read.
    pub(super) head: Version,
    pub(super) on_their_way: Vec<OnItsWay>,
    pub(super) commit_is_due: bool,
    /// An append failed so that nothing may be acknowledged any more.
    pub(super) poisoned: bool,
    /// It was told to end, and begins nothing more.
    pub(super) draining: bool,
    /// What changed since the last snapshot that this process saved.
    unsaved: Option<Unsaved>,
}

impl Node {
    /// Opens the log and takes over what it holds.
    pub(super) fn start(
        storage: &MemoryStorage,
        snapshots: &SnapshotStore,
        options: LogOptions,
        clock: &ManualClock,
    ) -> Result<Option<Self>, Broken> {
        let (log, writer) = match EventLog::open_stepped(Arc::new(storage.clone()), options) {
            Ok(opened) => opened,
            // The disk refused; it is tried again.
            Err(OpenError::Storage(_)) => return Ok(None),
            Err(error) => return Err(format!("the log does not open: {error}")),
        };
        let recovered = Recovered::read(&log, snapshots)
            .map_err(|error| format!("the log cannot be recovered: {error}"))?;
        check_recovered(&log, &recovered)?;
        let api = recovered.apis.values().next();
        let api = api.ok_or("the API is not in the log")?;
        let mut seats = BTreeMap::new();
        let recovered_in_order: BTreeMap<_, _> = recovered.subscriptions.into_iter().collect();
        for (id, subscription) in recovered_in_order {
            if subscription.state.has_ended() {
                continue;
            }
            let driver = Driver::new(
                subscription.state,
                subscription.version,
                Arc::clone(&api.api),
                &ClockTime(clock),
            );
            seats.insert(id, seat(driver));
        }
        Ok(Some(Self {
            head: api.head,
            api: Arc::clone(&api.api),
            log,
            writer,
            seats,
            on_their_way: Vec::new(),
            commit_is_due: false,
            poisoned: false,
            draining: false,
            unsaved: None,
        }))
    }

    /// Follows the log and saves a snapshot of what it tells.
    pub(super) fn save_snapshot(&mut self, snapshots: &SnapshotStore) -> Result<(), UnsavedError> {
        let begin = || Unsaved::begin(&self.log, snapshots, None);
        let mut unsaved = self.unsaved.take().map_or_else(begin, Ok)?;
        while unsaved.follow(&self.log, snapshots)? > 0 {}
        unsaved.save(&self.log, snapshots)?;
        self.unsaved = Some(unsaved);
        Ok(())
    }

    /// Starts one subscription again from snapshot and log.
    pub(super) fn restart(
        &mut self,
        id: SubscriptionId,
        snapshots: &SnapshotStore,
        clock: &ManualClock,
    ) -> Result<(), Broken> {
        let recalled = recall(&self.log, snapshots, id)
            .map_err(|error| format!("{id} cannot be recalled: {error}"))?;
        let api = Arc::clone(&self.api);
        let driver = Driver::new(recalled.state, recalled.version, api, &ClockTime(clock));
        self.seats.insert(id, seat(driver));
        Ok(())
    }

    /// Puts an append on its way; it is made with the next commit.
    pub(super) fn append(&mut self, what: Appending) -> Result<(), AppendError> {
        let (stream, expected, events): (_, _, Vec<Event>) = match &what {
            Appending::Decided(decided) => (
                StreamId::subscription(decided.subscription),
                ExpectedVersion::Exact(decided.expected),
                decided.events.iter().cloned().map(Event::from).collect(),
            ),
            Appending::Definition(api) => {
                let updated = crate::model::ApiUpdated {
                    api: Box::new(Api::clone(api)),
                };
                let stream = StreamId::api(api.id);
                (stream, ExpectedVersion::Any, vec![updated.into()])
            }
            Appending::Other(stream, event) => {
                (*stream, ExpectedVersion::Any, vec![Event::clone(event)])
            }
            Appending::Messages(messages) => {
                let stream = StreamId::messages(self.api.id);
                let events = messages.iter().cloned().map(Event::from);
                (stream, ExpectedVersion::Any, events.collect())
            }
        };
        let append = self.log.enqueue(stream, expected, events, Urgency::Now)?;
        self.on_their_way.push(OnItsWay { what, append });
        Ok(())
    }

    /// Commits once; what is answered by then.
    pub(super) fn commit(&mut self) -> Vec<(Appending, Result<Appended, AppendError>)> {
        self.commit_is_due = false;
        self.writer.step();
        let mut answered = Vec::new();
        for mut append in std::mem::take(&mut self.on_their_way) {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut append.append).poll(&mut context) {
                Poll::Ready(answer) => answered.push((append.what, answer)),
                Poll::Pending => self.on_their_way.push(append),
            }
        }
        answered
    }
}

fn seat(driver: Driver<()>) -> Seat {
    Seat {
        driver,
        filter: FilterCache::default(),
        wake: 0,
        stuck: false,
    }
}

/// G7: a snapshot and the log after it give what the whole history gives.
fn check_recovered(log: &EventLog, recovered: &Recovered) -> Result<(), Broken> {
    let none = SnapshotStore::open_with(
        MemoryStorage::new()
            .create(Position::FIRST)
            .map_err(|error| error.to_string())?,
    );
    let in_order: BTreeMap<_, _> = recovered.subscriptions.iter().collect();
    for (id, subscription) in in_order {
        let recalled =
            recall(log, &none, *id).map_err(|error| format!("{id} cannot be recalled: {error}"))?;
        if recalled.state != subscription.state || recalled.version != subscription.version {
            return Err(format!(
                "G7: {id} was recovered as something else than its history"
            ));
        }
    }
    for (id, job) in &recovered.jobs {
        let events = log.read_stream(StreamId::job(*id), Version::ZERO, 4_096);
        let events = events.map_err(|error| format!("job {id} cannot be read: {error}"))?;
        if events.last().map(|last| last.version) != Some(job.version)
            || job_of(&events).as_ref() != Some(&job.state)
        {
            return Err(format!(
                "G7: job {id} was recovered as something else than its history"
            ));
        }
    }
    Ok(())
}

/// The job that these events, all of its stream, tell of.
fn job_of(events: &[Arc<RecordedEvent>]) -> Option<JobState> {
    let mut told = events.iter().filter_map(|recorded| match &recorded.event {
        Event::Job(event) => Some(event),
        _ => None,
    });
    let Some(JobEvent::Created(created)) = told.next() else {
        return None;
    };
    let mut state = JobState::begun((*created.job).clone());
    told.for_each(|event| state.apply(event));
    Some(state)
}

/// The log of whichever gateway runs, for views that live on over restarts.
#[derive(Default)]
pub(super) struct Relay(Mutex<Relayed>);

#[derive(Default)]
struct Relayed {
    log: Option<EventLog>,
    /// What was read last: the views follow one another closely, and decoding is most of a life.
    window: Vec<Arc<RecordedEvent>>,
}

/// Events read at a time.
const WINDOW: usize = 128;

impl Relay {
    pub(super) fn follow(&self, log: &EventLog) {
        *self.relayed() = Relayed {
            log: Some(log.clone()),
            window: Vec::new(),
        };
    }

    pub(super) fn cut(&self) {
        *self.relayed() = Relayed::default();
    }

    fn relayed(&self) -> MutexGuard<'_, Relayed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relayed {
    /// The events of the window after this position, if it holds the next one.
    fn held_after(&self, after: Position) -> Option<&[Arc<RecordedEvent>]> {
        let first = self.window.first()?.position;
        let skip = usize::try_from(after.next().get().checked_sub(first.get())?).ok()?;
        self.window.get(skip..).filter(|held| !held.is_empty())
    }
}

impl History for Relay {
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        let mut relayed = self.relayed();
        if relayed.held_after(after).is_none() {
            relayed.window = match &relayed.log {
                Some(log) => History::read_after(log, after, limit.max(WINDOW))?.events,
                None => Vec::new(),
            };
        }
        let held = relayed.held_after(after).unwrap_or_default();
        Ok(Batch::new(after, held[..limit.min(held.len())].to_vec()))
    }

    fn tip(&self) -> Position {
        let relayed = self.relayed();
        relayed.log.as_ref().map_or(Position::ZERO, EventLog::head)
    }

    fn past(&self, _: Position) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A reader that is cut off by each crash and reads on where it stood (G5).
#[derive(Default)]
pub(super) struct Reader {
    seen: Mutex<Vec<Arc<RecordedEvent>>>,
}

impl Reader {
    pub(super) fn read_on(&self, log: &EventLog, limit: usize) -> Result<(), Broken> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let after = seen.last().map_or(Position::ZERO, |last| last.position);
        let events = log
            .read(after, limit)
            .map_err(|error| format!("G4: the log cannot be read after {after}: {error}"))?;
        for event in events {
            let expected = seen.last().map_or(Position::ZERO, |e| e.position).next();
            if event.position != expected || event.position > log.head() {
                return Err(format!(
                    "G5: {} came where {expected} should",
                    event.position
                ));
            }
            seen.push(event);
        }
        Ok(())
    }

    /// Every event there is by now.
    pub(super) fn read_up(&self, log: &EventLog) -> Result<Vec<Arc<RecordedEvent>>, Broken> {
        self.read_on(log, usize::MAX)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.clone())
    }

    /// What it saw is what the log holds.
    pub(super) fn check(&self, log: &[Arc<RecordedEvent>]) -> Result<(), Broken> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.iter().zip(log).find(|(seen, held)| seen != held) {
            Some((seen, _)) => Err(format!(
                "G4: {} is another event than was read",
                seen.position
            )),
            None if seen.len() > log.len() => Err("G4: more was read than the log holds".into()),
            None => Ok(()),
        }
    }
}

/// A relay as views take it.
pub(super) fn history(relay: &Arc<Relay>) -> SharedHistory {
    Arc::clone(relay) as SharedHistory
}

/// The clock as the log and views take it.
pub(super) fn shared(clock: &ManualClock) -> SharedClock {
    Arc::new(clock.clone())
}

#[cfg(test)]
mod tests {
    use super::super::handmade::{breaks, of_subscription};
    use super::*;
    use crate::model::{SubscriptionPaused, SubscriptionResumed};

    #[test]
    fn a_reader_that_saw_another_event_or_more_than_there_is_breaks_g4() {
        let seen = of_subscription([SubscriptionPaused {}.into(), SubscriptionPaused {}.into()]);
        let reader = Reader {
            seen: Mutex::new(seen.clone()),
        };
        reader.check(&seen).unwrap();
        let other = of_subscription([SubscriptionPaused {}.into(), SubscriptionResumed {}.into()]);
        breaks(reader.check(&other), "G4: 2 is another event");
        breaks(reader.check(&seen[..1]), "G4: more was read");
    }
}
