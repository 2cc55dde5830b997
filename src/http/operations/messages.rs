//! Publishing messages.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::FutureExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::super::{
    call::{self, Call},
    operation::{Content, Operation, Precondition, Verb, schema},
    problem::{Kind, Problem},
    reply::Reply,
};
use crate::{
    model::{ApiId, Header, Invalid, MESSAGE_BYTES_MAX, Message, MessageId, Permission, Position},
    source::{BATCH_MESSAGES_MAX, Receipt},
};

/// Most bytes of one request: a batch, or a message of 1 MiB in base64.
const BATCH_BYTES_MAX: usize = 8 << 20;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

pub(in crate::http) const OPERATIONS: &[Operation] = &[Operation::change(
        "publish",
        Verb::Post,
        "/v1/apis/{api}/messages",
        "Publish a message, or a batch of at most 1,000 that is accepted whole or not at all. What is answered is durable. As JSON a message stands in an envelope; any other content type is the message itself.",
        |call| async move { publish(&call).await }.boxed(),
    )
    .unrecorded()
    .needs(Permission::Publish)
    .preconditions(&[Precondition::IdempotencyKey])
    .query(schema::<Attributes>)
    .takes_bytes(BATCH_BYTES_MAX)
    .body(Content {
        types: &[JSON, NDJSON, "application/octet-stream", "text/plain"],
        schema: Some(envelopes),
    })
    .answers(
        202,
        Content {
            types: &[JSON],
            schema: Some(schema::<Accepted>),
        },
    )];

/// What a message is beside its content, where the body is the content itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Attributes {
    /// The message's identity, `webhook-id` of each call. Default: a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    /// What kind of event it tells of.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// The channel it belongs to.
    channel: Option<String>,
    /// Its ordering key.
    key: Option<String>,
    /// Take a body of JSON as the content itself, not as an envelope.
    raw: bool,
}

/// A message in JSON. One of `content`, `text` and `base64` is its content.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    /// Its identity, `webhook-id` of each call. Default: a new one.
    #[serde(default)]
    id: Option<MessageId>,
    /// What kind of event it tells of.
    #[serde(default, rename = "type")]
    event_type: Option<String>,
    /// The channel it belongs to.
    #[serde(default)]
    channel: Option<String>,
    /// Its ordering key.
    #[serde(default)]
    key: Option<String>,
    /// Headers of each call.
    #[serde(default)]
    headers: Vec<Header>,
    /// Its content type. Default: JSON for `content`, text for `text`, bytes for `base64`.
    #[serde(default)]
    content_type: Option<String>,
    /// Any JSON, sent byte for byte as it stands here.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    content: Option<Box<RawValue>>,
    /// Text.
    #[serde(default)]
    text: Option<String>,
    /// Bytes, in base64.
    #[serde(default)]
    base64: Option<String>,
}

/// The envelopes of a batch. One message too many ends the reading: a body holds millions that are
/// empty, and each takes far more room than its two bytes.
struct Batch(Vec<Envelope>);

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Envelopes;

        impl<'de> Visitor<'de> for Envelopes {
            type Value = Batch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut batch: A) -> Result<Batch, A::Error> {
                let mut envelopes = Vec::new();
                while let Some(envelope) = batch.next_element()? {
                    if envelopes.len() == BATCH_MESSAGES_MAX {
                        return Err(A::Error::custom(too_many()));
                    }
                    envelopes.push(envelope);
                }
                Ok(Batch(envelopes))
            }
        }

        deserializer.deserialize_seq(Envelopes)
    }
}

fn envelopes(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<Envelope>();
    json_schema!({
        "anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}],
    })
}

/// Messages were accepted.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Accepted {
    /// One was.
    One(AcceptedMessage),
    /// A batch was, in its order.
    Batch {
        /// The messages.
        messages: Vec<AcceptedMessage>,
    },
}

/// A message was accepted, and is durable.
#[derive(Clone, Copy, Serialize, JsonSchema)]
struct AcceptedMessage {
    /// Its identity, `webhook-id` of each call.
    id: MessageId,
    /// Where it stands in the log.
    position: Position,
}

impl From<&Receipt> for AcceptedMessage {
    fn from(receipt: &Receipt) -> Self {
        Self {
            id: receipt.id(),
            position: receipt.position(),
        }
    }
}

async fn publish(call: &Call) -> Result<Reply, Problem> {
    let api: ApiId = call.parameter("api")?;
    call.handle().api(api)?;
    let (mut messages, is_batch) = messages(call)?;
    for message in &mut messages {
        call.trace.send_along(message);
    }
    let mut receipts = Vec::new();
    let key = call.idempotency_key()?;
    if let Some(key) = key {
        for (index, message) in messages.iter_mut().enumerate() {
            if message.id.is_some() {
                let detail = "is given by the Idempotency-Key; leave out one of them";
                return Err(Problem::field("/id", detail));
            }
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            message.id = Some(MessageId::from_uuid(call.derived(key, index)?));
        }
        receipts = call.handle().publish_keyed(api, messages).await?;
    } else {
        receipts.extend(call.handle().publish_batch(api, messages).await?);
    }
    let replayed = receipts.iter().any(Receipt::is_duplicate);
    let accepted = receipts.iter().map(AcceptedMessage::from);
    let accepted = if is_batch {
        Accepted::Batch {
            messages: accepted.collect(),
        }
    } else {
        Accepted::One(accepted.collect::<Vec<_>>()[0])
    };
    let reply = Reply::json(202, &accepted)?;
    Ok(if replayed {
        reply.header("idempotency-replayed", "true")
    } else {
        reply
    })
}

/// The messages of a body, and whether they came as a batch.
fn messages(call: &Call) -> Result<(Vec<Message>, bool), Problem> {
    let attributes: Attributes = call.query()?;
    let said = call.headers.content_type.as_deref().unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.is_empty() {
        let detail = "say with Content-Type what the message is, such as application/json";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    if essence.eq_ignore_ascii_case(NDJSON) && !attributes.raw {
        attributes.are_empty()?;
        return Ok((lines(&call.body)?, true));
    }
    if essence.eq_ignore_ascii_case(JSON) && !attributes.raw {
        attributes.are_empty()?;
        return enveloped(&call.body);
    }
    if call.body.len() > MESSAGE_BYTES_MAX {
        let detail = format!("a message holds at most {MESSAGE_BYTES_MAX} bytes (1 MiB)");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let message = Message {
        id: attributes.id,
        event_type: attributes.event_type,
        channel: attributes.channel,
        key: attributes.key,
        ..Message::new(call.body.clone(), said)
    };
    Ok((vec![message], false))
}

impl Attributes {
    /// Refuses attributes beside an envelope, which has its own.
    fn are_empty(&self) -> Result<(), Problem> {
        let set = [
            ("?id", self.id.is_some()),
            ("?type", self.event_type.is_some()),
            ("?channel", self.channel.is_some()),
            ("?key", self.key.is_some()),
        ];
        let mut invalid = Invalid::none();
        for (pointer, is_set) in set {
            let reason = "belongs into the envelope, or send the content itself with raw=true";
            invalid.check(!is_set, pointer, reason);
        }
        Ok(invalid.into_result()?)
    }
}

fn enveloped(body: &[u8]) -> Result<(Vec<Message>, bool), Problem> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let Batch(envelopes) = call::json(body)?;
        let indexed = envelopes.into_iter().enumerate();
        let messages = indexed.map(|(index, envelope)| {
            let under = |invalid: Invalid| Problem::from(invalid.under(&format!("/{index}")));
            envelope.into_message().map_err(under)
        });
        return Ok((some(messages.collect::<Result<_, _>>()?)?, true));
    }
    let envelope: Envelope = call::json(body)?;
    Ok((vec![envelope.into_message()?], false))
}

fn lines(body: &[u8]) -> Result<Vec<Message>, Problem> {
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    if filled.clone().nth(BATCH_MESSAGES_MAX).is_some() {
        return Err(Problem::field("", too_many()));
    }
    let messages = filled.map(|(index, line)| {
        let at_line = |problem: Problem| problem.at(&format!("line {}", index + 1));
        let envelope: Envelope = call::json(line).map_err(at_line)?;
        envelope
            .into_message()
            .map_err(|invalid| at_line(invalid.into()))
    });
    some(messages.collect::<Result<_, _>>()?)
}

fn too_many() -> String {
    format!("holds too many messages, at most {BATCH_MESSAGES_MAX} are allowed")
}

fn some(messages: Vec<Message>) -> Result<Vec<Message>, Problem> {
    if messages.is_empty() {
        return Err(Problem::field("", "holds no message"));
    }
    Ok(messages)
}

impl Envelope {
    fn into_message(self) -> Result<Message, Invalid> {
        let (content, usual) = match (self.content, self.text, self.base64) {
            (Some(json), None, None) => {
                let text: Box<str> = Box::<RawValue>::into(json);
                (Bytes::from(String::from(text)), JSON)
            }
            (None, Some(text), None) => (Bytes::from(text), "text/plain; charset=utf-8"),
            (None, None, Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                let reason = |error| Invalid::one("/base64", format!("is not base64: {error}"));
                (
                    Bytes::from(bytes.map_err(reason)?),
                    "application/octet-stream",
                )
            }
            _ => {
                return Err(Invalid::one(
                    "",
                    "must have one of content, text and base64",
                ));
            }
        };
        Ok(Message {
            id: self.id,
            event_type: self.event_type,
            channel: self.channel,
            key: self.key,
            headers: self.headers,
            ..Message::new(
                content,
                self.content_type.unwrap_or_else(|| usual.to_owned()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: &[&str] = &[
        "id",
        "type",
        "channel",
        "key",
        "headers",
        "contentType",
        "content",
        "text",
        "base64",
        "nope",
    ];
    const VALUES: &[&str] = &[
        "null",
        "7",
        "{}",
        "[]",
        "{\"a\": [1, 2.50]}",
        "[{\"name\": \"x-a\", \"value\": \"b\"}]",
        "\"a\"",
        "\"/wA=\"",
        "\"no base64!\"",
        "\"\\u0000\\n\"",
        "\"\\ud800\"",
        "\"01890a5d-ac96-774b-bcce-b302099a8057\"",
    ];

    /// A line of a batch: mostly an envelope.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        let key = proptest::sample::select(KEYS);
        let value = proptest::sample::select(VALUES);
        let fields = proptest::collection::vec((key, value), 0..4);
        let envelope = fields.prop_map(|fields| {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{key:?}: {value}"));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        });
        prop_oneof![
            8 => "\\{\"(text|content)\": \"[a-z ]{0,8}\"\\} ?\r?".prop_map(String::into_bytes),
            2 => envelope.prop_map(String::into_bytes),
            2 => "[ \t\r]{0,2}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..12),
        ]
    }

    fn is_blank(line: &[u8]) -> bool {
        line.iter().all(u8::is_ascii_whitespace)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1_000)))]

        #[test]
        fn no_body_panics_and_each_line_of_a_batch_is_a_message_or_named(
            batch in proptest::collection::vec(any_line(), 0..8),
        ) {
            let body = batch.join(&b'\n');
            // What is made up may hold the end of a line.
            let all: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
            let filled: Vec<&[u8]> = all.iter().copied().filter(|line| !is_blank(line)).collect();
            let array = [&b"["[..], &filled.join(&b','), b"]"].concat();
            match lines(&body) {
                Ok(messages) => {
                    prop_assert_eq!(messages.len(), filled.len());
                    let (same, is_batch) = enveloped(&array).expect("its lines were read");
                    prop_assert!(is_batch);
                    prop_assert_eq!(same, messages);
                }
                Err(problem) => {
                    prop_assert!(matches!(problem.kind(), Kind::Malformed | Kind::Invalid));
                    let told = problem.detail();
                    let named = told.strip_prefix("line ").and_then(|told| told.split_once(": "));
                    let named = named.and_then(|(line, _)| line.parse::<usize>().ok());
                    prop_assert_eq!(named.is_some(), !filled.is_empty(), "{}", told);
                    if let Some(line) = named {
                        prop_assert!(!is_blank(all[line - 1]), "{told}");
                        let before = &all[..line - 1];
                        let is_read = before.iter().all(|line| is_blank(line)) || lines(&before.join(&b'\n')).is_ok();
                        prop_assert!(is_read, "{told}");
                    }
                }
            }
            for body in [&body, &array] {
                if let Ok((messages, is_batch)) = enveloped(body) {
                    prop_assert!(is_batch || messages.len() == 1);
                    prop_assert!((1..=BATCH_MESSAGES_MAX).contains(&messages.len()));
                }
            }
        }
    }
}
