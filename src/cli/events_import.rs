//! `hooklog events import`: a new data directory from an export.
//!
//! The file is read twice: once to see that every line of it is sound, and then to write. So a bad
//! line leaves nothing behind.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{CliError, Output, data::DataArgs, output::progress};
use crate::{
    log::{
        AppendRequest, ExpectedVersion, LogStart, OfflineWriter, RecordedEvent, Sequence,
        StreamAppend, StreamId,
    },
    model::{Event, EventType, Position, Timestamp, UnknownEvent, Version},
};

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// What `hooklog events export` wrote.
    file: PathBuf,
    /// The data directory to make: it must be missing or empty.
    #[command(flatten)]
    data: DataArgs,
}

/// A line of an export.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    position: Position,
    stream: String,
    version: Version,
    time: Timestamp,
    #[serde(rename = "type")]
    event_type: String,
    schema_version: u16,
    data: Box<RawValue>,
}

/// What a file was found to hold.
struct Checked {
    start: LogStart,
    last: Position,
    events: u64,
}

pub(super) fn run(args: &ImportArgs, output: &mut Output) -> Result<(), CliError> {
    let path = args.data.path();
    refuse_unless_new(path)?;
    let checked = check(&args.file)?;
    let (events, last) = (checked.events, checked.last);
    write(&args.file, path, checked).map_err(|error| {
        CliError::failure(format!(
            "{error}\n{} is not whole: remove it before you import again",
            path.display()
        ))
    })?;
    if output.is_json() {
        output.json(&json!({"data": path, "events": events, "last": last}))?;
    } else {
        let data = path.display();
        output.line(format!(
            "{events} events, up to position {last}, are in {data}"
        ))?;
        output.line(
            "Copy secrets/ and secret.key of the directory that they come from, too: subscriptions \
             with credentials or signatures need them.",
        )?;
    }
    Ok(output.flush()?)
}

fn refuse_unless_new(path: &Path) -> Result<(), CliError> {
    let what = match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
        Ok(false) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(true) => "is not empty".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(CliError::config(format!(
        "the data directory {} {what}; events are imported into a new one, name it with --data",
        path.display()
    )))
}

/// Looks at every line.
fn check(file: &Path) -> Result<Checked, CliError> {
    let mut sequence = Sequence::default();
    let mut events = 0;
    each(file, "checked", |event| {
        sequence.follow(&event).map_err(|error| error.to_string())?;
        events += 1;
        // It is encoded as it will be when it is written.
        let part = StreamAppend {
            stream: event.stream,
            expected: ExpectedVersion::Any,
            events: vec![event.event],
        };
        let encoded = AppendRequest::encode(vec![part]);
        encoded.map(drop).map_err(|error| error.to_string())
    })?;
    let start = sequence
        .start()
        .ok_or_else(|| CliError::failure(format!("there is no event in {}", file.display())))?;
    Ok(Checked {
        start,
        last: sequence.last(),
        events,
    })
}

fn write(file: &Path, data: &Path, checked: Checked) -> Result<(), CliError> {
    let mut writer = OfflineWriter::create(data, checked.start)?;
    each(file, "written", |event| {
        writer.write(event).map_err(|error| error.to_string())
    })?;
    writer
        .finish()
        .map_err(|error| CliError::failure(error.to_string()))
}

/// Takes every event of a file, in order; an error names its line.
fn each(
    path: &Path,
    what: &'static str,
    mut take: impl FnMut(RecordedEvent) -> Result<(), String>,
) -> Result<(), CliError> {
    let named = path.display();
    let unreadable = |error| CliError::failure(format!("cannot read {named}: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let bar: ProgressBar = progress(bytes, what);
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let at = index + 1;
        let bad = |reason| CliError::failure(format!("{named}, line {at}: {reason}"));
        let line = line.map_err(|error| bad(error.to_string()))?;
        bar.inc(line.len() as u64 + 1);
        if !line.trim().is_empty() {
            parse(&line).and_then(&mut take).map_err(bad)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn parse(line: &str) -> Result<RecordedEvent, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let stream: StreamId = line
        .stream
        .parse()
        .map_err(|error| format!("stream: {error}"))?;
    Ok(RecordedEvent {
        position: line.position,
        stream,
        version: line.version,
        time: line.time,
        event: event(&line)?,
    })
}

/// The event of a line. Of a type or schema version that this program does not know, the export
/// has the bytes.
fn event(line: &Line) -> Result<Event, String> {
    let (name, data) = (line.event_type.as_str(), line.data.get());
    let is_known = Event::known_types().any(|known| known == (name, line.schema_version));
    if is_known {
        let mut deserializer = serde_json::Deserializer::from_str(data);
        let event = Event::deserialize_payload(name, &mut deserializer);
        let event = event.ok_or_else(|| format!("{name:?} is no type of event"))?;
        return event.map_err(|error| format!("data of {name}: {error}"));
    }
    let payload: Vec<u8> = serde_json::from_str(data).map_err(|_| {
        let version = line.schema_version;
        format!("this version of hooklog does not know {name:?} in schema version {version}")
    })?;
    Ok(Event::Unknown(UnknownEvent {
        event_type: EventType::from_text(name),
        schema_version: line.schema_version,
        payload: Bytes::from(payload),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::{prelude::*, sample::Index};
    use serde_json::Value;

    use super::*;
    use crate::log::recorded;

    #[test]
    fn an_event_of_a_later_version_keeps_its_bytes() {
        let line = r#"{"position":1,"stream":"job/01890a5d-ac96-774b-bcce-b302099a8057","version":1,
            "time":"2026-03-04T05:06:07.089Z","type":"job.dreamt","schemaVersion":3,"data":[1,255]}"#;
        let recorded = parse(line).unwrap();
        let Event::Unknown(unknown) = &recorded.event else {
            panic!("{recorded:?}");
        };
        assert_eq!(&*unknown.payload, [1, 255]);
        let again = serde_json::to_string(&recorded).unwrap();
        assert_eq!(parse(&again).unwrap(), recorded);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told() {
        let line = |event_type: &str, data: &str| {
            let line = format!(
                r#"{{"position":1,"stream":"job/01890a5d-ac96-774b-bcce-b302099a8057","version":1,
                "time":"2026-03-04T05:06:07Z","type":"{event_type}","schemaVersion":1,"data":{data}}}"#
            );
            parse(&line).unwrap_err()
        };
        assert!(line("job.paused", r#"{"a": 1}"#).contains("unknown field"));
        assert!(line("job.dreamt", "{}").contains("does not know \"job.dreamt\""));
        assert!(parse("{").is_err());
    }

    /// A line of each type of event.
    static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let payloads = recorded::payloads().into_iter();
        let lines = payloads.map(|(event_type, _, payload)| {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(&payload);
            let event = Event::deserialize_payload(&event_type, &mut deserializer);
            let recorded = RecordedEvent {
                position: Position::new(7),
                stream: StreamId::log(),
                version: Version::new(3),
                time: Timestamp::from_millis(1_772_600_767_089),
                event: event.unwrap().unwrap(),
            };
            serde_json::to_string(&recorded).unwrap()
        });
        lines.collect()
    });

    const VALUES: &[&str] = &[
        "null",
        "true",
        "0",
        "-1",
        "0.5",
        "1e300",
        "18446744073709551615",
        "18446744073709551616",
        "[]",
        "{}",
        "[1, 255]",
        "[256]",
        "\"\"",
        "\"a\"",
        "\"\\u0000\\u202e\"",
        "{\"base64\": \"/wA=\"}",
        "{\"base64\": \"YQ==\"}",
        "\"2026-03-04T05:06:07.0891+02:00\"",
        "\"-009999-01-02T01:59:59Z\"",
        "\"9999-12-30T22:00:00.9Z\"",
        "\"00000000-0000-0000-0000-000000000000\"",
        "\"{01890a5d-ac96-774b-bcce-b302099a8057}\"",
        "\"messages/01890A5DAC96774BBCCEB302099A8057\"",
        "\"HTTPS://Example.com:443/a/../b?token=c\"",
        "\"job.dreamt\"",
        "\"message.published\"",
    ];

    /// Where something stands in a line.
    fn places(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(parts) => {
                for (key, part) in parts {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    places(part, format!("{at}/{key}"), found);
                }
            }
            Value::Array(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    places(part, format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
        found.push(at);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

        #[test]
        fn no_line_panics_and_what_is_read_of_one_is_exported_the_same(
            sample: Index,
            replaced in proptest::collection::vec((any::<Index>(), proptest::sample::select(VALUES)), 0..3),
            edits in proptest::collection::vec((any::<Index>(), prop::char::range(' ', '~')), 1..3),
            text in ".{0,60}",
        ) {
            let line: &String = sample.get(&LINES);
            let mut document: Value = serde_json::from_str(line).unwrap();
            for (place, value) in replaced {
                let mut found = Vec::new();
                places(&document, String::new(), &mut found);
                let place: &String = place.get(&found);
                *document.pointer_mut(place).unwrap() = serde_json::from_str(value).unwrap();
            }
            let mut edited: Vec<char> = line.chars().collect();
            for (at, with) in edits {
                let at = at.index(edited.len());
                edited[at] = with;
            }
            for line in [document.to_string(), edited.into_iter().collect(), text] {
                let Ok(recorded) = parse(&line) else {
                    continue;
                };
                let _ = Sequence::default().follow(&recorded);
                // A secret that is not in the vault is written nowhere.
                if let Ok(again) = serde_json::to_string(&recorded) {
                    prop_assert_eq!(parse(&again), Ok(recorded));
                }
            }
        }
    }
}
