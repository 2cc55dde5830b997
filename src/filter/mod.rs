//! Filters: which messages a subscription gets, by a condition in
//! [CEL](https://cel.dev) on what a message says of itself.
//!
//! ```
//! use hooklog::{filter::Filter, model::FilterExpression};
//! let filter = FilterExpression::new("type == 'order.paid' && body.amount > 100");
//! assert!(Filter::compile(&filter).is_ok());
//! let refused = Filter::compile(&FilterExpression::new("kind == 'a'")).unwrap_err();
//! assert!(refused.to_string().starts_with("column 1: there is no \"kind\""), "{refused}");
//! ```
//!
//! # What a filter knows
//! | name | value |
//! |---|---|
//! | `type` | the message's event type, `''` when it has none |
//! | `headers` | its headers by their names in lower case; values of the same name are joined by `, ` |
//! | `body` | its content as JSON, `null` when it is something else |
//! | `channel`, `key` | its channel and its ordering key, `''` when it has none |
//! | `id` | its id, as in `webhook-id` |
//! | `acceptedAt` | when it was accepted, a text like `2026-01-01T00:00:00.000Z`: later is greater |
//!
//! # What it can ask
//! Of CEL: `== != < <= > >= in`, `&& || !`, `? :`, `+ - * / %`, fields, indexes, lists, `has()`,
//! `size()`, `int()`, `double()`, `string()`, `contains()`, `startsWith()`, `endsWith()`,
//! `matches()` with a pattern as RE2 writes it, and the macros `all`, `exists`, `exists_one`,
//! `filter` and `map`. Written-out maps, bytes, unsigned numbers, timestamps and durations are
//! left out. They mean what the specification of CEL says:
//! - a field that is missing is a failure, unless `has()` is asked before; so is an operation on
//!   values of the wrong type. Values of different types are not equal, numbers apart;
//! - `&&` and `||`, `all` and `exists` overrule a failure when something else decides;
//! - a number of JSON is an `int` when it is written as one that fits, else a `double`. They
//!   compare with each other; to calculate with both, say `double()`.
//!
//! A filter that fails on a message gives [`Failed`](FilterVerdict::Failed): the message is
//! dead-lettered with the reason, and others flow.
//!
//! # What it may cost
//! Whoever may subscribe writes filters, and their evaluation holds a thread that delivers. So
//! each of them is bounded:
//! - when it is set: [2,048 bytes](crate::model::FILTER_BYTES_MAX), [500
//!   operations](FILTER_NODES_MAX), [32 inside each other](FILTER_DEPTH_MAX), [2 macros inside
//!   each other](FILTER_MACROS_DEEP_MAX), patterns of 16 KiB once compiled;
//! - for each message: [100,000 steps](FILTER_STEPS_MAX), where an operation and an element are
//!   one each, and what works through a text pays for its length, a pattern also for its size;
//! - a content is read only when the filter names `body`, and no further than [20,000
//!   values](FILTER_BODY_VALUES_MAX) and [64 levels](FILTER_BODY_DEPTH_MAX).
//!
//! The worst that was found takes 10 ms, of which 2 ms are reading the content: 28 filters on 9
//! contents of up to 1 MB, each written to be slow, the least of five runs, release build, on two
//! cores that had other work. `tests::the_worst_accepted_filters_end_soon` measures it again. An
//! actor gives way to others of its thread after each message.
//!
//! This room imports nothing but [`model`](crate::model). It reads no clock: the budget counts
//! steps, so the verdict on a message is the same on every machine.

mod evaluate;
mod json;
mod parse;
mod pattern;
mod token;
mod tree;
mod value;

use std::{borrow::Cow, collections::btree_map::Entry, sync::Arc};

pub use self::{
    evaluate::FILTER_STEPS_MAX,
    json::{FILTER_BODY_DEPTH_MAX, FILTER_BODY_VALUES_MAX},
    parse::{FILTER_DEPTH_MAX, FILTER_MACROS_DEEP_MAX, FILTER_NODES_MAX},
};
use self::{
    evaluate::{Evaluation, Facts},
    json::{Json, Map},
    parse::Program,
    tree::Place,
    value::Value,
};
use crate::model::{FilterExpression, FilterVerdict, Header, Invalid, MessagePublished, Timestamp};

/// A filter, ready to judge messages; cheap to clone.
#[derive(Debug, Clone)]
pub struct Filter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: FilterExpression,
    /// Or why it cannot be read.
    program: Result<Program, String>,
}

impl Filter {
    /// Reads a filter, or says what is wrong with it and where.
    pub fn compile(expression: &FilterExpression) -> Result<Self, Invalid> {
        expression.validate()?;
        let filter = Self::read(expression);
        match &filter.0.program {
            Ok(_) => Ok(filter),
            Err(refused) => Err(Invalid::one("", refused.clone())),
        }
    }

    /// Reads a filter that was accepted once. Should it be none any more, it fails on each
    /// message.
    fn read(expression: &FilterExpression) -> Self {
        let text = expression.as_str();
        let program = parse::parse(text);
        let program = program.map_err(|e| format!("{}: {}", column(text, e.place), e.what));
        Self(Arc::new(Inner {
            text: expression.clone(),
            program,
        }))
    }

    /// What it makes of this message, which was accepted at that time.
    pub fn verdict(&self, message: &MessagePublished, accepted_at: Timestamp) -> FilterVerdict {
        let program = match &self.0.program {
            Ok(program) => program,
            Err(refused) => return FilterVerdict::Failed(format!("the filter: {refused}")),
        };
        let headers = headers_of(program, message);
        let body = if program.of_body {
            json::read(&message.content)
        } else {
            Ok(Json::Null)
        };
        let (id, accepted_at) = (message.id.to_string(), accepted_at.to_string());
        let facts = Facts {
            event_type: message.event_type.as_deref().unwrap_or_default(),
            channel: message.channel.as_deref().unwrap_or_default(),
            key: message.key.as_deref().unwrap_or_default(),
            id: &id,
            accepted_at: &accepted_at,
            headers: &headers,
            body: body.as_ref().map(Value::of).map_err(|beyond| *beyond),
        };
        match Evaluation::of(&facts).holds(&program.root) {
            Ok(true) => FilterVerdict::Passes,
            Ok(false) => FilterVerdict::Filtered,
            Err(failure) => {
                let column = column(self.0.text.as_str(), failure.place);
                FilterVerdict::Failed(format!("the filter, {column}: {}", failure.why))
            }
        }
    }
}

/// The filter of one subscription, read again only when its text is another.
#[derive(Debug, Default)]
pub struct FilterCache(Option<Filter>);

impl FilterCache {
    /// The filter that this text is; none for none.
    pub fn of(&mut self, expression: Option<&FilterExpression>) -> Option<Filter> {
        let held = self.0.as_ref().map(|filter| &filter.0.text);
        if held != expression {
            self.0 = expression.map(Filter::read);
        }
        self.0.clone()
    }
}

fn headers_of<'a>(program: &Program, message: &'a MessagePublished) -> Map<'a> {
    let mut headers = Map::new();
    if !program.of_headers {
        return headers;
    }
    for Header { name, value } in &message.headers {
        match headers.entry(Cow::Owned(name.to_ascii_lowercase())) {
            Entry::Vacant(place) => {
                place.insert(Json::Text(Cow::Borrowed(value)));
            }
            Entry::Occupied(mut place) => {
                if let Json::Text(text) = place.get_mut() {
                    *text += ", ";
                    *text += value.as_str();
                }
            }
        }
    }
    headers
}

/// Where a place stands, for people: characters from 1, in its line when there are several.
fn column(text: &str, place: Place) -> String {
    let before = text.get(..place.0).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[line_start..].chars().count() + 1;
    let line = before.matches('\n').count() + 1;
    if text.contains('\n') {
        format!("line {line}, column {column}")
    } else {
        format!("column {column}")
    }
}

#[cfg(test)]
mod tests;
