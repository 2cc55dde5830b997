//! The event log: read and followed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        call::Call,
        gateway::Slot,
        operation::{Content, Operation, Precondition, schema},
        problem::{Kind, Problem},
        reply::Reply,
    },
    limit,
};
use crate::{
    log::{Feed, FeedItem, FeedStart, Filter, ReadError, RecordedEvent, StreamId},
    model::{Event, EventType, Position},
};

/// Most events that are looked at for one page.
const EXAMINED_MAX: usize = 20_000;
/// A page ends with the event that brings the bodies on it to so many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// A comment is sent when nothing else was for so long, so that nobody takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listEvents",
        "/v1/events",
        "Events in the order of their positions.",
        page_schema,
        |call| async move { list(&call).await }.boxed(),
    )
    .query(schema::<ReadQuery>),
    Operation::get(
        "followEvents",
        "/v1/events/stream",
        "Events as they are written, as server-sent events: `id` is the position. Resume with Last-Event-ID.",
        schema::<ReadQuery>,
        |call| async move { follow(&call) }.boxed(),
    )
    .query(schema::<FollowQuery>)
    .preconditions(&[Precondition::LastEventId])
    .answers(
        200,
        Content {
            types: &["text/event-stream"],
            schema: None,
        },
    ),
];

/// Which events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ReadQuery {
    /// Begin with this position. Default 1, or the first that retention has left.
    from: Option<Position>,
    /// Only these streams, as `kind/id`, with commas between them.
    stream: Option<String>,
    /// Only these types, such as `attempt.failed`, with commas between them.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Most events on the page. Default 100. Large events end it earlier: go on with `next`.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// Which events are followed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FollowQuery {
    /// Begin with this position. Default: with the next event that is written.
    from: Option<Position>,
    /// Only these streams, as `kind/id`, with commas between them.
    stream: Option<String>,
    /// Only these types, such as `attempt.failed`, with commas between them.
    #[serde(rename = "type")]
    event_type: Option<String>,
}

/// A page of events.
#[derive(Serialize)]
struct Page {
    /// The events.
    events: Vec<Arc<RecordedEvent>>,
    /// Where the next page begins. It is there on the last page too: ask again for what is new.
    next: Position,
}

fn page_schema(generator: &mut SchemaGenerator) -> Schema {
    let position = generator.subschema_for::<Position>();
    json_schema!({
        "type": "object",
        "properties": {
            "events": {"type": "array", "items": {
                "type": "object",
                "description": "See schemas/event.json for every type.",
                "required": ["position", "stream", "version", "time", "type", "schemaVersion", "data"],
            }},
            "next": position,
        },
        "required": ["events", "next"],
    })
}

fn filter(streams: Option<&str>, types: Option<&str>) -> Result<Filter, Problem> {
    let mut filter = Filter::all();
    if let Some(streams) = streams.filter(|text| !text.is_empty()) {
        let parsed = streams.split(',').map(|text| {
            let parsed = text.trim().parse::<StreamId>();
            parsed.map_err(|error| Problem::field("?stream", error.to_string()))
        });
        filter = filter.streams(parsed.collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(types) = types.filter(|text| !text.is_empty()) {
        let parsed = types.split(',').map(|text| known_type(text.trim()));
        filter = filter.types(parsed.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(filter)
}

fn known_type(text: &str) -> Result<EventType, Problem> {
    let mut known = Event::known_types().map(|(name, _)| name);
    if known.any(|name| name == text) {
        return Ok(EventType::from_text(text));
    }
    let known = Event::known_types().map(|(name, _)| name);
    let near = crate::nearest::nearest(text, known);
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Err(Problem::field(
        "?type",
        format!("{text:?} is no type of event{near}"),
    ))
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let query: ReadQuery = call.query()?;
    let filter = filter(query.stream.as_deref(), query.event_type.as_deref())?;
    let limit = limit(query.limit)?;
    let start = match query.from {
        Some(from) => FeedStart::After(from.previous()),
        None => FeedStart::Beginning,
    };
    let feed = call.handle().log().follow(start, filter);
    // Reading may touch the disk.
    let read = tokio::task::spawn_blocking(move || read(feed, limit)).await;
    let page = read.map_err(|error| Problem::internal(&error))?;
    Reply::json(200, &page.map_err(gone)?)
}

fn read(mut feed: Feed, limit: usize) -> Result<Page, ReadError> {
    let begun = feed.position();
    let mut events = Vec::new();
    let mut bytes = 0;
    while events.len() < limit && bytes < PAGE_BYTES {
        match feed.next_now()? {
            Some(FeedItem::Event(event)) => {
                bytes += event.weight();
                events.push(event);
            }
            Some(FeedItem::Progress(_)) => {}
            None => break,
        }
        let examined = feed.position().distance_from(begun);
        if examined >= EXAMINED_MAX as u64 {
            break;
        }
    }
    let next = feed.position().next();
    Ok(Page { events, next })
}

/// What retention dropped is no fault of the gateway.
fn gone(error: ReadError) -> Problem {
    match error {
        ReadError::Gone { first } => {
            let detail = format!("is below {first}, the first position that retention has left");
            Problem::field("?from", detail)
        }
        ReadError::Corrupt { .. } => Problem::new(Kind::Unavailable, error.to_string()),
        error => error.into(),
    }
}

fn follow(call: &Call) -> Result<Reply, Problem> {
    let query: FollowQuery = call.query()?;
    let filter = filter(query.stream.as_deref(), query.event_type.as_deref())?;
    let start = match (&call.headers.last_event_id, query.from) {
        (Some(last), _) => FeedStart::After(last.trim().parse().map_err(|_| {
            Problem::new(
                Kind::Malformed,
                format!("Last-Event-ID {last:?} is no position"),
            )
        })?),
        (None, Some(from)) => FeedStart::After(from.previous()),
        (None, None) => FeedStart::Now,
    };
    let slot = call.gateway.stream_slot(call.bearer()?.id)?;
    let begins_now = matches!(start, FeedStart::Now);
    let feed = call.handle().log().follow(start, filter);
    // Who is cut off before the first event goes on from here.
    let begun = begins_now.then(|| Bytes::from(format!("id: {}\n\n", feed.position())));
    let closed = call.gateway.closed().boxed();
    let body = stream::iter(begun)
        .chain(stream::unfold((feed, slot), next_chunk))
        .take_until(closed);
    Ok(Reply::stream("text/event-stream", body.boxed()))
}

async fn next_chunk((mut feed, slot): (Feed, Slot)) -> Option<(Bytes, (Feed, Slot))> {
    let chunk = match tokio::time::timeout(HEARTBEAT, feed.next()).await {
        Ok(Ok(FeedItem::Event(event))) => chunk(&event),
        Ok(Ok(FeedItem::Progress(position))) => format!("id: {position}\n\n").into(),
        // Behind the damage it goes on; what is missing is told.
        Ok(Err(ReadError::Corrupt { from, to, .. })) => {
            feed.seek(to);
            format!("id: {to}\nevent: damaged\ndata: {{\"from\":{from},\"to\":{to}}}\n\n").into()
        }
        Ok(Err(ReadError::Gone { first })) => {
            feed.seek(first.previous());
            format!("event: gone\ndata: {{\"first\":{first}}}\n\n").into()
        }
        Ok(Err(_)) => return None,
        Err(_) => Bytes::from_static(b": still here\n\n"),
    };
    // A token that was revoked meanwhile sees nothing more.
    slot.is_in_force().then_some((chunk, (feed, slot)))
}

fn chunk(event: &RecordedEvent) -> Bytes {
    let data = serde_json::to_string(event).expect("an event is plain data");
    let (position, name) = (event.position, event.event.event_type());
    format!("id: {position}\nevent: {name}\ndata: {data}\n\n").into()
}
