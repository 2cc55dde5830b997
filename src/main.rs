//! The `hooklog` command.

use std::process::ExitCode;

/// A delivery makes some hundred small allocations on one thread and ends them on others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    forgo_huge_pages();
    hooklog::cli::main()
}

/// A huge page is cleared whole when its first byte is written, and given back whole: with them a
/// delivery costs a tenth more, and the process takes 100 MiB more. Where the system
/// refuses, they stay.
#[cfg(target_os = "linux")]
fn forgo_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
