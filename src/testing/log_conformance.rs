//! What any [`Storage`] must do for the log to keep its promises. Call [`check`] from the tests of
//! yours.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    log::{
        AppendError, Durability, EventLog, ExpectedVersion, LogOptions, ReadError, RecordedEvent,
        RetentionPolicy, Row, SegmentStore, Storage, StreamAppend, StreamId, StreamKind, Urgency,
    },
    model::{ApiStarted, ApiStopped, Event, MessageId, MessagePublished, Position, Version},
};

/// A storage that can be opened again after it was let go.
pub trait Reopen {
    /// Opens it. What was opened before has been released.
    fn open(&self) -> Arc<dyn Storage>;
}

/// Holds every rule against storages that `fresh` makes, each empty.
///
/// # Panics
/// When a rule does not hold; the message names it.
pub fn check<R: Reopen>(fresh: impl Fn() -> R) {
    rows_are_kept_in_order(&fresh());
    a_batch_replaces_and_removes(&fresh());
    segments_are_named_made_and_removed(&fresh());
    events_read_back_after_reopening(&fresh());
    g1_positions_and_versions_are_gapless(&fresh());
    g2_an_append_is_all_or_nothing(&fresh());
    expected_versions_conflict(&fresh());
    large_events_are_stored_in_parts(&fresh());
    segments_roll_and_streams_span_them(&fresh());
    retention_drops_whole_segments(&fresh());
    a_sound_log_verifies(&fresh());
}

/// A message of this many bytes, for tests.
pub fn message(number: u128, bytes: usize) -> Event {
    let byte = u8::try_from(number % 251).expect("it is below 251");
    MessagePublished {
        id: MessageId::from_uuid(Uuid::from_u128(number)),
        content: Bytes::from(vec![byte; bytes]),
        content_type: "application/json".to_owned(),
        event_type: None,
        channel: None,
        key: None,
        headers: Vec::new(),
        coordinate: None,
        sampled: true,
    }
    .into()
}

/// A stream of messages, for tests.
pub fn stream(number: u128) -> StreamId {
    StreamId::new(StreamKind::Messages, Uuid::from_u128(number))
}

/// Options for tests: no watermark, and segments that roll at `segment_bytes_max`.
pub fn options(segment_bytes_max: u64) -> LogOptions {
    LogOptions {
        segment_bytes_max,
        min_free_bytes: 0,
        tail_cache_bytes: 0,
        ..LogOptions::with_durability(Durability::Synced)
    }
}

/// Appends without a runtime and waits.
///
/// # Panics
/// When the queue is full.
pub fn append(
    log: &EventLog,
    stream: StreamId,
    expected: ExpectedVersion,
    events: Vec<Event>,
) -> Result<crate::log::Appended, AppendError> {
    let pending = log.enqueue(stream, expected, events, Urgency::Now);
    pending?.wait()
}

fn open<R: Reopen>(storage: &R, segment_bytes_max: u64) -> EventLog {
    EventLog::open_with(storage.open(), options(segment_bytes_max)).expect("the log opens")
}

fn scan(store: &dyn SegmentStore, from: &[u8], until: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let visited = store.scan(from, until, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    });
    visited.expect("a scan succeeds");
    keys
}

fn put(key: &[u8], value: &[u8]) -> Row {
    Row::put(key.to_vec(), value.to_vec())
}

fn rows_are_kept_in_order<R: Reopen>(storage: &R) {
    let opened = storage.open();
    let store = opened.create(Position::FIRST).expect("a segment is made");
    let rows = vec![
        put(b"b", b"2"),
        put(b"a", b"1"),
        put(b"bb", b"3"),
        put(b"c", b"4"),
    ];
    store.apply(rows).expect("rows are applied");
    store.sync().expect("a sync succeeds");
    drop(store);
    opened.release();
    drop(opened);
    let opened = storage.open();
    let store = opened.open(Position::FIRST).expect("a segment opens again");
    let get = |key: &[u8]| store.get(key).expect("a get succeeds");
    assert_eq!(get(b"bb").as_deref(), Some(b"3".as_slice()));
    assert_eq!(get(b"aa"), None, "there is no such key");
    assert_eq!(scan(store.as_ref(), b"a", b"c"), [&b"a"[..], b"b", b"bb"]);
    assert_eq!(scan(store.as_ref(), b"bc", b"d"), [&b"c"[..]]);
    let before = |key: &[u8]| {
        let found = store.last_at_or_before(key).expect("a look back succeeds");
        found.map(|(key, _)| key.to_vec())
    };
    assert_eq!(
        before(b"b").as_deref(),
        Some(&b"b"[..]),
        "the key itself counts"
    );
    assert_eq!(before(b"bz").as_deref(), Some(&b"bb"[..]));
    assert_eq!(before(b"A"), None, "nothing stands before the first key");
    let mut seen = 0;
    let stopped = store.scan(b"a", b"z", &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    stopped.expect("a scan succeeds");
    assert_eq!(seen, 1, "a scan ends when it is told to");
}

fn a_batch_replaces_and_removes<R: Reopen>(storage: &R) {
    let opened = storage.open();
    let store = opened.create(Position::FIRST).expect("a segment is made");
    store
        .apply(vec![put(b"a", b"1"), put(b"b", b"1")])
        .expect("rows are applied");
    store
        .apply(vec![put(b"a", b"2"), Row::remove(b"b".to_vec())])
        .expect("rows are applied");
    store.flush().expect("a flush succeeds");
    let value = store.get(b"a").expect("a get succeeds");
    assert_eq!(value.as_deref(), Some(&b"2"[..]));
    assert_eq!(scan(store.as_ref(), b"", b"z"), [&b"a"[..]]);
}

fn segments_are_named_made_and_removed<R: Reopen>(storage: &R) {
    let opened = storage.open();
    let positions = [70, 1, 1_000_000_000_000].map(Position::new);
    for first in positions {
        opened.create(first).expect("a segment is made");
        assert!(opened.create(first).is_err(), "a segment is made once");
    }
    let listed = opened.segments().expect("segments are listed");
    assert_eq!(listed, [1, 70, 1_000_000_000_000].map(Position::new));
    opened
        .remove(Position::FIRST)
        .expect("a segment is removed");
    opened.release();
    drop(opened);
    let listed = storage.open().segments().expect("segments are listed");
    assert_eq!(listed, [70, 1_000_000_000_000].map(Position::new));
}

fn events_read_back_after_reopening<R: Reopen>(storage: &R) {
    let log = open(storage, 1 << 20);
    let mut written = Vec::new();
    for number in 0..20 {
        let events: Vec<_> = (0..=number % 3)
            .map(|n| message(number * 10 + n, 40))
            .collect();
        written.extend(events.clone());
        append(&log, stream(number % 4), ExpectedVersion::Any, events).expect("it is appended");
    }
    let before = log.read(Position::ZERO, usize::MAX).expect("it is read");
    log.close();
    drop(log);
    let log = open(storage, 1 << 20);
    let after = log.read(Position::ZERO, usize::MAX).expect("it is read");
    assert_eq!(before, after, "reopening changes nothing");
    let events: Vec<_> = after
        .iter()
        .map(|recorded| recorded.event.clone())
        .collect();
    assert_eq!(events, written);
    assert_eq!(log.head(), Position::new(written.len() as u64));
}

fn g1_positions_and_versions_are_gapless<R: Reopen>(storage: &R) {
    let log = open(storage, 2_000);
    let pending: Vec<_> = (0..200)
        .map(|n| {
            let events = vec![message(n, 10); 1 + (n % 3) as usize];
            log.enqueue(stream(n % 5), ExpectedVersion::Any, events, Urgency::Linger)
                .expect("the queue has room")
        })
        .collect();
    let mut next = Position::FIRST;
    for pending in pending {
        let appended = pending.wait().expect("it is appended");
        assert_eq!(
            appended.first, next,
            "appends are written in the order of the queue"
        );
        next = appended.last.next();
    }
    let events = log.read(Position::ZERO, usize::MAX).expect("it is read");
    assert_gapless(&events);
    for n in 0..5 {
        let of_stream = log.read_stream(stream(n), Version::ZERO, usize::MAX);
        let of_stream = of_stream.expect("it is read");
        let filtered: Vec<_> = events
            .iter()
            .filter(|e| e.stream == stream(n))
            .cloned()
            .collect();
        assert_eq!(of_stream, filtered, "a stream is the log, filtered");
    }
}

/// Holds G1 against events from the first position on.
///
/// # Panics
/// When a position or a version is missing or out of order.
pub fn assert_gapless(events: &[Arc<RecordedEvent>]) {
    let mut versions = std::collections::HashMap::<StreamId, Version>::new();
    let mut time = events.first().map(|event| event.time);
    for (event, position) in events.iter().zip(1..) {
        assert_eq!(
            event.position,
            Position::new(position),
            "positions are gapless"
        );
        let version = versions.entry(event.stream).or_default();
        *version = version.next();
        assert_eq!(
            event.version, *version,
            "versions of {} are gapless",
            event.stream
        );
        assert!(Some(event.time) >= time, "times never go back");
        time = Some(event.time);
    }
}

fn g2_an_append_is_all_or_nothing<R: Reopen>(storage: &R) {
    let log = open(storage, 1 << 20);
    let part = |n, expected| StreamAppend {
        stream: stream(n),
        expected,
        events: vec![ApiStarted {}.into(), ApiStopped {}.into()],
    };
    let parts = vec![
        part(1, ExpectedVersion::NoStream),
        part(2, ExpectedVersion::Exact(Version::new(9))),
    ];
    let refused = log
        .enqueue_batch(parts, Urgency::Now)
        .expect("the queue has room")
        .wait();
    assert!(
        matches!(refused, Err(AppendError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(log.head(), Position::ZERO, "no part of it was written");
    let parts = vec![
        part(1, ExpectedVersion::NoStream),
        part(2, ExpectedVersion::Any),
        part(1, ExpectedVersion::Exact(Version::new(2))),
    ];
    let written = log
        .enqueue_batch(parts, Urgency::Now)
        .expect("the queue has room")
        .wait();
    assert_eq!(written.expect("it is appended").last, Position::new(6));
    assert_eq!(log.stream_version(stream(1)), Version::new(4));
}

fn expected_versions_conflict<R: Reopen>(storage: &R) {
    let log = open(storage, 1 << 20);
    let try_append = |expected| append(&log, stream(1), expected, vec![message(1, 1)]);
    let exact = |version| ExpectedVersion::Exact(Version::new(version));
    assert!(try_append(exact(1)).is_err(), "an empty stream is at zero");
    assert!(try_append(ExpectedVersion::NoStream).is_ok());
    assert!(try_append(exact(1)).is_ok());
    match try_append(exact(1)) {
        Err(AppendError::Conflict { actual, .. }) => assert_eq!(actual, Version::new(2)),
        other => panic!("expected a conflict, got {other:?}"),
    }
    assert!(try_append(ExpectedVersion::NoStream).is_err());
    let empty = append(&log, stream(1), ExpectedVersion::Any, Vec::new());
    assert!(matches!(empty, Err(AppendError::Empty)));
    assert_eq!(log.head(), Position::new(2));
}

fn large_events_are_stored_in_parts<R: Reopen>(storage: &R) {
    let log = open(storage, 1 << 30);
    let sizes = [1, 95_000, 97_000, 400_000, 1 << 20];
    for (size, number) in sizes.into_iter().zip(0_u128..) {
        // Bytes that do not compress.
        let mut bytes = vec![0; size];
        let mut reader = blake3::Hasher::new_derive_key("large events").finalize_xof();
        reader.fill(&mut bytes);
        let event = match message(number, 0) {
            Event::Message(crate::model::MessageEvent::Published(mut published)) => {
                std::sync::Arc::make_mut(&mut published).content = bytes.into();
                published.into()
            }
            other => other,
        };
        append(&log, stream(1), ExpectedVersion::Any, vec![event]).expect("it is appended");
    }
    let before = log.read(Position::ZERO, 10).expect("it is read");
    log.close();
    drop(log);
    let log = open(storage, 1 << 30);
    assert_eq!(log.read(Position::ZERO, 10).expect("it is read"), before);
    let contents = before.iter().filter_map(|event| event.event.as_published());
    let lengths: Vec<_> = contents.map(|message| message.content.len()).collect();
    assert_eq!(lengths, sizes);
}

fn segments_roll_and_streams_span_them<R: Reopen>(storage: &R) {
    let log = open(storage, 400);
    for number in 0..30 {
        let events = vec![message(number, 100)];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).expect("it is appended");
    }
    let all = log.read(Position::ZERO, usize::MAX).expect("it is read");
    log.close();
    drop(log);
    let opened = storage.open();
    assert!(
        opened.segments().expect("segments are listed").len() > 3,
        "it rolled"
    );
    opened.release();
    drop(opened);
    let log = open(storage, 400);
    for after in 0..30 {
        let rest = log.read(Position::new(after), 7).expect("it is read");
        let from = usize::try_from(after).expect("it is below 30");
        assert_eq!(
            rest,
            all[from..].iter().take(7).cloned().collect::<Vec<_>>()
        );
        let first = log.position_at(all[from].time).expect("it is found");
        assert_eq!(
            all[usize::try_from(first.get()).expect("small") - 1].time,
            all[from].time
        );
        assert!(
            first <= all[from].position,
            "the first position of that time"
        );
    }
    for after in 0..10 {
        let rest = log
            .read_stream(stream(1), Version::new(after), 3)
            .expect("it is read");
        let versions: Vec<_> = rest.iter().map(|event| event.version.get()).collect();
        assert_eq!(versions, (after + 1..=10).take(3).collect::<Vec<_>>());
    }
}

fn retention_drops_whole_segments<R: Reopen>(storage: &R) {
    let log = open(storage, 400);
    for number in 0..30 {
        let events = vec![message(number, 100)];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).expect("it is appended");
    }
    let keep_nothing = RetentionPolicy {
        max_age: None,
        max_bytes: Some(0),
    };
    let now = log
        .get(Position::FIRST)
        .expect("it is read")
        .expect("it is there")
        .time;
    let needed = Position::new(11);
    let plan = log
        .retain(keep_nothing, now, needed)
        .expect("a plan is made");
    assert!(!plan.segments.is_empty() && !plan.held.is_empty());
    assert!(
        plan.segments.iter().all(|segment| segment.last < needed),
        "what is needed is held back"
    );
    let plan = log
        .retain(keep_nothing, now, Position::MAX)
        .expect("a plan is made");
    let last = plan.last().expect("something is dropped");
    log.apply_retention(&plan).expect("it is dropped");
    assert_eq!(
        log.first_position(),
        last.next(),
        "the newest segment stays"
    );
    match log.read(Position::ZERO, 1) {
        Err(ReadError::Gone { first }) => assert_eq!(first, last.next()),
        other => panic!("expected that it is gone, got {other:?}"),
    }
    let gone = log.read_stream(stream(0), Version::ZERO, 1);
    assert!(
        matches!(gone, Err(ReadError::StreamGone { .. })),
        "{gone:?}"
    );
    log.close();
    drop(log);
    let log = open(storage, 400);
    assert_eq!(log.first_position(), last.next());
    assert_eq!(log.stream_version(stream(0)), Version::new(10));
    let expected = ExpectedVersion::Exact(Version::new(10));
    let appended = append(&log, stream(0), expected, vec![message(99, 1)]);
    assert_eq!(
        appended.expect("it is appended").last_version,
        Version::new(11)
    );
    let rest = log.read(last, usize::MAX).expect("it is read");
    assert_eq!(
        rest.last().map(|event| event.position),
        Some(Position::new(31))
    );
}

fn a_sound_log_verifies<R: Reopen>(storage: &R) {
    let log = open(storage, 500);
    for number in 0..40 {
        let events = vec![message(number, 60); 2];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).expect("it is appended");
    }
    log.close();
    drop(log);
    let log = open(storage, 500);
    let mut told = Position::ZERO;
    let report = log
        .verify(|progress| told = progress.position)
        .expect("it is verified");
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!((report.events, report.last), (80, Position::new(80)));
    assert_eq!(told, Position::new(80));
}
