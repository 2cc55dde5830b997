//! Publishers, in a process of their own.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{
    Client, RequestBuilder, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};

use super::{
    body::{batch, body},
    measure::{Made, apart, monotonic},
};

/// Makes the benchmark's binary be the publishers: what they are, and the first number of a body
/// and the one after the last.
pub(super) const ARGUMENT: &str = "--load";
/// Messages of a batch.
pub(super) const BATCH_MESSAGES: usize = 100;
const JSON: &str = "application/json";

/// How messages are published.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Publishing {
    /// One batch after another.
    Batches,
    /// One message a request, each connection as fast as it is answered.
    Singles,
    /// One message a request, each at its time, so many nanoseconds after the one before.
    Timed(u64),
}

/// Messages to a gateway.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) publishing: Publishing,
    pub(super) connections: usize,
}

impl Load {
    /// Makes it in a process of its own.
    pub(super) fn made(&self, bodies: Range<usize>) -> Made {
        let load = serde_json::to_string(self).unwrap();
        let (first, end) = (bodies.start.to_string(), bodies.end.to_string());
        apart(&[ARGUMENT, &load, &first, &end])
    }

    /// Makes it.
    pub(super) async fn make(&self, bodies: Range<usize>) -> Made {
        let bodies: Vec<Bytes> = bodies.map(body).collect();
        let publisher = Publisher {
            client: client(),
            url: &self.url,
            bearer: &format!("Bearer {}", self.token),
            connections: self.connections,
        };
        Made::of(|began| publisher.publish(bodies, self.publishing, began)).await
    }
}

/// Is the publishers, as these arguments say.
pub(super) async fn serve(load: &str, first: &str, end: &str) {
    let load: Load = serde_json::from_str(load).unwrap();
    let bodies = first.parse().unwrap()..end.parse().unwrap();
    let made = load.make(bodies).await;
    println!("{}", serde_json::to_string(&made).unwrap());
}

fn client() -> Client {
    let client = Client::builder().no_proxy().http1_only();
    client.tcp_nodelay(true).build().unwrap()
}

async fn accepted(request: RequestBuilder) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    response.bytes().await.unwrap();
}

struct Publisher<'a> {
    client: Client,
    url: &'a str,
    bearer: &'a str,
    connections: usize,
}

impl Publisher<'_> {
    async fn publish(&self, bodies: Vec<Bytes>, publishing: Publishing, began: u64) {
        match publishing {
            Publishing::Batches => {
                for bodies in bodies.chunks(BATCH_MESSAGES) {
                    accepted(self.request("", batch(bodies))).await;
                }
            }
            Publishing::Singles => {
                let requests = stream::iter(bodies).map(|body| self.request("?raw=true", body));
                requests
                    .for_each_concurrent(self.connections, accepted)
                    .await;
            }
            Publishing::Timed(interval) => self.publish_timed(bodies, interval, began).await,
        }
    }

    /// The time of a message is kept whatever became of those before it, so that a gateway that
    /// stalls is charged with every message that was due meanwhile.
    async fn publish_timed(&self, bodies: Vec<Bytes>, interval: u64, began: u64) {
        let due = |number: u64| began + number * interval;
        let requests = stream::iter(bodies).zip(stream::iter(0..));
        let requests = requests.then(|(body, number)| async move {
            let early = due(number).saturating_sub(monotonic());
            if early > 0 {
                tokio::time::sleep(Duration::from_nanos(early)).await;
            }
            self.request("?raw=true", body)
        });
        requests
            .for_each_concurrent(self.connections, accepted)
            .await;
    }

    fn request(&self, query: &str, body: Bytes) -> RequestBuilder {
        self.client
            .post(format!("{}{query}", self.url))
            .header(AUTHORIZATION, self.bearer)
            .header(CONTENT_TYPE, JSON)
            .body(body)
    }
}
