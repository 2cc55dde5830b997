//! Projections at work: rebuilds, crashes, damage, bad events, waiting.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use hooklog::{
    clock::SystemClock,
    log::{EventLog, ExpectedVersion, LogOptions, RecordedEvent, Urgency},
    model::Position,
    projection::{
        Batch, History, HistoryError, OnBadEvent, Phase, ProjectError, Projection, Projections,
        ReadRows, ReplayUntil, Row, RowError, Rows, SharedHistory, Storage, View, ViewError,
        access::Access, dead_letters::DeadLetters, deliveries::Deliveries, fold_all,
        idempotency_keys::IdempotencyKeys, jobs::Jobs, metrics::Metrics, replay,
        subscriptions::Subscriptions,
    },
    testing::{
        MemoryStorage,
        history::{HistoryOptions, generate},
        log_conformance::{message, options, stream},
        memory_history::MemoryHistory,
    },
};

use crate::support::seed::seed;

const LONG: Duration = Duration::from_mins(1);

fn events(seed: u64, count: usize) -> Vec<Arc<RecordedEvent>> {
    generate(
        seed,
        &HistoryOptions {
            events: count,
            ..Default::default()
        },
    )
}

fn rows<P: Projection>(view: &View<P>) -> Vec<Row> {
    view.range(Vec::new()..vec![255; 64], usize::MAX).unwrap()
}

fn projections(directory: &Path, history: &SharedHistory) -> Projections {
    let storage = Storage::Directory(directory.to_owned());
    Projections::new(storage, Arc::clone(history), SystemClock::shared())
}

/// Counts events; fails where it is told to, after having written.
struct Counting {
    bad: Vec<u64>,
    panics: bool,
}

impl Counting {
    const GOOD: Self = Self {
        bad: Vec::new(),
        panics: false,
    };
}

impl Projection for Counting {
    const NAME: &'static str = "counting";
    const VERSION: u32 = 1;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let count = rows.get(b"count")?.map_or(0, |row| row.len());
        rows.put(b"count", vec![1; count + 1]);
        if self.bad.contains(&recorded.position.get()) {
            assert!(!self.panics, "told to panic");
            return Err(ProjectError::event("told to fail"));
        }
        Ok(())
    }
}

struct CountingMore;

impl Projection for CountingMore {
    const NAME: &'static str = "counting";
    const VERSION: u32 = 2;

    fn project(&self, rows: &mut Rows<'_>, _: &RecordedEvent) -> Result<(), ProjectError> {
        rows.edit(b"count", Vec::new)?.extend([1, 1]);
        Ok(())
    }
}

/// One that stands still until the other end is gone.
struct Stalled(mpsc::Receiver<()>);

impl Projection for Stalled {
    const NAME: &'static str = "stalled";
    const VERSION: u32 = 1;

    fn project(&self, _: &mut Rows<'_>, _: &RecordedEvent) -> Result<(), ProjectError> {
        assert!(self.0.recv().is_err(), "nothing is sent");
        Ok(())
    }
}

fn counted(view: &View<Counting>) -> usize {
    view.get(b"count").unwrap().map_or(0, |row| row.len())
}

#[test]
fn rows_do_not_depend_on_where_batches_end() {
    fn check<P: Projection + Copy>(projection: P, events: &[Arc<RecordedEvent>], seed: u64) {
        let whole: SharedHistory = Arc::new(MemoryHistory::new(events.to_vec()));
        let parts = MemoryHistory::new(events.to_vec()).in_random_batches(seed);
        let parts: SharedHistory = Arc::new(parts);
        let clock = SystemClock::shared();
        let whole = fold_all(projection, &whole, &clock).unwrap();
        let parts = fold_all(projection, &parts, &clock).unwrap();
        assert!(rows(&whole) == rows(&parts), "{}", P::NAME);
        assert!(!rows(&whole).is_empty());
    }
    let base = seed();
    for seed in (0..4).map(|n| base.wrapping_add(n)) {
        let events = events(seed, 4_000);
        check(Deliveries, &events, seed);
        check(Metrics, &events, seed);
        check(DeadLetters, &events, seed);
        check(Subscriptions, &events, seed);
    }
}

#[tokio::test]
async fn rebuilt_rows_equal_live_rows_byte_for_byte() {
    let events = events(seed(), 5_000);
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryHistory::new(events[..2_000].to_vec()).in_random_batches(9));
    let history: SharedHistory = log.clone();
    let mut set = projections(directory.path(), &history);
    let view = set.start(Deliveries, OnBadEvent::Halt).unwrap();
    for part in events[2_000..].chunks(700) {
        log.extend(part.to_vec());
        view.at(part.last().unwrap().position, LONG).await.unwrap();
    }
    let live = rows(&view);
    assert_eq!(view.rebuild().await.unwrap(), history.tip());
    assert!(rows(&view) == live);
    set.stop();
    drop((set, view));

    fs::remove_dir_all(directory.path()).unwrap();
    let mut set = projections(directory.path(), &history);
    let view = set.start(Deliveries, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    assert!(rows(&view) == live);
}

#[tokio::test]
async fn a_rebuild_begins_empty_whatever_stands_in_its_place() {
    let history: SharedHistory = Arc::new(MemoryHistory::new(events(1, 50)));
    let directory = tempfile::tempdir().unwrap();
    let left_over = tempfile::tempdir().unwrap();
    let mut set = projections(left_over.path(), &history);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    drop((set, view));

    let mut set = projections(directory.path(), &history);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    let next = directory.path().join("counting-1/2");
    copy_tree(&left_over.path().join("counting-1/1"), &next, false);
    view.rebuild().await.unwrap();
    assert_eq!(counted(&view) as u64, history.tip().get());

    // What cannot be deleted is not built upon.
    fs::write(directory.path().join("counting-1/3"), "in the way").unwrap();
    let error = view.rebuild().await.unwrap_err();
    assert!(matches!(error, ViewError::Rebuild { .. }), "{error}");
    assert_eq!(counted(&view) as u64, history.tip().get());
}

#[tokio::test]
async fn after_a_crash_rows_and_checkpoint_agree() {
    let seed = seed();
    let events = events(seed, 3_000);
    let expected = {
        let whole: SharedHistory = Arc::new(MemoryHistory::new(events.clone()));
        rows(&fold_all(Metrics, &whole, &SystemClock::shared()).unwrap())
    };
    for round in 0..6_u64 {
        let (live, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cut = 300 + 400 * usize::try_from(round).unwrap();
        let part = MemoryHistory::new(events[..cut].to_vec()).in_random_batches(seed ^ round);
        let part: SharedHistory = Arc::new(part);
        let mut set = projections(live.path(), &part);
        let view = set.start(Metrics, OnBadEvent::Halt).unwrap();
        view.at(Position::new(cut as u64 / 2), LONG).await.unwrap();
        // The files as a killed process leaves them, the last of them torn in every other round.
        copy_tree(live.path(), copy.path(), round % 2 == 1);
        drop((set, view));

        let whole: SharedHistory = Arc::new(MemoryHistory::new(events.clone()));
        let mut set = projections(copy.path(), &whole);
        let view = set.start(Metrics, OnBadEvent::Halt).unwrap();
        view.at(whole.tip(), LONG).await.unwrap();
        assert!(rows(&view) == expected, "round {round}");
    }
}

fn copy_tree(from: &Path, to: &Path, torn: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target, torn);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            if torn && entry.file_name() == "db" {
                let file = fs::File::options().write(true).open(&target).unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length - length / 5).unwrap();
            }
        }
    }
}

/// How often the rows of each projection are damaged.
const DAMAGES: u64 = 8;
/// Bytes that are flipped in every other round; one in the rest.
const MANY_FLIPS: u32 = 200;

#[tokio::test]
async fn damaged_rows_are_built_again() {
    let seed = seed();
    let history: SharedHistory = Arc::new(MemoryHistory::new(events(seed, 1_500)));
    built_again::<Access>(&history, seed).await;
    built_again::<DeadLetters>(&history, seed).await;
    built_again::<Deliveries>(&history, seed).await;
    built_again::<IdempotencyKeys>(&history, seed).await;
    built_again::<Jobs>(&history, seed).await;
    built_again::<Metrics>(&history, seed).await;
    built_again::<Subscriptions>(&history, seed).await;
}

async fn built_again<P: Projection + Default>(history: &SharedHistory, seed: u64) {
    for round in 0..DAMAGES {
        let directory = tempfile::tempdir().unwrap();
        let mut set = projections(directory.path(), history);
        let view = set.start(P::default(), OnBadEvent::Halt).unwrap();
        view.at(history.tip(), LONG).await.unwrap();
        let expected = rows(&view);
        drop((set, view));

        let rows_of = format!("{}-{}/1/db", P::NAME, P::VERSION);
        let flips = if round % 2 == 0 { MANY_FLIPS } else { 1 };
        flip_bytes(&directory.path().join(rows_of), flips, seed ^ round);
        let mut set = projections(directory.path(), history);
        let view = set.start(P::default(), OnBadEvent::Halt).unwrap();
        assert!(
            settled_rows(&view, history.tip()).await == expected,
            "{}, round {round}",
            P::NAME
        );
    }
}

/// Reads until an answer comes: a read that meets damage has the rows built again.
async fn settled_rows<P: Projection>(view: &View<P>, tip: Position) -> Vec<Row> {
    for _ in 0..10 {
        view.at(tip, LONG).await.unwrap();
        match view.range(Vec::new()..vec![255; 64], usize::MAX) {
            Ok(rows) => return rows,
            Err(ViewError::Mending { .. }) => {}
            Err(ViewError::Rows(error)) => assert!(error.is_damage(), "{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("still damaged");
}

fn flip_bytes(path: &Path, flips: u32, seed: u64) {
    let mut bytes = fs::read(path).unwrap();
    let length = u64::try_from(bytes.len()).unwrap();
    let mut at = seed;
    for _ in 0..flips {
        at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes[usize::try_from((at >> 16) % length).unwrap()] ^= 0x55;
    }
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn damaged_rows_answer_nothing_until_they_are_as_far_again_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(Refusing {
        log: MemoryHistory::new(events(1, 50)),
        refusals: AtomicU32::new(0),
    });
    let history: SharedHistory = log.clone();
    let mut set = projections(directory.path(), &history);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    let before = rows(&view);

    // From here on nothing can be folded.
    log.refusals.store(u32::MAX, Relaxed);
    let damage = RowError::Damaged("made up".to_owned());
    let told = view.read(|_| Err::<(), _>(damage.clone().into()));
    assert_eq!(told, Err(ViewError::Rows(damage)));
    let mending = ViewError::Mending {
        projection: "counting",
    };
    assert_eq!(view.get(b"count"), Err(mending.clone()));
    let is_new = |set: &Projections| set.statuses()[0].position == Position::ZERO;
    while !is_new(&set) {
        tokio::task::yield_now().await;
    }
    assert_eq!(view.get(b"count"), Err(mending), "empty rows are no answer");
    let behind = view.at(history.tip(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(behind, ViewError::Behind { .. }), "{behind}");

    log.refusals.store(0, Relaxed);
    view.at(history.tip(), LONG).await.unwrap();
    assert_eq!(rows(&view), before);
}

#[tokio::test]
async fn a_bad_event_halts_and_leaves_the_rows_as_before_it() {
    for panics in [false, true] {
        let history: SharedHistory = Arc::new(MemoryHistory::new(events(1, 50)));
        let mut set = Projections::new(Storage::Memory, history.clone(), SystemClock::shared());
        let counting = Counting {
            bad: vec![20],
            panics,
        };
        let view = set.start(counting, OnBadEvent::Halt).unwrap();
        let error = view.at(history.tip(), LONG).await.unwrap_err();
        let ViewError::Halted {
            position, reason, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(position, Position::new(20));
        assert!(reason.contains("told to"), "{reason}");
        assert_eq!((view.position(), counted(&view)), (Position::new(19), 19));
        assert_eq!(view.lag().0, history.tip().get() - 19);
        let error = view.rebuild().await.unwrap_err();
        assert!(matches!(error, ViewError::Rebuild { .. }), "{error}");
        assert_eq!(counted(&view), 19);
    }
}

#[tokio::test]
async fn a_bad_event_is_skipped_and_listed_where_that_is_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let history: SharedHistory = Arc::new(MemoryHistory::new(events(1, 50)));
    let tip = history.tip().get();
    let mut set = projections(directory.path(), &history);
    let counting = Counting {
        bad: vec![1, 20, 21, tip],
        panics: false,
    };
    let view = set.start(counting, OnBadEvent::SkipAndRecord).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    let skipped = view.skipped(10).unwrap();
    let positions: Vec<_> = skipped.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [1, 20, 21, tip]);
    assert_eq!(skipped[0].reason, "told to fail");
    assert_eq!(counted(&view), usize::try_from(tip).unwrap() - 4);
    assert_eq!(set.statuses()[0].skipped, 4);
    let error = view.rebuild().await.unwrap_err();
    assert!(
        matches!(error, ViewError::Rebuild { .. }),
        "a rebuild is strict: {error}"
    );
}

#[tokio::test]
async fn another_version_is_built_beside_and_the_old_one_removed() {
    let directory = tempfile::tempdir().unwrap();
    let history: SharedHistory = Arc::new(MemoryHistory::new(events(1, 50)));
    let mut set = projections(directory.path(), &history);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    drop((set, view));
    assert!(directory.path().join("counting-1").exists());

    let mut set = projections(directory.path(), &history);
    let view = set.start(CountingMore, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    let count = view.get(b"count").unwrap().unwrap().len() as u64;
    assert_eq!(count, 2 * history.tip().get());
    set.stop();
    assert!(!directory.path().join("counting-1").exists());
    assert_eq!(view.phase(), Phase::Stopped);
    assert!(matches!(view.get(b"count"), Err(ViewError::Stopped { .. })));

    // The directory is free although a view is still held.
    let mut set = projections(directory.path(), &history);
    let again = set.start(CountingMore, OnBadEvent::Halt).unwrap();
    assert_eq!(again.position(), history.tip());
    drop(view);
}

#[tokio::test]
async fn rows_ahead_of_the_log_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let long: SharedHistory = Arc::new(MemoryHistory::new(events(1, 60)));
    let mut set = projections(directory.path(), &long);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(long.tip(), LONG).await.unwrap();
    drop((set, view));

    let short: SharedHistory = Arc::new(MemoryHistory::new(events(1, 60)[..30].to_vec()));
    let mut set = projections(directory.path(), &short);
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(Position::new(30), LONG).await.unwrap();
    assert_eq!(view.position(), Position::new(30));
    assert_eq!(counted(&view), 30);
}

/// A log that cannot be read for a while.
struct Refusing {
    log: MemoryHistory,
    refusals: AtomicU32,
}

impl History for Refusing {
    fn read_after(&self, after: Position, limit: usize) -> Result<Batch, HistoryError> {
        let left = self
            .refusals
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(HistoryError {
                after,
                reason: "too many open files".to_owned(),
                passing: true,
            }),
            Err(_) => self.log.read_after(after, limit),
        }
    }

    fn tip(&self) -> Position {
        self.log.tip()
    }

    fn past(&self, after: Position) -> BoxFuture<'static, ()> {
        self.log.past(after)
    }
}

#[tokio::test]
async fn a_projection_waits_for_what_the_system_refuses_and_goes_on() {
    let refusing = Refusing {
        log: MemoryHistory::new(events(1, 50)),
        refusals: AtomicU32::new(3),
    };
    let history: SharedHistory = Arc::new(refusing);
    let mut set = Projections::new(Storage::Memory, history.clone(), SystemClock::shared());
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    assert_eq!(counted(&view) as u64, history.tip().get());
    assert_eq!(view.phase(), Phase::Running);
}

/// A log of ten messages whose last page, of one message, is damaged.
async fn log_with_a_damaged_tail() -> EventLog {
    let storage = MemoryStorage::new();
    let log = EventLog::open_with(Arc::new(storage.clone()), options(1 << 20)).unwrap();
    for number in 0..10 {
        let events = vec![message(number, 100)];
        log.append(stream(1), ExpectedVersion::Any, events, Urgency::Now)
            .await
            .unwrap();
    }
    log.close();
    let key = b"p\0\0\0\0\0\0\0\x0a\0\0".to_vec();
    let mut rows = storage.rows(Position::FIRST).into_iter();
    let (_, mut page) = rows.find(|(other, _)| *other == key).unwrap();
    *page.last_mut().unwrap() ^= 1;
    storage.overwrite(Position::FIRST, &key, Some(page));
    EventLog::open_with(Arc::new(storage), options(1 << 20)).unwrap()
}

#[tokio::test]
async fn a_projection_that_stands_still_holds_up_neither_the_log_nor_another() {
    let log = EventLog::open_with(Arc::new(MemoryStorage::new()), options(1 << 20)).unwrap();
    let history: SharedHistory = Arc::new(log.clone());
    let mut set = Projections::new(Storage::Memory, history.clone(), SystemClock::shared());
    let (stands, still) = mpsc::channel();
    let stalled = set.start(Stalled(still), OnBadEvent::Halt);
    let (stalled, counting) = (
        stalled.unwrap(),
        set.start(Counting::GOOD, OnBadEvent::Halt).unwrap(),
    );
    for number in 0..500 {
        let events = vec![message(number, 100)];
        let append = log.enqueue(stream(1), ExpectedVersion::Any, events, Urgency::Now);
        append.unwrap().await.unwrap();
    }
    counting.at(log.head(), LONG).await.unwrap();
    assert_eq!(counted(&counting), 500);
    assert_eq!(stalled.position(), Position::ZERO);
    drop(stands);
    stalled.at(log.head(), LONG).await.unwrap();
}

#[tokio::test]
async fn a_log_whose_last_events_are_damaged_is_caught_up_with() {
    let log = log_with_a_damaged_tail().await;
    assert_eq!(log.head(), Position::new(10));
    let history: SharedHistory = Arc::new(log);
    let mut set = Projections::new(Storage::Memory, history.clone(), SystemClock::shared());
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    view.at(history.tip(), LONG).await.unwrap();
    assert_eq!((view.lag().0, counted(&view)), (0, 9));
    view.rebuild().await.unwrap();
    assert_eq!((view.lag().0, counted(&view)), (0, 9));
    let as_it_was = replay(history, ReplayUntil::Now, &SystemClock::shared()).unwrap();
    assert_eq!(as_it_was.position, Position::new(10));
}

#[tokio::test]
async fn large_messages_are_read_a_few_at_a_time() {
    for tail_cache_bytes in [0, 64 << 20] {
        let settings = LogOptions {
            tail_cache_bytes,
            ..options(1 << 30)
        };
        let log = EventLog::open_with(Arc::new(MemoryStorage::new()), settings).unwrap();
        for number in 0..12 {
            let events = vec![message(number, 1 << 20)];
            log.append(stream(1), ExpectedVersion::Any, events, Urgency::Now)
                .await
                .unwrap();
        }
        let (mut after, mut reads) = (Position::ZERO, 0);
        while after < log.head() {
            let batch = log.read_after(after, 1_024).unwrap();
            assert!((1..=5).contains(&batch.events.len()), "{batch:?}");
            assert_eq!(batch.events[0].position, after.next());
            after = batch.reached;
            reads += 1;
        }
        assert!(reads >= 3, "{reads}");
    }
}

#[tokio::test]
async fn a_reader_waits_for_what_it_wrote_and_is_told_of_changes() {
    let events = events(2, 80);
    let log = Arc::new(MemoryHistory::new(events[..40].to_vec()));
    let history: SharedHistory = log.clone();
    let mut set = Projections::new(Storage::Memory, history, SystemClock::shared());
    let view = set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    let late = view
        .at(Position::new(41), Duration::from_millis(1))
        .await
        .unwrap_err();
    assert!(matches!(late, ViewError::Behind { .. }), "{late}");
    let watcher = {
        let view = view.clone();
        tokio::spawn(async move { view.changed(Position::new(40)).await.unwrap() })
    };
    log.extend(events[40..].to_vec());
    let read = view
        .at(Position::new(events.len() as u64), LONG)
        .await
        .unwrap();
    assert_eq!(counted(read), events.len());
    assert!(watcher.await.unwrap() > Position::new(40));
    set.stop();
    assert!(view.changed(Position::MAX).await.is_err());
    assert!(view.rebuild().await.is_err());
}

#[test]
fn names_are_checked_and_taken_once() {
    struct Bad;
    impl Projection for Bad {
        const NAME: &'static str = "../up";
        const VERSION: u32 = 1;
        fn project(&self, _: &mut Rows<'_>, _: &RecordedEvent) -> Result<(), ProjectError> {
            Ok(())
        }
    }
    let history: SharedHistory = Arc::new(MemoryHistory::new(Vec::new()));
    let mut set = Projections::new(Storage::Memory, history, SystemClock::shared());
    assert!(set.start(Bad, OnBadEvent::Halt).is_err());
    set.start(Counting::GOOD, OnBadEvent::Halt).unwrap();
    assert!(set.start(CountingMore, OnBadEvent::Halt).is_err());
    assert!(set.view::<Counting>().is_some());
    assert!(set.view::<CountingMore>().is_none());
}

#[test]
fn a_replay_printed_twice_is_equal_and_ends_where_it_is_told() {
    let events = events(seed(), 3_000);
    let middle = &events[1_500];
    let history: SharedHistory = Arc::new(MemoryHistory::new(events.clone()));
    let clock = SystemClock::shared();
    let until = |until| replay(Arc::clone(&history), until, &clock).unwrap();
    let first = until(ReplayUntil::Position(middle.position));
    let second = until(ReplayUntil::Position(middle.position));
    assert_eq!(first.position, middle.position);
    assert!(rows(&first.deliveries) == rows(&second.deliveries));
    assert!(rows(&first.metrics) == rows(&second.metrics));
    let by_time = until(ReplayUntil::Time(middle.time)).position;
    let last = events
        .iter()
        .rfind(|event| event.time <= middle.time)
        .unwrap();
    assert_eq!(by_time, last.position);
    assert_eq!(until(ReplayUntil::Now).position, history.tip());
}
