//! A request for a page, with who asks.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use maud::{Markup, html};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Inner, ROOT,
    answer::{Answer, Trouble},
    form::Form,
    layout,
    session::{Notice, SignedIn, Use},
};
use crate::{
    http::PageRequest,
    model::{Api, ApiId, Invalid, Permission, Timestamp, Token},
    projection::{Projection, View, ViewError},
    runtime::{ControlError, Handle},
};

/// Name of the cookie.
const COOKIE: &str = "hooklog_session";
/// Longest wait for a view to show everything that is in the log.
const VIEW_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Tells whether somebody may still see what they saw.
pub(super) struct StillIn {
    inner: Arc<Inner>,
    signed_in: SignedIn,
}

impl StillIn {
    /// Whether the session is open and its token in force.
    pub(super) fn holds(&self) -> bool {
        let handle = &self.inner.handle;
        self.inner.sessions.is_open(&self.signed_in, handle.now())
            && matches!(handle.token_in_force(self.signed_in.token), Ok(Some(_)))
    }
}

/// Stands for a definition as it is: another has another.
fn digest(definition: &impl Serialize) -> String {
    let text = serde_json::to_vec(definition).unwrap_or_default();
    blake3::hash(&text).to_hex()[..16].to_owned()
}

/// What a page does.
pub(super) type Run = fn(Arc<Visit>) -> BoxFuture<'static, Result<Answer, Trouble>>;

/// A page or a step, as the table names it.
#[derive(Clone, Copy)]
pub(super) struct Page {
    /// Its method: GET shows, POST does.
    pub(super) method: &'static str,
    /// Its path, with `{name}` for what varies.
    pub(super) path: &'static str,
    /// Who may; everybody where it is absent.
    pub(super) needs: Option<Permission>,
    /// Does it.
    pub(super) run: Run,
}

/// The value of the session's cookie.
pub(super) fn session_of(cookies: &str) -> Option<&str> {
    let mut values = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    values
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// A request for a page.
pub(super) struct Visit {
    inner: Arc<Inner>,
    request: PageRequest,
    parameters: Vec<(&'static str, String)>,
    /// The query.
    pub(super) query: Form,
    /// What was sent with the form.
    pub(super) form: Form,
    session: Option<(SignedIn, Token)>,
    /// Why it cannot be told who asks.
    unknown: Option<ViewError>,
}

impl Visit {
    pub(super) fn new(
        inner: Arc<Inner>,
        request: PageRequest,
        parameters: Vec<(&'static str, String)>,
    ) -> Self {
        let mut visit = Self {
            query: Form::parse(request.query.as_bytes()),
            form: if request.method == "POST" {
                Form::parse(&request.body)
            } else {
                Form::default()
            },
            inner,
            request,
            parameters,
            session: None,
            unknown: None,
        };
        match visit.signed_in() {
            Ok(session) => visit.session = session,
            Err(error) => visit.unknown = Some(error),
        }
        visit
    }

    fn signed_in(&self) -> Result<Option<(SignedIn, Token)>, ViewError> {
        let Some(signed_in) = self.known() else {
            return Ok(None);
        };
        let token = self.handle().token_in_force(signed_in.token)?;
        let token = token.filter(|token| token.role.may(Permission::Read));
        Ok(token.map(|token| (signed_in, token)))
    }

    /// The session of the cookie, whatever became of its token.
    fn known(&self) -> Option<SignedIn> {
        let now = self.now();
        let value = session_of(self.request.cookie.as_deref()?)?;
        let usage = if self.is_by_script() {
            Use::Unseen
        } else {
            Use::Seen
        };
        self.inner.sessions.find(value, now, usage)
    }

    /// The same visit, if who asks may see the page, and asked for it on a page of ours.
    pub(super) async fn admit(self, page: &Page) -> Result<Self, Answer> {
        if page.method == "POST" && !self.is_ours() {
            let trouble = Trouble::Foreign("The form did not come from this console.");
            return Err(layout::trouble(&self, &trouble));
        }
        let Some(permission) = page.needs else {
            return Ok(self);
        };
        if let Some(error) = self.unknown.clone() {
            return Err(layout::trouble(&self, &error.into()));
        }
        let Some((signed_in, token)) = &self.session else {
            return Err(Answer::see(self.login_path()));
        };
        if !token.role.may(permission) {
            let trouble = Trouble::Forbidden(permission.as_str());
            return Err(layout::trouble(&self, &trouble));
        }
        if page.method == "POST" {
            if self.form.get("form_key") != Some(signed_in.form_key.as_str()) {
                let text = "This form is from an earlier session. Open the page again.";
                return Err(layout::trouble(&self, &Trouble::Foreign(text)));
            }
            let operation = format!("console:{}", page.path.trim_start_matches(ROOT));
            let recorded =
                self.handle()
                    .record_request(token.id, &operation, &self.request.path, None);
            if let Err(error) = recorded.await {
                return Err(layout::trouble(&self, &error.into()));
            }
        }
        Ok(self)
    }

    /// Whether the page's own script asks, and not the person.
    fn is_by_script(&self) -> bool {
        self.request.fetch_dest.as_deref() == Some("empty")
    }

    /// Whether only its head is asked for.
    pub(super) fn is_head(&self) -> bool {
        self.request.method == "HEAD"
    }

    /// What a stream needs: room, and a way to tell whether who opened it may still see it.
    pub(super) fn stream(&self) -> Result<(OwnedSemaphorePermit, StillIn), Trouble> {
        let too_many = || Trouble::Refused("this session has as many streams as it may".to_owned());
        let (signed_in, _) = self.session.as_ref().ok_or_else(too_many)?;
        let room = self.inner.sessions.stream(signed_in).ok_or_else(too_many)?;
        let still_in = StillIn {
            inner: Arc::clone(&self.inner),
            signed_in: signed_in.clone(),
        };
        Ok((room, still_in))
    }

    /// A field of a form that says of what it was made.
    pub(super) fn made_of(definition: &impl Serialize) -> Markup {
        html! { input type="hidden" name="made_of" value=(digest(definition)); }
    }

    /// What is wrong with a form that was made of something else than this.
    pub(super) fn stale(&self, definition: &impl Serialize) -> Option<Invalid> {
        let made_of = self.form.get("made_of")?;
        let reason =
            "Somebody changed it meanwhile. Save again to put what stands here in place of theirs.";
        (made_of != digest(definition)).then(|| Invalid::one("", reason))
    }

    /// Whether the browser says that the request was made by a page of ours.
    fn is_ours(&self) -> bool {
        match (&self.request.fetch_site, &self.request.origin) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => {
                let host = origin.split_once("://").map(|(_, host)| host);
                host.is_some() && host == self.request.host.as_deref()
            }
            (None, None) => false,
        }
    }

    /// Where to sign in and come back from.
    fn login_path(&self) -> String {
        let mut path = format!("{ROOT}/login");
        if self.request.method == "GET" && self.request.path != ROOT && self.request.path != "/" {
            path.push_str("?next=");
            path.extend(url::form_urlencoded::byte_serialize(
                self.address().as_bytes(),
            ));
        }
        path
    }

    /// Path and query as they were asked for.
    pub(super) fn address(&self) -> String {
        if self.request.query.is_empty() {
            return self.request.path.clone();
        }
        format!("{}?{}", self.request.path, self.request.query)
    }

    /// The path as it was asked for.
    pub(super) fn path(&self) -> &str {
        &self.request.path
    }

    /// The runtime.
    pub(super) fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    pub(super) fn now(&self) -> Timestamp {
        self.handle().now()
    }

    /// Counts a sign-in that failed, unless it is one too many from there; then gives false.
    pub(super) fn may_fail(&self) -> bool {
        let strangers = &self.inner.strangers;
        strangers.may_err(self.request.peer, self.now())
    }

    /// The position after which a stream goes on.
    pub(super) fn last_event_id(&self) -> Option<&str> {
        self.request.last_event_id.as_deref()
    }

    pub(super) fn sessions(&self) -> &super::session::Sessions {
        &self.inner.sessions
    }

    /// The token of who asks.
    pub(super) fn token(&self) -> Option<&Token> {
        self.session.as_ref().map(|(_, token)| token)
    }

    /// What every form carries.
    fn form_key(&self) -> &str {
        let session = self.session.as_ref();
        session.map_or("", |(signed_in, _)| &signed_in.form_key)
    }

    /// The field of a form that carries it.
    pub(super) fn form_key_field(&self) -> Markup {
        html! { input type="hidden" name="form_key" value=(self.form_key()); }
    }

    /// Tells on the next page what came of a step, and goes there.
    pub(super) async fn step<T>(
        &self,
        told: &str,
        step: impl Future<Output = Result<T, ControlError>>,
        to: String,
    ) -> Result<Answer, Trouble> {
        match step.await {
            Ok(_) => self.say(told),
            Err(error) => self.warn(format!("That cannot be done: {error}.")),
        }
        Ok(Answer::see(to))
    }

    /// Whether who asks may do this.
    pub(super) fn may(&self, permission: Permission) -> bool {
        self.token().is_some_and(|token| token.role.may(permission))
    }

    /// A part of the path.
    pub(super) fn parameter<T: FromStr>(&self, name: &str) -> Result<T, Trouble> {
        let found = self.parameters.iter().find(|(known, _)| *known == name);
        let text = found.map_or("", |(_, value)| value);
        let text = percent_decode_str(text).decode_utf8_lossy();
        let missing = || Trouble::Missing(format!("There is no {name} {text:?}."));
        text.parse().map_err(|_| missing())
    }

    /// The API of the path.
    pub(super) fn api(&self) -> Result<Arc<Api>, Trouble> {
        Ok(self.handle().api(self.parameter::<ApiId>("api")?)?)
    }

    /// A view that has seen what is in the log by now, or nearly.
    pub(super) async fn fresh<P: Projection>(&self, view: View<P>) -> View<P> {
        // One that is far behind is shown as it is; the page of projections tells why.
        let _ = view.at(self.handle().log().head(), VIEW_WAIT).await;
        view
    }

    /// Tells, on the next page, what was done.
    pub(super) fn say(&self, text: impl Into<String>) {
        self.notice(text.into(), false);
    }

    /// Tells, on the next page, what could not be done.
    pub(super) fn warn(&self, text: impl Into<String>) {
        self.notice(text.into(), true);
    }

    fn notice(&self, text: String, is_fault: bool) {
        if let Some((signed_in, _)) = &self.session {
            let notice = Notice { text, is_fault };
            self.inner.sessions.notice(signed_in, notice);
        }
    }

    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let session = self.session.as_ref();
        let session = session.filter(|_| !self.is_by_script());
        session.map_or_else(Vec::new, |(signed_in, _)| {
            self.inner.sessions.take_notices(signed_in)
        })
    }

    /// A cookie that opens the session.
    pub(super) fn cookie(&self, value: &str) -> String {
        let secure = if self.is_loopback() { "" } else { "; Secure" };
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
    }

    /// A cookie that ends it.
    pub(super) fn no_cookie(&self) -> String {
        format!("{}; Max-Age=0", self.cookie(""))
    }

    pub(super) fn sign_out(&self) {
        if let Some((signed_in, _)) = &self.session {
            self.inner.sessions.close(signed_in);
        }
    }

    /// Whether it came to this machine by its own name: then nobody can listen on the way.
    fn is_loopback(&self) -> bool {
        let host = self.request.host.as_deref().unwrap_or_default();
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}
