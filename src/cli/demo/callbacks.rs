//! The three callbacks of the demo.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    clock::SystemClock,
    model::{CallbackUrl, Invalid},
    testing::callback::{Answer, CallbackServer, ReceivedCall},
};

/// Any port of this machine that is free.
pub(in crate::cli) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Of the first tries that reach the flaky callback, every so many is refused with 503. Far from
/// ten in a row, so its circuit stays closed.
const REFUSED_EVERY: u64 = 4;
/// Every so many is never answered and runs into the read timeout.
const HUNG_EVERY: u64 = 97;

/// What a callback of the demo is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Temper {
    /// Takes every message.
    Healthy,
    /// Fails some first tries, takes every second one.
    Flaky,
    /// Refuses every message.
    Broken,
}

impl Temper {
    pub(in crate::cli) const ALL: [Self; 3] = [Self::Healthy, Self::Flaky, Self::Broken];

    pub(in crate::cli) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky",
            Self::Broken => "broken",
        }
    }
}

/// The callbacks, on one port.
pub(in crate::cli) struct Callbacks {
    server: CallbackServer,
}

impl Callbacks {
    /// Starts them.
    pub(in crate::cli) async fn start() -> io::Result<Self> {
        Self::start_at(ANY_PORT, 404, |_| {}).await
    }

    /// Starts them at an address; other paths are answered with this status, and each request is
    /// shown to `witness` before it is answered.
    pub(in crate::cli) async fn start_at(
        address: SocketAddr,
        other: u16,
        witness: impl Fn(&ReceivedCall) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let first_tries = AtomicU64::new(0);
        let answers = move |call: &ReceivedCall| {
            witness(call);
            match call.target.as_str() {
                "/healthy" => Answer::ok(),
                "/flaky" => flaky(call, &first_tries),
                "/broken" => Answer::status(400).with_body("this callback refuses everything"),
                _ => Answer::status(other),
            }
        };
        let server = CallbackServer::start_at(address, SystemClock::shared(), answers).await?;
        Ok(Self { server })
    }

    /// Where they are.
    pub(in crate::cli) fn base(&self) -> String {
        self.server
            .url("/")
            .to_string()
            .trim_end_matches('/')
            .to_owned()
    }
}

fn flaky(call: &ReceivedCall, first_tries: &AtomicU64) -> Answer {
    if call.attempt().is_some_and(|attempt| attempt.get() > 1) {
        return Answer::ok();
    }
    let number = first_tries.fetch_add(1, Ordering::Relaxed) + 1;
    if number.is_multiple_of(HUNG_EVERY) {
        Answer::ok().held()
    } else if number.is_multiple_of(REFUSED_EVERY) {
        Answer::status(503).with_body("try again")
    } else {
        Answer::ok()
    }
}

/// The URL of a callback.
pub(super) fn url(base: &str, temper: Temper) -> Result<CallbackUrl, Invalid> {
    format!("{}/{}", base.trim_end_matches('/'), temper.as_str()).parse()
}
