//! Tells open pages that there is something new.
//!
//! Only *that* there is: the script then gets the page again and takes over its live parts. So a
//! part is rendered in one place alone, and a stream holds nothing that the page would not show.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};

use super::{
    answer::{Answer, Trouble},
    visit::Visit,
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
    let state = (visit.handle().clone(), status.name, after);
    Ok(Answer::Events(stream::unfold(state, next).boxed()))
}

async fn next(
    (handle, name, after): (Handle, &'static str, Position),
) -> Option<(Bytes, (Handle, &'static str, Position))> {
    let changed = handle.projection_changed(name, after).fuse();
    let Ok(position) = tokio::time::timeout(HEARTBEAT, changed).await else {
        let text = Bytes::from_static(b": still here\n\n");
        return Some((text, (handle, name, after)));
    };
    let position = position?;
    tokio::time::sleep(PAUSE).await;
    let text = format!("id: {position}\ndata: {position}\n\n");
    Some((text.into(), (handle, name, position)))
}
