//! What each answer of the console tells a browser: what it may run, keep and pass on.

use hooklog::{
    model::{Role, Token},
    testing::FakeAnswer,
};
use serde_json::{Value, json};

use crate::support::{
    gateway::{Answer, Served},
    paths::{Thing, filled, pages},
};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Headers that every answer has.
const ALWAYS: [(&str, &str); 4] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];
const PAGE: &str = "text/html; charset=utf-8";
/// A callback whose URL would be two cells of a table, and the second of them a formula, if it were
/// not quoted.
const CALLBACK: &str = "https://example.com/hook?a,=1+1";

/// Checks the headers that every answer has, and that this one is not kept.
fn is_guarded(headers: &reqwest::header::HeaderMap, what: &str) {
    for (name, value) in ALWAYS.into_iter().chain([("cache-control", "no-store")]) {
        let is: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(is, [value], "{name} of {what}");
    }
    assert!(headers.get("access-control-allow-origin").is_none());
}

/// Checks that this is a page of this status, with the headers that it must have.
fn is_page(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some(PAGE), "{what}");
    assert!(answer.text.contains("<h1>"), "{what}: {answer:?}");
    is_guarded(&answer.headers, what);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// One of each thing that pages are about.
async fn things(served: &Served) -> Vec<Thing> {
    served.test.transport().answer(|_| FakeAnswer::Status(400));
    let api = json!({"name": "orders", "entrypoint": {"contextPath": "/orders"}});
    let api = text(&served.post("/v1/apis", api).await.json()["id"]);
    let of_api = |rest: &str| format!("/v1/apis/{api}/{rest}");
    let wanted = json!({"configuration": {"callbackUrl": CALLBACK}});
    let subscription = served.post(of_api("subscriptions"), wanted).await.json();
    served
        .post(of_api("messages"), json!({"text": "hello"}))
        .await;
    served.test.settle().await;
    let delivery = text(&served.get(of_api("logs")).await.json()["deliveries"][0]["id"]);
    let job = json!({"filter": {}});
    let job = served.post(of_api("dead-letters/_redeliver"), job).await;
    assert_eq!(job.status, 202, "{job:?}");
    served.test.settle().await;
    let token = Token::named("somebody", Role::Viewer);
    let token = served.test.handle().create_token(token).await.unwrap().0;
    vec![
        ("subscription", text(&subscription["id"])),
        ("application", text(&subscription["application"])),
        ("delivery", delivery),
        ("job", text(&job.json()["id"])),
        ("token", token.id.to_string()),
        ("projection", "deliveries".to_owned()),
        ("api", api),
    ]
}

#[tokio::test]
async fn every_page_and_every_step_says_what_may_be_loaded_and_kept() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let things = things(&served).await;
    let cookie = served.session(Role::Admin).await;
    for (method, pattern) in pages() {
        let path = filled(&pattern, &things);
        let what = format!("{method} {path}");
        let ask = served.ask(method, path).token(None);
        let ask = ask.header("cookie", &cookie);
        let answer = ask.header("sec-fetch-site", "same-origin").open().await;
        let status = answer.status().as_u16();
        let expected = match (method, pattern.as_str()) {
            ("POST", "/console/login") => 401,
            // No form of this session.
            ("POST", _) => 403,
            (_, "/console" | "/console/login") => 303,
            _ => 200,
        };
        assert_eq!(status, expected, "{what}");
        is_guarded(answer.headers(), &what);
    }
    for (path, status) in [
        ("/", 303),
        ("/console", 303),
        ("/console/", 303),
        ("/console/login", 200),
        ("/console/login?ticket=x", 401),
        ("/console/apis", 303),
        ("/console/nothing", 404),
    ] {
        let stranger = served.ask("GET", path).token(None).send().await;
        assert_eq!(stranger.status.as_u16(), status, "{path}");
        is_guarded(&stranger.headers, path);
    }
    served.shutdown().await;
}

#[tokio::test]
async fn no_cell_of_a_table_that_is_kept_is_a_formula() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let things = things(&served).await;
    let cookie = served.session(Role::Viewer).await;
    let mut tried = 0;
    for (_, pattern) in pages().filter(|(_, path)| path.rsplit('.').next() == Some("csv")) {
        let ask = served.ask("GET", filled(&pattern, &things)).token(None);
        let table = ask.header("cookie", &cookie).send().await;
        let kept = table.header("content-disposition").unwrap();
        assert!(kept.starts_with("attachment; "), "{kept}");
        for row in table.text.lines().skip(1) {
            let row = row.strip_prefix('"').and_then(|row| row.strip_suffix('"'));
            let cells = row.expect("cells are quoted").split("\",\"");
            let cells: Vec<_> = cells.collect();
            assert!(cells.contains(&CALLBACK), "{pattern}: {cells:?}");
            for cell in cells {
                assert!(!cell.contains('"'), "{pattern}: {cell}");
                assert!(
                    !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                    "{cell}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 10, "{tried}");
    served.shutdown().await;
}

#[tokio::test]
async fn a_refusal_is_a_page_that_says_what_may_be_loaded_and_kept() {
    const NOTHING: &str = "00000000-0000-7000-8000-000000000007";
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let admin = served.session(Role::Admin).await;
    let viewer = served.session(Role::Viewer).await;
    let get = async |path: &str, cookie: &str| {
        let ask = served.ask("GET", path).token(None);
        ask.header("cookie", cookie).send().await
    };
    let post = async |path: &str, cookie: &str, body: Vec<u8>| {
        let ask = served
            .ask("POST", path)
            .token(None)
            .header("cookie", cookie);
        let ask = ask.header("sec-fetch-site", "same-origin");
        ask.body("application/x-www-form-urlencoded", body)
            .send()
            .await
    };
    let foreign = served.ask("POST", "/console/apis/new").token(None);
    let foreign = foreign.header("cookie", &admin).send().await;
    is_page(&foreign, 403, "a form from elsewhere");
    let forbidden = get("/console/apis/new", &viewer).await;
    is_page(&forbidden, 403, "a page of another role");
    let gone = get(&format!("/console/apis/{NOTHING}"), &admin).await;
    is_page(&gone, 404, "an API that is not there");
    let nowhere = get("/console/assets/nothing", &admin).await;
    is_page(&nowhere, 404, "an asset that is not there");
    let patched = served.ask("PATCH", "/console/apis").token(None);
    is_page(&patched.send().await, 404, "a method that pages have not");

    // Forms are read up to this: of who is signed in, and of others.
    for (path, cookie, bytes_max) in [
        ("/console/apis/new", admin.as_str(), 4 << 20),
        ("/console/apis/new", "", 16 << 10),
        ("/console/login", "", 16 << 10),
        ("/console/nothing", "", 16 << 10),
    ] {
        let read = post(path, cookie, vec![b'x'; bytes_max]).await;
        assert_ne!(read.status, 413, "{path}");
        is_guarded(&read.headers, path);
        let large = post(path, cookie, vec![b'x'; bytes_max + 1]).await;
        is_page(&large, 413, path);
        let told = format!("Send at most {bytes_max} bytes.");
        assert!(large.text.contains(&told), "{large:?}");
    }

    let form = get("/console/apis/new", &admin).await.text;
    let key = form.split_once(r#"name="form_key" value=""#).unwrap().1;
    let key = key.split('"').next().unwrap();
    let empty = post(
        "/console/apis/new",
        &admin,
        format!("form_key={key}").into(),
    );
    is_page(&empty.await, 422, "a form with a field at fault");
    let stop = format!("/console/apis/{NOTHING}/stop");
    let stop = post(&stop, &admin, format!("form_key={key}").into());
    is_page(&stop.await, 404, "a step with what is not there");
    let guess = async || post("/console/login", "", b"token=hl_wrong".to_vec()).await;
    let mut guessed = guess().await;
    while guessed.status == 401 {
        is_page(&guessed, 401, "a wrong token");
        guessed = guess().await;
    }
    is_page(&guessed, 429, "too many wrong tokens");
    served.shutdown().await;
}

#[tokio::test]
async fn an_asset_is_kept_under_the_name_of_its_content_alone() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path()).await;
    let get = async |path: &str| served.ask("GET", path).token(None).send().await;
    let page = get("/console/login").await.text;
    let named = page
        .split('"')
        .filter(|part| part.starts_with("/console/assets/"));
    let named: Vec<_> = named.collect();
    assert_eq!(named.len(), 3, "{named:?}");
    for path in named {
        let asset = get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        for (name, value) in ALWAYS {
            assert_eq!(asset.header(name), Some(value), "{name} of {path}");
        }
        let kept = asset.header("cache-control");
        assert_eq!(kept, Some("public, max-age=31536000, immutable"), "{path}");
        let (stem, ending) = path.rsplit_once('.').unwrap();
        let content_type = match ending {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => panic!("{path}"),
        };
        assert_eq!(asset.header("content-type"), Some(content_type), "{path}");
        // The name that another version gave it: what it stands for there may come back.
        let other = get(&format!(
            "{}000000000000.{ending}",
            &stem[..stem.len() - 12]
        ))
        .await;
        assert_eq!((other.status.as_u16(), &other.text), (200, &asset.text));
        is_guarded(&other.headers, path);
    }
    served.shutdown().await;
}
