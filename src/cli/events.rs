//! `hooklog events`: the log itself.

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    CliError, Output,
    client::{Ask, Client},
    data::Data,
    events_export::{self, ExportArgs},
    events_import::{self, ImportArgs},
    output::Rows,
    place::{Place, PlaceArgs},
};
use crate::{
    log::{Feed, FeedItem, FeedStart, Filter, StreamId},
    model::{Event, EventType, Position},
};

/// Longest payload in a table, in characters.
const PAYLOAD_CHARS_MAX: usize = 120;
/// Rows of a table, and of a page; longer lists are cut into several.
const TABLE_ROWS: usize = 1_000;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Show the events there are.
    Read(ReadArgs),
    /// Show events as they are written, a line each. What a cut connection missed is shown when
    /// it is there again.
    Follow(FollowArgs),
    /// Write every event that is kept to a file, one a line of JSON.
    Export(ExportArgs),
    /// Make a new data directory of an export: the same events, positions, versions and times.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Begin with this position. Default: with the first that is kept
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// Show at most so many; all when absent.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
struct FollowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Begin with this position. Default: with the next that is written
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
}

#[derive(Debug, Clone, Default, Args)]
struct WhichArgs {
    /// Only this stream, as `kind/id`; may be repeated.
    #[arg(long, value_name = "STREAM")]
    stream: Vec<StreamId>,
    /// Only events of this type, such as `attempt.failed`; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_parser = known_types())]
    types: Vec<String>,
}

/// The types of events; for any other text clap names the nearest.
fn known_types() -> PossibleValuesParser {
    PossibleValuesParser::new(Event::known_types().map(|(name, _)| name))
}

impl WhichArgs {
    fn filter(&self) -> Filter {
        let mut filter = Filter::all();
        if !self.stream.is_empty() {
            filter = filter.streams(self.stream.iter().copied());
        }
        if !self.types.is_empty() {
            filter = filter.types(self.types.iter().map(EventType::from_text));
        }
        filter
    }

    fn ask<'a>(&self, ask: Ask<'a>) -> Ask<'a> {
        let streams: Vec<_> = self.stream.iter().map(ToString::to_string).collect();
        let streams = Some(streams.join(",")).filter(|text| !text.is_empty());
        let types = Some(self.types.join(",")).filter(|text| !text.is_empty());
        ask.query("stream", streams).query("type", types)
    }
}

pub(super) fn run(args: EventsArgs, output: &mut Output) -> Result<(), CliError> {
    match args.command {
        Some(EventsCommand::Read(args)) => read(&args, output),
        Some(EventsCommand::Follow(args)) => follow(&args, output),
        Some(EventsCommand::Export(args)) => events_export::run(&args, output),
        Some(EventsCommand::Import(args)) => events_import::run(&args, output),
        None => read(&args.read, output),
    }
}

/// Where events are read from, one after the other.
pub(super) enum Source {
    Data { _data: Data, feed: Feed },
    Server(Pages),
}

/// The events of a gateway, page by page.
pub(super) struct Pages {
    client: Client,
    which: WhichArgs,
    from: Option<Position>,
    /// Those of a page that are not given yet, the next one last.
    left: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: Position,
}

impl Source {
    /// Every event that is kept, from the first on.
    pub(super) fn everything(place: Place) -> Result<Self, CliError> {
        Self::open(place, &WhichArgs::default(), None)
    }

    fn open(place: Place, which: &WhichArgs, from: Option<Position>) -> Result<Self, CliError> {
        let client = match place {
            Place::Server(client) => client,
            Place::Data(data) => {
                let data = data.open()?;
                let start = from.map_or(FeedStart::Beginning, |from| {
                    FeedStart::After(from.previous())
                });
                let feed = data.log.follow(start, which.filter());
                return Ok(Self::Data { _data: data, feed });
            }
        };
        Ok(Self::Server(Pages {
            client,
            which: which.clone(),
            from,
            left: Vec::new(),
        }))
    }

    pub(super) fn next(&mut self) -> Result<Option<Box<RawValue>>, CliError> {
        match self {
            Self::Server(pages) => pages.next(),
            Self::Data { feed, .. } => loop {
                match feed.next_now()? {
                    Some(FeedItem::Event(recorded)) => {
                        return Ok(Some(serde_json::value::to_raw_value(&*recorded)?));
                    }
                    Some(FeedItem::Progress(_)) => {}
                    None => return Ok(None),
                }
            },
        }
    }
}

impl Pages {
    fn next(&mut self) -> Result<Option<Box<RawValue>>, CliError> {
        while self.left.is_empty() {
            let ask = self.client.get(&["v1", "events"]);
            let ask = self.which.ask(ask).query("from", self.from);
            let page: Page = ask.query("limit", Some(TABLE_ROWS)).send()?.parse()?;
            let is_end = page.events.is_empty() && self.from == Some(page.next);
            if is_end {
                return Ok(None);
            }
            self.left = page.events;
            self.left.reverse();
            self.from = Some(page.next);
        }
        Ok(self.left.pop())
    }
}

fn read(args: &ReadArgs, output: &mut Output) -> Result<(), CliError> {
    let from = args.from.map(Position::new);
    let mut source = Source::open(args.place.place()?, &args.which, from)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut table = new_table();
    let mut rows = 0;
    while left > 0 {
        let Some(event) = source.next()? else { break };
        left -= 1;
        rows += 1;
        if output.is_json() {
            output.json(&event)?;
        } else {
            table.push(row(event.get())?);
            if rows % TABLE_ROWS == 0 {
                output.table(&std::mem::replace(&mut table, new_table()), "")?;
            }
        }
    }
    if !output.is_json() && (rows == 0 || rows % TABLE_ROWS != 0) {
        output.table(&table, "No event matches.")?;
    }
    Ok(output.flush()?)
}

fn follow(args: &FollowArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args
        .place
        .gateway("nothing is written there while no gateway runs")?;
    let ask = args.which.ask(client.get(&["v1", "events", "stream"]));
    ask.query("from", args.from).follow(async |frame| {
        let Some(data) = &frame.data else {
            return Ok(());
        };
        match frame.kind.as_deref() {
            Some("damaged" | "gone") => {
                eprintln!(
                    "warning: events are missing: {}",
                    super::output::clean(data)
                );
            }
            _ if output.is_json() => {
                let event: Box<RawValue> = serde_json::from_str(data)?;
                output.json(&event)?;
            }
            _ => {
                let [position, time, stream, _, kind, payload] = row(data)?;
                output.line(format!("{position} {time} {stream} {kind} {payload}"))?;
            }
        }
        Ok(output.flush()?)
    })
}

fn new_table() -> Rows {
    Rows::new(["Position", "Time", "Stream", "Version", "Type", "Data"]).numbers([0, 3])
}

/// What is shown of an event.
#[derive(Deserialize)]
struct Shown {
    position: Position,
    time: String,
    stream: String,
    version: u64,
    #[serde(rename = "type")]
    event_type: String,
    data: Value,
}

fn row(event: &str) -> Result<[String; 6], CliError> {
    let event: Shown = serde_json::from_str(event)?;
    let payload = event.data.to_string();
    let mut short: String = payload.chars().take(PAYLOAD_CHARS_MAX).collect();
    if short.len() < payload.len() {
        short.push('…');
    }
    Ok([
        event.position.to_string(),
        event.time,
        event.stream,
        event.version.to_string(),
        event.event_type,
        short,
    ])
}
