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
    model::{Role, Token, TokenId},
    projection::{
        View, ViewError,
        access::{Access, TokenRow},
    },
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
    /// Prepares to serve this gateway of a runtime, whose [`tokens`] are these.
    pub(super) async fn open(
        handle: &Handle,
        tokens: &[TokenRow],
        listener: TcpListener,
        gateway: Gateway,
    ) -> Result<Self, CliError> {
        let address: SocketAddr = listener.local_addr()?;
        let url = format!("http://{address}");
        let console = Arc::new(Console::new(handle.clone()));
        let pages = Arc::clone(&console);
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let server = Server::listen(Arc::new(gateway.with_pages(pages)), listener, workers)?;
        // Last, so that little can come between its making and its being shown.
        let (admin, token) = if tokens.is_empty() {
            let first = Token::named("first admin", Role::Admin);
            let (first, secret) = handle.create_token(first).await?;
            (Some(first.id), Some(secret))
        } else {
            (first_admin(handle, tokens), None)
        };
        let sign_in = admin.map(|admin| format!("{url}{}", console.sign_in_path(admin)));
        Ok(Self {
            server,
            url,
            token,
            sign_in,
        })
    }
}

/// Every token, once all events are folded. Damaged rows are built again first.
pub(super) async fn tokens(handle: &Handle) -> Result<Vec<TokenRow>, ViewError> {
    answered(handle, View::tokens).await
}

/// What is asked of the rows of tokens, once all events are folded; asked again where they are found
/// damaged, once they are built anew.
async fn answered(
    handle: &Handle,
    ask: impl Fn(&View<Access>) -> Result<Vec<TokenRow>, ViewError>,
) -> Result<Vec<TokenRow>, ViewError> {
    let access = handle.access();
    loop {
        access.at(handle.log().head(), RECOVERY_MAX).await?;
        match ask(&access) {
            Err(ViewError::Mending { .. }) => {}
            Err(ViewError::Rows(error)) if error.is_damage() => {}
            told => return told,
        }
    }
}

/// The first admin's token that is in force.
fn first_admin(handle: &Handle, tokens: &[TokenRow]) -> Option<TokenId> {
    let now = handle.now();
    let mut admins = tokens.iter().filter(|row| row.token.role == Role::Admin);
    let admin = admins.find(|row| row.is_valid(now));
    admin.map(|row| row.token.id)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        projection::{Projection as _, RowError},
        testing::TestRuntime,
    };

    /// Longer than anything here takes, so that what waits for ever is seen to.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_start_that_meets_damaged_rows_of_tokens_builds_them_again_and_goes_on() {
        let data = tempfile::tempdir().unwrap();
        let test = TestRuntime::start(data.path(), 1).await.unwrap();
        let handle = test.handle();
        let publisher = Token::named("a publisher", Role::Publisher);
        let (token, _) = handle.create_token(publisher).await.unwrap();

        let asked = Cell::new(0);
        let known = answered(&handle, |access| {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => access.read(|_| Err(RowError::Damaged("made up".to_owned()).into())),
                // As where somebody else has met the damage a moment before.
                2 => Err(ViewError::Mending {
                    projection: Access::NAME,
                }),
                _ => access.tokens(),
            }
        });
        let known = timeout(LONG, known).await.expect("they are built again");
        let known: Vec<_> = known.unwrap().iter().map(|row| row.token.id).collect();
        assert_eq!((known, asked.get()), (vec![token.id], 3));
        test.shutdown().await;
    }
}
