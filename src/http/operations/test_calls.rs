//! Test messages to a callback.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};

use super::super::{
    call::Call,
    operation::{Operation, Verb, json, schema},
    problem::Problem,
    reply::Reply,
};
use crate::{
    model::{
        AttemptError, AttemptResult, CallbackUrl, Captured, Message, MessageId, Method, Permission,
        SubscriptionId, Timestamp, Timings,
    },
    runtime::TestReport,
};

/// The type of a test message where nothing else is said.
const TYPE: &str = "hooklog.test";

pub(in crate::http) const OPERATIONS: &[Operation] = &[Operation::change(
    "testSubscription",
    Verb::Post,
    "/v1/subscriptions/{subscription}/_test",
    "Send a test message to the callback, once, and tell what came of it. It is no delivery.",
    |call| async move { test(&call).await }.boxed(),
)
.needs(Permission::Operate)
.optional_body(json(schema::<TestMessage>))
.answers(200, json(schema::<Tested>))];

/// What is sent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TestMessage {
    /// What kind of event it tells of. Default `hooklog.test`.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Its content. A small object that says what it is when absent.
    content: Option<Value>,
}

/// What came of a test message.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Tested {
    /// The message, as `webhook-id` names it.
    message: MessageId,
    /// When the call began.
    started_at: Timestamp,
    /// Its method.
    method: Method,
    /// Where it went, redacted.
    callback_url: Option<CallbackUrl>,
    /// The status, 0 when there was no response.
    status: u16,
    /// Whether a message would count as delivered.
    delivered: bool,
    /// Why there was no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AttemptError>,
    /// How long its parts took.
    timings: Timings,
    /// Headers and bodies of both sides, as far as logging is switched on at the entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    captured: Option<Captured>,
}

impl From<TestReport> for Tested {
    fn from(tested: TestReport) -> Self {
        let report = tested.report;
        let status = report.result.status();
        Self {
            message: tested.message,
            started_at: report.started_at,
            method: tested.method,
            callback_url: tested.callback_url,
            status,
            delivered: (200..300).contains(&status),
            error: match report.result {
                AttemptResult::Responded { .. } => None,
                AttemptResult::Failed(error) => Some(error),
            },
            timings: report.timings,
            captured: report.captured.map(|captured| *captured),
        }
    }
}

async fn test(call: &Call) -> Result<Reply, Problem> {
    let id: SubscriptionId = call.parameter("subscription")?;
    call.handle().subscription(id).await?;
    let asked = if call.body.is_empty() {
        TestMessage::default()
    } else {
        call.json()?
    };
    let content = asked
        .content
        .unwrap_or_else(|| value!({"test": true, "subscription": id}));
    let event_type = asked.event_type.unwrap_or_else(|| TYPE.to_owned());
    let mut message = Message::json(&content)?.with_type(event_type);
    call.trace.send_along(&mut message);
    let tested = call.handle().test_callback(id, message).await?;
    Reply::json(200, &Tested::from(tested))
}
