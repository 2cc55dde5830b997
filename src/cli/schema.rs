//! `hooklog schema`: the JSON Schemas of what goes in and comes out, and beside them the `OpenAPI`
//! document.
//!
//! They are generated from the types; `schemas/` in the repository holds them as they are released.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, builder::PossibleValuesParser};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::{CliError, Output, openapi, output::Rows};
use crate::model::{Api, Application, Event, Position, Subscription, Timestamp, Version};

/// A schema that is published.
struct Document {
    name: &'static str,
    about: &'static str,
    generate: fn() -> Schema,
}

/// Every schema that is published, by name.
const DOCUMENTS: [Document; 4] = [
    Document {
        name: "api",
        about: "The definition of an API",
        generate: of::<Api>,
    },
    Document {
        name: "application",
        about: "The definition of an application",
        generate: of::<Application>,
    },
    Document {
        name: "event",
        about: "An event of the log, as it is printed and exported",
        generate: event,
    },
    Document {
        name: "subscription",
        about: "The definition of a subscription",
        generate: of::<Subscription>,
    },
];

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Which one; without it, they are listed.
    #[arg(value_parser = names())]
    name: Option<String>,
    /// Write every schema to this directory as NAME.json, and the `OpenAPI` document as
    /// openapi.json.
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(DOCUMENTS.map(|document| document.name))
}

pub(super) fn run(args: &SchemaArgs, output: &mut Output) -> Result<(), CliError> {
    if let Some(directory) = &args.write {
        return write(directory).map_err(|error| {
            let directory = directory.display();
            CliError::failure(format!("cannot write schemas to {directory}: {error}"))
        });
    }
    let named = DOCUMENTS
        .iter()
        .find(|document| Some(document.name) == args.name.as_deref());
    if let Some(document) = named {
        for line in text(document).lines() {
            output.line(line)?;
        }
    } else if output.is_json() {
        for document in &DOCUMENTS {
            output.json(&json!({"name": document.name, "about": document.about}))?;
        }
    } else {
        let mut rows = Rows::new(["Name", "What it describes"]);
        for document in &DOCUMENTS {
            rows.push([document.name.to_owned(), document.about.to_owned()]);
        }
        output.table(&rows, "")?;
    }
    Ok(output.flush()?)
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in files() {
        fs::write(directory.join(name).with_extension("json"), text)?;
    }
    Ok(())
}

/// Everything that is published, by name.
fn files() -> impl Iterator<Item = (&'static str, String)> {
    let schemas = DOCUMENTS
        .iter()
        .map(|document| (document.name, text(document)));
    schemas.chain([("openapi", openapi::text())])
}

fn text(document: &Document) -> String {
    let schema = (document.generate)();
    let text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text + "\n"
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

fn of<T: JsonSchema>() -> Schema {
    generator().into_root_schema_for::<T>()
}

/// The envelope around each payload, by type and schema version.
fn event() -> Schema {
    let mut generator = generator();
    let versions: Vec<_> = Event::known_types().collect();
    let payloads: Vec<Value> = Event::schemas(&mut generator)
        .into_iter()
        .zip(versions)
        .map(|((name, payload), (_, version))| {
            json!({"properties": {
                "type": {"const": name},
                "schemaVersion": {"const": version},
                "data": payload,
            }})
        })
        .collect();
    let position = generator.subschema_for::<Position>();
    let version = generator.subschema_for::<Version>();
    let time = generator.subschema_for::<Timestamp>();
    let definitions = generator.take_definitions(true);
    json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "description": "An event as it stands in the log: where and when, then its payload under \
                        `data`. A later release may add types; pass over those you do not know.",
        "type": "object",
        "properties": {
            "position": position,
            "stream": {
                "description": "What it tells of: a kind, a slash and a UUID.",
                "type": "string",
                "pattern": "^(api|messages|application|subscription|token|job)/[0-9a-f-]{36}$",
            },
            "version": version,
            "time": time,
            "type": {"description": "What happened, as `noun.verb`.", "type": "string"},
            "schemaVersion": {"type": "integer", "minimum": 1},
            "data": {},
        },
        "required": ["position", "stream", "version", "time", "type", "schemaVersion", "data"],
        "oneOf": payloads,
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The schemas in the repository are those of the types. Write them anew with
    /// `cargo run -- schema --write schemas`, and say in the CHANGELOG what changed.
    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for (name, text) in files() {
            let path = directory.join(name).with_extension("json");
            let published = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                published == text,
                "{} has drifted from its type: run `cargo run -- schema --write schemas`",
                path.display()
            );
        }
        let there = fs::read_dir(&directory).unwrap();
        let there: BTreeSet<_> = there.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(there.len(), files().count(), "{there:?}");
    }

    #[test]
    fn every_type_of_event_has_a_schema() {
        let schema = serde_json::to_value(event()).unwrap();
        let described = schema["oneOf"].as_array().unwrap().iter();
        let described: Vec<_> = described
            .map(|case| case["properties"]["type"]["const"].as_str().unwrap())
            .collect();
        let known: Vec<_> = Event::known_types().map(|(name, _)| name).collect();
        assert_eq!(described, known);
    }
}
