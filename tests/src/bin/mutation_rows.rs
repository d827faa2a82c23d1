//! Takes each defence out of the product and runs the test that must notice.

use std::process::ExitCode;

use clap::Parser as _;
use fumocast_tests::mutations::{Options, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let all_caught = run(&Options::parse()).await?;
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
