//! What several behaviours are tested with.

pub(crate) mod browser;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod hostile;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod secrets;
pub(crate) mod seed;
