//! Jobs and test messages, over HTTP.

use std::time::Duration;

use hooklog::{
    model::{Api, ErrorClass, Message, Role, Subscription},
    testing::{FakeAnswer, Still},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::gateway::Served;

struct World {
    served: Served,
    api: String,
    subscription: String,
}

/// A subscription whose callback refused so many messages, and takes them now.
async fn with_dead_letters(data: &tempfile::TempDir, count: usize) -> World {
    let served = Served::start(data.path()).await;
    let handle = served.test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook?token=abc").unwrap();
    let subscription = handle.subscribe(api, subscription).await.unwrap().id;
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let messages = (0..count).map(|i| Message::text(format!("{i}"))).collect();
    handle.publish_batch(api, messages).await.unwrap();
    served.test.settle().await;
    served.test.transport().answer(|_| FakeAnswer::Status(200));
    World {
        served,
        api: api.to_string(),
        subscription: subscription.to_string(),
    }
}

impl World {
    fn dead_letters(&self, step: &str) -> String {
        format!("/v1/apis/{}/dead-letters/{step}", self.api)
    }

    fn subscription(&self, step: &str) -> String {
        format!("/v1/subscriptions/{}/{step}", self.subscription)
    }

    fn calls(&self) -> usize {
        self.served.test.transport().calls().len()
    }

    /// Lets the view of jobs fall behind. What is redelivered waits, and appends nothing beside a job.
    async fn hold_view_of_jobs(&self) -> Still {
        let (test, subscription) = (&self.served.test, self.subscription.parse().unwrap());
        test.handle().pause(subscription).await.unwrap();
        test.settle().await;
        Still::of(test.handle().jobs()).await
    }
}

#[tokio::test]
async fn dead_letters_are_counted_then_redelivered_by_a_job_that_can_be_watched() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 5).await;
    let served = &world.served;
    let path = world.dead_letters("_redeliver");
    let body = json!({"filter": {"subscription": world.subscription}, "dryRun": true});
    let counted = served.post(&path, body).await;
    assert_eq!(
        (counted.status.as_u16(), counted.json()),
        (200, json!({"count": 5}))
    );
    served.test.settle().await;
    assert_eq!(world.calls(), 5, "a dry run sends nothing");
    assert_eq!(served.get("/v1/jobs").await.json()["jobs"], json!([]));

    let create = || {
        let ask = served.ask("POST", &path).header("idempotency-key", "k-1");
        ask.json(&json!({"filter": {}, "ratePerSecond": 1}))
    };
    let created = create().send().await;
    assert_eq!(created.status, 202, "{created:?}");
    let job = created.json();
    assert_eq!(
        (&job["status"], &job["total"]),
        (&json!("running"), &json!(5))
    );
    let place = created.header("location").unwrap().to_owned();
    assert_eq!(place, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    let again = create().send().await;
    assert_eq!(again.json()["id"], job["id"]);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));

    let paused = served.post(format!("{place}/_pause"), json!({})).await;
    assert_eq!(paused.json()["status"], "paused", "{paused:?}");
    served
        .post(format!("{place}/_pause"), json!({}))
        .await
        .problem(409);
    let list = served.get("/v1/jobs?status=paused").await.json();
    assert_eq!(list["jobs"][0]["id"], job["id"]);
    let resumed = served.post(format!("{place}/_resume"), json!({})).await;
    assert_eq!(resumed.json()["status"], "running", "{resumed:?}");
    served.test.run_until_idle(Duration::from_mins(1)).await;
    let ended = served.get(&place).await.json();
    assert_eq!(ended["status"], "finished", "{ended}");
    assert_eq!(
        ended["counts"],
        json!({"done": 5, "failed": 0, "skipped": 0})
    );
    assert_eq!(world.calls(), 10);
    served
        .post(format!("{place}/_cancel"), json!({}))
        .await
        .problem(409);
    world.served.shutdown().await;
}

#[tokio::test]
async fn a_job_is_answered_as_made_and_steered_while_its_view_is_behind() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 100).await;
    let served = &world.served;
    let still = world.hold_view_of_jobs().await;

    let path = world.dead_letters("_redeliver");
    let create = || {
        let ask = served.ask("POST", &path).header("idempotency-key", "k-1");
        ask.json(&json!({"filter": {}, "ratePerSecond": 1}))
    };
    let created = create().send_without_view().await;
    assert_eq!(created.status, 202, "{created:?}");
    let job = created.json();
    assert_eq!(
        (&job["status"], &job["total"]),
        (&json!("running"), &json!(100))
    );
    assert_eq!(job.get("createdAt"), None, "{job}");
    let place = created.header("location").unwrap();
    let steer = async |step: &str| {
        let ask = served.ask("POST", format!("{place}/{step}"));
        let steered = ask.json(&json!({})).send_without_view().await;
        assert_eq!(steered.status, 200, "{step} {steered:?}");
        steered.json()["status"].clone()
    };
    assert_eq!(steer("_pause").await, "paused");
    let again = create().send_without_view().await;
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(
        (&again.json()["id"], &again.json()["status"]),
        (&job["id"], &json!("paused"))
    );
    assert_eq!(steer("_resume").await, "running");
    assert_eq!(steer("_cancel").await, "cancelled");

    still.release().await;
    served.test.settle().await;
    let jobs = served.get("/v1/jobs").await.json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    assert_eq!(jobs["jobs"][0]["status"], "cancelled", "{jobs}");
    assert!(jobs["jobs"][0]["createdAt"].is_string(), "{jobs}");
    world.served.shutdown().await;
}

#[tokio::test]
async fn a_job_that_is_over_is_told_from_its_events_while_its_view_is_behind() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 100).await;
    let served = &world.served;
    let still = world.hold_view_of_jobs().await;

    let ask = served.ask("POST", world.dead_letters("_redeliver"));
    let ask = ask.json(&json!({"filter": {}, "ratePerSecond": 1}));
    let created = ask.send_without_view().await;
    let place = created.header("location").unwrap();
    let steer = |step: &str| {
        let ask = served.ask("POST", format!("{place}/{step}"));
        ask.json(&json!({}))
    };
    let cancelled = steer("_cancel").send_without_view().await;
    assert_eq!(cancelled.json()["status"], "cancelled");
    let told = served.ask("GET", place).read_without_view().await;
    assert_eq!(told.status, 200, "{told:?}");
    steer("_pause").read_without_view().await.problem(409);

    still.release().await;
    served.test.settle().await;
    assert_eq!(served.get(place).await.json(), told.json());
    world.served.shutdown().await;
}

#[tokio::test]
async fn named_dead_letters_are_discarded_and_messages_since_a_time_sent_again() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 3).await;
    let served = &world.served;
    let letters = served
        .get(format!("/v1/apis/{}/dead-letters", world.api))
        .await;
    let delivery = letters.json()["deadLetters"][1]["delivery"].clone();
    let body = json!({"deliveries": [delivery]});
    let discarded = served
        .post(world.dead_letters("_discard"), body.clone())
        .await;
    assert_eq!(discarded.status, 202, "{discarded:?}");
    served.test.settle().await;
    let letters = served
        .get(format!("/v1/apis/{}/dead-letters", world.api))
        .await;
    assert_eq!(letters.json()["deadLetters"].as_array().unwrap().len(), 2);
    let gone = served.post(world.dead_letters("_discard"), body).await;
    assert_eq!(gone.problem(422)["errors"][0]["pointer"], "/deliveries/0");

    let body = json!({"since": "2026-01-01T00:00:00Z"});
    let sent = served.post(world.subscription("_redeliver"), body).await;
    assert_eq!(
        (sent.status.as_u16(), &sent.json()["total"]),
        (202, &json!(3))
    );
    served.test.settle().await;
    assert_eq!(world.calls(), 6);
    let listed = served.get("/v1/jobs?limit=1").await.json();
    assert_eq!(listed["jobs"][0]["id"], sent.json()["id"]);
    let rest = served
        .get(format!("/v1/jobs?cursor={}", listed["next"]))
        .await;
    assert_eq!(rest.json()["jobs"][0]["kind"], "discard", "{rest:?}");
    world.served.shutdown().await;
}

#[tokio::test]
async fn bad_jobs_are_refused_with_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 1).await;
    let served = &world.served;
    let nobody = Uuid::from_u128(7);
    let letters = |body: Value| served.post(world.dead_letters("_redeliver"), body);
    let messages = |body: Value| served.post(world.subscription("_redeliver"), body);
    let pointer = |problem: &Value| problem["errors"][0]["pointer"].as_str().unwrap().to_owned();
    let cases = [
        (json!({}), "/filter"),
        (json!({"filter": {}, "deliveries": [nobody]}), "/deliveries"),
        (json!({"filter": {}, "ratePerSecond": 0}), "/ratePerSecond"),
        (
            json!({"filter": {}, "ratePerSecond": 10_001}),
            "/ratePerSecond",
        ),
        (
            json!({"filter": {}, "ratePerSecond": "fast"}),
            "/ratePerSecond",
        ),
        (json!({"filter": {"reason": "bored"}}), "/filter/reason"),
        (json!({"deliveries": []}), "/deliveries"),
        (json!({"deliveries": vec![nobody; 1_001]}), "/deliveries"),
        (json!({"deliveries": [nobody]}), "/deliveries/0"),
        (json!({"deliveries": ["x"]}), "/deliveries/0"),
    ];
    for (body, expected) in cases {
        for dry_run in [false, true] {
            let mut body = body.clone();
            body["dryRun"] = json!(dry_run);
            let problem = letters(body.clone()).await.problem(422);
            assert_eq!(pointer(&problem), expected, "{body}");
        }
    }
    let unknown = letters(json!({"filter": {"statos": 4}})).await.problem(422);
    assert!(
        unknown["detail"].as_str().unwrap().contains("statos"),
        "{unknown}"
    );
    let until = json!({"since": "2026-01-01T00:00:02Z", "until": "2026-01-01T00:00:01Z"});
    assert_eq!(pointer(&messages(until).await.problem(422)), "/until");
    messages(json!({})).await.problem(422);
    let foreign = format!("/v1/subscriptions/{nobody}/_redeliver");
    served.post(foreign, json!({})).await.problem(404);
    served.get(format!("/v1/jobs/{nobody}")).await.problem(404);
    served.get("/v1/jobs?status=asleep").await.problem(422);
    assert_eq!(
        pointer(&served.get("/v1/jobs?cursor=x").await.problem(422)),
        "?cursor"
    );
    served.get("/v1/jobs?limit=0").await.problem(422);
    let viewer = served.token(Role::Viewer, None).await;
    let ask = served.ask("POST", world.dead_letters("_redeliver"));
    let asked = ask.token(Some(&viewer)).json(&json!({"filter": {}}));
    asked.send().await.problem(403);
    served.test.settle().await;
    assert_eq!(world.calls(), 1, "nothing was sent again");
    world.served.shutdown().await;
}

#[tokio::test]
async fn a_test_message_tells_what_came_of_its_one_call_and_disturbs_nothing() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 1).await;
    let served = &world.served;
    let head = served.test.handle().log().head();
    let test = async || {
        let ask = served.ask("POST", world.subscription("_test"));
        let answer = ask.send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let taken = test().await;
    assert_eq!(
        (&taken["status"], &taken["delivered"]),
        (&json!(200), &json!(true))
    );
    assert_eq!(taken["timings"]["totalUs"], 1_000);
    assert!(
        !taken.to_string().contains("abc"),
        "its URL is redacted: {taken}"
    );

    served.test.transport().answer(|_| FakeAnswer::Status(500));
    let refused = test().await;
    assert_eq!(
        (&refused["status"], &refused["delivered"]),
        (&json!(500), &json!(false))
    );
    assert!(
        refused.get("error").is_none(),
        "an answer is no error: {refused}"
    );
    for (class, name) in [
        (ErrorClass::Blocked, "blocked"),
        (ErrorClass::Timeout, "timeout"),
    ] {
        served
            .test
            .transport()
            .answer(move |_| FakeAnswer::Error(class));
        let failed = test().await;
        assert_eq!(
            (&failed["status"], &failed["error"]["class"]),
            (&json!(0), &json!(name))
        );
    }
    served.test.settle().await;
    assert_eq!(world.calls(), 5, "each was called once");
    let shown = served
        .get(world.subscription("").trim_end_matches('/'))
        .await
        .json();
    assert_eq!(shown["health"]["attempts"], 1, "{shown}");
    let recorded = served.test.handle().log().read(head, 100).unwrap();
    assert!(
        recorded
            .iter()
            .all(|event| event.event.as_subscription().is_none()),
        "that it was asked for is on record, and nothing else: {recorded:?}"
    );
    world.served.shutdown().await;
}

#[tokio::test]
async fn a_test_message_to_a_callback_that_hangs_holds_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let world = with_dead_letters(&data, 0).await;
    let served = &world.served;
    served.test.transport().answer(|request| {
        assert_eq!(request.message.event_type.as_deref(), Some("ping"));
        assert_eq!(&request.message.content[..], b"[1]");
        FakeAnswer::Error(ErrorClass::Timeout)
    });
    served.test.transport().hold();
    let asked = served.post(
        world.subscription("_test"),
        json!({"type": "ping", "content": [1]}),
    );
    let meanwhile = async {
        while served.test.transport().held() == 0 {
            tokio::task::yield_now().await;
        }
        served.test.settle().await;
        let paused = served.post(world.subscription("_pause"), json!({})).await;
        assert_eq!(paused.status, 200, "{paused:?}");
        served.test.transport().release();
    };
    let (answer, ()) = futures_util::future::join(asked, meanwhile).await;
    assert_eq!(answer.json()["error"]["class"], "timeout", "{answer:?}");

    let test = |body: Value| served.post(world.subscription("_test"), body);
    test(json!({"typ": "x"})).await.problem(422);
    let long = test(json!({"type": "x".repeat(257)})).await.problem(422);
    assert_eq!(long["errors"][0]["pointer"], "/type");
    let foreign = format!("/v1/subscriptions/{}/_test", Uuid::from_u128(7));
    served.post(foreign, json!({})).await.problem(404);
    let handle = served.test.handle();
    handle
        .close(world.subscription.parse().unwrap())
        .await
        .unwrap();
    test(json!({})).await.problem(404);
    world.served.shutdown().await;
}
