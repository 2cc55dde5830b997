//! A data directory that was written once is opened, read and gone on with for ever.
//!
//! `HOOKLOG_WRITE_FIXTURES=1 cargo test --all-features --test it directory_golden` writes the fixture of
//! the present format where it is missing, and never touches one that is there: a directory, and what its
//! log holds, as text. A new format gets a name of its own here; the old fixtures stay.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use bytes::Bytes;
use hooklog::{
    clock::SystemClock,
    log::{Durability, EventLog, Health, LogOptions, RetentionPolicy},
    model::{
        Api, Application, Auth, Message, Position, Role, Secret, Subscription, Timestamp, Token,
    },
    projection::deliveries::{DeliveryOutcome, DeliveryQuery},
    runtime::Builder,
    testing::{FakeAnswer, ManualClock, TestRuntime},
    vault::{Vault, sealed_secrets},
};

use crate::{log_golden::fixtures, support::files::contents};

const PRESENT: &str = "data.format-1";
/// The most bytes of one, packed: it is kept for ever.
const PACKED_BYTES_MAX: usize = 100 << 10;

const BEGAN: Timestamp = Timestamp::from_millis(1_790_000_000_000);
/// At this age a segment is sealed.
const SEALED_AFTER: Duration = Duration::from_hours(25);
/// When the gateway is started again: the retry is due.
const LATER: Duration = SEALED_AFTER.saturating_add(Duration::from_secs(60));
const SECRET: &str = "what-the-callback-knows-us-by";

fn options(builder: Builder) -> Builder {
    let log = LogOptions {
        min_free_bytes: 0,
        ..LogOptions::with_durability(Durability::Synced)
    };
    builder.log_options(log).retention(RetentionPolicy {
        max_age: None,
        max_bytes: Some(0),
    })
}

/// A gateway with something of everything: a cut log, a secret, a dead letter, a retry that is planned.
async fn write(data: &Path) {
    let clock = ManualClock::at(BEGAN, 1);
    let test = TestRuntime::start_at(data, clock, options).await.unwrap();
    let handle = test.handle();
    let shop = handle.create_application(Application::named("shop"));
    let shop = shop.await.unwrap();
    let till = handle.create_token(Token::named("till", Role::Operator));
    till.await.unwrap();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let mut subscription = Subscription::to("https://example.com/hook").unwrap();
    subscription.application = shop.id;
    subscription.configuration.auth = Auth::Token {
        value: Secret::new(SECRET.to_owned()),
    };
    handle.subscribe(api, subscription).await.unwrap();
    test.transport().answer(|call| {
        FakeAnswer::Status(match &call.message.content[..] {
            b"refused" => 400,
            b"late" => 503,
            _ => 200,
        })
    });
    let publish = async |text: &str| {
        handle.publish(api, Message::text(text)).await.unwrap();
        test.settle().await;
    };
    publish("of a day that is dropped").await;
    test.clock().advance(SEALED_AFTER);
    publish("delivered").await;
    handle.apply_retention().await.unwrap();
    assert!(handle.log().first_position() > Position::FIRST);
    publish("refused").await;
    publish("late").await;
    test.shutdown().await;
}

/// A file: its path, how long it is, and its bytes without the zeros behind them.
type Packed = (String, u64, Bytes);

fn pack(directory: &Path) -> Vec<u8> {
    let files = contents(directory).into_iter().map(|(path, mut bytes)| {
        let path = path.strip_prefix(directory).unwrap().to_str().unwrap();
        let length = bytes.len() as u64;
        let last = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(last.map_or(0, |last| last + 1));
        (path.to_owned(), length, Bytes::from(bytes))
    });
    let packed = rmp_serde::to_vec(&files.collect::<Vec<Packed>>()).unwrap();
    lz4_flex::block::compress_prepend_size(&packed)
}

fn unpack(packed: &[u8], directory: &Path) {
    let packed = lz4_flex::block::decompress_size_prepended(packed).unwrap();
    for (path, length, bytes) in rmp_serde::from_slice::<Vec<Packed>>(&packed).unwrap() {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = bytes.to_vec();
        bytes.resize(usize::try_from(length).unwrap(), 0);
        fs::write(path, bytes).unwrap();
    }
}

/// What a log holds, an event a line.
fn told(log: &EventLog) -> String {
    let events = log.read(log.first_position().previous(), usize::MAX);
    let mut told = String::new();
    for event in events.unwrap() {
        let (position, stream, version) = (event.position, event.stream, event.version);
        let (time, kind) = (event.time.as_millis(), event.event.event_type());
        write!(
            told,
            "{position} {time} {stream} {version} {}",
            kind.as_str()
        )
        .unwrap();
        if let Some(message) = event.event.as_published() {
            write!(told, " {}", String::from_utf8_lossy(&message.content)).unwrap();
        }
        told.push('\n');
    }
    told
}

/// Writes the fixture of the present format where it is missing and that is asked for.
async fn write_what_is_missing() {
    let packed = fixtures().join(format!("{PRESENT}.lz4"));
    if packed.exists() || env::var_os("HOOKLOG_WRITE_FIXTURES").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    write(&data).await;
    let bytes = pack(&data);
    assert!(bytes.len() < PACKED_BYTES_MAX, "{} bytes", bytes.len());
    let log = EventLog::open_read_only(&data).unwrap();
    fs::write(packed.with_extension("txt"), told(&log)).unwrap();
    fs::write(packed, bytes).unwrap();
}

/// The names of the formats there are fixtures of.
fn formats() -> Vec<String> {
    let entries = fs::read_dir(fixtures()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let formats = names.filter_map(|name| Some(name.strip_suffix(".lz4")?.to_owned()));
    let formats: Vec<_> = formats.collect();
    assert!(
        formats.iter().any(|name| name == PRESENT),
        "{PRESENT}.lz4 is missing; set HOOKLOG_WRITE_FIXTURES=1 to write it"
    );
    formats
}

#[tokio::test]
async fn a_data_directory_of_each_format_is_read_as_it_was_written_and_gone_on_with() {
    write_what_is_missing().await;
    for format in formats() {
        let packed = fs::read(fixtures().join(format!("{format}.lz4"))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        unpack(&packed, &data);
        let log = EventLog::open_read_only(&data).unwrap();
        let report = log.verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{format}: {:?}", report.problems);
        assert_eq!(report.unknown_events, 0, "{format}");
        let expected = fs::read_to_string(fixtures().join(format!("{format}.txt")));
        assert_eq!(told(&log), expected.unwrap(), "{format}");
        drop(log);
        go_on(&data, &format).await;
    }
}

/// Starts a gateway on a directory that was [written](write), and looks whether it knows what is in it.
async fn go_on(data: &Path, format: &str) {
    let clock = ManualClock::at(BEGAN.plus(LATER), 2);
    let started = TestRuntime::start_at(data, clock, |builder| builder).await;
    let test = started.unwrap_or_else(|error| panic!("{format}: {error}"));
    let handle = test.handle();
    assert_eq!(handle.log().health(), Health::Sound, "{format}");
    test.settle().await;

    let apis = handle.apis();
    let [api] = &apis[..] else {
        panic!("{format}: {apis:?}");
    };
    assert_eq!(api.name, "orders", "{format}");
    let tokens = handle.access().tokens().unwrap();
    assert!(
        tokens.iter().any(|row| row.token.name == "till"),
        "{format}"
    );
    let subscriptions = handle.subscriptions().of_api(api.id, None, 10).unwrap();
    let [row] = &subscriptions[..] else {
        panic!("{format}: {subscriptions:?}");
    };
    assert_eq!(row.application_name.as_deref(), Some("shop"), "{format}");
    let inspected = handle.inspect(row.state.definition.id).await.unwrap();
    let subscription = inspected.state.subscription.unwrap();
    let sealed = sealed_secrets(&subscription.configuration);
    let vault = Vault::open(data, SystemClock::shared()).unwrap();
    let secret = vault.reveal(sealed[0]).unwrap();
    assert_eq!(secret.as_str(), SECRET, "{format}");

    // The retry that was planned is made, and the dead letter lies where it lay.
    assert_eq!(test.transport().calls().len(), 1, "{format}");
    assert_eq!(handle.dead_letters().count(api.id).unwrap(), 1, "{format}");
    handle.publish(api.id, Message::text("more")).await.unwrap();
    test.settle().await;
    let query = DeliveryQuery::newest(api.id, 3);
    let rows = handle.deliveries().list(&query).unwrap().deliveries;
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome).collect();
    let expected = [
        DeliveryOutcome::Delivered,
        DeliveryOutcome::Delivered,
        DeliveryOutcome::DeadLettered,
    ];
    assert_eq!(outcomes, expected, "{format}");
    let report = handle.log().verify(|_| {}).unwrap();
    assert!(report.is_sound(), "{format}: {:?}", report.problems);
    test.shutdown().await;
}
