//! One v4 definition to one API.

use serde_json::Value;

use super::{
    endpoints::endpoints,
    entrypoint::entrypoint,
    ids,
    ledger::Node,
    note::NoteKind,
    plan::PlannedApi,
    scalar::{quoted, same},
};
use crate::model::{Analytics, Api, ApiId, ApiState, Sampling};

/// Policies named in one note.
const POLICIES_NAMED_MAX: usize = 8;
/// Policies looked for.
const POLICIES_FOUND_MAX: usize = 100;

/// An API of a definition, and what subscriptions may call it.
pub(super) struct Imported {
    pub(super) planned: PlannedApi,
    pub(super) references: Vec<String>,
}

/// The API that this definition describes; `None`, and a note, when there is none that delivers
/// by webhook. `resource` is what a Kubernetes cluster calls it.
pub(super) fn api(node: &Node<'_>, resource: Option<String>) -> Option<Imported> {
    check_kind(node)?;
    let webhook = webhook(node)?;
    let name = node.get("name").and_then(|name| name.word());
    let id = node.get("id").and_then(|id| id.word());
    let Some(name) = name.or_else(|| resource.clone()).or_else(|| id.clone()) else {
        skip(node, NoteKind::Invalid, "has neither a name nor an id");
        return None;
    };
    let reference = id.clone().or_else(|| resource.clone());
    let reference = reference.unwrap_or_else(|| name.clone());
    if let Some(node) = node.get("id").filter(|_| !ids::is_kept(&reference)) {
        let reason = "is not a UUID";
        node.remark(
            NoteKind::Changed,
            reason,
            "an id that is made from it, always the same",
        );
    }
    let mut api = Api::named(name.trim());
    api.id = ApiId::from_uuid(ids::id_of("api", &reference));
    let text = |keys: &[&str]| node.any(keys).and_then(|node| node.text());
    api.description = text(&["description"]).unwrap_or_default();
    api.version = text(&["apiVersion", "version"]).unwrap_or_default();
    api.state = state(node);
    let dlq = dead_letter_name(&webhook);
    let endpoints = endpoints(node, dlq.as_deref());
    api.source = endpoints.source;
    let path = context_path(node, &webhook, &api);
    let names_path = path.is_some();
    let path = path.unwrap_or_else(|| api.entrypoint.context_path.clone());
    let (entrypoint, takes_proxy) = entrypoint(&webhook, path, &endpoints.names);
    api.entrypoint = entrypoint;
    api.analytics = analytics(node);
    leave_out(node);
    if let Err(invalid) = api.validate() {
        for problem in invalid.problems {
            let reason = format!("{}: {}", problem.pointer, problem.reason);
            node.remark(NoteKind::Invalid, reason, "the API is not imported");
        }
        return None;
    }
    let mut references = vec![reference, name];
    references.extend(resource);
    Some(Imported {
        planned: PlannedApi {
            file: node.file().to_owned(),
            pointer: node.pointer().to_owned(),
            api,
            names_path,
            takes_proxy,
        },
        references,
    })
}

fn skip(node: &Node<'_>, kind: NoteKind, reason: impl Into<String>) {
    node.note(kind, reason, "the API is not imported");
}

/// Only message APIs of version 4 have webhooks.
fn check_kind(node: &Node<'_>) -> Option<()> {
    let version = node.any(&["definitionVersion", "gravitee"]);
    let version = version.and_then(|version| version.text());
    let is_4 = |version: &str| version.trim_start_matches(['v', 'V']).starts_with('4');
    if let Some(version) = version.filter(|version| !is_4(version)) {
        let reason = format!("is a definition of version {}", quoted(&version));
        skip(node, NoteKind::Unsupported, reason);
        return None;
    }
    let kind = node.get("type").and_then(|kind| kind.text());
    if let Some(kind) = kind.filter(|kind| !same(kind, "message") && !same(kind, "async")) {
        let reason = format!("is an API of type {}, not MESSAGE", quoted(&kind));
        skip(node, NoteKind::Unsupported, reason);
        return None;
    }
    Some(())
}

/// The first webhook entrypoint of its subscription listeners. The others are noted.
fn webhook<'a>(node: &Node<'a>) -> Option<Node<'a>> {
    let mut found = None;
    for listener in node.list("listeners") {
        let kind = listener.get("type").and_then(|kind| kind.text());
        let kind = kind.unwrap_or_default();
        let subscribes = same(&kind, "subscription");
        if !subscribes && !same(&kind, "http") {
            let reason = format!("a listener of type {}", quoted(&kind));
            listener.note(NoteKind::Unsupported, reason, "left out");
            continue;
        }
        for entrypoint in listener.list("entrypoints") {
            let kind = entrypoint.get("type").and_then(|kind| kind.text());
            let kind = kind.unwrap_or_default();
            let is_webhook =
                subscribes && (same(&kind, "webhook") || same(&kind, "webhook-advanced"));
            if is_webhook && found.is_none() {
                found = Some(entrypoint);
            } else if is_webhook {
                let reason = "a second webhook entrypoint, and an API has one here";
                entrypoint.note(
                    NoteKind::Unsupported,
                    reason,
                    "left out: the first one counts",
                );
            } else {
                let reason = format!("an entrypoint of type {}", quoted(&kind));
                entrypoint.note(NoteKind::Unsupported, reason, "left out");
            }
        }
    }
    if found.is_none() {
        let reason = "has no listener of type SUBSCRIPTION with a webhook entrypoint";
        skip(node, NoteKind::Unsupported, reason);
    }
    found
}

fn state(node: &Node<'_>) -> ApiState {
    const STATES: [(&str, ApiState); 4] = [
        ("STARTED", ApiState::Started),
        ("STOPPED", ApiState::Stopped),
        ("INITIALIZED", ApiState::Stopped),
        ("CLOSED", ApiState::Stopped),
    ];
    let Some(state) = node.get("state") else {
        return ApiState::default();
    };
    let known = state.choice(&STATES, "imported as STOPPED");
    known.unwrap_or(if state.value().is_string() {
        ApiState::Stopped
    } else {
        ApiState::default()
    })
}

fn dead_letter_name(webhook: &Node<'_>) -> Option<String> {
    let dlq = webhook.value().get("dlq")?;
    let name = dlq.as_str().or_else(|| dlq.get("endpoint")?.as_str());
    name.map(str::to_owned)
}

/// The first path of a listener; `None`, and a note, where none has one.
fn context_path(node: &Node<'_>, webhook: &Node<'_>, api: &Api) -> Option<String> {
    let mut path: Option<String> = None;
    for listener in node.list("listeners") {
        for entry in listener.list("paths") {
            let Some(node) = entry.get("path") else {
                continue;
            };
            let Some(text) = node.literal("left out") else {
                continue;
            };
            let mut tried = api.clone();
            tried.entrypoint.context_path.clone_from(&text);
            if path.is_some() {
                let reason = "an API has one context path here";
                node.note(
                    NoteKind::Unsupported,
                    reason,
                    "left out: the first one counts",
                );
            } else if tried.entrypoint.validate().is_err() {
                let reason = "holds what a context path may not hold here";
                node.note(NoteKind::Invalid, reason, "left out");
            } else {
                path = Some(text);
            }
        }
    }
    if path.is_none() {
        let default = &api.entrypoint.context_path;
        let reason = "names no path for its consumers";
        webhook.remark(
            NoteKind::Defaulted,
            reason,
            format!("{default} is its context path"),
        );
    }
    path
}

fn analytics(node: &Node<'_>) -> Analytics {
    let mut analytics = Analytics::default();
    let Some(node) = node.object("analytics") else {
        return analytics;
    };
    let enabled = node.get("enabled");
    if let Some((false, enabled)) = enabled.and_then(|node| Some((node.flag()?, node))) {
        let reason = "is false, and calls are always counted here";
        enabled.note(NoteKind::Changed, reason, "metrics and webhook log are on");
    }
    if let Some(sampling) = node.any_object(&["messageSampling", "sampling"])
        && let Some(sampling) = sampled(&sampling)
    {
        analytics.sampling = sampling;
    }
    if let Some(logging) = node.get("logging") {
        let reason = "message logging belongs to the gateway's own traffic; what is captured of \
                      webhook calls is said at the entrypoint";
        logging.note(NoteKind::Unsupported, reason, "left out");
    }
    analytics
}

fn sampled(node: &Node<'_>) -> Option<Sampling> {
    const EVERY: &str = "every message gets a log entry";
    #[derive(Clone, Copy)]
    enum Kind {
        All,
        Count,
        Probability,
        Temporal,
        WindowedCount,
    }
    const KINDS: [(&str, Kind); 5] = [
        ("COUNT", Kind::Count),
        ("PROBABILITY", Kind::Probability),
        ("TEMPORAL", Kind::Temporal),
        ("WINDOWED_COUNT", Kind::WindowedCount),
        ("ALL", Kind::All),
    ];
    let kind = node.get("type")?.choice(&KINDS, EVERY)?;
    let Some(value) = node.get("value") else {
        if !matches!(kind, Kind::All) {
            node.note(NoteKind::Invalid, "has no value", EVERY);
        }
        return None;
    };
    let sampling = match kind {
        Kind::All => return None,
        Kind::Count => Sampling::Count(value.whole()?),
        Kind::Probability => Sampling::Probability(value.number()?),
        Kind::Temporal => Sampling::Temporal(value.text()?),
        Kind::WindowedCount => Sampling::WindowedCount(value.text()?),
    };
    if let Err(invalid) = sampling.validate() {
        value.note(NoteKind::Invalid, invalid.to_string(), EVERY);
        return None;
    }
    Some(sampling)
}

/// Names what a gateway of HTTP calls does and this one does not.
fn leave_out(node: &Node<'_>) {
    for (_, flow) in node.list_or_map("flows") {
        let reason = format!("a flow{}{}", named(&flow), policies(&flow));
        flow.note(
            NoteKind::Unsupported,
            reason,
            "left out: messages go as they come",
        );
    }
    plans(node);
    for (_, resource) in node.list_or_map("resources") {
        let kind = resource.value().get("type").and_then(Value::as_str);
        let reason = format!("a resource of type {}", quoted(kind.unwrap_or("no type")));
        resource.note(NoteKind::Unsupported, reason, "left out");
    }
}

/// Names the plans of an API, or of the export it stands in.
pub(super) fn plans(node: &Node<'_>) {
    for (key, plan) in node.list_or_map("plans") {
        let security = plan.value().get("security");
        let security = security.and_then(|of| of.as_str().or_else(|| of.get("type")?.as_str()));
        let kind = security.or_else(|| plan.value().get("mode")?.as_str());
        let name = match key {
            Some(key) if plan.value().get("name").is_none() => format!(" {}", quoted(key)),
            _ => named(&plan),
        };
        let reason = format!(
            "a plan{name}{}{}",
            kind.map(|kind| format!(" ({})", quoted(kind)))
                .unwrap_or_default(),
            policies(&plan)
        );
        let instead = "left out: applications subscribe without a plan";
        plan.note(NoteKind::Unsupported, reason, instead);
    }
}

fn named(node: &Node<'_>) -> String {
    let name = node.value().get("name").and_then(Value::as_str);
    name.map(|name| format!(" {}", quoted(name)))
        .unwrap_or_default()
}

fn policies(node: &Node<'_>) -> String {
    let mut found = Vec::new();
    policies_in(node.value(), &mut found);
    if found.is_empty() {
        return String::new();
    }
    let more = found.len().saturating_sub(POLICIES_NAMED_MAX);
    let named: Vec<_> = found
        .iter()
        .take(POLICIES_NAMED_MAX)
        .map(|name| quoted(name))
        .collect();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(" with the policies {}{more}", named.join(", "))
}

fn policies_in<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        _ if found.len() >= POLICIES_FOUND_MAX => {}
        Value::Array(items) => items.iter().for_each(|item| policies_in(item, found)),
        Value::Object(map) => {
            let policy = map.get("policy").and_then(Value::as_str);
            found.extend(policy.filter(|policy| !found.contains(policy)));
            map.values().for_each(|value| policies_in(value, found));
        }
        _ => {}
    }
}
