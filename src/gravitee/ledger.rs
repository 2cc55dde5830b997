//! Who has read what: each value of a document is marked as used, or a note names it.

use std::{cell::RefCell, collections::HashSet, fmt};

use serde_json::Value;

use super::note::{Note, NoteKind};

/// Things of the management side and the portal: they say nothing of deliveries.
const INFORMATIONAL: &[&str] = &[
    "$schema",
    "_links",
    "allowMultiJwtOauth2Subscriptions",
    "allowedInApiProducts",
    "annotations",
    "apiBackground",
    "apiMedia",
    "apiPicture",
    "apis",
    "background",
    "backgroundUrl",
    "categories",
    "characteristics",
    "closedAt",
    "closed_at",
    "comment_required",
    "commentRequired",
    "consoleNotificationConfiguration",
    "consumerMessage",
    "consumerPausedAt",
    "contextRef",
    "createdAt",
    "created_at",
    "creationTimestamp",
    "crossId",
    "daysToExpirationOnLastNotification",
    "definitionContext",
    "definitionVersion",
    "deployedAt",
    "deployed_at",
    "deploymentState",
    "disableMembershipNotifications",
    "environmentId",
    "excludedGroups",
    "excluded_groups",
    "failureCause",
    "finalizers",
    "flowExecution",
    "generalConditions",
    "generalConditionsAccepted",
    "generalConditionsContentPageId",
    "generalConditionsContentRevision",
    "generation",
    "groups",
    "hrid",
    "labels",
    "lifecycleState",
    "links",
    "loadBalancer",
    "managedFields",
    "members",
    "metadata",
    "namespace",
    "needRedeployAt",
    "notifyMembers",
    "organizationId",
    "origin",
    "ownerReferences",
    "originContext",
    "pages",
    "pagination",
    "pausedAt",
    "paused_at",
    "picture",
    "pictureUrl",
    "plan",
    "planId",
    "portalNavigation",
    "primaryOwner",
    "processedAt",
    "processedBy",
    "processed_at",
    "processed_by",
    "publisherMessage",
    "reason",
    "reasonMessage",
    "referenceId",
    "referenceType",
    "request",
    "requestMessage",
    "resourceVersion",
    "subscribedBy",
    "subscribed_by",
    "tags",
    "uid",
    "updatedAt",
    "updated_at",
    "visibility",
    "workflowState",
];

/// What is noted and marked of one document.
pub(super) struct Ledger {
    file: String,
    document: usize,
    marked: RefCell<HashSet<String>>,
    notes: RefCell<Vec<Note>>,
}

impl Ledger {
    /// An empty one for a document of a file, counted from 1.
    pub(super) fn new(file: &str, document: usize) -> Self {
        Self {
            file: file.to_owned(),
            document,
            marked: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    /// The document, to be read under this ledger.
    pub(super) fn root<'a>(&'a self, value: &'a Value) -> Node<'a> {
        Node {
            ledger: self,
            pointer: String::new(),
            value,
        }
    }

    /// Ends it: whatever nobody has read is noted, in as few notes as name nothing that was read.
    pub(super) fn close(self, document: &Value) -> Vec<Note> {
        if !self.sweep(document, "") {
            self.left("", "", document);
        }
        self.notes.into_inner()
    }

    /// Notes what was left of a value that somebody has read some of; else gives false.
    fn sweep(&self, value: &Value, pointer: &str) -> bool {
        if self.marked.borrow().contains(pointer) {
            return true;
        }
        let children: Vec<(String, &Value)> = match value {
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| (index.to_string(), item))
                    .collect()
            }
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), value))
                .collect(),
            _ => return false,
        };
        let children: Vec<_> = children
            .into_iter()
            .map(|(key, value)| {
                let pointer = below(pointer, &key);
                let read = self.sweep(value, &pointer);
                (key, value, pointer, read)
            })
            .collect();
        if !children.iter().any(|(_, _, _, read)| *read) {
            return false;
        }
        for (key, value, pointer, _) in children.iter().filter(|(_, _, _, read)| !read) {
            self.left(key, pointer, value);
        }
        true
    }

    fn left(&self, key: &str, pointer: &str, value: &Value) {
        let (kind, reason, instead) = if is_nothing(value) {
            (
                NoteKind::Informational,
                "is empty".to_owned(),
                "nothing to import",
            )
        } else if INFORMATIONAL.contains(&key) {
            let reason = "says nothing of deliveries".to_owned();
            (NoteKind::Informational, reason, "left out")
        } else {
            let reason = match leaves(value) {
                1 => "has no equivalent".to_owned(),
                count => format!("has no equivalent ({count} values)"),
            };
            (NoteKind::Unsupported, reason, "left out")
        };
        self.note(pointer, kind, reason, instead);
    }

    fn note(
        &self,
        pointer: &str,
        kind: NoteKind,
        reason: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.notes.borrow_mut().push(Note {
            file: self.file.clone(),
            document: self.document,
            pointer: pointer.to_owned(),
            kind,
            reason: reason.into(),
            instead: instead.into(),
        });
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(map) => map.values().all(is_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        Value::Object(map) => map.values().map(leaves).sum(),
        _ => 1,
    }
}

fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A value of a document, with its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    ledger: &'a Ledger,
    pointer: String,
    value: &'a Value,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a secret.
        f.debug_tuple("Node").field(&self.pointer).finish()
    }
}

impl<'a> Node<'a> {
    /// The value itself. Whoever uses it marks it.
    pub(super) const fn value(&self) -> &'a Value {
        self.value
    }

    /// JSON pointer to it.
    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The file it stands in.
    pub(super) fn file(&self) -> &str {
        &self.ledger.file
    }

    /// The member of this name, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.child(key, value))
    }

    /// The first member that is there of those with these names.
    pub(super) fn any(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// Whether it has a member of this name that is not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self {
            ledger: self.ledger,
            pointer: below(&self.pointer, key),
            value,
        }
    }

    /// The member of this name as an object. Anything else there is noted.
    pub(super) fn object(&self, key: &str) -> Option<Self> {
        self.any_object(&[key])
    }

    /// As [`object`](Self::object), for the first of these names that is there.
    pub(super) fn any_object(&self, keys: &[&str]) -> Option<Self> {
        let node = self.any(keys)?;
        if node.value.is_object() {
            return Some(node);
        }
        node.wrong("an object");
        None
    }

    /// The items of the list under this name. Anything else there is noted.
    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        node.items().unwrap_or_else(|| {
            node.wrong("a list");
            Vec::new()
        })
    }

    /// Its items, when it is a list.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.as_array()?.iter().enumerate();
        let items = items.map(|(index, item)| self.child(&index.to_string(), item));
        Some(items.collect())
    }

    /// Its members with their names, when it is an object.
    pub(super) fn members(&self) -> Option<Vec<(&'a str, Self)>> {
        let members = self.value.as_object()?.iter();
        let members = members.map(|(key, value)| (key.as_str(), self.child(key, value)));
        Some(members.collect())
    }

    /// The things under this name, which are a list in some places and a map by name in others.
    pub(super) fn list_or_map(&self, key: &str) -> Vec<(Option<&'a str>, Self)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        if let Some(items) = node.items() {
            return items.into_iter().map(|item| (None, item)).collect();
        }
        if let Some(members) = node.members() {
            let members = members.into_iter();
            return members.map(|(name, node)| (Some(name), node)).collect();
        }
        node.wrong("a list");
        Vec::new()
    }

    /// Marks it, and everything in it, as used.
    pub(super) fn mark(&self) {
        self.ledger.marked.borrow_mut().insert(self.pointer.clone());
    }

    /// Notes it: it and everything in it is not imported as it stands.
    pub(super) fn note(
        &self,
        kind: NoteKind,
        reason: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.mark();
        self.remark(kind, reason, instead);
    }

    /// Notes something about it; what stands in it is still to be read or noted.
    pub(super) fn remark(
        &self,
        kind: NoteKind,
        reason: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.ledger.note(&self.pointer, kind, reason, instead);
    }

    /// Notes which of these parts it says nothing of. They are unset in Gravitee then.
    pub(super) fn says_nothing_of(&self, parts: &[(&str, bool)]) {
        let absent = parts.iter().filter(|(_, is_absent)| *is_absent);
        let absent: Vec<_> = absent.map(|(name, _)| *name).collect();
        if !absent.is_empty() {
            let reason = format!("says nothing of {}", absent.join(", "));
            let instead = "unset, also where it was set here since";
            self.remark(NoteKind::Defaulted, reason, instead);
        }
    }

    /// Notes that it is not of the type it should be.
    pub(super) fn wrong(&self, expected: &str) {
        let found = match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        if self.ledger.marked.borrow().contains(&self.pointer) {
            return;
        }
        let reason = format!("is {found} where {expected} was expected");
        self.note(NoteKind::Invalid, reason, "taken as absent");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(document: &Value, read: impl FnOnce(&Node<'_>)) -> Vec<(String, NoteKind)> {
        let ledger = Ledger::new("f", 1);
        read(&ledger.root(document));
        let notes = ledger.close(document).into_iter();
        notes.map(|note| (note.pointer, note.kind)).collect()
    }

    #[test]
    fn what_nobody_read_is_noted_at_its_top() {
        let document = json!({"a": {"b": 1, "c": {"d": 2, "e": [3]}}, "f/g": {"h~": 1}, "i": []});
        let notes = closed(&document, |root| {
            root.object("a").unwrap().get("b").unwrap().mark();
        });
        let expected = [
            ("/a/c", NoteKind::Unsupported),
            ("/f~1g", NoteKind::Unsupported),
            ("/i", NoteKind::Informational),
        ];
        assert_eq!(
            notes,
            expected.map(|(pointer, kind)| (pointer.to_owned(), kind))
        );
    }

    #[test]
    fn a_document_that_nobody_knows_is_one_note() {
        let notes = closed(&json!({"a": [1, 2]}), |_| {});
        assert_eq!(notes, [(String::new(), NoteKind::Unsupported)]);
    }

    #[test]
    fn a_note_covers_what_stands_in_it_and_a_remark_does_not() {
        let document = json!({"a": {"b": 1}, "c": {"d": 1}});
        let notes = closed(&document, |root| {
            let [a, c] = ["a", "c"].map(|key| root.get(key).unwrap());
            a.note(NoteKind::Changed, "", "");
            c.remark(NoteKind::Changed, "", "");
        });
        let pointers: Vec<_> = notes.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/c", "/c"]);
    }
}
