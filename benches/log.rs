//! Page or record per event? What an event costs at 1 to 1,024 events a commit, for each
//! durability: the log as it is (one page a commit) beside the same events stored as one record
//! and one index row each, over the same store. Each run is a process of its own.
//!
//! `cargo bench --bench log`, optionally followed by `-- <rounds>`. The data goes to `TMPDIR`,
//! which must be on the disk that is asked about.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod measure;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use hooklog::{
    clock::{Clock, SystemClock},
    log::{
        DirectoryStorage, Durability, EventLog, ExpectedVersion, LogOptions, Row, Storage,
        StreamId, StreamKind, Urgency,
    },
    model::{Event, MessageId, MessagePublished, Position},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use measure::{Spread, apart, cpu, directory_bytes};

/// Events a commit, and the events of a run: enough for several of the store's own segments.
const RUNS: [(usize, usize); 5] = [
    (1, 3_000),
    (16, 16_000),
    (64, 32_000),
    (256, 64_000),
    (1_024, 102_400),
];
const DURABILITIES: [Durability; 3] = [
    Durability::Buffered,
    Durability::Flushed,
    Durability::Synced,
];
const ROUNDS: usize = 5;
const CACHE_BYTES: u64 = 16 << 20;
/// Streams that the events are spread over, as outcomes over subscriptions.
const STREAMS: u128 = 50;
/// Makes the binary do one run: the form and the places of durability and batch in their lists.
const RUN: &str = "--run";

/// How events are stored.
const PAGE: &str = "page";
const RECORD: &str = "record";

#[derive(Serialize, Deserialize)]
struct Cost {
    cpu: Duration,
    wall: Duration,
    bytes: u64,
    events: usize,
}

impl Cost {
    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }

    fn disk_bytes(&self) -> f64 {
        self.bytes as f64 / self.events as f64
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64()
    }
}

/// A message of 250 bytes in the log, of which some 60 % is the same in each.
fn event(number: usize) -> Event {
    let mut bytes = [0; 40];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    let digits: String = bytes.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let content = format!(r#"{{"order":"{digits}","currency":"EUR","state":"paid"}}"#);
    MessagePublished {
        id: MessageId::from_uuid(Uuid::from_bytes(bytes[..16].try_into().unwrap())),
        content: Bytes::from(content),
        content_type: "application/json".to_owned(),
        event_type: Some("order.paid".to_owned()),
        channel: None,
        key: Some(digits[..12].to_owned()),
        headers: Vec::new(),
        coordinate: None,
        sampled: true,
    }
    .into()
}

fn stream(number: usize) -> StreamId {
    StreamId::new(
        StreamKind::Subscription,
        Uuid::from_u128(number as u128 % STREAMS),
    )
}

/// Measures from an open store to the durable end of the last commit.
fn measure(events: usize, directory: &Path, mut run: impl FnMut()) -> Cost {
    let clock = SystemClock::new();
    let (cpu_before, before) = (cpu(), clock.elapsed());
    run();
    Cost {
        cpu: cpu().saturating_sub(cpu_before),
        wall: clock.elapsed().saturating_sub(before),
        bytes: directory_bytes(directory),
        events,
    }
}

fn pages(durability: Durability, batch: usize, events: usize) -> Cost {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions {
        cache_capacity: CACHE_BYTES,
        segment_bytes_max: u64::MAX,
        min_free_bytes: 0,
        ..LogOptions::with_durability(durability)
    };
    let storage = DirectoryStorage::open(directory.path(), CACHE_BYTES).unwrap();
    let (log, mut writer) = EventLog::open_stepped(Arc::new(storage), options).unwrap();
    let cost = measure(events, &directory.path().join("log"), || {
        for first in (0..events).step_by(batch) {
            let pending: Vec<_> = (first..(first + batch).min(events))
                .map(|number| {
                    let (stream, event) = (stream(number), vec![event(number)]);
                    log.enqueue(stream, ExpectedVersion::Any, event, Urgency::Now)
                        .unwrap()
                })
                .collect();
            while writer.step() {}
            for pending in pending {
                pending.wait().unwrap();
            }
        }
    });
    assert_eq!(log.head(), Position::new(events as u64));
    drop(writer);
    log.close();
    cost
}

fn records(durability: Durability, batch: usize, events: usize) -> Cost {
    let directory = tempfile::tempdir().unwrap();
    let storage = DirectoryStorage::open(directory.path(), CACHE_BYTES).unwrap();
    let store = storage.create(Position::FIRST).unwrap();
    let mut versions = vec![0_u64; usize::try_from(STREAMS).unwrap()];
    measure(events, &directory.path().join("log"), || {
        for first in (0..events).step_by(batch) {
            let mut rows = Vec::with_capacity(batch * 2);
            for number in first..(first + batch).min(events) {
                let version = &mut versions[number % 50];
                *version += 1;
                rows.extend(record(number, *version));
            }
            store.apply(rows).unwrap();
            match durability {
                Durability::Buffered => {}
                Durability::Flushed => store.flush().unwrap(),
                Durability::Synced => store.sync().unwrap(),
            }
        }
    })
}

/// The rows of one event: its record with its envelope, and its index row.
fn record(number: usize, version: u64) -> [Row; 2] {
    let (stream, event) = (stream(number), event(number));
    let position = (number as u64 + 1).to_be_bytes();
    let mut value = vec![1];
    value.extend_from_slice(&stream.to_bytes());
    value.extend_from_slice(&version.to_be_bytes());
    value.extend_from_slice(&[0; 8]);
    value.extend_from_slice(event.event_type().as_str().as_bytes());
    let mut serializer = rmp_serde::Serializer::new(&mut value).with_struct_map();
    event.serialize_payload(&mut serializer).unwrap();
    let crc = crc32c::crc32c(&value);
    value.extend_from_slice(&crc.to_be_bytes());
    let mut index = vec![b's'];
    index.extend_from_slice(&stream.to_bytes());
    index.extend_from_slice(&version.to_be_bytes());
    [
        Row::put([b"p", position.as_slice()].concat(), value),
        Row::put(index, position.to_vec()),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [RUN, form, durability, run] = *arguments.iter().map(String::as_str).collect::<Vec<_>>()
    {
        let durability = DURABILITIES[durability.parse::<usize>().unwrap()];
        let (batch, events) = RUNS[run.parse::<usize>().unwrap()];
        let run = if form == PAGE { pages } else { records };
        let cost = run(durability, batch, events);
        println!("{}", serde_json::to_string(&cost).unwrap());
        return;
    }
    // Cargo passes `--bench`.
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
    compare(rounds.unwrap_or(ROUNDS).max(1));
}

fn compare(rounds: usize) {
    println!(
        "| durability | events a commit | page: CPU µs | page: disk B | page: events/s \
         | record: CPU µs | record: disk B | record: events/s \
         | record / page: CPU | record / page: disk |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (durability, name) in DURABILITIES.iter().enumerate() {
        for (run, (batch, _)) in RUNS.iter().enumerate() {
            let (durability, run) = (durability.to_string(), run.to_string());
            let once = |form: &str| apart::<Cost>(&[RUN, form, &durability, &run]);
            let (mut page, mut record) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                // Whoever runs second finds a warmer machine; so they take turns.
                if round % 2 == 0 {
                    page.push(once(PAGE));
                    record.push(once(RECORD));
                } else {
                    record.push(once(RECORD));
                    page.push(once(PAGE));
                }
            }
            println!(
                "| {name:?} | {batch} | {} | {} | {} | {:.1} |",
                cells(&page),
                cells(&record),
                ratio(&record, &page, Cost::cpu_micros).cell(1),
                ratio(&record, &page, Cost::disk_bytes).median,
            );
        }
    }
}

fn cells(costs: &[Cost]) -> String {
    let each = |figure: fn(&Cost) -> f64| Spread::of(costs.iter().map(figure));
    format!(
        "{} | {:.0} | {}",
        each(Cost::cpu_micros).cell(1),
        each(Cost::disk_bytes).median,
        each(Cost::rate).cell(0)
    )
}

/// A figure of one beside that of the other in the same round.
fn ratio(one: &[Cost], other: &[Cost], figure: fn(&Cost) -> f64) -> Spread {
    let pairs = one.iter().zip(other);
    Spread::of(pairs.map(|(one, other)| figure(one) / figure(other)))
}
