//! The `carousel` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    carousel::cli::run(std::env::args_os())
}
