//! The way in: what is asked for, by whom, and whether they may.

use std::{cell::LazyCell, collections::BTreeMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::{
    call::{Call, Headers},
    gateway::Gateway,
    operation::{Gate, Operation, Verb},
    operations,
    problem::{Kind, Problem},
    reply::Reply,
    trace::RequestTrace,
};
use crate::{
    model::{Timestamp, Token},
    runtime::TokenSecret,
};

/// An operation, and what stands in its path.
pub(super) struct Found {
    pub(super) operation: &'static Operation,
    pub(super) parameters: BTreeMap<String, String>,
}

/// Finds the operation of a method and a path. `context_of` tells the context path that a path lies
/// under.
pub(super) fn find(
    method: &str,
    path: &str,
    context_of: impl Fn(&str) -> Option<String>,
) -> Result<Found, Reply> {
    let context = LazyCell::new(|| context_of(path));
    let mut allowed = Vec::new();
    for operation in operations::all() {
        let (pattern, context) = match operation.path.strip_prefix("/{contextPath}") {
            None => (operation.path, None),
            Some(rest) => match context.as_deref() {
                Some(context) => (rest, Some(context)),
                None => continue,
            },
        };
        let rest = context.map_or(path, |context| &path[context.trim_end_matches('/').len()..]);
        let Some(mut parameters) = matches(pattern, rest) else {
            continue;
        };
        parameters.extend(context.map(|context| ("contextPath".to_owned(), context.to_owned())));
        if operation.verb.as_str() == method || (operation.verb == Verb::Get && method == "HEAD") {
            return Ok(Found {
                operation,
                parameters,
            });
        }
        allowed.push(operation.verb.as_str());
    }
    if allowed.is_empty() {
        return Err(Problem::not_found(format!("path {path}")).into());
    }
    let detail = format!("{path} takes {}, not {method}", allowed.join(" and "));
    let reply = Reply::from(Problem::new(Kind::MethodNotAllowed, detail));
    Err(reply.header("allow", allowed.join(", ")))
}

/// What stands in a path in place of the names of a pattern; `None` when it is another path.
fn matches(pattern: &str, path: &str) -> Option<BTreeMap<String, String>> {
    if !has_form(pattern, path) {
        return None;
    }
    let pairs = pattern.split('/').zip(path.split('/'));
    let placed = pairs.filter_map(|(name, part)| Some((placeholder(name)?, part)));
    let decoded = placed.map(|(name, part)| {
        let part = percent_decode_str(part).decode_utf8().ok()?;
        Some((name.to_owned(), part.into_owned()))
    });
    decoded.collect()
}

/// Whether a path is of a pattern's form. Of all patterns one is, so this is asked of many.
fn has_form(pattern: &str, path: &str) -> bool {
    let (mut names, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (names.next(), parts.next()) {
            (None, None) => return true,
            (Some(name), Some(part)) if placeholder(name).is_some() => {
                if part.is_empty() {
                    return false;
                }
            }
            (Some(name), Some(part)) if name == part => {}
            _ => return false,
        }
    }
}

fn placeholder(name: &str) -> Option<&str> {
    name.strip_prefix('{')?.strip_suffix('}')
}

/// A request as it came.
pub(super) struct Incoming {
    pub(super) found: Found,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) authorization: Option<String>,
    pub(super) peer: Option<IpAddr>,
    pub(super) headers: Headers,
    pub(super) trace: RequestTrace,
}

/// Whose request it is, if they may ask for it.
pub(super) fn admit(gateway: &Gateway, incoming: &Incoming) -> Result<Option<Token>, Problem> {
    let gate = incoming.found.operation.gate;
    let is_open = matches!(gate, Gate::Scrape(_)) && gateway.has_open_metrics();
    let Some(permission) = gate.permission().filter(|_| !is_open) else {
        return Ok(None);
    };
    let now = gateway.handle().now();
    let Some(token) = bearer(gateway, incoming.authorization.as_deref(), now)? else {
        // A token that is in force is let in whatever others in its network did.
        if !gateway.strangers().may_err(incoming.peer, now) {
            let detail = "too many wrong tokens came from this network; wait a minute";
            return Err(Problem::new(Kind::TooMany, detail));
        }
        let detail = "send a token that is in force as Authorization: Bearer hl_…";
        return Err(Problem::new(Kind::Unauthenticated, detail));
    };
    if !token.role.may(permission) {
        let detail = format!(
            "this token has the role {}, which may not {}",
            token.role,
            permission.as_str()
        );
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(Some(token))
}

fn bearer(
    gateway: &Gateway,
    authorization: Option<&str>,
    now: Timestamp,
) -> Result<Option<Token>, Problem> {
    let shown = authorization.and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    let Some(secret) = shown else {
        return Ok(None);
    };
    // Found by its hash, so how long that takes tells nothing of any secret.
    let (access, hash) = (gateway.handle().access(), TokenSecret::hash(secret));
    let row = gateway.bearers().find(&access, hash)?;
    Ok(row.filter(|row| row.is_valid(now)).map(|row| row.token))
}

/// Does what is asked for.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    incoming: Incoming,
    bearer: Option<Token>,
    body: Bytes,
) -> Reply {
    let operation = incoming.found.operation;
    let call = Call {
        operation,
        gateway,
        bearer,
        path: incoming.path,
        parameters: incoming.found.parameters,
        query: incoming.query,
        headers: incoming.headers,
        trace: incoming.trace,
        body,
        key: None,
    };
    run(call).await.unwrap_or_else(Into::into)
}

async fn run(mut call: Call) -> Result<Reply, Problem> {
    let gateway = Arc::clone(&call.gateway);
    call.key = call.request_key()?;
    let _lane = match &call.key {
        Some(key) => Some(gateway.lanes().enter(key.id.as_uuid()).await),
        None => None,
    };
    call.record().await?;
    (call.operation.run)(call).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str, path: &str) -> Option<Vec<String>> {
        matches(pattern, path).map(|found| found.into_values().collect())
    }

    #[test]
    fn a_path_is_matched_part_by_part() {
        let none = || Some(Vec::new());
        let one = |part: &str| Some(vec![part.to_owned()]);
        assert_eq!(matched("/v1/apis", "/v1/apis"), none());
        assert_eq!(matched("/v1/apis", "/v1/apis/"), None);
        assert_eq!(matched("/v1/apis/{api}", "/v1/apis/7"), one("7"));
        assert_eq!(matched("/v1/apis/{api}", "/v1/apis/%41"), one("A"));
        assert_eq!(matched("/v1/apis/{api}", "/v1/apis/"), None);
        assert_eq!(matched("/v1/apis/{api}", "/v1/apis/7/logs"), None);
        assert_eq!(matched("/v1/apis/{api}", "/v1/apis/%ff"), None);
    }

    #[test]
    fn a_context_path_stands_before_its_operations() {
        let found = |path: &str| {
            let under = |path: &str| path.starts_with("/a/b/").then(|| "/a/b".to_owned());
            let found = find("POST", path, under).ok()?;
            Some((found.operation.id, found.parameters))
        };
        let (operation, parameters) = found("/a/b/subscriptions").expect("it is there");
        assert_eq!(operation, "subscribe");
        assert_eq!(parameters["contextPath"], "/a/b");
        assert!(found("/a/c/subscriptions").is_none());
    }

    #[test]
    fn a_path_that_takes_other_methods_names_them() {
        let reply = find("PATCH", "/v1/apis", |_| None)
            .err()
            .expect("no such method");
        assert_eq!(reply.status, 405);
        assert!(reply.headers.contains(&("allow", "GET, POST".to_owned())));
    }
}
