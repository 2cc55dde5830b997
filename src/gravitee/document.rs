//! What a document holds: definitions, exports, resources of Kubernetes, lists of any of them.

use super::{
    api::{Imported, api, plans},
    ledger::Node,
    note::NoteKind,
    scalar::quoted,
};
use crate::model::ApiId;

/// The group of the operator's resources.
const GROUP: &str = "gravitee.io/";

/// Something that can be imported.
pub(super) enum Found<'a> {
    /// A definition.
    Api {
        node: Node<'a>,
        imported: Box<Imported>,
    },
    /// An application, and what a cluster calls it.
    Application {
        node: Node<'a>,
        resource: Option<String>,
    },
    /// A subscription, and the API of the export it stands in.
    Subscription { node: Node<'a>, api: Option<ApiId> },
}

/// What the document in `root` holds.
pub(super) fn read<'a>(root: &Node<'a>) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    look(root, None, &mut found);
    found
}

fn look<'a>(node: &Node<'a>, within: Option<ApiId>, found: &mut Vec<Found<'a>>) {
    if let Some(items) = node.items() {
        for item in &items {
            look(item, within, found);
        }
    } else if is_resource(node) {
        resource(node, found);
    } else if is_subscription(node) {
        let node = node.clone();
        found.push(Found::Subscription { node, api: within });
    } else if is_definition(node) {
        definition(node, None, found);
    } else {
        envelope(node, found);
    }
}

fn is_resource(node: &Node<'_>) -> bool {
    let text = |key: &str| node.value().get(key).and_then(|value| value.as_str());
    text("kind").is_some()
        && (text("apiVersion").is_some_and(|version| version.starts_with(GROUP))
            || node
                .value()
                .get("items")
                .is_some_and(serde_json::Value::is_array))
}

fn is_subscription(node: &Node<'_>) -> bool {
    let any = |keys: &[&str]| node.any(keys).is_some();
    let consumer = node.get("configuration");
    let by_entrypoint = consumer.is_some_and(|consumer| consumer.has("entrypointId"));
    node.has("consumerConfiguration")
        || by_entrypoint
        || any(&["application", "applicationId", "application_id"])
            && any(&["api", "apiId", "api_id", "plan", "planId", "plan_id"])
}

fn is_definition(node: &Node<'_>) -> bool {
    let keys = [
        "listeners",
        "endpointGroups",
        "definitionVersion",
        "gravitee",
    ];
    node.any(&keys).is_some()
}

fn definition<'a>(
    node: &Node<'a>,
    resource: Option<String>,
    found: &mut Vec<Found<'a>>,
) -> Option<ApiId> {
    let imported = api(node, resource)?;
    let id = imported.planned.api.id;
    let node = node.clone();
    let imported = Box::new(imported);
    found.push(Found::Api { node, imported });
    Some(id)
}

/// A resource as the Kubernetes operator takes it.
fn resource<'a>(node: &Node<'a>, found: &mut Vec<Found<'a>>) {
    let [_, kind] = ["apiVersion", "kind"].map(|key| node.get(key).and_then(|node| node.text()));
    let kind = kind.unwrap_or_default();
    if let Some(items) = node.get("items").and_then(|items| items.items()) {
        for item in &items {
            look(item, None, found);
        }
        return;
    }
    let name = node
        .object("metadata")
        .and_then(|metadata| metadata.get("name")?.word());
    if let Some(status) = node.get("status") {
        let reason = "is what the operator wrote";
        status.note(NoteKind::Informational, reason, "left out");
    }
    let known = ["ApiV4Definition", "Application", "Subscription"].contains(&kind.as_str());
    if !known {
        let reason = format!("is a resource of kind {}", quoted(&kind));
        node.note(NoteKind::Unsupported, reason, "left out");
        return;
    }
    let Some(spec) = node.object("spec") else {
        node.remark(NoteKind::Invalid, "has no spec", "left out");
        return;
    };
    match kind.as_str() {
        "Application" => found.push(Found::Application {
            node: spec,
            resource: name,
        }),
        "Subscription" => found.push(Found::Subscription {
            node: spec,
            api: None,
        }),
        _ => {
            definition(&spec, name, found);
        }
    }
}

/// An export, or an answer of the management API: things under the names of what they are.
fn envelope<'a>(node: &Node<'a>, found: &mut Vec<Found<'a>>) {
    let api = node.get("api").filter(is_definition);
    let within = api.and_then(|api| definition(&api, None, found));
    plans(node);
    for key in ["export", "apis", "data", "items"] {
        if let Some(inner) = node
            .get(key)
            .filter(|inner| inner.items().is_some() || inner.value().is_object())
        {
            look(&inner, within, found);
        }
    }
    for (_, node) in node.list_or_map("applications") {
        found.push(Found::Application {
            node,
            resource: None,
        });
    }
    for (_, node) in node.list_or_map("subscriptions") {
        found.push(Found::Subscription { node, api: within });
    }
}
