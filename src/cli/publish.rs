//! `hooklog publish`: messages, one or many.

use std::path::{Path, PathBuf};

use clap::{Args, builder::NonEmptyStringValueParser};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{CliError, Output, client::ServerArgs, input, output::progress};
use crate::model::{MessageId, Position};

/// Most lines of one request, and about the most bytes.
const BATCH_LINES_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// The API, by id or name.
    api: String,
    /// The message itself; - is standard input.
    #[arg(required_unless_present_any = ["file", "ndjson"])]
    message: Option<String>,
    /// A file that holds the message; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "message")]
    file: Option<PathBuf>,
    /// A file of messages, each an envelope of JSON on a line of its own: {"content": …} or
    /// {"text": …}, with "type", "channel", "key" and "headers"; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["message", "file", "event_type", "channel", "key", "id", "content_type"])]
    ndjson: Option<PathBuf>,
    /// What kind of event it tells of.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The channel it belongs to.
    #[arg(long)]
    channel: Option<String>,
    /// Its ordering key.
    #[arg(long)]
    key: Option<String>,
    /// Its identity, `webhook-id` of each call. Default: a new one
    #[arg(long)]
    id: Option<MessageId>,
    /// What it is. Default: application/json when it is JSON, else text/plain, else bytes
    #[arg(long, value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    content_type: Option<String>,
    /// Published again with the same key, it is accepted once.
    #[arg(long, value_name = "KEY", conflicts_with = "id")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// A message was accepted.
#[derive(Deserialize)]
struct Accepted {
    id: MessageId,
    position: Position,
}

/// A batch was.
#[derive(Deserialize)]
struct AcceptedBatch {
    messages: Vec<Box<RawValue>>,
}

pub(super) fn run(args: &PublishArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.ndjson {
        Some(file) => many(args, file, output),
        None => one(args, output),
    }
}

fn one(args: &PublishArgs, output: &mut Output) -> Result<(), CliError> {
    let content = match (&args.message, &args.file) {
        (Some(text), _) if text != "-" => text.clone().into_bytes(),
        (_, Some(file)) => input::bytes(file)?,
        (_, None) => input::bytes(Path::new("-"))?,
    };
    let client = args.server.client()?;
    let api = client.api(&args.api)?.to_string();
    let content_type = args.content_type.as_deref();
    let content_type = content_type.unwrap_or_else(|| type_of(&content)).to_owned();
    let answer = client
        .post(&["v1", "apis", &api, "messages"])
        .query("raw", Some(true))
        .query("id", args.id)
        .query("type", args.event_type.as_deref())
        .query("channel", args.channel.as_deref())
        .query("key", args.key.as_deref())
        .header("idempotency-key", args.idempotency_key.as_deref())
        .body(&content_type, content)
        .send()?;
    if output.is_json() {
        output.json(&answer.raw()?)?;
    } else {
        let Accepted { id, position } = answer.parse()?;
        output.line(format!("Message  {id}"))?;
        output.line(format!("Position {position}, durable"))?;
    }
    Ok(output.flush()?)
}

/// What a message is, as far as can be told from itself.
fn type_of(content: &[u8]) -> &'static str {
    match std::str::from_utf8(content) {
        Ok(_) if serde_json::from_slice::<Value>(content).is_ok() => "application/json",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    }
}

fn many(args: &PublishArgs, file: &Path, output: &mut Output) -> Result<(), CliError> {
    let bytes = input::bytes(file)?;
    let batches = batches(&bytes);
    if batches.is_empty() {
        return Err(CliError::failure(format!(
            "there is no message in {}: nothing was published; put an envelope such as {{\"text\": \"hello\"}} on each \
             line",
            file.display()
        )));
    }
    let client = args.server.client()?;
    let api = client.api(&args.api)?.to_string();
    let bar = progress(bytes.len() as u64, "bytes");
    let mut accepted = 0;
    for (number, batch) in batches.into_iter().enumerate() {
        let key = args.idempotency_key.as_ref();
        let key = key.map(|key| format!("{key}-{number}"));
        let sent = client
            .post(&["v1", "apis", &api, "messages"])
            .header("idempotency-key", key.as_deref())
            .body("application/x-ndjson", batch.bytes.to_vec())
            .send();
        let answer = sent.map_err(|error| batch.not_sent(&error, accepted))?;
        let answer: AcceptedBatch = answer.parse()?;
        accepted += answer.messages.len();
        bar.inc(batch.bytes.len() as u64);
        if output.is_json() {
            answer
                .messages
                .iter()
                .try_for_each(|one| output.json(one))?;
        }
    }
    bar.finish_and_clear();
    if !output.is_json() {
        output.line(format!("{accepted} messages, durable"))?;
    }
    Ok(output.flush()?)
}

/// Lines that are published in one request: all of them, or none.
#[derive(Debug, PartialEq)]
struct Batch<'a> {
    first_line: usize,
    bytes: &'a [u8],
}

impl Batch<'_> {
    /// Why it was not sent, and what is published of all lines.
    fn not_sent(&self, error: &CliError, accepted: usize) -> CliError {
        let first = self.first_line;
        if !error.may_be_done() {
            return CliError::failure(format!(
                "of the lines from {first} on none was published, {accepted} messages before were: {error}"
            ));
        }
        let last = first
            + self
                .bytes
                .trim_ascii_end()
                .split(|byte| *byte == b'\n')
                .count()
            - 1;
        CliError::failure(format!(
            "lines {first} to {last} may have been published, those behind were not, {accepted} messages before \
             were; what has an --idempotency-key can be published again as a whole, and nothing comes twice: {error}"
        ))
    }
}

fn batches(bytes: &[u8]) -> Vec<Batch<'_>> {
    let mut batches = Vec::new();
    let (mut start, mut end, mut first_line, mut filled) = (0, 0, 1, 0);
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if filled == BATCH_LINES_MAX || (filled > 0 && end + line.len() - start > BATCH_BYTES_MAX) {
            batches.push(Batch {
                first_line,
                bytes: &bytes[start..end],
            });
            (start, first_line, filled) = (end, index + 1, 0);
        }
        end += line.len();
        filled += usize::from(!line.trim_ascii().is_empty());
    }
    if filled > 0 {
        batches.push(Batch {
            first_line,
            bytes: &bytes[start..end],
        });
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_lines_are_cut_into_requests_and_none_is_lost() {
        let lines = "{\"text\": \"x\"}\n".repeat(2_500) + "\n{\"text\": \"last\"}";
        let cut = batches(lines.as_bytes());
        assert_eq!(cut.len(), 3);
        let firsts: Vec<_> = cut.iter().map(|batch| batch.first_line).collect();
        assert_eq!(firsts, [1, 1_001, 2_001]);
        let whole: Vec<u8> = cut.iter().flat_map(|batch| batch.bytes).copied().collect();
        assert_eq!(whole, lines.as_bytes());
        assert_eq!(batches(b"\n \n"), []);
    }

    #[test]
    fn lines_whose_answer_was_lost_are_not_told_as_unpublished() {
        let batch = Batch {
            first_line: 1_001,
            bytes: b"{\"text\": \"x\"}\n{\"text\": \"y\"}\n",
        };
        let unknown = batch.not_sent(&CliError::unknown("no answer"), 1_000);
        let unknown = unknown.to_string();
        assert!(
            unknown.starts_with("lines 1001 to 1002 may have been"),
            "{unknown}"
        );
        let refused = batch
            .not_sent(&CliError::failure("refused"), 1_000)
            .to_string();
        assert!(
            refused.contains("from 1001 on none was published"),
            "{refused}"
        );
    }

    #[test]
    fn a_request_stays_below_what_the_gateway_takes() {
        let line = format!("{{\"text\": \"{}\"}}\n", "x".repeat(1 << 20));
        let lines = line.repeat(9);
        let cut = batches(lines.as_bytes());
        assert!(cut.iter().all(|batch| batch.bytes.len() <= BATCH_BYTES_MAX));
        assert_eq!(cut.len(), 3);
    }

    #[test]
    fn the_type_of_a_message_is_told_from_itself() {
        assert_eq!(type_of(b"{\"a\": 1}"), "application/json");
        assert_eq!(type_of(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(type_of(b"\xff\xfe"), "application/octet-stream");
    }

    const LINES: &[&[u8]] = &[b"\n", b" \r\n", b"{}\n", b"{\"text\": \"x\"}\r\n", b"\xff"];

    proptest! {
        #[test]
        fn whatever_is_in_a_file_each_line_of_it_is_in_one_request(
            runs in proptest::collection::vec((proptest::sample::select(LINES), 0..1_500_usize), 0..4),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let runs = runs.iter().map(|(line, count)| line.repeat(*count));
            let bytes = [runs.collect::<Vec<_>>().concat(), rest].concat();
            let mut at = 0;
            for batch in batches(&bytes) {
                prop_assert_eq!(batch.bytes, &bytes[at..at + batch.bytes.len()]);
                let line = bytes[..at].split(|byte| *byte == b'\n').count();
                prop_assert_eq!(batch.first_line, line);
                let lines = batch.bytes.split(|byte| *byte == b'\n');
                let filled = lines.filter(|line| !line.trim_ascii().is_empty()).count();
                prop_assert!((1..=BATCH_LINES_MAX).contains(&filled));
                at += batch.bytes.len();
                let is_ended = batch.bytes.ends_with(b"\n");
                prop_assert!(is_ended || at == bytes.len());
            }
            prop_assert!(bytes[at..].trim_ascii().is_empty());
        }
    }
}
