//! Tokens: created with a secret that is told once, in force at once, refused once revoked.

use hooklog::{
    model::{Api, Role, Token},
    runtime::{ControlError, TokenSecret},
    testing::TestRuntime,
};

#[tokio::test]
async fn a_token_is_in_force_when_it_is_created_and_refused_when_it_is_revoked() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let created = test
        .handle()
        .create_token(Token::named("ci", Role::Publisher))
        .await;
    let (token, secret) = created.unwrap();
    assert!(
        secret.reveal().starts_with("hl_") && secret.reveal().len() == 46,
        "256 bits"
    );
    let hash = TokenSecret::hash(secret.reveal());
    let test = test.crash_and_reopen().await.unwrap();
    test.settle().await;
    let handle = test.handle();
    let row = handle.access().bearer(&hash).unwrap().unwrap();
    assert_eq!(row.token, token);
    handle.revoke_token(token.id).await.unwrap();
    assert_eq!(handle.access().bearer(&hash).unwrap(), None);
    assert!(
        handle
            .access()
            .token(token.id)
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
    handle.revoke_token(token.id).await.unwrap();
    test.shutdown().await;
}

#[tokio::test]
async fn no_secret_of_a_token_is_on_disk() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let created = test
        .handle()
        .create_token(Token::named("ci", Role::Admin))
        .await;
    let (_, secret) = created.unwrap();
    test.shutdown().await;
    let secret = secret.reveal().as_bytes().to_vec();
    for entry in walk(data.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        let found = bytes.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{} holds it", entry.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.flat_map(|path| {
        if path.is_dir() {
            walk(&path)
        } else {
            vec![path]
        }
    });
    found.collect()
}

#[tokio::test]
async fn a_key_of_an_application_that_is_not_there_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let test = TestRuntime::start(data.path(), 1).await.unwrap();
    let handle = test.handle();
    let api = handle.create_api(Api::named("a")).await.unwrap();
    let foreign = hooklog::model::ApplicationId::from_uuid(*api.id.as_uuid());
    let key = Token::named("k", Role::Consumer).of(foreign);
    let refused = handle.create_token(key).await.unwrap_err();
    assert!(
        matches!(refused, ControlError::UnknownApplication(_)),
        "{refused}"
    );
    test.shutdown().await;
}
