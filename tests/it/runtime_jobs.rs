//! Jobs: many deliveries redelivered or discarded, at a rate, over pauses and crashes.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use hooklog::{
    log::Durability,
    model::{
        Api, ApiId, DeadLetterFilter, DeadLetterReason, DeliveryId, FilterExpression, Job,
        JobCounts, JobEvent, JobId, JobKind, JobSelection, JobState, JobStatus, Message, MessageId,
        Position, Retry, Subscription, SubscriptionId,
    },
    projection::jobs::JobFilter,
    runtime::ControlError,
    testing::{FakeAnswer, FakeCall, MemoryStorage, TestRuntime},
};
use tokio::{task::yield_now, time::timeout};

const DAY: Duration = Duration::from_hours(24);
/// Longer than anything here takes, so that what waits for ever is seen to.
const LONG: Duration = Duration::from_secs(60);

struct World {
    test: TestRuntime,
    api: ApiId,
    subscription: SubscriptionId,
    messages: Vec<MessageId>,
}

/// A subscription whose callback refuses all of so many messages; after that it takes them.
async fn with_dead_letters(data: &tempfile::TempDir, count: usize) -> World {
    dead_letters_in(TestRuntime::start(data.path(), 7).await.unwrap(), count).await
}

async fn dead_letters_in(test: TestRuntime, count: usize) -> World {
    let api = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap();
    let subscription = subscribe(&test, api.id).await;
    test.transport().answer(|_| FakeAnswer::Status(400));
    let messages = publish(&test, api.id, count).await;
    test.settle().await;
    test.transport().answer(|_| FakeAnswer::Status(200));
    let kept = test.handle().dead_letters().count(api.id).unwrap();
    assert_eq!(kept, count as u64);
    World {
        test,
        api: api.id,
        subscription,
        messages,
    }
}

async fn subscribe(test: &TestRuntime, api: ApiId) -> SubscriptionId {
    let mut subscription = Subscription::to("https://example.com/hook").unwrap();
    subscription.delivery_mode = hooklog::model::DeliveryMode::Ordered;
    subscription.configuration.retry = Some(Retry::none());
    let subscribed = test.handle().subscribe(api, subscription).await;
    subscribed.unwrap().id
}

async fn publish(test: &TestRuntime, api: ApiId, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::with_capacity(count);
    for first in (0..count).step_by(500) {
        let numbers = first..count.min(first + 500);
        let messages = numbers.map(|i| Message::text(format!("message {i}")));
        let receipts = test.handle().publish_batch(api, messages.collect()).await;
        ids.extend(receipts.unwrap().iter().map(hooklog::source::Receipt::id));
    }
    ids
}

impl World {
    fn all(&self, kind: JobKind) -> Job {
        let selection = JobSelection::DeadLetters {
            api: self.api,
            filter: DeadLetterFilter::default(),
        };
        Job::new(kind, selection)
    }

    fn redeliveries(&self, rate: Option<u32>) -> Job {
        Job {
            rate_per_second: rate,
            ..self.all(JobKind::Redeliver)
        }
    }

    fn since(&self, at: hooklog::model::Timestamp) -> Job {
        let selection = JobSelection::Messages {
            api: self.api,
            subscription: self.subscription,
            since: at,
            until: None,
        };
        Job::new(JobKind::Redeliver, selection)
    }

    async fn create(&self, job: Job) -> JobState {
        self.test.handle().create_job(job).await.unwrap()
    }

    async fn state(&self, id: JobId) -> JobState {
        self.test.handle().job(id).await.unwrap().state
    }

    /// The calls with which messages were redelivered.
    fn again(&self) -> Vec<FakeCall> {
        let calls = self.test.transport().calls().into_iter();
        calls.filter(|call| call.attempt.get() > 1).collect()
    }

    fn messages_again(&self) -> Vec<MessageId> {
        self.again().iter().map(|call| call.message).collect()
    }

    async fn crash(self) -> Self {
        let test = self.test.crash_and_reopen().await.unwrap();
        Self { test, ..self }
    }
}

fn counts(done: u64, failed: u64, skipped: u64) -> JobCounts {
    JobCounts {
        done,
        failed,
        skipped,
    }
}

#[tokio::test]
async fn a_thousand_dead_letters_are_redelivered_in_order_at_the_rate_that_was_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 1_000).await;
    let job = world.redeliveries(Some(100));
    assert_eq!(
        world.test.handle().count_selection(&job).await.unwrap(),
        1_000
    );
    assert!(world.again().is_empty(), "counting sends nothing");

    let created = world.create(job).await;
    assert_eq!(
        (created.job.total, created.status),
        (1_000, JobStatus::Running)
    );
    for second in 0..9 {
        let most = (second + 1) * 100 + 10;
        world.test.settle().await;
        assert!(
            world.again().len() <= most,
            "{} of {most}",
            world.again().len()
        );
        world.test.run_until_idle(Duration::from_secs(1)).await;
        assert!(world.again().len() > second * 100);
    }
    world.test.run_until_idle(DAY).await;
    assert_eq!(
        world.messages_again(),
        world.messages,
        "each once, oldest first"
    );
    let ended = world.state(created.job.id).await;
    assert_eq!(
        (ended.status, ended.counts),
        (JobStatus::Finished, counts(1_000, 0, 0))
    );
    assert_eq!(
        world.test.handle().dead_letters().count(world.api).unwrap(),
        0
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_job_that_a_crash_cut_short_redelivers_each_message_once() {
    let data = tempfile::tempdir().unwrap();
    let mut world = with_dead_letters(&data, 300).await;
    let created = world.create(world.redeliveries(Some(50))).await;
    let id = created.job.id;
    for _ in 0..3 {
        world
            .test
            .run_until_idle(Duration::from_millis(1_300))
            .await;
        let before = world.state(id).await;
        assert_eq!(before.status, JobStatus::Running);
        world = world.crash().await;
    }
    world.test.run_until_idle(DAY).await;
    let mut sent: BTreeMap<MessageId, usize> = BTreeMap::new();
    for message in world.messages_again() {
        *sent.entry(message).or_default() += 1;
    }
    assert_eq!(sent.len(), 300, "none is left out");
    assert!(sent.values().all(|times| *times == 1), "none is sent twice");
    let ended = world.state(id).await;
    assert_eq!(ended.status, JobStatus::Finished);
    assert_eq!(ended.counts.all(), 300, "{:?}", ended.counts);
    world.test.shutdown().await;
}

#[tokio::test]
async fn what_is_open_already_after_a_crash_is_skipped() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 20).await;
    world.test.transport().hold();
    let created = world.create(world.redeliveries(Some(10))).await;
    // Some are asked for again, and none has ended when the process does.
    world.test.run_until_idle(Duration::from_secs(1)).await;
    let world = world.crash().await;
    world.test.settle().await;
    let before = world.again().len();
    world.test.transport().release();
    world.test.run_until_idle(DAY).await;
    let sent = world.messages_again().split_off(before - 1);
    assert_eq!(
        sent, world.messages,
        "what hung with the crash is called again, and each once"
    );
    let ended = world.state(created.job.id).await;
    assert_eq!(ended.status, JobStatus::Finished);
    assert_eq!(ended.counts.failed, 0);
    assert!(ended.counts.skipped >= 10, "{:?}", ended.counts);
    assert_eq!(ended.counts.all(), 20);
    assert_eq!(
        world.test.handle().dead_letters().count(world.api).unwrap(),
        0
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_paused_job_waits_over_a_restart_and_goes_on_where_it_was() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 30).await;
    let id = world.create(world.redeliveries(Some(10))).await.job.id;
    world.test.run_until_idle(Duration::from_secs(1)).await;
    let paused = world.test.handle().pause_job(id).await.unwrap();
    let so_far = world.again().len() as u64;
    assert_eq!(paused.status, JobStatus::Paused);
    assert_eq!(
        paused.counts,
        counts(so_far, 0, 0),
        "what was done is on record"
    );
    assert!((1..30).contains(&so_far));
    let twice = world.test.handle().pause_job(id).await.unwrap_err();
    assert!(
        twice.to_string().contains("is paused; only a running one"),
        "{twice}"
    );

    world.test.run_until_idle(DAY).await;
    assert_eq!(world.again().len() as u64, so_far);
    let world = world.crash().await;
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.again().len() as u64, so_far);
    assert_eq!(world.state(id).await, paused);

    world.test.handle().resume_job(id).await.unwrap();
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.messages_again(), world.messages);
    assert_eq!(world.state(id).await.counts, counts(30, 0, 0));
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_job_does_no_more_and_keeps_what_it_did() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 30).await;
    let id = world.create(world.redeliveries(Some(5))).await.job.id;
    world.test.run_until_idle(Duration::from_secs(2)).await;
    let handle = world.test.handle();
    let cancelled = handle.cancel_job(id).await.unwrap();
    let so_far = world.again().len();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    assert_eq!(cancelled.counts.done, so_far as u64);
    for refused in [handle.resume_job(id).await, handle.cancel_job(id).await] {
        assert!(
            matches!(refused, Err(ControlError::JobStatus { .. })),
            "{refused:?}"
        );
    }
    drop(handle);
    let world = world.crash().await;
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.again().len(), so_far);
    let left = world.test.handle().dead_letters().count(world.api).unwrap();
    assert_eq!(left, 30 - so_far as u64);
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_job_over_a_closed_subscription_tells_of_each_failure() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 3).await;
    let handle = world.test.handle();
    handle.close(world.subscription).await.unwrap();
    let id = world.create(world.redeliveries(None)).await.job.id;
    world.test.settle().await;
    let ended = world.state(id).await;
    assert_eq!(
        (ended.status, ended.counts),
        (JobStatus::Finished, counts(0, 3, 0))
    );
    let expected = format!("subscription {} is closed", world.subscription);
    assert!(
        ended
            .failures
            .iter()
            .all(|failure| failure.reason == expected)
    );
    let of = |message: &MessageId| DeliveryId::of(*message, world.subscription);
    let named: Vec<_> = ended
        .failures
        .iter()
        .map(|failure| failure.delivery)
        .collect();
    assert_eq!(named, world.messages.iter().map(of).collect::<Vec<_>>());

    let gone = handle
        .create_job(world.since(handle.now()))
        .await
        .unwrap_err();
    assert!(
        matches!(gone, ControlError::UnknownSubscription(_)),
        "{gone}"
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_selection_holds_what_there_was_when_the_job_was_created() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 20).await;
    // What is redelivered is given up anew, and more comes.
    world
        .test
        .transport()
        .answer(|_| FakeAnswer::Status(410 - 10));
    let id = world.create(world.redeliveries(Some(10))).await.job.id;
    publish(&world.test, world.api, 5).await;
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.messages_again(), world.messages);
    let ended = world.state(id).await;
    assert_eq!(
        (ended.status, ended.counts),
        (JobStatus::Finished, counts(20, 0, 0))
    );
    assert_eq!(
        world.test.handle().dead_letters().count(world.api).unwrap(),
        25
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn filters_and_lists_select_and_what_is_selected_can_be_discarded() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 6).await;
    let handle = world.test.handle();
    let other = subscribe(&world.test, world.api).await;
    world.test.transport().answer(|_| FakeAnswer::Status(400));
    publish(&world.test, world.api, 4).await;
    world.test.settle().await;
    let letters = |filter: DeadLetterFilter| {
        let selection = JobSelection::DeadLetters {
            api: world.api,
            filter,
        };
        Job::new(JobKind::Discard, selection)
    };
    let of_other = DeadLetterFilter {
        subscription: Some(other),
        reason: Some(DeadLetterReason::Refused),
        ..DeadLetterFilter::default()
    };
    assert_eq!(
        handle
            .count_selection(&letters(of_other.clone()))
            .await
            .unwrap(),
        4
    );
    let none = DeadLetterFilter {
        reason: Some(DeadLetterReason::Blocked),
        ..DeadLetterFilter::default()
    };
    assert_eq!(handle.count_selection(&letters(none)).await.unwrap(), 0);
    world.create(letters(of_other)).await;
    world.test.settle().await;
    assert_eq!(handle.dead_letters().count(world.api).unwrap(), 10);

    // Named newest first; dealt with oldest first.
    let named = |kind, deliveries| {
        let api = world.api;
        Job::new(kind, JobSelection::Deliveries { api, deliveries })
    };
    let of = |index: usize| DeliveryId::of(world.messages[index], world.subscription);
    world.test.transport().answer(|_| FakeAnswer::Status(200));
    let job = named(JobKind::Redeliver, vec![of(4), of(1)]);
    let id = world.create(job.clone()).await.job.id;
    world.test.settle().await;
    assert_eq!(
        world.messages_again(),
        [world.messages[1], world.messages[4]]
    );
    assert_eq!(world.state(id).await.counts, counts(2, 0, 0));

    let again = handle.create_job(job).await.unwrap_err();
    let ControlError::Invalid(invalid) = again else {
        panic!("{again}");
    };
    let pointers: Vec<_> = invalid
        .problems
        .iter()
        .map(|p| p.pointer.as_str())
        .collect();
    assert_eq!(
        pointers,
        ["/deliveries/0", "/deliveries/1"],
        "they are delivered"
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn everything_since_a_time_is_sent_again_delivered_or_not() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 3).await;
    let handle = world.test.handle();
    world.test.clock().advance(Duration::from_secs(60));
    let since = handle.now();
    let delivered = publish(&world.test, world.api, 80).await;
    world.test.settle().await;
    world.test.transport().answer(|_| FakeAnswer::Status(400));
    let refused = publish(&world.test, world.api, 4).await;
    world.test.settle().await;
    world.test.transport().answer(|_| FakeAnswer::Status(200));

    let job = world.since(since);
    assert_eq!(handle.count_selection(&job).await.unwrap(), 84);
    let id = world.create(job).await.job.id;
    world.test.settle().await;
    assert_eq!(world.messages_again(), [delivered, refused].concat());
    let ended = world.state(id).await;
    assert_eq!(
        (ended.status, ended.counts),
        (JobStatus::Finished, counts(84, 0, 0))
    );
    assert_eq!(
        handle.dead_letters().count(world.api).unwrap(),
        3,
        "older ones are left"
    );
    world.test.shutdown().await;
}

#[tokio::test]
async fn messages_that_are_not_for_the_subscription_are_not_among_everything() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 7).await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let mut subscription = Subscription::to("https://example.com/hook").unwrap();
    subscription.filter = Some(FilterExpression::new("type == 'paid'"));
    let subscription = handle.subscribe(api, subscription).await.unwrap().id;
    let since = handle.now();
    let messages = (0..150).map(|i| {
        let event_type = if i % 3 == 0 { "paid" } else { "sent" };
        Message::text(format!("{i}")).with_type(event_type)
    });
    handle.publish_batch(api, messages.collect()).await.unwrap();
    test.settle().await;
    let selection = JobSelection::Messages {
        api,
        subscription,
        since,
        until: None,
    };
    let job = Job::new(JobKind::Redeliver, selection);
    let created = handle.create_job(job).await.unwrap();
    assert_eq!(created.job.total, 50);
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 100);
    let row = handle.job(created.job.id).await.unwrap();
    assert_eq!(row.state.counts, counts(50, 0, 0));
    test.shutdown().await;
}

#[tokio::test]
async fn a_crash_repeats_nothing_of_everything_since_a_time() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 0).await;
    let since = world.test.handle().now();
    publish(&world.test, world.api, 40).await;
    world.test.settle().await;
    let job = Job {
        rate_per_second: Some(10),
        ..world.since(since)
    };
    let id = world.create(job).await.job.id;
    world
        .test
        .run_until_idle(Duration::from_millis(1_500))
        .await;
    let world = world.crash().await;
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.again().len(), 40, "each once");
    let ended = world.state(id).await;
    assert_eq!(
        (ended.status, ended.counts.all()),
        (JobStatus::Finished, 40)
    );
    assert!(ended.counts.skipped > 0, "{:?}", ended.counts);
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_job_leaves_room_for_new_messages_while_the_callback_hangs() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 900).await;
    world.test.transport().hold();
    let id = world.create(world.redeliveries(None)).await.job.id;
    world.test.settle().await;
    let seen = world
        .test
        .handle()
        .inspect(world.subscription)
        .await
        .unwrap();
    let open = seen.state.open.len();
    assert!((500..=600).contains(&open), "{open}");
    assert_eq!(world.state(id).await.status, JobStatus::Running);
    world.test.transport().release();
    world.test.run_until_idle(DAY).await;
    assert_eq!(world.state(id).await.counts, counts(900, 0, 0));
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_stops_a_job_at_a_delivery_and_the_next_start_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 30).await;
    let id = world.create(world.redeliveries(Some(5))).await.job.id;
    world.test.run_until_idle(Duration::from_secs(2)).await;
    let before = world.again().len() as u64;
    assert!((1..30).contains(&before), "{before}");
    world.test.shutdown().await;

    let test = TestRuntime::start(data.path(), 8).await.unwrap();
    let row = test.handle().job(id).await.unwrap();
    assert_eq!(row.state.counts.done, before, "what was done is on record");
    test.run_until_idle(DAY).await;
    let row = test.handle().job(id).await.unwrap();
    assert_eq!(row.state.counts, counts(30, 0, 0));
    assert_eq!(test.transport().calls().len() as u64, 30 - before);
    test.shutdown().await;
}

#[tokio::test]
async fn the_time_of_an_end_is_for_jobs_and_calls_together() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let disk = storage.clone();
    let test = TestRuntime::start_with(data.path(), 7, move |builder| {
        let synced = builder.durability(Durability::Synced);
        synced.storage(Arc::new(disk.clone()))
    });
    let world = dead_letters_in(test.await.unwrap(), 30).await;
    world.test.transport().hold();
    world.create(world.redeliveries(Some(5))).await;
    world.test.settle().await;
    assert_eq!(world.test.transport().held(), 1);
    // The job cannot end, for its append is not answered, and neither can the call.
    storage.hold_syncs();
    let clock = world.test.clock().clone();
    let next_step = clock.next_wake().expect("the job is at its rate");
    clock.advance(next_step);
    let written = async {
        while storage.syncs_waiting() == 0 {
            yield_now().await;
        }
    };
    timeout(LONG, written).await.expect("the job goes on");

    let mut ended = pin!(timeout(LONG, world.test.shutdown()));
    assert!(futures_util::poll!(ended.as_mut()).is_pending());
    clock.advance(Duration::from_secs(8));
    storage.release_syncs();
    ended.await.expect("no part of it has that time for itself");
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_their_events_tell_what_the_list_shows() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 2).await;
    let handle = world.test.handle();
    let first = world.create(world.redeliveries(None)).await.job.id;
    world.test.settle().await;
    let second = world.create(world.all(JobKind::Discard)).await.job.id;
    world.test.settle().await;
    let list = |filter: JobFilter, below: Option<Position>| {
        let page = handle.jobs().list(&filter, below, 1).unwrap();
        let ids: Vec<_> = page.jobs.iter().map(|row| row.state.job.id).collect();
        (ids, page.next)
    };
    let (newest, next) = list(JobFilter::default(), None);
    assert_eq!(newest, [second]);
    let (oldest, next) = list(JobFilter::default(), next);
    assert_eq!((oldest, next), (vec![first], None));
    let paused = JobFilter {
        status: Some(JobStatus::Paused),
        ..JobFilter::default()
    };
    assert_eq!(list(paused, None).0, []);

    let stream = hooklog::log::StreamId::job(first);
    let events = handle
        .log()
        .read_stream(stream, hooklog::model::Version::ZERO, 100);
    let mut state = None;
    for recorded in events.unwrap() {
        let hooklog::model::Event::Job(event) = &recorded.event else {
            panic!("{recorded:?}");
        };
        match (&mut state, event) {
            (None, JobEvent::Created(created)) => {
                state = Some(JobState::begun((*created.job).clone()));
            }
            (Some(state), event) => state.apply(event),
            (None, event) => panic!("{event:?}"),
        }
    }
    assert_eq!(state.unwrap(), world.state(first).await);
    let unknown = handle
        .pause_job(JobId::from_uuid(*world.api.as_uuid()))
        .await;
    assert!(
        matches!(unknown, Err(ControlError::UnknownJob(_))),
        "{unknown:?}"
    );
    world.test.shutdown().await;
}
