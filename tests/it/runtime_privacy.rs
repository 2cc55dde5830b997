//! What must not enter the log does not.

use std::time::Duration;

use hooklog::{
    clock::SystemClock,
    delivery::Egress,
    log::RecordedEvent,
    model::{
        Api, ApiId, Auth, DeadLetterQueue, KeepFailures, Logging, Message, OAuth2, Position, Retry,
        Sampling, Secret, Subscription, SubscriptionEvent,
    },
    projection::deliveries::{DeliveryFilter, DeliveryQuery, DeliveryRow},
    runtime::{Handle, Runtime},
    testing::{
        FakeAnswer, TestRuntime,
        callback::{Answer, CallbackServer},
    },
};

/// Every event about deliveries as text.
fn told(handle: &Handle) -> String {
    let mut events = handle.log().read(Position::ZERO, 1_000).unwrap();
    events.retain(|event| is_of_delivery(event));
    format!("{events:?}")
}

fn is_of_delivery(event: &RecordedEvent) -> bool {
    let name = event.event.event_type();
    ["attempt.", "delivery.", "retry."]
        .iter()
        .any(|noun| name.as_str().starts_with(noun))
}

async fn subscribed(test: &TestRuntime, url: &str) -> ApiId {
    let api = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap();
    let subscription = Subscription::to(url).unwrap();
    test.handle().subscribe(api.id, subscription).await.unwrap();
    api.id
}

#[tokio::test]
async fn a_secret_in_a_callback_url_is_in_no_outcome_and_still_finds_its_deliveries() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 11).await.unwrap();
    let url = "https://example.com/hook?tenant=a&token=canary";
    let shown = "https://example.com/hook?tenant=a&token=[redacted]";
    let api = subscribed(&test, url).await;
    test.transport()
        .script([FakeAnswer::Status(400), FakeAnswer::Status(200)]);
    for text in ["refused", "taken"] {
        test.handle()
            .publish(api, Message::text(text))
            .await
            .unwrap();
        test.settle().await;
    }

    let told = told(&test.handle());
    assert!(
        told.contains("token=[redacted]") && !told.contains("canary"),
        "{told}"
    );
    let view = test.handle().deliveries();
    for filter in [url, shown] {
        let query = DeliveryQuery {
            filter: DeliveryFilter {
                callback_url: Some(filter.parse().unwrap()),
                ..DeliveryFilter::default()
            },
            ..DeliveryQuery::newest(api, 10)
        };
        let found = view.list(&query).unwrap().deliveries;
        assert_eq!(found.len(), 2, "{filter}");
        assert!(!format!("{found:?}").contains("canary"));
        let detail = view.detail(found[0].id).unwrap().unwrap();
        assert_eq!(detail.request.unwrap().callback_url.as_str(), shown);
    }
    let offered = view.picker_values(api, 10).unwrap().callback_urls;
    assert_eq!(offered, [shown.parse().unwrap()]);
    test.shutdown().await;
}

/// A runtime that speaks HTTP to a callback with these answers; everything is captured.
async fn captured(data: &tempfile::TempDir, api: Api, answers: &[u16]) -> (Runtime, ApiId) {
    let body = |status: &u16| Answer::status(*status).with_body(format!("canary {status}"));
    let answers: Vec<_> = answers.iter().map(body).collect();
    let callback = CallbackServer::scripted(SystemClock::shared(), answers)
        .await
        .unwrap();
    let runtime = Runtime::builder(data.path())
        .egress(Egress::loopback())
        .workers(1)
        .start()
        .await
        .unwrap();
    let handle = runtime.handle();
    let mut api = api;
    api.entrypoint.logging = Logging::ALL;
    let api = handle.create_api(api).await.unwrap();
    let subscription = Subscription::to(callback.url("/").as_str()).unwrap();
    handle.subscribe(api.id, subscription).await.unwrap();
    for _ in 0..2 {
        handle
            .publish(api.id, Message::text("hello"))
            .await
            .unwrap();
        handle.settle().await;
    }
    if let Some(row) = rows(&handle, api.id).iter().find(|row| row.status == 400) {
        handle.redeliver(row.id).await.unwrap();
        handle.settle().await;
    }
    (runtime, api.id)
}

fn rows(handle: &Handle, api: ApiId) -> Vec<DeliveryRow> {
    let page = handle.deliveries().list(&DeliveryQuery::newest(api, 10));
    page.unwrap().deliveries
}

fn unsampled(keep_failures: bool) -> Api {
    let mut api = Api::named("orders");
    api.analytics.sampling = Sampling::Probability(0.0);
    api.analytics.keep_failures = KeepFailures(keep_failures);
    api
}

#[tokio::test]
async fn of_a_call_without_an_entry_nothing_captured_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let (runtime, api) = captured(&data, unsampled(false), &[400, 200]).await;
    let told_of = told(&runtime.handle());
    assert!(
        told_of.contains("status: 400") && told_of.contains("status: 200"),
        "{told_of}"
    );
    assert!(!told_of.contains("captured: Some"), "{told_of}");
    assert!(rows(&runtime.handle(), api).is_empty());
    runtime.shutdown(Duration::from_secs(1)).await;

    let data = tempfile::tempdir().unwrap();
    let (runtime, api) = captured(&data, unsampled(true), &[400, 200, 200]).await;
    let captured = told(&runtime.handle()).matches("captured: Some").count();
    assert_eq!((captured, rows(&runtime.handle(), api).len()), (1, 1));
    runtime.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_detail_shows_what_was_captured_of_each_attempt() {
    let data = tempfile::tempdir().unwrap();
    let (runtime, api) = captured(&data, Api::named("orders"), &[400, 200, 201]).await;
    let handle = runtime.handle();
    let row = rows(&handle, api)
        .into_iter()
        .find(|row| row.attempts == 2)
        .unwrap();
    let detail = handle.deliveries().detail(row.id).unwrap().unwrap();
    let bodies: Vec<_> = detail
        .attempts
        .into_iter()
        .map(|attempt| attempt.captured.unwrap().response.body.unwrap().bytes)
        .collect();
    assert_eq!(bodies, [b"canary 400", b"canary 201"]);
    runtime.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_secret_in_the_url_of_a_dead_letter_queue_is_in_no_reason() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 11).await.unwrap();
    let mut api = Api::named("orders");
    let url = "https://dlq.example.com/?key=canary".parse().unwrap();
    api.entrypoint.dlq = DeadLetterQueue::Http { url };
    let api = test.handle().create_api(api).await.unwrap();
    let subscription = Subscription::to("https://example.com/").unwrap();
    test.handle().subscribe(api.id, subscription).await.unwrap();
    test.transport().answer(|_| FakeAnswer::Status(400));
    test.handle()
        .publish(api.id, Message::text("refused"))
        .await
        .unwrap();
    test.settle().await;
    let events = test.handle().log().read(Position::ZERO, 1_000).unwrap();
    let reason = events
        .iter()
        .find_map(|event| match event.event.as_subscription() {
            Some(SubscriptionEvent::DeadLetterForwardFailed(failed)) => Some(&failed.reason),
            _ => None,
        });
    assert_eq!(
        reason.unwrap(),
        "https://dlq.example.com/?key=[redacted] answered 400"
    );
    test.shutdown().await;
}

/// A subscription to this callback that gets its tokens at this endpoint.
fn with_tokens(callback: &CallbackServer, endpoint: &CallbackServer) -> Subscription {
    let mut subscription = Subscription::to(callback.url("/").as_str()).unwrap();
    subscription.configuration.retry = Some(Retry::none());
    subscription.configuration.auth = Auth::Oauth2(OAuth2 {
        endpoint: endpoint.url("/token"),
        client_id: "c".to_owned(),
        client_secret: Secret::new("canary-secret"),
        scopes: Vec::new(),
    });
    subscription
}

#[tokio::test]
async fn neither_client_secret_nor_token_is_in_an_event() {
    let server = async |answers: Vec<Answer>| {
        let started = CallbackServer::scripted(SystemClock::shared(), answers);
        started.await.unwrap()
    };
    let callback = server([401, 200].map(Answer::status).into()).await;
    let issuing = Answer::status(200).with_body(r#"{"access_token":"canary-token"}"#);
    let issuing = server(vec![issuing]).await;
    let echo = r#"{"error":"canary-secret","error_description":"canary-secret"}"#;
    let echoing = server(vec![Answer::status(400).with_body(echo)]).await;
    let data = tempfile::tempdir().unwrap();
    let builder = Runtime::builder(data.path()).egress(Egress::loopback());
    let runtime = builder.workers(1).start().await.unwrap();
    let handle = runtime.handle();
    let mut api = Api::named("orders");
    api.entrypoint.logging = Logging::ALL;
    let api = handle.create_api(api).await.unwrap();
    for endpoint in [&issuing, &echoing] {
        let subscription = with_tokens(&callback, endpoint);
        handle.subscribe(api.id, subscription).await.unwrap();
    }
    let message = Message::text("hello");
    handle.publish(api.id, message).await.unwrap();
    handle.settle().await;

    assert_eq!(
        (issuing.count(), echoing.count(), callback.count()),
        (2, 1, 2)
    );
    let events = handle.log().read(Position::ZERO, 1_000).unwrap();
    let told = format!("{events:?}");
    assert!(told.contains("token endpoint: answered 400"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    runtime.shutdown(Duration::from_secs(1)).await;
}
