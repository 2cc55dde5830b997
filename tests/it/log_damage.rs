//! G11: damage is detected, never served, and stays where it is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{fs, path::Path, sync::Arc};

use hooklog::{
    log::{
        AppendError, EventLog, ExpectedVersion, FeedItem, FeedStart, Filter, OpenError, ReadError,
        RecordedEvent, StorageError,
    },
    model::{Moment, Position, Timestamp, Version},
    testing::{
        MemoryStorage,
        log_conformance::{append, message, options, stream},
    },
};

const EVENTS: u64 = 30;

/// A log of several segments, and what it holds.
fn written(storage: &MemoryStorage, segment_bytes: u64) -> Vec<Arc<RecordedEvent>> {
    let log = open(storage, segment_bytes);
    for number in 0..u128::from(EVENTS) {
        let events = vec![message(number, 100)];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).unwrap();
    }
    log.read(Position::ZERO, usize::MAX).unwrap()
}

fn open(storage: &MemoryStorage, segment_bytes: u64) -> EventLog {
    EventLog::open_with(Arc::new(storage.clone()), options(segment_bytes)).unwrap()
}

fn segments(storage: &MemoryStorage) -> Vec<Position> {
    hooklog::log::Storage::segments(storage).unwrap()
}

/// Reads all that can be read, passing over damage; gives it with the damaged positions.
fn read_around(log: &EventLog) -> (Vec<Arc<RecordedEvent>>, u64) {
    let mut feed = log.follow(FeedStart::After(Position::ZERO), Filter::all());
    let (mut events, mut damaged) = (Vec::new(), 0);
    loop {
        match feed.next_now() {
            Ok(Some(FeedItem::Event(event))) => events.push(event),
            Ok(Some(FeedItem::Progress(_))) => {}
            Ok(None) => return (events, damaged),
            Err(ReadError::Corrupt { from, to, .. }) => {
                damaged += to.distance_from(from) + 1;
                feed.seek(to);
            }
            Err(error) => panic!("unexpected: {error}"),
        }
    }
}

#[test]
fn g11_any_damaged_row_of_any_segment_is_detected_or_harmless() {
    let clean = MemoryStorage::new();
    let sound = written(&clean, 400);
    for first in segments(&clean) {
        for (row, (key, value)) in clean.rows(first).into_iter().enumerate() {
            for byte in [0, value.len() / 2, value.len() - 1] {
                let storage = MemoryStorage::new();
                written(&storage, 400);
                let mut flipped = value.clone();
                flipped[byte] ^= 0x10;
                // Times differ from run to run, so the whole segment is taken over.
                for (key, value) in clean.rows(first) {
                    storage.overwrite(first, &key, Some(value));
                }
                storage.overwrite(first, &key, Some(flipped));
                let log = open(&storage, 400);
                let what = format!("segment {first}, row {row}, byte {byte}");
                for event in read_around(&log).0 {
                    let expected = &sound[usize::try_from(event.position.get() - 1).unwrap()];
                    assert_eq!(event.event, expected.event, "{what}");
                    assert_eq!(event.version, expected.version, "{what}");
                }
                for n in 0..3 {
                    let read = log.read_stream(stream(n), Version::ZERO, usize::MAX);
                    for (event, version) in read.into_iter().flatten().zip(1..) {
                        assert_eq!(event.version, Version::new(version), "{what}");
                    }
                }
                let report = log.verify(|_| {}).unwrap();
                assert!(
                    !report.is_sound() || !log.quarantined().is_empty(),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn g11_a_damaged_page_takes_only_its_own_positions() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 1 << 20);
    let first = Position::FIRST;
    let page_ten = (*b"p\0\0\0\0\0\0\0\x0a\0\0").to_vec();
    let (_, mut value) = storage
        .rows(first)
        .into_iter()
        .find(|(k, _)| *k == page_ten)
        .unwrap();
    *value.last_mut().unwrap() ^= 1;
    storage.overwrite(first, &page_ten, Some(value));
    let log = open(&storage, 1 << 20);
    let quarantined = log.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].from, Position::new(10));
    assert_eq!(quarantined[0].to, Some(Position::new(10)));
    assert_eq!(log.read(Position::ZERO, 100).unwrap(), sound[..9]);
    assert!(matches!(
        log.read(Position::new(9), 1),
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(log.read(Position::new(10), 100).unwrap(), sound[10..]);
    let appended = append(
        &log,
        stream(0),
        ExpectedVersion::Exact(Version::new(10)),
        vec![message(77, 1)],
    );
    assert_eq!(appended.unwrap().first, Position::new(31));
    assert_eq!(
        segments(&storage).len(),
        2,
        "nothing more is written into the damaged segment"
    );
    assert_eq!(log.verify(|_| {}).unwrap().problems.len(), 1);
}

#[test]
fn g11_a_segment_that_cannot_be_opened_leaves_the_others_alive() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 400);
    let firsts = segments(&storage);
    let (lost, next) = (firsts[2], firsts[3]);
    storage.break_segment(lost);
    let log = open(&storage, 400);
    let (events, damaged) = read_around(&log);
    assert_eq!(damaged, next.distance_from(lost));
    let rest: Vec<_> = sound
        .iter()
        .filter(|event| event.position < lost || event.position >= next)
        .cloned()
        .collect();
    assert_eq!(events, rest);
    let quarantined = log.quarantined();
    assert_eq!(quarantined[0].from, lost);
    assert_eq!(quarantined[0].to, Some(next.previous()));
    append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]).unwrap();
    let torn = sound[usize::try_from(lost.get() - 1).unwrap()].stream;
    let inside = log.read_stream(torn, Version::ZERO, usize::MAX).unwrap();
    let before = inside.last().unwrap();
    assert!(before.position < lost, "a stream is read up to the damage");
    let into = log.read_stream(torn, before.version, 1);
    assert!(matches!(into, Err(ReadError::Corrupt { .. })), "{into:?}");
    let behind = log.read_stream(stream(0), Version::new(9), 1).unwrap();
    assert_eq!(behind[0].version, Version::new(10));
}

#[test]
fn a_newest_segment_that_cannot_be_opened_is_read_around_and_not_written_after() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    let newest = *segments(&storage).last().unwrap();
    storage.break_segment(newest);
    let log = open(&storage, 400);
    assert_eq!(log.head(), newest.previous());
    assert_eq!(log.quarantined()[0].to, None);
    let refused = append(&log, stream(0), ExpectedVersion::Any, vec![message(1, 1)]);
    assert!(
        matches!(refused, Err(AppendError::TailDamaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn swapped_and_missing_segments_are_detected() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    let firsts = segments(&storage);
    for (key, _) in storage.rows(firsts[1]) {
        storage.overwrite(firsts[1], &key, None);
    }
    for (key, value) in storage.rows(firsts[2]) {
        storage.overwrite(firsts[1], &key, Some(value));
    }
    let log = open(&storage, 400);
    let read = log.read(firsts[1].previous(), 1);
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    assert!(!log.verify(|_| {}).unwrap().is_sound());
    drop(log);
    hooklog::log::Storage::remove(&storage, firsts[1]).unwrap();
    let log = open(&storage, 400);
    let read = log.read(firsts[1].previous(), 1);
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    assert!(!log.verify(|_| {}).unwrap().is_sound());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Opens a damaged directory and holds all it gives against what was written.
fn open_damaged(directory: &Path, sound: &[Arc<RecordedEvent>], what: &str) {
    let log = match EventLog::open(directory, options(4_000)) {
        Ok(log) => log,
        Err(OpenError::Foreign { .. } | OpenError::Storage(StorageError::FormatTooNew { .. })) => {
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    for event in read_around(&log).0 {
        let expected = &sound[usize::try_from(event.position.get() - 1).unwrap()];
        assert_eq!(&event, expected, "{what}");
    }
    log.verify(|_| {}).unwrap();
}

#[test]
fn g11_flipped_bytes_in_the_files_never_panic_and_never_serve_a_wrong_event() {
    let clean = tempfile::tempdir().unwrap();
    let log = EventLog::open(clean.path(), options(4_000)).unwrap();
    for number in 0..60 {
        let events = vec![message(number, 200)];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).unwrap();
    }
    let sound = log.read(Position::ZERO, usize::MAX).unwrap();
    drop(log);
    let seed = std::env::var("HOOKLOG_TEST_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut draws = Moment::new(Timestamp::EPOCH, seed).draws();
    let files = files(clean.path());
    for _ in 0..60 {
        let file = &files[usize::try_from(draws.below(files.len() as u64)).unwrap()];
        let mut bytes = fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let at = usize::try_from(draws.below(bytes.len() as u64)).unwrap();
        bytes[at] ^= 1 << draws.below(8);
        let damaged = tempfile::tempdir().unwrap();
        copy(clean.path(), damaged.path());
        let relative = file.strip_prefix(clean.path()).unwrap();
        fs::write(damaged.path().join(relative), bytes).unwrap();
        let what = format!("byte {at} of {}", relative.display());
        open_damaged(damaged.path(), &sound, &what);
    }
}
