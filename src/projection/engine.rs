//! One projection at work: a thread that reads the log after its checkpoint, folds a batch,
//! commits rows and checkpoint together, and tells who waits.

use std::{
    future::pending,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Erased, HistoryError, OnBadEvent, ProjectError, Rhythm, RowError, StartError, ViewError,
    carry::Carrying,
    checkpoint::{self, Checkpoint},
    fold::{Folded, fold},
    log_history::is_passing_refusal,
    origin::fill,
    place::{Opened, Place},
    shared::{Halt, Phase, Shared},
    store::{AbsentStore, RowStore},
};
use crate::{
    clock::SharedClock,
    log::{Origin, StorageError},
    model::Position,
};

/// Most events in one batch: enough that a commit's fixed price is spread thin.
const BATCH_EVENTS: usize = 1_024;
/// A batch of fewer found little: more may come before the next look.
const LITTLE_EVENTS: usize = 256;
/// Rows that a start would have to read through, at most, while a store is small: some 60 ms of it.
const REPLAYED_BYTES_MAX: u64 = 64 << 20;
/// The same as a part of a large store. Opening one costs more than in proportion to its size: sled
/// looks through all segments for each of them.
const REPLAYED_PART: u64 = 32;
/// How often damaged rows are built again, each soon after the time before, until the projection gives
/// up: a row that it writes and cannot read would come again and again.
const REPAIRS_MAX: u32 = 3;
/// How soon that is.
const REPAIRS_WITHIN: Duration = Duration::from_hours(1);
/// The first pause before what the system refused is tried again. It doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause: rows move again well within 5 s of there being room.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Until it has caught up after a start, rows are flushed so many times as often: a process that lives
/// shortly again and again would never get on.
const CATCHING_UP_PART: u32 = 10;

/// The state of the thread.
pub(super) struct Engine {
    pub(super) projection: Box<dyn Erased>,
    pub(super) place: Place,
    pub(super) policy: OnBadEvent,
    pub(super) shared: Arc<Shared>,
    pub(super) checkpoint: Checkpoint,
    pub(super) generation: u64,
    pub(super) batch_events: usize,
    replayed_bytes_max: u64,
    pub(super) rhythm: Rhythm,
    pub(super) carrying: Option<Carrying>,
    beside: Option<Rebuild>,
    /// The cut for which the rows were built again last, or could not be.
    forgot: Position,
    clock: SharedClock,
    /// Since when rows are in memory alone.
    unflushed_since: Option<Duration>,
    /// How many events the last batch had.
    last_events: usize,
    repairs: u32,
    /// When rows were thrown away for damage last.
    repaired_at: Duration,
    /// It was too often: a rebuild alone sets it going again.
    gave_up: bool,
    /// How often in a row the system refused.
    refusals: u32,
    /// The store refused: it is opened again before it is used.
    stale: bool,
    caught_up_once: bool,
}

/// Why a step was not made.
pub(super) enum Trouble {
    Rows(RowError),
    History(HistoryError),
}

impl Trouble {
    /// Nothing more can be read, though there is more.
    pub(super) fn unreadable(after: Position) -> Self {
        Self::History(HistoryError {
            after,
            reason: "it ends too early".to_owned(),
            passing: false,
        })
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Rows(error) => error.to_string(),
            Self::History(error) => error.to_string(),
        }
    }
}

impl From<ProjectError> for Trouble {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::Rows(error) => Self::Rows(error),
            ProjectError::Event(reason) => Self::History(HistoryError {
                after: Position::ZERO,
                reason,
                passing: false,
            }),
        }
    }
}

/// The origin cannot be read.
impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::History(HistoryError {
            after: Position::ZERO,
            reason: error.to_string(),
            passing: is_passing_refusal(&error),
        })
    }
}

impl From<RowError> for Trouble {
    fn from(error: RowError) -> Self {
        Self::Rows(error)
    }
}

impl From<HistoryError> for Trouble {
    fn from(error: HistoryError) -> Self {
        Self::History(error)
    }
}

/// A second set of rows that is filled while the first serves.
struct Rebuild {
    store: Box<dyn RowStore>,
    checkpoint: Checkpoint,
    generation: u64,
    answers: Vec<oneshot::Sender<Result<Position, ViewError>>>,
}

impl Engine {
    /// An engine over opened rows; it answers through the `Shared` it returns.
    pub(super) fn new(
        projection: Box<dyn Erased>,
        place: Place,
        opened: Opened,
        policy: OnBadEvent,
        history: super::SharedHistory,
        clock: SharedClock,
    ) -> Self {
        let shared = Shared::new(projection.name(), opened.store, opened.checkpoint, history);
        Self {
            projection,
            place,
            policy,
            shared: Arc::new(shared),
            checkpoint: opened.checkpoint,
            generation: opened.generation,
            batch_events: BATCH_EVENTS,
            replayed_bytes_max: REPLAYED_BYTES_MAX,
            rhythm: Rhythm::IMMEDIATE,
            carrying: None,
            beside: None,
            forgot: Position::FIRST,
            clock,
            unflushed_since: None,
            last_events: 0,
            repairs: 0,
            repaired_at: Duration::ZERO,
            gave_up: false,
            refusals: 0,
            stale: false,
            caught_up_once: false,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime that only keeps time needs no resources");
        while !self.shared.orders.is_stopped() {
            self.take_orders();
            let worked = self.step();
            let rebuilt = self.step_rebuild();
            let carried = self.step_carry();
            if self.flush_due() == Some(Duration::ZERO)
                && let Err(error) = self.flush()
            {
                self.met(Trouble::Rows(error));
            }
            if self.is_long()
                && let Err(error) = self.reopen()
            {
                self.met(Trouble::Rows(error));
            }
            let found_little = worked && self.last_events < LITTLE_EVENTS;
            let rests = found_little && !rebuilt && !carried && !self.rhythm.pause.is_zero();
            if !rests && (worked || rebuilt || carried) {
                continue;
            }
            let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
            let pause = if rests {
                Some(self.rhythm.pause)
            } else {
                self.pause().or_else(|| self.flush_due())
            };
            let position = self.checkpoint.position;
            let follows = !rests && self.refusals == 0 && !shared.phase().is_halted();
            waiting.block_on(async {
                tokio::select! {
                    () = shared.orders.given() => {}
                    () = async {
                        match pause {
                            Some(pause) => clock.sleep(pause).await,
                            None => pending().await,
                        }
                    } => {}
                    () = shared.history.past(position), if follows => {}
                }
            });
        }
        if self.checkpoint.position >= self.shared.history.tip() {
            self.caught_up();
        }
        if let Err(error) = self.flush() {
            let projection = self.projection.name();
            tracing::warn!(projection, %error, "rows could not be flushed");
        }
        self.shared.stopped();
    }

    /// How long to wait before what the system refused is tried again.
    fn pause(&self) -> Option<Duration> {
        let doublings = self.refusals.checked_sub(1)?;
        let pause = RETRY_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
        Some(pause.min(RETRY_PAUSE_MAX))
    }

    /// In what time the rows are to be flushed, where any are in memory alone.
    fn flush_due(&self) -> Option<Duration> {
        let since = self.unflushed_since.filter(|_| !self.stale)?;
        let past = self.clock.elapsed().saturating_sub(since);
        let every = if self.caught_up_once {
            self.rhythm.flush_every
        } else {
            self.rhythm.flush_every / CATCHING_UP_PART
        };
        Some(every.saturating_sub(past))
    }

    fn take_orders(&mut self) {
        let answers = self.shared.orders.take_rebuilds();
        if answers.is_empty() && (self.beside.is_some() || !self.is_to_forget()) {
            return;
        }
        if let Some(beside) = &mut self.beside {
            beside.answers.extend(answers);
            return;
        }
        self.forgot = self.shared.history.begins();
        match self.place.fresh(self.generation + 1, Checkpoint::default()) {
            Ok(opened) => {
                self.beside = Some(Rebuild {
                    store: opened.store,
                    checkpoint: opened.checkpoint,
                    generation: opened.generation,
                    answers,
                });
            }
            Err(error) => self.refuse(answers, Position::ZERO, &error.to_string()),
        }
    }

    /// Whether the log was cut since the rows were begun, and they hold what is to be forgotten.
    /// Each cut is answered once: rows that cannot be built again are kept.
    fn is_to_forget(&self) -> bool {
        let begins = self.shared.progress.borrow().begins;
        self.projection.forgets() && self.shared.history.begins() > begins.max(self.forgot)
    }

    /// Folds the next batch into the live rows; false when there is nothing that can be done now.
    pub(super) fn step(&mut self) -> bool {
        // Also where it halted at an event: the rows before it can be had again.
        if self.shared.is_damaged() && !self.gave_up {
            return self.repair(&RowError::Damaged("a view met damage".to_owned()));
        }
        if self.shared.phase().is_halted() {
            return false;
        }
        match self.advance() {
            Ok(worked) => {
                self.go_on();
                worked
            }
            Err(trouble) => self.met(trouble),
        }
    }

    fn advance(&mut self) -> Result<bool, Trouble> {
        if self.stale {
            self.reopen()?;
        }
        let position = self.checkpoint.position;
        let history = &self.shared.history;
        let batch = history.read_after(position, self.batch_events)?;
        // Looked at behind the read, which would pass over what a cut between the two took away.
        if let Some(origin) = history.origin()
            && position < origin.last()
        {
            self.begin_anew(&origin)?;
            return Ok(true);
        }
        if batch.reached <= position {
            if !self.caught_up_once {
                self.caught_up();
                // What a start had to fold again is not left to the next.
                self.flush()?;
            }
            return Ok(false);
        }
        self.last_events = batch.events.len();
        let folded = {
            let store = self.shared.read();
            fold(
                self.projection.as_ref(),
                store.as_ref(),
                self.checkpoint,
                &batch,
                self.policy,
            )?
        };
        self.commit(folded)?;
        Ok(true)
    }

    /// The rows are behind the cut: others begin with what was carried over it.
    fn begin_anew(&mut self, origin: &Origin) -> Result<(), Trouble> {
        let old = self.generation;
        let empty = Checkpoint::serving(self.checkpoint.mended_at);
        let fresh = self.place.fresh(self.newest_generation() + 1, empty);
        let mut opened = fresh.map_err(|error| RowError::Io(error.to_string()))?;
        let (projection, empty) = (self.projection.as_ref(), opened.checkpoint);
        opened.checkpoint = fill(projection, opened.store.as_mut(), origin, empty)?;
        opened.store.settle()?;
        self.swap(self.shortened(opened)?);
        self.unflushed_since = Some(self.clock.elapsed());
        self.place.remove(old);
        Ok(())
    }

    fn newest_generation(&self) -> u64 {
        let beside = self.beside.as_ref().map(|beside| beside.generation);
        beside.map_or(self.generation, |beside| beside.max(self.generation))
    }

    fn commit(&mut self, folded: Folded) -> Result<(), RowError> {
        // The checkpoint moves with every batch.
        let changes_rows = folded.changes.len() > 1;
        let committed = self.shared.write().commit(folded.changes);
        if changes_rows {
            // Refused or not: they may be seen already.
            self.shared.changed();
        }
        committed?;
        if self.unflushed_since.is_none() {
            self.unflushed_since = Some(self.clock.elapsed());
        }
        if changes_rows && self.projection.is_prompt() {
            self.flush()?;
        }
        self.go_on();
        self.checkpoint = folded.checkpoint;
        self.shared.reached(self.checkpoint);
        if let Some(bad) = folded.halted {
            // Further the rows that were lost had not come either.
            self.checkpoint.mended_at = self.checkpoint.mended_at.min(self.checkpoint.position);
            self.shared.mended_at_most(self.checkpoint.position);
            self.halt(bad.position, bad.reason);
        }
        Ok(())
    }

    /// Damage is mended from the log, a refusal waited out; nothing else can be helped. Whether
    /// there is more to do at once.
    fn met(&mut self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Rows(error) if error.is_damage() => return self.repair(&error),
            Trouble::Rows(error) => {
                self.stale = true;
                self.wait(error.to_string());
            }
            Trouble::History(error) if error.passing => self.wait(error.to_string()),
            Trouble::History(error) => {
                self.halt(self.checkpoint.position.next(), error.to_string());
            }
        }
        false
    }

    /// A store that refused once may refuse until it is opened again. What was committed and did
    /// not reach the disk is folded again.
    fn reopen(&mut self) -> Result<(), RowError> {
        if !matches!(self.place, Place::Memory) {
            let mut live = self.shared.write();
            // The old one lets go of its directory first.
            *live = Box::new(AbsentStore);
            self.shared.changed();
            let opened = self.place.reopen(self.generation)?;
            *live = opened.store;
            self.shared.changed();
            self.checkpoint = Checkpoint {
                // What the store tells may be as of before this log was known.
                mended_at: self.checkpoint.mended_at,
                ..opened.checkpoint
            };
        }
        self.stale = false;
        self.unflushed_since = None;
        self.shared.reached(self.checkpoint);
        Ok(())
    }

    fn wait(&mut self, reason: String) {
        if self.refusals == 0 {
            tracing::warn!(
                projection = self.projection.name(),
                reason,
                "projection waits"
            );
        }
        self.refusals = self.refusals.saturating_add(1);
        self.shared.enter(Phase::Waiting { reason });
    }

    /// Whatever the system refused, it does no longer.
    fn go_on(&mut self) {
        self.refusals = 0;
        if matches!(self.shared.phase(), Phase::Waiting { .. }) {
            self.shared.enter(Phase::Running);
        }
    }

    /// The old version's rows are of no use to anyone once these have caught up.
    fn caught_up(&mut self) {
        if !self.caught_up_once {
            self.caught_up_once = true;
            self.place.remove_other_versions();
        }
    }

    fn halt(&mut self, position: Position, reason: String) {
        tracing::error!(projection = self.projection.name(), %position, reason, "projection halted");
        self.refusals = 0;
        self.shared.enter(Phase::Halted(Halt { position, reason }));
    }

    fn flush(&mut self) -> Result<(), RowError> {
        if self.unflushed_since.is_none() || self.stale {
            return Ok(());
        }
        self.unflushed_since = None;
        self.shared.write().settle()?;
        self.shared.read().flush()
    }

    /// Whether the next start would have much to read through in these rows. Opened again now, while
    /// none of them are in memory alone, they read it through once and for all.
    fn is_long(&self) -> bool {
        if self.unflushed_since.is_some() {
            return false;
        }
        let store = self.shared.read();
        let replayed = store.replayed_bytes();
        replayed >= self.replayed_bytes_max && replayed >= store.bytes_on_disk() / REPLAYED_PART
    }

    /// Rows that were filled in one go and serve nobody yet, opened again where that is worth it: while
    /// they serve it would hold up who reads them.
    fn shortened(&self, opened: Opened) -> Result<Opened, RowError> {
        if opened.store.replayed_bytes() < self.replayed_bytes_max {
            return Ok(opened);
        }
        opened.store.flush()?;
        drop(opened.store);
        self.place.reopen(opened.generation)
    }

    /// Throws the live rows away and begins again. Whether it could.
    fn repair(&mut self, error: &RowError) -> bool {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.repaired_at) >= REPAIRS_WITHIN {
            self.repairs = 0;
        }
        if self.repairs >= REPAIRS_MAX {
            self.gave_up = true;
            self.halt(self.checkpoint.position.next(), error.to_string());
            return false;
        }
        if self.refusals == 0 {
            tracing::warn!(projection = self.projection.name(), %error, "rows are built again");
        }
        let begun = Checkpoint::serving(self.shared.met_damage());
        let old = self.generation;
        match self.place.fresh(self.newest_generation() + 1, begun) {
            Ok(opened) => {
                self.repairs += 1;
                self.repaired_at = now;
                self.swap(opened);
                self.place.remove(old);
                true
            }
            Err(error) => {
                self.wait(error.to_string());
                false
            }
        }
    }

    fn swap(&mut self, opened: Opened) {
        // Where that is damaged the rest shows it.
        let begins = checkpoint::begins(opened.store.as_ref()).unwrap_or(Position::FIRST);
        self.shared.replace(opened.store, begins, opened.checkpoint);
        self.checkpoint = opened.checkpoint;
        self.generation = opened.generation;
        self.stale = false;
        self.refusals = 0;
        self.shared.enter(Phase::Running);
    }

    /// Folds the next batch into the rows beside; strict: a bad event ends the rebuild.
    fn step_rebuild(&mut self) -> bool {
        let Some(mut beside) = self.beside.take() else {
            return false;
        };
        match self.fold_beside(&mut beside) {
            Ok(true) => self.beside = Some(beside),
            Ok(false) => self.finish_rebuild(beside),
            Err((position, reason)) => {
                drop(beside.store);
                self.place.remove(beside.generation);
                self.refuse(beside.answers, position, &reason);
            }
        }
        true
    }

    /// Whether there is more to fold.
    fn fold_beside(&self, beside: &mut Rebuild) -> Result<bool, (Position, String)> {
        let at = beside.checkpoint.position;
        let failed = |reason: String| (at.next(), reason);
        let history = &self.shared.history;
        let batch = history
            .read_after(at, self.batch_events)
            .map_err(|error| failed(error.to_string()))?;
        if let Some(origin) = history.origin()
            && at < origin.last()
        {
            if at > Position::ZERO {
                return Err(failed("the log was cut meanwhile; ask again".to_owned()));
            }
            let (projection, empty) = (self.projection.as_ref(), beside.checkpoint);
            let filled = fill(projection, beside.store.as_mut(), &origin, empty);
            beside.checkpoint = filled.map_err(|trouble| failed(trouble.reason()))?;
            return Ok(true);
        }
        if batch.reached <= at {
            return Ok(false);
        }
        let folded = fold(
            self.projection.as_ref(),
            beside.store.as_ref(),
            beside.checkpoint,
            &batch,
            OnBadEvent::Halt,
        )
        .map_err(|error| failed(error.to_string()))?;
        if let Some(bad) = folded.halted {
            return Err((bad.position, bad.reason));
        }
        beside.checkpoint = folded.checkpoint;
        let committed = beside.store.commit(folded.changes);
        committed.map_err(|error| failed(error.to_string()))?;
        Ok(true)
    }

    /// Marks the new rows as ready, serves them, deletes the old ones.
    fn finish_rebuild(&mut self, mut beside: Rebuild) {
        beside.checkpoint.ready = true;
        let marked = beside
            .store
            .commit(beside.checkpoint.as_change())
            .and_then(|()| beside.store.settle())
            .and_then(|()| beside.store.flush());
        let opened = Opened {
            store: beside.store,
            checkpoint: beside.checkpoint,
            generation: beside.generation,
        };
        let opened = match marked.and_then(|()| self.shortened(opened)) {
            Ok(opened) => opened,
            Err(error) => {
                self.place.remove(beside.generation);
                let position = beside.checkpoint.position;
                return self.refuse(beside.answers, position, &error.to_string());
            }
        };
        let old = self.generation;
        self.repairs = 0;
        self.gave_up = false;
        self.swap(opened);
        self.place.remove(old);
        for answer in beside.answers {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(Ok(self.checkpoint.position));
        }
    }

    fn refuse(
        &self,
        answers: Vec<oneshot::Sender<Result<Position, ViewError>>>,
        position: Position,
        reason: &str,
    ) {
        self.shared.gave_up_forgetting(self.forgot);
        for answer in answers {
            let _ = answer.send(Err(ViewError::Rebuild {
                projection: self.projection.name(),
                position,
                reason: reason.to_owned(),
            }));
        }
    }
}

impl Engine {
    /// Starts the thread.
    pub(super) fn spawn(self) -> Result<std::thread::JoinHandle<()>, StartError> {
        let name = self.projection.name();
        std::thread::Builder::new()
            .name(format!("projection-{name}"))
            .spawn(move || self.run())
            .map_err(|source| StartError::Thread { name, source })
    }
}

/// A lock is poisoned only by a panic, and no code under these locks leaves them half changed.
pub(super) fn unpoisoned<G>(guard: Result<G, PoisonError<G>>) -> G {
    guard.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        log::RecordedEvent,
        projection::{
            Projection, Row, Rows, SharedHistory, View,
            deliveries::Deliveries,
            store::{Changes, Direction, Scan},
        },
        testing::{
            history::{HistoryOptions, generate},
            memory_history::MemoryHistory,
        },
    };

    /// Rows on a disk without room.
    struct Full(Box<dyn RowStore>);

    impl RowStore for Full {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
            self.0.get(key)
        }

        fn scan(&self, range: std::ops::Range<Vec<u8>>, direction: Direction) -> Scan<'_> {
            self.0.scan(range, direction)
        }

        fn commit(&mut self, _: Changes) -> Result<(), RowError> {
            Err(RowError::Io("no space left".to_owned()))
        }

        fn flush(&self) -> Result<(), RowError> {
            Err(RowError::Io("no space left".to_owned()))
        }
    }

    fn place_in(root: &std::path::Path) -> Place {
        Place::Disk {
            root: root.to_owned(),
            name: "deliveries",
            version: 1,
        }
    }

    /// An engine with nothing folded in this directory, over a store that is made of its own, and the
    /// log that it is to fold.
    fn set_up(
        root: &std::path::Path,
        over: impl Fn(Box<dyn RowStore>) -> Box<dyn RowStore>,
    ) -> (Engine, SharedHistory) {
        let place = place_in(root);
        let begun = Checkpoint::serving(Position::ZERO);
        let mut opened = place.fresh(1, begun).expect("a directory of its own");
        opened.store = over(opened.store);
        let events = generate(1, &HistoryOptions::default());
        let history: SharedHistory = Arc::new(MemoryHistory::new(events));
        let engine = Engine::new(
            Box::new(Deliveries),
            place,
            opened,
            OnBadEvent::Halt,
            Arc::clone(&history),
            SystemClock::shared(),
        );
        (engine, history)
    }

    /// An engine over what a start finds in this directory.
    fn started<P: Projection + Default>(root: &std::path::Path, history: &SharedHistory) -> Engine {
        let place = place_in(root);
        let opened = place.open().expect("rows or none");
        let opened = place
            .within(opened, history.tip())
            .expect("rows of this log");
        Engine::new(
            Box::new(P::default()),
            place,
            opened,
            OnBadEvent::Halt,
            Arc::clone(history),
            SystemClock::shared(),
        )
    }

    fn view<P: Projection>(engine: &Engine) -> View<P> {
        View::new(Arc::clone(&engine.shared), SystemClock::shared())
    }

    /// Every row, as a view answers it.
    fn answer<P: Projection>(engine: &Engine) -> Result<Vec<Row>, ViewError> {
        view::<P>(engine).range(Vec::new()..vec![u8::MAX; 64], usize::MAX)
    }

    fn is_mending(answer: &Result<Vec<Row>, ViewError>) -> bool {
        matches!(answer, Err(ViewError::Mending { .. }))
    }

    #[test]
    fn rows_found_damaged_at_a_start_answer_once_they_have_caught_up() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        while engine.step() {}
        let before = answer::<Deliveries>(&engine).unwrap();
        engine.flush().unwrap();
        drop(engine);
        let database = directory.path().join("deliveries-1/1/db");
        let length = std::fs::metadata(&database).unwrap().len();
        let damage = vec![0x55; usize::try_from(length).unwrap()];
        std::fs::write(&database, damage).unwrap();

        let mut engine = started::<Deliveries>(directory.path(), &history);
        assert_eq!(engine.checkpoint.position, Position::ZERO);
        assert!(is_mending(&answer::<Deliveries>(&engine)));
        // A start that was killed before it knew the log leaves no rows that answer either.
        drop(engine);
        drop(place_in(directory.path()).open().unwrap());
        engine = started::<Deliveries>(directory.path(), &history);
        assert!(is_mending(&answer::<Deliveries>(&engine)));
        while engine.step() {}
        assert_eq!(answer::<Deliveries>(&engine).unwrap(), before);
        engine.reopen().unwrap();
        assert!(engine.checkpoint.mended_at <= history.tip());
    }

    #[test]
    fn rows_half_built_again_at_a_kill_answer_after_it_once_they_are_as_far_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        while engine.step() {}
        let before = answer::<Deliveries>(&engine).unwrap();
        engine.shared.met_damage();
        engine.batch_events = 2;
        assert!(engine.step(), "they are begun again");
        assert!(engine.step(), "a part of them is folded");
        engine.flush().unwrap();
        let half = engine.checkpoint.position;
        assert!(Position::ZERO < half && half < history.tip());
        drop(engine);

        for _ in 0..2 {
            let engine = started::<Deliveries>(directory.path(), &history);
            assert_eq!(engine.checkpoint.position, half);
            assert!(is_mending(&answer::<Deliveries>(&engine)));
        }
        let mut engine = started::<Deliveries>(directory.path(), &history);
        while engine.step() {}
        assert_eq!(answer::<Deliveries>(&engine).unwrap(), before);
        engine.flush().unwrap();
        drop(engine);
        let engine = started::<Deliveries>(directory.path(), &history);
        assert_eq!(answer::<Deliveries>(&engine).unwrap(), before);
    }

    /// A row for each event, of which two make a node that sled keeps in a file of its own.
    #[derive(Default)]
    struct Large;

    impl Projection for Large {
        const NAME: &'static str = "deliveries";
        const VERSION: u32 = 1;

        fn project(&self, rows: &mut Rows<'_>, event: &RecordedEvent) -> Result<(), ProjectError> {
            let position = event.position.get();
            rows.put(
                position.to_be_bytes().to_vec(),
                vec![position.to_le_bytes()[0]; 96 << 10],
            );
            Ok(())
        }
    }

    #[test]
    fn rows_whose_large_nodes_are_gone_or_cut_off_are_built_again() {
        let gone: fn(&std::path::Path) = |node| std::fs::remove_file(node).unwrap();
        let cut_off: fn(&std::path::Path) = |node| std::fs::write(node, "").unwrap();
        let events = generate(1, &HistoryOptions::default());
        let events = events.into_iter().take(40).collect();
        let history: SharedHistory = Arc::new(MemoryHistory::new(events));
        for (spoil, is_met_at_a_start) in [
            (gone, true),
            (gone, false),
            (cut_off, true),
            (cut_off, false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let start = || started::<Large>(directory.path(), &history);
            let mut engine = start();
            while engine.step() {}
            let before = answer::<Large>(&engine).unwrap();
            engine.flush().unwrap();
            drop(engine);
            // From then on it opens without a look into most of them.
            drop(start());
            drop(start());
            let spoil_all = || {
                let nodes = directory.path().join("deliveries-1/1/blobs");
                let nodes: Vec<_> = std::fs::read_dir(nodes).unwrap().collect();
                assert!(nodes.len() > 2);
                for node in nodes {
                    spoil(&node.unwrap().path());
                }
            };

            let mut engine = if is_met_at_a_start {
                spoil_all();
                start()
            } else {
                let engine = start();
                spoil_all();
                engine
            };
            let is_begun_anew = engine.checkpoint.position == Position::ZERO;
            assert_eq!(is_begun_anew, is_met_at_a_start);
            assert!(answer::<Large>(&engine).is_err());
            while engine.step() {}
            assert_eq!(engine.shared.phase(), Phase::Running);
            assert_eq!(answer::<Large>(&engine).unwrap(), before);
        }
    }

    #[test]
    fn rows_that_were_written_for_long_are_opened_again_and_stay_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        engine.replayed_bytes_max = 1;
        assert!(!engine.is_long(), "nothing was written");
        assert!(engine.step());
        assert!(!engine.is_long(), "they are in memory alone");
        while engine.step() {}
        assert!(engine.is_long());
        let rows = |engine: &Engine| {
            let store = engine.shared.read();
            let rows = store.scan(Vec::new()..vec![u8::MAX; 64], Direction::Up);
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let before = rows(&engine);
        engine.reopen().unwrap();
        assert!(!engine.is_long());
        assert_eq!(rows(&engine), before);
        assert_eq!(engine.checkpoint.position, history.tip());
        assert_eq!(engine.shared.phase(), Phase::Running);
    }

    #[test]
    fn what_was_folded_at_a_start_is_not_folded_again_by_the_next_however_soon_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        assert!(engine.step());
        let due = engine.flush_due().expect("rows are in memory alone");
        assert!(due < engine.rhythm.flush_every, "{due:?}");
        while engine.step() {}
        assert_eq!(engine.flush_due(), None);
        drop(engine);
        let found = place_in(directory.path()).open().expect("rows");
        assert_eq!(found.checkpoint.position, history.tip());
    }

    #[test]
    fn damaged_rows_are_thrown_away_once_that_can_be_done() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        while engine.step() {}
        let rows = directory.path().join("deliveries-1");
        let aside = directory.path().join("aside");
        std::fs::rename(&rows, &aside).unwrap();
        std::fs::write(&rows, "no directory").unwrap();
        engine.shared.met_damage();
        for _ in 0..3 {
            assert!(!engine.step());
            assert!(engine.pause().is_some());
            assert!(!engine.shared.progress.borrow().answers());
        }
        std::fs::remove_file(&rows).unwrap();
        std::fs::rename(&aside, &rows).unwrap();
        while engine.step() {}
        assert!(engine.shared.progress.borrow().answers());
        assert_eq!(engine.shared.phase(), Phase::Running);
        assert_eq!(engine.checkpoint.position, history.tip());
    }

    #[test]
    fn a_projection_that_halted_mends_the_rows_before_that() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, _) = set_up(directory.path(), |store| store);
        while engine.step() {}
        engine.halt(engine.checkpoint.position.next(), "told to".to_owned());
        assert!(!engine.step());
        engine.shared.met_damage();
        assert!(engine.step());
        while engine.step() {}
        assert!(engine.shared.progress.borrow().answers());
    }

    #[test]
    fn rows_that_are_damaged_again_and_again_halt() {
        let directory = tempfile::tempdir().unwrap();
        let (mut engine, history) = set_up(directory.path(), |store| store);
        for _ in 0..=REPAIRS_MAX {
            assert_eq!(engine.shared.phase(), Phase::Running);
            while engine.step() {}
            assert_eq!(engine.checkpoint.position, history.tip());
            engine.shared.met_damage();
        }
        assert!(!engine.step());
        assert!(engine.shared.phase().is_halted());
    }

    #[test]
    fn rows_that_the_disk_refused_are_folded_once_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let full = |store| Box::new(Full(store)) as Box<dyn RowStore>;
        let (mut engine, history) = set_up(directory.path(), full);
        assert!(!engine.step());
        assert!(matches!(engine.shared.phase(), Phase::Waiting { .. }));
        assert_eq!(engine.pause(), Some(RETRY_PAUSE));
        // A closed store lets go of its file from another thread, a little later.
        while !engine.step() {
            assert!(engine.pause() <= Some(RETRY_PAUSE_MAX));
            std::thread::yield_now();
        }
        while engine.step() {}
        assert_eq!(engine.shared.phase(), Phase::Running);
        assert_eq!(engine.pause(), None);
        assert_eq!(engine.checkpoint.position, history.tip());
    }
}
