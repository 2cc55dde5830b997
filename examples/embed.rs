//! A gateway inside a program: one API, one subscription, one message, and what became of it.
//!
//! The callback is a small server on a free port of this machine; the data directory is a
//! temporary one.

use std::{error::Error, iter, time::Duration};

use hooklog::{
    Api, Message, Runtime, Subscription,
    clock::SystemClock,
    delivery::Egress,
    model::{DeliveryId, Position},
    testing::callback::{Answer, CallbackServer},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let callback = CallbackServer::start(SystemClock::shared(), |call| {
        let id = call.header("webhook-id").unwrap_or("-");
        println!("callback   got {:?} with webhook-id {id}", call.body);
        Answer::ok()
    })
    .await?;

    let data = tempfile::tempdir()?;
    let runtime = Runtime::builder(data.path())
        .egress(Egress::loopback()) // without it: https to public addresses alone
        .start()
        .await?;
    let handle = runtime.handle();
    let api = handle.create_api(Api::named("orders")).await?;
    let hook = Subscription::to(callback.url("/hook").as_str())?;
    let hook = handle.subscribe(api.id, hook).await?;

    let order = serde_json::json!({ "order": 17, "state": "paid" });
    let receipt = handle.publish(api.id, Message::json(&order)?).await?;
    println!("publisher  is told position {}", receipt.position());

    // A delivery is in the webhook log once its first call has ended.
    let (deliveries, delivery) = (handle.deliveries(), DeliveryId::of(receipt.id(), hook.id));
    let mut seen = Position::ZERO;
    let row = loop {
        seen = deliveries.changed(seen).await?;
        if let Some(row) = deliveries.delivery(delivery)? {
            break row;
        }
    };
    let (outcome, status) = (row.outcome.as_str(), row.status);
    println!("delivery   {outcome} with status {status}");
    for position in iter::once(receipt.position()).chain(row.events.iter()) {
        if let Some(recorded) = handle.log().get_async(position).await? {
            println!("because    {position} {}", recorded.event.event_type());
        }
    }
    runtime.shutdown(Duration::from_secs(8)).await;
    Ok(())
}
