//! A transport of one's own: calls go to this program. Retries, log and views work as over HTTP.

use std::{error::Error, future::ready, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hooklog::{
    Api, Message, Runtime, Subscription,
    clock::{SharedClock, SystemClock},
    delivery::{AttemptRequest, Transport},
    model::{AttemptReport, AttemptResult, DeliveryId, Position, Retry, Timings},
    projection::deliveries::DeliveryOutcome,
};

struct InProcess(SharedClock);

impl Transport for InProcess {
    fn send(&self, request: AttemptRequest) -> BoxFuture<'static, AttemptReport> {
        let attempt = request.attempt.get();
        let status = if attempt == 1 { 503 } else { 200 };
        println!("call {attempt}: {:?}, {status}", request.message.content);
        Box::pin(ready(AttemptReport {
            started_at: self.0.now(),
            timings: Timings::default(),
            result: AttemptResult::Responded {
                status,
                retry_after: None,
            },
            captured: None,
        }))
    }

    fn for_worker(self: Arc<Self>) -> Arc<dyn Transport> {
        self
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = tempfile::tempdir()?;
    let transport = Arc::new(InProcess(SystemClock::shared()));
    let builder = Runtime::builder(data.path()).transport(transport);
    let runtime = builder.start().await?;
    let handle = runtime.handle();
    let mut api = Api::named("orders");
    api.entrypoint.retry = Retry::schedule([1]);
    let api = handle.create_api(api).await?;
    let hook = Subscription::to("https://consumer.example.com/")?;
    let hook = handle.subscribe(api.id, hook).await?;
    let receipt = handle.publish(api.id, Message::text("order 17")).await?;
    let (deliveries, id) = (handle.deliveries(), DeliveryId::of(receipt.id(), hook.id));
    let (mut seen, mut outcome) = (Position::ZERO, None);
    while outcome != Some(DeliveryOutcome::Delivered) {
        seen = deliveries.changed(seen).await?;
        outcome = deliveries.delivery(id)?.map(|row| row.outcome);
        println!("the webhook log, from position {seen} on: {outcome:?}");
    }
    runtime.shutdown(Duration::from_secs(8)).await;
    Ok(())
}
