//! The `hooklog` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    hooklog::cli::main()
}
