//! The `receiver` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    receiver::cli::run(std::env::args_os())
}
