//! Where something is looked up: a gateway that runs, or the directory of one that does not.

use std::path::PathBuf;

use clap::Args;

use super::{
    CliError,
    client::{Client, ServerArgs},
    data::DataArgs,
};

/// The variable that names a data directory.
const DATA_VARIABLE: &str = "HOOKLOG_DATA";

/// Names a gateway that runs, or a data directory.
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    /// Use this data directory, on which no gateway may run, instead of asking a gateway.
    /// Default: the environment's `HOOKLOG_DATA`, if --server is not given
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Where something is looked up.
pub(super) enum Place {
    /// In this directory.
    Data(DataArgs),
    /// At this gateway.
    Server(Client),
}

impl PlaceArgs {
    /// Where that is. A flag wins over the environment, and there a directory over a gateway.
    pub(super) fn place(&self) -> Result<Place, CliError> {
        let named = std::env::var_os(DATA_VARIABLE).filter(|path| !path.is_empty());
        let data = match (&self.data, &self.server.server) {
            (Some(data), _) => Some(data.clone()),
            (None, Some(_)) => None,
            (None, None) => named.map(PathBuf::from),
        };
        Ok(match data {
            Some(data) => Place::Data(DataArgs::at(data)),
            None => Place::Server(self.server.client()?),
        })
    }

    /// The gateway; a data directory cannot do what is asked for, because of this.
    pub(super) fn gateway(&self, why: &str) -> Result<Client, CliError> {
        match self.place()? {
            Place::Server(client) => Ok(client),
            Place::Data(_) => Err(CliError::usage(format!(
                "a data directory cannot be asked for this: {why}; name a gateway with --server"
            ))),
        }
    }
}
