//! The trace that a request belongs to, and its span.

use tracing::{Span, field};
use uuid::Uuid;

use crate::model::{
    HEADERS_BYTES_MAX, HEADERS_COUNT_MAX, Header, Message, Moment, SpanId, TRACEPARENT,
    TraceContext, TraceId,
};

/// A request's place in a trace, and the name that it has for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestTrace {
    /// The request.
    context: TraceContext,
    /// What it follows from, in the program that sent it.
    parent: Option<SpanId>,
    /// Given back as `x-request-id`.
    pub(super) request: Uuid,
    is_kept: bool,
}

impl RequestTrace {
    /// The trace of a request that came with this `traceparent`; one that is none begins a new
    /// trace. Somebody `watches` when spans leave the process.
    pub(super) fn new(came: Option<&str>, watches: bool, moment: &Moment) -> Self {
        let came: Option<TraceContext> = came.and_then(|text| text.parse().ok());
        let span = SpanId::new(moment.draws().next_u64());
        let begun = TraceContext {
            trace: TraceId::new(moment.entropy),
            span,
            is_sampled: true,
        };
        Self {
            context: came.map_or(begun, |came| TraceContext { span, ..came }),
            parent: came.map(|came| came.span),
            request: moment.uuid(),
            is_kept: watches || came.is_some(),
        }
    }

    /// The span of the request, to be entered while it is answered. It names neither path nor
    /// query: `route` is the operation's.
    pub(super) fn span(&self, method: &str) -> Span {
        let span = tracing::info_span!(
            "request",
            method,
            route = field::Empty,
            status = field::Empty,
            request_id = %self.request,
            trace_id = %self.context.trace,
            span_id = %self.context.span,
            parent_id = field::Empty,
            sampled = self.context.is_sampled,
        );
        if let Some(parent) = self.parent {
            span.record("parent_id", field::display(parent));
        }
        span
    }

    /// Sends the trace along with a message, so that the calls which deliver it belong to it, also
    /// after a restart. Where nobody asked for the trace and nobody watches, the message is stored
    /// without it: it takes about as many bytes as a short message. Neither is it given one that its
    /// headers have no room for.
    pub(super) fn send_along(&self, message: &mut Message) {
        let headers = &mut message.headers;
        let has_one = headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(TRACEPARENT));
        if !self.is_kept || has_one {
            return;
        }
        let trace = Header::new(TRACEPARENT, self.context.to_string());
        let bytes: usize = headers.iter().chain([&trace]).map(Header::bytes).sum();
        if headers.len() < HEADERS_COUNT_MAX && bytes <= HEADERS_BYTES_MAX {
            headers.push(trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HEADER_BYTES_MAX, Timestamp};

    const CAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sent_along(came: Option<&str>, watches: bool) -> Vec<Header> {
        let moment = Moment::new(Timestamp::EPOCH, 7);
        let mut message = Message::text("hello");
        RequestTrace::new(came, watches, &moment).send_along(&mut message);
        message.headers
    }

    #[test]
    fn a_trace_that_came_goes_on_under_the_requests_own_span() {
        let headers = sent_along(Some(CAME), false);
        let sent: TraceContext = headers[0].value.parse().unwrap();
        let came: TraceContext = CAME.parse().unwrap();
        assert_eq!(sent.trace, came.trace);
        assert_ne!(sent.span, came.span);
    }

    #[test]
    fn a_new_trace_is_kept_where_somebody_watches_alone() {
        assert_eq!(sent_along(None, true)[0].name, "traceparent");
        assert_eq!(sent_along(None, false), []);
        assert_eq!(sent_along(Some("nonsense"), false), []);
    }

    #[test]
    fn a_message_whose_headers_have_no_room_goes_without_its_trace() {
        const TRACE_BYTES: usize = TRACEPARENT.len() + CAME.len();
        let sent_beside = |headers: Vec<Header>| {
            let moment = Moment::new(Timestamp::EPOCH, 7);
            let mut message = Message::text("hello");
            message.headers = headers;
            RequestTrace::new(Some(CAME), false, &moment).send_along(&mut message);
            assert_eq!(Header::validate_all(&message.headers), Ok(()));
            message.headers.len()
        };
        let of_bytes = |bytes: usize| {
            let part = |number: usize, bytes: usize| {
                let name = format!("x-{number}");
                let value = "a".repeat(bytes - name.len());
                Header::new(name, value)
            };
            let full = bytes / HEADER_BYTES_MAX;
            let mut headers: Vec<_> = (0..full).map(|n| part(n, HEADER_BYTES_MAX)).collect();
            let rest = bytes % HEADER_BYTES_MAX;
            headers.extend((rest > 0).then(|| part(full, rest)));
            headers
        };
        assert_eq!(sent_beside(of_bytes(HEADERS_BYTES_MAX)), 4);
        assert_eq!(
            sent_beside(of_bytes(HEADERS_BYTES_MAX - TRACE_BYTES + 1)),
            4
        );
        assert_eq!(sent_beside(of_bytes(HEADERS_BYTES_MAX - TRACE_BYTES)), 5);
        let many = |count: usize| {
            (0..count)
                .map(|n| Header::new(format!("x-{n}"), "a"))
                .collect::<Vec<_>>()
        };
        assert_eq!(sent_beside(many(HEADERS_COUNT_MAX)), HEADERS_COUNT_MAX);
        assert_eq!(sent_beside(many(HEADERS_COUNT_MAX - 1)), HEADERS_COUNT_MAX);
    }

    #[test]
    fn a_message_with_a_trace_of_its_own_keeps_it() {
        let moment = Moment::new(Timestamp::EPOCH, 7);
        let mut message = Message::text("hello").with_header("Traceparent", CAME);
        RequestTrace::new(None, true, &moment).send_along(&mut message);
        assert_eq!(message.headers, [Header::new("Traceparent", CAME)]);
    }
}
