//! Reports of many devices at once, and the times of their arrival.
//!
//!   bench-reports                    100,000 devices finish in the same second
//!   bench-reports --sessions 30      with so few sessions that devices are turned away
//!
//! Exit codes: 0 all promises kept, 2 usage, 70 a promise was broken.

use std::process::ExitCode;

use clap::Parser;
use fumocast_tests::bench_reports::{self, ReportLoad};
use serde_json::json;

/// Simulate the reports of many devices at once, with the real cores of both sides
#[derive(Debug, Parser)]
#[command(name = "bench-reports")]
struct Options {
    /// Number of devices that finish in the same second
    #[arg(long, default_value_t = 100_000)]
    devices: u32,
    /// Seconds over which they report [default: fifty devices a second]
    #[arg(long)]
    spread: Option<u64>,
    /// Limit of simultaneous sessions
    #[arg(long, default_value_t = 64)]
    sessions: usize,
    /// Duration of a session in milliseconds
    #[arg(long, default_value_t = 400)]
    session: u64,
    /// Lost answers, per mille
    #[arg(long, default_value_t = 5)]
    lost: u64,
    /// Seed of an earlier run, to repeat it
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let load = ReportLoad {
        devices: options.devices,
        spread_seconds: options.spread.unwrap_or_else(|| u64::from(options.devices).div_ceil(50)),
        sessions: options.sessions,
        session_milliseconds: options.session,
        lost_per_mille: options.lost,
        restarts_per_mille: 50,
        seed: options.seed.unwrap_or_else(|| u64::from_be_bytes(proto::crypto::random())),
    };
    let outcome = bench_reports::run(&load);
    let broken = outcome.broken(&load);
    if options.json {
        fumocast_tests::print_line!(
            "{}",
            json!({"load": load, "outcome": outcome, "broken": broken})
        );
    } else {
        fumocast_tests::print_line!(
            "{} devices over {} s, seed {}",
            load.devices,
            load.spread_seconds,
            load.seed
        );
        fumocast_tests::print_line!(
            "arrivals in {} bins: {:?}",
            bench_reports::BINS,
            outcome.arrivals
        );
        fumocast_tests::print_line!(
            "furthest from the mean: {:.1} %; later than the spread: {}",
            outcome.deviation_percent,
            outcome.late
        );
        fumocast_tests::print_line!(
            "sessions at once: at most {} of {}; turned away: {}",
            outcome.most_sessions,
            load.sessions,
            outcome.turned_away
        );
        fumocast_tests::print_line!(
            "recorded: {}; duplicates, not recorded again: {}; not reported: {}",
            outcome.counted,
            outcome.repeated,
            outcome.waiting
        );
        broken.iter().for_each(|words| fumocast_tests::print_line!("breach: {words}"));
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(70) }
}
