//! What a subscription's driver asks of whoever holds it.

use std::{sync::Arc, time::Duration};

use hooklog::{
    model::{Api, DeliveryMode, FilterVerdict, Moment, Qos, Timestamp, Version},
    subscription::{Command, Driver, Job, MessageMeta, Now, SubscriptionState, Time, apply},
};

use crate::subscription_rules::{message, subscription};

struct Still;

impl Time for Still {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(1_000),
            elapsed: Duration::ZERO,
        }
    }

    fn moment(&self) -> Moment {
        Moment::new(Timestamp::from_millis(1_000), 7)
    }
}

fn metas(first: u64, last: u64) -> Vec<MessageMeta> {
    (first..=last)
        .map(|version| MessageMeta {
            message: message(version),
            key: None,
            channel: None,
            verdict: FilterVerdict::Passes,
        })
        .collect()
}

/// The versions that are called with, and the number of events to append.
fn asked(jobs: Vec<Job<()>>) -> (Vec<u64>, usize) {
    let (mut sent, mut appended) = (Vec::new(), 0);
    for job in jobs {
        match job {
            Job::Send(call) => sent.push(call.message.version.get()),
            Job::Append { events, .. } => appended += events.len(),
            _ => {}
        }
    }
    (sent, appended)
}

#[test]
fn under_at_most_once_no_call_is_made_before_its_own_take_is_durable() {
    const MESSAGES: u64 = 999;
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    api.entrypoint.http.max_concurrent_connections = 1_000;
    let mut subscription = subscription();
    subscription.delivery_mode = DeliveryMode::Concurrent;
    let mut state = SubscriptionState::new(subscription.id);
    let created = hooklog::model::SubscriptionCreated {
        subscription: Box::new(subscription.clone()),
        cursor: Version::ZERO,
    };
    apply(&mut state, &created.into());
    let mut driver = Driver::new(state, Version::FIRST, Arc::new(api), &Still);
    let head = Version::new(MESSAGES);
    assert_eq!(asked(driver.plan(&Still, head)), (vec![], 0));
    // Ten events stand before the takes, so that the last takes go with a second append.
    for _ in 0..10 {
        let update = Command::Update {
            subscription: Box::new(subscription.clone()),
        };
        driver.execute(update, (), &Still).unwrap();
    }
    driver.offer(metas(1, MESSAGES));
    assert_eq!(asked(driver.plan(&Still, head)), (vec![], 1_000));
    driver.appended(Version::new(1_001));
    let (sent, appended) = asked(driver.plan(&Still, head));
    assert_eq!(sent, (1..=990).collect::<Vec<_>>());
    assert_eq!(appended, 9);
    driver.appended(Version::new(1_010));
    let (sent, _) = asked(driver.plan(&Still, head));
    assert_eq!(sent, (991..=999).collect::<Vec<_>>());
}
