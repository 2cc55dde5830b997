//! In and out.

use maud::html;

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        layout::{self, Place},
        visit::{Page, Visit},
    },
    does, run,
};
use crate::{
    model::{Permission, TokenId},
    runtime::TokenSecret,
};

pub(super) const PAGES: &[Page] = &[
    Page {
        method: "GET",
        path: "/login",
        needs: None,
        run: run!(async |visit| show(visit)),
    },
    Page {
        method: "POST",
        path: "/login",
        needs: None,
        run: run!(async |visit| sign_in(visit)),
    },
    does(
        Permission::Read,
        "/logout",
        run!(async |visit| sign_out(visit)),
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn show(visit: &Visit) -> Result<Answer, Trouble> {
    // Who only looks at the head of a link does not use it up. Guessing 128 bits needs no limit.
    let ticket = visit.query.get("ticket").filter(|_| !visit.is_head());
    if let Some(ticket) = ticket {
        let token = visit.sessions().use_ticket(ticket, visit.now());
        return Ok(match token.filter(|token| is_good(visit, *token)) {
            Some(token) => enter(visit, token),
            None => refused(visit, USED, 401),
        });
    }
    if visit.token().is_some() {
        return Ok(Answer::see(format!("{ROOT}/apis")));
    }
    Ok(form(visit, None, 200))
}

const USED: &str = "This link was used before, or is older than an hour. Sign in with a token.";
const TOO_MANY: &str = "Too many sign-ins from this network failed. Wait five minutes.";

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn sign_in(visit: &Visit) -> Result<Answer, Trouble> {
    let now = visit.now();
    let secret = visit.form.get("token").unwrap_or_default().trim();
    let row = visit.handle().access().bearer(&TokenSecret::hash(secret));
    let row = match row {
        Ok(row) => row.filter(|row| row.is_valid(now)),
        Err(error) => {
            return Ok(refused(
                visit,
                &format!("Tokens cannot be read: {error}."),
                503,
            ));
        }
    };
    let Some(row) = row else {
        // A token that is in force is let in whatever others in its network did.
        if !visit.may_fail() {
            return Ok(refused(visit, TOO_MANY, 429));
        }
        return Ok(refused(visit, "This token is not in force.", 401));
    };
    if !row.token.role.may(Permission::Read) {
        let text = format!(
            "This token has the role {}, which the console is not for. Sign in as admin, operator or viewer.",
            row.token.role
        );
        return Ok(refused(visit, &text, 403));
    }
    Ok(enter(visit, row.token.id))
}

fn is_good(visit: &Visit, token: TokenId) -> bool {
    let token = visit.handle().token_in_force(token);
    matches!(token, Ok(Some(token)) if token.role.may(Permission::Read))
}

/// Opens a new session, and goes on to where somebody wanted to go.
fn enter(visit: &Visit, token: TokenId) -> Answer {
    visit.sign_out();
    let moment = || visit.handle().moment();
    let cookie = visit.sessions().open(token, &moment(), &moment());
    let next = visit.form.get("next").filter(|next| is_within(next));
    Answer::see(next.unwrap_or("/console/apis")).with_cookie(visit.cookie(&cookie))
}

/// Whether a path leads to a page of the console, and nowhere else.
fn is_within(path: &str) -> bool {
    path.strip_prefix(ROOT)
        .is_some_and(|rest| rest.starts_with('/'))
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn sign_out(visit: &Visit) -> Result<Answer, Trouble> {
    visit.sign_out();
    Ok(Answer::see(format!("{ROOT}/login")).with_cookie(visit.no_cookie()))
}

fn refused(visit: &Visit, text: &str, status: u16) -> Answer {
    form(visit, Some(text), status)
}

fn form(visit: &Visit, fault: Option<&str>, status: u16) -> Answer {
    let next = visit.form.get("next").or(visit.query.get("next"));
    let content = html! {
        div.login {
            (layout::mark())
            h1 { "Sign in to hooklog" }
            @if let Some(fault) = fault { div.notice.fault role="alert" { p { (fault) } } }
            form method="post" action=(format!("{ROOT}/login")) {
                @if let Some(next) = next { input type="hidden" name="next" value=(next); }
                div.field {
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" autocomplete="current-password" required autofocus placeholder="hl_…";
                    p.hint { "The first start of the gateway printed one, and a link that signs in once." }
                }
                button.primary type="submit" { "Sign in" }
            }
        }
    };
    Answer::with_status(
        status,
        layout::page(visit, Place::Nowhere, "Sign in", &content),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_nowhere_else() {
        assert!(is_within("/console/apis/7/logs?status=5xx"));
        for path in [
            "https://example.com/",
            "//example.com",
            "/console",
            "/console\\x",
            "/console/\u{0}",
            "/consoles/a",
        ] {
            assert!(!is_within(path), "{path}");
        }
    }
}
