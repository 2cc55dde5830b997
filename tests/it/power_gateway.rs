//! A loss of power at any write of a whole gateway: its log, its secrets, its views, its snapshots and
//! what retention leaves of them.
//!
//! The suite takes moments spread over the run; `HOOKLOG_POWER_GATEWAY=every` takes each.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{env, fs::OpenOptions, io::Write as _, path::Path};

use hooklog::{
    clock::SystemClock,
    log::{Durability, Health, LogOptions, RetentionPolicy, StreamId},
    model::{Api, ApiId, Auth, Message, Secret, Subscription, SubscriptionId, Version},
    runtime::Builder,
    testing::TestRuntime,
    vault::{Vault, sealed_secrets},
};
use serde::{Deserialize, Serialize};

use crate::support::{
    disk::{self, Disk, Done, LEFT},
    process::client,
};

const CHILD_DIRECTORY: &str = "HOOKLOG_TEST_POWER_GATEWAY_CHILD";
const ACKNOWLEDGED: &str = "acknowledged";
/// What the run does so often.
const ROUNDS: u64 = 8;
/// How many moments the suite takes.
const MOMENTS: usize = 40;
const ENDED: u64 = 3;

/// What a gateway said that it did.
#[derive(Debug, Serialize, Deserialize)]
enum Acknowledged {
    Api(ApiId),
    /// A subscription with this secret.
    Subscribed(SubscriptionId, String),
    /// So many messages, in all.
    Published(u64),
}

fn options(builder: Builder) -> Builder {
    let log = LogOptions {
        min_free_bytes: 0,
        segment_bytes_max: 6_000,
        ..LogOptions::with_durability(Durability::Synced)
    };
    builder.log_options(log).retention(RetentionPolicy {
        max_age: None,
        max_bytes: Some(0),
    })
}

/// Not a test by itself: the run whose writes are written down.
#[tokio::test]
async fn power_gateway_child() {
    let Ok(root) = env::var(CHILD_DIRECTORY) else {
        return;
    };
    let root = Path::new(&root);
    let mut acknowledged = OpenOptions::new()
        .create(true)
        .append(true)
        .open(root.join(ACKNOWLEDGED))
        .unwrap();
    // It stands in the trace where it happened.
    let mut acknowledge = |what: Acknowledged| {
        let line = serde_json::to_string(&what).unwrap() + "\n";
        acknowledged.write_all(line.as_bytes()).unwrap();
    };
    let data = root.join("data");
    let mut test = TestRuntime::start_with(&data, 1, options).await.unwrap();
    let api = test.handle().create_api(Api::named("orders")).await;
    let api = api.unwrap().id;
    acknowledge(Acknowledged::Api(api));
    for round in 0..ROUNDS {
        let mut subscription = Subscription::to("https://example.com/hook").unwrap();
        let secret = format!("secret-{round}");
        subscription.configuration.auth = Auth::Token {
            value: Secret::new(secret.clone()),
        };
        let made = test.handle().subscribe(api, subscription).await;
        acknowledge(Acknowledged::Subscribed(made.unwrap().id, secret));
        for published in 0..3 {
            let message = Message::text("x".repeat(300));
            test.handle().publish(api, message).await.unwrap();
            acknowledge(Acknowledged::Published(round * 3 + published + 1));
        }
        test.settle().await;
        match round % 4 {
            1 => drop(test.handle().apply_retention().await.unwrap()),
            ENDED => {
                test.shutdown().await;
                test = TestRuntime::start_with(&data, round + 2, options)
                    .await
                    .unwrap();
            }
            _ => {}
        }
    }
    test.shutdown().await;
}

fn acknowledged(disk: &Disk) -> Vec<Acknowledged> {
    let lines = disk.read(Path::new(ACKNOWLEDGED));
    let lines = lines.split(|byte| *byte == b'\n');
    let whole = lines.filter(|line| !line.is_empty());
    whole
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Starts a gateway on what is left, and holds it against what was acknowledged.
async fn hold(root: &Path, acknowledged: &[Acknowledged], what: &str) {
    let data = root.join("data");
    let test = TestRuntime::start_with(&data, 1_000, options).await;
    let test = test.unwrap_or_else(|error| panic!("{what}: {error}"));
    test.settle().await;
    let handle = test.handle();
    assert_eq!(handle.log().health(), Health::Sound, "{what}");
    let (mut api, mut subscriptions) = (None, Vec::new());
    for said in acknowledged {
        match said {
            Acknowledged::Api(id) => {
                assert_eq!(handle.api(*id).unwrap().name, "orders", "{what}");
                api = Some(*id);
            }
            Acknowledged::Subscribed(id, secret) => {
                let state = handle.inspect(*id).await.unwrap().state;
                let subscription = state.subscription.unwrap();
                let sealed = sealed_secrets(&subscription.configuration);
                let vault = Vault::open(&data, SystemClock::shared()).unwrap();
                assert_eq!(*vault.reveal(sealed[0]).unwrap(), *secret, "{what}");
                subscriptions.push(*id);
            }
            Acknowledged::Published(count) => {
                let stream = StreamId::messages(api.unwrap());
                let version = handle.log().stream_version(stream);
                assert!(version >= Version::new(*count), "{what}: {version}");
            }
        }
    }
    if let Some(api) = api {
        handle.publish(api, Message::text("more")).await.unwrap();
        test.settle().await;
        for subscription in subscriptions {
            let pending = handle.inspect(subscription).await.unwrap().pending;
            assert_eq!(pending, 0, "{what}: {subscription}");
        }
    }
    test.shutdown().await;
    // The log, and each view against one that is built anew.
    let mut verify = client(&data);
    // What it copies is as large as what is left, and stays in memory too.
    verify.env("TMPDIR", root);
    let verified = verify.args(["verify", "--data"]).arg(&data).output();
    let verified = verified.unwrap();
    assert!(verified.status.success(), "{what}: {verified:?}");
}

#[tokio::test]
async fn g2_a_gateway_keeps_what_it_answered_and_its_secrets_over_a_loss_of_power_at_any_write() {
    let child = "power_gateway::power_gateway_child";
    let records = disk::trace_of(child, CHILD_DIRECTORY, &[]);
    let every = env::var("HOOKLOG_POWER_GATEWAY").is_ok_and(|asked| asked == "every");
    let step = if every { 1 } else { records.len() / MOMENTS };
    let (mut disk, mut tried, mut next) = (Disk::new(), 0_usize, 0);
    for (at, record) in records.iter().enumerate() {
        disk.follow(record);
        if at < next || matches!(record.done, Done::SyncedFile | Done::SyncedDirectory) {
            // What is lost now is less than what was lost just before.
            continue;
        }
        next = at + step;
        for left in LEFT {
            let directory = disk::in_memory();
            disk.leave(left, record, directory.path());
            let path = record.path.display();
            let what = format!("at {at} of {}, {left:?} left, {path}", records.len());
            hold(directory.path(), &acknowledged(&disk), &what).await;
            tried += 1;
        }
        if every && at % 50 == 0 {
            eprintln!("{at} of {} moments, {tried} losses of power", records.len());
        }
    }
    println!("{tried} losses of power");
    assert!(tried > 100);
}
