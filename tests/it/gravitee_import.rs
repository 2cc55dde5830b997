//! What Gravitee definitions and subscriptions come to.

use std::{path::Path, process::Command, time::Duration};

use hooklog::{
    clock::SystemClock,
    gravitee::{Change, Note, NoteKind, Plan, apply},
    log::{FeedItem, FeedStart, Filter},
    model::{
        Api, ApiId, ApiState, Auth, CallbackUrl, CloudEvents, ConsumerConfiguration,
        ConsumerStatus, CustomHeader, DeadLetterQueue, DeliveryMode, FilterExpression, Header,
        HttpOptions, JwtAlgorithm, KeepFailures, Logging, LoggingParts, Message, Method,
        MockSource, OnFailure, Proxy, ProxyKind, Qos, Retry, RetryOption, RetryStrategy, Sampling,
        Secret, Source, Subscription, SubscriptionId, SubscriptionStatus, SubscriptionValidation,
        Timestamp,
    },
    testing::{FakeAnswer, TestRuntime},
    vault::Vault,
};
use serde_json::{Value, json};

const ORDERS: &str = include_str!("../fixtures/gravitee/orders.json");
const CLUSTER: &str = include_str!("../fixtures/gravitee/cluster.yaml");

fn plan(text: &str) -> Plan {
    Plan::of([("file", text)]).unwrap()
}

fn of(document: &Value) -> Plan {
    plan(&document.to_string())
}

fn secret(secret: &Secret) -> &str {
    match secret {
        Secret::Value(value) => value,
        Secret::Sealed(id) => panic!("{id} is sealed"),
    }
}

fn note<'a>(plan: &'a Plan, pointer: &str) -> &'a Note {
    let mut notes = plan.notes.iter();
    let found = notes.find(|note| note.pointer == pointer);
    found.unwrap_or_else(|| panic!("no note on {pointer}: {:#?}", plan.notes))
}

/// A small definition with one change made to it.
fn definition(change: impl FnOnce(&mut Value)) -> Value {
    let mut definition = json!({
        "name": "Orders", "definitionVersion": "V4", "type": "MESSAGE",
        "listeners": [{
            "type": "SUBSCRIPTION", "entrypoints": [{"type": "webhook", "configuration": {}}]
        }],
        "endpointGroups": [{
            "name": "g", "type": "mock", "endpoints": [{"name": "e", "configuration": {}}]
        }],
    });
    change(&mut definition);
    definition
}

/// The API of a definition with one change made to its webhook entrypoint.
fn with_entrypoint(change: impl FnOnce(&mut Value)) -> (Api, Plan) {
    let plan = of(&definition(|d| {
        change(&mut d["listeners"][0]["entrypoints"][0]);
    }));
    (plan.apis[0].api.clone(), plan)
}

/// The subscription with these settings.
fn with_settings(settings: Value) -> (Plan, ConsumerConfiguration) {
    let mut settings = settings;
    settings["callbackUrl"] = json!("https://example.com/hook");
    let plan = of(&json!([{
        "id": "s", "api": "a", "application": "b",
        "consumerConfiguration": {"entrypointId": "webhook", "entrypointConfiguration": settings},
    }]));
    let configuration = plan.subscriptions[0].subscription.configuration.clone();
    (plan, configuration)
}

#[test]
fn an_export_becomes_an_api_with_its_entrypoint_source_and_sampling() {
    let plan = plan(ORDERS);
    let [planned] = plan.apis.as_slice() else {
        panic!("{:?}", plan.apis);
    };
    assert_eq!(
        (planned.file.as_str(), planned.pointer.as_str()),
        ("file", "/api")
    );
    let api = &planned.api;
    assert_eq!(api.id.to_string(), "5f0a3c1e-7d1b-4b58-9a54-2f6f2f1c0a11");
    assert_eq!(
        (api.name.as_str(), api.version.as_str()),
        ("Order events", "2.1")
    );
    assert_eq!(api.description, "What happens to orders");
    assert_eq!(api.state, ApiState::Started);
    assert_eq!(
        api.analytics.sampling,
        Sampling::WindowedCount("5/PT10S".to_owned())
    );
    let source = MockSource {
        message_interval_ms: 5_000,
        message_content: r#"{"order":7}"#.to_owned(),
        message_count: Some(12),
        headers: vec![Header::new("X-Kind", "order")],
    };
    assert_eq!(api.source, Source::Mock(source));

    let entrypoint = &api.entrypoint;
    assert_eq!(entrypoint.context_path, "/orders/");
    assert!(entrypoint.gravitee_client_identifier);
    assert_eq!(entrypoint.qos, Qos::AtLeastOnce);
    assert_eq!(entrypoint.dlq, DeadLetterQueue::Embedded);
    let http = HttpOptions {
        connect_timeout_ms: 2_000,
        read_timeout_ms: 8_000,
        idle_timeout_ms: 45_000,
        max_concurrent_connections: 4,
    };
    assert_eq!(entrypoint.http, http);
    let proxy = entrypoint.proxy.as_ref().unwrap();
    assert_eq!((proxy.kind, proxy.port), (ProxyKind::Socks5, 1080));
    assert_eq!(proxy.host, "proxy.example.com");
    assert_eq!(proxy.username.as_deref(), Some("relay"));
    assert_eq!(secret(proxy.password.as_ref().unwrap()), "canary-proxy");
    let logging = Logging {
        enabled: true,
        request: LoggingParts {
            headers: true,
            payload: false,
        },
        response: LoggingParts {
            headers: true,
            payload: true,
        },
    };
    assert_eq!(entrypoint.logging, logging);
}

#[test]
fn subscriptions_of_an_export_are_its_apis_and_keep_their_ids() {
    let plan = plan(ORDERS);
    let [shop, warehouse] = plan.subscriptions.as_slice() else {
        panic!("{:?}", plan.subscriptions);
    };
    let Subscription {
        id,
        api,
        channel,
        configuration,
        ..
    } = &shop.subscription;
    assert_eq!(id.to_string(), "c0c5b3f2-0b4a-4f0f-8f5e-0d5a7a3b1c03");
    assert_eq!(*api, plan.apis[0].api.id);
    assert_eq!(channel.as_deref(), Some("paid"));
    let dates = [shop.subscription.starting_at, shop.subscription.ending_at];
    let dates = dates.map(|date| date.unwrap().to_string());
    assert_eq!(
        dates,
        ["2026-01-05T00:00:00.000Z", "2030-01-01T00:00:00.000Z"]
    );
    let url = configuration.callback_url.as_ref().unwrap();
    assert_eq!(
        url.as_str(),
        "https://shop.example.com/hooks/orders?token=canary-query"
    );
    assert_eq!(configuration.headers, [CustomHeader::new("X-Tenant", "eu")]);
    let retry = Retry {
        retry_option: RetryOption::RetryOnFail,
        retry_strategy: RetryStrategy::Linear,
        max_attempts: 5,
        initial_delay_seconds: 2,
        max_delay_seconds: 20,
        ..Retry::default()
    };
    assert_eq!(configuration.retry, Some(retry));
    let Auth::Basic { username, password } = &configuration.auth else {
        panic!("{:?}", configuration.auth);
    };
    assert_eq!(
        (username.as_str(), secret(password)),
        ("shop", "canary-basic")
    );
    assert!(!shop.paused);

    assert_eq!(warehouse.subscription.api, plan.apis[0].api.id);
    assert!(warehouse.paused);
    let configuration = &warehouse.subscription.configuration;
    assert!(
        matches!(&configuration.auth, Auth::Token { value } if secret(value) == "canary-token")
    );
    let applications = plan.applications.iter();
    let applications: Vec<_> = applications
        .map(|planned| (planned.application.name.as_str(), planned.described))
        .collect();
    assert_eq!(applications, [("Shop", true), ("warehouse", false)]);
    assert_eq!(
        plan.applications[1].application.id,
        warehouse.subscription.application
    );
}

#[test]
fn everything_without_an_equivalent_is_named_by_its_pointer() {
    use NoteKind::{Changed, Defaulted, Informational, Unsupported};
    let plan = plan(ORDERS);
    let mut notes: Vec<_> = plan
        .notes
        .iter()
        .map(|n| (n.pointer.as_str(), n.kind))
        .collect();
    notes.sort_unstable();
    let webhook = "/api/listeners/1/entrypoints/0";
    let shop = "/subscriptions/0/consumerConfiguration/entrypointConfiguration";
    let at = |below: &str| format!("{webhook}{below}");
    let (dlq, qos) = (at("/dlq/endpoint"), at("/qos"));
    let (interrupts, keep_alive) = (
        at("/configuration/interruptConsumptionOnServerError"),
        at("/configuration/http/keepAlive"),
    );
    let (expression, host) = (
        format!("{shop}/headers/1/value"),
        format!("{shop}/headers/2"),
    );
    let mut expected = vec![
        ("/api/analytics/logging", Unsupported),
        ("/api/createdAt", Informational),
        ("/api/crossId", Informational),
        (
            "/api/endpointGroups/0/endpoints/0/configuration/metadata",
            Unsupported,
        ),
        ("/api/endpointGroups/0/loadBalancer", Informational),
        ("/api/endpointGroups/1/endpoints/0", Unsupported),
        ("/api/flows/0", Unsupported),
        ("/api/labels", Informational),
        ("/api/listeners/0/entrypoints/0", Unsupported),
        ("/api/listeners/0/paths/0/host", Unsupported),
        ("/api/listeners/0/paths/0/overrideAccess", Unsupported),
        ("/api/listeners/1/entrypoints/1", Unsupported),
        ("/api/primaryOwner", Informational),
        ("/api/resources/0", Unsupported),
        ("/api/services", Informational),
        ("/api/tags", Informational),
        ("/api/visibility", Informational),
        ("/export", Unsupported),
        ("/members", Informational),
        ("/plans/0", Unsupported),
        ("/subscriptions/0/plan", Informational),
        ("/subscriptions/0/processedAt", Informational),
        ("/subscriptions/1", Defaulted),
        ("/subscriptions/1/application", Defaulted),
        ("/subscriptions/1/configuration", Defaulted),
        ("/subscriptions/1/configuration/callbackUrl", Changed),
        ("/subscriptions/1/id", Changed),
        ("/subscriptions/2", Informational),
        (&dlq, Changed),
        (&interrupts, Changed),
        (&keep_alive, Unsupported),
        (&qos, Changed),
        (&expression, Unsupported),
        (&host, NoteKind::Invalid),
    ];
    expected.sort_unstable();
    assert_eq!(notes, expected);
    let flow = note(&plan, "/api/flows/0");
    assert!(flow.reason.contains("\"Tidy\"") && flow.reason.contains("\"transform-headers\""));
    assert!(note(&plan, "/plans/0").reason.contains("\"json-to-json\""));
    assert!(
        note(&plan, "/api/endpointGroups/1/endpoints/0")
            .reason
            .contains("\"kafka\"")
    );
}

#[test]
fn resources_of_a_cluster_refer_to_each_other_by_name() {
    let plan = plan(CLUSTER);
    let api = &plan.apis[0].api;
    assert_eq!(api.name, "Stock levels");
    assert_eq!(api.version, "1.10");
    assert_eq!(api.state, ApiState::Stopped);
    assert_eq!(api.source, Source::Publish);
    assert_eq!(api.entrypoint.context_path, "/stock-levels");
    assert_eq!(api.entrypoint.qos, Qos::AtMostOnce);
    assert_eq!(api.entrypoint.dlq, DeadLetterQueue::None);
    assert_eq!(api.entrypoint.on_failure, OnFailure::Interrupt);
    assert_eq!(api.analytics.sampling, Sampling::Count(10));
    let application = &plan.applications[0].application;
    assert_eq!(application.name, "Dashboard");
    assert_eq!(application.description, "Shows what is in stock");
    let planned = &plan.subscriptions[0];
    assert_eq!(planned.subscription.api, api.id);
    assert_eq!(planned.subscription.application, application.id);
    let Auth::Oauth2(oauth2) = &planned.subscription.configuration.auth else {
        panic!("{:?}", planned.subscription.configuration.auth);
    };
    assert_eq!(oauth2.endpoint.as_str(), "https://id.example.com/token");
    assert_eq!(secret(&oauth2.client_secret), "canary-client");
    assert_eq!(oauth2.scopes, ["stock", "read"]);
    assert_eq!(
        planned
            .subscription
            .configuration
            .retry
            .as_ref()
            .unwrap()
            .retry_option,
        RetryOption::NoRetry
    );

    // Without its client certificate it would be refused: it waits.
    assert!(planned.paused);
    let store = note(
        &plan,
        "/spec/consumerConfiguration/entrypointConfiguration/ssl/keyStore",
    );
    assert_eq!((store.document, store.kind), (3, NoteKind::Unsupported));
    assert!(store.reason.contains("PKCS12"), "{store:?}");
    let broker = note(&plan, "/spec/endpointGroups/0/endpoints/0");
    assert!(broker.reason.contains("\"mqtt5\"") && broker.instead.contains("published"));
    let stranger = note(&plan, "");
    assert_eq!(
        (stranger.document, stranger.kind),
        (4, NoteKind::Unsupported)
    );
}

#[test]
fn files_may_refer_to_each_other_in_any_order() {
    let subscriptions = json!({"data": [{
        "id": "7", "api": {"id": "orders-1", "name": "Orders"}, "plan": {"id": "p"},
        "application": {"id": "app-1", "name": "Shop"},
        "consumerConfiguration": {"entrypointId": "webhook",
            "entrypointConfiguration": {"callbackUrl": "https://example.com/"}},
    }], "pagination": {"page": 1}});
    let api = definition(|d| d["id"] = json!("orders-1"));
    let texts = [subscriptions.to_string(), api.to_string()];
    let both = Plan::of([("b", texts[0].as_str()), ("a", texts[1].as_str())]).unwrap();
    assert_eq!(both.subscriptions[0].subscription.api, both.apis[0].api.id);
    // Without the definition the reference comes to the same id.
    let alone = plan(&texts[0]);
    assert_eq!(
        alone.subscriptions[0].subscription,
        both.subscriptions[0].subscription
    );
}

#[test]
fn what_is_in_the_files_twice_is_imported_once() {
    let twice = of(&json!([
        definition(|_| {}),
        definition(|d| d["description"] = json!("x"))
    ]));
    assert_eq!(twice.apis.len(), 1);
    assert_eq!(twice.apis[0].api.description, "");
    assert_eq!(note(&twice, "/1").kind, NoteKind::Invalid);
}

#[test]
fn only_message_apis_of_version_4_with_a_webhook_are_imported() {
    for (change, pointer) in [
        (json!({"definitionVersion": "V2"}), "version \"V2\""),
        (json!({"definitionVersion": "2.0.0"}), "version \"2.0.0\""),
        (json!({"type": "PROXY"}), "type \"PROXY\""),
        (json!({"listeners": []}), "webhook"),
        (json!({"name": null}), "neither a name"),
        (json!({"name": "x".repeat(201)}), "200 characters"),
    ] {
        let plan = of(&definition(|d| {
            for (key, value) in change.as_object().unwrap() {
                d[key] = value.clone();
            }
        }));
        assert!(plan.is_empty(), "{change}");
        let reason = &note(&plan, "").reason;
        assert!(reason.contains(pointer), "{change}: {reason}");
    }
    let lower = definition(|d| {
        d["definitionVersion"] = json!("4.0.0");
        d["type"] = json!("message");
        d["listeners"][0]["type"] = json!("subscription");
        d["listeners"][0]["paths"] = json!([{"path": "/test"}]);
    });
    assert_eq!(of(&lower).apis[0].api.entrypoint.context_path, "/test");
}

#[test]
fn a_dead_letter_queue_is_kept_in_the_log_and_none_interrupts() {
    for (dlq, expected) in [
        (json!(null), DeadLetterQueue::None),
        (json!({}), DeadLetterQueue::None),
        (json!({"endpoint": "e"}), DeadLetterQueue::Embedded),
        (json!({"endpoint": "elsewhere"}), DeadLetterQueue::Embedded),
        (json!("e"), DeadLetterQueue::Embedded),
    ] {
        let (api, _) = with_entrypoint(|e| e["dlq"] = dlq.clone());
        assert_eq!(api.entrypoint.dlq, expected, "{dlq}");
        assert_eq!(api.entrypoint.on_failure, OnFailure::Interrupt);
        // The only endpoint is the source all the same.
        assert!(matches!(api.source, Source::Mock(_)), "{dlq}");
    }
}

#[test]
fn limits_out_of_bounds_are_the_nearest_and_noted() {
    let (api, plan) = with_entrypoint(|e| {
        e["configuration"]["http"] = json!({"connectTimeout": 0, "readTimeout": "PT20M",
            "idleTimeout": "soon", "maxConcurrentConnections": 5_000});
    });
    let http = api.entrypoint.http;
    assert_eq!(
        (http.connect_timeout_ms, http.read_timeout_ms),
        (1, 600_000)
    );
    assert_eq!(
        (http.idle_timeout_ms, http.max_concurrent_connections),
        (60_000, 1_000)
    );
    let at = "/listeners/0/entrypoints/0/configuration/http";
    for (key, kind) in [
        ("connectTimeout", NoteKind::Changed),
        ("readTimeout", NoteKind::Changed),
        ("idleTimeout", NoteKind::Invalid),
        ("maxConcurrentConnections", NoteKind::Changed),
    ] {
        assert_eq!(note(&plan, &format!("{at}/{key}")).kind, kind);
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_noted_and_left_out() {
    let at = "/listeners/0/entrypoints/0/configuration/proxy";
    let proxied =
        json!({"enabled": true, "type": "HTTP", "host": "proxy.example.com", "port": "3128"});
    for (change, pointer) in [
        (json!({"useSystemProxy": true}), Some("/useSystemProxy")),
        (json!({"type": "SOCKS4"}), Some("/type")),
        (json!({"host": "{#host}"}), Some("/host")),
        (json!({"port": 0}), Some("")),
        (json!({"enabled": false}), Some("/host")),
        (json!({}), None),
    ] {
        let (api, plan) = with_entrypoint(|e| {
            let mut proxy = proxied.clone();
            let changes = change.as_object().unwrap().clone();
            proxy.as_object_mut().unwrap().extend(changes);
            e["configuration"]["proxy"] = proxy;
        });
        assert_eq!(
            api.entrypoint.proxy.is_some(),
            pointer.is_none(),
            "{change}"
        );
        if let Some(pointer) = pointer {
            note(&plan, &format!("{at}{pointer}"));
        }
    }
}

#[test]
fn a_header_of_a_mock_that_is_named_as_a_secret_is_noted_and_left_out() {
    let plan = of(&definition(|d| {
        d["endpointGroups"][0]["endpoints"][0]["configuration"]["headers"] = json!([
            {"name": "X-Kind", "value": "order"},
            {"name": "X-Api-Key", "value": "canary"},
        ]);
    }));
    let Source::Mock(mock) = &plan.apis[0].api.source else {
        panic!("{:?}", plan.apis[0].api.source);
    };
    assert_eq!(mock.headers, [Header::new("X-Kind", "order")]);
    let pointer = "/endpointGroups/0/endpoints/0/configuration/headers/1";
    assert_eq!(note(&plan, pointer).kind, NoteKind::Invalid);
}

#[test]
fn each_kind_of_sampling_is_taken_over_and_a_wrong_one_noted() {
    for (sampling, expected) in [
        (json!({"type": "count", "value": 7}), Sampling::Count(7)),
        (
            json!({"type": "PROBABILITY", "value": "0.25"}),
            Sampling::Probability(0.25),
        ),
        (
            json!({"type": "TEMPORAL", "value": "PT5S"}),
            Sampling::Temporal("PT5S".to_owned()),
        ),
        (json!({"type": "COUNT", "value": 0}), Sampling::All),
        (json!({"type": "TEMPORAL"}), Sampling::All),
        (json!({"type": "SOMETIMES", "value": 1}), Sampling::All),
    ] {
        let plan = of(&definition(|d| {
            d["analytics"] = json!({"messageSampling": sampling});
        }));
        assert_eq!(plan.apis[0].api.analytics.sampling, expected, "{sampling}");
        let noted = plan
            .notes
            .iter()
            .any(|n| n.pointer.starts_with("/analytics"));
        assert_eq!(noted, expected == Sampling::All, "{sampling}");
    }
}

#[test]
fn credentials_are_taken_over_and_what_cannot_be_pauses_the_subscription() {
    let (_, flat) =
        with_settings(json!({"auth": {"type": "Basic", "username": "u", "password": "p"}}));
    assert!(matches!(flat.auth, Auth::Basic { .. }));
    let profile = json!({
        "issuer": "i", "subject": "s", "audience": "https://id.example.com/token",
        "signatureAlgorithm": "HMAC_HS384", "keySource": "INLINE", "keyContent": "c2VjcmV0",
        "secretBase64Encoded": true, "expirationTime": 2, "expirationTimeUnit": "MINUTES",
        "keyId": "k", "customClaims": [{"name": "tenant", "value": "eu"}], "x509CertChain": "NONE",
    });
    let jwt = |change: Value| {
        let mut profile = profile.clone();
        let changes = change.as_object().unwrap().clone();
        profile.as_object_mut().unwrap().extend(changes);
        with_settings(json!({"auth": {"type": "jwtProfileOauth2", "jwtProfileOauth2": profile}}))
    };
    let (plan, configuration) = jwt(json!({}));
    assert!(!plan.subscriptions[0].paused);
    let Auth::JwtProfileOauth2(taken) = configuration.auth else {
        panic!("{:?}", configuration.auth);
    };
    assert_eq!(taken.endpoint.as_str(), "https://id.example.com/token");
    assert_eq!(taken.signature_algorithm, JwtAlgorithm::HmacHs384);
    assert_eq!(
        (secret(&taken.key_content), taken.expiration_seconds),
        ("secret", 120)
    );
    assert_eq!(
        (taken.key_id.as_deref(), taken.custom_claims.len()),
        (Some("k"), 1)
    );
    for change in [
        json!({"keySource": "JKS"}),
        json!({"audience": "no url"}),
        json!({"signatureAlgorithm": "ES256"}),
        json!({"keyContent": "{#secrets.get('/x')}"}),
    ] {
        let (plan, configuration) = jwt(change.clone());
        assert_eq!(configuration.auth, Auth::None, "{change}");
        assert!(plan.subscriptions[0].paused, "{change}");
    }
    for auth in [
        json!({"type": "kerberos"}),
        json!({"type": "token", "token": {"value": "two words"}}),
        json!({"type": "basic", "basic": {"username": "u"}}),
        json!("basic"),
    ] {
        let (plan, configuration) = with_settings(json!({"auth": auth}));
        assert_eq!(configuration.auth, Auth::None, "{auth}");
        assert!(plan.subscriptions[0].paused, "{auth}");
        let at = "/0/consumerConfiguration/entrypointConfiguration/auth";
        assert!(
            plan.notes.iter().any(|n| n.pointer.starts_with(at)),
            "{auth}"
        );
    }
}

#[test]
fn stores_are_taken_over_as_pem_alone() {
    let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (plan, configuration) = with_settings(json!({"ssl": {
        "hostnameVerifier": false, "trustAll": true,
        "trustStore": {"type": "PEM", "content": certificate},
        "keyStore": {"type": "PEM", "certContent": certificate, "keyContent": key},
    }}));
    let ssl = configuration.ssl;
    assert!(!ssl.hostname_verifier && ssl.trust_all);
    assert_eq!(ssl.trust_store.as_deref(), Some(certificate.as_str()));
    let both = format!("{certificate}\n{key}");
    assert_eq!(secret(ssl.key_store.as_ref().unwrap()), both);
    assert!(!plan.subscriptions[0].paused);
    for store in [
        json!({"type": "JKS", "content": "/u3+7Q==", "password": "canary"}),
        json!({"type": "PEM", "path": "/etc/ssl/ca.pem"}),
        json!({"type": "PEM", "content": "no certificate"}),
        json!({"type": "DER"}),
        json!([1]),
    ] {
        let (plan, configuration) = with_settings(json!({"ssl": {"trustStore": store}}));
        assert_eq!(configuration.ssl.trust_store, None, "{store}");
        assert!(plan.subscriptions[0].paused, "{store}");
        let at = "/0/consumerConfiguration/entrypointConfiguration/ssl/trustStore";
        assert!(
            plan.notes.iter().any(|n| n.pointer.starts_with(at)),
            "{store}"
        );
    }
}

#[test]
fn a_subscription_that_could_never_call_anybody_is_not_imported() {
    let subscription = |change: Value| {
        let mut subscription = json!({"id": "s", "api": "a", "application": "b",
            "consumerConfiguration": {"entrypointId": "webhook",
                "entrypointConfiguration": {"callbackUrl": "https://example.com/"}}});
        let changes = change.as_object().unwrap().clone();
        subscription.as_object_mut().unwrap().extend(changes);
        of(&json!([subscription]))
    };
    assert_eq!(subscription(json!({})).subscriptions.len(), 1);
    let to = |url: &str| json!({"consumerConfiguration": {"callbackUrl": url}});
    for change in [
        to("https://{#subscription.id}.example.com/"),
        to("ftp://example.com/"),
        to("https://single-label/"),
        json!({"consumerConfiguration": {"entrypointId": "websocket", "callbackUrl": "https://example.com/"}}),
        json!({"consumerConfiguration": {"entrypointId": "webhook"}}),
        json!({"status": "REJECTED"}),
        json!({"startingAt": "2026-02-02T00:00:00Z", "endingAt": "2026-02-01T00:00:00Z"}),
    ] {
        let plan = subscription(change.clone());
        assert!(plan.subscriptions.is_empty(), "{change}");
        let told = plan
            .notes
            .iter()
            .any(|n| n.instead == "the subscription is not imported");
        assert!(told, "{change}: {:#?}", plan.notes);
    }
    for (change, status, paused) in [
        (
            json!({"status": "pending"}),
            SubscriptionStatus::Pending,
            false,
        ),
        (
            json!({"status": "PAUSED"}),
            SubscriptionStatus::Accepted,
            true,
        ),
        (
            json!({"consumerStatus": "FAILURE"}),
            SubscriptionStatus::Accepted,
            true,
        ),
        (
            json!({"status": "SOMEHOW"}),
            SubscriptionStatus::Accepted,
            true,
        ),
    ] {
        let planned = &subscription(change.clone()).subscriptions[0];
        assert_eq!(
            (planned.subscription.status, planned.paused),
            (status, paused),
            "{change}"
        );
    }
}

#[test]
fn no_secret_shows_in_a_plan_its_notes_or_its_errors() {
    let mut plan = Plan::of([("a", ORDERS), ("b", CLUSTER)]).unwrap();
    // What no definition sets, or none of these.
    let url = |name: &str| {
        let url = format!("https://{name}.example.com/?a=1&sig=canary-{name}");
        url.parse::<CallbackUrl>().unwrap()
    };
    let header = |name: &str| CustomHeader::new(name, format!("canary-{name}"));
    let entrypoint = &mut plan.apis[0].api.entrypoint;
    entrypoint.callback_url = Some(url("default"));
    entrypoint.dlq = DeadLetterQueue::Http { url: url("dlq") };
    entrypoint.headers.push(header("x-api-key"));
    for planned in &mut plan.subscriptions {
        let configuration = &mut planned.subscription.configuration;
        configuration.headers.push(header("authorization"));
        if let Auth::Oauth2(oauth2) = &mut configuration.auth {
            oauth2.endpoint = url("endpoint");
        }
    }
    let shown = serde_json::to_string(&plan).unwrap();
    let debugged = format!("{plan:?}");
    for canary in [
        "proxy", "basic", "token", "client", "store", "password", "query",
    ] {
        let canary = format!("canary-{canary}");
        assert!(ORDERS.contains(&canary) || CLUSTER.contains(&canary));
    }
    for text in [&shown, &debugged] {
        assert!(!text.contains("canary"), "{text}");
    }
    let subscriptions = plan.subscriptions.len();
    assert_eq!(shown.matches("[hidden]").count(), 4 + 1 + subscriptions);
    for redacted in [
        "https://default.example.com/?a=1&sig=[redacted]",
        "https://dlq.example.com/?a=1&sig=[redacted]",
        "https://endpoint.example.com/?a=1&sig=[redacted]",
        "https://shop.example.com/hooks/orders?token=[redacted]",
    ] {
        assert!(shown.contains(redacted), "{redacted}: {shown}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named_with_the_line() {
    let failures = Plan::of([
        ("good", ORDERS),
        ("bad", "a: 1\nb: [\n"),
        ("worse", "{\"a\" 1}"),
    ]);
    let failures = failures.unwrap_err();
    let told: Vec<_> = failures
        .iter()
        .map(|(file, e)| format!("{file}: {e}"))
        .collect();
    assert!(told[0].starts_with("bad: line 3"), "{told:?}");
    assert!(told[1].starts_with("worse: line 1, column 6"), "{told:?}");
}

fn counts(handle: &hooklog::Handle) -> [usize; 2] {
    let view = handle.subscriptions();
    [
        view.apis().unwrap().len(),
        view.applications().unwrap().len(),
    ]
}

#[tokio::test]
async fn importing_twice_doubles_nothing_and_the_next_call_names_its_subscription() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let api = definition(|d| d["endpointGroups"] = json!([]));
    let mut envelope = json!({"api": api, "subscriptions": [
        {"id": "runs", "application": {"id": "a", "name": "Shop"},
            "consumerConfiguration": {"callbackUrl": "https://example.com/runs"}},
        {"id": "waits", "application": "a", "status": "PAUSED",
            "consumerConfiguration": {"callbackUrl": "https://example.com/waits"}},
    ]});
    let first = apply(&of(&envelope), &handle).await;
    let changes: Vec<_> = first.done.iter().map(|done| done.change).collect();
    assert_eq!(changes, [Some(Change::Created); 4], "{first:?}");
    test.settle().await;
    let before = counts(&handle);

    envelope["subscriptions"][0]["consumerConfiguration"]["callbackUrl"] =
        json!("https://example.com/moved");
    let second = of(&envelope);
    let applied = apply(&second, &handle).await;
    let changes: Vec<_> = applied.done.iter().map(|done| done.change).collect();
    assert_eq!(changes, [Some(Change::Updated); 4], "{applied:?}");
    assert_eq!(counts(&handle), before);

    let [runs, waits] = [0, 1].map(|index| second.subscriptions[index].subscription.id);
    test.transport().answer(|call| {
        assert!(call.gravitee_client_identifier);
        assert_eq!(
            call.policy.callback_url.as_ref().unwrap().as_str(),
            "https://example.com/moved"
        );
        FakeAnswer::Status(200)
    });
    handle
        .publish(second.apis[0].api.id, Message::text("m"))
        .await
        .unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls_to(runs).len(), 1);
    assert_eq!(test.transport().calls_to(waits).len(), 0);
    test.shutdown().await;
}

/// Sets on an API what Gravitee has no word for, or its definition says nothing of.
async fn set_api(handle: &hooklog::Handle, id: ApiId) -> Api {
    let mut api = Api::clone(&handle.api(id).unwrap());
    api.analytics.keep_failures = KeepFailures(false);
    let entrypoint = &mut api.entrypoint;
    "/elsewhere".clone_into(&mut entrypoint.context_path);
    entrypoint.headers = vec![CustomHeader::new("X-Api-Key", "canary-header")];
    entrypoint.retry = Retry::standard_webhooks();
    entrypoint.on_failure = OnFailure::Discard;
    entrypoint.subscription_validation = SubscriptionValidation::Manual;
    handle.update_api(api).await.unwrap()
}

/// The same on a subscription.
async fn set_subscription(handle: &hooklog::Handle, id: SubscriptionId) -> Subscription {
    let mut subscription = handle.subscription(id).await.unwrap();
    subscription.filter = Some(FilterExpression::new("type == 'order.open'"));
    subscription.delivery_mode = DeliveryMode::Ordered;
    let configuration = &mut subscription.configuration;
    configuration.rate_limit_per_second = Some(50);
    configuration.max_in_flight = Some(2);
    configuration.cloud_events = Some(CloudEvents::Binary);
    configuration.method = Some(Method::Put);
    configuration.retry = Some(Retry::schedule([1, 2]));
    handle.update_subscription(subscription).await.unwrap()
}

#[tokio::test]
async fn what_gravitee_has_no_word_for_is_kept_by_a_second_import() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let mut envelope = json!({
        "api": definition(|d| d["endpointGroups"] = json!([])),
        "subscriptions": [{"id": "s", "application": "a", "consumerConfiguration": {
            "callbackUrl": "https://example.com/first",
            "auth": {"type": "token", "token": {"value": "canary-token"}},
        }}],
    });
    let plan = of(&envelope);
    assert_eq!(apply(&plan, &handle).await.failures().count(), 0);
    let api = plan.apis[0].api.id;
    let id = plan.subscriptions[0].subscription.id;
    let (key, _) = handle.rotate_secret(id, Duration::ZERO).await.unwrap();
    let set = set_subscription(&handle, id).await;
    let offered = set_api(&handle, api).await;

    envelope["subscriptions"][0]["consumerConfiguration"]["callbackUrl"] =
        json!("https://example.com/moved");
    // A secret that was replaced goes with the change after that.
    for _ in 0..2 {
        let applied = apply(&of(&envelope), &handle).await;
        assert_eq!(applied.failures().count(), 0, "{applied:?}");
    }
    assert_eq!(*handle.api(api).unwrap(), offered);
    let kept = handle.subscription(id).await.unwrap();
    let mut expected = set.clone();
    expected.configuration.callback_url = Some("https://example.com/moved".parse().unwrap());
    // It stands in the file, and was sealed again.
    assert!(matches!(kept.configuration.auth, Auth::Token { .. }));
    expected.configuration.auth = kept.configuration.auth.clone();
    assert_eq!(kept, expected);

    let signing = set.configuration.signing.unwrap();
    let signs = Some(signing.clone());
    test.transport().answer(move |call| {
        assert_eq!(call.policy.signing, signs);
        FakeAnswer::Status(200)
    });
    for event_type in ["order.open", "order.closed"] {
        let message = Message::text("m").with_type(event_type);
        handle.publish(api, message).await.unwrap();
    }
    test.settle().await;
    assert_eq!(test.transport().calls_to(id).len(), 1);
    test.shutdown().await;

    let vault = Vault::open(data.path(), SystemClock::shared()).unwrap();
    let Secret::Sealed(sealed) = signing.keys[0].secret else {
        panic!("{signing:?}");
    };
    assert_eq!(vault.reveal(sealed).unwrap().as_str(), key.reveal());
}

fn proxy() -> Proxy {
    Proxy {
        kind: ProxyKind::Http,
        host: "proxy.example.com".to_owned(),
        port: 3128,
        username: Some("relay".to_owned()),
        password: Some(Secret::new("canary-proxy")),
    }
}

#[tokio::test]
async fn what_could_not_be_taken_over_and_was_set_here_is_kept_by_a_second_import() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let store = json!({"type": "JKS", "content": "/u3+7Q=="});
    let envelope = json!({
        "api": definition(|d| {
            d["endpointGroups"] = json!([]);
            d["listeners"][0]["entrypoints"][0]["configuration"]["proxy"] =
                json!({"enabled": true, "useSystemProxy": true});
        }),
        "subscriptions": [{"id": "s", "application": "a", "consumerConfiguration": {
            "callbackUrl": "https://example.com/",
            "headers": [
                {"name": "X-Tenant", "value": "eu"},
                {"name": "x-api-key", "value": "{#secrets.get('/key')}"},
            ],
            "auth": {"type": "token", "token": {"value": "{#secrets.get('/token')}"}},
            "ssl": {"trustStore": store.clone(), "keyStore": store},
        }}],
    });
    let plan = of(&envelope);
    assert!(plan.subscriptions[0].paused);
    assert_eq!(apply(&plan, &handle).await.failures().count(), 0);
    let api = plan.apis[0].api.id;
    let id = plan.subscriptions[0].subscription.id;

    let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut subscription = handle.subscription(id).await.unwrap();
    let configuration = &mut subscription.configuration;
    let headers = [("X-Api-Key", "canary-key"), ("X-Other", "gone")];
    let headers = headers.map(|(name, value)| CustomHeader::new(name, value));
    configuration.headers.extend(headers);
    configuration.auth = Auth::Token {
        value: Secret::new("canary-token"),
    };
    configuration.ssl.trust_store = Some(certificate.clone());
    configuration.ssl.key_store = Some(Secret::new(format!("{certificate}\n{key}")));
    let set = handle.update_subscription(subscription).await.unwrap();
    let mut offered = Api::clone(&handle.api(api).unwrap());
    offered.entrypoint.proxy = Some(proxy());
    let offered = handle.update_api(offered).await.unwrap();
    // It waited for these.
    handle.resume_subscription(id).await.unwrap();

    for _ in 0..2 {
        let applied = apply(&plan, &handle).await;
        assert_eq!(applied.failures().count(), 0, "{applied:?}");
    }
    assert_eq!(handle.api(api).unwrap().entrypoint, offered.entrypoint);
    let mut expected = set.configuration;
    // This one Gravitee would have as well, and has not.
    expected.headers.retain(|header| header.name != "X-Other");
    let kept = handle.subscription(id).await.unwrap();
    assert_eq!(kept.configuration, expected);

    test.transport().answer(|_| FakeAnswer::Status(200));
    handle.publish(api, Message::text("m")).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls_to(id).len(), 1, "it is not paused");

    // Another receiver is told nothing that was set for this one.
    let mut moved = envelope;
    moved["subscriptions"][0]["consumerConfiguration"]["callbackUrl"] =
        json!("https://example.org/");
    let applied = apply(&of(&moved), &handle).await;
    assert_eq!(applied.failures().count(), 0, "{applied:?}");
    let elsewhere = handle.subscription(id).await.unwrap().configuration;
    assert_eq!(elsewhere.auth, Auth::None);
    assert_eq!(elsewhere.headers.len(), 1, "{:?}", elsewhere.headers);
    assert_eq!(elsewhere.ssl.key_store, None);
    let state = handle.inspect(id).await.unwrap().state;
    assert_eq!(state.status, SubscriptionStatus::Paused);
    test.shutdown().await;
}

#[tokio::test]
async fn a_pending_subscription_without_its_credentials_calls_nobody_once_it_is_accepted() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let plan = of(&json!({
        "api": definition(|d| d["endpointGroups"] = json!([])),
        "subscriptions": [{"id": "s", "application": "a", "status": "PENDING",
            "consumerConfiguration": {
                "callbackUrl": "https://example.com/",
                "auth": {"type": "token", "token": {"value": "{#secrets.get('/token')}"}},
            },
        }],
    }));
    let told = |n: &Note| n.pointer == "/subscriptions/0" && n.instead.contains("_resumeFailure");
    assert!(plan.notes.iter().any(told), "{:#?}", plan.notes);
    let api = plan.apis[0].api.id;
    let id = plan.subscriptions[0].subscription.id;
    for _ in 0..2 {
        let applied = apply(&plan, &handle).await;
        assert_eq!(applied.failures().count(), 0, "{applied:?}");
        let state = handle.inspect(id).await.unwrap().state;
        assert_eq!(
            (state.status, state.consumer_status),
            (SubscriptionStatus::Pending, ConsumerStatus::Stopped)
        );
    }

    handle.accept(id).await.unwrap();
    handle.publish(api, Message::text("m")).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls().len(), 0, "nothing was set yet");
    let mut subscription = handle.subscription(id).await.unwrap();
    subscription.configuration.auth = Auth::Token {
        value: Secret::new("canary-token"),
    };
    handle.update_subscription(subscription).await.unwrap();
    handle.resume_failure(id).await.unwrap();
    test.settle().await;
    assert_eq!(test.transport().calls_to(id).len(), 1, "it waited for this");

    let applied = apply(&plan, &handle).await;
    assert_eq!(applied.failures().count(), 0, "{applied:?}");
    let state = handle.inspect(id).await.unwrap().state;
    assert!(state.is_running(), "nothing is missing: {state:?}");
    test.shutdown().await;
}

#[tokio::test]
async fn what_a_definition_leaves_out_is_unset_by_a_second_import_and_noted() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let plan = of(&json!({
        "api": definition(|d| d["endpointGroups"] = json!([])),
        "subscriptions": [{"id": "s", "application": "a", "consumerConfiguration": {
            "callbackUrl": "https://example.com/",
        }}],
    }));
    for (pointer, reason) in [
        (
            "/api/listeners/0/entrypoints/0",
            "says nothing of qos, dlq, http, proxy, logging",
        ),
        (
            "/subscriptions/0",
            "says nothing of channel, startingAt, endingAt, headers, auth, ssl",
        ),
    ] {
        let is_it = |note: &&Note| note.pointer == pointer && note.reason == reason;
        let note = plan.notes.iter().find(is_it);
        let note = note.unwrap_or_else(|| panic!("{reason}: {:#?}", plan.notes));
        assert_eq!(note.kind, NoteKind::Defaulted);
        assert!(note.instead.contains("also where it was set here"));
    }
    assert_eq!(apply(&plan, &handle).await.failures().count(), 0);
    let api = plan.apis[0].api.id;
    let id = plan.subscriptions[0].subscription.id;
    let before = handle.subscription(id).await.unwrap();
    let offered = Api::clone(&handle.api(api).unwrap());

    let mut subscription = before.clone();
    subscription.channel = Some("paid".to_owned());
    subscription.starting_at = Some(Timestamp::from_millis(0));
    subscription.ending_at = Some(Timestamp::from_millis(4_000_000_000_000));
    let configuration = &mut subscription.configuration;
    configuration.headers = vec![CustomHeader::new("X-Tenant", "eu")];
    configuration.auth = Auth::Token {
        value: Secret::new("canary-token"),
    };
    configuration.ssl.trust_all = true;
    handle.update_subscription(subscription).await.unwrap();
    let mut changed = offered.clone();
    changed.entrypoint.qos = Qos::AtMostOnce;
    changed.entrypoint.http.read_timeout_ms = 1_234;
    changed.entrypoint.proxy = Some(proxy());
    changed.entrypoint.logging.enabled = true;
    handle.update_api(changed).await.unwrap();

    assert_eq!(apply(&plan, &handle).await.failures().count(), 0);
    assert_eq!(handle.subscription(id).await.unwrap(), before);
    assert_eq!(*handle.api(api).unwrap(), offered);
    test.shutdown().await;
}

#[test]
fn of_a_proxy_whose_password_cannot_be_taken_over_the_rest_is_and_one_that_is_there_is_kept() {
    let (api, plan) = with_entrypoint(|e| {
        e["configuration"]["proxy"] = json!({"enabled": true, "host": "proxy.example.com",
            "port": 3128, "username": "relay", "password": "{#secrets.get('/proxy')}"});
    });
    let expected = Proxy {
        password: None,
        ..proxy()
    };
    assert_eq!(api.entrypoint.proxy, Some(expected));
    assert!(!plan.apis[0].takes_proxy);
    let at = "/listeners/0/entrypoints/0/configuration/proxy/password";
    assert!(note(&plan, at).instead.contains("is kept"));
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_reported_and_the_rest_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 3).await.unwrap();
    let handle = test.handle();
    let mut taken = Api::named("Other");
    taken.entrypoint.context_path = "/orders".to_owned();
    handle.create_api(taken).await.unwrap();
    let plan = of(&json!([
        definition(|_| {}),
        definition(|d| d["name"] = json!("Stock")),
        {"id": "s", "api": "Stock", "application": "a",
            "consumerConfiguration": {"callbackUrl": "https://example.com/"}},
        {"id": "t", "api": "Nowhere", "application": "a",
            "consumerConfiguration": {"callbackUrl": "https://example.com/"}},
    ]));
    let applied = apply(&plan, &handle).await;
    let failed: Vec<_> = applied.failures().map(|done| done.kind).collect();
    assert_eq!(failed, ["api", "subscription"], "{applied:?}");
    let error = applied.done[0].error.as_ref().unwrap();
    assert!(error.contains("contextPath"), "{error}");
    assert_eq!(applied.done.len(), 5);
    // An ended subscription is told as such and not begun again.
    handle
        .close(plan.subscriptions[0].subscription.id)
        .await
        .unwrap();
    let again = apply(&plan, &handle).await;
    assert_eq!(again.failures().count(), 3, "{again:?}");
    test.shutdown().await;
}

fn import(data: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooklog"));
    command.args(["import", "gravitee"]).args(args);
    let output = command.arg("--data").arg(data).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn fixture(name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gravitee");
    fixtures.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_command_shows_the_plan_and_changes_nothing_when_it_only_checks() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let orders = fixture("orders.json");
    let (status, said, _) = import(&data, &[&orders, "--check"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(!data.exists());
    for part in [
        "Order events",
        "/api/listeners/1/entrypoints/0/configuration/http/keepAlive",
        "Of no consequence",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("canary"), "{said}");
    let (status, lines, _) = import(&data, &[&orders, "--check", "--output", "json"]);
    assert_eq!(status, Some(0));
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let notes = lines.filter(|line| line.get("note").is_some()).count();
    assert_eq!(notes, plan(ORDERS).notes.len());
    assert!(!data.exists());
}

#[test]
fn the_command_imports_into_a_data_directory_without_delivering() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let files = [fixture("orders.json"), fixture("cluster.yaml")];
    let args = [files[0].as_str(), files[1].as_str()];
    for change in ["created", "updated"] {
        let (status, said, told) = import(&data, &args);
        assert_eq!(status, Some(0), "{said}{told}");
        assert!(said.contains(change), "{said}");
    }
    let log = hooklog::log::EventLog::open_read_only(&data).unwrap();
    let mut feed = log.follow(FeedStart::Beginning, Filter::all());
    let mut types = Vec::new();
    while let Some(item) = feed.next_now().unwrap() {
        if let FeedItem::Event(recorded) = item {
            types.push(recorded.event.event_type().to_string());
        }
    }
    let count = |name: &str| types.iter().filter(|t| *t == name).count();
    assert_eq!(
        [count("api.created"), count("subscription.created")],
        [2, 3]
    );
    assert_eq!(
        [count("api.updated"), count("subscription.updated")],
        [2, 3]
    );
    assert_eq!(count("subscription.paused"), 2);
    assert_eq!(count("message.published"), 0);
}

#[test]
fn the_command_tells_programs_what_it_imports_with_no_secret_in_a_header_or_a_query() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("subscriptions.json");
    let mut api = definition(|_| {});
    api["listeners"][0]["entrypoints"][0]["configuration"] =
        json!({"headers": [{"name": "Authorization", "value": "canary"}]});
    let envelope = json!({"api": api, "subscriptions": [{
        "id": "s", "application": "a",
        "consumerConfiguration": {
            "entrypointId": "webhook",
            "entrypointConfiguration": {
                "callbackUrl": "https://example.com/?token=canary",
                "headers": [{"name": "X-Api-Key", "value": "canary"}],
            },
        },
    }]});
    std::fs::write(&file, envelope.to_string()).unwrap();
    let args = [file.to_str().unwrap(), "--output", "json"];
    let (status, said, told) = import(&directory.path().join("data"), &args);
    assert_eq!(status, Some(0), "{said}{told}");
    assert!(
        !said.contains("canary") && !told.contains("canary"),
        "{said}{told}"
    );
    let lines = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.collect();
    let subscription = lines
        .iter()
        .find_map(|line| line.get("subscription"))
        .unwrap();
    let configuration = &subscription["configuration"];
    assert_eq!(
        configuration["callbackUrl"],
        "https://example.com/?token=[redacted]"
    );
    assert_eq!(
        configuration["headers"],
        json!([{"name": "X-Api-Key", "value": "[hidden]"}])
    );
    let done = lines.iter().filter_map(|line| line.get("done"));
    let changes: Vec<_> = done.map(|done| &done["change"]).collect();
    assert_eq!(changes, ["created"; 3], "{said}");
}

#[test]
fn the_command_fails_where_nothing_can_be_imported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let proxy = definition(|d| d["type"] = json!("PROXY")).to_string();
    let (status, said, told) = import(&data, &[&file("proxy.json", &proxy)]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("PROXY") && told.contains("nothing to import"),
        "{said}{told}"
    );
    let (status, _, told) = import(&data, &[&file("bad.yaml", "a: 1\nb: ]\n"), "missing.json"]);
    assert_eq!(status, Some(1));
    assert!(
        told.contains("bad.yaml: line 2") && told.contains("missing.json: "),
        "{told}"
    );
    assert_eq!(import(&data, &[]).0, Some(2));
    assert!(!data.exists());
}
