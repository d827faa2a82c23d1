//! Simulated worlds: `sim [OPTIONS]`.

use std::process::ExitCode;

use clap::Parser as _;
use fumocast_tests::sim::command::{self, Options};

fn main() -> ExitCode {
    command::main(&Options::parse())
}
