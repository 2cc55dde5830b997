//! The web console: what the gateway does, seen and steered in a browser.
//!
//! ```text
//! browser ─▶ http (limits) ─▶ Console ─▶ session (who is it) ─▶ one table: pages::all() ─▶ Handle
//! ```
//!
//! Pages are rendered here, whole, and work without script; a little script of our own keeps parts
//! of them live, asks in dialogs and copies. Whatever comes from outside is text, never markup, and
//! the content security policy lets nothing in from elsewhere.
//!
//! Everybody comes in with a token, and may do with the pages what the token's role may do with the
//! API. A change is put on record with the token before it is made, as through the API.

mod answer;
mod assets;
mod chart;
mod form;
mod format;
mod layout;
mod live;
mod pages;
mod parts;
mod session;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
mod timeline;
mod visit;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use self::{
    answer::{Answer, Trouble},
    session::{Sessions, Use},
    visit::Visit,
};
use crate::{
    http::{PageRequest, Pages, Reply, Strangers},
    model::TokenId,
    runtime::Handle,
};

/// Where all pages are.
const ROOT: &str = "/console";
/// Sign-ins that may fail from one network in a window.
const FAILURES_MAX: u32 = 10;
const FAILURE_WINDOW: Duration = Duration::from_mins(5);

/// The console of a runtime.
pub struct Console {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    sessions: Sessions,
    /// Who failed to sign in of late.
    strangers: Strangers,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Console").field(&self.inner.handle).finish()
    }
}

impl Console {
    /// The console of this runtime.
    pub fn new(handle: Handle) -> Self {
        let inner = Inner {
            handle,
            sessions: Sessions::default(),
            strangers: Strangers::new(FAILURES_MAX, FAILURE_WINDOW),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Method and path of every page and step, with `{name}` for what varies.
    #[cfg(feature = "testing")]
    pub fn routes() -> impl Iterator<Item = (&'static str, String)> {
        pages::all().map(|page| (page.method, format!("{ROOT}{}", page.path)))
    }

    /// A path that signs in once, as the bearer of this token, within the next hour.
    pub fn sign_in_path(&self, token: TokenId) -> String {
        let moment = self.inner.handle.moment();
        let ticket = self.inner.sessions.ticket(token, &moment);
        format!("{ROOT}/login?ticket={}", ticket.reveal())
    }
}

impl Pages for Console {
    fn takes(&self, path: &str) -> bool {
        path == "/"
            || path == ROOT
            || path
                .strip_prefix(ROOT)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    fn body_bytes_max(&self, cookie: Option<&str>) -> usize {
        /// What signing in takes.
        const OF_STRANGERS: usize = 16 << 10;
        /// A message of a mebibyte, spelled in escapes.
        const OF_SESSIONS: usize = 4 << 20;
        let now = self.inner.handle.now();
        let session = cookie.and_then(visit::session_of);
        let known = session.and_then(|value| self.inner.sessions.find(value, now, Use::Unseen));
        if known.is_some() {
            OF_SESSIONS
        } else {
            OF_STRANGERS
        }
    }

    fn refuse(&self, request: PageRequest, status: u16, reason: &str) -> Reply {
        let visit = Visit::new(Arc::clone(&self.inner), request, Vec::new());
        let trouble = Trouble::Unread {
            status,
            text: format!("{reason}."),
        };
        layout::trouble(&visit, &trouble).into_reply()
    }

    fn answer(&self, request: PageRequest) -> BoxFuture<'static, Reply> {
        let inner = Arc::clone(&self.inner);
        async move { respond(inner, request).await.into_reply() }.boxed()
    }
}

async fn respond(inner: Arc<Inner>, request: PageRequest) -> Answer {
    let asset = request.path.strip_prefix(assets::ROOT);
    if let Some(asset) = asset.and_then(assets::find) {
        return asset;
    }
    let Some((page, parameters)) = pages::find(&request.method, &request.path) else {
        let visit = Visit::new(inner, request, Vec::new());
        return layout::missing(&visit);
    };
    let visit = Visit::new(inner, request, parameters);
    match visit.admit(page).await {
        Err(answer) => answer,
        Ok(visit) => {
            let visit = Arc::new(visit);
            let shown = (page.run)(Arc::clone(&visit)).await;
            shown.unwrap_or_else(|trouble| layout::trouble(&visit, &trouble))
        }
    }
}
