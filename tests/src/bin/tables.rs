//! Measures what symbol tables cost on air and what they miss, and what the receiver's check costs.
//!
//!   tables              received symbols that find no table, by loss; share on air; late tune-in
//!   tables check        packets a second of the receiver's check, and of bare SHA-256

use clap::{Parser, Subcommand};
use fumocast_tests::{
    check,
    tables::{Heard, Loss, late, shape, share, steady},
};
use proto::trust::plan::PlanShape;
use serde_json::json;

/// Measures symbol tables and the receiver's check.
#[derive(Debug, Parser)]
#[command(name = "tables")]
struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Mebibytes of the image
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Loss in percent that the tables are made for
    #[arg(long, default_value_t = 30)]
    budget: u8,
    /// Runs of two passes for each line
    #[arg(long, default_value_t = 8)]
    runs: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object for each line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Packets a second of the receiver's check, alternating with bare SHA-256 over the same octets
    Check,
}

const BURSTS: [f64; 4] = [1.0, 8.0, 32.0, 128.0];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(Verb::Check) = options.verb {
        let result = check::run(9)?;
        println!("{}", if options.json { result.json() } else { result.text() });
        return Ok(());
    }
    let shape = shape(options.size << 20, options.budget)?;
    on_air(&options)?;
    if !options.json {
        println!("\nloss     received data symbols that find no table, by mean burst of packets");
        println!("         even       8       32      128");
    }
    for percent in (0..=50).step_by(5) {
        line(&options, shape, percent);
    }
    let budget = Loss { share: f64::from(options.budget) / 100.0, burst: 1.0 };
    let missed: f64 =
        (0..options.runs * 8).map(|run| late(shape, budget, options.seed + run)).sum();
    #[expect(clippy::cast_precision_loss, reason = "few runs")]
    let mean = missed / (options.runs * 8) as f64;
    if options.json {
        println!("{}", json!({ "late_tune_in_segments": mean }));
    } else {
        println!("\nlate tune-in, anywhere in the plan, at the budget: {mean:.2} segments missed");
    }
    Ok(())
}

fn on_air(options: &Options) -> anyhow::Result<()> {
    for mebibytes in [options.size, 256, 1024] {
        let share = share(shape(mebibytes << 20, options.budget)?);
        let (packets, octets) = (share.packets_percent, share.octets_percent);
        if options.json {
            println!(
                "{}",
                json!({ "mebibytes": mebibytes, "packets_percent": packets, "octets_percent": octets })
            );
        } else {
            println!(
                "{mebibytes:5} MiB: tables are {packets:.2} % of packets, {octets:.2} % of octets"
            );
        }
    }
    Ok(())
}

fn line(options: &Options, shape: PlanShape, percent: u8) {
    let found = BURSTS.map(|burst| {
        let loss = Loss { share: f64::from(percent) / 100.0, burst };
        let runs = (0..options.runs).map(|run| steady(shape, loss, 2, options.seed + run));
        runs.fold(Heard::default(), |sum, one| Heard {
            received: sum.received + one.received,
            unproven: sum.unproven + one.unproven,
        })
        .unproven_percent()
    });
    if options.json {
        println!(
            "{}",
            json!({ "loss_percent": percent, "bursts": BURSTS, "unproven_percent": found })
        );
    } else {
        let [even, short, long, longest] = found;
        println!("{percent:3} %  {even:6.2} %{short:6.2} %{long:7.2} %{longest:7.2} %");
    }
}
