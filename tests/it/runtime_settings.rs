//! Settings that cannot work are refused when they are set.

use hooklog::{
    model::{Api, ApiId, Proxy, ProxyKind, Secret, Signing, SigningKey, Ssl, Subscription},
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
        keys: vec![SigningKey { secret }],
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
    let files = std::fs::read_dir(data.path().join("secrets"))
        .unwrap()
        .count();
    assert_eq!(files, 2);
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
