//! Runs the sources of APIs, and starts them again when they fail.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime, task::AbortHandle};

use crate::{
    activity::{Activity, Busy},
    model::{Api, ApiId, ApiState, Source},
    source::{Intake, MessageSource, Mock, PublishError, SourceError},
};

/// Wait before a source that failed is started again; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest such wait: a source goes on within 5 s once a full disk has room again.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// The sources that run.
pub(super) struct Sources {
    tasks: runtime::Handle,
    activity: Activity,
    running: Mutex<HashMap<ApiId, AbortHandle>>,
}

impl Sources {
    /// None yet; they will run on this tokio runtime.
    pub(super) fn new(tasks: runtime::Handle, activity: Activity) -> Self {
        Self {
            tasks,
            activity,
            running: Mutex::default(),
        }
    }

    /// Where they run.
    pub(super) const fn tasks(&self) -> &runtime::Handle {
        &self.tasks
    }

    /// Starts, replaces or stops the source of an API, as its definition says.
    pub(super) fn update(&self, api: &Api, intake: Intake) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = running.remove(&api.id) {
            task.abort();
        }
        if api.state == ApiState::Stopped {
            return;
        }
        let source: Box<dyn MessageSource> = match &api.source {
            Source::Publish => return,
            Source::Mock(settings) => Box::new(Mock::new(settings.clone())),
        };
        let task = self
            .tasks
            .spawn(begun(run(source, intake), self.activity.begin()));
        running.insert(api.id, task.abort_handle());
    }

    /// Stops the source of an API.
    pub(super) fn remove(&self, api: ApiId) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = running.remove(&api) {
            task.abort();
        }
    }

    /// Stops every source.
    pub(super) fn stop(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.drain().for_each(|(_, task)| task.abort());
    }
}

/// Counts a source as under way until it waits for something, which then counts by itself.
async fn begun(source: impl Future<Output = ()>, busy: Busy) {
    let mut source = std::pin::pin!(source);
    let mut busy = Some(busy);
    std::future::poll_fn(|context| {
        let polled = source.as_mut().poll(context);
        busy.take();
        polled
    })
    .await;
}

async fn run(mut source: Box<dyn MessageSource>, intake: Intake) {
    let mut pause = PAUSE_FIRST;
    loop {
        match source.run(intake.clone()).await {
            Ok(()) | Err(SourceError::Publish(PublishError::Stopped { .. })) => return,
            Err(error) => {
                tracing::warn!(api = %intake.api().id, %error, "a source failed and is started again");
            }
        }
        intake.clock().sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
