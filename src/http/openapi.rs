//! The `OpenAPI` document, read from the table of operations.

use std::collections::BTreeSet;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    operation::{Content, Gate, Operation, Precondition, Verb},
    operations,
    problem::{self, Kind},
};
use crate::model::Role;

/// The description of everything that can be asked for, as `OpenAPI` 3.1.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = generator.subschema_for::<problem::Body<'static>>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations::all() {
        let described = describe(operation, &mut generator, &json!(problem));
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.verb.as_str().to_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hooklog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A webhook gateway whose every delivery is an event.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token (`hl_…`), or the key of an application.",
                },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "tags": [tag(operation.path)],
        "parameters": parameters(operation, generator),
        "responses": responses(operation, generator, problem),
    });
    if let Some(body) = &operation.body {
        described["requestBody"] = json!({
            "required": !operation.is_body_optional,
            "content": content(body, generator),
        });
    }
    match operation.gate.permission() {
        None => described["security"] = json!([]),
        Some(permission) => {
            let roles = Role::ALL.into_iter().filter(|role| role.may(permission));
            let roles: Vec<_> = roles.map(Role::as_str).collect();
            described["security"] = json!([{"token": []}]);
            described["description"] = json!(format!("Roles: {}.", roles.join(", ")));
            described["x-roles"] = json!(roles);
        }
    }
    described
}

/// The kind of thing that a path is about.
fn tag(path: &str) -> &str {
    if path.starts_with("/{contextPath}") {
        return "consumer";
    }
    let parts = path.split('/').filter(|part| !part.starts_with(['{', '_']));
    let named: Vec<_> = parts
        .filter(|part| !part.is_empty() && *part != "v1")
        .collect();
    match named.as_slice() {
        [
            "apis",
            kind @ ("messages" | "subscriptions" | "logs" | "dead-letters"),
            ..,
        ] => kind,
        [kind, ..] => kind,
        [] => "gateway",
    }
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let names = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(name)
    });
    let mut parameters: Vec<Value> = names
        .map(|name| {
            let format = match name {
                "contextPath" | "projection" => json!({"type": "string", "minLength": 1}),
                _ => json!({"type": "string", "format": "uuid"}),
            };
            json!({"name": name, "in": "path", "required": true, "schema": format})
        })
        .collect();
    if let Some(query) = operation.query {
        parameters.extend(fields(query, generator));
    }
    parameters.extend(operation.preconditions.iter().map(|header| match header {
        Precondition::IfMatch => header_parameter(
            "If-Match",
            "The ETag of what was read: the change is made only if it is still that.",
        ),
        Precondition::IdempotencyKey => header_parameter(
            "Idempotency-Key",
            "1 to 255 visible characters. Asked again with the same key, it is done once.",
        ),
        Precondition::LastEventId => {
            header_parameter("Last-Event-ID", "Go on after the event with this id.")
        }
    }));
    parameters
}

fn header_parameter(name: &str, about: &str) -> Value {
    json!({
        "name": name,
        "in": "header",
        "description": about,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

/// The fields of an object, as query parameters.
fn fields(query: super::operation::SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut own = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.inline_subschemas = true;
        })
        .into_generator();
    let schema = query(&mut own);
    // What the fields refer to is described once, with everything else.
    generator
        .definitions_mut()
        .extend(own.take_definitions(true));
    let required: BTreeSet<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields = properties.into_iter().flatten().map(|(name, field)| {
        let mut field = without_null(field.clone());
        let about = field.as_object_mut().and_then(|f| f.remove("description"));
        json!({
            "name": name,
            "in": "query",
            "required": required.contains(name.as_str()),
            "description": about.unwrap_or_default(),
            "schema": field,
        })
    });
    fields.collect()
}

/// A query parameter that is not there is not null.
fn without_null(mut field: Value) -> Value {
    if let Some(types) = field.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            field["type"] = only.clone();
        }
    }
    if let Some(choices) = field.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
    }
    if let Some(object) = field.as_object_mut() {
        object.remove("default");
        if let Some(values) = object.get_mut("enum").and_then(Value::as_array_mut) {
            values.retain(|value| !value.is_null());
        }
    }
    field
}

fn content(content: &Content, generator: &mut SchemaGenerator) -> Value {
    let mut types = Map::new();
    for name in content.types {
        // A schema tells of JSON; other bodies are bytes.
        let schema = content.schema.filter(|_| name.ends_with("json"));
        let schema = schema.map_or_else(|| json!({}), |schema| json!(schema(generator)));
        types.insert((*name).to_owned(), json!({"schema": schema}));
    }
    Value::Object(types)
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut responses = Map::new();
    let mut done = json!({"description": "Done."});
    if let Some(reply) = &operation.reply {
        done["content"] = content(reply, generator);
    }
    responses.insert(operation.status.to_string(), done);
    if let Some((status, reply)) = &operation.other_reply {
        let done = json!({"description": "Done otherwise.", "content": content(reply, generator)});
        responses.insert(status.to_string(), done);
    }
    for kind in problems(operation) {
        let described = json!({
            "description": format!("{}.", kind.title()),
            "content": {"application/problem+json": {"schema": problem}},
        });
        responses.insert(kind.status().to_string(), described);
    }
    Value::Object(responses)
}

/// What may go wrong with an operation.
fn problems(operation: &Operation) -> Vec<Kind> {
    let mut kinds = vec![Kind::Unavailable];
    if operation.gate != Gate::Open {
        kinds.extend([Kind::Unauthenticated, Kind::Forbidden, Kind::TooMany]);
    }
    if operation.path.contains('{') {
        kinds.push(Kind::NotFound);
    }
    if operation.query.is_some() {
        kinds.extend([Kind::Invalid, Kind::NotFound]);
    }
    if operation.body.is_some() {
        kinds.extend([Kind::Malformed, Kind::UnsupportedMediaType]);
        kinds.extend([Kind::Invalid, Kind::TooLarge, Kind::NotFound]);
    }
    if operation.verb != Verb::Get {
        kinds.extend([Kind::Conflict, Kind::TooLarge]);
    }
    for header in operation.preconditions {
        kinds.push(match header {
            Precondition::IfMatch => Kind::Changed,
            Precondition::IdempotencyKey | Precondition::LastEventId => Kind::Malformed,
        });
    }
    kinds.sort();
    kinds.dedup();
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_once() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, verbs) in document["paths"].as_object().unwrap() {
            for (verb, operation) in verbs.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(described.insert(id.to_owned()), "{id} is described twice");
                let row = operations::all().find(|row| row.id == id).unwrap();
                assert_eq!(
                    (row.path, row.verb.as_str().to_lowercase().as_str()),
                    (path.as_str(), verb.as_str())
                );
            }
        }
        let all: BTreeSet<_> = operations::all().map(|row| row.id.to_owned()).collect();
        assert_eq!(described, all);
        assert_eq!(operations::all().count(), all.len());
    }

    #[test]
    fn what_is_referred_to_is_described() {
        let text = document().to_string();
        let document = document();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
    }
}
