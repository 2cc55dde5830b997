//! YAML 1.2 to the values of JSON, with bounds on what aliases may copy.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

use super::text::{DEPTH_MAX, ReadError, TEXT_BYTES_MAX};

/// What one value costs when it is copied, beside its text.
const VALUE_BYTES: usize = 32;

/// The documents of a text; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, ReadError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = *error.marker();
            syntax(mark.line(), mark.col() + 1, error.info())
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

fn syntax(line: usize, column: usize, reason: impl Into<String>) -> ReadError {
    ReadError::Syntax {
        line,
        column,
        reason: reason.into(),
    }
}

/// A list or mapping that is not at its end yet.
enum Open {
    List(Vec<Value>),
    Mapping(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Builder {
    documents: Vec<Value>,
    open: Vec<(Open, usize)>,
    anchored: HashMap<usize, Value>,
    copied: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), ReadError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    self.anchor(anchor, || Value::String(text.to_string()));
                    return self.key(text.into_owned(), span);
                }
                let value = scalar(&text, style, tag.as_deref(), span)?;
                self.anchor(anchor, || value.clone());
                self.put(value);
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), anchor, span),
            Event::MappingStart(anchor, _) => {
                self.begin(Open::Mapping(Map::new(), None), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::DocumentStart(_) => {
                self.anchored.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some((Open::Mapping(_, None), _)))
    }

    fn key(&mut self, name: String, span: Span) -> Result<(), ReadError> {
        if let Some((Open::Mapping(map, key), _)) = self.open.last_mut() {
            if map.contains_key(&name) {
                let reason = format!("the key {name:?} stands here twice");
                return Err(syntax(span.start.line(), span.start.col() + 1, reason));
            }
            *key = Some(name);
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, anchor: usize, span: Span) -> Result<(), ReadError> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if self.wants_key() {
            return Err(syntax(line, column, "a key must be plain text"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(ReadError::TooDeep);
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn end(&mut self) {
        let (value, anchor) = match self.open.pop() {
            Some((Open::List(items), anchor)) => (Value::Array(items), anchor),
            Some((Open::Mapping(map, _), anchor)) => (Value::Object(map), anchor),
            None => return,
        };
        self.anchor(anchor, || value.clone());
        self.put(value);
    }

    fn anchor(&mut self, anchor: usize, value: impl FnOnce() -> Value) {
        // 0 stands for no anchor.
        if anchor != 0 {
            self.anchored.insert(anchor, value());
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), ReadError> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let Some(value) = self.anchored.get(&anchor) else {
            let reason = "an alias stands inside what it names";
            return Err(syntax(line, column, reason));
        };
        self.copied += cost(value);
        if self.copied > TEXT_BYTES_MAX {
            return Err(ReadError::TooMany);
        }
        if self.open.len() + depth(value) > DEPTH_MAX {
            return Err(ReadError::TooDeep);
        }
        let value = value.clone();
        match value {
            Value::String(name) if self.wants_key() => self.key(name, span),
            _ if self.wants_key() => Err(syntax(line, column, "a key must be plain text")),
            value => {
                self.put(value);
                Ok(())
            }
        }
    }

    /// Puts a whole value where it belongs.
    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None if value.is_null() => {}
            None => self.documents.push(value),
            Some((Open::List(items), _)) => items.push(value),
            Some((Open::Mapping(map, key), _)) => {
                let key = key.take().expect("a value follows its key");
                map.insert(key, value);
            }
        }
    }
}

fn cost(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(cost).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + cost(value)).sum(),
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    VALUE_BYTES + below
}

/// How deep lists and mappings stand in each other.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: Span,
) -> Result<Value, ReadError> {
    let as_text = || Ok(Value::String(text.to_owned()));
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => as_text(),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => as_text(),
        Some(tag)
            if tag.is_yaml_core_schema()
                && ["null", "bool", "int", "float"].contains(&tag.suffix.as_str()) =>
        {
            Ok(plain(text))
        }
        Some(tag) => {
            let reason = format!("the tag {tag} is not known; leave it out");
            let (line, column) = (span.start.line(), span.start.col() + 1);
            Err(syntax(line, column, reason))
        }
    }
}

/// The core schema, but for numbers that JSON would write otherwise (`1.10`, `0x1f`, `.inf`): they
/// stay text, so that a version is not made another one. Who wants a number reads it from text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let integer = text.parse::<u64>().map(Number::from);
    let integer = integer.or_else(|_| text.parse::<i64>().map(Number::from));
    let number = integer.ok().or_else(|| {
        let float = text.parse::<f64>().ok();
        float.and_then(Number::from_f64)
    });
    match number {
        Some(number) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        documents(text).unwrap().remove(0)
    }

    #[test]
    fn plain_values_are_those_of_the_core_schema_and_quoted_ones_are_text() {
        let text = "a: 1\nb: true\nc: ~\nd: '1'\ne: 1.5\nf: yes\ng: !!str 7\nh: -3\ni: |\n  x\n";
        let expected = json!({"a": 1, "b": true, "c": null, "d": "1", "e": 1.5, "f": "yes",
            "g": "7", "h": -3, "i": "x\n"});
        assert_eq!(one(text), expected);
    }

    #[test]
    fn a_number_that_json_would_write_otherwise_stays_as_it_is_written() {
        for text in ["1.10", "0x1f", "007", "+5", "1e3", ".inf", ".nan"] {
            assert_eq!(one(&format!("v: {text}"))["v"], json!(text));
        }
    }

    #[test]
    fn documents_are_told_apart_and_empty_ones_left_out() {
        let found = documents("---\na: 1\n---\n# nothing\n---\n- b\n").unwrap();
        assert_eq!(found, [json!({"a": 1}), json!(["b"])]);
    }

    #[test]
    fn aliases_are_copies() {
        assert_eq!(
            one("a: &x {k: 1}\nb: *x\nc: &y name\n*y : 2\n"),
            json!({"a": {"k": 1}, "b": {"k": 1}, "c": "name", "name": 2})
        );
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        use std::fmt::Write as _;
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{below}]").unwrap();
        }
        let refused = documents(&bomb).unwrap_err();
        assert!(matches!(refused, ReadError::TooMany), "{refused}");
    }

    #[test]
    fn what_cannot_be_a_value_of_json_is_refused_with_its_line() {
        for (text, line, reason) in [
            ("a: 1\na: 2\n", 2, "twice"),
            ("x: 1\n? [a]\n: 2\n", 2, "key"),
            ("a: 1\nb: !secret c\n", 2, "tag"),
            ("a: &x [*x]\n", 1, "alias"),
            ("a: [1\n", 2, ""),
        ] {
            match documents(text) {
                Err(ReadError::Syntax {
                    line: found,
                    reason: said,
                    ..
                }) => assert!(
                    found == line && said.contains(reason),
                    "{text}: {found} {said}"
                ),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = "- ".repeat(DEPTH_MAX + 1) + "x";
        assert!(matches!(documents(&deep), Err(ReadError::TooDeep)));
        let flow = "[".repeat(200);
        assert!(documents(&flow).is_err());
    }
}
