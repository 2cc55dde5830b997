//! A gateway that is served on a socket, and a client of it.

use std::{net::TcpListener, pin::Pin, sync::Arc, thread};

use hooklog::{
    console::Console,
    http::{Gateway, Server, TimeLimits},
    model::{ApplicationId, Role, Token},
    testing::TestRuntime,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::oneshot;

/// A served test runtime, with an admin's token.
pub(crate) struct Served {
    pub(crate) test: TestRuntime,
    pub(crate) base: String,
    pub(crate) admin: String,
    pub(crate) console: Arc<Console>,
    client: reqwest::Client,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this status, in the form that all have, and gives it.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["status"], status);
        let problem_type = problem["type"].as_str().unwrap();
        assert!(
            problem_type.starts_with("urn:hooklog:problem:"),
            "{problem}"
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        problem
    }
}

/// A request that is being put together.
pub(crate) struct Ask<'a> {
    served: &'a Served,
    method: Method,
    path: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Served {
    /// Lets time pass until this is answered.
    async fn while_time_passes(&self, mut sent: Pin<&mut impl Future<Output = Answer>>) -> Answer {
        let (handle, clock) = (self.test.handle(), self.test.clock());
        loop {
            tokio::select! {
                answer = &mut sent => return answer,
                () = tokio::task::yield_now() => {
                    // Other views are waited for as well, and have to get there before time passes.
                    let wait = clock.next_wake();
                    let behind = handle.projections().iter().filter(|view| view.lag.0 > 0).count();
                    if let Some(wait) = wait.filter(|_| behind <= 1) {
                        clock.advance(wait);
                    }
                }
            }
        }
    }

    /// Serves a runtime on this directory.
    pub(crate) async fn start(data: &std::path::Path) -> Self {
        Self::serve(TestRuntime::start(data, 1).await.unwrap()).await
    }

    /// Serves this runtime.
    pub(crate) async fn serve(test: TestRuntime) -> Self {
        let gateway = Gateway::new(test.handle());
        Self::serve_as(test, gateway).await
    }

    /// Serves this runtime with metrics that anybody may scrape.
    pub(crate) async fn serve_with_open_metrics(test: TestRuntime) -> Self {
        let gateway = Gateway::new(test.handle()).with_open_metrics(true);
        Self::serve_as(test, gateway).await
    }

    /// Serves this runtime with room for so many bytes of what is sent.
    pub(crate) async fn serve_with_body_bytes_max(test: TestRuntime, bytes_max: usize) -> Self {
        let gateway = Gateway::new(test.handle()).with_body_bytes_max(bytes_max);
        Self::serve_as(test, gateway).await
    }

    /// Serves this runtime to clients that may take so long.
    pub(crate) async fn serve_with_time_limits(test: TestRuntime, limits: TimeLimits) -> Self {
        let gateway = Gateway::new(test.handle()).with_time_limits(limits);
        Self::serve_as(test, gateway).await
    }

    async fn serve_as(test: TestRuntime, gateway: Gateway) -> Self {
        // The client wants one; it calls plain HTTP alone. It may be there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let console = Arc::new(Console::new(test.handle()));
        let gateway = Arc::new(gateway.with_pages(Arc::clone(&console) as _));
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let server = Server::listen(gateway, listener, 2).unwrap();
                server.run(async { drop(ended.await) }).await.unwrap();
            });
        });
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let admin = test
            .handle()
            .create_token(Token::named("test", Role::Admin))
            .await;
        Self {
            admin: admin.unwrap().1.reveal().to_owned(),
            base,
            console,
            client: client.build().unwrap(),
            end: Some(end),
            thread: Some(thread),
            test,
        }
    }

    /// The secret of a new token of this role.
    pub(crate) async fn token(&self, role: Role, application: Option<ApplicationId>) -> String {
        let token = Token {
            application,
            ..Token::named("test", role)
        };
        let created = self.test.handle().create_token(token).await.unwrap();
        created.1.reveal().to_owned()
    }

    /// The cookie of a new session of the console, for the bearer of a new token of this role.
    pub(crate) async fn session(&self, role: Role) -> String {
        let token = Token::named("somebody", role);
        let token = self.test.handle().create_token(token).await.unwrap().0;
        let path = self.console.sign_in_path(token.id);
        let entered = self.ask("GET", path).token(None).send().await;
        let cookie = entered.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    pub(crate) fn ask(&self, method: &str, path: impl Into<String>) -> Ask<'_> {
        Ask {
            served: self,
            method: method.parse().unwrap(),
            path: path.into(),
            token: Some(self.admin.clone()),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) async fn get(&self, path: impl Into<String>) -> Answer {
        self.ask("GET", path).send().await
    }

    pub(crate) async fn post(&self, path: impl Into<String>, body: Value) -> Answer {
        self.ask("POST", path).json(&body).send().await
    }

    /// A response that is read as it comes.
    pub(crate) async fn open(&self, path: &str, last: Option<&str>) -> reqwest::Response {
        let mut request = self.client.get(format!("{}{path}", self.base));
        request = request.bearer_auth(&self.admin);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    }

    /// The same with this token, from the start.
    pub(crate) async fn open_as(&self, token: &str, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.bearer_auth(token).send().await.unwrap()
    }

    /// Ends the server, and gives its runtime back.
    pub(crate) async fn stop(mut self) -> TestRuntime {
        drop(self.end.take());
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
        self.test
    }

    /// Ends everything in order.
    pub(crate) async fn shutdown(self) {
        self.stop().await.shutdown().await;
    }
}

impl Ask<'_> {
    pub(crate) fn token(mut self, token: Option<&str>) -> Self {
        self.token = token.map(ToOwned::to_owned);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut ask = self.header("content-type", content_type);
        ask.body = Some(body.into());
        ask
    }

    /// Sends a change while a view stands still, and lets the time pass for which its answer waits
    /// for the view.
    pub(crate) async fn send_without_view(self) -> Answer {
        let served = self.served;
        let handle = served.test.handle();
        let noted = handle.projection_changed("idempotency_keys", handle.log().head());
        let mut sent = std::pin::pin!(self.send());
        tokio::select! {
            answer = &mut sent => return answer,
            _ = noted => {}
        }
        served.while_time_passes(sent).await
    }

    /// The same of what changes nothing.
    pub(crate) async fn read_without_view(self) -> Answer {
        let served = self.served;
        served.while_time_passes(std::pin::pin!(self.send())).await
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.open().await;
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// Sends it, to read the answer as it comes.
    pub(crate) async fn open(self) -> reqwest::Response {
        let url = format!("{}{}", self.served.base, self.path);
        let mut request = self.served.client.request(self.method, url);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        request.send().await.unwrap()
    }
}
