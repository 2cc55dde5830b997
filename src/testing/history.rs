//! Seeded random histories that a gateway could have lived: every event is one that may follow
//! those before it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    log::{RecordedEvent, StreamId},
    model::{
        Api, ApiCreated, ApiId, ApiStarted, ApiStopped, ApiUpdated, Application,
        ApplicationCreated, ApplicationId, AttemptError, AttemptFailed, AttemptNumber,
        AttemptRecord, AttemptSucceeded, CallbackUrl, CircuitClosed, CircuitOpened, ConsumerStatus,
        DeadLetterForwardFailed, DeadLetterForwarded, DeadLetterQueue, DeadLetterReason,
        DeliveryDeadLettered, DeliveryDiscarded, DeliveryFiltered, DeliveryRedelivered,
        DiscardReason, Draws, ErrorClass, Event, FailureCause, FilterReason, KeepFailures,
        MessageId, MessagePublished, MessageRef, Method, Moment, Position, RetryAfter,
        RetryScheduled, Sampler, Sampling, Subscription, SubscriptionClosed, SubscriptionCreated,
        SubscriptionFailed, SubscriptionHeld, SubscriptionId, SubscriptionPaused,
        SubscriptionRecovered, SubscriptionResumed, SubscriptionUpdated, Timestamp, Timings,
        Version,
    },
};

/// How large a history is to be.
#[derive(Debug, Clone)]
pub struct HistoryOptions {
    /// APIs, at least 1.
    pub apis: usize,
    /// Applications, at least 1.
    pub applications: usize,
    /// Subscriptions, spread over APIs and applications.
    pub subscriptions: usize,
    /// Events in all, at least those of the above.
    pub events: usize,
    /// Which messages get a log entry. Every other API keeps no failures beyond its sample.
    pub sampling: Sampling,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            apis: 2,
            applications: 3,
            subscriptions: 6,
            events: 1_000,
            sampling: Sampling::All,
        }
    }
}

/// The history of this seed: the same seed and options give the same events.
pub fn generate(seed: u64, options: &HistoryOptions) -> Vec<Arc<RecordedEvent>> {
    let mut generator = Generator::new(seed, options);
    while generator.events.len() < options.events {
        generator.step();
    }
    generator.events
}

/// Makes a history event by event.
#[derive(Debug)]
pub struct Generator {
    draws: Draws,
    now: Timestamp,
    events: Vec<Arc<RecordedEvent>>,
    versions: HashMap<StreamId, Version>,
    apis: Vec<ApiState>,
    subscriptions: Vec<SubscriptionState>,
}

#[derive(Debug)]
struct ApiState {
    api: Api,
    sampler: Sampler,
    stopped: bool,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a made-up life"
)]
struct SubscriptionState {
    definition: Subscription,
    /// Deliveries that wait for a call.
    open: Vec<OpenDelivery>,
    dead: Vec<OpenDelivery>,
    done: Vec<OpenDelivery>,
    paused: bool,
    failed: bool,
    closed: bool,
    circuit_open: bool,
}

#[derive(Debug, Clone)]
struct OpenDelivery {
    message: MessageRef,
    attempts: u32,
    status: u16,
    error: Option<AttemptError>,
}

impl Generator {
    /// A history of APIs, applications and subscriptions alone.
    pub fn new(seed: u64, options: &HistoryOptions) -> Self {
        let start = Timestamp::from_millis(1_772_600_000_000);
        let mut generator = Self {
            draws: Moment::new(start, seed.into()).draws(),
            now: start,
            events: Vec::new(),
            versions: HashMap::new(),
            apis: Vec::new(),
            subscriptions: Vec::new(),
        };
        for index in 0..options.apis.max(1) {
            generator.create_api(index, &options.sampling);
        }
        let applications: Vec<_> = (0..options.applications.max(1))
            .map(|index| generator.create_application(index))
            .collect();
        for index in 0..options.subscriptions {
            let application = applications[index % applications.len()];
            generator.create_subscription(index, application);
        }
        generator
    }

    /// The events so far.
    pub fn events(&self) -> &[Arc<RecordedEvent>] {
        &self.events
    }

    /// Lets one more thing happen, which may be several events or none.
    pub fn step(&mut self) {
        let pause_ms = if self.one_in(50) { 90_000 } else { 400 };
        self.now = self
            .now
            .plus(Duration::from_millis(self.draws.below(pause_ms)));
        match self.draws.below(100) {
            0..30 => self.publish(),
            30..92 => self.deliver(),
            92..94 => self.after_the_end(),
            94..95 => self.change_api(),
            _ => self.change_subscription(),
        }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.draws.below(n) == 0
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.draws.below(count as u64)).expect("below a usize")
    }

    fn moment(&mut self) -> Moment {
        let high = u128::from(self.draws.next_u64());
        let low = u128::from(self.draws.next_u64());
        Moment::new(self.now, high << 64 | low)
    }

    fn record(&mut self, stream: StreamId, event: impl Into<Event>) -> (Position, Version) {
        let last = self
            .events
            .last()
            .map_or(Position::ZERO, |event| event.position);
        let version = self.versions.entry(stream).or_default();
        *version = version.next();
        let recorded = RecordedEvent {
            position: last.next(),
            stream,
            version: *version,
            time: self.now,
            event: event.into(),
        };
        let place = (recorded.position, recorded.version);
        self.events.push(Arc::new(recorded));
        place
    }

    fn create_api(&mut self, index: usize, sampling: &Sampling) {
        let mut api = Api::named(format!("api {index}"));
        api.id = ApiId::from_moment(&self.moment());
        api.analytics.sampling = sampling.clone();
        api.analytics.keep_failures = KeepFailures(index.is_multiple_of(2));
        let created = ApiCreated {
            api: Box::new(api.clone()),
        };
        self.record(StreamId::api(api.id), created);
        self.apis.push(ApiState {
            sampler: Sampler::new(sampling),
            api,
            stopped: false,
        });
    }

    fn create_application(&mut self, index: usize) -> ApplicationId {
        let mut application = Application::named(format!("application {index}"));
        application.id = ApplicationId::from_moment(&self.moment());
        let id = application.id;
        self.record(
            StreamId::application(id),
            ApplicationCreated { application },
        );
        id
    }

    fn create_subscription(&mut self, index: usize, application: ApplicationId) {
        let api = self.apis[index % self.apis.len()].api.id;
        let url = format!("https://receiver-{}.example.com/hook", index % 4);
        let mut definition = Subscription::to(&url).expect("a good URL").by(application);
        definition.id = SubscriptionId::from_moment(&self.moment());
        definition.api = api;
        let messages = self.versions.get(&StreamId::messages(api));
        let created = SubscriptionCreated {
            subscription: Box::new(definition.clone()),
            cursor: messages.copied().unwrap_or_default(),
        };
        self.record(StreamId::subscription(definition.id), created);
        self.subscriptions.push(SubscriptionState {
            definition,
            open: Vec::new(),
            dead: Vec::new(),
            done: Vec::new(),
            paused: false,
            failed: false,
            closed: false,
            circuit_open: false,
        });
    }

    fn publish(&mut self) {
        let index = self.pick(self.apis.len());
        if self.apis[index].stopped {
            return;
        }
        let moment = self.moment();
        let state = &mut self.apis[index];
        let api = state.api.id;
        let message = MessagePublished {
            id: MessageId::from_moment(&moment),
            content: "{}".into(),
            content_type: "application/json".to_owned(),
            event_type: None,
            channel: None,
            key: None,
            headers: Vec::new(),
            coordinate: None,
            sampled: state.sampler.take(&moment),
        };
        let id = message.id;
        let (position, version) = self.record(StreamId::messages(api), message);
        let message = MessageRef {
            version,
            position,
            id,
            accepted_at: self.now,
        };
        for index in 0..self.subscriptions.len() {
            let subscription = &self.subscriptions[index].definition;
            if subscription.api == api && !self.subscriptions[index].closed {
                self.meet(index, message);
            }
        }
    }

    fn meet(&mut self, index: usize, message: MessageRef) {
        if self.one_in(20) {
            let filtered = DeliveryFiltered {
                first: message.version,
                last: message.version,
                reason: FilterReason::default(),
            };
            self.record(self.stream(index), filtered);
        } else {
            self.subscriptions[index].open.push(OpenDelivery {
                message,
                attempts: 0,
                status: 0,
                error: None,
            });
        }
    }

    fn stream(&self, index: usize) -> StreamId {
        StreamId::subscription(self.subscriptions[index].definition.id)
    }

    fn deliver(&mut self) {
        let start = self.pick(self.subscriptions.len().max(1));
        let count = self.subscriptions.len();
        let busy = (0..count).map(|step| (start + step) % count).find(|index| {
            let state = &self.subscriptions[*index];
            !state.open.is_empty() && !state.paused && !state.failed && !state.closed
        });
        let Some(index) = busy else { return };
        let which = self.pick(self.subscriptions[index].open.len());
        let mut delivery = self.subscriptions[index].open.swap_remove(which);
        if self.one_in(60) {
            return self.give_up(index, delivery, DeadLetterReason::DeadlinePassed);
        }
        delivery.attempts += 1;
        if self.draws.below(100) < 65 {
            self.succeed(index, delivery);
        } else {
            self.fail(index, delivery);
        }
    }

    fn call(&mut self, index: usize, delivery: &OpenDelivery, status: u16) -> AttemptRecord {
        let power = self.draws.below(24);
        let total_us = 50 + u32::try_from(self.draws.below(1 << power)).expect("below 2^24");
        let took = Duration::from_micros(total_us.into());
        let started_at = self.now;
        self.now = self.now.plus(took);
        let probe = self.subscriptions[index].circuit_open;
        let url = self.subscriptions[index]
            .definition
            .configuration
            .callback_url
            .clone();
        AttemptRecord {
            message: delivery.message,
            number: AttemptNumber::new(delivery.attempts),
            probe,
            former_callback: false,
            started_at,
            timings: Timings {
                total_us,
                ..Timings::default()
            },
            method: Method::Post,
            callback_url: url.expect("every subscription here names one"),
            status,
            captured: None,
        }
    }

    fn succeed(&mut self, index: usize, mut delivery: OpenDelivery) {
        let status = [200, 201, 202, 204][self.pick(4)];
        let attempt = self.call(index, &delivery, status);
        self.record(self.stream(index), AttemptSucceeded { attempt });
        self.close_circuit(index);
        delivery.status = status;
        delivery.error = None;
        let state = &mut self.subscriptions[index];
        state.dead.retain(|dead| dead.message != delivery.message);
        state.done.push(delivery);
    }

    fn close_circuit(&mut self, index: usize) {
        if std::mem::take(&mut self.subscriptions[index].circuit_open) {
            self.record(self.stream(index), CircuitClosed {});
        }
    }

    fn fail(&mut self, index: usize, mut delivery: OpenDelivery) {
        let status = [0, 0, 400, 404, 429, 500, 502, 503][self.pick(8)];
        let error = (status == 0).then(|| {
            let class = ErrorClass::ALL[self.pick(ErrorClass::ALL.len())];
            AttemptError::new(class, "made up")
        });
        let attempt = self.call(index, &delivery, status);
        let probe = attempt.probe;
        delivery.status = status;
        delivery.error.clone_from(&error);
        self.record(self.stream(index), AttemptFailed { attempt, error });
        match status {
            400 | 404 => self.give_up(index, delivery, DeadLetterReason::Refused),
            // The callback is still down: a probe leaves the plan as it was.
            _ if probe => self.subscriptions[index].open.push(delivery),
            _ if delivery.attempts >= 4 => {
                self.give_up(index, delivery, DeadLetterReason::AttemptsSpent);
            }
            _ => self.retry(index, delivery),
        }
    }

    fn retry(&mut self, index: usize, delivery: OpenDelivery) {
        if delivery.status == 429 {
            let retry_after = RetryAfter::from_seconds(5);
            let held = SubscriptionHeld {
                until: self.now.plus(retry_after.duration()),
                retry_after,
                status: 429,
            };
            self.record(self.stream(index), held);
        } else if !self.subscriptions[index].circuit_open && self.one_in(10) {
            self.subscriptions[index].circuit_open = true;
            let opened = CircuitOpened {
                failures: 10,
                probe_at: self.now.plus(Duration::from_secs(30)),
                pause_ms: 30_000,
            };
            self.record(self.stream(index), opened);
        }
        let delay_ms = 1_000 + self.draws.below(10_000);
        let scheduled = RetryScheduled {
            message: delivery.message,
            attempt: AttemptNumber::new(delivery.attempts + 1),
            due_at: self.now.plus(Duration::from_millis(delay_ms)),
            delay_ms,
        };
        self.record(self.stream(index), scheduled);
        self.subscriptions[index].open.push(delivery);
    }

    fn give_up(&mut self, index: usize, delivery: OpenDelivery, reason: DeadLetterReason) {
        let stream = self.stream(index);
        match self.draws.below(10) {
            0 => {
                self.record(stream, discarded(&delivery, DiscardReason::OnFailure));
            }
            1 => self.interrupt(index, delivery, reason),
            _ => {
                let dead = self.dead_lettered(&delivery, reason);
                self.record(stream, dead);
                let state = &mut self.subscriptions[index];
                state.dead.retain(|dead| dead.message != delivery.message);
                state.dead.push(delivery);
            }
        }
    }

    fn dead_lettered(
        &mut self,
        delivery: &OpenDelivery,
        reason: DeadLetterReason,
    ) -> DeliveryDeadLettered {
        let url: CallbackUrl = "https://dead.example.com/".parse().expect("a good URL");
        let fault = delivery.error.as_ref().map(AttemptError::fault);
        DeliveryDeadLettered {
            message: delivery.message,
            reason,
            fault: fault.unwrap_or(crate::model::Fault::Receiver),
            attempts: delivery.attempts,
            status: delivery.status,
            error: delivery.error.clone(),
            target: match self.draws.below(3) {
                0 => DeadLetterQueue::Http { url },
                1 => DeadLetterQueue::Api {
                    api: self.apis[0].api.id,
                },
                _ => DeadLetterQueue::Embedded,
            },
        }
    }

    fn interrupt(&mut self, index: usize, delivery: OpenDelivery, reason: DeadLetterReason) {
        let failed = SubscriptionFailed {
            consumer_status: ConsumerStatus::Failure,
            cause: FailureCause::GivenUp {
                reason,
                attempts: delivery.attempts,
                status: delivery.status,
                error: delivery.error.clone(),
            },
            message: Some(delivery.message),
        };
        self.record(self.stream(index), failed);
        let state = &mut self.subscriptions[index];
        state.failed = true;
        state.open.push(delivery);
    }

    /// What may happen to deliveries that had come to an end.
    fn after_the_end(&mut self) {
        if self.subscriptions.is_empty() {
            return;
        }
        let index = self.pick(self.subscriptions.len());
        let stream = self.stream(index);
        if self.subscriptions[index].closed {
            return;
        }
        if self.one_in(4) && !self.subscriptions[index].done.is_empty() {
            let which = self.pick(self.subscriptions[index].done.len());
            let delivery = self.subscriptions[index].done.swap_remove(which);
            return self.redeliver(index, delivery);
        }
        if self.subscriptions[index].dead.is_empty() {
            return;
        }
        let which = self.pick(self.subscriptions[index].dead.len());
        let delivery = self.subscriptions[index].dead[which].clone();
        let message = delivery.message;
        let again = self.subscriptions[index]
            .open
            .iter()
            .any(|open| open.message == message);
        match self.draws.below(4) {
            0 => drop(self.record(stream, DeadLetterForwarded { message })),
            1 => {
                let failed = DeadLetterForwardFailed {
                    message,
                    reason: "made up".to_owned(),
                    attempts: 1,
                    due_at: None,
                };
                self.record(stream, failed);
            }
            2 if !again => self.redeliver(index, delivery),
            _ => {
                self.record(stream, discarded(&delivery, DiscardReason::Operator));
                let state = &mut self.subscriptions[index];
                state.dead.swap_remove(which);
                state.open.retain(|open| open.message != message);
            }
        }
    }

    fn redeliver(&mut self, index: usize, mut delivery: OpenDelivery) {
        let redelivered = DeliveryRedelivered {
            message: delivery.message,
            attempt: AttemptNumber::new(delivery.attempts + 1),
        };
        self.record(self.stream(index), redelivered);
        delivery.status = 0;
        self.subscriptions[index].open.push(delivery);
    }

    fn change_api(&mut self) {
        let index = self.pick(self.apis.len());
        let id = self.apis[index].api.id;
        if self.one_in(2) {
            let mut api = self.apis[index].api.clone();
            api.description = format!("changed at {}", self.now);
            self.record(StreamId::api(id), ApiUpdated { api: Box::new(api) });
        } else if std::mem::take(&mut self.apis[index].stopped) {
            self.record(StreamId::api(id), ApiStarted {});
        } else {
            self.apis[index].stopped = true;
            self.record(StreamId::api(id), ApiStopped {});
        }
    }

    fn change_subscription(&mut self) {
        if self.subscriptions.is_empty() {
            return;
        }
        let index = self.pick(self.subscriptions.len());
        let stream = self.stream(index);
        let state = &mut self.subscriptions[index];
        if state.closed {
            return;
        }
        if std::mem::take(&mut state.failed) {
            self.record(stream, SubscriptionRecovered {});
            self.close_circuit(index);
        } else if std::mem::take(&mut state.paused) {
            self.record(stream, SubscriptionResumed {});
        } else if self.one_in(2) {
            self.subscriptions[index].paused = true;
            self.record(stream, SubscriptionPaused {});
        } else if self.one_in(400) {
            self.close(index);
        } else if self.one_in(3) {
            self.update(index);
        }
    }

    /// Mostly with another callback, of which nothing is known.
    fn update(&mut self, index: usize) {
        let url = format!("https://receiver-{}.example.com/hook", self.pick(4));
        let url: CallbackUrl = url.parse().expect("a good URL");
        let definition = &mut self.subscriptions[index].definition;
        let before = definition.clone();
        definition.configuration.callback_url = Some(url);
        let subscription = Box::new(definition.clone());
        let is_elsewhere = subscription.calls_elsewhere_than(&before);
        self.record(self.stream(index), SubscriptionUpdated { subscription });
        if is_elsewhere {
            self.close_circuit(index);
        }
    }

    /// What waits for a retry is discarded; the rest was never begun.
    fn close(&mut self, index: usize) {
        let stream = self.stream(index);
        for delivery in std::mem::take(&mut self.subscriptions[index].open) {
            if delivery.attempts > 0 {
                let reason = DiscardReason::SubscriptionClosed;
                self.record(stream, discarded(&delivery, reason));
            }
        }
        self.subscriptions[index].closed = true;
        self.record(stream, SubscriptionClosed {});
    }
}

fn discarded(delivery: &OpenDelivery, reason: DiscardReason) -> DeliveryDiscarded {
    DeliveryDiscarded {
        message: delivery.message,
        reason,
        attempts: delivery.attempts,
        status: delivery.status,
        error: delivery.error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_history_with_every_kind_of_event() {
        let options = HistoryOptions {
            events: 20_000,
            ..HistoryOptions::default()
        };
        let events = generate(7, &options);
        assert_eq!(events, generate(7, &options));
        assert_ne!(events, generate(8, &options));
        let types: std::collections::BTreeSet<_> = events
            .iter()
            .map(|event| event.event.event_type())
            .collect();
        assert!(types.len() >= 20, "{types:?}");
    }
}
