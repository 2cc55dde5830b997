//! What tests of programs that embed hooklog stand on.

pub mod given;
