//! What a crash may take: nothing that was acknowledged.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hooklog::{
    log::{
        AppendError, Durability, EventLog, ExpectedVersion, Health, LogOptions, Storage,
        StorageError, Urgency,
    },
    model::{Draws, Moment, Position, Timestamp, Version},
    testing::{
        ManualClock, MemoryStorage,
        log_conformance::{append, assert_gapless, message, options, stream},
    },
};

fn open(storage: &MemoryStorage, options: LogOptions) -> EventLog {
    EventLog::open_with(Arc::new(storage.clone()), options).unwrap()
}

fn append_one(log: &EventLog, number: u128) -> Result<Position, AppendError> {
    let events = vec![message(number, 50)];
    append(log, stream(number % 3), ExpectedVersion::Any, events).map(|appended| appended.last)
}

fn draws(seed: u64) -> Draws {
    println!("seed {seed}");
    Moment::new(Timestamp::EPOCH, u128::from(seed)).draws()
}

#[test]
fn g2_what_was_acknowledged_under_synced_survives_power_loss() {
    for seed in 0..200 {
        let mut draws = draws(seed);
        let storage = MemoryStorage::new();
        let mut acknowledged = Vec::new();
        for _ in 0..3 {
            let log = open(&storage, options(600));
            for _ in 0..draws.below(12) {
                let number = acknowledged.len() as u128;
                append_one(&log, number).unwrap();
                acknowledged.push(number);
            }
            storage.crash_keeping(usize::try_from(draws.below(3)).unwrap());
            drop(log);
            let log = open(&storage, options(600));
            let events = log.read(Position::ZERO, usize::MAX).unwrap();
            assert_gapless(&events);
            assert_eq!(events.len(), acknowledged.len());
            assert!(log.verify(|_| {}).unwrap().is_sound());
        }
    }
}

#[test]
fn what_was_acknowledged_under_flushed_survives_a_killed_process() {
    let storage = MemoryStorage::new();
    let flushed = || LogOptions {
        durability: Durability::Flushed,
        ..options(600)
    };
    let log = open(&storage, flushed());
    for number in 0..20 {
        append_one(&log, number).unwrap();
    }
    storage.kill();
    drop(log);
    let log = open(&storage, flushed());
    assert_eq!(log.head(), Position::new(20));
    append_one(&log, 20).unwrap();
    storage.crash();
    drop(log);
    let log = open(&storage, flushed());
    assert_eq!(
        log.head(),
        Position::new(20),
        "what opening found was synced; the rest was not"
    );
}

#[test]
fn power_loss_cuts_a_buffered_log_at_a_commit_and_leaves_it_sound() {
    for kept in 0..12 {
        let storage = MemoryStorage::new();
        let buffered = LogOptions {
            durability: Durability::Buffered,
            ..options(1 << 20)
        };
        let log = open(&storage, buffered.clone());
        for number in 0..10 {
            append_one(&log, number).unwrap();
        }
        storage.crash_keeping(kept);
        drop(log);
        let log = open(&storage, buffered);
        assert_eq!(log.head(), Position::new(kept.min(10) as u64));
        assert!(log.verify(|_| {}).unwrap().is_sound());
        append_one(&log, 99).unwrap();
    }
}

#[test]
fn a_killed_process_loses_no_more_than_half_a_second_of_a_buffered_log_that_never_rests() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::at(Timestamp::EPOCH, 1);
    let buffered = LogOptions {
        durability: Durability::Buffered,
        clock: Arc::new(clock.clone()),
        ..options(1 << 20)
    };
    let log = open(&storage, buffered.clone());
    for number in 0..20 {
        append_one(&log, number).unwrap();
        clock.advance(Duration::from_millis(100));
    }
    let head = log.head();
    storage.kill();
    drop(log);
    let log = open(&storage, buffered);
    let lost = head.get() - log.head().get();
    assert!(lost <= 6, "{lost} of the last events are lost");
}

#[test]
fn g10_after_a_failed_sync_nothing_is_acknowledged_until_the_log_is_opened_again() {
    let storage = MemoryStorage::new();
    let log = open(&storage, options(1 << 20));
    append_one(&log, 0).unwrap();
    storage.fail_syncs(1);
    let failed = append_one(&log, 1);
    assert!(
        failed.as_ref().is_err_and(AppendError::is_outcome_unknown),
        "{failed:?}"
    );
    for number in 2..5 {
        let refused = append_one(&log, number);
        assert!(matches!(refused, Err(AppendError::Poisoned)), "{refused:?}");
    }
    assert_eq!(
        log.head(),
        Position::FIRST,
        "what is not durable is not seen"
    );
    assert_eq!(log.read(Position::ZERO, 10).unwrap().len(), 1);
    storage.crash();
    drop(log);
    let log = open(&storage, options(1 << 20));
    assert_eq!(log.head(), Position::FIRST);
    assert_eq!(append_one(&log, 1).unwrap(), Position::new(2));
}

#[test]
fn a_full_disk_refuses_and_the_log_recovers_by_itself_when_there_is_room() {
    let storage = MemoryStorage::new();
    let log = open(&storage, options(600));
    append_one(&log, 0).unwrap();
    storage.set_full(true);
    let failed = append_one(&log, 1);
    let Err(AppendError::Unknown(StorageError::Full { .. })) = failed else {
        panic!("expected a full disk, got {failed:?}");
    };
    storage.set_bytes_free(Some(0));
    storage.set_full(false);
    let roomy = LogOptions {
        min_free_bytes: 1_000,
        ..options(600)
    };
    drop(log);
    storage.crash();
    let log = open(&storage, roomy);
    let refused = append_one(&log, 1);
    assert!(
        matches!(refused, Err(AppendError::Full { free: 0, .. })),
        "{refused:?}"
    );
    storage.set_bytes_free(Some(1_000));
    assert_eq!(append_one(&log, 1).unwrap(), Position::new(2));
    storage.set_full(true);
    assert!(append_one(&log, 2).is_err());
    storage.set_full(false);
    let next = append_one(&log, 3).unwrap();
    let events = log.read(Position::ZERO, 10).unwrap();
    assert_eq!(events.last().unwrap().position, next);
    assert_gapless(&events);
}

#[test]
fn g10_a_sync_that_fails_while_a_full_log_is_opened_again_poisons_it() {
    let storage = MemoryStorage::new();
    let log = open(&storage, options(1 << 20));
    let mut health = log.watch_health();
    append_one(&log, 0).unwrap();
    storage.set_full(true);
    assert!(append_one(&log, 1).is_err());
    assert_eq!(log.health(), Health::Full);
    storage.set_full(false);
    storage.fail_syncs(1);
    let refused = append_one(&log, 2);
    assert!(
        matches!(refused, Err(AppendError::Refused(_))),
        "{refused:?}"
    );
    for number in 3..5 {
        let refused = append_one(&log, number);
        assert!(matches!(refused, Err(AppendError::Poisoned)), "{refused:?}");
    }
    assert_eq!(health.health(), Health::Poisoned);
    let told = futures_util::FutureExt::now_or_never(health.changed());
    assert_eq!(told, Some(Some(Health::Poisoned)));
    log.close();
    let told = futures_util::FutureExt::now_or_never(health.changed());
    assert_eq!(told, Some(Some(Health::Closed)));
    assert_eq!(
        futures_util::FutureExt::now_or_never(health.changed()),
        Some(None)
    );
}

#[test]
fn while_no_segment_can_be_begun_the_newest_takes_more() {
    let storage = MemoryStorage::new();
    let log = open(&storage, options(300));
    let segments = || Storage::segments(&storage).unwrap().len();
    append_one(&log, 0).unwrap();
    storage.fail_creates(u32::MAX);
    for number in 1..8 {
        append_one(&log, number).unwrap();
        assert_eq!(log.health(), Health::Sound);
    }
    assert_eq!(segments(), 1);
    storage.fail_creates(0);
    for number in 8..12 {
        append_one(&log, number).unwrap();
    }
    assert!(segments() > 1, "it rolled");
    storage.crash();
    drop(log);
    let log = open(&storage, options(300));
    assert_gapless(&log.read(Position::ZERO, usize::MAX).unwrap());
    assert_eq!(log.head(), Position::new(12));
}

#[test]
fn g2_nothing_is_acknowledged_over_a_segment_that_was_not_begun_and_is_left_behind() {
    let storage = MemoryStorage::new();
    let log = open(&storage, options(300));
    storage.fail_creates(u32::MAX);
    let mut acknowledged = 0;
    for number in 0..8 {
        if number == 1 {
            storage.fail_creates(0);
        }
        if number == 5 {
            storage.fail_creates(1);
            storage.fail_removes(1);
        }
        acknowledged += u64::from(append_one(&log, number).is_ok());
    }
    storage.crash();
    drop(log);
    let log = open(&storage, options(300));
    assert_eq!(log.health(), Health::Sound);
    assert_eq!(log.head(), Position::new(acknowledged));
    assert_gapless(&log.read(Position::ZERO, usize::MAX).unwrap());
}

#[test]
fn g1_a_head_that_readers_have_seen_never_goes_back_in_a_living_process() {
    let storage = MemoryStorage::new();
    let buffered = LogOptions {
        durability: Durability::Buffered,
        ..options(1 << 20)
    };
    let log = open(&storage, buffered);
    for number in 0..3 {
        append_one(&log, number).unwrap();
    }
    storage.set_full(true);
    append_one(&log, 3).unwrap_err();
    // The store that is opened again has what it could write, and no more.
    let disk = storage.clone();
    storage.on_open(move |first| {
        let third = 3_u64.to_be_bytes();
        for (key, value) in disk.rows(first) {
            if (key[0] == b'p' && key[1..9] == third) || (key[0] == b's' && value[..8] == third) {
                disk.overwrite(first, &key, None);
            }
        }
        disk.set_full(false);
    });
    append_one(&log, 4).unwrap_err();
    let refused = append_one(&log, 5);
    assert!(matches!(refused, Err(AppendError::Poisoned)), "{refused:?}");
    assert_eq!(log.head(), Position::new(3));
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let few = LogOptions {
        queue_bytes_max: 1_000,
        ..options(1 << 20)
    };
    let (log, mut writer) = EventLog::open_stepped(Arc::new(MemoryStorage::new()), few).unwrap();
    let enqueue = |bytes| {
        let events = vec![message(1, bytes)];
        log.enqueue(stream(1), ExpectedVersion::Any, events, Urgency::Now)
    };
    let first = enqueue(500).unwrap();
    assert!(matches!(enqueue(500), Err(AppendError::Busy { .. })));
    assert!(writer.step());
    first.wait().unwrap();
    let alone = enqueue(5_000).unwrap();
    assert!(matches!(enqueue(1), Err(AppendError::Busy { .. })));
    assert!(writer.step());
    alone.wait().unwrap();
}

#[test]
fn below_the_watermark_messages_are_refused_and_outcomes_are_still_taken() {
    use hooklog::{
        log::{StreamId, StreamKind},
        model::CircuitClosed,
    };
    let storage = MemoryStorage::new();
    let log = open(
        &storage,
        LogOptions {
            min_free_bytes: 1_000,
            ..options(600)
        },
    );
    let outcome = || {
        let stream = StreamId::new(StreamKind::Subscription, uuid::Uuid::from_u128(1));
        append(
            &log,
            stream,
            ExpectedVersion::Any,
            vec![CircuitClosed {}.into()],
        )
    };
    storage.set_bytes_free(Some(999));
    assert!(matches!(
        append_one(&log, 0),
        Err(AppendError::Full { needed: 1_000, .. })
    ));
    outcome().unwrap();
    storage.set_bytes_free(Some(249));
    assert!(matches!(
        outcome(),
        Err(AppendError::Full { needed: 250, .. })
    ));
}

#[test]
fn an_append_refused_beside_others_takes_nothing_with_it() {
    let storage = MemoryStorage::new();
    let (log, mut writer) =
        EventLog::open_stepped(Arc::new(storage.clone()), options(1 << 20)).unwrap();
    let enqueue = |number, expected| {
        let events = vec![message(number, 5)];
        log.enqueue(stream(1), expected, events, Urgency::Linger)
            .unwrap()
    };
    let first = enqueue(1, ExpectedVersion::NoStream);
    let refused = enqueue(2, ExpectedVersion::NoStream);
    let third = enqueue(3, ExpectedVersion::Exact(Version::FIRST));
    drop(enqueue(4, ExpectedVersion::Any));
    assert_eq!(
        log.head(),
        Position::ZERO,
        "nothing is written before its step"
    );
    let syncs = storage.syncs();
    assert!(writer.step());
    assert_eq!(
        storage.syncs() - syncs,
        2,
        "one sync begins the segment, one makes all durable"
    );
    assert_eq!(first.wait().unwrap().first, Position::FIRST);
    assert!(matches!(refused.wait(), Err(AppendError::Conflict { .. })));
    assert_eq!(third.wait().unwrap().last_version, Version::new(2));
    assert_eq!(
        log.head(),
        Position::new(3),
        "a dropped append is made all the same"
    );
    assert!(!writer.step());
}

#[test]
fn a_full_queue_answers_busy_and_a_closed_log_closed() {
    let few = LogOptions {
        queue_appends_max: 2,
        ..options(1 << 20)
    };
    let (log, mut writer) = EventLog::open_stepped(Arc::new(MemoryStorage::new()), few).unwrap();
    let enqueue = || {
        let events = vec![message(1, 5)];
        log.enqueue(stream(1), ExpectedVersion::Any, events, Urgency::Now)
    };
    let waiting = [enqueue().unwrap(), enqueue().unwrap()];
    assert!(matches!(enqueue(), Err(AppendError::Busy { max: 2 })));
    assert!(writer.step());
    for pending in waiting {
        pending.wait().unwrap();
    }
    let left = enqueue().unwrap();
    drop(writer);
    assert!(matches!(left.wait(), Err(AppendError::Closed)));
    assert!(matches!(enqueue(), Err(AppendError::Closed)));
}

const CHILD_DIRECTORY: &str = "HOOKLOG_TEST_KILLED_CHILD";

/// Not a test by itself: the process that the next one kills.
#[test]
fn killed_child() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else {
        return;
    };
    let log = EventLog::open(directory, options(20_000)).unwrap();
    for number in 0.. {
        let position = append_one(&log, number).unwrap();
        println!("\nacknowledged {position}");
    }
}

#[test]
fn g2_what_was_acknowledged_survives_kill_and_the_directory_opens_every_time() {
    let directory = tempfile::tempdir().unwrap();
    for (round, lines) in [1, 40, 7, 120].into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log_crash::killed_child", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let acknowledged = output
            .lines()
            .filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse().ok())
            .nth(lines)
            .map(Position::new)
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let log = EventLog::open(directory.path(), options(20_000)).unwrap();
        assert!(log.head() >= acknowledged, "round {round}");
        assert_gapless(&log.read(Position::ZERO, usize::MAX).unwrap());
        assert!(log.verify(|_| {}).unwrap().is_sound(), "round {round}");
    }
}
