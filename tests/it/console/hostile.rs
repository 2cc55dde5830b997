//! Words that would be markup, shown on every page and typed into every form.

use std::collections::BTreeSet;

use hooklog::model::ErrorClass;
use serde::Deserialize;

use super::*;

/// What somebody may try to bring in as a name, a header, a body, a URL, an error.
fn payloads() -> Vec<String> {
    let parts = [
        "<script>document.title='in'</script>",
        "\"><img src=x onerror=\"document.title='in'\">",
        "' onmouseover='document.title=1' x='",
        "</textarea><svg onload=document.title=1>",
        "</title><b>in</b>",
        "<a href=javascript:document.title=1>in</a>",
        "{{7*7}}${7*7}<%=7*7%>",
        "<!--",
        "]]>",
        "&lt;i&gt;",
        "\u{202e}<i>in</i>",
        "<iframe srcdoc='<b>in'>",
        "<style>*{display:none}</style>",
        "<base href=//example.com>",
        "<form action=//example.com><button>",
        "<meta http-equiv=refresh content=0>",
        "<math><mtext><b>in",
        "<details open ontoggle=document.title=1>",
        "\u{0}\u{8}\u{1b}[31m",
        "<link rel=stylesheet href=//example.com>",
    ];
    let around = |part: &str| {
        [
            part.to_owned(),
            format!("a{part}b"),
            part.to_uppercase(),
            format!("{part}{part}"),
            format!("'{part}'"),
            format!("\"{part}\""),
            format!("`{part}`"),
            format!("{part}\n{part}"),
            format!("/{part}/"),
            format!("={part}"),
        ]
    };
    parts.iter().flat_map(|part| around(part)).collect()
}

/// Reads pages as the browser does, without running what is in them. Of each it gives the elements
/// with the names of their attributes, in order; those of charts and figures apart, which change with
/// time, and those of a list's later rows, which become more.
const READ: &str = r"
const [paths, forms, words, done] = arguments;
const later = '.charts, .figures, .spark, .pager, tbody tr:nth-child(n + 3), datalist option:nth-child(n + 2)';
const named = (one) => [one.tagName, ...[...one.attributes].map((attribute) => attribute.name)].join(' ');
const parsed = async (answer) => new DOMParser().parseFromString(await answer.text(), 'text/html');
const read = (page, answer) => {
    const all = [...page.querySelectorAll('*')];
    return {
        path: new URL(answer.url).pathname,
        status: answer.status,
        title: page.title,
        elements: all.filter((one) => !one.closest(later)).map(named),
        kinds: [...new Set(all.map(named))],
        runs: all.some((one) => [...one.attributes].some((attribute) =>
            attribute.name.startsWith('on') || /^\s*(javascript|data):/i.test(attribute.value))),
    };
};
const typed = 'input:not([type=hidden], [type=checkbox], [type=radio], [type=submit]), textarea';
const sent = (form) => {
    const fields = [...form.querySelectorAll(typed)].map((field) => field.name);
    const values = new FormData(form);
    fields.forEach((name, index) => values.set(name, words[index % words.length]));
    const body = new URLSearchParams(values);
    const action = form.getAttribute('action') ?? '';
    return form.method === 'post'
        ? fetch(action, { method: 'POST', body })
        : fetch(action + '?' + body);
};
(async () => {
    const pages = [];
    const answers = [];
    for (const path of paths) {
        const answer = await fetch(path);
        const page = await parsed(answer);
        pages.push(read(page, answer));
        const found = [...page.forms].filter((form) => form.querySelector(typed));
        for (const [index, form] of found.entries()) {
            const name = path.replace(/[?].*/, '') + ' ' + index;
            if (forms && !forms.includes(name)) continue;
            const answer = await sent(form);
            answers.push({ name, is_filter: form.method === 'get', ...read(await parsed(answer), answer) });
        }
    }
    done({ pages, answers });
})();
";

/// What was read of the pages, and of the answers to their forms.
#[derive(Debug, Deserialize)]
struct Reading {
    pages: Vec<Page>,
    answers: Vec<Page>,
}

/// A page as it was parsed.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    name: String,
    #[serde(default)]
    is_filter: bool,
    path: String,
    status: u16,
    title: String,
    elements: Vec<String>,
    kinds: BTreeSet<String>,
    runs: bool,
}

impl Page {
    /// Checks that this is the same page, as far as its markup goes.
    fn is_shaped_like(&self, plain: &Self, word: &str) {
        let what = format!("{} with {word:?}", self.path);
        assert_eq!(self.status, plain.status, "{what}");
        assert!(self.title.ends_with("hooklog"), "{what}: {}", self.title);
        assert!(!self.runs, "{what}");
        for (index, (is, was)) in self.elements.iter().zip(&plain.elements).enumerate() {
            assert_eq!(is, was, "element {index} of {what}");
        }
        let counts = (self.elements.len(), plain.elements.len());
        assert_eq!(counts.0, counts.1, "elements of {what}");
    }
}

/// A word for each field in turn, this one first.
fn in_turn(words: &[String], first: usize) -> Vec<&str> {
    const FIELDS: usize = 25;
    let turn = words.iter().cycle().skip(first).take(FIELDS);
    turn.map(String::as_str).collect()
}

#[tokio::test]
async fn nothing_that_is_brought_in_becomes_markup() {
    let desk = Desk::open(Setup::default()).await;
    let payloads = payloads();
    assert_eq!(payloads.len(), 200);
    desk.log_everything().await;
    desk.show("plain").await;
    desk.redeliver_dead_letters().await;
    desk.served
        .test
        .run_until_idle(Duration::from_secs(30))
        .await;
    desk.show("plain").await;
    let mut pages = desk.every_page().await;
    assert!(pages.len() >= 25, "{pages:#?}");
    // The page of one delivery comes before those of what can be done with it.
    let found = pages.iter().find_map(|page| page.split_once("/logs/"));
    let mut delivery = found.unwrap().1.to_owned();
    // The forms that refuse what is typed, and those that filter; others change something.
    let words = in_turn(&payloads, 0);
    let tried = desk.read(&pages, None, &words).await.answers;
    let stays = |answer: &&Page| answer.status == 422 || answer.is_filter;
    let forms: Vec<_> = tried
        .iter()
        .filter(stays)
        .map(|answer| answer.name.clone())
        .collect();
    let plain = vec!["plain"; words.len()];
    let shown = desk.show("plain").await;
    turn(&mut pages, &mut delivery, shown);
    let before = desk.read(&pages, Some(&forms), &plain).await;
    let read = before.pages.iter().chain(&before.answers);
    let mut known: BTreeSet<_> = read.flat_map(|page| page.kinds.clone()).collect();
    // The way to the next page, once a list has one.
    known.insert("A class rel href".to_owned());
    for (number, word) in payloads.iter().enumerate() {
        let shown = desk.show(word).await;
        turn(&mut pages, &mut delivery, shown);
        let words = in_turn(&payloads, number);
        let after = desk.read(&pages, Some(&forms), &words).await;
        for (page, plain) in after.pages.iter().zip(&before.pages) {
            page.is_shaped_like(plain, word);
        }
        for page in after.pages.iter().chain(&after.answers) {
            let what = format!("{} {} with {word:?}", page.path, page.name);
            assert!(!page.runs, "{what}");
            let foreign: Vec<_> = page.kinds.difference(&known).collect();
            assert!(foreign.is_empty(), "{what}: {foreign:?}");
        }
    }
    desk.browser.check().await;
    desk.close().await;
}

/// Turns the pages of one delivery to those of another.
fn turn(pages: &mut [String], delivery: &mut String, next: String) {
    for page in pages {
        *page = page.replace(&*delivery, &next);
    }
    *delivery = next;
}

impl Desk {
    async fn read(&self, paths: &[String], forms: Option<&[String]>, words: &[&str]) -> Reading {
        let arguments = vec![json!(paths), json!(forms), json!(words)];
        let client = &self.browser.client;
        let read = client.execute_async(READ, arguments).await.unwrap();
        serde_json::from_value(read).unwrap()
    }

    async fn put(&self, path: &str, body: &Value) {
        let put = self.served.ask("PUT", path).json(body).send().await;
        assert_eq!(put.status, 200, "{put:?}");
    }

    async fn log_everything(&self) {
        let both = json!({"headers": true, "payload": true});
        let logging = json!({"enabled": true, "request": both, "response": both});
        let path = format!("/v1/apis/{}/entrypoint/logging", self.api);
        self.put(&path, &logging).await;
    }

    /// Puts a word wherever something from outside is shown: names, a callback URL, a message, what
    /// a callback answered and why it failed. Gives the delivery that has it all.
    async fn show(&self, word: &str) -> String {
        let visible: String = word.chars().filter(|c| !c.is_control()).collect();
        let name = Some(visible).filter(|name| !name.trim().is_empty());
        let name = name.unwrap_or_else(|| "x".to_owned());
        let served = &self.served;
        let applications = served.get("/v1/applications").await.json();
        let id = text(&applications["applications"][0]["id"]);
        let renamed = json!({"name": name, "description": word});
        self.put(&format!("/v1/applications/{id}"), &renamed).await;
        let path = format!("/v1/apis/{}", self.api);
        let mut api = served.get(&path).await.json();
        api["name"] = json!(name);
        api["description"] = json!(word);
        self.put(&path, &api).await;
        let token = json!({"name": name, "role": "viewer"});
        let made = served.post("/v1/tokens", token).await;
        assert_eq!(made.status, 201, "{made:?}");
        let shown = word.to_owned();
        served.test.transport().answer(move |request| {
            let is_second = request.attempt.get() > 1;
            if is_second {
                FakeAnswer::Captured(400, shown.clone())
            } else {
                FakeAnswer::Failed(ErrorClass::Protocol, shown.clone())
            }
        });
        let subscription = &self.subscriptions[0];
        let change = json!({"configuration": {
            "callbackUrl": format!("https://example.com/{}", url_part(word)),
            "headers": [{"name": "x-word", "value": "plain"}],
            "retry": {"maxAttempts": 1, "initialDelaySeconds": 1, "jitterPercent": 0}}});
        let of_subscription = format!("/v1/subscriptions/{subscription}");
        self.put(&of_subscription, &change).await;
        self.publish(word).await;
        served.test.run_until_idle(Duration::from_secs(30)).await;
        let newest = format!("{path}/logs?subscription={subscription}&limit=1");
        let list = served.get(newest).await.json();
        text(&list["deliveries"][0]["id"])
    }
}

fn url_part(word: &str) -> String {
    url::form_urlencoded::byte_serialize(word.as_bytes()).collect()
}
