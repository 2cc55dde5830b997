//! What several behaviours are tested with.

pub(crate) mod hostile;
pub(crate) mod requests;
