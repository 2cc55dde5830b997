//! One Gravitee subscription to one subscription.

use serde_json::Value;

use super::{
    apply::egress,
    auth::auth,
    headers::headers,
    ids,
    ledger::Node,
    note::NoteKind,
    plan::{PlannedSubscription, References, Untaken},
    scalar::{Unit, quoted, same},
    ssl::ssl,
};
use crate::{
    delivery::Egress,
    model::{
        CallbackUrl, ConsumerConfiguration, CustomHeader, Invalid, Retry, RetryOption,
        RetryStrategy, Subscription, SubscriptionId, SubscriptionStatus, Timestamp,
    },
};

const NOT_IMPORTED: &str = "the subscription is not imported";
/// Longest delay between retries, in seconds.
const SECONDS_MAX: u64 = 30 * 86_400;
/// Most retries.
const ATTEMPTS_MAX: u64 = 1_000;

/// Where a subscription stands, as far as an import can say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Pending,
    Runs,
    Paused,
    Over,
}

/// The subscription in `node`; `None`, and a note, when it cannot be imported.
pub(super) fn subscription(
    node: &Node<'_>,
    references: &mut References<'_>,
) -> Option<PlannedSubscription> {
    let stand = stand(node);
    if stand == Stand::Over {
        node.note(NoteKind::Informational, "is over", NOT_IMPORTED);
        return None;
    }
    let consumer = node.any_object(&["consumerConfiguration", "configuration"]);
    check_entrypoint(consumer.as_ref().unwrap_or(node))?;
    let channel = consumer
        .as_ref()
        .and_then(|consumer| consumer.get("channel"));
    let channel = channel.and_then(|channel| channel.word());
    let settings = consumer
        .as_ref()
        .and_then(|node| node.object("entrypointConfiguration"));
    // Older definitions have the settings beside the entrypoint's id.
    let Some(settings) = settings.or(consumer) else {
        let reason = "names no consumerConfiguration, and so no callback";
        node.note(NoteKind::Invalid, reason, NOT_IMPORTED);
        return None;
    };
    let callback_url = callback_url(&settings)?;
    let (configuration, untaken) = configuration(&settings, callback_url);
    let api = references.api(node)?;
    let application = references.application(node);
    let id = subscription_id(
        node,
        &[&api.to_string(), &application.to_string()],
        &configuration,
    );
    let mut subscription = Subscription::with(configuration).by(application);
    subscription.id = id;
    subscription.api = api;
    subscription.channel = channel;
    subscription.starting_at = time(node, &["startingAt", "starting_at", "startAt"]);
    subscription.ending_at = time(node, &["endingAt", "ending_at", "endAt"]);
    if stand == Stand::Pending {
        subscription.status = SubscriptionStatus::Pending;
    }
    if let Err(invalid) = subscription.validate() {
        for problem in invalid.problems {
            let reason = format!("{}: {}", problem.pointer, problem.reason);
            node.remark(NoteKind::Invalid, reason, NOT_IMPORTED);
        }
        return None;
    }
    node.says_nothing_of(&[
        ("channel", subscription.channel.is_none()),
        ("startingAt", subscription.starting_at.is_none()),
        ("endingAt", subscription.ending_at.is_none()),
        ("headers", !settings.has("headers")),
        ("auth", !settings.has("auth")),
        ("ssl", !settings.has("ssl")),
    ]);
    let says_paused = stand == Stand::Paused;
    let lacks = untaken.is_missing_in(&subscription.configuration);
    if lacks && stand == Stand::Pending {
        let reason = "is PENDING, and cannot be paused before it is accepted";
        let instead = "imported STOPPED: accept it, set what is missing, and resume it by \
                       _resumeFailure";
        node.remark(NoteKind::Changed, reason, instead);
    }
    Some(PlannedSubscription {
        file: node.file().to_owned(),
        pointer: node.pointer().to_owned(),
        paused: says_paused || lacks,
        says_paused,
        untaken,
        subscription,
    })
}

fn stand(node: &Node<'_>) -> Stand {
    const STATUSES: [(&str, Stand); 7] = [
        ("PENDING", Stand::Pending),
        ("ACCEPTED", Stand::Runs),
        ("PAUSED", Stand::Paused),
        ("RESUMED", Stand::Runs),
        ("CLOSED", Stand::Over),
        ("REJECTED", Stand::Over),
        ("REVOKED", Stand::Over),
    ];
    const CONSUMER: [(&str, bool); 3] = [("STARTED", true), ("STOPPED", false), ("FAILURE", false)];
    // In a Kubernetes resource the status is an object of the operator's.
    let status = node
        .get("status")
        .filter(|status| !status.value().is_object());
    let status = status.map(|status| status.choice(&STATUSES, "imported paused"));
    let stand = status.map_or(Stand::Runs, |status| status.unwrap_or(Stand::Paused));
    let consumer = node.any(&["consumerStatus", "consumer_status"]);
    let runs = consumer
        .as_ref()
        .and_then(|node| node.choice(&CONSUMER, "taken as STARTED"));
    match (runs, consumer) {
        (Some(false), Some(consumer)) if stand == Stand::Runs => {
            let reason = format!(
                "is {}",
                quoted(consumer.value().as_str().unwrap_or_default())
            );
            consumer.remark(NoteKind::Changed, reason, "imported paused, to be resumed");
            Stand::Paused
        }
        _ => stand,
    }
}

fn check_entrypoint(consumer: &Node<'_>) -> Option<()> {
    let Some(node) = consumer.get("entrypointId") else {
        return Some(());
    };
    let id = node.text()?;
    if same(&id, "webhook") || same(&id, "webhook-advanced") {
        return Some(());
    }
    let reason = format!("subscribes by {}, not by webhook", quoted(&id));
    node.note(NoteKind::Unsupported, reason, NOT_IMPORTED);
    None
}

fn callback_url(settings: &Node<'_>) -> Option<CallbackUrl> {
    let Some(node) = settings.get("callbackUrl") else {
        settings.remark(NoteKind::Invalid, "has no callbackUrl", NOT_IMPORTED);
        return None;
    };
    let text = node.literal(NOT_IMPORTED)?;
    let url: Result<CallbackUrl, Invalid> = text.trim().parse();
    let url = match url {
        Ok(url) => url,
        Err(invalid) => {
            node.note(NoteKind::Invalid, invalid.to_string(), NOT_IMPORTED);
            return None;
        }
    };
    if let Err(blocked) = egress().check_url(&url) {
        let reason = format!("can never be called: {}", blocked.reason());
        node.note(NoteKind::Unsupported, reason, NOT_IMPORTED);
        return None;
    }
    if let Err(blocked) = Egress::default().check_url(&url) {
        let reason = format!("may not be called by default: {}", blocked.reason());
        node.remark(
            NoteKind::Changed,
            reason,
            "imported; calls are blocked until it is allowed",
        );
    }
    Some(url)
}

/// The consumer's settings, and what of them could not be taken over.
fn configuration(
    settings: &Node<'_>,
    callback_url: CallbackUrl,
) -> (ConsumerConfiguration, Untaken) {
    let auth = auth(settings);
    let headers = headers(
        settings,
        "left out; one of its name that is set here is kept",
    );
    let mut untaken = Untaken {
        auth: auth.is_none(),
        headers: headers.untaken,
        ..Untaken::default()
    };
    let configuration = ConsumerConfiguration {
        callback_url: Some(callback_url),
        headers: headers.taken.into_iter().map(CustomHeader::from).collect(),
        retry: retry(settings),
        auth: auth.unwrap_or_default(),
        ssl: ssl(settings, &mut untaken),
        ..ConsumerConfiguration::default()
    };
    (configuration, untaken)
}

fn retry(settings: &Node<'_>) -> Option<Retry> {
    const OPTIONS: [(&str, RetryOption); 3] = [
        ("No Retry", RetryOption::NoRetry),
        ("Retry On Fail", RetryOption::RetryOnFail),
        ("NONE", RetryOption::NoRetry),
    ];
    const STRATEGIES: [(&str, RetryStrategy); 2] = [
        ("LINEAR", RetryStrategy::Linear),
        ("EXPONENTIAL", RetryStrategy::Exponential),
    ];
    let Some(node) = settings.object("retry") else {
        if !settings.has("retry") {
            let reason = "names no retry";
            let instead = "failed calls are retried as is set here, else as the entrypoint says: \
                           three times";
            settings.remark(NoteKind::Defaulted, reason, instead);
        }
        return None;
    };
    let mut retry = Retry::default();
    let option = node.get("retryOption");
    if let Some(option) = option.and_then(|node| node.choice(&OPTIONS, "taken as Retry On Fail")) {
        retry.retry_option = option;
    }
    let strategy = node.get("retryStrategy").filter(|node| node.value() != "");
    let strategy = strategy.and_then(|node| node.choice(&STRATEGIES, "taken as EXPONENTIAL"));
    if let Some(strategy) = strategy {
        retry.retry_strategy = strategy;
    }
    let attempts = node.get("maxAttempts");
    let attempts = attempts.and_then(|node| Some(node.clamped(node.whole()?, 0, ATTEMPTS_MAX)));
    if let Some(attempts) = attempts {
        retry.max_attempts = u32::try_from(attempts).expect("at most ATTEMPTS_MAX");
    }
    let seconds = |key: &str| node.get(key)?.bounded(Unit::Seconds, 1, SECONDS_MAX);
    let (initial, most) = (seconds("initialDelaySeconds"), seconds("maxDelaySeconds"));
    retry.initial_delay_seconds = initial.unwrap_or(retry.initial_delay_seconds);
    retry.max_delay_seconds = most.unwrap_or(retry.max_delay_seconds);
    if retry.initial_delay_seconds > retry.max_delay_seconds {
        let reason = "begins with a delay that is above the longest one";
        let longest = retry.initial_delay_seconds;
        node.remark(
            NoteKind::Changed,
            reason,
            format!("{longest} seconds is the longest"),
        );
        retry.max_delay_seconds = longest;
    }
    Some(retry)
}

fn subscription_id(
    node: &Node<'_>,
    owners: &[&str],
    configuration: &ConsumerConfiguration,
) -> SubscriptionId {
    let named = node.get("id").and_then(|id| Some((id.word()?, id)));
    if let Some((text, node)) = named {
        if !ids::is_kept(&text) {
            let reason = "is not a UUID";
            node.remark(
                NoteKind::Changed,
                reason,
                "an id that is made from it, always the same",
            );
        }
        return SubscriptionId::from_uuid(ids::id_of("subscription", &text));
    }
    let url = configuration
        .callback_url
        .as_ref()
        .map_or("", |url| url.as_str());
    let text = [owners, &[url]].concat().join(" ");
    SubscriptionId::from_uuid(ids::id_of("subscription", &text))
}

/// A time, written as text or as milliseconds since 1970.
fn time(node: &Node<'_>, keys: &[&str]) -> Option<Timestamp> {
    let node = node.any(keys)?;
    if let Value::Number(number) = node.value() {
        let millis = number.as_i64();
        match millis {
            Some(_) => node.mark(),
            None => node.wrong("a time"),
        }
        return millis.map(Timestamp::from_millis);
    }
    let text = node.word()?;
    let time: Result<Timestamp, Invalid> = text.parse();
    match time {
        Ok(time) => Some(time),
        Err(invalid) => {
            node.note(NoteKind::Invalid, invalid.to_string(), "taken as absent");
            None
        }
    }
}
