//! G11: damage is detected, never served, and stays where it is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hooklog::{
    log::{
        AppendError, EventLog, ExpectedVersion, FeedItem, FeedStart, Filter, Health, OpenError,
        ReadError, RecordedEvent, Repair, RepairError, RepairPlan, StorageError,
    },
    model::{Draws, Moment, Position, Timestamp, Version},
    runtime,
    testing::{
        MemoryStorage,
        log_conformance::{append, message, options, stream},
    },
};

use crate::support::{
    disk,
    files::{contents, copy_directory, files, used},
    seed::seed_or,
};

const EVENTS: u64 = 30;
/// With so many events, such as 3,000, the logs whose files are cut off, zeroed and put out of place are
/// large. Where there are more places than are tried then, `HOOKLOG_SEED` says which are.
const EVENTS_ASKED: &str = "HOOKLOG_DAMAGE_EVENTS";
/// How many places of a large log are tried.
const PLACES: usize = 500;
/// The block of each of the two records of `HEAD`.
const HEAD_BLOCK: usize = 4_096;

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
fn g11_a_page_that_claims_more_parts_than_there_are_takes_only_its_own_positions() {
    let storage = MemoryStorage::new();
    let mut left = written(&storage, 1 << 20);
    let (first, key, mut value) = row_of(&storage, b'p', 10);
    value[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    storage.overwrite(first, &key, Some(value));
    let log = open(&storage, 1 << 20);
    left.retain(|event| event.position != Position::new(10));
    assert_eq!(read_around(&log), (left, 1));
    assert!(!log.verify(|_| {}).unwrap().is_sound());
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
    assert!(
        matches!(into, Err(ReadError::StreamDamaged { after, .. }) if after == before.version),
        "{into:?}"
    );
    let behind = log.read_stream(stream(0), Version::new(9), 1).unwrap();
    assert_eq!(behind[0].version, Version::new(10));
}

/// Reads a stream as its subscribers do: behind damage it goes on where the error says.
fn read_stream_around(log: &EventLog, number: u128) -> Vec<Arc<RecordedEvent>> {
    let (mut after, mut events) = (Version::ZERO, Vec::new());
    loop {
        match log.read_stream(stream(number), after, 3) {
            Ok(more) if more.is_empty() => return events,
            Ok(more) => {
                after = more.last().unwrap().version;
                events.extend(more);
            }
            Err(ReadError::StreamDamaged { resume, .. }) => {
                assert!(resume > after.next(), "it goes forward");
                after = resume.previous();
            }
            Err(error) => panic!("unexpected: {error}"),
        }
    }
}

fn of_stream(events: &[Arc<RecordedEvent>], number: u128) -> Vec<Arc<RecordedEvent>> {
    let of_stream = events.iter().filter(|event| event.stream == stream(number));
    of_stream.cloned().collect()
}

/// The row of a page, or the index row of a page.
fn row_of(storage: &MemoryStorage, kind: u8, position: u64) -> (Position, Vec<u8>, Vec<u8>) {
    for first in segments(storage) {
        for (key, value) in storage.rows(first) {
            let place = if kind == b'p' { &key[1..] } else { &value };
            if key[0] == kind && place[..8] == position.to_be_bytes() {
                return (first, key, value);
            }
        }
    }
    panic!("there is no row for position {position}");
}

#[test]
fn g11_a_damaged_index_hides_no_event_of_a_sealed_segment() {
    for lose in [true, false] {
        for position in 1..=EVENTS {
            let storage = MemoryStorage::new();
            let sound = written(&storage, 400);
            let (first, key, mut value) = row_of(&storage, b's', position);
            if Some(&first) == segments(&storage).last() {
                continue;
            }
            value[7] ^= 2;
            storage.overwrite(first, &key, (!lose).then_some(value));
            let log = open(&storage, 400);
            let what = format!("position {position}, lost: {lose}");
            for number in 0..3 {
                let events = read_stream_around(&log, number);
                assert_eq!(events, of_stream(&sound, number), "{what}");
            }
            assert_eq!(read_around(&log).0, sound, "{what}");
            assert_eq!(log.quarantined(), [], "{what}");
            assert!(!log.verify(|_| {}).unwrap().is_sound(), "{what}");
        }
    }
}

#[test]
fn g11_a_stream_is_read_on_behind_damaged_pages_and_segments() {
    for position in 1..=EVENTS {
        let storage = MemoryStorage::new();
        let sound = written(&storage, 400);
        let (first, key, mut value) = row_of(&storage, b'p', position);
        *value.last_mut().unwrap() ^= 1;
        storage.overwrite(first, &key, Some(value));
        let log = open(&storage, 400);
        let mut left = sound.clone();
        left.retain(|event| event.position.get() != position);
        for number in 0..3 {
            let events = read_stream_around(&log, number);
            assert_eq!(events, of_stream(&left, number), "position {position}");
        }
    }
    let count = segments(&{
        let storage = MemoryStorage::new();
        written(&storage, 400);
        storage
    })
    .len();
    for broken in [vec![0], vec![0, 1], vec![3], vec![4, 5], vec![count - 2]] {
        let storage = MemoryStorage::new();
        let mut left = written(&storage, 400);
        let firsts = segments(&storage);
        for at in &broken {
            let (from, to) = (firsts[*at], firsts[at + 1]);
            storage.break_segment(from);
            left.retain(|event| event.position < from || event.position >= to);
        }
        let log = open(&storage, 400);
        for number in 0..3 {
            let events = read_stream_around(&log, number);
            assert_eq!(events, of_stream(&left, number), "segments {broken:?}");
        }
    }
}

#[test]
fn times_are_not_believed_of_a_damaged_page() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 400);
    let (first, key, mut value) = row_of(&storage, b'p', 15);
    // The time of its events.
    value[16] ^= 0x40;
    storage.overwrite(first, &key, Some(value));
    let log = open(&storage, 400);
    let found = log.position_at(sound[14].time);
    let is_right = |position: Position| position <= sound[14].position;
    match found {
        Ok(position) => assert!(is_right(position), "{position}"),
        Err(error) => assert!(matches!(error, ReadError::Corrupt { .. }), "{error}"),
    }
    let first = log.position_at(sound[0].time);
    assert!(first.is_err() || first.is_ok_and(|position| position == Position::FIRST));
}

#[test]
fn a_time_is_found_beside_damage() {
    for broken in 0.. {
        let storage = MemoryStorage::new();
        let sound = written(&storage, 400);
        let firsts = segments(&storage);
        if broken == firsts.len() - 1 {
            assert!(broken > 2, "there are some");
            break;
        }
        storage.break_segment(firsts[broken]);
        let log = open(&storage, 400);
        for event in &sound {
            let what = format!("position {}, segment {broken}", event.position);
            let found = log.position_at(event.time).expect(&what);
            assert!(found <= event.position, "{what}: {found}");
            let mut before = sound.iter().filter(|other| other.position < found);
            assert!(
                before.all(|other| other.time < event.time),
                "{what}: {found}"
            );
        }
    }
}

#[test]
fn a_newest_segment_that_cannot_be_opened_is_read_around_and_not_written_after() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    let newest = *segments(&storage).last().unwrap();
    storage.break_segment(newest);
    let log = open(&storage, 400);
    assert_eq!(log.head(), newest.previous());
    assert_eq!(log.quarantined()[0].to, Some(Position::new(EVENTS)));
    let refused = append(&log, stream(0), ExpectedVersion::Any, vec![message(1, 1)]);
    let last = Some(Position::new(EVENTS));
    assert!(
        matches!(refused, Err(AppendError::TailDamaged { from, to, .. }) if from == newest && to == last),
        "{refused:?}"
    );
    assert!(matches!(log.health(), Health::TailDamaged { .. }));
    let below = log
        .read_stream(stream(0), Version::ZERO, usize::MAX)
        .unwrap();
    assert!(below.len() > 5, "streams are read up to it");
    assert!(!log.verify(|_| {}).unwrap().is_sound());
}

/// Cuts the last commit off, as a store does that takes damage at its end for a torn write.
fn cut_last_commit(storage: &MemoryStorage) {
    let newest = *segments(storage).last().unwrap();
    let rows = storage.rows(newest);
    let last_page = |key: &[u8]| key[0] == b'p' && key[1..9] == EVENTS.to_be_bytes();
    for (key, value) in rows {
        let is_index = key[0] == b's' && value[..8] == EVENTS.to_be_bytes();
        if last_page(&key) || is_index {
            storage.overwrite(newest, &key, None);
        }
    }
}

#[test]
fn g11_an_end_that_was_acknowledged_and_is_gone_is_named_and_its_positions_are_not_given_again() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 1 << 20);
    cut_last_commit(&storage);
    let lost = Position::new(EVENTS);
    let log = open(&storage, 1 << 20);
    assert_eq!(log.head(), lost.previous());
    let quarantined = log.quarantined();
    assert_eq!((quarantined[0].from, quarantined[0].to), (lost, Some(lost)));
    let refused = append(&log, stream(9), ExpectedVersion::Any, vec![message(1, 1)]);
    let Err(error @ AppendError::TailDamaged { .. }) = refused else {
        panic!("expected a refusal, got {refused:?}");
    };
    assert!(error.to_string().contains("position 30 to 30"), "{error}");
    assert_eq!(read_around(&log).0, sound[..29], "the rest is read");
    let problems = log.verify(|_| {}).unwrap().problems;
    assert_eq!((problems[0].from, problems[0].to), (lost, lost));
    drop(log);
    storage.overwrite_head(Vec::new());
    let log = open(&storage, 1 << 20);
    append(&log, stream(9), ExpectedVersion::Any, vec![message(1, 1)]).unwrap();
}

fn repair(storage: &MemoryStorage, plan: &RepairPlan) -> Result<Position, RepairError> {
    let repair = Repair::open(Arc::new(storage.clone()), options(400), plan)?;
    Ok(repair.apply(&HashMap::new())?.first)
}

#[test]
fn a_damaged_end_is_given_up_by_a_repair_and_its_positions_are_not_given_again() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 400);
    cut_last_commit(&storage);
    let lost = Position::new(EVENTS);
    let plan = open(&storage, 400).repair_plan().unwrap();
    assert_eq!((plan.from, plan.to), (lost, Some(lost)));
    assert_eq!(plan.events(), Some(1));
    assert_eq!(plan.readable_until, Some(sound[28].time));
    assert_eq!(repair(&storage, &plan).unwrap(), plan.resume);

    let log = open(&storage, 400);
    assert_eq!(log.health(), Health::Sound);
    assert_eq!(log.head(), plan.resume);
    let expected = ExpectedVersion::Exact(sound[28].version);
    let appended = append(&log, sound[28].stream, expected, vec![message(77, 1)]);
    assert_eq!(appended.unwrap().first, plan.resume.next());
    let (events, damaged) = read_around(&log);
    assert_eq!(damaged, 0, "nobody is told twice");
    assert_eq!(events[..29], sound[..29]);
    assert_eq!(events.len(), 31);
    for after in [lost.previous(), lost, Position::new(1_000_000)] {
        assert_eq!(log.read(after, 1).unwrap(), events[29..30]);
    }
    assert_eq!(log.get(lost).unwrap(), None);
    assert_eq!(log.get(plan.resume).unwrap().unwrap(), events[29]);
    let skipped = plan.resume.previous();
    let of_stream = log.read_stream(sound[28].stream, Version::ZERO, usize::MAX);
    assert_eq!(of_stream.unwrap().last().unwrap().event, message(77, 1));
    let report = log.verify(|_| {}).unwrap();
    assert_eq!(report.problems, []);
    let given_up = &report.given_up[0];
    assert_eq!((given_up.from, given_up.to), (lost, skipped));
    for event in &events {
        assert!(log.position_at(event.time).unwrap() <= event.position);
    }
    assert_eq!(log.position_at(Timestamp::MAX).unwrap(), log.head().next());
}

#[test]
fn a_log_that_takes_events_is_not_repaired_and_neither_is_another_damage_than_was_shown() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    assert_eq!(open(&storage, 400).repair_plan(), None);
    let newest = *segments(&storage).last().unwrap();
    storage.break_segment(newest);
    let plan = open(&storage, 400).repair_plan().unwrap();
    assert_eq!(plan.from, newest);
    let (to, resume) = (None, Position::new(7));
    for other in [
        RepairPlan { to, ..plan.clone() },
        RepairPlan {
            resume,
            ..plan.clone()
        },
    ] {
        let refused = repair(&storage, &other);
        assert!(matches!(refused, Err(RepairError::Changed)), "{refused:?}");
    }
    repair(&storage, &plan).unwrap();
    let refused = repair(&storage, &plan);
    assert!(matches!(refused, Err(RepairError::Changed)), "{refused:?}");
    let report = open(&storage, 400).verify(|_| {}).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn g1_a_segment_that_was_given_up_does_not_come_back_with_what_of_it_is_sound() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 400);
    let newest = *segments(&storage).last().unwrap();
    let index = storage.rows(newest);
    let (last_row, _) = index.iter().rfind(|(key, _)| key[0] == b's').unwrap();
    storage.overwrite(newest, last_row, None);
    let plan = open(&storage, 400).repair_plan().unwrap();
    assert_eq!(plan.from, newest);
    repair(&storage, &plan).unwrap();

    for _ in 0..2 {
        let log = open(&storage, 400);
        let before = usize::try_from(newest.get()).unwrap() - 1;
        let (events, damaged) = read_around(&log);
        assert_eq!(damaged, 0);
        assert_eq!(events[..before], sound[..before]);
        assert!(
            events[before..]
                .iter()
                .all(|event| event.position >= plan.resume)
        );
        for number in 0..3 {
            let of = stream(number);
            let (head, known) = (log.stream_version(of), of_stream(&events, number));
            assert_eq!(head.get(), known.len() as u64, "none is given twice");
            let read = log.read_stream(of, Version::ZERO, usize::MAX).unwrap();
            assert_eq!(read, known);
            let more = vec![message(500, 1)];
            append(&log, of, ExpectedVersion::Exact(head), more).unwrap();
        }
        assert_eq!(log.verify(|_| {}).unwrap().problems, []);
    }
}

#[test]
fn a_stream_goes_on_at_the_version_that_somebody_else_knows_of() {
    let storage = MemoryStorage::new();
    written(&storage, 1 << 20);
    storage.break_segment(Position::FIRST);
    let plan = open(&storage, 400).repair_plan().unwrap();
    let repair = Repair::open(Arc::new(storage.clone()), options(400), &plan).unwrap();
    assert_eq!(repair.log().stream_version(stream(1)), Version::ZERO);
    let known = HashMap::from([(stream(1), Version::new(9))]);
    repair.apply(&known).unwrap();
    let log = open(&storage, 400);
    let expected = ExpectedVersion::Exact(Version::new(9));
    append(&log, stream(1), expected, vec![message(1, 1)]).unwrap();
    assert_eq!(log.verify(|_| {}).unwrap().problems, []);
}

#[test]
fn a_repair_that_is_damaged_itself_is_repaired_with_what_it_had_given_up() {
    let storage = MemoryStorage::new();
    let sound = written(&storage, 400);
    cut_last_commit(&storage);
    let first = open(&storage, 400).repair_plan().unwrap();
    repair(&storage, &first).unwrap();
    storage.break_segment(first.resume);
    let second = open(&storage, 400).repair_plan().unwrap();
    assert_eq!(second.from, first.from);
    assert_eq!(second.readable_until, Some(sound[28].time));
    assert!(second.resume > first.resume);
    repair(&storage, &second).unwrap();
    let log = open(&storage, 400);
    let (events, damaged) = read_around(&log);
    assert_eq!((events.len(), damaged), (30, 0));
    assert_eq!(log.verify(|_| {}).unwrap().problems, []);
}

#[test]
fn a_repair_that_fails_leaves_the_log_as_it_was() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    cut_last_commit(&storage);
    let plan = open(&storage, 400).repair_plan().unwrap();
    let failures: [fn(&MemoryStorage); 4] = [
        |storage| storage.fail_creates(1),
        |storage| storage.fail_applies(1),
        |storage| storage.set_full(true),
        // The first is that of opening.
        |storage| storage.fail_syncs(2),
    ];
    for fail in failures {
        fail(&storage);
        let refused = repair(&storage, &plan);
        assert!(refused.is_err(), "{refused:?}");
        storage.fail_syncs(0);
        storage.set_full(false);
        storage.crash();
        assert_eq!(open(&storage, 400).repair_plan(), Some(plan.clone()));
    }
    repair(&storage, &plan).unwrap();
    storage.crash();
    assert_eq!(open(&storage, 400).head(), plan.resume);
}

#[test]
fn g11_lost_segments_at_either_end_are_damage_and_not_retention() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    let firsts = segments(&storage);
    hooklog::log::Storage::remove(&storage, firsts[0]).unwrap();
    hooklog::log::Storage::remove(&storage, *firsts.last().unwrap()).unwrap();
    let log = open(&storage, 400);
    assert_eq!(log.first_position(), Position::FIRST);
    let read = log.read(Position::ZERO, 1);
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    let read = log.read(firsts[1].previous(), 1).unwrap();
    assert_eq!(read[0].position, firsts[1]);
    assert!(matches!(log.health(), Health::TailDamaged { .. }));
    let problems = log.verify(|_| {}).unwrap().problems;
    assert!(problems.iter().any(|p| p.from == Position::FIRST));
    assert!(problems.iter().any(|p| p.to == Position::new(EVENTS)));
}

#[test]
fn a_newest_segment_that_was_begun_and_is_empty_is_damage() {
    let storage = MemoryStorage::new();
    written(&storage, 400);
    let newest = *segments(&storage).last().unwrap();
    for (key, _) in storage.rows(newest) {
        storage.overwrite(newest, &key, None);
    }
    let log = open(&storage, 400);
    assert!(matches!(log.health(), Health::TailDamaged { from, .. } if from == newest));
    assert_eq!(
        segments(&storage).last(),
        Some(&newest),
        "it is not removed"
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

/// How many events a large log has, where one is asked for.
fn events_asked() -> Option<u64> {
    let asked = std::env::var(EVENTS_ASKED).ok();
    asked.map(|asked| asked.parse().unwrap())
}

/// What places are drawn with; its seed is printed, and `HOOKLOG_SEED` repeats one.
fn draws() -> Draws {
    Moment::new(Timestamp::EPOCH, seed_or(7).into()).draws()
}

/// A small log in a directory, and what it holds.
fn written_directory(directory: &Path) -> Vec<Arc<RecordedEvent>> {
    written_events(directory, 60)
}

/// A log of so many events in a few segments.
fn written_events(directory: &Path, events: u64) -> Vec<Arc<RecordedEvent>> {
    let log = EventLog::open(directory, options(events * 66)).unwrap();
    for number in 0..u128::from(events) {
        let events = vec![message(number, 200)];
        append(&log, stream(number % 3), ExpectedVersion::Any, events).unwrap();
    }
    log.read(Position::ZERO, usize::MAX).unwrap()
}

/// Whether a position is of one of these segments, named by the directories that files of a data
/// directory lie in.
fn is_of(position: Position, segments: &[PathBuf], firsts: &BTreeSet<u64>) -> bool {
    let first = firsts.range(..=position.get()).next_back();
    let named = first.map(|first| Path::new("log").join(format!("{first:020}")));
    named.is_some_and(|named| segments.iter().any(|path| path.starts_with(&named)))
}

/// Opens a directory in which these files are damaged, holds all it gives against what was written,
/// and says whether the damage was seen. No event of another segment may be missing.
fn open_damaged(
    directory: &Path,
    sound: &[Arc<RecordedEvent>],
    files: &[PathBuf],
    what: &str,
) -> bool {
    let names = fs::read_dir(directory.join("log")).unwrap();
    let firsts: BTreeSet<u64> = names
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    let before = contents(directory);
    let verified = EventLog::open_read_only(directory).map(|log| {
        let report = log.verify(|_| {}).unwrap();
        !report.is_sound()
    });
    assert!(before == contents(directory), "{what}: a reader altered it");
    let log = match EventLog::open(directory, options(4_000)) {
        Ok(log) => log,
        Err(OpenError::Foreign { .. } | OpenError::Storage(StorageError::FormatTooNew { .. })) => {
            return true;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let (events, _) = read_around(&log);
    for event in &events {
        let expected = &sound[usize::try_from(event.position.get() - 1).unwrap()];
        assert_eq!(event, expected, "{what}");
    }
    let read: BTreeSet<_> = events.iter().map(|event| event.position).collect();
    let elsewhere = |event: &&Arc<RecordedEvent>| !is_of(event.position, files, &firsts);
    for event in sound.iter().filter(elsewhere) {
        let position = event.position;
        assert!(read.contains(&position), "{what}: {position} is not of it");
    }
    let report = log.verify(|_| {}).unwrap();
    // Where `HEAD` alone is damaged all events are there.
    let is_seen = !report.is_sound();
    let is_named = is_seen && !log.quarantined().is_empty();
    assert!(is_named || events == sound, "{what}: lost without a word");
    let verified = verified.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(verified, is_seen, "{what}: verify agrees");
    if matches!(log.health(), Health::TailDamaged { .. }) {
        let refused = append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]);
        assert!(
            matches!(refused, Err(AppendError::TailDamaged { .. })),
            "{what}"
        );
        drop(log);
        repair_damaged(directory, &events, what);
    } else {
        let appended = append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]);
        let next = Position::new(sound.len() as u64 + 1);
        assert_eq!(appended.unwrap().first, next, "{what}");
    }
    is_seen
}

/// Repairs a directory whose end is damaged: what could be read is read as before, and it takes
/// events again.
fn repair_damaged(directory: &Path, readable: &[Arc<RecordedEvent>], what: &str) {
    let plan = EventLog::open_read_only(directory).unwrap().repair_plan();
    let plan = plan.unwrap_or_else(|| panic!("{what}: nothing to repair"));
    let told = runtime::repair(directory, &plan).unwrap();
    assert_eq!(told.first, plan.resume, "{what}");
    let log = EventLog::open(directory, options(4_000)).unwrap();
    assert_eq!(log.health(), Health::Sound, "{what}");
    assert_eq!(log.repair_plan(), None, "{what}");
    let appended = append(&log, stream(1), ExpectedVersion::Any, vec![message(1, 1)]);
    assert_eq!(appended.unwrap().first, plan.resume.next(), "{what}");
    let (events, _) = read_around(&log);
    assert_eq!(events[..events.len() - 2], *readable, "{what}");
    let report = log.verify(|_| {}).unwrap();
    assert_eq!(report.given_up.len(), 1, "{what}");
    assert_eq!(report.given_up[0].from, plan.from, "{what}");
    for problem in report.problems {
        assert!(problem.from < plan.from, "{what}: {problem:?}");
    }
}

/// Alters one file in a copy of a directory, and holds what is left of it against what was written. Says
/// whether it was seen.
fn altered(
    clean: &[(PathBuf, Vec<u8>)],
    sound: &[Arc<RecordedEvent>],
    file: usize,
    what: &str,
    alter: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let directory = disk::in_memory();
    for (path, bytes) in clean {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let (path, bytes) = &clean[file];
    let mut bytes = bytes.clone();
    alter(&mut bytes);
    fs::write(directory.path().join(path), bytes).unwrap();
    let what = format!("{what} of {}", path.display());
    open_damaged(directory.path(), sound, std::slice::from_ref(path), &what)
}

/// The files of a directory by their paths in it.
fn relative(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = contents(directory).into_iter();
    files
        .map(|(path, bytes)| (path.strip_prefix(directory).unwrap().to_owned(), bytes))
        .collect()
}

/// Each byte of each file that anything was written to.
fn each_byte(clean: &[(PathBuf, Vec<u8>)]) -> Vec<(usize, usize)> {
    let each = |(file, (_, bytes)): (usize, &(PathBuf, Vec<u8>))| {
        (0..used(bytes))
            .map(move |at| (file, at))
            .collect::<Vec<_>>()
    };
    clean.iter().enumerate().flat_map(each).collect()
}

/// So many bytes by chance of the files that anything was written to. Every second one is in the segment
/// that is written, where damage looks like a torn write.
fn drawn(clean: &[(PathBuf, Vec<u8>)], draws: &mut Draws, many: usize) -> Vec<(usize, usize)> {
    let holding: Vec<_> = (0..clean.len())
        .filter(|file| used(&clean[*file].1) > 0)
        .collect();
    let newest = clean.iter().rposition(|(path, _)| path.ends_with("db"));
    let each = (0..many).map(|number| {
        let any = holding[usize::try_from(draws.below(holding.len() as u64)).unwrap()];
        let file = if number % 2 == 0 {
            newest.unwrap()
        } else {
            any
        };
        let used = used(&clean[file].1) as u64;
        (file, usize::try_from(draws.below(used)).unwrap())
    });
    each.collect()
}

/// Tries each of these places, side by side, for each has a directory of its own; says at how many the
/// damage was seen.
fn detected(places: &[(usize, usize)], is_seen: impl Fn(usize, usize) -> bool + Sync) -> usize {
    let (next, detected) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, at)) = places.get(number).copied() else {
                return;
            };
            detected.fetch_add(usize::from(is_seen(file, at)), Ordering::Relaxed);
            if number % 500 == 499 {
                eprintln!("{} of {}", number + 1, places.len());
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let (detected, all) = (detected.into_inner(), places.len());
    println!("{detected} of {all} were detected, the others were harmless");
    detected
}

/// `HOOKLOG_FLIPS=every` takes each byte there is; a number, so many of a log of 3,000 events.
#[test]
fn g11_a_flipped_bit_in_any_file_is_detected_or_harmless() {
    let asked = std::env::var("HOOKLOG_FLIPS").ok();
    let mut draws = draws();
    let directory = tempfile::tempdir().unwrap();
    let many: Option<usize> = asked.as_ref().and_then(|asked| asked.parse().ok());
    let sound = written_events(directory.path(), many.map_or(60, |_| 3_000));
    let clean = relative(directory.path());
    let places = if asked.as_deref() == Some("every") {
        each_byte(&clean)
    } else {
        drawn(&clean, &mut draws, many.unwrap_or(200))
    };
    let mut detected = 0_u64;
    for (number, (file, at)) in places.iter().copied().enumerate() {
        let bit = draws.below(8);
        let what = format!("bit {bit} of byte {at}");
        let is_seen = altered(&clean, &sound, file, &what, |bytes| bytes[at] ^= 1 << bit);
        detected += u64::from(is_seen);
        if asked.is_some() && number % 500 == 499 {
            eprintln!("{} of {}, {detected} detected", number + 1, places.len());
        }
    }
    let all = places.len();
    println!("{detected} of {all} flips were detected, the others were harmless");
    assert!(detected > 0);
}

/// Copies a sound directory, damages the copy, and holds what it gives against what was written.
fn damaged(
    clean: &Path,
    sound: &[Arc<RecordedEvent>],
    files: &[PathBuf],
    what: &str,
    damage: impl FnOnce(&Path),
) -> bool {
    let directory = tempfile::tempdir().unwrap();
    copy_directory(clean, directory.path());
    damage(directory.path());
    open_damaged(directory.path(), sound, files, what)
}

/// Where files are cut off: at twelve lengths each, and at each offset of what was written last, which
/// is a page of the log and a record of `HEAD`.
fn cuts(clean: &[(PathBuf, Vec<u8>)], events: u64) -> BTreeSet<(usize, usize)> {
    let newest = clean.iter().rposition(|(path, _)| path.ends_with("db"));
    let mut cuts = BTreeSet::new();
    for (file, (path, bytes)) in clean.iter().enumerate() {
        let used = used(bytes);
        let step = (used / 12).max(1);
        cuts.extend((0..used).step_by(step).map(|length| (file, length)));
        let last: Vec<usize> = if path.ends_with("HEAD") {
            assert!(used > HEAD_BLOCK, "it has two records");
            let record = used - HEAD_BLOCK;
            (0..record).chain(HEAD_BLOCK..used).collect()
        } else if Some(file) == newest {
            (begin_of_page(bytes, events)..used).collect()
        } else {
            Vec::new()
        };
        cuts.extend(last.into_iter().map(|length| (file, length)));
    }
    cuts
}

/// Where the page of one event that stands at this position begins in a store.
fn begin_of_page(bytes: &[u8], position: u64) -> usize {
    // Its number of parts and of events come before the position in its header.
    let header = [&[0_u8, 1, 0, 0, 0, 1][..], &position.to_be_bytes()[..]].concat();
    let mut places = bytes.windows(header.len());
    let found = places.rposition(|place| place == header);
    found.expect("a page is stored as it is") - 2
}

/// `HOOKLOG_TRUNCATIONS=every` cuts each file at each length. A large log is cut at lengths by chance.
#[test]
fn g11_a_file_that_is_cut_off_anywhere_is_detected_or_harmless() {
    let asked = std::env::var("HOOKLOG_TRUNCATIONS").ok();
    let large = events_asked();
    let directory = tempfile::tempdir().unwrap();
    let sound = written_events(directory.path(), large.unwrap_or(60));
    let clean = relative(directory.path());
    let places: Vec<_> = match asked.as_deref() {
        None if large.is_some() => drawn(&clean, &mut draws(), PLACES),
        None => cuts(&clean, sound.len() as u64).into_iter().collect(),
        Some("every") => each_byte(&clean),
        Some(other) => panic!("HOOKLOG_TRUNCATIONS is {other:?}; it may be `every`"),
    };
    let detected = detected(&places, |file, length| {
        let what = format!("the first {length} bytes alone");
        altered(&clean, &sound, file, &what, |bytes| bytes.truncate(length))
    });
    assert!(detected > 0);
}

/// Of a large log blocks by chance are zeroed, where there are more than are tried.
#[test]
fn g11_a_block_of_zeros_in_any_file_is_detected_or_harmless() {
    const BLOCK: usize = 4_096;
    let large = events_asked();
    let directory = tempfile::tempdir().unwrap();
    let sound = written_events(directory.path(), large.unwrap_or(60));
    let clean = relative(directory.path());
    let blocks = |file: usize| (0..used(&clean[file].1)).step_by(BLOCK);
    let mut places: Vec<_> = (0..clean.len())
        .flat_map(|file| blocks(file).map(move |from| (file, from)))
        .collect();
    if large.is_some() {
        let mut draws = draws();
        while places.len() > PLACES {
            places.swap_remove(usize::try_from(draws.below(places.len() as u64)).unwrap());
        }
    }
    let detected = detected(&places, |file, from| {
        let what = format!("zeros from {from}");
        altered(&clean, &sound, file, &what, |bytes| {
            let to = bytes.len().min(from + BLOCK);
            bytes[from..to].fill(0);
        })
    });
    assert!(detected > 0);
}

/// A large log has no more segments than a small one, and each pair of them is tried.
#[test]
fn g11_segments_that_changed_places_or_stand_twice_are_detected() {
    let clean = tempfile::tempdir().unwrap();
    let sound = written_events(clean.path(), events_asked().unwrap_or(60));
    let mut names: Vec<_> = fs::read_dir(clean.path().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    for (at, one) in names.iter().enumerate() {
        for other in &names[at + 1..] {
            let pair = format!("{} and {}", one.display(), other.display());
            let files = [one, other].map(|name| Path::new("log").join(name));
            let what = format!("{pair} swapped");
            let swapped = damaged(clean.path(), &sound, &files, &what, |data| {
                let (log, aside) = (data.join("log"), data.join("aside"));
                fs::rename(log.join(one), &aside).unwrap();
                fs::rename(log.join(other), log.join(one)).unwrap();
                fs::rename(&aside, log.join(other)).unwrap();
            });
            assert!(swapped, "{pair} swapped");
            for (from, to) in [(one, other), (other, one)] {
                let what = format!("{} over {}", from.display(), to.display());
                let doubled = damaged(clean.path(), &sound, &files, &what, |data| {
                    let log = data.join("log");
                    fs::remove_dir_all(log.join(to)).unwrap();
                    copy_directory(&log.join(from), &log.join(to));
                });
                assert!(doubled, "{what}");
            }
        }
    }
}

#[test]
fn a_damaged_newest_segment_is_kept_as_it_was_found() {
    let directory = tempfile::tempdir().unwrap();
    written_directory(directory.path());
    let db = files(directory.path());
    let db = db.iter().rfind(|path| path.ends_with("db")).unwrap();
    let mut bytes = fs::read(db).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used - 40] ^= 1;
    fs::write(db, &bytes).unwrap();
    let log = EventLog::open(directory.path(), options(4_000)).unwrap();
    assert!(
        matches!(log.health(), Health::TailDamaged { .. }),
        "{:?}",
        log.health()
    );
    let kept = db.parent().unwrap().with_extension("damaged");
    assert!(fs::read(kept.join("db")).unwrap() == bytes);
    drop(log);
    let sound = tempfile::tempdir().unwrap();
    written_directory(sound.path());
    drop(EventLog::open(sound.path(), options(4_000)).unwrap());
    let names = fs::read_dir(sound.path().join("log")).unwrap();
    for entry in names {
        let name = entry.unwrap().file_name();
        assert_eq!(
            name.len(),
            20,
            "nothing is left beside the segments: {}",
            name.display()
        );
    }
}
