//! Retention, over the whole runtime: what is old and needed by nobody goes, and nothing else.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use hooklog::{
    log::{Durability, LogOptions, RecordedEvent, RetentionPolicy, StreamId},
    model::{
        Api, ApiId, Application, DeadLetterFilter, Job, JobKind, JobSelection, JobStatus, Message,
        Position, Role, Subscription, SubscriptionId, Timestamp, Token, TokenId, Version,
    },
    projection::{
        Phase, ProjectError, Projection, ReadRows, Row, Rows, View,
        deliveries::{Cursor, DeliveryPage, DeliveryQuery},
        idempotency_keys::IdempotencyKeys,
        metrics::{Counter, Scope},
    },
    runtime::{Builder, ControlError, Handle, HolderKind, PROJECTIONS_DIRECTORY},
    testing::{FakeAnswer, MemoryStorage, TestRuntime},
};

use crate::support::{files::copy_directory, process::client};

/// Each phase of a test begins a segment of its own.
const PHASE: Duration = Duration::from_hours(25);
const AGE_MAX: Duration = Duration::from_hours(24);

fn options(builder: Builder) -> Builder {
    let log = LogOptions {
        min_free_bytes: 0,
        ..LogOptions::with_durability(Durability::Flushed)
    };
    builder.log_options(log).retention(RetentionPolicy {
        max_age: Some(AGE_MAX),
        max_bytes: None,
    })
}

/// As `options`, for tests that say themselves when it is time.
fn on_demand(builder: Builder) -> Builder {
    options(builder).retention(RetentionPolicy {
        max_age: None,
        max_bytes: Some(0),
    })
}

fn rows<P: Projection>(view: &View<P>) -> Vec<Row> {
    view.range(Vec::new()..vec![0xff; 64], usize::MAX).unwrap()
}

fn all_rows(handle: &Handle) -> [Vec<Row>; 7] {
    [
        rows(&handle.deliveries()),
        rows(&handle.metrics()),
        rows(&handle.dead_letters()),
        rows(&handle.subscriptions()),
        rows(&handle.access()),
        rows(&handle.jobs()),
        rows(&handle.projection::<IdempotencyKeys>().unwrap()),
    ]
}

fn assert_equal(before: &[Vec<Row>; 7], after: &[Vec<Row>; 7]) {
    let views = [
        "deliveries",
        "metrics",
        "dead_letters",
        "subscriptions",
        "access",
        "jobs",
        "idempotency_keys",
    ];
    for ((before, after), view) in before.iter().zip(after).zip(views) {
        assert!(before == after, "the rows of {view} differ");
    }
}

/// A gateway with something of everything.
struct World {
    test: TestRuntime,
    api: ApiId,
    application: Application,
    prompt: SubscriptionId,
    /// Paused at first.
    late: SubscriptionId,
    token: TokenId,
}

impl World {
    async fn start(
        data: &Path,
        options: impl Fn(Builder) -> Builder + Send + Sync + 'static,
    ) -> Self {
        let test = TestRuntime::start_with(data, 21, options).await.unwrap();
        let handle = test.handle();
        let api = handle.create_api(Api::named("orders")).await.unwrap().id;
        let application = handle.create_application(Application::named("shop"));
        let application = application.await.unwrap();
        let subscribe = async |path: &str| {
            let mut subscription =
                Subscription::to(&format!("https://example.com/{path}")).unwrap();
            subscription.application = application.id;
            handle.subscribe(api, subscription).await.unwrap().id
        };
        let (prompt, late) = (subscribe("prompt").await, subscribe("late").await);
        handle.pause(late).await.unwrap();
        let token = handle.create_token(Token::named("ops", Role::Operator));
        let token = token.await.unwrap().0.id;
        let revoked = handle.create_token(Token::named("old", Role::Viewer));
        let revoked = revoked.await.unwrap().0.id;
        handle.revoke_token(revoked).await.unwrap();
        test.transport().answer(|request| {
            let refused = number(&request.message.content).is_multiple_of(7);
            FakeAnswer::Status(if refused { 400 } else { 200 })
        });
        Self {
            test,
            api,
            application,
            prompt,
            late,
            token,
        }
    }

    fn handle(&self) -> Handle {
        self.test.handle()
    }

    async fn publish(&self, count: usize) {
        let texts = (0..count).map(|i| Message::text(format!("message {i}")));
        let messages = texts.collect();
        self.handle()
            .publish_batch(self.api, messages)
            .await
            .unwrap();
        self.test.settle().await;
    }

    async fn next_phase(&self) {
        self.test.clock().advance(PHASE);
        self.test.settle().await;
    }

    /// Ends, and starts again at the same time with other callbacks.
    async fn restart(self, data: &Path, before: impl FnOnce()) -> Self {
        let clock = self.test.clock().clone();
        self.test.shutdown().await;
        before();
        let test = TestRuntime::start_at(data, clock, on_demand).await.unwrap();
        test.settle().await;
        Self { test, ..self }
    }

    /// Everything that is neither a message nor about one stands, and is delivered to.
    async fn assert_stands(&self) {
        let handle = self.handle();
        assert_eq!(handle.api(self.api).unwrap().name, "orders");
        let application = handle.application(self.application.id).unwrap();
        assert_eq!(application, self.application);
        for id in [self.prompt, self.late] {
            let row = handle.subscriptions().subscription(id).unwrap().unwrap();
            assert_eq!(
                row.state.created_at,
                Timestamp::from_millis(1_767_225_600_000)
            );
            assert_eq!(row.application_name.as_deref(), Some("shop"));
            assert!(handle.inspect(id).await.is_ok());
        }
        assert!(handle.access().token(self.token).unwrap().is_some());
        let tokens = handle.access().tokens().unwrap();
        assert!(tokens.iter().any(|token| token.revoked_at.is_some()));
    }

    fn log_entries(&self) -> usize {
        let query = DeliveryQuery::newest(self.api, 1_000);
        self.handle()
            .deliveries()
            .list(&query)
            .unwrap()
            .deliveries
            .len()
    }

    fn delivered(&self) -> u64 {
        let totals = self.handle().metrics().totals(Scope::All).unwrap();
        totals.get(Counter::Delivered)
    }

    /// Dead letters of a scope by the gauge, once every event is folded.
    async fn counted(&self, scope: Scope) -> u64 {
        let handle = self.handle();
        let metrics = handle.metrics();
        let metrics = metrics.at(handle.log().head(), Duration::from_hours(1));
        metrics.await.unwrap().gauges(scope).unwrap().dead_letters
    }

    /// Dead letters that are listed.
    fn listed(&self) -> u64 {
        self.handle().dead_letters().count(self.api).unwrap()
    }

    fn assert_nothing_sent_twice(&self) {
        let calls = self.test.transport().calls();
        let different: HashSet<_> = calls.iter().map(|c| (c.subscription, c.message)).collect();
        assert_eq!(calls.len(), different.len());
    }
}

/// Messages of two phases; some of the first are delivered in the second.
async fn with_history(data: &Path, options: fn(Builder) -> Builder) -> World {
    let world = World::start(data, options).await;
    world.publish(30).await;
    world.next_phase().await;
    world
        .handle()
        .resume_subscription(world.late)
        .await
        .unwrap();
    world.publish(20).await;
    world
}

#[tokio::test]
async fn what_is_old_and_dealt_with_goes_and_everything_else_stands() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), on_demand).await;
    let handle = world.handle();
    assert_eq!(world.log_entries(), 100);
    let delivered = world.delivered();
    let due = handle.retention().await.unwrap();
    assert_eq!((due.held_by.len(), due.plan.segments.len()), (0, 1));

    let old = DeliveryQuery::newest(world.api, 1_000);
    let old = handle
        .deliveries()
        .list(&old)
        .unwrap()
        .deliveries
        .pop()
        .unwrap();
    let done = handle.apply_retention().await.unwrap();
    assert_eq!(done.first, due.plan.last().unwrap().next());
    let again = handle.redeliver(old.id).await;
    assert!(matches!(again, Err(ControlError::UnknownDelivery(_))));
    assert_eq!(handle.log().first_position(), done.first);
    assert_eq!(
        world.log_entries(),
        40,
        "entries of the first phase are gone"
    );
    assert_eq!(world.delivered(), delivered, "totals are not");
    assert_eq!(handle.dead_letters().count(world.api).unwrap(), 6);
    world.assert_stands().await;
    assert!(handle.log().verify(|_| {}).unwrap().is_sound());

    world.publish(10).await;
    assert_eq!(world.log_entries(), 60);
    world.assert_nothing_sent_twice();
    world.test.shutdown().await;

    let hooklog = |args: &[&str]| {
        let mut command = client(data.path());
        command
            .args(args)
            .arg("--data")
            .arg(data.path())
            .output()
            .unwrap()
    };
    let verified = hooklog(&["verify"]);
    assert!(verified.status.success(), "{verified:?}");
    let replayed = hooklog(&["replay", "--until", "3"]);
    let said = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert!(said.contains("retention has cut the log"), "{said}");
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended_though_the_log_was_cut_between() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), on_demand).await;
    world.publish(10).await;
    let handle = world.handle();
    let list = |cursor: Option<Cursor>, limit| {
        let newest = DeliveryQuery::newest(world.api, limit);
        let query = DeliveryQuery { cursor, ..newest };
        handle.deliveries().list(&query).unwrap()
    };
    let ids = |page: &DeliveryPage| page.deliveries.iter().map(|row| row.id).collect::<Vec<_>>();
    let (newest, nearly_all) = (list(None, 10), list(None, 115));
    assert!(newest.next.is_some() && nearly_all.next.is_some());

    handle.apply_retention().await.unwrap();
    let left = list(None, 1_000);
    assert_eq!(left.deliveries.len(), 60);
    assert_eq!(ids(&left)[..10], ids(&newest));
    let ordinal = |page: &DeliveryPage| page.deliveries[0].ordinal;
    assert!(ordinal(&left) < ordinal(&newest), "they are counted anew");

    let second = list(newest.next.clone(), 10);
    assert_eq!(ids(&second), ids(&left)[10..20]);
    let rest = list(second.next, 1_000);
    assert_eq!(ids(&rest), ids(&left)[20..]);
    let gone = list(nearly_all.next, 1_000);
    assert!(gone.deliveries.is_empty() && gone.next.is_none());
    world.test.shutdown().await;
}

#[tokio::test]
async fn dead_letters_that_are_cut_off_are_counted_no_more() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), on_demand).await;
    let handle = world.handle();
    let kept = handle.dead_letters().count(world.api).unwrap();
    handle.apply_retention().await.unwrap();
    let left = handle.dead_letters().count(world.api).unwrap();
    assert!(0 < left && left < kept, "{left} of {kept}");
    let metrics = handle.metrics();
    let metrics = metrics.at(handle.log().head(), Duration::from_hours(1));
    let metrics = metrics.await.unwrap();
    let counted = |scope| metrics.gauges(scope).unwrap().dead_letters;
    assert_eq!(counted(Scope::All), left);
    assert_eq!(counted(Scope::Api(world.api)), left);
    let subscriptions = [world.prompt, world.late].map(Scope::Subscription);
    assert_eq!(subscriptions.map(counted).iter().sum::<u64>(), left);
    assert_eq!(metrics.gauges(Scope::All).unwrap().backlog, 0);
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_cut_that_could_not_be_made_takes_no_dead_letter_off_the_gauge() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), on_demand).await;
    let handle = world.handle();
    let kept = world.listed();
    let due = handle.retention().await.unwrap().plan;
    let first = due.last().unwrap().next();
    // A file stands where the origin is to be.
    let origins = data.path().join("origin");
    fs::create_dir_all(&origins).unwrap();
    let place = origins.join(format!("{:020}", first.get()));
    fs::write(&place, "").unwrap();
    handle.apply_retention().await.unwrap_err();
    assert_eq!(world.listed(), kept);
    assert_eq!(world.counted(Scope::All).await, kept);

    fs::remove_file(&place).unwrap();
    handle.apply_retention().await.unwrap();
    let left = world.listed();
    assert!(0 < left && left < kept, "{left} of {kept}");
    assert_eq!(world.counted(Scope::All).await, left);
    world.test.shutdown().await;
}

#[tokio::test]
async fn dead_letters_of_a_deleted_api_are_counted_no_more() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), on_demand).await;
    let handle = world.handle();
    let other = handle.create_api(Api::named("returns")).await.unwrap().id;
    let mut subscription = Subscription::to("https://example.com/returns").unwrap();
    subscription.application = world.application.id;
    handle.subscribe(other, subscription).await.unwrap();
    world.test.transport().answer(|_| FakeAnswer::Status(400));
    let give_up = async |api: ApiId| {
        let refused = Message::text("refused");
        handle.publish(api, refused).await.unwrap();
        world.test.settle().await;
    };
    give_up(other).await;
    give_up(world.api).await;
    for id in [world.prompt, world.late] {
        handle.close(id).await.unwrap();
    }
    assert_eq!(world.counted(Scope::All).await, 2, "they are listed still");
    handle.delete_api(world.api).await.unwrap();
    for (scope, left) in [
        (Scope::All, 1),
        (Scope::Api(other), 1),
        (Scope::Api(world.api), 0),
        (Scope::Subscription(world.prompt), 0),
    ] {
        assert_eq!(world.counted(scope).await, left, "{scope:?}");
    }

    // A cut that takes them takes none of others off.
    world.next_phase().await;
    give_up(other).await;
    let first = handle.log().first_position();
    assert!(handle.apply_retention().await.unwrap().first > first);
    assert_eq!(handle.dead_letters().count(other).unwrap(), 1);
    assert_eq!(world.counted(Scope::All).await, 1);
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_dead_letter_that_comes_after_its_api_was_deleted_is_not_counted() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), on_demand).await;
    let handle = world.handle();
    let transport = world.test.transport();
    transport.answer(|_| FakeAnswer::Status(400));
    transport.hold();
    handle
        .publish(world.api, Message::text("refused"))
        .await
        .unwrap();
    world.test.settle().await;
    assert_eq!(transport.held(), 1);
    for id in [world.prompt, world.late] {
        handle.close(id).await.unwrap();
    }
    handle.delete_api(world.api).await.unwrap();
    transport.release();
    world.test.settle().await;
    let happened = handle.log().read(Position::ZERO, 1_000).unwrap();
    let is_dead =
        |event: &&Arc<RecordedEvent>| event.event.event_type().as_str() == "delivery.dead_lettered";
    assert_eq!(happened.iter().filter(is_dead).count(), 1);
    assert_eq!(world.counted(Scope::All).await, 0);
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_cut_that_the_disk_has_no_room_to_tell_of_holds_up_no_other() {
    let (data, storage) = (tempfile::tempdir().unwrap(), MemoryStorage::new());
    let kept = storage.clone();
    let world = World::start(data.path(), move |builder| {
        let log = LogOptions {
            min_free_bytes: 4_000,
            ..LogOptions::with_durability(Durability::Flushed)
        };
        on_demand(builder)
            .log_options(log)
            .storage(Arc::new(kept.clone()))
    })
    .await;
    let handle = world.handle();
    handle.resume_subscription(world.late).await.unwrap();
    let mut first = handle.log().first_position();
    for _ in 0..2 {
        world.publish(15).await;
        world.next_phase().await;
        world.publish(15).await;
        storage.set_bytes_free(Some(500));
        let before = handle.log().head();
        let cut = handle.apply_retention().await.unwrap().first;
        assert!(first < cut, "{cut}");
        assert_eq!(handle.log().head(), before, "it is told of");
        first = cut;
        storage.set_bytes_free(None);
    }
    handle.apply_retention().await.unwrap();
    assert_eq!(world.counted(Scope::All).await, world.listed());
    world.test.shutdown().await;
}

#[tokio::test]
async fn g6_views_of_a_cut_log_come_back_byte_equal_without_any_cache() {
    let data = tempfile::tempdir().unwrap();
    let mut world = with_history(data.path(), on_demand).await;
    for _ in 0..3 {
        world.handle().apply_retention().await.unwrap();
        world.publish(15).await;
        let before = all_rows(&world.handle());
        world = world
            .restart(data.path(), || {
                for cache in [PROJECTIONS_DIRECTORY, "snapshots"] {
                    fs::remove_dir_all(data.path().join(cache)).unwrap();
                }
            })
            .await;
        assert_equal(&before, &all_rows(&world.handle()));
        world.assert_stands().await;
        assert!(
            world.test.transport().calls().is_empty(),
            "nothing is sent again"
        );
        world.next_phase().await;
        world.publish(5).await;
        world.assert_nothing_sent_twice();
    }
    world.test.shutdown().await;
}

/// How many messages there ever were.
struct MessagesEver;

impl Projection for MessagesEver {
    const NAME: &'static str = "messages_ever";
    const VERSION: u32 = 1;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        if recorded.event.as_published().is_some() {
            let count = rows.get(b"n")?.map_or(0, |row| row[0]);
            rows.put(b"n", [count + 1]);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_projection_of_ones_own_keeps_what_it_knows_over_a_cut() {
    let data = tempfile::tempdir().unwrap();
    let with_own = |builder| on_demand(builder).projection(MessagesEver);
    let world = with_history(data.path(), with_own).await;
    world.handle().apply_retention().await.unwrap();
    let ever = |handle: Handle| {
        let view = handle.projection::<MessagesEver>().unwrap();
        view.get(b"n").unwrap().unwrap()
    };
    assert_eq!(ever(world.handle()), [50]);
    world
        .handle()
        .rebuild("messages_ever")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ever(world.handle()), [50]);
    world.test.shutdown().await;
}

/// The same in another version.
struct MessagesEverAnew {
    adopts: bool,
}

impl Projection for MessagesEverAnew {
    const NAME: &'static str = MessagesEver::NAME;
    const VERSION: u32 = 2;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        MessagesEver.project(rows, recorded)
    }

    fn adopt(&self, _version: u32, row: Row) -> Result<Option<Row>, ProjectError> {
        if self.adopts {
            return Ok(Some(row));
        }
        Err(ProjectError::event("not these rows"))
    }
}

#[tokio::test]
async fn rows_of_another_version_are_taken_over_or_refused_and_never_left_out() {
    let data = tempfile::tempdir().unwrap();
    let with_own = |builder| on_demand(builder).projection(MessagesEver);
    let world = with_history(data.path(), with_own).await;
    world.handle().apply_retention().await.unwrap();
    let clock = world.test.clock().clone();
    world.test.shutdown().await;
    for adopts in [false, true] {
        let anew = move |builder: Builder| builder.projection(MessagesEverAnew { adopts });
        let test = TestRuntime::start_at(data.path(), clock.clone(), anew)
            .await
            .unwrap();
        test.settle().await;
        let view = test.handle().projection::<MessagesEverAnew>().unwrap();
        let seen = view
            .at(test.handle().log().head(), Duration::from_hours(1))
            .await;
        match seen {
            Ok(view) => assert_eq!(view.get(b"n").unwrap().unwrap(), [50]),
            Err(error) => assert!(error.to_string().contains("not these rows"), "{error}"),
        }
        assert_eq!(view.phase() == Phase::Running, adopts);
        test.shutdown().await;
    }
}

#[tokio::test]
async fn views_that_were_built_again_are_those_that_were_served() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), on_demand).await;
    world.handle().apply_retention().await.unwrap();
    world.test.settle().await;
    let before = all_rows(&world.handle());
    for view in world.handle().projections() {
        world.handle().rebuild(view.name).await.unwrap().unwrap();
    }
    assert_equal(&before, &all_rows(&world.handle()));
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_paused_subscription_holds_its_backlog_and_is_named() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), on_demand).await;
    world.publish(10).await;
    world.next_phase().await;
    world.publish(10).await;
    let handle = world.handle();
    let first = handle.log().first_position();
    let done = handle.apply_retention().await.unwrap();
    assert_eq!((done.first, handle.log().first_position()), (first, first));
    assert_eq!((done.plan.segments.len(), done.plan.held.len()), (0, 1));
    let kinds: Vec<_> = done
        .held_by
        .iter()
        .map(|holder| holder.kind.clone())
        .collect();
    let late = HolderKind::Backlog {
        subscription: world.late,
    };
    assert_eq!(kinds, [late]);
    assert_eq!(handle.retention().await.unwrap().held_by, done.held_by);

    handle.resume_subscription(world.late).await.unwrap();
    world.test.settle().await;
    assert_eq!(world.test.transport().calls_to(world.late).len(), 20);
    let done = handle.apply_retention().await.unwrap();
    assert!(done.first > first && done.held_by.is_empty());
    world.assert_nothing_sent_twice();
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_retry_and_a_job_hold_what_they_need() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), on_demand).await;
    let handle = world.handle();
    handle.close(world.late).await.unwrap();
    world.test.transport().answer(|_| FakeAnswer::Status(400));
    world.publish(3).await;
    world.next_phase().await;
    world.publish(3).await;
    let slow = Job {
        rate_per_second: Some(1),
        ..Job::new(
            JobKind::Redeliver,
            JobSelection::DeadLetters {
                api: world.api,
                filter: DeadLetterFilter::default(),
            },
        )
    };
    world.test.transport().answer(|_| FakeAnswer::Status(503));
    let job = handle.create_job(slow).await.unwrap().job.id;
    let job = handle.pause_job(job).await.unwrap();
    assert_eq!(job.status, JobStatus::Paused);
    world.test.settle().await;
    let done = handle.apply_retention().await.unwrap();
    let held: HashSet<_> = done
        .held_by
        .iter()
        .map(|holder| holder.kind.to_string())
        .collect();
    assert!(
        held.contains(&format!("job {} is not over", job.job.id)),
        "{held:?}"
    );
    assert!(done.plan.segments.is_empty());
    world.test.shutdown().await;
}

#[tokio::test]
async fn what_is_older_than_the_policy_goes_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let world = with_history(data.path(), options).await;
    let first = world.handle().log().first_position();
    world.test.clock().advance(Duration::from_mins(30));
    world.test.settle().await;
    assert_eq!(
        world.handle().log().first_position(),
        first,
        "it is young yet"
    );
    world.next_phase().await;
    world.test.clock().advance(Duration::from_hours(3));
    world.test.settle().await;
    assert!(world.handle().log().first_position() > first);
    assert_eq!(world.log_entries(), 40);
    world.assert_stands().await;
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_crash_behind_the_cut_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut world = with_history(data.path(), on_demand).await;
    let done = world.handle().apply_retention().await.unwrap();
    world.test.settle().await;
    let before = all_rows(&world.handle());
    let World { test, .. } = world;
    world = World {
        test: test.crash_and_reopen().await.unwrap(),
        ..world
    };
    world.test.settle().await;
    assert_equal(&before, &all_rows(&world.handle()));
    assert_eq!(world.handle().log().first_position(), done.first);
    world.publish(10).await;
    assert_eq!(world.log_entries(), 60);
    world.assert_stands().await;
    world.assert_nothing_sent_twice();
    world.test.shutdown().await;
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_cut_is_made_up_for() {
    for patience in 0..6_u32 {
        let data = tempfile::tempdir().unwrap();
        let mut world = with_history(data.path(), on_demand).await;
        let handle = world.handle();
        let cut = tokio::spawn(async move { handle.apply_retention().await });
        // As far as it gets while others have their turn: further each time.
        for _ in 0..patience * 40 {
            tokio::task::yield_now().await;
        }
        let World { test, .. } = world;
        world = World {
            test: test.crash_and_reopen().await.unwrap(),
            ..world
        };
        // It was done, or was refused because the runtime had ended.
        drop(cut.await.unwrap());
        world.test.settle().await;
        world.handle().apply_retention().await.unwrap();
        assert_eq!(world.log_entries(), 40, "patience {patience}");
        world.assert_stands().await;
        world.publish(5).await;
        world.assert_nothing_sent_twice();
        world.test.shutdown().await;
    }
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_cut_is_made_up_for() {
    let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = with_history(data.path(), on_demand).await;
    let world = world
        .restart(data.path(), || copy_directory(data.path(), copy.path()))
        .await;
    world.handle().apply_retention().await.unwrap();
    let entries = world.log_entries();
    let World { test, .. } = world;
    let clock = test.clock().clone();
    test.shutdown().await;

    // What a crash before the origin was whole leaves: the log as it was, and a draft.
    let draft = copy.path().join("origin/draft-7");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("metrics-3"), "half").unwrap();
    let test = TestRuntime::start_at(copy.path(), clock.clone(), |builder| builder);
    let world = World {
        test: test.await.unwrap(),
        ..world
    };
    world.test.settle().await;
    assert_eq!(world.log_entries(), 100);
    let kept = world.listed();
    assert_eq!(world.counted(Scope::All).await, kept);
    world.assert_stands().await;
    let World { test, .. } = world;
    test.shutdown().await;

    // What a crash behind it leaves: the origin, every segment, and views of all of them.
    copy_directory(&data.path().join("origin"), &copy.path().join("origin"));
    let test = TestRuntime::start_at(copy.path(), clock, |builder| builder);
    let world = World {
        test: test.await.unwrap(),
        ..world
    };
    world.test.settle().await;
    let handle = world.handle();
    assert_eq!(
        handle.log().first_position(),
        handle.retention().await.unwrap().first
    );
    assert!(handle.log().first_position().get() > 1);
    assert_eq!(world.log_entries(), entries);
    assert!(!draft.exists());
    let left = world.listed();
    assert!(0 < left && left < kept, "{left} of {kept}");
    assert_eq!(world.counted(Scope::All).await, left);
    world.test.clock().advance(Duration::from_mins(10));
    world.test.settle().await;
    let told = handle.log().stream_version(StreamId::log());
    assert_eq!(told, Version::FIRST, "it is told once");
    world.assert_stands().await;
    assert!(
        world.test.transport().calls().is_empty(),
        "nothing is sent again"
    );
    world.publish(10).await;
    assert_eq!(world.log_entries(), entries + 20);
    world.test.shutdown().await;
}

/// The number that a message ends with.
fn number(content: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(content);
    text.rsplit(' ').next().unwrap().parse().unwrap()
}
