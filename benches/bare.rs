//! Calls to the callback as a program without a gateway would make them, in a process of its own:
//! by reqwest, as a program of today would, by hyper, which reqwest and the gateway stand on, and by
//! sockets alone. Each
//! on one thread, with the same bodies and as many calls in flight.

use std::cell::RefCell;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::{
    StatusCode, Url,
    header::{CONTENT_TYPE, HOST},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    body::body,
    measure::{Made, apart},
};

/// Makes the benchmark's binary make the calls: which, and how many.
pub(super) const ARGUMENT: &str = "--bare";
const JSON: &str = "application/json";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const NO_CONTENT: &[u8] = b"HTTP/1.1 204 ";

/// What makes them.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Client {
    /// Its pool of connections, its URLs and its layers.
    Reqwest,
    /// HTTP on as many connections as calls may be in flight.
    Hyper,
    /// Requests that were written before, on as many connections; of an answer the head is looked
    /// for.
    Sockets,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Bare {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) in_flight: usize,
}

impl Bare {
    /// Makes so many calls in a process of its own.
    pub(super) fn made(&self, calls: usize) -> Made {
        let bare = serde_json::to_string(self).unwrap();
        apart(&[ARGUMENT, &bare, &calls.to_string()])
    }

    async fn make(&self, calls: usize) -> Made {
        let bodies: Vec<Bytes> = (0..calls).map(body).collect();
        let target = Target::of(&self.url);
        match self.client {
            Client::Reqwest => Made::of(|_| self.by_reqwest(bodies)).await,
            Client::Hyper => Made::of(|_| target.by_hyper(bodies, self.in_flight)).await,
            Client::Sockets => {
                let requests = bodies.iter().map(|body| target.request(body)).collect();
                Made::of(|_| target.by_sockets(requests, self.in_flight)).await
            }
        }
    }

    async fn by_reqwest(&self, bodies: Vec<Bytes>) {
        let client = reqwest::Client::builder().no_proxy().http1_only();
        let client = client.tcp_nodelay(true).build().unwrap();
        let calls = stream::iter(bodies).map(|body| {
            let call = client.post(&self.url).header(CONTENT_TYPE, JSON);
            call.body(body).send()
        });
        let answered = calls.for_each_concurrent(self.in_flight, |call| async {
            let response = call.await.unwrap();
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            response.bytes().await.unwrap();
        });
        answered.await;
    }
}

/// Is the loop of calls, as these arguments say.
pub(super) async fn serve(bare: &str, calls: &str) {
    let bare: Bare = serde_json::from_str(bare).unwrap();
    let made = bare.make(calls.parse().unwrap()).await;
    println!("{}", serde_json::to_string(&made).unwrap());
}

/// Where a callback is.
struct Target {
    authority: String,
    path: String,
}

impl Target {
    fn of(url: &str) -> Self {
        let url: Url = url.parse().unwrap();
        Self {
            authority: url.authority().to_owned(),
            path: url.path().to_owned(),
        }
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn by_hyper(&self, bodies: Vec<Bytes>, connections: usize) {
        let bodies = RefCell::new(bodies.into_iter());
        let next = || bodies.borrow_mut().next();
        let connection = || async {
            let stream = TokioIo::new(self.connect().await);
            let (mut sender, driver) = http1::handshake(stream).await.unwrap();
            tokio::spawn(driver);
            while let Some(body) = next() {
                let request = http::Request::post(&self.path)
                    .header(HOST, &self.authority)
                    .header(CONTENT_TYPE, JSON)
                    .body(Full::new(body));
                sender.ready().await.unwrap();
                let response = sender.send_request(request.unwrap()).await.unwrap();
                assert_eq!(response.status(), StatusCode::NO_CONTENT);
                response.into_body().collect().await.unwrap();
            }
        };
        join_all((0..connections).map(|_| connection())).await;
    }

    /// A whole request, as it goes over the wire.
    fn request(&self, body: &Bytes) -> Vec<u8> {
        let Self { authority, path } = self;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: {JSON}\r\n\
             content-length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    async fn by_sockets(&self, requests: Vec<Vec<u8>>, connections: usize) {
        let requests = RefCell::new(requests.into_iter());
        let next = || requests.borrow_mut().next();
        let connection = || async {
            let mut stream = self.connect().await;
            let mut answer = Vec::new();
            while let Some(request) = next() {
                stream.write_all(&request).await.unwrap();
                answer.clear();
                while !answer.ends_with(END_OF_HEAD) {
                    assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
                }
                assert!(answer.starts_with(NO_CONTENT));
            }
        };
        join_all((0..connections).map(|_| connection())).await;
    }
}
