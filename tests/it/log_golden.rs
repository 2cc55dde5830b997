//! What was written once is read for ever: bytes of each event type and version, and of a log.
//!
//! `HOOKLOG_WRITE_FIXTURES=1 cargo test --all-features --test it log_golden` writes fixtures that
//! are missing, and never touches one that is there. After a release a changed payload gets a new
//! schema version, an upcaster and a new fixture; the old fixture stays.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hooklog::{
    log::{EventLog, ExpectedVersion, LogOptions, Storage, StreamId},
    model::*,
    testing::{
        ManualClock, MemoryStorage,
        log_conformance::{append, options},
    },
};
use uuid::Uuid;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The bytes of a fixture. One that is missing is written when that is asked for.
fn golden(name: &str, current: &[u8]) -> Vec<u8> {
    let path = fixtures().join(name);
    if !path.exists() && std::env::var_os("HOOKLOG_WRITE_FIXTURES").is_some() {
        fs::write(&path, current).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; set HOOKLOG_WRITE_FIXTURES=1 to write it",
            path.display()
        )
    })
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn message_ref() -> MessageRef {
    MessageRef {
        version: Version::new(3),
        position: Position::new(9),
        id: MessageId::from_uuid(uuid(4)),
        accepted_at: time(1),
    }
}

fn api() -> Box<Api> {
    let mut api = Api::named("orders");
    api.id = ApiId::from_uuid(uuid(1));
    Box::new(api)
}

fn application() -> Application {
    let mut application = Application::named("shop");
    application.id = ApplicationId::from_uuid(uuid(2));
    application
}

fn subscription() -> Box<Subscription> {
    let mut subscription = Subscription::to("https://example.com/hook").unwrap();
    subscription.id = SubscriptionId::from_uuid(uuid(3));
    subscription.api = ApiId::from_uuid(uuid(1));
    subscription.application = ApplicationId::from_uuid(uuid(2));
    subscription.channel = Some("eu".to_owned());
    subscription.start_from = StartFrom::Position(Position::new(7));
    subscription.configuration.auth = Auth::Basic {
        username: "shop".to_owned(),
        password: Secret::Sealed(SecretId::from_uuid(uuid(5))),
    };
    Box::new(subscription)
}

fn attempt(status: u16) -> AttemptRecord {
    AttemptRecord {
        message: message_ref(),
        number: AttemptNumber::new(2),
        probe: true,
        former_callback: false,
        started_at: time(20),
        timings: Timings {
            dns_us: Some(10),
            connect_us: None,
            tls_us: None,
            first_byte_us: Some(300),
            total_us: 400,
        },
        method: Method::Put,
        callback_url: "https://example.com/hook".parse().unwrap(),
        status,
        captured: Some(Box::new(Captured {
            request: CapturedPart::default(),
            response: CapturedPart {
                headers: Some(vec![CapturedHeader {
                    name: "x".to_owned(),
                    value: "y".to_owned(),
                }]),
                body: Some(CapturedBody {
                    bytes: vec![0, 255],
                    size: 9,
                    truncated: true,
                }),
            },
        })),
    }
}

fn error() -> AttemptError {
    AttemptError::new(ErrorClass::Tls, "certificate expired")
}

fn of_things() -> Vec<Event> {
    vec![
        MessagePublished {
            id: MessageId::from_uuid(uuid(4)),
            content: Bytes::from_static(b"{\"total\":12.5}"),
            content_type: "application/json".to_owned(),
            event_type: Some("order.paid".to_owned()),
            channel: Some("eu".to_owned()),
            key: Some("customer-7".to_owned()),
            headers: vec![Header::new("x-tenant", "a")],
            coordinate: Some(Coordinate {
                partition: "0".to_owned(),
                offset: 5,
            }),
            sampled: true,
        }
        .into(),
        ApiCreated { api: api() }.into(),
        ApiUpdated { api: api() }.into(),
        ApiStarted {}.into(),
        ApiStopped {}.into(),
        ApiDeleted {}.into(),
        ApplicationCreated {
            application: application(),
        }
        .into(),
        ApplicationUpdated {
            application: application(),
        }
        .into(),
        ApplicationDeleted {}.into(),
    ]
}

fn of_subscriptions() -> Vec<Event> {
    vec![
        SubscriptionCreated {
            subscription: subscription(),
            cursor: Version::new(6),
        }
        .into(),
        SubscriptionUpdated {
            subscription: subscription(),
        }
        .into(),
        SubscriptionAccepted {}.into(),
        SubscriptionRejected {
            reason: "no contract".to_owned(),
        }
        .into(),
        SubscriptionPaused {}.into(),
        SubscriptionResumed {}.into(),
        SubscriptionHeld {
            until: time(900),
            retry_after: RetryAfter::from_seconds(5),
            status: 429,
        }
        .into(),
        SubscriptionFailed {
            consumer_status: ConsumerStatus::Failure,
            cause: FailureCause::GivenUp {
                reason: DeadLetterReason::AttemptsSpent,
                attempts: 4,
                status: 0,
                error: Some(error()),
            },
            message: Some(message_ref()),
        }
        .into(),
        SubscriptionRecovered {}.into(),
        SubscriptionClosed {}.into(),
    ]
}

fn of_deliveries() -> Vec<Event> {
    let message = message_ref();
    vec![
        DeliveryTaken {
            message,
            attempt: AttemptNumber::FIRST,
        }
        .into(),
        DeliveryFiltered {
            first: Version::new(1),
            last: Version::new(2),
            reason: FilterReason::NotForIt,
        }
        .into(),
        AttemptSucceeded {
            attempt: attempt(204),
        }
        .into(),
        AttemptFailed {
            attempt: attempt(0),
            error: Some(error()),
        }
        .into(),
        RetryScheduled {
            message,
            attempt: AttemptNumber::new(3),
            due_at: time(5_000),
            delay_ms: 5_000,
        }
        .into(),
        DeliveryDeadLettered {
            message,
            reason: DeadLetterReason::DeadlinePassed,
            fault: Fault::Receiver,
            attempts: 3,
            status: 503,
            error: None,
            target: DeadLetterQueue::Api {
                api: ApiId::from_uuid(uuid(8)),
            },
        }
        .into(),
        DeliveryDiscarded {
            message,
            reason: DiscardReason::Operator,
            attempts: 1,
            status: 500,
            error: None,
        }
        .into(),
        DeliveryRedelivered {
            message,
            attempt: AttemptNumber::new(4),
        }
        .into(),
        DeadLetterForwarded { message }.into(),
        DeadLetterForwardFailed {
            message,
            reason: "the API is stopped".to_owned(),
            attempts: 2,
            due_at: Some(time(60_000)),
        }
        .into(),
        CircuitOpened {
            failures: 5,
            probe_at: time(30_000),
            pause_ms: 30_000,
        }
        .into(),
        CircuitClosed {}.into(),
    ]
}

fn of_tokens() -> Vec<Event> {
    let token = Token {
        id: TokenId::from_uuid(uuid(11)),
        expires_at: Some(time(90_000)),
        ..Token::named("shop's key", Role::Consumer).of(ApplicationId::from_uuid(uuid(2)))
    };
    vec![
        TokenCreated {
            token,
            hash: TokenHash::from_hex("ab".repeat(32)),
        }
        .into(),
        TokenRevoked {}.into(),
        RequestAccepted {
            operation: "updateApi".to_owned(),
            path: format!("/v1/apis/{}", uuid(1)),
            key: None,
        }
        .into(),
    ]
}

fn of_jobs() -> Vec<Event> {
    let filter = DeadLetterFilter {
        reason: Some(DeadLetterReason::Refused),
        from: Some(time(5)),
        ..DeadLetterFilter::default()
    };
    let selection = JobSelection::DeadLetters {
        api: ApiId::from_uuid(uuid(1)),
        filter,
    };
    let job = Job {
        id: JobId::from_uuid(uuid(12)),
        rate_per_second: Some(50),
        by: Some(TokenId::from_uuid(uuid(11))),
        as_of: Position::new(40),
        total: 3,
        ..Job::new(JobKind::Redeliver, selection)
    };
    let counts = JobCounts {
        done: 1,
        failed: 1,
        skipped: 1,
    };
    let failure = JobFailure {
        delivery: DeliveryId::from_uuid(uuid(13)),
        reason: "it is closed".to_owned(),
    };
    vec![
        JobCreated { job: Box::new(job) }.into(),
        JobProgressed {
            cursor: JobCursor {
                message: Version::new(3),
                subscription: SubscriptionId::from_uuid(uuid(3)),
            },
            counts,
            failures: vec![failure],
        }
        .into(),
        JobPaused {}.into(),
        JobResumed {}.into(),
        JobCancelled {}.into(),
        JobFinished { counts }.into(),
        JobFailed {
            reason: "the view is behind".to_owned(),
        }
        .into(),
    ]
}

fn of_the_log() -> Vec<Event> {
    vec![
        LogCut {
            first: Position::new(4_097),
            bytes: 67_108_864,
        }
        .into(),
        LogRepaired {
            from: Position::new(91),
            to: Some(Position::new(100)),
            reason: "it was written, and the log ends at position 90".to_owned(),
        }
        .into(),
    ]
}

#[test]
fn every_selection_of_a_job_is_read_as_it_is_written() {
    let (api, subscription) = (
        ApiId::from_uuid(uuid(1)),
        SubscriptionId::from_uuid(uuid(3)),
    );
    let selections = [
        JobSelection::DeadLetters {
            api,
            filter: DeadLetterFilter {
                fault: Some(Fault::System),
                subscription: Some(subscription),
                application: Some(ApplicationId::from_uuid(uuid(2))),
                to: Some(time(9)),
                ..DeadLetterFilter::default()
            },
        },
        JobSelection::Deliveries {
            api,
            deliveries: vec![DeliveryId::from_uuid(uuid(13)); 2],
        },
        JobSelection::Messages {
            api,
            subscription,
            since: time(1),
            until: Some(time(2)),
        },
    ];
    for selection in selections {
        let bytes = rmp_serde::to_vec_named(&selection).unwrap();
        let read: JobSelection = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, selection);
        let json = serde_json::to_string(&selection).unwrap();
        assert_eq!(
            serde_json::from_str::<JobSelection>(&json).unwrap(),
            selection
        );
    }
}

/// One event of each type that this program writes.
fn samples() -> Vec<Event> {
    [
        of_things(),
        of_subscriptions(),
        of_deliveries(),
        of_tokens(),
        of_jobs(),
        of_the_log(),
    ]
    .concat()
}

#[test]
fn every_payload_is_written_and_read_as_it_once_was() {
    let mut missing: BTreeMap<_, _> = Event::known_types().collect();
    for event in samples() {
        let (name, version) = (event.event_type(), event.schema_version());
        missing.remove(name.as_str());
        let mut bytes = Vec::new();
        let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        event.serialize_payload(&mut serializer).unwrap();
        let golden = golden(&format!("events/{name}.{version}.msgpack"), &bytes);
        assert_eq!(bytes, golden, "{name} is written otherwise than before");
        let mut deserializer = rmp_serde::Deserializer::new(golden.as_slice());
        let read = Event::deserialize_payload(name.as_str(), &mut deserializer);
        assert_eq!(read.unwrap().unwrap(), event);
    }
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn each_old_payload_is_still_read() {
    let known: BTreeMap<_, _> = Event::known_types().collect();
    for entry in fs::read_dir(fixtures().join("events")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (name, version) = stem.rsplit_once('.').unwrap();
        let version: u16 = version.parse().unwrap();
        assert_eq!(
            known.get(name),
            Some(&version),
            "{stem} needs an upcaster and its test"
        );
    }
}

/// A log of three pages in two segments, at fixed times.
fn small_log(events: Vec<Event>) -> (MemoryStorage, Vec<Arc<hooklog::log::RecordedEvent>>) {
    let storage = MemoryStorage::new();
    let clock = ManualClock::at(time(0), 1);
    let settings = LogOptions {
        clock: Arc::new(clock.clone()),
        segment_age_max: Duration::from_secs(2),
        ..options(1 << 20)
    };
    let log = EventLog::open_with(Arc::new(storage.clone()), settings).unwrap();
    let api = StreamId::api(ApiId::from_uuid(uuid(1)));
    let other = StreamId::subscription(SubscriptionId::from_uuid(uuid(3)));
    append(
        &log,
        api,
        ExpectedVersion::NoStream,
        vec![ApiStarted {}.into()],
    )
    .unwrap();
    clock.advance(Duration::from_secs(1));
    let two = vec![ApiStopped {}.into(), ApiDeleted {}.into()];
    append(&log, api, ExpectedVersion::Any, two).unwrap();
    clock.advance(Duration::from_secs(1));
    append(&log, other, ExpectedVersion::Any, events).unwrap();
    let all = log.read(Position::ZERO, 100).unwrap();
    (storage, all)
}

type Dump = Vec<(u64, Vec<(Vec<u8>, Vec<u8>)>)>;

fn dump(storage: &MemoryStorage) -> Dump {
    let firsts = storage.segments().unwrap();
    firsts
        .into_iter()
        .map(|first| (first.get(), storage.rows(first)))
        .collect()
}

fn text(dump: &Dump) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let mut text = String::new();
    for (first, rows) in dump {
        writeln!(text, "segment {first}").unwrap();
        for (key, value) in rows {
            writeln!(text, "{} {}", hex(key), hex(value)).unwrap();
        }
    }
    text
}

fn restore(text: &str) -> MemoryStorage {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
            .collect()
    };
    let storage = MemoryStorage::new();
    let mut first = Position::ZERO;
    for line in text.lines() {
        match line.split_once(' ').unwrap() {
            ("segment", number) => {
                first = number.parse().unwrap();
                storage.create(first).unwrap();
            }
            (key, value) => storage.overwrite(first, &bytes(key), Some(bytes(value))),
        }
    }
    storage
}

#[test]
fn a_log_is_written_byte_for_byte_as_it_once_was() {
    // Small enough that nothing is compressed: a compressor may learn to do better.
    let (storage, _) = small_log(vec![CircuitClosed {}.into()]);
    let current = text(&dump(&storage));
    let golden = golden("log.format-1.small.txt", current.as_bytes());
    assert_eq!(current, String::from_utf8(golden).unwrap());
}

#[test]
fn a_log_of_every_type_that_was_written_once_is_read() {
    let (storage, events) = small_log(samples());
    let golden = golden("log.format-1.full.txt", text(&dump(&storage)).as_bytes());
    let restored = restore(std::str::from_utf8(&golden).unwrap());
    let log = EventLog::open_with(Arc::new(restored), options(1 << 20)).unwrap();
    assert_eq!(log.read(Position::ZERO, 100).unwrap(), events);
    let report = log.verify(|_| {}).unwrap();
    assert!(
        report.is_sound() && report.unknown_events == 0,
        "{:?}",
        report.problems
    );
}
