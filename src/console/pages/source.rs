//! Where the messages of an API come from.

use maud::html;

use super::{
    super::{
        ROOT,
        answer::{Answer, Trouble},
        form::Form,
        layout::{self, Side},
        parts::Fields,
        visit::{Page, Visit},
    },
    configuration::without,
    does, run, shows,
};
use crate::{
    model::{Api, Invalid, Message, MockSource, Permission, Source},
    runtime::ControlError,
};

pub(super) const PAGES: &[Page] = &[
    shows("/apis/{api}/source", run!(async |visit| show(visit))),
    does(Permission::Manage, "/apis/{api}/source", run!(save)),
    does(
        Permission::Publish,
        "/apis/{api}/source/publish",
        run!(publish),
    ),
];

fn show(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let mock = match &api.source {
        Source::Publish => MockSource::default(),
        Source::Mock(mock) => mock.clone(),
    };
    let kind = if matches!(api.source, Source::Mock(_)) {
        "mock"
    } else {
        "publish"
    };
    let form = Form::default()
        .with("/type", kind)
        .with("/messageIntervalMs", mock.message_interval_ms.to_string())
        .with("/messageContent", mock.message_content)
        .with(
            "/messageCount",
            mock.message_count
                .map_or_else(String::new, |n| n.to_string()),
        );
    Ok(page(visit, &api, &form, &Invalid::none()))
}

fn page(visit: &Visit, api: &Api, form: &Form, invalid: &Invalid) -> Answer {
    let fields = Fields { form, invalid };
    let root = format!("{ROOT}/apis/{}/source", api.id);
    let content = html! {
        (layout::head("Source", &html! { "Where the messages of this API come from." }, &layout::nothing()))
        (fields.summary())
        form.card method="post" action=(root) {
            (visit.form_key_field())
            (Visit::made_of(&api.source))
            (fields.choice("/type", "Messages", "", &[("publish", "are published over HTTP"), ("mock", "are made by the gateway, to try things out")]))
            div.columns {
                (fields.line("/messageIntervalMs", "One every, in ms", "", "number"))
                (fields.line("/messageCount", "How many", "Empty: without end.", "number"))
            }
            (fields.lines("/messageContent", "Content", "The same for each made message.", 3))
            @if visit.may(Permission::Manage) { div.buttons.saving { button.primary type="submit" { "Save" } } }
        }
        @if visit.may(Permission::Publish) {
            form.card method="post" action=(format!("{root}/publish")) {
                (visit.form_key_field())
                h2 { "Publish a message" }
                (fields.lines("content", "Content", "Sent as JSON where it is JSON, else as text.", 4))
                (fields.line("eventType", "Type", "What kind of event it tells of, such as order.created.", "text"))
                div.buttons { button type="submit" { "Publish" } }
            }
        }
        section.card {
            h2 { "From a program" }
            p { "Publish with a token of the role publisher:" }
            pre { code {
                "curl -X POST http://…/v1/apis/" (api.id) "/messages \\\n"
                "  -H 'Authorization: Bearer hl_…' -H 'Content-Type: application/json' \\\n"
                "  -d '{\"content\": {\"order\": 7}}'"
            } }
        }
    };
    Answer::form(
        invalid,
        layout::of_api(visit, api, Side::Source, "Source", &content),
    )
}

async fn save(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let mut invalid = Invalid::none();
    let form = &visit.form;
    if let Some(stale) = visit.stale(&api.source) {
        return Ok(page(visit, &api, form, &stale));
    }
    let headers = match &api.source {
        Source::Mock(mock) => mock.headers.clone(),
        Source::Publish => Vec::new(),
    };
    let default = MockSource::default();
    let source = if form.get("/type") == Some("mock") {
        Source::Mock(MockSource {
            message_interval_ms: form
                .number("/messageIntervalMs", &mut invalid)
                .unwrap_or(default.message_interval_ms),
            message_content: form.text("/messageContent").unwrap_or_default().to_owned(),
            message_count: form.number("/messageCount", &mut invalid),
            headers,
        })
    } else {
        Source::Publish
    };
    let changed = match invalid.into_result() {
        Ok(()) => {
            let changed = Api {
                source,
                ..Api::clone(&api)
            };
            visit.handle().update_api_from(&api, changed).await
        }
        Err(invalid) => Err(ControlError::Invalid(invalid)),
    };
    match changed {
        Ok(_) => {
            visit.say("The source was saved.");
            Ok(Answer::see(visit.path()))
        }
        Err(ControlError::Invalid(invalid)) => {
            Ok(page(visit, &api, form, &without("/source", invalid)))
        }
        Err(error) => Err(error.into()),
    }
}

async fn publish(visit: &Visit) -> Result<Answer, Trouble> {
    let api = visit.api()?;
    let text = visit.form.text("content").unwrap_or_default();
    let mut message = match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(_) => Message::new(text.as_bytes().to_vec(), "application/json"),
        Err(_) => Message::text(text),
    };
    if let Some(kind) = visit.form.get("eventType") {
        message = message.with_type(kind.trim());
    }
    match visit.handle().publish(api.id, message).await {
        Ok(receipt) => visit.say(format!("Message {} was accepted.", receipt.id())),
        Err(error) => visit.warn(format!("Not published: {error}.")),
    }
    Ok(Answer::see(format!("{ROOT}/apis/{}/source", api.id)))
}
