//! Tokens: who may come in.

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::{
    call::Call,
    operation::{Operation, Verb, json, schema},
    problem::Problem,
    reply::Reply,
};
use crate::{
    model::{Permission, Timestamp, Token},
    projection::access::TokenRow,
};

pub(in crate::http) const OPERATIONS: &[Operation] = &[
    Operation::get(
        "listTokens",
        "/v1/tokens",
        "Every token, oldest first, without its secret.",
        schema::<Tokens>,
        |call| async move { list(&call) }.boxed(),
    )
    .needs(Permission::Manage),
    Operation::change(
        "createToken",
        Verb::Post,
        "/v1/tokens",
        "Create a token, or a key of an application. Its secret is in the answer, and never shown again.",
        |call| async move { create(&call).await }.boxed(),
    )
    .body(json(schema::<Token>))
    .answers(201, json(schema::<NewToken>)),
    Operation::change(
        "revokeToken",
        Verb::Delete,
        "/v1/tokens/{token}",
        "Revoke a token. It is refused from the answer on.",
        |call| async move { revoke(&call).await }.boxed(),
    ),
];

/// Every token.
#[derive(Serialize, JsonSchema)]
struct Tokens {
    /// The tokens, oldest first.
    tokens: Vec<KnownToken>,
}

/// A token as it is now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct KnownToken {
    #[serde(flatten)]
    token: Token,
    /// When it was created.
    created_at: Timestamp,
    /// Since when it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

/// A token that was just created.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewToken {
    #[serde(flatten)]
    token: Token,
    /// What its bearer shows. Keep it: it is never shown again.
    secret: String,
}

impl From<TokenRow> for KnownToken {
    fn from(row: TokenRow) -> Self {
        Self {
            token: row.token,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        }
    }
}

fn list(call: &Call) -> Result<Reply, Problem> {
    let tokens = call.handle().access().tokens()?;
    let tokens = tokens.into_iter().map(KnownToken::from).collect();
    Reply::json(200, &Tokens { tokens })
}

async fn create(call: &Call) -> Result<Reply, Problem> {
    let token: Token = call.json()?;
    if !token.id.is_nil() {
        return Err(Problem::field(
            "/id",
            "is given by the gateway; leave it out",
        ));
    }
    let (token, secret) = call.handle().create_token(token).await?;
    let secret = secret.reveal().to_owned();
    Reply::json(201, &NewToken { token, secret })
}

async fn revoke(call: &Call) -> Result<Reply, Problem> {
    call.handle().revoke_token(call.parameter("token")?).await?;
    Ok(Reply::done())
}
