//! The console in a real browser: what people do in it, and what it never lets in.

mod hostile;
mod pages;

use std::time::Duration;

use hooklog::{
    model::{Role, Token},
    testing::FakeAnswer,
};
use serde_json::{Value, json};

use crate::support::{
    browser::{Browser, Setup},
    gateway::Served,
};

/// A gateway with an API, two applications with a subscription each, and a browser that is signed
/// in.
struct Desk {
    served: Served,
    browser: Browser,
    api: String,
    subscriptions: Vec<String>,
    _data: tempfile::TempDir,
}

impl Desk {
    async fn open(setup: Setup) -> Self {
        let data = tempfile::tempdir().unwrap();
        let served = Served::start(data.path()).await;
        let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
        let api = text(&served.post("/v1/apis", api).await.json()["id"]);
        let mut subscriptions = Vec::new();
        for name in ["shop", "audit"] {
            let application = served
                .post("/v1/applications", json!({"name": name}))
                .await
                .json();
            let body = json!({"application": application["id"], "configuration": {
                "callbackUrl": format!("https://example.com/{name}"),
                "retry": {"maxAttempts": 1, "initialDelaySeconds": 5}}});
            let made = served
                .post(format!("/v1/apis/{api}/subscriptions"), body)
                .await;
            assert_eq!(made.status, 201, "{made:?}");
            subscriptions.push(text(&made.json()["id"]));
        }
        let browser = Browser::start(setup).await;
        let desk = Self {
            served,
            browser,
            api,
            subscriptions,
            _data: data,
        };
        desk.sign_in(Role::Admin).await;
        desk
    }

    /// Opens a session as the bearer of a new token of this role.
    async fn sign_in(&self, role: Role) {
        let token = Token::named("somebody", role);
        let created = self.served.test.handle().create_token(token).await;
        let path = self.served.console.sign_in_path(created.unwrap().0.id);
        self.go(&path).await;
    }

    async fn go(&self, path: &str) {
        self.browser
            .open(&format!("{}{path}", self.served.base))
            .await;
    }

    fn place(&self, rest: &str) -> String {
        format!("/console/apis/{}{rest}", self.api)
    }

    async fn publish(&self, text: &str) {
        let path = format!("/v1/apis/{}/messages", self.api);
        let published = self.served.post(path, json!({"text": text})).await;
        assert_eq!(published.status, 202, "{published:?}");
        self.served.test.settle().await;
    }

    /// One delivery that succeeds and one that is refused.
    async fn publish_to_good_and_bad(&self) {
        self.served.test.transport().answer(|request| {
            let url = request.policy.callback_url.as_ref().unwrap().as_str();
            FakeAnswer::Status(if url.ends_with("shop") { 200 } else { 400 })
        });
        self.publish("hello").await;
    }

    async fn rows(&self) -> Vec<String> {
        let rows =
            "return [...document.querySelectorAll('main tbody tr')].map((row) => row.innerText)";
        serde_json::from_value(self.browser.run(rows, Vec::new()).await).unwrap()
    }

    async fn close(self) {
        self.browser.close().await;
        self.served.shutdown().await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_entrypoint_is_configured_as_the_guide_says() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    for step in [
        "orders",
        "Configuration",
        "Entrypoints",
        "+ Add entrypoint",
        "Configure",
    ] {
        browser.check().await;
        browser.click(step).await;
    }
    for toggle in ["Request headers", "Request body", "Response headers"] {
        browser.labelled(toggle).await.click().await.unwrap();
    }
    browser.fill("Read timeout, in ms", "soon").await;
    browser.fill("Context path", "orders").await;
    browser.click("Save").await;
    browser.says("must start with /").await;
    browser.check().await;
    let kept = browser.labelled("Context path").await;
    assert_eq!(kept.prop("value").await.unwrap().as_deref(), Some("orders"));
    browser.fill("Context path", "/orders").await;
    browser.fill("Read timeout, in ms", "2500").await;
    browser.click("Save").await;
    browser.says("The entrypoint was saved").await;
    let entrypoint = desk
        .served
        .get(format!("/v1/apis/{}/entrypoint", desk.api))
        .await
        .json();
    assert_eq!(
        entrypoint["logging"],
        json!({"enabled": true, "request": {"headers": true, "payload": true},
            "response": {"headers": true, "payload": false}})
    );
    assert_eq!(entrypoint["http"]["readTimeoutMs"], 2_500);
    desk.close().await;
}

#[tokio::test]
async fn logging_is_switched_from_the_webhook_logs() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    for step in ["orders", "Logs", "Webhook logs", "Configuration"] {
        browser.find("main").await;
        if step == "Configuration" {
            // The button at the top right, not the page of that name.
            browser.find(".actions a").await.click().await.unwrap();
        } else {
            browser.click(step).await;
        }
    }
    browser.find("dialog[open]").await;
    browser.check().await;
    browser
        .labelled("Response body")
        .await
        .click()
        .await
        .unwrap();
    browser.choose("Entries", "of every n-th message").await;
    browser.fill("Value", "3").await;
    browser.click("Save").await;
    browser
        .says("Saved. It holds for every call from now on.")
        .await;
    browser
        .says("of one message in 3, and of every failure")
        .await;
    browser.check().await;
    let api = desk
        .served
        .get(format!("/v1/apis/{}", desk.api))
        .await
        .json();
    assert_eq!(api["entrypoint"]["logging"]["response"]["payload"], true);
    assert_eq!(
        api["analytics"]["sampling"],
        json!({"type": "COUNT", "value": 3})
    );
    desk.close().await;
}

#[tokio::test]
async fn the_list_is_filtered_and_leads_to_the_detail() {
    let desk = Desk::open(Setup::default()).await;
    desk.publish_to_good_and_bad().await;
    let browser = &desk.browser;
    desk.go(&desk.place("/logs")).await;
    browser.check().await;
    assert_eq!(desk.rows().await.len(), 2);
    browser.fill("Status", "4xx").await;
    browser.choose("Application", "audit").await;
    browser
        .fill("Callback URL", "https://example.com/audit")
        .await;
    browser.click("Filter").await;
    browser.find(".chips").await;
    browser.check().await;
    let rows = desk.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].contains("400") && rows[0].contains("audit") && rows[0].contains("yes"));
    for (query, count) in [
        ("?status=2xx&application=", 1),
        ("?status=400,200&dlq=no", 1),
        ("?outcome=dead_lettered&period=1h", 1),
        ("?dlq=yes&status=200", 0),
        ("?error=timeout", 0),
        ("?min_ms=100000", 0),
        ("?callback=https%3A%2F%2Fexample.com%2Fshop", 1),
    ] {
        desk.go(&desk.place(&format!("/logs{query}"))).await;
        assert_eq!(desk.rows().await.len(), count, "{query}");
    }
    desk.go(&desk.place("/logs?status=400")).await;
    browser.find("main tbody a").await.click().await.unwrap();
    for section in [
        "Request",
        "Response",
        "Error",
        "Retry",
        "DLQ",
        "Logged data",
        "Explained",
    ] {
        browser.with_text("h2", section).await;
    }
    browser.says("No request headers captured.").await;
    browser.check().await;
    desk.close().await;
}

#[tokio::test]
async fn a_live_list_shows_what_comes() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    desk.publish("first").await;
    desk.go(&desk.place("/logs")).await;
    browser.click("Live tail").await;
    browser.find("[data-live]").await;
    desk.publish("second").await;
    browser.find("main tbody tr:nth-child(4)").await;
    desk.publish("third").await;
    browser.find("main tbody tr:nth-child(6)").await;
    browser.check().await;
    desk.close().await;
}

#[tokio::test]
async fn a_subscription_is_paused_resumed_tested_and_closed() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    desk.go(&format!("/console/subscriptions/{}", desk.subscriptions[0]))
        .await;
    for (step, said) in [
        ("Pause", "Paused: messages wait"),
        ("Resume", "Resumed: what waited"),
        ("Send test message", "The callback answered 200"),
    ] {
        browser.click(step).await;
        browser.says(said).await;
        browser.check().await;
    }
    browser.click("Close").await;
    browser.find("dialog[open] h1").await;
    browser.check().await;
    browser
        .find("dialog[open] button.danger")
        .await
        .click()
        .await
        .unwrap();
    browser.says("Closed.").await;
    browser.check().await;
    let closed = desk
        .served
        .get(format!("/v1/subscriptions/{}", desk.subscriptions[0]))
        .await;
    assert_eq!(closed.json()["status"], "CLOSED");
    desk.close().await;
}

#[tokio::test]
async fn dead_letters_are_redelivered_one_and_many() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    for _ in 0..4 {
        desk.publish_to_good_and_bad().await;
    }
    desk.served
        .test
        .transport()
        .answer(|_| FakeAnswer::Status(200));
    desk.go(&desk.place("/dead-letters")).await;
    browser.check().await;
    browser.find("main tbody th a").await.click().await.unwrap();
    browser.click("Redeliver").await;
    browser.says("It is delivered again").await;
    desk.served.test.settle().await;
    desk.go(&desk.place("/dead-letters")).await;
    browser.says("3 given up and kept").await;
    browser.click("Redeliver all").await;
    browser.says("3 deliveries").await;
    browser.check().await;
    browser.click("Redeliver 3").await;
    browser.says("The job has begun").await;
    desk.served
        .test
        .run_until_idle(Duration::from_secs(30))
        .await;
    browser.client.refresh().await.unwrap();
    browser.says("finished").await;
    browser.says("3 of 3").await;
    browser.check().await;
    desk.go(&desk.place("/dead-letters")).await;
    browser.says("No dead letters").await;
    desk.close().await;
}

#[tokio::test]
async fn a_role_sees_and_does_what_it_may() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    desk.sign_in(Role::Viewer).await;
    desk.go(&format!("/console/subscriptions/{}", desk.subscriptions[0]))
        .await;
    browser.says("Settings").await;
    let buttons = "return [...document.querySelectorAll('main button:not([data-copy]), main a.button')].length";
    assert_eq!(browser.run(buttons, Vec::new()).await, 0);
    let refused = "return fetch(location.href + '/pause', {method: 'POST', headers: {'content-type': \
        'application/x-www-form-urlencoded'}, body: 'form_key=' + document.querySelector('[name=form_key]').value})\
        .then((answer) => answer.status)";
    assert_eq!(browser.run(refused, Vec::new()).await, 403);
    desk.go("/console/apis/new").await;
    browser
        .says("Your token has the role viewer, which may not manage.")
        .await;
    desk.sign_in(Role::Operator).await;
    desk.go(&format!("/console/subscriptions/{}", desk.subscriptions[0]))
        .await;
    browser.click("Pause").await;
    browser.says("Paused").await;
    desk.go("/console/settings").await;
    browser.says("Tokens are for admins to see.").await;
    let forged = "return fetch(location.origin + '/console/settings/tokens', {method: 'POST', headers: {'content-type': \
        'application/x-www-form-urlencoded'}, body: 'name=x'}).then((answer) => answer.status)";
    assert_eq!(browser.run(forged, Vec::new()).await, 403);
    desk.close().await;
}

#[tokio::test]
async fn nobody_comes_in_without_a_token_and_a_session_ends() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    browser.click("Log out").await;
    browser.says("Sign in to hooklog").await;
    browser.check().await;
    desk.go(&desk.place("/logs?status=5xx")).await;
    browser.says("Sign in to hooklog").await;
    browser.fill("Token", "hl_wrong").await;
    browser.click("Sign in").await;
    browser.says("This token is not in force.").await;
    browser.fill("Token", &desk.served.admin).await;
    browser.click("Sign in").await;
    browser.with_text("h1", "Logs").await;
    let url = browser.client.current_url().await.unwrap();
    assert_eq!(
        url.query(),
        Some("status=5xx"),
        "it leads to where somebody wanted to go"
    );
    desk.served.test.clock().advance(Duration::from_mins(31));
    browser.client.refresh().await.unwrap();
    browser.says("Sign in to hooklog").await;
    let publisher = desk.served.token(Role::Publisher, None).await;
    browser.fill("Token", &publisher).await;
    browser.click("Sign in").await;
    browser.says("which the console is not for").await;
    desk.close().await;
}

#[tokio::test]
async fn a_form_that_was_opened_before_somebody_else_changed_it_says_so() {
    let desk = Desk::open(Setup::default()).await;
    let browser = &desk.browser;
    let shop = desk.served.get("/v1/applications").await.json()["applications"][0].clone();
    let id = text(&shop["id"]);
    desk.go(&format!("/console/applications/{id}")).await;
    browser.fill("Description", "mine").await;
    let theirs = json!({"name": shop["name"], "description": "theirs"});
    let put = desk
        .served
        .ask("PUT", format!("/v1/applications/{id}"))
        .json(&theirs);
    assert_eq!(put.send().await.status, 200);
    browser.click("Save").await;
    browser.says("Somebody changed it meanwhile").await;
    let path = format!("/v1/applications/{id}");
    assert_eq!(desk.served.get(&path).await.json()["description"], "theirs");
    browser.check().await;
    browser.click("Save").await;
    browser.says("Saved.").await;
    assert_eq!(desk.served.get(&path).await.json()["description"], "mine");
    desk.close().await;
}

#[tokio::test]
async fn list_and_detail_work_without_script() {
    let desk = Desk::open(Setup {
        has_script: false,
        ..Setup::default()
    })
    .await;
    desk.publish_to_good_and_bad().await;
    let browser = &desk.browser;
    desk.go(&desk.place("/logs")).await;
    browser.fill("Status", "400").await;
    browser.click("Filter").await;
    browser.find(".chips").await;
    browser.find("main tbody a").await.click().await.unwrap();
    browser.with_text("h2", "Logged data").await;
    browser.click("Discard").await;
    browser.with_text("h1", "Discard this delivery?").await;
    browser.find(".danger").await.click().await.unwrap();
    browser.says("Discarded, on record.").await;
    desk.close().await;
}
