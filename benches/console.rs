//! How long does the webhook log take to be shown when a million deliveries are in it? The first
//! page, pages under filters, and the thousandth page, each as a browser gets it.
//!
//! `cargo bench --features testing --bench console`, optionally followed by `-- [rounds]`.
//! The data goes to `TMPDIR`. Filling the log takes most of the time.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

use std::{env, net::TcpListener, sync::Arc, thread, time::Duration};

use hooklog::{
    clock::{Clock, SystemClock},
    console::Console,
    http::{Gateway, Server},
    log::Durability,
    model::{Api, Application, ConsumerConfiguration, Message, Retry, Role, Subscription, Token},
    runtime::{Handle, Runtime},
    testing::{FakeAnswer, FakeTransport},
};
use reqwest::{Client, header};

/// Messages, each for every subscription.
const MESSAGES: usize = 100_000;
const SUBSCRIPTIONS: usize = 10;
/// Messages of a batch.
const BATCH_MESSAGES: usize = 1_000;
/// How far the thousandth page is.
const FAR: usize = 1_000;
const ROUNDS: usize = 21;

/// A console with a full log, and a session of it.
struct Desk {
    client: Client,
    base: String,
    list: String,
    application: String,
}

impl Desk {
    async fn page(&self, path: &str) -> (String, Duration) {
        let clock = SystemClock::new();
        let begun = clock.elapsed();
        let answer = self.client.get(format!("{}{path}", self.base)).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let text = answer.text().await.unwrap();
        (text, clock.elapsed().saturating_sub(begun))
    }

    /// Median, least and most of so many rounds, in milliseconds.
    async fn measure(&self, path: &str, rounds: usize) -> [f64; 3] {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            times.push(self.page(path).await.1.as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        [times[rounds / 2], times[0], times[rounds - 1]]
    }

    /// Where the page after this one is.
    fn next(page: &str) -> String {
        let (_, rest) = page.split_once("rel=\"next\" href=\"").unwrap();
        let (path, _) = rest.split_once('"').unwrap();
        path.replace("&amp;", "&")
    }
}

async fn fill(handle: &Handle) -> (String, String) {
    let api = handle.create_api(Api::named("orders")).await.unwrap();
    let mut application = String::new();
    for index in 0..SUBSCRIPTIONS {
        let one = Application::named(format!("application {index}"));
        let one = handle.create_application(one).await.unwrap();
        application = one.id.to_string();
        let configuration = ConsumerConfiguration {
            callback_url: Some(format!("https://example.com/{index}").parse().unwrap()),
            retry: Some(Retry::none()),
            ..ConsumerConfiguration::default()
        };
        let subscription = Subscription::with(configuration).by(one.id);
        handle.subscribe(api.id, subscription).await.unwrap();
    }
    for _ in 0..MESSAGES / BATCH_MESSAGES {
        let batch = (0..BATCH_MESSAGES)
            .map(|_| Message::text("a message"))
            .collect();
        handle.publish_batch(api.id, batch).await.unwrap();
    }
    handle.settle().await;
    (format!("/console/apis/{}/logs", api.id), application)
}

fn serve(gateway: Gateway) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let server = Server::listen(Arc::new(gateway), listener, 1).unwrap();
            server.run(std::future::pending()).await.unwrap();
        });
    });
    base
}

async fn sign_in(base: &str, console: &Console, handle: &Handle) -> Client {
    let token = handle
        .create_token(Token::named("bench", Role::Admin))
        .await;
    let path = console.sign_in_path(token.unwrap().0.id);
    let plain = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let answer = plain
        .unwrap()
        .get(format!("{base}{path}"))
        .send()
        .await
        .unwrap();
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().parse().unwrap();
    let headers = [(header::COOKIE, cookie)].into_iter().collect();
    Client::builder().default_headers(headers).build().unwrap()
}

async fn run(rounds: usize) {
    let data = tempfile::tempdir().unwrap();
    let transport = FakeTransport::new(SystemClock::shared());
    let mut calls = 0_u32;
    transport.answer(move |_| {
        calls += 1;
        FakeAnswer::Status(match calls % 20 {
            0 => 400,
            1 | 2 => 503,
            _ => 200,
        })
    });
    let runtime = Runtime::builder(data.path())
        .durability(Durability::Buffered)
        .transport(Arc::new(transport))
        .start()
        .await
        .unwrap();
    let handle = runtime.handle();
    let clock = SystemClock::new();
    let begun = clock.elapsed();
    let (list, application) = fill(&handle).await;
    let took = clock.elapsed().saturating_sub(begun);
    println!(
        "{} deliveries in {:.0} s",
        MESSAGES * SUBSCRIPTIONS,
        took.as_secs_f64()
    );
    let console = Arc::new(Console::new(handle.clone()));
    let base = serve(Gateway::new(handle.clone()).with_pages(Arc::clone(&console) as _));
    let client = sign_in(&base, &console, &handle).await;
    let desk = Desk {
        client,
        base,
        list,
        application,
    };
    report(&desk, rounds).await;
    runtime.shutdown(Duration::from_secs(8)).await;
}

async fn report(desk: &Desk, rounds: usize) {
    let list = &desk.list;
    let mut far = desk.page(list).await.0;
    let second = Desk::next(&far);
    for _ in 1..FAR {
        far = desk.page(&Desk::next(&far)).await.0;
    }
    let far = Desk::next(&far);
    let first = desk.measure(list, rounds).await;
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>7}",
        "page", "median ms", "least", "most", "/ first"
    );
    let sides = [
        ("first page", list.clone()),
        ("page 2, by cursor", second),
        ("page 1,000, by cursor", far),
        ("status 4xx", format!("{list}?status=4xx")),
        (
            "status 5xx, one application",
            format!("{list}?status=5xx&application={}", desk.application),
        ),
        (
            "one callback, in the DLQ, at least 1 ms",
            format!("{list}?callback=https://example.com/3&dlq=yes&min_ms=1"),
        ),
        ("nothing matches", format!("{list}?status=204")),
    ];
    for (name, path) in sides {
        let [median, least, most] = desk.measure(&path, rounds).await;
        println!(
            "{name:<44} {median:>9.1} {least:>9.1} {most:>9.1} {:>7.2}",
            median / first[0]
        );
    }
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rounds = env::args().find_map(|text| text.parse().ok());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(rounds.unwrap_or(ROUNDS)));
}
