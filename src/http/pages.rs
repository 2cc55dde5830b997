//! What is served beside the API to people who come with a browser.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::reply::Reply;

/// What a browser asks for.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// The method.
    pub method: String,
    /// The path, as it was asked for.
    pub path: String,
    /// The query, as it was asked for.
    pub query: String,
    /// The `Cookie` header.
    pub cookie: Option<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The `Sec-Fetch-Site` header.
    pub fetch_site: Option<String>,
    /// The `Sec-Fetch-Dest` header: `empty` where a script asks.
    pub fetch_dest: Option<String>,
    /// The `Last-Event-ID` header.
    pub last_event_id: Option<String>,
    /// Whose connection it came over.
    pub peer: Option<IpAddr>,
    /// The body.
    pub body: Bytes,
}

/// Answers what browsers ask for.
pub trait Pages: Send + Sync + 'static {
    /// Whether this path is one of its own.
    fn takes(&self, path: &str) -> bool;

    /// Largest body that is read for whoever has this cookie.
    fn body_bytes_max(&self, cookie: Option<&str>) -> usize;

    /// Answers a request whose body is not read, with this status and for this reason. The body is
    /// empty.
    fn refuse(&self, request: PageRequest, status: u16, reason: &str) -> Reply;

    /// Answers. Open streams must end when the gateway closes.
    fn answer(&self, request: PageRequest) -> BoxFuture<'static, Reply>;
}
