//! A flood of forged packets beside the true ones, in one process: what it costs.

use std::process::ExitCode;

use clap::Parser;
use fumocast_tests::flood::{Flood, run};

/// Ten forged packets for each true one, a million of them: is the image exact, is any forged packet
/// stored or taken into a table, how many true packets more does it take, how much memory?
///
/// Exit codes: 0 as promised, 1 not.
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
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    let kept = outcome.forged_taken == 0 && outcome.completion <= 1.05;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
