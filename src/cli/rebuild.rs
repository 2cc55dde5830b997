//! `hooklog rebuild`: the rows of a view, built again from the log.

use clap::{Args, builder::PossibleValuesParser};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::{
    CliError, Output,
    output::draw_target,
    place::{Place, PlaceArgs},
};
use crate::{
    model::Position,
    projection::{
        Projection, access::Access, dead_letters::DeadLetters, deliveries::Deliveries,
        idempotency_keys::IdempotencyKeys, metrics::Metrics, subscriptions::Subscriptions,
    },
};

/// Every view of a gateway.
const NAMES: [&str; 6] = [
    Access::NAME,
    DeadLetters::NAME,
    Deliveries::NAME,
    IdempotencyKeys::NAME,
    Metrics::NAME,
    Subscriptions::NAME,
];

#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    /// The view.
    #[arg(value_parser = PossibleValuesParser::new(NAMES))]
    projection: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// How a view does.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: String,
    position: Position,
}

pub(super) fn run(args: &RebuildArgs, output: &mut Output) -> Result<(), CliError> {
    let name = &args.projection;
    let (status, what) = match args.place.place()? {
        Place::Server(client) => {
            let path = ["v1", "projections", name, "_rebuild"];
            let status: Status = client.post(&path).send()?.parse()?;
            (status, "is being built again; its old rows serve meanwhile")
        }
        Place::Data(data) => {
            let bar = ProgressBar::with_draw_target(None, draw_target());
            bar.set_message(format!("{name} is being built again"));
            let position = data.held(async |handle| {
                if let Some(built) = handle.rebuild(name).await {
                    built?;
                }
                Ok(handle.log().head())
            });
            bar.finish_and_clear();
            let status = Status {
                name: name.clone(),
                position: position?,
            };
            (status, "was built again")
        }
    };
    if output.is_json() {
        output.json(&status)?;
    } else {
        let Status { name, position } = &status;
        output.line(format!("{name} {what}, as of position {position}"))?;
    }
    Ok(output.flush()?)
}
