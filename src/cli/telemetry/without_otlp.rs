//! What stands in for the export of spans where it is not built in.

use tracing_subscriber::layer::Identity;
use url::Url;

use crate::cli::CliError;

/// There is none.
pub(super) enum Exporter {}

impl Exporter {
    pub(super) fn start(_: &Url) -> Result<Self, CliError> {
        Err(CliError::config(
            "tracing.otlp_endpoint: this hooklog is built without the export of spans; build it \
             with `--features otlp`, or leave the endpoint out",
        ))
    }

    pub(super) const fn layer(&self) -> Identity {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "it stands in for one that waits")]
    pub(super) async fn end(self) {
        match self {}
    }
}
