//! What views keep of a cut that tell of single messages, or count them: that there was one. A
//! message below it may still be told of, by events of deliveries that straddle the cut; it gets no
//! row again.
//!
//! | key | value |
//! |---|---|
//! | `f` | where the log begins (u64); absent while it is whole |

use super::{ReadRows, RowError, Rows, codec::u64_at};
use crate::model::{MessageRef, Position};

const FIRST: &[u8] = b"f";

/// The log begins here.
pub(super) fn below(rows: &mut Rows<'_>, first: Position) {
    rows.put(FIRST, first.get().to_be_bytes());
}

/// Where the log begins; `None` while it is whole.
pub(super) fn first(rows: &dyn ReadRows) -> Result<Option<Position>, RowError> {
    let first = rows.look(FIRST)?;
    first
        .map(|first| u64_at(&first, 0).map(Position::new))
        .transpose()
}

/// Whether a message was cut off.
pub(super) fn is_forgotten(rows: &dyn ReadRows, message: &MessageRef) -> Result<bool, RowError> {
    Ok(first(rows)?.is_some_and(|first| message.position < first))
}
