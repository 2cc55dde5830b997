//! What a seed chooses before its life begins.

use crate::{
    log::Durability,
    model::{
        Api, ApiId, ApplicationId, CallbackUrl, DeadLetterQueue, DeliveryMode, Draws,
        FilterExpression, OnFailure, Qos, Retry, RetryOption, RetryStrategy, Subscription,
        SubscriptionId,
    },
};

/// Which faults this life knows. Leaving some out lets others reach further.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each fault is on or off by itself"
)]
pub(super) struct Faults {
    pub(super) crashes: bool,
    pub(super) disk: bool,
    pub(super) clock: bool,
    pub(super) callbacks: bool,
    pub(super) commands: bool,
}

/// Passes messages of no type and of type `a`, not of type `b`, and fails on those of type `c`: they
/// are no JSON.
pub(super) const FILTER: &str = "type in ['', 'a'] || type == 'c' && body.amount > 1";
/// The types of messages.
pub(super) const TYPES: [Option<&str>; 6] =
    [None, None, Some("a"), Some("a"), Some("b"), Some("c")];

/// A seed's choices.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) api: Api,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) durability: Durability,
    pub(super) faults: Faults,
    /// How many things happen before everything heals.
    pub(super) steps: u32,
    pub(super) segment_bytes_max: u64,
    pub(super) tail_cache_bytes: usize,
}

/// Whether something of this likelihood happens.
pub(super) fn chance(draws: &mut Draws, percent: u64) -> bool {
    draws.below(100) < percent
}

/// One of these.
pub(super) fn one_of<T: Copy>(draws: &mut Draws, of: &[T]) -> T {
    let index = usize::try_from(draws.below(of.len() as u64)).unwrap_or(0);
    of[index]
}

impl Scenario {
    pub(super) fn draw(draws: &mut Draws) -> Self {
        let api = api(draws);
        let count = 1 + draws.below(3);
        let subscriptions = (0..count).map(|n| subscription(draws, &api, n)).collect();
        let mut scenario = Self {
            subscriptions,
            durability: one_of(draws, &[Durability::Synced, Durability::Flushed]),
            faults: Faults {
                crashes: chance(draws, 70),
                disk: chance(draws, 40),
                clock: chance(draws, 30),
                callbacks: chance(draws, 80),
                commands: chance(draws, 60),
            },
            steps: 60 + u32::try_from(draws.below(120)).unwrap_or(0),
            tail_cache_bytes: one_of(draws, &[1 << 10, 16 << 20, 16 << 20, 16 << 20]),
            segment_bytes_max: one_of(draws, &[4 << 10, 32 << 10, 64 << 20]),
            api,
        };
        for subscription in &mut scenario.subscriptions {
            subscription.filter = chance(draws, 25).then(|| FilterExpression::new(FILTER));
        }
        scenario
    }
}

pub(super) fn uuid(draws: &mut Draws) -> uuid::Uuid {
    uuid::Uuid::from_u64_pair(draws.next_u64(), draws.next_u64())
}

fn api(draws: &mut Draws) -> Api {
    let mut api = Api::named("simulated");
    api.id = ApiId::from_uuid(uuid(draws));
    api.entrypoint.qos = one_of(draws, &[Qos::Auto, Qos::AtLeastOnce, Qos::AtMostOnce]);
    let url = "https://example.com/dead".parse::<CallbackUrl>();
    api.entrypoint.dlq = match (draws.below(4), url) {
        (0, _) => DeadLetterQueue::None,
        (1, Ok(url)) => DeadLetterQueue::Http { url },
        _ => DeadLetterQueue::Embedded,
    };
    api.entrypoint.on_failure = one_of(draws, &[OnFailure::Interrupt, OnFailure::Discard]);
    api.entrypoint.http.max_concurrent_connections = one_of(draws, &[1, 3, 5]);
    api.entrypoint.retry = retry(draws);
    api
}

pub(super) fn retry(draws: &mut Draws) -> Retry {
    Retry {
        retry_option: one_of(
            draws,
            &[
                RetryOption::RetryOnFail,
                RetryOption::RetryOnFail,
                RetryOption::NoRetry,
            ],
        ),
        retry_strategy: one_of(draws, &[RetryStrategy::Linear, RetryStrategy::Exponential]),
        max_attempts: one_of(draws, &[0, 1, 3, 20]),
        initial_delay_seconds: one_of(draws, &[1, 10]),
        max_delay_seconds: 30,
        deadline_seconds: one_of(draws, &[None, None, None, Some(60), Some(3_600)]),
        ..Retry::default()
    }
}

fn subscription(draws: &mut Draws, api: &Api, number: u64) -> Subscription {
    let url = format!("https://example.com/{number}");
    let mut subscription = Subscription::to(&url).expect("it is a URL");
    subscription.id = SubscriptionId::from_uuid(uuid(draws));
    subscription.api = api.id;
    subscription.application = ApplicationId::from_uuid(uuid(draws));
    subscription.delivery_mode = one_of(
        draws,
        &[
            DeliveryMode::Concurrent,
            DeliveryMode::Ordered,
            DeliveryMode::Keyed,
        ],
    );
    subscription.channel = chance(draws, 25).then(|| "a".to_owned());
    subscription.configuration.rate_limit_per_second = chance(draws, 20).then_some(5);
    subscription
}
