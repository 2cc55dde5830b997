//! The listener of a gateway with everything that is served on it, as `serve` and `demo` have it.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use super::CliError;
use crate::{
    console::Console,
    http::{Gateway, Server},
    model::{Role, Token},
    projection::{ViewError, access::TokenRow},
    runtime::{Handle, TokenSecret},
};

/// Longest wait for the tokens of a large log to be known, when their rows are built again.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

/// A gateway's API and console, ready to be served.
pub(super) struct Site {
    /// Serves it.
    pub(super) server: Server,
    /// Where.
    pub(super) url: String,
    /// The first token of a new data directory, for the one moment in which it is shown.
    pub(super) token: Option<TokenSecret>,
    /// A link that signs in once, as an admin; `None` where no admin's token is in force.
    pub(super) sign_in: Option<String>,
}

impl Site {
    /// Prepares to serve this gateway of a runtime, whose tokens are known.
    pub(super) async fn open(
        handle: &Handle,
        listener: TcpListener,
        gateway: Gateway,
    ) -> Result<Self, CliError> {
        let address: SocketAddr = listener.local_addr()?;
        let url = format!("http://{address}");
        let token = first_token(handle).await?;
        let console = Arc::new(Console::new(handle.clone()));
        let sign_in = sign_in_path(handle, &console).await?;
        let sign_in = sign_in.map(|path| format!("{url}{path}"));
        let gateway = gateway.with_pages(console);
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            server: Server::listen(Arc::new(gateway), listener, workers)?,
            url,
            token,
            sign_in,
        })
    }
}

/// Makes the first token of a new data directory.
async fn first_token(handle: &Handle) -> Result<Option<TokenSecret>, CliError> {
    if !tokens(handle).await?.is_empty() {
        return Ok(None);
    }
    let first = Token::named("first admin", Role::Admin);
    let (_, secret) = handle.create_token(first).await?;
    Ok(Some(secret))
}

/// Every token, once all events are folded. Damaged rows are built again first.
pub(super) async fn tokens(handle: &Handle) -> Result<Vec<TokenRow>, ViewError> {
    let access = handle.access();
    loop {
        access.at(handle.log().head(), RECOVERY_MAX).await?;
        match access.tokens() {
            Err(ViewError::Mending { .. }) => {}
            Err(ViewError::Rows(error)) if error.is_damage() => {}
            told => return told,
        }
    }
}

/// A path of the console that signs in once, as the first admin whose token is in force.
async fn sign_in_path(handle: &Handle, console: &Console) -> Result<Option<String>, CliError> {
    let now = handle.now();
    let tokens = tokens(handle).await?;
    let mut admins = tokens.iter().filter(|row| row.token.role == Role::Admin);
    let admin = admins.find(|row| row.is_valid(now));
    Ok(admin.map(|row| console.sign_in_path(row.token.id)))
}
