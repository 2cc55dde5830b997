//! The event log itself, newest first, live.

use std::{collections::VecDeque, sync::Arc};

use maud::{Markup, html};

use super::{
    super::{
        answer::{Answer, Trouble},
        layout::{self, Place},
        parts::{self, Fields},
        visit::{Page, Visit},
    },
    run, shows,
};
use crate::{
    log::{FeedItem, FeedStart, Filter, RecordedEvent, StreamId},
    model::{Event, EventType, Invalid, Position},
};

pub(super) const PAGES: &[Page] = &[shows("/events", run!(list))];

/// Events on a page.
const PAGE: usize = 100;
/// Large events end a page earlier: their bodies come to about so many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// Most events that are looked at for one page.
const EXAMINED_MAX: u64 = 20_000;

/// What the address asks for.
fn asked(visit: &Visit, invalid: &mut Invalid) -> Filter {
    let mut filter = Filter::all();
    if let Some(stream) = visit.query.parsed::<StreamId>("stream", invalid) {
        filter = filter.streams([stream]);
    }
    let known = |text: &str| Event::known_types().any(|(name, _)| name == text);
    let wanted = visit.query.read("type", invalid, |text| {
        if known(text) {
            Ok(EventType::from_text(text))
        } else {
            Err(format!("{text:?} is no type of event"))
        }
    });
    match wanted {
        Some(wanted) => filter.types([wanted]),
        None => filter,
    }
}

/// Some events, in order, and where they end.
struct Found {
    events: Vec<Arc<RecordedEvent>>,
    next: Position,
    fault: Option<String>,
}

async fn list(visit: &Visit) -> Result<Answer, Trouble> {
    let mut invalid = Invalid::none();
    let filter = asked(visit, &mut invalid);
    let from = visit.query.parsed::<Position>("from", &mut invalid);
    let head = visit.handle().log().head();
    // The last ones where nothing else is asked for; of a filter's, as far back as one page goes.
    let is_filtered = visit.query.get("type").is_some() || visit.query.get("stream").is_some();
    let back = if is_filtered {
        EXAMINED_MAX
    } else {
        PAGE as u64
    };
    let start = from.map_or_else(
        || Position::new(head.get().saturating_sub(back)),
        Position::previous,
    );
    let is_last = from.is_none();
    let feed = visit.handle().log().follow(FeedStart::After(start), filter);
    let read = tokio::task::spawn_blocking(move || read(feed, is_last));
    let mut found = read
        .await
        .map_err(|error| Trouble::Failed(error.to_string()))?;
    if !invalid.problems.is_empty() {
        // Showing what was not asked for would mislead.
        found.events.clear();
    }
    let fields = Fields {
        form: &visit.query,
        invalid: &invalid,
    };
    let mut types: Vec<_> = Event::known_types().map(|(name, _)| (name, name)).collect();
    types.sort_unstable();
    types.insert(0, ("", "any"));
    let note = html! { "Everything that happened, in one order. Position " (head) " is the last." };
    let content = html! {
        (layout::head("Events", &note, &layout::nothing()))
        form.filters method="get" action=(visit.path()) role="search" aria-label="Events" {
            div.filter-row {
                (fields.filter("from", "From position", "1"))
                (fields.choice("type", "Type", "", &types))
                (fields.filter("stream", "Stream", "subscription/0192f0c1-…"))
                div.field.submit { button type="submit" { "Show" } }
            }
        }
        @if let Some(fault) = &found.fault { div.notice.fault role="alert" { p { (fault) } } }
        div id="events" data-live=[from.is_none().then_some("deliveries")] {
            @if found.events.is_empty() {
                (parts::empty("No event here", &html! { p { "Change what is asked for, or wait for what comes." } }))
            } @else { (table(&found.events)) }
        }
        @if invalid.problems.is_empty() {
            nav.pager aria-label="Pages" {
                @let first = begins(&found).unwrap_or(start.next());
                @if first > Position::FIRST {
                    @let earlier = first.get().saturating_sub(PAGE as u64).max(1).to_string();
                    a.button href=(format!("{}{}", visit.path(), visit.query.changed(&[], &[("from", &earlier)]))) { "Earlier" }
                }
                @if found.next <= head {
                    a.button href=(format!("{}{}", visit.path(), visit.query.changed(&[], &[("from", &found.next.to_string())]))) { "Later" }
                }
                @if from.is_some() { a.button href=(format!("{}{}", visit.path(), visit.query.changed(&["from"], &[]))) { "Live" } }
            }
        }
    };
    Ok(Answer::page(layout::page(
        visit,
        Place::Events,
        "Events",
        &content,
    )))
}

/// Where what is found begins: what a repair gave up is a part of its event.
fn begins(found: &Found) -> Option<Position> {
    let first = found.events.first()?;
    Some(first.event.repaired_from().unwrap_or(first.position))
}

/// Reads a page: the first events, or the last ones.
fn read(mut feed: crate::log::Feed, is_last: bool) -> Found {
    let begun = feed.position();
    let mut events = VecDeque::<Arc<RecordedEvent>>::new();
    let mut bytes = 0;
    let mut fault = None;
    while (is_last || (events.len() < PAGE && bytes < PAGE_BYTES))
        && feed.position().distance_from(begun) < EXAMINED_MAX
    {
        match feed.next_now() {
            Ok(Some(FeedItem::Event(event))) => {
                bytes += event.weight();
                events.push_back(event);
                while is_last && (events.len() > PAGE || (events.len() > 1 && bytes > PAGE_BYTES)) {
                    bytes -= events.pop_front().map_or(0, |first| first.weight());
                }
            }
            Ok(Some(FeedItem::Progress(_))) => {}
            Ok(None) => break,
            Err(crate::log::ReadError::Gone { first }) => feed.seek(first.previous()),
            Err(error) => {
                fault = Some(error.to_string());
                break;
            }
        }
    }
    let next = feed.position().next();
    Found {
        events: events.into(),
        next,
        fault,
    }
}

fn table(events: &[Arc<RecordedEvent>]) -> Markup {
    html! {
        div.table-wrap tabindex="0" {
            table.list.events {
                thead { tr { th.number scope="col" { "Position" } th scope="col" { "Time (UTC)" } th scope="col" { "Type" } th scope="col" { "Stream" } th scope="col" { "Data" } } }
                tbody {
                    @for event in events.iter().rev() {
                        tr {
                            th.number scope="row" { (event.position) }
                            td { (parts::time(event.time)) }
                            td { code { (event.event.event_type()) } }
                            td { a href=(format!("?stream={}&from=1", event.stream)) title=(event.stream) { (event.stream.kind().as_str()) " " (parts::id(&event.stream.uuid())) } small { "version " (event.version) } }
                            td { details { summary { (brief(event)) } pre tabindex="0" { (whole(event)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn data(event: &RecordedEvent) -> serde_json::Value {
    let whole = serde_json::to_value(event).unwrap_or_default();
    whole.get("data").cloned().unwrap_or_default()
}

fn whole(event: &RecordedEvent) -> String {
    serde_json::to_string_pretty(&data(event)).unwrap_or_default()
}

/// The beginning of what it says.
fn brief(event: &RecordedEvent) -> String {
    const CHARS: usize = 90;
    let text = data(event).to_string();
    if text.chars().count() <= CHARS {
        return text;
    }
    text.chars().take(CHARS).chain(['…']).collect()
}
