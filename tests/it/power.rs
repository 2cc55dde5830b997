//! G2 below the store: a loss of power at any write of a run, over the files that sled writes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{env, fs::OpenOptions, io::Write as _, path::Path};

use hooklog::{
    log::{EventLog, ExpectedVersion, Health},
    model::Position,
    testing::log_conformance::{append, assert_gapless, message, options, stream},
};

use crate::support::disk::{self, Disk, Done, LEFT};

const CHILD_DIRECTORY: &str = "HOOKLOG_TEST_POWER_CHILD";
/// How many events the run has. Each log that is left is read whole: 2,000 want an optimised build.
const EVENTS: &str = "HOOKLOG_POWER_EVENTS";
/// In the suite.
const EVENTS_FEW: u64 = 60;
const ACKNOWLEDGED: &str = "acknowledged";
/// Bytes of a segment: some sixty events.
const SEGMENT_BYTES: u64 = 20_000;

/// Not a test by itself: the run whose writes are written down.
#[test]
fn power_child() {
    let Ok(root) = env::var(CHILD_DIRECTORY) else {
        return;
    };
    let root = Path::new(&root);
    let events: u64 = env::var(EVENTS).unwrap().parse().unwrap();
    let mut acknowledged = OpenOptions::new()
        .create(true)
        .append(true)
        .open(root.join(ACKNOWLEDGED))
        .unwrap();
    let mut log = EventLog::open(root.join("data"), options(SEGMENT_BYTES)).unwrap();
    for number in 0..events {
        let event = vec![message(u128::from(number), 150)];
        let of = stream(u128::from(number % 7));
        let appended = append(&log, of, ExpectedVersion::Any, event).unwrap();
        // It stands in the trace where it happened.
        acknowledged
            .write_all(&appended.last.get().to_le_bytes())
            .unwrap();
        if number % 500 == 250 {
            drop(log);
            log = EventLog::open(root.join("data"), options(SEGMENT_BYTES)).unwrap();
        }
    }
}

/// The last position that was acknowledged before now.
fn acknowledged(disk: &Disk) -> Position {
    let bytes = disk.read(Path::new(ACKNOWLEDGED));
    let last = bytes.last_chunk::<8>();
    last.map_or(Position::ZERO, |last| {
        Position::new(u64::from_le_bytes(*last))
    })
}

/// Opens what is left, and holds it against what was acknowledged.
fn hold(root: &Path, acknowledged: Position, what: &str) {
    let log = EventLog::open(root.join("data"), options(SEGMENT_BYTES))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(log.health(), Health::Sound, "{what}");
    let head = log.head();
    assert!(head >= acknowledged, "{what}: {head} of {acknowledged}");
    let events = log.read(Position::ZERO, usize::MAX).unwrap();
    assert_eq!(events.len() as u64, head.get(), "{what}");
    for event in &events {
        let number = u128::from(event.position.get() - 1);
        assert_eq!(event.event, message(number, 150), "{what}");
        assert_eq!(event.stream, stream(number % 7), "{what}");
    }
    assert_gapless(&events);
    let report = log.verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{what}: {:?}", report.problems);
    let more = append(&log, stream(9), ExpectedVersion::Any, vec![message(1, 1)]);
    assert_eq!(more.unwrap().first, head.next(), "{what}");
}

#[test]
fn g2_what_was_acknowledged_survives_a_loss_of_power_at_any_write() {
    let asked = env::var(EVENTS).ok().map(|events| events.parse().unwrap());
    let events = (EVENTS, asked.unwrap_or(EVENTS_FEW).to_string());
    let records = disk::trace_of("power::power_child", CHILD_DIRECTORY, &[events]);
    let mut disk = Disk::new();
    let mut tried = 0_usize;
    for (at, record) in records.iter().enumerate() {
        disk.follow(record);
        if matches!(record.done, Done::SyncedFile | Done::SyncedDirectory) {
            // What is lost now is less than what was lost just before.
            continue;
        }
        for left in LEFT {
            let directory = disk::in_memory();
            disk.leave(left, record, directory.path());
            let what = format!(
                "at {at} of {}, {left:?} left, {:?}",
                records.len(),
                record.path
            );
            hold(directory.path(), acknowledged(&disk), &what);
            tried += 1;
        }
        if at % 500 == 0 && asked.is_some() {
            eprintln!("{at} of {} moments, {tried} losses of power", records.len());
        }
    }
    println!("{tried} losses of power at {} moments", records.len());
    assert!(tried > 100);
}
