//! The webhook entrypoint: `qos`, `dlq`, and its configuration.

use super::{
    ledger::Node,
    note::NoteKind,
    scalar::{Unit, quoted},
};
use crate::model::{
    DeadLetterQueue, HttpOptions, Logging, LoggingParts, OnFailure, Proxy, ProxyKind, Qos, Secret,
    WebhookEntrypoint,
};

/// Longest time limit of calls, in milliseconds.
const MS_MAX: u64 = 600_000;
/// Most calls of a subscription at a time.
const CONNECTIONS_MAX: u64 = 1_000;

const QOS: [(&str, Qos); 4] = [
    ("NONE", Qos::None),
    ("AUTO", Qos::Auto),
    ("AT_MOST_ONCE", Qos::AtMostOnce),
    ("AT_LEAST_ONCE", Qos::AtLeastOnce),
];

/// Proxies by their names; `None` for one that hooklog cannot speak to.
const PROXIES: [(&str, Option<ProxyKind>); 3] = [
    ("HTTP", Some(ProxyKind::Http)),
    ("SOCKS5", Some(ProxyKind::Socks5)),
    ("SOCKS4", None),
];

/// What happens where a proxy cannot be taken over.
const NO_PROXY: &str = "no proxy; one that is set here is kept";

/// The webhook entrypoint in `node`, under this context path, and whether all of its proxy could be
/// taken over. `endpoints` are the names that its dead letter queue may have.
pub(super) fn entrypoint(
    node: &Node<'_>,
    context_path: String,
    endpoints: &[String],
) -> (WebhookEntrypoint, bool) {
    let mut entrypoint = WebhookEntrypoint::at(context_path);
    entrypoint.gravitee_client_identifier = true;
    entrypoint.on_failure = OnFailure::Interrupt;
    entrypoint.dlq = dead_letters(node, endpoints);
    let qos = node.get("qos");
    let qos = qos.and_then(|qos| Some((qos.choice(&QOS, "taken as AUTO")?, qos)));
    if let Some((qos, _)) = &qos {
        entrypoint.qos = *qos;
    }
    let configuration = node.object("configuration");
    let has = |key: &str| configuration.as_ref().is_some_and(|node| node.has(key));
    node.says_nothing_of(&[
        ("qos", !node.has("qos")),
        ("dlq", !node.has("dlq")),
        ("http", !has("http")),
        ("proxy", !has("proxy")),
        ("logging", !has("logging")),
    ]);
    let Some(configuration) = configuration else {
        return (entrypoint, true);
    };
    if let Some(http) = configuration.object("http") {
        entrypoint.http = limits(&http);
    }
    if let Some((Qos::AtMostOnce | Qos::AtLeastOnce, node)) = &qos
        && entrypoint.http.max_concurrent_connections > 1
    {
        node.remark(
            NoteKind::Changed,
            "holds Gravitee to one call of a subscription at a time",
            "as many as maxConcurrentConnections says; set it to 1 to keep the order",
        );
    }
    let proxied = configuration.object("proxy").map(|node| proxy(&node));
    let (proxy, takes_proxy) = proxied.unwrap_or((None, true));
    entrypoint.proxy = proxy;
    if let Some(node) = configuration.object("logging") {
        entrypoint.logging = logging(&node);
    }
    interruptions(&configuration, &entrypoint.dlq);
    (entrypoint, takes_proxy)
}

fn dead_letters(node: &Node<'_>, endpoints: &[String]) -> DeadLetterQueue {
    let Some(dlq) = node.get("dlq") else {
        return DeadLetterQueue::None;
    };
    let named = if dlq.value().is_object() {
        dlq.get("endpoint")
    } else {
        Some(dlq)
    };
    let Some((name, node)) = named.and_then(|node| Some((node.word()?, node))) else {
        return DeadLetterQueue::None;
    };
    let reason = if endpoints.contains(&name) {
        format!("names the endpoint {} as dead letter queue", quoted(&name))
    } else {
        format!("names {}, which is no endpoint of this API", quoted(&name))
    };
    let instead = "dead letters are kept in the log, to be looked at and redelivered";
    node.remark(NoteKind::Changed, reason, instead);
    DeadLetterQueue::Embedded
}

fn limits(http: &Node<'_>) -> HttpOptions {
    let mut limits = HttpOptions::default();
    for (key, limit) in [
        ("connectTimeout", &mut limits.connect_timeout_ms),
        ("readTimeout", &mut limits.read_timeout_ms),
        ("idleTimeout", &mut limits.idle_timeout_ms),
    ] {
        let in_ms = format!("{key}Ms");
        let node = http.any(&[key, &in_ms]);
        if let Some(ms) = node.and_then(|node| node.bounded(Unit::Milliseconds, 1, MS_MAX)) {
            *limit = ms;
        }
    }
    let most = http.get("maxConcurrentConnections");
    let most = most.and_then(|node| Some(node.clamped(node.whole()?, 1, CONNECTIONS_MAX)));
    if let Some(most) = most {
        limits.max_concurrent_connections = u16::try_from(most).expect("at most CONNECTIONS_MAX");
    }
    limits
}

/// The proxy, and whether all of it could be taken over.
fn proxy(node: &Node<'_>) -> (Option<Proxy>, bool) {
    let on = node.get("enabled").and_then(|enabled| enabled.flag());
    let system = node.get("useSystemProxy");
    let system = system.and_then(|system| Some((system.flag()?, system)));
    if let Some((true, system)) = system {
        let reason = "the proxy of the system is never used";
        let instead = "no proxy; name it here if calls need one, and it is kept";
        system.note(NoteKind::Unsupported, reason, instead);
        return (None, false);
    }
    if on != Some(true) {
        for key in ["type", "host", "port", "username", "password"] {
            if let Some(unused) = node.get(key) {
                let reason = "belongs to a proxy that is not enabled";
                unused.note(NoteKind::Informational, reason, "left out");
            }
        }
        return (None, true);
    }
    let Some((kind, host, port)) = place(node) else {
        return (None, false);
    };
    let mut whole = true;
    let mut text = |key: &str| {
        let text = node
            .get(key)?
            .literal("left out; a proxy that is set here is kept");
        whole &= text.is_some();
        text.filter(|text| !text.is_empty())
    };
    let proxy = Proxy {
        kind,
        host,
        port,
        username: text("username"),
        password: text("password").map(Secret::new),
    };
    (Some(proxy), whole)
}

/// What kind of proxy it is and where; `None`, and a note, when it cannot be used.
fn place(node: &Node<'_>) -> Option<(ProxyKind, String, u16)> {
    let kind = match node.get("type") {
        None => ProxyKind::Http,
        Some(kind) => proxy_kind(&kind)?,
    };
    let host = node.get("host").and_then(|host| host.literal(NO_PROXY));
    let port = node.get("port").and_then(|port| port.whole());
    let port = port.and_then(|port| u16::try_from(port).ok());
    let (Some(host), Some(port)) = (host, port.filter(|port| *port > 0)) else {
        let reason = "is enabled and has no host or no port that can be used";
        node.note(NoteKind::Invalid, reason, NO_PROXY);
        return None;
    };
    Some((kind, host.trim().to_owned(), port))
}

fn proxy_kind(node: &Node<'_>) -> Option<ProxyKind> {
    let kind = node.choice(&PROXIES, NO_PROXY)?;
    if kind.is_none() {
        let reason = "is a kind of proxy that hooklog does not speak to";
        node.note(NoteKind::Unsupported, reason, NO_PROXY);
    }
    kind
}

fn logging(node: &Node<'_>) -> Logging {
    let flag = |node: &Node<'_>, key: &str| node.get(key).and_then(|node| node.flag());
    let parts = |key: &str| {
        let part = node.object(key);
        let flag = |name: &str| part.as_ref().and_then(|part| flag(part, name));
        LoggingParts {
            headers: flag("headers").unwrap_or(false),
            payload: flag("payload").unwrap_or(false),
        }
    };
    Logging {
        enabled: flag(node, "enabled").unwrap_or(false),
        request: parts("request"),
        response: parts("response"),
    }
}

/// Gravitee says apart for 5xx and for exceptions whether they interrupt; here `onFailure` says it
/// for every delivery that is given up.
fn interruptions(configuration: &Node<'_>, dlq: &DeadLetterQueue) {
    for key in [
        "interruptConsumptionOnServerError",
        "interruptConsumptionOnException",
    ] {
        let Some(node) = configuration.get(key) else {
            continue;
        };
        let Some(interrupts) = node.flag() else {
            continue;
        };
        let interrupts_here = *dlq == DeadLetterQueue::None;
        if interrupts != interrupts_here {
            let reason = format!("is {interrupts}, for one kind of failure alone");
            let instead = if interrupts_here {
                "every delivery that is given up interrupts its subscription"
            } else {
                "no failure interrupts: what is given up goes to the dead letters"
            };
            node.note(NoteKind::Changed, reason, instead);
        }
    }
}
