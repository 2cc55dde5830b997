//! What filters accept, mean and cost.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::{
    evaluate::{Come, Why},
    *,
};
use crate::model::{FILTER_BYTES_MAX, Message, MessageId};

fn compile(text: &str) -> Result<Filter, String> {
    Filter::compile(&FilterExpression::new(text)).map_err(|invalid| invalid.to_string())
}

fn refused(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("{text} was accepted"),
        Err(refused) => refused,
    }
}

fn published(message: Message) -> MessagePublished {
    MessagePublished {
        id: MessageId::from_uuid(uuid::Uuid::from_u128(7)),
        content: message.content,
        content_type: message.content_type,
        event_type: message.event_type,
        channel: message.channel,
        key: message.key,
        headers: message.headers,
        coordinate: None,
        sampled: false,
    }
}

fn order() -> MessagePublished {
    let body = json!({
        "amount": 120,
        "rate": 1.5,
        "paid": true,
        "note": null,
        "customer": {"tier": "gold", "city": "Zürich"},
        "items": [{"sku": "a", "count": 2}, {"sku": "b", "count": 7}],
        "tags": ["vip", "eu"],
    });
    let message = Message::json(&body).unwrap();
    let message = message.with_type("order.paid").with_channel("eu");
    let message = message.with_header("X-Tenant", "acme");
    published(
        message
            .with_header("x-trace", "1")
            .with_header("X-Trace", "2"),
    )
}

fn verdict_on(text: &str, message: &MessagePublished) -> FilterVerdict {
    compile(text)
        .unwrap()
        .verdict(message, Timestamp::from_millis(1_767_225_600_000))
}

fn verdict(text: &str) -> FilterVerdict {
    verdict_on(text, &order())
}

fn why_it_failed(text: &str) -> String {
    match verdict(text) {
        FilterVerdict::Failed(why) => why,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn conditions_on_every_part_of_a_message_hold() {
    for text in [
        "type == 'order.paid'",
        "type.startsWith(\"order.\") && !type.endsWith('.failed')",
        "type in ['order.paid', 'order.refunded']",
        "channel == 'eu' && key == ''",
        "headers['x-tenant'] == 'acme' && 'x-tenant' in headers && !('X-Tenant' in headers)",
        "headers['x-trace'] == '1, 2' && headers.size() == 2",
        "id == '00000000-0000-0000-0000-000000000007'",
        "acceptedAt >= '2026-01-01T00:00:00.000Z' && acceptedAt < '2026-01-02'",
        "body.amount > 100 && body.amount <= 120.0 && body.rate == 1.5",
        "body.paid",
        "body.note == null && has(body.note) && !has(body.nothing)",
        "body.customer.tier == 'gold' && body['customer']['city'].size() == 6",
        "body.customer == body.customer && body.items != body.tags",
        "'vip' in body.tags && body.tags[1] == 'eu' && body.tags == ['vip', 'eu']",
        "body.items.exists(item, item.count > 5) && !body.items.all(item, item.count > 5)",
        "body.items.exists_one(item, item.sku == 'a')",
        "body.items.filter(item, item.count > 5).size() == 1",
        "body.items.map(item, item.count) == [2, 7]",
        "body.items.map(item, item.count > 2, item.sku) == ['b']",
        "body.items.exists(i, body.tags.exists(t, t == 'eu' && i.sku == 'b'))",
        "body.customer.exists(name, name == 'tier')",
        "body.amount > 1000 ? false : body.amount % 7 == 1",
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && -body.amount == -120 && 7 / 2 == 3",
        "double(body.amount) * body.rate == 180.0 && int(body.rate) == 1",
        "string(body.amount) + body.tags[0] == '120vip' && int('12') == 12",
        "body.customer.city.matches('^Z.rich$') && type.contains('.')",
        "0x10 == 16 && 1.5e1 == 15.0 && '\\u0041\\x42\\103' == 'ABC' && r'\\d'.size() == 2",
        "-9223372036854775808 < 0 // and a remark",
        "1 == 1.0 && !(1 == '1') && !(null == false)",
    ] {
        assert_eq!(verdict(text), FilterVerdict::Passes, "{text}");
    }
    assert_eq!(verdict("body.amount < 100"), FilterVerdict::Filtered);
}

#[test]
fn a_failure_names_the_place_and_nothing_of_the_content() {
    for (text, expected) in [
        (
            "body.total > 1",
            "the filter, column 6: there is no field \"total\"; ask has() before it",
        ),
        (
            "type == 'x' ||\n  body.items[2].sku == 'a'",
            "the filter, line 2, column 13: there is nothing under this index; ask with in before",
        ),
        (
            "body.customer.tier > 1",
            "the filter, column 20: > cannot work on string and int",
        ),
        (
            "body.amount + body.rate > 1.0",
            "the filter, column 13: + cannot work on int and double",
        ),
        (
            "body.amount",
            "the filter, column 6: true or false is needed, and this is int",
        ),
        (
            "body.amount / 0 == 1",
            "the filter, column 13: a division by zero",
        ),
        (
            "type.x == 1",
            "the filter, column 6: a field cannot work on string",
        ),
        (
            "int(body.customer.tier) == 1",
            "the filter, column 1: int() cannot read this as a number",
        ),
        (
            "body.amount * 9223372036854775807 > 0",
            "the filter, column 13: * comes to a number that does not fit",
        ),
    ] {
        assert_eq!(why_it_failed(text), expected, "{text}");
    }
}

#[test]
fn what_decides_overrules_a_failure_on_either_side() {
    for text in [
        "body.nothing == 1 || body.paid",
        "body.paid || body.nothing == 1",
        "!(body.nothing == 1 && !body.paid)",
        "body.items.exists(item, item.nothing == 1 || item.sku == 'b')",
        "[1, 2].exists(x, x / 0 == 1 || x == 2)",
        // The first fails, the second is not.
        "!['a', 1].all(x, x > 1)",
    ] {
        assert_eq!(verdict(text), FilterVerdict::Passes, "{text}");
    }
    assert!(why_it_failed("body.nothing == 1 || !body.paid").contains("\"nothing\""));
    assert!(why_it_failed("[1, 'a'].all(x, x > 0)").contains("string and int"));
    assert!(why_it_failed("[1, 'a'].exists_one(x, x > 0)").contains("string and int"));
}

#[test]
fn what_is_not_json_is_null_and_a_message_without_attributes_has_empty_ones() {
    let bare = published(Message::text("plain"));
    for text in [
        "body == null && type == '' && channel == '' && key == '' && headers.size() == 0",
        "body == null || body.amount > 1",
    ] {
        assert_eq!(verdict_on(text, &bare), FilterVerdict::Passes, "{text}");
    }
    let failed = FilterVerdict::Failed("the filter, column 6: a field cannot work on null".into());
    assert_eq!(verdict_on("body.amount > 1", &bare), failed);
}

#[test]
fn what_no_filter_can_be_is_refused_with_its_place_and_what_to_do() {
    for (text, expected) in [
        ("", "is empty"),
        (
            "type =",
            "column 6: \"=\" does not exist; equality is written ==",
        ),
        ("type", "column 1: a condition is expected here"),
        ("1 + 2", "column 3: a condition is expected here"),
        ("body.a && 'x'", "column 11: a condition is expected here"),
        ("!size(type)", "column 2: a condition is expected here"),
        (
            "kind == 1",
            "column 1: there is no \"kind\"; a filter knows type, headers, body",
        ),
        ("body.a == 1 body.b", "column 13: \"body\" cannot follow"),
        ("(body.a", "column 8: expected \")\", found the end"),
        ("body. == 1", "column 7: a name is expected here"),
        (
            "body.a == 'x",
            "column 11: a text has no end; close it with '",
        ),
        (
            "body.a == '\\q'",
            "column 12: an escape that does not exist",
        ),
        (
            "body.a == '\\ud800'",
            "column 12: an escape that does not exist",
        ),
        ("body.a == 12abc", "column 11: a number ends in a letter"),
        (
            "body.a == 9223372036854775808",
            "column 11: a number that does not fit",
        ),
        ("body.a == {'a': 1}", "column 11: maps cannot be written"),
        ("body.a == #", "column 11: '#' has no meaning here"),
        (
            "lower(type) == 'a'",
            "column 1: there is no function lower()",
        ),
        (
            "type.lower() == 'a'",
            "column 6: there is no function lower()",
        ),
        ("has(type)", "column 1: has() takes one field"),
        ("size(type, 1) == 1", "column 1: size() takes one value"),
        ("type.contains() ", "column 6: contains() takes one text"),
        (
            "type.matches(body.pattern)",
            "column 6: matches() takes one pattern, written out",
        ),
        (
            "type.matches('(')",
            "column 14: a pattern that cannot be read",
        ),
        (
            "type.matches('(\\\\pL{100}){100}')",
            "column 14: a pattern that",
        ),
        ("body.a.all(1, true)", "column 12: a name is expected here"),
        (
            "body.a.all(in, true)",
            "column 12: \"in\" is a word of the language",
        ),
        ("body.a.all(x)", "column 13: expected \",\", found \")\""),
        ("body.a.map(x, x)", "column 8: a condition is expected here"),
        (
            "body.a.exists(x, x.all(y, y.all(z, z)))",
            "more than 2 macros inside each other",
        ),
        ("x > 1", "column 1: there is no \"x\""),
    ] {
        let refused = refused(text);
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn length_depth_and_count_of_a_filter_are_bounded() {
    let long = format!("type == '{}'", "a".repeat(FILTER_BYTES_MAX));
    assert!(refused(&long).contains("at most 2048 are allowed"));
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(compile(&nested(FILTER_DEPTH_MAX - 1)).is_ok());
    assert!(refused(&nested(FILTER_DEPTH_MAX)).contains("more than 32"));
    for deep in [
        format!("{}true", "!".repeat(1_000)),
        format!("1{} == 1", "+1".repeat(500)),
        format!("body{}", ".a".repeat(500)),
        format!("body{}", "[0]".repeat(500)),
        format!("{}1{} == 1", "[".repeat(500), "]".repeat(500)),
        format!("true{}", "?true:true".repeat(150)),
    ] {
        assert!(refused(&deep).contains("more than 32"), "{deep}");
    }
    let wide = format!("type in [{}]", "1,".repeat(FILTER_NODES_MAX));
    assert!(refused(&wide).contains("more than 500 operations"));
    let chain = format!("true{}", "&&true".repeat(300));
    assert!(compile(&chain).is_ok(), "a chain is no deeper than one");
}

#[test]
fn a_content_beyond_the_limits_fails_only_filters_that_look_at_it() {
    let values = format!("[{}0]", "0,".repeat(FILTER_BODY_VALUES_MAX as usize));
    let deep = "[".repeat(100) + &"]".repeat(100);
    for content in [values, deep] {
        let message = published(Message::new(content.into_bytes(), "application/json"));
        assert_eq!(verdict_on("type == ''", &message), FilterVerdict::Passes);
        let failed = verdict_on("body.size() > 1", &message);
        assert!(matches!(failed, FilterVerdict::Failed(why) if why.contains("no filter reads")));
    }
}

#[test]
fn a_filter_is_read_again_only_when_its_text_is_another() {
    let mut cache = FilterCache::default();
    assert!(cache.of(None).is_none());
    let (one, other) = (
        FilterExpression::new("true"),
        FilterExpression::new("false"),
    );
    let first = cache.of(Some(&one)).unwrap();
    assert!(Arc::ptr_eq(&first.0, &cache.of(Some(&one)).unwrap().0));
    let second = cache.of(Some(&other)).unwrap();
    assert!(!Arc::ptr_eq(&first.0, &second.0));
    assert!(cache.of(None).is_none());
}

#[test]
fn a_stored_filter_that_cannot_be_read_fails_on_each_message() {
    let filter = FilterCache::default().of(Some(&FilterExpression::new("of a later version")));
    let verdict = filter.unwrap().verdict(&order(), Timestamp::EPOCH);
    assert!(matches!(verdict, FilterVerdict::Failed(why) if why.contains("column 1")));
}

/// The steps that a filter takes on this message, and what it comes to.
fn run(text: &str, message: &MessagePublished) -> (u32, Result<bool, bool>) {
    let program = parse::parse(text).unwrap_or_else(|e| panic!("{text}: {}", e.what));
    let headers = headers_of(&program, message);
    let body = json::read(&message.content);
    let facts = Facts {
        event_type: "a",
        channel: "",
        key: "",
        id: "",
        accepted_at: "",
        headers: &headers,
        body: body.as_ref().map(Value::of).map_err(|beyond| *beyond),
    };
    let mut evaluation = Evaluation::of(&facts);
    let came: Come<'_, bool> = evaluation.holds(&program.root);
    let came = came.map_err(|failure| matches!(failure.why, Why::Spent));
    (evaluation.steps(), came)
}

/// Contents that make a filter work: many small values, one long text, much nesting, numbers that
/// are hard to read, long names that are nearly equal.
fn hostile_contents() -> Vec<MessagePublished> {
    const MOST: usize = 1_000_000;
    let values = FILTER_BODY_VALUES_MAX as usize - 10;
    let mut letters = 1_u64;
    let mut letter = |_| {
        letters = letters
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'a' + u8::from(letters >> 33 & 1 == 1))
    };
    let random: String = (0..MOST).map(&mut letter).collect();
    let text = "a".repeat(MOST);
    let nested = "[".repeat(60) + &"]".repeat(60);
    let contents = [
        format!("{{\"l\":[{}0],\"t\":\"b\"}}", "0,".repeat(values)),
        format!("{{\"l\":[{}0],\"t\":\"{text}\"}}", "0,".repeat(10)),
        format!(
            "{{\"l\":[{nested}{}],\"t\":\"b\"}}",
            format!(",{nested}").repeat(values / 61)
        ),
        format!("{{\"l\":[0],\"t\":\"{}\"}}", &random[..12_000]),
        format!("{{\"l\":[0],\"t\":\"{}\"}}", &random[..3_000]),
        format!("{{\"l\":[0],\"t\":\"{}\"}}", &random[..750]),
        format!("{{\"l\":[1.{}e-7],\"t\":\"b\"}}", "1".repeat(MOST)),
        format!(
            "{{\"l\":{{{}}},\"t\":\"b\"}}",
            (0..6_000)
                .map(|i| format!("\"{}{i}\":0", "n".repeat(150)))
                .collect::<Vec<_>>()
                .join(",")
        ),
        format!(
            "{{\"l\":[{}\"\"],\"t\":\"\\u0061{text}\"}}",
            "\"\\u00e9\",".repeat(values)
        ),
    ];
    let json = |content: String| published(Message::new(content.into_bytes(), "application/json"));
    contents.map(json).into()
}

/// Filters that do as much as they may.
fn hostile_filters() -> Vec<String> {
    let mut filters = vec![
        "body.l.all(x, body.l.all(y, x == y))".to_owned(),
        "body.l.all(x, body.l.exists(y, y.z == x.z))".to_owned(),
        "body.l.map(x, body.l.map(y, [x, y])).size() == 1".to_owned(),
        "body.l.map(x, body.l + body.l).size() == 1".to_owned(),
        "body.l.filter(x, body.l == body.l).size() == 1".to_owned(),
        "body.l.all(x, body.t.contains('aab'))".to_owned(),
        "body.l.all(x, body.t.contains(body.t + 'b'))".to_owned(),
        "body.l.all(x, !body.t.endsWith(body.t + 'b'))".to_owned(),
        "body.l.all(x, (body.t + body.t) > body.t)".to_owned(),
        "body.l.all(x, body.t.size() > 0)".to_owned(),
        "body.l.all(x, x in body.l || !(x in body.l))".to_owned(),
        "body.l.all(x, string(x) + string(x) != '' || true)".to_owned(),
        "body.l.all(x, has(x.a) || has(x.b) || true)".to_owned(),
        "body.l.all(x, body == body)".to_owned(),
    ];
    for pattern in [
        "(a|aa|aaa)*b",
        "(a*)*b",
        "a.{0,10}b",
        "[^b]*a[^b]{0,10}c",
        "(a|b)*a(a|b){100}c",
        "(a|b)*a(a|b){30}c",
        "[ab]*a[ab]{15}c",
    ] {
        filters.push(format!("body.l.exists(x, body.t.matches('{pattern}'))"));
        filters.push(format!("body.t.matches('{pattern}')"));
    }
    filters
}

#[test]
fn no_filter_takes_more_than_its_steps() {
    let mut spent = 0;
    for message in hostile_contents() {
        for filter in hostile_filters() {
            let (steps, came) = run(&filter, &message);
            assert!(steps <= FILTER_STEPS_MAX, "{filter}: {steps}");
            spent += usize::from(came == Err(true));
        }
    }
    assert!(spent > 10, "{spent} spent all");
}

/// Prints the figure that `DESIGN.md` names: `cargo test --release --lib -- --ignored worst
/// --nocapture`.
#[test]
#[ignore = "it measures; run it on a machine that has nothing else to do"]
#[expect(
    clippy::disallowed_methods,
    reason = "it measures how long something takes"
)]
fn the_worst_accepted_filters_end_soon() {
    let mut worst = Vec::new();
    for (number, message) in hostile_contents().iter().enumerate() {
        for filter in hostile_filters() {
            let compiled = compile(&filter).unwrap();
            let once = || {
                let begun = Instant::now();
                let _ = compiled.verdict(message, Timestamp::EPOCH);
                begun.elapsed()
            };
            let least = (0..5).map(|_| once()).min().unwrap_or_default();
            worst.push((least, number, filter));
        }
    }
    worst.sort();
    for (took, content, filter) in worst.iter().rev().take(12) {
        println!("{took:?} content {content} {filter}");
    }
}

/// Texts that are nearly filters.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "body",
        "type",
        "headers",
        ".",
        ".a",
        "['a']",
        "[0]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "==",
        "!=",
        "<",
        ">=",
        " in ",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "?",
        ":",
        "1",
        "0",
        "-1",
        "1.5",
        "0x",
        "1e",
        "'a'",
        "'",
        "\"\\u00e9\"",
        "r'\\'",
        "\\",
        "true",
        "null",
        ".all(x,",
        ".exists(x, x",
        ".map(x, x)",
        ".filter(x, x > 1)",
        "has(",
        "size(",
        "int(",
        "string(",
        ".contains(",
        ".matches('a+')",
        "x",
        " ",
        "\n",
        "//",
        "é",
        "=",
        "|",
        "b'a'",
    ]);
    prop::collection::vec(scrap, 0..40).prop_map(|scraps| scraps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn no_text_panics_and_none_takes_more_than_the_steps(
        text in prop_oneof![scraps(), ".{0,80}"],
    ) {
        if let Ok(program) = parse::parse(&text) {
            prop_assert!(program.root.depth <= FILTER_DEPTH_MAX);
            let (steps, _) = run(&text, &order());
            prop_assert!(steps <= FILTER_STEPS_MAX);
        }
        let _ = compile(&text);
    }
}

/// Expressions that make sense more often than not, for the reference.
fn sensible() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (-3_i64..4).prop_map(|n| n.to_string()),
        Just("body.amount".to_owned()),
        Just("body.items[0].count".to_owned()),
        Just("body.items.size()".to_owned()),
        Just("size(body.customer.tier)".to_owned()),
        Just("body.rate".to_owned()),
        Just("body.missing".to_owned()),
    ];
    let text = prop_oneof![
        "[a-e]{0,3}".prop_map(|t| format!("'{t}'")),
        Just("body.customer.tier".to_owned()),
        Just("body.tags[0]".to_owned()),
        Just("body.tags[7]".to_owned()),
    ];
    let number = number.prop_recursive(2, 6, 2, |inner| {
        (
            inner.clone(),
            prop::sample::select(vec!["+", "-", "*", "/", "%"]),
            inner,
        )
            .prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    });
    let relation = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (number.clone(), relation, number.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("{a} == {b}")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("{a}.contains({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a} + {b}).startsWith({b})")),
        text.prop_map(|a| format!("{a} in body.tags")),
        number.clone().prop_map(|a| format!("{a} in [1, 2, 120]")),
        number
            .clone()
            .prop_map(|a| format!("body.items.exists(i, i.count == {a})")),
        number
            .clone()
            .prop_map(|a| format!("body.items.all(i, i.count != {a})")),
        number
            .clone()
            .prop_map(|a| format!("body.items.exists_one(i, i.count > {a})")),
        number.prop_map(|a| format!("body.items.filter(i, i.count > {a}).size() == 1")),
        Just("body.paid".to_owned()),
        Just("has(body.note)".to_owned()),
        Just("has(body.nothing)".to_owned()),
        Just("body.note == null".to_owned()),
        Just("body.tags == ['vip', 'eu']".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

/// JSON whose whole numbers are CEL's `int`, where the reference would take the positive ones for
/// `uint`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Datum>),
    Map(std::collections::BTreeMap<String, Datum>),
}

proptest! {
    #[test]
    fn a_filter_means_what_the_reference_says(text in sensible()) {
        let body: Datum = serde_json::from_slice(&order().content).unwrap();
        let mut context = cel::Context::default();
        context.add_variable("body", cel::to_value(&body).unwrap()).unwrap();
        let reference = cel::Program::compile(&text).unwrap().execute(&context);
        let reference = match reference {
            Ok(cel::Value::Bool(true)) => "passes",
            Ok(cel::Value::Bool(false)) => "filtered",
            Ok(_) | Err(_) => "failed",
        };
        let ours = match verdict(&text) {
            FilterVerdict::Passes => "passes",
            FilterVerdict::Filtered => "filtered",
            FilterVerdict::Failed(_) => "failed",
        };
        prop_assert_eq!(ours, reference, "{}", text);
    }
}
