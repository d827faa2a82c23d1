//! The `dm-bridge` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    dm_bridge::cli::run(std::env::args_os())
}
