//! Why a message stands where it stands with a subscription: the events behind it, in order, and
//! what it waits for.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use super::{ControlError, Handle};
use crate::{
    log::{ReadError, ReadLimit, RecordedEvent, StreamId},
    model::{
        Api, ApiState, ConsumerStatus, DeliveryId, Event, EventType, FilterReason, MessageId,
        MessagePublished, MessageRef, Position, Subscription, SubscriptionEvent, SubscriptionId,
        SubscriptionStatus, Timestamp, Version,
    },
    projection::{View, idempotency_keys::IdempotencyKeys},
    subscription::SubscriptionState,
};

/// Most events of a subscription that are looked at, but for those that the webhook log names.
const EVENTS_MAX: usize = 100_000;
/// What is read at a time: few events where each holds a mebibyte.
const PAGE: ReadLimit = ReadLimit {
    events: 2_048,
    bytes: 8 << 20,
};

/// How a message stands with a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The callback took it.
    Delivered,
    /// It was given up and kept.
    DeadLettered,
    /// It was given up and not kept.
    Discarded,
    /// It is not for this subscription.
    Filtered,
    /// It is still to be delivered.
    Pending,
    /// What became of it cannot be told; why, and how it is found, is.
    Unknown,
}

/// One thing that happened on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its event.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// The type of its event.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub event_type: EventType,
    /// What happened, in words.
    pub text: String,
}

/// Why a message stands where it stands with a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The message.
    pub message: MessageRef,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// How it stands.
    pub standing: Standing,
    /// Why, in words.
    pub because: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Whether the subscription has so many events behind the message that not all were looked at.
    pub is_cut: bool,
}

impl Handle {
    /// Explains how a message stands with a subscription.
    ///
    /// # Errors
    /// [`ControlError::UnknownMessage`] when the API of the subscription has no such message, or
    /// retention dropped it.
    pub async fn explain(
        &self,
        message: MessageId,
        subscription: SubscriptionId,
    ) -> Result<Explanation, ControlError> {
        self.explain_within(message, subscription, EVENTS_MAX).await
    }

    async fn explain_within(
        &self,
        message: MessageId,
        subscription: SubscriptionId,
        events_max: usize,
    ) -> Result<Explanation, ControlError> {
        let view = self.caught_up(self.subscriptions()).await?;
        let row = view.subscription(subscription)?;
        let row = row.ok_or(ControlError::UnknownSubscription(subscription))?;
        let api = self.api(row.state.definition.api)?;
        let published = self.find_message(&api, message, subscription).await?;
        // Before the events: what it does not know of yet, they tell.
        let inspected = self.inspect(subscription).await;
        let is_live = inspected.is_ok();
        let (state, held_until) = if let Ok(inspection) = inspected {
            (inspection.state, inspection.held_until)
        } else {
            // It is over: what stands in the view is all there is.
            let state = SubscriptionState {
                subscription: Some(Box::new(row.state.definition.clone())),
                status: row.state.status,
                consumer_status: row.state.consumer_status,
                ..SubscriptionState::new(subscription)
            };
            (state, None)
        };
        let now = Now {
            api: &api,
            state: &state,
            is_live,
            held_until,
            at: self.now(),
        };
        let mut account = Account::begin(&published, now);
        let looked_at = self.read_into(&mut account, events_max).await?;
        Ok(account.end(looked_at))
    }

    /// Finds a message by its id. The ids that the gateway gives begin with their time, so it is
    /// looked for near it; one that its publisher gave is found by the webhook log or its key.
    async fn find_message(
        &self,
        api: &Api,
        id: MessageId,
        subscription: SubscriptionId,
    ) -> Result<Arc<RecordedEvent>, ControlError> {
        /// How far from the time in the id a message is looked for.
        const NEAR: Duration = Duration::from_secs(60);
        let unknown = || ControlError::UnknownMessage(id);
        let stream = StreamId::messages(api.id);
        let row = self
            .deliveries()
            .delivery(DeliveryId::of(id, subscription))?;
        let keyed: View<IdempotencyKeys> = self.built_in();
        let known = match row {
            Some(row) => Some(row.message.position),
            None => keyed.position_of(api.id, id)?,
        };
        if let Some(position) = known {
            let found = self.0.log.get_async(position).await?;
            return found.ok_or_else(unknown);
        }
        let Some(time) = time_of(id) else {
            return Err(unknown());
        };
        let first = self.position_at(time.minus(NEAR)).await?;
        let mut after = self.version_before(stream, first).await?;
        let last = time.plus(NEAR);
        loop {
            let events = self.read_on(stream, after, PAGE).await?;
            let is_it = |event: &&Arc<RecordedEvent>| published(event).is_some_and(|p| p.id == id);
            if let Some(found) = events.iter().find(is_it) {
                return Ok(Arc::clone(found));
            }
            match events.last() {
                Some(event) if event.time <= last => after = event.version,
                _ => return Err(unknown()),
            }
        }
    }

    /// The next events of a stream behind a version, what is gone or damaged passed over; empty at
    /// its end.
    async fn read_on(
        &self,
        stream: StreamId,
        mut after: Version,
        limit: ReadLimit,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        let log = &self.0.log;
        loop {
            match log.read_stream_async(stream, after, limit).await {
                Ok(events) => return Ok(events),
                Err(error) => after = error.stream_goes_on_after().ok_or(error)?,
            }
        }
    }

    /// Takes in the events of the subscription behind the message.
    async fn read_into(
        &self,
        account: &mut Account<'_>,
        events_max: usize,
    ) -> Result<LookedAt, ControlError> {
        let stream = StreamId::subscription(account.now.state.id);
        let until = self.0.log.stream_version(stream);
        let mut position = account.message.position;
        let mut after = self.version_before(stream, position).await?;
        let mut left = events_max;
        while left > 0 {
            let limit = ReadLimit {
                events: PAGE.events.min(left),
                ..PAGE
            };
            let events = self.read_on(stream, after, limit).await?;
            let Some(last) = events.last() else {
                return Ok(LookedAt::All);
            };
            (after, position) = (last.version, last.position);
            left = left.saturating_sub(events.len());
            for event in &events {
                account.take(event);
            }
        }
        if after >= until {
            return Ok(LookedAt::All);
        }
        Ok(if self.read_logged(account, position).await? {
            LookedAt::AllThatDecide
        } else {
            LookedAt::UpTo(position)
        })
    }

    /// Takes in the events behind a position that the webhook log names. Whether what decides is
    /// among them or among those before; false when it does not tell.
    async fn read_logged(
        &self,
        account: &mut Account<'_>,
        after: Position,
    ) -> Result<bool, ControlError> {
        let Some(message) = published(account.message) else {
            return Ok(false);
        };
        let Ok(view) = self.caught_up(self.deliveries()).await else {
            return Ok(false);
        };
        let delivery = DeliveryId::of(message.id, account.now.state.id);
        let Some(row) = view.delivery(delivery)? else {
            // One that was filtered has none, and one that the sample left out. Of any other, whatever
            // had come of a call would have made one.
            return Ok(message.sampled && account.standing.is_some());
        };
        // What the row left out may have decided otherwise, and what came before it was opened.
        let goes_on = account.standing.is_none() || row.events.first() <= Some(after);
        let mut decides = goes_on && !row.events.lacks_after(after);
        for position in row.events.iter().filter(|position| *position > after) {
            // What is gone or damaged may have decided.
            let Ok(Some(event)) = self.0.log.get_async(position).await else {
                return Ok(false);
            };
            decides |= account.take(&event);
        }
        Ok(decides)
    }
}

/// Which events of a subscription behind a message were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookedAt {
    /// All.
    All,
    /// As many as are read, and all others that have a say in the message's fate.
    AllThatDecide,
    /// As many as are read, the last of them here.
    UpTo(Position),
}

/// What is so now.
struct Now<'a> {
    api: &'a Api,
    state: &'a SubscriptionState,
    /// Whether the subscription itself told of its state: then it knows what is open.
    is_live: bool,
    held_until: Option<Timestamp>,
    at: Timestamp,
}

fn published(event: &RecordedEvent) -> Option<&MessagePublished> {
    event.event.as_published().map(Arc::as_ref)
}

/// The time that an id of the gateway begins with; `None` when somebody else gave it.
fn time_of(id: MessageId) -> Option<Timestamp> {
    let (seconds, nanos) = id.as_uuid().get_timestamp()?.to_unix();
    let millis = i64::try_from(seconds).ok()?.checked_mul(1_000)?;
    Some(Timestamp::from_millis(
        millis + i64::from(nanos / 1_000_000),
    ))
}

/// What became of a message, as far as it is read. It keeps what is told of events, not the events:
/// they are many, and may be large.
struct Account<'a> {
    message: &'a RecordedEvent,
    now: Now<'a>,
    steps: Vec<Step>,
    standing: Option<Standing>,
    because: String,
}

impl<'a> Account<'a> {
    fn begin(message: &'a RecordedEvent, now: Now<'a>) -> Self {
        Self {
            message,
            now,
            steps: vec![step(message, "accepted from its publisher".to_owned())],
            standing: None,
            because: String::new(),
        }
    }

    /// Takes in the next event, if it is about the message. Whether it decides what becomes of it,
    /// or opens that again.
    fn take(&mut self, event: &RecordedEvent) -> bool {
        let Some(told) = of_event(event, self.message, &self.now) else {
            return false;
        };
        self.steps.push(step(event, told.text));
        let Some((reached, why)) = told.reached else {
            return false;
        };
        (self.standing, self.because) = (reached, why);
        true
    }

    fn end(self, looked_at: LookedAt) -> Explanation {
        let message = self.message;
        let id = published(message).map_or(MessageId::nil(), |published| published.id);
        let (standing, because) = self.fate(looked_at);
        Explanation {
            message: MessageRef {
                version: message.version,
                position: message.position,
                id,
                accepted_at: message.time,
            },
            subscription: self.now.state.id,
            standing,
            because,
            steps: self.steps,
            is_cut: looked_at != LookedAt::All,
        }
    }

    fn fate(&self, looked_at: LookedAt) -> (Standing, String) {
        let found = self
            .standing
            .map(|standing| (standing, self.because.clone()));
        let waiting = || waits(self.message, &self.now);
        match looked_at {
            LookedAt::All => found.unwrap_or_else(waiting),
            LookedAt::AllThatDecide | LookedAt::UpTo(_) if self.is_open() => waiting(),
            LookedAt::AllThatDecide => found.unwrap_or_else(waiting),
            LookedAt::UpTo(position) => match found {
                // So it is, whatever was asked for since.
                Some(delivered @ (Standing::Delivered, _)) => delivered,
                found => (
                    Standing::Unknown,
                    further(self.now.state.id, found, position),
                ),
            },
        }
    }

    /// Whether the subscription itself says that the message is still to be delivered.
    fn is_open(&self) -> bool {
        let Now { state, is_live, .. } = self.now;
        let version = self.message.version;
        is_live && (state.open.contains_key(&version) || !state.is_seen(version))
    }
}

/// That what decides may stand further behind, and how it is found.
fn further(id: SubscriptionId, found: Option<(Standing, String)>, position: Position) -> String {
    let so_far = found.map_or_else(
        || "what became of it".to_owned(),
        |(_, because)| format!("at first {because}; what was made of it since"),
    );
    format!(
        "unknown: {so_far} would stand behind more events than are looked at; find it with \
         `hooklog events read --stream {} --from {}`",
        StreamId::subscription(id),
        position.next(),
    )
}

fn step(event: &RecordedEvent, text: String) -> Step {
    Step {
        position: event.position,
        at: event.time,
        event_type: event.event.event_type(),
        text,
    }
}

/// What an event means for a message.
struct Told {
    text: String,
    /// The standing that it brings, and why; `None` inside where it is open again.
    reached: Option<(Option<Standing>, String)>,
}

impl Told {
    fn passing(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            reached: None,
        }
    }

    fn reaching(standing: Standing, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            reached: Some((Some(standing), text.clone())),
            text,
        }
    }
}

fn of_event(event: &RecordedEvent, message: &RecordedEvent, now: &Now<'_>) -> Option<Told> {
    let Event::Subscription(event) = &event.event else {
        return None;
    };
    let version = message.version;
    let is_it = |other: &MessageRef| other.version == version;
    match event {
        SubscriptionEvent::Created(e) if version <= e.cursor => Some(Told::reaching(
            Standing::Filtered,
            "not for this subscription: it was accepted before the subscription begins",
        )),
        SubscriptionEvent::Filtered(e) if (e.first..=e.last).contains(&version) => Some(
            Told::reaching(Standing::Filtered, why_filtered(e.reason, message, now)),
        ),
        SubscriptionEvent::Taken(e) if is_it(&e.message) => Some(Told::passing(format!(
            "taken for attempt {}, which is not repeated after a crash",
            e.attempt
        ))),
        SubscriptionEvent::AttemptSucceeded(e) if is_it(&e.attempt.message) => {
            let a = &e.attempt;
            let text = format!(
                "attempt {} was answered {} after {} ms",
                a.number,
                a.status,
                a.timings.total_us / 1_000
            );
            Some(Told::reaching(Standing::Delivered, text))
        }
        SubscriptionEvent::AttemptFailed(e) if is_it(&e.attempt.message) => {
            let a = &e.attempt;
            let mut text = if a.probe {
                format!("probe {} of the callback failed", a.number)
            } else {
                format!("attempt {} failed", a.number)
            };
            // Writing to a string cannot fail.
            let _ = match &e.error {
                Some(error) => write!(text, " without a response: {error}"),
                None => write!(text, " with status {}", a.status),
            };
            if a.former_callback {
                text.push_str(", at the callback it had before");
            }
            Some(Told::passing(text))
        }
        SubscriptionEvent::RetryScheduled(e) if is_it(&e.message) => Some(Told::passing(format!(
            "attempt {} is planned for {}, {} ms later",
            e.attempt, e.due_at, e.delay_ms
        ))),
        SubscriptionEvent::DeadLettered(e) if is_it(&e.message) => {
            let text = format!("given up after {} attempts: {}", e.attempts, e.reason);
            Some(Told::reaching(Standing::DeadLettered, text))
        }
        SubscriptionEvent::Discarded(e) if is_it(&e.message) => {
            let text = format!("discarded after {} attempts: {}", e.attempts, e.reason);
            Some(Told::reaching(Standing::Discarded, text))
        }
        SubscriptionEvent::Redelivered(e) if is_it(&e.message) => Some(Told {
            text: format!("to be delivered again, from attempt {} on", e.attempt),
            reached: Some((None, String::new())),
        }),
        SubscriptionEvent::DeadLetterForwarded(e) if is_it(&e.message) => Some(Told::passing(
            "the dead letter reached the place it is forwarded to",
        )),
        SubscriptionEvent::DeadLetterForwardFailed(e) if is_it(&e.message) => Some(Told::passing(
            format!("forwarding the dead letter failed: {}", e.reason),
        )),
        SubscriptionEvent::Failed(e) if e.message.as_ref().is_some_and(is_it) => Some(
            Told::passing(format!("the subscription was interrupted: {}", e.cause)),
        ),
        _ => None,
    }
}

fn why_filtered(reason: FilterReason, message: &RecordedEvent, now: &Now<'_>) -> String {
    let subscription = now.state.subscription.as_deref();
    let wanted = subscription.and_then(|s: &Subscription| s.channel.as_deref());
    let channel = published(message).and_then(|p| p.channel.as_deref());
    match reason {
        FilterReason::Unreadable => {
            "passed over: it can no longer be read, retention dropped it or it is damaged"
                .to_owned()
        }
        FilterReason::NotForIt if wanted.is_some() && wanted != channel => format!(
            "not for this subscription: it wants channel {:?}, the message has {}",
            wanted.unwrap_or_default(),
            channel.map_or_else(|| "none".to_owned(), |channel| format!("{channel:?}")),
        ),
        FilterReason::NotForIt => {
            "not for this subscription: its filter did not hold for the message".to_owned()
        }
    }
}

/// Why a message that has no fate yet waits.
fn waits(message: &RecordedEvent, now: &Now<'_>) -> (Standing, String) {
    let (state, version) = (now.state, message.version);
    let open = state.open.get(&version);
    if open.is_none() && state.is_seen(version) {
        let text = "unknown: no event tells what became of it, which may be about to be written, \
                    no longer be in the log, or be damaged; ask again, then run `hooklog verify`";
        return (Standing::Unknown, text.to_owned());
    }
    let why = why_not_now(state, now)
        .or_else(|| {
            let retry = open.and_then(|open| open.retry)?;
            Some(format!("its next attempt is due at {}", retry.due_at))
        })
        .unwrap_or_else(|| before(state, version));
    (Standing::Pending, format!("waits: {why}"))
}

/// What keeps a subscription from calling at all.
fn why_not_now(state: &SubscriptionState, now: &Now<'_>) -> Option<String> {
    let subscription = state.subscription.as_deref();
    let starts = subscription
        .and_then(|s| s.starting_at)
        .filter(|at| *at > now.at);
    let ended = subscription
        .and_then(|s| s.ending_at)
        .filter(|at| *at <= now.at);
    Some(match (state.status, state.consumer_status) {
        (SubscriptionStatus::Pending, _) => "the subscription is not accepted yet".to_owned(),
        (SubscriptionStatus::Paused, _) => "the subscription is paused".to_owned(),
        (SubscriptionStatus::Closed, _) => "the subscription is closed".to_owned(),
        (SubscriptionStatus::Rejected, _) => "the subscription was refused".to_owned(),
        (SubscriptionStatus::Accepted, ConsumerStatus::Stopped | ConsumerStatus::Failure) => {
            let cause = state.failure_cause.as_ref().map(ToString::to_string);
            format!(
                "the subscription is interrupted: {}",
                cause.unwrap_or_default()
            )
        }
        _ if now.api.state == ApiState::Stopped => "the API is stopped".to_owned(),
        _ => {
            if let Some(at) = starts {
                format!("the subscription begins at {at}")
            } else if let Some(at) = ended {
                format!("the subscription ended at {at}")
            } else if let Some(until) = now.held_until {
                format!("the callback asked for a pause until {until}")
            } else if state.circuit.is_open() {
                "the callback is taken as down and is probed".to_owned()
            } else {
                return None;
            }
        }
    })
}

fn before(state: &SubscriptionState, version: Version) -> String {
    let others = version.distance_from(state.cursor).saturating_sub(1);
    match others {
        0 => "it is the next to be sent".to_owned(),
        others => format!("up to {others} messages are before it"),
    }
}

#[cfg(all(test, feature = "testing"))]
#[expect(
    clippy::unwrap_used,
    reason = "these are tests, also where they share a beginning"
)]
mod tests {
    use super::*;
    use crate::{
        model::{ApiId, KeepFailures, Message, Sampling},
        testing::{FakeAnswer, TestRuntime},
    };

    /// As many events as are looked at.
    const FEW: usize = 4;

    /// A message whose first call failed, and others that were delivered meanwhile.
    struct World {
        _data: tempfile::TempDir,
        test: TestRuntime,
        api: ApiId,
        subscription: SubscriptionId,
        late: MessageId,
    }

    impl World {
        async fn of(api: Api) -> Self {
            let data = tempfile::tempdir().unwrap();
            let test = TestRuntime::start(data.path(), 1).await.unwrap();
            let handle = test.handle();
            let api = handle.create_api(api).await.unwrap().id;
            let to = Subscription::to("https://example.com/hook").unwrap();
            let subscription = handle.subscribe(api, to).await.unwrap().id;
            let mut failed = false;
            test.transport().answer(move |call| {
                let fails = !failed && call.message.content.as_ref() == b"late";
                failed |= fails;
                FakeAnswer::Status(if fails { 503 } else { 204 })
            });
            let late = handle.publish(api, Message::text("late")).await.unwrap();
            test.settle().await;
            let world = Self {
                _data: data,
                late: late.id(),
                test,
                api,
                subscription,
            };
            world.deliver_others().await;
            world
        }

        async fn deliver_others(&self) {
            let others = vec![Message::text("other"); 2 * FEW];
            let handle = self.test.handle();
            handle.publish_batch(self.api, others).await.unwrap();
            self.test.settle().await;
        }

        async fn retry(&self) {
            self.test.run_until_idle(Duration::from_hours(1)).await;
        }

        async fn told(&self, subscription: SubscriptionId, events_max: usize) -> Explanation {
            let handle = self.test.handle();
            let told = handle.explain_within(self.late, subscription, events_max);
            told.await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_fate_behind_more_events_than_are_looked_at_is_found_by_the_webhook_log() {
        let world = World::of(Api::named("orders")).await;
        let id = world.subscription;
        let waiting = world.told(id, FEW).await;
        assert_eq!(waiting.standing, Standing::Pending, "{waiting:?}");
        assert!(waiting.because.contains("due at"), "{waiting:?}");
        world.retry().await;
        let cut = world.told(id, FEW).await;
        let whole = world.told(id, EVENTS_MAX).await;
        assert_eq!(whole.standing, Standing::Delivered, "{whole:?}");
        assert!(cut.is_cut && !whole.is_cut);
        let is_cut = whole.is_cut;
        assert_eq!(Explanation { is_cut, ..cut }, whole);
        world.test.shutdown().await;
    }

    #[tokio::test]
    async fn a_fate_that_is_out_of_sight_is_unknown_and_how_to_find_it_is_told() {
        let mut api = Api::named("orders");
        api.analytics.sampling = Sampling::Probability(0.0);
        api.analytics.keep_failures = KeepFailures(false);
        let world = World::of(api).await;
        let id = world.subscription;
        assert_eq!(world.told(id, FEW).await.standing, Standing::Pending);
        world.retry().await;
        let told = world.told(id, FEW).await;
        assert_eq!(told.standing, Standing::Unknown, "{told:?}");
        let advice = format!("hooklog events read --stream subscription/{id} --from ");
        assert!(told.because.contains(&advice), "{told:?}");
        world.test.handle().close(id).await.unwrap();
        world.test.settle().await;
        assert_eq!(world.told(id, FEW).await.standing, Standing::Unknown);
        let whole = world.told(id, EVENTS_MAX).await;
        assert_eq!(whole.standing, Standing::Delivered, "{whole:?}");
        world.test.shutdown().await;
    }

    #[tokio::test]
    async fn what_was_accepted_before_a_subscription_begins_is_told_however_much_follows() {
        let world = World::of(Api::named("orders")).await;
        let to = Subscription::to("https://example.com/second").unwrap();
        let second = world.test.handle().subscribe(world.api, to).await.unwrap();
        world.deliver_others().await;
        for events_max in [FEW, EVENTS_MAX] {
            let told = world.told(second.id, events_max).await;
            assert_eq!(told.standing, Standing::Filtered, "{told:?}");
            assert!(told.because.contains("before the subscription begins"));
        }
        world.test.shutdown().await;
    }
}
