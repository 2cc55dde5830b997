//! Laying what is planned over what is there.
//!
//! What Gravitee has a word for is taken from the plan, also where the definition leaves it out and so
//! has none. Everything else was set here and is kept, its sealed secrets by their ids, and so is what
//! stands in for something that the definition says and that could not be taken over.

use super::plan::{PlannedApi, PlannedSubscription, Untaken};
use crate::model::{
    Analytics, Api, ConsumerConfiguration, CustomHeader, DeadLetterQueue, Retry, Ssl, Subscription,
    WebhookEntrypoint,
};

/// The API that is there, as its definition has it now.
pub(super) fn api(planned: PlannedApi, present: Api) -> Api {
    let PlannedApi {
        mut api,
        names_path,
        takes_proxy,
        ..
    } = planned;
    if !takes_proxy && present.entrypoint.proxy.is_some() {
        let proxy = &present.entrypoint.proxy;
        api.entrypoint.proxy.clone_from(proxy);
    }
    if !names_path {
        let path = &present.entrypoint.context_path;
        api.entrypoint.context_path.clone_from(path);
    }
    Api {
        name: api.name,
        description: api.description,
        version: api.version,
        source: api.source,
        entrypoint: entrypoint(api.entrypoint, present.entrypoint),
        analytics: Analytics {
            sampling: api.analytics.sampling,
            ..present.analytics
        },
        ..present
    }
}

fn entrypoint(planned: WebhookEntrypoint, present: WebhookEntrypoint) -> WebhookEntrypoint {
    WebhookEntrypoint {
        context_path: planned.context_path,
        qos: planned.qos,
        dlq: dead_letters(planned.dlq, present.dlq),
        http: planned.http,
        proxy: planned.proxy,
        logging: planned.logging,
        ..present
    }
}

/// A definition says whether dead letters are kept. Where they are sent from there is said here.
fn dead_letters(planned: DeadLetterQueue, present: DeadLetterQueue) -> DeadLetterQueue {
    if planned == DeadLetterQueue::Embedded && present != DeadLetterQueue::None {
        return present;
    }
    planned
}

/// The subscription that is there, as its definition has it now.
pub(super) fn subscription(planned: PlannedSubscription, present: Subscription) -> Subscription {
    let PlannedSubscription {
        subscription: planned,
        untaken,
        ..
    } = planned;
    Subscription {
        // Neither can be changed: an update that tries is refused, and the import tells it.
        api: planned.api,
        application: planned.application,
        channel: planned.channel,
        configuration: configuration(planned.configuration, present.configuration, &untaken),
        status: planned.status,
        starting_at: planned.starting_at,
        ending_at: planned.ending_at,
        ..present
    }
}

fn configuration(
    planned: ConsumerConfiguration,
    present: ConsumerConfiguration,
    untaken: &Untaken,
) -> ConsumerConfiguration {
    // What was set here by hand was set for that receiver: no other is told it.
    let origin = |settings: &ConsumerConfiguration| {
        let url = settings.callback_url.as_ref()?;
        Some(url.to_url().origin())
    };
    let nothing = Untaken::default();
    let is_same = origin(&planned) == origin(&present);
    let untaken = if is_same { untaken } else { &nothing };
    ConsumerConfiguration {
        callback_url: planned.callback_url,
        headers: headers(planned.headers, present.headers, &untaken.headers),
        retry: retry(planned.retry, present.retry),
        auth: if untaken.auth {
            present.auth
        } else {
            planned.auth
        },
        ssl: ssl(planned.ssl, present.ssl, untaken),
        ..present
    }
}

/// Of the headers that are there, those stay whose names the definition has and whose values could
/// not be taken over.
fn headers(
    planned: Vec<CustomHeader>,
    present: Vec<CustomHeader>,
    untaken: &[String],
) -> Vec<CustomHeader> {
    let is = |header: &CustomHeader, name: &str| header.name.eq_ignore_ascii_case(name);
    let mut headers = planned;
    let kept: Vec<_> = present
        .into_iter()
        .filter(|old| untaken.iter().any(|name| is(old, name)))
        .filter(|old| !headers.iter().any(|new| is(new, &old.name)))
        .collect();
    headers.extend(kept);
    headers
}

fn ssl(planned: Ssl, present: Ssl, untaken: &Untaken) -> Ssl {
    let mut ssl = planned;
    if untaken.trust_store {
        ssl.trust_store = present.trust_store;
    }
    if untaken.key_store {
        ssl.key_store = present.key_store;
    }
    ssl
}

/// A definition that names no retry leaves the one that is there.
fn retry(planned: Option<Retry>, present: Option<Retry>) -> Option<Retry> {
    match (planned, present) {
        (Some(planned), Some(present)) => Some(Retry {
            retry_option: planned.retry_option,
            retry_strategy: planned.retry_strategy,
            max_attempts: planned.max_attempts,
            initial_delay_seconds: planned.initial_delay_seconds,
            max_delay_seconds: planned.max_delay_seconds,
            ..present
        }),
        (planned, present) => planned.or(present),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_named_is_taken_over_and_one_that_was_made_up_is_not() {
        let mut present = Api::named("Orders");
        present.entrypoint.context_path = "/here".to_owned();
        for (names_path, expected) in [(true, "/orders"), (false, "/here")] {
            let planned = PlannedApi {
                file: "file".to_owned(),
                pointer: String::new(),
                api: Api::named("Orders"),
                names_path,
                takes_proxy: true,
            };
            let over = api(planned, present.clone());
            assert_eq!(over.entrypoint.context_path, expected);
        }
    }

    #[test]
    fn where_dead_letters_are_sent_is_kept_while_the_definition_keeps_them() {
        let url = "https://example.com/dead".parse().unwrap();
        let sent = DeadLetterQueue::Http { url };
        let (embedded, none) = (DeadLetterQueue::Embedded, DeadLetterQueue::None);
        for (planned, present, expected) in [
            (&embedded, &sent, &sent),
            (&embedded, &none, &embedded),
            (&none, &sent, &none),
        ] {
            assert_eq!(dead_letters(planned.clone(), present.clone()), *expected);
        }
    }

    #[test]
    fn of_a_retry_policy_that_is_taken_over_what_gravitee_has_no_word_for_is_kept() {
        let planned = Retry {
            max_attempts: 7,
            ..Retry::default()
        };
        let present = Retry {
            max_attempts: 2,
            jitter_percent: 50,
            deadline_seconds: Some(600),
            ..Retry::default()
        };
        let expected = Retry {
            max_attempts: 7,
            ..present.clone()
        };
        assert_eq!(
            retry(Some(planned.clone()), Some(present.clone())),
            Some(expected)
        );
        assert_eq!(retry(None, Some(present.clone())), Some(present));
        assert_eq!(retry(Some(planned.clone()), None), Some(planned));
    }
}
