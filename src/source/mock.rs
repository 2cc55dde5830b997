//! Made-up messages at a steady pace.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Intake, MessageSource, SourceError};
use crate::model::{Coordinate, Message, MockSource};

/// The partition that mock messages count in.
const PARTITION: &str = "mock";

/// Publishes one message an interval, and goes on after a restart where it stopped.
#[derive(Debug)]
pub struct Mock {
    settings: MockSource,
}

impl Mock {
    /// A mock source with these settings.
    pub fn new(settings: MockSource) -> Self {
        Self { settings }
    }

    fn message(&self, offset: u64) -> Message {
        let content = self.settings.message_content.clone();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&content).is_ok();
        let mut message = Message::text(content);
        if is_json {
            "application/json".clone_into(&mut message.content_type);
        }
        message.headers.clone_from(&self.settings.headers);
        message.coordinate = Some(Coordinate {
            partition: PARTITION.to_owned(),
            offset,
        });
        message
    }
}

impl MessageSource for Mock {
    fn run(&mut self, intake: Intake) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let interval = Duration::from_millis(self.settings.message_interval_ms);
            let end = self.settings.message_count.unwrap_or(u64::MAX);
            let mut offset = intake.offset(PARTITION).map_or(0, |last| last + 1);
            let mut pause = intake.clock().sleep(Duration::ZERO);
            while offset < end {
                (&mut pause).await;
                intake.publish(self.message(offset)).await?;
                offset += 1;
                pause = intake.clock().sleep(interval);
            }
            Ok(())
        })
    }
}
