//! The `hooklog` command.

use std::process::ExitCode;

/// A delivery makes some hundred small allocations on one thread and ends them on others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hooklog::cli::main()
}
