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
    /// Prepares to serve this gateway of a runtime, its tokens known.
    pub(super) async fn open(
        handle: &Handle,
        listener: TcpListener,
        gateway: Gateway,
    ) -> Result<Self, CliError> {
        let address: SocketAddr = listener.local_addr()?;
        let url = format!("http://{address}");
        let token = first_token(handle).await?;
        let console = Arc::new(Console::new(handle.clone()));
        let sign_in = sign_in_path(handle, &console)?.map(|path| format!("{url}{path}"));
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
    let access = handle.access();
    access.at(handle.log().head(), RECOVERY_MAX).await?;
    if !access.tokens()?.is_empty() {
        return Ok(None);
    }
    let first = Token::named("first admin", Role::Admin);
    let (_, secret) = handle.create_token(first).await?;
    Ok(Some(secret))
}

/// A path of the console that signs in once, as the first admin whose token is in force.
fn sign_in_path(handle: &Handle, console: &Console) -> Result<Option<String>, CliError> {
    let now = handle.now();
    let tokens = handle.access().tokens()?;
    let mut admins = tokens.iter().filter(|row| row.token.role == Role::Admin);
    let admin = admins.find(|row| row.is_valid(now));
    Ok(admin.map(|row| console.sign_in_path(row.token.id)))
}
