//! Applies each mutation patch and runs the test that must fail.

use std::process::ExitCode;

use clap::Parser as _;
use fumocast_tests::mutants_check::{Options, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let all_caught = run(&Options::parse()).await?;
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
