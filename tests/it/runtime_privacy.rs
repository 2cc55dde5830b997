//! What must not enter the log does not.

use hooklog::{
    log::RecordedEvent,
    model::{Api, ApiId, Message, Position, Subscription},
    projection::deliveries::{DeliveryFilter, DeliveryQuery},
    testing::{FakeAnswer, TestRuntime},
};

/// Every event about deliveries as text.
fn told(test: &TestRuntime) -> String {
    let mut events = test.handle().log().read(Position::ZERO, 1_000).unwrap();
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

    let told = told(&test);
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
