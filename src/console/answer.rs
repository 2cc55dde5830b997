//! What a page answers, and what can go wrong on the way to it.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use maud::Markup;

use crate::{http::Reply, model::Invalid, projection::ViewError, runtime::ControlError};

/// Nothing is loaded, run, framed or sent but by and to the gateway itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// What a page answers.
pub(super) enum Answer {
    /// A page.
    Page {
        /// Its status.
        status: u16,
        /// The whole document.
        markup: Markup,
        /// A cookie to set.
        cookie: Option<String>,
    },
    /// Another page is to be shown.
    See {
        /// Its path.
        to: String,
        /// A cookie to set.
        cookie: Option<String>,
    },
    /// A file that pages need.
    Asset {
        content_type: &'static str,
        bytes: &'static [u8],
        /// Whether it never changes under its name.
        is_lasting: bool,
    },
    /// A file to keep.
    Download {
        name: String,
        content_type: &'static str,
        bytes: Bytes,
    },
    /// Server-sent events.
    Events(BoxStream<'static, Bytes>),
}

impl Answer {
    pub(super) const fn page(markup: Markup) -> Self {
        Self::with_status(200, markup)
    }

    pub(super) const fn with_status(status: u16, markup: Markup) -> Self {
        Self::Page {
            status,
            markup,
            cookie: None,
        }
    }

    /// A page with a form that was filled in so; 422 where something is wrong with it.
    pub(super) const fn form(invalid: &Invalid, markup: Markup) -> Self {
        let status = if invalid.problems.is_empty() {
            200
        } else {
            422
        };
        Self::with_status(status, markup)
    }

    pub(super) fn see(to: impl Into<String>) -> Self {
        Self::See {
            to: to.into(),
            cookie: None,
        }
    }

    /// The same, setting this cookie.
    pub(super) fn with_cookie(mut self, set: String) -> Self {
        match &mut self {
            Self::Page { cookie, .. } | Self::See { cookie, .. } => *cookie = Some(set),
            Self::Asset { .. } | Self::Download { .. } | Self::Events(_) => {}
        }
        self
    }

    pub(super) fn into_reply(self) -> Reply {
        let (reply, cookie) = match self {
            Self::Page {
                status,
                markup,
                cookie,
            } => {
                let bytes = markup.into_string().into_bytes();
                (
                    Reply::bytes(status, "text/html; charset=utf-8", bytes),
                    cookie,
                )
            }
            Self::See { to, cookie } => (Reply::redirect(to), cookie),
            Self::Asset {
                content_type,
                bytes,
                is_lasting,
            } => {
                let reply = Reply::bytes(200, content_type, Bytes::from_static(bytes));
                let reply = if is_lasting { reply.lasting() } else { reply };
                (reply, None)
            }
            Self::Download {
                name,
                content_type,
                bytes,
            } => {
                let reply = Reply::bytes(200, content_type, bytes);
                let disposition = format!("attachment; filename=\"{name}\"");
                (reply.header("content-disposition", disposition), None)
            }
            Self::Events(stream) => (Reply::stream("text/event-stream", stream), None),
        };
        let reply = reply
            .header("content-security-policy", POLICY)
            .header("referrer-policy", "no-referrer")
            .header("cross-origin-opener-policy", "same-origin")
            .header("permissions-policy", "interest-cohort=()");
        match cookie {
            Some(cookie) => reply.header("set-cookie", cookie),
            None => reply,
        }
    }
}

/// Why a page cannot be shown, or what was asked for cannot be done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no such thing; what it is.
    Missing(String),
    /// The role of the token does not allow it.
    Forbidden(&'static str),
    /// The form is not one of this session; why it is taken so.
    Foreign(&'static str),
    /// What was asked for cannot be done.
    Refused(String),
    /// It cannot be told now, and can soon.
    Later(String),
    /// What was sent was not read; the status that says so, and why.
    Unread { status: u16, text: String },
    /// Something failed.
    Failed(String),
}

impl Trouble {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Missing(_) => 404,
            Self::Forbidden(_) | Self::Foreign(_) => 403,
            Self::Refused(_) => 409,
            Self::Later(_) => 503,
            Self::Unread { status, .. } => *status,
            Self::Failed(_) => 500,
        }
    }
}

impl From<ControlError> for Trouble {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::UnknownApi(_)
            | ControlError::UnknownApplication(_)
            | ControlError::UnknownSubscription(_)
            | ControlError::UnknownMessage(_)
            | ControlError::UnknownToken(_)
            | ControlError::UnknownDelivery(_)
            | ControlError::UnknownJob(_) => Self::Missing(text),
            ControlError::View(error) => error.into(),
            ControlError::Append(_)
            | ControlError::Read(_)
            | ControlError::Vault(_)
            | ControlError::Stopped => Self::Failed(text),
            _ => Self::Refused(text),
        }
    }
}

impl From<ViewError> for Trouble {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Query(invalid) => Self::Refused(invalid.to_string()),
            ViewError::Mending { .. } | ViewError::Rows(_) => Self::Later(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<Invalid> for Trouble {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.to_string())
    }
}
