//! Our spans in the form that collectors take.
//!
//! Spans carry their identities in fields, because lines and callbacks show them too. So they are
//! handed to the SDK as they are when they end; a bridge that lets the SDK draw the identities
//! would export others than those that were told.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, Key, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::clock::{Clock, SystemClock};

/// Takes spans in, and hands those that ended on.
pub(super) struct SpanLayer {
    processor: Arc<BatchSpanProcessor>,
    clock: SystemClock,
}

/// A span that has not ended.
struct Open {
    began_at: SystemTime,
    began: Duration,
    fields: Fields,
}

/// What a span tells.
#[derive(Default)]
struct Fields {
    trace: Option<TraceId>,
    span: Option<SpanId>,
    parent: Option<SpanId>,
    is_sampled: bool,
    attributes: Vec<KeyValue>,
}

impl SpanLayer {
    pub(super) fn new(processor: Arc<BatchSpanProcessor>) -> Self {
        Self {
            processor,
            clock: SystemClock::new(),
        }
    }

    fn now(&self) -> SystemTime {
        let millis = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = Open {
            began_at: self.now(),
            began: self.clock.elapsed(),
            fields: Fields::default(),
        };
        attributes.record(&mut open.fields);
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let open = span.extensions_mut().remove::<Open>();
        let Some(open) = open.filter(|open| open.fields.is_sampled) else {
            return;
        };
        let took = self.clock.elapsed().saturating_sub(open.began);
        if let Some(ended) = open.ended(span.name(), took) {
            self.processor.on_end(ended);
        }
    }
}

impl Open {
    /// The span for a collector, if it is of a trace.
    fn ended(self, name: &'static str, took: Duration) -> Option<SpanData> {
        let fields = self.fields;
        let (trace, span) = (fields.trace?, fields.span?);
        let state = TraceState::default();
        let kind = match name {
            "request" => SpanKind::Server,
            "attempt" => SpanKind::Client,
            _ => SpanKind::Internal,
        };
        Some(SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state),
            parent_span_id: fields.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: fields.parent.is_some(),
            name: fields.name(name).into(),
            status: fields.status(&kind),
            span_kind: kind,
            start_time: self.began_at,
            end_time: self.began_at + took,
            attributes: fields.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            instrumentation_scope: InstrumentationScope::builder("hooklog")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        })
    }
}

impl Fields {
    fn get(&self, key: &str) -> Option<&Value> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == key)?;
        Some(&found.value)
    }

    /// Method and route, as is usual for what was served; else the span's own name.
    fn name(&self, name: &'static str) -> String {
        let (method, route) = (self.get(METHOD), self.get(ROUTE));
        match method.zip(route) {
            Some((method, route)) => format!("{method} {route}"),
            None => name.to_owned(),
        }
    }

    /// A server fails with a 5xx; a call with all but a 2xx.
    fn status(&self, kind: &SpanKind) -> Status {
        let Some(Value::I64(status)) = self.get(STATUS) else {
            return Status::Unset;
        };
        let is_error = match kind {
            SpanKind::Client => !(200..300).contains(status),
            _ => *status >= 500,
        };
        if is_error {
            Status::error(format!("status {status}"))
        } else {
            Status::Unset
        }
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.attributes
            .push(KeyValue::new(key(field.name()), value));
    }
}

const METHOD: &str = "http.request.method";
const ROUTE: &str = "http.route";
const STATUS: &str = "http.response.status_code";

/// The name of an attribute: that of OpenTelemetry's conventions where there is one.
fn key(field: &'static str) -> Key {
    match field {
        "method" => Key::from_static_str(METHOD),
        "route" => Key::from_static_str(ROUTE),
        "status" => Key::from_static_str(STATUS),
        "error" => Key::from_static_str("error.type"),
        field => Key::from(format!("hooklog.{field}")),
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(&text).ok(),
            "span_id" => self.span = SpanId::from_hex(&text).ok(),
            "parent_id" => self.parent = SpanId::from_hex(&text).ok(),
            _ => self.add(field, text),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "sampled" {
            self.is_sampled = value;
        } else {
            self.add(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX));
    }
}
