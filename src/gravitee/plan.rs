//! What an import would do.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, Serializer, ser};
use serde_json::Value;
use uuid::Uuid;

use super::{
    api::Imported,
    document::{self, Found},
    ids,
    ledger::{Ledger, Node},
    note::{Note, NoteKind},
    subscription::subscription,
    text::{self, ReadError},
};
use crate::model::{
    Api, ApiId, Application, ApplicationId, Auth, CallbackUrl, ConsumerConfiguration, CustomHeader,
    DeadLetterQueue, Secret, SecretId, Subscription,
};

/// The application of subscriptions that name none.
const NAMELESS: &str = "gravitee import";
/// What stands for a secret where a plan is shown.
const HIDDEN: &str = "[hidden]";

/// An API to be created, or changed when it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedApi {
    /// The file it comes from.
    pub file: String,
    /// JSON pointer to its definition.
    pub pointer: String,
    /// The API.
    pub api: Api,
    /// Whether its context path stands in the definition. One that is made from its name is not
    /// given to an API that is there.
    pub names_path: bool,
    /// Whether all of its proxy could be taken over. If not, an API that is there keeps its own.
    pub takes_proxy: bool,
}

/// An application to be created, or changed when it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedApplication {
    /// The file it comes from.
    pub file: String,
    /// JSON pointer to what names it.
    pub pointer: String,
    /// The application.
    #[serde(flatten)]
    pub application: Application,
    /// Whether it is described and not only referred to. One that is only referred to is left as
    /// it is when it is there.
    pub described: bool,
}

/// A subscription to be created, or changed when it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSubscription {
    /// The file it comes from.
    pub file: String,
    /// JSON pointer to it.
    pub pointer: String,
    /// The subscription.
    pub subscription: Subscription,
    /// Whether it is paused once it is created, or stopped where it is pending.
    pub paused: bool,
    /// Whether its definition says so, and not only that something of it could not be taken over.
    pub says_paused: bool,
    /// What of it could not be taken over.
    pub untaken: Untaken,
}

/// What stands in the definition of a subscription and could not be taken over: to be set by hand.
/// A subscription that is there keeps its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Untaken {
    /// Its credentials.
    pub auth: bool,
    /// The certificates that it trusts.
    pub trust_store: bool,
    /// Its client certificate.
    pub key_store: bool,
    /// Headers, by their names.
    pub headers: Vec<String>,
}

impl Untaken {
    /// Whether something without which calls are not safe is neither taken over nor in these
    /// settings.
    pub(super) const fn is_missing_in(&self, settings: &ConsumerConfiguration) -> bool {
        (self.auth && matches!(settings.auth, Auth::None))
            || (self.trust_store && settings.ssl.trust_store.is_none())
            || (self.key_store && settings.ssl.key_store.is_none())
    }
}

/// What an import would do: a value, made from the texts of files alone.
///
/// It can be written as JSON for people and programs to look at; secrets are not written.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plan {
    /// APIs, in the order they were found.
    pub apis: Vec<PlannedApi>,
    /// Applications.
    pub applications: Vec<PlannedApplication>,
    /// Subscriptions.
    pub subscriptions: Vec<PlannedSubscription>,
    /// What is not imported as it stands.
    pub notes: Vec<Note>,
}

impl Plan {
    /// The plan of these files, each with its name and its text. Subscriptions may name what
    /// another file describes.
    ///
    /// ```
    /// use hooklog::gravitee::Plan;
    /// let text = r#"{
    ///     "definitionVersion": "V4", "type": "MESSAGE", "name": "Orders", "apiVersion": "1",
    ///     "listeners": [{"type": "SUBSCRIPTION", "entrypoints": [{"type": "webhook"}]}],
    ///     "endpointGroups": [{"type": "kafka", "endpoints": [{"name": "orders"}]}]
    /// }"#;
    /// let plan = Plan::of([("orders.json", text)]).unwrap();
    /// assert_eq!(plan.apis[0].api.name, "Orders");
    /// assert!(plan.notes.iter().any(|note| note.pointer == "/endpointGroups/0/endpoints/0"));
    /// ```
    ///
    /// # Errors
    /// Every file that is neither JSON nor YAML, or is too much, by its name.
    pub fn of<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<(String, ReadError)>> {
        let mut documents = Vec::new();
        let mut failures = Vec::new();
        for (file, text) in files {
            match text::documents(text) {
                Ok(found) => {
                    let found = found.into_iter().enumerate();
                    documents
                        .extend(found.map(|(index, value)| (Ledger::new(file, index + 1), value)));
                }
                Err(error) => failures.push((file.to_owned(), error)),
            }
        }
        if !failures.is_empty() {
            return Err(failures);
        }
        Ok(Planner::default().plan(documents))
    }

    /// Whether there is nothing to import.
    pub const fn is_empty(&self) -> bool {
        self.apis.is_empty() && self.applications.is_empty() && self.subscriptions.is_empty()
    }
}

/// What subscriptions may call the things of a plan.
#[derive(Default)]
struct Planner {
    plan: Plan,
    apis: HashMap<String, ApiId>,
    applications: HashMap<String, ApplicationId>,
}

impl Planner {
    fn plan(mut self, documents: Vec<(Ledger, Value)>) -> Plan {
        let mut subscriptions = Vec::new();
        for (ledger, value) in &documents {
            for found in document::read(&ledger.root(value)) {
                match found {
                    Found::Api { node, imported } => self.add_api(&node, *imported),
                    Found::Application { node, resource } => self.describe(&node, resource),
                    Found::Subscription { node, api } => subscriptions.push((node, api)),
                }
            }
        }
        let mut ids = HashSet::new();
        for (node, api) in subscriptions {
            let mut references = References {
                planner: &mut self,
                within: api,
            };
            let Some(planned) = subscription(&node, &mut references) else {
                continue;
            };
            if ids.insert(planned.subscription.id) {
                self.plan.subscriptions.push(planned);
            } else {
                twice(&node);
            }
        }
        for (ledger, value) in documents {
            self.plan.notes.extend(ledger.close(&value));
        }
        self.plan
    }

    fn add_api(&mut self, node: &Node<'_>, imported: Imported) {
        let Imported {
            planned,
            references,
        } = imported;
        let id = planned.api.id;
        if self.plan.apis.iter().any(|other| other.api.id == id) {
            twice(node);
            return;
        }
        for reference in references {
            self.apis.entry(reference).or_insert(id);
        }
        self.plan.apis.push(planned);
    }

    /// Takes in an application that is described.
    fn describe(&mut self, node: &Node<'_>, resource: Option<String>) {
        let text = |key: &str| node.get(key).and_then(|node| node.word());
        let (name, id) = (text("name"), text("id"));
        let reference = id.or_else(|| resource.clone()).or_else(|| name.clone());
        let Some(reference) = reference else {
            let reason = "is an application with neither name nor id";
            node.note(NoteKind::Invalid, reason, "left out");
            return;
        };
        let mut application = Application::named(name.clone().unwrap_or_else(|| reference.clone()));
        application.id = ApplicationId::from_uuid(ids::id_of("application", &reference));
        application.description = text("description").unwrap_or_default();
        let names = [Some(reference), resource, name];
        self.add_application(node, names.into_iter().flatten(), application, true);
    }

    fn add_application(
        &mut self,
        node: &Node<'_>,
        names: impl Iterator<Item = String>,
        application: Application,
        described: bool,
    ) {
        if let Err(invalid) = application.validate() {
            node.remark(NoteKind::Invalid, invalid.to_string(), "left out");
            return;
        }
        for name in names {
            self.applications.entry(name).or_insert(application.id);
        }
        let planned = &mut self.plan.applications;
        let found = planned
            .iter_mut()
            .find(|other| other.application.id == application.id);
        match found {
            Some(known) if described && !known.described => {
                known.application = application;
                known.described = true;
            }
            Some(_) if described => twice(node),
            Some(_) => {}
            None => planned.push(PlannedApplication {
                file: node.file().to_owned(),
                pointer: node.pointer().to_owned(),
                application,
                described,
            }),
        }
    }
}

fn twice(node: &Node<'_>) {
    let reason = "is in these files already, by its id";
    node.remark(NoteKind::Invalid, reason, "left out: the first one counts");
}

/// Finds what a subscription refers to.
pub(super) struct References<'a> {
    planner: &'a mut Planner,
    within: Option<ApiId>,
}

/// A reference: an id, or an object with an id or a name.
#[derive(Default)]
struct Reference {
    id: Option<String>,
    name: Option<String>,
}

fn reference(node: &Node<'_>) -> Reference {
    if node.value().is_object() {
        let text = |key: &str| node.get(key).and_then(|node| node.word());
        let _namespace_and_kind = ["namespace", "kind"].map(text);
        return Reference {
            id: text("id"),
            name: text("name"),
        };
    }
    Reference {
        id: node.word(),
        name: None,
    }
}

impl References<'_> {
    /// The API that a subscription is on; a note when it names none.
    pub(super) fn api(&self, node: &Node<'_>) -> Option<ApiId> {
        let of = node.any(&["api", "apiId", "api_id", "apiRef"]);
        let of = of.as_ref().map(reference).unwrap_or_default();
        let calls: Vec<_> = [of.id, of.name].into_iter().flatten().collect();
        let known = calls.iter().find_map(|call| self.planner.apis.get(call));
        let id = known.copied().or(self.within).or_else(|| {
            // One that was imported before, or is there under this id.
            let call = calls.first()?;
            Some(ApiId::from_uuid(ids::id_of("api", call)))
        });
        if id.is_none() {
            let instead = "the subscription is not imported";
            node.remark(NoteKind::Invalid, "names no API", instead);
        }
        id
    }

    /// The application of a subscription, planned when it is not yet.
    pub(super) fn application(&mut self, node: &Node<'_>) -> ApplicationId {
        let at = node.any(&[
            "application",
            "applicationId",
            "application_id",
            "applicationRef",
        ]);
        let mut of = at.as_ref().map(reference).unwrap_or_default();
        let beside = node.any(&["applicationName", "application_name"]);
        of.name = of.name.or_else(|| beside.and_then(|node| node.word()));
        let calls = [of.id.clone(), of.name.clone()];
        let mut known = calls.iter().flatten();
        if let Some(id) = known.find_map(|call| self.planner.applications.get(call)) {
            return *id;
        }
        let described = of.name.is_some();
        let call = of.id.or_else(|| of.name.clone()).unwrap_or_else(|| {
            let instead = format!("belongs to the application {NAMELESS:?}");
            node.remark(NoteKind::Defaulted, "names no application", instead);
            NAMELESS.to_owned()
        });
        if !described && call != NAMELESS {
            let instead = "its id is its name, unless it is there already";
            let at = at.as_ref().unwrap_or(node);
            at.remark(NoteKind::Defaulted, "has no name in these files", instead);
        }
        let mut application = Application::named(of.name.unwrap_or_else(|| call.clone()));
        application.id = ApplicationId::from_uuid(ids::id_of("application", &call));
        let id = application.id;
        let calls = calls.into_iter().flatten().chain([call]);
        self.planner
            .add_application(node, calls, application, described);
        id
    }
}

/// An API as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownApi<'a> {
    file: &'a str,
    pointer: &'a str,
    #[serde(flatten)]
    api: Value,
}

impl Serialize for PlannedApi {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut api = self.api.clone();
        let entrypoint = &mut api.entrypoint;
        entrypoint.callback_url.iter_mut().for_each(redact);
        entrypoint.headers.iter_mut().for_each(hide_header);
        if let DeadLetterQueue::Http { url } = &mut entrypoint.dlq {
            redact(url);
        }
        if let Some(proxy) = &mut entrypoint.proxy {
            proxy.password.iter_mut().for_each(hide);
        }
        let shown = ShownApi {
            file: &self.file,
            pointer: &self.pointer,
            api: shown(&api)?,
        };
        shown.serialize(serializer)
    }
}

/// A subscription as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSubscription<'a> {
    file: &'a str,
    pointer: &'a str,
    paused: bool,
    #[serde(flatten)]
    subscription: Value,
}

impl Serialize for PlannedSubscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut subscription = self.subscription.clone();
        let configuration = &mut subscription.configuration;
        configuration.callback_url.iter_mut().for_each(redact);
        configuration.headers.iter_mut().for_each(hide_header);
        match &mut configuration.auth {
            Auth::None => {}
            Auth::Basic { password, .. } => hide(password),
            Auth::Token { value } => hide(value),
            Auth::Oauth2(oauth2) => {
                redact(&mut oauth2.endpoint);
                hide(&mut oauth2.client_secret);
            }
            Auth::JwtProfileOauth2(profile) => {
                redact(&mut profile.endpoint);
                hide(&mut profile.key_content);
            }
        }
        configuration.ssl.key_store.iter_mut().for_each(hide);
        let shown = ShownSubscription {
            file: &self.file,
            pointer: &self.pointer,
            paused: self.paused,
            subscription: shown(&subscription)?,
        };
        shown.serialize(serializer)
    }
}

/// Puts an id that no secret has in the place of a secret.
fn hide(secret: &mut Secret) {
    *secret = Secret::Sealed(SecretId::from_uuid(Uuid::nil()));
}

fn hide_header(header: &mut CustomHeader) {
    if header.is_secret() {
        hide(&mut header.value);
    }
}

fn redact(url: &mut CallbackUrl) {
    *url = url.redacted();
}

fn shown<T: Serialize, E: ser::Error>(thing: &T) -> Result<Value, E> {
    let mut value = serde_json::to_value(thing).map_err(E::custom)?;
    let hidden = serde_json::to_value(Secret::Sealed(SecretId::from_uuid(Uuid::nil())));
    name_hidden(&mut value, &hidden.map_err(E::custom)?);
    Ok(value)
}

fn name_hidden(value: &mut Value, hidden: &Value) {
    match value {
        value if value == hidden => *value = Value::from(HIDDEN),
        Value::Array(items) => items.iter_mut().for_each(|item| name_hidden(item, hidden)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|value| name_hidden(value, hidden)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ORDERS: &str = include_str!("../../tests/fixtures/gravitee/orders.json");
    const CLUSTER: &str = include_str!("../../tests/fixtures/gravitee/cluster.yaml");

    fn samples() -> Vec<Value> {
        let texts = [ORDERS, CLUSTER].into_iter();
        texts
            .flat_map(|text| text::documents(text).unwrap())
            .collect()
    }

    fn notes_on(document: &Value) -> Vec<Note> {
        Plan::of([("f", document.to_string().as_str())])
            .unwrap()
            .notes
    }

    /// Whether a note names `pointer` or something that it stands in.
    fn is_noted(notes: &[Note], pointer: &str) -> bool {
        notes.iter().any(|note| {
            let rest = pointer.strip_prefix(note.pointer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn walk(value: &Value, pointer: &str, see: &mut impl FnMut(&str, &Value)) {
        see(pointer, value);
        let mut below = |key: &str, value| {
            let key = key.replace('~', "~0").replace('/', "~1");
            walk(value, &format!("{pointer}/{key}"), see);
        };
        match value {
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(index, item)| below(&index.to_string(), item));
            }
            Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
            _ => {}
        }
    }

    fn pointers(document: &Value, of: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        walk(document, "", &mut |pointer, value| {
            found.extend(of(value).then(|| pointer.to_owned()));
        });
        found
    }

    #[test]
    fn every_value_of_the_wrong_kind_is_noted() {
        for sample in samples() {
            for pointer in pointers(&sample, |v| !v.is_object() && !v.is_array()) {
                // Any value is a message.
                if pointer.ends_with("/messageContent") {
                    continue;
                }
                let mut odd = sample.clone();
                *odd.pointer_mut(&pointer).unwrap() = json!({"zz": [1]});
                let notes = notes_on(&odd);
                let inner = format!("{pointer}/zz/0");
                assert!(is_noted(&notes, &inner), "{pointer}: {notes:#?}");
            }
        }
    }

    #[test]
    fn every_key_that_is_not_known_is_noted_wherever_it_stands() {
        for sample in samples() {
            for pointer in pointers(&sample, Value::is_object) {
                let mut odd = sample.clone();
                let object = odd.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
                object.insert("zzUnknown".to_owned(), json!("x"));
                let notes = notes_on(&odd);
                // In a map of headers or plans every key is known.
                let inner = format!("{pointer}/zzUnknown");
                assert!(is_noted(&notes, &inner), "{pointer}: {notes:#?}");
            }
        }
    }

    #[test]
    fn every_value_that_is_missing_leaves_a_plan() {
        for sample in samples() {
            for pointer in pointers(&sample, |_| true).iter().skip(1) {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                let mut less = sample.clone();
                match less.pointer_mut(parent).unwrap() {
                    Value::Array(items) => drop(items.remove(key.parse().unwrap())),
                    Value::Object(map) => drop(map.remove(key)),
                    _ => unreachable!("a parent holds something"),
                }
                notes_on(&less);
            }
        }
    }

    const KEYS: &[&str] = &[
        "api",
        "apiId",
        "application",
        "analytics",
        "auth",
        "basic",
        "callbackUrl",
        "channel",
        "configuration",
        "consumerConfiguration",
        "content",
        "customClaims",
        "definitionVersion",
        "dlq",
        "enabled",
        "endingAt",
        "endpoint",
        "endpointGroups",
        "endpoints",
        "entrypoints",
        "entrypointConfiguration",
        "entrypointId",
        "expirationTime",
        "flows",
        "headers",
        "host",
        "http",
        "id",
        "items",
        "jwtProfileOauth2",
        "keyContent",
        "keyStore",
        "kind",
        "listeners",
        "logging",
        "maxAttempts",
        "messageCount",
        "messageInterval",
        "messageSampling",
        "name",
        "oauth2",
        "password",
        "path",
        "paths",
        "plans",
        "port",
        "proxy",
        "qos",
        "readTimeout",
        "retry",
        "scopes",
        "sharedConfiguration",
        "spec",
        "ssl",
        "state",
        "status",
        "subscriptions",
        "token",
        "trustStore",
        "type",
        "username",
        "value",
        "~/",
        "",
    ];
    const TEXTS: &[&str] = &[
        "webhook",
        "SUBSCRIPTION",
        "HTTP",
        "MESSAGE",
        "mock",
        "V4",
        "ACCEPTED",
        "basic",
        "oauth2",
        "jwtProfileOauth2",
        "https://example.com/a",
        "{#x}",
        "3s",
        "PEM",
        "COUNT",
        "a",
        "",
        "/a",
        "99999999999999999999999",
        "2026-01-01T00:00:00Z",
        "{\"http\":1}",
        "\u{202e}\u{0}",
    ];

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            proptest::sample::select(TEXTS).prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 8, |inner| {
            let key = proptest::sample::select(KEYS).prop_map(str::to_owned);
            let map = proptest::collection::btree_map(key, inner.clone(), 0..8);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_document_panics(document in any_value()) {
            let _ = Plan::of([("f", document.to_string().as_str())]);
        }

        #[test]
        fn no_part_of_a_definition_panics_whatever_stands_in_its_place(
            value in any_value(),
            sample in 0_usize..3,
            place in any::<proptest::sample::Index>(),
        ) {
            let mut document = samples().remove(sample);
            let places = pointers(&document, |_| true);
            let place: &String = place.get(&places);
            *document.pointer_mut(place).unwrap() = value;
            // In place of the whole it may be refused, as an empty one is.
            let _ = Plan::of([("f", document.to_string().as_str())]);
        }
    }
}
