//! What views of single messages keep of a cut: that there was one. A message below it may still
//! be told of, by events of deliveries that straddle the cut; it gets no row again.
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

/// Whether a message was cut off.
pub(super) fn is_forgotten(rows: &dyn ReadRows, message: &MessageRef) -> Result<bool, RowError> {
    let first = rows.look(FIRST)?;
    let first = first.map(|first| u64_at(&first, 0)).transpose()?;
    Ok(first.is_some_and(|first| message.position < Position::new(first)))
}
