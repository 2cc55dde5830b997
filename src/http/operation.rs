//! What can be asked for: one row of the table that everything else is read from.

use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{bodies::SMALL_BYTES_MAX, call::Call, problem::Problem, reply::Reply};
use crate::model::Permission;

/// Most bytes of a body where nothing else is said.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    /// Its name on the wire.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Anybody.
    Open,
    /// Who has a token whose role allows this.
    Needs(Permission),
    /// The same, and anybody where the gateway's metrics are open.
    Scrape(Permission),
}

impl Gate {
    /// What a token has to allow where one is needed.
    pub(super) const fn permission(self) -> Option<Permission> {
        match self {
            Self::Open => None,
            Self::Needs(permission) | Self::Scrape(permission) => Some(permission),
        }
    }
}

/// Writes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of this type, for the table.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A body that is taken or given: its content types and what it holds.
#[derive(Clone, Copy)]
pub(super) struct Content {
    /// Its content types; the first is the usual one.
    pub(super) types: &'static [&'static str],
    /// What it holds; any bytes when absent.
    pub(super) schema: Option<SchemaOf>,
}

/// A body of JSON.
pub(super) const fn json(schema: SchemaOf) -> Content {
    Content {
        types: &["application/json"],
        schema: Some(schema),
    }
}

/// What a header of the request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// `If-Match` is looked at.
    IfMatch,
    /// `Idempotency-Key` is looked at.
    IdempotencyKey,
    /// `Last-Event-ID` is looked at.
    LastEventId,
}

/// One thing that can be asked for.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// Its name, unique, as in `createApi`.
    pub(super) id: &'static str,
    /// Its method.
    pub(super) verb: Verb,
    /// Its path, with `{name}` for what varies.
    pub(super) path: &'static str,
    /// Who may ask for it.
    pub(super) gate: Gate,
    /// What it does, in a line.
    pub(super) about: &'static str,
    /// Its query parameters: the fields of an object.
    pub(super) query: Option<SchemaOf>,
    /// Headers of the request that it looks at.
    pub(super) preconditions: &'static [Precondition],
    /// Its body.
    pub(super) body: Option<Content>,
    /// Whether it may be asked for without its body.
    pub(super) is_body_optional: bool,
    /// Its status when it is done.
    pub(super) status: u16,
    /// What it answers when it is done.
    pub(super) reply: Option<Content>,
    /// Another status and answer, when it is done otherwise.
    pub(super) other_reply: Option<(u16, Content)>,
    /// Whether it is put on record with its token before it is done.
    pub(super) is_change: bool,
    /// Most bytes of its body. 1 MiB where nothing else is said.
    body_bytes_max: usize,
    /// Does it.
    pub(super) run: fn(Call) -> BoxFuture<'static, Result<Reply, Problem>>,
}

impl Operation {
    /// A question: answers JSON, changes nothing.
    pub(super) const fn get(
        id: &'static str,
        path: &'static str,
        about: &'static str,
        reply: SchemaOf,
        run: fn(Call) -> BoxFuture<'static, Result<Reply, Problem>>,
    ) -> Self {
        Self {
            id,
            verb: Verb::Get,
            path,
            gate: Gate::Needs(Permission::Read),
            about,
            query: None,
            preconditions: &[],
            body: None,
            is_body_optional: false,
            status: 200,
            reply: Some(json(reply)),
            other_reply: None,
            is_change: false,
            body_bytes_max: BODY_BYTES_MAX,
            run,
        }
    }

    /// A change that needs the right to manage.
    pub(super) const fn change(
        id: &'static str,
        verb: Verb,
        path: &'static str,
        about: &'static str,
        run: fn(Call) -> BoxFuture<'static, Result<Reply, Problem>>,
    ) -> Self {
        Self {
            id,
            verb,
            path,
            gate: Gate::Needs(Permission::Manage),
            about,
            query: None,
            preconditions: &[],
            body: None,
            is_body_optional: false,
            status: 204,
            reply: None,
            other_reply: None,
            is_change: true,
            body_bytes_max: BODY_BYTES_MAX,
            run,
        }
    }

    /// Whether it creates something, and does so once under an idempotency key.
    pub(super) fn is_keyed_creation(&self) -> bool {
        self.is_change && self.preconditions.contains(&Precondition::IdempotencyKey)
    }

    /// Most bytes of a body. One that is not looked at may be small.
    pub(super) const fn body_bytes_max(&self) -> usize {
        if self.body.is_some() {
            self.body_bytes_max
        } else {
            SMALL_BYTES_MAX
        }
    }

    /// The same, taking bodies up to this.
    pub(super) const fn takes_bytes(mut self, body_bytes_max: usize) -> Self {
        self.body_bytes_max = body_bytes_max;
        self
    }

    /// The same, without a record of who asked for it.
    pub(super) const fn unrecorded(mut self) -> Self {
        self.is_change = false;
        self
    }

    /// The same for whom this lets in.
    pub(super) const fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// The same for whoever may do this.
    pub(super) const fn needs(mut self, permission: Permission) -> Self {
        self.gate = Gate::Needs(permission);
        self
    }

    /// The same with query parameters: the fields of this object.
    pub(super) const fn query(mut self, schema: SchemaOf) -> Self {
        self.query = Some(schema);
        self
    }

    /// The same, looking at these headers.
    pub(super) const fn preconditions(mut self, headers: &'static [Precondition]) -> Self {
        self.preconditions = headers;
        self
    }

    /// The same with a body.
    pub(super) const fn body(mut self, body: Content) -> Self {
        self.body = Some(body);
        self
    }

    /// The same with a body that may be left out.
    pub(super) const fn optional_body(mut self, body: Content) -> Self {
        self.body = Some(body);
        self.is_body_optional = true;
        self
    }

    /// The same with another status and answer, for when it is done otherwise.
    pub(super) const fn or_answers(mut self, status: u16, reply: Content) -> Self {
        self.other_reply = Some((status, reply));
        self
    }

    /// The same with this status, and this answer.
    pub(super) const fn answers(mut self, status: u16, reply: Content) -> Self {
        self.status = status;
        self.reply = Some(reply);
        self
    }
}
