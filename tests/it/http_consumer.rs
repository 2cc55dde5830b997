//! What the key of an application reaches: its own subscriptions under context paths, nothing else.

use std::time::Duration;

use hooklog::{
    http::document,
    model::{
        Api, Application, ApplicationId, DeadLetterQueue, ErrorClass, Message, Role, Subscription,
        SubscriptionId, SubscriptionValidation,
    },
    testing::FakeAnswer,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::gateway::{Answer, Ask, Served};

const CALLBACK: &str = "https://example.com/hook";

/// The APIs `orders` and `stock`, and the applications `shop` and `rival` with the shop's key.
struct Market {
    served: Served,
    orders: Api,
    stock: Api,
    shop: ApplicationId,
    rival: ApplicationId,
    key: String,
}

impl Market {
    async fn open(data: &std::path::Path) -> Self {
        let served = Served::start(data).await;
        let handle = served.test.handle();
        let named = |name: &str| handle.create_application(Application::named(name));
        let (shop, rival) = (named("shop").await.unwrap(), named("rival").await.unwrap());
        Self {
            orders: handle.create_api(Api::named("orders")).await.unwrap(),
            stock: handle.create_api(Api::named("stock")).await.unwrap(),
            key: served.token(Role::Consumer, Some(shop.id)).await,
            shop: shop.id,
            rival: rival.id,
            served,
        }
    }

    /// Asks with the shop's key.
    fn ask(&self, method: &str, path: impl Into<String>) -> Ask<'_> {
        self.served.ask(method, path).token(Some(&self.key))
    }

    async fn get(&self, path: impl Into<String>) -> Answer {
        self.ask("GET", path).send().await
    }

    async fn subscribe(&self, body: &Value) -> Answer {
        let ask = self.ask("POST", "/orders/subscriptions");
        ask.json(body).send().await
    }

    async fn subscribed(&self, api: &Api, application: ApplicationId) -> SubscriptionId {
        let subscription = Subscription::to(CALLBACK).unwrap().by(application);
        let handle = self.served.test.handle();
        handle.subscribe(api.id, subscription).await.unwrap().id
    }

    async fn publish(&self) {
        let handle = self.served.test.handle();
        let published = handle.publish(self.orders.id, Message::text("hello")).await;
        published.unwrap();
        self.served.test.settle().await;
    }
}

fn wanted() -> Value {
    json!({"configuration": {"callbackUrl": CALLBACK}})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Method, path and body of every operation under context paths, for a subscription and a delivery.
fn routes(subscription: SubscriptionId, delivery: Uuid) -> Vec<(String, String, Option<Value>)> {
    let document = document();
    let mut routes = Vec::new();
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let Some(path) = path.strip_prefix("/{contextPath}") else {
            continue;
        };
        let filled = path
            .replace("{subscription}", &subscription.to_string())
            .replace("{delivery}", &delivery.to_string());
        for (verb, operation) in verbs.as_object().unwrap() {
            assert_eq!(operation["x-roles"], json!(["consumer"]), "{verb} {path}");
            let body = operation.get("requestBody").map(|_| wanted());
            routes.push((verb.to_uppercase(), format!("/orders{filled}"), body));
        }
    }
    // What ends the subscription comes last.
    routes.sort_by_key(|(verb, path, _)| (verb == "DELETE", path.clone(), verb.clone()));
    assert!(routes.len() >= 11, "{routes:?}");
    routes
}

/// Brings a subscription into the state in which a step can be made, where it has to be in one.
async fn prepare(market: &Market, subscription: SubscriptionId, path: &str) {
    let handle = market.served.test.handle();
    match path.rsplit('/').next() {
        Some("_resume") => drop(handle.stop_by_consumer(subscription).await),
        Some("_resumeFailure") => {
            let transport = market.served.test.transport();
            transport.answer(|_| FakeAnswer::Status(410));
            market.publish().await;
            transport.answer(|_| FakeAnswer::Status(200));
        }
        Some("_pause") => drop(handle.resume_failure(subscription).await),
        _ => {}
    }
}

async fn delivery_of(market: &Market, subscription: SubscriptionId) -> Uuid {
    let path = format!(
        "/v1/apis/{}/logs?subscription={subscription}",
        market.orders.id
    );
    let list = market.served.get(path).await.json();
    text(&list["deliveries"][0]["id"]).parse().unwrap()
}

#[tokio::test]
async fn each_route_reaches_ones_own_subscription() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let own = market.subscribed(&market.orders, market.shop).await;
    market.publish().await;
    for (method, path, body) in routes(own, delivery_of(&market, own).await) {
        prepare(&market, own, &path).await;
        let ask = market.ask(&method, &path);
        let ask = match body {
            Some(body) => ask.json(&body),
            None => ask,
        };
        let answer = ask.send().await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
    }
    market.served.shutdown().await;
}

#[tokio::test]
async fn a_foreign_subscription_is_answered_as_one_that_is_not_there() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let rivals = market.subscribed(&market.orders, market.rival).await;
    let elsewhere = market.subscribed(&market.stock, market.shop).await;
    market.publish().await;
    let delivery = delivery_of(&market, rivals).await;
    let nowhere = SubscriptionId::from_uuid(Uuid::from_u128(7));
    let ask = async |method: &str, path: &str, body: &Option<Value>| {
        let ask = market.ask(method, path);
        let ask = match body {
            Some(body) => ask.json(body),
            None => ask,
        };
        ask.send().await
    };
    let missing = routes(nowhere, delivery);
    for foreign in [rivals, elsewhere] {
        let pairs = routes(foreign, delivery).into_iter().zip(&missing);
        for ((method, path, body), (_, missing, _)) in pairs {
            if !path.contains(&foreign.to_string()) {
                continue;
            }
            let expected = ask(&method, missing, &body).await;
            let answer = ask(&method, &path, &body).await;
            answer.problem(404);
            let as_missing = answer
                .text
                .replace(&foreign.to_string(), &nowhere.to_string());
            assert_eq!(as_missing, expected.text, "{method} {path}");
        }
        let state = market.served.get(format!("/v1/subscriptions/{foreign}"));
        let state = state.await.json();
        assert_eq!(state["status"], "ACCEPTED", "{state}");
        assert!(state["configuration"].get("signing").is_none(), "{state}");
    }
    let list = market.get("/orders/subscriptions").await;
    assert_eq!(list.json()["subscriptions"], json!([]));
    market.served.shutdown().await;
}

#[tokio::test]
async fn a_delivery_of_another_subscription_is_not_shown() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let own = market.subscribed(&market.orders, market.shop).await;
    let rivals = market.subscribed(&market.orders, market.rival).await;
    market.publish().await;
    let logs = format!("/orders/subscriptions/{own}/logs");
    let list = market.get(&logs).await.json();
    let list = list["deliveries"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["subscription"], own.to_string());
    let foreign = delivery_of(&market, rivals).await;
    market.get(format!("{logs}/{foreign}")).await.problem(404);
    for (query, pointer) in [
        (format!("subscription={rivals}"), "?"),
        (format!("application={}", market.rival), "?"),
        ("cursor=x".to_owned(), "?cursor"),
        ("limit=0".to_owned(), "?limit"),
        ("status=abc".to_owned(), "?status"),
    ] {
        let refused = market.get(format!("{logs}?{query}")).await.problem(422);
        let at = text(&refused["errors"][0]["pointer"]);
        assert!(at.starts_with(pointer), "{refused}");
    }
    market.served.shutdown().await;
}

#[tokio::test]
async fn an_application_subscribes_sees_pages_and_ends_its_subscriptions() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let handle = market.served.test.handle();
    handle.stop_api(market.orders.id).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let made = market.subscribe(&wanted()).await;
        assert_eq!(made.status, 201, "{made:?}");
        let shown = made.json();
        let id = text(&shown["id"]);
        assert_eq!(shown["application"], market.shop.to_string());
        assert_eq!(shown["api"], market.orders.id.to_string());
        assert_eq!(shown["status"], "ACCEPTED");
        let location = format!("/orders/subscriptions/{id}");
        assert_eq!(made.header("location"), Some(location.as_str()));
        ids.push(id);
        // Ids of one moment are in no order.
        market.served.test.clock().advance(Duration::from_millis(1));
    }
    market.subscribed(&market.orders, market.rival).await;
    market.subscribed(&market.stock, market.shop).await;
    let mut path = "/orders/subscriptions?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = market.get(&path).await.json();
        let page_ids = page["subscriptions"].as_array().unwrap().iter();
        seen.extend(page_ids.map(|shown| text(&shown["id"])));
        let Some(next) = page.get("next") else { break };
        path = format!("/orders/subscriptions?limit=2&cursor={}", text(next));
    }
    assert_eq!(seen, ids);

    let own = format!("/orders/subscriptions/{}", ids[0]);
    let read = market.get(&own).await;
    let tag = read.header("etag").unwrap().to_owned();
    let put = |tag: &str| {
        let body = json!({"channel": "eu", "configuration": {"callbackUrl": CALLBACK}});
        market.ask("PUT", &own).json(&body).header("if-match", tag)
    };
    let changed = put(&tag).send().await;
    assert_eq!(changed.json()["channel"], "eu", "{changed:?}");
    put(&tag).send().await.problem(412);
    let stale = market.ask("DELETE", &own).header("if-match", &tag);
    stale.send().await.problem(412);
    assert_eq!(market.ask("DELETE", &own).send().await.status, 204);
    assert_eq!(market.get(&own).await.json()["status"], "CLOSED");
    market.ask("DELETE", &own).send().await.problem(404);
    market.served.shutdown().await;
}

#[tokio::test]
async fn what_a_consumer_may_not_set_or_say_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    for field in ["id", "api", "application", "status"] {
        let mut body = wanted();
        body[field] = json!(Uuid::from_u128(1));
        let refused = market.subscribe(&body).await.problem(422);
        assert_eq!(refused["errors"][0]["pointer"], format!("/{field}"));
    }
    market.subscribe(&json!({})).await.problem(422);
    market.subscribe(&json!([1])).await.problem(422);
    market
        .subscribe(&json!({"configuration": {}}))
        .await
        .problem(422);
    let create = |kind: &str, body: Vec<u8>| {
        let ask = market.ask("POST", "/orders/subscriptions");
        ask.body(kind, body).send()
    };
    create("application/json", b"{".to_vec()).await.problem(400);
    create("text/plain", b"{}".to_vec()).await.problem(415);
    create("application/json", vec![b' '; 2 << 20])
        .await
        .problem(413);
    let blocked = json!({"configuration": {"callbackUrl": "https://169.254.169.254/latest"}});
    let blocked = market.subscribe(&blocked).await.problem(422);
    let detail = text(&blocked["errors"][0]["detail"]);
    assert_eq!(detail, "blocked destination");
    market.get("/orders/subscriptions/x").await.problem(404);
    market
        .get("/orders/subscriptions?limt=1")
        .await
        .problem(422);
    market.served.shutdown().await;
}

#[tokio::test]
async fn a_key_subscribes_once() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let ask = || {
        let ask = market.ask("POST", "/orders/subscriptions");
        ask.json(&wanted()).header("idempotency-key", "k")
    };
    let (first, again) = (ask().send().await, ask().send().await);
    assert_eq!(first.json()["id"], again.json()["id"], "{again:?}");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let list = market.get("/orders/subscriptions").await.json();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 1);
    market.served.shutdown().await;
}

#[tokio::test]
async fn an_entrypoint_can_hold_what_consumers_ask_for_until_it_is_accepted() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let handle = market.served.test.handle();
    let mut careful = market.orders.clone();
    careful.entrypoint.subscription_validation = SubscriptionValidation::Manual;
    handle.update_api(careful).await.unwrap();
    let made = market.subscribe(&wanted()).await.json();
    assert_eq!(made["status"], "PENDING");
    let own = format!("/orders/subscriptions/{}", text(&made["id"]));
    for step in ["_resume", "_pause"] {
        let refused = market.ask("POST", format!("{own}/{step}")).send().await;
        refused.problem(409);
    }
    market.publish().await;
    assert_eq!(market.served.test.transport().calls().len(), 0);
    let accept = format!("/v1/subscriptions/{}/_accept", text(&made["id"]));
    market.ask("POST", &accept).send().await.problem(403);
    let accepted = market.served.ask("POST", &accept).send().await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    market.served.test.settle().await;
    assert_eq!(market.served.test.transport().calls().len(), 1);
    market.served.shutdown().await;
}

#[tokio::test]
async fn where_dead_letters_go_is_not_shown_to_consumers() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let handle = market.served.test.handle();
    let mut api = market.orders.clone();
    let url = "https://publisher.example.com/canary".parse().unwrap();
    api.entrypoint.dlq = DeadLetterQueue::Http { url };
    handle.update_api(api).await.unwrap();
    let body = json!({"configuration": {"callbackUrl": CALLBACK,
        "retry": {"retryOption": "No Retry"}}});
    let own = text(&market.subscribe(&body).await.json()["id"]);
    let transport = market.served.test.transport();
    transport.answer(|_| FakeAnswer::Error(ErrorClass::Blocked));
    market.publish().await;
    let logs = format!("/orders/subscriptions/{own}/logs");
    let list = market.get(format!("{logs}?dlq=true&errorClass=blocked"));
    let list = list.await;
    assert!(!list.text.contains("canary"), "{list:?}");
    let row = list.json()["deliveries"][0].clone();
    assert_eq!(row["dlq"]["target"], json!({"type": "embedded"}));
    let delivery = text(&row["id"]);
    let detail = market.get(format!("{logs}/{delivery}")).await;
    assert!(!detail.text.contains("canary"), "{detail:?}");
    assert_eq!(detail.json()["attempts"].as_array().unwrap().len(), 1);
    let publisher = format!("/v1/apis/{}/logs/{delivery}", market.orders.id);
    assert!(market.served.get(publisher).await.text.contains("canary"));
    market.served.shutdown().await;
}

#[tokio::test]
async fn a_rotated_secret_is_shown_once_and_the_old_one_ends_after_the_overlap() {
    let data = tempfile::tempdir().unwrap();
    let market = Market::open(data.path()).await;
    let made = text(&market.subscribe(&wanted()).await.json()["id"]);
    let own = format!("/orders/subscriptions/{made}");
    let keys = async || {
        let shown = market.get(&own).await;
        assert!(!shown.text.contains("whsec_"), "{shown:?}");
        let signing = shown.json()["configuration"]["signing"]["keys"].clone();
        signing.as_array().cloned().unwrap_or_default()
    };
    let rotate = async |query: &str| {
        let path = format!("{own}/_rotateSecret{query}");
        market.ask("POST", path).send().await
    };
    let first = rotate("").await;
    let secret = text(&first.json()["secret"]);
    assert!(secret.starts_with("whsec_") && secret.len() > 40);
    assert_eq!(keys().await.len(), 1);
    let second = rotate("?overlapSeconds=60").await.json();
    assert_ne!(second["secret"], secret);
    let both = keys().await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(
        both[0].get("expiresAt").is_none(),
        "the new one comes first"
    );
    assert_eq!(both[1]["expiresAt"], second["othersUntil"]);
    let admins = format!("/v1/subscriptions/{made}/_rotateSecret?overlapSeconds=0");
    market.served.test.clock().advance(Duration::from_secs(60));
    assert_eq!(rotate("").await.status, 200);
    assert_eq!(keys().await.len(), 2, "one that has ended is left out");
    for _ in 0..3 {
        assert_eq!(rotate("").await.status, 200);
    }
    let full = rotate("").await.problem(422);
    let at = text(&full["errors"][0]["pointer"]);
    assert_eq!(at, "/configuration/signing/keys");
    rotate("?overlapSeconds=604801").await.problem(422);
    let alone = market.served.ask("POST", admins).send().await;
    assert_eq!(alone.status, 200, "{alone:?}");
    assert_eq!(keys().await.len(), 1);
    market.served.shutdown().await;
}
