//! No secret that was given to the gateway is found anywhere outside of its vault.

use hooklog::{
    http::document,
    model::{Role, Token},
    testing::FakeAnswer,
};
use serde_json::{Value, json};

use crate::support::{files::files, gateway::Served};

/// A secret of its own for each field: found, it tells which one leaked.
fn canary(number: u32) -> String {
    format!("canary-{number}-").repeat(4)
}

/// Settings with a secret in every field that takes one.
fn settings() -> Vec<Value> {
    let auth = |auth: Value| json!({"callbackUrl": "https://example.com/hook", "auth": auth});
    let endpoint = "https://example.com/token";
    let key = |secret: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("whsec_{}", STANDARD.encode(secret))
    };
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
        json!({"callbackUrl": "https://example.com/hook",
            "signing": {"keys": [{"secret": key(&canary(5))}]}}),
        json!({"callbackUrl": format!("https://example.com/hook?token={}&a=1", canary(8)),
            "headers": [{"name": "X-Shop-Token", "value": canary(9)},
                {"name": "Authorization", "value": canary(10)},
                {"name": "x-team", "value": "payments"}]}),
        auth(
            json!({"type": "oauth2", "endpoint": format!("{endpoint}?key={}", canary(11)),
            "clientId": "c", "clientSecret": canary(12)}),
        ),
    ]
}

/// Every page and every answer that can be had by GET, about these things.
async fn everything(served: &Served, ids: &[(&str, String)]) -> Vec<String> {
    let mut answers = Vec::new();
    for (path, verbs) in document()["paths"].as_object().unwrap() {
        if verbs.get("get").is_some() && !path.ends_with("/stream") && !path.ends_with("/tail") {
            for path in filled(path, ids) {
                answers.push(served.get(path).await.text);
            }
        }
    }
    let mut stream = served.open("/v1/events/stream?from=1", None).await;
    let mut told = String::new();
    while !told.contains("attempt.failed") {
        let chunk = stream.chunk().await.unwrap().unwrap();
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    answers.push(told);

    let token = Token::named("somebody", Role::Admin);
    let (token, _) = served.test.handle().create_token(token).await.unwrap();
    let signing_in = served.console.sign_in_path(token.id);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().unwrap();
    let get = |path: String, cookie: String| {
        let request = client.get(format!("{}{path}", served.base));
        request.header("cookie", cookie).send()
    };
    let entered = get(signing_in, String::new()).await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for page in CONSOLE {
        for path in filled(&format!("/console{page}"), ids) {
            let page = get(path.clone(), cookie.clone()).await.unwrap();
            assert_eq!(page.status(), 200, "{path}");
            answers.push(page.text().await.unwrap());
        }
    }
    answers
}

/// A path with each of these ids in its place.
fn filled(path: &str, ids: &[(&str, String)]) -> Vec<String> {
    let named = |(name, _): &&(&str, String)| path.contains(&format!("{{{name}}}"));
    let Some((name, _)) = ids.iter().find(named) else {
        return vec![path.to_owned()];
    };
    let each = ids.iter().filter(|(other, _)| other == name);
    each.flat_map(|(name, id)| filled(&path.replace(&format!("{{{name}}}"), id), ids))
        .collect()
}

/// Pages of the console that show settings or deliveries.
const CONSOLE: &[&str] = &[
    "/apis",
    "/apis/{api}",
    "/apis/{api}/configuration",
    "/apis/{api}/configuration/general",
    "/apis/{api}/configuration/entrypoints/webhook",
    "/apis/{api}/subscriptions",
    "/subscriptions/{subscription}",
    "/subscriptions/{subscription}/edit",
    "/apis/{api}/logs",
    "/apis/{api}/logs/{delivery}",
    "/apis/{api}/logs/export.csv",
    "/apis/{api}/logs/export.ndjson",
    "/apis/{api}/dead-letters",
    "/applications",
    "/applications/{application}",
    "/events",
    "/settings",
    "/jobs",
];

#[tokio::test]
async fn no_secret_is_on_disk_or_in_any_answer() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders",
        "logging": {"enabled": true, "request": {"headers": true, "payload": true},
            "response": {"headers": true, "payload": true}},
        "proxy": {"type": "HTTP", "host": "proxy.example.com", "port": 3128,
            "username": "u", "password": canary(6)},
        "callbackUrl": format!("https://example.com/hook?signature={}", canary(13)),
        "headers": [{"name": "x-api-key", "value": canary(14)}],
        "dlq": {"type": "http", "url": format!("https://example.com/dlq?code={}", canary(15))}}});
    let api = served.post("/v1/apis", api).await;
    assert_eq!(api.status, 201, "{api:?}");
    let id = api.json()["id"].as_str().unwrap().to_owned();
    let mut answers = vec![api.text];
    let certified = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let private = certified.signing_key.serialize_pem();
    let private = private.lines().nth(1).unwrap();
    let store = format!(
        "{}{}",
        certified.cert.pem(),
        certified.signing_key.serialize_pem()
    );
    let with_store = json!({"callbackUrl": "https://example.com/hook", "ssl": {"keyStore": store}});
    let mut ids = vec![("api", id.clone())];
    for configuration in settings().into_iter().chain([with_store]) {
        let body = json!({"configuration": configuration});
        let answer = served
            .post(format!("/v1/apis/{id}/subscriptions"), body.clone())
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let path = format!(
            "/v1/subscriptions/{}",
            answer.json()["id"].as_str().unwrap()
        );
        ids.push((
            "subscription",
            answer.json()["id"].as_str().unwrap().to_owned(),
        ));
        ids.push((
            "application",
            answer.json()["application"].as_str().unwrap().to_owned(),
        ));
        answers.push(answer.text);
        answers.push(served.ask("PUT", &path).json(&body).send().await.text);
        answers.push(served.get(path).await.text);
    }
    served
        .post(format!("/v1/apis/{id}/messages"), json!({"text": "a"}))
        .await;
    served.test.settle().await;
    for path in [
        "/v1/apis",
        &format!("/v1/apis/{id}/subscriptions"),
        &format!("/v1/apis/{id}/logs"),
        &format!("/v1/apis/{id}/dead-letters"),
        "/v1/events?limit=1000",
        "/v1/tokens",
        "/v1/projections",
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answers.push(answer.text);
    }
    let logs = served.get(format!("/v1/apis/{id}/logs")).await.json();
    let delivery = &logs["deliveries"][0];
    ids.push(("delivery", delivery["id"].as_str().unwrap().to_owned()));
    answers.extend(everything(&served, &ids).await);
    // What is refused is not repeated either.
    let wrong = json!({"configuration": {"callbackUrl": "https://example.com/hook",
        "signing": {"keys": [{"secret": canary(7)}]}}});
    let refused = served
        .post(format!("/v1/apis/{id}/subscriptions"), wrong)
        .await;
    refused.problem(422);
    answers.push(refused.text);
    let admin = served.admin.clone();
    served.shutdown().await;
    // As it was given, and as a key of a signature is written.
    let secrets = ["canary-", "Y2FuYXJ5L", private, &admin];
    for answer in &answers {
        for secret in secrets {
            assert!(!answer.contains(secret), "{secret}: {answer}");
        }
    }
    for path in files(data.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets.map(str::as_bytes) {
            let found = bytes.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{} holds a secret", path.display());
        }
    }
}

#[tokio::test]
async fn a_stored_secret_cannot_be_named_in_another_place() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders",
        "headers": [{"name": "x-api-key", "value": canary(1)}]}});
    let api = served.post("/v1/apis", api).await.json();
    let stored = &api["entrypoint"]["headers"][0]["value"];
    assert!(stored["secret"].is_string(), "{api}");
    let path = format!("/v1/apis/{}/subscriptions", api["id"].as_str().unwrap());
    let id = stored["secret"].as_str().unwrap();
    for configuration in [
        json!({"callbackUrl": "https://example.com/", "headers": [{"name": "x-loot", "value": stored}]}),
        json!({"callbackUrl": "https://example.com/", "headers": [{"name": "x-api-key", "value": stored}]}),
        json!({"callbackUrl": format!("https://example.com/?token=sealed-{id}")}),
        json!({"callbackUrl": "https://example.com/", "auth": {"type": "token", "value": stored}}),
    ] {
        let refused = served
            .post(&path, json!({"configuration": configuration}))
            .await;
        refused.problem(422);
    }
    served.shutdown().await;
}
