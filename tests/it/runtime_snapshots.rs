//! Snapshots that are damaged on the disk: none of it is believed, and a start tells what the log tells.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{collections::HashMap, fs};

use hooklog::{
    log::Health,
    model::{
        Api, ConsumerStatus, Message, Moment, Subscription, SubscriptionId, SubscriptionStatus,
        Timestamp,
    },
    subscription::SubscriptionState,
    testing::{FakeAnswer, TestRuntime},
};

use crate::support::{
    disk,
    files::{copy_directory, used},
    seed::seed,
};

/// The file that the store of the snapshots keeps them in.
const STORE: &str = "snapshots/db";
/// In how many copies of it bytes are flipped: one, and so many, in turn.
const FLIPPED: u64 = 40;
const MANY_FLIPS: usize = 200;
/// At how many lengths it is cut off.
const LENGTHS: usize = 10;

/// A data directory with a snapshot, and what stands in its log.
struct Written {
    directory: tempfile::TempDir,
    store: Vec<u8>,
    subscriptions: Vec<SubscriptionId>,
    states: Vec<SubscriptionState>,
}

async fn states(test: &TestRuntime, of: &[SubscriptionId]) -> Vec<SubscriptionState> {
    let mut states = Vec::new();
    for id in of {
        states.push(test.handle().inspect(*id).await.unwrap().state);
    }
    states
}

/// Ten subscriptions, each in a state of its own.
async fn written() -> Written {
    let directory = disk::in_memory();
    let test = TestRuntime::start(directory.path(), 1).await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let to = || Subscription::to("https://example.com/hook").unwrap();
    let pending = Subscription {
        status: SubscriptionStatus::Pending,
        ..to()
    };
    let asked = [
        (to(), FakeAnswer::Status(200)),
        (to(), FakeAnswer::Status(200)),
        (to(), FakeAnswer::Status(200)),
        (pending, FakeAnswer::Status(200)),
        (to().filtered("false"), FakeAnswer::Status(200)),
        // Retried by a callback that is up, and by one that is not.
        (to(), FakeAnswer::Status(425)),
        (to(), FakeAnswer::Status(500)),
        (to(), FakeAnswer::RetryAfter(429, 60)),
        // Dead-lettered, and stopped by a callback that is gone.
        (to(), FakeAnswer::Status(400)),
        (to(), FakeAnswer::Status(410)),
    ];
    let (mut subscriptions, mut answers) = (Vec::new(), HashMap::new());
    for (subscription, answer) in asked {
        let id = handle.subscribe(api, subscription).await.unwrap().id;
        subscriptions.push(id);
        answers.insert(id, answer);
    }
    handle.pause(subscriptions[1]).await.unwrap();
    handle.stop_by_consumer(subscriptions[2]).await.unwrap();
    test.transport()
        .answer(move |call| answers[&call.subscription].clone());
    let messages = (0..10).map(|number| Message::text(format!("message {number}")));
    let published = handle.publish_batch(api, messages.collect()).await;
    assert_eq!(published.unwrap().len(), 10);
    test.settle().await;
    let states = states(&test, &subscriptions).await;
    test.shutdown().await;
    Written {
        store: fs::read(directory.path().join(STORE)).unwrap(),
        directory,
        subscriptions,
        states,
    }
}

impl Written {
    /// Starts on a copy in which the snapshots' file is this one.
    async fn hold(&self, store: &[u8], what: &str) {
        let copy = disk::in_memory();
        copy_directory(self.directory.path(), copy.path());
        fs::write(copy.path().join(STORE), store).unwrap();
        let test = TestRuntime::start(copy.path(), 2).await;
        let test = test.unwrap_or_else(|error| panic!("{what}: {error}"));
        test.settle().await;
        assert_eq!(
            states(&test, &self.subscriptions).await,
            self.states,
            "{what}"
        );
        assert_eq!(test.transport().calls(), [], "{what}");
        let handle = test.handle();
        assert_eq!(handle.log().health(), Health::Sound, "{what}");
        let report = handle.log().verify(|_| {}).unwrap();
        assert!(report.is_sound(), "{what}: {:?}", report.problems);
        test.shutdown().await;
    }
}

#[tokio::test]
async fn g11_a_start_on_a_snapshot_that_is_damaged_anywhere_tells_what_the_log_tells() {
    let seed = seed();
    let written = written().await;
    let [
        _,
        paused,
        stopped,
        pending,
        filtered,
        retried,
        down,
        held,
        given_up,
        gone,
    ] = written.states.as_slice()
    else {
        panic!("{} subscriptions", written.states.len());
    };
    assert_eq!(paused.status, SubscriptionStatus::Paused);
    assert_eq!(stopped.consumer_status, ConsumerStatus::Stopped);
    assert_eq!(pending.status, SubscriptionStatus::Pending);
    assert_eq!(filtered.counters.filtered, 10);
    assert!(!retried.open.is_empty() && !retried.circuit.is_open());
    assert!(down.circuit.is_open());
    assert!(held.hold.is_some());
    assert_eq!(given_up.counters.dead_lettered, 10);
    assert!(gone.failure_cause.is_some());

    let used = used(&written.store);
    assert!(used > 1_000, "{used} bytes hold no snapshot");
    written.hold(&written.store, "as it was").await;
    for round in 0..FLIPPED {
        let moment = Moment::new(Timestamp::EPOCH, (seed ^ round).into());
        let mut draws = moment.draws();
        let flips = if round % 2 == 0 { MANY_FLIPS } else { 1 };
        let mut store = written.store.clone();
        for _ in 0..flips {
            let at = usize::try_from(draws.below(used as u64)).unwrap();
            store[at] ^= 0x55;
        }
        written
            .hold(&store, &format!("{flips} bytes flipped in round {round}"))
            .await;
    }
    for length in (0..LENGTHS).map(|part| used * part / LENGTHS) {
        let store = &written.store[..length];
        written
            .hold(store, &format!("cut off at {length} of {used}"))
            .await;
    }
}
