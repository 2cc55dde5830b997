//! What a subscription's driver asks of whoever holds it.

use std::{sync::Arc, time::Duration};

use hooklog::{
    model::{
        Api, ApiState, AttemptReport, AttemptResult, DeadLetterQueue, DeliveryMode, FilterVerdict,
        Moment, OnFailure, Qos, Retry, RetryAfter, Subscription, Timestamp, Version,
    },
    subscription::{
        Call, Command, Driver, Job, MessageMeta, Now, PastDelivery, Rejection, SubscriptionState,
        Time, apply,
    },
};

use crate::subscription_rules::{message, report, status, subscription};

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

/// So many milliseconds, by both clocks.
struct At(u64);

impl Time for At {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(i64::try_from(self.0).unwrap()),
            elapsed: Duration::from_millis(self.0),
        }
    }

    fn moment(&self) -> Moment {
        Moment::new(self.now().wall, 7)
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

/// The driver of a subscription to this API that was just made.
fn driver(api: Api, change: fn(&mut Subscription)) -> Driver<()> {
    let mut subscription = subscription();
    subscription.delivery_mode = DeliveryMode::Concurrent;
    change(&mut subscription);
    let mut state = SubscriptionState::new(subscription.id);
    let created = hooklog::model::SubscriptionCreated {
        subscription: Box::new(subscription),
        cursor: Version::ZERO,
    };
    apply(&mut state, &created.into());
    Driver::new(state, Version::FIRST, Arc::new(api), &Still)
}

#[test]
fn a_call_that_was_not_made_before_its_deadline_is_given_up_and_not_made_later() {
    let mut api = Api::named("orders");
    api.entrypoint.retry.deadline_seconds = Some(1);
    let mut driver = driver(api, |_| {});
    driver.plan(&At(0), Version::FIRST);
    driver.offer(metas(1, 1));
    let jobs = driver.plan(&At(999), Version::FIRST);
    let [Job::Send(call), ..] = jobs.as_slice() else {
        panic!("one call: {jobs:?}");
    };
    assert_eq!(call.deadline, Some(Timestamp::from_millis(1_000)));
    // It waited for a slot until then.
    driver.not_made(call, &At(1_000)).unwrap();
    let (sent, appended) = asked(driver.plan(&At(1_000), Version::FIRST));
    assert_eq!((sent, appended), (vec![], 1));
    assert_eq!(driver.state().counters.dead_lettered, 1);
    driver.appended(Version::new(2));
    assert_eq!(asked(driver.plan(&At(2_000), Version::FIRST)), (vec![], 0));
}

#[test]
fn a_call_that_was_not_made_before_its_subscription_ended_leaves_nothing_open() {
    let mut api = Api::named("orders");
    api.entrypoint.retry.deadline_seconds = Some(100);
    let mut driver = driver(api, |_| {});
    driver.plan(&At(0), Version::FIRST);
    driver.offer(metas(1, 1));
    let first = sent(driver.plan(&At(0), Version::FIRST));
    let report = Box::new(report(status(500)));
    driver.ended(&first, report, true, &At(0)).unwrap();
    let again = sent(driver.plan(&At(50_000), Version::FIRST));
    let close = Command::Close {
        in_flight: Vec::new(),
    };
    driver.execute(close, (), &At(60_000)).unwrap();
    assert!(!driver.state().has_ended(), "its call is under way");
    driver.not_made(&again, &At(100_000)).unwrap();
    assert!(driver.state().has_ended());
    assert_eq!(driver.state().counters.discarded, 1);
}

/// The calls that are to be made.
fn calls(jobs: Vec<Job<()>>) -> impl Iterator<Item = Call> {
    jobs.into_iter().filter_map(|job| match job {
        Job::Send(call) => Some(call),
        _ => None,
    })
}

/// The call that is to be made.
fn sent(jobs: Vec<Job<()>>) -> Call {
    calls(jobs).next().unwrap()
}

#[test]
fn under_at_most_once_the_rate_is_kept_by_calls_whose_takes_become_durable_together() {
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    let mut driver = driver(api, |subscription| {
        subscription.configuration.rate_limit_per_second = Some(5);
    });
    let head = Version::new(5);
    driver.plan(&At(0), head);
    driver.offer(metas(1, 5));
    // The log is slow: each is taken in its time, and none may be sent yet.
    let taken: usize = (0..5)
        .map(|n| asked(driver.plan(&At(n * 200), head)))
        .map(|(sent, appended)| {
            assert!(sent.is_empty(), "{sent:?}");
            appended
        })
        .sum();
    assert_eq!(taken, 1, "one append at a time");
    driver.appended(Version::new(2));
    let mut sent_at = Vec::new();
    let mut version = 2;
    for now in (1_000..5_000).step_by(20) {
        let jobs = driver.plan(&At(now), head);
        for job in jobs {
            match job {
                Job::Send(_) => sent_at.push(now),
                Job::Append { events, .. } => {
                    version += events.len() as u64;
                    driver.appended(Version::new(version));
                }
                _ => {}
            }
        }
    }
    assert_eq!(sent_at.len(), 5, "{sent_at:?}");
    let apart = sent_at.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(apart.min().unwrap() >= 180, "{sent_at:?}");
}

/// A driver under at-most-once that has asked for the take of its one message.
fn taking() -> Driver<()> {
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    let mut driver = driver(api, |_| {});
    driver.plan(&Still, Version::FIRST);
    driver.offer(metas(1, 1));
    assert_eq!(asked(driver.plan(&Still, Version::FIRST)), (vec![], 1));
    driver
}

#[test]
fn under_at_most_once_a_message_whose_take_is_on_its_way_at_a_stop_is_called_with_before_it() {
    let mut driver = taking();
    driver.drain();
    assert!(!driver.is_quiet(), "its take is on its way");
    driver.appended(Version::new(2));
    assert!(!driver.is_quiet(), "it would be taken for interrupted");
    let call = sent(driver.plan(&Still, Version::FIRST));
    assert_eq!(call.message, message(1));
    let report = Box::new(report(status(200)));
    driver.ended(&call, report, true, &Still).unwrap();
    driver.plan(&Still, Version::FIRST);
    driver.appended(Version::new(3));
    assert!(driver.is_quiet());
    assert_eq!(driver.state().counters.delivered, 1);
}

#[test]
fn under_at_most_once_a_pause_and_a_stopped_api_leave_no_message_taken_and_not_called_with() {
    let mut paused = taking();
    paused.execute(Command::Pause, (), &Still).unwrap();
    let mut stopped = taking();
    let mut api = Api::clone(stopped.api());
    api.state = ApiState::Stopped;
    stopped.set_api(Arc::new(api), &Still);
    for driver in [&mut paused, &mut stopped] {
        driver.appended(Version::new(2));
        let call = sent(driver.plan(&Still, Version::FIRST));
        assert_eq!(call.message, message(1));
    }
}

#[test]
fn a_message_that_cannot_be_read_while_another_interrupted_its_subscription_is_not_forgotten() {
    let mut api = Api::named("orders");
    api.entrypoint.dlq = DeadLetterQueue::None;
    api.entrypoint.on_failure = OnFailure::Interrupt;
    let mut driver = driver(api, |_| {});
    let head = Version::new(2);
    driver.plan(&Still, head);
    driver.offer(metas(1, 2));
    let calls: Vec<_> = calls(driver.plan(&Still, head)).collect();
    let [first, second] = calls.as_slice() else {
        panic!("two calls: {calls:?}");
    };
    let lost = |driver: &mut Driver<()>, call: &Call| {
        let why = "its page is damaged".to_owned();
        driver.unsendable(call, why, &Still).unwrap();
    };
    lost(&mut driver, first);
    assert!(!driver.state().is_running());
    lost(&mut driver, second);
    driver.execute(Command::ResumeFailure, (), &Still).unwrap();
    let again: Vec<_> = asked(driver.plan(&Still, head)).0;
    assert_eq!(again, [1, 2]);
}

#[test]
fn under_at_most_once_a_taken_message_that_cannot_be_read_ends_while_its_subscription_is_interrupted()
 {
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    api.entrypoint.dlq = DeadLetterQueue::None;
    api.entrypoint.on_failure = OnFailure::Interrupt;
    let mut driver = driver(api, |_| {});
    let head = Version::new(2);
    driver.plan(&Still, head);
    driver.offer(metas(1, 2));
    assert_eq!(asked(driver.plan(&Still, head)), (vec![], 2));
    driver.appended(Version::new(3));
    for call in calls(driver.plan(&Still, head)) {
        let why = "its page is damaged".to_owned();
        driver.unsendable(&call, why, &Still).unwrap();
    }
    assert!(!driver.state().is_running());
    assert_eq!(driver.state().counters.discarded, 1);
    assert!(!driver.state().open.contains_key(&Version::new(2)));
}

#[test]
fn a_call_is_made_under_the_settings_that_hold_when_it_begins() {
    let api = Api::named("orders");
    let mut driver = driver(api.clone(), |_| {});
    let mut other = api;
    other.entrypoint.http.read_timeout_ms = 1_234;
    for (number, api) in (1..).zip([driver.api().clone(), Arc::new(other)]) {
        driver.set_api(Arc::clone(&api), &Still);
        let head = Version::new(number);
        driver.plan(&Still, head);
        driver.offer(metas(number, number));
        let jobs = driver.plan(&Still, head);
        let Some(Job::Send(call)) = jobs.first() else {
            panic!("one call: {jobs:?}");
        };
        assert_eq!(call.policy.http, api.entrypoint.http);
    }
}

/// A driver whose subscription was given another callback while it called with so many messages,
/// and these calls.
fn moved(messages: u64) -> (Driver<()>, Vec<Call>) {
    let mut api = Api::named("orders");
    api.entrypoint.http.max_concurrent_connections = 20;
    let mut driver = driver(api, |_| {});
    let head = Version::new(messages);
    driver.plan(&Still, head);
    driver.offer(metas(1, messages));
    let begun: Vec<_> = calls(driver.plan(&Still, head)).collect();
    assert_eq!(begun.len() as u64, messages);
    let mut subscription = driver.state().subscription.clone().unwrap();
    subscription.configuration.callback_url = Some("https://example.org/".parse().unwrap());
    let update = Command::Update { subscription };
    driver.execute(update, (), &Still).unwrap();
    (driver, begun)
}

/// What was called is gone.
fn gone(driver: &mut Driver<()>, call: &Call) {
    let report = Box::new(report(status(410)));
    driver.ended(call, report, true, &Still).unwrap();
}

#[test]
fn a_callback_that_is_gone_once_another_was_set_stops_nothing_and_the_other_gets_the_message() {
    let (mut driver, begun) = moved(1);
    gone(&mut driver, &begun[0]);
    assert!(driver.state().is_running());
    let again = sent(driver.plan(&Still, Version::FIRST));
    assert_eq!(again.message, message(1));
    let url = again.policy.callback_url.as_ref().unwrap();
    assert_eq!(url.as_str(), "https://example.org/");
    gone(&mut driver, &again);
    assert!(!driver.state().is_running(), "this is the present one");
}

#[test]
fn a_callback_of_the_entrypoint_that_is_gone_once_it_moved_stops_nothing() {
    let mut api = Api::named("orders");
    api.entrypoint.callback_url = Some("https://example.com/hook".parse().unwrap());
    let mut other = api.clone();
    other.entrypoint.callback_url = Some("https://example.org/".parse().unwrap());
    let mut driver = driver(api, |subscription| {
        subscription.configuration.callback_url = None;
    });
    driver.plan(&Still, Version::FIRST);
    driver.offer(metas(1, 1));
    let call = sent(driver.plan(&Still, Version::FIRST));
    driver.set_api(Arc::new(other), &Still);
    gone(&mut driver, &call);
    assert!(driver.state().is_running());
}

#[test]
fn a_pause_that_a_callback_asks_for_once_another_was_set_does_not_hold_the_other() {
    let (mut driver, begun) = moved(1);
    let result = AttemptResult::Responded {
        status: 503,
        retry_after: Some(RetryAfter::from_seconds(86_400)),
    };
    let report = Box::new(report(result));
    driver.ended(&begun[0], report, true, &Still).unwrap();
    assert_eq!(driver.state().hold, None);
    let head = Version::new(2);
    driver.plan(&Still, head);
    driver.offer(metas(2, 2));
    let next = sent(driver.plan(&Still, head));
    assert_eq!(next.message, message(2));
}

#[test]
fn calls_that_fail_once_another_callback_was_set_do_not_open_its_circuit() {
    let (mut driver, begun) = moved(12);
    for call in &begun {
        let report = Box::new(report(status(500)));
        driver.ended(call, report, true, &Still).unwrap();
    }
    assert!(!driver.state().circuit.is_open());
    assert_eq!(driver.state().circuit.failures(), 0);
}

#[test]
fn what_failed_before_the_entrypoint_moved_does_not_count_against_where_it_moved_to() {
    let mut api = Api::named("orders");
    api.entrypoint.http.max_concurrent_connections = 20;
    api.entrypoint.callback_url = Some("https://example.com/hook".parse().unwrap());
    let mut other = api.clone();
    other.entrypoint.callback_url = Some("https://example.org/".parse().unwrap());
    let mut driver = driver(api, |subscription| {
        subscription.configuration.callback_url = None;
    });
    let fail = |driver: &mut Driver<()>, first: u64, last: u64| {
        let head = Version::new(last);
        driver.plan(&Still, head);
        driver.offer(metas(first, last));
        let begun: Vec<_> = calls(driver.plan(&Still, head)).collect();
        assert_eq!(begun.len() as u64, last - first + 1);
        for call in &begun {
            let report = Box::new(report(status(500)));
            driver.ended(call, report, true, &Still).unwrap();
        }
    };
    fail(&mut driver, 1, 9);
    assert_eq!(driver.state().circuit.failures(), 9);
    driver.set_api(Arc::new(other), &Still);
    fail(&mut driver, 10, 10);
    assert!(!driver.state().circuit.is_open());
    assert_eq!(driver.state().circuit.failures(), 1);
}

/// The dead letters that are to be taken to their place.
fn forwarded(jobs: &[Job<()>]) -> Vec<u64> {
    let versions = jobs.iter().filter_map(|job| match job {
        Job::Forward { message, .. } => Some(message.version.get()),
        _ => None,
    });
    versions.collect()
}

#[test]
fn the_end_of_a_forward_whose_message_was_delivered_meanwhile_is_refused_and_the_next_one_goes() {
    let mut api = Api::named("orders");
    api.entrypoint.dlq = DeadLetterQueue::Api {
        api: Api::named("letters").id,
    };
    let mut driver = driver(api, |_| {});
    let head = Version::new(2);
    driver.plan(&Still, head);
    driver.offer(metas(1, 2));
    for call in calls(driver.plan(&Still, head)) {
        let refused = Box::new(report(status(400)));
        driver.ended(&call, refused, true, &Still).unwrap();
    }
    assert_eq!(forwarded(&driver.plan(&Still, head)), [1]);
    let again = Command::Redeliver {
        message: message(1),
        past: PastDelivery {
            attempts: 1,
            ..PastDelivery::default()
        },
    };
    driver.execute(again, (), &Still).unwrap();
    let call = sent(driver.plan(&Still, head));
    let delivered = Box::new(report(status(200)));
    driver.ended(&call, delivered, true, &Still).unwrap();
    let late = driver.forward_ended(message(1), Err("full".to_owned()), &Still);
    assert_eq!(late, Err(Rejection::NotForwarding(message(1))));
    assert_eq!(forwarded(&driver.plan(&Still, head)), [2]);
    driver.forward_ended(message(2), Ok(()), &Still).unwrap();
    assert!(driver.state().forwards.is_empty());
}

#[test]
fn dead_letters_that_the_log_has_no_room_for_are_tried_each_second_and_hold_up_no_others() {
    let mut api = Api::named("orders");
    api.entrypoint.dlq = DeadLetterQueue::Api {
        api: Api::named("letters").id,
    };
    let mut elsewhere = api.clone();
    elsewhere.entrypoint.dlq = DeadLetterQueue::Http {
        url: "https://dlq.example.com/".parse().unwrap(),
    };
    let refused = || Box::new(report(status(400)));
    let mut driver = driver(api, |_| {});
    driver.plan(&At(0), Version::new(2));
    driver.offer(metas(1, 2));
    for call in calls(driver.plan(&At(0), Version::new(2))) {
        driver.ended(&call, refused(), true, &At(0)).unwrap();
    }
    driver.set_api(Arc::new(elsewhere), &At(0));
    let head = Version::new(3);
    assert_eq!(forwarded(&driver.plan(&At(0), head)), [1]);
    driver.offer(metas(3, 3));
    let call = sent(driver.plan(&At(0), head));
    driver.ended(&call, refused(), true, &At(0)).unwrap();

    driver.forward_put_off(&At(0));
    assert_eq!(forwarded(&driver.plan(&At(0), head)), [3], "the URL's");
    driver.forward_ended(message(3), Ok(()), &At(0)).unwrap();
    let waits = driver.plan(&At(900), head);
    assert_eq!(forwarded(&waits), Vec::<u64>::new());
    let rest = Duration::from_millis(100);
    let wakes = |job: &Job<()>| matches!(job, Job::Wake { after } if *after == rest);
    assert!(waits.iter().any(wakes), "{waits:?}");
    assert_eq!(forwarded(&driver.plan(&At(1_000), head)), [1]);
    let waiting = &driver.state().forwards[&Version::FIRST];
    assert_eq!((waiting.attempts, waiting.due_at), (0, None));
}

/// The monotonic clock at so many seconds, the wall clock at so many others.
#[derive(Clone, Copy)]
struct Clocks {
    elapsed: u64,
    wall: i64,
}

impl Time for Clocks {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(self.wall * 1_000),
            elapsed: Duration::from_secs(self.elapsed),
        }
    }

    fn moment(&self) -> Moment {
        Moment::new(self.now().wall, 7)
    }
}

const BEGIN: Clocks = Clocks {
    elapsed: 100,
    wall: 100_000,
};
/// A minute later, by which the wall clock was set back.
const SET_BACK: Clocks = Clocks {
    elapsed: 160,
    wall: 100_000,
};

fn paused_for_a_minute() -> AttemptReport {
    report(AttemptResult::Responded {
        status: 429,
        retry_after: Some(RetryAfter::from_seconds(60)),
    })
}

/// The first message was refused with a pause of a minute, and called with again when it had passed.
/// Meanwhile the wall clock was set back by this minute, so that by it the pause has just begun. The
/// driver, and the second call.
fn set_back_in_a_pause() -> (Driver<()>, Call) {
    let mut driver = driver(Api::named("orders"), |_| {});
    let head = Version::new(2);
    driver.plan(&BEGIN, Version::FIRST);
    driver.offer(metas(1, 1));
    let call = sent(driver.plan(&BEGIN, Version::FIRST));
    let report = Box::new(paused_for_a_minute());
    driver.ended(&call, report, true, &BEGIN).unwrap();
    driver.plan(&BEGIN, head);
    driver.offer(metas(2, 2));
    assert_eq!(asked(driver.plan(&BEGIN, head)).0, Vec::<u64>::new());
    let again = sent(driver.plan(&SET_BACK, Version::FIRST));
    assert_eq!(again.message, message(1));
    (driver, again)
}

#[test]
fn a_retry_due_at_the_same_time_as_the_one_before_waits_again_after_the_wall_clock_was_set_back() {
    let mut api = Api::named("orders");
    api.entrypoint.retry = Retry {
        jitter_percent: 0,
        ..Retry::schedule([60, 60])
    };
    let mut driver = driver(api, |_| {});
    driver.plan(&BEGIN, Version::FIRST);
    driver.offer(metas(1, 1));
    for time in [BEGIN, SET_BACK] {
        let call = sent(driver.plan(&time, Version::FIRST));
        let report = Box::new(report(status(500)));
        driver.ended(&call, report, true, &time).unwrap();
        let planned = driver.state().open[&Version::FIRST].retry.unwrap();
        assert_eq!(planned.due_at, Timestamp::from_millis(100_060_000));
    }
    let (sent, _) = asked(driver.plan(&SET_BACK, Version::FIRST));
    assert!(sent.is_empty(), "it is due in a minute: {sent:?}");
}

#[test]
fn a_pause_that_has_passed_holds_no_retry_back_after_the_wall_clock_was_set_back() {
    let (mut driver, again) = set_back_in_a_pause();
    let report = Box::new(report(status(500)));
    driver.ended(&again, report, true, &SET_BACK).unwrap();
    let planned = driver.state().open[&Version::FIRST].retry.unwrap();
    assert!(planned.delay_ms < 60_000, "{planned:?}");
}

#[test]
fn a_pause_up_to_the_same_time_as_the_one_before_stands_again_after_the_wall_clock_was_set_back() {
    let (mut driver, again) = set_back_in_a_pause();
    let report = Box::new(paused_for_a_minute());
    driver.ended(&again, report, true, &SET_BACK).unwrap();
    let (sent, _) = asked(driver.plan(&SET_BACK, Version::new(2)));
    assert!(sent.is_empty(), "a pause of a minute was asked for");
}

/// A driver whose calls all ended so while its subscription was paused. A second later, by which the
/// wall clock was set an hour forward or back, it goes on.
fn failed_while_paused(wall: i64, calls_max: u16, ended: &AttemptReport) -> Driver<()> {
    let mut api = Api::named("orders");
    api.entrypoint.http.max_concurrent_connections = calls_max;
    let mut driver = driver(api, |_| {});
    let head = Version::new(calls_max.into());
    driver.plan(&BEGIN, head);
    driver.offer(metas(1, calls_max.into()));
    let begun: Vec<_> = calls(driver.plan(&BEGIN, head)).collect();
    assert_eq!(begun.len(), usize::from(calls_max));
    driver.execute(Command::Pause, (), &BEGIN).unwrap();
    for call in &begun {
        driver
            .ended(call, Box::new(ended.clone()), true, &BEGIN)
            .unwrap();
    }
    let time = Clocks {
        elapsed: BEGIN.elapsed + 1,
        wall,
    };
    driver.execute(Command::Resume, (), &time).unwrap();
    driver
}

#[test]
fn a_pause_counts_from_its_answer_though_the_wall_clock_was_set_before_its_subscription_went_on() {
    for wall in [BEGIN.wall - 3_600, BEGIN.wall + 3_600] {
        let mut driver = failed_while_paused(wall, 1, &paused_for_a_minute());
        let at = |seconds: u64| Clocks {
            elapsed: BEGIN.elapsed + seconds,
            wall,
        };
        for seconds in [1, 59] {
            let (sent, _) = asked(driver.plan(&at(seconds), Version::FIRST));
            assert!(sent.is_empty(), "{sent:?} after {seconds} s, at {wall}");
        }
        assert_eq!(
            sent(driver.plan(&at(60), Version::FIRST)).message,
            message(1)
        );
    }
}

#[test]
fn a_circuit_is_probed_after_its_pause_though_the_wall_clock_was_set_before_its_subscription_went_on()
 {
    for wall in [BEGIN.wall - 3_600, BEGIN.wall + 3_600] {
        let mut driver = failed_while_paused(wall, 10, &report(status(500)));
        assert!(driver.state().circuit.is_open());
        let head = Version::new(10);
        let at = |seconds: u64| Clocks {
            elapsed: BEGIN.elapsed + seconds,
            wall,
        };
        // Half a minute, jitter apart.
        for seconds in [1, 20] {
            let (sent, _) = asked(driver.plan(&at(seconds), head));
            assert!(sent.is_empty(), "{sent:?} after {seconds} s, at {wall}");
        }
        assert!(sent(driver.plan(&at(40), head)).probe);
    }
}

#[test]
fn a_dead_letter_waits_no_longer_than_its_pause_after_a_restart_with_the_wall_clock_set_back() {
    let mut api = Api::named("orders");
    api.entrypoint.dlq = DeadLetterQueue::Api {
        api: Api::named("letters").id,
    };
    let mut before = driver(api.clone(), |_| {});
    before.plan(&BEGIN, Version::FIRST);
    before.offer(metas(1, 1));
    let call = sent(before.plan(&BEGIN, Version::FIRST));
    let refused = Box::new(report(status(400)));
    before.ended(&call, refused, true, &BEGIN).unwrap();
    assert_eq!(forwarded(&before.plan(&BEGIN, Version::FIRST)), [1]);
    let full = Err("full".to_owned());
    before.forward_ended(message(1), full, &BEGIN).unwrap();

    let a_day_back = |elapsed: u64| Clocks {
        elapsed,
        wall: BEGIN.wall - 86_400,
    };
    let state = before.state().clone();
    let version = Version::new(4);
    let mut driver = Driver::<()>::new(state, version, Arc::new(api), &a_day_back(0));
    let planned = driver.plan(&a_day_back(0), Version::FIRST);
    assert_eq!(forwarded(&planned), Vec::<u64>::new());
    // Ten seconds, jitter apart.
    assert_eq!(
        forwarded(&driver.plan(&a_day_back(12), Version::FIRST)),
        [1]
    );
}

#[test]
fn under_at_most_once_no_call_is_made_before_its_own_take_is_durable() {
    const MESSAGES: u64 = 999;
    let mut api = Api::named("orders");
    api.entrypoint.qos = Qos::AtMostOnce;
    api.entrypoint.http.max_concurrent_connections = 1_000;
    let mut driver = driver(api, |_| {});
    let subscription = driver.state().subscription.clone().unwrap();
    let head = Version::new(MESSAGES);
    assert_eq!(asked(driver.plan(&Still, head)), (vec![], 0));
    // Ten events stand before the takes, so that the last takes go with a second append.
    for _ in 0..10 {
        let update = Command::Update {
            subscription: subscription.clone(),
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
