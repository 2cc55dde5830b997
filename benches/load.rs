//! What is run against the callback and the gateway: a bare loop of calls, and publishers. Each in
//! a process of its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{
    Client, RequestBuilder, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{body, measure::cpu};

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

/// What a load is made of.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Load {
    /// Calls to the callback, as a program without a gateway would make them.
    Bare { url: String, in_flight: usize },
    /// Messages to the gateway.
    Publish {
        url: String,
        token: String,
        publishing: Publishing,
        connections: usize,
    },
}

/// What making it took.
#[derive(Serialize, Deserialize)]
pub(super) struct Made {
    /// When it began, on the monotonic clock, in nanoseconds.
    pub(super) began: u64,
    /// How long it took, in seconds.
    pub(super) wall_seconds: f64,
    /// CPU time of its process meanwhile, in seconds.
    pub(super) cpu_seconds: f64,
}

impl Load {
    /// Makes it with so many bodies.
    pub(super) async fn make(&self, bodies: usize) -> Made {
        let bodies: Vec<Bytes> = (0..bodies).map(body).collect();
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .build()
            .unwrap();
        let cpu_before = cpu();
        let began = monotonic();
        match self {
            Self::Bare { url, in_flight } => {
                let call = |body: Bytes| client.post(url).header(CONTENT_TYPE, JSON).body(body);
                let calls = stream::iter(bodies).map(call);
                calls
                    .for_each_concurrent(*in_flight, |call| answered(call, StatusCode::NO_CONTENT))
                    .await;
            }
            Self::Publish {
                url,
                token,
                publishing,
                connections,
            } => {
                let bearer = format!("Bearer {token}");
                let publisher = Publisher {
                    client,
                    url,
                    bearer: &bearer,
                    connections: *connections,
                };
                publisher.publish(bodies, *publishing, began).await;
            }
        }
        Made {
            began,
            wall_seconds: (monotonic() - began) as f64 / 1e9,
            cpu_seconds: cpu().saturating_sub(cpu_before).as_secs_f64(),
        }
    }
}

async fn answered(request: RequestBuilder, status: StatusCode) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
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
                for batch in bodies.chunks(BATCH_MESSAGES) {
                    let mut all = Vec::new();
                    for body in batch {
                        all.extend_from_slice(if all.is_empty() { b"[" } else { b"," });
                        all.extend_from_slice(b"{\"content\":");
                        all.extend_from_slice(body);
                        all.push(b'}');
                    }
                    all.push(b']');
                    answered(self.request("", all.into()), StatusCode::ACCEPTED).await;
                }
            }
            Publishing::Singles => {
                let requests = stream::iter(bodies).map(|body| self.request("?raw=true", body));
                requests
                    .for_each_concurrent(self.connections, |request| {
                        answered(request, StatusCode::ACCEPTED)
                    })
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
            .for_each_concurrent(self.connections, |request| {
                answered(request, StatusCode::ACCEPTED)
            })
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

/// The monotonic clock, the same in every process of this machine, in nanoseconds.
pub(super) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}
