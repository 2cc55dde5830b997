//! Settings that cannot work are refused when they are set.

use std::{
    task::{Context, Waker},
    time::Duration,
};

use hooklog::{
    model::{
        Api, ApiId, Application, Auth, DeadLetterQueue, JwtAlgorithm, JwtClaim, JwtProfile,
        Message, OAuth2, Position, Proxy, ProxyKind, Secret, Signing, SigningKey, Ssl,
        Subscription,
    },
    runtime::ControlError,
    testing::TestRuntime,
};

async fn runtime(data: &tempfile::TempDir) -> (TestRuntime, ApiId) {
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let api = test
        .handle()
        .create_api(Api::named("orders"))
        .await
        .unwrap();
    (test, api.id)
}

fn subscription() -> Subscription {
    Subscription::to("https://example.com/hook").unwrap()
}

fn signed(key: &str) -> Signing {
    let secret = Secret::new(key);
    Signing {
        keys: vec![SigningKey::new(secret)],
    }
}

fn pointers(error: ControlError) -> Vec<String> {
    let ControlError::Invalid(invalid) = error else {
        panic!("{error}");
    };
    let pointers = invalid.problems.into_iter().map(|problem| problem.pointer);
    pointers.collect()
}

#[tokio::test]
async fn keys_and_stores_that_cannot_be_used_are_refused_and_nothing_is_sealed() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let handle = test.handle();
    let mut unusable = subscription();
    unusable.configuration.signing = Some(signed("whsec_abc"));
    unusable.configuration.ssl = Ssl {
        trust_store: Some("/u3+7QAAAAI=".to_owned()),
        key_store: Some(Secret::new("MIIKAAIBAw==")),
        ..Ssl::default()
    };
    let refused = handle.subscribe(api, unusable.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("JKS"), "{refused}");
    let named = [
        "/configuration/ssl/trustStore",
        "/configuration/signing/keys/0/secret",
    ];
    assert_eq!(pointers(refused), named);

    let mut usable = subscription();
    usable.configuration.signing = Some(signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    let usable = handle.subscribe(api, usable).await.unwrap();
    unusable.id = usable.id;
    unusable.configuration.ssl.trust_store = None;
    let refused = handle.update_subscription(unusable).await.unwrap_err();
    assert!(refused.to_string().contains("PKCS12"), "{refused}");
    let named = [
        "/configuration/ssl/keyStore",
        "/configuration/signing/keys/0/secret",
    ];
    assert_eq!(pointers(refused), named);
    // What is sealed already is looked at as well, and is fine.
    handle.update_subscription(usable).await.unwrap();
    // One secret and the check of the vault's key.
    assert_eq!(secrets(&data), 2);
    test.shutdown().await;
}

fn secrets(data: &tempfile::TempDir) -> usize {
    let files = std::fs::read_dir(data.path().join("secrets"));
    files.unwrap().count()
}

#[tokio::test]
async fn the_secrets_of_refused_settings_are_taken_back() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let handle = test.handle();
    let mut with_token = subscription();
    with_token.configuration.auth = Auth::Token {
        value: Secret::new("canary"),
    };
    let kept = handle.subscribe(api, with_token.clone()).await.unwrap();
    let before = secrets(&data);
    with_token.id = kept.id;
    let taken = handle.subscribe(api, with_token.clone()).await;
    assert!(taken.is_err(), "the id is taken");
    assert_eq!(secrets(&data), before);
    handle.close(kept.id).await.unwrap();
    let closed = handle.update_subscription(with_token).await;
    assert!(closed.is_err(), "it is closed");
    assert_eq!(secrets(&data), before);
    test.shutdown().await;
}

#[tokio::test]
async fn secrets_that_were_replaced_and_those_of_closed_subscriptions_are_removed() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let handle = test.handle();
    let before = secrets(&data);
    let token = |value: String| Auth::Token {
        value: Secret::new(value),
    };
    let mut with_token = subscription();
    with_token.configuration.auth = token("first".to_owned());
    let kept = handle.subscribe(api, with_token).await.unwrap();
    for number in 0..5 {
        let mut changed = kept.clone();
        changed.configuration.auth = token(format!("another-{number}"));
        handle.update_subscription(changed).await.unwrap();
        // Calls under the settings of before may be under way.
        assert_eq!(secrets(&data), before + 2);
    }
    let mut unchanged = handle.subscription(kept.id).await.unwrap();
    unchanged.configuration.rate_limit_per_second = Some(5);
    handle.update_subscription(unchanged).await.unwrap();
    assert_eq!(secrets(&data), before + 1);
    handle.close(kept.id).await.unwrap();
    test.settle().await;
    let gone = async {
        while secrets(&data) > before {
            test.clock().advance(Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    gone.expect("they are removed");
    test.shutdown().await;
}

#[tokio::test]
async fn what_changed_since_it_was_read_is_neither_deleted_nor_closed() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let handle = test.handle();
    let shop = handle.create_application(Application::named("shop"));
    let shop = shop.await.unwrap();
    let kept = handle.subscribe(api, subscription()).await.unwrap();
    let api = handle.api(api).unwrap();

    let mut changed = kept.clone();
    changed.configuration.rate_limit_per_second = Some(5);
    handle.update_subscription(changed).await.unwrap();
    let mut changed = Api::clone(&api);
    changed.description = "another".to_owned();
    handle.update_api(changed).await.unwrap();
    let mut changed = shop.clone();
    changed.description = "another".to_owned();
    handle.update_application(changed).await.unwrap();

    let head = handle.log().head();
    for refused in [
        handle.close_from(&kept).await.map(drop),
        handle.delete_api_from(&api).await,
        handle.delete_application_from(&shop).await,
    ] {
        assert!(
            matches!(refused, Err(ControlError::Changed { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(handle.log().head(), head);

    let kept = handle.subscription(kept.id).await.unwrap();
    handle.close_from(&kept).await.unwrap();
    test.settle().await;
    let api = handle.api(api.id).unwrap();
    handle.delete_api_from(&api).await.unwrap();
    let shop = handle.application(shop.id).unwrap();
    handle.delete_application_from(&shop).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn a_change_is_made_whole_when_its_caller_goes_away() {
    let data = tempfile::tempdir().unwrap();
    let (test, _) = runtime(&data).await;
    let handle = test.handle();
    for number in 0..20 {
        let mut api = Api::named(format!("abandoned {number}"));
        api.id = ApiId::from_uuid(uuid::Uuid::from_u128(number + 1));
        let id = api.id;
        let before = handle.log().head();
        let mut abandoned = Box::pin(handle.create_api(api));
        let _ = abandoned
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        drop(abandoned);
        let mut watch = handle.log().watch();
        watch.reach(before.next()).await.unwrap();
        // A change waits for the one before it.
        handle
            .create_api(Api::named(format!("next {number}")))
            .await
            .unwrap();
        handle.publish(id, Message::text("a")).await.unwrap();
    }
    test.shutdown().await;
}

#[tokio::test]
async fn a_callback_url_that_is_inherited_cannot_be_taken_away() {
    let data = tempfile::tempdir().unwrap();
    let (test, _) = runtime(&data).await;
    let handle = test.handle();
    let mut api = Api::named("with a callback");
    api.entrypoint.callback_url = Some("https://example.com/all".parse().unwrap());
    let mut api = handle.create_api(api).await.unwrap();
    let mut heir = subscription();
    heir.configuration.callback_url = None;
    let heir = handle.subscribe(api.id, heir).await.unwrap();
    let url = api.entrypoint.callback_url.take();
    let refused = handle.update_api(api.clone()).await.unwrap_err();
    assert!(
        refused.to_string().contains(&heir.id.to_string()),
        "{refused}"
    );
    assert_eq!(pointers(refused), ["/entrypoint/callbackUrl"]);
    let mut own = heir.clone();
    own.configuration.callback_url = url;
    handle.update_subscription(own).await.unwrap();
    handle.update_api(api).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn nothing_is_taken_in_once_the_gateway_shuts_down() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let handle = test.handle();
    handle.publish(api, Message::text("a")).await.unwrap();
    assert!(handle.log().head() > Position::ZERO);
    test.shutdown().await;
    let refused = handle.publish(api, Message::text("b")).await.unwrap_err();
    assert!(refused.to_string().contains("shutting down"), "{refused}");
    // A handle that is still held keeps nothing of the directory.
    let again = TestRuntime::start(data.path(), 2).await.unwrap();
    again.shutdown().await;
}

fn jwt_profile(key: &str) -> JwtProfile {
    JwtProfile {
        endpoint: "https://example.com/token".parse().unwrap(),
        issuer: "gateway".to_owned(),
        subject: "consumer".to_owned(),
        audience: "https://example.com/".to_owned(),
        signature_algorithm: JwtAlgorithm::HmacHs256,
        key_content: Secret::new(key),
        expiration_seconds: 60,
        key_id: None,
        custom_claims: Vec::new(),
    }
}

#[tokio::test]
async fn an_assertion_that_cannot_be_made_is_refused_by_what_is_wrong_with_it() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let claim = |name: &str| JwtClaim {
        name: name.to_owned(),
        value: "v".to_owned(),
    };
    let long_enough = "0123456789abcdef0123456789abcdef";
    let empty = JwtProfile {
        subject: String::new(),
        audience: String::new(),
        ..jwt_profile("")
    };
    let claims = JwtProfile {
        custom_claims: ["a", "exp", "a", ""].map(claim).into(),
        ..jwt_profile(long_enough)
    };
    let rsa = JwtProfile {
        signature_algorithm: JwtAlgorithm::RsaRs256,
        ..jwt_profile(long_enough)
    };
    for (profile, named) in [
        (empty, &["/subject", "/audience", "/keyContent"][..]),
        (
            claims,
            &[
                "/customClaims/1/name",
                "/customClaims/2/name",
                "/customClaims/3/name",
            ],
        ),
        (rsa, &["/keyContent"]),
        (jwt_profile("canary"), &["/keyContent"]),
    ] {
        let mut subscription = subscription();
        subscription.configuration.auth = Auth::JwtProfileOauth2(Box::new(profile));
        let refused = test
            .handle()
            .subscribe(api, subscription)
            .await
            .unwrap_err();
        assert!(!refused.to_string().contains("canary"), "{refused}");
        let named = named
            .iter()
            .map(|name| format!("/configuration/auth{name}"));
        assert_eq!(pointers(refused), named.collect::<Vec<_>>());
    }
    let mut usable = subscription();
    usable.configuration.auth = Auth::JwtProfileOauth2(Box::new(jwt_profile(long_enough)));
    test.handle().subscribe(api, usable).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn a_token_endpoint_that_must_not_be_called_and_a_scope_that_is_none_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    for (scope, named) in [
        ("two scopes", "/configuration/auth/scopes/0"),
        ("read", "/configuration/auth/endpoint"),
    ] {
        let mut subscription = subscription();
        subscription.configuration.auth = Auth::Oauth2(OAuth2 {
            endpoint: "https://169.254.169.254/token".parse().unwrap(),
            client_id: "c".to_owned(),
            client_secret: Secret::new("s"),
            scopes: vec![scope.to_owned()],
        });
        let refused = test.handle().subscribe(api, subscription).await;
        assert_eq!(pointers(refused.unwrap_err()), [named]);
    }
    test.shutdown().await;
}

#[tokio::test]
async fn a_proxy_that_must_not_be_called_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (test, _) = runtime(&data).await;
    let mut api = Api::named("behind a proxy");
    api.entrypoint.proxy = Some(Proxy {
        kind: ProxyKind::Http,
        host: "10.0.0.1".to_owned(),
        port: 3128,
        username: None,
        password: None,
    });
    let refused = test.handle().create_api(api).await.unwrap_err();
    assert_eq!(pointers(refused), ["/entrypoint/proxy/host"]);
    test.shutdown().await;
}

#[tokio::test]
async fn every_url_that_can_be_set_is_refused_where_it_must_not_be_called() {
    let data = tempfile::tempdir().unwrap();
    let (test, api) = runtime(&data).await;
    let head = test.handle().log().head();
    for url in [
        "https://10.0.0.1/",
        "https://0x0a.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:192.168.0.1]/",
        "https://[fd00::1]/",
        "https://box.internal/",
        "https://box/",
    ] {
        let Ok(url) = url.parse::<hooklog::model::CallbackUrl>() else {
            panic!("{url} is one, though none that may be called");
        };
        for place in ["/entrypoint/callbackUrl", "/entrypoint/dlq/url"] {
            let mut api = Api::named("elsewhere");
            match place {
                "/entrypoint/dlq/url" => {
                    api.entrypoint.dlq = DeadLetterQueue::Http { url: url.clone() };
                }
                _ => api.entrypoint.callback_url = Some(url.clone()),
            }
            let refused = test.handle().create_api(api).await.unwrap_err();
            assert_eq!(pointers(refused), [place], "{url}");
        }
        let key = "0123456789abcdef0123456789abcdef";
        let oauth2 = Auth::Oauth2(OAuth2 {
            endpoint: url.clone(),
            client_id: "c".to_owned(),
            client_secret: Secret::new("s"),
            scopes: Vec::new(),
        });
        let jwt = Auth::JwtProfileOauth2(Box::new(JwtProfile {
            endpoint: url.clone(),
            ..jwt_profile(key)
        }));
        for (callback, auth, place) in [
            (Some(&url), Auth::None, "/configuration/callbackUrl"),
            (None, oauth2, "/configuration/auth/endpoint"),
            (None, jwt, "/configuration/auth/endpoint"),
        ] {
            let mut subscription = subscription();
            if let Some(callback) = callback {
                subscription.configuration.callback_url = Some(callback.clone());
            }
            subscription.configuration.auth = auth;
            let refused = test.handle().subscribe(api, subscription).await;
            assert_eq!(pointers(refused.unwrap_err()), [place], "{url}");
        }
    }
    assert_eq!(test.handle().log().head(), head, "nothing was done");
    test.shutdown().await;
}

#[tokio::test]
async fn a_handle_that_is_still_held_keeps_no_directory() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let held = test.handle();
    let api = held.create_api(Api::named("a")).await.unwrap();
    test.shutdown().await;
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    assert_eq!(test.handle().api(api.id).unwrap(), api.into());
    assert!(
        held.create_api(Api::named("b")).await.is_err(),
        "it is of the runtime before"
    );
    test.shutdown().await;
}
