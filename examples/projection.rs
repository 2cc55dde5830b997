//! A view of one's own: calls by status. It is read, and built again from the log to equal rows.

use std::{error::Error, time::Duration};

use hooklog::{
    Api, Message, Runtime, Subscription,
    clock::SystemClock,
    delivery::Egress,
    log::RecordedEvent,
    model::SubscriptionEvent,
    projection::{ProjectError, Projection, Rows},
    testing::callback::{Answer, CallbackServer},
};

/// Key: a status, as text. Value: how many calls ended with it, one byte.
struct Statuses;

impl Projection for Statuses {
    const NAME: &'static str = "statuses";
    const VERSION: u32 = 1;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let status = match recorded.event.as_subscription() {
            Some(SubscriptionEvent::AttemptSucceeded(event)) => event.attempt.status,
            Some(SubscriptionEvent::AttemptFailed(event)) => event.attempt.status,
            _ => return Ok(()),
        };
        let count = rows.edit(status.to_string().as_bytes(), || vec![0])?;
        count[0] = count[0].saturating_add(1);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let answers = [204, 202, 400, 204, 404, 200].map(Answer::status);
    let callback = CallbackServer::scripted(SystemClock::shared(), answers).await?;
    let data = tempfile::tempdir()?;
    let builder = Runtime::builder(data.path()).egress(Egress::loopback());
    let runtime = builder.projection(Statuses).start().await?;
    let handle = runtime.handle();
    let api = handle.create_api(Api::named("orders")).await?;
    let hook = Subscription::to(callback.url("/hook").as_str())?;
    handle.subscribe(api.id, hook).await?;
    let messages = (1..=20).map(|i| Message::text(format!("order {i}")));
    handle.publish_batch(api.id, messages.collect()).await?;
    handle.settle().await;
    let view = handle.projection::<Statuses>().expect("it is registered");
    view.at(handle.log().head(), Duration::from_secs(5)).await?;
    let rows = view.range(vec![0]..vec![0xff], 100)?;
    for row in &rows {
        let status = String::from_utf8_lossy(&row.key);
        println!("{status}: {} calls", row.value[0]);
    }
    println!("built again up to position {}", view.rebuild().await?);
    assert_eq!(view.range(vec![0]..vec![0xff], 100)?, rows);
    runtime.shutdown(Duration::from_secs(8)).await;
    Ok(())
}
