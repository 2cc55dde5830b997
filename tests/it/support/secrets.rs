//! Settings with a secret in every field that takes one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A secret of its own for each field: found, it tells which one leaked.
pub(crate) fn canary(number: u32) -> String {
    format!("canary-{number}-").repeat(4)
}

/// What of `canary-` is the same in base64 whatever stands beside it, where it begins with the
/// first, the second and the third byte of a group.
pub(crate) const IN_BASE64: [&str; 3] = ["Y2FuYXJ5L", "NhbmFyeS", "jYW5hcnkt"];

/// Settings of subscriptions, with a secret in every field that takes one. Their callback and their
/// token endpoint are `/hook` and `/token` below this URL.
pub(crate) fn settings(base: &str) -> Vec<Value> {
    let (callback, endpoint) = (format!("{base}/hook"), format!("{base}/token"));
    let auth = |auth: Value| json!({"callbackUrl": callback, "auth": auth});
    let key = |secret: &str| format!("whsec_{}", STANDARD.encode(secret));
    vec![
        auth(json!({"type": "basic", "username": "u", "password": canary(1)})),
        auth(json!({"type": "token", "value": canary(2)})),
        auth(
            json!({"type": "oauth2", "endpoint": endpoint, "clientId": "c", "clientSecret": canary(3)}),
        ),
        auth(
            json!({"type": "jwtProfileOauth2", "endpoint": endpoint, "issuer": "i", "subject": "s",
            "audience": "a", "signatureAlgorithm": "HMAC_HS256", "keyContent": canary(4)}),
        ),
        json!({"callbackUrl": callback, "signing": {"keys": [{"secret": key(&canary(5))}]}}),
        json!({"callbackUrl": format!("{callback}?token={}&a=1", canary(8)),
            "headers": [{"name": "X-Shop-Token", "value": canary(9)},
                {"name": "Authorization", "value": canary(10)},
                {"name": "x-team", "value": "payments"}]}),
        auth(
            json!({"type": "oauth2", "endpoint": format!("{endpoint}?key={}", canary(11)),
            "clientId": "c", "clientSecret": canary(12)}),
        ),
    ]
}

/// An entrypoint at `/orders` with a secret in every field that takes one, but for its proxy. Its own
/// callback and its dead letter queue are `/refused` and `/dlq` below this URL.
pub(crate) fn entrypoint(base: &str) -> Value {
    json!({"contextPath": "/orders",
        "logging": {"enabled": true, "request": {"headers": true, "payload": true},
            "response": {"headers": true, "payload": true}},
        "callbackUrl": format!("{base}/refused?signature={}", canary(13)),
        "headers": [{"name": "x-api-key", "value": canary(14)}],
        "dlq": {"type": "http", "url": format!("{base}/dlq?code={}", canary(15))}})
}

/// An HTTP proxy that wants a password.
pub(crate) fn proxy(host: &str, port: u16) -> Value {
    json!({"type": "HTTP", "host": host, "port": port, "username": "u", "password": canary(6)})
}
