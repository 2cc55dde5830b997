//! Time travel: a log that a gateway left behind is opened alone, and the views are shown as they
//! were after each of its events.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use hooklog::{
    Api, Message, Runtime, Subscription,
    clock::SystemClock,
    delivery::Egress,
    log::{EventLog, FeedItem, FeedStart, Filter},
    model::{ApiId, DeliveryId},
    projection::{ReplayUntil, SharedHistory, replay},
    testing::callback::{Answer, CallbackServer},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = tempfile::tempdir()?;
    let (api, delivery) = make_history(data.path()).await?;

    let log = EventLog::open_read_only(data.path())?;
    let (history, clock): (SharedHistory, _) = (Arc::new(log.clone()), SystemClock::shared());
    let mut feed = log.follow(FeedStart::Beginning, Filter::all());
    while let Some(item) = feed.next_now()? {
        let FeedItem::Event(recorded) = item else {
            continue;
        };
        let until = ReplayUntil::Position(recorded.position);
        let then = replay(Arc::clone(&history), until, &clock)?;
        let row = then.deliveries.delivery(delivery)?;
        println!(
            "{:>2}  {:<22}  delivery: {:<13}  dead letters: {}",
            recorded.position,
            recorded.event.event_type().as_str(),
            row.map_or("-", |row| row.outcome.as_str()),
            then.dead_letters.count(api)?,
        );
    }
    Ok(())
}

/// A message that is refused, goes to the dead letters, and is taken when it is sent again.
async fn make_history(data: &Path) -> Result<(ApiId, DeliveryId), Box<dyn Error>> {
    let answers = [Answer::status(400), Answer::ok()];
    let callback = CallbackServer::scripted(SystemClock::shared(), answers).await?;
    let builder = Runtime::builder(data).egress(Egress::loopback());
    let runtime = builder.start().await?;
    let handle = runtime.handle();
    let api = handle.create_api(Api::named("orders")).await?;
    let hook = Subscription::to(callback.url("/hook").as_str())?;
    let hook = handle.subscribe(api.id, hook).await?;
    let receipt = handle.publish(api.id, Message::text("order 17")).await?;
    let delivery = DeliveryId::of(receipt.id(), hook.id);
    handle.settle().await;
    handle.redeliver(delivery).await?;
    handle.settle().await;
    runtime.shutdown(Duration::from_secs(8)).await;
    Ok((api.id, delivery))
}
