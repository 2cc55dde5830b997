//! `hooklog events export`: every event that is kept, one a line of JSON.
//!
//! The vault is not part of it: events name secrets by their ids.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{CliError, Output, events::Source, output::counter, place::PlaceArgs};
use crate::model::Position;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file, readable by you alone; one that is there is replaced once the export is whole. - is
    /// standard output.
    file: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

/// How many events were written, and which.
#[derive(Default)]
struct Range {
    events: u64,
    first: Position,
    last: Position,
}

#[derive(Deserialize)]
struct Placed {
    position: Position,
}

pub(super) fn run(args: &ExportArgs, output: &mut Output) -> Result<(), CliError> {
    let mut source = Source::everything(args.place.place()?)?;
    if args.file == Path::new("-") {
        copy(&mut source, |event| output.json(&event))?;
        return Ok(output.flush()?);
    }
    let range = write_file(&args.file, &mut source)?;
    let Range {
        events,
        first,
        last,
    } = range;
    let file = args.file.display();
    if output.is_json() {
        output.json(&json!({
            "file": args.file, "events": events, "first": first, "last": last,
        }))?;
    } else {
        output.line(format!(
            "{events} events, positions {first} to {last}, are in {file}"
        ))?;
        output.line("Secrets are not among them: they stay in the vault of the data directory.")?;
    }
    Ok(output.flush()?)
}

/// The file is there with everything in it, or not at all.
fn write_file(path: &Path, source: &mut Source) -> Result<Range, CliError> {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = write_partial(&partial, source).and_then(|range| {
        fs::rename(&partial, path).map_err(|error| unwritable(path, &error))?;
        Ok(range)
    });
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_partial(path: &Path, source: &mut Source) -> Result<Range, CliError> {
    let failed = |error| unwritable(path, &error);
    // One that a killed export left may be open to others. It may not even be there.
    let _ = fs::remove_file(path);
    // Messages are in it.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = BufWriter::new(file.map_err(failed)?);
    let range = copy(source, |event| writeln!(file, "{}", event.get()))?;
    let file = file
        .into_inner()
        .map_err(|error| failed(error.into_error()));
    file?.sync_all().map_err(failed)?;
    Ok(range)
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::failure(format!("cannot write {}: {error}", path.display()))
}

fn copy(
    source: &mut Source,
    mut write: impl FnMut(&RawValue) -> io::Result<()>,
) -> Result<Range, CliError> {
    let bar = counter("events");
    let mut range = Range::default();
    while let Some(event) = source.next()? {
        let Placed { position } = serde_json::from_str(event.get())?;
        if range.events == 0 {
            range.first = position;
        }
        range.last = position;
        range.events += 1;
        write(&event)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(range)
}
