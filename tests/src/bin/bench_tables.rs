//! Cost of symbol tables on air, symbols without a table, and cost of the receiver's check.
//!
//!   bench-tables              symbols without a table, share of tables on air, late tune-in
//!   bench-tables check        packets a second of the receiver's check, and of bare SHA-256
//!   bench-tables servers      packets until a device that receives several image servers is done

use clap::{Parser, Subcommand};
use fumocast_tests::{
    bench_tables::{
        Loss, SymbolCounts, late,
        servers::{AirOptions, Plan},
        shape, share, steady,
    },
    check,
};
use proto::trust::plan::PlanShape;
use serde_json::json;

/// Measure the cost of symbol tables and of the receiver's check
#[derive(Debug, Parser)]
#[command(name = "bench-tables")]
struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Mebibytes of the images, with commas between them
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1024])]
    size: Vec<u64>,
    /// Loss in percent that the tables are made for
    #[arg(long, default_value_t = 30)]
    budget: u8,
    /// Runs of two passes of 64 MiB for each figure; of larger images as many fewer
    #[arg(long, default_value_t = 8)]
    runs: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object for each line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure the packets a second of the receiver's check, beside bare SHA-256 over the same
    /// octets
    Check,
    /// Measure the packets that each of one to four image servers sends until a device is done
    Servers,
}

const BURSTS: [f64; 4] = [1.0, 8.0, 32.0, 128.0];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match options.verb {
        Some(Verb::Check) => {
            let result = check::run(9)?;
            fumocast_tests::print_line!(
                "{}",
                if options.json { result.json() } else { result.text() }
            );
            Ok(())
        }
        Some(Verb::Servers) => servers(&options),
        None => options.size.iter().try_for_each(|mebibytes| size(&options, *mebibytes)),
    }
}

fn size(options: &Options, mebibytes: u64) -> anyhow::Result<()> {
    let shape = shape(mebibytes << 20, options.budget)?;
    let share = share(shape);
    let (packets, octets) = (share.packets_percent, share.bytes_percent);
    if options.json {
        fumocast_tests::print_line!(
            "{}",
            json!({ "mebibytes": mebibytes, "packets_percent": packets, "bytes_percent": octets })
        );
    } else {
        fumocast_tests::print_line!(
            "{mebibytes} MiB: tables are {packets:.2} % of packets, {octets:.2} % of octets\n\n\
             loss     received data symbols that find no table (that waited for one), by mean burst\n\
             \x20              even              8             32            128   late tune-in"
        );
    }
    for percent in (0..=50).step_by(5) {
        line(options, mebibytes, shape, percent);
    }
    if !options.json {
        fumocast_tests::print_line!();
    }
    Ok(())
}

fn line(options: &Options, mebibytes: u64, shape: PlanShape, percent: u8) {
    let runs = (options.runs * 64).div_ceil(mebibytes.max(64)).max(1);
    let loss = |burst| Loss { share: f64::from(percent) / 100.0, burst };
    let found = BURSTS.map(|burst| {
        let runs = (0..runs).map(|run| steady(shape, loss(burst), 2, options.seed + run));
        runs.sum::<SymbolCounts>()
    });
    let unproven = found.map(|counts| counts.unproven_percent());
    let waited = found.map(|counts| counts.waited_percent());
    let late_runs = runs * 8;
    let missed: f64 = (0..late_runs).map(|run| late(shape, loss(1.0), options.seed + run)).sum();
    #[expect(clippy::cast_precision_loss, reason = "few runs")]
    let missed = missed / late_runs as f64;
    if options.json {
        fumocast_tests::print_line!(
            "{}",
            json!({
                "mebibytes": mebibytes, "loss_percent": percent, "bursts": BURSTS,
                "unproven_percent": unproven, "waited_percent": waited,
                "late_tune_in_segments": missed,
            })
        );
    } else {
        let shown: String = unproven
            .into_iter()
            .zip(waited)
            .map(|(unproven, waited)| format!("{unproven:6.2} % ({waited:3.0})"))
            .collect();
        fumocast_tests::print_line!("{percent:3} % {shown}{missed:6.2} segments");
    }
}

fn servers(options: &Options) -> anyhow::Result<()> {
    let plan = Plan::new()?;
    if !options.json {
        fumocast_tests::print_line!(
            "loss, burst   servers   packets of each   of one alone   received twice"
        );
    }
    for (percent, burst) in [(0_u8, 1.0), (10, 1.0), (30, 1.0), (30, 32.0)] {
        let loss = Loss { share: f64::from(percent) / 100.0, burst };
        let mut alone = None;
        for servers in 1..=4 {
            let done = plan.air(AirOptions { servers, loss, seed: options.seed })?;
            let alone = *alone.get_or_insert(done.packets_of_each);
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 packets")]
            let share = done.packets_of_each as f64 / alone as f64;
            if options.json {
                fumocast_tests::print_line!(
                    "{}",
                    json!({
                        "loss_percent": percent, "burst": burst, "share_of_one_alone": share,
                        "completion": done,
                    })
                );
            } else {
                fumocast_tests::print_line!(
                    "{percent:3} % {burst:5} {servers:11} {:17} {share:14.3} {:13}",
                    done.packets_of_each,
                    done.symbols_twice
                );
            }
        }
    }
    Ok(())
}
