//! Retention, over HTTP.

use std::time::Duration;

use hooklog::{
    log::RetentionPolicy,
    model::{Api, Message, Role, Subscription},
    testing::TestRuntime,
};
use serde_json::json;

use crate::support::gateway::Served;

#[tokio::test]
async fn what_is_due_is_shown_and_goes_when_an_admin_says_so() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start_with(data.path(), 1, |builder| {
        builder.retention(RetentionPolicy {
            max_age: Some(Duration::from_hours(24)),
            max_bytes: None,
        })
    });
    let served = Served::serve(test.await.unwrap()).await;
    let handle = served.test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let subscription = Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(api, subscription).await.unwrap().id;
    handle.pause(subscription).await.unwrap();
    for _ in 0..2 {
        handle.publish(api, Message::text("x")).await.unwrap();
        served.test.clock().advance(Duration::from_hours(25));
        served.test.settle().await;
    }
    handle.publish(api, Message::text("x")).await.unwrap();

    let shown = served.get("/v1/retention").await.json();
    assert_eq!(shown["policy"], json!({"ageSecondsMax": 86_400}));
    assert_eq!((&shown["first"], &shown["due"]), (&json!(1), &json!([])));
    assert_eq!(shown["held"].as_array().unwrap().len(), 1, "{shown}");
    let holder = &shown["heldBy"][0];
    assert_eq!(
        (&holder["kind"], &holder["subscription"]),
        (&json!("backlog"), &json!(subscription))
    );
    assert!(
        holder["reason"]
            .as_str()
            .unwrap()
            .contains(&subscription.to_string())
    );

    let apply = || served.ask("POST", "/v1/retention/_apply");
    let operator = served.token(Role::Operator, None).await;
    apply().token(Some(&operator)).send().await.problem(403);
    let held = apply().send().await.json();
    assert_eq!(
        (&held["first"], &held["dropped"]),
        (&json!(1), &json!([])),
        "{held}"
    );

    handle.resume_subscription(subscription).await.unwrap();
    served.test.settle().await;
    let applied = apply().send().await.json();
    assert_eq!(applied["dropped"].as_array().unwrap().len(), 1, "{applied}");
    assert_eq!(applied["heldBy"], json!([]));
    let shown = served.get("/v1/retention").await.json();
    assert_eq!(shown["first"], applied["first"]);
    let events = served.get("/v1/events?type=log.cut").await.json();
    assert_eq!(
        events["events"][0]["data"]["first"], applied["first"],
        "{events}"
    );

    // Whoever reads on from before the cut is told where to.
    let first = applied["first"].as_u64().unwrap();
    let gone = served.get("/v1/events?from=1").await.problem(422);
    assert_eq!(gone["errors"][0]["pointer"], "?from");
    let detail = gone["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&first.to_string()), "{detail}");
    for last in [None, Some("1")] {
        let mut stream = served.open("/v1/events/stream?from=1", last).await;
        let mut seen = String::new();
        while !seen.contains(&format!("id: {first}\n")) {
            let chunk = stream.chunk().await.unwrap().unwrap();
            seen += std::str::from_utf8(&chunk).unwrap();
        }
        let told = format!("event: gone\ndata: {{\"first\":{first}}}\n\n");
        assert!(seen.starts_with(&told), "{seen}");
    }
    served.shutdown().await;
}
