//! `hooklog events`: the log itself.

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::{CliError, Output, data::DataArgs, output::Rows};
use crate::{
    log::{FeedItem, FeedStart, Filter, RecordedEvent, StreamId},
    model::{Event, EventType, Position},
};

/// Longest payload in a table, in characters.
const PAYLOAD_CHARS_MAX: usize = 120;
/// Rows of a table; longer lists are cut into several.
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
}

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Begin with this position.
    #[arg(long, value_name = "POSITION", default_value_t = 1)]
    from: u64,
    /// Show at most so many; all when absent.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
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

pub(super) fn run(args: EventsArgs, output: &mut Output) -> Result<(), CliError> {
    let args = match args.command {
        Some(EventsCommand::Read(read)) => read,
        None => args.read,
    };
    read(&args, output)
}

fn read(args: &ReadArgs, output: &mut Output) -> Result<(), CliError> {
    let data = args.data.open()?;
    let mut filter = Filter::all();
    if !args.stream.is_empty() {
        filter = filter.streams(args.stream.iter().copied());
    }
    if !args.types.is_empty() {
        filter = filter.types(args.types.iter().map(EventType::from_text));
    }
    let start = FeedStart::After(Position::new(args.from).previous());
    let mut feed = data.log.follow(start, filter);
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut table = new_table();
    let mut rows = 0;
    while left > 0 {
        let recorded = match feed.next_now()? {
            Some(FeedItem::Event(recorded)) => recorded,
            Some(FeedItem::Progress(_)) => continue,
            None => break,
        };
        left -= 1;
        rows += 1;
        if output.is_json() {
            output.json(&*recorded)?;
        } else {
            table.push(row(&recorded)?);
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

fn new_table() -> Rows {
    Rows::new(["Position", "Time", "Stream", "Version", "Type", "Data"]).numbers([0, 3])
}

fn row(recorded: &RecordedEvent) -> Result<[String; 6], CliError> {
    let payload = serde_json::to_value(recorded)?["data"].to_string();
    let mut short: String = payload.chars().take(PAYLOAD_CHARS_MAX).collect();
    if short.len() < payload.len() {
        short.push('…');
    }
    Ok([
        recorded.position.to_string(),
        recorded.time.to_string(),
        recorded.stream.to_string(),
        recorded.version.to_string(),
        recorded.event.event_type().to_string(),
        short,
    ])
}
