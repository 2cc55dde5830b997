//! What a data directory may be, and what is said when it is not.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use hooklog::{
    log::{
        AppendError, EventLog, ExpectedVersion, Health, OpenError, RetentionError, RetentionPlan,
        SnapshotStore, StorageError,
    },
    model::{Position, Version},
    testing::log_conformance::{append, message, options, stream},
};

fn refusal(path: &std::path::Path) -> String {
    EventLog::open(path, options(1 << 20))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_log_opens_again_at_once_and_only_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=8 {
        let log = EventLog::open(directory.path(), options(1_000)).unwrap();
        let second = EventLog::open(directory.path(), options(1_000)).unwrap_err();
        assert!(matches!(
            second,
            OpenError::Storage(StorageError::Locked { .. })
        ));
        assert!(
            second
                .to_string()
                .contains(directory.path().to_str().unwrap())
        );
        for number in 0..10 {
            append(
                &log,
                stream(1),
                ExpectedVersion::Any,
                vec![message(number, 50)],
            )
            .unwrap();
        }
        assert_eq!(log.stream_version(stream(1)), Version::new(10 * round));
    }
}

#[test]
fn other_directories_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("a/b");
    let error = EventLog::open(&missing, options(1 << 20)).unwrap_err();
    assert!(
        matches!(&error, OpenError::Missing { path } if path.ends_with("a")),
        "{error}"
    );
    let made = directory.path().join("made");
    drop(EventLog::open(&made, options(1 << 20)).unwrap());
    assert!(made.join("FORMAT").is_file());

    let foreign = directory.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("holiday.jpg"), "").unwrap();
    let text = refusal(&foreign);
    assert!(
        text.contains("holiday.jpg") && text.contains("foreign"),
        "{text}"
    );
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        1,
        "it is left as it was"
    );

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).contains("not a directory"));

    fs::write(made.join("FORMAT"), "hooklog data directory, format 99\n").unwrap();
    let error = EventLog::open(&made, options(1 << 20)).unwrap_err();
    let OpenError::Storage(StorageError::FormatTooNew {
        found: 99,
        newest: 1,
        ..
    }) = error
    else {
        panic!("unexpected: {error}");
    };
    fs::write(made.join("FORMAT"), "something else").unwrap();
    assert!(refusal(&made).contains("not one of hooklog"));
}

#[test]
fn a_log_open_for_reading_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent");
    assert!(matches!(
        EventLog::open_read_only(&absent),
        Err(OpenError::Missing { .. })
    ));
    assert!(matches!(
        EventLog::open_read_only(&directory),
        Err(OpenError::Foreign { .. })
    ));
    let log = EventLog::open(directory.path(), options(1_000)).unwrap();
    for number in 0..20 {
        append(
            &log,
            stream(1),
            ExpectedVersion::Any,
            vec![message(number, 50)],
        )
        .unwrap();
    }
    let written = log.read(Position::ZERO, 100).unwrap();
    drop(log);
    let log = EventLog::open_read_only(directory.path()).unwrap();
    assert_eq!(log.read(Position::ZERO, 100).unwrap(), written);
    assert!(log.verify(|_| {}).unwrap().is_sound());
    let refused = append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]);
    assert!(matches!(refused, Err(AppendError::ReadOnly)));
    let refused = log.apply_retention(&RetentionPlan::default());
    assert!(matches!(refused, Err(RetentionError::ReadOnly)));
}

#[test]
fn impossible_options_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut none = options(1 << 20);
    none.commit_events_max = 0;
    let error = EventLog::open(directory.path(), none).unwrap_err();
    assert!(error.to_string().contains("commit_events_max"), "{error}");
    let mut large = options(1 << 20);
    large.commit_bytes_max = 100 << 20;
    let error = EventLog::open(directory.path(), large).unwrap_err();
    assert!(error.to_string().contains("commit_bytes_max"), "{error}");
}

#[test]
fn names_of_unknown_types_count_as_bytes_of_an_append() {
    use hooklog::model::{Event, EventType, UnknownEvent};
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), options(1 << 20)).unwrap();
    let event = Event::Unknown(UnknownEvent {
        event_type: EventType::from_text("n".repeat(17 << 20)),
        schema_version: 1,
        payload: "x".into(),
    });
    let refused = append(&log, stream(1), ExpectedVersion::Any, vec![event]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
}

#[test]
fn what_an_interrupted_removal_left_goes_with_the_next_opening() {
    use hooklog::log::{DirectoryStorage, Storage};
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), options(1_000)).unwrap();
    append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]).unwrap();
    drop(log);
    let left = |number: u64| {
        let path = directory.path().join(format!("log/{number:020}.removed"));
        fs::create_dir_all(path.join("blobs")).unwrap();
        path
    };
    let (old, same) = (left(77), left(5));
    let storage = DirectoryStorage::open(directory.path(), 1 << 20).unwrap();
    assert!(!old.exists() && !same.exists());
    let same = left(5);
    drop(storage.create(Position::new(5)).unwrap());
    storage.remove(Position::new(5)).unwrap();
    assert!(!same.exists());
}

fn row(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// A log of ten events that tells of its own number.
fn log_of_ten(number: u128) -> EventLog {
    let storage = hooklog::testing::MemoryStorage::new();
    let log = EventLog::open_with(std::sync::Arc::new(storage), options(1 << 20)).unwrap();
    for _ in 0..10 {
        append(
            &log,
            stream(number),
            ExpectedVersion::Any,
            vec![message(number, 1)],
        )
        .unwrap();
    }
    log
}

#[test]
fn a_snapshot_of_another_history_or_ahead_of_the_log_is_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    let (log, other) = (log_of_ten(1), log_of_ten(2));
    let save = |position| {
        let (nothing, position) = (Position::ZERO, Position::new(position));
        let rows = vec![row("a", "1")];
        snapshots.save(&log, nothing, position, rows).unwrap();
    };
    save(9);
    assert!(snapshots.load(&log).unwrap().is_some());
    assert_eq!(snapshots.load(&other).unwrap(), None);
    assert_eq!(snapshots.load(&log).unwrap(), None, "it is gone");
    save(11);
    assert_eq!(snapshots.load(&log).unwrap(), None);
}

#[test]
fn snapshots_keep_the_last_rows_and_survive_reopening() {
    let (directory, log) = (tempfile::tempdir().unwrap(), log_of_ten(1));
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    assert_eq!(snapshots.load(&log).unwrap(), None);
    snapshots
        .save(
            &log,
            Position::ZERO,
            Position::new(5),
            vec![row("a", "1"), row("b", "1"), row("c", "1")],
        )
        .unwrap();
    snapshots
        .save(
            &log,
            Position::new(5),
            Position::new(9),
            vec![row("b", "2"), row("c", ""), row("d", "")],
        )
        .unwrap();
    drop(snapshots);
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    let loaded = snapshots.load(&log).unwrap().unwrap();
    assert_eq!(
        loaded,
        (Position::new(9), vec![row("a", "1"), row("b", "2")])
    );
    snapshots.discard().unwrap();
    assert_eq!(snapshots.load(&log).unwrap(), None);
}

#[test]
fn rows_that_changed_since_another_snapshot_are_not_laid_over_this_one() {
    let (directory, log) = (tempfile::tempdir().unwrap(), log_of_ten(1));
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    let save = |base, position, rows| {
        snapshots.save(&log, Position::new(base), Position::new(position), rows)
    };
    assert_eq!(snapshots.position(&log).unwrap(), None);
    save(0, 5, vec![row("a", "1")]).unwrap();
    assert_eq!(snapshots.position(&log).unwrap(), Some(Position::new(5)));
    assert!(save(4, 9, vec![row("b", "1")]).is_err());
    assert_eq!(snapshots.load(&log).unwrap(), None, "what is there is gone");
    save(0, 9, vec![row("b", "1")]).unwrap();
    assert_eq!(snapshots.saved_row(b"b").unwrap(), Some(b"1".to_vec()));
    assert_eq!(snapshots.position(&log_of_ten(2)).unwrap(), None);
}

#[test]
fn a_damaged_snapshot_is_discarded_whole() {
    use hooklog::{log::Storage, testing::MemoryStorage};
    let (storage, first) = (MemoryStorage::new(), Position::FIRST);
    let log = log_of_ten(1);
    let snapshots = SnapshotStore::open_with(storage.create(first).unwrap());
    let save = || {
        let rows = vec![row("a", "1"), row("b", "1")];
        let base = snapshots.position(&log).unwrap().unwrap_or_default();
        snapshots.save(&log, base, Position::new(5), rows).unwrap();
        storage.rows(first)
    };
    for (key, mut value) in save() {
        save();
        value[0] ^= 1;
        storage.overwrite(first, &key, Some(value));
        assert_eq!(snapshots.load(&log).unwrap(), None, "a flipped bit");
        assert!(storage.rows(first).is_empty());
        save();
        storage.overwrite(first, &key, None);
        assert_eq!(snapshots.load(&log).unwrap(), None, "a missing row");
    }
    save();
    let spoiled = storage.rows(first).pop().unwrap().0;
    storage.overwrite(first, &spoiled, Some(vec![1, 2, 3, 4, 5]));
    assert!(
        snapshots
            .save(
                &log,
                Position::new(5),
                Position::new(6),
                vec![row("b", "2")]
            )
            .is_err()
    );
    assert_eq!(
        snapshots.load(&log).unwrap(),
        None,
        "changed rows alone make no snapshot"
    );

    let directory = tempfile::tempdir().unwrap();
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    snapshots
        .save(&log, Position::ZERO, Position::new(5), vec![row("a", "1")])
        .unwrap();
    drop(snapshots);
    fs::write(
        directory.path().join("snapshots/conf"),
        "not a store at all",
    )
    .unwrap();
    let snapshots = SnapshotStore::open(directory.path()).unwrap();
    snapshots
        .save(&log, Position::ZERO, Position::new(6), vec![row("a", "2")])
        .unwrap();
    assert_eq!(snapshots.load(&log).unwrap().unwrap().0, Position::new(6));
}

/// A message whose bytes do not compress.
fn noise(number: u128, bytes: usize) -> hooklog::model::Event {
    use hooklog::model::{Event, MessageEvent};
    let mut content = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.finalize_xof().fill(&mut content);
    match message(number, 0) {
        Event::Message(MessageEvent::Published(mut published)) => {
            std::sync::Arc::make_mut(&mut published).content = content.into();
            published.into()
        }
        other => other,
    }
}

#[test]
fn no_size_of_append_makes_files_beside_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let log = EventLog::open(directory.path(), options(64 << 20)).unwrap();
    for (size, number) in [9_000, 20_000, 60_000, 96_000, 200_000, 1 << 20]
        .into_iter()
        .zip(0..)
    {
        for repeat in 0..20 {
            let events = vec![noise(number * 100 + repeat, size)];
            append(&log, stream(number), ExpectedVersion::Any, events).unwrap();
        }
    }
    // Many streams, so that the table of heads of the next segment is long.
    for number in 0..3_000 {
        drop(log.enqueue(
            stream(1_000 + number),
            ExpectedVersion::Any,
            vec![message(number, 10)],
            hooklog::log::Urgency::Linger,
        ));
    }
    append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]).unwrap();
    drop(log);
    let log = EventLog::open(directory.path(), options(1_000)).unwrap();
    append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]).unwrap();
    drop(log);
    let mut stores = 0;
    for segment in fs::read_dir(directory.path().join("log")).unwrap() {
        stores += 1;
        let blobs = segment.unwrap().path().join("blobs");
        assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    }
    assert!(stores > 1);
}

/// What a crash leaves of a segment that is being made: its mark, and some of the files.
fn cut_off(directory: &std::path::Path, files: usize) {
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("beginning"), "").unwrap();
    for (name, content) in [("conf", ""), ("conf", "half"), ("db", ""), ("db", "half")]
        .into_iter()
        .take(files)
    {
        fs::create_dir_all(directory.join("blobs")).unwrap();
        fs::write(directory.join(name), content).unwrap();
    }
}

#[test]
fn a_segment_whose_making_was_cut_off_is_no_damage_and_is_made_again() {
    for files in 0..=4 {
        let data = tempfile::tempdir().unwrap();
        let segment = |first: u64| data.path().join(format!("log/{first:020}"));
        drop(EventLog::open(data.path(), options(1)).unwrap());
        // The very first, and the next.
        for first in [1, 2] {
            cut_off(&segment(first), files);
            assert_eq!(
                EventLog::open_read_only(data.path())
                    .unwrap()
                    .head()
                    .next()
                    .get(),
                first
            );
            assert!(segment(first).exists(), "a reader alters nothing");
            let log = EventLog::open(data.path(), options(1)).unwrap();
            assert_eq!(log.health(), Health::Sound, "{files} files");
            let events = vec![message(1, 1)];
            let appended = append(&log, stream(1), ExpectedVersion::Any, events).unwrap();
            assert_eq!(appended.first.get(), first);
            assert!(log.verify(|_| {}).unwrap().is_sound());
            log.close();
        }
    }
}
