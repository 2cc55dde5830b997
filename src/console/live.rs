//! Tells open pages that there is something new.
//!
//! Only *that* there is: the script then gets the page again and takes over its live parts. So a
//! part is rendered in one place alone, and a stream holds nothing that the page would not show.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    answer::{Answer, Trouble},
    visit::{StillIn, Visit},
};
use crate::{model::Position, runtime::Handle};

/// Shortest time between two messages of a stream: nobody reads faster.
const PAUSE: Duration = Duration::from_millis(500);
/// A comment is sent when nothing else was for so long.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The stream of changes of a projection.
pub(super) fn changes(visit: &Visit) -> Result<Answer, Trouble> {
    let name: String = visit.parameter("projection")?;
    let statuses = visit.handle().projections();
    let known = statuses.into_iter().find(|status| status.name == name);
    let Some(status) = known else {
        return Err(Trouble::Missing(format!("there is no projection {name:?}")));
    };
    let resumed = visit.last_event_id().and_then(|id| id.trim().parse().ok());
    let after = resumed.unwrap_or(status.position);
    let (room, still_in) = visit.stream()?;
    let open = Open {
        handle: visit.handle().clone(),
        name: status.name,
        after,
        still_in,
        _room: room,
    };
    Ok(Answer::Events(stream::unfold(open, next).boxed()))
}

/// A stream that is open.
struct Open {
    handle: Handle,
    name: &'static str,
    after: Position,
    still_in: StillIn,
    _room: OwnedSemaphorePermit,
}

async fn next(mut open: Open) -> Option<(Bytes, Open)> {
    let changed = open.handle.projection_changed(open.name, open.after).fuse();
    let text = match tokio::time::timeout(HEARTBEAT, changed).await {
        Ok(position) => {
            open.after = position?;
            tokio::time::sleep(PAUSE).await;
            let position = open.after;
            format!("id: {position}\ndata: {position}\n\n").into()
        }
        Err(_) => Bytes::from_static(b": still here\n\n"),
    };
    open.still_in.holds().then_some((text, open))
}
