//! The hooklog command.
fn main() {}
