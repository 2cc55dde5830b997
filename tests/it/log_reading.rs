//! Feeds, watches, and reading at the tail.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures_util::StreamExt;
use hooklog::{
    log::{
        EventLog, ExpectedVersion, FeedItem, FeedStart, Filter, LogOptions, ReadError, ReadLimit,
        RetentionPolicy, Storage as _, StreamAppend, StreamKind, Upcast, Upcaster, Urgency,
    },
    model::{Event, EventType, Position, Timestamp, UnknownEvent, Version},
    testing::{
        ManualClock, MemoryStorage,
        log_conformance::{append, message, options, stream},
    },
};

fn memory(options: LogOptions) -> EventLog {
    EventLog::open_with(Arc::new(MemoryStorage::new()), options).unwrap()
}

async fn write(log: &EventLog, number: u128) -> Position {
    let events = vec![message(number, 20)];
    let appended = log.append(
        stream(number % 4),
        ExpectedVersion::Any,
        events,
        Urgency::Now,
    );
    appended.await.unwrap().last
}

fn position(item: &FeedItem) -> Position {
    match item {
        FeedItem::Event(event) => event.position,
        FeedItem::Progress(position) => *position,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_feeds_that_start_anywhere_while_events_are_written_miss_and_repeat_nothing() {
    for tail_cache_bytes in [0, 2_000, 8 << 20] {
        let log = memory(LogOptions {
            tail_cache_bytes,
            ..options(3_000)
        });
        for number in 0..50 {
            write(&log, number).await;
        }
        let readers: Vec<_> = [0, 1, 25, 50, 70]
            .map(|after| {
                let mut feed = log.follow(FeedStart::After(Position::new(after)), Filter::all());
                tokio::spawn(async move {
                    for expected in after + 1..=400 {
                        let item = feed.next().await.unwrap();
                        assert_eq!(position(&item), Position::new(expected));
                    }
                })
            })
            .into();
        for number in 50..400 {
            write(&log, number).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test]
async fn g5_a_filtered_feed_reports_progress() {
    let log = memory(options(1 << 20));
    for number in 0..300 {
        write(&log, number).await;
    }
    let filter = Filter::all()
        .streams([stream(1)])
        .kinds([StreamKind::Messages]);
    let mut feed = log.follow(FeedStart::Beginning, filter);
    let (mut events, mut last) = (0, Position::ZERO);
    while last < Position::new(300) {
        let item = feed.next().await.unwrap();
        assert!(position(&item) > last, "progress only goes forward");
        last = position(&item);
        assert_eq!(feed.position(), last);
        if let FeedItem::Event(event) = item {
            assert_eq!(event.stream, stream(1));
            events += 1;
        }
    }
    assert_eq!(events, 75);
    let none = Filter::all().types([hooklog::model::EventType::known("api.created")]);
    let mut feed = log.follow(FeedStart::After(Position::new(299)), none);
    assert_eq!(
        feed.next().await.unwrap(),
        FeedItem::Progress(Position::new(300))
    );
}

#[tokio::test]
async fn a_read_of_large_events_is_short_and_the_next_goes_on_behind_it() {
    for tail_cache_bytes in [0, 8 << 20] {
        let log = memory(LogOptions {
            tail_cache_bytes,
            ..options(1 << 20)
        });
        for together in [1, 1, 1, 7] {
            let events = vec![message(1, 1_000); together];
            let appended = log.append(stream(0), ExpectedVersion::Any, events, Urgency::Now);
            appended.await.unwrap();
        }
        for (bytes, at_most) in [(1, 1), (2_500, 3), (usize::MAX, 10)] {
            let limit = ReadLimit { events: 100, bytes };
            let (mut after, mut versions) = (Version::ZERO, Vec::new());
            loop {
                let events = log
                    .read_stream_async(stream(0), after, limit)
                    .await
                    .unwrap();
                let Some(last) = events.last() else { break };
                assert!(events.len() <= at_most, "{} in {bytes}", events.len());
                after = last.version;
                versions.extend(events.iter().map(|event| event.version.get()));
            }
            assert_eq!(versions, (1..=10).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_feed_holds_few_events_where_they_are_large() {
    for tail_cache_bytes in [0, 64 << 20] {
        let log = memory(LogOptions {
            tail_cache_bytes,
            ..options(64 << 20)
        });
        for number in 0..12 {
            let events = vec![message(number, 1 << 20)];
            let appended = log.append(stream(0), ExpectedVersion::Any, events, Urgency::Now);
            appended.await.unwrap();
        }
        let none = || Filter::all().types([EventType::known("api.created")]);
        let mut feed = log.follow(FeedStart::Beginning, none());
        let mut also = log.follow(FeedStart::Beginning, none());
        for read in 1..=6 {
            let expected = FeedItem::Progress(Position::new(2 * read));
            assert_eq!(feed.next_now().unwrap().unwrap(), expected);
            assert_eq!(also.next().await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_feed_from_now_waits_for_the_next_event_and_ends_with_the_log() {
    let log = memory(options(1 << 20));
    write(&log, 1).await;
    let feed = log.follow(FeedStart::Now, Filter::all());
    let reader = tokio::spawn(feed.into_stream().collect::<Vec<_>>());
    write(&log, 2).await;
    let seen = log.clone();
    tokio::task::spawn_blocking(move || seen.close())
        .await
        .unwrap();
    let items = reader.await.unwrap();
    // The reader may first run after the close; then it has seen nothing at all.
    let positions: Vec<_> = items
        .iter()
        .map(|item| position(item.as_ref().unwrap()))
        .collect();
    assert!(positions.is_empty() || positions == [Position::new(2)]);
    assert!(matches!(
        log.read(Position::ZERO, 1),
        Err(ReadError::Closed)
    ));
}

#[tokio::test]
async fn a_watch_tells_of_each_move_once_and_of_the_end() {
    let log = memory(options(1 << 20));
    let mut watch = log.watch();
    write(&log, 1).await;
    write(&log, 2).await;
    assert_eq!(watch.changed().await, Some(Position::new(2)));
    let waiting = tokio::spawn(async move { (watch.reach(Position::new(3)).await, watch) });
    write(&log, 3).await;
    let (reached, mut watch) = waiting.await.unwrap();
    assert_eq!(reached, Some(Position::new(3)));
    assert_eq!(watch.changed().await, Some(Position::new(3)));
    assert_eq!(
        watch.wait_timeout(Duration::from_millis(1)),
        Position::new(3)
    );
    let waiting = std::thread::spawn(move || watch.wait_timeout(Duration::from_secs(60)));
    log.close();
    assert_eq!(
        waiting.join().unwrap(),
        Position::new(3),
        "closing wakes who waits"
    );
    assert_eq!(log.watch().changed().await, None);
}

#[tokio::test]
async fn the_tail_is_read_from_memory_and_the_rest_from_disk() {
    let log = memory(LogOptions {
        tail_cache_bytes: 10 * (256 + 200),
        ..options(2_000)
    });
    for number in 0..40 {
        write(&log, number).await;
    }
    assert!(
        log.cached(Position::new(39), 5)
            .is_some_and(|events| events.len() == 1)
    );
    assert!(
        log.cached(Position::new(40), 5)
            .is_some_and(|events| events.is_empty())
    );
    assert!(log.cached(Position::new(10), 5).is_none());
    assert!(
        log.cached_stream(stream(3), Version::new(9), 5)
            .is_some_and(|e| e.len() == 1)
    );
    assert!(
        log.cached_stream(stream(3), Version::new(10), 5)
            .is_some_and(|e| e.is_empty())
    );
    assert!(log.cached_stream(stream(3), Version::ZERO, 5).is_none());
    for after in 0..40 {
        let after = Position::new(after);
        assert_eq!(
            log.read_async(after, 3).await.unwrap(),
            log.read(after, 3).unwrap()
        );
        let event = log.get_async(after.next()).await.unwrap().unwrap();
        assert_eq!(event.position, after.next());
    }
    let all = log
        .read_stream_async(stream(2), Version::ZERO, 100)
        .await
        .unwrap();
    assert_eq!(all.len(), 10);
    assert_eq!(log.get(Position::new(41)).unwrap(), None);
    assert_eq!(log.get(Position::ZERO).unwrap(), None);
}

#[test]
fn times_never_go_back_and_lead_to_positions() {
    let clock = ManualClock::at(Timestamp::from_millis(10_000), 1);
    let log = memory(LogOptions {
        clock: Arc::new(clock.clone()),
        ..options(600)
    });
    let append = |number| {
        append(
            &log,
            stream(1),
            ExpectedVersion::Any,
            vec![message(number, 30)],
        )
        .unwrap()
        .time
    };
    append(1);
    clock.advance(Duration::from_secs(5));
    append(2);
    append(3);
    clock.set_wall(Timestamp::from_millis(1));
    assert_eq!(append(4), Timestamp::from_millis(15_000));
    clock.set_wall(Timestamp::from_millis(20_000));
    append(5);
    let at = |millis| {
        log.position_at(Timestamp::from_millis(millis))
            .unwrap()
            .get()
    };
    assert_eq!([at(0), at(10_000), at(10_001), at(15_000)], [1, 1, 2, 2]);
    assert_eq!([at(15_001), at(20_000), at(20_001)], [5, 5, 6]);
}

#[test]
fn segments_are_sealed_and_retired_by_age() {
    let clock = ManualClock::at(Timestamp::from_millis(0), 1);
    let log = memory(LogOptions {
        clock: Arc::new(clock.clone()),
        segment_age_max: Duration::from_hours(1),
        ..options(1 << 20)
    });
    for number in 0..6 {
        append(
            &log,
            stream(1),
            ExpectedVersion::Any,
            vec![message(number, 30)],
        )
        .unwrap();
        clock.advance(Duration::from_mins(30));
    }
    let policy = RetentionPolicy {
        max_age: Some(Duration::from_mins(90)),
        max_bytes: None,
    };
    // Segments begin at 0:00, 1:00 and 2:00; now it is 3:00.
    let plan = log
        .retain(policy, Timestamp::from_millis(3 * 3_600_000), Position::MAX)
        .unwrap();
    let ranges: Vec<_> = plan
        .segments
        .iter()
        .map(|s| (s.first.get(), s.last.get()))
        .collect();
    assert_eq!(ranges, [(1, 2)]);
    assert!(plan.bytes() > 0);
    assert_eq!(
        log.first_position(),
        Position::FIRST,
        "a plan drops nothing"
    );
    log.apply_retention(&plan).unwrap();
    log.apply_retention(&plan).unwrap();
    assert_eq!(log.first_position(), Position::new(3));
    let mut feed = log.follow(FeedStart::After(Position::ZERO), Filter::all());
    let Err(ReadError::Gone { first }) = feed.next_now() else {
        panic!("expected that it is gone");
    };
    feed.seek(first.previous());
    assert_eq!(
        position(&feed.next_now().unwrap().unwrap()),
        Position::new(3)
    );
    let mut feed = log.follow(FeedStart::Beginning, Filter::all());
    assert_eq!(
        position(&feed.next_now().unwrap().unwrap()),
        Position::new(3)
    );
}

#[test]
fn a_segment_is_sealed_at_200_000_rows_of_its_index() {
    let storage = MemoryStorage::new();
    let open = || EventLog::open_with(Arc::new(storage.clone()), options(1 << 30)).unwrap();
    let mut log = open();
    for batch in 0..20 {
        if batch == 10 {
            // Those that an opening finds count too.
            drop(log);
            log = open();
        }
        let parts = (0..10_000).map(|number| StreamAppend {
            stream: stream(number),
            expected: ExpectedVersion::Any,
            events: vec![message(number, 1)],
        });
        let batch = log.enqueue_batch(parts.collect(), Urgency::Now);
        batch.unwrap().wait().unwrap();
    }
    assert_eq!(storage.segments().unwrap(), [Position::FIRST]);
    let one_more = vec![message(1, 1)];
    append(&log, stream(1), ExpectedVersion::Any, one_more).unwrap();
    let next = Position::new(200_001);
    assert_eq!(storage.segments().unwrap(), [Position::FIRST, next]);
}

/// Reads an old version of `circuit.opened`, but not every payload of it.
struct Picky;

impl Upcaster for Picky {
    fn event_type(&self) -> &'static str {
        "circuit.opened"
    }

    fn reads_version(&self) -> u16 {
        0
    }

    fn upcast(&self, payload: &[u8]) -> Result<Upcast, String> {
        if payload == b"bad" {
            return Err("it is bad".to_owned());
        }
        Ok(Upcast {
            event_type: EventType::known("circuit.closed"),
            schema_version: 1,
            payload: vec![0x80],
        })
    }
}

#[test]
fn an_event_that_does_not_decode_hides_no_other_of_its_page() {
    let log = memory(LogOptions {
        upcasters: vec![Arc::new(Picky)],
        ..options(1 << 20)
    });
    let old = |payload: &'static [u8]| {
        Event::Unknown(UnknownEvent {
            event_type: EventType::known("circuit.opened"),
            schema_version: 0,
            payload: payload.into(),
        })
    };
    let events = vec![old(b"good"), old(b"bad"), old(b"good"), old(b"good")];
    append(&log, stream(1), ExpectedVersion::Any, events).unwrap();
    let bad = Position::new(2);
    assert_eq!(log.read(Position::ZERO, 10).unwrap().len(), 1);
    let read = log.read(Position::FIRST, 10);
    assert!(
        matches!(read, Err(ReadError::Undecodable { position, .. }) if position == bad),
        "{read:?}"
    );
    assert_eq!(log.read(bad, 10).unwrap().len(), 2);
    let of_stream = |after| log.read_stream(stream(1), Version::new(after), 10);
    assert_eq!(of_stream(0).unwrap().len(), 1);
    let read = of_stream(1);
    assert!(
        matches!(read, Err(ReadError::Undecodable { version, .. }) if version == Version::new(2)),
        "{read:?}"
    );
    assert_eq!(of_stream(2).unwrap().len(), 2);
    assert_eq!(log.verify(|_| {}).unwrap().problems.len(), 1);
}

#[test]
fn who_reads_a_stream_behind_a_cut_is_not_told_of_it_while_it_is_made() {
    for _ in 0..20 {
        let options = LogOptions {
            segments_open_max: 1,
            tail_cache_bytes: 0,
            ..options(400)
        };
        let log = EventLog::open_with(Arc::new(MemoryStorage::new()), options).unwrap();
        for number in 0..60 {
            let events = vec![message(number, 100)];
            append(&log, stream(1), ExpectedVersion::Any, events).unwrap();
        }
        let all = RetentionPolicy {
            max_bytes: Some(0),
            ..RetentionPolicy::default()
        };
        let now = Timestamp::from_millis(0);
        let plan = log.retain(all, now, Position::new(40)).unwrap();
        let last = plan.last().unwrap();
        assert!(plan.segments.len() > 5, "{plan:?}");
        let cutter = log.clone();
        let cut = std::thread::spawn(move || cutter.apply_retention(&plan));
        let mut is_last = false;
        while !is_last {
            is_last = cut.is_finished();
            // All that is in the log is of one stream.
            let read = log.read_stream(stream(1), Version::new(last.get()), 1);
            assert_eq!(read.unwrap()[0].position, last.next());
        }
        cut.join().unwrap().unwrap();
    }
}

#[test]
fn a_segment_that_takes_long_to_open_keeps_no_append_waiting() {
    let storage = MemoryStorage::new();
    let log = EventLog::open_with(Arc::new(storage.clone()), options(400)).unwrap();
    let write = |number| {
        let events = vec![message(number, 100)];
        append(&log, stream(1), ExpectedVersion::Any, events).unwrap()
    };
    for number in 0..20 {
        write(number);
    }
    let (opening, is_opening) = mpsc::channel();
    let (may_open, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    storage.on_open(move |first| {
        if first == Position::FIRST {
            opening.send(()).unwrap();
            let waited = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
            waited.expect("appends go on meanwhile");
        }
    });
    let reader = log.clone();
    let reading = std::thread::spawn(move || reader.read(Position::ZERO, 1));
    is_opening.recv().unwrap();
    for number in 20..40 {
        write(number);
    }
    may_open.send(()).unwrap();
    assert_eq!(reading.join().unwrap().unwrap().len(), 1);
}

#[test]
fn a_reader_does_not_open_the_segment_that_the_writer_opens_again() {
    let storage = MemoryStorage::new();
    let log = EventLog::open_with(Arc::new(storage.clone()), options(1 << 20)).unwrap();
    let write = |number| {
        let events = vec![message(number, 100)];
        append(&log, stream(1), ExpectedVersion::Any, events)
    };
    write(1).unwrap();
    storage.set_full(true);
    assert!(write(2).is_err());
    storage.set_full(false);
    let opened = Arc::new(AtomicUsize::new(0));
    let (counter, reader) = (Arc::clone(&opened), log.clone());
    let (begun, reading) = mpsc::channel();
    storage.on_open(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let reader = reader.clone();
        let thread = std::thread::spawn(move || reader.read(Position::ZERO, 1));
        let _ = begun.send(thread);
    });
    write(3).unwrap();
    let read = reading.recv().unwrap().join().unwrap();
    assert_eq!(read.unwrap().len(), 1);
    assert_eq!(opened.load(Ordering::SeqCst), 1, "by the writer alone");
}
