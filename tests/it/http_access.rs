//! Who may ask for what, tried on every operation there is.

use std::collections::BTreeMap;

use hooklog::{
    http::document,
    model::{Application, ApplicationId, Role},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::gateway::Served;

struct Route {
    id: String,
    method: String,
    /// The path as it is described.
    pattern: String,
    /// The path with ids of nothing in it.
    path: String,
    roles: Option<Vec<String>>,
    has_body: bool,
}

/// Every operation, with ids of nothing in its path.
fn routes() -> Vec<Route> {
    let document = document();
    let mut routes = Vec::new();
    for (path, verbs) in document["paths"].as_object().unwrap() {
        for (verb, operation) in verbs.as_object().unwrap() {
            let roles = operation.get("x-roles").map(|roles| {
                let roles = roles.as_array().unwrap().iter();
                roles
                    .map(|role| role.as_str().unwrap().to_owned())
                    .collect()
            });
            routes.push(Route {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: verb.to_uppercase(),
                path: filled(path),
                pattern: path.clone(),
                roles,
                has_body: operation.get("requestBody").is_some(),
            });
        }
    }
    routes
}

const ANYBODY: &[&str] = &["anybody"];
const READERS: &[&str] = &["admin", "operator", "viewer"];
const OPERATORS: &[&str] = &["admin", "operator"];
const ADMINS: &[&str] = &["admin"];
const PUBLISHERS: &[&str] = &["admin", "publisher"];
const CONSUMERS: &[&str] = &["consumer"];

/// Who is meant to be let in; written down here again, so that a slip in the table of operations
/// shows, and an operation that is new has to be entered.
const MEANT_FOR: &[(&str, &[&str])] = &[
    ("GET /livez", ANYBODY),
    ("GET /readyz", ANYBODY),
    ("GET /openapi.json", ANYBODY),
    ("GET /metrics", READERS),
    ("GET /v1/metrics/series", READERS),
    ("GET /v1/apis", READERS),
    ("POST /v1/apis", ADMINS),
    ("GET /v1/apis/{api}", READERS),
    ("PUT /v1/apis/{api}", ADMINS),
    ("DELETE /v1/apis/{api}", ADMINS),
    ("POST /v1/apis/{api}/_start", OPERATORS),
    ("POST /v1/apis/{api}/_stop", OPERATORS),
    ("GET /v1/apis/{api}/entrypoint", READERS),
    ("PUT /v1/apis/{api}/entrypoint", ADMINS),
    ("GET /v1/apis/{api}/entrypoint/logging", READERS),
    ("PUT /v1/apis/{api}/entrypoint/logging", ADMINS),
    ("POST /v1/apis/{api}/messages", PUBLISHERS),
    ("GET /v1/apis/{api}/subscriptions", READERS),
    ("POST /v1/apis/{api}/subscriptions", ADMINS),
    ("GET /v1/subscriptions/{subscription}", READERS),
    ("PUT /v1/subscriptions/{subscription}", ADMINS),
    ("DELETE /v1/subscriptions/{subscription}", ADMINS),
    ("POST /v1/subscriptions/{subscription}/_accept", ADMINS),
    ("POST /v1/subscriptions/{subscription}/_reject", ADMINS),
    ("POST /v1/subscriptions/{subscription}/_pause", OPERATORS),
    ("POST /v1/subscriptions/{subscription}/_resume", OPERATORS),
    (
        "POST /v1/subscriptions/{subscription}/_resumeFailure",
        OPERATORS,
    ),
    (
        "POST /v1/subscriptions/{subscription}/_rotateSecret",
        ADMINS,
    ),
    ("POST /v1/subscriptions/{subscription}/_test", OPERATORS),
    (
        "POST /v1/subscriptions/{subscription}/_redeliver",
        OPERATORS,
    ),
    (
        "GET /v1/subscriptions/{subscription}/messages/{message}/explain",
        READERS,
    ),
    ("GET /v1/apis/{api}/logs", READERS),
    ("GET /v1/apis/{api}/logs/{delivery}", READERS),
    ("GET /v1/apis/{api}/logs/{delivery}/explain", READERS),
    ("POST /v1/apis/{api}/logs/{delivery}/_redeliver", OPERATORS),
    ("GET /v1/apis/{api}/dead-letters", READERS),
    ("DELETE /v1/apis/{api}/dead-letters/{delivery}", OPERATORS),
    ("POST /v1/apis/{api}/dead-letters/_redeliver", OPERATORS),
    ("POST /v1/apis/{api}/dead-letters/_discard", OPERATORS),
    ("GET /v1/jobs", READERS),
    ("GET /v1/jobs/{job}", READERS),
    ("POST /v1/jobs/{job}/_pause", OPERATORS),
    ("POST /v1/jobs/{job}/_resume", OPERATORS),
    ("POST /v1/jobs/{job}/_cancel", OPERATORS),
    ("GET /v1/applications", READERS),
    ("POST /v1/applications", ADMINS),
    ("GET /v1/applications/{application}", READERS),
    ("PUT /v1/applications/{application}", ADMINS),
    ("DELETE /v1/applications/{application}", ADMINS),
    ("GET /v1/events", READERS),
    ("GET /v1/events/stream", READERS),
    ("GET /v1/projections", READERS),
    ("GET /v1/projections/{projection}", READERS),
    ("POST /v1/projections/{projection}/_rebuild", OPERATORS),
    ("GET /v1/projections/{projection}/stream", READERS),
    ("GET /v1/retention", READERS),
    ("POST /v1/retention/_apply", ADMINS),
    ("GET /v1/tokens", ADMINS),
    ("POST /v1/tokens", ADMINS),
    ("DELETE /v1/tokens/{token}", ADMINS),
    ("GET /{contextPath}/subscriptions", CONSUMERS),
    ("POST /{contextPath}/subscriptions", CONSUMERS),
    ("GET /{contextPath}/subscriptions/{subscription}", CONSUMERS),
    ("PUT /{contextPath}/subscriptions/{subscription}", CONSUMERS),
    (
        "DELETE /{contextPath}/subscriptions/{subscription}",
        CONSUMERS,
    ),
    (
        "POST /{contextPath}/subscriptions/{subscription}/_pause",
        CONSUMERS,
    ),
    (
        "POST /{contextPath}/subscriptions/{subscription}/_resume",
        CONSUMERS,
    ),
    (
        "POST /{contextPath}/subscriptions/{subscription}/_resumeFailure",
        CONSUMERS,
    ),
    (
        "POST /{contextPath}/subscriptions/{subscription}/_rotateSecret",
        CONSUMERS,
    ),
    (
        "GET /{contextPath}/subscriptions/{subscription}/logs",
        CONSUMERS,
    ),
    (
        "GET /{contextPath}/subscriptions/{subscription}/logs/{delivery}",
        CONSUMERS,
    ),
];

/// The id of nothing.
fn nothing() -> String {
    Uuid::from_u128(7).to_string()
}

#[test]
fn each_operation_is_for_those_whom_it_is_meant_for() {
    let mut meant: BTreeMap<_, _> = MEANT_FOR.iter().copied().collect();
    assert_eq!(meant.len(), MEANT_FOR.len(), "an entry stands twice");
    for route in routes() {
        let name = format!("{} {}", route.method, route.pattern);
        let roles = meant.remove(name.as_str());
        let roles = roles.unwrap_or_else(|| panic!("{name} has no entry in MEANT_FOR"));
        let let_in = route.roles.unwrap_or_else(|| vec!["anybody".to_owned()]);
        assert_eq!(let_in, roles, "{name}");
    }
    assert!(meant.is_empty(), "there are no such operations: {meant:?}");
}

fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{contextPath}" => "nowhere".to_owned(),
        part if part.starts_with('{') => nothing(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn each_operation_lets_in_its_roles_alone() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let application = served
        .test
        .handle()
        .create_application(Application::named("shop"))
        .await
        .unwrap();
    let api = hooklog::model::Api::named("nowhere");
    served.test.handle().create_api(api).await.unwrap();
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let own = (role == Role::Consumer).then_some(application.id);
        tokens.push((role, served.token(role, own).await));
    }
    for route in routes() {
        // Wrong tokens are counted by the minute.
        served
            .test
            .clock()
            .advance(std::time::Duration::from_secs(61));
        let bare = served.ask(&route.method, &route.path);
        let stranger = bare.token(None).send().await;
        let Some(roles) = &route.roles else {
            assert_eq!(stranger.status, 200, "{}", route.id);
            continue;
        };
        stranger.problem(401);
        assert!(stranger.header("www-authenticate").is_some());
        let wrong = served
            .ask(&route.method, &route.path)
            .token(Some("hl_wrong"))
            .send()
            .await;
        wrong.problem(401);
        for (role, token) in &tokens {
            let head = served.test.handle().log().head();
            if route.path.ends_with("/stream") {
                let path = route.path.replace(&nothing(), "access");
                let status = served.open_as(token, &path).await.status().as_u16();
                let expected = if roles.contains(&role.to_string()) {
                    200
                } else {
                    403
                };
                assert_eq!(status, expected, "{role} {}", route.id);
                continue;
            }
            let ask = served.ask(&route.method, &route.path).token(Some(token));
            let ask = if route.has_body {
                ask.json(&json!({}))
            } else {
                ask
            };
            let answer = ask.send().await;
            let status = answer.status.as_u16();
            if roles.contains(&role.to_string()) {
                assert!(
                    !matches!(status, 401 | 403),
                    "{role} {}: {answer:?}",
                    route.id
                );
                assert!(status < 500, "{role} {}: {answer:?}", route.id);
            } else {
                answer.problem(403);
                let now = served.test.handle().log().head();
                assert_eq!(now, head, "{role} {} left a trace", route.id);
            }
        }
    }
    served.shutdown().await;
}

#[tokio::test]
async fn a_token_that_expired_or_was_revoked_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let now = served.test.handle().now();
    let soon = now.plus(std::time::Duration::from_secs(60));
    let created = served
        .post(
            "/v1/tokens",
            json!({"name": "t", "role": "viewer", "expiresAt": soon}),
        )
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    let secret = created.json()["secret"].as_str().unwrap().to_owned();
    let list = async |token: &str| {
        served
            .ask("GET", "/v1/apis")
            .token(Some(token))
            .send()
            .await
    };
    assert_eq!(list(&secret).await.status, 200);
    served
        .test
        .clock()
        .advance(std::time::Duration::from_secs(61));
    list(&secret).await.problem(401);

    let created = served
        .post("/v1/tokens", json!({"name": "t", "role": "viewer"}))
        .await
        .json();
    let secret = created["secret"].as_str().unwrap();
    assert_eq!(list(secret).await.status, 200);
    let revoke = format!("/v1/tokens/{}", created["id"].as_str().unwrap());
    assert_eq!(served.ask("DELETE", revoke).send().await.status, 204);
    list(secret).await.problem(401);
    let known = served.get("/v1/tokens").await;
    assert!(!known.text.contains(secret));
    served.shutdown().await;
}

#[tokio::test]
async fn bad_input_is_refused_by_every_operation_that_takes_a_body() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let handle = served.test.handle();
    let api = handle
        .create_api(hooklog::model::Api::named("a"))
        .await
        .unwrap();
    let to = hooklog::model::Subscription::to("https://example.com/hook").unwrap();
    let subscription = handle.subscribe(api.id, to).await.unwrap();
    let nothing = Uuid::from_u128(7).to_string();
    let mut tried = 0;
    for route in routes() {
        if !route.has_body || route.path.starts_with("/nowhere") {
            continue;
        }
        tried += 1;
        let kind = if route.path.starts_with("/v1/subscriptions/") {
            subscription.id.to_string()
        } else {
            api.id.to_string()
        };
        let path = if route.path.starts_with("/v1/applications/") {
            route
                .path
                .replace(&nothing, &subscription.application.to_string())
        } else {
            route.path.replace(&nothing, &kind)
        };
        let send = async |content_type: &str, body: Vec<u8>| {
            served
                .ask(&route.method, &path)
                .body(content_type, body)
                .send()
                .await
        };
        let json = "application/json";
        send(json, b"{".to_vec()).await.problem(400);
        send(json, b"\"text\"".to_vec()).await.problem(422);
        let unknown = send(json, b"{\"nothing_of_the_kind\": 1}".to_vec()).await;
        unknown.problem(422);
        send(json, vec![b' '; 9 << 20]).await.problem(413);
        send("", b"{}".to_vec()).await.problem(415);
        let deep = [b"[".repeat(50_000), b"]".repeat(50_000)].concat();
        let deep = send(json, deep).await;
        assert!(
            matches!(deep.status.as_u16(), 400 | 422),
            "{}: {deep:?}",
            route.id
        );
        let foreign = served
            .ask(&route.method, &route.path)
            .json(&json!({}))
            .send()
            .await;
        if route.path.contains(&nothing) {
            foreign.problem(404);
        }
    }
    assert!(tried >= 8, "{tried}");
    let cursor = served
        .get(format!("/v1/apis/{}/logs?cursor=x", api.id))
        .await;
    assert_eq!(cursor.problem(422)["errors"][0]["pointer"], "?cursor");
    let unknown = served
        .get(format!("/v1/apis/{}/logs?statos=1", api.id))
        .await;
    let detail = unknown.problem(422)["detail"].clone();
    assert!(
        detail.as_str().unwrap().contains("did you mean `status`"),
        "{detail}"
    );
    let method = served.ask("PATCH", "/v1/apis").send().await;
    method.problem(405);
    assert_eq!(method.header("allow"), Some("GET, POST"));
    served.get("/v2").await.problem(404);
    served.shutdown().await;
}

#[tokio::test]
async fn a_key_of_no_application_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let foreign = ApplicationId::from_uuid(Uuid::from_u128(9));
    let body: Value = json!({"name": "k", "role": "consumer", "application": foreign});
    served.post("/v1/tokens", body).await.problem(404);
    served
        .post("/v1/tokens", json!({"name": "k", "role": "consumer"}))
        .await
        .problem(422);
    served.shutdown().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let handle = served.test.handle();
    let mut stream = served.open("/v1/events/stream?from=1", None).await;
    assert!(stream.chunk().await.unwrap().is_some());
    let own = handle.access().tokens().unwrap()[0].token.id;
    handle.revoke_token(own).await.unwrap();
    // Whatever comes now is not shown: the stream ends instead.
    let seen = loop {
        handle.record_request(own, "test", "/", None).await.unwrap();
        match stream.chunk().await.unwrap() {
            None => break true,
            Some(chunk) => {
                let text = String::from_utf8_lossy(&chunk).into_owned();
                assert!(!text.contains("request.accepted"), "{text}");
            }
        }
    };
    assert!(seen);
    drop(stream);
    served.shutdown().await;
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_kept_and_is_what_it_says() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    for path in [
        "/v1/apis",
        "/v1/nothing",
        "/openapi.json",
        "/metrics",
        "/console/login",
        "/console/apis",
    ] {
        for token in [Some(served.admin.as_str()), None] {
            let answer = served.ask("GET", path).token(token).send().await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(
                answer.header("x-content-type-options"),
                Some("nosniff"),
                "{path}"
            );
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    served.shutdown().await;
}
