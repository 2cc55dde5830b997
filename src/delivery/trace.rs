//! The trace that a call belongs to, and its span.

use tracing::{Span, field};

use super::AttemptRequest;
use crate::model::{
    AttemptReport, AttemptResult, Header, SpanId, TRACEPARENT, TraceContext, TraceId,
};

/// The place of a call in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptTrace {
    /// The call itself, as it is told to the callback.
    pub(super) context: TraceContext,
    /// What it follows from.
    pub(super) parent: Option<SpanId>,
}

impl AttemptTrace {
    /// The trace that the message came with goes on. Without one there is a trace for each
    /// delivery, named as it is, so that what a callback logged is found from the delivery's id
    /// alone. The span is the same on every run in either case.
    pub(super) fn of(request: &AttemptRequest) -> Self {
        let delivery = request.delivery.as_uuid();
        let (_, low) = delivery.as_u64_pair();
        let span = SpanId::new(low.wrapping_add(u64::from(request.attempt.get())));
        let came = came_with(&request.message.headers);
        let own = TraceContext {
            trace: TraceId::new(delivery.as_u128()),
            span,
            is_sampled: true,
        };
        Self {
            context: came.map_or(own, |came| TraceContext { span, ..came }),
            parent: came.map(|came| came.span),
        }
    }
}

/// Whether this header carries a trace.
pub(super) fn is_traceparent(header: &Header) -> bool {
    header.name.eq_ignore_ascii_case(TRACEPARENT)
}

fn came_with(headers: &[Header]) -> Option<TraceContext> {
    let header = headers.iter().find(|header| is_traceparent(header))?;
    header.value.parse().ok()
}

/// The span of a call, to be entered while it is made. It names no URL: that may hold secrets.
pub(super) fn span(request: &AttemptRequest) -> Span {
    let AttemptTrace { context, parent } = AttemptTrace::of(request);
    let span = tracing::info_span!(
        "attempt",
        delivery = %request.delivery,
        subscription = %request.subscription,
        api = %request.api,
        message = %request.message.id,
        attempt = request.attempt.get(),
        probe = request.probe,
        trace_id = %context.trace,
        span_id = %context.span,
        parent_id = field::Empty,
        sampled = context.is_sampled,
        status = field::Empty,
        error = field::Empty,
    );
    if let Some(parent) = parent {
        span.record("parent_id", field::display(parent));
    }
    span
}

/// Tells in the span of a call what came of it.
pub(super) fn ended(span: &Span, report: &AttemptReport) {
    span.record("status", report.result.status());
    if let AttemptResult::Failed(error) = &report.result {
        span.record("error", error.class.as_str());
    }
    span.in_scope(|| tracing::info!(took_us = report.timings.total_us, "attempted"));
}
