//! What tests of programs that embed hooklog stand on.

pub mod history;
pub mod memory_history;
