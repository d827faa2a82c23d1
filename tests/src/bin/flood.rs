//! Cost of a flood of forged packets beside the true ones, in one process.

use std::process::ExitCode;

use clap::Parser;
use fumocast_tests::flood::{Flood, run};

/// Measure the cost of forged packets beside the true ones
///
/// Prints whether the image is exact, the forged packets that were stored or accepted into a table,
/// the additional true packets, and the memory.
///
/// Exit codes: 0 promises kept, 1 a promise was broken.
#[derive(Debug, Parser)]
#[command(name = "flood")]
struct Options {
    /// Forged packets at least
    #[arg(long, default_value_t = 1_000_000)]
    forged: u64,
    /// Forged packets for each true one
    #[arg(long, default_value_t = 10.0)]
    ratio: f64,
    /// Source symbols of the image, of 256 octets
    #[arg(long, default_value_t = 48_000)]
    symbols: u32,
    /// Source blocks
    #[arg(long, default_value_t = 12)]
    blocks: u8,
    /// True packets that are lost, in percent
    #[arg(long, default_value_t = 10)]
    loss: u8,
    /// Seed of losses and forgeries
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let outcome = run(Flood {
        symbols: options.symbols,
        blocks: options.blocks,
        ratio: options.ratio,
        forged: options.forged,
        loss_percent: options.loss,
        seed: options.seed,
    })?;
    fumocast_tests::print_line!("{}", serde_json::to_string_pretty(&outcome)?);
    let kept = outcome.forged_taken == 0 && outcome.completion <= 1.05;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
