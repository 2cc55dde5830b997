//! Endpoint groups: the mock endpoint becomes the source, others have no equivalent.

use serde_json::Value;

use super::{
    headers::shown_headers,
    ledger::Node,
    note::NoteKind,
    scalar::{Unit, quoted, same},
};
use crate::model::{MockSource, Source};

/// Longest pause between two mock messages, in milliseconds: a day.
const INTERVAL_MS_MAX: u64 = 86_400_000;

/// One endpoint with its group.
struct Endpoint<'a> {
    node: Node<'a>,
    group: Node<'a>,
    name: Option<String>,
    kind: Option<String>,
}

impl Endpoint<'_> {
    fn is_mock(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| same(kind, "mock"))
    }

    fn is_named(&self, name: Option<&str>) -> bool {
        let group = plain(&self.group, "name");
        name.is_some() && (self.name.as_deref() == name || group.as_deref() == name)
    }
}

/// What an API's endpoint groups come to.
pub(super) struct Endpoints {
    /// Where its messages come from.
    pub(super) source: Source,
    /// The names of endpoints and groups.
    pub(super) names: Vec<String>,
}

/// The source of the API in `api`, whose dead letters go to the endpoint `dlq`.
pub(super) fn endpoints(api: &Node<'_>, dlq: Option<&str>) -> Endpoints {
    let mut all = Vec::new();
    let mut names = Vec::new();
    for group in api.list("endpointGroups") {
        names.extend(plain(&group, "name"));
        mark_names(&group);
        for node in group.list("endpoints") {
            let name = plain(&node, "name");
            let kind = plain(&node, "type").or_else(|| plain(&group, "type"));
            names.extend(name.clone());
            let group = group.clone();
            all.push(Endpoint {
                node,
                group,
                name,
                kind,
            });
        }
    }
    let mock = all
        .iter()
        .position(|endpoint| endpoint.is_mock() && !endpoint.is_named(dlq))
        .or_else(|| all.first().filter(|first| first.is_mock()).map(|_| 0));
    let mut source = Source::Publish;
    for (index, endpoint) in all.iter().enumerate() {
        if Some(index) == mock {
            source = Source::Mock(mock_source(endpoint));
        } else {
            leave_out(endpoint, dlq, mock.is_some());
        }
    }
    if all.is_empty() {
        let reason = "names no endpoint";
        api.remark(
            NoteKind::Defaulted,
            reason,
            "its messages are published to it",
        );
    }
    Endpoints { source, names }
}

/// A member's text, without marking it: names are looked at more than once.
fn plain(node: &Node<'_>, key: &str) -> Option<String> {
    node.value().get(key)?.as_str().map(str::to_owned)
}

fn mark_names(node: &Node<'_>) {
    for key in ["name", "type"] {
        let _ = node.get(key).and_then(|node| node.text());
    }
}

fn leave_out(endpoint: &Endpoint<'_>, dlq: Option<&str>, has_source: bool) {
    let kind = quoted(endpoint.kind.as_deref().unwrap_or("no type"));
    let (reason, instead) = if endpoint.is_named(dlq) {
        let reason = format!("an endpoint of type {kind}, used as dead letter queue");
        (reason, "dead letters are kept in the log")
    } else if endpoint.is_mock() {
        let reason = "an API has one source here".to_owned();
        (reason, "left out: the first mock endpoint is the source")
    } else if has_source {
        let reason = format!("there is no connector to {kind}");
        (reason, "left out: a mock endpoint is the source")
    } else {
        let reason = format!("there is no connector to {kind}");
        (reason, "the API's messages are published to it")
    };
    endpoint.node.note(NoteKind::Unsupported, reason, instead);
}

fn mock_source(endpoint: &Endpoint<'_>) -> MockSource {
    let Endpoint { node, group, .. } = endpoint;
    mark_names(node);
    for (key, usual) in [
        ("weight", Value::from(1)),
        ("secondary", Value::from(false)),
    ] {
        let _ = node
            .get(key)
            .filter(|node| *node.value() == usual)
            .map(|node| node.mark());
    }
    let inherits = node
        .get("inheritConfiguration")
        .and_then(|node| node.flag());
    let own = node.object("configuration");
    let shared = match inherits {
        Some(false) => node.any_object(&["sharedConfigurationOverride", "configurationOverride"]),
        _ => group.object("sharedConfiguration"),
    };
    let mut source = MockSource::default();
    // The endpoint's own settings last: they win.
    for configuration in shared.iter().chain(&own) {
        take(configuration, &mut source);
    }
    source
}

fn take(configuration: &Node<'_>, source: &mut MockSource) {
    let interval = configuration.any(&["messageInterval", "messageIntervalMs"]);
    let interval = interval.and_then(|node| node.bounded(Unit::Milliseconds, 1, INTERVAL_MS_MAX));
    if let Some(interval) = interval {
        source.message_interval_ms = interval;
    }
    if let Some(content) = configuration
        .get("messageContent")
        .and_then(|node| content(&node))
    {
        source.message_content = content;
    }
    if let Some(count) = configuration
        .get("messageCount")
        .and_then(|node| node.whole())
    {
        source.message_count = Some(count);
    }
    if let Some(metadata) = configuration.get("metadata") {
        let reason = "messages have headers and no metadata here";
        metadata.note(NoteKind::Unsupported, reason, "left out");
    }
    let headers = shown_headers(configuration);
    if !headers.is_empty() {
        source.headers = headers;
    }
}

fn content(node: &Node<'_>) -> Option<String> {
    if node.value().is_object() || node.value().is_array() {
        node.mark();
        return Some(node.value().to_string());
    }
    let content = node.text()?;
    if content.contains("{#") {
        let reason = "holds an expression, which is not worked out here";
        node.remark(NoteKind::Changed, reason, "sent as it is written");
    }
    Some(content)
}
