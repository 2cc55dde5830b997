//! Views over the whole runtime: thrown away and built again they are the same.

use std::time::Duration;

use hooklog::{
    model::{Api, Message, Subscription},
    projection::{Projection, Row, View},
    runtime::{Handle, PROJECTIONS_DIRECTORY},
    testing::{FakeAnswer, TestRuntime},
};

fn rows<P: Projection>(view: &View<P>) -> Vec<Row> {
    view.range(Vec::new()..vec![0xff; 64], usize::MAX).unwrap()
}

fn all_rows(handle: &Handle) -> [Vec<Row>; 4] {
    [
        rows(&handle.deliveries()),
        rows(&handle.metrics()),
        rows(&handle.dead_letters()),
        rows(&handle.subscriptions()),
    ]
}

#[tokio::test]
async fn g6_views_whose_stores_were_deleted_come_back_byte_equal() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 11).await.unwrap();
    let api = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap();
    for path in ["a", "b", "c"] {
        let url = format!("https://example.com/{path}");
        test.handle()
            .subscribe(api.id, Subscription::to(&url).unwrap())
            .await
            .unwrap();
    }
    let mut count = 0;
    test.transport().answer(move |_| {
        count += 1;
        FakeAnswer::Status([200, 503, 200, 400, 204][count % 5])
    });
    for i in 0..40 {
        test.handle()
            .publish(api.id, Message::text(i.to_string()))
            .await
            .unwrap();
    }
    test.run_until_idle(Duration::from_hours(24)).await;
    let before = all_rows(&test.handle());
    assert!(before.iter().all(|rows| !rows.is_empty()));
    test.shutdown().await;

    std::fs::remove_dir_all(data.path().join(PROJECTIONS_DIRECTORY)).unwrap();
    let test = TestRuntime::start(data.path(), 12).await.unwrap();
    test.settle().await;
    let after = all_rows(&test.handle());
    assert!(before == after, "rows differ after they were built again");
    test.shutdown().await;
}
