//! What an entrypoint and a subscription together ask of each call.

use super::{
    Auth, CallbackUrl, CloudEvents, ConsumerConfiguration, CustomHeader, DeadLetterQueue,
    HttpOptions, Logging, OnFailure, Proxy, Qos, Retry, Signing, Ssl, WebhookEntrypoint,
    entrypoint::Method,
};

/// The settings that a subscription delivers under: its own, and the entrypoint's where it names
/// none. A call keeps the policy it began with; the next one takes the new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where messages are sent; `None` when neither side names one.
    pub callback_url: Option<CallbackUrl>,
    /// Method.
    pub method: Method,
    /// The entrypoint's headers and the subscription's, which win by name.
    pub headers: Vec<CustomHeader>,
    /// Retry policy.
    pub retry: Retry,
    /// Credentials.
    pub auth: Auth,
    /// TLS options.
    pub ssl: Ssl,
    /// Signatures.
    pub signing: Option<Signing>,
    /// Most calls a second.
    pub rate_limit_per_second: Option<u32>,
    /// Most messages in flight: the subscription's bound, never above the entrypoint's.
    pub max_in_flight: u16,
    /// What a crash may do to a message.
    pub qos: Qos,
    /// Where given-up deliveries go.
    pub dlq: DeadLetterQueue,
    /// What follows a given-up delivery where there is no queue.
    pub on_failure: OnFailure,
    /// Connections and time limits.
    pub http: HttpOptions,
    /// Proxy.
    pub proxy: Option<Proxy>,
    /// What is captured.
    pub logging: Logging,
    /// Whether calls carry CloudEvents.
    pub cloud_events: CloudEvents,
}

impl Policy {
    /// The settings of a subscription with this configuration on this entrypoint.
    pub fn of(entrypoint: &WebhookEntrypoint, configuration: &ConsumerConfiguration) -> Self {
        let bound = entrypoint.http.max_concurrent_connections;
        let max_in_flight = configuration.max_in_flight;
        Self {
            callback_url: configuration
                .callback_url
                .clone()
                .or_else(|| entrypoint.callback_url.clone()),
            method: configuration.method.unwrap_or(entrypoint.method),
            headers: merged(&entrypoint.headers, &configuration.headers),
            retry: configuration
                .retry
                .clone()
                .unwrap_or_else(|| entrypoint.retry.clone()),
            auth: configuration.auth.clone(),
            ssl: configuration.ssl.clone(),
            signing: configuration.signing.clone(),
            rate_limit_per_second: configuration.rate_limit_per_second,
            max_in_flight: max_in_flight.map_or(bound, |own| own.min(bound)),
            qos: entrypoint.qos,
            dlq: entrypoint.dlq.clone(),
            on_failure: entrypoint.on_failure,
            http: entrypoint.http,
            proxy: entrypoint.proxy.clone(),
            logging: entrypoint.logging,
            cloud_events: configuration
                .cloud_events
                .unwrap_or(entrypoint.cloud_events),
        }
    }
}

fn merged(below: &[CustomHeader], above: &[CustomHeader]) -> Vec<CustomHeader> {
    let hidden = |header: &&CustomHeader| {
        above
            .iter()
            .any(|h| h.name.eq_ignore_ascii_case(&header.name))
    };
    below
        .iter()
        .filter(|header| !hidden(header))
        .chain(above)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subscription_wins_and_the_entrypoint_fills_in() {
        let mut entrypoint = WebhookEntrypoint::at("/a");
        entrypoint.headers = vec![CustomHeader::new("X-A", "1"), CustomHeader::new("x-b", "1")];
        entrypoint.retry = Retry::none();
        let configuration = ConsumerConfiguration {
            headers: vec![CustomHeader::new("x-a", "2")],
            method: Some(Method::Put),
            ..ConsumerConfiguration::default()
        };
        let policy = Policy::of(&entrypoint, &configuration);
        assert_eq!(
            policy.headers,
            [CustomHeader::new("x-b", "1"), CustomHeader::new("x-a", "2")]
        );
        assert_eq!(policy.method, Method::Put);
        assert_eq!(policy.retry, Retry::none());
        assert_eq!(policy.max_in_flight, 5);
    }

    #[test]
    fn a_consumer_may_narrow_the_publishers_bound_and_not_widen_it() {
        let mut entrypoint = WebhookEntrypoint::at("/a");
        entrypoint.http.max_concurrent_connections = 8;
        for (own, expected) in [(None, 8), (Some(3), 3), (Some(1_000), 8)] {
            let configuration = ConsumerConfiguration {
                max_in_flight: own,
                ..ConsumerConfiguration::default()
            };
            assert_eq!(
                Policy::of(&entrypoint, &configuration).max_in_flight,
                expected
            );
        }
    }
}
