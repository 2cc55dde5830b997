//! Who gets in where: each page, each role.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    model::{Api, Message, Permission, Role, Subscription, Timestamp, Token},
    testing::{FakeAnswer, TestRuntime},
};

struct Desk {
    test: TestRuntime,
    console: Console,
    _data: tempfile::TempDir,
}

impl Desk {
    async fn open() -> Self {
        let data = tempfile::tempdir().unwrap();
        let test = TestRuntime::start(data.path(), 1).await.unwrap();
        let console = Console::new(test.handle());
        Self {
            test,
            console,
            _data: data,
        }
    }

    /// Signs in with this token under this name of the gateway, with the cookie of a session before.
    async fn sign_in(&self, secret: &str, host: &str, cookie: Option<&str>) -> Reply {
        let login = PageRequest {
            method: "POST".to_owned(),
            path: "/console/login".to_owned(),
            host: Some(host.to_owned()),
            cookie: cookie.map(ToOwned::to_owned),
            fetch_site: Some("same-origin".to_owned()),
            peer: Some([192, 0, 2, 1].into()),
            body: format!("token={secret}").into(),
            ..PageRequest::default()
        };
        self.console.answer(login).await
    }

    /// The status of a page for who shows this cookie.
    async fn status_of(&self, path: &str, cookie: &str) -> u16 {
        let request = PageRequest {
            method: "GET".to_owned(),
            path: path.to_owned(),
            cookie: Some(cookie.to_owned()),
            ..PageRequest::default()
        };
        self.status(request).await
    }

    /// A cookie and the key of its forms, for the bearer of a new token of this role.
    async fn session(&self, role: Role) -> (String, String) {
        let handle = self.test.handle();
        let created = handle.create_token(Token::named("somebody", role)).await;
        let token = created.unwrap().0.id;
        let sessions = &self.console.inner.sessions;
        let cookie = sessions.open(token, &handle.moment(), &handle.moment());
        let signed_in = sessions
            .find(&cookie, handle.now(), session::Use::Seen)
            .unwrap();
        (format!("hooklog_session={cookie}"), signed_in.form_key)
    }

    /// A page as a viewer sees it.
    async fn page(&self, path: String) -> String {
        let (cookie, _) = self.session(Role::Viewer).await;
        let request = PageRequest {
            method: "GET".to_owned(),
            path,
            cookie: Some(cookie),
            ..PageRequest::default()
        };
        let answer = respond(Arc::clone(&self.console.inner), request).await;
        let Answer::Page { markup, .. } = answer else {
            panic!("it is no page");
        };
        markup.into_string()
    }

    async fn status(&self, request: PageRequest) -> u16 {
        match respond(Arc::clone(&self.console.inner), request).await {
            Answer::Page { status, .. } => status,
            Answer::See { .. } => 303,
            Answer::Asset { .. } | Answer::Download { .. } | Answer::Events(_) => 200,
        }
    }
}

/// A request for a page as a form of ours makes it; ids name nothing.
fn request(page: &visit::Page, session: Option<&(String, String)>) -> PageRequest {
    let parts = page.path.split('/').map(|part| {
        if part.starts_with('{') {
            "00000000-0000-7000-8000-000000000007"
        } else {
            part
        }
    });
    let form_key = session.map_or("", |(_, form_key)| form_key);
    PageRequest {
        method: page.method.to_owned(),
        path: format!("{ROOT}{}", parts.collect::<Vec<_>>().join("/")),
        cookie: session.map(|(cookie, _)| cookie.clone()),
        fetch_site: Some("same-origin".to_owned()),
        body: format!("form_key={form_key}").into(),
        ..PageRequest::default()
    }
}

const ANYBODY: &[Role] = &Role::ALL;
const READERS: &[Role] = &[Role::Admin, Role::Operator, Role::Viewer];
const OPERATORS: &[Role] = &[Role::Admin, Role::Operator];
const ADMINS: &[Role] = &[Role::Admin];

/// Who is meant to be let in; written down here again, so that a slip in the table of pages shows,
/// and a page that is new has to be entered.
const MEANT_FOR: &[(&str, &[Role])] = &[
    ("GET ", READERS),
    ("GET /live/{projection}", READERS),
    ("GET /login", ANYBODY),
    ("POST /login", ANYBODY),
    ("POST /logout", READERS),
    ("GET /apis", READERS),
    ("GET /apis/new", ADMINS),
    ("POST /apis/new", ADMINS),
    ("GET /apis/{api}", READERS),
    ("POST /apis/{api}/start", OPERATORS),
    ("POST /apis/{api}/stop", OPERATORS),
    ("GET /apis/{api}/delete", ADMINS),
    ("POST /apis/{api}/delete", ADMINS),
    ("GET /apis/{api}/configuration", READERS),
    ("GET /apis/{api}/configuration/general", ADMINS),
    ("POST /apis/{api}/configuration/general", ADMINS),
    ("GET /apis/{api}/configuration/entrypoints/add", ADMINS),
    ("GET /apis/{api}/configuration/entrypoints/webhook", ADMINS),
    ("POST /apis/{api}/configuration/entrypoints/webhook", ADMINS),
    ("GET /apis/{api}/source", READERS),
    ("POST /apis/{api}/source", ADMINS),
    ("POST /apis/{api}/source/publish", ADMINS),
    ("GET /apis/{api}/subscriptions", READERS),
    ("GET /apis/{api}/subscriptions/new", ADMINS),
    ("POST /apis/{api}/subscriptions/new", ADMINS),
    ("GET /subscriptions/{subscription}", READERS),
    ("GET /subscriptions/{subscription}/edit", ADMINS),
    ("POST /subscriptions/{subscription}/edit", ADMINS),
    ("POST /subscriptions/{subscription}/pause", OPERATORS),
    ("POST /subscriptions/{subscription}/resume", OPERATORS),
    ("POST /subscriptions/{subscription}/recover", OPERATORS),
    ("POST /subscriptions/{subscription}/test", OPERATORS),
    ("POST /subscriptions/{subscription}/accept", ADMINS),
    ("POST /subscriptions/{subscription}/reject", ADMINS),
    ("GET /subscriptions/{subscription}/close", ADMINS),
    ("POST /subscriptions/{subscription}/close", ADMINS),
    ("GET /subscriptions/{subscription}/rotate", ADMINS),
    ("POST /subscriptions/{subscription}/rotate", ADMINS),
    ("GET /apis/{api}/logs", READERS),
    ("GET /apis/{api}/logs/export.csv", READERS),
    ("GET /apis/{api}/logs/export.ndjson", READERS),
    ("GET /apis/{api}/logs/configuration", ADMINS),
    ("POST /apis/{api}/logs/configuration", ADMINS),
    ("GET /apis/{api}/logs/{delivery}", READERS),
    ("POST /apis/{api}/logs/{delivery}/redeliver", OPERATORS),
    ("GET /apis/{api}/logs/{delivery}/discard", OPERATORS),
    ("POST /apis/{api}/logs/{delivery}/discard", OPERATORS),
    ("GET /apis/{api}/dead-letters", READERS),
    ("GET /applications", READERS),
    ("GET /applications/new", ADMINS),
    ("POST /applications/new", ADMINS),
    ("GET /applications/{application}", READERS),
    ("POST /applications/{application}", ADMINS),
    ("POST /applications/{application}/keys", ADMINS),
    ("GET /applications/{application}/delete", ADMINS),
    ("POST /applications/{application}/delete", ADMINS),
    ("GET /events", READERS),
    ("GET /jobs", READERS),
    ("GET /jobs/new", OPERATORS),
    ("POST /jobs/new", OPERATORS),
    ("GET /jobs/{job}", READERS),
    ("POST /jobs/{job}/pause", OPERATORS),
    ("POST /jobs/{job}/resume", OPERATORS),
    ("POST /jobs/{job}/cancel", OPERATORS),
    ("GET /projections", READERS),
    ("GET /projections/{projection}/rebuild", OPERATORS),
    ("POST /projections/{projection}/rebuild", OPERATORS),
    ("GET /settings", READERS),
    ("POST /settings/tokens", ADMINS),
    ("GET /settings/tokens/{token}/revoke", ADMINS),
    ("POST /settings/tokens/{token}/revoke", ADMINS),
];

/// The roles that a page lets in: only those that may read come into the console.
fn let_in(page: &visit::Page) -> Vec<Role> {
    let may = |role: &Role| {
        let needs = page.needs;
        needs.is_none_or(|needs| role.may(Permission::Read) && role.may(needs))
    };
    Role::ALL.into_iter().filter(may).collect()
}

#[test]
fn each_page_is_for_those_whom_it_is_meant_for() {
    let mut meant: BTreeMap<_, _> = MEANT_FOR.iter().copied().collect();
    assert_eq!(meant.len(), MEANT_FOR.len(), "an entry stands twice");
    for page in pages::all() {
        let name = format!("{} {}", page.method, page.path);
        let roles = meant.remove(name.as_str());
        let roles = roles.unwrap_or_else(|| panic!("{name} has no entry in MEANT_FOR"));
        assert_eq!(let_in(page), roles, "{name}");
    }
    assert!(meant.is_empty(), "there are no such pages: {meant:?}");
}

#[tokio::test]
async fn each_page_lets_in_its_roles_alone() {
    let desk = Desk::open().await;
    for role in [Role::Admin, Role::Operator, Role::Viewer] {
        for page in pages::all() {
            let Some(needs) = page.needs else { continue };
            let path = page.path;
            assert_eq!(desk.status(request(page, None)).await, 303, "{path}");
            // Anew for each: one of the pages ends it.
            let session = desk.session(role).await;
            let status = desk.status(request(page, Some(&session))).await;
            let is_let_in = status != 403;
            assert_eq!(is_let_in, role.may(needs), "{role} {path}: {status}");
            assert_ne!(status, 500, "{role} {path}");
        }
    }
    desk.test.shutdown().await;
}

#[tokio::test]
async fn roles_without_pages_open_none() {
    let desk = Desk::open().await;
    let publisher = desk.session(Role::Publisher).await;
    for page in pages::all().filter(|page| page.needs.is_some()) {
        let status = desk.status(request(page, Some(&publisher))).await;
        assert_eq!(status, 303, "{}", page.path);
    }
    desk.test.shutdown().await;
}

#[tokio::test]
async fn a_form_from_elsewhere_does_nothing() {
    let desk = Desk::open().await;
    let session = desk.session(Role::Admin).await;
    let (_, key_of_another) = desk.session(Role::Admin).await;
    let head = desk.test.handle().log().head();
    let steps = pages::all().filter(|page| page.method == "POST");
    for page in steps {
        let ours = request(page, Some(&session));
        let elsewhere = [
            PageRequest {
                fetch_site: Some("cross-site".to_owned()),
                ..ours.clone()
            },
            PageRequest {
                fetch_site: Some("same-site".to_owned()),
                ..ours.clone()
            },
            PageRequest {
                fetch_site: None,
                origin: Some("https://example.com".to_owned()),
                host: Some("127.0.0.1:8080".to_owned()),
                ..ours.clone()
            },
            PageRequest {
                fetch_site: None,
                ..ours.clone()
            },
        ];
        for request in elsewhere {
            assert_eq!(desk.status(request).await, 403, "{}", page.path);
        }
        if page.needs.is_some() {
            // Made up, or of another session of this very gateway.
            for key in ["other", &key_of_another] {
                let with_key = PageRequest {
                    body: format!("form_key={key}").into(),
                    ..ours.clone()
                };
                assert_eq!(desk.status(with_key).await, 403, "{}", page.path);
            }
        }
    }
    assert_eq!(desk.test.handle().log().head(), head);
    desk.test.shutdown().await;
}

#[tokio::test]
async fn a_change_is_on_record_with_its_token() {
    let desk = Desk::open().await;
    let (cookie, form_key) = desk.session(Role::Admin).await;
    let made = PageRequest {
        method: "POST".to_owned(),
        path: "/console/apis/new".to_owned(),
        cookie: Some(cookie.clone()),
        fetch_site: Some("same-origin".to_owned()),
        body: format!("form_key={form_key}&%2Fname=orders").into(),
        ..PageRequest::default()
    };
    assert_eq!(desk.status(made).await, 303);
    assert_eq!(desk.test.handle().apis()[0].name, "orders");
    let head = desk.test.handle().log().head();
    let asked = desk.test.handle().log().get_async(head.previous()).await;
    let asked = serde_json::to_value(&*asked.unwrap().unwrap()).unwrap();
    assert_eq!(asked["type"], "request.accepted");
    assert_eq!(asked["data"]["operation"], "console:/apis/new");
    // A token that is revoked opens nothing any more.
    let tokens = desk.test.handle().access().tokens().unwrap();
    let token = tokens.last().unwrap().token.id;
    desk.test.handle().revoke_token(token).await.unwrap();
    let list = PageRequest {
        method: "GET".to_owned(),
        path: "/console/apis".to_owned(),
        cookie: Some(cookie),
        ..PageRequest::default()
    };
    assert_eq!(desk.status(list).await, 303);
    desk.test.shutdown().await;
}

/// What a browser sends back of a cookie that is set.
fn sent_back(set: &str) -> &str {
    set.split(';').next().unwrap()
}

#[tokio::test]
async fn a_session_is_new_at_each_sign_in_and_its_cookie_is_for_the_browser_alone() {
    let desk = Desk::open().await;
    let handle = desk.test.handle();
    let admin = Token::named("somebody", Role::Admin);
    let secret = handle.create_token(admin).await.unwrap().1;
    let first = desk.sign_in(secret.reveal(), "127.0.0.1:8080", None).await;
    let set = first.header_of("set-cookie").unwrap();
    assert!(
        set.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{set}"
    );
    let first = sent_back(set).to_owned();
    let value = first.split_once('=').unwrap().1;
    assert!(value.len() >= 22, "128 bits in base64: {value}");
    assert_eq!(desk.status_of("/console/apis", &first).await, 200);

    let host = "gateway.example.com";
    let second = desk.sign_in(secret.reveal(), host, Some(&first)).await;
    let set = second.header_of("set-cookie").unwrap();
    let flags = "; Path=/; HttpOnly; SameSite=Strict; Secure";
    assert!(set.ends_with(flags), "{set}");
    let second = sent_back(set).to_owned();
    assert_ne!(second, first);
    assert_eq!(desk.status_of("/console/apis", &first).await, 303);
    assert_eq!(desk.status_of("/console/apis", &second).await, 200);

    // It ends after half an hour without use, and is kept open by use.
    for _ in 0..3 {
        desk.test.clock().advance(Duration::from_mins(29));
        assert_eq!(desk.status_of("/console/apis", &second).await, 200);
    }
    desk.test.clock().advance(Duration::from_mins(31));
    assert_eq!(desk.status_of("/console/apis", &second).await, 303);
    desk.test.shutdown().await;
}

#[tokio::test]
async fn who_fails_to_sign_in_too_often_waits_and_a_right_token_is_let_in() {
    let desk = Desk::open().await;
    let status = async |secret: &str| desk.sign_in(secret, "127.0.0.1", None).await.status();
    for _ in 0..10 {
        assert_eq!(status("hl_wrong").await, 401);
    }
    assert_eq!(status("hl_wrong").await, 429);
    let handle = desk.test.handle();
    let viewer = Token::named("somebody", Role::Viewer);
    let secret = handle.create_token(viewer).await.unwrap().1;
    assert_eq!(status(secret.reveal()).await, 303);
    desk.test.clock().advance(Duration::from_mins(6));
    assert_eq!(status("hl_wrong").await, 401);
    desk.test.shutdown().await;
}

#[tokio::test]
async fn sign_ins_that_fail_from_one_network_of_ipv6_are_counted_together() {
    let desk = Desk::open().await;
    let status = async |host: u16| {
        let login = PageRequest {
            method: "POST".to_owned(),
            path: "/console/login".to_owned(),
            fetch_site: Some("same-origin".to_owned()),
            peer: Some([0x2001, 0xdb8, 0, 1, 0, 0, 0, host].into()),
            body: "token=hl_wrong".into(),
            ..PageRequest::default()
        };
        desk.console.answer(login).await.status()
    };
    for host in 1..=10 {
        assert_eq!(status(host).await, 401);
    }
    assert_eq!(status(11).await, 429);
    desk.test.shutdown().await;
}

#[tokio::test]
async fn a_form_of_a_browser_that_tells_only_its_origin_is_taken_from_ours() {
    let desk = Desk::open().await;
    let session = desk.session(Role::Admin).await;
    let page = pages::all().find(|page| page.path == "/apis/new" && page.method == "POST");
    let ours = PageRequest {
        fetch_site: None,
        host: Some("127.0.0.1:8080".to_owned()),
        ..request(page.unwrap(), Some(&session))
    };
    let of = |origin: &str| PageRequest {
        origin: Some(origin.to_owned()),
        ..ours.clone()
    };
    // Taken, and the name is missing.
    assert_eq!(desk.status(of("http://127.0.0.1:8080")).await, 422);
    for other in [
        "http://127.0.0.1:8081",
        "http://127.0.0.1:8080.example.com",
        "null",
    ] {
        assert_eq!(desk.status(of(other)).await, 403, "{other}");
    }
    desk.test.shutdown().await;
}

#[tokio::test]
async fn a_session_has_so_many_streams_open_and_one_more_once_one_is_closed() {
    let desk = Desk::open().await;
    let session = desk.session(Role::Viewer).await;
    let open = async |(cookie, _): &(String, String)| {
        let request = PageRequest {
            method: "GET".to_owned(),
            path: format!("{ROOT}/live/deliveries"),
            cookie: Some(cookie.clone()),
            ..PageRequest::default()
        };
        respond(Arc::clone(&desk.console.inner), request).await
    };
    let mut streams = Vec::new();
    for _ in 0..session::STREAMS_MAX {
        match open(&session).await {
            Answer::Events(stream) => streams.push(stream),
            _ => panic!("one within the limit is refused"),
        }
    }
    assert!(!matches!(open(&session).await, Answer::Events(_)));
    let other = desk.session(Role::Viewer).await;
    assert!(
        matches!(open(&other).await, Answer::Events(_)),
        "others have theirs"
    );
    drop(streams.pop());
    assert!(matches!(open(&session).await, Answer::Events(_)));
    drop(streams);
    desk.test.shutdown().await;
}

#[tokio::test]
async fn a_page_shows_no_pause_that_has_passed_while_the_wall_clock_is_set_back() {
    let desk = Desk::open().await;
    let handle = desk.test.handle();
    let api = handle.create_api(Api::named("orders")).await.unwrap().id;
    let to = Subscription::to("https://example.com/hook").unwrap();
    let id = handle.subscribe(api, to).await.unwrap().id;
    let mut answers = std::iter::once(FakeAnswer::RetryAfter(429, 60));
    let transport = desk.test.transport();
    transport.answer(move |_| answers.next().unwrap_or(FakeAnswer::Status(503)));
    handle.publish(api, Message::text("a")).await.unwrap();
    desk.test.settle().await;
    let path = format!("{ROOT}/subscriptions/{id}");
    let pause = "asked for a pause";
    assert!(desk.page(path.clone()).await.contains(pause));
    let clock = desk.test.clock();
    clock.set_wall(Timestamp::EPOCH);
    clock.advance(Duration::from_secs(61));
    desk.test.settle().await;
    assert!(!desk.page(path).await.contains(pause));
    drop(handle);
    desk.test.shutdown().await;
}
