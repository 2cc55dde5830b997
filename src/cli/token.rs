//! `hooklog token`: who may come in.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{
    CliError, Output,
    client::Answer,
    output::{Rows, Tone},
    place::{Place, PlaceArgs},
};
use crate::model::{Role, Timestamp, Token, TokenId};

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create a token. Its secret is shown this once.
    Create(CreateArgs),
    /// List every token, oldest first, without its secret.
    List {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Revoke a token: it is refused from then on.
    Revoke {
        /// The token, by id.
        token: TokenId,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What it is for.
    name: String,
    /// What its bearer may do: `admin`, `operator`, `publisher` or `viewer`. For the keys of an
    /// application see `hooklog application key`.
    #[arg(long, value_parser = parse_role)]
    role: Role,
    /// It is refused from this time on (RFC 3339); never when absent.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    #[command(flatten)]
    place: PlaceArgs,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let mut roles = Role::ALL.into_iter().filter(|role| *role != Role::Consumer);
    let found = roles.find(|role| role.as_str() == text);
    found.ok_or_else(|| "expected admin, operator, publisher or viewer".to_owned())
}

/// A token as it is now.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    #[serde(flatten)]
    token: Shown,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

/// A token that was just created, with its secret.
#[derive(Serialize, Deserialize)]
struct New {
    #[serde(flatten)]
    token: Shown,
    secret: String,
}

/// A token without what is beside it: its own type takes no other field.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: TokenId,
    name: String,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<Known>,
}

impl From<Token> for Shown {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            application: token.application.map(|id| id.to_string()),
            expires_at: token.expires_at,
        }
    }
}

pub(super) fn run(args: &TokenArgs, output: &mut Output) -> Result<(), CliError> {
    match &args.command {
        TokenCommand::Create(args) => create(args, output),
        TokenCommand::List { place } => list(place, output),
        TokenCommand::Revoke { token, place } => {
            match place.place()? {
                Place::Server(client) => {
                    let id = token.to_string();
                    client.delete(&["v1", "tokens", &id]).send()?;
                }
                Place::Data(data) => {
                    data.held(async |handle| Ok(handle.revoke_token(*token).await?))?;
                }
            }
            output.done("revoked", &token.to_string())
        }
    }
}

fn create(args: &CreateArgs, output: &mut Output) -> Result<(), CliError> {
    let token = Token {
        expires_at: args.expires_at,
        ..Token::named(&args.name, args.role)
    };
    match args.place.place()? {
        Place::Server(client) => {
            let answer = client.post(&["v1", "tokens"]).json(&token)?.send()?;
            show_new(&answer, output)
        }
        Place::Data(data) => {
            let made = data.held(async |handle| Ok(handle.create_token(token).await?))?;
            let new = New {
                token: made.0.into(),
                secret: made.1.reveal().to_owned(),
            };
            show(&new, output)
        }
    }
}

/// Shows the token of an answer, with its secret.
pub(super) fn show_new(answer: &Answer, output: &mut Output) -> Result<(), CliError> {
    show(&answer.parse()?, output)
}

fn show(new: &New, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        output.json(new)?;
    } else {
        output.line(format!("Id     {}", new.token.id))?;
        output.line(format!("Role   {}", new.token.role))?;
        output.line(format!("Secret {}  (shown this once)", new.secret))?;
    }
    Ok(output.flush()?)
}

fn list(place: &PlaceArgs, output: &mut Output) -> Result<(), CliError> {
    let tokens = match place.place()? {
        Place::Server(client) => {
            let answer: Tokens = client.get(&["v1", "tokens"]).send()?.parse()?;
            answer.tokens
        }
        Place::Data(data) => {
            let rows = data.held(async |handle| Ok(handle.access().tokens()?))?;
            let known = rows.into_iter().map(|row| Known {
                token: row.token.into(),
                created_at: row.created_at,
                revoked_at: row.revoked_at,
            });
            known.collect()
        }
    };
    if output.is_json() {
        tokens.iter().try_for_each(|token| output.json(token))?;
        return Ok(output.flush()?);
    }
    let head = ["Name", "Role", "Created", "Expires", "Revoked", "Id"];
    let mut rows = Rows::new(head).tone(4, |text| (!text.is_empty()).then_some(Tone::Bad));
    for known in &tokens {
        let time = |time: Option<Timestamp>| time.map_or_else(String::new, |at| at.to_string());
        rows.push([
            known.token.name.clone(),
            known.token.role.to_string(),
            known.created_at.to_string(),
            time(known.token.expires_at),
            time(known.revoked_at),
            known.token.id.to_string(),
        ]);
    }
    output.table(&rows, "No token.")?;
    Ok(output.flush()?)
}
